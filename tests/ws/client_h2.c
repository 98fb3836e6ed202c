/*
 * The client's side over HTTP/2 (RFC 8441): with a server of ours, beside requests on the same
 * connection, and what a server may do to it that says what it is told to.
 */
#include "tests/ws/talk.h"

#include "http/client.h"
#include "tests/net/tls_certs.h"
#include "ws/handshake.h"

static int version_of_last;

static int echo_versioned(zk_request *req, zk_response *res)
{
    version_of_last = zk_request_version(req);
    return echo_loop(req, res);
}

static int protocol_b(zk_request *req, zk_response *res)
{
    static const char *const protocols[] = {"b", NULL};
    static const zk_ws_deflate deflate = {.keeps_server_context = true};
    cr_assert_str_eq(zk_request_header(req, "X-Token").data, "abc");
    return echo_loop_with(req, res, &(zk_ws_options){.protocols = protocols, .deflate = &deflate});
}

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "hello");
}

/* Says something and breaks off. */
static int breaks_off(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    if (rc >= 0) rc = zk_ws_send_text(ws, "hi");
    if (rc >= 0) rc = zk_ws_flush(ws);
    if (rc >= 0) rc = zk_ws_recv(ws, &(zk_ws_message){0});
    return rc < 0 ? rc : -EIO;
}

/* Does not read what it is sent until it is told to. */
static bool may_read;
static int stubborn(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_accept(req, res, &(zk_ws_options){.message_bytes_max = 8 << 20}, &ws);
    while (rc >= 0 && !may_read)
        rc = zk_sleep(ZK_MS(1));
    while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0)
        rc = zk_ws_send(ws, m.type, &m.size, sizeof m.size);
    return rc;
}

static const zk_route routes[] = {
    {"GET", "/loop", echo_versioned, NULL}, {"GET", "/parked", echo_parked, NULL},
    {"GET", "/pieces", echo_pieces, NULL},  {"GET", "/protocol", protocol_b, NULL},
    {"GET", "/hello", hello, NULL},         {"GET", "/breaks", breaks_off, NULL},
    {"GET", "/stubborn", stubborn, NULL},   {0},
};

static struct {
    server s;
    zk_client *c;
    issued ca, one;
    zk_tls_certificate certificates[2];
    zk_tls_server tls;
    zk_tls_client trust;
} x;

static void certificates_make(void)
{
    x.ca = issue("ca", NULL, NULL);
    x.one = issue("one", &x.ca, "IP:127.0.0.1");
    x.certificates[0] = (zk_tls_certificate){x.one.cert_file, x.one.key_file, NULL};
    x.tls = (zk_tls_server){.certificates = x.certificates};
    x.trust = (zk_tls_client){.ca_file = x.ca.cert_file};
}

static void open_both(zk_scope *scope, zk_client_options options)
{
    certificates_make();
    options.tls = &x.trust;
    server_start(&x.s, scope, &(zk_server){.routes = routes, .tls = &x.tls});
    cr_assert_ok(zk_client_new(&options, &x.c));
}

static int open_port(unsigned port, const char *path, zk_ws_options options, zk_ws **ret)
{
    char url[128];
    snprintf(url, sizeof url, "wss://127.0.0.1:%u%s", port, path);
    options.client = x.c;
    return zk_ws_connect(url, &options, ret);
}

static int open_path(const char *path, zk_ws_options options, zk_ws **ret)
{
    return open_port(zk_addr_port(&x.s.addr), path, options, ret);
}

static uint64_t opened(void) { return zk__client_pool(x.c)->opened; }

static void echo_one(zk_ws *ws, const char *data, size_t size, zk_ws_type type)
{
    zk_ws_message m;
    cr_assert_ok(zk_ws_send(ws, type, data, size));
    cr_assert_rc(zk_ws_recv(ws, &m), 1);
    cr_assert(m.type == type && m.size == size && !memcmp(m.data, data, size), "%zu of %zu", m.size,
              size);
}

#define H2_TEST(name, ...)                                                                         \
    static void h2_test_##name(void);                                                              \
    ZK_ASYNC_TEST(ws_client_h2, name)                                                              \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            open_both(&scope, (zk_client_options){__VA_ARGS__});                                   \
            h2_test_##name();                                                                      \
            zk_client_free(x.c);                                                                   \
            server_stop(&x.s);                                                                     \
        }                                                                                          \
    }                                                                                              \
    static void h2_test_##name(void)

/* Messages of all sizes, to each kind of handler, all on one connection. */
H2_TEST(echoes_of_all_sizes)
{
    static const char *const paths[] = {"/loop", "/parked", "/pieces"};
    static const size_t sizes[] = {0, 1, 125, 126, 4000, 16384, 65535, 65536, 300000, 900000};
    char *data = malloc(900000);
    for (size_t i = 0; i < 900000; i++)
        data[i] = (char)(i * 2654435761u >> 24);
    for (size_t i = 0; i < ROWS(paths); i++) {
        zk_ws *ws;
        cr_assert_ok(open_path(paths[i], (zk_ws_options){0}, &ws));
        for (size_t k = 0; k < ROWS(sizes); k++)
            echo_one(ws, data, sizes[k], ZK_WS_BINARY);
        echo_one(ws, "gr\xc3\xbc\xc3\x9f", 7, ZK_WS_TEXT);
        cr_assert_ok(zk_ws_close(ws, 1000, "done"));
        cr_assert_eq(zk_ws_close_code(ws), 1000);
        cr_assert_rc(zk_ws_send_text(ws, "late"), ZK_E_CLOSED);
        zk_ws_free(ws);
    }
    free(data);
    cr_assert_eq(version_of_last, 20);
    cr_assert_eq(opened(), 1u);
}

/* What both agree on is in the same fields as over HTTP/1.1. */
H2_TEST(agrees_on_a_subprotocol_and_compression)
{
    static const char *const protocols[] = {"a", "b", NULL};
    static const zk_header headers[] = {{"X-Token", "abc"}, {0}};
    static const zk_ws_deflate deflate = {.keeps_server_context = true};
    static char text[5000];
    zk_ws *ws;
    zk_ws_options options = {.protocols = protocols, .headers = headers, .deflate = &deflate};
    memset(text, 'a', sizeof text);
    cr_assert_ok(open_path("/protocol", options, &ws));
    cr_assert_str_eq(zk_ws_protocol(ws), "b");
    for (int i = 0; i < 3; i++)
        echo_one(ws, text, sizeof text, ZK_WS_TEXT);
    cr_assert_ok(zk_ws_close(ws, 1000, NULL));
    zk_ws_free(ws);
}

/* Sockets and requests share the connection, and do not wait for each other. */
H2_TEST(shares_the_connection)
{
    enum { COUNT = 20 };
    zk_ws *all[COUNT];
    for (int i = 0; i < COUNT; i++)
        cr_assert_ok(open_path(i % 2 ? "/loop" : "/parked", (zk_ws_options){0}, &all[i]));
    for (int round = 0; round < 3; round++) {
        zk_fetch *f;
        zk_str body;
        char url[128];
        for (int i = 0; i < COUNT; i++)
            cr_assert_ok(zk_ws_send_text(all[i], "hi"));
        snprintf(url, sizeof url, "https://127.0.0.1:%u/hello", zk_addr_port(&x.s.addr));
        cr_assert_ok(zk_fetch_open(x.c, &(zk_fetch_options){.url = url}, &f));
        cr_assert_ok(zk_fetch_body(f, &body));
        cr_assert_str_eq(body.data, "hello");
        zk_fetch_close(f);
        for (int i = COUNT; i--;) {
            zk_ws_message m;
            cr_assert_rc(zk_ws_recv(all[i], &m), 1);
            cr_assert_eq(m.size, 2u);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        if (i % 3) cr_assert_ok(zk_ws_close(all[i], 1000, NULL));
        zk_ws_free(all[i]);
    }
    cr_assert_eq(opened(), 1u);
}

/* What the server does not read holds back the sender of that socket alone. */
H2_TEST(a_slow_socket_is_held_back)
{
    static char large[3000000];
    zk_ws *slow, *other;
    zk_ws_message m;
    size_t size;
    int sent = 0;
    may_read = false;
    cr_assert_ok(open_path("/stubborn", (zk_ws_options){0}, &slow));
    cr_assert_ok(open_path("/loop", (zk_ws_options){0}, &other));
    ZK_WITHIN(ZK_MS(20)) {
        while (zk_ws_send(slow, ZK_WS_BINARY, large, 100000) >= 0)
            sent++;
    }
    cr_assert(sent > 2 && sent < 100, "%d", sent);
    echo_one(other, "hi", 2, ZK_WS_TEXT);
    may_read = true;
    for (int i = 0; i < sent; i++) {
        cr_assert_rc(zk_ws_recv(slow, &m), 1);
        memcpy(&size, m.data, sizeof size);
        cr_assert_eq(size, 100000u);
    }
    cr_assert_ok(zk_ws_send(slow, ZK_WS_BINARY, large, sizeof large));
    cr_assert_rc(zk_ws_recv(slow, &m), 1);
    memcpy(&size, m.data, sizeof size);
    cr_assert_eq(size, sizeof large);
    cr_assert_ok(zk_ws_close(slow, 1000, NULL));
    cr_assert_ok(zk_ws_close(other, 1000, NULL));
    zk_ws_free(slow);
    zk_ws_free(other);
}

/* A receive that is cut off takes nothing. */
H2_TEST(a_receive_that_is_cut_off)
{
    zk_ws *ws;
    zk_ws_message m;
    cr_assert_ok(open_path("/loop", (zk_ws_options){0}, &ws));
    ZK_WITHIN(ZK_MS(5))
        cr_assert_rc(zk_ws_recv(ws, &m), -ETIMEDOUT);
    ZK_SCOPE(scope) {
        zk_scope_cancel(&scope);
        cr_assert_rc(zk_ws_recv(ws, &m), -ECANCELED);
    }
    echo_one(ws, "hi", 2, ZK_WS_TEXT);
    cr_assert_ok(zk_ws_close(ws, 0, NULL));
    cr_assert_eq(zk_ws_close_code(ws), 1005);
    zk_ws_free(ws);
}

/* The server's stop, and its errors, are told by the code. */
H2_TEST(the_servers_end)
{
    zk_ws *ws;
    zk_ws_message m;
    cr_assert_ok(open_path("/breaks", (zk_ws_options){0}, &ws));
    cr_assert_rc(zk_ws_recv(ws, &m), 1);
    cr_assert_ok(zk_ws_send_text(ws, "go"));
    cr_assert_rc(zk_ws_recv(ws, &m), 0);
    cr_assert_eq(zk_ws_close_code(ws), 1011);
    zk_ws_free(ws);
    cr_assert_ok(open_path("/loop", (zk_ws_options){0}, &ws));
    zk_serving_drain(x.s.serving);
    cr_assert_rc(zk_ws_recv(ws, &m), 0);
    cr_assert_eq(zk_ws_close_code(ws), 1001);
    zk_ws_free(ws);
}

/* What a handler that does not accept answers is the error. */
H2_TEST(refusals)
{
    zk_ws *ws;
    static const char *const paths[] = {"/hello", "/none"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        cr_assert_rc(open_path(paths[i], (zk_ws_options){0}, &ws), ZK_E_WS_HANDSHAKE);
        cr_assert(strstr(zk_trail(), i ? "404" : "extension") || !i, "%s", zk_trail());
    }
    static const zk_header origin[] = {{"Origin", "http://other"}, {0}};
    cr_assert_rc(open_path("/loop", (zk_ws_options){.headers = origin}, &ws), ZK_E_WS_HANDSHAKE);
    cr_assert(strstr(zk_trail(), "403"), "%s", zk_trail());
    cr_assert_eq(opened(), 1u);
}

/* A client that wants no HTTP/2 has none. */
H2_TEST(can_be_declined, .no_h2 = true)
{
    zk_ws *ws;
    cr_assert_ok(open_path("/loop", (zk_ws_options){0}, &ws));
    echo_one(ws, "hi", 2, ZK_WS_TEXT);
    cr_assert_eq(version_of_last, 11);
    cr_assert_ok(zk_ws_close(ws, 1000, NULL));
    zk_ws_free(ws);
}

/* Without a client HTTP/1.1 is spoken, also if the configuration offers more. */
H2_TEST(without_a_client_it_is_http1)
{
    static const char *const both[] = {"h2", "http/1.1", NULL};
    char url[128];
    zk_tls *tls;
    zk_ws *ws;
    x.trust.alpn = both;
    cr_assert_ok(zk_tls_client_new(&x.trust, &tls));
    snprintf(url, sizeof url, "wss://127.0.0.1:%u/loop", zk_addr_port(&x.s.addr));
    cr_assert_ok(zk_ws_connect(url, &(zk_ws_options){.tls = tls}, &ws));
    echo_one(ws, "hi", 2, ZK_WS_TEXT);
    cr_assert_eq(version_of_last, 11);
    cr_assert_ok(zk_ws_close(ws, 1000, NULL));
    zk_ws_free(ws);
    zk_tls_free(tls);
}

/* Sockets that are given up as they are leave nothing behind. */
H2_TEST(given_up_at_any_time)
{
    zk_ws *ws;
    for (int i = 0; i < 10; i++) {
        cr_assert_ok(open_path(i % 2 ? "/loop" : "/parked", (zk_ws_options){0}, &ws));
        if (i % 3) cr_assert_ok(zk_ws_send_text(ws, "hi"));
        if (i % 3 == 2) settle();
        zk_ws_free(ws);
    }
    settle();
    cr_assert_eq(opened(), 1u);
    cr_assert_ok(open_path("/loop", (zk_ws_options){0}, &ws));
    zk_ws_free(ws);
}

/* ---- a client in memory, and without TLS ---- */

/* The server of a client in memory has WebSockets as well. */
ZK_ASYNC_TEST(ws_client_h2, in_memory)
{
    zk_server config = {.routes = routes};
    zk_ws *ws;
    cr_assert_ok(zk_client_new(&(zk_client_options){.server = &config}, &x.c));
    static const char *const urls[] = {"ws://any/loop", "wss://other/parked"};
    for (size_t i = 0; i < ROWS(urls); i++) {
        cr_assert_ok(zk_ws_connect(urls[i], &(zk_ws_options){.client = x.c}, &ws));
        echo_one(ws, "hi", 2, ZK_WS_TEXT);
        cr_assert_ok(zk_ws_close(ws, 1000, NULL));
        zk_ws_free(ws);
    }
    zk_client_free(x.c);
}

/* A client that knows that servers speak HTTP/2 in plain has WebSockets so as well. */
ZK_ASYNC_TEST(ws_client_h2, in_plain)
{
    char url[128];
    zk_ws *ws;
    ZK_SCOPE(scope) {
        server_start(&x.s, &scope, &(zk_server){.routes = routes});
        cr_assert_ok(zk_client_new(&(zk_client_options){.h2c = true}, &x.c));
        snprintf(url, sizeof url, "ws://127.0.0.1:%u/loop", zk_addr_port(&x.s.addr));
        cr_assert_ok(zk_ws_connect(url, &(zk_ws_options){.client = x.c}, &ws));
        echo_one(ws, "hi", 2, ZK_WS_TEXT);
        cr_assert_eq(version_of_last, 20);
        cr_assert_ok(zk_ws_close(ws, 1000, NULL));
        zk_ws_free(ws);
        zk_client_free(x.c);
        server_stop(&x.s);
    }
}

/* ---- a server that says what it is told to ---- */

typedef struct scripted {
    zk_listener *listener;
    zk_tls *tls;
    unsigned port;
    const char *settings; /* frames at the beginning; each is sent whole */
    size_t settings_size;
    const char *answer; /* to the first HEADERS */
    size_t answer_size;
    int connections, http1;
} scripted;

/* HTTP/1.1 is agreed to, and then closed. */
static void scripted_http1(scripted *s, zk_stream *stream)
{
    char request[2048] = {0}, accept[ZK__WS_ACCEPT_BYTES + 1] = {0}, text[512];
    size_t size = 0;
    s->http1++;
    while (!strstr(request, "\r\n\r\n")) {
        ssize_t n = zk_stream_read(stream, request + size, sizeof request - 1 - size);
        if (n <= 0) return;
        size += (size_t)n;
    }
    zk__ws_accept_key(strstr(request, "Sec-WebSocket-Key: ") + 19, accept);
    snprintf(text, sizeof text,
             "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n\x88\x02\x03\xe8",
             accept);
    cr_assert_ok(zk_stream_write(stream, text, strlen(text)));
    while (zk_stream_read(stream, request, sizeof request) > 0)
        continue;
}

static void scripted_http2(scripted *s, zk_stream *stream)
{
    char buf[4096];
    size_t have = 0, at = 24; /* behind the preface */
    bool has_answered = false;
    if (s->settings_size && zk_stream_write(stream, s->settings, s->settings_size) < 0) return;
    for (;;) {
        while (have >= at + 9 && !has_answered) {
            const uint8_t *h = (const uint8_t *)buf + at;
            at += 9u + ((size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2]);
            if (h[3] != 1) continue;
            has_answered = true;
            if (s->answer_size && zk_stream_write(stream, s->answer, s->answer_size) < 0) return;
        }
        if (have == sizeof buf) return;
        ssize_t n = zk_stream_read(stream, buf + have, sizeof buf - have);
        if (n <= 0) return;
        have += (size_t)n;
    }
}

typedef struct scripted_conn {
    scripted *s;
    zk_stream *inner;
} scripted_conn;

static int scripted_serve(void *arg)
{
    const scripted_conn *c = arg;
    zk_stream *stream;
    zk_tls_info info;
    cr_assert_ok(zk_tls_accept(c->s->tls, c->inner, &stream));
    cr_assert_ok(zk_tls_info_get(stream, &info));
    if (info.alpn.size == 2) {
        scripted_http2(c->s, stream);
    } else {
        scripted_http1(c->s, stream);
    }
    zk_stream_close(stream);
    return 0;
}

static int scripted_run(void *arg)
{
    ZK_SCOPE(scope) {
        scripted_conn c = {.s = arg};
        while (zk_accept(c.s->listener, &c.inner) >= 0) {
            c.s->connections++;
            cr_assert_ok(zk_spawn(&scope, scripted_serve, &c));
        }
    }
    return 0;
}

#define SETTINGS_NONE "\0\0\0\4\0\0\0\0\0"
#define SETTINGS_CONNECT "\0\0\6\4\0\0\0\0\0\0\x8\0\0\0\1"
#define SETTINGS_OFF "\0\0\6\4\0\0\0\0\0\0\x8\0\0\0\0"
#define HEADERS_200 "\0\0\1\1\4\0\0\0\1\x88"
#define HEADERS_200_END "\0\0\1\1\5\0\0\0\1\x88"
#define HEADERS_302                                                                                \
    "\0\0\5\1\4\0\0\0\1\x08\x03"                                                                   \
    "302"
#define HEADERS_101                                                                                \
    "\0\0\5\1\4\0\0\0\1\x08\x03"                                                                   \
    "101"
#define RST(code) "\0\0\4\3\0\0\0\0\1\0\0\0" code
#define GOAWAY "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define BYTES(s) (s), sizeof(s) - 1

typedef struct scripted_row {
    const char *name, *settings;
    size_t settings_size;
    const char *answer;
    size_t answer_size;
    int rc, then; /* of connecting; of receiving */
    int connections, http1;
} scripted_row;

static const scripted_row scripted_rows[] = {
    {"agreed, and closed", BYTES(SETTINGS_CONNECT),
     BYTES(HEADERS_200 "\0\0\4\0\0\0\0\0\1\x88\x02\x03\xe8"), 0, 0, 1, 0},
    {"agreed, and ended", BYTES(SETTINGS_CONNECT), BYTES(HEADERS_200_END), 0, ZK_E_CLOSED, 1, 0},
    {"agreed, and reset", BYTES(SETTINGS_CONNECT), BYTES(HEADERS_200 RST("\x8")), 0, ZK_E_CLOSED, 1,
     0},
    {"agreed, and not the protocol", BYTES(SETTINGS_CONNECT),
     BYTES(HEADERS_200 "\0\0\2\0\0\0\0\0\1\x83\x00"), 0, ZK_E_WS_PROTOCOL, 1, 0},
    {"without the setting", BYTES(SETTINGS_NONE), BYTES(""), 0, 0, 2, 1},
    {"with it off", BYTES(SETTINGS_OFF), BYTES(""), 0, 0, 2, 1},
    {"a redirect", BYTES(SETTINGS_CONNECT), BYTES(HEADERS_302), ZK_E_WS_HANDSHAKE, 0, 1, 0},
    {"an answer of HTTP/1.1", BYTES(SETTINGS_CONNECT), BYTES(HEADERS_101), ZK_E_HTTP_SYNTAX, 0, 1,
     0},
    {"reset", BYTES(SETTINGS_CONNECT), BYTES(RST("\x2")), ZK_E_CLOSED, 0, 1, 0},
    {"a protocol error", BYTES(SETTINGS_CONNECT), BYTES(RST("\x1")), ZK_E_HTTP_SYNTAX, 0, 1, 0},
    {"refused before it began: asked again, in vain", BYTES(SETTINGS_CONNECT), BYTES(RST("\x7")),
     ZK_E_WS_TIMEOUT, 0, 1, 0},
    {"not HTTP/2", BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), BYTES(""), ZK_E_HTTP_VERSION, 0, 1,
     0},
    {"silent", BYTES(""), BYTES(""), ZK_E_WS_TIMEOUT, 0, 1, 0},
    {"silent then", BYTES(SETTINGS_CONNECT), BYTES(""), ZK_E_WS_TIMEOUT, 0, 1, 0},
};

static void scripted_row_run(scripted *s, const scripted_row *row)
{
    zk_ws *ws;
    zk_ws_message m;
    zk_client_options options = {.tls = &x.trust};
    s->settings = row->settings;
    s->settings_size = row->settings_size;
    s->answer = row->answer;
    s->answer_size = row->answer_size;
    s->connections = s->http1 = 0;
    cr_assert_ok(zk_client_new(&options, &x.c));
    ZK_SCOPE(scope) {
        cr_assert_ok(
            zk_spawn_with(&scope, &(zk_spawn_options){.is_pinned = true}, scripted_run, s));
        int rc = open_port(s->port, "/", (zk_ws_options){.connect_timeout_ms = 200}, &ws);
        cr_assert_rc(rc, row->rc, "%s: %s", row->name, zk_trail());
        if (!rc) {
            cr_assert_rc(zk_ws_recv(ws, &m), row->then, "%s", row->name);
            zk_ws_free(ws);
        }
        cr_assert_eq(s->connections, row->connections, "%s: %d", row->name, s->connections);
        cr_assert_eq(s->http1, row->http1, "%s", row->name);
        zk_client_free(x.c);
        zk_scope_cancel(&scope);
    }
}

ZK_ASYNC_TEST(ws_client_h2, answers)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    static scripted s;
    zk_addr addr;
    certificates_make();
    x.tls.alpn = alpn;
    cr_assert_ok(zk_tls_server_new(&x.tls, &s.tls));
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &s.listener));
    cr_assert_ok(zk_listener_addr(s.listener, &addr));
    s.port = zk_addr_port(&addr);
    for (size_t i = 0; i < ROWS(scripted_rows); i++)
        scripted_row_run(&s, &scripted_rows[i]);
    zk_listener_close(s.listener);
    zk_tls_free(s.tls);
}

/* Who is cancelled while connecting leaves nothing behind. */
ZK_ASYNC_TEST(ws_client_h2, a_connect_that_is_cut_off)
{
    static const char *const alpn[] = {"h2", NULL};
    static scripted s;
    zk_addr addr;
    zk_ws *ws;
    certificates_make();
    x.tls.alpn = alpn;
    cr_assert_ok(zk_tls_server_new(&x.tls, &s.tls));
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &s.listener));
    cr_assert_ok(zk_listener_addr(s.listener, &addr));
    s.port = zk_addr_port(&addr);
    for (int with_settings = 0; with_settings < 2; with_settings++) {
        s.settings = SETTINGS_CONNECT;
        s.settings_size = with_settings ? sizeof SETTINGS_CONNECT - 1 : 0;
        cr_assert_ok(zk_client_new(&(zk_client_options){.tls = &x.trust}, &x.c));
        ZK_SCOPE(scope) {
            cr_assert_ok(
                zk_spawn_with(&scope, &(zk_spawn_options){.is_pinned = true}, scripted_run, &s));
            ZK_WITHIN(ZK_MS(100))
                cr_assert_rc(open_port(s.port, "/", (zk_ws_options){0}, &ws), -ETIMEDOUT);
            zk_client_free(x.c);
            zk_scope_cancel(&scope);
        }
    }
    zk_listener_close(s.listener);
    zk_tls_free(s.tls);
}
