/*
 * Scopes on one worker: joining, errors, cancellation at every point, shields, deadlines.
 */
#include "tests/async.h"

#include "core/worker.h"

/* ---- what tasks do ---- */

typedef struct counts {
    int begun, ended, cancelled;
} counts;

static int sleep_long(void *arg)
{
    counts *c = arg;
    c->begun++;
    int rc = zk_sleep(ZK_SEC(3600));
    c->ended++;
    if (rc == -ECANCELED) c->cancelled++;
    return rc;
}

static int succeed(void *arg)
{
    (void)arg;
    return 0;
}

static int fail(void *arg)
{
    (void)arg;
    return -EIO;
}

static int fail_later(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        cr_assert_ok(zk_yield());
    return -EPIPE;
}

static int cancel_scope(void *arg)
{
    zk_scope_cancel(arg);
    return 0;
}

static void yields(int n)
{
    while (n-- > 0)
        cr_assert_ok(zk_yield());
}

/* Without a scope's opinion. */
static void shielded_yields(int n)
{
    ZK_SHIELD {
        yields(n);
    }
}

/* ---- joining ---- */

ZK_ASYNC_TEST(scope, the_end_of_the_block_waits_for_its_tasks)
{
    counts c = {0};
    ZK_SCOPE(s) {
        for (int i = 0; i < 10; i++) {
            cr_assert_ok(zk_spawn_with(&s, &(zk_spawn_options){0}, fail_later, NULL));
        }
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
    }
    cr_assert(c.begun == 1 && c.cancelled == 1);
}

static int leave_by_return(counts *c)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)c));
        yields(1);
        return 7;
    }
    return 8;
}

ZK_ASYNC_TEST(scope, leaving_by_break_return_or_goto_cancels_and_joins)
{
    counts c = {0};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
        yields(1);
        break;
    }
    cr_assert_eq(c.cancelled, 1, "break");
    cr_assert_eq(leave_by_return(&c), 7);
    cr_assert_eq(c.cancelled, 2, "return");
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
        yields(1);
        goto out;
    }
out:
    cr_assert_eq(c.cancelled, 3, "goto");
    cr_assert_eq(zk_cancelled(), 0);
}

ZK_ASYNC_TEST(scope, a_task_that_has_not_started_runs_even_when_cancelled)
{
    counts c = {0};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
        break;
    }
    cr_assert(c.begun == 1 && c.cancelled == 1);
}

ZK_ASYNC_TEST(scope, an_empty_scope_has_nothing_to_wait_for)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_scope_wait(&s));
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- errors ---- */

ZK_ASYNC_TEST(scope, the_first_error_cancels_the_rest_and_is_returned)
{
    counts c = {0};
    ZK_SCOPE(s) {
        for (int i = 0; i < 20; i++) {
            cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
            if (i == 9) cr_assert_ok(zk_spawn(&s, fail_later, NULL));
        }
        cr_assert_rc(zk_scope_wait(&s), -EPIPE);
        cr_assert(c.begun == 20 && c.cancelled == 20);
        cr_assert_rc(zk_scope_wait(&s), -EPIPE, "again");
        cr_assert_rc(zk_yield(), -ECANCELED, "the block is cancelled, too");
    }
    cr_assert_ok(zk_yield());
}

ZK_ASYNC_TEST(scope, an_error_of_a_future_reaches_only_who_awaits_it)
{
    ZK_SCOPE(s) {
        zk_future f;
        zk_async(&f, fail, NULL);
        yields(1);
        cr_assert_rc(zk_await(&f), -EIO);
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- cancelling ---- */

ZK_ASYNC_TEST(scope, cancel_from_inside_is_what_wait_returns)
{
    counts c = {0};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
        yields(1);
        zk_scope_cancel(&s);
        cr_assert_eq(zk_cancelled(), -ECANCELED);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        cr_assert_eq(c.cancelled, 1);
    }
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, succeed, NULL));
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "though all tasks succeeded");
    }
    cr_assert_eq(zk_cancelled(), 0);
}

ZK_ASYNC_TEST(scope, cancel_from_a_task_inside_or_outside)
{
    counts c = {0};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
        cr_assert_ok(zk_spawn(&s, cancel_scope, (void *)&s));
        cr_assert_rc(zk_sleep(ZK_SEC(3600)), -ECANCELED);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    ZK_SCOPE(outer) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&outer, cancel_scope, (void *)&s));
            cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&c));
            cr_assert_rc(zk_sleep(ZK_SEC(3600)), -ECANCELED);
        }
        cr_assert_ok(zk_scope_wait(&outer));
    }
    cr_assert_eq(c.cancelled, 2);
}

/* Each calls what suspends. */
static int call_sleep(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_SEC(3600));
}

static int call_sleep_zero(void *arg)
{
    (void)arg;
    return zk_sleep(0);
}

static int call_yield(void *arg)
{
    (void)arg;
    return zk_yield();
}

static int call_blocking(void *arg) { return zk_blocking(succeed, arg); }

static int call_timeout(void *arg) { return zk_timeout(ZK_SEC(3600), call_sleep, arg); }

static int call_await(void *arg)
{
    zk_future f;
    zk_async(&f, call_sleep, arg);
    return zk_await(&f);
}

static int call_await_queued(void *arg)
{
    zk_future f, g;
    zk_async(&f, call_sleep, arg);
    zk_async(&g, call_sleep, arg);
    int rc = zk_await(&f);
    return zk_await(&g) < 0 ? rc : -EINVAL;
}

static int call_scope_wait(void *arg)
{
    int rc = 0;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, call_sleep, arg));
        rc = zk_scope_wait(&s);
    }
    return rc;
}

static int call_in_nested_scopes(void *arg)
{
    int rc = 0;
    ZK_SCOPE(a) {
        ZK_SCOPE(b) {
            ZK_WITHIN(ZK_SEC(3600)) {
                rc = call_scope_wait(arg);
            }
        }
    }
    return rc;
}

static const struct suspending {
    const char *name;
    zk_fn *fn;
    bool is_quick; /* does not wait when it is not cancelled */
} suspending[] = {
    {"sleep", call_sleep, false},
    {"sleep(0)", call_sleep_zero, true},
    {"yield", call_yield, true},
    {"blocking", call_blocking, true},
    {"timeout", call_timeout, false},
    {"await", call_await, false},
    {"await of queued ones", call_await_queued, false},
    {"scope_wait", call_scope_wait, false},
    {"nested scopes", call_in_nested_scopes, false},
};
#define EACH_SUSPENDING(row)                                                                       \
    for (const struct suspending *row = suspending;                                                \
         row < suspending + sizeof suspending / sizeof *suspending; row++)

ZK_ASYNC_TEST(scope, cancellation_is_sticky_for_every_call)
{
    EACH_SUSPENDING(row) {
        ZK_SCOPE(s) {
            zk_scope_cancel(&s);
            for (int i = 0; i < 3; i++)
                cr_assert_rc(row->fn(NULL), -ECANCELED, "%s", row->name);
        }
        if (row->is_quick) cr_assert(row->fn(NULL) == 0, "%s, after the scope", row->name);
    }
}

ZK_ASYNC_TEST(scope, cancellation_ends_every_wait)
{
    EACH_SUSPENDING(row) {
        if (row->is_quick) continue;
        ZK_SCOPE(s) {
            for (int i = 0; i < 3; i++)
                cr_assert_ok(zk_spawn(&s, row->fn, NULL));
            yields(3);
            zk_scope_cancel(&s);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "%s", row->name);
        }
    }
}

typedef struct retry_log {
    int rcs[4];
} retry_log;

static int keep_sleeping(void *arg)
{
    retry_log *log = arg;
    for (int i = 0; i < 4; i++)
        log->rcs[i] = zk_sleep(ZK_SEC(3600));
    return 0;
}

static int yield_four_times(void *arg)
{
    retry_log *log = arg;
    for (int i = 0; i < 4; i++)
        log->rcs[i] = zk_yield();
    return 0;
}

ZK_ASYNC_TEST(scope, a_task_that_was_cancelled_waiting_cannot_wait_again)
{
    retry_log log = {0};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, keep_sleeping, (void *)&log));
        yields(2);
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    for (int i = 0; i < 4; i++)
        cr_assert_eq(log.rcs[i], -ECANCELED, "%d", i);
}

/* Cancelled in the moment in which a wait has ended: that has succeeded, the next one fails. */
ZK_ASYNC_TEST(scope, a_wait_that_ended_before_the_cancellation_has_succeeded)
{
    retry_log log = {.rcs = {1, 1, 1, 1}};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, yield_four_times, (void *)&log));
        yields(1); /* its first yield is over, but it has not gone on yet */
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    cr_assert_eq(log.rcs[0], 0);
    for (int i = 1; i < 4; i++)
        cr_assert_eq(log.rcs[i], -ECANCELED, "%d", i);
}

ZK_ASYNC_TEST(scope, cancelling_reaches_a_whole_tree_and_nothing_beside_it)
{
    counts inside = {0}, beside = {0};
    ZK_SCOPE(outer) {
        cr_assert_ok(zk_spawn(&outer, sleep_long, (void *)&beside));
        ZK_SCOPE(s) {
            for (int i = 0; i < 5; i++) {
                cr_assert_ok(zk_spawn(&s, call_in_nested_scopes, NULL));
                cr_assert_ok(zk_spawn(&s, sleep_long, (void *)&inside));
            }
            yields(5);
            zk_scope_cancel(&s);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
        cr_assert(inside.cancelled == 5 && beside.begun == 1 && beside.ended == 0);
        yields(5);
        cr_assert_eq(beside.ended, 0);
        zk_scope_cancel(&outer);
    }
    cr_assert_eq(beside.cancelled, 1);
}

enum { DEPTH = 10000 };

typedef struct dive {
    int depth, cancelled;
    zk_scope *top;
} dive;

static int dive_down(void *arg)
{
    dive *d = arg;
    ZK_SCOPE(s) {
        if (!d->top) d->top = &s;
        if (++d->depth < DEPTH) {
            dive_down(d);
        } else {
            cr_assert_rc(zk_sleep(ZK_SEC(3600)), -ECANCELED);
        }
        if (zk_cancelled() == -ECANCELED) d->cancelled++;
    }
    return 0;
}

static int cancel_top(void *arg)
{
    dive *d = arg;
    while (d->depth < DEPTH)
        cr_assert_ok(zk_yield());
    zk_scope_cancel(d->top);
    return 0;
}

ZK_ASYNC_TEST(scope, ten_thousand_nested_scopes_are_cancelled)
{
    dive d = {0};
    ZK_SCOPE(s) {
        zk_spawn_options options = {.stack_bytes = 32 << 20};
        cr_assert_ok(zk_spawn_with(&s, &options, dive_down, &d));
        cr_assert_ok(zk_spawn(&s, cancel_top, (void *)&d));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(d.depth == DEPTH && d.cancelled == DEPTH, "%d %d", d.depth, d.cancelled);
}

static int panic_by_leaving_in_the_wrong_order(void *arg)
{
    (void)arg;
    zk_scope a, b;
    zk__scope_enter(&a);
    zk__scope_enter(&b);
    zk__scope_leave(&a);
    return 0;
}

static int run_wrong_order(void *arg)
{
    return zk_test_run(1, panic_by_leaving_in_the_wrong_order, arg);
}

ZK_TEST(scope, leaving_scopes_in_the_wrong_order_is_reported)
{
    zk_test_child child = zk_test_fork(run_wrong_order, NULL);
    cr_assert_child_killed(child, SIGABRT, "another order than entered, in task main");
}

static int enter_outside(void *arg)
{
    (void)arg;
    zk_scope s;
    zk__scope_enter(&s);
    return 0;
}

ZK_TEST(scope, a_scope_outside_zk_run_is_reported)
{
    zk_test_child child = zk_test_fork(enter_outside, NULL);
    cr_assert_child_killed(child, SIGABRT, "outside zk_run");
}

/* ---- shields ---- */

ZK_ASYNC_TEST(scope, a_shield_lets_cleanup_wait_in_a_cancelled_scope)
{
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        ZK_SHIELD {
            cr_assert_eq(zk_cancelled(), 0);
            EACH_SUSPENDING(row) {
                if (row->is_quick) cr_assert_rc(row->fn(NULL), 0, "%s", row->name);
            }
            cr_assert_ok(zk_sleep(ZK_US(1)));
            ZK_SCOPE(inner) {
                cr_assert_ok(zk_spawn(&inner, call_yield, NULL));
                cr_assert_ok(zk_scope_wait(&inner));
            }
        }
        cr_assert_rc(zk_yield(), -ECANCELED, "after the shield");
    }
}

typedef struct shielded {
    bool is_inside, is_done;
    int rc;
} shielded;

static int clean_up(void *arg)
{
    shielded *x = arg;
    ZK_SHIELD {
        ZK_SCOPE(s) {
            x->is_inside = true;
            x->rc = zk_sleep(ZK_MS(1));
        }
        x->is_done = true;
    }
    return zk_yield();
}

ZK_ASYNC_TEST(scope, a_wait_behind_a_shield_is_not_cut)
{
    shielded x = {.rc = 1};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, clean_up, (void *)&x));
        while (!x.is_inside)
            cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        shielded_yields(2);
        cr_assert(!x.is_done);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "the yield after the shield");
    }
    cr_assert(x.is_done && x.rc == 0);
}

ZK_ASYNC_TEST(scope, a_deadline_inside_a_shield_counts)
{
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        ZK_SHIELD {
            ZK_WITHIN(ZK_MS(1)) {
                cr_assert_rc(zk_sleep(ZK_SEC(3600)), -ETIMEDOUT);
            }
            cr_assert_ok(zk_yield());
        }
    }
}

/* ---- deadlines ---- */

ZK_ASYNC_TEST(deadline, the_own_one_times_out_and_what_is_inside_is_cancelled)
{
    ZK_WITHIN(ZK_MS(1)) {
        cr_assert_rc(zk_sleep(ZK_SEC(3600)), -ETIMEDOUT);
        cr_assert_rc(zk_yield(), -ETIMEDOUT, "sticky");
        cr_assert_eq(zk_cancelled(), -ETIMEDOUT);
        ZK_SCOPE(s) {
            cr_assert_rc(zk_yield(), -ECANCELED);
            cr_assert_ok(zk_spawn(&s, call_sleep, NULL));
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
        ZK_WITHIN(ZK_SEC(3600)) {
            cr_assert_rc(zk_yield(), -ECANCELED);
        }
        ZK_WITHIN(0) {
            cr_assert_rc(zk_yield(), -ECANCELED);
        }
    }
    cr_assert_ok(zk_yield());
    ZK_WITHIN(ZK_MS(1)) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, call_sleep, NULL));
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
        cr_assert_rc(zk_yield(), -ETIMEDOUT);
    }
}

ZK_ASYNC_TEST(deadline, nesting_takes_the_minimum)
{
    ZK_WITHIN(ZK_MS(1)) {
        ZK_WITHIN(ZK_SEC(3600)) {
            cr_assert_rc(zk_sleep(ZK_SEC(7200)), -ECANCELED, "outer");
        }
        cr_assert_rc(zk_yield(), -ETIMEDOUT);
    }
    ZK_WITHIN(ZK_SEC(3600)) {
        ZK_WITHIN(ZK_MS(1)) {
            cr_assert_rc(zk_sleep(ZK_SEC(7200)), -ETIMEDOUT, "inner");
        }
        cr_assert_ok(zk_yield());
    }
}

ZK_ASYNC_TEST(deadline, one_that_has_passed_at_once)
{
    static const zk_time spans[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < 3; i++) {
        ZK_WITHIN(spans[i]) {
            cr_assert_rc(zk_yield(), -ETIMEDOUT, "row %zu", i);
        }
        cr_assert_rc(zk_timeout(spans[i], call_yield, NULL), -ETIMEDOUT, "row %zu", i);
    }
}

ZK_ASYNC_TEST(deadline, one_that_was_met_has_no_effect)
{
    for (int i = 0; i < 100; i++) {
        ZK_WITHIN(ZK_MS(1)) {
            cr_assert_ok(zk_yield());
        }
    }
    cr_assert_ok(zk_sleep(ZK_MS(3)));
    ZK_WITHIN(INT64_MAX) {
        cr_assert_ok(zk_sleep(ZK_US(1)));
    }
}

static int return_seven(void *arg)
{
    (void)arg;
    return zk_yield() < 0 ? -EINVAL : 7;
}

static int turn_cancellation_into_io_error(void *arg) { return call_sleep(arg) < 0 ? -EIO : 0; }

ZK_ASYNC_TEST(deadline, timeout_returns_what_the_function_returns)
{
    cr_assert_rc(zk_timeout(ZK_SEC(3600), return_seven, NULL), 7);
    cr_assert_rc(zk_timeout(ZK_SEC(3600), fail, NULL), -EIO);
    cr_assert_rc(zk_timeout(ZK_MS(1), call_sleep, NULL), -ETIMEDOUT);
    cr_assert_rc(zk_timeout(ZK_MS(1), call_scope_wait, NULL), -ETIMEDOUT, "cancelled inside");
    cr_assert_rc(zk_timeout(ZK_MS(1), turn_cancellation_into_io_error, NULL), -EIO);
    cr_assert_rc(zk_timeout(ZK_SEC(3600), call_yield, NULL), 0);
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        cr_assert_rc(zk_timeout(ZK_MS(1), call_sleep, NULL), -ECANCELED, "not its own deadline");
    }
}

/* ---- sleeping ---- */

ZK_ASYNC_TEST(sleep, never_ends_early)
{
    static const zk_time spans[] = {1, ZK_US(1), ZK_US(500), ZK_MS(1), ZK_US(1001), ZK_MS(3)};
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
            zk_time start = zk__clock();
            cr_assert_ok(zk_sleep(spans[i]));
            zk_time took = zk__clock() - start;
            cr_assert(took >= spans[i], "%lld ns of %lld", (long long)took, (long long)spans[i]);
        }
    }
}

ZK_ASYNC_TEST(sleep, of_no_time_returns_at_once)
{
    uint64_t polls = zk__lane.worker->polls;
    cr_assert_rc(zk_sleep(0), 0);
    cr_assert_rc(zk_sleep(-1), 0);
    cr_assert_rc(zk_sleep(INT64_MIN), 0);
    cr_assert_eq(zk__lane.worker->polls, polls);
}
