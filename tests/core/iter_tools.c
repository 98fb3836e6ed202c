/*
 * Iterators over iterators: what each gives, at the end, with errors, cancelled, closed early.
 */
#include <errno.h>

#include "tests/async.h"

#include <zokio/iter.h>

static int ended_producers;

/* arg: {first, step, count, sleep in ms, error at the end} */
typedef struct plan {
    int first, step, count, sleep_ms, error;
} plan;

static int follow(zk_emitter *out, void *arg)
{
    const plan *p = arg;
    int rc = 0;
    for (int i = 0; i < p->count && rc >= 0; i++) {
        if (p->sleep_ms) rc = zk_sleep(ZK_MS(p->sleep_ms));
        int item = p->first + i * p->step;
        if (rc >= 0) rc = zk_emit(out, &item);
    }
    ended_producers++;
    return rc < 0 ? rc : p->error;
}

static zk_iter *from(plan *p)
{
    zk_iter *it;
    cr_assert_ok(zk_iter_generate(sizeof(int), follow, p, &it));
    return it;
}

/* Checks the rest of an iterator of int against a list that ends with -1, and closes it. */
static void assert_rest(zk_iter *it, const int *wanted, int end)
{
    int item, rc;
    for (; *wanted >= 0; wanted++) {
        cr_assert_rc(zk_iter_next(it, &item), 1);
        cr_assert_eq(item, *wanted, "%d, not %d", item, *wanted);
    }
    rc = zk_iter_next(it, &item);
    cr_assert_rc(rc, end);
    cr_assert_rc(zk_iter_next(it, &item), end);
    zk_iter_close(it);
}

#define LIST(...) ((const int[]){__VA_ARGS__, -1})

static int square(const void *item, void *ret_item, void *arg)
{
    int n = *(const int *)item;
    if (arg && n == *(int *)arg) return -ERANGE;
    *(int *)ret_item = n * n;
    return 0;
}

static int is_odd(const void *item, void *arg)
{
    int n = *(const int *)item;
    if (arg && n == *(int *)arg) return -ERANGE;
    return n % 2;
}

ZK_ASYNC_TEST(iter_tools, map_turns_items_into_others)
{
    plan p = {1, 1, 4, 0, 0};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_map(&it, sizeof(int), square, NULL));
    assert_rest(it, LIST(1, 4, 9, 16), 0);
    it = from(&p);
    int bad = 3;
    cr_assert_ok(zk_iter_map(&it, sizeof(int), square, &bad));
    assert_rest(it, LIST(1, 4), -ERANGE);
    cr_assert_eq(ended_producers, 2);
    it = from(&p);
    cr_assert_rc(zk_iter_map(&it, 0, square, NULL), -EINVAL);
    zk_iter_close(it);
}

ZK_ASYNC_TEST(iter_tools, filter_keeps_some)
{
    plan p = {1, 1, 7, 0, 0};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_filter(&it, is_odd, NULL));
    assert_rest(it, LIST(1, 3, 5, 7), 0);
    it = from(&p);
    int bad = 5;
    cr_assert_ok(zk_iter_filter(&it, is_odd, &bad));
    assert_rest(it, LIST(1, 3), -ERANGE);
}

/* Take asks for no more than it gives, so an endless producer ends with it. */
ZK_ASYNC_TEST(iter_tools, take_ends_early)
{
    plan p = {10, 10, INT32_MAX, 0, 0};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_take(&it, 3));
    assert_rest(it, LIST(10, 20, 30), 0);
    cr_assert_eq(ended_producers, 1);
    it = from(&p);
    cr_assert_ok(zk_iter_take(&it, 0));
    assert_rest(it, LIST(-1), 0);
}

ZK_ASYNC_TEST(iter_tools, they_combine)
{
    plan p = {0, 1, INT32_MAX, 0, 0};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_filter(&it, is_odd, NULL));
    cr_assert_ok(zk_iter_map(&it, sizeof(int), square, NULL));
    cr_assert_ok(zk_iter_buffer(&it, 8));
    cr_assert_ok(zk_iter_take(&it, 4));
    assert_rest(it, LIST(1, 9, 25, 49), 0);
    cr_assert_eq(ended_producers, 1);
}

ZK_ASYNC_TEST(iter_tools, an_error_comes_through_all_of_them)
{
    plan p = {1, 2, 2, 0, -EIO};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_buffer(&it, 8));
    cr_assert_ok(zk_iter_filter(&it, is_odd, NULL));
    cr_assert_ok(zk_iter_take(&it, 5));
    assert_rest(it, LIST(1, 3), -EIO);
}

/* A buffer lets its source run ahead, by its size and what both ends hold. */
ZK_ASYNC_TEST(iter_tools, buffer_runs_ahead)
{
    plan p = {0, 1, 100, 0, 0};
    zk_iter *it = from(&p);
    int item;
    cr_assert_ok(zk_iter_buffer(&it, 100));
    cr_assert_rc(zk_iter_next(it, &item), 1);
    for (int i = 0; i < 500 && !ended_producers; i++)
        zk_yield();
    cr_assert_eq(ended_producers, 1);
    for (int i = 1; i < 100; i++) {
        cr_assert_rc(zk_iter_next(it, &item), 1);
        cr_assert_eq(item, i);
    }
    cr_assert_rc(zk_iter_next(it, &item), 0);
    zk_iter_close(it);
    it = from(&p);
    cr_assert_rc(zk_iter_buffer(&it, 0), -EINVAL);
    zk_iter_close(it);
}

ZK_ASYNC_TEST(iter_tools, throttle_spaces_items_out)
{
    plan p = {0, 1, 4, 0, 0};
    zk_iter *it = from(&p);
    cr_assert_ok(zk_iter_throttle(&it, ZK_MS(4)));
    zk_time start = zk_now();
    assert_rest(it, LIST(0, 1, 2, 3), 0);
    cr_assert_geq(zk_now() - start, ZK_MS(12));
}

static void assert_chunk(zk_iter *it, int first, size_t count)
{
    zk_chunk chunk;
    cr_assert_rc(zk_iter_next(it, &chunk), 1);
    cr_assert_eq(chunk.count, count, "%zu items, not %zu", chunk.count, count);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(((const int *)chunk.items)[i], first + (int)i);
}

ZK_ASYNC_TEST(iter_tools, chunk_groups_items)
{
    plan p = {0, 1, 7, 0, 0};
    zk_iter *it = from(&p);
    zk_chunk chunk;
    cr_assert_ok(zk_iter_chunk(&it, 3, 0));
    assert_chunk(it, 0, 3);
    assert_chunk(it, 3, 3);
    assert_chunk(it, 6, 1);
    cr_assert_rc(zk_iter_next(it, &chunk), 0);
    zk_iter_close(it);
    p.error = -EIO;
    it = from(&p);
    cr_assert_ok(zk_iter_chunk(&it, 5, 0));
    assert_chunk(it, 0, 5);
    assert_chunk(it, 5, 2);
    cr_assert_rc(zk_iter_next(it, &chunk), -EIO);
    zk_iter_close(it);
    it = from(&p);
    cr_assert_rc(zk_iter_chunk(&it, 0, 0), -EINVAL);
    zk_iter_close(it);
}

/* When its time is up a chunk is given as it is, and nothing is lost. */
ZK_ASYNC_TEST(iter_tools, a_chunk_does_not_wait_for_ever)
{
    plan p = {0, 1, 6, 8, 0};
    zk_iter *it = from(&p);
    zk_chunk chunk;
    cr_assert_ok(zk_iter_chunk(&it, 100, ZK_MS(12)));
    int next = 0, chunks = 0;
    while (zk_iter_next(it, &chunk) > 0) {
        for (size_t i = 0; i < chunk.count; i++)
            cr_assert_eq(((const int *)chunk.items)[i], next++);
        chunks++;
    }
    cr_assert_eq(next, 6);
    cr_assert_gt(chunks, 1);
    zk_iter_close(it);
}

/* A next that is cancelled keeps the items that the chunk has got so far. */
ZK_ASYNC_TEST(iter_tools, a_cancelled_chunk_keeps_its_items)
{
    plan p = {0, 1, 3, 4, 0};
    zk_iter *it = from(&p);
    zk_chunk chunk;
    int rc = 0;
    cr_assert_ok(zk_iter_chunk(&it, 3, 0));
    ZK_WITHIN(ZK_MS(6)) {
        rc = zk_iter_next(it, &chunk);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    assert_chunk(it, 0, 3);
    zk_iter_close(it);
}

ZK_ASYNC_TEST(iter_tools, merge_gives_all_items_of_all)
{
    plan plans[] = {{0, 3, 50, 0, 0}, {1, 3, 50, 1, 0}, {2, 3, 50, 0, 0}};
    zk_iter *its[3], *it;
    for (int i = 0; i < 3; i++)
        its[i] = from(&plans[i]);
    cr_assert_ok(zk_iter_merge(its, 3, &it));
    int next[3] = {0, 1, 2}, item, count = 0;
    while (zk_iter_next(it, &item) > 0) {
        cr_assert_eq(item, next[item % 3]);
        next[item % 3] += 3;
        count++;
    }
    cr_assert_eq(count, 150);
    zk_iter_close(it);
}

ZK_ASYNC_TEST(iter_tools, an_error_of_one_ends_the_merge)
{
    plan plans[] = {{0, 3, INT32_MAX, 1, 0}, {1, 3, 2, 0, -EIO}};
    zk_iter *its[] = {from(&plans[0]), from(&plans[1])}, *it;
    cr_assert_ok(zk_iter_merge(its, 2, &it));
    int item, rc;
    while ((rc = zk_iter_next(it, &item)) > 0)
        continue;
    cr_assert_rc(rc, -EIO);
    zk_iter_close(it);
    cr_assert_eq(ended_producers, 2);
}

ZK_ASYNC_TEST(iter_tools, what_cannot_be_merged_is_left_alone)
{
    plan p = {0, 1, 3, 0, 0};
    zk_iter *its[2] = {from(&p)}, *it;
    cr_assert_ok(zk_iter_from_array("abc", 1, 3, &its[1]));
    cr_assert_rc(zk_iter_merge(its, 2, &it), -EINVAL);
    cr_assert_rc(zk_iter_merge(its, 0, &it), -EINVAL);
    zk_iter_close(its[0]);
    zk_iter_close(its[1]);
}
