/*
 * For the tests of the pollers: bodies that run once on each backend, sockets, and operations in
 * tasks of their own.
 *
 * A body is the first task of a runtime with one worker. Loopback and Unix sockets hand over in the
 * sender's system call, so what has been sent is there: turns() lets the poller see it, and nothing
 * has to wait for time to pass.
 */
#ifndef ZOKIO_TESTS_CORE_POLLER_H
#define ZOKIO_TESTS_CORE_POLLER_H

#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/worker.h"

static const char *const poller_backends[] = {"epoll", "io_uring"};

static inline int run_body(void *arg)
{
    void (*body)(void) = *(void (**)(void))arg;
    body();
    return 0;
}

static inline void run_on(const char *backend, void (*body)(void))
{
    unsetenv("ZOKIO_POLLER"); /* it would overrule the configuration */
    zk_config config = {.workers = 1, .poller = backend, .no_crash_report = true};
    fprintf(stderr, "on %s:\n", backend);
    cr_assert_ok(zk_run(&config, run_body, &body));
}

#define ON_EACH_BACKEND(name)                                                                      \
    static void name(void);                                                                        \
    ZK_TEST(poller, name)                                                                          \
    {                                                                                              \
        for (size_t i = 0; i < 2; i++)                                                             \
            run_on(poller_backends[i], name);                                                      \
    }                                                                                              \
    static void name(void)

static inline zk__poller *poller(void) { return &zk__worker_self()->poller; }

/* Lets the poller look at what has happened, and the tasks that it concerns run. */
static inline void turns(void)
{
    for (int i = 0; i < 4; i++) {
        poller()->ops->poll(poller(), 0);
        cr_assert_ok(zk_yield());
    }
}

/* ---- descriptors ---- */

enum { STREAM = ZK__IO_SOCKET | ZK__IO_STREAM };

static inline void unix_pair(int fds[2])
{
    cr_assert_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
}

static inline int listen_tcp(struct sockaddr_in *ret_addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_ok(fd);
    cr_assert_ok(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = ret_addr->sin_port,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t size = sizeof addr;
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, size), 0, "bind: %s", strerror(errno));
    cr_assert_eq(listen(fd, 1000), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &size), 0);
    *ret_addr = addr;
    return fd;
}

/* A connected socket that blocks no longer than a second. */
static inline int connect_raw(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    struct timeval second = {.tv_sec = 1};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second), 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)addr, sizeof *addr), 0, "%s",
                 strerror(errno));
    return fd;
}

static inline void tcp_pair(int fds[2])
{
    struct sockaddr_in addr = {0};
    int listener = listen_tcp(&addr);
    fds[1] = connect_raw(&addr);
    fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(fds[0], 0);
    cr_assert_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    /* Buffers of a fixed size: full means full. */
    for (int i = 0; i < 4; i++) {
        int option = i % 2 ? SO_SNDBUF : SO_RCVBUF;
        cr_assert_eq(setsockopt(fds[i / 2], SOL_SOCKET, option, &(int){100000}, sizeof(int)), 0);
    }
    close(listener);
}

static inline void reset(int fd)
{
    struct linger none = {.l_onoff = 1};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    close(fd);
}

enum { UNIX, TCP };
static inline void pair(int kind, int fds[2])
{
    if (kind == UNIX) {
        unix_pair(fds);
    } else {
        tcp_pair(fds);
    }
}

static inline uint8_t pattern(size_t i) { return (uint8_t)(i * 31 + (i >> 8) * 7); }

/* ---- operations ---- */

static inline ssize_t op_read(zk__io *io, void *buf, size_t size)
{
    return zk__op_run(&(zk__op){.code = ZK__OP_READ, .io = io, .buf = buf, .size = size});
}

static inline ssize_t op_write(zk__io *io, const void *data, size_t size)
{
    struct iovec iov = {(void *)data, size};
    return zk__op_run(&(zk__op){.code = ZK__OP_WRITE, .io = io, .iov = &iov, .iov_count = 1});
}

static inline ssize_t op_accept(zk__io *io)
{
    return zk__op_run(&(zk__op){.code = ZK__OP_ACCEPT, .io = io});
}

static inline ssize_t op_readable(zk__io *io)
{
    return zk__op_run(&(zk__op){.code = ZK__OP_READABLE, .io = io});
}

static inline void forget(zk__io *io) { poller()->ops->forget(poller(), io); }

/* An operation in a task of its own, so that the test can act while it waits. */
typedef struct waiter {
    ssize_t (*run)(struct waiter *self);
    zk__io *io;
    char buf[64];
    ssize_t result;
    bool is_done;
} waiter;

static inline ssize_t wait_read(waiter *w) { return op_read(w->io, w->buf, sizeof w->buf); }
static inline ssize_t wait_readable(waiter *w) { return op_readable(w->io); }
static inline ssize_t wait_accept(waiter *w) { return op_accept(w->io); }

static inline int waiter_run(void *arg)
{
    waiter *w = arg;
    w->result = w->run(w);
    w->is_done = true;
    return 0;
}

/* Returns once the operation waits. */
static inline void waiter_start(zk_scope *scope, waiter *w)
{
    cr_assert_ok(zk_spawn(scope, waiter_run, (void *)w));
    turns();
    cr_assert_not(w->is_done, "did not wait, but gave %zd", w->result);
}

static inline void wait_and_cancel(waiter *w)
{
    ZK_SCOPE(scope) {
        waiter_start(&scope, w);
        zk_scope_cancel(&scope);
        (void)zk_scope_wait(&scope);
    }
    cr_assert_eq(w->result, -ECANCELED);
}

/* Sends until nothing more is taken. returns how much that was. */
static inline size_t fill(int fd)
{
    static uint8_t data[10000];
    size_t sent = 0;
    for (int idle = 0; idle < 3;) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = pattern(sent + i);
        ssize_t n = send(fd, data, sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT);
        cr_assert(n > 0 || errno == EAGAIN);
        idle = n > 0 ? 0 : idle + 1;
        if (n > 0) sent += (size_t)n;
        turns();
        cr_assert_lt(sent, 64u << 20, "no end of it");
    }
    return sent;
}

static uint32_t hangup_bits;
static inline void on_hangup(zk__io *io)
{
    hangup_bits = io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN);
}

#endif
