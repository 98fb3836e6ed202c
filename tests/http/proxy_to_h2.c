/*
 * Upstreams that speak HTTP/2: all combinations of versions on both sides of the proxy, and what
 * becomes of requests when a stream or a connection of HTTP/2 ends early.
 */
#include "tests/http/h2_origin.h"

#include "tests/http/proxying.h"

#include <errno.h>
#include <zokio/client.h>

enum { LARGE_BYTES = 2 * 1000 * 1000 };
static char large[LARGE_BYTES];
static int taken;

static int about(zk_request *req, zk_response *res)
{
    zk_str via = zk_request_header(req, "Via"), te = zk_request_header(req, "TE");
    char text[64];
    snprintf(text, sizeof text, "%d %.*s%s%.*s", zk_request_version(req), (int)via.size, via.data,
             te.size ? " te " : "", (int)te.size, te.data);
    cr_assert_ok(zk_response_header(res, "X-A", "b"));
    return zk_respond_text(res, 200, text);
}

static int echo(zk_request *req, zk_response *res)
{
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    char piece[4000];
    ssize_t n = 1;
    while (!rc && (n = zk_body_read(req, piece, sizeof piece)) > 0) {
        taken += (int)n;
        rc = zk_response_write(res, piece, (size_t)n);
    }
    zk_str sum = zk_request_trailer(req, "x-sum");
    if (!rc && n == 0 && sum.data) rc = zk_response_trailer(res, "X-Sum", "back");
    return rc ? rc : (int)n;
}

static int give_large(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, "a/b", large, LARGE_BYTES);
}

static int no_content(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 204, NULL, NULL, 0);
}

/* Gives more than anybody will read, and counts how much of it has left. */
static int give_endless(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    while (!rc) {
        rc = zk_response_write(res, large, 10000);
        taken += 10000;
    }
    return rc;
}

static const zk_route routes[] = {
    {NULL, "/about", about, NULL},          {NULL, "/echo", echo, NULL},
    {NULL, "/large", give_large, NULL},     {NULL, "/empty", no_content, NULL},
    {NULL, "/endless", give_endless, NULL}, {0},
};

/* A real server behind the proxy, and a client in front of it. */
static struct {
    server upstream;
    zk_client *client;
} x;

static void open_all(zk_scope *scope, bool is_front_h2, bool is_back_h2)
{
    static zk_upstream upstreams[2];
    static char address[64];
    for (size_t i = 0; i < LARGE_BYTES; i++)
        large[i] = (char)(i * 31 >> 3);
    taken = 0;
    server_start(&x.upstream, scope, &(zk_server){.routes = routes});
    snprintf(address, sizeof address, "%s127.0.0.1:%u", is_back_h2 ? "h2c://" : "",
             zk_addr_port(&x.upstream.addr));
    upstreams[0].address = address;
    proxy_open((zk_proxy_options){.upstreams = upstreams, .via = "p"});
    cr_assert_ok(zk_client_new(&(zk_client_options){.h2c = is_front_h2}, &x.client));
}

static void close_all(void)
{
    zk_client_free(x.client);
    proxy_close();
    server_stop(&x.upstream);
}

static zk_fetch *ask(const char *path, zk_fetch_options options)
{
    char url[128];
    zk_fetch *f = NULL;
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", zk_addr_port(&px.server.addr), path);
    options.url = url;
    cr_assert_ok(zk_fetch_open(x.client, &options, &f));
    return f;
}

static const char *body_of(zk_fetch *f)
{
    zk_str body;
    cr_assert_ok(zk_fetch_body(f, &body));
    return body.data;
}

static void expect_short_ones(int front, int back)
{
    char wanted[64];
    zk_fetch *f = ask("/about", (zk_fetch_options){0});
    cr_expect_eq(zk_fetch_version(f), front);
    cr_expect_eq(zk_fetch_header(f, "X-A").data[0], 'b');
    zk_str via = zk_fetch_header(f, "Via");
    cr_expect(!memcmp(via.data, back == 20 ? "2.0 p" : "1.1 p", 5));
    snprintf(wanted, sizeof wanted, "%d %s p", back, front == 20 ? "2.0" : "1.1");
    cr_expect_str_eq(body_of(f), wanted);
    zk_fetch_close(f);
    f = ask("/about", (zk_fetch_options){.method = "HEAD"});
    cr_expect_eq(zk_fetch_status(f), 200);
    zk_str length = zk_fetch_header(f, "Content-Length");
    cr_expect(length.size == 1 || length.size == 2, "it is still told");
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    f = ask("/empty", (zk_fetch_options){.method = "DELETE"});
    cr_expect_eq(zk_fetch_status(f), 204);
    zk_fetch_close(f);
    f = ask("/none", (zk_fetch_options){0});
    cr_expect_eq(zk_fetch_status(f), 404);
    zk_fetch_close(f);
    cr_expect_eq(px.access.rc, 0);
}

static void expect_bodies(void)
{
    zk_str body;
    zk_fetch *f = ask("/large", (zk_fetch_options){0});
    cr_expect_eq(zk_fetch_length(f), LARGE_BYTES);
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == LARGE_BYTES && !memcmp(body.data, large, LARGE_BYTES));
    zk_fetch_close(f);
    f = ask("/echo", (zk_fetch_options){.body = "hello", .body_size = 5});
    cr_expect_str_eq(body_of(f), "hello");
    zk_fetch_close(f);
    f = ask("/echo", (zk_fetch_options){.body = "", .method = "POST"});
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    f = ask("/echo", (zk_fetch_options){.body = large, .body_size = 70000});
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == 70000 && !memcmp(body.data, large, 70000));
    zk_fetch_close(f);
    const zk_fetch_options streamed = {.is_streamed = true, .body_length = ZK_LENGTH_UNKNOWN};
    f = ask("/echo", streamed);
    for (int i = 0; i < 20; i++)
        cr_assert_ok(zk_fetch_write(f, large + 1000 * i, 1000));
    cr_assert_ok(zk_fetch_write_trailer(f, "X-Sum", "there"));
    cr_assert_ok(zk_fetch_answer(f));
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == 20000 && !memcmp(body.data, large, 20000));
    cr_expect_eq(zk_fetch_trailer(f, "x-sum").size, 4u, "trailers pass both ways");
    zk_fetch_close(f);
}

/* Whatever the versions on both sides: what is asked and answered is the same. */
ZK_ASYNC_TEST(proxy_to_h2, translates_between_all_versions)
{
    for (int i = 0; i < 4; i++) {
        ZK_SCOPE(scope) {
            open_all(&scope, i & 1, i & 2);
            expect_short_ones(i & 1 ? 20 : 11, i & 2 ? 20 : 11);
            expect_bodies();
            close_all();
        }
    }
}

static int ask_about(void *arg)
{
    (void)arg;
    zk_fetch *f = ask("/about", (zk_fetch_options){0});
    cr_expect_eq(zk_fetch_status(f), 200);
    zk_fetch_close(f);
    return 0;
}

/* Many requests share a connection to the upstream. */
ZK_ASYNC_TEST(proxy_to_h2, multiplexes)
{
    ZK_SCOPE(scope) {
        open_all(&scope, false, true);
        ZK_SCOPE(asks) {
            for (int i = 0; i < 60; i++)
                cr_assert_ok(zk_spawn(&asks, ask_about, NULL));
            cr_assert_ok(zk_scope_wait(&asks));
        }
        cr_expect_eq(zk__proxy_worker_get(px.proxy)->pool->opened, 1u);
        close_all();
    }
}

/* A client that does not read holds its upstream back, and so the other way round. */
ZK_ASYNC_TEST(proxy_to_h2, is_held_back)
{
    for (int i = 0; i < 2; i++) {
        ZK_SCOPE(scope) {
            open_all(&scope, i, true);
            zk_fetch *f = ask("/endless", (zk_fetch_options){0});
            int before = -1;
            for (int quiet = 0; quiet < 50; quiet++) {
                if (taken != before) quiet = 0;
                before = taken;
                settle();
            }
            cr_expect(taken < 16 * 1000 * 1000, "%d", taken);
            char piece[10000];
            for (int k = 0; k < 2000; k++)
                cr_assert(zk_fetch_read(f, piece, sizeof piece) > 0);
            origin_until(taken > before);
            zk_fetch_close(f);
            close_all();
        }
    }
}

/* ---- faults ---- */

static h2_origin h2o[2];

static const char *status(const char *request) { return talk(request) + 9; }

#define TO_H2_TEST(name, h2_settings, options, ...)                                                \
    static void to_h2_test_##name(void);                                                           \
    ZK_ASYNC_TEST(proxy_to_h2, name)                                                               \
    {                                                                                              \
        static const h2_step steps[] = {__VA_ARGS__};                                              \
        h2_origin_open(&h2o[0], h2_settings, steps, (int)ROWS(steps));                             \
        zk_proxy_options given = (zk_proxy_options)options;                                        \
        zk_upstream upstreams[] = {{h2o[0].address, 1}, {0}};                                      \
        given.upstreams = upstreams;                                                               \
        proxy_open(given);                                                                         \
        to_h2_test_##name();                                                                       \
        proxy_close();                                                                             \
        origin_until(h2o[0].open == 0);                                                            \
        h2_origin_close(&h2o[0]);                                                                  \
    }                                                                                              \
    static void to_h2_test_##name(void)

/* What was refused has not been done: even a POST is sent again. */
TO_H2_TEST(refused_streams_are_sent_again, "", OPTIONS(0), {.script = "rst $ u32:7"},
           {.script = "headers.h $ :status=200; data.e $ 'ok'"})
{
    cr_expect(
        !strncmp(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"), "200", 3));
    cr_expect_eq(h2o[0].connections, 1);
    cr_expect_eq(h2o[0].step_at, 2);
}

/* The streams above the number in GOAWAY have not been looked at; they go to another connection. */
TO_H2_TEST(what_goaway_leaves_out_is_sent_again, "", OPTIONS(0), {.script = "goaway 0 u32:0 u32:0"},
           {.script = "headers.eh $ :status=200"})
{
    cr_expect(
        !strncmp(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"), "200", 3));
    cr_expect_eq(h2o[0].connections, 2);
}

/* One that it includes still gets its answer there, and the next goes elsewhere. */
TO_H2_TEST(goaway_lets_the_rest_end, "", OPTIONS(0),
           {.script = "goaway 0 u32:$ u32:0; headers.h $ :status=200; data.e $ 'ok'"},
           {.script = "headers.eh $ :status=200"})
{
    cr_expect(strstr(status(GET("/")), "ok"));
    cr_expect(!strncmp(status(GET("/")), "200", 3));
    cr_expect_eq(h2o[0].connections, 2);
}

/* A reset before the answer is a failure: safe methods are tried again, but not forever, others are
 * not. */
TO_H2_TEST(resets_before_the_answer, "", OPTIONS(.tries_max = 2, .failures_max = -1),
           {.script = "rst $ u32:2"}, {.script = "rst $ u32:2"}, {.script = "rst $ u32:2"})
{
    cr_expect(
        !strncmp(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"), "502", 3));
    cr_expect_eq(h2o[0].step_at, 1);
    cr_expect(strstr(px.reason, "INTERNAL_ERROR"), "%s", px.reason);
    cr_expect(!strncmp(status(GET("/")), "502", 3), "there is no other upstream");
    cr_expect_eq(h2o[0].step_at, 2);
}

/* Behind the head it is too late: the client sees that the answer is not whole. */
TO_H2_TEST(resets_behind_the_head, "", OPTIONS(0),
           {.script = "headers.h $ :status=200 content-length=10; data $ 'half'; rst $ u32:2"},
           {.script = "headers.h $ :status=200; data $ 'half'; rst $ u32:2"})
{
    reply r = {0};
    for (int i = 0; i < 2; i++) {
        memset(&r, 0, sizeof r);
        zk_stream *stream = tcp_open(&px.server);
        tcp_send(stream, GET("/"));
        reply_read(stream, &r);
        cr_expect(r.is_closed && !strstr(r.text, "\r\n0\r\n"), "%s", r.text);
        zk_stream_close(stream);
    }
}

/* What is no HTTP/2 is told as that; so is an answer that is not well-formed. */
ZK_ASYNC_TEST(proxy_to_h2, upstreams_may_speak_something_else)
{
    static const char bad[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    static const step steps[] = {{.answer = bad}, {.answer = bad}};
    char address[80];
    origin_open(&origins[0], steps, (int)ROWS(steps));
    snprintf(address, sizeof address, "h2c://%s", origins[0].address);
    zk_upstream upstreams[] = {{address, 1}, {0}};
    proxy_open((zk_proxy_options){.upstreams = upstreams});
    cr_expect(!strncmp(status(GET("/")), "502", 3));
    cr_expect_eq(px.access.rc, ZK_E_HTTP_VERSION, "%s", px.reason);
    proxy_close();
}

TO_H2_TEST(malformed_answers_are_refused, "", OPTIONS(.failures_max = -1),
           {.script = "headers.h $ :status=200 content-length=3; data.e $ 'four'"},
           {.script = "headers.eh $ x-a=b"}, {.script = "headers.eh $ :status=200 Upper=1"},
           {.script = "headers.eh $ :status=200 connection=close"})
{
    for (int i = 0; i < 4; i++) {
        const char *got = status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        cr_expect(!strncmp(got, "502", 3) || !i, "%d: %s", i, got);
        cr_expect(px.access.rc < 0);
    }
}

/* A connection that is lost takes its requests with it; what is safe goes to another. */
TO_H2_TEST(lost_connections, "", OPTIONS(0), {.script = "headers.eh $ :status=200"},
           {.closes = true}, {.script = "headers.eh $ :status=200"}, {.closes = true})
{
    for (int i = 0; i < 2; i++)
        cr_expect(!strncmp(status(GET("/")), "200", 3));
    cr_expect_eq(h2o[0].connections, 2);
    cr_expect(
        !strncmp(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "502", 3));
}

/* An upstream that says nothing costs its request, and only that. */
TO_H2_TEST(silence_is_a_timeout, "",
           OPTIONS(.client = &(zk_client_options){.answer_timeout_ms = 1000}, .failures_max = -1),
           {.script = NULL}, {.script = "headers.eh $ :status=200"})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    origin_until(h2o[0].step_at == 1);
    pass_ms(1010);
    reply r = {0};
    reply_read(stream, &r);
    cr_expect(!strncmp(r.text + 9, "504", 3), "%s", r.text);
    zk_stream_close(stream);
    origin_until(strstr(h2o[0].log.text, "reset 1 CANCEL"));
    cr_expect(!strncmp(status(GET("/")), "200", 3));
    cr_expect_eq(h2o[0].connections, 1);
}

/* A client that leaves takes its stream with it. */
TO_H2_TEST(clients_may_leave, "", OPTIONS(0), {.script = NULL})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, GET("/"));
    origin_until(h2o[0].step_at == 1);
    tcp_reset(stream);
    origin_until(strstr(h2o[0].log.text, "reset 1 CANCEL"));
    origin_until(px.accesses == 1);
    cr_expect_eq(px.access.status, 499);
}

/* An answer that comes before the request has ended is given on, and the upload stops. */
TO_H2_TEST(early_answers_are_given_on, "", OPTIONS(0),
           {.script = "headers.h $ :status=413; data.e $ 'no'; rst $ u32:0"})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhi");
    reply r = {0};
    reply_read(stream, &r);
    cr_expect(!strncmp(r.text + 9, "413", 3) && strstr(r.text, "no"), "%s", r.text);
    zk_stream_close(stream);
}

/* More requests than streams: another connection is made. */
TO_H2_TEST(full_connections_are_not_waited_for, "u16:3 u32:1", OPTIONS(0), {.script = NULL},
           {.script = "headers.eh $ :status=200"})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, GET("/"));
    origin_until(h2o[0].step_at == 1);
    for (int i = 0; i < 20; i++)
        settle();
    cr_expect(!strncmp(status(GET("/")), "200", 3));
    cr_expect_eq(h2o[0].connections, 2);
    zk_stream_close(stream);
}

/* gRPC: te goes on, an answer without a body may be trailers only, and trailers follow a body. */
TO_H2_TEST(grpc_passes, "", OPTIONS(0),
           {.script = "headers.h $ :status=200 content-type=application/grpc; data $ 'm'; "
                      "headers.eh $ grpc-status=0"},
           {.script = "headers.eh $ :status=200 grpc-status=5"})
{
    zk_client *client;
    zk_fetch *f;
    char url[64];
    cr_assert_ok(zk_client_new(&(zk_client_options){.h2c = true}, &client));
    snprintf(url, sizeof url, "http://127.0.0.1:%u/s/m", zk_addr_port(&px.server.addr));
    cr_assert_ok(
        zk_fetch_open(client, &(zk_fetch_options){.url = url, .body = "q", .body_size = 1}, &f));
    zk_str body;
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_str_eq(body.data, "m");
    cr_expect_eq(zk_fetch_trailer(f, "grpc-status").data[0], '0');
    zk_fetch_close(f);
    cr_assert_ok(
        zk_fetch_open(client, &(zk_fetch_options){.url = url, .body = "q", .body_size = 1}, &f));
    cr_expect_eq(zk_fetch_header(f, "grpc-status").data[0], '5');
    zk_fetch_close(f);
    zk_client_free(client);
    talk("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers, deflate\r\nConnection: TE\r\n\r\n");
    cr_expect(strstr(h2o[0].log.text, " te=trailers"), "%s", h2o[0].log.text);
}

static int check_run(void *arg)
{
    (void)arg;
    int rc = zk_proxy_check(px.proxy);
    return rc == -ECANCELED ? 0 : rc;
}

/* Checks speak what the upstream does. */
TO_H2_TEST(upstreams_are_checked, "",
           OPTIONS(.health_path = "/up", .health_interval_ms = 1000, .health_threshold = 1),
           {.script = "headers.eh $ :status=500"})
{
    ZK_SCOPE(scope) {
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&scope, &options, check_run, NULL));
        origin_until(px.turned_out == 1);
        pass_ms(1010);
        origin_until(px.turned_well == 1);
        cr_expect(strstr(h2o[0].log.text, ":path=/up"), "%s", h2o[0].log.text);
        zk_scope_cancel(&scope);
    }
}
