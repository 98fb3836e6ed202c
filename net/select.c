/*
 * Streams as cases of zk_select: ready when there is something to read.
 */
#include <errno.h>

#include <zokio/stream.h>

#include "core/select.h"

static int readable_poll(zk_case *c)
{
    (void)c;
    return -EAGAIN; /* only parking tells */
}

static void on_ready(void *context) { zk__waiter_give(context, 0); }

static int readable_enqueue(zk_case *c, zk__place *place)
{
    int rc = zk_stream_park(c->object, on_ready, &place->waiter);
    return rc > 0 ? 0 : rc == 0 ? -EAGAIN : rc;
}

static void readable_dequeue(zk_case *c, zk__place *place)
{
    (void)place;
    zk_stream_unpark(c->object);
}

const struct zk__case_ops zk__case_readable = {
    .name = "readable",
    .quick = ZK__QUICK_NEVER,
    .only_enqueue_tells = true,
    .poll = readable_poll,
    .enqueue = readable_enqueue,
    .dequeue = readable_dequeue,
};
