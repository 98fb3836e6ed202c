/*
 * What all pollers share: choosing one, the system calls behind operations, and running an
 * operation for a task.
 */
#include "core/poller.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/budget.h"
#include "core/sigpipe.h"
#include "core/sim_kernel.h"
#include "core/worker.h"

int zk__poller_open(zk__poller *poller, const char *name)
{
    if (zk__sim_current) {
        poller->ops = &zk__poller_sim;
        return poller->ops->open(poller);
    }
    static const struct zk__poller_ops *const best_first[] = {
        &zk__poller_epoll,
#if ZK__IO_URING
        &zk__poller_uring,
#endif
    };
#if !ZK__IO_URING
    /* Known, but not in this build: the same as where the system forbids it. */
    if (name && !strcmp(name, "io_uring")) name = NULL;
#endif
    int rc = ZK_E_CONFIG;
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++) {
        if (name && strcmp(name, best_first[i]->name) != 0) continue;
        poller->ops = best_first[i];
        rc = poller->ops->open(poller);
        if (rc >= 0) return rc;
        poller->ops = NULL;
    }
    /* The one asked for exists, but the system forbids it (as containers do with io_uring). */
    if (name && rc != ZK_E_CONFIG && rc != -ENOMEM) return zk__poller_open(poller, NULL);
    return rc;
}

/* A pipe's reader may be gone. */
static ssize_t write_quietly(const zk__op *op)
{
    zk__sigpipe quiet;
    zk__sigpipe_hold(&quiet);
    ssize_t n = writev(op->io->fd, op->iov, op->iov_count);
    int error = n < 0 ? errno : 0;
    zk__sigpipe_release(&quiet, error == EPIPE);
    errno = error;
    return n;
}

static ssize_t try_write(const zk__op *op)
{
    if (!(op->io->bits & ZK__IO_SOCKET)) return write_quietly(op);
    if (op->iov_count == 1) {
        return send(op->io->fd, op->iov->iov_base, op->iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    struct msghdr msg = {.msg_iov = (struct iovec *)op->iov, .msg_iovlen = (size_t)op->iov_count};
    return sendmsg(op->io->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t try_read(const zk__op *op)
{
    if (!(op->io->bits & ZK__IO_SOCKET)) return read(op->io->fd, op->buf, op->size);
    return recv(op->io->fd, op->buf, op->size, MSG_DONTWAIT);
}

/* The second call on a connecting socket tells how the first one ended. */
static ssize_t try_connect(const zk__op *op)
{
    if (!connect(op->io->fd, op->addr, op->addr_size) || errno == EISCONN) return 0;
    if (errno == EINPROGRESS || errno == EALREADY) errno = EAGAIN;
    return -1;
}

ssize_t zk__recv_by_attempt(zk__poller *poller, zk__io *io, void *buf, size_t size)
{
    zk__op op = {.code = ZK__OP_READ, .io = io, .buf = buf, .size = size};
    return poller->ops->attempt(poller, &op);
}

ssize_t zk__send_by_attempt(zk__poller *poller, zk__io *io, const void *data, size_t size)
{
    struct iovec iov = {(void *)data, size};
    zk__op op = {.code = ZK__OP_WRITE, .io = io, .iov = &iov, .iov_count = 1};
    return poller->ops->attempt(poller, &op);
}

bool zk__fd_is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n;
    do {
        n = poll(&p, 1, 0); /* a signal interrupts it although it does not wait */
    } while (n < 0 && errno == EINTR);
    return n != 0;
}

/* Who asks has been told EAGAIN by a call of its own, which the io's bits do not know of. */
static ssize_t try_writable(const zk__op *op)
{
    return zk__fd_is_ready(op->io->fd, POLLOUT) ? 0 : -EAGAIN;
}

ssize_t zk__op_try(zk__op *op)
{
    for (;;) {
        ssize_t n = 0;
        switch (op->code) {
        case ZK__OP_READ: n = try_read(op); break;
        case ZK__OP_READABLE: return op->io->bits & ZK__IO_MAYBE_READABLE ? 0 : -EAGAIN;
        case ZK__OP_ACCEPT:
            n = accept4(op->io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            /* Errors of a connection that died in the queue are not the listener's (accept(2)). */
            if (n < 0 && (errno == ECONNABORTED || errno == EPROTO)) continue;
            break;
        case ZK__OP_WRITE: n = try_write(op); break;
        case ZK__OP_CONNECT: n = try_connect(op); break;
        case ZK__OP_WRITABLE: return try_writable(op);
        }
        if (ZK_LIKELY(n >= 0)) return n;
        if (errno != EINTR) return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

typedef struct op_wait {
    zk__wait wait;
    zk__op *op;
} op_wait;

static const zk__wait_kind kinds[] = {
    [ZK__OP_READ] = {.name = "read"},       [ZK__OP_READABLE] = {.name = "readable"},
    [ZK__OP_ACCEPT] = {.name = "accept"},   [ZK__OP_WRITE] = {.name = "write"},
    [ZK__OP_CONNECT] = {.name = "connect"}, [ZK__OP_WRITABLE] = {.name = "writable"},
};

static void op_complete(zk__op *op) { zk__wait_end(op->wait, op->result); }

static void op_cancel(zk__wait *wait)
{
    zk__op *op = ((op_wait *)(void *)wait)->op;
    zk__poller *poller = &zk__worker_self()->poller;
    poller->ops->cancel(poller, op);
}

ssize_t zk__op_run(zk__op *op)
{
    int rc = zk__spend();
    if (ZK_UNLIKELY(rc < 0)) return rc;
    op_wait w = {.wait.cancel = op_cancel, .wait.kind = &kinds[op->code], .op = op};
    op->complete = op_complete;
    op->wait = &w.wait;
    zk__poller *poller = &zk__worker_self()->poller;
    if (ZK_LIKELY(poller->ops->submit(poller, op))) return op->result;
    return zk__wait_for(&w.wait);
}

int zk__io_wait(zk__io *io, uint8_t code)
{
    /* Only who has found it empty knows that it is; with the bit it would be taken for ready. */
    uint32_t bit = code == ZK__OP_READABLE ? ZK__IO_MAYBE_READABLE : ZK__IO_MAYBE_WRITABLE;
    io->bits &= ~bit;
    zk__op op = {.code = code, .io = io};
    return (int)zk__op_run(&op);
}
