/*
 * WebSocket (RFC 6455), as a server over HTTP/1.1 and HTTP/2 and as a client.
 *
 * A handler accepts the connection and then reads and writes messages in a loop:
 *
 *     static int echo(zk_request *req, zk_response *res)
 *     {
 *         zk_ws *ws;
 *         zk_ws_message m;
 *         int rc = zk_ws_accept(req, res, NULL, &ws);
 *         while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0)
 *             rc = zk_ws_send(ws, m.type, m.data, m.size);
 *         return rc;
 *     }
 *
 * or parks it (zk_ws_park) and is called for each message. A socket belongs to the worker that it
 * was opened on. One task may receive while others send.
 */
#ifndef ZOKIO_WS_H
#define ZOKIO_WS_H

#include <zokio/client.h>
#include <zokio/http.h>

ZK_BEGIN

typedef struct zk_ws zk_ws;

typedef enum zk_ws_type {
    ZK_WS_TEXT = 1, /* UTF-8 */
    ZK_WS_BINARY = 2,
} zk_ws_type;

/** A whole message. The bytes live until the next call that receives. */
typedef struct zk_ws_message {
    zk_ws_type type;
    const char *data;
    size_t size;
} zk_ws_message;

/** What happens to a message for a peer that does not take what was sent before. */
typedef enum zk_ws_slow {
    ZK_WS_SLOW_WAIT,  /* zk_ws_send waits until there is room */
    ZK_WS_SLOW_DROP,  /* the oldest messages of which nothing was sent are dropped */
    ZK_WS_SLOW_CLOSE, /* the connection is given up with ZK_E_SLOW */
} zk_ws_slow;

/**
 * Compression of messages (permessage-deflate, RFC 7692). It costs more time than it saves on fast
 * networks, and memory: a window is 256 KiB for compressing and 40 KiB for inflating. One is kept
 * with the socket only where both sides keep a context; else the worker lends its own for the time
 * of a message. Messages sent in pieces, and those of a hub, are not compressed.
 */
typedef struct zk_ws_deflate {
    int level;                 /* 1..9: 6 */
    int server_window_bits;    /* 9..15, of what the server sends at most: 15 */
    int client_window_bits;    /* likewise, if the peer knows the parameter: 15 */
    bool keeps_server_context; /* what the server sends refers to its earlier messages */
    bool keeps_client_context;
    size_t bytes_min; /* shorter messages are sent as they are: 64 */
} zk_ws_deflate;

/** How a socket behaves. Zero is the default named beside each; -1, or UINT32_MAX and UINT64_MAX,
 * is none. Copied, but for what the pointers point to, which is used only until the function that
 * takes the options returns. */
typedef struct zk_ws_options {
    /* subprotocols, ended by NULL, the preferred one first; NULL: none */
    const char *const *protocols;
    /* servers: what Origin may be, ended by NULL ("https://example.org"); "*" is any. NULL: only
     * that of the page's own host. Requests without Origin, which browsers do not send, are
     * accepted */
    const char *const *origins;

    /* offered, or accepted where it is offered; NULL: not. ZK_E_WS_DEFLATE with a library built
     * without zlib */
    const zk_ws_deflate *deflate;
    /* clients: further fields of the request, ended by {0}; NULL: none */
    const zk_header *headers;
    /* clients: NULL, or whose connections are used, its TLS and its proxies too: over TLS HTTP/2 if
     * the server has WebSockets over that, beside the client's requests. It has to outlive the
     * socket. NULL: HTTP/1.1 on a connection of its own */
    zk_client *client;
    /* clients without that: of wss; NULL: the system's certificates, read by the worker's first
     * connection */
    zk_tls *tls;
    const char *connect;    /* clients: as zk_fetch_options.connect; NULL: the URL's host */
    int connect_timeout_ms; /* clients: name, connection, TLS and handshake: 10,000 */

    uint64_t message_bytes_max;    /* of a message received whole: 1 MiB */
    uint64_t stream_bytes_max;     /* of one received in pieces: 1 GiB */
    uint32_t fragments_max;        /* frames that a message comes in: 16,384 */
    uint32_t controls_queued_max;  /* answers to pings that the peer does not take: 64 */
    uint32_t send_queue_bytes_max; /* what the peer has not taken yet: 256 KiB */
    zk_ws_slow slow;               /* what then */
    int ping_interval_ms;          /* a silent peer is pinged after: 30,000 */
    int pong_timeout_ms;           /* and given up, if it stays silent, after: 20,000 */
    int write_timeout_ms;          /* given up if it takes nothing of what is sent for: 30,000 */
    int close_timeout_ms;          /* how long the peer has to answer a close: 5,000 */
} zk_ws_options;

/* ---- the server's side ----------------------------------------------------------------------- */

/**
 * Accepts the WebSocket that a request asks for. If the request does not, or may not, it is
 * answered here (400, 403, 405 or 426), and the handler just returns the error.
 *
 * The socket is the handler's until it returns; then it is closed, with 1000, or 1011 if it has
 * returned an error. Fields for the response are set before (zk_response_header). The response
 * leaves when the handler next waits: what is published once the peer has seen it reaches a socket
 * that was subscribed before that wait. Suspends sometimes.
 *
 * @param options  NULL: the defaults
 * @return 0; ZK_E_WS_HANDSHAKE (it was answered; zk_trail says why), -ENOMEM; as zk_respond
 */
ZK_API int zk_ws_accept(zk_request *req, zk_response *res, const zk_ws_options *options,
                        zk_ws **ret_ws) ZK_NODISCARD;

/** What a parked socket calls. Each runs as a task and may suspend. */
typedef struct zk_ws_handlers {
    /* A message, whose bytes live until it returns. An error < 0 closes the socket with 1011. */
    int (*on_message)(zk_ws *ws, void *context, const zk_ws_message *message);
    /* The last call; NULL: none. rc: 0 after a closing handshake, else why the socket is over. */
    void (*on_close)(zk_ws *ws, void *context, int rc);
} zk_ws_handlers;

/**
 * Parks an accepted socket; the handler then returns. From now on the handlers are called, one
 * after the other, and between messages the socket holds neither a stack nor a buffer. The request
 * is over when its handler has returned: what is needed of it goes into the context.
 *
 * For clients it is a loop in the calling task instead, and suspends until the socket is over; see
 * zk_ws_park_in.
 *
 * @param handlers  must outlive the socket
 * @return 0; ZK_E_WS_STATE (parked already)
 */
ZK_API int zk_ws_park(zk_ws *ws, const zk_ws_handlers *handlers, void *context) ZK_NODISCARD;

/* ---- the client's side ----------------------------------------------------------------------- */

/**
 * Connects to a server. Redirects are not followed. Suspends always.
 *
 * @param url      "ws://host:port/path" or "wss://..."
 * @param options  NULL: the defaults
 * @param ret_ws   to be closed (zk_ws_close) and freed (zk_ws_free)
 * @return 0; ZK_E_HTTP_URL, ZK_E_HTTP_FIELD (a header or subprotocol that cannot be sent);
 *         ZK_E_WS_HANDSHAKE (the server answers otherwise; zk_trail says how), ZK_E_WS_TIMEOUT,
 *         ZK_E_HTTP_SYNTAX, ZK_E_HTTP_VERSION (not HTTP/2, against what was agreed on),
 *         ZK_E_HTTP_HEADER_TOO_LARGE, ZK_E_HTTP_TUNNEL (a proxy refuses),
 *         ZK_E_CLOSED; what zk_connect_host and zk_tls_connect return; -ECANCELED, -ETIMEDOUT,
 *         -ENOMEM
 */
ZK_API int zk_ws_connect(const char *url, const zk_ws_options *options, zk_ws **ret_ws)
    ZK_NODISCARD;

/**
 * Parks a client's socket in a scope. The handlers are called by tasks of that scope, one after the
 * other, and between messages the socket holds neither a stack nor a buffer. The scope is not over
 * before the socket is, as with a task that was spawned; cancelling it says 1001 to the server and
 * ends the socket. Behind on_close it is freed. Never suspends.
 *
 * @param scope     on the calling worker
 * @param handlers  must outlive the socket
 * @return 0; ZK_E_WS_STATE (a server's socket, parked already, or a task is receiving); ZK_E_WORKER
 *         (another worker's socket or scope), -ECANCELED (the scope is), -ENOMEM: then it stays the
 *         caller's
 */
ZK_API int zk_ws_park_in(zk_scope *scope, zk_ws *ws, const zk_ws_handlers *handlers, void *context)
    ZK_NODISCARD;

/** Frees a client's socket, closed or not; NULL is allowed, and those of servers, or parked in a
 * scope, are left alone. No task may be using it. Never suspends. */
ZK_API void zk_ws_free(zk_ws *ws);

/* ---- both sides ------------------------------------------------------------------------------ */

/**
 * Receives a message as a whole. Pings are answered meanwhile. Suspends until there is one, the
 * peer has closed, or the scope is cancelled.
 *
 * @return 1; 0: the peer has closed, or has answered a close of ours (see zk_ws_close_code);
 *         ZK_E_CLOSED: the connection ended without that; ZK_E_WS_PROTOCOL, ZK_E_WS_TEXT,
 *         ZK_E_WS_TOO_LARGE, ZK_E_WS_DEFLATE, ZK_E_LIMIT (too many fragments, or pings whose
 *         answers it does not read): the peer has been told; ZK_E_WS_TIMEOUT, ZK_E_SLOW;
 *         ZK_E_WS_STATE (another task is receiving); -ENOMEM, -ECANCELED, -ETIMEDOUT; errors of
 *         the stream
 */
ZK_API int zk_ws_recv(zk_ws *ws, zk_ws_message *ret_message) ZK_NODISCARD;

/**
 * Waits for the next message, to be read in pieces by zk_ws_read. What is left of one before it is
 * skipped. Suspends as zk_ws_recv. @return 1; else as zk_ws_recv
 */
ZK_API int zk_ws_recv_begin(zk_ws *ws, zk_ws_type *ret_type) ZK_NODISCARD;

/**
 * Reads some of the message. A text's characters may be cut by a piece's end, but they are known to
 * be valid so far. Suspends until there is at least a byte, or the end of the message.
 *
 * @return bytes (1..size); 0 at the end of the message; ZK_E_CLOSED: the peer has closed in the
 *         middle of it; errors of zk_ws_recv
 */
ZK_API ssize_t zk_ws_read(zk_ws *ws, void *buf, size_t size) ZK_NODISCARD;

/**
 * Sends a message. What is small is gathered and leaves when the tasks that are ready have run.
 * Suspends sometimes: while the peer does not take what was sent before (see zk_ws_slow), and for
 * large messages until they have been taken.
 *
 * @return 0; ZK_E_CLOSED (a close was sent or received, or the connection is lost), ZK_E_SLOW,
 *         ZK_E_WS_TIMEOUT, ZK_E_WS_TEXT (a text that is not UTF-8; nothing is sent), -ENOMEM;
 *         -ECANCELED, -ETIMEDOUT (nothing, or for a large message some of it, was queued: then the
 *         connection is lost); errors of the stream
 */
ZK_API int zk_ws_send(zk_ws *ws, zk_ws_type type, const void *data, size_t size) ZK_NODISCARD;

/** Sends a text. As zk_ws_send. */
ZK_API int zk_ws_send_text(zk_ws *ws, const char *text) ZK_NODISCARD;

/**
 * Begins a message that is sent in pieces; other tasks' messages wait until it has ended. Suspends
 * as zk_ws_send. @return as zk_ws_send; ZK_E_WS_STATE (this task's own is not ended)
 */
ZK_API int zk_ws_send_begin(zk_ws *ws, zk_ws_type type) ZK_NODISCARD;

/** Sends a piece of it. As zk_ws_send; ZK_E_WS_STATE (not begun) */
ZK_API int zk_ws_write(zk_ws *ws, const void *data, size_t size) ZK_NODISCARD;

/** Ends it. As zk_ws_write. */
ZK_API int zk_ws_send_end(zk_ws *ws) ZK_NODISCARD;

/**
 * Sends a ping. The peer is pinged by itself when it is silent, so this is for measuring. Never
 * suspends.
 *
 * @param size  0..125 @return 0; -EINVAL, ZK_E_CLOSED, ZK_E_LIMIT (too many are queued), -ENOMEM
 */
ZK_API int zk_ws_ping(zk_ws *ws, const void *data, size_t size) ZK_NODISCARD;

/**
 * Waits until the peer has taken all that was sent. @return 0; errors of zk_ws_send
 */
ZK_API int zk_ws_flush(zk_ws *ws) ZK_NODISCARD;

/**
 * Closes: sends what is queued, a close with this code and reason, and waits for the peer's. What
 * it sends before that is dropped. After it has closed itself this only sends what is queued. Any
 * task of its worker may close a parked one, whose on_close is called then as for other ends.
 * Suspends until then, at most close_timeout_ms.
 *
 * @param code    1000 to 4999 as RFC 6455 section 7.4 has them; 0: none
 * @param reason  UTF-8, at most 123 bytes; NULL: none
 * @return 0; -EINVAL (no such code, or not such a reason); ZK_E_WS_TIMEOUT, ZK_E_CLOSED (it has
 *         gone without an answer); errors of zk_ws_recv
 */
ZK_API int zk_ws_close(zk_ws *ws, int code, const char *reason);

/** The code that the peer has closed with: 1005 if it gave none, 1006 if the connection was lost; 0
 * while it is open. Never suspends. */
ZK_API int zk_ws_close_code(const zk_ws *ws);

/** The reason that came with it; "" if none did. Lives as long as the socket. Never suspends. */
ZK_API const char *zk_ws_close_reason(const zk_ws *ws);

/** The subprotocol that was agreed on; NULL: none. Lives as long as the socket. Never suspends. */
ZK_API const char *zk_ws_protocol(const zk_ws *ws);

/** Bytes that are queued because the peer does not take them. Never suspends. */
ZK_API size_t zk_ws_queued_bytes(const zk_ws *ws);

ZK_END
#endif
