/*
 * Waiters: tasks in line for something that a task of any worker may give them.
 *
 *   in line --claimed by a giver, under the guard--> chosen --wait ended on its worker--> goes on
 *      \--claimed by cancellation-------------------> chosen
 *
 * Whoever gives something (an item, a lock, a permit) claims the first waiter in line, hands the
 * thing over, and wakes it: a waiter that was claimed has got it, even if its scope is cancelled
 * before it runs. So nothing is lost, and who waits is served in order.
 *
 * A selection is one wait. It has one waiter, or in zk_select one for each case; then `chosen` says
 * which of them was claimed, and only the first claim succeeds. The line and all in it belong to
 * the holder of the object's guard.
 */
#ifndef ZOKIO_CORE_WAITER_H
#define ZOKIO_CORE_WAITER_H

#include "core/guard.h"

typedef struct zk__selection zk__selection;
typedef struct zk__waiter zk__waiter;
typedef struct zk__line zk__line;

enum { ZK__UNCHOSEN = 0, ZK__CHOSEN_CANCEL = -1 }; /* else 1 + the waiter's index */

struct zk__selection {
    zk__wait wait; /* first: a zk__wait_kind's describe casts to this */
    zk__msg msg;
    zk__worker *worker;
    bool is_single; /* one waiter: whoever finds it in line may have it */
    int chosen;
    ssize_t result; /* of the wait */
};

struct zk__waiter {
    zk__waiter *next, **link; /* in line; link is NULL when it is not */
    zk__selection *selection;
    int index;
    int mode;   /* the object's own */
    void *data; /* where the item goes to or comes from */
};

static inline void zk__line_add(zk__line *line, zk__waiter *waiter)
{
    zk__waiter **link = line->first ? line->last : &line->first;
    waiter->next = NULL;
    waiter->link = link;
    *link = waiter;
    line->last = &waiter->next;
}

static inline void zk__line_remove(zk__line *line, zk__waiter *waiter)
{
    *waiter->link = waiter->next;
    if (waiter->next) {
        waiter->next->link = waiter->link;
    } else {
        line->last = waiter->link;
    }
    waiter->link = NULL;
}

/* Makes the waiter the chosen one of its selection. returns false if another was first. */
static inline bool zk__waiter_claim(zk__waiter *waiter)
{
    zk__selection *s = waiter->selection;
    if (s->is_single) return true;
    int unchosen = ZK__UNCHOSEN;
    return __atomic_compare_exchange_n(&s->chosen, &unchosen, 1 + waiter->index, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Takes the first waiter that can be claimed out of the line; NULL if there is none. */
static inline zk__waiter *zk__line_take(zk__line *line)
{
    while (line->first) {
        zk__waiter *waiter = line->first;
        zk__line_remove(line, waiter);
        if (ZK_LIKELY(zk__waiter_claim(waiter))) return waiter;
    }
    return NULL;
}

void zk__waiter_wake_afar(zk__selection *s, ssize_t result);

/* Ends the wait of a claimed waiter, on its worker. Its frame may be gone afterwards. */
static inline void zk__waiter_wake(zk__waiter *waiter, ssize_t result)
{
    zk__selection *s = waiter->selection;
    zk__worker *w = zk__lane.worker;
    if (ZK_LIKELY(s->worker == w)) {
        zk__wait_end_on(w, &s->wait, result);
    } else {
        zk__waiter_wake_afar(s, result);
    }
}

/*
 * Takes the first waiter of a line that is not empty, if it is the usual one: on the worker `w`,
 * not claimed, and just to be put into the ring; else NULL. It has to be woken by
 * zk__waiter_wake_quickly.
 */
static inline zk__waiter *zk__line_take_quickly(zk__worker *w, zk__line *line)
{
    zk__waiter *waiter = line->first;
    const zk__selection *s = waiter->selection;
    if (ZK_UNLIKELY(s->worker != w || !zk__ready_is_quick(w, s->wait.task))) return NULL;
    if (ZK_UNLIKELY(!zk__waiter_claim(waiter))) return NULL;
    zk__line_remove(line, waiter);
    return waiter;
}

static inline void zk__waiter_wake_quickly(zk__worker *w, zk__waiter *waiter)
{
    zk__wait *wait = &waiter->selection->wait;
    zk__wait_unlink(wait);
    wait->result = 0;
    zk__ready_quickly(w, wait->task);
}

/* Claims and wakes all that are in line. */
void zk__line_wake_all(zk__line *line, ssize_t result);

/* A wait for a single thing, in line. */
typedef struct zk__line_waiting {
    zk__selection selection; /* first */
    zk__waiter waiter;
    zk__guard *guard;
    zk__line *line;
} zk__line_waiting;

/*
 * Puts the current task in line, leaves the guard, and waits. To be called with the guard entered,
 * after a successful zk__wait_begin. `data` and `mode` are the waiter's.
 *
 * returns what zk__waiter_wake was given; -ECANCELED, -ETIMEDOUT if it was not claimed before that
 */
int zk__line_wait(zk__guard *guard, zk__line *line, void *data, const zk__wait_kind *kind);
int zk__line_wait_as(zk__guard *guard, zk__line *line, void *data, const zk__wait_kind *kind,
                     int mode);
/* The same, not cut short by cancellation; after zk__wait_begin_always. */
int zk__line_wait_always(zk__guard *guard, zk__line *line, void *data, const zk__wait_kind *kind);

/* What such a task waits in line for, from its wait; for describing it. */
static inline zk__guard *zk__guard_waited_for(const zk__wait *wait)
{
    return ((const zk__line_waiting *)(const void *)wait)->guard;
}

#endif
