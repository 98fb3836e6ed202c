#!/usr/bin/env python3
"""What a reverse proxy costs, beside nginx and HAProxy: ./dev bench proxy

The proxy under test runs alone on one CPU, single-threaded; the upstream (examples/hello, or nginx
for the large file) and the client share the other. The proxies take turns within each round. Loads:

    get     GET of 13 bytes, 64 connections: CPU time of the proxy per request
    large   GET of 1 MiB, 8 connections: CPU time of the proxy per GB
    delay   GET at a rate well below what all of them reach, one connection after the other on 8:
            the median time of a request, as the client sees it
    idle    resident memory that 5,000 idle client connections add

All keep their connections to the upstream open and log nothing.
"""
import contextlib
import dataclasses
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import common

LARGE_BYTES = 1 << 20
IDLE_CONNECTIONS = 5000

NGINX_PROXY = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream backend {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

NGINX_FILES = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{ listen {address}; location / {{ root {dir}/files; }} }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 60s
    timeout http-keep-alive 600s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend in
    bind {address}
    default_backend out
backend out
    server one {upstream} pool-max-conn 128
"""


@dataclasses.dataclass
class Proxy(common.Server):
    """A proxy; `kind` is zokio, nginx or haproxy."""
    upstream: str = ""

    def command(self, address, directory, closing, connections):
        if self.kind == "zokio":
            return [self.path, address, self.upstream]
        text = NGINX_PROXY if self.kind == "nginx" else HAPROXY
        conf = pathlib.Path(directory, "proxy.conf")
        conf.write_text(text.format(dir=directory, address=address, upstream=self.upstream))
        if self.kind == "nginx":
            return [self.path, "-p", directory, "-c", str(conf), "-e", f"{directory}/error.log"]
        return [self.path, "-db", "-q", "-f", str(conf)]


@contextlib.contextmanager
def upstream(options, is_large):
    """The server behind; on the client's CPU. Gives its address."""
    address = "%s:%d" % common.fresh_address()
    with tempfile.TemporaryDirectory(prefix="zokio-bench-") as directory:
        os.chmod(directory, 0o755)
        command = [f"{options.build}/examples/hello", address]
        if is_large:
            files = pathlib.Path(directory, "files")
            files.mkdir()
            (files / "large").write_bytes(os.urandom(LARGE_BYTES))
            conf = pathlib.Path(directory, "nginx.conf")
            conf.write_text(NGINX_FILES.format(dir=directory, address=address))
            command = [find("nginx"), "-p", directory, "-c", str(conf), "-e",
                       f"{directory}/error.log"]
        environment = dict(os.environ, ZOKIO_WORKERS="1", ZOKIO_POLLER="epoll")
        with common.pinned(common.CLIENT_CPU):
            process = subprocess.Popen(command, env=environment, start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            yield address
        finally:
            common.stop(process)


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") or ""


def chosen_proxies(options):
    zokio = f"{options.build}/examples/proxy"
    proxies = [Proxy("zokio-epoll", "zokio", zokio, "epoll"),
               Proxy("zokio-io_uring", "zokio", zokio, "io_uring"),
               Proxy("nginx", "nginx", find("nginx")), Proxy("haproxy", "haproxy", find("haproxy"))]
    names = {proxy.name for proxy in proxies}
    for name in options.server:
        if name not in names:
            sys.exit(f"bench: no server {name!r}; there are: {', '.join(sorted(names))}")
    if options.server:
        proxies = [proxy for proxy in proxies if proxy.name in options.server]
    for proxy in proxies:
        if not proxy.path:
            print(f"{proxy.name} is not installed: left out", file=sys.stderr)
    return [proxy for proxy in proxies if proxy.path]


@contextlib.contextmanager
def proxying(proxy, address):
    """The proxy in front of the upstream at `address`, once it listens."""
    with common.spawned(dataclasses.replace(proxy, upstream=address)) as running:
        with common.connect_when_ready(running):
            pass
        yield running


def run_wrk(url, seconds, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    with common.pinned(common.CLIENT_CPU):
        process = subprocess.Popen(command, text=True, start_new_session=True,
                                   stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=seconds + 30)
    finally:
        common.stop(process)
    return common.parse_wrk(output)


def cpu_per(proxy, address, path, seconds, connections):
    """CPU microseconds of the proxy per request, requests per second, its business."""
    with proxying(proxy, address) as running:
        before = running.cpu_seconds()
        result = run_wrk(running.url + path, seconds, connections)
        running.require_alive()
        used = running.cpu_seconds() - before
    if result.errors:
        print(f"{proxy.name}: {result.errors}", file=sys.stderr)
    return used / max(result.requests, 1) * 1e6, result.requests / result.seconds, \
        used / result.seconds


def delay_of(proxy, address, count):
    """The median time of a request with 1 connection and pauses, in microseconds."""
    with proxying(proxy, address) as running, common.Client(running.address) as client:
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            client.request()
            times.append(time.perf_counter() - begin)
            time.sleep(0.0005)
    return statistics.median(times) * 1e6


def idle_of(proxy, address):
    """kB of resident memory that idle connections add, each having had one request answered."""
    with proxying(proxy, address) as running, contextlib.ExitStack() as stack:
        with common.Client(running.address) as client:
            client.request()
        before = running.memory_kb()["Rss"]
        for _ in range(IDLE_CONNECTIONS):
            stack.enter_context(common.Client(running.address)).request()
        return running.memory_kb()["Rss"] - before


def table(options, title, unit, measure, proxies, address):
    samples = {proxy.name: [] for proxy in proxies}
    for i in range(options.rounds):
        for proxy in proxies if i % 2 == 0 else reversed(proxies):
            samples[proxy.name].append(measure(proxy, address))
    rows = []
    for name, own in samples.items():
        low, middle, high = common.quartiles([sample[0] for sample in own])
        _, rate, _ = common.quartiles([sample[1] for sample in own])
        _, busy, _ = common.quartiles([sample[2] for sample in own])
        rows.append([name, f"{middle:.2f}", f"[{low:.2f} {high:.2f}]", f"{rate:.0f}",
                     f"{busy:.0%}"])
    common.print_table(title, ["proxy", unit, "quartiles", "requests/s", "busy"], rows,
                       options.markdown)


def main(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each run (default: 2)")
    parser.add_argument("--load", action="append", choices=["get", "large", "delay", "idle"])
    options = parser.parse_args()
    common.raise_descriptor_limit(2 * IDLE_CONNECTIONS + 1000)
    loads = options.load or ["get", "large", "delay", "idle"]
    proxies = chosen_proxies(options)
    if "get" in loads:
        with upstream(options, False) as address:
            table(options, "GET of 13 bytes, 64 connections", "CPU us/request",
                  lambda proxy, at: cpu_per(proxy, at, "", options.seconds, 64), proxies, address)
    if "large" in loads:
        def large(proxy, at):
            us, rate, busy = cpu_per(proxy, at, "large", options.seconds, 8)
            return us / LARGE_BYTES * 1e3, rate, busy  # us per byte are 1e3 s per GB

        with upstream(options, True) as address:
            table(options, "GET of 1 MiB, 8 connections", "CPU s/GB", large, proxies, address)
    if "delay" in loads:
        with upstream(options, False) as address:
            rows = []
            for proxy in proxies:
                values = [delay_of(proxy, address, 500) for _ in range(options.rounds)]
                rows.append([proxy.name, f"{statistics.median(values):.0f}"])
            common.print_table("one request at a time, with pauses", ["proxy", "median us"], rows,
                               options.markdown)
    if "idle" in loads:
        with upstream(options, False) as address:
            rows = [[proxy.name, f"{idle_of(proxy, address)}"] for proxy in proxies]
            common.print_table(f"{IDLE_CONNECTIONS} idle connections", ["proxy", "kB added"], rows,
                               options.markdown)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
