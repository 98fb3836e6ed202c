/*
 * Request bodies on the wire, RFC 9112 sections 6 and 7, and what becomes of one that the handler
 * leaves. What the parser accepts is tested in h1.c and h1_body.c; here is what the server makes of
 * it.
 */
#include "tests/http/fixture.h"

#define POST(path, fields, body) "POST " path " HTTP/1.1\r\nHost: a\r\n" fields "\r\n" body
#define LENGTH(n) "Content-Length: " n "\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define EXPECT "Expect: 100-continue\r\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define SAYS(length, text) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n" text
#define LAST_SAYS(length, text)                                                                    \
    "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n" CLOSE_FIELD "\r\n" text

static int echoes_whole(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = zk_body(req, &body);
    return rc < 0 ? rc : zk_respond(res, 200, NULL, body.data, body.size);
}

/* In pieces of three, and the trailer behind it. */
static int echoes_pieces(zk_request *req, zk_response *res)
{
    char all[4096];
    size_t size = 0;
    ssize_t n;
    while ((n = zk_body_read(req, all + size, 3)) > 0)
        size += (size_t)n;
    if (n < 0) return (int)n;
    zk_str trailer = zk_request_trailer(req, "x-t");
    memcpy(all + size, trailer.data ? trailer.data : "", trailer.size);
    return zk_respond(res, 200, NULL, all, size + trailer.size);
}

static int reads_one(zk_request *req, zk_response *res)
{
    char c;
    ssize_t n = zk_body_read(req, &c, 1);
    return n < 0 ? (int)n : zk_respond(res, 200, NULL, &c, (size_t)n);
}

static int begins_first(zk_request *req, zk_response *res) { return echo_by(req, res, 16); }

static const zk_route routes[] = {
    {"POST", "/whole", echoes_whole, NULL},
    {"POST", "/pieces", echoes_pieces, NULL},
    {"POST", "/one", reads_one, NULL},
    {"POST", "/nothing", nothing, NULL},
    {"POST", "/begins", begins_first, NULL},
    {"POST", "/count", count_body, NULL},
    {"GET", "/", nothing, NULL},
    {0},
};

ZK_HTTP_TEST(h1_input, bodies_arrive_however_they_are_framed_and_split, .routes = routes)
{
    static const exchange_row rows[] = {
        {"RFC 9112 6.2: a length", POST("/whole", LENGTH("5"), "12345") GET("/"),
         SAYS("5", "12345") SAYS("0", ""), false},
        {"a length, in pieces", POST("/pieces", LENGTH("5"), "12345") GET("/"),
         SAYS("5", "12345") SAYS("0", ""), false},
        {"an empty body", POST("/whole", LENGTH("0"), "") GET("/"), SAYS("0", "") SAYS("0", ""),
         false},
        {"RFC 9112 6.3: no body at all", POST("/whole", "", "") GET("/"),
         SAYS("0", "") SAYS("0", ""), false},
        {"RFC 9112 7.1: chunks",
         POST("/whole", CHUNKED, "3\r\n123\r\n2\r\n45\r\n0\r\n\r\n") GET("/"),
         SAYS("5", "12345") SAYS("0", ""), false},
        {"chunks, in pieces",
         POST("/pieces", CHUNKED, "A\r\n0123456789\r\n1;a=\"b\"\r\nx\r\n0\r\nX-T: end\r\n\r\n")
             GET("/"),
         SAYS("14", "0123456789xend") SAYS("0", ""), false},
        {"no chunks", POST("/whole", CHUNKED, "0\r\n\r\n") GET("/"), SAYS("0", "") SAYS("0", ""),
         false},
        {"RFC 9110 6.5.1: a trailer that would frame",
         POST("/whole", CHUNKED, "1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n") GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"a chunk that is none", POST("/whole", CHUNKED, "1\r\nx\r\nz\r\n") GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"a chunk that is longer than it says", POST("/whole", CHUNKED, "1\r\nxyz\r\n0\r\n\r\n"),
         LAST_PAGE("16", "400 Bad Request"), true},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(h1_input, what_the_handler_leaves_is_skipped, .routes = routes)
{
    static const exchange_row rows[] = {
        {"all", POST("/nothing", LENGTH("5"), "GET /") GET("/"), SAYS("0", "") SAYS("0", ""),
         false},
        {"most", POST("/one", LENGTH("5"), "GET /") GET("/"), SAYS("1", "G") SAYS("0", ""), false},
        {"all chunks", POST("/nothing", CHUNKED, "3\r\n123\r\n0\r\nX-T: a\r\n\r\n") GET("/"),
         SAYS("0", "") SAYS("0", ""), false},
        {"most chunks", POST("/one", CHUNKED, "3\r\n123\r\n1\r\n4\r\n0\r\n\r\n") GET("/"),
         SAYS("1", "1") SAYS("0", ""), false},
        {"chunks that are none: no second reading",
         POST("/nothing", CHUNKED, "3\r\n123GET") GET("/"), SAYS("0", ""), true},
        {"more than is worth it", POST("/nothing", LENGTH("10000000"), "12345") GET("/"),
         LAST_SAYS("0", ""), true},
    };
    cr_assert_exchanges(f, rows);
}

/* RFC 9110 section 10.1.1. */
ZK_HTTP_TEST(h1_input, a_client_that_expects_100_gets_it_when_the_handler_reads, .routes = routes)
{
    static const struct row {
        const char *name, *head, *first, *body, *then;
        bool is_closed;
    } rows[] = {
        {"read", POST("/whole", EXPECT LENGTH("2"), ""), CONTINUE, "ab" GET("/"),
         SAYS("2", "ab") SAYS("0", ""), false},
        {"chunks", POST("/whole", EXPECT CHUNKED, ""), CONTINUE, "1\r\na\r\n0\r\n\r\n" GET("/"),
         SAYS("1", "a") SAYS("0", ""), false},
        {"read in pieces", POST("/pieces", EXPECT LENGTH("2"), ""), CONTINUE, "ab", SAYS("2", "ab"),
         false},
        {"answered without reading", POST("/nothing", EXPECT LENGTH("2"), ""), LAST_SAYS("0", ""),
         GET("/"), "", true},
        {"no route", POST("/none", EXPECT LENGTH("2"), ""), LAST_PAGE("14", "404 Not Found"),
         GET("/"), "", true},
        {"no body announced", POST("/whole", EXPECT LENGTH("0"), ""), SAYS("0", ""), GET("/"),
         SAYS("0", ""), false},
        {"the body is there", POST("/whole", EXPECT LENGTH("2"), "ab"), SAYS("2", "ab"), GET("/"),
         SAYS("0", ""), false},
        {"part of it is there", POST("/whole", EXPECT LENGTH("2"), "a"), "", "b", SAYS("2", "ab"),
         false},
        {"HTTP/1.0 does not know it", "POST /whole HTTP/1.0\r\n" EXPECT LENGTH("2") "\r\n", "",
         "ab", LAST_SAYS("2", "ab"), true},
        {"too large: 413 instead", POST("/whole", EXPECT LENGTH("9999999"), ""),
         LAST_PAGE("22", "413 Content Too Large"), GET("/"), "", true},
        {"nothing stands behind a head that was sent", POST("/begins", EXPECT LENGTH("2"), ""),
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" CLOSE_FIELD "\r\n", "ab",
         "2\r\nab\r\n0\r\n\r\n", true},
    };
    for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
        wire c, *w = &c;
        wire_open(w, f);
        wire_send(w, row->head);
        const char *text = wire_take(w);
        cr_assert(!strcmp(text, row->first), "%s: first\n%s", row->name, text);
        wire_send(w, row->body);
        cr_assert_wire(w, row->then, row->is_closed, "%s: then", row->name);
        wire_close(w);
    }
}

static ssize_t first_write_fails(zk_stream *stream, const struct iovec *iov, int iov_count,
                                 bool try_only)
{
    static int calls;
    return calls++ ? wire_writev(stream, iov, iov_count, try_only) : -ENOBUFS;
}

/* Part of it may have left: a response behind that could be read as anything. */
ZK_HTTP_TEST(h1_input, nothing_is_sent_behind_a_100_that_failed, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    w->ops.writev = first_write_fails;
    wire_send(w, POST("/whole", EXPECT LENGTH("2"), ""));
    cr_assert_wire(w, "", true);
    wire_close(w);
}

ZK_HTTP_TEST(h1_input, a_body_over_its_limit_gives_413, .routes = routes, .body_bytes_max = 4,
             .body_stream_bytes_max = 8)
{
    static const exchange_row rows[] = {
        {"at the limit", POST("/whole", LENGTH("4"), "1234") GET("/"),
         SAYS("4", "1234") SAYS("0", ""), false},
        {"announced", POST("/whole", LENGTH("5"), "12345") GET("/"),
         LAST_PAGE("22", "413 Content Too Large"), true},
        {"in chunks", POST("/whole", CHUNKED, "4\r\n1234\r\n1\r\n5\r\n0\r\n\r\n") GET("/"),
         LAST_PAGE("22", "413 Content Too Large"), true},
        {"chunks at the limit", POST("/whole", CHUNKED, "3\r\n123\r\n1\r\n4\r\n0\r\n\r\n") GET("/"),
         SAYS("4", "1234") SAYS("0", ""), false},
        {"streamed at the limit", POST("/pieces", LENGTH("8"), "12345678") GET("/"),
         SAYS("8", "12345678") SAYS("0", ""), false},
        {"streamed, announced", POST("/pieces", LENGTH("9"), "123456789") GET("/"),
         LAST_PAGE("22", "413 Content Too Large"), true},
        {"streamed, in chunks", POST("/pieces", CHUNKED, "9\r\n123456789\r\n0\r\n\r\n") GET("/"),
         LAST_PAGE("22", "413 Content Too Large"), true},
    };
    cr_assert_exchanges(f, rows);
}

static void send_body(wire *w, size_t size, size_t piece, bool is_chunked)
{
    char *data = malloc(piece + 32);
    cr_assert(data);
    for (size_t sent = 0; sent < size; sent += piece) {
        size_t n = piece < size - sent ? piece : size - sent;
        int at = is_chunked ? snprintf(data, 32, "%zx\r\n", n) : 0;
        memset(data + at, 'x', n);
        memcpy(data + at + n, "\r\n", 2);
        wire_send_n(w, data, (size_t)at + n + (is_chunked ? 2 : 0), 0);
    }
    if (is_chunked) wire_send(w, "0\r\n\r\n");
    free(data);
}

/* The handler's pace is the client's: nothing is buffered without bound. */
ZK_HTTP_TEST(h1_input, a_large_body_flows_through, .routes = routes)
{
    for (int is_chunked = 0; is_chunked < 2; is_chunked++) {
        wire c, *w = &c;
        wire_open(w, f);
        wire_send(w,
                  is_chunked ? POST("/count", CHUNKED, "") : POST("/count", LENGTH("3000000"), ""));
        send_body(w, 3000000, 70001, is_chunked);
        cr_assert_wire(w, SAYS("7", "3000000"), false);
        wire_close(w);
    }
}

/* The part of a chunk's framing that came last must not depend on where in the buffer that was. */
ZK_HTTP_TEST(h1_input, chunks_may_follow_any_number_of_pipelined_requests, .routes = routes,
             .header_bytes_max = 1024)
{
    static const char post[] = POST("/pieces", "X-Long: 0123456789\r\n" CHUNKED, "");
    static const char body[] = "3\r\n123\r\n2\r\n45\r\n0\r\nX-T: end\r\n\r\n";
    enum { BUFFER = 1024 + ZK__H1_IN_EXTRA_BYTES };
    /* So that the buffer ends somewhere from the head's end to the trailers'. */
    for (size_t behind = 0; behind < sizeof body; behind++) {
        static char text[BUFFER + 256];
        size_t before = BUFFER - (sizeof post - 1) - behind, size = 0;
        const size_t get = sizeof GET("/") - 1;
        int gets = 0;
        while (before - size >= 2 * get) {
            memcpy(text + size, GET("/"), get);
            size += get, gets++;
        }
        /* One that is as long as what remains. */
        size_t pad = before - size - get;
        size +=
            (size_t)snprintf(text + size, 256, "GET /?%.*s HTTP/1.1\r\nHost: a\r\n\r\n",
                             pad ? (int)pad - 1 : 0, "0123456789012345678901234567890123456789");
        if (pad == 0) continue;
        gets++;
        cr_assert_eq(size, before);
        wire c, *w = &c;
        wire_open(w, f);
        memcpy(text + size, post, sizeof post - 1);
        memcpy(text + size + sizeof post - 1, body, sizeof body - 1);
        size += sizeof post - 1 + sizeof body - 1;
        wire_send_n(w, text, BUFFER, 0);
        wire_collect(w);
        wire_send_n(w, text + BUFFER, size - BUFFER, 0);
        wire_collect(w);
        cr_assert_eq(common_fields_strip(w->text, &w->size), gets + 1, "%zu", behind);
        static const char wanted[] = SAYS("8", "12345end");
        cr_assert(!strcmp(w->text + w->size - (sizeof wanted - 1), wanted), "%zu: %s", behind,
                  w->text + w->size - 120);
        wire_close(w);
    }
}

/* ---- clients that leave, and slow ones ---- */

static int body_result;

static int keeps_result(zk_request *req, zk_response *res)
{
    zk_str body;
    body_result = zk_body(req, &body);
    return body_result < 0 ? body_result : zk_respond(res, 200, NULL, body.data, body.size);
}

static int keeps_result_within(zk_request *req, zk_response *res)
{
    zk_str body;
    ZK_WITHIN(ZK_MS(50)) {
        body_result = zk_body(req, &body);
    }
    if (body_result == -ETIMEDOUT) body_result = zk_body(req, &body);
    return body_result < 0 ? body_result : zk_respond(res, 200, NULL, body.data, body.size);
}

static const zk_route kept[] = {
    {"POST", "/", keeps_result, NULL},
    {"POST", "/within", keeps_result_within, NULL},
    {0},
};

ZK_HTTP_TEST(h1_input, a_client_that_leaves_in_the_middle_is_an_error, .routes = kept)
{
    static const char *const starts[] = {
        POST("/", LENGTH("5"), "123"),
        POST("/", LENGTH("5"), ""),
        POST("/", CHUNKED, "5\r\n123"),
        POST("/", CHUNKED, "3\r\n123\r\n0\r\n"),
    };
    for (size_t i = 0; i < ROWS(starts); i++) {
        wire c, *w = &c;
        wire_open(w, f);
        body_result = 1;
        wire_send(w, starts[i]);
        settle();
        cr_assert_eq(body_result, 1);
        cr_assert_ok(zk_stream_shutdown(w->stream));
        wire_collect(w);
        cr_assert_rc(body_result, ZK_E_CLOSED, "%s", starts[i]);
        cr_assert(w->is_closed);
        wire_close(w);
    }
}

ZK_HTTP_TEST(h1_input, a_body_that_stops_gives_408, .routes = kept, .body_timeout_ms = 2000,
             .body_rate_min_bytes_per_s = -1)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, POST("/", LENGTH("5"), "1"));
    for (int i = 0; i < 3; i++) {
        pass_ms(1900);
        wire_send(w, "2");
    }
    cr_assert_wire(w, "", false);
    pass_ms(2100);
    cr_assert_wire(w, LAST_PAGE("20", "408 Request Timeout"), true);
    cr_assert_rc(body_result, ZK_E_HTTP_TIMEOUT);
    wire_close(w);
}

ZK_HTTP_TEST(h1_input, a_body_below_the_minimum_rate_gives_408, .routes = kept,
             .body_rate_min_bytes_per_s = 10)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, POST("/", LENGTH("1000"), ""));
    /* 10 bytes a second for 20 seconds, and then one byte only. */
    for (int i = 0; i < 20; i++) {
        wire_send(w, "0123456789");
        pass_ms(1000);
    }
    cr_assert_wire(w, "", false);
    for (int i = 0; i < 6; i++) {
        wire_send(w, "x");
        pass_ms(1000);
    }
    cr_assert_wire(w, LAST_PAGE("20", "408 Request Timeout"), true);
    cr_assert_rc(body_result, ZK_E_SLOW);
    wire_close(w);
}

ZK_HTTP_TEST(h1_input, a_deadline_of_the_handler_does_not_end_the_body, .routes = kept)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, POST("/within", CHUNKED, "2\r\n12\r\n"));
    pass_ms(60);
    wire_send(w, "1\r\n3\r\n0\r\n\r\n");
    wire_collect(w);
    cr_assert_rc(body_result, 0);
    wire_close(w);
}
