/*
 * What a kind of case provides to zk_select: see select.c for when each is called.
 */
#ifndef ZOKIO_CORE_SELECT_H
#define ZOKIO_CORE_SELECT_H

#include <zokio/select.h>

#include "core/waiter.h"

/* A case's place in a select that waits. */
typedef struct zk__slot {
    zk__waiter waiter;
    zk__timer timer;
    zk__guard *sorted; /* the i-th of the select's guards */
} zk__slot;

struct zk__case_ops {
    const char *name;
    /* The guard under which the others are called; NULL: it is about what the worker owns. */
    zk__guard *(*guard)(const zk_case *c);
    /* Commits if that is possible now. returns 0, its error, -EAGAIN. */
    int (*poll)(zk_case *c);
    /* As poll, or else sees to it that the waiter is claimed and woken. */
    int (*enqueue)(zk_case *c, zk__slot *slot);
    /* Takes that back, if it has not happened. */
    void (*dequeue)(zk_case *c, zk__slot *slot);
    bool only_enqueue_tells; /* poll does not know */
};

/* Claims the waiter for what is ready now, and wakes it; nothing if another case was first. */
static inline void zk__waiter_give(zk__waiter *waiter, ssize_t result)
{
    if (zk__waiter_claim(waiter)) zk__waiter_wake(waiter, result);
}

#endif
