/*
 * The client over HTTP/2: chosen by ALPN, many exchanges on one connection, bodies held back by
 * flow control, and what becomes of exchanges when the connection goes.
 */
#include "tests/http/fixture.h"

#include <zokio/client.h>

#include "http/client.h"
#include "tests/net/tls_certs.h"

enum { LARGE_BYTES = 3 * 1000 * 1000 };
static char large[LARGE_BYTES];
static int open_now, open_most;

static int hello(zk_request *req, zk_response *res)
{
    char text[64];
    snprintf(text, sizeof text, "%d", zk_request_version(req));
    cr_assert_ok(zk_response_header(res, "X-A", "b"));
    return zk_respond_text(res, 200, text);
}

static int slow(zk_request *req, zk_response *res)
{
    if (++open_now > open_most) open_most = open_now;
    int rc = zk_sleep(ZK_MS(20));
    open_now--;
    return rc < 0 ? rc : hello(req, res);
}

static int echo(zk_request *req, zk_response *res)
{
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    char piece[4000];
    ssize_t n = 1;
    while (!rc && (n = zk_body_read(req, piece, sizeof piece)) > 0)
        rc = zk_response_write(res, piece, (size_t)n);
    if (!rc && n == 0 && zk_request_trailer(req, "x-sum").data) {
        rc = zk_response_trailer(res, "X-Sum", "back");
    }
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

static int moved(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_header(res, "Location", "/hello"));
    return zk_respond_status(res, 302);
}

static int broken(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    if (!rc) rc = zk_response_write(res, "half", 4);
    if (!rc) rc = zk_response_flush(res);
    if (!rc) rc = zk_sleep(ZK_MS(5)); /* what was sent gets there */
    return rc ? rc : -EIO;
}

static const zk_route routes[] = {
    {NULL, "/hello", hello, NULL},      {NULL, "/slow", slow, NULL},
    {NULL, "/echo", echo, NULL},        {NULL, "/large", give_large, NULL},
    {NULL, "/empty", no_content, NULL}, {NULL, "/moved", moved, NULL},
    {NULL, "/broken", broken, NULL},    {0},
};

static struct {
    server s;
    zk_client *c;
    issued ca, one;
    zk_tls_certificate certificates[2];
    zk_tls_server tls;
    zk_tls_client trust;
} x;

static void open_server(zk_scope *scope)
{
    server_start(&x.s, scope, &(zk_server){.routes = routes, .tls = &x.tls});
}

static void open_both(zk_scope *scope, zk_client_options options)
{
    for (size_t i = 0; i < LARGE_BYTES; i++)
        large[i] = (char)(i * 31 >> 3);
    x.ca = issue("ca", NULL, NULL);
    x.one = issue("one", &x.ca, "IP:127.0.0.1");
    x.certificates[0] = (zk_tls_certificate){x.one.cert_file, x.one.key_file, NULL};
    x.tls = (zk_tls_server){.certificates = x.certificates};
    x.trust = (zk_tls_client){.ca_file = x.ca.cert_file};
    options.tls = &x.trust;
    open_server(scope);
    cr_assert_ok(zk_client_new(&options, &x.c));
}

static int open_path(const char *path, zk_fetch_options options, zk_fetch **ret)
{
    char url[128];
    snprintf(url, sizeof url, "https://127.0.0.1:%u%s", zk_addr_port(&x.s.addr), path);
    options.url = url;
    return zk_fetch_open(x.c, &options, ret);
}

static const char *body_of(zk_fetch *f)
{
    zk_str body;
    cr_assert_ok(zk_fetch_body(f, &body));
    return body.data;
}

#define H2_TEST(name, ...)                                                                         \
    static void h2_test_##name(void);                                                              \
    ZK_ASYNC_TEST(client_h2, name)                                                                 \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            open_both(&scope, (zk_client_options){__VA_ARGS__});                                   \
            h2_test_##name();                                                                      \
            zk_client_free(x.c);                                                                   \
            server_stop(&x.s);                                                                     \
        }                                                                                          \
    }                                                                                              \
    static void h2_test_##name(void)

/* ALPN chooses, and the exchange looks the same. */
H2_TEST(is_chosen_if_the_server_has_it)
{
    zk_fetch *f;
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    cr_expect_eq(zk_fetch_status(f), 200);
    cr_expect_eq(zk_fetch_version(f), 20);
    cr_expect_eq(zk_fetch_length(f), 2);
    cr_expect_eq(zk_fetch_header(f, "X-A").data[0], 'b');
    cr_expect_str_eq(body_of(f), "20");
    cr_expect_eq(zk_fetch_read(f, &(char){0}, 1), 0);
    zk_fetch_close(f);
    cr_assert_ok(open_path("/hello", (zk_fetch_options){.method = "HEAD"}, &f));
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    cr_assert_ok(open_path("/empty", (zk_fetch_options){0}, &f));
    cr_expect_eq(zk_fetch_status(f), 204);
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    cr_assert_ok(open_path("/moved", (zk_fetch_options){0}, &f));
    cr_expect_str_eq(body_of(f), "20");
    zk_fetch_close(f);
    cr_expect_eq(zk__client_pool(x.c)->opened, 1u);
}

/* Who does not want it gets HTTP/1.1. */
H2_TEST(can_be_declined, .no_h2 = true)
{
    zk_fetch *f;
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    cr_expect_eq(zk_fetch_version(f), 11);
    zk_fetch_close(f);
}

static int get_slow(void *arg)
{
    (void)arg;
    zk_fetch *f;
    int rc = open_path("/slow", (zk_fetch_options){0}, &f);
    if (rc < 0) return rc;
    cr_expect_str_eq(body_of(f), "20");
    zk_fetch_close(f);
    return 0;
}

/* Exchanges share a connection, and do not wait for each other. */
H2_TEST(carries_many_at_once)
{
    zk_fetch *f;
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    zk_fetch_close(f);
    ZK_SCOPE(scope) {
        for (int i = 0; i < 200; i++) /* more than the server takes at once */
            cr_assert_ok(zk_spawn(&scope, get_slow, NULL));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_expect_eq(zk__client_pool(x.c)->opened, 2u, "a second one for those that find no room");
    cr_expect(open_most > 128 && open_most <= 200, "%d", open_most);
}

/* Large bodies pass both ways, with trailers. */
H2_TEST(streams_bodies)
{
    zk_fetch *f;
    zk_str body;
    cr_assert_ok(open_path("/large", (zk_fetch_options){0}, &f));
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == LARGE_BYTES && !memcmp(body.data, large, LARGE_BYTES));
    zk_fetch_close(f);
    cr_assert_ok(open_path("/echo", (zk_fetch_options){.body = large, .body_size = 100000}, &f));
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == 100000 && !memcmp(body.data, large, 100000));
    zk_fetch_close(f);
    zk_fetch_options options = {.method = "PUT", .is_streamed = true, .body_length = -1};
    cr_assert_ok(open_path("/echo", options, &f));
    cr_assert_ok(zk_fetch_write(f, "hello ", 6));
    cr_assert_ok(zk_fetch_flush(f));
    cr_assert_ok(zk_fetch_write(f, large, 50000));
    cr_assert_ok(zk_fetch_write_trailer(f, "X-Sum", "1"));
    cr_assert_ok(zk_fetch_answer(f));
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect(body.size == 50006 && !memcmp(body.data + 6, large, 50000));
    cr_expect_eq(zk_fetch_trailer(f, "x-sum").data[0], 'b');
    zk_fetch_close(f);
    options.body_length = 3;
    cr_assert_ok(open_path("/echo", options, &f));
    cr_assert_rc(zk_fetch_write(f, "abcd", 4), ZK_E_HTTP_LENGTH);
    cr_assert_ok(zk_fetch_write(f, "abc", 3));
    cr_assert_ok(zk_fetch_answer(f));
    cr_expect_str_eq(body_of(f), "abc");
    zk_fetch_close(f);
    cr_expect_eq(zk__client_pool(x.c)->opened, 1u);
}

/* What breaks off is an error of its own exchange alone; what is not read harms no other. */
H2_TEST(fails_one_by_one, .header_bytes_max = 4096)
{
    zk_fetch *f, *left;
    zk_str body;
    cr_assert_ok(open_path("/large", (zk_fetch_options){0}, &left));
    cr_assert_ok(open_path("/broken", (zk_fetch_options){0}, &f));
    cr_assert_rc(zk_fetch_body(f, &body), ZK_E_CLOSED);
    cr_assert_rc(zk_fetch_read(f, &(char){0}, 1), ZK_E_CLOSED);
    zk_fetch_close(f);
    ZK_WITHIN(ZK_MS(5))
        cr_assert_rc(open_path("/slow", (zk_fetch_options){0}, &f), -ETIMEDOUT);
    for (int i = 0; i < 10; i++) {
        cr_assert_ok(open_path("/large", (zk_fetch_options){0}, &f));
        zk_fetch_close(f);
    }
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    cr_expect_str_eq(body_of(f), "20");
    zk_fetch_close(f);
    zk_fetch_close(left);
    cr_expect_eq(zk__client_pool(x.c)->opened, 1u);
}

/* A server that stops is left for a new connection; what was going on comes to its end. */
ZK_ASYNC_TEST(client_h2, outlives_its_server)
{
    ZK_SCOPE(scope) {
        open_both(&scope, (zk_client_options){0});
        zk_fetch *f;
        zk_str body;
        cr_assert_ok(open_path("/large", (zk_fetch_options){0}, &f));
        zk_serving_drain(x.s.serving);
        settle();
        cr_assert_ok(zk_fetch_body(f, &body));
        cr_expect_eq(body.size, (size_t)LARGE_BYTES);
        zk_fetch_close(f);
        while (x.s.rc == 1)
            settle();
        cr_assert_rc(open_path("/hello", (zk_fetch_options){0}, &f), -ECONNREFUSED);
        open_server(&scope);
        cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
        zk_fetch_close(f);
        server_stop(&x.s);
        zk_client_free(x.c);
    }
}

/* An idle connection is closed when its time is over. */
H2_TEST(is_closed_when_idle, .idle_timeout_ms = 1000)
{
    zk_fetch *f;
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    zk_fetch_close(f);
    pass_ms(500);
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    zk_fetch_close(f);
    cr_expect_eq(zk__client_pool(x.c)->opened, 1u);
    pass_ms(1100);
    cr_assert_ok(open_path("/hello", (zk_fetch_options){0}, &f));
    zk_fetch_close(f);
    cr_expect_eq(zk__client_pool(x.c)->opened, 2u);
}
