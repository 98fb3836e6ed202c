/*
 * What a program does with the runtime, written to expect that any call fails: the result is the
 * right one or an error that the failed call explains, nothing hangs, and once the system is well
 * again the same runtime works. Run by tests/torture/main.c --strict, which fails call after call.
 */
#include "tests/async.h"

#include <errno.h>

#include <zokio/server.h>
#include <zokio/tcp.h>

#include "tests/torture/inject.h"

/* Errors that follow from the failures in calls.h: directly, at the other end of a connection
 * (ECONNRESET, EPIPE), in the other tasks of a scope (ECANCELED), or because what was to answer is
 * gone (ETIMEDOUT). */
static bool is_explained(int rc)
{
    static const int errors[] = {
        ENOMEM,       EAGAIN,     EMFILE, EADDRINUSE, ENETUNREACH, ENOBUFS,   ENOTCONN,
        ECONNREFUSED, ECONNRESET, EPIPE,  EIO,        ECANCELED,   ETIMEDOUT, ENOSYS,
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (rc == -errors[i]) return true;
    return false;
}

#define assert_explained(call, wanted)                                                             \
    do {                                                                                           \
        int rc__ = (int)(call);                                                                    \
        cr_assert(rc__ == (wanted) || is_explained(rc__), "%s: %d (%s), %s", #call, rc__,          \
                  zk_errname(rc__), zk_trail());                                                   \
    } while (0)

/* Runs it while calls fail, and again when they no longer do. */
static void go(int workers, zk_fn *fn, int wanted)
{
    assert_explained(zk_test_run(workers, fn, NULL), wanted);
    torture_state = NULL;
    cr_assert_rc(zk_test_run(workers, fn, NULL), wanted);
}

/* ---- tasks ---- */

static int seven(void *arg)
{
    (void)arg;
    return 7;
}

ZK_TEST(torture, a_runtime_starts_and_stops) { go(3, seven, 7); }

static int wait_a_little(void *arg)
{
    int *count = *(int **)arg;
    int rc = zk_yield();
    if (rc >= 0) rc = zk_sleep(ZK_US(100));
    if (rc >= 0) ++*count;
    return rc < 0 ? rc : 0;
}

static int run_tasks(void *arg)
{
    (void)arg;
    int count = 0, *counter = &count, rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 20 && rc >= 0; i++) {
            const zk_spawn_options options = {
                .arg_bytes = sizeof counter,
                .stack_bytes = i % 5 == 4 ? 64 * 1024 : 0,
                .is_pinned = true,
            };
            rc = zk_spawn_with(&s, &options, wait_a_little, &counter);
        }
        if (rc < 0) zk_scope_cancel(&s);
        int joined = zk_scope_wait(&s);
        if (rc >= 0) rc = joined;
    }
    return rc < 0 ? rc : count;
}

ZK_TEST(torture, tasks_are_spawned_and_joined) { go(1, run_tasks, 20); }

static int await_two(void *arg)
{
    (void)arg;
    zk_future a, b;
    int count = 0, *counter = &count;
    zk_async(&a, wait_a_little, &counter);
    zk_async(&b, wait_a_little, &counter);
    int rc_b = zk_await(&b), rc_a = zk_await(&a);
    return rc_a < 0 ? rc_a : rc_b < 0 ? rc_b : count;
}

ZK_TEST(torture, futures_are_awaited) { go(1, await_two, 2); }

static int be_late(void *arg)
{
    (void)arg;
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_sleep(ZK_SEC(3600));
    }
    return rc == -ETIMEDOUT ? 3 : rc;
}

ZK_TEST(torture, a_deadline_passes) { go(1, be_late, 3); }

static int note_worker(void *arg)
{
    int *seen = *(int **)arg;
    *seen = zk_worker_index();
    return zk_yield();
}

static int run_elsewhere(void *arg)
{
    (void)arg;
    int seen = -1, *to = &seen, rc = 0;
    ZK_SCOPE(s) {
        const zk_spawn_options options = {.arg_bytes = sizeof to, .worker = 2};
        rc = zk_spawn_with(&s, &options, note_worker, &to);
        int joined = zk_scope_wait(&s);
        if (rc >= 0) rc = joined;
    }
    return rc < 0 ? rc : 10 + seen;
}

ZK_TEST(torture, a_task_runs_on_another_worker) { go(2, run_elsewhere, 11); }

static int call_seven(void *arg)
{
    int rc = zk_blocking(seven, NULL), *sum = *(int **)arg;
    if (rc > 0) *sum += rc;
    return rc < 0 ? rc : 0;
}

static int run_blocking(void *arg)
{
    (void)arg;
    int sum = 0, *to = &sum, rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3 && rc >= 0; i++)
            rc = zk_spawn(&s, call_seven, &to);
        int joined = zk_scope_wait(&s);
        if (rc >= 0) rc = joined;
    }
    return rc < 0 ? rc : sum;
}

ZK_TEST(torture, blocking_calls_return) { go(1, run_blocking, 21); }

/* ---- streams ---- */

enum { TEXT_BYTES = 30000 };

static char byte_at(size_t i) { return (char)('a' + i % 23); }

static int echo(void *arg)
{
    zk_stream *stream = *(zk_stream **)arg;
    char piece[4096];
    ssize_t n;
    while ((n = zk_stream_read(stream, piece, sizeof piece)) > 0) {
        int rc = zk_stream_write(stream, piece, (size_t)n);
        if (rc < 0) return rc;
    }
    return n < 0 ? (int)n : zk_stream_shutdown(stream);
}

static int send_text(void *arg)
{
    zk_stream *stream = *(zk_stream **)arg;
    static char text[TEXT_BYTES];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = byte_at(i);
    struct iovec iov[] = {{text, 10}, {text + 10, sizeof text - 10}};
    int rc = zk_stream_writev(stream, iov, 2);
    return rc < 0 ? rc : zk_stream_shutdown(stream);
}

/* returns bytes received, all of them right; an error. */
static int receive_text(zk_stream *stream)
{
    char piece[4096];
    size_t size = 0;
    ssize_t n;
    while ((n = zk_stream_read(stream, piece, sizeof piece)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            cr_assert_eq(piece[i], byte_at(size + (size_t)i), "byte %zu", size + (size_t)i);
        size += (size_t)n;
    }
    return n < 0 ? (int)n : (int)size;
}

/* The text goes to `far`, where it is echoed. The streams are closed. */
static int talk(zk_stream *near, zk_stream *far)
{
    int rc = 0, got = 0;
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, echo, &far);
        if (rc >= 0) rc = zk_spawn(&s, send_text, &near);
        if (rc >= 0) got = receive_text(near);
        if (rc < 0 || got < 0) zk_scope_cancel(&s);
        int joined = zk_scope_wait(&s);
        if (rc >= 0) rc = got < 0 && got != -ECANCELED ? got : joined;
    }
    zk_stream_close(near);
    zk_stream_close(far);
    return rc < 0 ? rc : got;
}

static int talk_in_memory(void *arg)
{
    (void)arg;
    zk_stream *a, *b;
    int rc = zk_stream_pair(&a, &b);
    return rc < 0 ? rc : talk(a, b);
}

ZK_TEST(torture, a_pair_carries_all_bytes) { go(1, talk_in_memory, TEXT_BYTES); }

typedef struct dial {
    zk_addr addr;
    zk_stream *stream;
} dial;

static int connect_to(void *arg)
{
    dial *d = *(dial **)arg;
    return zk_connect(&d->addr, &d->stream);
}

static int talk_over_tcp(void *arg)
{
    (void)arg;
    dial d = {0}, *to = &d;
    zk_listener *listener = NULL;
    zk_stream *accepted = NULL;
    int rc = zk_addr_parse("127.0.0.1:0", &d.addr);
    if (rc >= 0) rc = zk_listen(&d.addr, NULL, &listener);
    if (rc < 0) return rc;
    rc = zk_listener_addr(listener, &d.addr);
    if (rc >= 0) {
        ZK_SCOPE(s) {
            rc = zk_spawn(&s, connect_to, &to);
            /* Without memory for it a connection is dropped, and the next one waited for. */
            if (rc >= 0) {
                ZK_WITHIN(ZK_SEC(1)) {
                    rc = zk_accept(listener, &accepted);
                }
            }
            if (rc < 0) zk_scope_cancel(&s);
            int joined = zk_scope_wait(&s);
            if (rc >= 0 || rc == -ECANCELED) rc = joined < 0 ? joined : rc;
        }
    }
    zk_listener_close(listener);
    if (rc >= 0) return talk(d.stream, accepted);
    zk_stream_close(d.stream);
    zk_stream_close(accepted);
    return rc;
}

ZK_TEST(torture, tcp_carries_all_bytes) { go(1, talk_over_tcp, TEXT_BYTES); }

/* ---- HTTP ---- */

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, "text/plain", "Hello", 5);
}

static int copy_back(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = zk_body(req, &body);
    return rc < 0 ? rc : zk_respond(res, 200, "text/plain", body.data, body.size);
}

static const zk_route routes[] = {
    {"GET", "/hello", hello, NULL},
    {"POST", "/copy", copy_back, NULL},
    {0},
};

typedef struct site {
    zk_addr addr;
    zk_serving *serving;
} site;

static void on_listening(void *context, zk_serving *serving)
{
    site *s = context;
    s->addr = zk_serving_addr(serving);
    s->serving = serving;
}

static int serve(void *arg)
{
    site *s = *(site **)arg;
    int rc = zk_serve(&(zk_server){
        .listen = "127.0.0.1:0",
        .routes = routes,
        .context = s,
        .on_listening = on_listening,
        .no_signals = true,
        .drain_timeout_ms = 500,
    });
    s->serving = NULL;
    return rc;
}

/* returns the number of bodies that came as they should; an error. */
static int ask(const site *s)
{
    static const char text[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
                               "POST /copy HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                               "Connection: close\r\n\r\nwxyz";
    zk_stream *stream;
    int rc = zk_connect(&s->addr, &stream);
    if (rc < 0) return rc;
    rc = zk_stream_write(stream, text, sizeof text - 1);
    char answer[4096];
    size_t size = 0;
    ssize_t n = 0;
    while (rc >= 0 && size < sizeof answer - 1 &&
           (n = zk_stream_read(stream, answer + size, sizeof answer - 1 - size)) > 0) {
        size += (size_t)n;
    }
    answer[size] = 0;
    zk_stream_close(stream);
    if (rc < 0 || n < 0) return rc < 0 ? rc : (int)n;
    if (strstr(answer, " 500 ") || strstr(answer, " 503 ")) return -ENOMEM;
    int good = (strstr(answer, "\r\n\r\nHello") != NULL) + (strstr(answer, "\r\n\r\nwxyz") != NULL);
    /* A connection that is given up in between says so by its end. */
    return good < 2 ? -ECONNRESET : good;
}

static int serve_and_ask(void *arg)
{
    (void)arg;
    site here = {0}, *to = &here;
    int rc = 0, good = 0;
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, serve, &to);
        while (rc >= 0 && !here.serving && !zk_cancelled())
            rc = zk_sleep(ZK_US(200));
        if (rc >= 0) {
            ZK_WITHIN(ZK_SEC(3)) {
                good = ask(&here);
            }
            if (here.serving) zk_serving_drain(here.serving);
        }
        if (rc < 0) zk_scope_cancel(&s);
        int joined = zk_scope_wait(&s);
        if (rc >= 0 || rc == -ECANCELED) rc = joined < 0 ? joined : rc;
    }
    return rc < 0 ? rc : good;
}

ZK_TEST(torture, requests_are_answered) { go(1, serve_and_ask, 2); }
ZK_TEST(torture, requests_are_answered_by_two_workers) { go(2, serve_and_ask, 2); }
