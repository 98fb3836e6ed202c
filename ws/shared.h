/*
 * A frame that many sockets send: made once, on any worker, freed by the last.
 */
#ifndef ZOKIO_WS_SHARED_H
#define ZOKIO_WS_SHARED_H

#include <stdatomic.h>

#include <zokio/ws.h>

typedef struct zk__ws_shared {
    atomic_uint refs;
    size_t size;
    char bytes[];
} zk__ws_shared;

/* Unmasked. first: the first byte of the frame. returns NULL: no memory. */
zk__ws_shared *zk__ws_shared_new(uint8_t first, const void *data, size_t size);

static inline zk__ws_shared *zk__ws_shared_ref(zk__ws_shared *shared)
{
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
    return shared;
}

static inline void zk__ws_shared_unref(zk__ws_shared *shared)
{
    if (atomic_fetch_sub_explicit(&shared->refs, 1, memory_order_acq_rel) == 1) zk_free(shared);
}

/* Queues it for a socket of this worker. A queue that is full loses its oldest messages, or breaks
 * the connection, as the socket's policy says. */
void zk__ws_put_shared(zk_ws *ws, zk__ws_shared *shared);

/* The same, but what can be sent now is. For who has one frame for a great many: nothing else is
 * likely to go with it, and queues for all of them would not fit the cache. */
void zk__ws_send_shared(zk_ws *ws, zk__ws_shared *shared);

/* The socket's subscriptions end; see hub.c. */
void zk__ws_unsubscribe_all(zk_ws *ws);

#endif
