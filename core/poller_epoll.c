/*
 * The epoll backend: try the system call first, wait only when it would block.
 *
 * A descriptor is registered once, edge-triggered, in both directions, when an operation first has
 * to wait; it stays until it is closed. MAYBE_READABLE and MAYBE_WRITABLE remember edges: they are
 * set by an event and cleared by a call that found nothing. On a stream a short read clears
 * MAYBE_READABLE too, which saves the call that would find it empty; that is sound because data or
 * an end that arrives later makes a new edge, and an end that was there already has been reported
 * as PEER_DONE. But a read stops where TCP's urgent byte was, and after descriptors that came over
 * a Unix socket, whatever follows: such a stream is MARKED, a TCP one when EPOLLPRI says so.
 *
 * The wake-up eventfd is edge-triggered and never read.
 *
 * A long wait has no time-out of its own: setting up and taking back the kernel's timer costs 0.6
 * us each time, and a server sleeps between any two batches of requests. Instead a timerfd, which
 * is never read either, ends it. It stays armed from wait to wait, and is armed anew only when it
 * would fire too late or has fired; that it may fire too early is allowed. A short wait ends on
 * time, not at the next whole millisecond, where the kernel has epoll_pwait2 (5.11).
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/poller.h"
#include "core/switch.h"
#include "core/worker.h"

/* By who does not know epoll_pwait2: Valgrind complains of it, and the thread sanitizer would hold
 * signals back until it is over. */
#if ZK__TSAN
#define IS_WATCHED true
#elif __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define IS_WATCHED RUNNING_ON_VALGRIND
#else
#define IS_WATCHED false
#endif

enum { EVENTS = 256, TIMER_FD_FROM_MS = 50 };

typedef struct epoll_state {
    int epoll_fd, wake_fd;
    int timer_fd;     /* -1: there is none */
    zk_time timer_at; /* when it fires; in the past if it is not armed */
    zk__io *current;  /* whose event is being handled; NULL once that has forgotten it */
    int next, count;  /* of events: those not handled yet */
    size_t registered;
    bool is_in_ms; /* there is no epoll_pwait2, or who watches us does not know it */
    struct epoll_event events[EVENTS + 1]; /* one may look at the one behind the last */
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
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    s->timer_at = INT64_MIN;
    if (s->timer_fd >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->timer_fd, &wake)) {
        close(s->timer_fd);
        s->timer_fd = -1;
    }
    s->current = NULL;
    s->next = s->count = 0;
    s->registered = 0;
    s->is_in_ms = IS_WATCHED;
    poller->state = s;
    return 0;
}

static void epoll_close(zk__poller *poller)
{
    epoll_state *s = poller->state;
    close(s->epoll_fd);
    close(s->wake_fd);
    if (s->timer_fd >= 0) close(s->timer_fd);
    free(s);
    poller->state = NULL;
}

static bool is_read_like(const zk__op *op) { return op->code <= ZK__OP_ACCEPT; }

/* Reading exactly all that was there leaves MAYBE_READABLE set; who parks has to know. */
static ssize_t try_readable(const zk__io *io)
{
    if (io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN)) return 0;
    return zk__fd_is_ready(io->fd, POLLIN | POLLRDHUP) ? 0 : -EAGAIN;
}

/* Tries the operation if the last one did not find it blocked. returns whether op->result is
 * there. */
static bool attempt(zk__op *op)
{
    zk__io *io = op->io;
    uint32_t bit = is_read_like(op) ? ZK__IO_MAYBE_READABLE : ZK__IO_MAYBE_WRITABLE;
    if (!(io->bits & bit)) return false;
    ssize_t n = op->code == ZK__OP_READABLE ? try_readable(io) : zk__op_try(op);
    if (n == -EAGAIN) {
        io->bits &= ~bit;
        return false;
    }
    if (op->code == ZK__OP_READ && n > 0 && (size_t)n < op->size && io->bits & ZK__IO_STREAM &&
        !(io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN | ZK__IO_MARKED))) {
        io->bits &= ~bit;
    }
    op->result = n;
    return true;
}

static ssize_t epoll_attempt(zk__poller *poller, zk__op *op)
{
    (void)poller;
    /* Nobody reports on an unregistered one, so what the last try found says nothing about now. */
    if (!(op->io->bits & ZK__IO_REGISTERED)) {
        op->io->bits |= ZK__IO_MAYBE_READABLE | ZK__IO_MAYBE_WRITABLE;
    }
    return attempt(op) ? op->result : -EAGAIN;
}

/* What attempt() does for a read or a send on a connection, without its detours: each request takes
 * one of both. */
enum {
    USUAL = ZK__IO_SOCKET | ZK__IO_STREAM | ZK__IO_REGISTERED,
    UNUSUAL = ZK__IO_PEER_DONE | ZK__IO_BROKEN | ZK__IO_MARKED,
};

static inline bool is_usual(const zk__io *io, uint32_t bit)
{
    return (io->bits & (USUAL | UNUSUAL | bit)) == (USUAL | bit);
}

/* Interrupted, it may be tried again at once: the bit stays. */
static __attribute__((cold)) ssize_t failed_now(zk__io *io, uint32_t bit)
{
    int error = errno;
    if (error == EINTR) return -EAGAIN;
    if (error == EAGAIN) io->bits &= ~bit;
    return -error;
}

static ssize_t epoll_recv_now(zk__poller *poller, zk__io *io, void *buf, size_t size)
{
    if (ZK_LIKELY(is_usual(io, ZK__IO_MAYBE_READABLE))) {
        ssize_t n = recv(io->fd, buf, size, MSG_DONTWAIT);
        if (ZK_LIKELY(n > 0)) {
            if (ZK_LIKELY((size_t)n < size)) io->bits &= ~(uint32_t)ZK__IO_MAYBE_READABLE;
            return n;
        }
        return n == 0 ? 0 : failed_now(io, ZK__IO_MAYBE_READABLE);
    }
    return zk__recv_by_attempt(poller, io, buf, size);
}

static ssize_t epoll_send_now(zk__poller *poller, zk__io *io, const void *data, size_t size)
{
    if (ZK_LIKELY(is_usual(io, ZK__IO_MAYBE_WRITABLE))) {
        ssize_t n = send(io->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        return ZK_LIKELY(n >= 0) ? n : failed_now(io, ZK__IO_MAYBE_WRITABLE);
    }
    return zk__send_by_attempt(poller, io, data, size);
}

static int io_register(zk__poller *poller, zk__io *io)
{
    epoll_state *s = poller->state;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
        .data.ptr = io,
    };
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, io->fd, &event)) return -errno;
    io->bits |= ZK__IO_REGISTERED;
    s->registered++;
    return 0;
}

static __attribute__((noinline)) bool submit_slow(zk__poller *poller, zk__op *op)
{
    zk__io *io = op->io;
    /* Unregistered, nothing has reported data since the last read; registering will, if it is
     * there. */
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

static bool epoll_submit(zk__poller *poller, zk__op *op)
{
    enum { KNOWN = ZK__IO_REGISTERED | ZK__IO_MAYBE_READABLE };
    /* Each request ends with this: what was there has been read, and more will be reported. */
    if (ZK_LIKELY(op->code == ZK__OP_READABLE && (op->io->bits & KNOWN) == ZK__IO_REGISTERED)) {
        op->io->reader = op;
        return false;
    }
    return submit_slow(poller, op);
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
    epoll_state *s = poller->state;
    /*
     * Closing it would not do where somebody else holds the open file: a shared listener, a child
     * between fork and exec.
     */
    if (io->bits & ZK__IO_REGISTERED) {
        epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
        s->registered--;
    }
    if (s->current == io) s->current = NULL;
    for (int i = s->next; i < s->count; i++) {
        if (s->events[i].data.ptr == io) s->events[i].data.ptr = NULL;
    }
    close(io->fd);
    io->fd = -1;
}

static void retry(zk__op **slot)
{
    zk__op *op = *slot;
    if (!op) return;
    if (op->code == ZK__OP_READABLE) {
        if (!(op->io->bits & ZK__IO_MAYBE_READABLE)) return; /* the event was about writing */
        op->result = 0;
    } else if (!attempt(op)) {
        return;
    }
    *slot = NULL;
    op->complete(op);
}

/* What is called from here may forget any descriptor, this one too. */
static void on_event(epoll_state *s, zk__io *io, uint32_t events)
{
    uint32_t bits = io->bits;
    zk__op *reader = io->reader;
    if (ZK_LIKELY(events == (EPOLLIN | EPOLLOUT) && reader && reader->code == ZK__OP_READABLE &&
                  !io->writer)) {
        /* Something for a parked stream: nearly all that happens on a server. */
        io->bits = bits | ZK__IO_MAYBE_READABLE | ZK__IO_MAYBE_WRITABLE;
        io->reader = NULL;
        reader->result = 0;
        reader->complete(reader);
        return;
    }
    s->current = io;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) bits |= ZK__IO_MAYBE_READABLE;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) bits |= ZK__IO_MAYBE_WRITABLE;
    if (events & EPOLLPRI) bits |= ZK__IO_MARKED;
    if (events & EPOLLRDHUP) bits |= ZK__IO_PEER_DONE;
    if (events & (EPOLLHUP | EPOLLERR)) bits |= ZK__IO_BROKEN;
    io->bits = bits;
    if (io->reader) {
        retry(&io->reader);
    } else if (io->on_hangup && bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN)) {
        io->on_hangup(io);
    }
    if (s->current && io->writer) retry(&io->writer);
    s->current = NULL;
}

/* Sees to it that the timerfd fires within `timeout`. returns whether it will. */
static bool timer_arm(epoll_state *s, zk_time now, zk_time timeout)
{
    if (s->timer_fd < 0) return false;
    if (ZK_LIKELY(s->timer_at > now && s->timer_at - now <= timeout)) return true;
    struct itimerspec when = {
        .it_value = {.tv_sec = timeout / ZK_SEC(1), .tv_nsec = timeout % ZK_SEC(1)},
    };
    s->timer_at = INT64_MIN;
    zk_time at = zk__clock() + timeout; /* or later, by what the call takes */
    if (timerfd_settime(s->timer_fd, 0, &when, NULL)) return false;
    s->timer_at = at;
    return true;
}

/* epoll_wait, to the nanosecond if it can be had. */
static int events_wait(epoll_state *s, zk_time now, zk_time timeout)
{
    if (timeout > ZK_SEC(86400)) timeout = ZK_SEC(86400);
    if (timeout >= ZK_MS(TIMER_FD_FROM_MS) && timer_arm(s, now, timeout)) timeout = -1;
    if (timeout > 0 && !s->is_in_ms) {
        struct timespec span = {timeout / ZK_SEC(1), timeout % ZK_SEC(1)};
        long n = syscall(SYS_epoll_pwait2, s->epoll_fd, s->events, EVENTS, &span, NULL, 0);
        if (ZK_LIKELY(n >= 0 || (errno != ENOSYS && errno != EPERM))) return (int)n;
        s->is_in_ms = true;
    }
    /* Rounded up: a timer never fires early. */
    int timeout_ms = timeout < 0 ? -1 : (int)((timeout + ZK_MS(1) - 1) / ZK_MS(1));
    return epoll_wait(s->epoll_fd, s->events, EVENTS, timeout_ms);
}

static void epoll_poll(zk__poller *poller, zk_time timeout)
{
    epoll_state *s = poller->state;
    s->count = events_wait(s, poller->worker->now, timeout);
    for (s->next = 0; s->next < s->count;) {
        const struct epoll_event *event = &s->events[s->next++];
        __builtin_prefetch(event[1].data.ptr); /* what is behind the last is just an address */
        if (event->data.ptr) on_event(s, event->data.ptr, event->events);
    }
    s->next = s->count = 0;
}

static bool epoll_is_expecting(const zk__poller *poller)
{
    return ((const epoll_state *)poller->state)->registered > 0;
}

static void epoll_wake(zk__poller *poller)
{
    epoll_state *s = poller->state;
    /* Fails only when the counter is full, and then the edge is there anyway. */
    if (eventfd_write(s->wake_fd, 1)) return;
}

const struct zk__poller_ops zk__poller_epoll = {
    .name = "epoll",
    .kernel = &zk__kernel_system,
    .open = epoll_open,
    .close = epoll_close,
    .submit = epoll_submit,
    .attempt = epoll_attempt,
    .recv_now = epoll_recv_now,
    .send_now = epoll_send_now,
    .cancel = epoll_cancel,
    .watch = epoll_watch,
    .forget = epoll_forget,
    .poll = epoll_poll,
    .is_expecting = epoll_is_expecting,
    .wake = epoll_wake,
};
