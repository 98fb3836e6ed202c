/*
 * A connection that speaks HTTP/2, from the outside. The rest of it is in h2_conn.c.
 */
#ifndef ZOKIO_HTTP_H2_CONN_H
#define ZOKIO_HTTP_H2_CONN_H

#include <errno.h>

#include "http/h1_conn.h"

enum { ZK__H2_BUFFER_BYTES = 128 * 1024 };

extern const struct zk__transport zk__h2_transport;

#if ZK__H2

/*
 * Goes on with HTTP/2 on a connection that is not parked. data: what has been received already,
 * with the client's preface. returns 0, and then the connection looks after itself; -ENOMEM.
 */
int zk__h2_conn_start(zk__conn *conn, const void *data, size_t size);
/* See zk__conn_drain, zk__conn_abort. */
void zk__h2_conn_drain(zk__conn *conn);
void zk__h2_conn_abort(zk__conn *conn);
/* Frees the streams that are kept for reuse. */
void zk__h2_streams_free(zk__shard *shard);
/* Its deadline has passed. */
void zk__h2_conn_timer(zk__conn *conn);

#else

static inline int zk__h2_conn_start(zk__conn *conn, const void *data, size_t size)
{
    (void)conn, (void)data, (void)size;
    return -EPROTONOSUPPORT;
}
static inline void zk__h2_conn_drain(zk__conn *conn) { (void)conn; }
static inline void zk__h2_conn_abort(zk__conn *conn) { (void)conn; }
static inline void zk__h2_conn_timer(zk__conn *conn) { (void)conn; }
static inline void zk__h2_streams_free(zk__shard *shard) { (void)shard; }

#endif

#endif
