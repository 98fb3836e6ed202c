/*
 * What the proxy's files share.
 *
 * A zk_proxy is made once and read by all workers; what changes in it is atomic. What a worker
 * needs for each request (connections, counts) is in a zk__proxy_worker of its own, made when the
 * worker has its first request.
 *
 *   names --looked up--> addresses --> zk__upstream (health, on all workers)
 *                                       ^ set: those of now          ^ use: counts of a worker
 *                                       |                            |
 *                             zk_proxy.set (swapped whole)     view: the set, for a worker
 */
#ifndef ZOKIO_HTTP_PROXY_H
#define ZOKIO_HTTP_PROXY_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include <zokio/proxy.h>

#include "http/client.h"
#include "http/exchange.h"
#include "http/proxy_breaker.h"

enum {
    ZK__UPSTREAMS_MAX = 256,
    ZK__PROXY_ADDRESSES_MAX = 32, /* of a name */
    ZK__PROXY_WORKERS_MAX = 1024,
    ZK__PROXY_BUCKETS = 16,
    ZK__PROXY_BIG_BYTES = 128 * 1024,
    ZK__PROXY_BIG_KEPT = 8,
    ZK__RETRY_TOKENS_MAX = 100,
    ZK__LATENCY_BUCKETS = 4 * 32,
};

/*
 * A server that requests are sent to: one address of what zk_proxy_options.upstreams names. All
 * that lasts about it is here, so that it survives changes of the set around it.
 */
typedef struct zk__upstream {
    _Atomic int holders; /* sets, and uses */
    char *name;          /* as it was given; with the address behind it if that was looked up */
    char *address;       /* as zk_connect_host takes it */
    char *host;          /* for certificates, and for Host if that is wanted */
    char *authority;
    zk_tls *tls; /* NULL: plain */
    bool is_secure;
    bool is_h2c; /* HTTP/2 without TLS, and without asking */
    uint64_t hash;
    /* on all workers */
    _Atomic bool is_gone;          /* no set has it any more */
    _Atomic int failures;          /* in a row */
    _Atomic int ejections;         /* in a row; how long the next is */
    _Atomic zk_time ejected_until; /* 0: it is not */
    _Atomic bool is_down;          /* the checks say so */
    _Atomic bool is_being_checked;
    int passed, failed;        /* checks in a row; of who checks */
    _Atomic zk_time ramp_from; /* slow start began then; 0: there is none */
    zk__breaker breaker;
} zk__upstream;

/* All upstreams from one change to the next. */
typedef struct zk__upstream_set {
    _Atomic int holders; /* the proxy, and views */
    int count;
    int weights[ZK__UPSTREAMS_MAX];
    zk__upstream *at[ZK__UPSTREAMS_MAX];
} zk__upstream_set;

/* An upstream as zk_proxy_options names it, and what its name was found to stand for. */
typedef struct zk__proxy_name {
    char *given, *address, *host, *authority;
    bool is_secure, is_h2c;
    bool is_name; /* addresses are found by looking up; else `address` is the one */
    int weight;
    uint16_t port;
    int count; /* of addresses; 0: not known yet, and connecting looks it up */
    zk_addr addresses[ZK__PROXY_ADDRESSES_MAX];
    zk_time due; /* when to look again */
} zk__proxy_name;

/* What a worker knows of an upstream. Counters are read by other workers for metrics. */
typedef struct zk__upstream_use {
    zk__upstream *upstream;
    zk__origin *origin;
    zk__origin *http1;  /* NULL, or for what HTTP/2 cannot do */
    uint32_t holders;   /* views */
    uint32_t active;    /* requests in progress */
    int current_weight; /* of the smooth round robin */
    uint64_t requests, failures;
} zk__upstream_use;

/*
 * A set as a worker sees it. A request keeps to the view that it began with, so the numbers of the
 * upstreams in it mean the same to its end.
 */
typedef struct zk__proxy_view {
    struct zk__proxy_worker *worker;
    zk__upstream_set *set;
    uint32_t holders; /* requests, and the worker if it is the latest */
    int count;
    zk__upstream_use *at[];
} zk__proxy_view;

/* How long upstreams have taken to answer lately: four buckets for each power of two of
 * microseconds. */
typedef struct zk__latency {
    uint32_t counts[ZK__LATENCY_BUCKETS], total;
    uint32_t fresh;   /* since the percentile was last looked for */
    zk_time at_least; /* the percentile; 0: too little is known */
} zk__latency;

typedef struct zk__proxy_worker {
    zk_proxy *proxy;
    zk__pool *pool;       /* NULL: it is being freed, and its origins are gone */
    zk__proxy_view *view; /* the latest; changed under proxy->lock */
    uint32_t active;
    double retry_tokens;
    char *big[ZK__PROXY_BIG_KEPT]; /* buffers for long bodies */
    int big_count;
    uint64_t by_class[6]; /* responses by the first digit of their status; 0: the client left */
    uint64_t retries, hedges, hedges_won, bytes_out;
    zk__latency latency;                                  /* for hedging */
    uint64_t buckets[ZK__PROXY_BUCKETS + 1], duration_us; /* of the latency histogram */
} zk__proxy_worker;

struct zk_proxy {
    zk_proxy_options options; /* with the defaults filled in */
    bool has_breaker;
    zk__hop_limits limits;
    char **connect_allow; /* NULL: CONNECT is not for this proxy; ended by NULL */
    char *via, *upgrade, *via_values[3], *hash_header, *health_path;
    /* Of the names, of who replaces the set, and of the workers' views. Held for moments only. */
    pthread_mutex_t lock;
    zk_tls *tls; /* NULL: no upstream has needed it yet */
    int name_count;
    zk__proxy_name *names;
    _Atomic(zk__upstream_set *) set;
    _Atomic(zk__proxy_worker *) workers[ZK__PROXY_WORKERS_MAX];
};

/* ---- proxy_upstreams.c ---- */

/* Whether it could be one. returns 0; as zk_proxy_new. */
int zk__upstream_check(const zk_upstream *upstream);
/* Makes those the proxy's upstreams. returns as zk_proxy_reload. */
int zk__proxy_names_set(zk_proxy *p, const zk_upstream *upstreams);
void zk__proxy_names_free(zk_proxy *p);
/* Gives the names that are `given` so the addresses that they stand for. returns 1: the set is
 * another one; 0; -ENOMEM. */
int zk__proxy_addresses_set(zk_proxy *p, const char *given, const zk_addr *addresses, int count,
                            zk_time due);
/* Has every worker take over the set, and waits for that. */
void zk__proxy_workers_tell(zk_proxy *p);
/* The current set, to be given back. Any thread. */
zk__upstream_set *zk__upstream_set_take(zk_proxy *p);
void zk__upstream_set_give(zk__upstream_set *set);
void zk__upstream_drop(zk__upstream *u);

/* ---- proxy_view.c ---- */

/* The current worker's part; NULL: there is no memory. */
zk__proxy_worker *zk__proxy_worker_get(zk_proxy *p);
/* Sees to it that the worker knows the latest set; without memory it keeps the one it has. */
void zk__proxy_view_renew(zk__proxy_worker *w);
/* The view for a request, to be given back. */
static inline zk__proxy_view *zk__proxy_view_take(zk__proxy_worker *w)
{
    const zk__upstream_set *set = atomic_load_explicit(&w->proxy->set, memory_order_relaxed);
    if (ZK_UNLIKELY(w->view->set != set)) zk__proxy_view_renew(w);
    w->view->holders++;
    return w->view;
}
void zk__proxy_view_give(zk__proxy_view *view);

/* ---- proxy_balance.c ---- */

/*
 * Chooses an upstream for a request that has tried those in `tried` (a bit each). returns its
 * index; -1: none is available.
 */
int zk__proxy_pick(zk__proxy_view *view, uint64_t key, const uint64_t tried[4]);
/* The request's key for ZK_BALANCE_HASH. */
uint64_t zk__proxy_key(const zk_proxy *p, const zk_request *req);

/* Why none is available, in words. */
void zk__proxy_refusal(const zk__proxy_view *view, char *text, size_t size);

/* ---- proxy_health.c ---- */

/* How a request to an upstream has gone. status: of the answer, 0 without one. */
void zk__proxy_note(zk_proxy *p, zk__upstream *u, zk__breaker_ticket *ticket, int rc, int status);
/* Whether requests may go to it, as far as its health goes. */
static inline bool zk__upstream_is_well(zk__upstream *u)
{
    if (atomic_load_explicit(&u->is_down, memory_order_relaxed) ||
        atomic_load_explicit(&u->is_gone, memory_order_relaxed)) {
        return false;
    }
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
    zk__upstream_use *use; /* where it goes; NULL: there was no one to go to */
    struct zk__race *race; /* NULL, or the one with another try, whose answer may be first */
    zk__hop *hop;          /* NULL: there was no connection, or it was one of HTTP/2 */
    zk__breaker_ticket ticket;
    zk_time began;
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
int zk__proxy_forward(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                      zk_request *req, zk_response *res);

/* ---- proxy_h2.c ---- */

/* One try over HTTP/2, by the origin's connection. As zk__proxy_forward. */
int zk__proxy_h2_forward(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                         zk_request *req, zk_response *res);

/* ---- proxy_tries.c ---- */

/* A request on its way through the proxy. */
typedef struct zk__proxy_job {
    zk__proxy_worker *worker;
    zk__proxy_view *view;
    zk_request *req;
    zk_response *res;
    uint64_t key, tried[4];
    zk__proxy_try try; /* the last, and what all have in common */
    zk_time began;
    int tries, rc;
} zk__proxy_job;

/* Tries upstreams until one has answered or no more are to be tried. returns 0, or the last error;
 * -EAGAIN: there was none to try. */
int zk__proxy_tries(zk__proxy_job *j);
/* Sets try->use to an upstream that was not tried yet, and enters it. returns false: there is
 * none. */
bool zk__proxy_choose(zk__proxy_job *j, zk__proxy_try *try);
/* Goes to try->use, and leaves it. returns as zk__proxy_forward. */
int zk__proxy_try_run(zk__proxy_job *j, zk__proxy_try *try);
/* Another try beside the requests that came: each of these earns a share of one. */
void zk__proxy_budget_earn(zk__proxy_worker *w);
bool zk__proxy_budget_spend(zk__proxy_worker *w);

/*
 * The upstream has answered, and nothing of that was sent to the client yet. returns 0; -ECANCELED:
 * another try was first, and this one is to end.
 */
int zk__proxy_answered(zk__proxy_worker *w, zk__proxy_try *try, int status);

/* ---- proxy_hedge.c ---- */

/* After how long a second try may go out; -1: not at all. */
zk_time zk__proxy_hedge_delay(const zk__proxy_job *j);
/* zk__proxy_try_run for j->try, with a second try behind that delay. What has become of it is in
 * j->try. */
int zk__proxy_hedge(zk__proxy_job *j, zk_time delay);
/* Whether the try is the first of its race to answer; then the other is cancelled. */
bool zk__proxy_race_win(zk__proxy_try *try);
void zk__proxy_latency_add(zk__latency *l, zk_time took, int percentile);

#endif
