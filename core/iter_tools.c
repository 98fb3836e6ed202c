/*
 * Iterators over iterators. Map, filter, take, throttle and chunk are asked and ask their source;
 * buffer and merge have tasks that pump the items of their sources into a channel.
 */
#include <errno.h>
#include <string.h>

#include "core/iter.h"

/* Puts a new iterator of `bytes` in front of *iter. returns as zk__iter_new. */
static int wrap(const struct zk__iter_ops *ops, size_t bytes, size_t item_bytes, zk_iter **iter)
{
    zk_iter *outer;
    int rc = zk__iter_new(ops, bytes, item_bytes, &outer);
    if (rc < 0) return rc;
    outer->source = *iter;
    *iter = outer;
    return 0;
}

/* ---- map ---- */

typedef struct map_iter {
    zk_iter head;
    int (*fn)(const void *item, void *ret_item, void *arg);
    void *arg;
    int rc; /* an error of fn */
    _Alignas(16) char item[];
} map_iter;

static int map_next(zk_iter *iter, void *ret_item)
{
    map_iter *m = (map_iter *)(void *)iter;
    if (m->rc < 0) return m->rc;
    int rc = zk_iter_next(iter->source, m->item);
    if (rc <= 0) return rc;
    m->rc = m->fn(m->item, ret_item, m->arg);
    return m->rc < 0 ? m->rc : 1;
}

int zk_iter_map(zk_iter **iter, size_t item_bytes,
                int (*fn)(const void *item, void *ret_item, void *arg), void *arg)
{
    static const struct zk__iter_ops ops = {"map", map_next, NULL};
    int rc = wrap(&ops, sizeof(map_iter) + (*iter)->item_bytes, item_bytes, iter);
    if (rc < 0) return rc;
    ((map_iter *)(void *)*iter)->fn = fn;
    ((map_iter *)(void *)*iter)->arg = arg;
    return 0;
}

/* ---- filter ---- */

typedef struct filter_iter {
    zk_iter head;
    int (*fn)(const void *item, void *arg);
    void *arg;
    int rc; /* an error of fn */
    _Alignas(16) char item[];
} filter_iter;

static int filter_next(zk_iter *iter, void *ret_item)
{
    filter_iter *f = (filter_iter *)(void *)iter;
    while (f->rc >= 0) {
        int rc = zk_iter_next(iter->source, f->item);
        if (rc <= 0) return rc;
        f->rc = f->fn(f->item, f->arg);
        if (f->rc <= 0) continue;
        memcpy(ret_item, f->item, iter->item_bytes);
        return 1;
    }
    return f->rc;
}

int zk_iter_filter(zk_iter **iter, int (*fn)(const void *item, void *arg), void *arg)
{
    static const struct zk__iter_ops ops = {"filter", filter_next, NULL};
    size_t item_bytes = (*iter)->item_bytes;
    int rc = wrap(&ops, sizeof(filter_iter) + item_bytes, item_bytes, iter);
    if (rc < 0) return rc;
    ((filter_iter *)(void *)*iter)->fn = fn;
    ((filter_iter *)(void *)*iter)->arg = arg;
    return 0;
}

/* ---- take ---- */

typedef struct take_iter {
    zk_iter head;
    size_t left;
} take_iter;

static int take_next(zk_iter *iter, void *ret_item)
{
    take_iter *t = (take_iter *)(void *)iter;
    if (!t->left) return 0;
    int rc = zk_iter_next(iter->source, ret_item);
    if (rc > 0) t->left--;
    return rc;
}

int zk_iter_take(zk_iter **iter, size_t count)
{
    static const struct zk__iter_ops ops = {"take", take_next, NULL};
    int rc = wrap(&ops, sizeof(take_iter), (*iter)->item_bytes, iter);
    if (rc < 0) return rc;
    ((take_iter *)(void *)*iter)->left = count;
    return 0;
}

/* ---- throttle ---- */

typedef struct throttle_iter {
    zk_iter head;
    zk_time period, next; /* the earliest moment to ask again */
} throttle_iter;

static int throttle_next(zk_iter *iter, void *ret_item)
{
    throttle_iter *t = (throttle_iter *)(void *)iter;
    zk_time now = zk__sleep_until(t->next);
    if (now < 0) return (int)now;
    int rc = zk_iter_next(iter->source, ret_item);
    if (rc > 0) t->next = zk__moment_in(t->period);
    return rc;
}

int zk_iter_throttle(zk_iter **iter, zk_time period)
{
    static const struct zk__iter_ops ops = {"throttle", throttle_next, NULL};
    int rc = wrap(&ops, sizeof(throttle_iter), (*iter)->item_bytes, iter);
    if (rc < 0) return rc;
    ((throttle_iter *)(void *)*iter)->period = period;
    return 0;
}

/* ---- chunk ---- */

typedef struct chunk_iter {
    zk_iter head;
    size_t count_max, count; /* items that the chunk may have, and has */
    zk_time wait_max, until; /* when a chunk that has begun is given as it is */
    int rc;                  /* the end, or an error of the source, which follows the last chunk */
    bool is_over, was_given;
    _Alignas(16) char items[];
} chunk_iter;

/* One more item, before its time is up. returns as zk_iter_next; -EAGAIN: time is up. */
static int chunk_fill(chunk_iter *c, void *slot)
{
    zk_iter *source = c->head.source;
    if (!c->wait_max || !c->count) return zk_iter_next(source, slot);
    zk_time left = c->until - zk__clock();
    if (left <= 0) return -EAGAIN;
    int rc = 0;
    ZK_WITHIN(left) {
        rc = zk_iter_next(source, slot);
    }
    return rc == -ETIMEDOUT && !zk_cancelled() ? -EAGAIN : rc;
}

static int chunk_next(zk_iter *iter, void *ret_item)
{
    chunk_iter *c = (chunk_iter *)(void *)iter;
    size_t item_bytes = iter->source->item_bytes;
    if (c->was_given) {
        c->count = 0;
        c->was_given = false;
    }
    while (!c->is_over && c->count < c->count_max) {
        int rc = chunk_fill(c, c->items + c->count * item_bytes);
        if (rc == -EAGAIN) break;
        /* The items so far wait for the next call. */
        if (rc < 0 && zk_cancelled()) return rc;
        if (rc <= 0) {
            c->rc = rc;
            c->is_over = true;
        } else if (c->count++ == 0) {
            c->until = zk__moment_in(c->wait_max);
        }
    }
    if (!c->count) return c->rc;
    c->was_given = true;
    zk_chunk chunk = {.items = c->items, .count = c->count};
    memcpy(ret_item, &chunk, sizeof chunk);
    return 1;
}

int zk_iter_chunk(zk_iter **iter, size_t count, zk_time wait_max)
{
    static const struct zk__iter_ops ops = {"chunk", chunk_next, NULL};
    size_t bytes;
    if (!count) return -EINVAL;
    if (__builtin_mul_overflow(count, (*iter)->item_bytes, &bytes) ||
        bytes > PTRDIFF_MAX - sizeof(chunk_iter)) {
        return -ENOMEM;
    }
    int rc = wrap(&ops, sizeof(chunk_iter) + bytes, sizeof(zk_chunk), iter);
    if (rc < 0) return rc;
    ((chunk_iter *)(void *)*iter)->count_max = count;
    ((chunk_iter *)(void *)*iter)->wait_max = wait_max > 0 ? wait_max : 0;
    return 0;
}

/* ---- buffer and merge ---- */

typedef struct pump_iter pump_iter;

typedef struct pump_source {
    pump_iter *pump;
    zk_iter *iter;
    char *item;
} pump_source;

struct pump_iter {
    zk_iter head;
    zk_scope scope;
    zk_channel *channel;
    bool is_started;
    int rc; /* the first error of a source */
    size_t count, live;
    pump_source sources[]; /* behind them an item for each */
};

static int pump_run(void *arg)
{
    pump_source *s = arg;
    pump_iter *p = s->pump;
    int rc;
    while ((rc = zk_iter_next(s->iter, s->item)) > 0) {
        rc = zk_channel_send(p->channel, s->item);
        if (rc < 0) break;
    }
    if (rc < 0 && !p->rc) {
        p->rc = rc;
        zk__scope_cancel_as(&p->scope, -ECANCELED);
    }
    if (--p->live == 0) zk_channel_close(p->channel);
    return 0;
}

static int pump_start(pump_iter *p)
{
    static const zk_site site = {"(iterator)", "", 0};
    while (p->live < p->count) {
        int rc = zk__spawn_pinned(&p->scope, pump_run, &p->sources[p->live], &site);
        if (rc < 0) return rc;
        p->live++;
    }
    p->is_started = true;
    return 0;
}

static int pump_next(zk_iter *iter, void *ret_item)
{
    pump_iter *p = (pump_iter *)(void *)iter;
    if (!p->is_started) {
        int rc = pump_start(p);
        if (rc < 0) return rc;
    }
    int rc = zk_channel_recv(p->channel, ret_item);
    return rc == ZK_E_CLOSED ? p->rc : rc < 0 ? rc : 1;
}

static void pump_close(zk_iter *iter)
{
    pump_iter *p = (pump_iter *)(void *)iter;
    zk__iter_scope_end(&p->scope);
    for (size_t i = 0; i < p->count; i++)
        zk_iter_close(p->sources[i].iter);
    zk_channel_free(p->channel);
}

static int pump_new(zk_iter **iters, size_t count, size_t capacity, zk_iter **ret_iter)
{
    static const struct zk__iter_ops ops = {"pump", pump_next, pump_close};
    size_t item_bytes = iters[0]->item_bytes, stride = (item_bytes + 15) & ~(size_t)15, bytes;
    if (__builtin_mul_overflow(stride + sizeof(pump_source), count, &bytes)) return -ENOMEM;
    zk_channel *channel;
    int rc = zk_channel_new(item_bytes, capacity, &channel);
    if (rc < 0) return rc;
    zk_iter *iter;
    rc = zk__iter_new(&ops, sizeof(pump_iter) + bytes + 16, item_bytes, &iter);
    if (rc < 0) {
        zk_channel_free(channel);
        return rc;
    }
    pump_iter *p = (pump_iter *)(void *)iter;
    p->channel = channel;
    p->count = count;
    uintptr_t items = ((uintptr_t)&p->sources[count] + 15) & ~(uintptr_t)15;
    for (size_t i = 0; i < count; i++) {
        p->sources[i] = (pump_source){p, iters[i], (char *)items + i * stride};
    }
    zk__iter_scope_begin(&p->scope);
    *ret_iter = iter;
    return 0;
}

int zk_iter_buffer(zk_iter **iter, size_t count)
{
    if (!count) return -EINVAL;
    return pump_new(iter, 1, count, iter);
}

int zk_iter_merge(zk_iter **iters, size_t count, zk_iter **ret_iter)
{
    if (!count) return -EINVAL;
    for (size_t i = 1; i < count; i++) {
        if (iters[i]->item_bytes != iters[0]->item_bytes) return -EINVAL;
    }
    return pump_new(iters, count, 0, ret_iter);
}
