/*
 * The connections of a client on one worker: per origin those in use, the idle ones, and who waits
 * for one. Touched by its worker only.
 */
#ifndef ZOKIO_HTTP_CLIENT_POOL_H
#define ZOKIO_HTTP_CLIENT_POOL_H

#include <zokio/tls.h>

#include "core/worker.h"
#include "http/client_hop.h"
#include "http/spare.h"

/* Somebody who waits for a connection of an origin that has as many as it may. */
typedef struct zk__hop_wait zk__hop_wait;

/* Which HTTP the connections of an origin are for. */
enum zk__speaks {
    ZK__SPEAKS_AGREED, /* what TLS agrees upon; else HTTP/1.1 */
    ZK__SPEAKS_HTTP1,  /* whatever the server may have */
    ZK__SPEAKS_H2,     /* in plain, without asking (RFC 9113 section 3.3) */
};

struct zk__origin {
    zk__pool *pool;
    zk__origin *next; /* in its pool */
    zk__hop *idle, *idle_last;
    uint32_t idle_count;
    uint32_t count; /* of connections: idle, in use, being made */
    zk__hop_wait *waiting, **waiting_end;
    zk__timer timer;                   /* ends idle connections */
    struct zk__h2_link *h2, *h2_links; /* the one for new requests; all of them */
    uint32_t keepers;                  /* who hold on to it even while it has no connections */
    bool is_retired;                   /* none of its connections becomes idle any more */
    bool is_h2c;                       /* it speaks HTTP/2 in plain, without being asked */
    bool is_h2;                        /* it has spoken HTTP/2 when last connected to */
    enum zk__speaks speaks;
    zk_tls *tls;               /* NULL: plain */
    const struct zk__via *via; /* NULL, or the proxy that it is reached through by CONNECT */
    char *host;                /* that the certificate has to be for */
    char address[]; /* as zk_connect_host takes it: "example.org:443", "unix:/run/app.sock" */
};

struct zk__pool {
    zk__hop_limits limits;
    zk__origin *origins;
    uint32_t origin_count;
    zk__talk *talks;         /* free ones */
    zk__spare spare_talks;   /* how many */
    zk__pool *next, **link;  /* on its worker */
    struct zk__local *local; /* NULL, or where all connections lead to */
    zk__msg msg;             /* to free it from another worker */
    void *owner;             /* NULL, or what goes with it: owner_free(owner) is called then */
    void (*owner_free)(void *owner);
    uint64_t opened, reused; /* connections; for tests */
};

/* What the clients of a worker have. */
struct zk__pools {
    zk__pool *first;
    void *implicit; /* NULL, or the client of those who bring none */
    void (*implicit_free)(void *implicit);
};

/* Those of the current worker. NULL: there is no memory. */
struct zk__pools *zk__pools_of_worker(void);

/* A pool of the current worker; freed with it at the latest. NULL: there is no memory. */
zk__pool *zk__pool_new(const zk__hop_limits *limits);
/* Closes its idle connections. None may be in use. On its own worker. */
void zk__pool_free(zk__pool *pool);
/* The same for a pool of any worker: word is sent if it is another's. */
void zk__pool_free_on(zk__pool *pool, int worker_index);

/*
 * The origin with that address, made if it is not there yet. tls: NULL for plain connections, else
 * it has to outlive the pool, and host is the name that the certificate has to be for. via: NULL,
 * or the proxy to go through, which has to outlive the pool as well.
 * returns NULL: there is no memory.
 */
zk__origin *zk__pool_origin(zk__pool *pool, zk_str address, zk_tls *tls, zk_str host,
                            const struct zk__via *via);
/* The same for connections that are to speak HTTP/1.1 where `tls` would offer more. */
zk__origin *zk__pool_origin_http1(zk__pool *pool, zk_str address, zk_tls *tls, zk_str host,
                                  const struct zk__via *via);

/* The same for plain connections that are to speak HTTP/2 (RFC 9113 section 3.3). */
zk__origin *zk__pool_origin_h2c(zk__pool *pool, zk_str address);

/*
 * A connection for one exchange, which has begun (zk__hop_begin): an idle one if there is one and
 * must_be_new is not set, else a new one, else waits for one. Where the server has chosen HTTP/2
 * *ret_hop is NULL, and origin->h2 is there. greeting: what connections begin with, so only one
 * that has begun so will do; NULL: nothing. Suspends sometimes.
 * returns 0; ZK_E_HTTP_TIMEOUT; what zk_connect_host and zk_tls_connect return; -ENOMEM.
 */
int zk__origin_reach(zk__origin *origin, const struct zk__greeting *greeting, bool must_be_new,
                     zk__hop **ret_hop);
/* Makes the connection anew, for a request nothing of which has been sent. returns 0; as
 * zk__origin_reach. */
int zk__hop_redial(zk__hop *hop);
/* Takes a connection out of the pool that nothing was asked on: it is the caller's. */
zk_stream *zk__hop_leave(zk__hop *hop);

/* Ends the exchange: the connection becomes idle if it can carry another one, else it is closed. */
void zk__hop_give(zk__hop *hop);
/* As zk__hop_give, but the talk stays with the caller: what it has received is still looked at. */
zk__talk *zk__hop_part(zk__hop *hop);
void zk__talk_give(zk__pool *pool, zk__talk *talk);

/* Closes all idle connections of the origin. */
void zk__origin_close_idle(zk__origin *origin);

/* Holds on to the origin; one that was retired is in use again. */
void zk__origin_keep(zk__origin *origin);
/* If nobody but the caller keeps it: its connections end as soon as they are idle. */
void zk__origin_retire(zk__origin *origin);
/* Holds on no more. The last to do so retires it. */
void zk__origin_release(zk__origin *origin);

#endif
