#!/usr/bin/env python3
"""Memory of idle keep-alive connections: ./dev bench idle

Opens many connections, has one request answered on each and leaves them idle; then sends a request
on all of them at once (a server may grow to serve the burst, and should shrink again); then closes
half. The server's resident memory is read at each of these points. `Each` is the growth since it
had answered its first requests, divided by the connections: what the kernel keeps for a socket
is not in it, nor is a table that a server fills at start (nginx: see the column `at start`).
Another client's requests are timed, one at a time, beside no idle connections and beside all.
"""
import time

import common

TIMED_REQUESTS = 500


def open_connections(address, count):
    """`count` connections, each with one request answered. Sources vary: a port is 16 bits."""
    clients = []
    for i in range(count):
        client = common.Client(address, source=(f"127.0.1.{1 + i // 20000}", 0))
        client.request()
        clients.append(client)
    return clients


def burst(clients):
    """A request on every connection before the first response is read."""
    for client in clients:
        client.send()
    for client in clients:
        client.receive()


def close_half(running, clients):
    """Closes every second connection and waits until the server has done so as well."""
    expected = running.descriptors() - len(clients) // 2
    for client in clients[1::2]:
        client.socket.close()
    deadline = time.monotonic() + 5
    while running.descriptors() > expected:
        if time.monotonic() > deadline:
            print(f"{running.process.args[0]}: still holds connections that were closed")
            break
        time.sleep(0.01)


def request_times_us(address):
    """The median and the 99th percentile of requests on a connection of their own."""
    times = []
    with common.Client(address) as client:
        for _ in range(TIMED_REQUESTS):
            start = time.perf_counter()
            client.request()
            times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return f"{times[TIMED_REQUESTS // 2]:.0f} / {times[TIMED_REQUESTS * 99 // 100]:.0f}"


def measure(server, count):
    """One table row."""
    # nginx closes idle connections once less than a sixteenth of its connections is free.
    with common.serving(server, connections=count + count // 8 + 100) as running:
        alone = request_times_us(running.address)
        start = running.memory_kb()
        clients = open_connections(running.address, count)
        idle = running.memory_kb()
        beside = request_times_us(running.address)
        burst(clients)
        after_burst = running.memory_kb()
        close_half(running, clients)
        halved = running.memory_kb()
        for client in clients:
            client.socket.close()

    def each(now, key):
        return f"{(now[key] - start[key]) / count:.3f}"

    return [server.name, f"{start['Rss']}", f"{idle['Rss']}", each(idle, "Rss"),
            each(idle, "Pss"), each(idle, "Private"), each(after_burst, "Rss"),
            f"{halved['Rss']}", alone, beside]


def main(parser):
    parser.add_argument("--connections", type=int, default=5000, metavar="N")
    options = parser.parse_args()
    servers = common.chosen_servers(options)
    common.raise_descriptor_limit(options.connections + 200)
    header = ["server", "at start", f"{options.connections} idle", "RSS each", "Pss each",
              "private each", "RSS each after burst", "half closed", "us alone", "us beside"]
    rows = [measure(server, options.connections) for server in servers]
    title = (f"{options.connections} idle connections, memory in kB; times of another client's "
             f"requests, median / 99th percentile")
    common.print_table(title, header, rows, options.markdown)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
