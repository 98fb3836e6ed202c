/*
 * Channels: order, backpressure, closing, cancellation, on one worker and across two.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/channel.h>

static zk_channel *new_channel(size_t capacity)
{
    zk_channel *c;
    cr_assert_ok(zk_channel_new(sizeof(int), capacity, &c));
    return c;
}

#define cr_assert_recv(channel, wanted)                                                            \
    do {                                                                                           \
        int zk__item = -1;                                                                         \
        cr_assert_ok(zk_channel_recv((channel), &zk__item));                                       \
        cr_assert_eq(zk__item, (wanted), "received %d, not %d", zk__item, (wanted));               \
    } while (0)

ZK_ASYNC_TEST(channel, items_come_out_in_the_order_of_the_sends)
{
    zk_channel *c = new_channel(3);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_channel_send(c, &(int){10 * round + i}));
        cr_assert_eq(zk_channel_count(c), 3u);
        for (int i = 0; i < 3; i++)
            cr_assert_recv(c, 10 * round + i);
    }
    zk_channel_free(c);
}

ZK_ASYNC_TEST(channel, items_of_any_size_are_copied_whole)
{
    static const size_t sizes[] = {1, 3, 8, 16, 100, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        zk_channel *c;
        char in[4096], out[4096] = {0};
        memset(in, (int)(i + 1), sizeof in);
        cr_assert_ok(zk_channel_new(sizes[i], 2, &c));
        cr_assert_ok(zk_channel_send(c, in));
        cr_assert_ok(zk_channel_recv(c, out));
        cr_assert(memcmp(in, out, sizes[i]) == 0);
        cr_assert(sizes[i] == sizeof out || out[sizes[i]] == 0);
        zk_channel_free(c);
    }
}

ZK_ASYNC_TEST(channel, impossible_sizes_are_refused)
{
    zk_channel *c = NULL;
    cr_assert_rc(zk_channel_new(0, 1, &c), -EINVAL);
    cr_assert_rc(zk_channel_new(SIZE_MAX / 2, 3, &c), -EINVAL);
    cr_assert_rc(zk_channel_new(8, SIZE_MAX / 8 - 1, &c), -EINVAL);
    cr_assert_null(c);
    zk_channel_free(NULL);
}

ZK_TEST(channel, outside_a_runtime_there_are_none)
{
    zk_channel *c = NULL;
    cr_assert_rc(zk_channel_new(8, 1, &c), ZK_E_NO_RUNTIME);
}

ZK_ASYNC_TEST(channel, trying_never_waits)
{
    zk_channel *c = new_channel(1);
    int item = 7;
    cr_assert_rc(zk_channel_try_recv(c, &item), -EAGAIN);
    cr_assert_ok(zk_channel_try_send(c, &item));
    cr_assert_rc(zk_channel_try_send(c, &item), -EAGAIN);
    item = 0;
    cr_assert_ok(zk_channel_try_recv(c, &item));
    cr_assert_eq(item, 7);
    zk_channel_free(c);
}

typedef struct job {
    zk_channel *in, *out;
    int first, count, rc;
} job;

static int send_some(void *arg)
{
    job *j = *(job **)arg;
    for (int i = 0; i < j->count && j->rc == 0; i++)
        j->rc = zk_channel_send(j->out, &(int){j->first + i});
    return 0;
}

static int recv_some(void *arg)
{
    job *j = *(job **)arg;
    for (int i = 0, item; i < j->count && j->rc == 0; i++) {
        j->rc = zk_channel_recv(j->in, &item);
        if (!j->rc && item != j->first + i) j->rc = -EBADMSG;
    }
    return 0;
}

/* A sender does not run ahead of its receiver by more than the capacity. */
ZK_ASYNC_TEST(channel, a_full_channel_holds_its_sender_up)
{
    job j = {.out = new_channel(4), .count = 100}, *p = &j;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, send_some, &p));
        zk_yield();
        cr_assert_eq(zk_channel_count(j.out), 4u);
        for (int i = 0; i < 100; i++)
            cr_assert_recv(j.out, i);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_ok(j.rc);
    zk_channel_free(j.out);
}

static bool has_sent;

static int send_one(void *arg)
{
    int rc = zk_channel_send(arg, &(int){5});
    has_sent = true;
    return rc;
}

ZK_ASYNC_TEST(channel, a_rendezvous_is_a_meeting)
{
    zk_channel *c = new_channel(0);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, send_one, c));
        zk_yield();
        cr_assert(!has_sent);
        cr_assert_eq(zk_channel_count(c), 0u);
        cr_assert_recv(c, 5);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(has_sent);
    zk_channel_free(c);
}

/* Who waits first is served first, on either side. */
ZK_ASYNC_TEST(channel, those_who_wait_are_served_in_order)
{
    zk_channel *c = new_channel(0);
    job senders[3], receivers[3], *p;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++) {
            senders[i] = (job){.out = c, .first = i, .count = 1};
            p = &senders[i];
            cr_assert_ok(zk_spawn(&s, send_some, &p));
        }
        zk_yield();
        for (int i = 0; i < 3; i++)
            cr_assert_recv(c, i);
        for (int i = 0; i < 3; i++) {
            receivers[i] = (job){.in = c, .first = 10 + i, .count = 1};
            p = &receivers[i];
            cr_assert_ok(zk_spawn(&s, recv_some, &p));
        }
        zk_yield();
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_channel_send(c, &(int){10 + i}));
        cr_assert_ok(zk_scope_wait(&s));
    }
    for (int i = 0; i < 3; i++) {
        cr_assert_ok(senders[i].rc);
        cr_assert_ok(receivers[i].rc);
    }
    zk_channel_free(c);
}

ZK_ASYNC_TEST(channel, what_is_in_a_closed_channel_is_still_received)
{
    zk_channel *c = new_channel(2);
    cr_assert_ok(zk_channel_send(c, &(int){1}));
    zk_channel_close(c);
    zk_channel_close(c);
    cr_assert_rc(zk_channel_send(c, &(int){2}), ZK_E_CLOSED);
    cr_assert_rc(zk_channel_try_send(c, &(int){2}), ZK_E_CLOSED);
    cr_assert_recv(c, 1);
    int item = 9;
    cr_assert_rc(zk_channel_recv(c, &item), ZK_E_CLOSED);
    cr_assert_rc(zk_channel_try_recv(c, &item), ZK_E_CLOSED);
    cr_assert_eq(item, 9);
    zk_channel_free(c);
}

ZK_ASYNC_TEST(channel, closing_wakes_who_waits)
{
    job receiver = {.in = new_channel(1), .count = 1}, sender = {.out = new_channel(0), .count = 1};
    job *r = &receiver, *w = &sender;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, recv_some, &r));
        cr_assert_ok(zk_spawn(&s, send_some, &w));
        zk_yield();
        zk_channel_close(receiver.in);
        zk_channel_close(sender.out);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_rc(receiver.rc, ZK_E_CLOSED);
    cr_assert_rc(sender.rc, ZK_E_CLOSED);
    zk_channel_free(receiver.in);
    zk_channel_free(sender.out);
}

/* A receive that is cancelled has taken no item, a send that is cancelled has sent none. */
ZK_ASYNC_TEST(channel, cancelled_calls_have_had_no_effect)
{
    zk_channel *c = new_channel(1);
    int item = 0, rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_channel_recv(c, &item);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_ok(zk_channel_send(c, &(int){1}));
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_channel_send(c, &(int){2});
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_recv(c, 1);
    cr_assert_rc(zk_channel_try_recv(c, &item), -EAGAIN);
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        cr_assert_rc(zk_channel_send(c, &(int){3}), -ECANCELED);
        cr_assert_rc(zk_channel_recv(c, &item), -ECANCELED);
    }
    cr_assert_eq(zk_channel_count(c), 0u);
    zk_channel_free(c);
}

/* An item that was handed over is received even if the receiver is cancelled before it runs. */
ZK_ASYNC_TEST(channel, an_item_that_was_handed_over_is_not_lost)
{
    job j = {.in = new_channel(0), .first = 4, .count = 1}, *p = &j;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, recv_some, &p));
        zk_yield();
        cr_assert_ok(zk_channel_try_send(j.in, &(int){4}));
        zk_scope_cancel(&s);
    }
    cr_assert_ok(j.rc);
    zk_channel_free(j.in);
}

/* ---- across workers ---- */

enum { MANY = 20000 };

static void pass_many(size_t capacity, int sender_on, int receiver_on)
{
    zk_channel *c = new_channel(capacity);
    job from = {.out = c, .count = MANY}, to = {.in = c, .count = MANY}, *p = &from, *q = &to;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, sender_on, send_some, &p));
        cr_assert_ok(zk_spawn_on(&s, receiver_on, recv_some, &q));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_ok(from.rc);
    cr_assert_ok(to.rc);
    zk_channel_free(c);
}

ZK_ASYNC_TEST_ON(channel, workers_pass_items_to_each_other, 2)
{
    pass_many(1024, 0, 1);
    pass_many(16, 1, 0);
    pass_many(1, 0, 1);
    pass_many(0, 1, 0);
    pass_many(16, 1, 1); /* both away from the worker that made it */
}

static int sum_all(void *arg)
{
    job *j = *(job **)arg;
    long sum = 0;
    int item;
    while ((j->rc = zk_channel_recv(j->in, &item)) == 0) {
        sum += item;
        j->count++;
    }
    j->first = (int)(sum % 1000003);
    return 0;
}

/* Many senders and receivers on all workers: each item is received once. */
ZK_ASYNC_TEST_ON(channel, each_item_goes_to_one_receiver, 3)
{
    enum { SENDERS = 6, RECEIVERS = 6, EACH = 2000 };
    zk_channel *c = new_channel(8);
    job senders[SENDERS], receivers[RECEIVERS], *p;
    ZK_SCOPE(all) {
        for (int i = 0; i < RECEIVERS; i++) {
            receivers[i] = (job){.in = c};
            p = &receivers[i];
            cr_assert_ok(zk_spawn_on(&all, i % 3, sum_all, &p));
        }
        ZK_SCOPE(sending) {
            for (int i = 0; i < SENDERS; i++) {
                senders[i] = (job){.out = c, .first = i * EACH, .count = EACH};
                p = &senders[i];
                cr_assert_ok(zk_spawn_on(&sending, i % 3, send_some, &p));
            }
            cr_assert_ok(zk_scope_wait(&sending));
        }
        zk_channel_close(c);
        cr_assert_ok(zk_scope_wait(&all));
    }
    long count = 0, sum = 0, wanted = 0;
    for (int i = 0; i < SENDERS; i++)
        cr_assert_ok(senders[i].rc);
    for (int i = 0; i < RECEIVERS; i++) {
        cr_assert_rc(receivers[i].rc, ZK_E_CLOSED);
        count += receivers[i].count;
        sum += receivers[i].first;
    }
    for (int i = 0; i < SENDERS * EACH; i++)
        wanted += i;
    cr_assert_eq(count, SENDERS * EACH);
    cr_assert_eq(sum % 1000003, wanted % 1000003);
    zk_channel_free(c);
}

static int try_from_thread(void *arg)
{
    job *j = arg;
    int item;
    int rc = zk_channel_try_recv(j->in, &item);
    return rc < 0 ? rc : zk_channel_try_send(j->out, &(int){item + 1});
}

/* Threads that are no workers use channels too, and wake tasks. */
ZK_ASYNC_TEST(channel, other_threads_may_try)
{
    job j = {.in = new_channel(1), .out = new_channel(1)};
    job receiver = {.in = j.out, .first = 8, .count = 1}, *p = &receiver;
    cr_assert_ok(zk_channel_send(j.in, &(int){7}));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, recv_some, &p));
        zk_yield();
        cr_assert_ok(zk_blocking(try_from_thread, &j));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_ok(receiver.rc);
    zk_channel_free(j.in);
    zk_channel_free(j.out);
}
