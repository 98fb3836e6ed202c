/*
 * Mutex, read-write lock, semaphore, condition, barrier, once and wait-group: each a guard, a line
 * of waiters and a few words of state. Who releases hands over to the first in line, so there is no
 * moment at which a late-comer could slip in.
 */
#include <errno.h>

#include <zokio/sync.h>

#include "core/budget.h"
#include "core/waiter.h"

/* ---- mutex ---- */

static zk_task *mutex_holder(const zk__wait *wait, const zk_site **ret_site)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk_mutex *mutex = (zk_mutex *)(void *)guard;
    zk__guard_enter(guard); /* its owner cannot end meanwhile */
    zk_task *owner = mutex->zk__owner;
    if (owner) *ret_site = owner->site;
    zk__guard_leave(guard);
    return owner;
}

static const zk__wait_kind mutex_kind = {
    .name = "mutex", .is_by_tasks = true, .holder = mutex_holder};

int zk_mutex_lock(zk_mutex *mutex)
{
    int rc = zk__spend();
    if (ZK_UNLIKELY(rc < 0)) return rc;
    zk_task *me = zk__lane.current;
    zk__guard_enter(&mutex->zk__guard);
    if (ZK_LIKELY(!mutex->zk__owner)) {
        mutex->zk__owner = me;
        zk__guard_leave(&mutex->zk__guard);
        return 0;
    }
    if (mutex->zk__owner == me) {
        zk__guard_leave(&mutex->zk__guard);
        return -EDEADLK;
    }
    return zk__line_wait(&mutex->zk__guard, &mutex->zk__line, me, &mutex_kind);
}

int zk_mutex_try_lock(zk_mutex *mutex)
{
    zk__guard_enter(&mutex->zk__guard);
    bool is_free = !mutex->zk__owner;
    if (is_free) mutex->zk__owner = zk__lane.current;
    zk__guard_leave(&mutex->zk__guard);
    return is_free ? 0 : -EBUSY;
}

void zk_mutex_unlock(zk_mutex *mutex)
{
    zk__guard_enter(&mutex->zk__guard);
    if (ZK_UNLIKELY(mutex->zk__owner != zk__lane.current)) {
        zk__panic("task %s unlocks a mutex that it does not hold", zk__lane.current->site->name);
    }
    zk__waiter *next = ZK_UNLIKELY(mutex->zk__line.first) ? zk__line_take(&mutex->zk__line) : NULL;
    mutex->zk__owner = next ? next->data : NULL;
    if (next) zk__waiter_wake(next, 0);
    zk__guard_leave(&mutex->zk__guard);
}

/* Locks it for who must have it back whether cancelled or not. */
static void mutex_relock(zk_mutex *mutex)
{
    zk__wait_begin_always();
    zk__guard_enter(&mutex->zk__guard);
    if (!mutex->zk__owner) {
        mutex->zk__owner = zk__lane.current;
        zk__guard_leave(&mutex->zk__guard);
        return;
    }
    (void)zk__line_wait_always(&mutex->zk__guard, &mutex->zk__line, zk__lane.current, &mutex_kind);
}

/* ---- read-write lock ---- */

enum { READ, WRITE };

static bool rwlock_take(zk_rwlock *lock, int mode, zk_task *task)
{
    if (lock->zk__writer || (mode == WRITE && lock->zk__readers)) return false;
    if (mode == WRITE) {
        lock->zk__writer = task;
    } else {
        lock->zk__readers++;
    }
    return true;
}

/* Lets in whoever is first in line, and may be. The guard is held. */
static void rwlock_admit(zk_rwlock *lock)
{
    while (lock->zk__line.first) {
        zk__waiter *first = lock->zk__line.first;
        if (!rwlock_take(lock, first->mode, first->data)) return;
        zk__waiter_wake(zk__line_take(&lock->zk__line), 0);
    }
}

/* A writer that has given up no longer holds up the readers behind it. */
static void rwlock_left(zk__guard *guard) { rwlock_admit((zk_rwlock *)(void *)guard); }

/* Only a writer is known by name. */
static zk_task *rwlock_holder(const zk__wait *wait, const zk_site **ret_site)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk_rwlock *lock = (zk_rwlock *)(void *)guard;
    zk__guard_enter(guard);
    zk_task *writer = lock->zk__writer;
    if (writer) *ret_site = writer->site;
    zk__guard_leave(guard);
    return writer;
}

static void rwlock_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk__guard_enter(guard);
    size_t readers = ((zk_rwlock *)(void *)guard)->zk__readers;
    zk__guard_leave(guard);
    if (readers) zk__detail_add(detail, "held for reading %zu times", readers);
}

static int rwlock_lock(zk_rwlock *lock, int mode)
{
    static const zk__wait_kind kinds[] = {
        {.name = "lock for reading",
         .is_by_tasks = true,
         .describe = rwlock_describe,
         .holder = rwlock_holder,
         .on_leave = rwlock_left},
        {.name = "lock for writing",
         .is_by_tasks = true,
         .describe = rwlock_describe,
         .holder = rwlock_holder,
         .on_leave = rwlock_left},
    };
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk_task *me = zk__lane.current;
    zk__guard_enter(&lock->zk__guard);
    bool is_mine = lock->zk__writer == me;
    if (is_mine || (!lock->zk__line.first && rwlock_take(lock, mode, me))) {
        zk__guard_leave(&lock->zk__guard);
        return is_mine ? -EDEADLK : 0;
    }
    return zk__line_wait_as(&lock->zk__guard, &lock->zk__line, me, &kinds[mode], mode);
}

static int rwlock_try(zk_rwlock *lock, int mode)
{
    zk__guard_enter(&lock->zk__guard);
    bool is_taken = !lock->zk__line.first && rwlock_take(lock, mode, zk__lane.current);
    zk__guard_leave(&lock->zk__guard);
    return is_taken ? 0 : -EBUSY;
}

int zk_rwlock_read(zk_rwlock *lock) { return rwlock_lock(lock, READ); }
int zk_rwlock_write(zk_rwlock *lock) { return rwlock_lock(lock, WRITE); }
int zk_rwlock_try_read(zk_rwlock *lock) { return rwlock_try(lock, READ); }
int zk_rwlock_try_write(zk_rwlock *lock) { return rwlock_try(lock, WRITE); }

void zk_rwlock_unlock(zk_rwlock *lock)
{
    zk__guard_enter(&lock->zk__guard);
    if (lock->zk__writer == zk__lane.current) {
        lock->zk__writer = NULL;
    } else if (lock->zk__readers) {
        lock->zk__readers--;
    } else {
        zk__panic("task %s unlocks a lock that it does not hold", zk__lane.current->site->name);
    }
    rwlock_admit(lock);
    zk__guard_leave(&lock->zk__guard);
}

/* ---- semaphore ---- */

/* Serves whoever is first in line, as far as the permits go. The guard is held. */
static void semaphore_serve(zk_semaphore *semaphore)
{
    while (semaphore->zk__line.first) {
        size_t wanted = *(const size_t *)semaphore->zk__line.first->data;
        if (wanted > semaphore->zk__permits) return;
        semaphore->zk__permits -= wanted;
        zk__waiter_wake(zk__line_take(&semaphore->zk__line), 0);
    }
}

static void semaphore_left(zk__guard *guard) { semaphore_serve((zk_semaphore *)(void *)guard); }

static void semaphore_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    const zk__line_waiting *waiting = (const zk__line_waiting *)(const void *)wait;
    zk__guard_enter(waiting->guard);
    size_t permits = ((zk_semaphore *)(void *)waiting->guard)->zk__permits;
    zk__guard_leave(waiting->guard);
    zk__detail_add(detail, "%zu there, %zu wanted", permits, *(const size_t *)waiting->waiter.data);
}

int zk_semaphore_acquire(zk_semaphore *semaphore, size_t count)
{
    static const zk__wait_kind kind = {.name = "semaphore",
                                       .is_by_tasks = true,
                                       .describe = semaphore_describe,
                                       .on_leave = semaphore_left};
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk__guard_enter(&semaphore->zk__guard);
    if (!semaphore->zk__line.first && semaphore->zk__permits >= count) {
        semaphore->zk__permits -= count;
        zk__guard_leave(&semaphore->zk__guard);
        return 0;
    }
    return zk__line_wait(&semaphore->zk__guard, &semaphore->zk__line, &count, &kind);
}

int zk_semaphore_try_acquire(zk_semaphore *semaphore, size_t count)
{
    zk__guard_enter(&semaphore->zk__guard);
    bool is_taken = !semaphore->zk__line.first && semaphore->zk__permits >= count;
    if (is_taken) semaphore->zk__permits -= count;
    zk__guard_leave(&semaphore->zk__guard);
    return is_taken ? 0 : -EAGAIN;
}

void zk_semaphore_release(zk_semaphore *semaphore, size_t count)
{
    zk__guard_enter(&semaphore->zk__guard);
    semaphore->zk__permits += count;
    semaphore_serve(semaphore);
    zk__guard_leave(&semaphore->zk__guard);
}

/* ---- condition ---- */

int zk_condition_wait(zk_condition *condition, zk_mutex *mutex)
{
    static const zk__wait_kind kind = {.name = "condition", .is_by_tasks = true};
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk__guard_enter(&condition->zk__guard);
    /*
     * The mutex is given up only once this task is in line: a signal that is sent under the mutex
     * finds it. The mutex's own guard is entered inside this one, always in that order.
     */
    zk_mutex_unlock(mutex);
    rc = zk__line_wait(&condition->zk__guard, &condition->zk__line, NULL, &kind);
    mutex_relock(mutex);
    return rc;
}

void zk_condition_signal(zk_condition *condition)
{
    zk__guard_enter(&condition->zk__guard);
    zk__waiter *first = zk__line_take(&condition->zk__line);
    if (first) zk__waiter_wake(first, 0);
    zk__guard_leave(&condition->zk__guard);
}

void zk_condition_broadcast(zk_condition *condition)
{
    zk__guard_enter(&condition->zk__guard);
    zk__line_wake_all(&condition->zk__line, 0);
    zk__guard_leave(&condition->zk__guard);
}

/* ---- barrier ---- */

/* Waiters that are cancelled leave the line, so who has arrived is counted there. */
static size_t line_length(const zk__line *line)
{
    size_t n = 0;
    for (const zk__waiter *w = line->first; w; w = w->next)
        n++;
    return n;
}

static void barrier_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk_barrier *barrier = (zk_barrier *)(void *)guard;
    zk__guard_enter(guard);
    size_t there = line_length(&barrier->zk__line), parties = barrier->zk__parties;
    zk__guard_leave(guard);
    zk__detail_add(detail, "%zu of %zu there", there, parties);
}

int zk_barrier_wait(zk_barrier *barrier)
{
    static const zk__wait_kind kind = {
        .name = "barrier", .is_by_tasks = true, .describe = barrier_describe};
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk__guard_enter(&barrier->zk__guard);
    if (line_length(&barrier->zk__line) + 1 >= barrier->zk__parties) {
        zk__line_wake_all(&barrier->zk__line, 0);
        zk__guard_leave(&barrier->zk__guard);
        return 1;
    }
    return zk__line_wait(&barrier->zk__guard, &barrier->zk__line, NULL, &kind);
}

/* ---- once ---- */

enum { UNDONE, BEING_DONE, DONE };

/* Another's call is over, and has failed: whoever is first in line tries now. */
enum { YOUR_TURN = 1 };

static int once_run(zk_once *once, zk_fn *fn, void *arg)
{
    int rc = fn(arg);
    zk__guard_enter(&once->zk__guard);
    once->zk__owner = NULL;
    once->zk__state = rc < 0 ? UNDONE : DONE;
    once->zk__result = rc;
    if (rc >= 0) {
        zk__line_wake_all(&once->zk__line, 0);
    } else {
        zk__waiter *next = zk__line_take(&once->zk__line);
        if (next) {
            once->zk__state = BEING_DONE;
            once->zk__owner = next->data;
            zk__waiter_wake(next, YOUR_TURN);
        }
    }
    zk__guard_leave(&once->zk__guard);
    return rc;
}

static zk_task *once_holder(const zk__wait *wait, const zk_site **ret_site)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk_once *once = (zk_once *)(void *)guard;
    zk__guard_enter(guard);
    zk_task *owner = once->zk__state == BEING_DONE ? once->zk__owner : NULL;
    if (owner) *ret_site = owner->site;
    zk__guard_leave(guard);
    return owner;
}

int zk_once_call(zk_once *once, zk_fn *fn, void *arg)
{
    static const zk__wait_kind kind = {.name = "once", .is_by_tasks = true, .holder = once_holder};
    if (__atomic_load_n(&once->zk__state, __ATOMIC_ACQUIRE) == DONE) return once->zk__result;
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk_task *me = zk__lane.current;
    zk__guard_enter(&once->zk__guard);
    if (once->zk__state == BEING_DONE && once->zk__owner != me) {
        rc = zk__line_wait(&once->zk__guard, &once->zk__line, me, &kind);
        if (rc == YOUR_TURN) return once_run(once, fn, arg);
        return rc < 0 ? rc : once->zk__result;
    }
    int state = once->zk__state;
    if (state == UNDONE) {
        once->zk__state = BEING_DONE;
        once->zk__owner = me;
    }
    zk__guard_leave(&once->zk__guard);
    if (state == UNDONE) return once_run(once, fn, arg);
    return state == DONE ? once->zk__result : -EDEADLK;
}

/* ---- wait-group ---- */

void zk_wait_group_add(zk_wait_group *group, size_t count)
{
    zk__guard_enter(&group->zk__guard);
    group->zk__count += count;
    zk__guard_leave(&group->zk__guard);
}

void zk_wait_group_done(zk_wait_group *group)
{
    zk__guard_enter(&group->zk__guard);
    if (!group->zk__count) zk__panic("zk_wait_group_done: the count is 0 already");
    if (--group->zk__count == 0) zk__line_wake_all(&group->zk__line, 0);
    zk__guard_leave(&group->zk__guard);
}

static void wait_group_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    zk__guard *guard = zk__guard_waited_for(wait);
    zk__guard_enter(guard);
    size_t count = ((zk_wait_group *)(void *)guard)->zk__count;
    zk__guard_leave(guard);
    zk__detail_add(detail, "%zu left", count);
}

int zk_wait_group_wait(zk_wait_group *group)
{
    static const zk__wait_kind kind = {
        .name = "wait-group", .is_by_tasks = true, .describe = wait_group_describe};
    int rc = zk__spend();
    if (rc < 0) return rc;
    zk__guard_enter(&group->zk__guard);
    if (!group->zk__count) {
        zk__guard_leave(&group->zk__guard);
        return 0;
    }
    return zk__line_wait(&group->zk__guard, &group->zk__line, NULL, &kind);
}
