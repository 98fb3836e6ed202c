/*
 * Iterators: the functions that all share, and those that have no source.
 *
 * A generator's producer is a task in a scope of its own, which hangs in the scope that the
 * iterator was made in. Producer and consumer meet in one place:
 *
 *   consumer  zk_iter_next: says where the item is to go (slot), wakes the producer, waits
 *   producer  zk_emit: waits until there is a slot, fills it, wakes the consumer, goes on
 *
 * Both are on one worker, so this needs no guard. A consumer that is cancelled takes its slot away,
 * and the producer keeps its item until it is asked for again.
 */
#include "core/iter.h"

#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "core/guard.h"

int zk__iter_new(const struct zk__iter_ops *ops, size_t bytes, size_t item_bytes,
                 zk_iter **ret_iter)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (!item_bytes) return -EINVAL;
    zk_iter *iter = zk_alloc_zeroed(bytes);
    if (!iter) return -ENOMEM;
    *iter = (zk_iter){.ops = ops, .worker = zk__worker_self(), .item_bytes = item_bytes};
    zk__bind_to_worker();
    zk__leak_name(iter, "iterator", -1);
    *ret_iter = iter;
    return 0;
}

void zk__iter_scope_begin(zk_scope *scope)
{
    zk_scope *around = zk__lane.current->scope;
    zk__scope_root_init(scope, around, zk__worker_self());
    scope->owner = zk__lane.current;
    scope->bindings = around->bindings;
    scope->reason = around->reason ? -ECANCELED : 0;
    scope->flags = around->flags & ZK__SCOPE_BOUND;
}

void zk__iter_scope_end(zk_scope *scope)
{
    zk__scope_cancel_as(scope, -ECANCELED);
    (void)zk_scope_wait(scope);
    zk__scope_unlink(scope);
    if (scope->trail) zk_free(scope->trail);
}

int zk_iter_next(zk_iter *iter, void *ret_item)
{
    if (ZK_UNLIKELY(iter->worker != zk__worker_self())) return ZK_E_WORKER;
    return iter->ops->next(iter, ret_item);
}

size_t zk_iter_item_bytes(const zk_iter *iter) { return iter->item_bytes; }

void zk_iter_close(zk_iter *iter)
{
    while (iter) {
        zk_iter *source = iter->source;
        if (iter->worker != zk__worker_self()) zk__panic("zk_iter_close on another worker");
        if (iter->ops->close) iter->ops->close(iter);
        zk_free(iter);
        iter = source;
    }
}

/* Makes room for one more. returns 0, -ENOMEM. */
static int items_grow(void **items, size_t item_bytes, size_t count, size_t *capacity)
{
    if (count < *capacity) return 0;
    size_t more = *capacity ? 2 * *capacity : 16, bytes;
    if (__builtin_mul_overflow(more, item_bytes, &bytes)) return -ENOMEM;
    void *grown = zk_alloc(bytes);
    if (!grown) return -ENOMEM;
    if (count) memcpy(grown, *items, count * item_bytes);
    zk_free(*items);
    *items = grown;
    *capacity = more;
    return 0;
}

int zk_iter_collect(zk_iter *iter, size_t count_max, void **ret_items, size_t *ret_count)
{
    void *items = NULL, *item = zk_alloc(iter->item_bytes);
    if (!item) return -ENOMEM;
    size_t count = 0, capacity = 0;
    int rc;
    while ((rc = zk_iter_next(iter, item)) > 0) {
        rc =
            count < count_max ? items_grow(&items, iter->item_bytes, count, &capacity) : ZK_E_LIMIT;
        if (rc < 0) break;
        memcpy((char *)items + count++ * iter->item_bytes, item, iter->item_bytes);
    }
    zk_free(item);
    if (rc < 0) {
        zk_free(items);
        return rc;
    }
    *ret_items = items;
    *ret_count = count;
    return 0;
}

/* ---- generators ---- */

struct zk_emitter {
    zk_iter head; /* first */
    zk_scope scope;
    zk_producer *producer;
    void *arg;
    void *slot;         /* where the consumer wants the next item; NULL: it has not asked */
    zk__wait *consumer; /* waits for it */
    zk__wait *waiting;  /* the producer, which has an item that nobody has asked for */
    bool is_started, is_over;
    int rc;           /* how it ended */
    zk_task trail_of; /* carries the trail of that */
};

typedef struct meeting {
    zk__wait wait; /* first */
    zk_emitter *emitter;
} meeting;

static void wake(zk__wait **wait, ssize_t result)
{
    zk__wait *w = *wait;
    if (!w) return;
    *wait = NULL;
    zk__wait_end(w, result);
}

static void emit_cancel(zk__wait *wait)
{
    ((meeting *)(void *)wait)->emitter->waiting = NULL;
    zk__wait_end(wait, -ECANCELED);
}

int zk_emit(zk_emitter *out, const void *item)
{
    static const zk__wait_kind kind = {.name = "emit", .is_by_tasks = true};
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    /* Whoever asked may have been cancelled by the time that this runs. */
    while (!out->slot) {
        meeting m = {.wait.cancel = emit_cancel, .wait.kind = &kind, .emitter = out};
        out->waiting = &m.wait;
        rc = (int)zk__wait_for(&m.wait);
        if (rc == 0) rc = zk__wait_begin();
        if (rc < 0) return rc;
    }
    memcpy(out->slot, item, out->head.item_bytes);
    out->slot = NULL;
    wake(&out->consumer, 1);
    return 0;
}

static int produce(void *arg)
{
    zk_emitter *e = arg;
    int rc = e->producer(e, e->arg);
    zk_task *me = zk__lane.current;
    e->rc = rc < 0 ? rc : 0;
    if (rc < 0 && me->flags & ZK__TASK_TRAIL) {
        e->trail_of.flags |= ZK__TASK_TRAIL;
        e->trail_of.trail = me->trail;
        me->flags &= (uint8_t)~ZK__TASK_TRAIL;
    }
    e->is_over = true;
    e->slot = NULL;
    wake(&e->consumer, 0);
    return 0;
}

static void next_cancel(zk__wait *wait)
{
    zk_emitter *e = ((meeting *)(void *)wait)->emitter;
    e->consumer = NULL;
    e->slot = NULL;
    zk__wait_end(wait, -ECANCELED);
}

static int generator_end(zk_emitter *e)
{
    if (e->trail_of.flags & ZK__TASK_TRAIL) zk__trail_take(&e->trail_of, zk__lane.current);
    return e->rc;
}

static int generator_next(zk_iter *iter, void *ret_item)
{
    static const zk__wait_kind kind = {.name = "next item", .is_by_tasks = true};
    static const zk_site site = {"(producer)", "", 0};
    zk_emitter *e = (zk_emitter *)(void *)iter;
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    if (e->is_over) return generator_end(e);
    if (!e->is_started) {
        rc = zk__spawn_pinned(&e->scope, produce, e, &site);
        if (rc < 0) return rc;
        e->is_started = true;
    }
    meeting m = {.wait.cancel = next_cancel, .wait.kind = &kind, .emitter = e};
    e->slot = ret_item;
    e->consumer = &m.wait;
    wake(&e->waiting, 0);
    rc = (int)zk__wait_for(&m.wait);
    return rc == 0 ? generator_end(e) : rc;
}

static void generator_close(zk_iter *iter)
{
    zk_emitter *e = (zk_emitter *)(void *)iter;
    zk__iter_scope_end(&e->scope);
    zk__trail_drop(&e->trail_of);
}

int zk_iter_generate(size_t item_bytes, zk_producer *producer, void *arg, zk_iter **ret_iter)
{
    static const struct zk__iter_ops ops = {"generator", generator_next, generator_close};
    zk_iter *iter;
    int rc = zk__iter_new(&ops, sizeof(zk_emitter), item_bytes, &iter);
    if (rc < 0) return rc;
    zk_emitter *e = (zk_emitter *)(void *)iter;
    e->producer = producer;
    e->arg = arg;
    zk__iter_scope_begin(&e->scope);
    *ret_iter = iter;
    return 0;
}

/* ---- arrays and channels ---- */

typedef struct array_iter {
    zk_iter head;
    const char *next;
    size_t left;
} array_iter;

static int array_next(zk_iter *iter, void *ret_item)
{
    array_iter *a = (array_iter *)(void *)iter;
    int rc = zk__spend();
    if (rc < 0) return rc;
    if (!a->left) return 0;
    memcpy(ret_item, a->next, iter->item_bytes);
    a->next += iter->item_bytes;
    a->left--;
    return 1;
}

int zk_iter_from_array(const void *items, size_t item_bytes, size_t count, zk_iter **ret_iter)
{
    static const struct zk__iter_ops ops = {"array", array_next, NULL};
    int rc = zk__iter_new(&ops, sizeof(array_iter), item_bytes, ret_iter);
    if (rc < 0) return rc;
    array_iter *a = (array_iter *)(void *)*ret_iter;
    a->next = items;
    a->left = count;
    return 0;
}

typedef struct channel_iter {
    zk_iter head;
    zk_channel *channel;
} channel_iter;

static int channel_next(zk_iter *iter, void *ret_item)
{
    int rc = zk_channel_recv(((channel_iter *)(void *)iter)->channel, ret_item);
    return rc == ZK_E_CLOSED ? 0 : rc < 0 ? rc : 1;
}

int zk_iter_from_channel(zk_channel *channel, zk_iter **ret_iter)
{
    static const struct zk__iter_ops ops = {"channel", channel_next, NULL};
    int rc = zk__iter_new(&ops, sizeof(channel_iter), zk_channel_item_bytes(channel), ret_iter);
    if (rc < 0) return rc;
    ((channel_iter *)(void *)*ret_iter)->channel = channel;
    return 0;
}
