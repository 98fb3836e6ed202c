/*
 * A WebSocket, in either role: what its files share.
 *
 *   OPEN --close sent--> CLOSING --the peer's close, all sent--> over
 *     \--close received: answered--------------------------------^
 *     \--refused (error is set; a close tells the peer)--> over when that is sent
 *     \--broken (error is set: no byte goes either way any more)--> over
 *
 * Receiving (receive.c) borrows a buffer from the worker while there is something in it. Sending
 * (send.c) queues and flushes by a hook at the end of the batch of tasks, and then whenever the
 * stream has room: no task is needed for it. So what is idle is this struct and its stream.
 *
 * All deadlines share one timer, which is left where it is while there is life, and looks at what
 * is due when it fires.
 */
#ifndef ZOKIO_WS_CONNECTION_H
#define ZOKIO_WS_CONNECTION_H

#include <zokio/ws.h>

#include "core/worker.h"
#include "http/upgrade.h"
#include "net/stream.h"
#include "ws/deflate.h"
#include "ws/frame.h"

typedef struct zk__ws_in zk__ws_in;
typedef struct zk__ws_out zk__ws_out;

/* What the options say; sockets of a worker with the same ones share it. */
typedef struct zk__ws_limits {
    uint64_t message_bytes_max, stream_bytes_max;
    uint32_t send_queue_bytes_max, controls_queued_max;
    int ping_interval_ms, pong_timeout_ms, write_timeout_ms, close_timeout_ms;
    size_t refs;
} zk__ws_limits;

struct zk_ws {
    zk__upgrade upgrade; /* of a server's; else only its stream is used */
    const zk__ws_limits *limits;
    zk__ws_reader reader;
    zk__timer timer;
    zk__ws_in *in;                             /* NULL: nothing has come that was not taken */
    zk__ws_out *out;                           /* NULL: all was sent */
    zk__ws_deflate *deflate;                   /* NULL: not agreed on */
    zk__wait *receiver;                        /* waits for something to read */
    struct zk__ws_subscription *subscriptions; /* of hubs */
    struct zk__ws_waiter *waiters;             /* for something to change, or just woken */
    zk_scope *scope;                           /* of the task that serves a parked one */
    const zk_ws_handlers *handlers;            /* once it is parked */
    void *context;                             /* a client's: see park.c */
    char *protocol;                            /* NULL: none */
    char *reason;                              /* of the peer's close; NULL: none */
    zk_time heard;                             /* when something last came */
    union {
        zk_time pinged;    /* before a close is sent: when the ping was that was not answered */
        zk_time close_due; /* then: when the peer's close must be there; 0: not waited for yet */
    };
    int error;           /* 0; what every call returns from now on */
    uint16_t close_code; /* the peer's; 0: none yet */
    /* What sending and receiving look at together. */
    bool is_client : 1;
    bool is_close_sent : 1; /* or queued */
    bool is_close_received : 1;
    bool is_broken : 1;
    bool is_in_message : 1; /* zk_ws_recv_begin has been told of it, and not its end */
    uint8_t slow : 2;       /* zk_ws_slow */
    bool is_text : 1;
    /* In a byte of its own what changes often: it would have to get to the cache first before a
     * wider load could see it. */
    bool is_receiving : 1;  /* a task is in a function that does */
    bool is_drained : 1;    /* the last read has left nothing, probably */
    bool is_large : 1;      /* the last message was, so the next one may be */
    bool has_task : 1;      /* that serves a parked one */
    bool is_last_piece : 1; /* of the message, is what is kept */
    bool is_inflating : 1;  /* it is compressed, and not at its end */
};

/* An idle socket is this, its stream, and what HTTP and the poller keep of it. */
_Static_assert(sizeof(void *) != 8 || sizeof(struct zk_ws) <= 224,
               "takes more memory than it has to");

/* ---- life (connection.c) ---- */

/* Makes one over no stream yet. returns NULL: no memory. */
zk_ws *zk__ws_new(const zk_ws_options *options, bool is_client);
/* It has its stream: deadlines begin. */
void zk__ws_open(zk_ws *ws);
/* Frees it; nobody may use it. The stream stays. */
void zk__ws_free(zk_ws *ws);
/* No byte goes either way any more: tells all who wait. The first reason counts. */
void zk__ws_break(zk_ws *ws, int rc);
/* Something has to happen by then. */
void zk__ws_deadline(zk_ws *ws, zk_time when);
/* The moment so much later; INT64_MAX for a negative one. */
zk_time zk__ws_after(zk_time from, int ms);
/* Does what is left to do for a close in order: as zk_ws_close, `code` being what it says if none
 * was sent yet. */
int zk__ws_finish(zk_ws *ws, int code, const char *reason, size_t reason_size);
/* Before it is freed: other tasks that wait in one of its functions leave that. Suspends. returns
 * how the stream is to be ended. */
enum zk__upgrade_end zk__ws_end(zk_ws *ws);

/* ---- receiving (receive.c) ---- */

/* The next whole message. returns 1; 0: the peer has closed; -EAGAIN: not now, unless it may wait;
 * an error. */
int zk__ws_next(zk_ws *ws, bool may_wait, zk_ws_message *ret);
/* Bytes that came behind the handshake. returns 0, -ENOMEM. */
int zk__ws_receive_ahead(zk_ws *ws, const char *data, size_t size);
/* Gives the buffer back to the worker. */
void zk__ws_in_release(zk_ws *ws);
/* And whatever else receiving has. */
void zk__ws_in_done(zk_ws *ws);
/* Whether the buffer has nothing in it that is still needed. */
bool zk__ws_in_is_empty(const zk_ws *ws);

/* ---- sending (send.c) ---- */

/* Queues a control frame. returns 0, -ENOMEM, ZK_E_LIMIT. */
int zk__ws_put_control(zk_ws *ws, uint8_t opcode, const void *data, size_t size);
/* Queues HTTP's last bytes, the response that agrees among them: they leave when the handler waits,
 * so that who has seen it gets what is published from then on. returns 0, -ENOMEM. */
int zk__ws_put_head(zk_ws *ws, zk_str head);
/* Queues a close; nothing may follow. code 0: none. returns as zk__ws_put_control. */
int zk__ws_put_close(zk_ws *ws, int code, const char *reason, size_t reason_size);
/* Sends what it can now. */
void zk__ws_flush_now(zk_ws *ws);
/* Waits until all is sent. returns 0; ws->error; -ECANCELED, -ETIMEDOUT, -ENOMEM. */
int zk__ws_drain(zk_ws *ws);
/* Waits until something of the connection has changed. returns 0; as above. */
int zk__ws_wait_change(zk_ws *ws);
/* Wakes all who wait so. */
void zk__ws_changed(zk_ws *ws);
/* Drops what was queued. */
void zk__ws_out_free(zk_ws *ws);
/* When the peer has to have taken something; INT64_MAX: nothing waits. */
zk_time zk__ws_write_due(const zk_ws *ws);

/* ---- parked (park.c) ---- */

/* Serves it from the handler's task, which has returned rc. returns whether it goes on without. */
bool zk__ws_park_begin(zk_ws *ws, int rc);
/* Something has happened to an idle one. */
void zk__ws_park_wake(zk_ws *ws);
/* The server's end. */
void zk__ws_park_abort(zk_ws *ws);
/* Frees a client's socket and closes its stream (connect.c). */
void zk__ws_close_client(zk_ws *ws);

/* ---- what a worker's sockets share (pool.c) ---- */

/* Makes the limits common property. returns NULL: no memory. */
const zk__ws_limits *zk__ws_limits_get(const zk__ws_limits *limits);
void zk__ws_limits_unref(const zk__ws_limits *limits);
/* Unpredictable bytes, for keys and masks. returns 0, -errno. */
int zk__ws_random(void *buf, size_t size);
/* Where the worker's windows are; NULL: no memory. */
void **zk__ws_deflate_pool(void);
/* Bytes for the time until the caller next suspends; NULL: no memory. */
zk__ws_bytes *zk__ws_scratch(void);
/* The configuration for clients that have none. returns 0; as zk_tls_client_new. */
int zk__ws_tls(zk_tls **ret_tls);

#endif
