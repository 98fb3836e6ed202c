/*
 * Broadcast: a ring of the last items, numbered from 0, and a line of subscribers that have
 * received all of them. A subscriber is a number: that of the item it receives next.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <zokio/channel.h>

#include "core/budget.h"
#include "core/waiter.h"

struct zk_broadcast {
    zk__guard guard;
    zk__line line; /* those who wait want the item `sent` */
    size_t item_bytes, capacity;
    uint64_t sent;         /* items, ever */
    const zk_site *sender; /* of the task that has sent last, which may be over; for dumps */
    bool is_closed;
    char items[];
};

int zk_broadcast_new(size_t item_bytes, size_t capacity, zk_broadcast **ret_broadcast)
{
    size_t bytes;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (!item_bytes || !capacity || __builtin_mul_overflow(item_bytes, capacity, &bytes) ||
        bytes > PTRDIFF_MAX - sizeof(zk_broadcast)) {
        return -EINVAL;
    }
    zk_broadcast *b = zk_alloc(sizeof *b + bytes);
    if (!b) return -ENOMEM;
    *b = (zk_broadcast){.item_bytes = item_bytes, .capacity = capacity};
    *ret_broadcast = b;
    return 0;
}

void zk_broadcast_free(zk_broadcast *broadcast) { zk_free(broadcast); }

static void *slot(zk_broadcast *b, uint64_t number)
{
    return b->items + number % b->capacity * b->item_bytes;
}

void zk_broadcast_subscribe(zk_broadcast *broadcast, zk_subscription *subscription)
{
    zk__guard_enter(&broadcast->guard);
    *subscription = (zk_subscription){.broadcast = broadcast, .next = broadcast->sent};
    zk__guard_leave(&broadcast->guard);
}

int zk_broadcast_send(zk_broadcast *broadcast, const void *item)
{
    zk__guard_enter(&broadcast->guard);
    bool is_closed = broadcast->is_closed;
    broadcast->sender = zk__lane.current->site;
    if (!is_closed) {
        memcpy(slot(broadcast, broadcast->sent++), item, broadcast->item_bytes);
        zk__line_wake_all(&broadcast->line, 0);
    }
    zk__guard_leave(&broadcast->guard);
    return is_closed ? ZK_E_CLOSED : 0;
}

/* The guard is held. returns 0, -EAGAIN, ZK_E_CLOSED. */
static int recv_now(zk_subscription *s, void *ret_item, uint64_t *ret_missed)
{
    zk_broadcast *b = s->broadcast;
    if (s->next == b->sent) return b->is_closed ? ZK_E_CLOSED : -EAGAIN;
    uint64_t oldest = b->sent > b->capacity ? b->sent - b->capacity : 0;
    uint64_t missed = s->next < oldest ? oldest - s->next : 0;
    s->next += missed;
    memcpy(ret_item, slot(b, s->next++), b->item_bytes);
    if (ret_missed) *ret_missed = missed;
    return 0;
}

static void describe(const zk__wait *wait, zk__wait_detail *detail)
{
    zk_broadcast *b = (zk_broadcast *)(void *)zk__guard_waited_for(wait);
    zk__guard_enter(&b->guard);
    uint64_t sent = b->sent;
    const zk_site *sender = b->sender;
    zk__guard_leave(&b->guard);
    zk__detail_add(detail, "%" PRIu64 " sent, %s", sent, sender ? "last sender " : "no sender yet");
    if (sender) zk__detail_add_site(detail, sender);
}

int zk_broadcast_recv(zk_subscription *subscription, void *ret_item, uint64_t *ret_missed)
{
    static const zk__wait_kind kind = {
        .name = "broadcast receive", .is_by_tasks = true, .describe = describe};
    zk_broadcast *b = subscription->broadcast;
    for (;;) {
        int rc = zk__spend();
        if (rc < 0) return rc;
        zk__guard_enter(&b->guard);
        rc = recv_now(subscription, ret_item, ret_missed);
        if (rc != -EAGAIN) {
            zk__guard_leave(&b->guard);
            return rc;
        }
        rc = zk__line_wait(&b->guard, &b->line, NULL, &kind);
        if (rc < 0) return rc;
    }
}

void zk_broadcast_close(zk_broadcast *broadcast)
{
    zk__guard_enter(&broadcast->guard);
    broadcast->is_closed = true;
    zk__line_wake_all(&broadcast->line, 0); /* they look again */
    zk__guard_leave(&broadcast->guard);
}
