#!/usr/bin/env python3
"""Process start to first response, and the memory of an idle server: ./dev bench start

The clock starts before the process is created and stops when the first response has been read; in
between a client connects in a tight loop. The server and the client have a CPU each. Creating the
process is in it (`limit` shows what that costs: it does next to nothing else). The memory is
read after that one response, over all of the server's processes.
"""
import time

import common


def measure(server):
    """Milliseconds to the first response, and the resident memory in kB after it."""
    before = time.perf_counter()
    with common.spawned(server) as running:
        with common.connect_when_ready(running) as client:
            client.request()
            elapsed_ms = (time.perf_counter() - before) * 1e3
            memory = running.memory_kb()
    return elapsed_ms, memory


def main(parser):
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    servers = common.chosen_servers(options)
    samples = {server.name: [] for server in servers}
    for _ in range(options.rounds):
        for server in servers:
            samples[server.name].append(measure(server))
    rows = []
    for name, own in samples.items():
        low, middle, high = common.quartiles([elapsed_ms for elapsed_ms, _ in own])
        rss, pss, private = (common.quartiles([memory[key] for _, memory in own])[1]
                             for key in ("Rss", "Pss", "Private"))
        rows.append([name, f"{middle:.2f}", f"[{low:.2f} {high:.2f}]", f"{rss:.0f}", f"{pss:.0f}",
                     f"{private:.0f}"])
    header = ["server", "start to response, ms", "quartiles", "RSS kB", "Pss kB", "private kB"]
    common.print_table(f"start, median of {options.rounds}", header, rows, options.markdown)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
