"""What the HTTP benchmarks share: the servers compared, how they are run, and how they are read.

A server runs alone on one CPU and the client (this process and wrk) on another, each time freshly
started on an address of its own out of 127.0.0.0/8. Fresh, so that a median over rounds is also
one over memory layouts; an address of its own, so that the connections an earlier round has left in
TIME_WAIT take no port from a later one.

CPU time is the kernel's count of nanoseconds for the whole process (clock_gettime on its CPU clock:
the figure behind /proc/PID/schedstat, with the threads that have ended), summed over the server's
processes. Packets are processed in softirq context by whoever sends them over loopback, and the
kernel charges that to the sender: a server pays for delivering its responses, whichever way it
sends them. Time that the hypervisor steals is not in it.

Modules that import the standard `http` package cannot be used here: bench/http.py hides it.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONNECTIONS = 64
PIPELINE_DEPTH = 16
BODY = b"Hello, World!"

# `more` is what is beside the server, `inside` what is in it.
NGINX_CONF = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    default_type text/plain;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {more}
    server {{
        listen {address} {listen} backlog=4096;
        {inside}
    }}
}}
"""
NGINX_HELLO = 'location / { return 200 "Hello, World!"; }'


def nginx_command(path, directory, address, inside=NGINX_HELLO, more="", listen="",
                  connections=1024):
    """Writes a configuration into the directory. Returns the argument vector of who serves it."""
    conf = pathlib.Path(directory, "nginx.conf")
    conf.write_text(NGINX_CONF.format(dir=directory, address=address, inside=inside, more=more,
                                      listen=listen, connections=connections))
    return [path, "-p", directory, "-c", str(conf), "-e", f"{directory}/error.log"]


def find(program):
    """Where it is installed, "" if it is not."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") or ""


# ---- the machine -------------------------------------------------------------

def pick_cpus():
    """The server's and the client's CPU: on one CPU they would measure each other."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("bench: needs two CPUs, one for the server and one for the client")
    return cpus[0], cpus[1]


SERVER_CPU, CLIENT_CPU = pick_cpus()


def raise_descriptor_limit(wanted):
    """Lets this process and the servers it starts open `wanted` descriptors, or says why not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, PermissionError):
            sys.exit(f"bench: needs {wanted} descriptors, the limit is {hard} (ulimit -Hn)")
    elif soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stolen_seconds():
    """What the hypervisor has taken from the two CPUs so far: the measure of a noisy host."""
    ticks = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name in (f"cpu{SERVER_CPU}", f"cpu{CLIENT_CPU}"):
            ticks += int(values[7])
    return ticks / os.sysconf("SC_CLK_TCK")


def contended_seconds():
    """For how long so far some task has waited for a CPU: hardly ever in an undisturbed run."""
    try:
        some = pathlib.Path("/proc/pressure/cpu").read_text().split("\n")[0]
    except OSError:
        return 0.0
    return int(re.search(r"total=(\d+)", some)[1]) / 1e6


# ---- servers -----------------------------------------------------------------

@dataclasses.dataclass
class Server:
    """One way to run one server; `kind` is limit, hello or nginx."""
    name: str
    kind: str
    path: str
    poller: str = ""

    def command(self, address, directory, closing, connections):
        """The argument vector that serves `address` ("127.1.2.3:8080")."""
        if self.kind == "limit":
            return [self.path, address] + (["close"] if closing else [])
        if self.kind == "hello":
            return [self.path, address]
        return nginx_command(self.path, directory, address, connections=connections)

    def environment(self):
        environment = dict(os.environ, ZOKIO_WORKERS="1")
        if self.poller:
            environment["ZOKIO_POLLER"] = self.poller
        return environment


def add_arguments(parser):
    """The options that every benchmark here takes."""
    parser.add_argument("--build", default=str(ROOT / "build"), metavar="DIR",
                        help="build directory (default: %(default)s)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME",
                        help="only this one; may be repeated: limit, hello-epoll, hello-io_uring, "
                             "nginx (http2 and tls: zokio-epoll, .., and their peers); `hello` "
                             "stands for both pollers")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")


def chosen_servers(options):
    """The servers that the options name, the floor first; a missing nginx is only noted."""
    hello = f"{options.build}/examples/hello"
    servers = [
        Server("limit", "limit", f"{options.build}/bench/limit"),
        Server("hello-epoll", "hello", hello, "epoll"),
        Server("hello-io_uring", "hello", hello, "io_uring"),
        Server("nginx", "nginx", find("nginx")),
    ]
    names = {server.name for server in servers} | {"hello"}
    for name in options.server:
        if name not in names:
            sys.exit(f"bench: no server {name!r}; there are: {', '.join(sorted(names))}")
    if options.server:
        servers = [s for s in servers if s.name in options.server or s.kind in options.server]
    elif not servers[-1].path:
        print("nginx is not installed: left out", file=sys.stderr)
        servers.pop()
    for server in servers:
        if not os.access(server.path, os.X_OK):
            sys.exit(f"bench: {server.path or server.name} is missing (./dev build)")
    return servers


def fresh_address():
    """A loopback address never used before, in all likelihood, with a port that is free on it."""
    host = f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


class Running:
    """A started server: where it listens, what it has used."""

    def __init__(self, process, address):
        self.process = process
        self.address = address
        self.response_bytes = 0  # of one response, known once it has been checked

    @property
    def url(self):
        return f"http://{self.address[0]}:{self.address[1]}/"

    def pids(self):
        """The server's processes: nginx is a master and a worker."""
        found = [self.process.pid]
        for pid in found:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
            found += [int(child) for child in children.split()]
        return found

    def cpu_seconds(self):
        """User and system time so far. The clock of a process is (~pid << 3) | CPUCLOCK_SCHED."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def memory_kb(self):
        """Memory of the server's processes: Rss (all that is resident), Pss (shared pages divided
        by their users), Private. From smaps_rollup, which counts pages; VmRSS is an estimate."""
        total = {"Rss": 0, "Pss": 0, "Private": 0}
        for pid in self.pids():
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            for name in ("Rss", "Pss", "Private_Clean", "Private_Dirty"):
                kb = re.search(rf"^{name}:\s+(\d+)", rollup, re.M)[1]
                total[name.split("_")[0]] += int(kb)
        return total

    def descriptors(self):
        """How many descriptors the server holds: it shows when the server has closed some."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def require_alive(self):
        code = self.process.poll()
        if code is not None:
            sys.exit(f"bench: {self.process.args[0]} ended with status {code}")


def stop(process):
    """Ends a process started here, with what it has started, whatever state it is in."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def pinned(cpu):
    """What is started inside the block runs on `cpu`: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def spawned(server, closing=False, connections=1024):
    """Starts a server on an address of its own without waiting for it; the block's end ends it."""
    address = fresh_address()
    with tempfile.TemporaryDirectory(prefix="zokio-bench-") as directory:
        command = server.command("%s:%d" % address, directory, closing, connections)
        # A session of its own keeps the terminal's Ctrl-C from the server: it is ended here, once.
        with pinned(SERVER_CPU):
            process = subprocess.Popen(command, env=server.environment(), start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            yield Running(process, address)
        finally:
            stop(process)


@contextlib.contextmanager
def serving(server, closing=False, connections=1024):
    """Like `spawned`, but the block begins when the server answers, and answers correctly."""
    with spawned(server, closing, connections) as running:
        try:
            check(server, running, closing)
        except OSError as error:
            sys.exit(f"bench: {server.name} does not answer as it should: {error}")
        yield running


# ---- the client --------------------------------------------------------------

class Client:
    """A connection that sends requests for / and reads whole responses; closed by `with`."""

    def __init__(self, address, source=None):
        self.socket = socket.create_connection(address, timeout=10, source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = "%s:%d" % address
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, count=1, close=False):
        request = f"GET / HTTP/1.1\r\nHost: {self.host}\r\n"
        request += "Connection: close\r\n\r\n" if close else "\r\n"
        self.socket.sendall(request.encode() * count)

    def receive(self):
        """Reads one response: its status line, header block and body."""
        head = self._take_until(b"\r\n\r\n")
        status, _, headers = head.partition(b"\r\n")
        length = re.search(rb"(?im)^content-length:\s*(\d+)", headers)
        if not length:
            raise OSError("no Content-Length")
        length = int(length[1])
        while len(self.received) < length:
            self._fill()
        body, self.received = self.received[:length], self.received[length:]
        return status, headers, body

    def request(self, close=False):
        self.send(close=close)
        return self.receive()

    def pipeline(self, count):
        self.send(count)
        return [self.receive() for _ in range(count)]

    def _take_until(self, end):
        while end not in self.received:
            self._fill()
        head, _, self.received = self.received.partition(end)
        return head

    def _fill(self):
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of a response")
        self.received += more


def connect_when_ready(running, patience_s=5.0):
    """Connects in a tight loop until the server listens."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return Client(running.address)
        except ConnectionRefusedError:
            running.require_alive()
            if time.monotonic() > deadline:
                sys.exit(f"bench: {running.process.args} does not listen")


def check(server, running, closing):
    """Exits unless the server answers a request, and pipelined ones, correctly: a fast wrong answer
    is no result. Pays for the first-time work, too."""
    with connect_when_ready(running) as client:
        responses = [client.request(close=closing)]
        if closing and client.socket.recv(1) != b"":
            sys.exit(f"bench: {server.name} sends more after Connection: close")
    if not closing:
        with Client(running.address) as client:
            responses += client.pipeline(PIPELINE_DEPTH)
    for status, headers, body in responses:
        if not status.startswith(b"HTTP/1.1 200 ") or body != BODY:
            sys.exit(f"bench: {server.name} answers {status!r} {body!r}")
    running.response_bytes = len(status) + 2 + len(headers) + 4 + len(body)


@dataclasses.dataclass
class WrkResult:
    requests: int
    seconds: float
    errors: str


PIPELINE_LUA = """\
init = function(args)
    local requests = {}
    for i = 1, %d do requests[i] = wrk.format() end
    batch = table.concat(requests)
end
request = function() return batch end
""" % PIPELINE_DEPTH


def client_output(command, environment=None):
    """What a client on its own CPU prints."""
    with pinned(CLIENT_CPU):
        process = subprocess.Popen(command, text=True, start_new_session=True, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate()
    finally:
        stop(process)
    if process.returncode != 0:
        sys.exit(f"bench: {command[0]} failed with status {process.returncode}")
    return output


def clients_cpu_seconds():
    """What the clients that have ended have used in all. (Servers that have, too.)"""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_wrk(url, seconds, depth=1, closing=False, connections=CONNECTIONS):
    """One wrk run on the client's CPU, `depth` requests at a time."""
    if not shutil.which("wrk"):
        sys.exit("bench: wrk is not installed")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    with tempfile.NamedTemporaryFile("w", prefix="zokio-bench-", suffix=".lua") as script:
        if depth > 1:
            script.write(PIPELINE_LUA)
            script.flush()
            command += ["-s", script.name]
        if closing:
            command += ["-H", "Connection: close"]
        return parse_wrk(client_output(command + [url]))


def parse_wrk(output):
    """Reads wrk's summary; `errors` quotes what it says about failed requests, or is empty."""
    total = re.search(r"(\d+) requests in ([\d.]+)(s|m)", output)
    if not total:
        sys.exit(f"bench: cannot read wrk's output:\n{output}")
    seconds = float(total[2]) * (60 if total[3] == "m" else 1)
    errors = re.findall(r"(?:Socket errors|Non-2xx or 3xx responses): .*", output)
    return WrkResult(int(total[1]), seconds, "; ".join(errors))


# ---- results -----------------------------------------------------------------

def measure_rounds(servers, rounds, measure):
    """Samples by server; every second round goes backwards: no server always follows another."""
    samples = {server.name: [] for server in servers}
    for i in range(rounds):
        for server in servers if i % 2 == 0 else reversed(servers):
            samples[server.name].append(measure(server))
    return samples


def quartiles(values):
    """The lower quartile, the median and the upper quartile; of one value, three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def print_table(title, header, rows, markdown=False):
    """Prints rows of strings under a header: the first column to the left, figures to the right."""
    print(f"\n{title}\n")
    if markdown:
        print("| " + " | ".join(header) + " |")
        print("|---" + "|--:" * (len(header) - 1) + "|")
        for row in rows:
            print("| " + " | ".join(row) + " |")
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def run(main, description):
    """Runs a benchmark's `main(parser)`; SIGTERM and Ctrl-C unwind, which ends every server."""
    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    os.sched_setaffinity(0, {CLIENT_CPU})
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    try:
        main(parser)
    except KeyboardInterrupt:
        sys.exit(130)
