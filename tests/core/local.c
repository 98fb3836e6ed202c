/*
 * Task-local values: where they are in force, and for whom.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/sync.h>

static zk_local name, number;

static int store(void *arg)
{
    *(*(void ***)arg) = zk_local_get(&name);
    return 0;
}

ZK_ASYNC_TEST(local, a_value_is_in_force_in_its_block)
{
    cr_assert_null(zk_local_get(&name));
    ZK_LOCAL(&name, "outer")
    {
        ZK_LOCAL(&number, (void *)7)
        {
            ZK_LOCAL(&name, "inner") { cr_assert_str_eq(zk_local_get(&name), "inner"); }
            cr_assert_str_eq(zk_local_get(&name), "outer");
            cr_assert_eq((intptr_t)zk_local_get(&number), 7);
        }
        cr_assert_null(zk_local_get(&number));
    }
    cr_assert_null(zk_local_get(&name));
}

/* Tasks have the values of the scope that they were started in, on every worker. */
ZK_ASYNC_TEST_ON(local, tasks_inherit_them, 2)
{
    void *seen[3] = {0}, **p = &seen[0];
    ZK_LOCAL(&name, "request 1")
    {
        zk_future f;
        zk_async(&f, store, &p);
        cr_assert_ok(zk_await(&f));
        ZK_SCOPE(s) {
            for (int i = 0; i < 2; i++) {
                p = &seen[1 + i];
                cr_assert_ok(zk_spawn_on(&s, i, store, &p));
            }
            cr_assert_ok(zk_scope_wait(&s));
        }
    }
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(seen[i], "request 1");
}

static int hold(void *arg)
{
    int rc = 0;
    ZK_LOCAL(&name, *(char **)arg)
    {
        for (int i = 0; i < 5 && rc == 0; i++) {
            rc = zk_yield();
            if (zk_local_get(&name) != *(char **)arg) rc = -EBADMSG;
        }
    }
    return rc;
}

/* Tasks that take turns each keep their own. */
ZK_ASYNC_TEST(local, tasks_do_not_see_each_others)
{
    char *names[] = {"a", "b", "c"};
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_spawn(&s, hold, &names[i]));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_null(zk_local_get(&name));
}

ZK_ASYNC_TEST(local, leaving_the_block_early_ends_it)
{
    for (int i = 0; i < 2; i++) {
        ZK_LOCAL(&name, "x")
        {
            if (i == 0) break;
        }
        cr_assert_null(zk_local_get(&name));
    }
}

ZK_TEST(local, outside_a_runtime_there_are_none) { cr_assert_null(zk_local_get(&name)); }
