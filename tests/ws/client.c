/*
 * The client's side: what it asks for, which answers it accepts, and conversations with a server of
 * ours over real sockets.
 */
#include "tests/ws/talk.h"

#include "ws/handshake.h"

/* ---- a server that says what it is told to ---- */

typedef struct scripted {
    zk_listener *listener;
    const char *answer; /* "$" stands for the right Sec-WebSocket-Accept */
    char request[2048];
    char url[256];
    zk_scope *scope;
} scripted;

static int scripted_run(void *arg)
{
    scripted *s = arg;
    zk_stream *stream;
    size_t size = 0;
    cr_assert_ok(zk_accept(s->listener, &stream));
    while (!strstr(s->request, "\r\n\r\n")) {
        ssize_t n = zk_stream_read(stream, s->request + size, sizeof s->request - 1 - size);
        if (n <= 0) break;
        size += (size_t)n;
        s->request[size] = '\0';
    }
    const char *key = strstr(s->request, "Sec-WebSocket-Key: ");
    char accept[ZK__WS_ACCEPT_BYTES + 1] = {0};
    if (key) zk__ws_accept_key(key + 19, accept);
    const char *dollar = strchr(s->answer, '$');
    size_t before = dollar ? (size_t)(dollar - s->answer) : strlen(s->answer);
    int rc = zk_stream_write(stream, s->answer, before);
    if (dollar && !rc) rc = zk_stream_write(stream, accept, ZK__WS_ACCEPT_BYTES);
    if (dollar && !rc) rc = zk_stream_write(stream, dollar + 1, strlen(dollar + 1));
    char rest[256];
    if (!rc) rc = zk_stream_shutdown(stream);
    while (!rc && zk_stream_read(stream, rest, sizeof rest) > 0)
        continue;
    zk_stream_close(stream);
    return 0;
}

/* Connects to a server that answers so. */
static int scripted_connect(const char *answer, const zk_ws_options *options, char *ret_request,
                            zk_ws **ret_ws)
{
    static scripted s;
    zk_addr addr;
    int result = 1;
    s = (scripted){.answer = answer};
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &s.listener));
    cr_assert_ok(zk_listener_addr(s.listener, &addr));
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr_format(&addr, text);
    snprintf(s.url, sizeof s.url, "ws://%s/path?query", text);
    ZK_SCOPE(scope) {
        cr_assert_ok(zk_spawn(&scope, scripted_run, (void *)&s));
        result = zk_ws_connect(s.url, options, ret_ws);
        if (result >= 0 && !ret_request) {
            zk_ws_message m;
            cr_assert_rc(zk_ws_recv(*ret_ws, &m), ZK_E_CLOSED);
            zk_ws_free(*ret_ws);
        }
        if (ret_request) memcpy(ret_request, s.request, sizeof s.request);
    }
    zk_listener_close(s.listener);
    return result;
}

#define OK_HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: $\r\n"

ZK_ASYNC_TEST(ws_client, answers)
{
    static const char *const protocols[] = {"a", "b", NULL};
    static const zk_ws_deflate deflate = {.keeps_server_context = true};
    static const zk_ws_options none = {0};
    static const zk_ws_options some = {.protocols = protocols, .deflate = &deflate};
    static const struct {
        const char *name, *answer;
        const zk_ws_options *options;
        int rc;
    } rows[] = {
        {"as it should be", OK_HEAD ACCEPT "\r\n", &none, 0},
        {"in other cases",
         "HTTP/1.1 101 OK\r\nupgrade: WebSocket\r\nconnection: x, upgrade\r\n"
         "sec-websocket-accept: $\r\n\r\n",
         &none, 0},
        {"a hint before", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" OK_HEAD ACCEPT "\r\n", &none, 0},
        {"a subprotocol", OK_HEAD ACCEPT "Sec-WebSocket-Protocol: b\r\n\r\n", &some, 0},
        {"none of those offered", OK_HEAD ACCEPT "\r\n", &some, 0},
        {"compression", OK_HEAD ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
         &some, 0},
        {"another key", OK_HEAD "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", &none,
         ZK_E_WS_HANDSHAKE},
        {"no key", OK_HEAD "\r\n", &none, ZK_E_WS_HANDSHAKE},
        {"two keys", OK_HEAD ACCEPT "Sec-WebSocket-Accept: x\r\n\r\n", &none, ZK_E_WS_HANDSHAKE},
        {"a key and more", OK_HEAD "Sec-WebSocket-Accept: $=\r\n\r\n", &none, ZK_E_WS_HANDSHAKE},
        {"no Upgrade", "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\n" ACCEPT "\r\n", &none,
         ZK_E_HTTP_SYNTAX},
        {"something else",
         "HTTP/1.1 101 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" ACCEPT "\r\n", &none,
         ZK_E_WS_HANDSHAKE},
        {"no Connection", "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n" ACCEPT "\r\n", &none,
         ZK_E_HTTP_SYNTAX},
        {"a subprotocol that was not offered", OK_HEAD ACCEPT "Sec-WebSocket-Protocol: c\r\n\r\n",
         &some, ZK_E_WS_HANDSHAKE},
        {"one when none was", OK_HEAD ACCEPT "Sec-WebSocket-Protocol: a\r\n\r\n", &none,
         ZK_E_WS_HANDSHAKE},
        {"in another case", OK_HEAD ACCEPT "Sec-WebSocket-Protocol: A\r\n\r\n", &some,
         ZK_E_WS_HANDSHAKE},
        {"two", OK_HEAD ACCEPT "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n",
         &some, ZK_E_WS_HANDSHAKE},
        {"an extension that was not offered",
         OK_HEAD ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", &none,
         ZK_E_WS_HANDSHAKE},
        {"one that nobody knows", OK_HEAD ACCEPT "Sec-WebSocket-Extensions: x\r\n\r\n", &some,
         ZK_E_WS_HANDSHAKE},
        {"a parameter that nobody knows",
         OK_HEAD ACCEPT "Sec-WebSocket-Extensions: permessage-deflate; x\r\n\r\n", &some,
         ZK_E_WS_HANDSHAKE},
        {"200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &none, ZK_E_WS_HANDSHAKE},
        {"a redirect", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", &none,
         ZK_E_WS_HANDSHAKE},
        {"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", &none, ZK_E_WS_HANDSHAKE},
        {"no HTTP", "SSH-2.0-x\r\n\r\n", &none, ZK_E_HTTP_SYNTAX},
        {"the end", "", &none, ZK_E_CLOSED},
        {"the end within", "HTTP/1.1 101 Switch", &none, ZK_E_CLOSED},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_ws *ws = NULL;
        int rc = scripted_connect(rows[i].answer, rows[i].options, NULL, &ws);
        cr_assert_rc(rc, rows[i].rc, "%s: %s", rows[i].name, zk_trail());
        cr_assert_eq(ws != NULL, rc >= 0);
    }
}

/* What it sends is a request as RFC 6455 section 4.1 wants it. */
ZK_ASYNC_TEST(ws_client, asks_as_it_should)
{
    static const char *const protocols[] = {"one", "two", NULL};
    static const zk_header headers[] = {{"X-Token", "abc"}, {0}};
    static const zk_ws_options options = {.protocols = protocols, .headers = headers};
    static char request[2048];
    zk_ws *ws;
    cr_assert_rc(scripted_connect("", &options, request, &ws), ZK_E_CLOSED);
    char *key = strstr(request, "Sec-WebSocket-Key: ");
    cr_assert(key && zk__ws_key_is_valid((zk_str){key + 19, 24}));
    memset(key + 19, 'K', 24);
    char *host = strstr(request, "Host: 127.0.0.1:");
    cr_assert(host);
    static const char wanted[] =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
        "KKKKKKKKKKKKKKKKKKKKKKKK\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: one, "
        "two\r\nX-Token: abc\r\n\r\n";
    cr_assert(!strncmp(request, "GET /path?query HTTP/1.1\r\n", 26), "%s", request);
    cr_assert(strstr(request, wanted), "%s", request);
}

ZK_ASYNC_TEST(ws_client, what_cannot_be_asked)
{
    static const char *const bad_protocols[] = {"a b", NULL};
    static const zk_header bad_name[] = {{"a b", "c"}, {0}};
    static const zk_header bad_value[] = {{"a", "b\r\nc: d"}, {0}};
    static const zk_header ours[] = {{"sec-websocket-key", "b"}, {0}};
    static const struct {
        const char *url;
        zk_ws_options options;
        int rc;
    } rows[] = {
        {"http://127.0.0.1:1/", {0}, ZK_E_HTTP_URL},
        {"https://127.0.0.1:1/", {0}, ZK_E_HTTP_URL},
        {"127.0.0.1:1", {0}, ZK_E_HTTP_URL},
        {"ws://user@127.0.0.1:1/", {0}, ZK_E_HTTP_URL},
        {"ws://127.0.0.1:1/ ", {0}, ZK_E_HTTP_URL},
        {"ws://127.0.0.1:1/", {.protocols = bad_protocols}, ZK_E_HTTP_FIELD},
        {"ws://127.0.0.1:1/", {.headers = bad_name}, ZK_E_HTTP_FIELD},
        {"ws://127.0.0.1:1/", {.headers = bad_value}, ZK_E_HTTP_FIELD},
        {"ws://127.0.0.1:1/", {.headers = ours}, ZK_E_HTTP_FIELD},
        {"ws://127.0.0.1:1/", {0}, -ECONNREFUSED},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_ws *ws;
        cr_assert_rc(zk_ws_connect(rows[i].url, &rows[i].options, &ws), rows[i].rc, "row %zu", i);
    }
}

/* ---- with a server of ours ---- */

static void url_of(const server *s, const char *path, char *url, size_t size)
{
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr_format(&s->addr, text);
    snprintf(url, size, "ws://%s%s", text, path);
}

static const zk_ws_deflate keeping = {.keeps_server_context = true, .keeps_client_context = true};
static const zk_ws_deflate lending = {.bytes_min = 1};

static const zk_ws_options keeps = {.deflate = &keeping};

static int echo_keeping(zk_request *req, zk_response *res)
{
    return echo_loop_with(req, res, &keeps);
}

static int echo_pieces_keeping(zk_request *req, zk_response *res)
{
    return echo_pieces_with(req, res, &keeps);
}

/* Reads only the beginning of each message, and says how much. */
static int beginnings(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_type type;
    char buf[10], text[32];
    int rc = zk_ws_accept(req, res, &(zk_ws_options){.deflate = &keeping}, &ws);
    while (rc >= 0 && (rc = zk_ws_recv_begin(ws, &type)) > 0) {
        ssize_t n = zk_ws_read(ws, buf, sizeof buf);
        snprintf(text, sizeof text, "%zd %.*s", n, (int)n, buf);
        rc = zk_ws_send_text(ws, text);
    }
    return rc;
}

static const zk_route routes[] = {
    {"GET", "/loop", echo_loop, NULL},
    {"GET", "/parked", echo_parked, NULL},
    {"GET", "/pieces", echo_pieces, NULL},
    {"GET", "/keeping", echo_keeping, NULL},
    {"GET", "/pieces-keeping", echo_pieces_keeping, NULL},
    {"GET", "/beginnings", beginnings, NULL},
    {0},
};

static int echo_plain(zk_ws *ws, const char *data, size_t size, zk_ws_type type)
{
    zk_ws_message m;
    int rc = zk_ws_send(ws, type, data, size);
    if (rc >= 0) rc = zk_ws_recv(ws, &m);
    if (rc < 0) return rc;
    cr_assert(rc == 1 && m.type == type && m.size == size && !memcmp(m.data, data, size),
              "%zu bytes came back as %zu", size, m.size);
    return 0;
}

static void echo_sizes(const server *s, const char *path, const zk_ws_options *options)
{
    static const size_t sizes[] = {0,    1,    2,    63,   64,    125,   126,   127,
                                   1000, 4000, 8192, 9000, 65535, 65536, 300000};
    char url[256];
    zk_ws *ws;
    char *data = malloc(300000), *text = malloc(300000);
    for (size_t i = 0; i < 300000; i++) {
        data[i] = (char)(i * 2654435761u >> 24);
        text[i] = "lorem ipsum dolor "[i % 18];
    }
    url_of(s, path, url, sizeof url);
    cr_assert_ok(zk_ws_connect(url, options, &ws));
    for (size_t i = 0; i < ROWS(sizes); i++) {
        cr_assert_ok(echo_plain(ws, data, sizes[i], ZK_WS_BINARY));
        cr_assert_ok(echo_plain(ws, text, sizes[i], ZK_WS_TEXT));
    }
    cr_assert_ok(zk_ws_close(ws, 1000, "done"));
    cr_assert_eq(zk_ws_close_code(ws), 1000);
    cr_assert_rc(zk_ws_send_text(ws, "late"), ZK_E_CLOSED);
    zk_ws_free(ws);
    free(data);
    free(text);
}

ZK_ASYNC_TEST(ws_client, echoes_of_all_sizes)
{
    static const char *const paths[] = {"/loop", "/parked", "/pieces", "/keeping",
                                        "/pieces-keeping"};
    static zk_ws_options own = {.deflate = &lending};
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        for (size_t i = 0; i < ROWS(paths); i++) {
            echo_sizes(&s, paths[i], NULL);
            echo_sizes(&s, paths[i], &own);
            echo_sizes(&s, paths[i], &(zk_ws_options){.deflate = &keeping});
        }
        server_stop(&s);
    }
}

/* What is left of a message is skipped, compressed or not. */
ZK_ASYNC_TEST(ws_client, messages_that_are_not_read_to_their_end)
{
    static const zk_ws_options kinds[] = {{0}, {.deflate = &keeping}, {.deflate = &lending}};
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        for (size_t i = 0; i < ROWS(kinds); i++) {
            char url[256], text[5000];
            zk_ws *ws;
            zk_ws_message m;
            url_of(&s, "/beginnings", url, sizeof url);
            cr_assert_ok(zk_ws_connect(url, &kinds[i], &ws));
            for (int round = 0; round < 5; round++) {
                memset(text, 'a' + round, sizeof text);
                cr_assert_ok(zk_ws_send(ws, ZK_WS_TEXT, text, round == 3 ? 4 : sizeof text));
                cr_assert_rc(zk_ws_recv(ws, &m), 1);
                char wanted[32];
                snprintf(wanted, sizeof wanted, "%d %.*s", round == 3 ? 4 : 10, round == 3 ? 4 : 10,
                         text);
                cr_assert(m.size == strlen(wanted) && !memcmp(m.data, wanted, m.size), "%.*s",
                          (int)m.size, m.data);
            }
            cr_assert_ok(zk_ws_close(ws, 1000, NULL));
            zk_ws_free(ws);
        }
        server_stop(&s);
    }
}

/* A socket that has said something, and been answered. */
static zk_ws *greeted(const server *s, const char *path)
{
    char url[256];
    zk_ws *ws;
    url_of(s, path, url, sizeof url);
    cr_assert_ok(zk_ws_connect(url, NULL, &ws));
    cr_assert_ok(echo_plain(ws, "hi", 2, ZK_WS_TEXT));
    return ws;
}

static void expect_going_away(zk_ws *ws)
{
    zk_ws_message m;
    cr_assert_rc(zk_ws_recv(ws, &m), 0);
    cr_assert_eq(zk_ws_close_code(ws), 1001);
    zk_ws_free(ws);
}

/* A server that stops closes its clients with 1001, parked or not, and they answer. */
ZK_ASYNC_TEST(ws_client, a_server_that_stops)
{
    static const char *const paths[] = {"/loop", "/parked", "/pieces"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        ZK_SCOPE(scope) {
            server s;
            server_start(&s, &scope, &(zk_server){.routes = routes});
            zk_ws *ws = greeted(&s, paths[i]);
            zk_serving_drain(s.serving);
            expect_going_away(ws);
            server_stop(&s);
        }
    }
}

/* One that is cancelled says so, too, but waits for no answer. */
ZK_ASYNC_TEST(ws_client, a_server_that_is_cancelled)
{
    static const char *const paths[] = {"/loop", "/pieces"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        ZK_SCOPE(scope) {
            server s;
            server_start(&s, &scope, &(zk_server){.routes = routes});
            ZK_SHIELD {
                zk_ws *ws = greeted(&s, paths[i]);
                zk_scope_cancel(&scope);
                expect_going_away(ws);
            }
        }
    }
}

/* A cancelled receive takes nothing. */
ZK_ASYNC_TEST(ws_client, a_cancelled_receive)
{
    ZK_SCOPE(scope) {
        server s;
        char url[256];
        zk_ws *ws;
        zk_ws_message m;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        url_of(&s, "/loop", url, sizeof url);
        cr_assert_ok(zk_ws_connect(url, NULL, &ws));
        ZK_WITHIN(ZK_MS(5))
            cr_assert_rc(zk_ws_recv(ws, &m), -ETIMEDOUT);
        cr_assert_ok(echo_plain(ws, "hi", 2, ZK_WS_TEXT));
        cr_assert_ok(zk_ws_close(ws, 0, NULL));
        cr_assert_eq(zk_ws_close_code(ws), 1005);
        zk_ws_free(ws);
        server_stop(&s);
    }
}
