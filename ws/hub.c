/*
 * Hubs: see zokio/hub.h.
 *
 *   publish --the frame, made once--> this worker's shard: its topic's subscribers
 *                                \--a message each--> the shards of the other workers
 *
 * A shard has the topics and subscriptions of one worker and is touched by that alone. Few
 * subscribers are served at once; for many there is a task, which lets others work in between and
 * keeps its place (`cursor`) in the list, so that subscriptions may end under it. What is published
 * meanwhile waits behind it, so nothing is overtaken.
 *
 * The hub lives as long as anything refers to it: its owner, subscriptions, messages on their way.
 */
#include <errno.h>
#include <string.h>

#include <zokio/hub.h>

#include "core/task.h"
#include "ws/connection.h"
#include "ws/shared.h"

enum { AT_ONCE = 256, BUCKETS_FIRST = 16 };

typedef struct topic topic;

typedef struct zk__ws_subscription {
    struct zk__ws_subscription *next, **link; /* of the topic */
    struct zk__ws_subscription *next_of_ws;
    topic *topic;
    zk_ws *ws;
} subscription;

struct topic {
    topic *next; /* in its bucket */
    struct shard *shard;
    subscription *subscriptions;
    size_t count;
    uint64_t hash;
    size_t name_size;
    char name[];
};

/* Something published, on its way through a shard. */
typedef struct delivery {
    zk__msg msg;
    struct delivery *next;
    struct shard *shard;
    zk__ws_shared *frame;
    uint64_t hash;
    size_t topic_size;
    char topic[];
} delivery;

typedef struct shard {
    zk_hub *hub;
    zk__worker *worker;
    topic **buckets;
    size_t bucket_count, topic_count;
    delivery *first, **last; /* for the task */
    subscription *cursor;    /* the next to get the first delivery */
    bool has_task;
    _Atomic size_t count; /* of subscriptions; read by publishers */
} shard;

struct zk_hub {
    atomic_uint refs;
    int shard_count;
    shard shards[];
};

/* ---- the hub's life ---- */

static void hub_ref(zk_hub *hub) { atomic_fetch_add_explicit(&hub->refs, 1, memory_order_relaxed); }

static void hub_unref(zk_hub *hub)
{
    if (atomic_fetch_sub_explicit(&hub->refs, 1, memory_order_acq_rel) != 1) return;
    for (int i = 0; i < hub->shard_count; i++)
        zk_free(hub->shards[i].buckets); /* topics go with their last subscriptions */
    zk_free(hub);
}

int zk_hub_new(zk_hub **ret_hub)
{
    zk__worker *w = zk__worker_self();
    if (!w) return ZK_E_NO_RUNTIME;
    int count = w->runtime->worker_count;
    zk_hub *hub = zk_alloc_zeroed(sizeof *hub + (size_t)count * sizeof(shard));
    if (!hub) return -ENOMEM;
    atomic_store(&hub->refs, 1);
    hub->shard_count = count;
    for (int i = 0; i < count; i++) {
        shard *s = &hub->shards[i];
        s->hub = hub;
        s->worker = w->runtime->workers[i];
        s->last = &s->first;
    }
    *ret_hub = hub;
    return 0;
}

void zk_hub_free(zk_hub *hub)
{
    if (hub) hub_unref(hub);
}

static shard *shard_here(const zk_hub *hub)
{
    return (shard *)(uintptr_t)&hub->shards[zk__worker_self()->index];
}

/* ---- topics ---- */

/* FNV-1a. */
static uint64_t hash_of(const char *name, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static topic **topic_place(const shard *s, uint64_t hash, const char *name, size_t size)
{
    topic **place = &s->buckets[hash & (s->bucket_count - 1)];
    for (; *place; place = &(*place)->next) {
        const topic *t = *place;
        if (t->hash == hash && t->name_size == size && !memcmp(t->name, name, size)) break;
    }
    return place;
}

static topic *topic_find(const shard *s, uint64_t hash, const char *name, size_t size)
{
    return s->bucket_count ? *topic_place(s, hash, name, size) : NULL;
}

/* Makes room for one more. Without memory the chains just become longer, if there are any. */
static bool buckets_grow(shard *s)
{
    if (s->topic_count < s->bucket_count) return true;
    size_t count = s->bucket_count ? 2 * s->bucket_count : BUCKETS_FIRST;
    topic **buckets = zk_alloc_zeroed(count * sizeof *buckets);
    if (!buckets) return s->bucket_count;
    for (size_t i = 0; i < s->bucket_count; i++) {
        for (topic *t = s->buckets[i], *next; t; t = next) {
            next = t->next;
            t->next = buckets[t->hash & (count - 1)];
            buckets[t->hash & (count - 1)] = t;
        }
    }
    zk_free(s->buckets);
    s->buckets = buckets;
    s->bucket_count = count;
    return true;
}

static topic *topic_get(shard *s, const char *name)
{
    size_t size = strlen(name);
    uint64_t hash = hash_of(name, size);
    topic *t = topic_find(s, hash, name, size);
    if (t) return t;
    t = buckets_grow(s) ? zk_alloc(sizeof *t + size) : NULL;
    if (!t) return NULL;
    *t = (topic){.shard = s, .hash = hash, .name_size = size};
    memcpy(t->name, name, size);
    topic **place = &s->buckets[hash & (s->bucket_count - 1)];
    t->next = *place;
    *place = t;
    s->topic_count++;
    return t;
}

static void topic_look(topic *t)
{
    if (t->subscriptions) return;
    *topic_place(t->shard, t->hash, t->name, t->name_size) = t->next;
    t->shard->topic_count--;
    zk_free(t);
}

/* ---- subscriptions ---- */

static subscription **subscription_place(zk_ws *ws, const topic *t)
{
    subscription **place = &ws->subscriptions;
    while (*place && (*place)->topic != t)
        place = &(*place)->next_of_ws;
    return place;
}

/* It is out of its socket's list. */
static void subscription_end(subscription *sub)
{
    topic *t = sub->topic;
    shard *s = t->shard;
    if (s->cursor == sub) s->cursor = sub->next;
    *sub->link = sub->next;
    if (sub->next) sub->next->link = sub->link;
    t->count--;
    atomic_fetch_sub_explicit(&s->count, 1, memory_order_relaxed);
    topic_look(t);
    zk_free(sub);
    hub_unref(s->hub);
}

void zk__ws_unsubscribe_all(zk_ws *ws)
{
    while (ws->subscriptions) {
        subscription *sub = ws->subscriptions;
        ws->subscriptions = sub->next_of_ws;
        subscription_end(sub);
    }
}

int zk_hub_subscribe(zk_hub *hub, zk_ws *ws, const char *name)
{
    if (ws->is_client) return -EINVAL;
    if (ws->upgrade.stream->worker != zk__worker_self()) return ZK_E_WORKER;
    shard *s = shard_here(hub);
    topic *t = topic_get(s, name);
    if (!t) return -ENOMEM;
    if (*subscription_place(ws, t)) return 0;
    subscription *sub = zk_alloc(sizeof *sub);
    if (!sub) {
        topic_look(t);
        return -ENOMEM;
    }
    *sub = (subscription){.topic = t, .ws = ws};
    sub->next = t->subscriptions;
    sub->link = &t->subscriptions;
    if (sub->next) sub->next->link = &sub->next;
    t->subscriptions = sub;
    t->count++;
    sub->next_of_ws = ws->subscriptions;
    ws->subscriptions = sub;
    hub_ref(hub);
    atomic_fetch_add_explicit(&s->count, 1, memory_order_seq_cst);
    return 0;
}

int zk_hub_unsubscribe(zk_hub *hub, zk_ws *ws, const char *name)
{
    if (ws->is_client) return -EINVAL;
    if (ws->upgrade.stream->worker != zk__worker_self()) return ZK_E_WORKER;
    size_t size = strlen(name);
    topic *t = topic_find(shard_here(hub), hash_of(name, size), name, size);
    subscription **place = t ? subscription_place(ws, t) : NULL;
    if (!place || !*place) return 0;
    subscription *sub = *place;
    *place = sub->next_of_ws;
    subscription_end(sub);
    return 0;
}

size_t zk_hub_subscribers_here(const zk_hub *hub, const char *name)
{
    size_t size = strlen(name);
    const topic *t = topic_find(shard_here(hub), hash_of(name, size), name, size);
    return t ? t->count : 0;
}

/* ---- delivering ---- */

/* Gives it to all from the cursor on: those are few, and get what else there is in the same go. */
static void deliver_all(shard *s, zk__ws_shared *frame)
{
    while (s->cursor) {
        subscription *sub = s->cursor;
        s->cursor = sub->next;
        zk__ws_put_shared(sub->ws, frame); /* may break it, but it stays subscribed */
    }
}

/* What is looked at for those that are soon to get something comes into the cache meanwhile: of
 * thousands it is not there. Each step follows a pointer that the one before has fetched. */
static inline void prefetch_behind(const subscription *sub)
{
    const subscription *one = sub->next, *two = one ? one->next : NULL;
    if (!two) return;
    const char *ws = (const char *)two->ws;
    __builtin_prefetch(two->next);
    __builtin_prefetch(ws);
    __builtin_prefetch(ws + offsetof(zk_ws, out));
    __builtin_prefetch(ws + offsetof(zk_ws, error));
    __builtin_prefetch(one->ws->upgrade.stream);
}

/* Sends it to some from the cursor on. */
static void deliver_some(shard *s, zk__ws_shared *frame, size_t count)
{
    while (s->cursor && count--) {
        subscription *sub = s->cursor;
        s->cursor = sub->next;
        prefetch_behind(sub);
        zk__ws_send_shared(sub->ws, frame);
    }
}

static void delivery_free(delivery *d)
{
    zk_hub *hub = d->shard->hub;
    zk__ws_shared_unref(d->frame);
    zk_free(d);
    hub_unref(hub);
}

static int deliver_run(void *arg)
{
    shard *s = arg;
    while (s->first) {
        delivery *d = s->first;
        const topic *t = topic_find(s, d->hash, d->topic, d->topic_size);
        s->cursor = t ? t->subscriptions : NULL;
        while (s->cursor) {
            deliver_some(s, d->frame, AT_ONCE);
            (void)zk_yield();
        }
        s->first = d->next;
        if (!s->first) {
            s->last = &s->first;
            s->has_task = false; /* the hub may end with this one */
        }
        bool is_last = !s->has_task;
        delivery_free(d);
        if (is_last) break;
    }
    return 0;
}

/* On the shard's worker. The delivery is this function's. */
static void deliver(delivery *d)
{
    static const zk_site site = {"hub", __FILE__, __LINE__};
    shard *s = d->shard;
    const topic *t = topic_find(s, d->hash, d->topic, d->topic_size);
    bool is_small = !t || t->count <= AT_ONCE;
    if (!s->has_task && !is_small) {
        s->has_task = zk__spawn_pinned(&s->worker->root, deliver_run, s, &site) >= 0;
    }
    if (s->has_task) {
        d->next = NULL;
        *s->last = d;
        s->last = &d->next;
        return;
    }
    s->cursor = t ? t->subscriptions : NULL;
    deliver_all(s, d->frame);
    delivery_free(d);
}

static void on_message(zk__msg *msg)
{
    deliver((delivery *)(void *)((char *)msg - offsetof(delivery, msg)));
}

int zk_hub_publish(zk_hub *hub, const char *name, zk_ws_type type, const void *data, size_t size)
{
    zk__utf8 text = 0;
    if (type == ZK_WS_TEXT && (!zk__utf8_take(&text, data, size) || text)) return ZK_E_WS_TEXT;
    size_t name_size = strlen(name);
    uint64_t hash = hash_of(name, name_size);
    zk__ws_shared *frame = zk__ws_shared_new((uint8_t)(ZK__WS_FIN | type), data, size);
    if (!frame) return -ENOMEM;
    int rc = 0;
    for (int i = 0; i < hub->shard_count; i++) {
        shard *s = &hub->shards[i];
        if (!atomic_load_explicit(&s->count, memory_order_seq_cst)) continue;
        delivery *d = zk_alloc(sizeof *d + name_size);
        if (!d) {
            rc = -ENOMEM;
            continue;
        }
        *d = (delivery){.msg.run = on_message, .shard = s, .hash = hash, .topic_size = name_size};
        memcpy(d->topic, name, name_size);
        d->frame = zk__ws_shared_ref(frame);
        hub_ref(hub);
        if (s->worker == zk__worker_self()) {
            deliver(d);
        } else {
            zk__post(s->worker, &d->msg);
        }
    }
    zk__ws_shared_unref(frame);
    return rc;
}
