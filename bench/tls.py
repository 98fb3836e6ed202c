#!/usr/bin/env python3
"""TLS, beside peers: ./dev bench tls

CPU time per request over TLS 1.3 with HTTP/2 (h2load, 16 connections of 32 streams) and HTTP/1.1
(wrk, 64 keep-alive connections); CPU time per handshake, full and resumed (bench/handshake.c,
ECDSA on P-256); memory of idle connections. Zokio on both pollers, nginx, h2o (not for handshakes)
and, for HTTP/2, nghttpd, one thread or worker each. How it is measured: bench/http.py,
bench/common.py. The ratio is the median of the rounds' ratios to Zokio on epoll.
"""
import os
import re
import sys

import common
import common_peers

CONNECTIONS, STREAMS = 16, 32
LOADS = ["h2", "http1", "full", "resumed", "idle"]


def run_wrk(url, seconds):
    result = common.run_wrk(url, seconds)
    return result.requests, result.seconds, result.errors


def run_handshakes(program, running, kind, seconds):
    output = common.client_output([program, running.address[0], str(running.address[1]), kind,
                                   str(seconds)])
    found = re.fullmatch(r"(\d+) handshakes in ([\d.]+) s, (\d+) resumed\n", output)
    if not found:
        sys.exit(f"bench: cannot read the output of {program}:\n{output}")
    count, resumed = int(found[1]), int(found[3])
    wanted = count if kind == "resumed" else 0
    errors = "" if resumed == wanted else f"{resumed} were resumed"
    return count, float(found[2]), errors


def measure(peer, load, options):
    with common_peers.serving(peer) as running:
        url = common_peers.url_of(peer, running)
        clients = {
            "h2": lambda: common_peers.run_h2load(url, options.seconds, CONNECTIONS, STREAMS),
            "http1": lambda: run_wrk(url, options.seconds),
            "full": lambda: run_handshakes(f"{options.build}/bench/handshake", running, load,
                                           options.seconds),
        }
        clients["resumed"] = clients["full"]
        return common_peers.sampled(peer.name, running, clients[load])


def main(parser):
    common_peers.add_arguments(parser)
    parser.add_argument("--load", action="append", choices=LOADS)
    options = parser.parse_args()
    if not os.access(f"{options.build}/bench/handshake", os.X_OK):
        sys.exit("bench: build/bench/handshake is missing (./dev build)")
    certificate = common_peers.make_certificate()
    h2_peers = common_peers.chosen_peers(options, ["h2o", "nghttpd", "nginx"], True, certificate)
    peers = common_peers.chosen_peers(options, ["h2o", "nginx"], False, certificate)
    loads = {"h2": h2_peers, "http1": peers, "idle": peers}
    # h2o does not close when a client has said goodbye, which is what ends a handshake here.
    closing = [peer for peer in peers if peer.kind != "h2o"]
    titles = {
        "h2": f"h2 over TLS, {CONNECTIONS} connections of {STREAMS} streams",
        "http1": f"HTTP/1.1 over TLS, keep-alive, {common.CONNECTIONS} connections",
        "full": "full handshakes, TLS 1.3, ECDSA on P-256",
        "resumed": "resumed handshakes, TLS 1.3",
    }
    for load in options.load or LOADS:
        if load == "idle":
            common.raise_descriptor_limit(options.connections + 200)
            common_peers.print_idle(f"{options.connections} idle connections of TLS 1.3 with "
                                    "HTTP/1.1", loads[load], options, common_peers.open_tls)
            continue
        what = "handshake" if load in ("full", "resumed") else "request"
        common_peers.print_samples(titles[load], what, loads.get(load, closing), options,
                                   lambda peer: measure(peer, load, options))


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
