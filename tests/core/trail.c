/*
 * Error trails: what zk_fail collects, when a new one starts, and how it follows the error.
 */
#include "tests/async.h"

#include "core/worker.h"

static int fail_deep(void *arg)
{
    (void)arg;
    return zk_fail(-ECONNREFUSED, "resolving %s", "example.org");
}

static int fail_through_two(void *arg)
{
    int rc = fail_deep(arg);
    return zk_fail(rc, "loading page %d", 7);
}

static int fail_later(void *arg)
{
    cr_assert_ok(zk_yield());
    return fail_through_two(arg);
}

static const char whole[] =
    "loading page 7: resolving example.org: ECONNREFUSED (Connection refused)";

ZK_ASYNC_TEST(trail, reads_from_the_outside_in)
{
    cr_assert_str_eq(zk_trail(), "");
    cr_assert_rc(fail_through_two(NULL), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole);
    cr_assert_str_eq(zk_trail(), whole, "a second time");
}

ZK_ASYNC_TEST(trail, another_code_or_having_been_read_starts_a_new_one)
{
    fail_through_two(NULL);
    zk_fail(ZK_E_ADDR, "parsing");
    cr_assert_str_eq(zk_trail(), "parsing: ZK_E_ADDR (not a valid address)");
    zk_fail(ZK_E_ADDR, "again");
    cr_assert_str_eq(zk_trail(), "again: ZK_E_ADDR (not a valid address)");
}

ZK_ASYNC_TEST(trail, may_be_quoted_in_the_next_one)
{
    zk_fail(-EIO, "reading");
    zk_fail(-EPIPE, "answering after \"%s\"", zk_trail());
    cr_assert_str_eq(zk_trail(),
                     "answering after \"reading: EIO (Input/output error)\": EPIPE (Broken pipe)");
}

ZK_ASYNC_TEST(trail, follows_the_error_of_a_future)
{
    zk_future f, g, h;
    zk_async(&f, fail_through_two, NULL);
    cr_assert_rc(zk_await(&f), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole, "run in place");
    zk_async(&g, fail_later, NULL);
    zk_async(&h, fail_through_two, NULL);
    cr_assert_ok(zk_yield());
    zk_fail(-EIO, "something else meanwhile");
    cr_assert_rc(zk_await(&g), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole, "that waited");
    cr_assert_rc(zk_await(&h), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole, "that had ended before");
}

static int fail_with_letter(void *arg) { return zk_fail(-EIO, "task %c", *(int *)arg); }

ZK_ASYNC_TEST(trail, follows_the_first_error_of_a_scope)
{
    ZK_SCOPE(s) {
        for (int c = 'a'; c <= 'c'; c++)
            cr_assert_ok(zk_spawn(&s, fail_with_letter, &c));
        cr_assert_rc(zk_scope_wait(&s), -EIO);
        cr_assert_str_eq(zk_trail(), "task a: EIO (Input/output error)");
        zk_fail(-EIO, "the block");
        cr_assert_str_eq(zk_trail(), "the block: EIO (Input/output error)");
    }
}

static int fail_in_nested(void *arg)
{
    int rc = 0;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, fail_later, arg));
        rc = zk_scope_wait(&s);
    }
    return zk_fail(rc, "nested");
}

ZK_ASYNC_TEST(trail, grows_on_the_way_through_scopes_and_futures)
{
    zk_future f;
    zk_async(&f, fail_in_nested, NULL);
    int rc = zk_await(&f);
    zk_fail(rc, "main");
    char wanted[256];
    snprintf(wanted, sizeof wanted, "main: nested: %s", whole);
    cr_assert_str_eq(zk_trail(), wanted);
}

ZK_ASYNC_TEST(trail, one_that_nobody_reads_is_freed)
{
    size_t before = zk__heap_stats_read(zk__lane.worker->heap).live_objects;
    for (int i = 0; i < 100; i++) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, fail_later, NULL));
            cr_assert_ok(zk_spawn(&s, fail_later, NULL));
        }
    }
    fail_deep(NULL); /* main's own, and what the caches hold */
    size_t after = zk__heap_stats_read(zk__lane.worker->heap).live_objects;
    cr_assert_leq(after, before + 8, "%zu objects, then %zu", before, after);
}

ZK_ASYNC_TEST(trail, keeps_the_newest_when_it_is_full)
{
    char text[1001] = "";
    memset(text, 'x', sizeof text - 1);
    for (size_t size = 0; size < sizeof text; size++) {
        zk_fail(-EIO, "first %.*s", (int)size, text);
        zk_fail(-EIO, "%.*s", (int)size, text);
        zk_fail(-EIO, "last %zu", size);
        char wanted[32];
        snprintf(wanted, sizeof wanted, "last %zu: ", size);
        const char *trail = zk_trail();
        cr_assert(!strncmp(trail, wanted, strlen(wanted)), "%zu: %s", size, trail);
        cr_assert_lt(strlen(trail), 512u);
    }
}

static int fail_main(void *arg)
{
    (void)arg;
    return zk_fail(-EIO, "main");
}

ZK_TEST(trail, of_the_main_function_can_be_read_after_the_run)
{
    cr_assert_rc(zk_test_run(1, fail_main, NULL), -EIO);
    cr_assert_str_eq(zk_trail(), "main: EIO (Input/output error)");
}

/* On a thread without a task it is the thread's. */
ZK_TEST(trail, can_be_read_outside_of_tasks)
{
    cr_assert_str_eq(zk_trail(), "");
    cr_assert_rc(fail_through_two(NULL), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole);
    cr_assert_rc(zk_fail(-EIO, "another"), -EIO);
    cr_assert_str_eq(zk_trail(), "another: EIO (Input/output error)");
}

static int quiet(void *arg)
{
    (void)arg;
    return -ECONNREFUSED;
}

static int say_and_succeed(void *arg)
{
    (void)fail_deep(arg);
    return 0;
}

static int say_and_fail_otherwise(void *arg)
{
    (void)fail_deep(arg);
    return -EIO;
}

/* What is said in the pool is said to who waits for it, and to nobody else. */
ZK_ASYNC_TEST(trail, follows_the_error_of_a_blocking_call)
{
    for (int i = 0; i < 3; i++) {
        cr_assert_rc(zk_fail(-EIO, "before"), -EIO);
        cr_assert_rc(zk_blocking(fail_through_two, NULL), -ECONNREFUSED);
        cr_assert_str_eq(zk_trail(), whole);
        cr_assert_rc(zk_blocking(quiet, NULL), -ECONNREFUSED);
        cr_assert_rc(zk_blocking(say_and_succeed, NULL), 0);
        cr_assert_rc(zk_blocking(quiet, NULL), -ECONNREFUSED);
        cr_assert_rc(zk_blocking(say_and_fail_otherwise, NULL), -EIO);
        cr_assert_str_eq(zk_trail(), whole, "still that one");
    }
    int rc = zk_blocking(fail_deep, NULL);
    cr_assert_rc(zk_fail(rc, "loading page %d", 7), -ECONNREFUSED);
    cr_assert_str_eq(zk_trail(), whole, "it goes on");
}
