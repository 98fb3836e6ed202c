/*
 * A stream of HTTP/2 that has left HTTP, as a byte stream (RFC 8441). DATA frames carry the bytes
 * both ways; END_STREAM is the end of a direction.
 */
#ifndef ZOKIO_HTTP_H2_TUNNEL_H
#define ZOKIO_HTTP_H2_TUNNEL_H

#include "http/h2.h"
#include "http/upgrade.h"

/* transport.protocol, upgrade. */
zk_str zk__h2_protocol(const zk_request *req);
int zk__h2_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade,
                   zk__upgrade_ahead *ret_ahead);

/* What the engine tells; none of them enters it. */
void zk__h2_tunnel_body(zk__h2_stream *stream);
void zk__h2_tunnel_room(zk__h2_stream *stream);
void zk__h2_tunnel_closed(zk__h2_stream *stream);
/* Nobody serves it any more; req.upgrade_end says how it is to be ended. */
void zk__h2_tunnel_end(zk__h2_stream *stream);
/* One that is kept must end now: the server does. */
void zk__h2_tunnel_abort(zk__h2_stream *stream);
/* Of zk__upgrade_scope and zk__upgrade_end, for streams. */
zk_scope *zk__h2_upgrade_scope(const zk__upgrade *upgrade);
void zk__h2_upgrade_end(zk__upgrade *upgrade, enum zk__upgrade_end how);
/* The stream's task, or what has gone on without, is over. See h2_transport.c. */
void zk__h2_stream_finish(zk__h2_stream *stream);
/* Tells all tunnels of a connection that the server is to stop. */
void zk__h2_tunnels_drain(zk__h2 *h2);

#endif
