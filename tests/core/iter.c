/*
 * Iterators: generators, arrays, channels; the end, errors, cancellation, early closing.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/iter.h>

static int produced, closed_with;

/* 0, 1, 2, ... up to *limit; tells how it was ended. */
static int count_up(zk_emitter *out, void *arg)
{
    int limit = *(int *)arg;
    for (int i = 0; i < limit; i++) {
        produced = i + 1;
        int rc = zk_emit(out, &i);
        if (rc < 0) {
            closed_with = rc;
            return rc;
        }
    }
    return 0;
}

static zk_iter *counter(int *limit)
{
    zk_iter *it;
    cr_assert_ok(zk_iter_generate(sizeof(int), count_up, limit, &it));
    return it;
}

#define cr_assert_next(iter, wanted)                                                               \
    do {                                                                                           \
        int zk__item = -1;                                                                         \
        cr_assert_rc(zk_iter_next((iter), &zk__item), 1);                                          \
        cr_assert_eq(zk__item, (wanted), "%d, not %d", zk__item, (wanted));                        \
    } while (0)

ZK_ASYNC_TEST(iter, a_generator_gives_its_items_and_ends)
{
    int limit = 1000, item;
    zk_iter *it = counter(&limit);
    cr_assert_eq(zk_iter_item_bytes(it), sizeof(int));
    for (int i = 0; i < 1000; i++)
        cr_assert_next(it, i);
    cr_assert_rc(zk_iter_next(it, &item), 0);
    cr_assert_rc(zk_iter_next(it, &item), 0);
    zk_iter_close(it);
    cr_assert_eq(closed_with, 0);
}

/* The producer does not start before it is asked, and is never more than one item ahead. */
ZK_ASYNC_TEST(iter, a_producer_waits_to_be_asked)
{
    int limit = 1000;
    zk_iter *it = counter(&limit);
    zk_yield();
    cr_assert_eq(produced, 0);
    for (int i = 0; i < 10; i++) {
        cr_assert_next(it, i);
        zk_yield();
        zk_yield();
        cr_assert_leq(produced, i + 2);
    }
    zk_iter_close(it);
}

ZK_ASYNC_TEST(iter, closing_early_cancels_the_producer)
{
    int limit = INT32_MAX;
    zk_iter *it = counter(&limit);
    cr_assert_next(it, 0);
    zk_iter_close(it);
    cr_assert_rc(closed_with, -ECANCELED);
    it = counter(&limit);
    zk_iter_close(it); /* one that was never asked has nothing to end */
    zk_iter_close(NULL);
}

static int fail_at_two(zk_emitter *out, void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        int rc = zk_emit(out, &i);
        if (rc < 0) return rc;
    }
    return zk_fail(-EIO, "producing the third");
}

ZK_ASYNC_TEST(iter, a_producers_error_is_the_consumers)
{
    zk_iter *it;
    int item;
    cr_assert_ok(zk_iter_generate(sizeof(int), fail_at_two, NULL, &it));
    cr_assert_next(it, 0);
    cr_assert_next(it, 1);
    cr_assert_rc(zk_iter_next(it, &item), -EIO);
    cr_assert_str_eq(zk_trail(), "producing the third: EIO (Input/output error)");
    cr_assert_rc(zk_iter_next(it, &item), -EIO);
    zk_iter_close(it);
    cr_assert_ok(zk_iter_generate(sizeof(int), fail_at_two, NULL, &it));
    cr_assert_next(it, 0);
    cr_assert_next(it, 1);
    zk_yield(); /* its error is never asked for */
    zk_iter_close(it);
}

static int slow_count(zk_emitter *out, void *arg)
{
    for (int i = 0; i < 3; i++) {
        int rc = zk_sleep(ZK_MS((intptr_t)arg));
        if (rc == 0) rc = zk_emit(out, &i);
        if (rc < 0) return rc;
    }
    return 0;
}

/* A next that is cancelled takes no item: the following one gets it. */
ZK_ASYNC_TEST(iter, a_cancelled_next_loses_nothing)
{
    zk_iter *it;
    int item = -1, rc = 0;
    cr_assert_ok(zk_iter_generate(sizeof(int), slow_count, (void *)5, &it));
    for (int i = 0; i < 3; i++) {
        ZK_WITHIN(ZK_MS(1)) {
            rc = zk_iter_next(it, &item);
        }
        cr_assert_rc(rc, -ETIMEDOUT);
        cr_assert_next(it, i);
    }
    cr_assert_rc(zk_iter_next(it, &item), 0);
    zk_iter_close(it);
}

/* Cancelled at the very moment that the producer has been woken for it. */
ZK_ASYNC_TEST(iter, a_next_cancelled_while_the_producer_is_on_its_way_loses_nothing)
{
    int limit = 10, item = -1;
    zk_iter *it = counter(&limit);
    cr_assert_next(it, 0);
    zk_yield();
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        cr_assert_rc(zk_iter_next(it, &item), -ECANCELED);
    }
    cr_assert_next(it, 1);
    zk_iter_close(it);
}

/* The scope around is cancelled: so is the producer, and closing still waits for it. */
ZK_ASYNC_TEST(iter, closing_works_in_a_cancelled_scope)
{
    int limit = 10, item;
    ZK_SCOPE(s) {
        zk_iter *it = counter(&limit);
        cr_assert_next(it, 0);
        zk_scope_cancel(&s);
        cr_assert_rc(zk_iter_next(it, &item), -ECANCELED);
        zk_iter_close(it);
    }
    cr_assert_rc(closed_with, -ECANCELED);
}

ZK_ASYNC_TEST(iter, an_array_gives_its_items)
{
    static const int items[] = {3, 1, 4, 1, 5};
    zk_iter *it;
    int item;
    cr_assert_ok(zk_iter_from_array(items, sizeof *items, 5, &it));
    for (int i = 0; i < 5; i++)
        cr_assert_next(it, items[i]);
    cr_assert_rc(zk_iter_next(it, &item), 0);
    zk_iter_close(it);
    cr_assert_rc(zk_iter_from_array(items, 0, 5, &it), -EINVAL);
    cr_assert_rc(zk_iter_generate(0, count_up, NULL, &it), -EINVAL);
}

ZK_ASYNC_TEST(iter, a_channel_ends_when_it_is_closed)
{
    zk_channel *c;
    zk_iter *it;
    int item;
    cr_assert_ok(zk_channel_new(sizeof(int), 4, &c));
    for (int i = 0; i < 3; i++)
        cr_assert_ok(zk_channel_send(c, &i));
    zk_channel_close(c);
    cr_assert_ok(zk_iter_from_channel(c, &it));
    for (int i = 0; i < 3; i++)
        cr_assert_next(it, i);
    cr_assert_rc(zk_iter_next(it, &item), 0);
    zk_iter_close(it);
    zk_channel_free(c);
}

ZK_ASYNC_TEST(iter, collecting_gives_an_array)
{
    int limit = 100;
    zk_iter *it = counter(&limit);
    void *items;
    size_t count;
    cr_assert_ok(zk_iter_collect(it, 100, &items, &count));
    cr_assert_eq(count, 100u);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(((int *)items)[i], i);
    zk_free(items);
    cr_assert_ok(zk_iter_collect(it, 100, &items, &count));
    cr_assert(items == NULL && count == 0);
    zk_iter_close(it);
    it = counter(&limit);
    cr_assert_rc(zk_iter_collect(it, 99, &items, &count), ZK_E_LIMIT);
    zk_iter_close(it);
}

ZK_TEST(iter, outside_a_runtime_there_are_none)
{
    zk_iter *it;
    cr_assert_rc(zk_iter_generate(4, count_up, NULL, &it), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_iter_from_array("", 1, 1, &it), ZK_E_NO_RUNTIME);
}

static int next_elsewhere(void *arg)
{
    int item;
    return zk_iter_next(*(zk_iter **)arg, &item);
}

ZK_ASYNC_TEST_ON(iter, another_worker_may_not_use_it, 2)
{
    int limit = 3;
    zk_iter *it = counter(&limit);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, 1, next_elsewhere, &it));
        cr_assert_rc(zk_scope_wait(&s), ZK_E_WORKER);
    }
    zk_iter_close(it);
}
