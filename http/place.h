/*
 * A place for one task that waits for something to happen: who makes it happen takes the wait from
 * there and ends it. A wait that is cancelled leaves the place empty.
 */
#ifndef ZOKIO_HTTP_PLACE_H
#define ZOKIO_HTTP_PLACE_H

#include <errno.h>

#include "core/worker.h"

typedef struct zk__place_waiting {
    zk__wait wait;
    zk__wait **place;
} zk__place_waiting;

static inline void zk__place_cancel(zk__wait *wait)
{
    *((zk__place_waiting *)(void *)wait)->place = NULL;
    zk__wait_end(wait, -ECANCELED);
}

/* returns what the wait is ended with; -ECANCELED, -ETIMEDOUT, -ENOMEM. */
static inline int zk__place_wait(zk__wait **place, const zk__wait_kind *kind)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    zk__place_waiting w = {.wait = {.cancel = zk__place_cancel, .kind = kind}, .place = place};
    *place = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

/* Whoever is there goes on. */
static inline void zk__place_wake(zk__wait **place)
{
    zk__wait *wait = *place;
    *place = NULL;
    if (wait) zk__wait_end(wait, 0);
}

#endif
