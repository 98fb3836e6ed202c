/*
 * Several calls at once, calls again, calls at intervals.
 *
 *     rc = zk_join({fetch, &a}, {fetch, &b});   all of them
 *     i  = zk_race({fetch, &a}, {sleep_a_second, NULL});   whichever ends first
 *     i  = zk_any({fetch, &mirror1}, {fetch, &mirror2});   whichever succeeds first
 *
 * No call outlives the function that made it. What is not needed any more is cancelled and waited
 * for.
 */
#ifndef ZOKIO_CALL_H
#define ZOKIO_CALL_H

#include <zokio/task.h>

ZK_BEGIN

/** A call to be made. */
typedef struct zk_call {
    zk_fn *fn;
    void *arg;
} zk_call;

/**
 * Makes the calls concurrently and waits for all. The first error cancels the rest. Suspends as the
 * calls do: the first one begins in place.
 *
 * @param ret_results  NULL, or where each call's result goes, errors too
 * @return 0; the error of the first call that failed, which has added its trail; -ECANCELED,
 *         -ETIMEDOUT when the scope was cancelled and calls failed for it; -ENOMEM (more than 8
 *         calls need memory; none was made)
 */
ZK_API int zk_join_calls(const zk_call *calls, size_t count, int *ret_results);

/**
 * Makes the calls concurrently; the first to end cancels the rest, which are waited for. Suspends
 * as the calls do.
 *
 * @return the index of the call that ended first, if it succeeded; else its error; -EINVAL (no
 *         calls); else as zk_join_calls
 */
ZK_API int zk_race_calls(const zk_call *calls, size_t count, int *ret_results);

/**
 * Makes the calls concurrently; the first to succeed cancels the rest, which are waited for.
 * Suspends as the calls do.
 *
 * @return the index of the call that succeeded first; the first error if all failed; -ECANCELED,
 *         -ETIMEDOUT when the scope was cancelled before one succeeded; -EINVAL (no calls); -ENOMEM
 */
ZK_API int zk_any_calls(const zk_call *calls, size_t count, int *ret_results);

#define ZK__CALLS(...)                                                                             \
    (zk_call[]){__VA_ARGS__}, sizeof((zk_call[]){__VA_ARGS__}) / sizeof(zk_call), NULL

/** zk_join_calls of the calls listed: `zk_join({fetch, &a}, {fetch, &b})`. */
#define zk_join(...) zk_join_calls(ZK__CALLS(__VA_ARGS__))
/** zk_race_calls of the calls listed. */
#define zk_race(...) zk_race_calls(ZK__CALLS(__VA_ARGS__))
/** zk_any_calls of the calls listed. */
#define zk_any(...) zk_any_calls(ZK__CALLS(__VA_ARGS__))

/* ---- again ----------------------------------------------------------------------------------- */

/** How zk_retry tries again. Zero-initialised is a sane choice. */
typedef struct zk_retry_options {
    int tries_max;     /* in all; 0: 5 */
    zk_time delay;     /* after the first failure; 0: 100 ms. It doubles each time */
    zk_time delay_max; /* 0: 10 s */
    bool no_jitter;    /* else each delay is a random one between its half and its whole */
    /* NULL, or whether another try makes sense after this error. A cancelled scope is never tried
     * again in. */
    bool (*is_transient)(int rc, void *arg);
} zk_retry_options;

/**
 * Calls `fn(arg)` until it succeeds. Suspends as fn does, and between the tries.
 *
 * @param options  NULL for the defaults
 * @return fn's result; its last error; -ECANCELED, -ETIMEDOUT while waiting to try again
 */
ZK_API int zk_retry(const zk_retry_options *options, zk_fn *fn, void *arg);

/* ---- intervals ------------------------------------------------------------------------------- */

/** Something that is due again and again, in step with its beginning. */
typedef struct zk_interval {
    zk_time period, next;
} zk_interval;

/** An interval whose first tick is `period` from now; at least 1 ns. Never suspends. */
ZK_API void zk_interval_init(zk_interval *interval, zk_time period);

/**
 * Waits for the next tick. Who comes late is not made to catch up: ticks that have passed are
 * counted, not repeated, and the next ones stay in step. Suspends unless a tick has passed already.
 *
 * @return ticks since the last call, at least 1; -ECANCELED, -ETIMEDOUT, -ENOMEM: none was taken
 */
ZK_API int zk_interval_wait(zk_interval *interval);

ZK_END
#endif
