/*
 * Rate limits: how many requests a client may make, for any server.
 *
 *     static zk_rate_limit *limit;
 *
 *     static int limited(zk_request *req, zk_response *res, zk_next *next)
 *     {
 *         return zk_rate_limit_run(limit, req, res, next);
 *     }
 *
 * Each client has a bucket of tokens: a request takes one, `per_second` of them come back, and the
 * bucket holds `burst`. Who finds it empty is answered 429 with Retry-After. All workers share the
 * buckets.
 */
#ifndef ZOKIO_RATE_LIMIT_H
#define ZOKIO_RATE_LIMIT_H

#include <zokio/http.h>

ZK_BEGIN

typedef struct zk_rate_limit zk_rate_limit;

/** How much is allowed to whom. Only `per_second` has to be set. */
typedef struct zk_rate_limit_options {
    double per_second; /* requests of a client in the long run, 0.0001 to 1,000,000 */
    int burst;         /* and so many at once; 0: as many as in a second, at least one */
    /* Who the client is: what `key` gives, which lives as long as the request (data NULL: who is
     * not limited); else this header field, if the request has it; else its address. */
    zk_str (*key)(void *context, zk_request *req);
    void *context;
    const char *header;
    /* IPv6 addresses that have so many bits in common are one client, since nobody has just one
     * address: 0: 64 */
    int ipv6_prefix_bits;
    /* Clients that are known at once, 16 bytes each; 0: 65,536. Beyond that those are forgotten
     * that have been allowed the most since. */
    int keys_max;
} zk_rate_limit_options;

/** What a limit has done. */
typedef struct zk_rate_limit_stats {
    uint64_t allowed, refused;
    uint64_t forgotten; /* clients that would have had less than a full bucket */
} zk_rate_limit_stats;

/**
 * Makes a limit, for all workers. May be called outside zk_run. Never suspends.
 *
 * @return 0; ZK_E_CONFIG (zk_trail says what), -ENOMEM
 */
ZK_API int zk_rate_limit_new(const zk_rate_limit_options *options, zk_rate_limit **ret_limit)
    ZK_NODISCARD;

/** Frees it; NULL is allowed. No request may be using it. Never suspends. */
ZK_API void zk_rate_limit_free(zk_rate_limit *limit);

/**
 * The whole of a middleware: runs the rest, or responds 429. Suspends as these do.
 *
 * @return their result
 */
ZK_API int zk_rate_limit_run(zk_rate_limit *limit, zk_request *req, zk_response *res,
                             zk_next *next);

/**
 * The same for a handler: takes a token for the request, or responds 429. Suspends as zk_respond.
 *
 * @return 0: go on; 1: it has been answered; what zk_respond returns
 */
ZK_API int zk_rate_limit_check(zk_rate_limit *limit, zk_request *req, zk_response *res)
    ZK_NODISCARD;

/**
 * Takes a token of any key: for what is no request. On a task. Never suspends.
 *
 * @param ret_wait  NULL, or after how long there will be one; set if there is none
 * @return 1; 0: there is none
 */
ZK_API int zk_rate_limit_take(zk_rate_limit *limit, zk_str key, zk_time *ret_wait) ZK_NODISCARD;

/** What it has done so far. Any thread. Never suspends. */
ZK_API zk_rate_limit_stats zk_rate_limit_stats_get(zk_rate_limit *limit);

ZK_END
#endif
