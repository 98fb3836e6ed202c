/*
 * The PROXY protocol: whom a server believes and what it makes of that, and what a proxy tells its
 * upstreams.
 */
#include "tests/http/site.h"

#include <errno.h>
#include <unistd.h>

#include <zokio/proxy.h>

#include "http/client_pool.h"
#include "http/proxy.h"
#include "net/proxy_header.h"

#define V2(command, family, length, rest)                                                          \
    {                                                                                              \
        "\r\n\r\n\0\r\nQUIT\n" command family "\0" length rest, 16 + sizeof(rest) - 1              \
    }
#define V4_FROM_192_0_2_7 "\xc0\x00\x02\x07\x0a\x00\x00\x01\x1f\x90\x01\xbb"

static int asked, errors, error_rc;
static char error_text[256];

/* Answers with the client's address. */
static int who(zk_request *req, zk_response *res)
{
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr;
    asked++;
    int rc = zk_request_peer(req, &addr);
    if (rc < 0) return rc;
    size_t size = zk_addr_format(&addr, text);
    return zk_respond(res, 200, NULL, text, size);
}

static const zk_route who_routes[] = {{"GET", "/", who, NULL}, {"POST", "/", who, NULL}, {0}};

static void on_error(void *context, const zk_request *req, int rc, const char *what)
{
    (void)context, (void)req;
    errors++;
    error_rc = rc;
    snprintf(error_text, sizeof error_text, "%s", what);
}

static const char *const from_here[] = {"10.0.0.0/8", "127.0.0.0/8", NULL};

/* A test with a server `s` that believes who connects from this machine. */
#define WHO_TEST(name, from, ...)                                                                  \
    static void who_##name(server *s);                                                             \
    ZK_ASYNC_TEST(proxy_protocol, name)                                                            \
    {                                                                                              \
        asked = errors = error_rc = 0;                                                             \
        ZK_SCOPE(scope) {                                                                          \
            server s;                                                                              \
            server_start(&s, &scope,                                                               \
                         &(zk_server){.routes = who_routes,                                        \
                                      .on_error = on_error,                                        \
                                      .proxy_protocol_from = from,                                 \
                                      ##__VA_ARGS__});                                             \
            cr_assert_rc(s.rc, 1);                                                                 \
            who_##name(&s);                                                                        \
            if (s.rc == 1) server_stop(&s);                                                        \
        }                                                                                          \
    }                                                                                              \
    static void who_##name(server *s)

static void send_in_pieces(zk_stream *stream, zk_str s, size_t piece)
{
    for (size_t at = 0, n; at < s.size; at += n) {
        n = piece < s.size - at ? piece : s.size - at;
        cr_assert_ok(zk_stream_write(stream, s.data + at, n));
        if (at + n < s.size) settle();
    }
}

static void expect_answer(zk_stream *stream, const char *body)
{
    char wanted[256];
    snprintf(wanted, sizeof wanted, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    tcp_expect(stream, wanted, false);
}

static const char *own_address(const zk_stream *stream)
{
    static char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr;
    cr_assert_ok(zk_stream_local(stream, &addr));
    zk_addr_format(&addr, text);
    return text;
}

/* The client is who the header says; all requests of the connection are from there. */
WHO_TEST(names_the_client, from_here)
{
    static const struct {
        zk_str header;
        const char *peer; /* NULL: who has connected */
    } rows[] = {
        {{"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n", 40}, "192.0.2.7:8080"},
        {{"PROXY TCP6 2001:db8::7 ::1 8080 443\r\n", 37}, "[2001:db8::7]:8080"},
        {{"PROXY UNKNOWN\r\n", 15}, NULL},
        {V2("\x21", "\x11", "\x0c", V4_FROM_192_0_2_7), "192.0.2.7:8080"},
        {V2("\x21", "\x11", "\x10", V4_FROM_192_0_2_7 "\x04\0\x01#"), "192.0.2.7:8080"},
        {V2("\x20", "\x11", "\x0c", V4_FROM_192_0_2_7), NULL},
        {V2("\x21", "\0", "\0", ""), NULL},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (size_t piece = 1; piece < 1000; piece *= 6) {
            zk_stream *c = tcp_open(s);
            send_in_pieces(c, rows[i].header, piece);
            tcp_send(c, GET("/"));
            const char *peer = rows[i].peer ? rows[i].peer : own_address(c);
            expect_answer(c, peer);
            tcp_send(c, GET("/"));
            expect_answer(c, peer);
            zk_stream_close(c);
        }
    }
    cr_expect_eq(errors, 0);
}

/* A header and the request in one packet; a request of HTTP/2 behind one. */
WHO_TEST(takes_nothing_of_what_is_behind, from_here)
{
    zk_stream *c = tcp_open(s);
    tcp_send(c, "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n" GET("/"));
    expect_answer(c, "192.0.2.7:8080");
    zk_stream_close(c);

    h2_client h2;
    c = tcp_open(s);
    tcp_send(c, "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n");
    h2_client_begin(&h2, c);
    h2_send(&h2, "headers.eh 1 " H2_GET("/"));
    settle_long();
    h2_check(&h2, "headers 1 200 content-length=14\ndata 1 14 end 192.0.2.7:8080\n", "h2");
    h2_close(&h2);
}

/* Who has to announce a client and does not is not served, and that is told. */
WHO_TEST(serves_nobody_without_a_header, from_here)
{
    static const char *const rows[] = {
        GET("/"),
        "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\n" GET("/"),
        "PROXY TCP4 192.0.2.7 10.0.0.1 8080 70000\r\n" GET("/"),
        "PROXY TCP4 192.0.2.7",
        "\r\n" GET("/"),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char byte;
        zk_stream *c = tcp_open(s);
        tcp_send(c, rows[i]);
        cr_assert_ok(zk_stream_shutdown(c));
        ssize_t n = zk_stream_read(c, &byte, 1);
        cr_expect(n == 0 || n == -ECONNRESET, "row %zu: %zd", i, n);
        zk_stream_close(c);
        cr_expect_eq(errors, (int)i + 1, "row %zu", i);
        cr_expect_eq(error_rc, ZK_E_PROXY_HEADER);
        cr_expect(strstr(error_text, "from 127.0.0.1:"), "%s", error_text);
    }
    cr_expect_eq(asked, 0);
}

/* A header that does not come ends with the time for it; who only looks whether somebody listens is
 * no error. */
WHO_TEST(waits_no_longer_than_for_a_head, from_here)
{
    char byte;
    zk_stream *c = tcp_open(s), *late = tcp_open(s);
    settle_long();
    zk_stream_close(c);
    settle_long();
    cr_expect_eq(errors, 0);
    tcp_send(late, "PROXY TCP4 192.0.2.7");
    pass_ms(9000);
    tcp_send(late, " 10.0.0.1 8080");
    settle_long();
    cr_expect_eq(errors, 0);
    pass_ms(1500);
    cr_assert_rc(zk_stream_read(late, &byte, 1), 0);
    zk_stream_close(late);
    cr_expect_eq(error_rc, ZK_E_HTTP_TIMEOUT);
    cr_expect_eq(errors, 1);
    cr_expect_eq(asked, 0);
}

/* A server that stops does not wait for a header. */
WHO_TEST(stops_without_waiting, from_here)
{
    zk_stream *c = tcp_open(s);
    tcp_send(c, "PROXY TCP4 192.0.2.7");
    settle_long();
    zk_serving_drain(s->serving);
    settle_long();
    pass_ms(1100);
    while (s->rc == 1)
        settle();
    cr_assert_rc(s->rc, 0);
    cr_expect_eq(errors, 0);
    zk_stream_close(c);
}

static const char *const from_elsewhere[] = {"10.0.0.0/8", "unix", NULL};

/* Strangers are not believed: they begin with their request, and a header is none. */
WHO_TEST(believes_no_strangers, from_elsewhere)
{
    zk_stream *c = tcp_open(s);
    tcp_send(c, GET("/"));
    expect_answer(c, own_address(c));
    zk_stream_close(c);
    c = tcp_open(s);
    tcp_send(c, "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n" GET("/"));
    tcp_expect(c, LAST_PAGE("20", "501 Not Implemented"), true);
    zk_stream_close(c);
    cr_expect_eq(asked, 1);
}

/* The same test may be running on the other poller. */
static const char *own_socket(void)
{
    static char name[64];
    snprintf(name, sizeof name, "unix:@zokio-proxy-protocol-%ld", (long)getpid());
    return name;
}

/* Over a Unix socket, where there are no networks. */
WHO_TEST(believes_unix_sockets, from_elsewhere, .listen = own_socket())
{
    zk_stream *c = tcp_open(s);
    tcp_send(c, "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n" GET("/"));
    expect_answer(c, "192.0.2.7:8080");
    zk_stream_close(c);
    static const char path[108] = "/run/a";
    c = tcp_open(s);
    cr_assert_ok(zk_stream_write(c, "\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8", 16));
    cr_assert_ok(zk_stream_write(c, path, sizeof path));
    cr_assert_ok(zk_stream_write(c, path, sizeof path));
    tcp_send(c, GET("/"));
    expect_answer(c, "unix:");
    zk_stream_close(c);
}

/* TLS is behind the header. */
ZK_ASYNC_TEST(proxy_protocol, comes_before_tls)
{
    static const char *const *const alpn[] = {h1_only, h2_first};
    ZK_SCOPE(scope) {
        static site x;
        site_init(&x, (zk_tls_server){0});
        server_start(
            &x.s, &scope,
            &(zk_server){.routes = who_routes, .tls = &x.tls, .proxy_protocol_from = from_here});
        for (size_t i = 0; i < ROWS(alpn); i++) {
            zk_tls *tls = blind_new(alpn[i]);
            zk_stream *tcp = tcp_open(&x.s), *stream;
            tcp_send(tcp, "PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n");
            cr_assert_rc(zk_tls_connect(tls, tcp, "localhost", &stream), 0, "%.200s", zk_trail());
            if (i) {
                h2_client h2;
                h2_client_begin(&h2, stream);
                h2_send(&h2, "headers.eh 1 " H2_GET("/"));
                settle_long();
                h2_check(&h2, "headers 1 200 content-length=14\ndata 1 14 end 192.0.2.7:8080\n",
                         "h2");
                h2_close(&h2);
            } else {
                tcp_send(stream, GET("/"));
                expect_answer(stream, "192.0.2.7:8080");
                zk_stream_close(stream);
            }
            zk_tls_free(tls);
        }
        server_stop(&x.s);
    }
}

/* A list that cannot be meant so keeps the server from starting. */
ZK_ASYNC_TEST(proxy_protocol, refuses_lists_of_what_are_no_networks)
{
    static const char *const rows[][2] = {{"10.0.0.1/8", NULL}, {"", NULL}, {"localhost", NULL}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        cr_assert_rc(zk_serve(&(zk_server){.listen = "127.0.0.1:0",
                                           .routes = who_routes,
                                           .no_signals = true,
                                           .proxy_protocol_from = rows[i]}),
                     ZK_E_ADDR);
        cr_expect(strstr(zk_trail(), "proxy_protocol_from"), "%s", zk_trail());
    }
}

/* ---- to an upstream ---- */

static zk_proxy *proxy;

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route proxy_routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

typedef struct chain {
    server upstream, front;
    char address[ZK_ADDR_TEXT_BYTES];
    zk_upstream upstreams[2];
} chain;

static void chain_open(chain *x, zk_scope *scope, zk_proxy_options options,
                       const char *const *front_from)
{
    asked = errors = 0;
    server_start(
        &x->upstream, scope,
        &(zk_server){.routes = who_routes, .on_error = on_error, .proxy_protocol_from = from_here});
    zk_addr_format(&x->upstream.addr, x->address);
    x->upstreams[0] = (zk_upstream){x->address, 1};
    x->upstreams[1] = (zk_upstream){0};
    options.upstreams = x->upstreams;
    options.via = "";
    cr_assert_ok(zk_proxy_new(&options, &proxy));
    server_start(&x->front, scope,
                 &(zk_server){.routes = proxy_routes, .proxy_protocol_from = front_from});
}

static void chain_close(chain *x)
{
    server_stop(&x->front);
    zk_proxy_free(proxy);
    server_stop(&x->upstream);
}

static zk__pool *pool_of_proxy(void) { return zk__proxy_worker_get(proxy)->pool; }

/* The upstream gets to know the client; the next request of the same client takes the same
 * connection, and nobody else's. */
ZK_ASYNC_TEST(proxy_protocol, tells_upstreams_who_it_is_for)
{
    for (int version = 1; version <= 2; version++) {
        ZK_SCOPE(scope) {
            chain x;
            chain_open(&x, &scope, (zk_proxy_options){.proxy_protocol = version}, NULL);
            zk_stream *a = tcp_open(&x.front), *b = tcp_open(&x.front);
            for (int i = 0; i < 3; i++) {
                tcp_send(a, GET("/"));
                expect_answer(a, own_address(a));
                tcp_send(b, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
                expect_answer(b, own_address(b));
            }
            cr_expect_eq(pool_of_proxy()->opened, 2u);
            cr_expect_eq(pool_of_proxy()->reused, 4u);
            zk_stream_close(a);
            zk_stream_close(b);
            cr_expect_eq(errors, 0);
            chain_close(&x);
        }
    }
}

/* What a proxy in front has said goes on. */
ZK_ASYNC_TEST(proxy_protocol, passes_on_what_it_was_told)
{
    ZK_SCOPE(scope) {
        chain x;
        chain_open(&x, &scope, (zk_proxy_options){.proxy_protocol = 2}, from_here);
        zk_stream *a = tcp_open(&x.front);
        tcp_send(a, "PROXY TCP6 2001:db8::7 ::1 8080 443\r\n" GET("/"));
        expect_answer(a, "[2001:db8::7]:8080");
        zk_stream_close(a);
        chain_close(&x);
    }
}

/* At the limit a connection of somebody else makes room. */
ZK_ASYNC_TEST(proxy_protocol, gives_no_client_the_connection_of_another)
{
    ZK_SCOPE(scope) {
        chain x;
        zk_client_options limits = {.connections_max = 1};
        chain_open(&x, &scope, (zk_proxy_options){.proxy_protocol = 1, .client = &limits}, NULL);
        zk_stream *clients[5];
        for (int i = 0; i < 5; i++)
            clients[i] = tcp_open(&x.front);
        for (int i = 0; i < 5; i++)
            tcp_send(clients[i], GET("/"));
        for (int i = 0; i < 5; i++)
            expect_answer(clients[i], own_address(clients[i]));
        cr_expect_eq(pool_of_proxy()->opened, 5u);
        for (int i = 0; i < 5; i++)
            zk_stream_close(clients[i]);
        chain_close(&x);
    }
}

/* The proxy's own checks say that they are its own. */
static int check(void *arg) { return zk_proxy_check(arg) == -ECANCELED ? 0 : -EPROTO; }

ZK_ASYNC_TEST(proxy_protocol, checks_in_its_own_name)
{
    for (int version = 1; version <= 2; version++) {
        ZK_SCOPE(scope) {
            chain x;
            chain_open(&x, &scope,
                       (zk_proxy_options){
                           .proxy_protocol = version, .health_path = "/", .health_threshold = 1},
                       NULL);
            atomic_store(&atomic_load(&proxy->set)->at[0]->is_down, true);
            ZK_SCOPE(checks) {
                cr_assert_ok(zk_spawn(&checks, check, proxy));
                for (int i = 0; i < 1000 && atomic_load(&atomic_load(&proxy->set)->at[0]->is_down);
                     i++)
                    settle();
                cr_expect(!atomic_load(&atomic_load(&proxy->set)->at[0]->is_down));
                zk_scope_cancel(&checks);
            }
            cr_expect_eq(errors, 0, "%s", error_text);
            chain_close(&x);
        }
    }
}

ZK_ASYNC_TEST(proxy_protocol, has_two_versions)
{
    static const zk_upstream upstreams[] = {{"127.0.0.1:1", 0}, {0}};
    zk_proxy *p;
    for (int version = -1; version <= 3; version++) {
        bool is_right = version >= 0 && version <= 2;
        zk_proxy_options options = {.upstreams = upstreams, .proxy_protocol = version};
        int rc = zk_proxy_new(&options, &p);
        cr_assert_rc(rc, is_right ? 0 : ZK_E_CONFIG);
        if (!rc) zk_proxy_free(p);
    }
}
