/*
 * A server that does as it is told: for the tests of the client and of the proxy.
 *
 * It listens on a real socket. Requests are written down as they came; each takes the next of the
 * steps, which says what to answer and what to do to the connection. Without steps left it answers
 * "200 ok".
 */
#ifndef ZOKIO_TESTS_HTTP_ORIGIN_H
#define ZOKIO_TESTS_HTTP_ORIGIN_H

#include "tests/http/fixture.h"

/* Steps name what is not as usual. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum after { KEEP, CLOSE, RESET, STALL };

typedef struct step {
    const char *answer;   /* NULL: none */
    enum after after;     /* what becomes of the connection */
    bool reads_head_only; /* the answer does not wait for the body */
    bool reads_nothing;   /* nor for anything */
} step;

typedef struct origin {
    zk_listener *listener;
    char url[64], address[64];
    const step *steps;
    int step_count, step_at;
    int connections, open;
    char log[256 * 1024];
    size_t log_size;
    zk_scope scope;
} origin;

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

typedef struct origin_conn {
    origin *o;
    zk_stream *stream;
    char in[64 * 1024];
    size_t size;
} origin_conn;

/* The size of the request at the front, 0 if it is not whole. */
static inline size_t request_size(const origin_conn *c, bool head_only)
{
    const char *end = memmem(c->in, c->size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end + 4 - c->in);
    if (head_only) return head;
    const char *length = memmem(c->in, head, "Content-Length: ", 16);
    if (length) {
        size_t total = head + strtoul(length + 16, NULL, 10);
        return total <= c->size ? total : 0;
    }
    if (!memmem(c->in, head, "chunked", 7)) return head;
    const char *last = memmem(c->in + head - 2, c->size - head + 2, "\r\n0\r\n", 5);
    if (!last) return 0;
    last = memmem(last + 3, c->size - (size_t)(last + 3 - c->in), "\r\n\r\n", 4);
    return last ? (size_t)(last + 4 - c->in) : 0;
}

static inline void origin_note(origin *o, const char *data, size_t size)
{
    cr_assert(o->log_size + size < sizeof o->log);
    memcpy(o->log + o->log_size, data, size);
    o->log_size += size;
    o->log[o->log_size] = '\0';
}

/* returns false when the connection is over. */
static inline bool origin_serve(origin_conn *c)
{
    origin *o = c->o;
    static const step usual = {.answer = OK_ANSWER};
    for (;;) {
        const step *s = o->step_at < o->step_count ? &o->steps[o->step_at] : &usual;
        size_t n = request_size(c, s->reads_head_only);
        if (!n && !s->reads_nothing) {
            ssize_t got = zk_stream_read(c->stream, c->in + c->size, sizeof c->in - c->size);
            if (got <= 0) return false;
            c->size += (size_t)got;
            continue;
        }
        origin_note(o, c->in, n);
        memmove(c->in, c->in + n, c->size - n);
        c->size -= n;
        if (o->step_at < o->step_count) o->step_at++;
        if (s->answer && zk_stream_write(c->stream, s->answer, strlen(s->answer)) < 0) return false;
        if (s->after == CLOSE) return false;
        if (s->after == STALL) return zk_sleep(ZK_SEC(3600)) == 0;
        if (s->after == RESET) zk__stream_reset_on_close(c->stream);
        if (s->after == RESET) return false;
    }
}

static inline int origin_conn_run(void *arg)
{
    origin_conn *c = arg;
    while (origin_serve(c)) {
    }
    c->o->open--;
    zk_stream_close(c->stream);
    free(c);
    return 0;
}

static inline int origin_run(void *arg)
{
    origin *o = arg;
    zk_stream *stream;
    while (zk_accept(o->listener, &stream) >= 0) {
        o->connections++;
        o->open++;
        origin_conn *c = calloc(1, sizeof *c);
        cr_assert(c);
        c->o = o;
        c->stream = stream;
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&o->scope, &options, origin_conn_run, c));
    }
    return 0;
}

static inline void origin_open(origin *o, const step *steps, int step_count)
{
    memset(o, 0, sizeof *o);
    o->steps = steps;
    o->step_count = step_count;
    zk_addr addr;
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &o->listener));
    cr_assert_ok(zk_listener_addr(o->listener, &addr));
    snprintf(o->address, sizeof o->address, "127.0.0.1:%u", zk_addr_port(&addr));
    snprintf(o->url, sizeof o->url, "http://127.0.0.1:%u/", zk_addr_port(&addr));
    zk__scope_root_init(&o->scope, zk__lane.current->scope, zk__worker_self());
    zk_spawn_options options = {.is_pinned = true};
    cr_assert_ok(zk_spawn_with(&o->scope, &options, origin_run, o));
    settle();
}

static inline void origin_close(origin *o)
{
    zk_scope_cancel(&o->scope);
    while (o->scope.live)
        settle();
    zk__scope_unlink(&o->scope);
    zk_listener_close(o->listener);
}

/* Waits until something about the origin is so; gives up after many turns. */
#define origin_until(condition)                                                                    \
    do {                                                                                           \
        for (int zk__i = 0; !(condition); zk__i++) {                                               \
            cr_assert(zk__i < 2000, "never: %s", #condition);                                      \
            settle();                                                                              \
        }                                                                                          \
    } while (0)

#endif
