/*
 * Channels: a ring of items, and two lines of who waits: receivers while the channel is empty,
 * senders while it is full (a rendezvous is always both).
 *
 * Who comes meets the first of the other side, if there is one, and hands the item over directly:
 * into the receiver's variable, or out of the sender's into the place that the caller has just made
 * in the ring. So the order of the items is that of the sends, and nobody is overtaken.
 */
#include <errno.h>

#include "core/budget.h"
#include "core/channel.h"
#include "core/select.h"

int zk_channel_new(size_t item_bytes, size_t capacity, zk_channel **ret_channel)
{
    size_t bytes;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (!item_bytes || __builtin_mul_overflow(item_bytes, capacity, &bytes) ||
        bytes > PTRDIFF_MAX - sizeof(zk_channel)) {
        return -EINVAL;
    }
    zk_channel *c = zk_alloc(sizeof *c + bytes);
    if (!c) return -ENOMEM;
    *c = (zk_channel){.item_bytes = item_bytes, .capacity = capacity, .is_quick = item_bytes == 8};
    zk__leak_name(c, "channel", -1);
    *ret_channel = c;
    return 0;
}

void zk_channel_free(zk_channel *channel) { zk_free(channel); }

/*
 * Optimised across files these functions would be inlined where the item is known to be smaller
 * than 8 bytes, and the compiler would warn of a copy that never happens.
 */
#define APART __attribute__((noinline))

/* The guard is held. returns 0, -EAGAIN, ZK_E_CLOSED. */
static inline int send_now(zk_channel *c, const void *item)
{
    c->sender = zk__lane.current->site;
    if (ZK_UNLIKELY(c->is_closed)) return ZK_E_CLOSED;
    zk__waiter *receiver = zk__line_take(&c->receivers);
    if (receiver) {
        zk__item_copy(receiver->data, item, c->item_bytes);
        zk__waiter_wake(receiver, 0);
        return 0;
    }
    if (c->count == c->capacity) return -EAGAIN;
    zk__channel_push(c, item, c->item_bytes);
    return 0;
}

static inline int recv_now(zk_channel *c, void *ret_item)
{
    c->receiver = zk__lane.current->site;
    if (c->count) {
        zk__channel_pop(c, ret_item, c->item_bytes);
        zk__waiter *sender = zk__line_take(&c->senders);
        if (sender) {
            zk__channel_push(c, sender->data, c->item_bytes);
            zk__waiter_wake(sender, 0);
        }
        return 0;
    }
    zk__waiter *sender = zk__line_take(&c->senders);
    if (sender) {
        zk__item_copy(ret_item, sender->data, c->item_bytes);
        zk__waiter_wake(sender, 0);
        return 0;
    }
    return c->is_closed ? ZK_E_CLOSED : -EAGAIN;
}

/* The channel's state, and who is at the other end. */
static void describe(zk_channel *c, bool is_receiving, zk__wait_detail *detail)
{
    zk__guard_enter(&c->guard);
    size_t count = c->count;
    const zk_site *other = is_receiving ? c->sender : c->receiver;
    zk__guard_leave(&c->guard);
    const char *end = is_receiving ? "sender" : "receiver";
    if (c->capacity) {
        zk__detail_add(detail, "%zu of %zu items, ", count, c->capacity);
    } else {
        zk__detail_add(detail, "rendezvous, ");
    }
    zk__detail_add(detail, other ? "last %s " : "no %s yet", end);
    if (other) zk__detail_add_site(detail, other);
}

static zk_channel *channel_of(const zk__wait *wait)
{
    return (zk_channel *)(void *)zk__guard_waited_for(wait);
}

static void receiving_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    describe(channel_of(wait), true, detail);
}

static void sending_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    describe(channel_of(wait), false, detail);
}

static const zk__wait_kind receiving = {
    .name = "channel receive", .is_by_tasks = true, .describe = receiving_describe};
static const zk__wait_kind sending = {
    .name = "channel send", .is_by_tasks = true, .describe = sending_describe};

/* Any way. */
static __attribute__((noinline)) int send_slow(zk_channel *c, const void *item)
{
    int rc = zk__spend();
    if (ZK_UNLIKELY(rc < 0)) return rc;
    zk__guard_enter(&c->guard);
    rc = send_now(c, item);
    if (rc == -EAGAIN) return zk__line_wait(&c->guard, &c->senders, (void *)item, &sending);
    zk__guard_leave(&c->guard);
    return rc;
}

static __attribute__((noinline)) int recv_slow(zk_channel *c, void *ret_item)
{
    int rc = zk__spend();
    if (ZK_UNLIKELY(rc < 0)) return rc;
    zk__guard_enter(&c->guard);
    rc = recv_now(c, ret_item);
    if (rc == -EAGAIN) return zk__line_wait(&c->guard, &c->receivers, ret_item, &receiving);
    zk__guard_leave(&c->guard);
    return rc;
}

APART int zk_channel_send(zk_channel *channel, const void *item)
{
    zk_channel *c = channel;
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(!w || !zk__guard_own(w, &c->guard))) return send_slow(c, item);
    if (ZK_UNLIKELY(!c->is_quick || !zk__spend_quickly(w))) {
        zk__guard_disown(&c->guard);
        return send_slow(c, item);
    }
    int rc = zk__channel_send_quickly(w, c, item);
    if (ZK_LIKELY(!rc)) return 0;
    if (ZK_UNLIKELY(rc > 0 || !w->loop_count)) {
        if (rc < 0) zk__guard_disown(&c->guard);
        return send_slow(c, item);
    }
    return zk__line_wait(&c->guard, &c->senders, (void *)item, &sending);
}

APART int zk_channel_recv(zk_channel *channel, void *ret_item)
{
    zk_channel *c = channel;
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(!w || !zk__guard_own(w, &c->guard))) return recv_slow(c, ret_item);
    if (ZK_UNLIKELY(c->item_bytes != 8 || !zk__spend_quickly(w))) {
        zk__guard_disown(&c->guard);
        return recv_slow(c, ret_item);
    }
    int rc = zk__channel_recv_quickly(w, c, ret_item);
    if (ZK_LIKELY(!rc)) return 0;
    if (ZK_UNLIKELY(rc > 0 || !w->loop_count)) {
        if (rc < 0) zk__guard_disown(&c->guard);
        return recv_slow(c, ret_item);
    }
    return zk__line_wait(&c->guard, &c->receivers, ret_item, &receiving);
}

APART int zk_channel_try_send(zk_channel *channel, const void *item)
{
    zk__guard_enter(&channel->guard);
    int rc = send_now(channel, item);
    zk__guard_leave(&channel->guard);
    return rc;
}

APART int zk_channel_try_recv(zk_channel *channel, void *ret_item)
{
    zk__guard_enter(&channel->guard);
    int rc = recv_now(channel, ret_item);
    zk__guard_leave(&channel->guard);
    return rc;
}

void zk_channel_close(zk_channel *channel)
{
    zk__guard_enter(&channel->guard);
    channel->is_closed = true;
    channel->is_quick = false;
    zk__line_wake_all(&channel->receivers, ZK_E_CLOSED);
    zk__line_wake_all(&channel->senders, ZK_E_CLOSED);
    zk__guard_leave(&channel->guard);
}

size_t zk_channel_count(zk_channel *channel)
{
    zk__guard_enter(&channel->guard);
    size_t count = channel->count;
    zk__guard_leave(&channel->guard);
    return count;
}

size_t zk_channel_item_bytes(const zk_channel *channel) { return channel->item_bytes; }

/* ---- as cases of a select ---- */

static int recv_poll(zk_case *c) { return recv_now(c->object, c->data); }
static int send_poll(zk_case *c) { return send_now(c->object, c->data); }

static int enqueue(zk_case *c, zk__place *place, zk__line *line)
{
    place->waiter.data = c->data;
    place->line = line;
    zk__line_add(line, &place->waiter);
    return -EAGAIN;
}

static int recv_enqueue(zk_case *c, zk__place *place)
{
    return enqueue(c, place, &((zk_channel *)c->object)->receivers);
}

static int send_enqueue(zk_case *c, zk__place *place)
{
    return enqueue(c, place, &((zk_channel *)c->object)->senders);
}

static void recv_describe(const zk_case *c, zk__wait_detail *detail)
{
    describe(c->object, true, detail);
}

static void send_describe(const zk_case *c, zk__wait_detail *detail)
{
    describe(c->object, false, detail);
}

const struct zk__case_ops zk__case_recv = {
    .name = "receive",
    .quick = ZK__QUICK_RECV,
    .is_guarded = true,
    .poll = recv_poll,
    .enqueue = recv_enqueue,
    .describe = recv_describe,
};
const struct zk__case_ops zk__case_send = {
    .name = "send",
    .quick = ZK__QUICK_SEND,
    .is_guarded = true,
    .poll = send_poll,
    .enqueue = send_enqueue,
    .describe = send_describe,
};
