/*
 * A reverse proxy: a handler that forwards requests to one of several upstream servers.
 *
 *     static int forward(zk_request *req, zk_response *res)
 *     {
 *         return zk_proxy_run(zk_request_context(req), req, res);
 *     }
 *
 * Bodies stream both ways as they come, held back by whoever is slower; none is kept as a whole.
 * What speaks of one connection only (RFC 9110 section 7.6.1) is not forwarded. Server and Date of
 * a response are the proxy's own.
 */
#ifndef ZOKIO_PROXY_H
#define ZOKIO_PROXY_H

#include <zokio/client.h>
#include <zokio/http.h>
#include <zokio/rate_limit.h>

ZK_BEGIN

typedef struct zk_proxy zk_proxy;

/** How an upstream is chosen among those that are well. */
typedef enum zk_balance {
    ZK_BALANCE_ROUND_ROBIN, /* in turn, by weight */
    ZK_BALANCE_LEAST,       /* the one with the fewest requests of this worker, by weight */
    ZK_BALANCE_TWO_CHOICES, /* the better of two at random */
    ZK_BALANCE_HASH,        /* by a key, the same one as long as it is well and not overloaded */
} zk_balance;

/** A server to forward to. */
typedef struct zk_upstream {
    /* "http://host:port", "https://host", "host:port", "unix:/run/app.sock"; without a path. Over
     * TLS HTTP/2 is spoken if the server has it, with "h2c://host:port" without TLS */
    const char *address;
    int weight; /* 1..100; 0: 1 */
} zk_upstream;

/** How a request has gone; for logs. What it points to lives as long as the request. */
typedef struct zk_proxy_access {
    const zk_request *req;
    const char *upstream; /* the last that was tried; NULL: none was available */
    int status;           /* that the client was sent; 499: it has left before */
    int rc;               /* 0, or why there was no answer to forward */
    const char *reason;   /* of that, in words; NULL */
    uint64_t body_bytes;  /* of the response */
    zk_time duration;     /* of all */
    int tries;
} zk_proxy_access;

/**
 * What to forward to and how. Only `upstreams` has to be set. A limit of 0 is the default named
 * beside it; -1 is none.
 */
typedef struct zk_proxy_options {
    const zk_upstream *upstreams; /* ended by {0}; 256 at most */
    zk_balance balance;
    const char *hash_header;  /* the key of ZK_BALANCE_HASH; NULL: the client's address */
    bool sends_upstream_host; /* Host is the upstream's own address, not what the client sent */
    bool trusts_forwarded;    /* the clients are proxies: what they say of theirs is kept */
    const char *via;          /* this proxy's name in Via; NULL: "zokio", "": none */
    const zk_client_options
        *client; /* limits of the connections to upstreams; NULL: the defaults */
    /* what clients may switch a connection to: NULL: "websocket", "": nothing, "*": anything but
     * h2c, which would go past the proxy */
    const char *upgrade;
    /* Where CONNECT may go to, ended by NULL: "host:port", with '*' for all hosts or all ports, and
     * "*.example.org:443" for names below one. NULL: nowhere, it is answered 501. A forward proxy
     * like that needs no upstreams, and a route with the method CONNECT. */
    const char *const *connect_allow;
    /* 1 or 2: connections to upstreams begin with a header of the PROXY protocol of that version,
     * which names the client; so each is for the requests of one client's connection only, and in
     * HTTP/1.1. 0: none */
    int proxy_protocol;
    int tunnel_timeout_ms; /* without a byte either way, behind an upgrade or CONNECT: 600,000 */
    int tries_max;         /* per request, each with another upstream: 3 */
    int retry_percent_max; /* retries beside this share of the requests: 20 */
    /* Hedging: a request of a safe method (GET, HEAD, OPTIONS, TRACE) without a body that has no
     * answer after so long is sent to a second upstream, too; the first answer is taken. The delay
     * is fixed, or what that percentage of the answers took no longer than, and at least hedge_ms.
     * Counts against tries_max and retry_percent_max. 0: none */
    int hedge_ms;
    int hedge_percentile; /* 1..99 */
    int failures_max;     /* in a row, then it is left out for a while: 3 */
    int ejection_ms;      /* the first time, doubling each: 5,000 */
    int ejection_max_ms;  /* 300,000 */
    /* Circuit breaker of each upstream, over all workers. Who is beyond a limit, or behind an open
     * circuit, gets no request; if that goes for all, the answer is 503. */
    int active_max;           /* requests in progress: no limit */
    int pending_max;          /* of these without a connection yet: no limit */
    int breaker_percent;      /* opens when so many of the requests fail: 0, never */
    int breaker_requests_min; /* within the window, before their share counts: 20 */
    int breaker_window_ms;    /* 10,000 */
    int breaker_open_ms;      /* before it is tried again: 5,000 */
    int breaker_trials;       /* then so many at once, and closed if all succeed: 3 */
    int breaker_status_min;   /* answers from here on are failures, too: 500 */
    /* an upstream that is new, or back, gets its share of the requests only after so long, and
     * before that less, from a tenth on: 0, no slow start */
    int slow_start_ms;
    const char *health_path; /* asked by zk_proxy_check; NULL: no checks */
    int health_interval_ms;  /* 2,000 */
    int health_timeout_ms;   /* 2,000 */
    int health_threshold;    /* as many in a row turn the state: 2 */
    /* Called when the response has been sent; must not suspend. */
    void (*on_access)(void *context, const zk_proxy_access *access);
    /* Called when an upstream is left out or taken back; must not suspend. */
    void (*on_health)(void *context, const char *upstream, bool is_well, const char *reason);
    zk_rate_limit *rate_limit; /* NULL, or what each request has to pass first; not owned */
    /* How zk_proxy_resolve looks a host up: up to `capacity` addresses (their ports do not matter)
     * and for how long they are good. May suspend. NULL: as zk_resolve does.
     * returns how many; an error */
    int (*resolve)(void *context, const char *host, zk_addr *addresses, size_t capacity,
                   zk_time *ret_lifetime);
    int resolve_retry_ms; /* after a lookup has failed: 5,000 */
    /* Called when an upstream's name stands for other addresses than before (their number), or
     * could not be looked up (an error; the old ones stay); must not suspend. */
    void (*on_resolve)(void *context, const char *upstream, int count, const char *reason);
    void *context;
} zk_proxy_options;

/**
 * Makes a proxy, for all workers. May be called outside zk_run. Never suspends.
 *
 * @return 0; ZK_E_CONFIG (zk_trail says what), ZK_E_HTTP_URL, ZK_E_ADDR; what zk_tls_client_new
 *         returns; -ENOMEM
 */
ZK_API int zk_proxy_new(const zk_proxy_options *options, zk_proxy **ret_proxy) ZK_NODISCARD;

/**
 * Replaces the upstreams of a proxy that is running; all its other options stay. Requests in
 * progress finish where they are. What is known of an upstream (its health, its connections) is
 * kept if its address is among the new ones, too; the connections of those that are gone are closed
 * as soon as they are idle. On a task it suspends until all workers know; before zk_run it never
 * does. Cancellation does not cut it short.
 *
 * @param upstreams  ended by {0}; copied
 * @return 0; what zk_proxy_new returns: then all stays as it was
 */
ZK_API int zk_proxy_reload(zk_proxy *proxy, const zk_upstream *upstreams) ZK_NODISCARD;

/** Frees it; NULL is allowed. No request may be using it, and no server may call it any more. Never
 * suspends. */
ZK_API void zk_proxy_free(zk_proxy *proxy);

/**
 * Forwards the request and responds. Suspends as both sides do.
 *
 * Without an upstream that is well it responds 503, to one that does not answer in time 504, to
 * other failures 502. A request is tried again, with another upstream, if it cannot have reached
 * the first, or if its method is idempotent and its body is still there, and not a byte has come
 * back.
 *
 * @return 0; an error that leaves the response broken off
 */
ZK_API int zk_proxy_run(zk_proxy *proxy, zk_request *req, zk_response *res);

/**
 * Asks the upstreams for zk_proxy_options.health_path again and again, until the scope is
 * cancelled. For a task beside the server. Suspends always.
 *
 * @return -ECANCELED, -ETIMEDOUT; ZK_E_CONFIG (there is no health_path); -ENOMEM
 */
ZK_API int zk_proxy_check(zk_proxy *proxy);

/**
 * Looks up the names of the upstreams, now and whenever the records' lifetime is over, until the
 * scope is cancelled. For a task beside the server. Each address of a name is an upstream of its
 * own, with the name's weight; at most 32 of a name. Requests never wait for a lookup, but for
 * names that have not been found yet: these are looked up when connecting. A lookup that fails
 * leaves the addresses as they are. Suspends always.
 *
 * @return -ECANCELED, -ETIMEDOUT
 */
ZK_API int zk_proxy_resolve(zk_proxy *proxy);

/** Responds with the proxy's figures in the text format of Prometheus. As zk_respond. */
ZK_API int zk_proxy_metrics(zk_proxy *proxy, zk_request *req, zk_response *res);

/**
 * Writes a line of an access log, NUL-terminated and cut if there is no room, in the
 * "combined" format. Never suspends. @return its length
 */
ZK_API size_t zk_proxy_log_line(const zk_proxy_access *access, char *text, size_t size);
/** The same in the "common" format, which is the beginning of that. */
ZK_API size_t zk_proxy_log_common(const zk_proxy_access *access, char *text, size_t size);
/** The same as JSON. */
ZK_API size_t zk_proxy_log_json(const zk_proxy_access *access, char *text, size_t size);

ZK_END
#endif
