/*
 * A channel's fields, and its usual ways: the channel is this worker's (its guard is biased to it),
 * its items have 8 bytes, and there is nothing unusual about who is at the other end. These are
 * inlined where a channel is used; they call nothing, so what begins with them needs no frame.
 * Everything else is channel.c's.
 */
#ifndef ZOKIO_CORE_CHANNEL_H
#define ZOKIO_CORE_CHANNEL_H

#include <string.h>

#include <zokio/channel.h>

#include "core/waiter.h"

struct zk_channel {
    zk__guard guard;
    zk__line receivers, senders;
    size_t item_bytes, capacity;
    size_t first, count; /* in the ring */
    /* Of the tasks that have sent and received last, or tried to; for dumps. Not the tasks, which
     * may be over. NULL: nobody has. */
    const zk_site *sender, *receiver;
    bool is_closed;
    bool is_quick; /* open, and its items have 8 bytes */
    _Alignas(void *) char items[];
};

enum { ZK__CHANNEL_UNUSUAL = 1 }; /* nothing has happened */

/* Items are mostly pointers, and sometimes pairs of them. */
static inline void zk__item_copy(void *to, const void *from, size_t bytes)
{
    if (ZK_LIKELY(bytes == 8)) {
        memcpy(to, from, 8);
    } else {
        memcpy(to, from, bytes);
    }
}

/* bytes: c->item_bytes. */
static inline void zk__channel_push(zk_channel *c, const void *item, size_t bytes)
{
    size_t index = c->first + c->count++;
    if (index >= c->capacity) index -= c->capacity;
    zk__item_copy(c->items + index * bytes, item, bytes);
}

static inline void zk__channel_pop(zk_channel *c, void *ret_item, size_t bytes)
{
    zk__item_copy(ret_item, c->items + c->first * bytes, bytes);
    if (++c->first == c->capacity) c->first = 0;
    c->count--;
}

/* The guard is owned, and left unless the outcome is -EAGAIN. returns 0, -EAGAIN,
 * ZK__CHANNEL_UNUSUAL. */
static inline int zk__channel_send_quickly(zk__worker *w, zk_channel *c, const void *item)
{
    int rc = 0;
    c->sender = zk__lane.current->site;
    if (c->receivers.first) {
        zk__waiter *receiver = zk__line_take_quickly(w, &c->receivers);
        if (ZK_LIKELY(receiver != NULL)) {
            memcpy(receiver->data, item, 8);
            zk__waiter_wake_quickly(w, receiver);
        } else {
            rc = ZK__CHANNEL_UNUSUAL;
        }
    } else if (c->count < c->capacity) {
        zk__channel_push(c, item, 8);
    } else {
        return -EAGAIN;
    }
    zk__guard_disown(&c->guard);
    return rc;
}

static inline int zk__channel_recv_quickly(zk__worker *w, zk_channel *c, void *ret_item)
{
    int rc = 0;
    c->receiver = zk__lane.current->site;
    if (c->count) {
        if (ZK_LIKELY(!c->senders.first)) {
            zk__channel_pop(c, ret_item, 8);
        } else {
            rc = ZK__CHANNEL_UNUSUAL;
        }
    } else if (c->senders.first) {
        zk__waiter *sender = zk__line_take_quickly(w, &c->senders);
        if (ZK_LIKELY(sender != NULL)) {
            memcpy(ret_item, sender->data, 8);
            zk__waiter_wake_quickly(w, sender);
        } else {
            rc = ZK__CHANNEL_UNUSUAL;
        }
    } else if (ZK_LIKELY(!c->is_closed)) {
        return -EAGAIN;
    } else {
        rc = ZK__CHANNEL_UNUSUAL;
    }
    zk__guard_disown(&c->guard);
    return rc;
}

#endif
