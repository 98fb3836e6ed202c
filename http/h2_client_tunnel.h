/*
 * A call of a client's HTTP/2 connection that has become a byte stream (RFC 8441): what the files
 * of h2_client.h share.
 */
#ifndef ZOKIO_HTTP_H2_CLIENT_TUNNEL_H
#define ZOKIO_HTTP_H2_CLIENT_TUNNEL_H

#include "http/h2_client.h"

typedef struct zk__h2_call_pipe zk__h2_call_pipe;

/* Of the connection; none of them may be called by nghttp2. `taken` bytes of what has come are not
 * needed any more, or there is something to be sent. */
void zk__h2_call_push(zk__h2_call *call, size_t taken);
/* Waits at that place. returns 0, ZK_E_HTTP_TIMEOUT, -ECANCELED, -ETIMEDOUT. */
int zk__h2_call_wait(struct zk__wait **place, int timeout_ms);
/* The connection's stream; NULL: the call is over. */
zk_stream *zk__h2_call_carrier(const zk__h2_call *call);

/* What the connection tells; they only note it. Something has come, or there is room. */
void zk__h2_call_tunnel_news(zk__h2_call *call);
/* It is over for the connection. Frees a call that nobody has any more. */
void zk__h2_call_tunnel_over(zk__h2_call *call);
/* The call is freed. */
void zk__h2_call_tunnel_free(zk__h2_call *call);

#endif
