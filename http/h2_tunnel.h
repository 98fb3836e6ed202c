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
int zk__h2_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade, zk_str *ret_received);

/* What the engine tells; none of them enters it. */
void zk__h2_tunnel_body(zk__h2_stream *stream);
void zk__h2_tunnel_room(zk__h2_stream *stream);
void zk__h2_tunnel_closed(zk__h2_stream *stream);
/* The handler has returned. */
void zk__h2_tunnel_end(zk__h2_stream *stream);
/* Tells all tunnels of a connection that the server is to stop. */
void zk__h2_tunnels_drain(zk__h2 *h2);

#endif
