/*
 * Join, race, any.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/call.h>

static int give(void *arg) { return (int)(intptr_t)arg; }

static int cancelled_count;

/* Sleeps so many ms and returns them. */
static int after_ms(void *arg)
{
    int rc = zk_sleep(ZK_MS((intptr_t)arg));
    if (rc == -ECANCELED) cancelled_count++;
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

static int fail_after_ms(void *arg)
{
    int rc = after_ms(arg);
    return rc < 0 ? rc : zk_fail(-EIO, "failing after %d ms", rc);
}

static void *ms(intptr_t n) { return (void *)n; }

ZK_ASYNC_TEST(join, all_results_are_there)
{
    zk_call calls[] = {{after_ms, ms(3)}, {give, ms(7)}, {after_ms, ms(1)}};
    int results[3];
    cr_assert_rc(zk_join_calls(calls, 3, results), 0);
    cr_assert(results[0] == 3 && results[1] == 7 && results[2] == 1);
    cr_assert_rc(zk_join({give, ms(1)}, {give, ms(2)}), 0);
    cr_assert_rc(zk_join_calls(NULL, 0, NULL), 0);
}

/* The calls run at the same time: the whole takes no longer than the longest. */
ZK_ASYNC_TEST(join, the_calls_run_concurrently)
{
    zk_call calls[40];
    for (int i = 0; i < 40; i++)
        calls[i] = (zk_call){after_ms, ms(20)};
    zk_time start = zk_now();
    cr_assert_rc(zk_join_calls(calls, 40, NULL), 0);
    cr_assert_lt(zk_now() - start, ZK_MS(400));
}

ZK_ASYNC_TEST(join, the_first_error_cancels_the_rest)
{
    zk_call calls[] = {{after_ms, ms(100000)}, {fail_after_ms, ms(1)}, {after_ms, ms(100000)}};
    int results[3];
    cr_assert_rc(zk_join_calls(calls, 3, results), -EIO);
    cr_assert_str_eq(zk_trail(), "failing after 1 ms: EIO (Input/output error)");
    cr_assert(results[0] == -ECANCELED && results[1] == -EIO && results[2] == -ECANCELED);
    cr_assert_eq(cancelled_count, 2);
    cr_assert_ok(zk_sleep(1)); /* the caller itself is not cancelled */
}

static int recover_after_ms(void *arg)
{
    int rc = fail_after_ms(arg);
    return rc == -EIO ? 0 : rc;
}

/* What calls that succeeded have said of errors is not told, nor what failed later has said. */
ZK_ASYNC_TEST(join, the_trail_is_that_of_the_error_it_returns)
{
    cr_assert_rc(zk_join({give, ms(1)}, {recover_after_ms, ms(1)}, {fail_after_ms, ms(3)},
                         {recover_after_ms, ms(2)}, {fail_after_ms, ms(3)}),
                 -EIO);
    cr_assert_str_eq(zk_trail(), "failing after 3 ms: EIO (Input/output error)");
}

static int yield_times(void *arg)
{
    intptr_t n = (intptr_t)arg;
    for (intptr_t i = 0; i < n; i++) {
        int rc = zk_yield();
        if (rc < 0) return rc;
    }
    return (int)n;
}

/* Futures of the caller's and of the calls' own are queued along with the calls, each once. */
ZK_ASYNC_TEST(join, calls_mix_with_futures)
{
    zk_future a, b;
    int results[3];
    zk_call calls[] = {{yield_times, ms(2)}, {yield_times, ms(0)}, {yield_times, ms(1)}};
    for (int i = 0; i < 3; i++) {
        zk_async(&a, yield_times, ms(3));
        cr_assert_rc(zk_join_calls(calls, 3, results), 0);
        cr_assert(results[0] == 2 && results[1] == 0 && results[2] == 1);
        zk_async(&b, yield_times, ms(1));
        cr_assert_rc(zk_await(&b), 1);
        cr_assert_rc(zk_await(&a), 3);
    }
}

ZK_ASYNC_TEST(race, the_first_to_end_wins)
{
    cr_assert_rc(zk_race({after_ms, ms(100000)}, {after_ms, ms(2)}, {after_ms, ms(100000)}), 1);
    cr_assert_eq(cancelled_count, 2);
    cr_assert_rc(zk_race({after_ms, ms(100000)}, {fail_after_ms, ms(1)}), -EIO);
    cr_assert_rc(zk_race({give, ms(5)}, {after_ms, ms(100000)}), 0);
    cr_assert_rc(zk_race_calls(NULL, 0, NULL), -EINVAL);
}

ZK_ASYNC_TEST(any, the_first_to_succeed_wins)
{
    cr_assert_rc(zk_any({fail_after_ms, ms(1)}, {after_ms, ms(5)}, {after_ms, ms(100000)}), 1);
    cr_assert_eq(cancelled_count, 1);
    zk_call calls[] = {{fail_after_ms, ms(4)}, {fail_after_ms, ms(1)}};
    cr_assert_rc(zk_any_calls(calls, 2, NULL), -EIO);
    cr_assert_str_eq(zk_trail(), "failing after 1 ms: EIO (Input/output error)");
    cr_assert_rc(zk_any_calls(NULL, 0, NULL), -EINVAL);
}

/* A deadline around them is told as such, and ends them all. */
ZK_ASYNC_TEST(join, a_deadline_around_ends_them_all)
{
    int joined = 0, raced = 0, any = 0;
    ZK_WITHIN(ZK_MS(2)) {
        joined = zk_join({after_ms, ms(100000)}, {after_ms, ms(100000)});
    }
    ZK_WITHIN(ZK_MS(2)) {
        raced = zk_race({after_ms, ms(100000)}, {after_ms, ms(100000)});
    }
    ZK_WITHIN(ZK_MS(2)) {
        any = zk_any({after_ms, ms(100000)}, {after_ms, ms(100000)});
    }
    cr_assert_rc(joined, -ETIMEDOUT);
    cr_assert_rc(raced, -ETIMEDOUT);
    cr_assert_rc(any, -ETIMEDOUT);
    cr_assert_eq(cancelled_count, 6);
}

static int nested(void *arg)
{
    intptr_t depth = (intptr_t)arg;
    if (depth == 0) return after_ms(ms(1));
    return zk_join({nested, ms(depth - 1)}, {nested, ms(depth - 1)});
}

ZK_ASYNC_TEST_ON(join, joins_nest, 2) { cr_assert_rc(nested(ms(8)), 0); }

static int fail_at_once(void *arg) { return zk_fail(-(int)(intptr_t)arg, "at once"); }

static int children_await(void *arg)
{
    zk_future a, b;
    zk_async(&a, give, arg);
    zk_async(&b, after_ms, ms(1));
    return zk_await(&a) < 0 || zk_await(&b) < 0 ? -EIO : (int)(intptr_t)arg;
}

/* Whichever of them waits: those before it have ended in place, those after it go on meanwhile. */
ZK_ASYNC_TEST(join, calls_that_wait_mix_with_calls_that_do_not)
{
    enum { COUNT = 5 };
    zk_fn *const kinds[] = {give, after_ms, children_await};
    for (int mix = 0; mix < 243; mix++) {
        zk_call calls[COUNT];
        int results[COUNT];
        for (int i = 0, rest = mix; i < COUNT; i++, rest /= 3)
            calls[i] = (zk_call){kinds[rest % 3], ms(1)};
        cr_assert_rc(zk_join_calls(calls, COUNT, results), 0);
        for (int i = 0; i < COUNT; i++)
            cr_assert_eq(results[i], 1, "call %d of mix %d", i, mix);
    }
}

/* The trail is that of the first failure, wherever the calls run. */
ZK_ASYNC_TEST(join, what_fails_at_once_cancels_what_has_not_begun)
{
    int results[4];
    zk_call calls[] = {{give, ms(7)},
                       {fail_at_once, (void *)EIO},
                       {fail_at_once, (void *)EPIPE},
                       {after_ms, ms(100000)}};
    cr_assert_rc(zk_join_calls(calls, 4, results), -EIO);
    cr_assert_str_eq(zk_trail(), "at once: EIO (Input/output error)");
    cr_assert_rc(results[0], 7);
    cr_assert_rc(results[2], -EPIPE);
    cr_assert_rc(results[3], -ECANCELED);
    cr_assert_rc(zk_race({give, ms(3)}, {after_ms, ms(100000)}, {fail_at_once, (void *)EIO}), 0);
    cr_assert_rc(zk_any({fail_at_once, (void *)EIO}, {give, ms(3)}, {after_ms, ms(100000)}), 1);
}

ZK_TEST(join, outside_a_runtime_it_is_an_error)
{
    cr_assert_rc(zk_join({give, ms(1)}), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_race({give, ms(1)}), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_any({give, ms(1)}), ZK_E_NO_RUNTIME);
}
