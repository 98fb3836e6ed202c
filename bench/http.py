#!/usr/bin/env python3
"""CPU time per HTTP request, beside the floor and a peer: ./dev bench http

Three loads of 64 connections: one request at a time, 16 pipelined, a connection per request. The
servers take turns within each round, and a server's ratio is the median over the rounds of its cost
to that of bench/limit.c in the same round: on a shared machine the speed drifts by far more than
the servers differ, and neighbours in time share the drift. In brackets are the quartiles.

`busy` is the share of its CPU that the server used. A server that is not busy waits for wrk, and
pays for going to sleep and waking up, which a saturated one does not: compare costs at similar
business. `bytes` is the length of a response. Stolen is what the hypervisor took, contended the
time during which a task had to wait for a CPU: repeat a run where they are more than a few percent.
"""
import dataclasses

import common


@dataclasses.dataclass
class Load:
    name: str
    title: str
    depth: int = 1
    closing: bool = False


LOADS = [
    Load("keepalive", "keep-alive"),
    Load("pipelined", f"pipelined by {common.PIPELINE_DEPTH}", depth=common.PIPELINE_DEPTH),
    # The last: its TIME_WAIT timers run out a minute later, in whatever runs then.
    Load("close", "a connection per request", closing=True),
]


@dataclasses.dataclass
class Sample:
    cpu_us: float
    requests_per_s: float
    busy: float
    response_bytes: int


def measure(server, load, seconds):
    """One run of wrk against a fresh server."""
    with common.serving(server, load.closing) as running:
        cpu_before = running.cpu_seconds()
        result = common.run_wrk(running.url, seconds, load.depth, load.closing)
        running.require_alive()
        cpu_s = running.cpu_seconds() - cpu_before
    if result.errors or result.requests == 0:
        print(f"{load.name}, {server.name}: {result.requests} requests; {result.errors}")
    requests = max(result.requests, 1)
    return Sample(cpu_s / requests * 1e6, result.requests / result.seconds, cpu_s / result.seconds,
                  running.response_bytes)


def row(name, samples, floor):
    """A table row; `floor` are the samples of the limit in the same rounds, if it was run."""
    low, cost, high = common.quartiles([sample.cpu_us for sample in samples])
    cells = [name, f"{cost:.3f}", f"[{low:.3f} {high:.3f}]"]
    if floor:
        ratios = [sample.cpu_us / base.cpu_us for sample, base in zip(samples, floor)]
        low, ratio, high = common.quartiles(ratios)
        cells += [f"{ratio:.3f}", f"[{low:.3f} {high:.3f}]"]
    else:
        cells += ["", ""]
    _, rate, _ = common.quartiles([sample.requests_per_s for sample in samples])
    _, busy, _ = common.quartiles([sample.busy for sample in samples])
    return cells + [f"{rate:.0f}", f"{busy:.0%}", str(samples[0].response_bytes)]


def main(parser):
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1, help="of each run (default: 1)")
    parser.add_argument("--load", action="append", choices=[load.name for load in LOADS])
    options = parser.parse_args()
    servers = common.chosen_servers(options)
    header = ["server", "CPU us/request", "quartiles", "ratio to limit", "quartiles", "requests/s",
              "busy", "bytes"]
    for load in LOADS:
        if options.load and load.name not in options.load:
            continue
        stolen_s, contended_s = common.stolen_seconds(), common.contended_seconds()
        samples = common.measure_rounds(
            servers, options.rounds, lambda server: measure(server, load, options.seconds))
        stolen_s = common.stolen_seconds() - stolen_s
        contended_s = common.contended_seconds() - contended_s
        rows = [row(name, own, samples.get("limit")) for name, own in samples.items()]
        title = (f"{load.title}, {common.CONNECTIONS} connections, {options.rounds} rounds of "
                 f"{options.seconds} s; {stolen_s:.1f} s stolen, {contended_s:.1f} s contended")
        common.print_table(title, header, rows, options.markdown)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
