/*
 * Connected pairs of streams.
 */
#ifndef ZOKIO_TESTS_ENDS_H
#define ZOKIO_TESTS_ENDS_H

#include "tests/async.h"

#include <errno.h>

#include <zokio/tcp.h>

#include "core/worker.h"

typedef struct ends {
    zk_stream *a, *b;
} ends;

typedef struct connecting {
    zk_addr addr;
    zk_stream *stream;
} connecting;

static inline int connect_task(void *arg)
{
    connecting *c = arg;
    return zk_connect(&c->addr, &c->stream);
}

static inline ends ends_over_socket(const char *address)
{
    ends e;
    zk_listener *listener;
    connecting c;
    zk_future f;
    cr_assert_ok(zk_addr_parse(address, &c.addr));
    cr_assert_ok(zk_listen(&c.addr, NULL, &listener));
    cr_assert_ok(zk_listener_addr(listener, &c.addr));
    zk_async(&f, connect_task, &c);
    cr_assert_ok(zk_accept(listener, &e.b));
    cr_assert_ok(zk_await(&f));
    e.a = c.stream;
    zk_listener_close(listener);
    return e;
}

static inline ends open_pair(void)
{
    ends e;
    cr_assert_ok(zk_stream_pair(&e.a, &e.b));
    return e;
}

static inline ends open_tcp(void) { return ends_over_socket("127.0.0.1:0"); }

static inline ends open_unix(void)
{
    char address[64];
    snprintf(address, sizeof address, "unix:@zokio-test-%d", (int)getpid());
    return ends_over_socket(address);
}

static inline void ends_close(ends *e)
{
    zk_stream_close(e->a);
    zk_stream_close(e->b);
    e->a = e->b = NULL;
}

/* Lets other tasks run until the poller has had this many turns. */
static inline void turns(int count)
{
    uint64_t until = zk__lane.worker->polls + (uint64_t)count;
    while (zk__lane.worker->polls < until)
        cr_assert_ok(zk_yield());
}

/* Reads until `size` bytes are there. */
static inline int read_exactly(zk_stream *stream, void *buf, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = zk_stream_read(stream, (char *)buf + got, size - got);
        if (n <= 0) return n < 0 ? (int)n : -EPIPE;
        got += (size_t)n;
    }
    return 0;
}

#endif
