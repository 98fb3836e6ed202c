/*
 * The io_uring backend.
 *
 * The kernel never holds a buffer of the user's: streams are received by one multishot request per
 * connection into buffers that the worker provides (uring_buffers.h); everything else waits for
 * readiness by a poll request and then makes the system call itself. So an operation is cancelled
 * by forgetting it, at once, and what a cancelled read did not get is there for the next one.
 *
 * What a descriptor needs beyond its zk__io is its port, made when an operation first has to wait.
 * A request is known by port and kind, and armed from when it is queued until its last completion:
 *
 *   RECV      streams: armed by the first read that has to wait, and kept. Data goes to the reader,
 *             the rest into the stash. While it is armed nothing else may receive, for the order's
 *             sake; while it is not, reads try the system call first. Ended when the stash is full.
 *   ACCEPT    listeners: connections beyond the one waited for are queued. Ended when the queue is
 *             full, and when an accept is cancelled, as others may be listening on the same socket.
 *   READABLE  other descriptors; streams for which there is no buffer, and those that are read into
 *             large ones.
 *   WRITABLE  writes and connects.
 *   HANGUP    streams, with RECV or when watched: the end, maybe before what is left of the data.
 *   CANCEL    ends one of these.
 *
 * RECV alone may miss the end of a stream: Linux loses it when it comes close behind data
 * (liburing issue 1549). HANGUP does not. If RECV is still armed by then it is ended, and reads go
 * on with the system call.
 *
 * A forgotten port is an orphan: all that is armed is cancelled, and the last completion frees it.
 * Closing a descriptor does not end its requests, and they keep the socket open. So forgetting one
 * has them cancelled before it closes: its peer, or who binds the same port next, relies on that.
 *
 * The wake-up eventfd is never read. Waking by a message ring would cost the waker a system call
 * too, and threads that are no workers have no ring.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/poller.h"
#include "core/uring_buffers.h"
#include "core/uring_ring.h"
#include "core/worker.h"

enum { STASH_MAX_BYTES = 65536, BACKLOG_MAX = 16, BULK_BYTES = 32 * 1024 };
/* The kernel runs 20 completions at a time, and others may be before the cancelled ones. */
enum { FORGET_ROUNDS = 8 };
static const zk_time trim_after = ZK_SEC(1);

enum { RECV, ACCEPT, READABLE, WRITABLE, HANGUP, CANCEL, KIND_MASK = 15 };
enum { INTAKE = 1 << RECV | 1 << ACCEPT | 1 << READABLE };
enum { TAG_IGNORED = ZK__RING_IGNORED, TAG_WAKE }; /* of completions without a port */
enum { NOT_ENDED = 1 };

/* Connections that nobody has waited for yet. */
typedef struct backlog {
    int *fds;
    uint16_t first, end, capacity;
} backlog;

typedef struct port {
    zk__io *io; /* NULL: an orphan */
    union {
        zk__stash stash;
        backlog backlog;
    };
    int end;            /* what follows the stash: NOT_ENDED, 0 or -errno */
    uint16_t in_flight; /* requests that will have a last completion */
    uint8_t armed;      /* a bit per kind */
    bool is_stopping;   /* RECV or ACCEPT is to end */
} port;

_Static_assert(sizeof(void *) != 8 || sizeof(port) == 32, "each connection has one");

typedef struct uring {
    struct io_uring ring;
    int wake_fd;
    bool is_closing;
    uint32_t in_flight; /* of all ports */
    zk__buffers buffers;
} uring;

/* ---- requests ---- */

static void sqe_tag(struct io_uring_sqe *sqe, port *p, unsigned kind)
{
    io_uring_sqe_set_data64(sqe, (uintptr_t)p | kind);
}

/*
 * Poll requests report that the peer has sent its end, asked for or not (IO_POLL_UNMASK in the
 * kernel). Once it has, only a multishot request can wait for something else: it reports that once.
 */
static void prepare_poll(struct io_uring_sqe *sqe, const zk__io *io, unsigned events)
{
    if (io->bits & ZK__IO_PEER_DONE) {
        io_uring_prep_poll_multishot(sqe, io->fd, events);
    } else {
        io_uring_prep_poll_add(sqe, io->fd, events);
    }
}

static void prepare(struct io_uring_sqe *sqe, const port *p, unsigned kind)
{
    int fd = p->io->fd;
    switch (kind) {
    case RECV:
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = ZK__BUFFER_GROUP;
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; /* mostly nothing is there yet */
        break;
    case ACCEPT:
        io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case READABLE: io_uring_prep_poll_add(sqe, fd, POLLIN); break;
    case WRITABLE: prepare_poll(sqe, p->io, POLLOUT); break;
    case HANGUP: prepare_poll(sqe, p->io, POLLRDHUP); break;
    }
}

static int arm(uring *u, port *p, unsigned kind)
{
    if (p->armed & 1 << kind) return 0;
    struct io_uring_sqe *sqe = zk__ring_sqe(&u->ring);
    if (!sqe) return -ENOMEM;
    prepare(sqe, p, kind);
    sqe_tag(sqe, p, kind);
    p->armed |= (uint8_t)(1 << kind);
    p->in_flight++;
    u->in_flight++;
    return 0;
}

static void disarm(uring *u, port *p, unsigned kind)
{
    if (!(p->armed & 1 << kind)) return;
    struct io_uring_sqe *sqe = zk__ring_sqe_always(&u->ring);
    io_uring_prep_cancel64(sqe, (uintptr_t)p | kind, 0);
    sqe_tag(sqe, p, CANCEL);
    p->in_flight++;
    u->in_flight++;
}

static void disarm_all(uring *u, port *p)
{
    for (unsigned kind = RECV; kind < CANCEL; kind++)
        disarm(u, p, kind);
}

/* Ends RECV or ACCEPT, whichever it is. What they have got until then is delivered. */
static void stop(uring *u, port *p)
{
    if (p->is_stopping || !(p->armed & (1 << RECV | 1 << ACCEPT))) return;
    p->is_stopping = true;
    disarm(u, p, RECV);
    disarm(u, p, ACCEPT);
}

/* ---- what listeners have accepted ---- */

static bool backlog_put(backlog *b, int fd)
{
    if (b->end == b->capacity) {
        if (b->capacity > UINT16_MAX / 2) return false;
        uint16_t capacity = b->capacity ? (uint16_t)(2 * b->capacity) : 16;
        int *fds = zk_alloc(capacity * sizeof *fds);
        if (!fds) return false;
        if (b->end) memcpy(fds, b->fds, b->end * sizeof *fds);
        zk_free(b->fds);
        b->fds = fds;
        b->capacity = capacity;
    }
    b->fds[b->end++] = fd;
    return true;
}

/* returns -EAGAIN if there is none. */
static int backlog_take(backlog *b)
{
    if (b->first == b->end) return -EAGAIN;
    int fd = b->fds[b->first++];
    if (b->first == b->end) b->first = b->end = 0;
    return fd;
}

static void backlog_drop(backlog *b)
{
    for (int fd; (fd = backlog_take(b)) >= 0;)
        close(fd);
    zk_free(b->fds);
}

/* ---- operations ---- */

static bool is_read_like(const zk__op *op) { return op->code <= ZK__OP_ACCEPT; }

static bool is_stream(const zk__io *io) { return io->bits & ZK__IO_STREAM; }

static ssize_t accept_now(zk__op *op)
{
    port *p = op->io->stash;
    int fd = p ? backlog_take(&p->backlog) : -EAGAIN;
    if (fd >= 0 || (p && p->armed & 1 << ACCEPT)) return fd;
    return zk__op_try(op);
}

static ssize_t stream_read_now(uring *u, zk__op *op)
{
    zk__io *io = op->io;
    port *p = io->stash;
    bool is_read = op->code == ZK__OP_READ;
    if (is_read) {
        io->bits &= ~(uint32_t)ZK__IO_BULK;
        if (op->size >= BULK_BYTES) io->bits |= ZK__IO_BULK;
    }
    if (p) {
        if (p->stash.last) {
            if (!is_read) return 0;
            return (ssize_t)zk__stash_take(&p->stash, &u->buffers, op->buf, op->size);
        }
        if (p->end != NOT_ENDED) return is_read ? p->end : 0;
        if (p->armed & 1 << RECV) return -EAGAIN;
    }
    if (!is_read) return io->bits & ZK__IO_PEER_DONE ? 0 : -EAGAIN;
    ssize_t n = zk__op_try(op);
    /* An error that has passed has looked like a hang-up. */
    if (n == -EAGAIN) io->bits &= ~(uint32_t)(ZK__IO_PEER_DONE | ZK__IO_BROKEN);
    return n;
}

/* Does it without waiting, or returns -EAGAIN. */
static ssize_t op_now(uring *u, zk__op *op)
{
    switch (op->code) {
    case ZK__OP_READ:
    case ZK__OP_READABLE:
        if (is_stream(op->io)) return stream_read_now(u, op);
        return op->code == ZK__OP_READ ? zk__op_try(op) : -EAGAIN;
    case ZK__OP_ACCEPT: return accept_now(op);
    default: return zk__op_try(op);
    }
}

static port *port_of(zk__io *io)
{
    if (io->stash) return io->stash;
    port *p = zk_alloc_zeroed(sizeof *p);
    if (!p) return NULL;
    p->io = io;
    p->end = NOT_ENDED;
    io->stash = p;
    return p;
}

/* Sees to it that the operation is looked at again. */
static int op_wait(uring *u, port *p, const zk__op *op)
{
    if (!is_read_like(op)) return arm(u, p, WRITABLE);
    /* A reader with room for many buffers: copying out of them would cost more than its own call.
     * Who waits for readiness has read before. */
    bool by_itself = !is_stream(p->io) || p->io->bits & ZK__IO_BULK;
    if (by_itself && p->armed & 1 << RECV) stop(u, p); /* whose end has the reader look again */
    if (p->armed & INTAKE) return 0;
    if (op->code == ZK__OP_ACCEPT) return arm(u, p, ACCEPT);
    int rc = is_stream(p->io) ? arm(u, p, HANGUP) : 0;
    return rc < 0 ? rc : arm(u, p, by_itself ? READABLE : RECV);
}

static bool uring_submit(zk__poller *poller, zk__op *op)
{
    uring *u = poller->state;
    zk__io *io = op->io;
    ssize_t n = op_now(u, op);
    if (n == -EAGAIN) {
        port *p = port_of(io);
        int rc = p ? op_wait(u, p, op) : -ENOMEM;
        if (!rc) {
            *(is_read_like(op) ? &io->reader : &io->writer) = op;
            return false;
        }
        n = rc;
    }
    op->result = n;
    return true;
}

static ssize_t uring_attempt(zk__poller *poller, zk__op *op) { return op_now(poller->state, op); }

/* What attempt() does for a send on a socket, without its detours. */
static ssize_t uring_send_now(zk__poller *poller, zk__io *io, const void *data, size_t size)
{
    if (ZK_UNLIKELY(!(io->bits & ZK__IO_SOCKET))) {
        return zk__send_by_attempt(poller, io, data, size);
    }
    ssize_t n;
    do {
        n = send(io->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (ZK_UNLIKELY(n < 0) && errno == EINTR);
    return ZK_LIKELY(n >= 0) ? n : -errno;
}

/* Last thing that is done about a completion: the one called may submit, cancel or forget. */
static void op_end(zk__op *op, ssize_t result)
{
    *(is_read_like(op) ? &op->io->reader : &op->io->writer) = NULL;
    op->result = result;
    op->complete(op);
}

static void uring_cancel(zk__poller *poller, zk__op *op)
{
    if (op->code == ZK__OP_ACCEPT) stop(poller->state, op->io->stash);
    op_end(op, -ECANCELED);
}

static void uring_watch(zk__poller *poller, zk__io *io)
{
    port *p = port_of(io);
    /* Without memory the next read or write will notice. */
    if (p && !(io->bits & ZK__IO_BROKEN)) (void)arm(poller->state, p, HANGUP);
}

static void uring_forget(zk__poller *poller, zk__io *io)
{
    uring *u = poller->state;
    port *p = io->stash;
    if (p) {
        io->stash = NULL;
        p->io = NULL;
        if (is_stream(io)) {
            zk__stash_drop(&p->stash, &u->buffers);
        } else {
            backlog_drop(&p->backlog);
        }
        if (p->armed) {
            disarm_all(u, p);
            for (int i = 0; i < FORGET_ROUNDS; i++)
                zk__ring_flush(&u->ring);
        } else if (!p->in_flight) {
            zk_free(p);
        }
    }
    close(io->fd);
    io->fd = -1;
}

/* ---- completions ---- */

/* What the operation waited for may have come: does it, or goes on waiting. */
static void retry(uring *u, port *p, zk__op *op)
{
    ssize_t n = op_now(u, op);
    if (n == -EAGAIN) {
        n = op_wait(u, p, op);
        if (!n) return;
    }
    op_end(op, n);
}

static void on_data(uring *u, port *p, uint16_t id, uint32_t size)
{
    zk__op *op = p->io->reader;
    uint32_t taken = 0;
    /* A reader that waits has found the stash empty, and all that comes goes to it first. */
    if (op && op->code == ZK__OP_READ) {
        taken = size < op->size ? size : (uint32_t)op->size;
        memcpy(op->buf, u->buffers.memory + (size_t)id * ZK__BUFFER_BYTES, taken);
    }
    if (taken == size) {
        zk__buffers_return(&u->buffers, id);
    } else {
        zk__stash_put(&p->stash, &u->buffers, id, taken, size);
        if (p->stash.size_bytes >= STASH_MAX_BYTES) stop(u, p);
    }
    if (op) op_end(op, taken);
}

static void on_hangup(zk__io *io)
{
    if (!io->reader && io->on_hangup) io->on_hangup(io);
}

static void on_end(port *p, int result)
{
    zk__io *io = p->io;
    p->end = result;
    io->bits |= ZK__IO_PEER_DONE | ZK__IO_MAYBE_READABLE;
    if (result < 0) io->bits |= ZK__IO_BROKEN;
    zk__op *op = io->reader;
    if (op) {
        op_end(op, op->code == ZK__OP_READ ? result : 0);
    } else {
        on_hangup(io);
    }
}

static void on_recv(uring *u, port *p, int res, uint32_t flags)
{
    uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    if (res > 0) {
        on_data(u, p, id, (uint32_t)res);
        return;
    }
    if (flags & IORING_CQE_F_BUFFER) zk__buffers_return(&u->buffers, id);
    zk__op *op = p->io->reader;
    int rc = 0;
    switch (res) {
    case -ENOBUFS:
        zk__buffers_grow(&u->buffers);
        /* If none is back by the next turn this would go round and round: so, once, without. */
        if (op) rc = arm(u, p, READABLE);
        if (rc < 0) op_end(op, rc);
        break;
    case -ECANCELED:
    case -EINTR:
    case -EAGAIN:
        if (op) retry(u, p, op);
        break;
    default: on_end(p, res);
    }
}

static void on_accept(uring *u, port *p, int res)
{
    zk__op *op = p->io->reader;
    if (op) {
        /* The connection may have died in the kernel's queue, which is not the listener's error. */
        bool is_error = res < 0 && res != -ECANCELED && res != -EINTR && res != -EAGAIN &&
                        res != -ECONNABORTED && res != -EPROTO;
        if (res >= 0 || is_error) {
            op_end(op, res);
        } else {
            retry(u, p, op);
        }
        return;
    }
    if (res < 0) return; /* the next accept will see for itself */
    if (!backlog_put(&p->backlog, res)) close(res);
    if (p->backlog.end - p->backlog.first >= BACKLOG_MAX) stop(u, p);
}

static void on_readable(uring *u, port *p, int res)
{
    zk__op *op = p->io->reader;
    if (!op) return;
    if (res < 0 && res != -ECANCELED) {
        op_end(op, res);
    } else if (res > 0 && op->code == ZK__OP_READABLE) {
        op_end(op, 0);
    } else {
        retry(u, p, op);
    }
}

static void on_writable(uring *u, port *p, int res)
{
    zk__op *op = p->io->writer;
    if (res > 0 && res & POLLRDHUP) p->io->bits |= ZK__IO_PEER_DONE;
    if (!op) return;
    if (res < 0 && res != -ECANCELED) {
        op_end(op, res);
    } else {
        retry(u, p, op);
    }
}

static void on_hangup_poll(uring *u, port *p, int res, uint32_t flags)
{
    zk__io *io = p->io;
    bool is_broken = res & (POLLHUP | POLLERR);
    if (res <= 0 || (flags & IORING_CQE_F_MORE && !is_broken)) return;
    io->bits |= ZK__IO_PEER_DONE | ZK__IO_MAYBE_READABLE;
    if (is_broken) io->bits |= ZK__IO_BROKEN;
    stop(u, p);
    if (io->on_hangup && !is_broken) (void)arm(u, p, HANGUP);
    /* Unless on_end has told it. */
    if (p->end == NOT_ENDED || (p->end == 0 && is_broken)) on_hangup(io);
}

/* What a completion brings to a port that nobody owns any more. */
static void on_orphan(uring *u, port *p, unsigned kind, int res, uint32_t flags)
{
    if (flags & IORING_CQE_F_BUFFER) {
        zk__buffers_return(&u->buffers, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT));
    }
    if (kind == ACCEPT && res >= 0) close(res);
    /* The kernel misses requests that are just on their way from one of its lists to another. */
    if (kind == CANCEL && res < 0) disarm_all(u, p);
    if (!p->in_flight) zk_free(p);
}

static void on_completion(uring *u, const struct io_uring_cqe *cqe)
{
    unsigned kind = (unsigned)(cqe->user_data & KIND_MASK);
    port *p = (port *)(uintptr_t)(cqe->user_data & ~(uint64_t)KIND_MASK);
    int res = cqe->res;
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        p->in_flight--;
        u->in_flight--;
        p->armed &= (uint8_t) ~(1 << kind);
        if (kind == RECV || kind == ACCEPT) p->is_stopping = false;
    }
    if (u->is_closing) p->io = NULL;
    if (!p->io) {
        on_orphan(u, p, kind, res, cqe->flags);
        return;
    }
    switch (kind) {
    case RECV: on_recv(u, p, res, cqe->flags); break;
    case ACCEPT: on_accept(u, p, res); break;
    case READABLE: on_readable(u, p, res); break;
    case WRITABLE: on_writable(u, p, res); break;
    case HANGUP: on_hangup_poll(u, p, res, cqe->flags); break;
    case CANCEL:
        if (res < 0 && p->is_stopping) {
            p->is_stopping = false;
            stop(u, p);
        }
        break;
    }
}

static void wake_arm(uring *u)
{
    struct io_uring_sqe *sqe = zk__ring_sqe_always(&u->ring);
    io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, TAG_WAKE);
}

/* Handles what has completed so far. returns how much that was. */
static uint32_t reap(uring *u)
{
    uint32_t count = io_uring_cq_ready(&u->ring);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_cqe cqe = u->ring.cq.cqes[*u->ring.cq.khead & u->ring.cq.ring_mask];
        io_uring_cq_advance(&u->ring, 1);
        if (ZK_LIKELY(cqe.user_data > KIND_MASK)) {
            on_completion(u, &cqe);
        } else if (cqe.user_data == TAG_WAKE && !(cqe.flags & IORING_CQE_F_MORE) &&
                   !u->is_closing) {
            wake_arm(u);
        }
    }
    return count;
}

static void uring_poll(zk__poller *poller, zk_time timeout)
{
    uring *u = poller->state;
    if (timeout == 0) {
        zk__ring_flush(&u->ring);
        reap(u);
        return;
    }
    bool may_trim = zk__buffers_are_large(&u->buffers) && (timeout < 0 || timeout > trim_after);
    zk__ring_wait(&u->ring, may_trim ? trim_after : timeout);
    if (!reap(u) && may_trim) zk__buffers_trim(&u->buffers);
}

static bool uring_is_expecting(const zk__poller *poller)
{
    return ((const uring *)poller->state)->in_flight > 0;
}

static void uring_wake(zk__poller *poller)
{
    uring *u = poller->state;
    /* Fails only when the counter is full, and then the poll has long been woken. */
    if (eventfd_write(u->wake_fd, 1)) return;
}

/* ---- opening and closing ---- */

static int uring_open(zk__poller *poller)
{
    uring *u = calloc(1, sizeof *u);
    if (!u) return -ENOMEM;
    u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = u->wake_fd < 0 ? -errno : zk__ring_open(&u->ring);
    if (rc < 0) goto fail_ring;
    rc = zk__buffers_open(&u->buffers, &u->ring);
    if (rc < 0) goto fail_buffers;
    wake_arm(u);
    poller->state = u;
    return 0;
fail_buffers:
    io_uring_queue_exit(&u->ring);
fail_ring:
    if (u->wake_fd >= 0) close(u->wake_fd);
    free(u);
    return rc;
}

static void uring_close(zk__poller *poller)
{
    uring *u = poller->state;
    u->is_closing = true;
    /* Orphans are still to be freed. Other ports are of streams that were never closed. */
    for (int round = 0; u->in_flight && round < 1000; round++) {
        struct io_uring_sqe *sqe = zk__ring_sqe(&u->ring);
        if (sqe) {
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
            io_uring_sqe_set_data64(sqe, TAG_IGNORED);
        }
        zk__ring_wait(&u->ring, ZK_MS(10));
        reap(u);
    }
    io_uring_queue_exit(&u->ring);
    zk__buffers_close(&u->buffers);
    close(u->wake_fd);
    free(u);
    poller->state = NULL;
}

const struct zk__poller_ops zk__poller_uring = {
    .name = "io_uring",
    .receives_ahead = true,
    .kernel = &zk__kernel_system,
    .open = uring_open,
    .close = uring_close,
    .submit = uring_submit,
    .attempt = uring_attempt,
    .recv_now = zk__recv_by_attempt,
    .send_now = uring_send_now,
    .cancel = uring_cancel,
    .watch = uring_watch,
    .forget = uring_forget,
    .poll = uring_poll,
    .is_expecting = uring_is_expecting,
    .wake = uring_wake,
};
