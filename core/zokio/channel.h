/*
 * Channels: how tasks hand values to each other, on one worker or across workers.
 *
 *   zk_channel             each item goes to one receiver; bounded, or rendezvous
 *   zk_broadcast           each item goes to every subscriber
 *   zk_watch               the latest value, and who wants to know that it has changed
 *
 * All of them may be used by tasks of any worker and, as far as a function never suspends, by any
 * thread. Senders and receivers that wait are served in the order in which they came.
 */
#ifndef ZOKIO_CHANNEL_H
#define ZOKIO_CHANNEL_H

#include <zokio/task.h>

ZK_BEGIN

/** A queue of items of one size, with any number of senders and receivers. */
typedef struct zk_channel zk_channel;

/**
 * Makes a channel. Never suspends.
 *
 * @param item_bytes  of each item; items are copied in and out
 * @param capacity    items that may wait in it; 0: rendezvous, a send waits for its receiver
 * @return 0; -ENOMEM; -EINVAL (item_bytes is 0, or the two are too large together);
 *         ZK_E_NO_RUNTIME
 */
ZK_API int zk_channel_new(size_t item_bytes, size_t capacity, zk_channel **ret_channel)
    ZK_NODISCARD;

/** Frees the channel and the items in it; NULL is allowed. Nobody may be using it. Never
 * suspends. */
ZK_API void zk_channel_free(zk_channel *channel);

/**
 * Sends a copy of `*item`. Suspends sometimes: while the channel is full, and now and then to let
 * other tasks run.
 *
 * @return 0; ZK_E_CLOSED; -ECANCELED, -ETIMEDOUT (the item was not sent); -ENOMEM (for the stack)
 */
ZK_API int zk_channel_send(zk_channel *channel, const void *item);

/**
 * Receives an item. Suspends sometimes: while the channel is empty, and now and then to let other
 * tasks run.
 *
 * @return 0; ZK_E_CLOSED when it is closed and empty; -ECANCELED, -ETIMEDOUT (no item was taken);
 *         -ENOMEM (for the stack)
 */
ZK_API int zk_channel_recv(zk_channel *channel, void *ret_item);

/** Sends without waiting. Never suspends. On any thread. @return 0; -EAGAIN; ZK_E_CLOSED */
ZK_API int zk_channel_try_send(zk_channel *channel, const void *item);

/** Receives without waiting. Never suspends. On any thread. @return 0; -EAGAIN; ZK_E_CLOSED */
ZK_API int zk_channel_try_recv(zk_channel *channel, void *ret_item);

/**
 * Closes the channel: what is in it can still be received, who waits to send gets ZK_E_CLOSED. May
 * be called again. Never suspends. On any thread.
 */
ZK_API void zk_channel_close(zk_channel *channel);

/** Items that wait in the channel now. Never suspends. On any thread. */
ZK_API size_t zk_channel_count(zk_channel *channel);

/** The size of its items. Never suspends. On any thread. */
ZK_API size_t zk_channel_item_bytes(const zk_channel *channel);

/* ---- broadcast ------------------------------------------------------------------------------- */

/** A channel whose every item goes to all its subscribers. */
typedef struct zk_broadcast zk_broadcast;

/** A place in a broadcast. In the caller's memory; must be unsubscribed before it goes away. */
typedef struct zk_subscription {
    zk_broadcast *broadcast;
    uint64_t next; /* item to be received */
} zk_subscription;

/**
 * Makes a broadcast that remembers the last `capacity` items. Never suspends.
 *
 * @return 0; -ENOMEM; -EINVAL (a size is 0, or they are too large together); ZK_E_NO_RUNTIME
 */
ZK_API int zk_broadcast_new(size_t item_bytes, size_t capacity, zk_broadcast **ret_broadcast)
    ZK_NODISCARD;

/** Frees it; NULL is allowed. Nobody may be using it. Never suspends. */
ZK_API void zk_broadcast_free(zk_broadcast *broadcast);

/** Subscribes to all items sent from now on. Never suspends. On any thread. */
ZK_API void zk_broadcast_subscribe(zk_broadcast *broadcast, zk_subscription *subscription);

/**
 * Sends a copy of `*item` to all subscribers; it replaces the oldest one where it has to, for a
 * sender does not wait for the slow. Never suspends. On any thread.
 *
 * @return 0; ZK_E_CLOSED
 */
ZK_API int zk_broadcast_send(zk_broadcast *broadcast, const void *item);

/**
 * Receives the subscriber's next item. Suspends sometimes: while there is none.
 *
 * @param ret_missed  NULL, or how many items were replaced before this subscriber received them:
 *                    they were passed over
 * @return 0; ZK_E_CLOSED; -ECANCELED, -ETIMEDOUT (no item was taken); -ENOMEM
 */
ZK_API int zk_broadcast_recv(zk_subscription *subscription, void *ret_item, uint64_t *ret_missed);

/** Closes it: what is in it can still be received. Never suspends. On any thread. */
ZK_API void zk_broadcast_close(zk_broadcast *broadcast);

/* ---- watch ----------------------------------------------------------------------------------- */

/** One value, and who waits for it to change. */
typedef struct zk_watch zk_watch;

/**
 * Makes a watch that holds a copy of `*value`, as version 1. Never suspends.
 *
 * @return 0; -ENOMEM; -EINVAL (value_bytes is 0); ZK_E_NO_RUNTIME
 */
ZK_API int zk_watch_new(size_t value_bytes, const void *value, zk_watch **ret_watch) ZK_NODISCARD;

/** Frees it; NULL is allowed. Nobody may be using it. Never suspends. */
ZK_API void zk_watch_free(zk_watch *watch);

/** Replaces the value, and wakes who waits for a change. Never suspends. On any thread.
 * @return 0; ZK_E_CLOSED */
ZK_API int zk_watch_set(zk_watch *watch, const void *value);

/** Copies the value and returns its version, from 1. Never suspends. On any thread. */
ZK_API uint64_t zk_watch_get(zk_watch *watch, void *ret_value);

/**
 * Waits until the version is another than `*version`, then copies the value and stores its version.
 * Suspends sometimes. Start with a version of 0 to get the present value at once.
 *
 * @return 0; ZK_E_CLOSED when it is closed and there is no newer version; -ECANCELED, -ETIMEDOUT,
 *         -ENOMEM
 */
ZK_API int zk_watch_changed(zk_watch *watch, uint64_t *version, void *ret_value);

/** No more changes will come. Never suspends. On any thread. */
ZK_API void zk_watch_close(zk_watch *watch);

ZK_END
#endif
