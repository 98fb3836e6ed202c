/*
 * Runtime counters: each counts what it says, per worker and in all.
 */
#include "tests/async.h"

#include <errno.h>

#include <zokio/metrics.h>

#include "core/leak.h"

static zk_metrics now(void)
{
    zk_metrics m;
    cr_assert_ok(zk_metrics_read(&m));
    return m;
}

static int nap(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_MS(1));
}

static int sleep_long(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_SEC(100));
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

ZK_TEST(metrics, there_are_none_without_a_runtime)
{
    zk_metrics m = {.turns = 7};
    cr_assert(zk_metrics_read(&m) == ZK_E_NO_RUNTIME);
    cr_assert(zk_metrics_read_worker(0, &m) == ZK_E_NO_RUNTIME);
    cr_assert(m.turns == 7);
}

ZK_ASYNC_TEST(metrics, waits_and_sleeps_are_counted)
{
    zk_metrics before = now();
    for (int i = 0; i < 3; i++)
        cr_assert_ok(nap(NULL));
    zk_metrics after = now();
    cr_assert(after.waits == before.waits + 3);
    cr_assert(after.sleeps >= before.sleeps + 3);
    cr_assert(after.turns >= before.turns + 3);
}

/* What only runs leaves the count of waits alone. */
ZK_ASYNC_TEST(metrics, a_yield_is_no_wait)
{
    zk_metrics before = now();
    for (int i = 0; i < 5; i++)
        cr_assert_ok(zk_yield());
    cr_assert(now().waits == before.waits);
}

ZK_ASYNC_TEST(metrics, ready_tasks_timers_and_stacks_are_those_of_now)
{
    zk_metrics before = now();
    ZK_SCOPE(s) {
        for (int i = 0; i < 40; i++)
            cr_assert_ok(zk_spawn(&s, sleep_long, NULL));
        cr_assert(now().tasks_ready == before.tasks_ready + 40);
        cr_assert_ok(zk_yield());
        zk_metrics waiting = now();
        cr_assert(waiting.timers_pending == before.timers_pending + 40);
        cr_assert(waiting.stacks >= 41, "%llu", (unsigned long long)waiting.stacks);
        /* With sanitizers, or looking for leaks, each object is malloc's: the heap holds none. */
        bool is_mallocs = ZK_TEST_ASAN || ZK_TEST_TSAN || zk__leaks_current;
        if (!is_mallocs) cr_assert(waiting.heap_bytes > 0);
        cr_assert(waiting.tasks_ready == 0);
        zk_scope_cancel(&s);
    }
    cr_assert(now().timers_pending == before.timers_pending);
    cr_assert(now().stacks_parked >= 40);
}

ZK_ASYNC_TEST_ON(metrics, tasks_and_messages_between_workers_are_counted, 2)
{
    zk_metrics there, m;
    ZK_SCOPE(s) {
        for (int i = 0; i < 10; i++)
            cr_assert_ok(zk_spawn_on(&s, 1, nothing, NULL));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_ok(zk_metrics_read_worker(0, &m));
    cr_assert(m.tasks_sent == 10);
    cr_assert_ok(zk_metrics_read_worker(1, &there));
    cr_assert(there.tasks_received == 10);
    cr_assert(there.tasks_sent == 0);
    cr_assert(now().messages >= 20); /* each task, and each answer */
}

ZK_ASYNC_TEST(metrics, there_is_no_worker_of_that_number)
{
    zk_metrics m = {.turns = 7};
    cr_assert_rc(zk_metrics_read_worker(-1, &m), -EINVAL);
    cr_assert_rc(zk_metrics_read_worker(1, &m), -EINVAL);
    cr_assert(m.turns == 7);
}
