/*
 * What a worker keeps for its WebSockets: see pool.h.
 */
#include "ws/pool.h"

#include <string.h>
#include <sys/random.h>

#include "core/sim.h"
#include "http/dial.h"

enum {
    KEPT = 8,
    KEPT_BYTES_MAX = 512 * 1024, /* of one that is kept */
    RANDOM_BYTES = 512,
};

typedef struct pool {
    zk__ws_in *free;
    int count;
    zk_tls *tls;   /* of clients; NULL: none was needed */
    void *windows; /* of deflate.c */
    zk__ws_bytes scratch;
    zk__ws_limits *limits; /* the last that were asked for; NULL: none yet */
    size_t random_left;
    uint8_t random[RANDOM_BYTES];
} pool;

static void pool_done(void *state)
{
    pool *p = state;
    while (p->free) {
        zk__ws_in *in = p->free;
        p->free = in->next;
        zk_free(in);
    }
    zk__dial_tls_free(p->tls);
    zk__ws_deflate_pool_free(p->windows);
    zk_free(p->scratch.data);
    zk_free(p->limits);
    zk_free(p);
}

static pool *pool_get(void)
{
    zk__slot *slot = &zk__worker_self()->slots[ZK__SLOT_WS];
    if (ZK_LIKELY(slot->state != NULL)) return slot->state;
    pool *p = zk_alloc_zeroed(sizeof *p);
    if (!p) return NULL;
    slot->state = p;
    slot->done = pool_done;
    return p;
}

const zk__ws_limits *zk__ws_limits_get(const zk__ws_limits *wanted)
{
    pool *p = pool_get();
    if (!p) return NULL;
    if (!p->limits || memcmp(p->limits, wanted, offsetof(zk__ws_limits, refs))) {
        zk__ws_limits *limits = zk_alloc(sizeof *limits);
        if (!limits) return NULL;
        *limits = *wanted;
        limits->refs = 1; /* the pool's */
        if (p->limits) zk__ws_limits_unref(p->limits);
        p->limits = limits;
    }
    p->limits->refs++;
    return p->limits;
}

void zk__ws_limits_unref(const zk__ws_limits *limits)
{
    zk__ws_limits *own = (zk__ws_limits *)(uintptr_t)limits;
    if (!--own->refs) zk_free(own);
}

int zk__ws_random(void *buf, size_t size)
{
    pool *p = pool_get();
    if (!p) return -ENOMEM;
    if (p->random_left < size) {
        if (ZK_UNLIKELY(zk__sim_current != NULL)) {
            for (size_t i = 0; i < RANDOM_BYTES; i++)
                p->random[i] = (uint8_t)zk__sim_random(zk__sim_current);
        } else {
            ssize_t n = getrandom(p->random, RANDOM_BYTES, 0);
            if (n != RANDOM_BYTES) return n < 0 ? -errno : -EAGAIN;
        }
        p->random_left = RANDOM_BYTES;
    }
    p->random_left -= size;
    memcpy(buf, p->random + p->random_left, size);
    return 0;
}

void **zk__ws_deflate_pool(void)
{
    pool *p = pool_get();
    return p ? &p->windows : NULL;
}

zk__ws_bytes *zk__ws_scratch(void)
{
    pool *p = pool_get();
    if (!p) return NULL;
    if (p->scratch.capacity > KEPT_BYTES_MAX) {
        zk_free(p->scratch.data);
        p->scratch = (zk__ws_bytes){NULL, 0, 0};
    }
    p->scratch.size = 0;
    return &p->scratch;
}

int zk__ws_bytes_reserve(zk__ws_bytes *b, size_t room, uint64_t max)
{
    if (b->capacity - b->size >= room) return 0;
    size_t capacity = 2 * b->capacity > b->size + room ? 2 * b->capacity : b->size + room;
    if (capacity > max) return ZK_E_LIMIT;
    char *grown = zk_alloc(capacity);
    if (!grown) return -ENOMEM;
    if (b->size) memcpy(grown, b->data, b->size);
    zk_free(b->data);
    b->data = grown;
    b->capacity = capacity;
    return 0;
}

int zk__ws_tls(zk_tls **ret_tls)
{
    pool *p = pool_get();
    if (!p) return -ENOMEM;
    int rc = p->tls ? 0 : zk__dial_tls_new(&(zk_tls_client){0}, &p->tls);
    if (!rc) *ret_tls = p->tls;
    return rc;
}

zk__ws_in *zk__ws_in_take(void)
{
    pool *p = pool_get();
    if (ZK_LIKELY(p && p->free)) {
        zk__ws_in *in = p->free;
        p->free = in->next;
        p->count--;
        return in;
    }
    zk__ws_in *in = zk_alloc(sizeof *in + ZK__WS_IN_BYTES);
    if (in) in->capacity = ZK__WS_IN_BYTES;
    return in;
}

void zk__ws_in_give(zk__ws_in *in)
{
    pool *p = pool_get();
    if (!p || p->count == KEPT || in->capacity > KEPT_BYTES_MAX) {
        zk_free(in);
        return;
    }
    in->next = p->free;
    p->free = in;
    p->count++;
}
