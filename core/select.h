/*
 * What a kind of case provides to zk_select: see select.c for when each is called.
 */
#ifndef ZOKIO_CORE_SELECT_H
#define ZOKIO_CORE_SELECT_H

#include <zokio/select.h>

#include "core/waiter.h"

/* A case's place in a select that waits. */
typedef struct zk__place {
    zk__waiter waiter;
    zk__line *line; /* NULL, or where enqueue has put the waiter */
    zk__timer timer;
    zk__guard *sorted; /* the i-th of the select's guards */
} zk__place;

/* How a case is tried without calling anything; see select.c. */
enum zk__case_quick {
    ZK__QUICK_NOT, /* by `poll` */
    ZK__QUICK_RECV,
    ZK__QUICK_SEND,
    ZK__QUICK_AWAIT,
    ZK__QUICK_AFTER,
    ZK__QUICK_NEVER, /* it is not ready before it is waited for */
};

struct zk__case_ops {
    const char *name;
    enum zk__case_quick quick;
    /* The object begins with its guard, under which the others are called; else it is the worker's
     * own. */
    bool is_guarded;
    bool only_enqueue_tells; /* poll does not know */
    /* Commits if that is possible now. returns 0, its error, -EAGAIN. */
    int (*poll)(zk_case *c);
    /* Sees to it that the waiter is claimed and woken. returns -EAGAIN; or as poll, where that did
     * not tell. */
    int (*enqueue)(zk_case *c, zk__place *place);
    /* Takes that back, if it has not happened. NULL: leaving the place's line is all. */
    void (*dequeue)(zk_case *c, zk__place *place);
    /* NULL, or as a zk__wait_kind's. The guard is not held. */
    void (*describe)(const zk_case *c, zk__wait_detail *detail);
};

/* Claims the waiter for what is ready now, and wakes it; nothing if another case was first. */
static inline void zk__waiter_give(zk__waiter *waiter, ssize_t result)
{
    if (zk__waiter_claim(waiter)) zk__waiter_wake(waiter, result);
}

#endif
