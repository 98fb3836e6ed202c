/*
 * HTTP/2 on the wire: connections, frames, streams and flow control, RFC 9113 sections 3 to 6. What
 * requests and responses are made of is in h2_message.c, what hostile clients try in h2_hostile.c.
 */
#include "tests/http/h2_frames.h"

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "hello");
}

static int sleeps(zk_request *req, zk_response *res)
{
    int rc = zk_sleep(ZK_MS(100));
    return rc < 0 ? rc : hello(req, res);
}

/* So many bytes of the pattern at once. */
static int big(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    if (rc < 0) return rc;
    return zk_respond(res, 200, NULL, h2_pattern(), size);
}

/* The same in pieces. */
static int pieces(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    if (rc >= 0) rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (size_t at = 0, n; rc >= 0 && at < size; at += n) {
        n = size - at < 1000 ? size - at : 1000;
        rc = zk_response_write(res, h2_pattern() + at, n);
    }
    return rc;
}

static int echoes(zk_request *req, zk_response *res) { return echo_by(req, res, 3000); }

static const zk_route routes[] = {
    {"GET", "/", hello, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {"GET", "/big/{size}", big, NULL},
    {"GET", "/pieces/{size}", pieces, NULL},
    {"POST", "/", count_body, NULL},
    {"POST", "/echo", echoes, NULL},
    {0},
};

#define HELLO(id) "headers " id " 200 content-length=5\ndata " id " 5 end hello\n"

/* ---- 3.4 the preface ---- */

ZK_HTTP_TEST(h2, rfc_9113_3_4_the_preface_comes_in_any_pieces, .routes = routes)
{
    static const char all[] = H2_PREFACE "\0\0\0\4\0\0\0\0\0";
    for (size_t at = 1; at < sizeof all - 1; at++) {
        h2_client c;
        h2_connect(&c, f);
        wire_send_n(&c.w, all, at, 0);
        settle();
        wire_send_n(&c.w, all + at, sizeof all - 1 - at, 0);
        h2_check(&c, at < 24 ? H2_GREETING : H2_SETTINGS H2_WINDOW "ack\n", "the greeting");
        h2_send(&c, "headers.eh 1 GET:/");
        cr_assert_h2(&c, HELLO("1"));
        h2_close(&c);
    }
}

ZK_HTTP_TEST(h2, rfc_9113_3_4_a_request_may_follow_the_preface_at_once, .routes = routes)
{
    h2_client c;
    h2_connect(&c, f);
    wire_send(&c.w, H2_PREFACE);
    h2_send(&c, "settings 0; headers.eh 1 GET:/");
    cr_assert_h2(&c, H2_GREETING HELLO("1"));
    h2_close(&c);
}

ZK_HTTP_TEST(h2, rfc_9113_3_4_what_is_almost_the_preface_is_http_1, .routes = routes)
{
    static const exchange_row rows[] = {
        {"its end is wrong", "PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n",
         LAST_PAGE("20", "501 Not Implemented"), true},
        {"behind a request of HTTP/1.1", GET("/") H2_PREFACE,
         OK_TEXT("5", "hello") LAST_PAGE("20", "501 Not Implemented"), true},
        {"another method with P", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
         "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n" TEXT_TYPE
         "Allow: GET, HEAD, OPTIONS, POST\r\n\r\n405 Method Not Allowed\n",
         false},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(h2, rfc_9113_3_4_settings_come_first, .routes = routes)
{
    h2_client c;
    h2_connect(&c, f);
    wire_send(&c.w, H2_PREFACE);
    h2_send(&c, "headers.eh 1 GET:/");
    cr_assert_h2(&c, H2_SETTINGS GOAWAY("PROTOCOL_ERROR"));
    cr_assert(c.w.is_closed);
    h2_close(&c);
}

/* Half a preface is half a request: the same time is allowed for it. */
ZK_HTTP_TEST(h2, rfc_9113_3_4_half_a_preface_is_late_some_time, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, "PRI * HT");
    pass_ms(10001);
    cr_assert_wire(w, LAST_PAGE("20", "408 Request Timeout"), true);
    wire_close(w);
}

/* ---- 4 and 6: frames ---- */

ZK_HTTP_TEST(h2, rfc_9113_4_frames_of_the_wrong_size_or_shape_end_the_connection, .routes = routes)
{
    static const h2_row rows[] = {
        {"4.2 a frame over 16384", "ping 0 len:16385", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"4.1 an unknown type", "xee 0 'what'; xee.eh 9 'ever'; headers.eh 1 GET:/", HELLO("1"),
         false},
        {"4.3 a header block that is none", "headers.eh 1 hex:ffffffffffffff",
         "goaway 1 COMPRESSION_ERROR\n", true},
        {"4.3 an index outside of the table", "headers.eh 1 hex:c0", "goaway 1 COMPRESSION_ERROR\n",
         true},
        {"6.1 DATA on stream 0", "data 0 'x'", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.1 more padding than frame", "headers.h 1 POST:/; data.p 1 u8:9 'x'",
         "goaway 1 PROTOCOL_ERROR\n", true},
        {"6.2 HEADERS on stream 0", "headers.eh 0 GET:/", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.2 more padding than frame", "headers.ehp 1 u8:200 GET:/", GOAWAY("PROTOCOL_ERROR"),
         true},
        {"6.3 PRIORITY means nothing, even on stream 0", "priority 0 zeros:5", "", false},
        {"6.3 PRIORITY on an idle stream", "priority 5 u32:0 u8:16; headers.eh 1 GET:/", HELLO("1"),
         false},
        {"6.3 a short PRIORITY", "priority 1 u32:0", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.4 RST_STREAM on stream 0", "rst 0 u32:8", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.4 RST_STREAM on an idle stream", "rst 1 u32:8", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.4 a short RST_STREAM", "headers.h 1 POST:/; rst 1 u16:8", "goaway 1 FRAME_SIZE_ERROR\n",
         true},
        {"6.5 SETTINGS on a stream", "settings 1", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.5 a short SETTINGS", "settings 0 u16:1 u16:2", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.5 an ACK with a payload", "settings.e 0 u16:1 u32:0", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.5 an ACK of nothing", "settings.e 0", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.5.2 ENABLE_PUSH is a bit", "settings 0 u16:2 u32:2", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.5.2 a window over 2^31-1", "settings 0 u16:4 u32:0x80000000",
         GOAWAY("FLOW_CONTROL_ERROR"), true},
        {"6.5.2 a frame size too small", "settings 0 u16:5 u32:16383", GOAWAY("PROTOCOL_ERROR"),
         true},
        {"6.5.2 a frame size too large", "settings 0 u16:5 u32:16777216", GOAWAY("PROTOCOL_ERROR"),
         true},
        {"6.5.2 an unknown setting", "settings 0 u16:0xabcd u32:1", "ack\n", false},
        {"6.6 PUSH_PROMISE by a client", "push.h 1 u32:2 GET:/", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.7 PING", "ping 0 'abcdefgh'", "ping ack abcdefgh\n", false},
        {"6.7 a PING that answers none", "ping.e 0 'abcdefgh'", "", false},
        {"6.7 a short PING", "ping 0 'abcdefg'", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.7 PING on a stream", "ping 1 'abcdefgh'", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.8 GOAWAY on a stream", "goaway 1 zeros:8", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.8 a short GOAWAY", "goaway 0 zeros:7", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.9 a short WINDOW_UPDATE", "window 0 u16:1", GOAWAY("FRAME_SIZE_ERROR"), true},
        {"6.9 WINDOW_UPDATE of 0", "window 0 u32:0", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.9 WINDOW_UPDATE on an idle stream", "window 1 u32:1", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.10 CONTINUATION of nothing", "cont.h 1 GET:/", GOAWAY("PROTOCOL_ERROR"), true},
        {"6.10 CONTINUATION on another stream", "headers.e 1; cont.h 3 GET:/",
         "goaway 1 PROTOCOL_ERROR\n", true},
        {"6.10 a frame between", "headers.e 1; ping 0 'abcdefgh'", "goaway 1 PROTOCOL_ERROR\n",
         true},
        {"RFC 9218 7.1 PRIORITY_UPDATE", "x10 0 u32:1 'u=1,i'; headers.eh 1 GET:/ priority=u=7",
         HELLO("1"), false},
        {"RFC 9218 7.1 PRIORITY_UPDATE on a stream", "x10 1 u32:1 'u=1'", GOAWAY("PROTOCOL_ERROR"),
         true},
    };
    cr_assert_h2_rows(f, rows);
}

ZK_HTTP_TEST(h2, rfc_9113_4_3_a_header_block_comes_in_any_frames, .routes = routes)
{
    static const h2_row rows[] = {
        {"CONTINUATION", "headers.e 1 GET:/; cont 1 a=b; cont.h 1 c=d", HELLO("1"), false},
        {"an empty HEADERS", "headers.e 1; cont.h 1 GET:/", HELLO("1"), false},
        {"padded, with a priority", "headers.ehpq 1 u8:3 u32:0 u8:15 GET:/ zeros:3", HELLO("1"),
         false},
        {"cut within a field",
         "headers.e 1 hex:00073a6d; cont 1 hex:6574686f64034745; "
         "cont.h 1 hex:54 hex:86 hex:84 :authority=a",
         HELLO("1"), false},
    };
    cr_assert_h2_rows(f, rows);
}

/* ---- 5.1 streams ---- */

ZK_HTTP_TEST(h2, rfc_9113_5_1_streams_have_states, .routes = routes)
{
    static const h2_row rows[] = {
        {"5.1.1 an even id", "headers.eh 2 GET:/", GOAWAY("PROTOCOL_ERROR"), true},
        {"5.1 DATA on an idle stream", "data 1 'x'", GOAWAY("PROTOCOL_ERROR"), true},
        {"5.1.1 ids leave some out", "headers.eh 7 GET:/; headers.eh 31 GET:/",
         "headers 7 200 content-length=5\ndata 7 5 end hello\n"
         "headers 31 200 content-length=5\ndata 31 5 end hello\n",
         false},
        {"5.1 RST_STREAM of a closed stream", "headers.eh 1 GET:/; rst 1 u32:8; rst 1 u32:8", "",
         false},
        {"5.1 a stream that depends on itself (RFC 7540 5.3.1)",
         "headers.ehq 1 u32:1 u8:1 GET:/; ping 0 'abcdefgh'", GOAWAY("PROTOCOL_ERROR"), true},
    };
    h2_rows_run(f, rows, ROWS(rows), 0);
}

/* The frame comes when the stream has ended on both sides. */
ZK_HTTP_TEST(h2, rfc_9113_5_1_frames_on_a_closed_stream, .routes = routes)
{
    static const struct {
        const char *name, *in, *out;
        bool is_closed;
    } rows[] = {
        {"DATA", "data 1 'x'", "", false},
        {"HEADERS: an id goes backwards", "headers.eh 1 GET:/", "", false},
        {"WINDOW_UPDATE", "window 1 u32:5", "", false},
        {"RST_STREAM", "rst 1 u32:8", "", false},
        {"PRIORITY", "priority 1 u32:0 u8:1", "", false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        h2_open(&c, f);
        h2_send(&c, "headers.eh 1 GET:/");
        cr_assert_h2(&c, HELLO("1"));
        h2_send(&c, rows[i].in);
        h2_check(&c, rows[i].out, rows[i].name);
        cr_assert_eq(c.w.is_closed, rows[i].is_closed, "%s", rows[i].name);
        h2_close(&c);
    }
}

ZK_HTTP_TEST(h2, rfc_9113_5_1_frames_behind_the_end_of_a_request, .routes = routes)
{
    static const h2_row rows[] = {
        {"DATA", "headers.eh 1 GET:/sleeps; data 1 'x'", "goaway 1 STREAM_CLOSED\n", true},
        {"HEADERS", "headers.eh 1 GET:/sleeps; headers.eh 1 a=b", "goaway 1 STREAM_CLOSED\n", true},
    };
    h2_rows_run(f, rows, ROWS(rows), 0);
}

ZK_HTTP_TEST(h2, rfc_9113_5_1_2_128_streams_are_served_at_once, .routes = routes)
{
    h2_client c;
    char script[64];
    h2_open(&c, f);
    for (int i = 0; i < 128; i++) {
        snprintf(script, sizeof script, "headers.eh %d GET:/sleeps", 2 * i + 1);
        h2_send(&c, script);
    }
    cr_assert_h2(&c, "");
    pass_ms(101);
    const char *log = h2_take(&c);
    int answers = 0;
    for (const char *at = log; (at = strstr(at, "end hello\n")); at++)
        answers++;
    cr_assert_eq(answers, 128);
    h2_send(&c, "headers.eh 259 GET:/");
    cr_assert_h2(&c, HELLO("259"));
    h2_close(&c);
}

/* Before the client has acknowledged the limit it may not know it. Afterwards it does, and the
 * stream error is made one of the connection (section 5.4.1). */
ZK_HTTP_TEST(h2, rfc_9113_5_1_2_the_129th_stream_is_refused, .routes = routes)
{
    for (int is_acknowledged = 0; is_acknowledged < 2; is_acknowledged++) {
        h2_client c;
        char script[64];
        h2_connect(&c, f);
        wire_send(&c.w, H2_PREFACE);
        h2_send(&c, is_acknowledged ? "settings 0; settings.e 0" : "settings 0");
        cr_assert(strstr(h2_take(&c), "3=128"));
        for (int i = 0; i < 128; i++) {
            snprintf(script, sizeof script, "headers.eh %d GET:/sleeps", 2 * i + 1);
            h2_send(&c, script);
        }
        h2_send(&c, "headers.eh 257 GET:/");
        cr_assert_h2(&c, is_acknowledged ? "goaway 255 PROTOCOL_ERROR\n"
                                         : "reset 257 REFUSED_STREAM\n");
        h2_close(&c);
    }
}

/* ---- 5.2 and 6.9: flow control ---- */

ZK_HTTP_TEST(h2, rfc_9113_5_2_a_tiny_window_makes_small_pieces, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:3");
    h2_send(&c, "headers.eh 1 GET:/; headers.eh 3 GET:/");
    cr_assert_h2(&c, "headers 1 200 content-length=5\nheaders 3 200 content-length=5\n"
                     "data 1 3 hel\ndata 3 3 hel\n");
    h2_send(&c, "window 1 u32:1");
    cr_assert_h2(&c, "data 1 1 l\n");
    h2_send(&c, "window 1 u32:1; window 3 u32:100");
    cr_assert_h2(&c, "data 1 1 end o\ndata 3 2 end lo\n");
    h2_close(&c);
}

/* RFC 9113 section 6.9.2: a window may become negative, and open again. */
ZK_HTTP_TEST(h2, rfc_9113_6_9_2_the_initial_window_may_change, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:3");
    h2_send(&c, "headers.eh 1 GET:/");
    cr_assert_h2(&c, "headers 1 200 content-length=5\ndata 1 3 hel\n");
    h2_send(&c, "settings 0 u16:4 u32:0");
    cr_assert_h2(&c, "ack\n");
    h2_send(&c, "window 1 u32:3");
    cr_assert_h2(&c, "");
    h2_send(&c, "settings 0 u16:4 u32:1");
    cr_assert_h2(&c, "ack\ndata 1 1 l\n");
    h2_send(&c, "settings 0 u16:4 u32:100");
    cr_assert_h2(&c, "ack\ndata 1 1 end o\n");
    h2_close(&c);
}

ZK_HTTP_TEST(h2, rfc_9113_6_9_1_windows_overflow, .routes = routes)
{
    static const h2_row rows[] = {
        {"the connection's", "window 0 u32:0x7fffffff", GOAWAY("FLOW_CONTROL_ERROR"), true},
        {"a stream's", "headers.eh 1 GET:/sleeps; window 1 u32:0x7fffffff",
         "reset 1 FLOW_CONTROL_ERROR\n", false},
        {"a stream's, by SETTINGS",
         "headers.eh 1 GET:/sleeps; window 1 u32:10; settings 0 u16:4 u32:0x7fffffff",
         "ack\nreset 1 FLOW_CONTROL_ERROR\n", false},
        {"6.9 a stream's by 0", "headers.eh 1 GET:/sleeps; window 1 u32:0",
         "goaway 1 PROTOCOL_ERROR\n", true},
    };
    h2_rows_run(f, rows, ROWS(rows), 0);
}

/* In pieces of so many bytes; 0: in one. */
static void send_in_pieces(h2_client *c, const char *script, size_t piece)
{
    h2_bytes b = h2_script(script);
    for (size_t at = 0, n; at < b.size; at += n) {
        n = piece && piece < b.size - at ? piece : b.size - at;
        wire_send_n(&c->w, b.data + at, n, 0);
        settle();
    }
    free(b.data);
}

/* nghttp2 does not see the DATA of a small response, which leaves with its head; the connection's
 * window is kept to the byte all the same, however its updates are cut. */
ZK_HTTP_TEST(h2, rfc_9113_6_9_1_small_responses_use_the_window_up, .routes = routes)
{
    static const struct {
        const char *script;
        uint64_t body; /* in all, when it has been answered */
    } steps[] = {
        {"headers.eh 263 GET:/big/500", 65535},
        {"window 0 u32:100", 65635},
        {"window 0 u32:1", 65636},
        {"headers.eh 265 GET:/big/500", 65636},
        {"window 0 u32:1000", 66500},
        {"headers.eh 267 GET:/big/500", 66636},
        {"window 0 u32:400; window 0 u32:100", 67000},
        {"window 0 u32:364; window 0 u32:500", 67000},
        {"headers.eh 269 GET:/big/500", 67500},
        {"headers.eh 271 GET:/big/500", 68000},
        {"headers.eh 273 GET:/big/512", 68000},
        {"window 0 u32:70000", 68512},
        {"headers.eh 275 GET:/big/500", 69012},
    };
    for (size_t piece = 0; piece < 14; piece++) {
        h2_client c;
        h2_open(&c, f);
        for (unsigned id = 1; id <= 261; id += 2) {
            char script[64];
            snprintf(script, sizeof script, "headers.eh %u GET:/big/500", id);
            h2_send(&c, script);
            (void)h2_take(&c);
        }
        cr_assert_eq(c.body_size, (uint64_t)131 * 500);
        for (size_t i = 0; i < ROWS(steps); i++) {
            send_in_pieces(&c, steps[i].script, piece);
            const char *log = h2_take(&c);
            cr_assert_eq(c.body_size, steps[i].body, "in pieces of %zu: %s: %llu, %s", piece,
                         steps[i].script, (unsigned long long)c.body_size, log);
        }
        h2_close(&c);
    }
}

/* What has been sent of small responses counts for how far the window may be opened. */
ZK_HTTP_TEST(h2, rfc_9113_6_9_1_the_window_opens_as_far_as_may_be, .routes = routes)
{
    static const struct {
        const char *update, *answer;
    } rows[] = {
        /* 65,535 - 5 are left. */
        {"window 0 u32:2147418117", ""},
        {"window 0 u32:3; window 0 u32:2147418114", ""},
        {"window 0 u32:2147418118", GOAWAY("FLOW_CONTROL_ERROR")},
        {"window 0 u32:5; window 0 u32:2147418113", GOAWAY("FLOW_CONTROL_ERROR")},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        h2_open(&c, f);
        h2_send(&c, "headers.eh 1 GET:/");
        cr_assert_h2(&c, HELLO("1"));
        h2_send(&c, rows[i].update);
        if (!*rows[i].answer) {
            cr_assert_h2(&c, "");
            h2_send(&c, "headers.eh 3 GET:/");
            cr_assert_h2(&c, HELLO("3"));
        } else {
            cr_assert(strstr(h2_take(&c), "FLOW_CONTROL_ERROR"), "row %zu", i);
        }
        h2_close(&c);
    }
}

/* Opens the windows again as the bytes come, until the stream ends. */
static void receive_all(h2_client *c, uint32_t id)
{
    char script[64];
    for (int i = 0; i < 1000; i++) {
        uint64_t before = c->body_size;
        const char *log = h2_take(c);
        cr_assert(c->is_in_pattern, "%.200s", log);
        if (strstr(log, " end")) return;
        unsigned more = (unsigned)(c->body_size - before);
        cr_assert(more, "the response stops after %llu bytes", (unsigned long long)c->body_size);
        snprintf(script, sizeof script, "window 0 u32:%u; window %u u32:%u", more, id, more);
        h2_send(c, script);
    }
    cr_assert_fail("the response has no end");
}

ZK_HTTP_TEST(h2, responses_larger_than_the_windows_arrive_whole, .routes = routes)
{
    static const char *const paths[] = {"big", "pieces"};
    static const unsigned sizes[] = {0,     1,     512,   513,   16383, 16384,
                                     16385, 65535, 65536, 70000, 400000};
    for (size_t i = 0; i < 2 * ROWS(sizes); i++) {
        h2_client c;
        char script[64];
        unsigned size = sizes[i / 2];
        h2_open(&c, f);
        snprintf(script, sizeof script, "headers.eh 1 GET:/%s/%u", paths[i % 2], size);
        h2_send(&c, script);
        if (size || i % 2) receive_all(&c, 1);
        cr_assert_eq(c.body_size, (uint64_t)size, "%s", script);
        h2_close(&c);
    }
}

/* Puts so many bytes of DATA into a script's bytes. */
static void put_data(h2_bytes *b, uint32_t id, size_t size, bool is_last, int padding)
{
    size_t pad = padding >= 0 ? (size_t)padding + 1 : 0;
    for (size_t n; size; size -= n) {
        n = size < 16000 ? size : 16000;
        int flags = (padding >= 0 ? H2_PADDED : 0) | (is_last && n == size ? H2_END : 0);
        h2_put_head(b, n + pad, 0, flags, id);
        if (padding >= 0) h2_put_number(b, (uint64_t)padding, 1);
        h2_put(b, h2_pattern(), n);
        for (int i = 0; i < padding; i++)
            h2_put_number(b, 0, 1);
    }
}

/* The windows open again as the handler reads: 8 MB pass through those of 256 KiB and 1 MiB. */
ZK_HTTP_TEST(h2, rfc_9113_5_2_uploads_larger_than_the_windows_go_on, .routes = routes)
{
    static const int paddings[] = {-1, 0, 255};
    for (size_t i = 0; i < ROWS(paddings); i++) {
        h2_client c;
        h2_open(&c, f);
        h2_send(&c, "headers.h 1 POST:/");
        uint64_t total = 0;
        int64_t window = 65535, stream_window = 262144;
        window += 983041;
        while (total < 8000000) {
            size_t frame = 16000 + (paddings[i] >= 0 ? (size_t)paddings[i] + 1 : 0);
            cr_assert(window >= (int64_t)frame && stream_window >= (int64_t)frame,
                      "the windows stay closed after %llu bytes", (unsigned long long)total);
            h2_bytes b = {0};
            put_data(&b, 1, 16000, total + 16000 >= 8000000, paddings[i]);
            wire_send_n(&c.w, b.data, b.size, 0);
            free(b.data);
            total += 16000;
            window -= (int64_t)frame;
            stream_window -= (int64_t)frame;
            if (total >= 8000000) break;
            unsigned id, more;
            for (const char *at = h2_take(&c); sscanf(at, "window %u %u", &id, &more) == 2;
                 at = strchr(at, '\n') + 1) {
                *(id ? &stream_window : &window) += more;
            }
        }
        const char *log = h2_take(&c);
        cr_assert(strstr(log, "data 1 7 end 8000000\n"), "%s", log);
        h2_close(&c);
    }
}

/* What nobody reads of a request's body must not close the connection's window. */
ZK_HTTP_TEST(h2, rfc_9113_5_2_bodies_that_nobody_reads_cost_no_window, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    int64_t window = 65535 + 983041;
    for (uint32_t id = 1; id < 100; id += 2) {
        h2_bytes b = {0}, more = {0};
        char script[64];
        snprintf(script, sizeof script, "headers.h %u GET:%s", id, id % 4 == 1 ? "/" : "/sleeps");
        h2_bytes head = h2_script(script);
        h2_put(&b, head.data, head.size);
        put_data(&b, id, 64000, false, -1);
        cr_assert_geq(window, (int64_t)128000 + 100, "stream %u", id);
        wire_send_n(&c.w, b.data, b.size, 0);
        settle();
        if (id % 8 == 1) {
            put_data(&more, id, 64000, true, -1);
            wire_send_n(&c.w, more.data, more.size, 0);
            window -= 64000;
        }
        window -= 64000;
        snprintf(script, sizeof script, "rst %u u32:8", id);
        if (id % 8 == 3) h2_send(&c, script);
        pass_ms(101);
        unsigned of, size;
        const char *at = h2_take(&c);
        cr_assert(!strstr(at, "goaway"), "%s", at);
        for (; (at = strstr(at, "window 0 ")); at++) {
            cr_assert_eq(sscanf(at, "window %u %u", &of, &size), 2);
            window += size;
        }
        free(b.data);
        free(more.data);
        free(head.data);
    }
    cr_assert_gt(window, 500000);
    h2_close(&c);
}

ZK_HTTP_TEST(h2, rfc_9113_6_9_1_more_than_the_window_is_an_error, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 GET:/sleeps");
    h2_bytes b = {0};
    put_data(&b, 1, 262144, false, -1);
    wire_send_n(&c.w, b.data, b.size, 0);
    cr_assert_h2(&c, "");
    h2_send(&c, "data 1 'x'");
    const char *log = h2_take(&c);
    cr_assert(strstr(log, "FLOW_CONTROL_ERROR"), "%s", log);
    free(b.data);
    h2_close(&c);
}

/* ---- closing ---- */

ZK_HTTP_TEST(h2, rfc_9113_6_8_a_client_that_says_goaway_still_gets_its_answers, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/sleeps; goaway 0 u32:0 u32:0");
    cr_assert_h2(&c, "");
    pass_ms(101);
    cr_assert_h2(&c, HELLO("1"));
    h2_close(&c);
}

ZK_HTTP_TEST(h2, an_idle_connection_is_told_to_go, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    pass_ms(74000);
    h2_send(&c, "headers.eh 1 GET:/");
    cr_assert_h2(&c, HELLO("1"));
    pass_ms(74000);
    cr_assert_h2(&c, "");
    pass_ms(1100);
    cr_assert_h2(&c, "goaway 1 NO_ERROR\n");
    cr_assert(c.w.is_closed);
    h2_close(&c);
}

/* Frames that are ignored are whole frames all the same. */
ZK_HTTP_TEST(h2, an_ignored_frame_starts_no_deadline, .routes = routes)
{
    static const char *const frames[] = {"xee 0 'grease'", "window 1 u32:5", "rst 1 u32:8",
                                         "x10 0 u32:1 'u=1'", "priority 1 u32:0 u8:1"};
    for (size_t i = 0; i < ROWS(frames); i++) {
        h2_client c;
        h2_open(&c, f);
        h2_send(&c, "headers.eh 1 GET:/");
        cr_assert_h2(&c, HELLO("1"));
        h2_send(&c, frames[i]);
        pass_ms(11000);
        pass_ms(11000);
        h2_check(&c, "", frames[i]);
        h2_send(&c, "headers.eh 3 GET:/");
        h2_check(&c, HELLO("3"), frames[i]);
        h2_close(&c);
    }
}

/* The server never sees the end of a frame without the beginning of the next. */
ZK_HTTP_TEST(h2, frames_that_are_never_seen_alone_start_no_deadline, .routes = routes)
{
    static const char ping[] = "\0\0\10\6\0\0\0\0\0abcdefgh";
    h2_client c;
    h2_open(&c, f);
    wire_send_n(&c.w, ping, 5, 0);
    for (int i = 0; i < 30; i++) {
        pass_ms(1000);
        wire_send_n(&c.w, ping + 5, 12, 0);
        wire_send_n(&c.w, ping, 5, 0);
        cr_assert_h2(&c, "ping ack abcdefgh\n");
    }
    pass_ms(10001);
    pass_ms(1001);
    cr_assert_h2(&c, GOAWAY("ENHANCE_YOUR_CALM"));
    h2_close(&c);
}
