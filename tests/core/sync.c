/*
 * Mutex, read-write lock, semaphore, condition, barrier, once, wait-group: who gets it when, what
 * cancellation leaves behind, and that all of it holds across workers.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/sync.h>

typedef struct actor {
    void *object;
    int rc;
    char name;
    size_t count;
} actor;

static char order[64];
static size_t order_size;

static void note(char name) { order[order_size++] = name; }

/* Runs `fn` with `actor` as a task of the scope, up to its first wait. */
static void start(zk_scope *scope, zk_fn *fn, actor *a)
{
    cr_assert_ok(zk_spawn(scope, fn, (void *)a));
    zk_yield();
}

/* ---- mutex ---- */

static int lock_and_note(void *arg)
{
    actor *a = arg;
    a->rc = zk_mutex_lock(a->object);
    if (a->rc < 0) return 0;
    note(a->name);
    zk_yield();
    zk_mutex_unlock(a->object);
    return 0;
}

ZK_ASYNC_TEST(mutex, those_who_wait_get_it_in_order)
{
    zk_mutex mutex = {0};
    actor actors[] = {{&mutex, 0, 'a', 0}, {&mutex, 0, 'b', 0}, {&mutex, 0, 'c', 0}};
    cr_assert_ok(zk_mutex_lock(&mutex));
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++)
            start(&s, lock_and_note, &actors[i]);
        cr_assert_eq(order_size, 0u);
        zk_mutex_unlock(&mutex);
        cr_assert_rc(zk_mutex_try_lock(&mutex), -EBUSY, "it has been handed over");
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(order, "abc");
    cr_assert_ok(zk_mutex_try_lock(&mutex));
    zk_mutex_unlock(&mutex);
}

ZK_ASYNC_TEST(mutex, locking_it_twice_is_an_error)
{
    zk_mutex mutex = {0};
    cr_assert_ok(zk_mutex_lock(&mutex));
    cr_assert_rc(zk_mutex_lock(&mutex), -EDEADLK);
    cr_assert_rc(zk_mutex_try_lock(&mutex), -EBUSY);
    zk_mutex_unlock(&mutex);
}

ZK_ASYNC_TEST(mutex, a_cancelled_lock_is_not_locked)
{
    zk_mutex mutex = {0};
    actor waiting = {&mutex, 1, 'w', 0};
    cr_assert_ok(zk_mutex_lock(&mutex));
    ZK_SCOPE(s) {
        start(&s, lock_and_note, &waiting);
        zk_scope_cancel(&s);
    }
    cr_assert_rc(waiting.rc, -ECANCELED);
    zk_mutex_unlock(&mutex);
    cr_assert_ok(zk_mutex_try_lock(&mutex));
    int rc = 0;
    ZK_SHIELD {
        zk_mutex_unlock(&mutex);
    }
    ZK_WITHIN(0) {
        rc = zk_mutex_lock(&mutex);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
}

/* Whom the mutex was handed to holds it, even if cancelled before running. */
ZK_ASYNC_TEST(mutex, a_lock_that_was_handed_over_is_held)
{
    zk_mutex mutex = {0};
    actor waiting = {&mutex, 1, 'w', 0};
    cr_assert_ok(zk_mutex_lock(&mutex));
    ZK_SCOPE(s) {
        start(&s, lock_and_note, &waiting);
        zk_mutex_unlock(&mutex);
        zk_scope_cancel(&s);
    }
    cr_assert_rc(waiting.rc, 0);
    cr_assert_ok(zk_mutex_try_lock(&mutex));
}

static zk_mutex shared;
static long counter;

static int count_under_lock(void *arg)
{
    for (intptr_t i = (intptr_t)arg; i > 0; i--) {
        int rc = zk_mutex_lock(&shared);
        if (rc < 0) return rc;
        long seen = counter;
        if (i % 7 == 0) zk_yield();
        counter = seen + 1;
        zk_mutex_unlock(&shared);
    }
    return 0;
}

ZK_ASYNC_TEST_ON(mutex, it_excludes_across_workers, 3)
{
    ZK_SCOPE(s) {
        for (int i = 0; i < 6; i++)
            cr_assert_ok(zk_spawn_on(&s, i % 3, count_under_lock, (void *)2000));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(counter, 12000);
}

static int unlock_foreign(void *arg)
{
    zk_mutex_unlock(arg);
    return 0;
}

static int run_unlock_foreign(void *arg)
{
    static zk_mutex mutex;
    (void)arg;
    return zk_test_run(1, unlock_foreign, &mutex);
}

ZK_TEST(mutex, unlocking_what_one_does_not_hold_is_a_panic)
{
    zk_test_child child = zk_test_fork(run_unlock_foreign, NULL);
    cr_assert_child_killed(child, SIGABRT, "does not hold");
}

/* ---- read-write lock ---- */

static int read_and_note(void *arg)
{
    actor *a = arg;
    a->rc = zk_rwlock_read(a->object);
    if (a->rc < 0) return 0;
    note(a->name);
    zk_yield();
    zk_rwlock_unlock(a->object);
    return 0;
}

static int write_and_note(void *arg)
{
    actor *a = arg;
    a->rc = zk_rwlock_write(a->object);
    if (a->rc < 0) return 0;
    note(a->name);
    zk_yield();
    note(a->name);
    zk_rwlock_unlock(a->object);
    return 0;
}

/* Readers share, a writer is alone, and a reader does not overtake a writer that waits. */
ZK_ASYNC_TEST(rwlock, readers_share_and_writers_do_not)
{
    zk_rwlock lock = {0};
    actor a[] = {{&lock, 0, 'r', 0}, {&lock, 0, 'W', 0}, {&lock, 0, 's', 0}, {&lock, 0, 't', 0}};
    cr_assert_ok(zk_rwlock_read(&lock));
    ZK_SCOPE(s) {
        start(&s, read_and_note, &a[0]);
        cr_assert_str_eq(order, "r");
        start(&s, write_and_note, &a[1]);
        start(&s, read_and_note, &a[2]);
        start(&s, read_and_note, &a[3]);
        cr_assert_rc(zk_rwlock_try_read(&lock), -EBUSY);
        cr_assert_str_eq(order, "r");
        zk_rwlock_unlock(&lock);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(order, "rWWst");
    cr_assert_ok(zk_rwlock_try_write(&lock));
    cr_assert_rc(zk_rwlock_try_write(&lock), -EBUSY);
    cr_assert_rc(zk_rwlock_write(&lock), -EDEADLK);
    cr_assert_rc(zk_rwlock_read(&lock), -EDEADLK);
    zk_rwlock_unlock(&lock);
    cr_assert_ok(zk_rwlock_try_read(&lock));
    zk_rwlock_unlock(&lock);
}

/* A writer that gives up lets the readers behind it in. */
ZK_ASYNC_TEST(rwlock, a_cancelled_writer_is_out_of_the_way)
{
    zk_rwlock lock = {0};
    actor writer = {&lock, 1, 'W', 0}, reader = {&lock, 1, 'r', 0};
    cr_assert_ok(zk_rwlock_read(&lock));
    ZK_SCOPE(outer) {
        ZK_SCOPE(s) {
            start(&s, write_and_note, &writer);
            start(&outer, read_and_note, &reader);
            zk_scope_cancel(&s);
        }
        cr_assert_rc(writer.rc, -ECANCELED);
        cr_assert_ok(zk_scope_wait(&outer));
    }
    cr_assert_rc(reader.rc, 0);
    zk_rwlock_unlock(&lock);
    cr_assert_ok(zk_rwlock_try_write(&lock));
}

static zk_rwlock shared_rw;
static long first_half, second_half;

static int read_and_compare(void *arg)
{
    for (intptr_t i = (intptr_t)arg; i > 0; i--) {
        if (zk_rwlock_read(&shared_rw) < 0) return -EIO;
        bool is_whole = first_half == second_half;
        zk_rwlock_unlock(&shared_rw);
        if (!is_whole) return -EBADMSG;
    }
    return 0;
}

static int write_both(void *arg)
{
    for (intptr_t i = (intptr_t)arg; i > 0; i--) {
        if (zk_rwlock_write(&shared_rw) < 0) return -EIO;
        first_half++;
        if (i % 11 == 0) zk_yield();
        second_half++;
        zk_rwlock_unlock(&shared_rw);
    }
    return 0;
}

ZK_ASYNC_TEST_ON(rwlock, it_holds_across_workers, 3)
{
    ZK_SCOPE(s) {
        for (int i = 0; i < 6; i++) {
            zk_fn *fn = i % 2 ? read_and_compare : write_both;
            cr_assert_ok(zk_spawn_on(&s, i % 3, fn, (void *)2000));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(first_half, 6000);
}

/* ---- semaphore ---- */

static int acquire_and_note(void *arg)
{
    actor *a = arg;
    a->rc = zk_semaphore_acquire(a->object, a->count);
    if (a->rc == 0) note(a->name);
    return 0;
}

ZK_ASYNC_TEST(semaphore, who_asks_for_many_is_not_overtaken)
{
    zk_semaphore semaphore = ZK_SEMAPHORE(2);
    actor many = {&semaphore, 1, 'm', 3}, one = {&semaphore, 1, 'o', 1};
    ZK_SCOPE(s) {
        start(&s, acquire_and_note, &many);
        start(&s, acquire_and_note, &one);
        cr_assert_rc(zk_semaphore_try_acquire(&semaphore, 1), -EAGAIN);
        zk_semaphore_release(&semaphore, 1);
        zk_yield();
        cr_assert_str_eq(order, "m");
        zk_semaphore_release(&semaphore, 1);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(order, "mo");
    cr_assert_rc(zk_semaphore_try_acquire(&semaphore, 1), -EAGAIN);
    zk_semaphore_release(&semaphore, 4);
    cr_assert_ok(zk_semaphore_acquire(&semaphore, 4));
}

ZK_ASYNC_TEST(semaphore, who_gives_up_lets_the_next_one_have_its_turn)
{
    zk_semaphore semaphore = ZK_SEMAPHORE(2);
    actor many = {&semaphore, 1, 'm', 3}, one = {&semaphore, 1, 'o', 1};
    ZK_SCOPE(outer) {
        ZK_SCOPE(s) {
            start(&s, acquire_and_note, &many);
            start(&outer, acquire_and_note, &one);
            zk_scope_cancel(&s);
        }
        cr_assert_ok(zk_scope_wait(&outer));
    }
    cr_assert_rc(many.rc, -ECANCELED);
    cr_assert_rc(one.rc, 0);
    cr_assert_ok(zk_semaphore_try_acquire(&semaphore, 1));
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_semaphore_acquire(&semaphore, 1);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
}

/* ---- condition ---- */

typedef struct box {
    zk_mutex mutex;
    zk_condition changed;
    int value;
} box;

static int wait_for_value(void *arg)
{
    actor *a = arg;
    box *b = a->object;
    a->rc = zk_mutex_lock(&b->mutex);
    if (a->rc) return a->rc;
    while (!a->rc && b->value == 0)
        a->rc = zk_condition_wait(&b->changed, &b->mutex);
    if (!a->rc) {
        b->value--;
        note(a->name);
    }
    zk_mutex_unlock(&b->mutex); /* held whatever the wait returned, else this panics */
    return 0;
}

ZK_ASYNC_TEST(condition, a_signal_wakes_the_first_and_a_broadcast_all)
{
    box b = {0};
    actor a[] = {{&b, 1, 'a', 0}, {&b, 1, 'b', 0}, {&b, 1, 'c', 0}};
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++)
            start(&s, wait_for_value, &a[i]);
        b.value = 1;
        zk_condition_signal(&b.changed);
        while (b.value)
            zk_yield();
        cr_assert_str_eq(order, "a");
        b.value = 2;
        zk_condition_broadcast(&b.changed);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(order, "abc");
}

ZK_ASYNC_TEST(condition, the_mutex_is_held_after_a_cancelled_wait)
{
    box b = {0};
    int rc = 0, unlocked = 0;
    cr_assert_ok(zk_mutex_lock(&b.mutex));
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_condition_wait(&b.changed, &b.mutex);
        unlocked = zk_mutex_try_lock(&b.mutex);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_rc(unlocked, -EBUSY);
    zk_mutex_unlock(&b.mutex);
    actor a = {&b, 1, 'a', 0};
    ZK_SCOPE(s) {
        start(&s, wait_for_value, &a);
        cr_assert_ok(zk_mutex_lock(&b.mutex));
        zk_scope_cancel(&s); /* it has to wait for the mutex, cancelled as it is */
        zk_yield();
        zk_mutex_unlock(&b.mutex);
    }
    cr_assert_rc(a.rc, -ECANCELED);
    zk_condition_signal(&b.changed);
}

typedef struct pingpong {
    zk_mutex mutex;
    zk_condition changed;
    int turn, rounds;
} pingpong;

static int play(void *arg)
{
    pingpong *p = ((void **)arg)[0];
    int mine = (int)(intptr_t)((void **)arg)[1];
    for (int i = 0; i < p->rounds; i++) {
        if (zk_mutex_lock(&p->mutex) < 0) return -EIO;
        while (p->turn % 2 != mine)
            if (zk_condition_wait(&p->changed, &p->mutex) < 0) return -EIO;
        p->turn++;
        zk_condition_signal(&p->changed);
        zk_mutex_unlock(&p->mutex);
    }
    return 0;
}

ZK_ASYNC_TEST_ON(condition, no_signal_is_lost_across_workers, 2)
{
    pingpong p = {.rounds = 2000};
    ZK_SCOPE(s) {
        for (int i = 0; i < 2; i++) {
            void *args[] = {&p, (void *)(intptr_t)i};
            cr_assert_ok(zk_spawn_on(&s, i, play, args));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(p.turn, 4000);
}

/* ---- barrier ---- */

static int arrive(void *arg)
{
    actor *a = arg;
    a->rc = zk_barrier_wait(a->object);
    return 0;
}

ZK_ASYNC_TEST(barrier, all_go_on_when_the_last_one_comes)
{
    zk_barrier barrier = ZK_BARRIER(3);
    for (int round = 0; round < 3; round++) {
        actor a[] = {{&barrier, -1, 'a', 0}, {&barrier, -1, 'b', 0}};
        ZK_SCOPE(s) {
            start(&s, arrive, &a[0]);
            start(&s, arrive, &a[1]);
            cr_assert(a[0].rc == -1 && a[1].rc == -1);
            cr_assert_rc(zk_barrier_wait(&barrier), 1);
            cr_assert_ok(zk_scope_wait(&s));
        }
        cr_assert(a[0].rc == 0 && a[1].rc == 0);
    }
}

ZK_ASYNC_TEST(barrier, who_gives_up_does_not_count)
{
    zk_barrier barrier = ZK_BARRIER(2);
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_barrier_wait(&barrier);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    actor a = {&barrier, -1, 'a', 0};
    ZK_SCOPE(s) {
        start(&s, arrive, &a);
        cr_assert_eq(a.rc, -1);
        cr_assert_rc(zk_barrier_wait(&barrier), 1);
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- once ---- */

static zk_once once;
static int calls, failures;

static int make(void *arg)
{
    (void)arg;
    calls++;
    int rc = zk_sleep(ZK_MS(1));
    if (rc < 0) return rc;
    return failures-- > 0 ? -EIO : 77;
}

static int call_once(void *arg)
{
    actor *a = arg;
    a->rc = zk_once_call(&once, make, NULL);
    return 0;
}

ZK_ASYNC_TEST(once, it_is_done_once_for_all)
{
    actor a[5] = {0};
    ZK_SCOPE(s) {
        for (int i = 0; i < 5; i++)
            start(&s, call_once, &a[i]);
        cr_assert_ok(zk_scope_wait(&s));
    }
    for (int i = 0; i < 5; i++)
        cr_assert_rc(a[i].rc, 77);
    cr_assert_rc(zk_once_call(&once, make, NULL), 77);
    cr_assert_eq(calls, 1);
}

/* Whoever's own call fails gets the error; the next in line tries. */
ZK_ASYNC_TEST(once, after_a_failure_the_next_one_tries)
{
    actor a[4] = {0};
    failures = 2;
    ZK_SCOPE(s) {
        for (int i = 0; i < 4; i++)
            start(&s, call_once, &a[i]);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(a[0].rc == -EIO && a[1].rc == -EIO && a[2].rc == 77 && a[3].rc == 77);
    cr_assert_eq(calls, 3);
}

static int call_from_within(void *arg) { return zk_once_call(arg, call_from_within, arg); }

ZK_ASYNC_TEST(once, calling_it_from_within_is_an_error)
{
    cr_assert_rc(zk_once_call(&once, call_from_within, &once), -EDEADLK);
}

ZK_ASYNC_TEST(once, waiting_for_another_can_be_cancelled)
{
    actor first = {0};
    int rc = 0;
    ZK_SCOPE(s) {
        start(&s, call_once, &first);
        ZK_WITHIN(0) {
            rc = zk_once_call(&once, make, NULL);
        }
        cr_assert_rc(rc, -ETIMEDOUT);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_rc(first.rc, 77);
}

/* ---- wait-group ---- */

static zk_wait_group group;
static int done_count;

static int work(void *arg)
{
    int rc = zk_sleep(ZK_MS((intptr_t)arg));
    __atomic_add_fetch(&done_count, 1, __ATOMIC_RELAXED);
    zk_wait_group_done(&group);
    return rc;
}

ZK_ASYNC_TEST_ON(wait_group, it_waits_for_all_of_them, 2)
{
    cr_assert_ok(zk_wait_group_wait(&group));
    zk_wait_group_add(&group, 10);
    ZK_SCOPE(s) {
        for (int i = 0; i < 10; i++)
            cr_assert_ok(zk_spawn_on(&s, i % 2, work, (void *)(intptr_t)(i % 3)));
        cr_assert_ok(zk_wait_group_wait(&group));
        cr_assert_eq(__atomic_load_n(&done_count, __ATOMIC_RELAXED), 10);
        cr_assert_ok(zk_scope_wait(&s));
    }
    zk_wait_group_add(&group, 1);
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_wait_group_wait(&group);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    zk_wait_group_done(&group);
}
