/*
 * What a connection to an upstream begins with, if that wants to know who it is for: a header of
 * the PROXY protocol. A connection that has been greeted is for one client ever after.
 */
#ifndef ZOKIO_HTTP_CLIENT_GREETING_H
#define ZOKIO_HTTP_CLIENT_GREETING_H

#include <zokio/stream.h>

#include "net/proxy_header.h"

typedef struct zk__greeting {
    size_t size;
    char bytes[ZK__PROXY_HEADER_BYTES];
} zk__greeting;

/* Makes that of the client at the other end of the stream. returns whether the client has an
 * address. */
bool zk__greeting_make(zk__greeting *greeting, int version, const zk_stream *client);

/*
 * Sends a greeting, or the one of a connection of the proxy's own if it is NULL, and keeps it.
 * Suspends sometimes. returns 0; -ENOMEM; what zk_stream_write returns.
 */
int zk__greeting_send(int version, const zk__greeting *greeting, zk_stream *stream,
                      zk__greeting **ret_own);

/* Whether both are for the same client; NULL for the proxy itself. */
bool zk__greeting_equal(const zk__greeting *a, const zk__greeting *b);

#endif
