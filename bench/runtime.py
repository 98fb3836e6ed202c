#!/usr/bin/env python3
"""The runtime's figures beside Go's: ./dev bench runtime

Each row of build/bench/micro that Go can do too is measured in turn with Go's, in the same run.
Two processors are left to the rows whose names end in _2w; the others run on the second one.
Tokio and libdill are not here: see docs/benchmarks.md.
"""

import os
import shutil
import statistics
import subprocess
import sys

ROUNDS = 3
MICRO = "build/bench/micro"
GO_SOURCE, GO_PROGRAM = "bench/peers/runtime.go", "build/peers/runtime-go"
# (the row, whether Go has it)
ROWS = [
    ("spawn_join", True), ("spawn_join_2w", True), ("yield_1000", True),
    ("channel_pingpong", True), ("channel_bounded", True), ("channel_bounded_2w", True),
    ("select_ready", True), ("select_pending", True), ("join3_ready", False),
    ("join3_pending", True), ("timeout_pending", True), ("mutex", True), ("timer", True),
    ("wakeup_2w", False), ("eventfd_2w", False), ("task_bytes", False),
]


def build_go():
    if not shutil.which("go"):
        print("go is not installed (Debian: golang-go): Zokio's figures alone", file=sys.stderr)
        return False
    os.makedirs(os.path.dirname(GO_PROGRAM), exist_ok=True)
    environment = dict(os.environ, GOFLAGS="-mod=mod", GO111MODULE="off")
    subprocess.run(["go", "build", "-o", GO_PROGRAM, GO_SOURCE], check=True, env=environment)
    return True


def measure(program, row):
    cpus = "0,1" if row.endswith("_2w") else "1"
    out = subprocess.run(["taskset", "-c", cpus, program, row], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return float(out.split("\t")[1])


def main():
    has_go = build_go()
    floors, figures = [], {}
    for _ in range(ROUNDS):
        floors.append(measure(MICRO, "call"))
        for row, go_can in ROWS:
            figures.setdefault((row, "zokio"), []).append(measure(MICRO, row))
            if has_go and go_can:
                figures.setdefault((row, "go"), []).append(measure(GO_PROGRAM, row))
    floor = statistics.median(floors)
    print(f"call: {floor:.2f} ns; medians of {ROUNDS} runs, each the best of its rounds\n")
    print("| row | Zokio, ns | in calls | Go, ns | Go / Zokio |")
    print("|---|--:|--:|--:|--:|")
    for row, _ in ROWS:
        ours = statistics.median(figures[row, "zokio"])
        theirs = figures.get((row, "go"))
        go = statistics.median(theirs) if theirs else None
        print(f"| {row} | {ours:,.1f} | {ours / floor:,.1f} |"
              f" {f'{go:,.1f}' if go else ''} | {f'{go / ours:.1f}' if go else ''} |")


if __name__ == "__main__":
    main()
