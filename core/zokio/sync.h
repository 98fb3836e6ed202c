/*
 * Synchronisation of tasks, on one worker or across workers: mutex, read-write lock, semaphore,
 * condition, barrier, once, wait-group. And task-local values.
 *
 * All are structs that need no more than zero-initialisation unless a function says otherwise, hold
 * no resources, and may be moved or dropped while nobody uses them. They suspend tasks, never
 * threads. Who waits is served in the order of arrival; a call that is cancelled has had no effect,
 * and one that has got what it waited for returns 0 even if its scope is cancelled meanwhile.
 */
#ifndef ZOKIO_SYNC_H
#define ZOKIO_SYNC_H

#include <zokio/task.h>

ZK_BEGIN

/* The runtime's; see core/guard.h and core/waiter.h. */
struct zk__guard {
    void *bias;
    bool is_busy, is_locked;
};
struct zk__waiter;
struct zk__line {
    struct zk__waiter *first, **last;
};

/* ---- mutex ----------------------------------------------------------------------------------- */

/** Held by at most one task. */
typedef struct zk_mutex {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    zk_task *zk__owner;
} zk_mutex;

/**
 * Locks the mutex. It may be held across calls that suspend. Suspends sometimes.
 *
 * @return 0; -EDEADLK (the caller holds it); -ECANCELED, -ETIMEDOUT, -ENOMEM: not locked
 */
ZK_API int zk_mutex_lock(zk_mutex *mutex) ZK_NODISCARD;

/** Locks the mutex if that needs no waiting. Never suspends. @return 0; -EBUSY */
ZK_API int zk_mutex_try_lock(zk_mutex *mutex) ZK_NODISCARD;

/** Unlocks the mutex, which the current task holds; the first who waits gets it. Never suspends. */
ZK_API void zk_mutex_unlock(zk_mutex *mutex);

/* ---- read-write lock ------------------------------------------------------------------------- */

/** Held by one writer or by any number of readers. In order of arrival: neither side starves. */
typedef struct zk_rwlock {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    zk_task *zk__writer;
    size_t zk__readers;
} zk_rwlock;

/** Locks for reading. Not recursive: a writer may have come between. Suspends sometimes.
 * @return as zk_mutex_lock */
ZK_API int zk_rwlock_read(zk_rwlock *lock) ZK_NODISCARD;
/** Locks for writing. Suspends sometimes. @return as zk_mutex_lock */
ZK_API int zk_rwlock_write(zk_rwlock *lock) ZK_NODISCARD;
/** Locks for reading if that needs no waiting. Never suspends. @return 0; -EBUSY */
ZK_API int zk_rwlock_try_read(zk_rwlock *lock) ZK_NODISCARD;
/** Locks for writing if that needs no waiting. Never suspends. @return 0; -EBUSY */
ZK_API int zk_rwlock_try_write(zk_rwlock *lock) ZK_NODISCARD;
/** Unlocks what the current task has locked, either way. Never suspends. */
ZK_API void zk_rwlock_unlock(zk_rwlock *lock);

/* ---- semaphore ------------------------------------------------------------------------------- */

/** A number of permits. */
typedef struct zk_semaphore {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    size_t zk__permits;
} zk_semaphore;

/** A semaphore with that many permits: `zk_semaphore s = ZK_SEMAPHORE(8);` */
#define ZK_SEMAPHORE(permits)                                                                      \
    {                                                                                              \
        {NULL, false, false}, {NULL, NULL}, (permits)                                              \
    }

/**
 * Takes `count` permits, together. Who asks for many is not overtaken by who asks for few. Suspends
 * sometimes. @return 0; -ECANCELED, -ETIMEDOUT, -ENOMEM: none was taken
 */
ZK_API int zk_semaphore_acquire(zk_semaphore *semaphore, size_t count) ZK_NODISCARD;
/** Takes them if that needs no waiting. Never suspends. @return 0; -EAGAIN */
ZK_API int zk_semaphore_try_acquire(zk_semaphore *semaphore, size_t count) ZK_NODISCARD;
/** Gives `count` permits back, or adds them. Never suspends. On any thread. */
ZK_API void zk_semaphore_release(zk_semaphore *semaphore, size_t count);

/* ---- condition ------------------------------------------------------------------------------- */

/** Where tasks wait for something that a mutex guards to become true. */
typedef struct zk_condition {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
} zk_condition;

/**
 * Unlocks the mutex, waits for a signal, and locks it again; to be called in a loop that looks at
 * what is waited for. The mutex is held when this returns, whatever it returns. Suspends always.
 *
 * @return 0 when signalled; -ECANCELED, -ETIMEDOUT (no signal was taken), -ENOMEM
 */
ZK_API int zk_condition_wait(zk_condition *condition, zk_mutex *mutex);
/** Wakes the first who waits, if any. Never suspends. On any thread. */
ZK_API void zk_condition_signal(zk_condition *condition);
/** Wakes all who wait. Never suspends. On any thread. */
ZK_API void zk_condition_broadcast(zk_condition *condition);

/* ---- barrier --------------------------------------------------------------------------------- */

/** Where a number of tasks meet before any of them goes on; again and again. */
typedef struct zk_barrier {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    size_t zk__parties;
} zk_barrier;

/** A barrier for so many tasks, at least 1. */
#define ZK_BARRIER(parties)                                                                        \
    {                                                                                              \
        {NULL, false, false}, {NULL, NULL}, (parties)                                              \
    }

/**
 * Waits for the others. Suspends sometimes: the last one to come does not.
 *
 * @return 1 for the last one to come, 0 for the others; -ECANCELED, -ETIMEDOUT, -ENOMEM: the caller
 *         does not count as arrived
 */
ZK_API int zk_barrier_wait(zk_barrier *barrier);

/* ---- once ------------------------------------------------------------------------------------ */

/** Something that is done once, by whoever needs it first. */
typedef struct zk_once {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    zk_task *zk__owner;
    int zk__state, zk__result;
} zk_once;

/**
 * Calls `fn(arg)` if no call has succeeded yet. Who comes while another calls it waits for that; if
 * it fails, the next one tries. Suspends sometimes: as fn does, or for another's call.
 *
 * @return what the successful call returned, at once from then on; the caller's own call's error;
 *         -EDEADLK (from within fn); -ECANCELED, -ETIMEDOUT, -ENOMEM while waiting
 */
ZK_API int zk_once_call(zk_once *once, zk_fn *fn, void *arg);

/* ---- wait-group ------------------------------------------------------------------------------ */

/** Counts what is going on, wherever it was started. Within one function a scope does that. */
typedef struct zk_wait_group {
    struct zk__guard zk__guard;
    struct zk__line zk__line;
    size_t zk__count;
} zk_wait_group;

/** Adds to the count. Never suspends. On any thread. */
ZK_API void zk_wait_group_add(zk_wait_group *group, size_t count);
/** Takes one from the count; at 0 all who wait go on. Never suspends. On any thread. */
ZK_API void zk_wait_group_done(zk_wait_group *group);
/** Waits until the count is 0. Suspends sometimes. @return 0; -ECANCELED, -ETIMEDOUT, -ENOMEM */
ZK_API int zk_wait_group_wait(zk_wait_group *group);

/* ---- task-local values ----------------------------------------------------------------------- */

/** Names a task-local value by its address: `static zk_local request_id;` */
typedef struct zk_local {
    char zk__unused;
} zk_local;

/* A value in force in a scope and all inside it. */
struct zk__binding {
    const struct zk__binding *outer;
    const zk_local *local;
    void *value;
};

ZK_API zk_scope *zk__scope_enter_binding(zk_scope *scope, struct zk__binding *binding,
                                         const zk_local *local, void *value);

/**
 * A block in which the local has this value: for what is called in it, and for the tasks started in
 * it, on whatever worker they run. Blocks nest; the innermost counts.
 *
 *     ZK_LOCAL(&request_id, id) { handle(request); }
 */
#define ZK_LOCAL(local, value) ZK__LOCAL(local, value, ZK__PASTE(zk__local_, __LINE__))
#define ZK__LOCAL(local, value, name)                                                              \
    for (struct zk__binding ZK__PASTE(name, _b), *ZK__PASTE(name, _p) = &ZK__PASTE(name, _b);      \
         ZK__PASTE(name, _p); ZK__PASTE(name, _p) = NULL)                                          \
    ZK__BLOCK(name, ZK__PASTE(zk__pass_, name),                                                    \
              zk__scope_enter_binding(&name, &ZK__PASTE(name, _b), (local), (value)))

/** The local's value for the current task; NULL where there is none. Never suspends. */
ZK_API void *zk_local_get(const zk_local *local);

ZK_END
#endif
