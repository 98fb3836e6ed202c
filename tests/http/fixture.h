/*
 * What the tests of the HTTP server share.
 *
 * A `wire` is a client at one end of an in-memory pair whose other end a shard serves: no socket,
 * no kernel, so what the server makes of some bytes, and in which pieces, is the same in every run.
 * The clock is the test's own (clock_gettime is replaced): `pass_ms` lets time pass without waiting
 * for it. `serving` runs a whole zk_serve, for what is about sockets and the server's life.
 *
 * Server and Date are checked for their form and taken out of what a wire has received, so that
 * tables show the rest.
 */
#ifndef ZOKIO_TESTS_HTTP_FIXTURE_H
#define ZOKIO_TESTS_HTTP_FIXTURE_H

#include "tests/async.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include <zokio/server.h>
#include <zokio/tcp.h>

#include "core/task.h"
#include "http/h1_conn.h"
#include "http/path.h"
#include "net/socket.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

/* What tables are made of. */
#define TEXT_TYPE "Content-Type: text/plain; charset=utf-8\r\n"
#define CLOSE_FIELD "Connection: close\r\n"
#define OK_TEXT(length, text)                                                                      \
    "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n" TEXT_TYPE "\r\n" text
#define PAGE(length, status)                                                                       \
    "HTTP/1.1 " status "\r\nContent-Length: " length "\r\n" TEXT_TYPE "\r\n" status "\n"
#define LAST_PAGE(length, status)                                                                  \
    "HTTP/1.1 " status "\r\nContent-Length: " length "\r\n" CLOSE_FIELD TEXT_TYPE "\r\n" status "\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define LAST_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE_FIELD "\r\n"

/* A handler: answers EMPTY. */
static inline int nothing(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, NULL, NULL, 0);
}

/* A handler: the number of bytes of the body, in digits. */
static inline int count_body(zk_request *req, zk_response *res)
{
    static char part[10000];
    size_t size = 0;
    ssize_t n;
    while ((n = zk_body_read(req, part, sizeof part)) > 0)
        size += (size_t)n;
    if (n < 0) return (int)n;
    int digits = snprintf(part, sizeof part, "%zu", size);
    return zk_respond(res, 200, NULL, part, (size_t)digits);
}

/* Answers with the body, at most `piece_max` bytes (3,000) at a time. */
static inline int echo_by(zk_request *req, zk_response *res, size_t piece_max)
{
    char piece[3000];
    ssize_t n;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    while (rc >= 0 && (n = zk_body_read(req, piece, piece_max)) != 0) {
        rc = n < 0 ? (int)n : zk_response_write(res, piece, (size_t)n);
    }
    return rc;
}

/* ---- time ---- */

static zk_time time_passed;
static zk_time time_began;

/* A slow machine (ZOKIO_TEST_PATIENCE) gets that much more time for what takes none. */
static int64_t patience = 1;

static __attribute__((constructor)) void time_begin(void)
{
    struct timespec now;
    const char *text = getenv("ZOKIO_TEST_PATIENCE");
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    time_began = ZK_SEC(now.tv_sec) + now.tv_nsec;
    if (text && atoi(text) > 0) patience = atoi(text);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    long rc = syscall(SYS_clock_gettime, id, t);
    zk_time now = ZK_SEC(t->tv_sec) + t->tv_nsec;
    if (id == CLOCK_MONOTONIC) now = time_began + (now - time_began) / patience;
    now += time_passed;
    t->tv_sec = now / ZK_SEC(1);
    t->tv_nsec = now % ZK_SEC(1);
    return (int)rc;
}

/* Lets the worker make a few turns: whatever can go on without time passing has gone on then. */
static inline void settle(void)
{
    zk__worker *w = zk__worker_self();
    for (uint64_t end = w->polls + 4; w->polls < end;)
        cr_assert_ok(zk_yield());
}

/* So much later: timers fire as they would. */
static inline void pass_ms(int64_t ms)
{
    settle();
    time_passed += ZK_MS(ms);
    settle();
}

/* ---- a shard of its own ---- */

typedef struct fixture {
    zk_server config;
    zk__shard shard;
    zk__route_table *routes;
} fixture;

static inline void fixture_open(fixture *f, zk_scope *scope, const zk_server *server)
{
    *f = (fixture){.config = *server};
    cr_assert_ok(zk__server_complete(&f->config));
    f->routes = zk__route_table_new();
    cr_assert(f->routes);
    const zk_route *route = f->config.routes;
    for (int i = 0; route[i].pattern; i++) {
        const char *reason;
        cr_assert_ok(zk__route_table_add(f->routes, route[i].method, route[i].pattern, i, &reason));
    }
    f->shard.config = &f->config;
    f->shard.routes = f->routes;
    f->shard.scope = scope;
    f->shard.conn_max = UINT32_MAX;
    zk__shard_init(&f->shard);
}

/* All connections must have ended by themselves, or with their clients. */
static inline void fixture_close(fixture *f)
{
    settle();
    cr_assert_eq(f->shard.conn_count, 0u, "%u connections are left", f->shard.conn_count);
    zk__shard_done(&f->shard);
    zk__route_table_free(f->routes);
}

/* A test with a server that has these routes and options: `f` is its fixture. */
#define ZK_HTTP_TEST(suite, name, ...)                                                             \
    static void zk__http_##suite##_##name(fixture *f);                                             \
    ZK_ASYNC_TEST(suite, name)                                                                     \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            fixture zk__f;                                                                         \
            fixture_open(&zk__f, &scope, &(zk_server){__VA_ARGS__});                               \
            zk__http_##suite##_##name(&zk__f);                                                     \
            fixture_close(&zk__f);                                                                 \
        }                                                                                          \
    }                                                                                              \
    static void zk__http_##suite##_##name(fixture *f)

/* ---- a client ---- */

typedef struct wire {
    zk_stream *stream;
    char *text; /* received and not yet asserted */
    size_t size, capacity;
    bool is_closed;  /* the server has shut its side down */
    bool is_reset;   /* by breaking the connection off */
    int sends;       /* writes of the server that took bytes */
    int write_error; /* what the server's writes fail with, 0: they do not */
    const struct zk__stream_ops *real_ops;
    struct zk__stream_ops ops; /* of the server's end: counts */
} wire;

static inline ssize_t wire_writev(zk_stream *stream, const struct iovec *iov, int iov_count,
                                  bool try_only)
{
    wire *w = (wire *)(void *)((char *)(void *)stream->ops - offsetof(wire, ops));
    if (w->write_error) return w->write_error;
    ssize_t n = w->real_ops->writev(stream, iov, iov_count, try_only);
    if (n > 0) w->sends++;
    return n;
}

static inline void wire_open(wire *w, fixture *f)
{
    *w = (wire){.capacity = 1024};
    w->text = malloc(w->capacity);
    zk_stream *served;
    cr_assert(w->text);
    cr_assert_ok(zk_stream_pair(&w->stream, &served));
    w->real_ops = served->ops;
    w->ops = *served->ops;
    w->ops.writev = wire_writev;
    served->ops = &w->ops;
    zk__conn_open(&f->shard, served);
}

static inline void wire_close(wire *w)
{
    zk_stream_close(w->stream);
    settle();
    free(w->text);
}

/* Sends bytes, `piece` at a time with the server looking at each; 0: all at once. */
static inline void wire_send_n(wire *w, const void *data, size_t size, size_t piece)
{
    const char *at = data;
    if (!piece) piece = size;
    for (size_t n; size; at += n, size -= n) {
        n = piece < size ? piece : size;
        int rc = zk_stream_write(w->stream, at, n);
        if (rc == -EPIPE) return; /* the server has closed: what it said before counts */
        cr_assert_ok(rc);
        if (n < size) settle();
    }
}

static inline void wire_send(wire *w, const char *text) { wire_send_n(w, text, strlen(text), 0); }

/* Receives what is there. returns bytes, -EAGAIN; 0: the end, see is_closed. */
static inline ssize_t wire_pull(wire *w)
{
    if (w->capacity - w->size < 32 * 1024) {
        w->capacity = 2 * w->capacity + 64 * 1024;
        w->text = realloc(w->text, w->capacity);
        cr_assert(w->text);
    }
    ssize_t n = zk_stream_try_read(w->stream, w->text + w->size, w->capacity - w->size - 1);
    if (n == -EAGAIN) return n;
    if (n == -ECONNRESET) {
        w->is_reset = true;
        n = 0;
    }
    cr_assert_ok(n);
    w->size += (size_t)n;
    w->is_closed = n == 0;
    return n;
}

/* Receives all that the server sends without time passing. */
static inline void wire_collect(wire *w)
{
    for (int quiet = 0; quiet < 2 && !w->is_closed;) {
        if (wire_pull(w) == -EAGAIN) {
            quiet++;
            settle();
        } else {
            quiet = 0;
        }
    }
    w->text[w->size] = '\0';
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static inline bool is_date(const char *text)
{
    static const char form[] = "Aaa, 00 Aaa 0000 00:00:00 GMT";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        char c = text[i];
        bool is_right = form[i] == 'A'   ? c >= 'A' && c <= 'Z'
                        : form[i] == 'a' ? c >= 'a' && c <= 'z'
                        : form[i] == '0' ? c >= '0' && c <= '9'
                                         : c == form[i];
        if (!is_right && i < 25) return false;
    }
    return !memcmp(text + 25, " GMT", 4);
}

/* Takes the fields that all responses share out of a text. returns how many responses had them. */
static inline int common_fields_strip(char *text, size_t *size)
{
    static const char common[] = "Server: zokio\r\nDate: ";
    const size_t bytes = sizeof common - 1 + 29 + 2;
    int count = 0;
    for (char *at = text; (at = memmem(at, *size - (size_t)(at - text), common, sizeof common - 1));
         count++) {
        cr_assert(is_date(at + sizeof common - 1) && !memcmp(at + bytes - 2, "\r\n", 2), "%.60s",
                  at);
        *size -= bytes;
        memmove(at, at + bytes, *size + 1 - (size_t)(at - text));
    }
    return count;
}

/* What has been received, without Server and Date; the wire then forgets it. */
static inline const char *wire_take(wire *w)
{
    wire_collect(w);
    common_fields_strip(w->text, &w->size);
    w->size = 0;
    return w->text;
}

/* The server has sent exactly this, and has ended the connection or not. */
#define cr_assert_wire(w, wanted, wants_close, ...)                                                \
    do {                                                                                           \
        char zk__row[128];                                                                         \
        snprintf(zk__row, sizeof zk__row, " " __VA_ARGS__);                                        \
        wire_check((w), wire_take(w), (wanted), (wants_close), zk__row);                           \
    } while (0)

static inline void wire_check(const wire *w, const char *text, const char *wanted, bool wants_close,
                              const char *row)
{
    cr_assert(!strcmp(text, wanted), "row \"%s\"\n---- received\n%s\n---- wanted\n%s\n----", row,
              text, wanted);
    cr_assert(w->is_closed == wants_close, "row \"%s\": the connection is %s\n%s", row,
              w->is_closed ? "closed" : "open", text);
}

/* Bytes in, bytes out, on a connection of their own. */
typedef struct exchange_row {
    const char *name, *in, *out;
    bool is_closed; /* by the server, afterwards */
} exchange_row;

static inline void exchange_rows_run(fixture *f, const exchange_row *rows, size_t count,
                                     size_t piece)
{
    for (const exchange_row *row = rows; row < rows + count; row++) {
        wire w;
        wire_open(&w, f);
        wire_send_n(&w, row->in, strlen(row->in), piece);
        wire_check(&w, wire_take(&w), row->out, row->is_closed, row->name);
        wire_close(&w);
    }
}

/* Each row whole, one byte at a time, and in pieces of three. */
#define cr_assert_exchanges(f, rows)                                                               \
    do {                                                                                           \
        exchange_rows_run((f), (rows), ROWS(rows), 0);                                             \
        exchange_rows_run((f), (rows), ROWS(rows), 1);                                             \
        exchange_rows_run((f), (rows), ROWS(rows), 3);                                             \
    } while (0)

/* ---- a whole server, and clients over real sockets ---- */

typedef struct server {
    zk_server config;
    zk_serving *serving;
    zk_addr addr;
    int rc; /* of zk_serve; 1 while it runs */
} server;

static inline void server_listening(void *context, zk_serving *serving)
{
    server *s = context;
    s->serving = serving;
    s->addr = zk_serving_addr(serving);
}

static inline int server_run(void *arg)
{
    server *s = arg;
    s->rc = zk_serve(&s->config);
    return 0;
}

/* Serves in a task of the scope. config->context is the fixture's own. */
static inline void server_start(server *s, zk_scope *scope, const zk_server *config)
{
    *s = (server){.config = *config, .rc = 1};
    if (!s->config.listen) s->config.listen = "127.0.0.1:0";
    s->config.on_listening = server_listening;
    s->config.context = s;
    s->config.no_signals = true;
    zk_spawn_options options = {.is_pinned = true};
    cr_assert_ok(zk_spawn_with(scope, &options, server_run, s));
    while (!s->serving && s->rc == 1)
        settle();
}

/* Lets it drain; it must end well. */
static inline void server_stop(server *s)
{
    zk_serving_drain(s->serving);
    while (s->rc == 1)
        settle();
    cr_assert_rc(s->rc, 0);
}

static inline zk_stream *tcp_open(const server *s)
{
    zk_stream *stream;
    cr_assert_ok(zk_connect(&s->addr, &stream));
    return stream;
}

static inline void tcp_send(zk_stream *stream, const char *text)
{
    cr_assert_ok(zk_stream_write(stream, text, strlen(text)));
}

/* So that the peer sees a reset. */
static inline void tcp_reset(zk_stream *stream)
{
    struct linger now = {.l_onoff = 1};
    int fd = zk__socket_stream_io(stream)->fd;
    cr_assert(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    zk_stream_close(stream);
}

/* Receives exactly `wanted`, Server and Date apart; with is_last the end behind it. */
static inline void tcp_expect(zk_stream *stream, const char *wanted, bool is_last)
{
    static char text[64 * 1024];
    size_t size = 0, total = strlen(wanted);
    ssize_t n = 1;
    while ((size < total || is_last) && n > 0) {
        n = zk_stream_read(stream, text + size, sizeof text - 1 - size);
        cr_assert_ok(n);
        size += (size_t)n;
        text[size] = '\0';
        common_fields_strip(text, &size);
    }
    cr_assert_str_eq(text, wanted, "---- received\n%s\n---- wanted\n%s\n----", text, wanted);
    cr_assert(!is_last || n == 0);
}

#endif
