/*
 * CONNECT: where it may go to, what it carries over both versions of HTTP, and how it ends.
 */
#include "tests/http/h2_frames.h"

#include "tests/http/proxying.h"

#include <zokio/client.h>

static const zk_route routes[] = {
    {"CONNECT", "/{path...}", proxy_handler, NULL},
    {NULL, "/{path...}", proxy_handler, NULL},
    {0},
};

static server front;

static void open_front(zk_scope *scope, zk_proxy_options options)
{
    memset(&px, 0, sizeof px);
    options.on_access = proxy_on_access;
    options.via = "";
    cr_assert_ok(zk_proxy_new(&options, &px.proxy));
    server_start(&front, scope, &(zk_server){.routes = routes, .server_name = ""});
    px.server = front;
}

static void close_front(void)
{
    server_stop(&front);
    zk_proxy_free(px.proxy);
}

static const char *connect_to(const char *target, const char *behind)
{
    static char request[512];
    snprintf(request, sizeof request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n%s", target, target,
             behind);
    return request;
}

/* Bytes go both ways, what came with the head first; the end of one side is the end of it all. */
ZK_ASYNC_TEST(proxy_connect, carries_bytes)
{
    static const char *const allow[] = {"127.0.0.1:*", NULL};
    ZK_SCOPE(scope) {
        origin_open(&origins[0], NULL, 0);
        open_front(&scope, (zk_proxy_options){.connect_allow = allow});
        const char *got = talk(connect_to(origins[0].address, GET("/a")));
        cr_expect_str_eq(got, "HTTP/1.1 200 OK\r\n\r\n" OK_ANSWER, "%s", got);
        cr_expect_str_eq(origins[0].log, GET("/a"));
        origin_until(px.accesses == 1);
        cr_expect_eq(px.access.status, 200);
        cr_expect_eq(px.access.rc, 0);
        origin_until(origins[0].open == 0);
        close_front();
        origin_close(&origins[0]);
        origins[0].listener = NULL;
    }
}

/* Nowhere unless it is said where; and nothing else than that. */
ZK_ASYNC_TEST(proxy_connect, goes_where_it_may)
{
    static const char *const allow[] = {"127.0.0.1:1", "*.a.example:443", "*:8443", "[::1]:2",
                                        NULL};
    static const struct {
        const char *target, *status;
    } rows[] = {
        {"127.0.0.1:2", "403"},         {"127.0.0.1:01", "502"},   {"a.example:443", "403"},
        {"xa.example:443", "403"},      {"[::1]:1", "403"},        {"b.a.example:80", "403"},
        {"b.a.example.org:443", "403"}, {"127.0.0.1:8443", "502"}, {"[::1]:2", "502"},
        {"127.0.0.1:11", "403"},
    };
    ZK_SCOPE(scope) {
        open_front(&scope, (zk_proxy_options){.connect_allow = allow});
        for (size_t i = 0; i < ROWS(rows); i++) {
            const char *got = talk(connect_to(rows[i].target, ""));
            cr_expect(!strncmp(got + 9, rows[i].status, 3), "%s: %s", rows[i].target, got);
        }
        cr_expect(!strncmp(talk(GET("/")) + 9, "503", 3), "there are no upstreams");
        close_front();
        static const zk_upstream upstreams[] = {{"127.0.0.1:1", 1}, {0}};
        open_front(&scope, (zk_proxy_options){.upstreams = upstreams});
        cr_expect(!strncmp(talk(connect_to("127.0.0.1:1", "")) + 9, "501", 3));
        close_front();
    }
}

/* What is no pattern is refused at once. */
ZK_ASYNC_TEST(proxy_connect, patterns_are_checked)
{
    static const char *const bad[] = {"",    "a",   "a:",      ":1",      "*a:1",  "a.*:1",
                                      "a:0", "a:x", "a:65536", "*.*.a:1", "a b:1", "a:1 "};
    for (size_t i = 0; i < ROWS(bad); i++) {
        const char *allow[] = {bad[i], NULL};
        zk_proxy *p;
        cr_assert_rc(zk_proxy_new(&(zk_proxy_options){.connect_allow = allow}, &p), ZK_E_CONFIG,
                     "%s", bad[i]);
    }
}

/* Without a byte for too long it ends; so it does when the other side breaks off. */
ZK_ASYNC_TEST(proxy_connect, ends)
{
    static const char *const allow[] = {"127.0.0.1:*", NULL};
    static const step steps[] = {{.after = STALL}, {.answer = "half", .after = RESET}};
    ZK_SCOPE(scope) {
        origin_open(&origins[0], steps, (int)ROWS(steps));
        open_front(&scope, (zk_proxy_options){.connect_allow = allow, .tunnel_timeout_ms = 1000});
        for (int i = 0; i < 2; i++) {
            reply r = {0};
            zk_stream *stream = tcp_open(&front);
            tcp_send(stream, connect_to(origins[0].address, GET("/")));
            origin_until(origins[0].step_at == i + 1);
            for (int k = 0; k < 20; k++)
                settle();
            if (i == 0) pass_ms(1010);
            reply_read(stream, &r);
            cr_expect(r.is_closed, "%d: %s", i, r.text);
            cr_expect(r.error == (i ? -ECONNRESET : r.error), "%d", r.error);
            zk_stream_close(stream);
        }
        close_front();
        origin_close(&origins[0]);
        origins[0].listener = NULL;
    }
}

/* Over HTTP/2 a stream becomes the tunnel, beside others. */
static zk_proxy *h2_proxy;
static int h2_handler(zk_request *req, zk_response *res)
{
    return zk_proxy_run(h2_proxy, req, res);
}
static const zk_route h2_routes[] = {{"CONNECT", "/", h2_handler, NULL}, {0}};

ZK_HTTP_TEST(proxy_connect, carries_bytes_over_http2, .routes = h2_routes)
{
    static const char *const allow[] = {"127.0.0.1:*", NULL};
    char script[256];
    h2_client c;
    origin_open(&origins[0], NULL, 0);
    cr_assert_ok(zk_proxy_new(&(zk_proxy_options){.connect_allow = allow}, &h2_proxy));
    h2_open(&c, f);
    snprintf(script, sizeof script,
             "headers.h 1 :method=CONNECT :authority=%s; data 1 'GET / HTTP/1.1' hex:0d0a0d0a",
             origins[0].address);
    h2_send(&c, script);
    origin_until(origins[0].log_size > 0);
    for (int i = 0; i < 20; i++)
        settle();
    cr_expect(strstr(h2_take(&c), "headers 1 200\ndata 1 40 "), "%s", c.log.text);
    h2_send(&c, "headers.h 3 :method=CONNECT :authority=a:1; data.e 1");
    origin_until(origins[0].open == 0);
    for (int i = 0; i < 20; i++)
        settle();
    const char *got = h2_take(&c);
    cr_expect(strstr(got, "headers 3 403 "), "%s", got);
    cr_expect(strstr(got, "data 1 0 end"), "%s", got);
    h2_close(&c);
    zk_proxy_free(h2_proxy);
    origin_close(&origins[0]);
    origins[0].listener = NULL;
}
