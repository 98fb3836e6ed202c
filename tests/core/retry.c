/*
 * Trying again, and intervals.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/call.h>

typedef struct flaky {
    int failures, rc, calls;
} flaky;

static int call_flaky(void *arg)
{
    flaky *f = arg;
    return f->calls++ < f->failures ? f->rc : 5;
}

static bool is_again(int rc, void *arg)
{
    (void)arg;
    return rc == -EAGAIN;
}

static const zk_retry_options quick = {.delay = ZK_MS(1), .delay_max = ZK_MS(2), .tries_max = 4};

ZK_ASYNC_TEST(retry, it_tries_until_it_succeeds)
{
    flaky f = {.failures = 3, .rc = -EAGAIN};
    cr_assert_rc(zk_retry(&quick, call_flaky, &f), 5);
    cr_assert_eq(f.calls, 4);
    f = (flaky){0};
    cr_assert_rc(zk_retry(NULL, call_flaky, &f), 5);
    cr_assert_eq(f.calls, 1);
}

ZK_ASYNC_TEST(retry, it_gives_up_after_so_many_tries)
{
    flaky f = {.failures = 100, .rc = -EIO};
    cr_assert_rc(zk_retry(&quick, call_flaky, &f), -EIO);
    cr_assert_eq(f.calls, 4);
}

ZK_ASYNC_TEST(retry, an_error_that_will_not_pass_is_final)
{
    zk_retry_options options = quick;
    options.is_transient = is_again;
    flaky f = {.failures = 100, .rc = -EINVAL};
    cr_assert_rc(zk_retry(&options, call_flaky, &f), -EINVAL);
    cr_assert_eq(f.calls, 1);
    f = (flaky){.failures = 2, .rc = -EAGAIN};
    cr_assert_rc(zk_retry(&options, call_flaky, &f), 5);
}

/* Without jitter the delays double up to their limit; with it none is below the half. */
ZK_ASYNC_TEST(retry, delays_double_up_to_a_limit)
{
    zk_retry_options options = {
        .delay = ZK_MS(2), .delay_max = ZK_MS(4), .tries_max = 4, .no_jitter = true};
    flaky f = {.failures = 100, .rc = -EIO};
    zk_time start = zk_now();
    zk_retry(&options, call_flaky, &f);
    cr_assert_geq(zk_now() - start, ZK_MS(10));
    options.no_jitter = false;
    f.calls = 0;
    start = zk_now();
    zk_retry(&options, call_flaky, &f);
    cr_assert_geq(zk_now() - start, ZK_MS(5));
}

ZK_ASYNC_TEST(retry, cancellation_ends_it)
{
    zk_retry_options options = {.delay = ZK_SEC(100)};
    flaky f = {.failures = 100, .rc = -EIO};
    int rc = 0;
    ZK_WITHIN(ZK_MS(2)) {
        rc = zk_retry(&options, call_flaky, &f);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_eq(f.calls, 1);
    f.calls = 0;
    ZK_WITHIN(0) {
        rc = zk_retry(&quick, call_flaky, &f);
    }
    cr_assert_rc(rc, -EIO);
    cr_assert_eq(f.calls, 1, "in a cancelled scope it is not tried again");
}

ZK_ASYNC_TEST(interval, ticks_stay_in_step)
{
    zk_interval interval;
    zk_time start = zk_now();
    zk_interval_init(&interval, ZK_MS(3));
    int ticks = 0;
    while (ticks < 5) {
        int rc = zk_interval_wait(&interval);
        cr_assert_geq(rc, 1);
        ticks += rc;
    }
    cr_assert_geq(zk_now() - start, ZK_MS(15));
}

/* Ticks that were missed are counted in one, not repeated. */
ZK_ASYNC_TEST(interval, who_is_late_is_told_how_many_were_missed)
{
    zk_interval interval;
    zk_interval_init(&interval, ZK_MS(2));
    cr_assert_ok(zk_sleep(ZK_MS(9)));
    cr_assert_geq(zk_interval_wait(&interval), 4);
    zk_time next = interval.next;
    cr_assert_geq(zk_interval_wait(&interval), 1);
    cr_assert_eq((interval.next - next) % ZK_MS(2), 0);
}

ZK_ASYNC_TEST(interval, a_cancelled_wait_takes_no_tick)
{
    zk_interval interval;
    int rc = 0;
    zk_interval_init(&interval, ZK_MS(6));
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_interval_wait(&interval);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_geq(zk_interval_wait(&interval), 1);
    zk_interval_init(&interval, 0);
    cr_assert_geq(zk_interval_wait(&interval), 1);
}
