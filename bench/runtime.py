#!/usr/bin/env python3
"""The runtime's figures beside Tokio's, Go's and libuv's: ./dev bench runtime

Each row of build/bench/micro is measured in turn with the same row of each peer that has it,
several times over. A figure is the median of these rounds, each of which is the best that one
process has seen. Rows whose names end in _2w have two threads and two processors, the others one of
each; what Tokio's runtime for several threads makes of those with two is a column of its own.
The peers are built here, in build/, from what Debian's packages hold: nothing is fetched.
"""
import argparse
import dataclasses
import glob
import os
import shutil
import signal
import statistics
import subprocess
import sys

import common

BUILD = common.ROOT / "build"
PEERS = BUILD / "peers"
CRATES = "/usr/share/cargo/registry"
ROW_TIMEOUT_S = 600
ONE_CPU, TWO_CPUS = {common.CLIENT_CPU}, {common.CLIENT_CPU, common.SERVER_CPU}

# Each row's aim, in nanoseconds, or in bytes where its name says so. Two aims are relative.
AIMS = {
    "spawn_join": 6, "spawn_join_1000": 5, "spawn_join_2w": 5, "yield_1000": 15,
    "channel_pingpong": 40, "channel_bounded": 10, "channel_bounded_2w": 40, "select_ready": 7,
    "select_pending": 30, "join3_ready": 10, "join3_pending": 45, "timeout_pending": 40,
    "mutex": 5, "timer": 300, "wakeup_2w": None, "eventfd_2w": None, "task_bytes": 4500,
    "parked_bytes": 256,
}
SPAWN_AIM = 60  # spawn_join_2w: times fewer than Tokio with two threads
WAKEUP_AIM = 1.3  # wakeup_2w: times eventfd_2w

TWO_WORKERS = {row for row in AIMS if row.endswith("_2w")}
OWN = {"eventfd_2w"}
TOKIO = AIMS.keys() - OWN
# Memory is the same there, and wake-ups have two runtimes of one thread each.
TOKIO_2 = TOKIO - {"wakeup_2w", "task_bytes", "parked_bytes"}
GO = AIMS.keys() - OWN - {"wakeup_2w", "parked_bytes"}
LIBUV = {"timer", "wakeup_2w", "parked_bytes"}


@dataclasses.dataclass
class Program:
    """What measures a column of the table."""
    name: str
    command: list
    rows: set
    is_for_two: bool = False  # two threads, also in the rows of one worker
    version: str = ""


class Missing(Exception):
    """A peer cannot be built here: why."""


def run_quietly(command, **options):
    """Runs a build step, whose output matters only if it fails; returns what it printed."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **options)
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def need(package, is_there):
    if not is_there:
        raise Missing(f"Debian's package {package} is not installed")


# ---- the peers ---------------------------------------------------------------

def build_tokio():
    """Cargo writes beside what it builds, and into its home: both are in build/."""
    need("cargo", shutil.which("cargo"))
    need("rustc", shutil.which("rustc"))
    sources = glob.glob(f"{CRATES}/tokio-1.*")
    need("librust-tokio-dev", sources)
    folder, target = PEERS / "tokio", PEERS / "tokio-target"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(common.ROOT / "bench/peers/tokio", folder)
    environment = dict(os.environ, CARGO_HOME=str(PEERS / "cargo-home"))
    run_quietly(["cargo", "build", "--release", "--offline", "--target-dir", target],
                cwd=folder, env=environment)
    rustc = run_quietly(["rustc", "--version"]).split()[1]
    version = f"Tokio {sources[0].rpartition('-')[2]} (rustc {rustc})"
    program = [target / "release/runtime-tokio"]
    return [Program("Tokio", program, TOKIO - TWO_WORKERS, version=version),
            Program("Tokio, 2 threads", program + ["--threads=2"],
                    TOKIO_2 | (TOKIO & TWO_WORKERS), is_for_two=True)]


def build_go():
    need("golang-go", shutil.which("go"))
    program = PEERS / "runtime-go"
    environment = dict(os.environ, GO111MODULE="off", GOFLAGS="", GOCACHE=str(PEERS / "go-cache"))
    run_quietly(["go", "build", "-o", program, "bench/peers/runtime.go"],
                cwd=common.ROOT, env=environment)
    version = run_quietly(["go", "version"]).split()[2].replace("go", "Go ")
    return [Program("Go", [program], GO, version=version)]


def build_libuv():
    """Meson's, which looks for libuv when it sets the folder up: maybe before it was installed."""
    found = subprocess.run(["pkg-config", "--modversion", "libuv"], text=True, check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    need("libuv1-dev", found.returncode == 0)
    build = ["ninja", "-C", BUILD, "bench/runtime-uv"]
    try:
        run_quietly(build)
    except Missing:
        run_quietly(["meson", "setup", "--reconfigure", BUILD], cwd=common.ROOT)
        run_quietly(build)
    return [Program("libuv", [BUILD / "bench/runtime-uv"], LIBUV,
                    version=f"libuv {found.stdout.strip()}")]


def build_programs():
    programs = [Program("Zokio", [BUILD / "bench/micro"], set(AIMS))]
    for name, build in (("Tokio", build_tokio), ("Go", build_go), ("libuv", build_libuv)):
        try:
            programs += build()
        except Missing as why:
            print(f"bench: without {name}: {why}", file=sys.stderr)
    return programs


# ---- measuring ---------------------------------------------------------------

def measure(program, row):
    """One figure; None if the program says that it cannot have it here."""
    cpus = TWO_CPUS if program.is_for_two or row in TWO_WORKERS else ONE_CPU
    try:
        out = subprocess.run([*map(str, program.command), row], check=True, text=True,
                             stdout=subprocess.PIPE, timeout=ROW_TIMEOUT_S,
                             preexec_fn=lambda: os.sched_setaffinity(0, cpus)).stdout
    except subprocess.SubprocessError as error:
        sys.exit(f"bench: {error}")
    return float(out.split("\t")[1]) if out else None


def measure_all(programs, rows, rounds):
    """Returns {(row, program's name): median}, and that of `call`, the floor."""
    figures = {}
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        figures.setdefault("call", []).append(measure(programs[0], "call"))
        for row in rows:
            for program in programs:
                if row in program.rows:
                    figure = measure(program, row)
                    if figure is not None:
                        figures.setdefault((row, program.name), []).append(figure)
    medians = {key: statistics.median(values) for key, values in figures.items()}
    return medians, medians.pop("call")


# ---- the table ---------------------------------------------------------------

def best_peer(medians, programs, row):
    """The least of the peers with as many threads; None if there is no peer."""
    peers = [p.name for p in programs[1:] if row in TWO_WORKERS or not p.is_for_two]
    return min((medians[row, name] for name in peers if (row, name) in medians), default=None)


def table_row(medians, programs, floor, row):
    own = medians.get((row, "Zokio"))
    aim = AIMS[row]
    if row == "wakeup_2w" and ("eventfd_2w", "Zokio") in medians:
        aim = WAKEUP_AIM * medians["eventfd_2w", "Zokio"]
    best = best_peer(medians, programs, row)
    cells = [row, f"{aim:,.0f}" if aim else "",
             ("yes" if own <= aim else "no") if aim and own is not None else ""]
    cells += [f"{medians[row, p.name]:,.1f}" if (row, p.name) in medians else ""
              for p in programs]
    cells.append(f"{own / floor:,.1f}" if own and not row.endswith("_bytes") else "")
    cells.append(f"{best / own:.2f}" if best and own else "")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", action="append", choices=list(AIMS), metavar="ROW",
                        help="only this one; may be repeated")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    rows = [row for row in AIMS if row in (options.row or AIMS)]
    PEERS.mkdir(parents=True, exist_ok=True)
    programs = build_programs()
    stolen, contended = common.stolen_seconds(), common.contended_seconds()
    medians, floor = measure_all(programs, rows, options.rounds)
    stolen, contended = common.stolen_seconds() - stolen, common.contended_seconds() - contended

    versions = ", ".join(p.version for p in programs if p.version)
    title = (f"nanoseconds, or bytes where the row says so; medians of {options.rounds} rounds; "
             f"call {floor:.2f} ns; {versions}; {stolen:.1f} s stolen, {contended:.1f} s contended")
    header = ["row", "aim", "reached", *(p.name for p in programs), "Zokio in calls",
              "best peer / Zokio"]
    common.print_table(title, header,
                       [table_row(medians, programs, floor, row) for row in rows],
                       options.markdown)
    own = medians.get(("spawn_join_2w", "Zokio"))
    tokio = medians.get(("spawn_join_2w", "Tokio, 2 threads"))
    if own and tokio:
        print(f"\nspawn_join_2w: {tokio / own:.1f} times fewer than Tokio with two threads; "
              f"the aim is {SPAWN_AIM}")


def interrupt(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)  # which ends what it has started, as Ctrl-C does
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
