"""What the HTTP/2 and TLS benchmarks share: more peers, their configuration, h2load, a certificate.

Everything answers /plaintext with the 13 bytes of common.BODY. Zokio (examples/hello, with TLS
examples/demo), nginx and haproxy have them in memory, nghttpd and h2o in a file that both keep open
between requests.
"""
import contextlib
import dataclasses
import functools
import getpass
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile

import common

PATH = "/plaintext"

NGINX_TLS = """\
ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets on;
"""

H2O_CONF = """\
num-threads: 1
user: {user}
pid-file: {dir}/h2o.pid
error-log: {dir}/error.log
max-connections: {connections}
http1-request-timeout: 600
http2-idle-timeout: 600
listen:
  host: {host}
  port: {port}
{tls}hosts:
  default:
    paths:
      "/":
        file.dir: {dir}/files
"""

H2O_TLS = """\
  ssl:
    certificate-file: {cert}
    key-file: {key}
    minimum-version: TLSv1.2
    ocsp-update-interval: 0
"""

HAPROXY_CONF = """\
global
    nbthread 1
    maxconn {connections}
defaults
    mode http
    timeout client 600s
    timeout http-keep-alive 600s
    timeout http-request 600s
frontend all
    bind {address} proto h2
    http-request return status 200 content-type text/plain string "Hello, World!"
"""


@dataclasses.dataclass
class Peer(common.Server):
    """kind: zokio, nginx, h2o, nghttpd or haproxy. The certificate is None for clear text."""
    is_h2: bool = True
    certificate: tuple = None

    def command(self, address, directory, closing, connections):
        host, port = address.split(":")
        fill = {"dir": directory, "address": address, "host": host, "port": port,
                "connections": connections, "user": getpass.getuser()}
        if self.certificate:
            fill["cert"], fill["key"] = self.certificate
        conf = pathlib.Path(directory, "conf")
        files = pathlib.Path(directory, "files")
        files.mkdir()
        # Readable to whom a server started as root turns into.
        os.chmod(directory, 0o755)
        (files / PATH[1:]).write_bytes(common.BODY)
        return getattr(self, f"_{self.kind}")(fill, conf)

    def _zokio(self, fill, _):
        tls = ["--tls", *self.certificate] if self.certificate else []
        return [self.path, fill["address"], *tls]

    def _nginx(self, fill, _):
        options = ("ssl " if self.certificate else "") + ("http2" if self.is_h2 else "")
        tls = NGINX_TLS.format(**fill) if self.certificate else ""
        return common.nginx_command(self.path, fill["dir"], fill["address"],
                                    tls + common.NGINX_HELLO, listen=options,
                                    connections=fill["connections"])

    def _h2o(self, fill, conf):
        tls = H2O_TLS.format(**fill) if self.certificate else ""
        conf.write_text(H2O_CONF.format(tls=tls, **fill))
        return [self.path, "-m", "worker", "-c", str(conf)]

    def _nghttpd(self, fill, _):
        tls = [fill["key"], fill["cert"]] if self.certificate else ["--no-tls"]
        return [self.path, "-n1", "-a", fill["host"], "-d", f"{fill['dir']}/files", fill["port"],
                *tls]

    def _haproxy(self, fill, conf):
        conf.write_text(HAPROXY_CONF.format(**fill))
        return [self.path, "-db", "-q", "-f", str(conf)]


def chosen_peers(options, kinds, is_h2, certificate=None):
    """Zokio on both pollers and the peers of `kinds` that are installed, as the options say."""
    program = f"{options.build}/examples/{'demo' if certificate else 'hello'}"
    if not os.access(program, os.X_OK):
        sys.exit(f"bench: {program} is missing (./dev build)")
    peers = [Peer(f"zokio-{poller}", "zokio", program, poller, is_h2, certificate)
             for poller in ("epoll", "io_uring")]
    for kind in kinds:
        path = common.find(kind)
        if path:
            peers.append(Peer(kind, kind, path, "", is_h2, certificate))
        else:
            print(f"{kind} is not installed: left out", file=sys.stderr)
    names = {name for peer in peers for name in (peer.name, peer.kind)}
    for name in options.server:
        if name not in names:
            sys.exit(f"bench: no server {name!r}; there are: {', '.join(sorted(names))}")
    if options.server:
        peers = [p for p in peers if p.name in options.server or p.kind in options.server]
    return peers


@functools.lru_cache(maxsize=1)
def make_certificate():
    """A self-signed pair, ECDSA on P-256, in a folder that lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="zokio-bench-")
    make_certificate.folder = folder
    os.chmod(folder.name, 0o755)
    cert, key = f"{folder.name}/cert.pem", f"{folder.name}/key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                    "-out", cert, "-keyout", key], check=True, capture_output=True)
    os.chmod(key, 0o644)
    return cert, key


# ---- running them ------------------------------------------------------------

def url_of(peer, running):
    scheme = "https" if peer.certificate else "http"
    return f"{scheme}://{running.address[0]}:{running.address[1]}{PATH}"


@contextlib.contextmanager
def serving(peer, connections=1024):
    """A fresh server that has been seen to answer correctly with the protocol it is here for."""
    with common.spawned(peer, connections=connections) as running:
        with common.connect_when_ready(running):
            pass
        check(peer, running)
        yield running


def check(peer, running):
    if peer.is_h2:
        version = ["--http2"] if peer.certificate else ["--http2-prior-knowledge"]
    else:
        version = ["--http1.1"]
    result = subprocess.run(
        ["curl", "-sSk", *version, "--max-time", "10", "-w", "\n%{http_version} %{http_code}",
         url_of(peer, running)], capture_output=True)
    wanted = common.BODY + (b"\n2 200" if peer.is_h2 else b"\n1.1 200")
    if result.stdout != wanted:
        sys.exit(f"bench: {peer.name} answers {result.stdout!r} {result.stderr.decode()}")


@dataclasses.dataclass
class Sample:
    cpu_us: float
    per_s: float
    busy: float


def sampled(name, running, client):
    """What the server used while `client()` ran, which returns how many things it did in how many
    seconds, and which errors it saw."""
    before = running.cpu_seconds()
    count, seconds, errors = client()
    running.require_alive()
    cpu_s = running.cpu_seconds() - before
    if errors or not count:
        print(f"{name}: {count}; {errors}")
    return Sample(cpu_s / max(count, 1) * 1e6, count / seconds, cpu_s / seconds)


def run_h2load(url, seconds, connections, streams):
    """returns the number of good responses, the seconds, and what went wrong or ''."""
    output = common.client_output(["h2load", "-t1", f"-c{connections}", f"-m{streams}",
                                   f"-D{seconds}", url])
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
                      output)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)", output)
    if not found or not finished:
        sys.exit(f"bench: cannot read h2load's output:\n{output}")
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[finished[2]]
    bad = [int(found[i]) for i in (2, 3, 4)]
    errors = found[0] if any(bad) else ""
    return int(found[1]), float(finished[1]) * unit, errors


def print_samples(title, what, peers, options, measure):
    """Measures and prints one table. The ratio is that to Zokio on epoll in the same round."""
    stolen_s, contended_s = common.stolen_seconds(), common.contended_seconds()
    samples = common.measure_rounds(peers, options.rounds, measure)
    stolen_s = common.stolen_seconds() - stolen_s
    contended_s = common.contended_seconds() - contended_s
    base = samples.get("zokio-epoll")
    header = ["server", f"CPU us/{what}", "quartiles", "ratio to zokio-epoll", "quartiles",
              f"{what}s/CPU s", f"{what}s/s", "busy"]
    rows = []
    for name, own in samples.items():
        low, cost, high = common.quartiles([sample.cpu_us for sample in own])
        cells = [name, f"{cost:.3f}", f"[{low:.3f} {high:.3f}]"]
        if base:
            ratios = [sample.cpu_us / other.cpu_us for sample, other in zip(own, base)]
            low, ratio, high = common.quartiles(ratios)
            cells += [f"{ratio:.3f}", f"[{low:.3f} {high:.3f}]"]
        else:
            cells += ["", ""]
        _, rate, _ = common.quartiles([sample.per_s for sample in own])
        _, busy, _ = common.quartiles([sample.busy for sample in own])
        rows.append(cells + [f"{1e6 / cost:.0f}" if cost else "", f"{rate:.0f}", f"{busy:.0%}"])
    title += (f", {options.rounds} rounds of {options.seconds} s; {stolen_s:.1f} s stolen, "
              f"{contended_s:.1f} s contended")
    common.print_table(title, header, rows, options.markdown)


def add_arguments(parser):
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1, help="of each run (default: 1)")
    parser.add_argument("--connections", type=int, default=2000, metavar="N",
                        help="idle ones (default: %(default)s)")


# ---- idle connections --------------------------------------------------------

def print_idle(title, peers, options, open_one):
    """Resident memory per connection that had one response and stays: open_one(address, source)
    makes one and returns what keeps it open."""
    header = ["server", "at start, kB", f"{options.connections} idle, kB", "RSS each",
              "private each"]
    rows = []
    for peer in peers:
        with serving(peer, options.connections + options.connections // 8 + 100) as running:
            # What the first ones bring along belongs to the start.
            kept = [open_one(running.address, None) for _ in range(10)]
            start = running.memory_kb()
            kept += [open_one(running.address, (f"127.0.1.{1 + i // 20000}", 0))
                     for i in range(options.connections)]
            idle = running.memory_kb()
            running.require_alive()
            if running.descriptors() < options.connections:
                sys.exit(f"bench: {peer.name} has closed idle connections")
            each = [f"{(idle[key] - start[key]) / options.connections:.2f}"
                    for key in ("Rss", "Private")]
            rows.append([peer.name, str(start["Rss"]), str(idle["Rss"]), *each])
            for connection in kept:
                connection.close()
    common.print_table(f"{title}, memory in kB", header, rows, options.markdown)


def open_tls(address, source):
    """A TLS 1.3 connection with one request of HTTP/1.1 answered."""
    inner = socket.create_connection(address, timeout=10, source_address=source)
    context = client_context()
    connection = context.wrap_socket(inner)
    if connection.version() != "TLSv1.3":
        sys.exit(f"bench: the server speaks {connection.version()}")
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = b""
    while not got.endswith(common.BODY):
        part = connection.recv(4096)
        if not part:
            sys.exit("bench: the server has closed a connection")
        got += part
    return connection


@functools.lru_cache(maxsize=1)
def client_context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def frame(kind, flags, stream, payload=b""):
    return (len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
            + payload)


# :method GET, :scheme http, :path (literal), :authority (literal): RFC 7541 appendix A.
HEADERS = (b"\x82\x86\x04" + bytes([len(PATH)]) + PATH.encode() + b"\x01\x09localhost")
OPENING = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(4, 1, 0)
           + frame(1, 0x5, 1, HEADERS))


def open_h2c(address, source):
    """A connection of HTTP/2 with one request answered."""
    connection = socket.create_connection(address, timeout=10, source_address=source)
    connection.sendall(OPENING)
    got = b""
    while True:
        part = connection.recv(4096)
        if not part:
            sys.exit("bench: the server has closed a connection")
        got += part
        while len(got) >= 9 and len(got) >= 9 + (size := int.from_bytes(got[:3], "big")):
            if got[3] == 0 and got[4] & 1 and int.from_bytes(got[5:9], "big") == 1:
                return connection  # DATA with END_STREAM
            got = got[9 + size:]
