/*
 * The blocking pool: results, concurrency and its limit, cancellation while queued and while
 * running.
 */
#include "tests/async.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core/worker.h"

/* A call that stays in the pool until it is let go. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    atomic_int inside, most, done;
} gate;

static gate door = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int pass(void *arg)
{
    gate *g = arg;
    int inside = atomic_fetch_add(&g->inside, 1) + 1;
    pthread_mutex_lock(&g->lock);
    if (inside > g->most) g->most = inside;
    while (!g->is_open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    atomic_fetch_sub(&g->inside, 1);
    return atomic_fetch_add(&g->done, 1);
}

static void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->is_open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static int call_pass(void *arg) { return zk_blocking(pass, arg); }

static int call_pass_quietly(void *arg)
{
    int rc = zk_blocking(pass, arg);
    return rc < 0 ? rc : 0;
}

static void wait_until_inside(gate *g, int count)
{
    while (g->inside < count)
        ZK_SHIELD {
            cr_assert_ok(zk_yield());
        }
}

static int where(void *arg)
{
    *(pthread_t *)arg = pthread_self();
    return zk_worker_index() == -1 && zk_yield() == ZK_E_NO_RUNTIME ? 7 : -EINVAL;
}

ZK_ASYNC_TEST(blocking, runs_on_another_thread_and_returns_the_result)
{
    pthread_t thread = pthread_self();
    cr_assert_rc(zk_blocking(where, &thread), 7);
    cr_assert(!pthread_equal(thread, pthread_self()));
}

static int return_error(void *arg)
{
    (void)arg;
    return -EIO;
}

ZK_ASYNC_TEST(blocking, returns_the_function_s_error)
{
    for (int i = 0; i < 100; i++)
        cr_assert_rc(zk_blocking(return_error, NULL), -EIO);
}

ZK_ASYNC_TEST(blocking, the_worker_goes_on_meanwhile)
{
    zk_future f;
    zk_async(&f, call_pass, &door);
    wait_until_inside(&door, 1);
    for (int i = 0; i < 100; i++)
        cr_assert_ok(zk_yield());
    cr_assert_eq(door.done, 0);
    gate_open(&door);
    cr_assert_rc(zk_await(&f), 0);
}

static int run_at_the_limit(void *arg)
{
    int threads = *(int *)arg;
    ZK_SCOPE(s) {
        for (int i = 0; i < 20; i++)
            cr_assert_ok(zk_spawn(&s, call_pass, (void *)&door));
        wait_until_inside(&door, threads);
        gate_open(&door);
        cr_assert_ok(zk_scope_wait(&s));
    }
    return 0;
}

ZK_TEST(blocking, as_many_threads_as_there_are_calls_up_to_the_limit)
{
    for (int threads = 1; threads <= 20; threads += 5) {
        door.is_open = false;
        door.most = door.done = 0;
        zk_config config = {.workers = 1, .blocking_threads_max = threads};
        cr_assert_ok(zk_run(&config, run_at_the_limit, &threads));
        cr_assert_eq(door.most, threads);
        cr_assert_eq(door.done, 20);
    }
}

static int cancel_queued(void *arg)
{
    (void)arg;
    zk_future running;
    zk_async(&running, call_pass, &door);
    wait_until_inside(&door, 1);
    ZK_SCOPE(s) {
        for (int i = 0; i < 5; i++)
            cr_assert_ok(zk_spawn(&s, call_pass, (void *)&door));
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "though the only thread is taken");
    }
    ZK_WITHIN(ZK_MS(1)) {
        cr_assert_rc(zk_blocking(pass, &door), -ETIMEDOUT);
    }
    gate_open(&door);
    cr_assert_rc(zk_await(&running), 0);
    cr_assert_rc(zk_blocking(pass, &door), 1, "none of the cancelled ones has run");
    return 0;
}

ZK_TEST(blocking, a_cancelled_call_that_is_queued_is_taken_back)
{
    zk_config config = {.workers = 1, .blocking_threads_max = 1};
    cr_assert_ok(zk_run(&config, cancel_queued, NULL));
}

ZK_ASYNC_TEST(blocking, a_cancelled_call_that_runs_is_waited_for)
{
    ZK_SCOPE(s) {
        zk_future f;
        zk_async(&f, call_pass, &door);
        wait_until_inside(&door, 1);
        zk_scope_cancel(&s);
        ZK_SHIELD {
            for (int i = 0; i < 10; i++)
                cr_assert_ok(zk_yield());
        }
        cr_assert_eq(door.done, 0);
        gate_open(&door);
        cr_assert_rc(zk_await(&f), 0, "its result is not lost");
        cr_assert_rc(zk_blocking(pass, &door), -ECANCELED, "the next one is refused");
    }
    cr_assert_eq(door.done, 1);
}

static int cancel_from_the_pool(void *arg)
{
    zk_scope_cancel(arg);
    return 0;
}

ZK_ASYNC_TEST(blocking, a_scope_can_be_cancelled_from_the_pool)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, call_pass_quietly, (void *)&door));
        cr_assert_ok(zk_blocking(cancel_from_the_pool, &s));
        cr_assert_eq(zk_cancelled(), -ECANCELED);
        gate_open(&door);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
}

ZK_ASYNC_TEST_ON(blocking, serves_all_workers, 3)
{
    gate_open(&door);
    ZK_SCOPE(s) {
        for (int i = 0; i < 300; i++) {
            zk_spawn_options options = {.worker = 1 + i % 3};
            cr_assert_ok(zk_spawn_with(&s, &options, call_pass, &door));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(door.done, 300);
}
