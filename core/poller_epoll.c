/*
 * The epoll backend: try the system call first, wait only when it would block.
 *
 * A descriptor is registered once, edge-triggered, in both directions, when an operation first has to wait; it
 * stays until it is closed. MAYBE_READABLE and MAYBE_WRITABLE remember edges: they are set by an event and cleared by a
 * call that found nothing. On a stream a short read clears MAYBE_READABLE too, which saves the call that would find it
 * empty; that is sound because data or an end that arrives later makes a new edge, and an end that was there already has been
 * reported as PEER_DONE.
 *
 * The wake-up eventfd is edge-triggered and never read.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/poller.h"
#include "core/worker.h"

enum { EVENTS = 256 };

typedef struct epoll_state {
    int epoll_fd, wake_fd;
    struct epoll_event events[EVENTS];
} epoll_state;

static int epoll_open(zk__poller *poller)
{
    epoll_state *s = malloc(sizeof *s);
    if (!s) return -ENOMEM;
    int rc = 0;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (s->epoll_fd < 0 || s->wake_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->wake_fd, &wake)) {
        rc = -errno;
        if (s->epoll_fd >= 0) close(s->epoll_fd);
        if (s->wake_fd >= 0) close(s->wake_fd);
        free(s);
        return rc;
    }
    poller->state = s;
    return 0;
}

static void epoll_close(zk__poller *poller)
{
    epoll_state *s = poller->state;
    close(s->epoll_fd);
    close(s->wake_fd);
    free(s);
    poller->state = NULL;
}

static bool is_read_like(const zk__op *op) { return op->code <= ZK__OP_ACCEPT; }

/* Tries the operation if the last one did not find it blocked. returns whether op->result is there. */
static bool attempt(zk__op *op)
{
    zk__io *io = op->io;
    uint32_t bit = is_read_like(op) ? ZK__IO_MAYBE_READABLE : ZK__IO_MAYBE_WRITABLE;
    if (!(io->bits & bit)) return false;
    ssize_t n = zk__op_try(op);
    if (n == -EAGAIN) {
        io->bits &= ~bit;
        return false;
    }
    if (op->code == ZK__OP_READ && n > 0 && (size_t)n < op->size && io->bits & ZK__IO_STREAM &&
        !(io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN))) {
        io->bits &= ~bit;
    }
    op->result = n;
    return true;
}

static ssize_t epoll_attempt(zk__poller *poller, zk__op *op)
{
    (void)poller;
    return attempt(op) ? op->result : -EAGAIN;
}

static int io_register(zk__poller *poller, zk__io *io)
{
    epoll_state *s = poller->state;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = io,
    };
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, io->fd, &event)) return -errno;
    io->bits |= ZK__IO_REGISTERED;
    return 0;
}

static bool epoll_submit(zk__poller *poller, zk__op *op)
{
    zk__io *io = op->io;
    /* Unregistered, nothing has reported data since the last read; registering will, if it is there. */
    if (op->code == ZK__OP_READABLE && !(io->bits & ZK__IO_REGISTERED)) {
        io->bits &= ~(uint32_t)ZK__IO_MAYBE_READABLE;
    }
    if (attempt(op)) return true;
    if (!(io->bits & ZK__IO_REGISTERED)) {
        int rc = io_register(poller, io);
        if (rc < 0) {
            op->result = rc;
            return true;
        }
    }
    *(is_read_like(op) ? &io->reader : &io->writer) = op;
    return false;
}

static void epoll_cancel(zk__poller *poller, zk__op *op)
{
    (void)poller;
    *(is_read_like(op) ? &op->io->reader : &op->io->writer) = NULL;
    op->result = -ECANCELED;
    op->complete(op);
}

static void epoll_watch(zk__poller *poller, zk__io *io)
{
    if (!(io->bits & ZK__IO_REGISTERED)) (void)io_register(poller, io);
}

static void epoll_forget(zk__poller *poller, zk__io *io)
{
    (void)poller; /* closing it takes it out of the set: nothing else holds the open file */
    close(io->fd);
    io->fd = -1;
}

static void retry(zk__op **slot)
{
    zk__op *op = *slot;
    if (!op || !attempt(op)) return;
    *slot = NULL;
    op->complete(op);
}

static void on_event(zk__io *io, uint32_t events)
{
    uint32_t bits = io->bits;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) bits |= ZK__IO_MAYBE_READABLE;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) bits |= ZK__IO_MAYBE_WRITABLE;
    if (events & EPOLLRDHUP) bits |= ZK__IO_PEER_DONE;
    if (events & (EPOLLHUP | EPOLLERR)) bits |= ZK__IO_BROKEN;
    io->bits = bits;
    if (io->reader) {
        retry(&io->reader);
    } else if (io->on_hangup && bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN)) {
        io->on_hangup(io);
    }
    if (io->writer) retry(&io->writer);
}

static void epoll_poll(zk__poller *poller, zk_time timeout)
{
    epoll_state *s = poller->state;
    /* Rounded up: a timer never fires early. */
    int timeout_ms = timeout < 0               ? -1
                     : timeout > ZK_SEC(86400) ? 86400 * 1000
                                               : (int)((timeout + ZK_MS(1) - 1) / ZK_MS(1));
    int count = epoll_wait(s->epoll_fd, s->events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        if (s->events[i].data.ptr) on_event(s->events[i].data.ptr, s->events[i].events);
    }
}

static void epoll_wake(zk__poller *poller)
{
    epoll_state *s = poller->state;
    /* Fails only when the counter is full, and then the edge is there anyway. */
    if (eventfd_write(s->wake_fd, 1)) return;
}

const struct zk__poller_ops zk__poller_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .submit = epoll_submit,
    .attempt = epoll_attempt,
    .cancel = epoll_cancel,
    .watch = epoll_watch,
    .forget = epoll_forget,
    .poll = epoll_poll,
    .wake = epoll_wake,
};
