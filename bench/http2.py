#!/usr/bin/env python3
"""HTTP/2 in clear text, beside peers: ./dev bench http2

CPU time per request of h2load on 16 connections of 32 streams each, prior knowledge, and the memory
of idle connections. Zokio on both pollers; nghttpd (nghttp2's own server), h2o,
haproxy and nginx as Debian has them, one thread or worker each. How it is measured: bench/http.py,
bench/common.py. The ratio is the median of the rounds' ratios to Zokio on epoll.
"""
import common
import common_peers

CONNECTIONS, STREAMS = 16, 32


def measure(peer, seconds):
    with common_peers.serving(peer) as running:
        url = common_peers.url_of(peer, running)
        return common_peers.sampled(peer.name, running, lambda: common_peers.run_h2load(
            url, seconds, CONNECTIONS, STREAMS))


def main(parser):
    common_peers.add_arguments(parser)
    parser.add_argument("--load", action="append", choices=["requests", "idle"])
    options = parser.parse_args()
    peers = common_peers.chosen_peers(options, ["nghttpd", "h2o", "haproxy", "nginx"], is_h2=True)
    loads = options.load or ["requests", "idle"]
    if "requests" in loads:
        title = f"h2c, {CONNECTIONS} connections of {STREAMS} streams"
        common_peers.print_samples(title, "request", peers, options,
                                   lambda peer: measure(peer, options.seconds))
    if "idle" in loads:
        common.raise_descriptor_limit(options.connections + 200)
        common_peers.print_idle(f"{options.connections} idle h2c connections", peers, options,
                                common_peers.open_h2c)


if __name__ == "__main__":
    common.run(main, __doc__.splitlines()[0])
