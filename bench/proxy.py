#!/usr/bin/env python3
"""What a reverse proxy costs, beside nginx and HAProxy: ./dev bench proxy

The proxy under test runs alone on one CPU, single-threaded; the upstream (examples/hello, or nginx
for the large file) and the client share the other. The proxies take turns within each round. Loads:

    get     GET of 13 bytes, 64 connections that always have a request under way (wrk): CPU time of
            the proxy per request
    large   GET of 1 MiB, 8 connections (wrk): CPU time of the proxy per GB
    delay   GET of 13 bytes at half the rate that the slowest of the proxies reaches in `get`, from
            an open loop (bench/pace.c) on 64 connections: the median and the 99th percentile of the
            time from when a request was due to its answer, and what the proxy adds to the median,
            beside the same client at the same rate with no proxy between
    idle    resident memory that 5,000 idle client connections add, each having had an answer
    client  the library's own client (bench/client_load.c) and wrk, with 64 connections to
            examples/hello: CPU time of the client per request

All keep their connections to the upstream open and log nothing.
"""
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import common

LARGE_BYTES = 1 << 20
IDLE_CONNECTIONS = 5000
LOADS = ["get", "large", "delay", "idle", "client"]

NGINX_UPSTREAM = "upstream backend {{ server {upstream}; keepalive 128; " \
                 "keepalive_requests 1000000000; }}"
NGINX_PROXY = """\
location / {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }"""
NGINX_FILES = "location / {{ sendfile on; root {dir}/files; }}"

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
        if self.kind == "nginx":
            return common.nginx_command(self.path, directory, address, NGINX_PROXY,
                                        NGINX_UPSTREAM.format(upstream=self.upstream),
                                        connections=16384)
        conf = pathlib.Path(directory, "proxy.conf")
        conf.write_text(HAPROXY.format(address=address, upstream=self.upstream))
        return [self.path, "-db", "-q", "-f", str(conf)]


@contextlib.contextmanager
def upstream(options, is_large=False):
    """The server behind; on the client's CPU. Gives its address."""
    address = "%s:%d" % common.fresh_address()
    with tempfile.TemporaryDirectory(prefix="zokio-bench-") as directory:
        os.chmod(directory, 0o755)
        command = [f"{options.build}/examples/hello", address]
        if is_large:
            files = pathlib.Path(directory, "files")
            files.mkdir()
            (files / "large").write_bytes(os.urandom(LARGE_BYTES))
            command = common.nginx_command(common.find("nginx"), directory, address,
                                           NGINX_FILES.format(dir=directory))
        environment = dict(os.environ, ZOKIO_WORKERS="1", ZOKIO_POLLER="epoll")
        with common.pinned(common.CLIENT_CPU):
            process = subprocess.Popen(command, env=environment, start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            yield address
        finally:
            common.stop(process)


def chosen_proxies(options):
    zokio = f"{options.build}/examples/proxy"
    proxies = [Proxy("zokio-epoll", "zokio", zokio, "epoll"),
               Proxy("zokio-io_uring", "zokio", zokio, "io_uring"),
               Proxy("nginx", "nginx", common.find("nginx")),
               Proxy("haproxy", "haproxy", common.find("haproxy"))]
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


def row(name, costs, *cells):
    low, middle, high = common.quartiles(costs)
    return [name, f"{middle:.2f}", f"[{low:.2f} {high:.2f}]", *cells]


def middle_of(values):
    return common.quartiles(values)[1]


class Noise:
    """What disturbed a table, for its title."""

    def __init__(self):
        self.begin = common.stolen_seconds(), common.contended_seconds()

    def __str__(self):
        return (f"{common.stolen_seconds() - self.begin[0]:.1f} s stolen, "
                f"{common.contended_seconds() - self.begin[1]:.1f} s contended")


# ---- under full load ---------------------------------------------------------

@dataclasses.dataclass
class Sample:
    cpu_us: float  # per request
    requests_per_s: float
    busy: float


def loaded(proxy, address, path, seconds, connections):
    with proxying(proxy, address) as running:
        before = running.cpu_seconds()
        result = common.run_wrk(running.url + path, seconds, connections=connections)
        running.require_alive()
        used = running.cpu_seconds() - before
    if result.errors:
        print(f"{proxy.name}: {result.errors}", file=sys.stderr)
    return Sample(used / max(result.requests, 1) * 1e6, result.requests / result.seconds,
                  used / result.seconds)


def print_loaded(options, title, unit, factor, proxies, measure):
    """Prints a table of costs. Gives the samples."""
    noise = Noise()
    samples = common.measure_rounds(proxies, options.rounds, measure)
    rows = [row(name, [sample.cpu_us * factor for sample in own],
                f"{middle_of([sample.requests_per_s for sample in own]):.0f}",
                f"{middle_of([sample.busy for sample in own]):.0%}")
            for name, own in samples.items()]
    common.print_table(f"{title}; {noise}", ["proxy", unit, "quartiles", "requests/s", "busy"],
                       rows, options.markdown)
    return samples


def get(options, proxies, address, rounds=None):
    if rounds:
        options = dataclasses.replace(options, rounds=rounds)
    samples = print_loaded(
        options, f"GET of 13 bytes, {common.CONNECTIONS} connections", "CPU us/request", 1,
        proxies, lambda proxy: loaded(proxy, address, "", options.seconds, common.CONNECTIONS))
    return min(middle_of([sample.requests_per_s for sample in own]) for own in samples.values())


def large(options, proxies, address):
    print_loaded(options, "GET of 1 MiB, 8 connections", "CPU s/GB", 1e3 / LARGE_BYTES, proxies,
                 lambda proxy: loaded(proxy, address, "large", options.seconds, 8))


# ---- at half load ------------------------------------------------------------

def paced(options, address, rate):
    """The median and the 99th percentile of an open loop, in microseconds."""
    host, port = address
    output = common.client_output([f"{options.build}/bench/pace", host, str(port), "/",
                                   f"{rate:.0f}", str(common.CONNECTIONS), str(options.seconds)])
    _, seconds, median, p99, errors = output.split()
    if int(errors) or float(seconds) > 1.2 * options.seconds:
        print(f"bench: {errors} errors, {seconds} s at {rate:.0f}/s", file=sys.stderr)
    return int(median), int(p99)


def delayed(options, proxy, address, rate):
    if not proxy.path:
        host, port = address.split(":")
        return paced(options, (host, int(port)), rate)
    with proxying(proxy, address) as running:
        return paced(options, running.address, rate)


def delay(options, proxies, address, rate):
    noise = Noise()
    # The one without a path is no proxy: straight to the upstream.
    samples = common.measure_rounds(
        [Proxy("none", "none", ""), *proxies], options.rounds,
        lambda proxy: delayed(options, proxy, address, rate))
    base = [median for median, _ in samples["none"]]
    rows = []
    for name, own in samples.items():
        added = [sample[0] - direct for sample, direct in zip(own, base)]
        rows.append(row(name, [median for median, _ in own],
                        f"{middle_of([p99 for _, p99 in own]):.0f}", f"{middle_of(added):.0f}"))
    common.print_table(f"GET of 13 bytes, {rate:.0f} requests/s; {noise}",
                       ["proxy", "median us", "quartiles", "99th percentile", "added us"],
                       rows, options.markdown)


# ---- idle --------------------------------------------------------------------

def idle_kb(proxy, address):
    """Resident memory before, and what idle connections add, in kB."""
    with proxying(proxy, address) as running, contextlib.ExitStack() as stack:
        with common.Client(running.address) as client:
            client.request()
        before = running.memory_kb()["Rss"]
        for _ in range(IDLE_CONNECTIONS):
            stack.enter_context(common.Client(running.address)).request()
        return before, running.memory_kb()["Rss"] - before


def idle(options, proxies, address):
    rows = []
    for proxy in proxies:
        before, added = idle_kb(proxy, address)
        rows.append([proxy.name, str(before), str(added), str(before + added)])
    common.print_table(f"{IDLE_CONNECTIONS} idle client connections",
                       ["proxy", "kB before", "kB added", "kB in all"], rows, options.markdown)


# ---- the client --------------------------------------------------------------

def wrk_load(_, url, seconds):
    result = common.run_wrk(url, seconds)
    return result.requests, result.errors


def own_load(poller):
    def load(options, url, seconds):
        output = common.client_output(
            [f"{options.build}/bench/client-load", url, str(common.CONNECTIONS), str(seconds)],
            dict(os.environ, ZOKIO_WORKERS="1", ZOKIO_POLLER=poller))
        requests, _, errors = output.split()
        return int(requests), int(errors) or ""
    return load


@dataclasses.dataclass
class Load:
    name: str
    run: callable


def client_us(options, load):
    """CPU microseconds of the client per request, against a fresh server on the other CPU."""
    hello = common.Server("hello-epoll", "hello", f"{options.build}/examples/hello", "epoll")
    with common.serving(hello) as running:
        before = common.clients_cpu_seconds()
        requests, errors = load.run(options, running.url, options.seconds)
        used = common.clients_cpu_seconds() - before
    if errors:
        print(f"{load.name}: {errors}", file=sys.stderr)
    return used / max(requests, 1) * 1e6


def client(options):
    noise = Noise()
    loads = [Load("wrk", wrk_load), Load("zokio-epoll", own_load("epoll")),
             Load("zokio-io_uring", own_load("io_uring"))]
    samples = common.measure_rounds(loads, options.rounds, lambda load: client_us(options, load))
    rows = []
    for name, own in samples.items():
        ratio = middle_of([us / wrk for us, wrk in zip(own, samples["wrk"])])
        rows.append(row(name, own, f"{1e6 / middle_of(own):.0f}", f"{ratio:.2f}"))
    common.print_table(f"clients, {common.CONNECTIONS} connections to examples/hello; {noise}",
                       ["client", "CPU us/request", "quartiles", "requests/CPU s", "ratio to wrk"],
                       rows, options.markdown)


# ---- all ---------------------------------------------------------------------

@dataclasses.dataclass
class Options:
    build: str
    server: list
    markdown: bool
    rounds: int
    seconds: int
    load: list
    rate: float


def main(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each run (default: 2)")
    parser.add_argument("--load", action="append", choices=LOADS)
    parser.add_argument("--rate", type=float, help="requests/s of `delay` (default: see above)")
    options = Options(**vars(parser.parse_args()))
    common.raise_descriptor_limit(2 * IDLE_CONNECTIONS + 1000)
    loads = options.load or LOADS
    proxies = chosen_proxies(options)
    with upstream(options) as address:
        rate = options.rate
        if "get" in loads or ("delay" in loads and not rate):
            slowest = get(options, proxies, address, None if "get" in loads else 1)
            rate = rate or slowest / 2
        if "delay" in loads:
            delay(options, proxies, address, rate)
        if "idle" in loads:
            idle(options, proxies, address)
    if "large" in loads:
        with upstream(options, is_large=True) as address:
            large(options, proxies, address)
    if "client" in loads:
        client(options)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
