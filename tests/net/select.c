/*
 * Streams in zk_select: data, the end, other cases that win, cancellation; no byte is lost.
 */
#include <zokio/select.h>

#include "tests/net/streams.h"

static int write_soon(void *arg)
{
    zk_stream *s = arg;
    int rc = zk_sleep(ZK_MS(1));
    return rc < 0 ? rc : zk_stream_write(s, "x", 1);
}

static void assert_reads(zk_stream *s, const char *wanted)
{
    char buf[16];
    ssize_t n = zk_stream_read(s, buf, sizeof buf);
    cr_assert_eq(n, (ssize_t)strlen(wanted));
    cr_assert(memcmp(buf, wanted, (size_t)n) == 0);
}

ZK_ASYNC_TEST(select_stream, data_that_is_there_is_ready)
{
    EACH_KIND(kind) {
        ends e = kind->open();
        cr_assert_ok(zk_stream_write(e.a, "ab", 2));
        cr_assert_rc(zk_select({ZK_READABLE(e.b)}, {ZK_AFTER(ZK_SEC(9))}), 0, "%s", kind->name);
        assert_reads(e.b, "ab");
        ends_close(&e);
    }
}

ZK_ASYNC_TEST(select_stream, data_that_comes_ends_the_wait)
{
    EACH_KIND(kind) {
        ends e = kind->open();
        zk_future f;
        zk_async(&f, write_soon, e.a);
        cr_assert_rc(zk_select({ZK_AFTER(ZK_SEC(9))}, {ZK_READABLE(e.b)}), 1, "%s", kind->name);
        assert_reads(e.b, "x");
        cr_assert_ok(zk_await(&f));
        ends_close(&e);
    }
}

ZK_ASYNC_TEST(select_stream, the_end_is_ready)
{
    EACH_KIND(kind) {
        ends e = kind->open();
        cr_assert_ok(zk_stream_shutdown(e.a));
        cr_assert_rc(zk_select({ZK_READABLE(e.b)}), 0, "%s", kind->name);
        assert_reads(e.b, "");
        ends_close(&e);
    }
}

/* When another case wins the stream is as if it had not been in the select. */
ZK_ASYNC_TEST(select_stream, a_stream_that_lost_has_lost_nothing)
{
    EACH_KIND(kind) {
        ends e = kind->open();
        int rc = 0;
        cr_assert_rc(zk_select({ZK_READABLE(e.b)}, {ZK_AFTER(ZK_MS(1))}), 1, "%s", kind->name);
        cr_assert_rc(zk_select({ZK_READABLE(e.b)}, {ZK_DEFAULT()}), 1, "%s", kind->name);
        ZK_WITHIN(ZK_MS(1)) {
            rc = zk_select({ZK_READABLE(e.b)});
        }
        cr_assert_rc(rc, -ETIMEDOUT);
        cr_assert_ok(zk_stream_write(e.a, "cd", 2));
        assert_reads(e.b, "cd");
        ends_close(&e);
    }
}

ZK_ASYNC_TEST(select_stream, the_one_of_two_that_has_data_is_chosen)
{
    ends one = open_tcp(), two = open_pair();
    zk_future f;
    zk_async(&f, write_soon, one.a);
    cr_assert_rc(zk_select({ZK_READABLE(two.b)}, {ZK_READABLE(one.b)}), 1);
    cr_assert_ok(zk_await(&f));
    cr_assert_ok(zk_stream_write(two.a, "y", 1));
    assert_reads(one.b, "x");
    cr_assert_rc(zk_select({ZK_READABLE(two.b)}, {ZK_READABLE(one.b)}), 0);
    ends_close(&one);
    ends_close(&two);
}
