/*
 * Watch: the latest value, and waiting for it to change.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/channel.h>

static zk_watch *new_watch(int value)
{
    zk_watch *w;
    cr_assert_ok(zk_watch_new(sizeof value, &value, &w));
    return w;
}

ZK_ASYNC_TEST(watch, it_has_the_latest_value)
{
    zk_watch *w = new_watch(3);
    int value = 0;
    cr_assert_eq(zk_watch_get(w, &value), 1u);
    cr_assert_eq(value, 3);
    cr_assert_ok(zk_watch_set(w, &(int){4}));
    cr_assert_ok(zk_watch_set(w, &(int){5}));
    cr_assert_eq(zk_watch_get(w, &value), 3u);
    cr_assert_eq(value, 5);
    zk_watch_free(w);
}

/* Who starts with version 0 gets the present value, then only newer ones. */
ZK_ASYNC_TEST(watch, changed_waits_for_a_newer_version)
{
    zk_watch *w = new_watch(3);
    uint64_t version = 0;
    int value = 0, rc = 0;
    cr_assert_ok(zk_watch_changed(w, &version, &value));
    cr_assert(value == 3 && version == 1);
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_watch_changed(w, &version, &value);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_ok(zk_watch_set(w, &(int){4}));
    cr_assert_ok(zk_watch_set(w, &(int){5}));
    cr_assert_ok(zk_watch_changed(w, &version, &value));
    cr_assert(value == 5 && version == 3);
    zk_watch_free(w);
}

typedef struct follower {
    zk_watch *watch;
    int last, rc;
} follower;

static int follow(void *arg)
{
    follower *f = *(follower **)arg;
    uint64_t version = 0;
    int value;
    while ((f->rc = zk_watch_changed(f->watch, &version, &value)) == 0) {
        if (value < f->last) return -EBADMSG;
        f->last = value;
    }
    return 0;
}

/* Nobody misses the last value, on whatever worker. */
ZK_ASYNC_TEST_ON(watch, all_see_the_last_value, 2)
{
    zk_watch *w = new_watch(0);
    follower followers[4], *p;
    ZK_SCOPE(s) {
        for (int i = 0; i < 4; i++) {
            p = &followers[i];
            *p = (follower){.watch = w};
            cr_assert_ok(zk_spawn_on(&s, i % 2, follow, &p));
        }
        for (int i = 1; i <= 1000; i++) {
            cr_assert_ok(zk_watch_set(w, &i));
            if (i % 10 == 0) zk_yield();
        }
        zk_watch_close(w);
        cr_assert_ok(zk_scope_wait(&s));
    }
    for (int i = 0; i < 4; i++) {
        cr_assert_rc(followers[i].rc, ZK_E_CLOSED);
        cr_assert_eq(followers[i].last, 1000);
    }
    cr_assert_rc(zk_watch_set(w, &(int){1}), ZK_E_CLOSED);
    zk_watch_free(w);
}

ZK_ASYNC_TEST(watch, a_value_has_a_size)
{
    zk_watch *w;
    cr_assert_rc(zk_watch_new(0, "", &w), -EINVAL);
    zk_watch_free(NULL);
}

ZK_TEST(watch, outside_a_runtime_there_are_none)
{
    zk_watch *w;
    cr_assert_rc(zk_watch_new(4, "abc", &w), ZK_E_NO_RUNTIME);
}
