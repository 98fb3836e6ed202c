/*
 * A guard: mutual exclusion for the few instructions that change a channel, a mutex and the like.
 *
 * Most such objects are only ever used on one worker, so a guard is biased to the first worker that
 * enters it: that one pays two plain stores and two loads, no atomic read-modify-write. When anyone
 * else comes the bias is revoked, once and for ever, and the guard is a spinlock from then on.
 *
 *   nobody --first to enter--> biased to a worker --another thread--> REVOKING --> SHARED
 *      \----- first to enter is no worker, or the kernel cannot do it -------------/
 *
 * The owner stores `busy` and then looks whether the bias is still its own; who revokes stores the
 * bias, makes every thread of the process pass a memory barrier (membarrier(2)), and then waits
 * until `busy` is clear: whatever the owner's processor had not made visible before that is visible
 * now, so one of the two sees the other. While the guard is biased `locked` is clear, for nobody
 * takes it before the revocation is over.
 *
 * A guard is held for a few dozen instructions, without suspending or calling out. Who enters
 * several has an order: zk_select that of their addresses, a condition its mutex's inside its own.
 */
#ifndef ZOKIO_CORE_GUARD_H
#define ZOKIO_CORE_GUARD_H

#include <zokio/sync.h>

#include "core/worker.h"

typedef struct zk__guard zk__guard;

void zk__guard_enter_slow(zk__guard *guard);

/* Lets guards be biased from now on, if the kernel and the build can do that. */
void zk__guards_init(void);

/* Enters the guard if it is biased to the worker `self` (not NULL); else returns false. */
static inline bool zk__guard_own(zk__worker *self, zk__guard *guard)
{
    if (ZK_UNLIKELY(__atomic_load_n(&guard->bias, __ATOMIC_RELAXED) != (void *)self)) return false;
    __atomic_store_n(&guard->is_busy, true, __ATOMIC_RELAXED);
    /* Only the compiler is held back here; for the processor see the revocation. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (ZK_LIKELY(__atomic_load_n(&guard->bias, __ATOMIC_ACQUIRE) == (void *)self)) return true;
    __atomic_store_n(&guard->is_busy, false, __ATOMIC_RELEASE);
    return false;
}

/* Leaves it, who has entered it by that. */
static inline void zk__guard_disown(zk__guard *guard)
{
    __atomic_store_n(&guard->is_busy, false, __ATOMIC_RELEASE);
}

/* On the worker `self`; NULL on other threads. */
static inline void zk__guard_enter_on(zk__worker *self, zk__guard *guard)
{
    if (ZK_LIKELY(self && zk__guard_own(self, guard))) return;
    zk__guard_enter_slow(guard);
}

static inline void zk__guard_enter(zk__guard *guard) { zk__guard_enter_on(zk__lane.worker, guard); }

static inline void zk__guard_leave(zk__guard *guard)
{
    bool *held = ZK_LIKELY(!__atomic_load_n(&guard->is_locked, __ATOMIC_RELAXED))
                     ? &guard->is_busy
                     : &guard->is_locked;
    __atomic_store_n(held, false, __ATOMIC_RELEASE);
}

#endif
