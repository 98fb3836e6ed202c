/*
 * What the proxy's files share.
 *
 * A zk_proxy is made once and read by all workers; what changes in it is atomic. What a worker
 * needs for each request (connections, counts) is in a zk__proxy_worker of its own, made when the
 * worker has its first request.
 */
#ifndef ZOKIO_HTTP_PROXY_H
#define ZOKIO_HTTP_PROXY_H

#include <netinet/in.h>
#include <stdatomic.h>

#include <zokio/proxy.h>

#include "http/client.h"
#include "http/exchange.h"

enum {
    ZK__UPSTREAMS_MAX = 256,
    ZK__PROXY_WORKERS_MAX = 1024,
    ZK__PROXY_BUCKETS = 16,
    ZK__PROXY_BIG_BYTES = 128 * 1024,
    ZK__PROXY_BIG_KEPT = 8,
};

typedef struct zk__upstream {
    char *name;    /* as it was given */
    char *address; /* as zk_connect_host takes it */
    char *host;    /* for certificates, and for Host if that is wanted */
    char *authority;
    bool is_secure;
    bool is_h2c; /* HTTP/2 without TLS, and without asking */
    int weight;
    uint64_t hash;
    /* on all workers */
    _Atomic int failures;          /* in a row */
    _Atomic int ejections;         /* in a row; how long the next is */
    _Atomic zk_time ejected_until; /* 0: it is not */
    _Atomic bool is_down;          /* the checks say so */
} zk__upstream;

/* What a worker knows of an upstream. Counters are read by other workers for metrics. */
typedef struct zk__upstream_use {
    zk__origin *origin;
    uint32_t active;    /* requests in progress */
    int current_weight; /* of the smooth round robin */
    uint64_t requests, failures;
} zk__upstream_use;

typedef struct zk__proxy_worker {
    zk_proxy *proxy;
    zk__pool *pool;
    uint32_t active;
    double retry_tokens;
    char *big[ZK__PROXY_BIG_KEPT]; /* buffers for long bodies */
    int big_count;
    uint64_t by_class[6]; /* responses by the first digit of their status; 0: the client left */
    uint64_t retries, bytes_out;
    uint64_t buckets[ZK__PROXY_BUCKETS + 1], duration_us; /* of the latency histogram */
    zk__upstream_use uses[];
} zk__proxy_worker;

struct zk_proxy {
    zk_proxy_options options; /* with the defaults filled in */
    zk__hop_limits limits;
    char **connect_allow; /* NULL: CONNECT is not for this proxy; ended by NULL */
    char *via, *upgrade, *via_values[3], *hash_header, *health_path;
    zk_tls *tls;
    int count;
    bool has_weights;
    zk__upstream *upstreams;
    _Atomic(zk__proxy_worker *) workers[ZK__PROXY_WORKERS_MAX];
};

/* ---- proxy_balance.c ---- */

/*
 * Chooses an upstream for a request that has tried those in `tried` (a bit each). returns its
 * index; -1: none is available.
 */
int zk__proxy_pick(zk__proxy_worker *w, uint64_t key, const uint64_t tried[4]);
/* The request's key for ZK_BALANCE_HASH. */
uint64_t zk__proxy_key(const zk_proxy *p, const zk_request *req);

/* ---- proxy_health.c ---- */

/* How a request to an upstream has gone. */
void zk__proxy_note(zk_proxy *p, int index, int rc);
/* Whether requests may go to it. */
static inline bool zk__upstream_is_well(zk__upstream *u)
{
    if (atomic_load_explicit(&u->is_down, memory_order_relaxed)) return false;
    zk_time until = atomic_load_explicit(&u->ejected_until, memory_order_relaxed);
    return ZK_LIKELY(!until) || until <= zk_now();
}

/* ---- proxy_fields.c ---- */

/* What a request to an upstream says, in any version of HTTP. `fields` have room for what a version
 * adds. It points to the request, and to itself. */
typedef struct zk__proxy_head {
    zk_str method, target, host;
    zk_field *fields;
    size_t count;
    char peer[INET6_ADDRSTRLEN], forwarded[256];
} zk__proxy_head;

/* returns 0, -ENOMEM. */
int zk__proxy_head_make(const zk_proxy *p, const zk__upstream *u, zk_request *req,
                        zk__proxy_head *ret_head);
/* Whether the client takes trailers. */
bool zk__proxy_wants_trailers(const zk_request *req);
/* Sends the head of the request, with an upgrade to `protocol` if it is not empty. returns 0 or an
 * error of the hop. */
int zk__proxy_head_send(const zk_proxy *p, const zk__upstream *u, zk__hop *hop, zk_request *req,
                        zk_str protocol);
/* Gives the response the fields of the answer. returns 0, -ENOMEM. */
int zk__proxy_head_take(const zk_proxy *p, const zk__h1_answer *answer, bool is_h2,
                        zk_response *res);

/* Over HTTP/2 fields have to be the response's own: it writes to the names, and sends them when the
 * hop may carry another answer already. returns 0, -ENOMEM. */
int zk__proxy_fields_own(zk_response *res, zk_field *fields, size_t count);

/* ---- proxy_tunnel.c ---- */

/* The upstream has answered 101: hands the answer on, and then all bytes both ways. returns 0; an
 * error, with res->state NONE if nothing has been sent. */
int zk__proxy_tunnel(const zk_proxy *p, zk__hop *hop, zk_response *res);
/* The same for a 2xx over HTTP/2 to what asked for `protocol`. Takes the call over. */
int zk__proxy_tunnel_h2(const zk_proxy *p, zk__h2_call *call, zk_str protocol, zk_response *res);
/* Agrees with the client, whose response has its fields, and carries bytes; `early` are those that
 * the upstream has sent already. */
int zk__proxy_carry(const zk_proxy *p, zk_stream *upstream, zk_str early, zk_str protocol,
                    zk_response *res);

/* ---- proxy_connect.c ---- */

/* Copies the list of where CONNECT may go to. returns 0; ZK_E_CONFIG, -ENOMEM. */
int zk__proxy_connect_init(zk_proxy *p, const char *const *allow);
void zk__proxy_connect_done(zk_proxy *p);
/* Answers CONNECT, by a tunnel if it may be. As zk_proxy_run. */
int zk__proxy_connect(const zk_proxy *p, zk_request *req, zk_response *res);

/* ---- proxy_forward.c ---- */

/* What has become of one try. */
typedef struct zk__proxy_try {
    zk__hop *hop;        /* NULL: there was no connection, or it was one of HTTP/2 */
    zk_str protocol;     /* that the client asks to upgrade to; empty: none */
    zk_str body;         /* of the request, if it is in memory as a whole */
    bool has_whole_body; /* it is, or there is none */
    bool is_body_begun;  /* some of a streamed body has been read */
    bool may_repeat;     /* it failed, and another try is safe */
    bool is_stale;       /* .. with the same upstream: only the connection was to blame */
    bool is_client_gone;
    bool needs_http1; /* the upstream cannot do over HTTP/2 what the client asks for */
} zk__proxy_try;

/* Whether a request may reach a server twice (RFC 9110 section 9.2.2). */
bool zk__proxy_is_idempotent(const zk_request *req);
/* The length to announce for an answer; ZK_LENGTH_UNKNOWN; ZK_E_HTTP_SYNTAX. */
int64_t zk__proxy_length(const zk__h1_answer *answer, const zk_response *res);
/* Gives the response the trailers, and ends it. returns 0; as zk_response_end. */
int zk__proxy_end(zk_response *res, const zk_field *trailers, size_t count);

/* Forwards a request to an upstream. returns 0 when the response has been sent; an error: with
 * res->state NONE nothing has been. */
int zk__proxy_forward(zk__proxy_worker *w, int index, zk__proxy_try *try, zk_request *req,
                      zk_response *res);

/* ---- proxy_h2.c ---- */

/* One try over HTTP/2, by the origin's connection. As zk__proxy_forward. */
int zk__proxy_h2_forward(zk__proxy_worker *w, int index, zk__proxy_try *try, zk_request *req,
                         zk_response *res);

/* The current worker's part; NULL: there is no memory. */
zk__proxy_worker *zk__proxy_worker_get(zk_proxy *p);

#endif
