/*
 * Passing descriptors over Unix sockets, and streams of descriptors from elsewhere.
 *
 * The io_uring poller receives ahead on streams, and would receive bytes without their descriptors.
 * So these sockets are no ZK__IO_STREAM to it: it waits until they are readable, and recvmsg is
 * called here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zokio/unix.h>

#include "core/budget.h"
#include "net/socket.h"
#include "net/stream.h"

typedef union fds_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(ZK_UNIX_FDS_MAX * sizeof(int))];
} fds_control;

/* The socket behind a stream; NULL if it is no Unix one, or another worker's. */
static zk__io *unix_io(zk_stream *stream, int *ret_error)
{
    int family = 0;
    socklen_t size = sizeof family;
    *ret_error = ZK_E_WORKER;
    if (!stream->worker) stream->worker = zk__worker_self();
    if (stream->worker != zk__worker_self()) return NULL;
    *ret_error = -EOPNOTSUPP;
    zk__io *io = stream->ops->io ? stream->ops->io(stream) : NULL;
    if (!io || getsockopt(io->fd, SOL_SOCKET, SO_DOMAIN, &family, &size) || family != AF_UNIX) {
        return NULL;
    }
    io->bits &= ~(uint32_t)ZK__IO_STREAM;
    return io;
}

int zk_unix_pair(zk_stream **ret_a, zk_stream **ret_b)
{
    int ends[2];
    zk_stream *a;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) return -errno;
    int rc = zk__fd_stream(ends[0], ZK__IO_SOCKET, &a);
    if (rc < 0) {
        close(ends[1]);
        return rc;
    }
    rc = zk__fd_stream(ends[1], ZK__IO_SOCKET, ret_b);
    if (rc < 0) {
        zk_stream_close(a);
        return rc;
    }
    *ret_a = a;
    return 0;
}

int zk_unix_send_fds(zk_stream *stream, const void *data, size_t size, const int *fds, size_t count)
{
    int rc;
    fds_control control;
    zk__io *io = unix_io(stream, &rc);
    if (!io) return rc;
    if (!size || count > ZK_UNIX_FDS_MAX) return -EINVAL;
    struct iovec iov = {(void *)data, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        memset(&control, 0, sizeof control);
        control.header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET,
            .cmsg_type = SCM_RIGHTS,
            .cmsg_len = CMSG_LEN(count * sizeof *fds),
        };
        memcpy(CMSG_DATA(&control.header), fds, count * sizeof *fds);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(count * sizeof *fds);
    }
    rc = zk__spend();
    while (rc >= 0) {
        ssize_t n = sendmsg(io->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            return (size_t)n < size
                       ? zk_stream_write(stream, (const char *)data + n, size - (size_t)n)
                       : 0;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return -errno;
        rc = zk__io_wait(io, ZK__OP_WRITABLE);
    }
    return rc;
}

/* Takes the descriptors out of a message. returns how many there were; they are closed if `max` is
 * less. */
static size_t fds_take(struct msghdr *msg, int *ret_fds, size_t max)
{
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        bool is_close = pass == 1 && (count > max || msg->msg_flags & MSG_CTRUNC);
        size_t at = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
            size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < here && pass == 1; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                if (is_close) {
                    close(fd);
                } else {
                    ret_fds[at++] = fd;
                }
            }
            if (pass == 0) count += here;
        }
    }
    return count;
}

ssize_t zk_unix_recv_fds(zk_stream *stream, void *buf, size_t size, int *ret_fds, size_t max,
                         size_t *ret_count)
{
    int rc;
    fds_control control;
    zk__io *io = unix_io(stream, &rc);
    if (!io) return rc;
    if (!size || max > ZK_UNIX_FDS_MAX) return -EINVAL;
    rc = zk__spend();
    while (rc >= 0) {
        struct iovec iov = {buf, size};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
        ssize_t n = recvmsg(io->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0) {
            size_t count = fds_take(&msg, ret_fds, max);
            if (count > max || msg.msg_flags & MSG_CTRUNC) return -EMSGSIZE;
            *ret_count = count;
            return n;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return -errno;
        rc = zk__io_wait(io, ZK__OP_READABLE);
    }
    return rc;
}

int zk_unix_peer_of(zk_stream *stream, zk_unix_peer *ret_peer)
{
    int rc;
    zk__io *io = stream->ops->io ? stream->ops->io(stream) : NULL;
    struct ucred cred;
    socklen_t size = sizeof cred;
    if (!io) return -EOPNOTSUPP;
    rc = getsockopt(io->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) ? -errno : 0;
    if (rc < 0) return rc == -ENOTSOCK || rc == -ENOPROTOOPT ? -EOPNOTSUPP : rc;
    if (cred.pid == 0) return -EOPNOTSUPP; /* what TCP sockets say */
    *ret_peer = (zk_unix_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    return 0;
}

/* ---- descriptors from elsewhere ---- */

int zk_pipe(zk_stream **ret_reader, zk_stream **ret_writer)
{
    int ends[2];
    zk_stream *reader;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return -errno;
    int rc = zk__fd_stream(ends[0], 0, &reader);
    if (rc < 0) {
        close(ends[1]);
        return rc;
    }
    rc = zk__fd_stream(ends[1], 0, ret_writer);
    if (rc < 0) {
        zk_stream_close(reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

int zk_stream_from_fd(int fd, zk_stream **ret_stream)
{
    struct stat st;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (fstat(fd, &st)) return -errno;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) return -EPERM;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) return -errno;
    /* On failure the stream's maker closes what it was given. */
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int rc =
        own < 0 ? -errno : zk__fd_stream(own, S_ISSOCK(st.st_mode) ? ZK__IO_SOCKET : 0, ret_stream);
    if (rc < 0) {
        fcntl(fd, F_SETFL, flags);
        return rc;
    }
    close(fd);
    return 0;
}
