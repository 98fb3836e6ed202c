/*
 * Iterators: sequences whose items come one at a time, when they are asked for, from code that may
 * suspend. (Streams, as other languages call them; here a zk_stream is one of bytes.)
 *
 *     static int count(zk_emitter *out, void *arg)
 *     {
 *         for (int i = 0;; i++) {
 *             int rc = zk_emit(out, &i);
 *             if (rc < 0) return rc;
 *         }
 *     }
 *
 *     zk_iter *it;
 *     int n, rc = zk_iter_generate(sizeof(int), count, NULL, &it);
 *     if (!rc) rc = zk_iter_filter(&it, is_prime, NULL);
 *     if (!rc) rc = zk_iter_take(&it, 10);
 *     while (!rc && (rc = zk_iter_next(it, &n)) > 0) { ...; rc = 0; }
 *     zk_iter_close(it);
 *
 * A producer runs when its consumer asks, at most one item ahead of it; closing the iterator, at
 * whatever point, cancels it and waits for its end. Iterators belong to the worker and to the scope
 * that they were made in, and must be closed before that is left.
 */
#ifndef ZOKIO_ITER_H
#define ZOKIO_ITER_H

#include <zokio/channel.h>
#include <zokio/task.h>

ZK_BEGIN

/** A sequence of items of one size. */
typedef struct zk_iter zk_iter;
/** Where a producer's items go. */
typedef struct zk_emitter zk_emitter;

/** Produces items with zk_emit; what it returns ends the sequence, an error as such. */
typedef int zk_producer(zk_emitter *out, void *arg);

/* ---- making ---------------------------------------------------------------------------------- */

/**
 * The items that `producer(out, arg)` emits. It is a task, started when the first item is asked
 * for. Never suspends.
 *
 * @return 0; -ENOMEM; -EINVAL (item_bytes is 0); ZK_E_NO_RUNTIME
 */
ZK_API int zk_iter_generate(size_t item_bytes, zk_producer *producer, void *arg, zk_iter **ret_iter)
    ZK_NODISCARD;

/**
 * In a producer: hands a copy of the item to the consumer. Suspends until it is asked for.
 *
 * @return 0; -ECANCELED (the iterator is being closed), -ETIMEDOUT, -ENOMEM
 */
ZK_API int zk_emit(zk_emitter *out, const void *item);

/** The items of an array, which must last. Never suspends. @return as zk_iter_generate */
ZK_API int zk_iter_from_array(const void *items, size_t item_bytes, size_t count,
                              zk_iter **ret_iter) ZK_NODISCARD;

/** What is received from a channel until it is closed. The channel is not freed. Never suspends.
 * @return as zk_iter_generate */
ZK_API int zk_iter_from_channel(zk_channel *channel, zk_iter **ret_iter) ZK_NODISCARD;

/* ---- using ----------------------------------------------------------------------------------- */

/**
 * The next item. Suspends as what produces it does. After the end, or an error of the producer,
 * it gives that again.
 *
 * @return 1 and the item; 0 at the end; the producer's error; -ECANCELED, -ETIMEDOUT, -ENOMEM: no
 *         item was lost
 */
ZK_API int zk_iter_next(zk_iter *iter, void *ret_item);

/** The size of its items. Never suspends. */
ZK_API size_t zk_iter_item_bytes(const zk_iter *iter);

/**
 * Closes the iterator and all that it was made from; NULL is allowed. Producers are cancelled and
 * waited for, even in a cancelled scope. Suspends sometimes.
 */
ZK_API void zk_iter_close(zk_iter *iter);

/**
 * All items, in memory that the caller frees with zk_free (NULL if there are none). Does not close
 * the iterator. Suspends as zk_iter_next does.
 *
 * @param count_max  more items than this are an error
 * @return 0; ZK_E_LIMIT; -ENOMEM; else as zk_iter_next
 */
ZK_API int zk_iter_collect(zk_iter *iter, size_t count_max, void **ret_items, size_t *ret_count);

/* ---- changing -------------------------------------------------------------------------------- */

/*
 * Each of these replaces *iter by an iterator over it. When they fail, *iter is as it was, and is
 * still to be closed. None of them suspends. They return 0, -ENOMEM, -EINVAL (an item size or a
 * count of 0).
 */

/** Turns each item into one of `item_bytes`: fn(item, ret_item, arg). An error of fn ends it. */
ZK_API int zk_iter_map(zk_iter **iter, size_t item_bytes,
                       int (*fn)(const void *item, void *ret_item, void *arg), void *arg)
    ZK_NODISCARD;

/** Keeps the items for which fn(item, arg) gives more than 0. An error of fn ends it. */
ZK_API int zk_iter_filter(zk_iter **iter, int (*fn)(const void *item, void *arg), void *arg)
    ZK_NODISCARD;

/** The first `count` items. */
ZK_API int zk_iter_take(zk_iter **iter, size_t count) ZK_NODISCARD;

/** Lets the producer run ahead by up to `count` items. */
ZK_API int zk_iter_buffer(zk_iter **iter, size_t count) ZK_NODISCARD;

/** At most one item per `period`: the next one is asked for only then. */
ZK_API int zk_iter_throttle(zk_iter **iter, zk_time period) ZK_NODISCARD;

/** A run of items; the memory is the iterator's, until its next item. */
typedef struct zk_chunk {
    const void *items;
    size_t count;
} zk_chunk;

/**
 * Groups the items: its own are zk_chunk of up to `count`. A chunk is smaller at the end, and when
 * `wait_max` has passed since its first item (0: it waits until it is full).
 */
ZK_API int zk_iter_chunk(zk_iter **iter, size_t count, zk_time wait_max) ZK_NODISCARD;

/**
 * The items of several iterators of one item size, as they come. An error of one ends it. On
 * success the merged iterator owns them; on failure they are as they were. Never suspends.
 *
 * @return 0; -ENOMEM; -EINVAL (no iterators, or their items differ in size)
 */
ZK_API int zk_iter_merge(zk_iter **iters, size_t count, zk_iter **ret_iter) ZK_NODISCARD;

ZK_END
#endif
