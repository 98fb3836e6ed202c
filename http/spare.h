/*
 * How many spare objects to keep for the next who need one.
 *
 * As many as were in use at once lately: what has not been needed for a second is given back, half
 * of it each second, but for a few. So a steady load never asks the system for memory, and a load
 * that has gone leaves little behind. Inline, for who keeps a list takes and gives all the time.
 */
#ifndef ZOKIO_HTTP_SPARE_H
#define ZOKIO_HTTP_SPARE_H

#include "core/worker.h"

typedef struct zk__spare zk__spare;
struct zk__spare {
    zk__timer timer;
    uint32_t count; /* on the list */
    uint32_t low;   /* the fewest since the last look */
    uint32_t kept;  /* that stay in any case */
    /* Takes one off the list and frees it. */
    void (*free_one)(zk__spare *spare);
};

enum { ZK__SPARE_LOOK_MS = 1000 };

static inline void zk__spare_look_later(zk__spare *spare)
{
    if (zk__timer_is_pending(&spare->timer)) return;
    zk__wheel_add(&zk__worker_self()->wheel, &spare->timer, zk_now() + ZK_MS(ZK__SPARE_LOOK_MS));
}

static inline void zk__spare_look(zk__timer *timer)
{
    zk__spare *spare = (zk__spare *)(void *)((char *)timer - offsetof(zk__spare, timer));
    uint32_t surplus = (spare->low + 1) / 2;
    while (surplus-- && spare->count > spare->kept) {
        spare->count--;
        spare->free_one(spare);
    }
    spare->low = spare->count;
    if (spare->count > spare->kept) zk__spare_look_later(spare);
}

static inline void zk__spare_init(zk__spare *spare, uint32_t kept,
                                  void (*free_one)(zk__spare *spare))
{
    *spare = (zk__spare){.timer.fire = zk__spare_look, .kept = kept, .free_one = free_one};
}

/* One was taken off the list. */
static inline void zk__spare_taken(zk__spare *spare)
{
    if (--spare->count < spare->low) spare->low = spare->count;
}

/* One was put on the list. */
static inline void zk__spare_given(zk__spare *spare)
{
    if (ZK_UNLIKELY(++spare->count > spare->kept)) zk__spare_look_later(spare);
}

/* Frees all. */
static inline void zk__spare_done(zk__spare *spare)
{
    zk__wheel_remove(&zk__worker_self()->wheel, &spare->timer);
    while (spare->count) {
        spare->count--;
        spare->free_one(spare);
    }
}

#endif
