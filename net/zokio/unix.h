/*
 * What only Unix sockets can do: pass descriptors to another process, and tell who that is. And
 * descriptors that come from elsewhere as streams: pipes, what was received or inherited.
 */
#ifndef ZOKIO_UNIX_H
#define ZOKIO_UNIX_H

#include <zokio/stream.h>

ZK_BEGIN

enum { ZK_UNIX_FDS_MAX = 253 }; /* Linux's own limit (unix(7)) */

/**
 * Makes a pair of connected Unix stream sockets; one of them may go to a child process. Never
 * suspends. @return 0; -EMFILE and other system errors; -ENOMEM; ZK_E_NO_RUNTIME
 */
ZK_API int zk_unix_pair(zk_stream **ret_a, zk_stream **ret_b) ZK_NODISCARD;

/**
 * Writes all of `size` bytes, at least one, and passes copies of the descriptors with the first of
 * them. They stay open here. Suspends while the peer takes no more.
 *
 * @return 0; -EINVAL (no bytes, too many descriptors); -EBADF (one is not open); -EOPNOTSUPP (not a
 *         Unix socket); else as zk_stream_write
 */
ZK_API int zk_unix_send_fds(zk_stream *stream, const void *data, size_t size, const int *fds,
                            size_t count) ZK_NODISCARD;

/**
 * Reads up to `size` bytes, and the descriptors that came with them, close-on-exec and the caller's
 * from then on. Suspends until there is something. All reading on such a stream has to be done by
 * this function: another read may take the bytes and lose their descriptors.
 *
 * @param max  descriptors that ret_fds has room for, at most ZK_UNIX_FDS_MAX
 * @return bytes read, 0 at the end; -EMSGSIZE when more descriptors came than there is room for:
 *         all of them are closed, the bytes are gone; -EINVAL (size is 0, max too large);
 *         -EOPNOTSUPP; else as zk_stream_read
 */
ZK_API ssize_t zk_unix_recv_fds(zk_stream *stream, void *buf, size_t size, int *ret_fds, size_t max,
                                size_t *ret_count) ZK_NODISCARD;

/** Who is at the other end of a Unix socket, as the kernel knows it. */
typedef struct zk_unix_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
} zk_unix_peer;

/** Tells who connected, or made the pair. Never suspends. @return 0; -EOPNOTSUPP; a system error */
ZK_API int zk_unix_peer_of(zk_stream *stream, zk_unix_peer *ret_peer);

/**
 * Makes a pipe: what is written to one end is read from the other. Writing to the end that reads,
 * and the other way round, is -EBADF. Never suspends.
 *
 * @return 0; -EMFILE and other system errors; -ENOMEM; ZK_E_NO_RUNTIME
 */
ZK_API int zk_pipe(zk_stream **ret_reader, zk_stream **ret_writer) ZK_NODISCARD;

/**
 * Makes a stream of a descriptor: a connected socket, a pipe or FIFO, a terminal. The stream owns
 * it from then on and makes it non-blocking, for all who share it; when this fails it stays the
 * caller's, as it was. Never suspends.
 *
 * @return 0; -EPERM (a regular file: see <zokio/file.h>); -EBADF and other system errors; -ENOMEM;
 *         ZK_E_NO_RUNTIME
 */
ZK_API int zk_stream_from_fd(int fd, zk_stream **ret_stream) ZK_NODISCARD;

ZK_END
#endif
