#!/usr/bin/env python3
"""WebSocket: ./dev bench ws

Echoes through examples/demo beside a bare TCP echo that gets as many bytes (bench/ws_load.c), one
after the other in turns, each on one CPU and the client on another. CPU is that of the server's
process, user and system, per message; the ratio is to the bare echo of the same round. Then the
resident memory of idle sockets at /ws/parked.
"""
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ZOKIO_BUILD", ROOT / "build"))
LOAD = BUILD / "bench/ws-load"
ROUNDS = 3
SECONDS = 1.5
IDLE = 10000
HANDSHAKE = (b"GET /ws/parked HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
ROWS = [  # name, connections, bytes, messages per segment, path
    ("20 bytes, 64 connections", 64, 20, 1, "/ws"),
    ("the same, parked", 64, 20, 1, "/ws/parked"),
    ("20 bytes, 16 in a segment", 64, 20, 16, "/ws"),
    ("the same, parked", 64, 20, 16, "/ws/parked"),
    ("100 kB", 16, 100000, 1, "/ws"),
]


def pinned(cpu):
    return lambda: os.sched_setaffinity(0, {cpu})


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)  # the process' CPU clock


class Server:
    def __init__(self, kind, cpu):
        self.kind = kind
        if kind == "tcp":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self.process = subprocess.Popen([LOAD, "echo", str(self.port)], preexec_fn=pinned(cpu))
            time.sleep(0.2)
            return
        self.process = subprocess.Popen([BUILD / "examples/demo", "127.0.0.1:0"],
                                        stdout=subprocess.PIPE, text=True, preexec_fn=pinned(cpu),
                                        env=dict(os.environ, ZOKIO_WORKERS="1"))
        self.port = int(re.search(r":(\d+)/", self.process.stdout.readline()).group(1))

    def measure(self, cpu, connections, size, per_segment, path):
        """CPU microseconds per message, messages per second."""
        def load(seconds):
            out = subprocess.run([LOAD, self.kind, str(self.port), str(connections), str(seconds),
                                  str(size), str(per_segment), path], preexec_fn=pinned(cpu),
                                 capture_output=True, text=True, check=True)
            return int(out.stdout)
        load(0.2)
        before = cpu_seconds(self.process.pid)
        done = load(SECONDS)
        return (cpu_seconds(self.process.pid) - before) / done * 1e6, done / SECONDS

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def stop(self):
        self.process.kill()
        self.process.wait()


def echoes(cpus):
    print(f"{'':28}{'CPU us':>9}{'bare':>9}{'ratio':>8}{'messages/s':>13}{'bare':>12}")
    for name, connections, size, per_segment, path in ROWS:
        own, bare = [], []
        for _ in range(ROUNDS):
            for kind, results in (("ws", own), ("tcp", bare)):
                server = Server(kind, cpus[0])
                try:
                    results.append(server.measure(cpus[1], connections, size, per_segment, path))
                finally:
                    server.stop()
        middle = statistics.median
        print(f"{name:28}{middle(r[0] for r in own):9.3f}{middle(r[0] for r in bare):9.3f}"
              f"{middle(a[0] / b[0] for a, b in zip(own, bare)):8.3f}"
              f"{middle(r[1] for r in own):13,.0f}{middle(r[1] for r in bare):12,.0f}", flush=True)


def idle(cpus):
    """Each opens and says nothing."""
    server = Server("ws", cpus[0])
    sockets = []

    def open_some(count):
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", server.port),
                                         source_address=(f"127.0.2.{1 + len(sockets) // 20000}", 0))
            s.sendall(HANDSHAKE)
            while not s.recv(4096).endswith(b"\r\n\r\n"):
                pass
            sockets.append(s)
    try:
        open_some(100)
        before = server.resident()
        open_some(IDLE)
        time.sleep(2)
        print(f"{IDLE:,} idle parked sockets: {(server.resident() - before) / IDLE:.0f} bytes each")
    finally:
        for s in sockets:
            s.close()
        server.stop()


def main():
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("bench: needs two CPUs, one for the server and one for the client")
    echoes(cpus)
    idle(cpus)


if __name__ == "__main__":
    main()
