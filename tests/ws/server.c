/*
 * A server's WebSockets over a wire: the handshake, conversations, the ends, deadlines.
 */
#include "tests/ws/talk.h"

/* ---- the handshake ---- */

static int accept_plain(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    if (rc < 0) return rc;
    zk_ws_message m;
    return zk_ws_recv(ws, &m);
}

static int accept_protocols(zk_request *req, zk_response *res)
{
    static const char *const protocols[] = {"chat.v2", "chat", NULL};
    static const char *const origins[] = {"https://example.org", "null", NULL};
    zk_ws *ws;
    int rc =
        zk_ws_accept(req, res, &(zk_ws_options){.protocols = protocols, .origins = origins}, &ws);
    if (rc < 0) return rc;
    zk_ws_message m;
    return zk_ws_recv(ws, &m);
}

static int accept_any(zk_request *req, zk_response *res)
{
    static const char *const origins[] = {"*", NULL};
    zk_ws *ws;
    int rc = zk_response_header(res, "X-Own", "yes");
    if (rc >= 0) rc = zk_ws_accept(req, res, &(zk_ws_options){.origins = origins}, &ws);
    if (rc < 0) return rc;
    zk_ws_message m;
    return zk_ws_recv(ws, &m);
}

static const zk_route handshake_routes[] = {
    {"GET", "/ws", accept_plain, NULL},
    {"POST", "/ws", accept_plain, NULL},
    {"GET", "/protocols", accept_protocols, NULL},
    {"GET", "/any", accept_any, NULL},
    {0},
};

#define HEAD(path) "GET " path " HTTP/1.1\r\nHost: a\r\n"
#define UP "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define REQUIRED                                                                                   \
    "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 21\r\n" TEXT_TYPE                            \
    "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"               \
    "426 Upgrade Required\n"
#define BAD PAGE("16", "400 Bad Request")
#define FORBIDDEN PAGE("14", "403 Forbidden")

ZK_HTTP_TEST(ws_server, handshakes, .routes = handshake_routes)
{
    static const exchange_row rows[] = {
        {"as it is in the RFC", HEAD("/ws") UP KEY VERSION "\r\n", SWITCHED "\r\n", false},
        {"names in small letters",
         "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
         "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
         SWITCHED "\r\n", false},
        {"in capitals",
         HEAD("/ws") "Upgrade: WebSocket\r\nConnection: UPGRADE\r\n" KEY VERSION "\r\n",
         SWITCHED "\r\n", false},
        {"among other options of the connection",
         HEAD("/ws") "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" KEY VERSION "\r\n",
         SWITCHED "\r\n", false},
        {"among other protocols",
         HEAD("/ws") "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n" KEY VERSION "\r\n",
         SWITCHED "\r\n", false},
        {"an extension that nobody knows",
         HEAD("/ws") UP KEY VERSION "Sec-WebSocket-Extensions: x-none; a=1\r\n\r\n",
         SWITCHED "\r\n", false},
        {"a subprotocol that nobody knows",
         HEAD("/ws") UP KEY VERSION "Sec-WebSocket-Protocol: x\r\n\r\n", SWITCHED "\r\n", false},
        {"no Upgrade", HEAD("/ws") KEY VERSION "\r\n", REQUIRED, false},
        {"another protocol",
         HEAD("/ws") "Upgrade: h2c\r\nConnection: Upgrade\r\n" KEY VERSION "\r\n", REQUIRED, false},
        {"a longer one",
         HEAD("/ws") "Upgrade: websocket2\r\nConnection: Upgrade\r\n" KEY VERSION "\r\n", REQUIRED,
         false},
        {"not in Connection", HEAD("/ws") "Upgrade: websocket\r\n" KEY VERSION "\r\n", REQUIRED,
         false},
        {"no version", HEAD("/ws") UP KEY "\r\n", REQUIRED, false},
        {"an old version", HEAD("/ws") UP KEY "Sec-WebSocket-Version: 8\r\n\r\n", REQUIRED, false},
        {"a later one", HEAD("/ws") UP KEY "Sec-WebSocket-Version: 14\r\n\r\n", REQUIRED, false},
        {"two versions", HEAD("/ws") UP KEY VERSION VERSION "\r\n", REQUIRED, false},
        {"a list of versions", HEAD("/ws") UP KEY "Sec-WebSocket-Version: 13, 8\r\n\r\n", REQUIRED,
         false},
        {"no key", HEAD("/ws") UP VERSION "\r\n", BAD, false},
        {"an empty key", HEAD("/ws") UP VERSION "Sec-WebSocket-Key: \r\n\r\n", BAD, false},
        {"a short key", HEAD("/ws") UP VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n", BAD,
         false},
        {"a long key",
         HEAD("/ws") UP VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBub25jZQ==\r\n\r\n", BAD,
         false},
        {"not base64", HEAD("/ws") UP VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2?jZQ==\r\n\r\n",
         BAD, false},
        {"bits beyond the key",
         HEAD("/ws") UP VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n", BAD, false},
        {"not padded", HEAD("/ws") UP VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n\r\n",
         BAD, false},
        {"two keys", HEAD("/ws") UP VERSION KEY KEY "\r\n", BAD, false},
        {"another method",
         "POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" UP KEY VERSION "\r\n",
         PAGE("23", "405 Method Not Allowed"), false},
        {"HTTP/1.0", "GET /ws HTTP/1.0\r\nHost: a\r\n" UP KEY VERSION "\r\n",
         "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 21\r\nConnection: close\r\n" TEXT_TYPE
         "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
         "426 Upgrade Required\n",
         true},
        {"no route", HEAD("/none") UP KEY VERSION "\r\n", PAGE("14", "404 Not Found"), false},
        {"the page's own origin", HEAD("/ws") UP KEY VERSION "Origin: http://a\r\n\r\n",
         SWITCHED "\r\n", false},
        {"with TLS in front of us", HEAD("/ws") UP KEY VERSION "Origin: https://A\r\n\r\n",
         SWITCHED "\r\n", false},
        {"another origin", HEAD("/ws") UP KEY VERSION "Origin: http://b\r\n\r\n", FORBIDDEN, false},
        {"another port", HEAD("/ws") UP KEY VERSION "Origin: http://a:81\r\n\r\n", FORBIDDEN,
         false},
        {"a longer host", HEAD("/ws") UP KEY VERSION "Origin: http://a.b\r\n\r\n", FORBIDDEN,
         false},
        {"no origin at all, but the field", HEAD("/ws") UP KEY VERSION "Origin: null\r\n\r\n",
         FORBIDDEN, false},
        {"an origin on the list",
         HEAD("/protocols") UP KEY VERSION "Origin: https://example.org\r\n\r\n", SWITCHED "\r\n",
         false},
        {"null on the list", HEAD("/protocols") UP KEY VERSION "Origin: null\r\n\r\n",
         SWITCHED "\r\n", false},
        {"none on the list", HEAD("/protocols") UP KEY VERSION "Origin: http://a\r\n\r\n",
         FORBIDDEN, false},
        {"its other scheme", HEAD("/protocols") UP KEY VERSION "Origin: http://example.org\r\n\r\n",
         FORBIDDEN, false},
        {"any origin", HEAD("/any") UP KEY VERSION "Origin: http://b\r\n\r\n",
         SWITCHED "X-Own: yes\r\n\r\n", false},
        {"a subprotocol", HEAD("/protocols") UP KEY VERSION "Sec-WebSocket-Protocol: chat\r\n\r\n",
         SWITCHED "Sec-WebSocket-Protocol: chat\r\n\r\n", false},
        {"the server's preference",
         HEAD("/protocols") UP KEY VERSION "Sec-WebSocket-Protocol: x, chat, chat.v2\r\n\r\n",
         SWITCHED "Sec-WebSocket-Protocol: chat.v2\r\n\r\n", false},
        {"in two fields",
         HEAD("/protocols") UP KEY VERSION
         "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
         SWITCHED "Sec-WebSocket-Protocol: chat\r\n\r\n", false},
        {"in capitals it is another",
         HEAD("/protocols") UP KEY VERSION "Sec-WebSocket-Protocol: CHAT\r\n\r\n", SWITCHED "\r\n",
         false},
        {"a part of one", HEAD("/protocols") UP KEY VERSION "Sec-WebSocket-Protocol: cha\r\n\r\n",
         SWITCHED "\r\n", false},
    };
    exchange_row fixed[ROWS(rows)];
    memcpy(fixed, rows, sizeof rows);
    /* The fields of the response come in front of the handshake's own. */
    for (size_t i = 0; i < ROWS(fixed); i++) {
        if (!strcmp(fixed[i].name, "any origin")) {
            fixed[i].out = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
                           "websocket\r\nX-Own: yes\r\nSec-WebSocket-Accept: "
                           "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        }
    }
    exchange_rows_run(f, fixed, ROWS(fixed), 0);
    exchange_rows_run(f, fixed, ROWS(fixed), 7);
}

/* A body would be read as frames. */
ZK_HTTP_TEST(ws_server, a_request_with_a_body_is_refused, .routes = handshake_routes)
{
    wire w;
    wire_open(&w, f);
    wire_send(&w, HEAD("/ws") UP KEY VERSION "Content-Length: 2\r\n\r\nab");
    wire_collect(&w);
    common_fields_strip(w.text, &w.size);
    cr_assert(!strncmp(w.text, "HTTP/1.1 400 ", 13), "%s", w.text);
    wire_close(&w);
}

/* ---- conversations ---- */

static const talk_row talk[] = {
    {"nothing", "", "", false},
    {"a text", "T:hello", "T:hello", false},
    {"an empty one", "T:", "T:", false},
    {"binary", "B:\x01\x02", "B:\x01\x02", false},
    {"several at once", "T:a B:b T:c", "T:a B:b T:c", false},
    {"an empty text behind others", "T:a B:b T: T:", "T:a B:b T: T:", false},
    {"one that is no text behind one", "T:a T:b\xff", "T:a X:1007", true},
    {"one that is cut behind one", "T:a T:\xe2\x82", "T:a X:1007", true},
    {"a close behind many short ones", "B:a B:b B:c B:d X:1000", "B:a B:b B:c B:d X:1000", true},
    {"fragments", "t:he c:l C:lo", "T:hello", false},
    {"a ping", "P:x", "O:x", false},
    {"an empty ping", "P:", "O:", false},
    {"a ping between", "t:a P:x C:b", "O:x T:ab", false},
    {"a pong is not answered", "O:x T:a", "T:a", false},
    {"many pings", "P:1 P:2 P:3 P:4", "O:1 O:2 O:3 O:4", false},
    {"125", "T*125", "T*125", false},
    {"126", "T*126", "T*126", false},
    {"5000", "B*5000", "B*5000", false},
    {"9000, which is lent", "B*9000", "B*9000", false},
    {"65535", "T*65535", "T*65535", false},
    {"65536", "T*65536", "T*65536", false},
    {"large ones behind each other", "B*70000 T:a B*100000 T:b", "B*70000 T:a B*100000 T:b", false},
    {"large fragments", "b*40000 c*40000 C*40000", "B*120000", false},
    {"as large as is allowed", "B*131072", "B*131072", false},
    {"one more", "B*131073", "X:1009", true},
    {"one more, in fragments", "b*131072 C:a", "X:1009", true},
    {"behind what is right", "T:a B*131073", "T:a X:1009", true},
    {"a close", "X:", "X:", true},
    {"1000", "X:1000", "X:1000", true},
    {"with a reason", "X:1000,bye", "X:1000", true},
    {"1001", "X:1001", "X:1001", true},
    {"3000", "X:3000", "X:3000", true},
    {"4999", "X:4999", "X:4999", true},
    {"a close behind messages", "T:a T:b X:1000", "T:a T:b X:1000", true},
    {"messages behind a close", "X:1000 T:a", "X:1000", true},
    {"a ping behind one", "X:1000 P:a", "X:1000", true},
    {"two closes", "X:1000 X:1001", "X:1000", true},
    {"a close within a message", "t:a X:1000", "X:1000", true},
    {"a code that must not be sent", "X:1005", "X:1002", true},
    {"another", "X:1006", "X:1002", true},
    {"the third", "X:1015", "X:1002", true},
    {"0", "X:0", "X:1002", true},
    {"999", "X:999", "X:1002", true},
    {"5000", "X:5000", "X:1002", true},
    {"a reason that is no text", "X:1000,\xff", "X:1007", true},
    {"no mask", "=810161", "X:1002", true},
    {"a reserved bit", "=9180", "X:1002", true},
    {"RSV1", "Z:a", "X:1002", true},
    {"an opcode", "=8380", "X:1002", true},
    {"the last opcode", "=8f80", "X:1002", true},
    {"a long ping", "P*126", "X:1002", true},
    {"a ping in fragments", "=0980", "X:1002", true},
    {"nothing to continue", "C:a", "X:1002", true},
    {"a message in another", "t:a T:b", "X:1002", true},
    {"a length that is too long", "=82fe000100000000", "X:1002", true},
    {"a huge one", "=82ff7fffffffffffffff00000000", "X:1009", true},
    {"a text that is none", "T:\xff", "X:1007", true},
    {"one that is cut", "T:\xe2\x82", "X:1007", true},
    {"a character over two fragments", "t:\xe2\x82 C:\xac", "T:€", false},
    {"one that does not go on", "t:\xe2\x82 C:a", "X:1007", true},
    {"messages before an error arrive", "T:a T:b =8380", "T:a T:b X:1002", true},
    {"what follows an error is not read", "=8380 T:a", "X:1002", true},
    {"too many fragments", "t: c: c: c: c: c: c: c: c: c: c: c: c: c: c: c: c:", "X:1008", true},
};

static const zk_ws_options small = {
    .message_bytes_max = 131072,
    .stream_bytes_max = 131072,
    .fragments_max = 16,
};

static __attribute__((constructor)) void options_begin(void) { echo_options = &small; }

ZK_HTTP_TEST(ws_server, talk_in_a_loop, .routes = echo_routes)
{
    talk_rows(f, "/loop", talk, ROWS(talk), 0);
}
ZK_HTTP_TEST(ws_server, talk_in_a_loop_in_pieces, .routes = echo_routes)
{
    talk_rows(f, "/loop", talk, ROWS(talk), 1001);
}
ZK_HTTP_TEST(ws_server, talk_parked, .routes = echo_routes)
{
    talk_rows(f, "/parked", talk, ROWS(talk), 0);
}
ZK_HTTP_TEST(ws_server, talk_parked_in_pieces, .routes = echo_routes)
{
    talk_rows(f, "/parked", talk, ROWS(talk), 1001);
}

/* Short rows byte by byte. */
static void talk_bytes(fixture *f, const char *path)
{
    for (size_t i = 0; i < ROWS(talk); i++) {
        if (!strchr(talk[i].in, '*')) talk_rows(f, path, &talk[i], 1, 1);
    }
}
ZK_HTTP_TEST(ws_server, talk_in_a_loop_byte_by_byte, .routes = echo_routes)
{
    talk_bytes(f, "/loop");
}
ZK_HTTP_TEST(ws_server, talk_parked_byte_by_byte, .routes = echo_routes)
{
    talk_bytes(f, "/parked");
}

/* In pieces messages come back in other frames, and what is wrong is found when a part of it has
 * been sent. */
ZK_HTTP_TEST(ws_server, talk_in_parts, .routes = echo_routes)
{
    static const talk_row rows[] = {
        {"a text", "T:hello", "T:hello", false},
        {"an empty one", "T:", "T:", false},
        {"fragments", "t:a c:b C:c", "T:abc", false},
        {"two", "T:a B:b", "T:a B:b", false},
        {"a ping between", "t:a P:x C:b", "O:x T:ab", false},
        {"a large one", "B*100000", "B*100000", false},
        {"large ones", "B*70000 T*65536 T:a", "B*70000 T*65536 T:a", false},
        {"a close", "X:1000", "X:1000", true},
        {"too large", "B*131073", "X:1009", true},
        {"a character in two frames", "t:\xe2\x82 C:\xac", "T:€", false},
    };
    talk_rows(f, "/pieces", rows, ROWS(rows), 0);
    talk_rows(f, "/pieces", rows, ROWS(rows), 997);
}

/* Short messages of every size that come together: each is unmasked and sent by other steps. */
ZK_HTTP_TEST(ws_server, every_short_size, .routes = echo_routes)
{
    enum { LAST = 130 };
    static const char *const requests[] = {ASK("/loop") "\r\n", ASK("/parked") "\r\n"};
    for (size_t i = 0; i < ROWS(requests); i++) {
        wire w;
        bytes in = {0}, wanted = {0};
        char data[LAST];
        for (size_t size = 0; size <= LAST; size++) {
            for (size_t at = 0; at < size; at++)
                data[at] = (char)(at * 7 + size);
            frame_add(&in, 0x82, data, size, true);
            frame_add(&wanted, 0x82, data, size, false);
        }
        talk_open(&w, f, requests[i]);
        wire_send_n(&w, in.data, in.size, 0);
        wire_collect(&w);
        cr_assert_eq(w.size, wanted.size, "%s", requests[i]);
        cr_assert(!memcmp(w.text, wanted.data, wanted.size), "%s", requests[i]);
        wire_close(&w);
        free(in.data);
        free(wanted.data);
    }
}

/* Frames that come together with the request are not lost. */
ZK_HTTP_TEST(ws_server, frames_behind_the_request, .routes = echo_routes)
{
    static const char *const paths[] = {ASK("/loop") "\r\n", ASK("/parked") "\r\n"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        wire w;
        bytes all = {0}, frames = frames_of("T:early B*9000", true);
        bytes_text(&all, paths[i]);
        bytes_add(&all, frames.data, frames.size);
        wire_open(&w, f);
        wire_send_n(&w, all.data, all.size, 0);
        talk_skip_head(&w);
        talk_expect(&w, "T:early B*9000", "early");
        wire_close(&w);
        free(all.data);
        free(frames.data);
    }
}
