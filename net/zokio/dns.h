/*
 * Names: finding the addresses of a host, and connecting to a host by its name.
 */
#ifndef ZOKIO_DNS_H
#define ZOKIO_DNS_H

#include <zokio/stream.h>

ZK_BEGIN

/** How names are looked up. Zero-initialised asks as the system is configured. */
typedef struct zk_resolve_options {
    /* "192.0.2.1,[2001:db8::1]:5353"; NULL: /etc/resolv.conf with its search domains */
    const char *servers;
    const char *hosts_path; /* NULL: /etc/hosts */
    int timeout_ms;         /* for a server's answer to the first try; 0: 2,000 */
    int tries;              /* of each server; 0: 3 */
} zk_resolve_options;

/**
 * Finds the addresses of a host, the ones to try first in front. Suspends sometimes.
 *
 * A numeric address is its own answer. Then the hosts file is asked, which is read again whenever
 * it has changed; the file is local, so that is done in place. "localhost" and names that end in
 * ".localhost" never leave the machine. Else the servers are asked for IPv6 and IPv4 addresses at
 * once. Addresses that this machine has a route to come first, IPv6 before IPv4 among these. When
 * the answer for IPv6 comes more than 50 ms behind that for IPv4, it is not waited for (RFC 8305
 * section 3).
 *
 * Answers are kept per worker for as long as their records live, a second at least and an hour at
 * most; that there is no such name or address for five minutes at most. Tasks of a worker that ask
 * for the same name share one query. A worker keeps 1,024 names.
 *
 * @param options    NULL for the defaults
 * @param addresses  where up to `capacity` addresses go, with port 0; untouched on failure. At most
 *                   32 are known of a name.
 * @return how many were written; ZK_E_DNS_NOT_FOUND, ZK_E_DNS_NO_DATA, ZK_E_DNS_SERVER,
 *         ZK_E_DNS_REFUSED, ZK_E_DNS_TIMEOUT, ZK_E_DNS_NAME (not the name of a host),
 *         ZK_E_DNS_ANSWER (a malformed answer), ZK_E_CONFIG (the options), -ECONNREFUSED (no server
 *         listens; of several servers, none gave an answer and one or more of them failed or
 *         refused), -ECANCELED, -ETIMEDOUT from the scope, -ENOMEM, -EMFILE, ZK_E_NO_RUNTIME
 */
ZK_API int zk_resolve(const char *name, const zk_resolve_options *options, zk_addr *addresses,
                      size_t capacity) ZK_NODISCARD;

/** Forgets what the current worker has been told of names. Never suspends. */
ZK_API void zk_resolve_flush(void);

/** How a connection to a host is made. */
typedef struct zk_connect_options {
    int attempt_delay_ms; /* before the next address is tried beside the last; 0: 250 */
    const zk_resolve_options *resolve; /* NULL: the defaults */
} zk_connect_options;

/**
 * Connects to "example.org:443", or to an address as zk_addr_parse reads it. Suspends sometimes.
 *
 * A host's addresses are tried as RFC 8305 says: families in turn, the next address when one fails
 * or has not answered for the delay; the first connection wins, the other attempts are ended before
 * this returns. There is no deadline but the scope's.
 *
 * @param options  NULL for the defaults
 * @return 0; what zk_resolve and zk_connect return: when all addresses fail, the error of the first
 *         one (zk_trail lists each); ZK_E_ADDR (no port); -ECANCELED, -ETIMEDOUT from the scope
 */
ZK_API int zk_connect_host(const char *host, const zk_connect_options *options,
                           zk_stream **ret_stream) ZK_NODISCARD;

ZK_END
#endif
