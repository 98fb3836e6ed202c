/*
 * The client's side in tables: what a server may say, what the client answers, and what its calls
 * return. The server is a script; frames are written as in frames.h, the server's without masks.
 */
#include "tests/ws/talk.h"

#include "ws/handshake.h"

enum { MESSAGE_MAX = 70000 };

/* How the client ends: by receiving until there is nothing more, or by a close of its own. */
typedef enum way { RECEIVES, CLOSES, CLOSES_TWICE, GIVES_UP } way;

typedef struct client_row {
    const char *name, *in; /* what the server says */
    const char *out;       /* what the client says */
    int rc;                /* of the last call */
    int code;              /* zk_ws_close_code then */
    way way;
    bool stays; /* the server does not end its side */
} client_row;

static const client_row rows[] = {
    {"a text", "T:hello X:1000", "T:hello X:1000", 0, 1000, RECEIVES, true},
    {"an empty one", "T: X:1000", "T: X:1000", 0, 1000, RECEIVES, true},
    {"binary", "B:\x01\xff X:1000", "B:\x01\xff X:1000", 0, 1000, RECEIVES, true},
    {"fragments", "t:he c:l C:lo X:1000", "T:hello X:1000", 0, 1000, RECEIVES, true},
    {"125", "T*125 X:1000", "T*125 X:1000", 0, 1000, RECEIVES, true},
    {"126", "T*126 X:1000", "T*126 X:1000", 0, 1000, RECEIVES, true},
    {"65535", "B*65535 X:1000", "B*65535 X:1000", 0, 1000, RECEIVES, true},
    {"65536", "B*65536 X:1000", "B*65536 X:1000", 0, 1000, RECEIVES, true},
    {"as large as is allowed", "B*70000 X:1000", "B*70000 X:1000", 0, 1000, RECEIVES, true},
    {"one more", "B*70001", "X:1009", ZK_E_WS_TOO_LARGE, 1006, RECEIVES, true},
    {"one more, in fragments", "b*70000 C:a", "X:1009", ZK_E_WS_TOO_LARGE, 1006, RECEIVES, true},
    {"a huge one", "=827f7fffffffffffffff", "X:1009", ZK_E_WS_TOO_LARGE, 1006, RECEIVES, true},
    {"a ping", "P:x X:1000", "O:x X:1000", 0, 1000, RECEIVES, true},
    {"a ping between", "t:a P:x C:b X:1000", "O:x T:ab X:1000", 0, 1000, RECEIVES, true},
    {"a pong that nobody asked for", "O:x T:a X:1000", "T:a X:1000", 0, 1000, RECEIVES, true},
    /* masks: a server must not */
    {"a mask", "=818137fa213d56", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a mask of zeros", "=81810000000061", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a mask of a ping", "=898000000000", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a mask of a close", "=888000000000", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a mask behind what is right", "T:a =818137fa213d56", "T:a X:1002", ZK_E_WS_PROTOCOL, 1006,
     RECEIVES, true},
    /* reserved */
    {"RSV1", "Z:a", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"RSV2", "=a100", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"RSV3", "=9100", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"an opcode", "=8300", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"an opcode of control frames", "=8b00", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    /* fragments */
    {"nothing to continue", "C:a", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a message in another", "t:a T:b", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a ping in fragments", "=0900", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a long ping", "P*126", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"too many", "t: c: c: c: c: c: c: c: c:", "X:1008", ZK_E_LIMIT, 1006, RECEIVES, true},
    {"a length that is too long", "=827e0001", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    /* texts */
    {"a text that is none", "T:\xff", "X:1007", ZK_E_WS_TEXT, 1006, RECEIVES, true},
    {"one that is cut", "T:\xe2\x82", "X:1007", ZK_E_WS_TEXT, 1006, RECEIVES, true},
    {"a character in two frames", "t:\xe2\x82 C:\xac X:1000", "T:€ X:1000", 0, 1000, RECEIVES,
     true},
    /* closes */
    {"a close without a code", "X:", "X:", 0, 1005, RECEIVES, true},
    {"with a reason", "X:1001,bye", "X:1001", 0, 1001, RECEIVES, true},
    {"of an application", "X:4999", "X:4999", 0, 4999, RECEIVES, true},
    {"a byte of a code", "=880103", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a code that must not be sent", "X:1005", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"1006", "X:1006", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"1015", "X:1015", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"999", "X:999", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"5000", "X:5000", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    {"a reason that is no text", "X:1000,\xff", "X:1007", ZK_E_WS_TEXT, 1006, RECEIVES, true},
    {"a close within a message", "t:a X:1000", "X:1000", 0, 1000, RECEIVES, true},
    {"messages behind a close", "X:1000 T:a P:b", "X:1000", 0, 1000, RECEIVES, true},
    {"two closes", "X:1000 X:1001", "X:1000", 0, 1000, RECEIVES, true},
    {"the end without one", "O:a", "", ZK_E_CLOSED, 1006, RECEIVES, false},
    {"the end at once", "", "", ZK_E_CLOSED, 1006, RECEIVES, false},
    {"the end within a frame", "=8105616263", "", ZK_E_CLOSED, 1006, RECEIVES, false},
    {"the end within a head", "=817e", "", ZK_E_CLOSED, 1006, RECEIVES, false},
    {"the end within a message", "t:a", "", ZK_E_CLOSED, 1006, RECEIVES, false},
    {"the end behind a close", "X:1000", "X:1000", 0, 1000, RECEIVES, false},
    /* closes of the client's own */
    {"answered", "X:1000", "X:1000,enough", 0, 1000, CLOSES, true},
    {"answered with another code", "X:1001", "X:1000,enough", 0, 1001, CLOSES, true},
    {"answered without one", "X:", "X:1000,enough", 0, 1005, CLOSES, true},
    {"behind messages, which nobody reads", "T:a B*60000 X:1000", "X:1000,enough", 0, 1000, CLOSES,
     true},
    {"behind a ping, which nobody answers", "P:a X:1000", "X:1000,enough", 0, 1000, CLOSES, true},
    {"behind half a message", "t:a X:1000", "X:1000,enough", 0, 1000, CLOSES, true},
    {"answered by the end", "", "X:1000,enough", ZK_E_CLOSED, 1006, CLOSES, false},
    {"answered by messages and the end", "T:a T:b", "X:1000,enough", ZK_E_CLOSED, 1006, CLOSES,
     false},
    {"answered by what is wrong", "=8300", "X:1000,enough", ZK_E_WS_PROTOCOL, 1006, CLOSES, true},
    {"not answered", "", "X:1000,enough", ZK_E_WS_TIMEOUT, 1006, CLOSES, true},
    {"closed twice", "X:1000", "X:1000,enough", 0, 1000, CLOSES_TWICE, true},
    {"given up", "", "", 0, 0, GIVES_UP, true},
};

/* The same with permessage-deflate. */
static const client_row compressed[] = {
    {"Hello", "=c107f248cdc9c90700 X:1000", "T:Hello X:1000", 0, 1000, RECEIVES, true},
    {"in two frames", "=4103f248cd =8004c9c90700 X:1000", "T:Hello X:1000", 0, 1000, RECEIVES,
     true},
    {"not compressed", "=c10b000500faff48656c6c6f00 X:1000", "T:Hello X:1000", 0, 1000, RECEIVES,
     true},
    {"with the window of the one before", "=c107f248cdc9c90700 =c105f200110000 X:1000",
     "T:Hello T:Hello X:1000", 0, 1000, RECEIVES, true},
    {"no such block", "=c101ff", "X:1007", ZK_E_WS_DEFLATE, 1006, RECEIVES, true},
    {"a distance beyond the start", "=c103020e00", "X:1007", ZK_E_WS_DEFLATE, 1006, RECEIVES, true},
    {"what is no text then", "=c108000200fdffc32800", "X:1007", ZK_E_WS_TEXT, 1006, RECEIVES, true},
    {"the bit on a continuation", "=4103f248cd =c004c9c90700", "X:1002", ZK_E_WS_PROTOCOL, 1006,
     RECEIVES, true},
    {"the bit on a ping", "=c900", "X:1002", ZK_E_WS_PROTOCOL, 1006, RECEIVES, true},
    /* 70,001 times an 'a', as zlib has it. */
    {"a bomb",
     "=c156ecc13101000000c2a0aceb5fc2129e4001000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "0000000000007703",
     "X:1009", ZK_E_WS_TOO_LARGE, 1006, RECEIVES, true},
};

typedef struct script {
    zk_listener *listener;
    const client_row *row;
    bool deflates;
    size_t step; /* bytes at a time; 0: all at once */
    bytes got;
    bool has_ended;
} script;

static int script_run(void *arg)
{
    script *s = arg;
    zk_stream *stream;
    char buf[4096], accept[ZK__WS_ACCEPT_BYTES + 1] = {0}, *end = NULL;
    ssize_t n = 0;
    cr_assert_ok(zk_accept(s->listener, &stream));
    bytes_add(&s->got, "", 0);
    while (!(end = strstr(s->got.data, "\r\n\r\n")) &&
           (n = zk_stream_read(stream, buf, sizeof buf)) > 0)
        bytes_add(&s->got, buf, (size_t)n);
    cr_assert(end, "%zd", n);
    zk__ws_accept_key(strstr(s->got.data, "Sec-WebSocket-Key: ") + 19, accept);
    int size =
        snprintf(buf, sizeof buf,
                 "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
                 accept, s->deflates ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    cr_assert_ok(zk_stream_write(stream, buf, (size_t)size));
    s->got.size = 0;
    bytes frames = frames_of(s->row->in, false);
    int rc = 0;
    for (size_t at = 0; at < frames.size && !rc;) {
        size_t part = s->step && frames.size - at > s->step ? s->step : frames.size - at;
        rc = zk_stream_write(stream, frames.data + at, part);
        at += part;
        if (s->step) zk_yield();
    }
    if (!rc && !s->row->stays) rc = zk_stream_shutdown(stream);
    while ((n = zk_stream_read(stream, buf, sizeof buf)) > 0)
        bytes_add(&s->got, buf, (size_t)n);
    free(frames.data);
    zk_stream_close(stream);
    s->has_ended = true;
    return 0;
}

static int row_talk(const client_row *row, zk_ws *ws)
{
    zk_ws_message m;
    int rc = 0;
    if (row->way == GIVES_UP) return 0;
    if (row->way != RECEIVES) rc = zk_ws_close(ws, 1000, "enough");
    if (row->way == CLOSES_TWICE) cr_assert_rc(zk_ws_close(ws, 1001, "more"), 0);
    if (row->way != RECEIVES) return rc;
    while ((rc = zk_ws_recv(ws, &m)) > 0)
        cr_assert_ok(zk_ws_send(ws, m.type, m.data, m.size));
    cr_assert_rc(zk_ws_recv(ws, &m), rc, "%s: again", row->name);
    if (rc < 0) cr_assert_rc(zk_ws_send_text(ws, "late"), rc, "%s: sending then", row->name);
    return rc;
}

/* What becomes of a socket that is parked. */
typedef struct parked {
    int rc, code;
    bool is_over;
} parked;

static void on_close(zk_ws *ws, void *context, int rc)
{
    parked *p = context;
    cr_assert(!p->is_over);
    *p = (parked){.rc = rc, .code = zk_ws_close_code(ws), .is_over = true};
}

static void row_park(const client_row *row, zk_ws *ws, zk_scope *scope)
{
    static const zk_ws_handlers handlers = {echo_on_message, on_close};
    parked p = {0};
    cr_assert_ok(zk_ws_park_in(scope, ws, &handlers, &p));
    cr_assert_rc(zk_ws_park_in(scope, ws, &handlers, &p), ZK_E_WS_STATE);
    zk_ws_free(ws); /* it belongs to the scope */
    cr_assert_ok(zk_scope_wait(scope));
    cr_assert(p.is_over);
    cr_assert_rc(p.rc, row->rc, "%s, parked", row->name);
    cr_assert_eq(p.code, row->code, "%s, parked: %d", row->name, p.code);
}

static void row_run_as(const client_row *row, bool deflates, size_t step, bool is_parked)
{
    static const zk_ws_deflate keeping = {.keeps_server_context = true,
                                          .keeps_client_context = true};
    const zk_ws_options options = {
        .message_bytes_max = MESSAGE_MAX,
        .stream_bytes_max = MESSAGE_MAX,
        .fragments_max = 8,
        .close_timeout_ms = 20,
        .deflate = deflates ? &keeping : NULL,
    };
    script s = {.row = row, .deflates = deflates, .step = step};
    char url[ZK_ADDR_TEXT_BYTES + 8], text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr;
    zk_ws *ws;
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &s.listener));
    cr_assert_ok(zk_listener_addr(s.listener, &addr));
    zk_addr_format(&addr, text);
    snprintf(url, sizeof url, "ws://%s/", text);
    script *own = &s;
    ZK_SCOPE(scope) {
        cr_assert_ok(
            zk_spawn_with(&scope, &(zk_spawn_options){.is_pinned = true}, script_run, own));
        cr_assert_ok(zk_ws_connect(url, &options, &ws));
        if (is_parked) {
            row_park(row, ws, &scope);
        } else {
            cr_assert_rc(row_talk(row, ws), row->rc, "%s (%zu): %s", row->name, step, zk_trail());
            cr_assert_eq(zk_ws_close_code(ws), row->code, "%s: %d", row->name,
                         zk_ws_close_code(ws));
            zk_ws_free(ws);
            cr_assert_ok(zk_scope_wait(&scope));
        }
    }
    zk_listener_close(s.listener);
    zk__ws_reader r = {.message_bytes_max = MESSAGE_MAX, .fragments_max = UINT32_MAX};
    char *out = read_all(&r, &s.got, 0);
    char *comma = strchr(row->out, ',') ? NULL : strchr(out, ',');
    if (comma) *comma = '\0';
    cr_assert(!strcmp(*out ? out + 1 : out, row->out), "%s (%zu): %.200s, not %.200s", row->name,
              step, out, row->out);
    free(out);
    free(s.got.data);
}

static void row_run(const client_row *row, bool deflates, size_t step)
{
    row_run_as(row, deflates, step, false);
}

ZK_ASYNC_TEST(ws_client_talk, whole)
{
    for (size_t i = 0; i < ROWS(rows); i++)
        row_run(&rows[i], false, 0);
}

ZK_ASYNC_TEST(ws_client_talk, byte_by_byte)
{
    for (size_t i = 0; i < ROWS(rows); i++)
        if (!strchr(rows[i].in, '*')) row_run(&rows[i], false, 1);
}

ZK_ASYNC_TEST(ws_client_talk, in_pieces)
{
    for (size_t i = 0; i < ROWS(rows); i++)
        if (strchr(rows[i].in, '*')) row_run(&rows[i], false, 1009);
}

ZK_ASYNC_TEST(ws_client_talk, deflate)
{
    for (size_t i = 0; i < ROWS(compressed); i++) {
        row_run(&compressed[i], true, 0);
        row_run(&compressed[i], true, 1);
    }
}

/* Parked in a scope it says the same. */
ZK_ASYNC_TEST(ws_client_talk, parked)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        if (rows[i].way != RECEIVES) continue;
        row_run_as(&rows[i], false, 0, true);
        if (!strchr(rows[i].in, '*')) row_run_as(&rows[i], false, 1, true);
    }
    for (size_t i = 0; i < ROWS(compressed); i++)
        row_run_as(&compressed[i], true, 0, true);
}
