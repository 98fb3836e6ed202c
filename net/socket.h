/*
 * Streams over connected sockets.
 */
#ifndef ZOKIO_NET_SOCKET_H
#define ZOKIO_NET_SOCKET_H

#include "net/stream.h"

/* Makes a stream of a connected, non-blocking socket and owns it from then on, also on failure.
 * bits: ZK__IO_MARKED if it is so. returns 0, -ENOMEM. */
int zk__socket_stream(int fd, uint32_t bits, zk_stream **ret_stream);
/* The same in two steps, of which only the first can fail: memory (NULL: there is none), for
 * zk_free or for the second. */
void *zk__socket_stream_memory(void);
zk_stream *zk__socket_stream_begin(void *memory, int fd, uint32_t bits);

/* The same for any non-blocking descriptor. bits: those of zk__io_init. */
int zk__fd_stream(int fd, uint32_t bits, zk_stream **ret_stream);

/* Another address than the socket's own is the peer's from now on: a proxy has said so. Of a Unix
 * socket's only that it is one. The stream has to be one over a socket. */
void zk__socket_stream_set_peer(zk_stream *stream, const zk_addr *addr);

/* What the poller knows the stream's socket by. */
struct zk__io *zk__socket_stream_io(zk_stream *stream);

#endif
