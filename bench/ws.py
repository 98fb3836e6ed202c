#!/usr/bin/env python3
"""WebSocket: ./dev bench ws

Echoes through examples/demo and through the peers that are installed (libwebsockets, Node's `ws`),
beside a bare TCP echo that gets as many bytes (bench/ws_load.c). A round runs each server freshly
started on one CPU and the client on another, one after the other. CPU is that of the server's
process, user and system, per message; the ratio is to the bare echo of the same round. Then what
publishing to many costs per delivery, examples/chat beside a loop of bare sends; the resident
memory of idle sockets; and what the inner loops do to each byte (bench/micro_ws.c).
"""
import argparse
import os
import pathlib
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import common

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ZOKIO_BUILD", ROOT / "build"))
LOAD = BUILD / "bench/ws-load"
NODE_WS = [f"/usr/{name}/ws" for name in ("share/nodejs", "lib/node_modules",
                                          "local/lib/node_modules")]
HANDSHAKE = ("GET {} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
ECHOES = {  # what, connections, bytes, messages per segment
    "20": ("20 bytes, 64 connections", 64, 20, 1),
    "segment": ("20 bytes, 16 in a segment", 64, 20, 16),
    "100k": ("100 kB, 16 connections", 16, 100000, 1),
}
LOADS = [*ECHOES, "publish", "idle", "micro"]
PUBLISHED_BYTES = 100
INNER_LOOPS = ["utf8_ascii_gb_s", "utf8_mixed_gb_s", "ws_mask_gb_s"]


class Kind:
    """A server: how it is started on a port, and what the client is told."""

    def __init__(self, name, command, path="/", mode="ws", **environment):
        self.name = name
        self.command = command
        self.path = path
        self.mode = mode
        self.environment = environment


def demo(name, path, poller="epoll"):
    return Kind(name, lambda port: [BUILD / "examples/demo", f"127.0.0.1:{port}"], path,
                ZOKIO_WORKERS="1", ZOKIO_POLLER=poller)


def kinds_found(build_peers):
    """The echo servers, the bare one last."""
    kinds = [demo("Zokio, a loop", "/ws"), demo("Zokio, parked", "/ws/parked"),
             demo("Zokio, parked, io_uring", "/ws/parked", "io_uring")]
    lws = BUILD / "bench/ws-lws"
    if build_peers:
        subprocess.run(["ninja", "-C", BUILD, "--quiet", "bench/ws-lws"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
    if lws.exists():
        kinds.append(Kind("libwebsockets", lambda port: [lws, str(port)]))
    else:
        print("libwebsockets (libwebsockets-dev) is not installed: left out")
    module = next(filter(os.path.exists, NODE_WS), None)
    if module and shutil.which("node"):
        script = ROOT / "bench/peers/ws_node.js"
        kinds.append(Kind("Node ws", lambda port: ["node", script, module, str(port)]))
    else:
        print("Node's ws (node-ws) is not installed: left out")
    return kinds + [Kind("bare TCP echo", lambda port: [LOAD, "echo", str(port)], mode="tcp")]


def port_choose():
    """A port that nobody has. Not one of those that the kernel gives to whoever connects: of these
    any may be taken, by this benchmark's clients too, before the server has it, and while one of
    their connections is dying who does not ask for SO_REUSEADDR cannot bind it (libwebsockets)."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
                return port
            except OSError:
                continue


class Server:
    """A kind of server that runs on a CPU of its own."""

    def __init__(self, kind, cpu):
        self.kind = kind
        with tempfile.TemporaryFile("w+") as errors:
            for _ in range(3):  # another program may have been faster
                if self.start(cpu, errors):
                    return
            errors.seek(0)
            sys.exit(f"bench: {kind.name} does not listen\n{errors.read()}")

    def start(self, cpu, errors):
        self.port = port_choose()
        self.process = subprocess.Popen(self.kind.command(self.port), stdout=subprocess.DEVNULL,
                                        stderr=errors,
                                        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
                                        env=dict(os.environ, **self.kind.environment))
        for _ in range(500):
            if self.process.poll() is not None:
                return False
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.01)
        self.stop()
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        return time.clock_gettime((~self.process.pid << 3) | 2)  # the process' CPU clock

    def load(self, mode, cpu, *arguments):
        out = subprocess.run([LOAD, mode, str(self.port), *map(str, arguments), self.kind.path],
                             preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
                             capture_output=True, text=True, check=True)
        return int(out.stdout)

    def echo(self, cpu, seconds, connections, size, per_segment):
        """CPU microseconds per message, messages per second."""
        self.load(self.kind.mode, cpu, connections, 0.2, size, per_segment)
        before = self.cpu_seconds()
        done = self.load(self.kind.mode, cpu, connections, seconds, size, per_segment)
        return (self.cpu_seconds() - before) / done * 1e6, done / seconds

    def publish(self, cpu, seconds, connections):
        """CPU microseconds per delivery, deliveries per second."""
        command = [LOAD, f"publish-{self.kind.mode}", self.port, connections, seconds,
                   PUBLISHED_BYTES, 1, self.kind.path]
        with subprocess.Popen([str(part) for part in command], text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE,
                              preexec_fn=lambda: os.sched_setaffinity(0, {cpu})) as client:
            client.stdout.readline()
            before = self.cpu_seconds()
            done = int(client.communicate("go\n")[0] or 0)
        if not done:
            sys.exit(f"bench: {self.kind.name}: publishing failed")
        return (self.cpu_seconds() - before) / done * 1e6, done / seconds

    def resident(self):
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+)", rollup, re.M)[1]) * 1024


def print_rows(what, unit, units, kinds, results, options):
    """The last kind is the bare one."""
    middle = statistics.median
    bare = results[kinds[-1].name]
    rows = []
    for kind in kinds:
        own = results[kind.name]
        rows.append([kind.name, f"{middle(r[0] for r in own):.3f}",
                     f"{middle(a[0] / b[0] for a, b in zip(own, bare)):.3f}",
                     f"{middle(r[1] for r in own):,.0f}"])
    common.print_table(what, ["server", f"CPU us/{unit}", "ratio", f"{units}/s"], rows,
                       options.markdown)


def in_rounds(kinds, rounds, cpu, measure):
    """Results by name; every second round goes backwards."""
    results = {kind.name: [] for kind in kinds}
    for i in range(rounds):
        for kind in kinds if i % 2 == 0 else reversed(kinds):
            with Server(kind, cpu) as server:
                results[kind.name].append(measure(server))
    return results


def echoes(name, kinds, cpus, options):
    what, *load = ECHOES[name]
    results = in_rounds(kinds, options.rounds, cpus[0],
                        lambda server: server.echo(cpus[1], options.seconds, *load))
    print_rows(f"echo: {what}", "message", "messages", kinds, results, options)


def publishing(cpus, options):
    environment = {"ZOKIO_WORKERS": "1"}
    kinds = [Kind(f"Zokio, {poller}", lambda port: [BUILD / "examples/chat", f"127.0.0.1:{port}"],
                  "/room", ZOKIO_POLLER=poller, **environment) for poller in ("epoll", "io_uring")]
    kinds.append(Kind("bare sends", lambda port: [LOAD, "fan", str(port)], mode="tcp"))
    results = in_rounds(kinds, min(options.rounds, 3), cpus[0],
                        lambda server: server.publish(cpus[1], options.seconds, options.many))
    print_rows(f"publishing {PUBLISHED_BYTES} bytes to {options.many:,}", "delivery", "deliveries",
               kinds, results, options)


def idle_open(server, count, kept):
    request = HANDSHAKE.format(server.kind.path).encode()
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", server.port),
                                     source_address=(f"127.0.2.{1 + len(kept) // 20000}", 0))
        s.sendall(request)
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            part = s.recv(4096)
            if not part:
                raise ConnectionError(f"closed after {len(kept):,}")
            got += part
        kept.append(s)


def idle(kinds, cpus, options):
    """Each opens and says nothing. Peers get fewer: libwebsockets polls all for each event."""
    rows = []
    for kind in kinds[:-1]:
        count = options.many if kind.name.startswith("Zokio") else min(options.many, 1000)
        kept = []
        with Server(kind, cpus[0]) as server:
            try:
                idle_open(server, 100, kept)
                before = server.resident()
                idle_open(server, count, kept)
                time.sleep(1)
                each = (server.resident() - before) / count
                rows.append([kind.name, f"{each:,.0f}", f"{count:,}"])
            except OSError as error:
                rows.append([kind.name, str(error), f"{len(kept):,}"])
        for s in kept:
            s.close()
    common.print_table("idle sockets, resident memory", ["server", "bytes each", "sockets"], rows,
                       options.markdown)


def inner_loops(cpus, options):
    out = subprocess.run([BUILD / "bench/micro", *INNER_LOOPS], capture_output=True, text=True,
                         check=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpus[0]}))
    rows = [line.split()[:2] for line in out.stdout.splitlines() if line.split()]
    common.print_table("inner loops, best of 15", ["row", "GB/s"], rows, options.markdown)


def main():
    parser = argparse.ArgumentParser(description="WebSocket echoes, publishing and memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run (default: 1)")
    parser.add_argument("--many", type=int, default=10000, metavar="N",
                        help="subscribers, and idle sockets (default: %(default)s)")
    parser.add_argument("--load", action="append", choices=LOADS)
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args()
    loads = options.load or LOADS
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("bench: needs two CPUs, one for the server and one for the client")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds = kinds_found(build_peers=True)
    for name in LOADS:
        if name not in loads:
            continue
        if name in ECHOES:
            echoes(name, kinds, cpus, options)
        elif name == "publish":
            publishing(cpus, options)
        elif name == "idle":
            idle(kinds, cpus, options)
        else:
            inner_loops(cpus, options)


if __name__ == "__main__":
    main()
