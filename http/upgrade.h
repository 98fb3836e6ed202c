/*
 * Leaving HTTP: how a handler takes its connection over for another protocol. Over HTTP/1.1 that is
 * the connection itself, behind a 101 (RFC 9110 section 7.8); over HTTP/2 a stream of one, behind a
 * 200 to an extended CONNECT (RFC 8441). An ordinary CONNECT is agreed to by 200 over both. The
 * protocol sees a byte stream either way.
 *
 *   zk__exchange_upgrade --the handler returns: on_returned--> CLOSE, LINGER, RESET: over
 *                                                        \--> KEEP --zk__upgrade_end--> over
 *
 * The stream must be neither parked nor in use when it is given back.
 */
#ifndef ZOKIO_HTTP_UPGRADE_H
#define ZOKIO_HTTP_UPGRADE_H

#include "http/exchange.h"

enum zk__upgrade_end {
    ZK__UPGRADE_CLOSE,  /* all has been said, by both sides */
    ZK__UPGRADE_LINGER, /* the client gets to read what was sent last */
    ZK__UPGRADE_RESET,
    ZK__UPGRADE_KEEP, /* goes on without the handler */
};

typedef struct zk__upgrade zk__upgrade;
struct zk__upgrade_ops {
    /* The handler has returned. May suspend. */
    enum zk__upgrade_end (*returned)(zk__upgrade *upgrade, int rc);
    /* The server is to stop: the protocol should come to its end. Must not suspend. */
    void (*drain)(zk__upgrade *upgrade);
    /* Only once it is kept: it must end now, by zk__upgrade_end, or by a task that does so without
     * waiting for anything. Must not suspend. */
    void (*abort)(zk__upgrade *upgrade);
};

/* Part of what the protocol keeps of a connection. */
struct zk__upgrade {
    const struct zk__upgrade_ops *ops; /* the protocol's */
    zk_stream *stream;                 /* the transport's, which closes it */
    struct zk__conn *conn;             /* NULL: a stream of HTTP/2 */
};

/* What there is already; valid until the handler returns. */
typedef struct zk__upgrade_ahead {
    zk_str unsent;   /* HTTP's last bytes, the head among them: the protocol sends them first */
    zk_str received; /* behind the request */
} zk__upgrade_ahead;

/* The protocols that the client asks for, as in the field Upgrade; empty: none. */
zk_str zk__exchange_protocol(const zk_request *req);

/*
 * Agrees, with the fields that the response has got, and takes the connection over; upgrade->ops
 * is set. An empty protocol agrees to CONNECT. Suspends sometimes. returns 0; ZK_E_HTTP_STATE: a
 * response has begun, nothing was asked for, or there is a body; as zk_respond
 */
int zk__exchange_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade,
                         zk__upgrade_ahead *ret_ahead);

/* The scope of tasks that go on with one that is kept. */
zk_scope *zk__upgrade_scope(const zk__upgrade *upgrade);

/* Ends one that was kept. The upgrade is not used any more. Never suspends. */
void zk__upgrade_end(zk__upgrade *upgrade, enum zk__upgrade_end how);

#endif
