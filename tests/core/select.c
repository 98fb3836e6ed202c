/*
 * Select: exactly one case commits, the others have no effect; every kind of case; cancellation;
 * two selects that meet; two workers.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/select.h>

static zk_channel *new_channel(size_t capacity)
{
    zk_channel *c;
    cr_assert_ok(zk_channel_new(sizeof(int), capacity, &c));
    return c;
}

static int fail_in(void *arg)
{
    int rc = zk_sleep(ZK_MS((intptr_t)arg));
    return rc < 0 ? rc : -EIO;
}

ZK_ASYNC_TEST(select, the_ready_case_is_taken)
{
    zk_channel *a = new_channel(1), *b = new_channel(1);
    int x = 0, y = 0;
    cr_assert_ok(zk_channel_send(b, &(int){7}));
    cr_assert_rc(zk_select({ZK_RECV(a, &x)}, {ZK_RECV(b, &y)}), 1);
    cr_assert(x == 0 && y == 7);
    y = 8;
    cr_assert_rc(zk_select({ZK_RECV(b, &x)}, {ZK_SEND(a, &y)}), 1);
    cr_assert_ok(zk_channel_try_recv(a, &x));
    cr_assert_eq(x, 8);
    zk_channel_free(a);
    zk_channel_free(b);
}

/* Of two that are ready both are taken, about equally often; the other is left as it was. */
ZK_ASYNC_TEST(select, ready_cases_take_turns)
{
    enum { ROUNDS = 1000 };
    zk_channel *a = new_channel(ROUNDS), *b = new_channel(ROUNDS);
    int taken[2] = {0}, next[2] = {0}, item;
    for (int i = 0; i < ROUNDS; i++) {
        cr_assert_ok(zk_channel_try_send(a, &i));
        cr_assert_ok(zk_channel_try_send(b, &i));
    }
    for (int i = 0; i < ROUNDS; i++) {
        int got = zk_select({ZK_RECV(a, &item)}, {ZK_RECV(b, &item)});
        cr_assert_ok(got);
        cr_assert_eq(item, next[got]++);
        taken[got]++;
    }
    cr_assert(taken[0] > ROUNDS / 3 && taken[1] > ROUNDS / 3, "%d and %d", taken[0], taken[1]);
    cr_assert_eq(zk_channel_count(a) + zk_channel_count(b), (size_t)ROUNDS);
    zk_channel_free(a);
    zk_channel_free(b);
}

ZK_ASYNC_TEST(select, ordered_prefers_the_first)
{
    zk_channel *a = new_channel(100), *b = new_channel(100);
    int item = 1;
    for (int i = 0; i < 50; i++) {
        cr_assert_ok(zk_channel_try_send(a, &item));
        cr_assert_ok(zk_channel_try_send(b, &item));
    }
    for (int i = 0; i < 50; i++)
        cr_assert_rc(zk_select_ordered({ZK_RECV(a, &item)}, {ZK_RECV(b, &item)}), 0);
    cr_assert_rc(zk_select_ordered({ZK_RECV(a, &item)}, {ZK_RECV(b, &item)}), 1);
    zk_channel_free(a);
    zk_channel_free(b);
}

ZK_ASYNC_TEST(select, default_is_taken_when_nothing_is_ready)
{
    zk_channel *a = new_channel(1);
    int item = 3;
    cr_assert_rc(zk_select({ZK_RECV(a, &item)}, {ZK_DEFAULT()}), 1);
    cr_assert_rc(zk_select({ZK_DEFAULT()}, {ZK_SEND(a, &item)}), 1);
    cr_assert_rc(zk_select({ZK_RECV(a, &item)}, {ZK_DEFAULT()}), 0);
    zk_channel_free(a);
}

ZK_ASYNC_TEST(select, a_span_of_time_passes)
{
    zk_channel *a = new_channel(1);
    int item;
    zk_time start = zk_now();
    cr_assert_rc(zk_select({ZK_RECV(a, &item)}, {ZK_AFTER(ZK_MS(5))}), 1);
    cr_assert_geq(zk_now() - start, ZK_MS(5));
    cr_assert_rc(zk_select({ZK_RECV(a, &item)}, {ZK_AFTER(0)}), 1);
    zk_channel_free(a);
}

static int after_ms(void *arg)
{
    int rc = zk_sleep(ZK_MS((intptr_t)arg));
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

/* A future goes on when another case is taken, and may be selected again. */
ZK_ASYNC_TEST(select, a_future_that_was_not_chosen_goes_on)
{
    zk_future f;
    zk_async(&f, after_ms, (void *)20);
    cr_assert_rc(zk_select({ZK_AWAIT(&f)}, {ZK_AFTER(ZK_MS(2))}), 1);
    cr_assert_rc(zk_select({ZK_AWAIT(&f)}, {ZK_AFTER(ZK_SEC(9))}), 0);
    cr_assert_rc(zk_select({ZK_AWAIT(&f)}, {ZK_DEFAULT()}), 0);
    cr_assert_rc(zk_await(&f), 20);
}

/* A future that fails is finished like any other; its error is zk_await's. */
ZK_ASYNC_TEST(select, a_future_that_failed_is_ready)
{
    zk_future f;
    zk_async(&f, fail_in, (void *)1);
    cr_assert_rc(zk_select({ZK_AWAIT(&f)}), 0);
    cr_assert_rc(zk_await(&f), -EIO);
}

ZK_ASYNC_TEST(select, a_closed_channel_is_an_error_or_a_case)
{
    zk_channel *a = new_channel(1);
    int item = 5, rc = 1;
    zk_channel_close(a);
    cr_assert_rc(zk_select({ZK_RECV(a, &item)}), ZK_E_CLOSED);
    cr_assert_rc(zk_select({ZK_RECV(a, &item, &rc)}), 0);
    cr_assert_rc(rc, ZK_E_CLOSED);
    cr_assert_rc(zk_select({ZK_SEND(a, &item, &rc)}, {ZK_AFTER(ZK_SEC(1))}), 0);
    cr_assert_rc(rc, ZK_E_CLOSED);
    zk_channel *b = new_channel(1);
    cr_assert_rc(zk_select({ZK_SEND(b, &item, &rc)}), 0);
    cr_assert_rc(rc, 0);
    zk_channel_free(a);
    zk_channel_free(b);
}

static int close_soon(void *arg)
{
    zk_yield();
    zk_channel_close(arg);
    return 0;
}

ZK_ASYNC_TEST(select, closing_ends_a_select_that_waits)
{
    zk_channel *a = new_channel(0), *b = new_channel(0);
    int item = 5, rc = 0;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, close_soon, a));
        cr_assert_rc(zk_select({ZK_RECV(b, &item)}, {ZK_RECV(a, &item, &rc)}), 1);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_rc(rc, ZK_E_CLOSED);
    zk_channel_free(a);
    zk_channel_free(b);
}

ZK_ASYNC_TEST(select, cancellation_is_an_error_or_a_case)
{
    zk_channel *a = new_channel(0);
    int item, rc = 0, again = 0, ordered = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_select({ZK_RECV(a, &item)});
        again = zk_select({ZK_RECV(a, &item)}, {ZK_CANCEL()});
        ordered = zk_select_ordered({ZK_CANCEL()}, {ZK_RECV(a, &item)});
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_rc(again, 1);
    cr_assert_rc(ordered, 0);
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_select({ZK_RECV(a, &item)}, {ZK_CANCEL()});
    }
    cr_assert_rc(rc, 1);
    cr_assert_rc(zk_channel_try_send(a, &item), -EAGAIN, "the select left nobody in line");
    zk_channel_free(a);
}

ZK_ASYNC_TEST(select, no_cases_are_an_error)
{
    cr_assert_rc(zk_select_cases(NULL, 0), -EINVAL);
    cr_assert_rc(zk_select_cases_ordered(NULL, 0), -EINVAL);
}

ZK_TEST(select, outside_a_runtime_it_is_an_error)
{
    cr_assert_rc(zk_select({ZK_AFTER(0)}), ZK_E_NO_RUNTIME);
}

static int send_one(void *arg)
{
    zk_channel *c = arg;
    return zk_channel_send(c, &(int){42});
}

/* Many cases, more than have their place in the frame; and the same channel in several. */
ZK_ASYNC_TEST(select, any_number_of_cases)
{
    enum { CASES = 50 };
    zk_channel *channels[CASES];
    zk_case cases[CASES + 1];
    int items[CASES + 1] = {0};
    for (int i = 0; i < CASES; i++) {
        channels[i] = new_channel(0);
        cases[i] = (zk_case){ZK_RECV(channels[i], &items[i])};
    }
    cases[CASES] = (zk_case){ZK_RECV(channels[33], &items[CASES])};
    for (int round = 0; round < 3; round++) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, send_one, channels[33]));
            int got = zk_select_cases(cases, CASES + 1);
            cr_assert(got == 33 || got == CASES, "%d", got);
            cr_assert_eq(items[got], 42);
            cr_assert_ok(zk_scope_wait(&s));
        }
    }
    for (int i = 0; i < CASES; i++) {
        cr_assert_rc(zk_channel_try_send(channels[i], &(int){1}), -EAGAIN);
        zk_channel_free(channels[i]);
    }
}

/* One case sends and another receives on the same channel: it does not meet itself. */
ZK_ASYNC_TEST(select, a_select_does_not_meet_itself)
{
    zk_channel *c = new_channel(0);
    int in = 0, out = 1;
    cr_assert_rc(zk_select({ZK_SEND(c, &out)}, {ZK_RECV(c, &in)}, {ZK_AFTER(ZK_MS(2))}), 2);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, send_one, c));
        cr_assert_rc(zk_select({ZK_SEND(c, &out)}, {ZK_RECV(c, &in)}), 1);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(in, 42);
    zk_channel_free(c);
}

/* ---- two selects, one or two workers ---- */

typedef struct party {
    zk_channel *ab, *ba;
    int sent, received, left;
} party;

/* Sends on one channel and receives on the other, whichever goes, until both are done. */
static int talk(void *arg)
{
    party *p = *(party **)arg;
    while (p->sent < p->left || p->received < p->left) {
        int in = -1, got;
        if (p->sent < p->left && p->received < p->left) {
            got = zk_select({ZK_SEND(p->ab, &p->sent)}, {ZK_RECV(p->ba, &in)});
        } else if (p->sent < p->left) {
            got = zk_select({ZK_SEND(p->ab, &p->sent)});
        } else {
            got = zk_select({ZK_RECV(p->ba, &in)});
            if (got == 0) got = 1;
        }
        if (got < 0) return got;
        if (got == 0) {
            p->sent++;
        } else if (in != p->received++) {
            return -EBADMSG;
        }
    }
    return 0;
}

static void two_talk(size_t capacity, int first_on, int second_on, int items)
{
    zk_channel *ab = new_channel(capacity), *ba = new_channel(capacity);
    party a = {.ab = ab, .ba = ba, .left = items}, b = {.ab = ba, .ba = ab, .left = items};
    party *p = &a, *q = &b;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, first_on, talk, &p));
        cr_assert_ok(zk_spawn_on(&s, second_on, talk, &q));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(a.sent == items && a.received == items && b.sent == items && b.received == items);
    zk_channel_free(ab);
    zk_channel_free(ba);
}

ZK_ASYNC_TEST(select, two_selects_meet)
{
    two_talk(0, 0, 0, 1000);
    two_talk(3, 0, 0, 1000);
}

ZK_ASYNC_TEST_ON(select, two_selects_meet_across_workers, 2)
{
    two_talk(0, 0, 1, 5000);
    two_talk(1, 1, 0, 5000);
    two_talk(64, 0, 1, 5000);
}

typedef struct racer {
    zk_channel *a, *b;
    long count;
    int rc;
} racer;

static int take_either(void *arg)
{
    racer *r = *(racer **)arg;
    int item, closed = 0;
    while (closed < 2) {
        int rc_a = 0, rc_b = 0;
        int got = closed == 0
                      ? zk_select({ZK_RECV(r->a, &item, &rc_a)}, {ZK_RECV(r->b, &item, &rc_b)})
                      : zk_select({ZK_RECV(r->a, &item, &rc_a)});
        if (got < 0) return got;
        if (rc_a || rc_b) {
            closed = 2;
        } else {
            r->count++;
        }
    }
    return 0;
}

static int give(void *arg)
{
    racer *r = *(racer **)arg;
    for (int i = 0; i < 3000; i++) {
        int rc = zk_select({ZK_SEND(r->a, &i)}, {ZK_SEND(r->b, &i)});
        if (rc < 0) return rc;
        r->count++;
    }
    return 0;
}

/* Many selects compete for the same channels on all workers: what was sent is received, once. */
ZK_ASYNC_TEST_ON(select, competing_selects_lose_and_double_nothing, 3)
{
    zk_channel *a = new_channel(0), *b = new_channel(2);
    racer takers[4], givers[4], *p;
    long given = 0, taken = 0;
    int item;
    ZK_SCOPE(all) {
        for (int i = 0; i < 4; i++) {
            takers[i] = (racer){.a = a, .b = b};
            p = &takers[i];
            cr_assert_ok(zk_spawn_on(&all, i % 3, take_either, &p));
        }
        ZK_SCOPE(giving) {
            for (int i = 0; i < 4; i++) {
                givers[i] = (racer){.a = a, .b = b};
                p = &givers[i];
                cr_assert_ok(zk_spawn_on(&giving, (i + 1) % 3, give, &p));
            }
            cr_assert_ok(zk_scope_wait(&giving));
        }
        zk_channel_close(a);
        zk_channel_close(b);
        cr_assert_ok(zk_scope_wait(&all));
    }
    while (zk_channel_try_recv(b, &item) == 0)
        taken++;
    for (int i = 0; i < 4; i++) {
        given += givers[i].count;
        taken += takers[i].count;
    }
    cr_assert_eq(given, 12000);
    cr_assert_eq(taken, given);
    zk_channel_free(a);
    zk_channel_free(b);
}
