/*
 * Timers: a hierarchical wheel, one per worker.
 *
 *   level 0: 256 slots of 1 ms
 *   levels 1-3: 64 slots each, of 256 ms, 16.4 s, 17.5 min; about 18 hours in all
 *
 * Adding and removing are O(1); a timer moves down at most three times in its life (a longer one
 * waits in the farthest slot of the top level and is placed again when that comes up). A bitmap per
 * level finds the next one to fire. Only its own worker touches a wheel, so nothing here is atomic.
 * A timer never fires early: an expiry is rounded up to the next tick.
 */
#ifndef ZOKIO_CORE_TIMER_H
#define ZOKIO_CORE_TIMER_H

#include <zokio/base.h>

typedef struct zk__timer zk__timer;
struct zk__timer {
    zk__timer *next, **link; /* in its slot; link is NULL when the timer is not pending */
    uint64_t tick;           /* when to fire; the span of one that is not settled */
    /* Called by zk__wheel_advance. The timer is no longer pending and may be added again or freed;
     * any other timer may be added or removed, too. */
    void (*fire)(zk__timer *timer);
};

enum { ZK__TICK_NS = 1000000, ZK__WHEEL_LEVELS = 4, ZK__WHEEL_SLOTS = 256 + 3 * 64 };

typedef struct zk__wheel {
    uint64_t now;      /* the tick that has been advanced to */
    uint64_t due_tick; /* timers up to here are overdue when added; `now`, but while advancing */
    uint64_t occupied[ZK__WHEEL_SLOTS / 64]; /* a bit for each slot that is not empty */
    size_t pending;
    uint64_t next_tick; /* what an advance has to look at next; 0: it is to be searched for */
    zk__timer *overdue; /* were due when they were added */
    zk__timer *slots[ZK__WHEEL_SLOTS];
    zk__timer *unsettled; /* added with a span; behind `slots`, see zk__wheel_remove */
} zk__wheel;

/* Empties the wheel; `now` is a moment of CLOCK_MONOTONIC. */
void zk__wheel_init(zk__wheel *wheel, zk_time now);
/*
 * Lets the timer fire at `when` or up to one tick (and the loop's delay) later. It must not be
 * pending. A past `when` fires at the next advance.
 */
void zk__wheel_add(zk__wheel *wheel, zk__timer *timer, zk_time when);
/*
 * Lets the timer fire `span` after the next zk__wheel_settle, which has to come before the wheel is
 * advanced or asked for the next one. For what is mostly removed before: there is no clock to read,
 * and no slot to be found.
 */
void zk__wheel_add_span(zk__wheel *wheel, zk__timer *timer, zk_time span);
/* Gives each of those its place, counted from `now`. */
void zk__wheel_settle(zk__wheel *wheel, zk_time now);
/* Takes the timer out; nothing happens if it is not pending. */
void zk__wheel_remove(zk__wheel *wheel, zk__timer *timer);
/*
 * Fires all timers that are due at `now`, in the order of their ticks (and in none within a tick).
 * What is added while it runs and already due fires in the next advance, so that one advance fires
 * a timer once. Must not be called from `fire`. returns how many fired.
 */
size_t zk__wheel_advance(zk__wheel *wheel, zk_time now);
/*
 * The moment by which zk__wheel_advance should be called next (it may be early, when timers have to
 * move down, never late; and in the past when some are overdue); INT64_MAX if no timer is pending.
 */
zk_time zk__wheel_next(const zk__wheel *wheel);

static inline bool zk__timer_is_pending(const zk__timer *timer) { return timer->link != NULL; }

#endif
