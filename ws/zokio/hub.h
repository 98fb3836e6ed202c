/*
 * A hub: topics, and the WebSockets that have subscribed to them, on all workers.
 */
#ifndef ZOKIO_HUB_H
#define ZOKIO_HUB_H

#include <zokio/ws.h>

ZK_BEGIN

typedef struct zk_hub zk_hub;

/** Makes a hub without subscribers. Never suspends. @return 0; -ENOMEM, ZK_E_NO_RUNTIME */
ZK_API int zk_hub_new(zk_hub **ret_hub) ZK_NODISCARD;

/** Gives the hub up; NULL is allowed. Sockets that have subscribed stay as they are. Nobody may
 * use it any more. Any worker. Never suspends. */
ZK_API void zk_hub_free(zk_hub *hub);

/**
 * Subscribes a server's socket to a topic, once however often it is called. It ends with the
 * socket. On the socket's worker. Never suspends.
 *
 * @return 0; -EINVAL (a client's socket); ZK_E_WORKER; -ENOMEM
 */
ZK_API int zk_hub_subscribe(zk_hub *hub, zk_ws *ws, const char *topic) ZK_NODISCARD;

/** Ends a subscription; nothing happens if there is none. As zk_hub_subscribe. */
ZK_API int zk_hub_unsubscribe(zk_hub *hub, zk_ws *ws, const char *topic);

/**
 * Sends a message to all who have subscribed to a topic, the sender too if it has. The frame is
 * made once and shared by all. Each gets the messages of one publisher in their order. Subscribers
 * of more than 256 per worker get it little by little, while others work.
 *
 * What subscribers do not take is queued, each within its own limits (send_queue_bytes_max). A
 * queue that is full loses its oldest messages, or with ZK_WS_SLOW_CLOSE its connection: publishing
 * waits for nobody. Any worker. Never suspends.
 *
 * @return 0; ZK_E_WS_TEXT (a text that is not UTF-8), -ENOMEM (some may have got it)
 */
ZK_API int zk_hub_publish(zk_hub *hub, const char *topic, zk_ws_type type, const void *data,
                          size_t size) ZK_NODISCARD;

/** How many subscriptions a topic has on this worker. Never suspends. */
ZK_API size_t zk_hub_subscribers_here(const zk_hub *hub, const char *topic);

ZK_END
#endif
