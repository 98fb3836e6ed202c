#!/usr/bin/env python3
"""System calls per keep-alive request, counted by strace: ./dev bench syscalls

strace attaches to a server that is up, wrk runs, strace leaves: the calls that start a server are
not counted, those that accept and close the 64 connections are, with the last request of each that
wrk no longer counts (1 % each at 6,000 requests). Tracing slows the server down a lot, so it is
always busy and a wait returns many events: its share is that of a loaded server. All processes of
a server are traced (nginx: master and worker).
"""
import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import common


@contextlib.contextmanager
def traced(running, summary):
    """Counts the server's system calls during the block and writes them to the file `summary`."""
    command = ["strace", "-c", "-f", "-o", summary]
    for pid in running.pids():
        command += ["-p", str(pid)]
    with common.pinned(common.CLIENT_CPU):
        tracer = subprocess.Popen(command, text=True, start_new_session=True,
                                  stderr=subprocess.PIPE)
    try:
        for _ in running.pids():
            said = tracer.stderr.readline()  # one line per process: "strace: Process 123 attached"
            if "attached" not in said:
                sys.exit(f"bench: {said.strip() or 'strace ended'}")
        yield
        tracer.send_signal(signal.SIGINT)  # detaches, then writes the summary
        tracer.wait(timeout=10)
    finally:
        common.stop(tracer)
        tracer.stderr.close()


def parse_summary(text):
    """Calls by name. A line: % time, seconds, usecs/call, calls, errors (may be blank), name."""
    calls = {}
    for line in text.splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found[2] != "total":
            calls[found[2]] = int(found[1])
    return calls


def measure(server, seconds):
    """System calls per request by name, and the number of requests."""
    with common.serving(server) as running, tempfile.TemporaryDirectory() as directory:
        summary = pathlib.Path(directory, "summary")
        with traced(running, str(summary)):
            result = common.run_wrk(running.url, seconds)
            time.sleep(0.2)  # for the server to see the connections close, which is traced as well
        calls = parse_summary(summary.read_text())
    requests = max(result.requests, 1)
    return {name: count / requests for name, count in calls.items()}, result.requests


def main(parser):
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("bench: strace is not installed")
    rows = []
    for server in common.chosen_servers(options):
        calls, requests = measure(server, options.seconds)
        most = sorted(calls.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{name} {share:.3f}" for name, share in most if share >= 0.0005)
        rows.append([server.name, f"{sum(calls.values()):.3f}", str(requests), listed])
    header = ["server", "calls per request", "requests", "of these"]
    title = f"system calls per keep-alive request, {common.CONNECTIONS} connections"
    common.print_table(title, header, rows, options.markdown)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
