/*
 * Requests that meet a server which has made up its mind already: answers that come while a body is
 * being sent, and kept connections that have just ended. And HTTP/2 without TLS.
 */
#include "tests/http/h2_origin.h"

#include "tests/http/origin.h"

#include <errno.h>

#include <zokio/client.h>

#include "http/client.h"

enum { LARGE_BYTES = 20 * 1000 * 1000 }; /* more than the kernel takes */
static char large[LARGE_BYTES];
static origin o;
static h2_origin h2o;

#define TOO_MUCH "HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static zk_client *client_with(zk_client_options options)
{
    zk_client *c;
    cr_assert_ok(zk_client_new(&options, &c));
    return c;
}

static void expect_413(zk_fetch *f)
{
    zk_str body;
    cr_expect_eq(zk_fetch_status(f), 413);
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_str_eq(body.data, "no");
    zk_fetch_close(f);
}

static void expect_in_memory(zk_client *c, const char *url)
{
    zk_fetch *f;
    zk_fetch_options options = {.url = url, .body = large, .body_size = LARGE_BYTES};
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    expect_413(f);
}

static void expect_streamed(zk_client *c, const char *url)
{
    zk_fetch *f;
    zk_fetch_options options = {.url = url, .is_streamed = true, .body_length = ZK_LENGTH_UNKNOWN};
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    int rc = 0;
    size_t sent = 0;
    for (; !rc && sent < LARGE_BYTES; sent += 100000)
        rc = zk_fetch_write(f, large + sent, 100000);
    cr_expect(rc == -EPIPE || rc == -ECONNRESET, "%d", rc);
    cr_expect(sent < LARGE_BYTES, "the upload has stopped");
    cr_expect_eq(zk_fetch_write(f, "x", 1), rc, "for good");
    cr_assert_ok(zk_fetch_answer(f));
    expect_413(f);
}

/* Whether the server closes, or just reads no more: the answer is heard at once, the upload stops,
 * and the connection is not used again. */
ZK_ASYNC_TEST(client_early, answers_stop_the_upload)
{
    static const step steps[] = {
        {TOO_MUCH, STALL, .reads_head_only = true},
        {TOO_MUCH, STALL, .reads_head_only = true},
        {TOO_MUCH, CLOSE, .reads_head_only = true},
        {TOO_MUCH, CLOSE, .reads_head_only = true},
        {CONTINUE TOO_MUCH, STALL, .reads_head_only = true},
    };
    origin_open(&o, steps, (int)ROWS(steps));
    zk_client *c = client_with((zk_client_options){0});
    for (int i = 0; i < 5; i++) {
        if (i % 2) {
            expect_streamed(c, o.url);
        } else {
            expect_in_memory(c, o.url);
        }
        cr_expect_eq(o.connections, i + 1);
    }
    zk_client_free(c);
    origin_close(&o);
}

/* Over HTTP/2 the same, on a connection that goes on. */
ZK_ASYNC_TEST(client_early, answers_stop_the_upload_of_a_stream)
{
    static const h2_step steps[] = {
        {"headers.h $ :status=413; data.e $ 'no'"},
        {"headers.h $ :status=413; data.e $ 'no'"},
        {"headers.h $ :status=413; data.e $ 'no'; rst $ u32:0"},
        {"headers.h $ :status=413; data.e $ 'no'; rst $ u32:0"},
    };
    h2_origin_open(&h2o, "", steps, (int)ROWS(steps));
    zk_client *c = client_with((zk_client_options){.h2c = true});
    for (int i = 0; i < 4; i++) {
        zk_fetch *f;
        zk_fetch_options options = {.url = h2o.url, .body = large, .body_size = LARGE_BYTES};
        if (i % 2) options = (zk_fetch_options){.url = h2o.url, .is_streamed = true};
        if (i % 2) options.body_length = LARGE_BYTES;
        cr_assert_ok(zk_fetch_open(c, &options, &f));
        if (i % 2) {
            cr_assert_rc(zk_fetch_write(f, large, LARGE_BYTES), i == 1 ? -EPIPE : 0);
            cr_assert_ok(zk_fetch_answer(f));
        }
        expect_413(f);
    }
    cr_expect_eq(h2o.connections, 1);
    zk_client_free(c);
    origin_until(h2o.open == 0);
    h2_origin_close(&h2o);
}

/* A server that closes without an answer is told as that; the limits hold while one is waited for,
 * and cancellation. */
ZK_ASYNC_TEST(client_early, the_limits_hold)
{
    static const step steps[] = {{NULL, CLOSE, .reads_head_only = true},
                                 {NULL, STALL, .reads_head_only = true},
                                 {NULL, STALL, .reads_head_only = true},
                                 {"garbage\r\n\r\n", STALL, .reads_head_only = true}};
    static const int wanted[] = {0, ZK_E_HTTP_TIMEOUT, -ETIMEDOUT, ZK_E_HTTP_SYNTAX};
    origin_open(&o, steps, (int)ROWS(steps));
    for (int i = 0; i < 4; i++) {
        zk_client *c = client_with((zk_client_options){.write_timeout_ms = i == 1 ? 50 : 5000});
        zk_fetch *f;
        zk_fetch_options options = {.url = o.url, .body = large, .body_size = LARGE_BYTES};
        int rc = 0;
        ZK_WITHIN(i == 2 ? ZK_MS(50) : ZK_SEC(60))
            rc = zk_fetch_open(c, &options, &f);
        if (i == 0) {
            cr_expect(rc == ZK_E_CLOSED || rc == -ECONNRESET || rc == -EPIPE, "%d", rc);
        } else {
            cr_expect_eq(rc, wanted[i], "row %d: %d", i, rc);
        }
        zk_client_free(c);
    }
    origin_close(&o);
}

/* A kept connection that has ended is noticed before anything is sent on it: so a POST and a
 * streamed request, which cannot be repeated, are sent on a new one. */
ZK_ASYNC_TEST(client_early, kept_connections_are_looked_at)
{
    static const step steps[] = {{OK_ANSWER, CLOSE}, {OK_ANSWER, CLOSE}, {OK_ANSWER, CLOSE}};
    origin_open(&o, steps, (int)ROWS(steps));
    zk_client *c = client_with((zk_client_options){0});
    for (int i = 0; i < 3; i++) {
        zk_fetch *f;
        zk_fetch_options options = {.url = o.url, .body = "x", .body_size = 1};
        if (i == 1) options = (zk_fetch_options){.url = o.url, .is_streamed = true};
        if (i == 1) options.body_length = ZK_LENGTH_UNKNOWN;
        cr_assert_ok(zk_fetch_open(c, &options, &f));
        if (i == 1) cr_assert_ok(zk_fetch_write(f, "abc", 3));
        cr_assert_ok(zk_fetch_answer(f));
        cr_expect_eq(zk_fetch_status(f), 200);
        /* The connection is idle now, and nobody has looked at what the kernel knows. */
        zk_str body;
        cr_assert_ok(zk_fetch_body(f, &body));
        zk_fetch_close(f);
    }
    cr_expect_eq(o.connections, 3);
    cr_expect(strstr(o.log, "3\r\nabc\r\n0\r\n\r\n"));
    zk_client_free(c);
    origin_close(&o);
}

/* .. and one that ends while the producer of a streamed body takes its time. */
ZK_ASYNC_TEST(client_early, streamed_requests_outlive_their_connection)
{
    static const step steps[] = {{OK_ANSWER}, {OK_ANSWER}};
    origin_open(&o, steps, (int)ROWS(steps));
    zk_client *c = client_with((zk_client_options){0});
    zk_fetch *f;
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f));
    zk_fetch_close(f);
    zk_fetch_options options = {
        .url = o.url, .is_streamed = true, .body_length = ZK_LENGTH_UNKNOWN};
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    char url[64];
    snprintf(url, sizeof url, "%s", o.url);
    zk_addr addr;
    cr_assert_ok(zk_listener_addr(o.listener, &addr));
    zk_scope_cancel(&o.scope); /* the server restarts */
    while (o.scope.live)
        settle();
    zk__scope_unlink(&o.scope);
    zk__scope_root_init(&o.scope, zk__lane.current->scope, zk__worker_self());
    o.open = 0;
    zk_spawn_options spawn = {.is_pinned = true};
    cr_assert_ok(zk_spawn_with(&o.scope, &spawn, origin_run, &o));
    cr_assert_ok(zk_fetch_write(f, "abc", 3));
    cr_assert_ok(zk_fetch_answer(f));
    cr_expect_eq(zk_fetch_status(f), 200);
    zk_fetch_close(f);
    cr_expect_eq(o.connections, 2);
    /* Nobody is there any more: the reason is told. */
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    zk_scope_cancel(&o.scope);
    while (o.scope.live)
        settle();
    zk_listener_close(o.listener);
    cr_assert_ok(zk_fetch_write(f, "abc", 3));
    cr_assert_rc(zk_fetch_answer(f), -ECONNREFUSED);
    zk_fetch_close(f);
    zk_client_free(c);
    zk__scope_unlink(&o.scope);
}

/* Plain HTTP/2: from who speaks it, not from others, and only if it is wanted at all. */
ZK_ASYNC_TEST(client_early, h2c)
{
    static const step steps[] = {{"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"}};
    zk_client *c;
    zk_fetch *f;
    cr_assert_rc(zk_client_new(&(zk_client_options){.h2c = true, .no_h2 = true}, &c), ZK_E_CONFIG);
    h2_origin_open(&h2o, "", NULL, 0);
    c = client_with((zk_client_options){.h2c = true});
    for (int i = 0; i < 2; i++) {
        cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = h2o.url}, &f));
        cr_expect_eq(zk_fetch_status(f), 204);
        cr_expect_eq(zk_fetch_version(f), 20);
        zk_fetch_close(f);
    }
    cr_expect_eq(h2o.connections, 1);
    origin_open(&o, steps, 1);
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), ZK_E_HTTP_VERSION);
    zk_client_free(c);
    origin_close(&o);
    origin_until(h2o.open == 0);
    h2_origin_close(&h2o);
}
