/*
 * Broadcast: every subscriber gets every item, unless it is too slow, which it is told.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/channel.h>

static zk_broadcast *new_broadcast(size_t capacity)
{
    zk_broadcast *b;
    cr_assert_ok(zk_broadcast_new(sizeof(int), capacity, &b));
    return b;
}

static void assert_recv(zk_subscription *s, int wanted, uint64_t missed_wanted)
{
    int item = -1;
    uint64_t missed = 99;
    cr_assert_ok(zk_broadcast_recv(s, &item, &missed));
    cr_assert_eq(item, wanted, "%d, not %d", item, wanted);
    cr_assert_eq(missed, missed_wanted);
}

ZK_ASYNC_TEST(broadcast, all_subscribers_get_all_items)
{
    zk_broadcast *b = new_broadcast(4);
    zk_subscription one, two;
    cr_assert_ok(zk_broadcast_send(b, &(int){0})); /* before anybody has subscribed */
    zk_broadcast_subscribe(b, &one);
    cr_assert_ok(zk_broadcast_send(b, &(int){1}));
    zk_broadcast_subscribe(b, &two);
    cr_assert_ok(zk_broadcast_send(b, &(int){2}));
    assert_recv(&one, 1, 0);
    assert_recv(&one, 2, 0);
    assert_recv(&two, 2, 0);
    zk_broadcast_free(b);
}

ZK_ASYNC_TEST(broadcast, a_slow_subscriber_is_told_what_it_missed)
{
    zk_broadcast *b = new_broadcast(3);
    zk_subscription s;
    zk_broadcast_subscribe(b, &s);
    for (int i = 0; i < 10; i++)
        cr_assert_ok(zk_broadcast_send(b, &i));
    assert_recv(&s, 7, 7);
    assert_recv(&s, 8, 0);
    int item;
    cr_assert_ok(zk_broadcast_recv(&s, &item, NULL));
    cr_assert_eq(item, 9);
    zk_broadcast_free(b);
}

typedef struct listener {
    zk_subscription subscription;
    long sum;
    int count, rc;
} listener;

static int listen_all(void *arg)
{
    listener *l = *(listener **)arg;
    int item;
    while ((l->rc = zk_broadcast_recv(&l->subscription, &item, NULL)) == 0) {
        l->sum += item;
        l->count++;
    }
    return 0;
}

ZK_ASYNC_TEST_ON(broadcast, it_reaches_all_workers_and_ends_when_closed, 2)
{
    enum { ITEMS = 1000 };
    zk_broadcast *b = new_broadcast(ITEMS);
    listener listeners[4] = {0}, *p;
    ZK_SCOPE(s) {
        for (int i = 0; i < 4; i++) {
            p = &listeners[i];
            zk_broadcast_subscribe(b, &p->subscription);
            cr_assert_ok(zk_spawn_on(&s, i % 2, listen_all, &p));
        }
        for (int i = 0; i < ITEMS; i++) {
            cr_assert_ok(zk_broadcast_send(b, &i));
            if (i % 50 == 0) zk_yield();
        }
        zk_broadcast_close(b);
        cr_assert_ok(zk_scope_wait(&s));
    }
    for (int i = 0; i < 4; i++) {
        cr_assert_rc(listeners[i].rc, ZK_E_CLOSED);
        cr_assert_eq(listeners[i].count, ITEMS);
        cr_assert_eq(listeners[i].sum, (long)ITEMS * (ITEMS - 1) / 2);
    }
    cr_assert_rc(zk_broadcast_send(b, &(int){1}), ZK_E_CLOSED);
    zk_broadcast_free(b);
}

ZK_ASYNC_TEST(broadcast, a_cancelled_receive_takes_nothing)
{
    zk_broadcast *b = new_broadcast(2);
    zk_subscription s;
    int item = 0, rc = 0;
    zk_broadcast_subscribe(b, &s);
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_broadcast_recv(&s, &item, NULL);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_ok(zk_broadcast_send(b, &(int){5}));
    assert_recv(&s, 5, 0);
    zk_broadcast_free(b);
}

ZK_ASYNC_TEST(broadcast, impossible_sizes_are_refused)
{
    zk_broadcast *b;
    cr_assert_rc(zk_broadcast_new(0, 1, &b), -EINVAL);
    cr_assert_rc(zk_broadcast_new(1, 0, &b), -EINVAL);
    cr_assert_rc(zk_broadcast_new(SIZE_MAX / 2, 3, &b), -EINVAL);
    zk_broadcast_free(NULL);
}

ZK_TEST(broadcast, outside_a_runtime_there_are_none)
{
    zk_broadcast *b;
    cr_assert_rc(zk_broadcast_new(4, 1, &b), ZK_E_NO_RUNTIME);
}
