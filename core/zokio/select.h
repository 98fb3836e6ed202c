/*
 * Select: waits for the first of several things, and does exactly that one.
 *
 *     int got = zk_select({ZK_RECV(jobs, &job)}, {ZK_AWAIT(&shutdown)}, {ZK_AFTER(ZK_SEC(1))});
 *
 * gives 0 when a job has been received, 1 when the future has finished, 2 after a second. A case
 * that was not chosen has had no effect: no item was taken or sent, no byte read, and a future goes
 * on running.
 */
#ifndef ZOKIO_SELECT_H
#define ZOKIO_SELECT_H

#include <zokio/channel.h>
#include <zokio/task.h>

ZK_BEGIN

/** One of the things that a select waits for. Made by the macros below. */
typedef struct zk_case {
    const struct zk__case_ops *ops;
    void *object;
    void *data;  /* an item, a span of time */
    int *ret_rc; /* where the chosen case's error goes; NULL: zk_select returns it */
} zk_case;

extern ZK_API const struct zk__case_ops zk__case_recv;
extern ZK_API const struct zk__case_ops zk__case_send;
extern ZK_API const struct zk__case_ops zk__case_await;
extern ZK_API const struct zk__case_ops zk__case_after;
extern ZK_API const struct zk__case_ops zk__case_cancel;
extern ZK_API const struct zk__case_ops zk__case_default;

/**
 * Receives an item from a channel. Chosen also when the channel is closed and empty: then zk_select
 * returns ZK_E_CLOSED, or stores it where a third argument, an `int *`, points to (which gets 0
 * otherwise).
 */
#define ZK_RECV(channel, ...) ZK__ITEM(&zk__case_recv, channel, __VA_ARGS__, NULL, NULL)
/** Sends a copy of an item to a channel. Closed channels as with ZK_RECV. */
#define ZK_SEND(channel, ...) ZK__ITEM(&zk__case_send, channel, __VA_ARGS__, NULL, NULL)
#define ZK__ITEM(ops, channel, item, ret_rc, ...) ops, (channel), (void *)(item), (ret_rc)
/** A future has finished; zk_await then gives its result at once. */
#define ZK_AWAIT(future) &zk__case_await, (future), NULL, NULL
/** A span of time has passed. */
#define ZK_AFTER(span) &zk__case_after, NULL, (void *)(intptr_t)(zk_time)(span), NULL
/** The current scope is cancelled; without such a case zk_select returns -ECANCELED then. */
#define ZK_CANCEL() &zk__case_cancel, NULL, NULL, NULL
/** None of the others is ready now: the select does not wait. */
#define ZK_DEFAULT() &zk__case_default, NULL, NULL, NULL

/**
 * Waits until one of the cases is ready, and commits that one. Of several that are ready each has
 * its turn. The futures and streams among the cases must be the caller's own, as ever; channels may
 * be shared across workers. Suspends sometimes.
 *
 * @param cases  their records are used while this runs; `count` at least 1
 * @return the index of the case that was committed; its error, if it has one and nowhere else to
 *         put it; -ECANCELED, -ETIMEDOUT: no case was committed; -ENOMEM; -EINVAL (no cases)
 */
ZK_API int zk_select_cases(zk_case *cases, size_t count);

/** As zk_select_cases, but of several that are ready the first one listed is taken. */
ZK_API int zk_select_cases_ordered(zk_case *cases, size_t count);

#define ZK__CASES(...) (zk_case[]){__VA_ARGS__}, sizeof((zk_case[]){__VA_ARGS__}) / sizeof(zk_case)

/** zk_select_cases of the cases listed: `zk_select({ZK_RECV(a, &x)}, {ZK_SEND(b, &y)})`. */
#define zk_select(...) zk_select_cases(ZK__CASES(__VA_ARGS__))
/** zk_select_cases_ordered of the cases listed. */
#define zk_select_ordered(...) zk_select_cases_ordered(ZK__CASES(__VA_ARGS__))

ZK_END
#endif
