/*
 * Byte streams: TCP and Unix sockets, in-memory pairs, and whatever else carries bytes both ways in
 * order. All share these functions; HTTP knows nothing else.
 *
 * A stream belongs to the worker that first uses it; calls from others return ZK_E_WORKER. Tasks
 * started by one that has opened a stream or a listener stay on its worker, so that needs no
 * thought unless a task is sent to another worker by name. One task may read while another writes.
 */
#ifndef ZOKIO_STREAM_H
#define ZOKIO_STREAM_H

#include <sys/types.h>
#include <sys/uio.h>

#include <zokio/addr.h>
#include <zokio/base.h>
#include <zokio/file.h>

ZK_BEGIN

typedef struct zk_stream zk_stream;

/**
 * Reads up to `size` bytes. Suspends until at least one byte is there, the peer has finished, or
 * the scope is cancelled. The buffer is the caller's; the kernel holds no reference to it once this
 * returns.
 *
 * @param size  bytes; 0 returns 0 at once
 * @return bytes read (1..size); 0 when the peer has shut its side down; -ECANCELED, -ETIMEDOUT from
 *         the scope (no byte is taken); -ECONNRESET and other system errors
 */
ZK_API ssize_t zk_stream_read(zk_stream *stream, void *buf, size_t size);

/**
 * Reads what is there without waiting. Never suspends.
 *
 * @return bytes read (1..size); 0 when the peer has shut its side down; -EAGAIN when nothing is
 *   there; a system error
 */
ZK_API ssize_t zk_stream_try_read(zk_stream *stream, void *buf, size_t size);

/**
 * Writes all of `size` bytes. Suspends while the peer does not take them: that is the backpressure.
 *
 * @return 0; -ECANCELED, -ETIMEDOUT, -EPIPE, -ECONNRESET and other system errors: part of it may
 *   have been sent
 */
ZK_API int zk_stream_write(zk_stream *stream, const void *data, size_t size) ZK_NODISCARD;

/**
 * Writes all of several pieces, in one system call if it can. The array is used up. As
 * zk_stream_write otherwise.
 */
ZK_API int zk_stream_writev(zk_stream *stream, struct iovec *iov, int iov_count) ZK_NODISCARD;

/**
 * Writes what fits without waiting. Never suspends.
 *
 * @return bytes written; -EAGAIN when nothing fits; a system error
 */
ZK_API ssize_t zk_stream_try_write(zk_stream *stream, const void *data, size_t size);

/**
 * Writes `size` bytes of a file from `offset` on. Sockets and pipes, and TLS that the kernel
 * encrypts (zk_tls_server.ktls), have the kernel copy them from its cache (sendfile); what is not
 * in the cache is read there by a thread of zk_blocking first, as far as the file system can tell.
 * Other streams get them through a buffer. Suspends as zk_stream_write does.
 *
 * @return 0; -ENODATA: the file has ended before; -EINVAL: a negative offset; what zk_stream_write
 *   and zk_file_read_at return. Unless it is 0, part of it may have been sent.
 */
ZK_API int zk_stream_send_file(zk_stream *stream, zk_file *file, int64_t offset, uint64_t size)
    ZK_NODISCARD;

/**
 * Moves bytes from one stream to another until `bytes_max` have been moved or `from` has ended; by
 * the kernel alone (splice) where it can, else through a buffer. Nothing is shut down or closed.
 * Suspends as reading and writing do.
 *
 * @return bytes moved, fewer than bytes_max only at the end of `from`; what zk_stream_read and
 *   zk_stream_write return, -EINVAL for a negative bytes_max. After an error, cancellation too,
 *   bytes may have been taken from `from` that have not arrived.
 */
ZK_API int64_t zk_stream_splice(zk_stream *from, zk_stream *to, int64_t bytes_max) ZK_NODISCARD;

/** zk_stream_splice until `from` has ended. */
ZK_API int64_t zk_stream_copy(zk_stream *from, zk_stream *to) ZK_NODISCARD;

/**
 * Tells the peer that nothing more will be written; reading goes on. Never suspends. @return 0; a
 * system error
 */
ZK_API int zk_stream_shutdown(zk_stream *stream);

/** Closes and frees the stream; NULL is allowed. No task may be using it. Never suspends. */
ZK_API void zk_stream_close(zk_stream *stream);

/**
 * Parks the stream: `on_ready(context)` is called once when there is something to read (data, the
 * end or an error). Until then the stream needs neither a stack nor a buffer. It is called on the
 * worker's loop and must not suspend; it usually spawns a task. Nobody may read meanwhile. Never
 * suspends.
 *
 * @return 0; 1 when there is something already (on_ready will not be called); -ENOMEM and other
 *   system errors
 */
ZK_API int zk_stream_park(zk_stream *stream, void (*on_ready)(void *context), void *context);

/**
 * Takes a park back: on_ready will not be called. Nothing happens if the stream is not parked.
 * Never suspends.
 */
ZK_API void zk_stream_unpark(zk_stream *stream);

struct zk__case_ops;
extern ZK_API const struct zk__case_ops zk__case_readable;

/**
 * A case of zk_select: the stream has something to read (data, the end or an error). Nothing is
 * read by the select. Nobody may be reading meanwhile, and the stream must not be parked.
 */
#define ZK_READABLE(stream) &zk__case_readable, (stream), NULL, NULL

/** How a peer has gone while nobody was reading. */
typedef enum zk_hangup {
    ZK_HANGUP_HALF, /* it sends no more; it may still be reading */
    ZK_HANGUP_FULL, /* the connection is dead */
} zk_hangup;

/**
 * From now on calls `on_hangup` when the peer goes while nobody reads, and at once if it has; NULL
 * ends that. It is called on the worker's loop, must not suspend, and may be called more than once.
 * The context is that of zk_stream_park. Never suspends.
 */
ZK_API void zk_stream_on_hangup(zk_stream *stream, void (*on_hangup)(void *context, zk_hangup how),
                                void *context);

/**
 * The peer's address. Never suspends. @return 0; -ENOTCONN and other system errors; -EOPNOTSUPP for
 * a stream that has none
 */
ZK_API int zk_stream_peer(const zk_stream *stream, zk_addr *ret_addr);
/** The own address. As zk_stream_peer. */
ZK_API int zk_stream_local(const zk_stream *stream, zk_addr *ret_addr);

/**
 * Makes a pair of connected streams in memory, each direction buffering 16 KiB. Both belong to this
 * worker. Never suspends.
 *
 * @return 0; -ENOMEM; ZK_E_NO_RUNTIME
 */
ZK_API int zk_stream_pair(zk_stream **ret_a, zk_stream **ret_b) ZK_NODISCARD;

ZK_END
#endif
