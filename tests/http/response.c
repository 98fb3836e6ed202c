/*
 * What a handler can say in its response, and what it is told when it may not.
 */
#include "tests/http/fixture.h"

/* Each case is a handler of its own at /NAME; `seen` is what its calls returned. */
static long long seen[8];

static int plain(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_eq(zk_response_status(res), 0);
    int rc = zk_respond(res, 201, "a/b", "x\0y", 3);
    cr_assert_eq(zk_response_status(res), 201);
    return rc;
}

static int no_type(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, NULL, NULL, 0);
}

static int json(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_json(res, 200, "{}");
}

static int html(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_html(res, 200, "<p>");
}

static int fields(zk_request *req, zk_response *res)
{
    (void)req;
    char name[8] = "X-A", value[8] = "1";
    cr_assert_ok(zk_response_header(res, name, value));
    name[2] = 'B', value[0] = '2'; /* they were copied */
    cr_assert_ok(zk_response_header_n(res, name, (zk_str){value, 1}));
    cr_assert_ok(zk_response_header(res, "X-Empty", ""));
    cr_assert_ok(zk_response_header(res, "Set-Cookie", "a=1"));
    cr_assert_ok(zk_response_header(res, "Set-Cookie", "b=2"));
    return zk_respond_text(res, 200, "");
}

static int type(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_header(res, "content-TYPE", "x/y"));
    return zk_respond_text(res, 200, "");
}

static int closes(zk_request *req, zk_response *res)
{
    (void)req;
    zk_response_close(res);
    return zk_respond_text(res, 200, "");
}

static int gone(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 204, "not to be sent");
}

static int not_modified(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_header(res, "ETag", "\"1\""));
    return zk_respond(res, 304, NULL, "not to be sent", 14);
}

static int pieces(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, "a/b", 6));
    cr_assert_ok(zk_response_write(res, "abc", 3));
    cr_assert_ok(zk_response_write(res, "", 0));
    cr_assert_ok(zk_response_write(res, "def", 3));
    return zk_response_end(res);
}

static int chunks(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, "a/b", ZK_LENGTH_UNKNOWN));
    cr_assert_ok(zk_response_write(res, "abc", 3));
    cr_assert_ok(zk_response_write(res, "", 0)); /* would be the last chunk */
    cr_assert_ok(zk_response_write(res, "0123456789abcdef", 16));
    return zk_response_end(res);
}

static int trailers(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN));
    cr_assert_ok(zk_response_write(res, "abc", 3));
    cr_assert_ok(zk_response_trailer(res, "X-Sum", "6"));
    cr_assert_rc(zk_response_trailer(res, "X-Sum", "6\r\nX: y"), ZK_E_HTTP_FIELD);
    cr_assert_rc(zk_response_trailer(res, "Content-Length", "6"), ZK_E_HTTP_FIELD);
    return 0;
}

static int streamed_204(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 204, NULL, ZK_LENGTH_UNKNOWN));
    cr_assert_ok(zk_response_write(res, "abc", 3));
    return zk_response_end(res);
}

static int too_much(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, 3));
    cr_assert_rc(zk_response_write(res, "abcd", 4), ZK_E_HTTP_LENGTH);
    cr_assert_ok(zk_response_write(res, "abc", 3));
    cr_assert_rc(zk_response_write(res, "d", 1), ZK_E_HTTP_LENGTH);
    return zk_response_end(res);
}

static int too_little(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, 3));
    cr_assert_ok(zk_response_write(res, "ab", 2));
    cr_assert_rc(zk_response_end(res), ZK_E_HTTP_LENGTH);
    cr_assert_rc(zk_response_write(res, "c", 1), ZK_E_HTTP_LENGTH);
    return 0;
}

static int in_the_wrong_state(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_rc(zk_response_write(res, "a", 1), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_response_end(res), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_response_trailer(res, "X-A", "1"), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_respond(res, 199, NULL, "", 0), -EINVAL);
    cr_assert_rc(zk_respond(res, 1000, NULL, "", 0), -EINVAL);
    cr_assert_rc(zk_response_begin(res, 100, NULL, 0), -EINVAL);
    cr_assert_rc(zk_response_begin(res, 200, NULL, -2), -EINVAL);
    cr_assert_ok(zk_response_begin(res, 200, NULL, 1));
    cr_assert_rc(zk_response_header(res, "X-A", "1"), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_response_trailer(res, "X-A", "1"), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_response_begin(res, 200, NULL, 1), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_respond_text(res, 200, "a"), ZK_E_HTTP_STATE);
    cr_assert_ok(zk_response_write(res, "a", 1));
    cr_assert_ok(zk_response_end(res));
    cr_assert_rc(zk_response_end(res), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_response_write(res, "a", 1), ZK_E_HTTP_STATE);
    cr_assert_rc(zk_respond_text(res, 200, "a"), ZK_E_HTTP_STATE);
    cr_assert_ok(zk_response_flush(res));
    return 0;
}

static int odd_status(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_status(res, 799);
}

static const zk_route routes[] = {
    {"GET", "/plain", plain, NULL},
    {"GET", "/no-type", no_type, NULL},
    {"GET", "/json", json, NULL},
    {"GET", "/html", html, NULL},
    {"GET", "/fields", fields, NULL},
    {"GET", "/type", type, NULL},
    {"GET", "/closes", closes, NULL},
    {"GET", "/gone", gone, NULL},
    {"GET", "/not-modified", not_modified, NULL},
    {"GET", "/pieces", pieces, NULL},
    {"GET", "/chunks", chunks, NULL},
    {"GET", "/trailers", trailers, NULL},
    {"GET", "/streamed-204", streamed_204, NULL},
    {"GET", "/too-much", too_much, NULL},
    {"GET", "/too-little", too_little, NULL},
    {"GET", "/states", in_the_wrong_state, NULL},
    {"GET", "/odd", odd_status, NULL},
    {0},
};

#define HEAD_OF(path) "HEAD " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define HTTP_1_0(path) "GET " path " HTTP/1.0\r\n\r\n"
#define KEPT_1_0(path) "GET " path " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"

ZK_HTTP_TEST(response, what_a_handler_says_is_what_is_sent, .routes = routes)
{
    static const exchange_row rows[] = {
        {"a type of its own", GET("/no-type"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
         false},
        {"JSON", GET("/json"),
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}", false},
        {"HTML", GET("/html"),
         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: text/html; "
         "charset=utf-8\r\n\r\n<p>",
         false},
        {"fields in their order", GET("/fields"),
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" TEXT_TYPE
         "X-A: 1\r\nX-B: 2\r\nX-Empty: \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n",
         false},
        {"Content-Type replaced", GET("/type"),
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: x/y\r\n\r\n", false},
        {"RFC 9112 9.6: closing", GET("/closes") GET("/json"),
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE_FIELD TEXT_TYPE "\r\n", true},
        {"RFC 9110 15.3.5: 204 has no body and no length", GET("/gone"),
         "HTTP/1.1 204 No Content\r\n" TEXT_TYPE "\r\n", false},
        {"RFC 9110 15.4.5: 304 has no body", GET("/not-modified"),
         "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", false},
        {"a known length in pieces", GET("/pieces"),
         "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: a/b\r\n\r\nabcdef", false},
        {"RFC 9112 7.1: chunks", GET("/chunks"),
         "HTTP/1.1 200 OK\r\n" CHUNKED "Content-Type: a/b\r\n\r\n"
         "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
         false},
        {"RFC 9112 7.1.2: trailers", GET("/trailers"),
         "HTTP/1.1 200 OK\r\n" CHUNKED "\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n", false},
        {"204 of unknown length", GET("/streamed-204"), "HTTP/1.1 204 No Content\r\n\r\n", false},
        {"nothing of what is too much", GET("/too-much"),
         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false},
        {"too little breaks off", GET("/too-little") GET("/json"),
         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true},
        {"calls in the wrong state change nothing", GET("/states"),
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false},
        {"a status without a name", GET("/odd"),
         "HTTP/1.1 799 Unknown\r\nContent-Length: 12\r\n" TEXT_TYPE "\r\n799 Unknown\n", false},
    };
    exchange_rows_run(f, rows, ROWS(rows), 0);
    exchange_rows_run(f, rows, ROWS(rows), 7);
}

ZK_HTTP_TEST(response, a_head_is_answered_with_the_head_of_the_get, .routes = routes)
{
    static const exchange_row rows[] = {
        {"whole", HEAD_OF("/json"),
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n", false},
        {"in pieces", HEAD_OF("/pieces"),
         "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: a/b\r\n\r\n", false},
        {"in chunks", HEAD_OF("/chunks"), "HTTP/1.1 200 OK\r\n" CHUNKED "Content-Type: a/b\r\n\r\n",
         false},
        {"with trailers", HEAD_OF("/trailers"), "HTTP/1.1 200 OK\r\n" CHUNKED "\r\n", false},
        {"followed by another", HEAD_OF("/chunks") GET("/no-type"),
         "HTTP/1.1 200 OK\r\n" CHUNKED "Content-Type: a/b\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
         false},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(response, http_1_0_is_answered_in_its_own_way, .routes = routes)
{
    static const exchange_row rows[] = {
        {"RFC 9112 9.3: the connection ends", HTTP_1_0("/no-type"),
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE_FIELD "\r\n", true},
        {"unless the client asks", KEPT_1_0("/no-type") KEPT_1_0("/no-type"),
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
         false},
        {"RFC 9112 6.3: a length that is not known ends with the connection", HTTP_1_0("/chunks"),
         "HTTP/1.1 200 OK\r\n" CLOSE_FIELD "Content-Type: a/b\r\n\r\nabc0123456789abcdef", true},
        {"even if the client asks", KEPT_1_0("/chunks"),
         "HTTP/1.1 200 OK\r\n" CLOSE_FIELD "Content-Type: a/b\r\n\r\nabc0123456789abcdef", true},
        {"RFC 9112 7.1.2: no trailers", HTTP_1_0("/trailers"),
         "HTTP/1.1 200 OK\r\n" CLOSE_FIELD "\r\nabc", true},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(response, a_body_may_have_any_bytes, .routes = routes)
{
    static const char body[] = "Content-Type: a/b\r\n\r\nx\0y";
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/plain"));
    wire_collect(w);
    cr_assert_geq(w->size, sizeof body - 1);
    cr_assert(!memcmp(w->text + w->size - (sizeof body - 1), body, sizeof body - 1));
    wire_close(w);
}

/* ---- fields that are refused ---- */

static const struct field_row {
    const char *name, *field, *value;
} refused[] = {
    {"RFC 9110 5.5: CRLF", "X-A", "1\r\nX-B: 2"},
    {"a response of its own", "X-A", "1\r\n\r\nHTTP/1.1 200 OK"},
    {"bare LF", "X-A", "1\n2"},
    {"bare CR", "X-A", "1\r2"},
    {"a control byte", "X-A", "1\x01"},
    {"DEL", "X-A", "1\x7f"},
    {"white space before", "X-A", " 1"},
    {"white space behind", "X-A", "1\t"},
    {"RFC 9110 5.1: an empty name", "", "1"},
    {"a space in the name", "X A", "1"},
    {"a colon in the name", "X-A:", "1"},
    {"CRLF in the name", "X-A\r\nX-B", "1"},
    {"a byte of UTF-8 in the name", "X-\xc3\xa4", "1"},
    {"ours: Content-Length", "Content-Length", "3"},
    {"ours: Transfer-Encoding", "transfer-encoding", "chunked"},
    {"ours: Connection", "CONNECTION", "close"},
    {"ours: Keep-Alive", "Keep-Alive", "timeout=5"},
    {"ours: Upgrade", "Upgrade", "h2c"},
    {"ours: Trailer", "Trailer", "X-A"},
    {"ours: Date", "Date", "today"},
    {"ours: Server", "Server", "me"},
};

static int tries_refused(zk_request *req, zk_response *res)
{
    (void)req;
    for (const struct field_row *row = refused; row < refused + ROWS(refused); row++) {
        cr_assert_rc(zk_response_header(res, row->field, row->value), ZK_E_HTTP_FIELD, "%s",
                     row->name);
    }
    cr_assert_rc(zk_response_header_n(res, "X-A", (zk_str){"a\0b", 3}), ZK_E_HTTP_FIELD, "NUL");
    cr_assert_rc(zk_response_header(res, "Content-Type", "a/b\r\n\r\n"), ZK_E_HTTP_FIELD);
    return zk_respond(res, 200, NULL, NULL, 0);
}

static const zk_route refused_routes[] = {{"GET", "/", tries_refused, NULL}, {0}};

ZK_HTTP_TEST(response, nothing_can_be_smuggled_into_the_head, .routes = refused_routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/"));
    cr_assert_wire(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
    wire_close(w);
}

/* ---- many fields, and large ones ---- */

static int many_fields(zk_request *req, zk_response *res)
{
    (void)req;
    char name[16], *value = zk_arena_alloc(zk_request_arena(req), 1000);
    cr_assert(value);
    memset(value, 'v', 1000);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "X-%d", i);
        cr_assert_ok(zk_response_header_n(res, name, (zk_str){value, (size_t)i * 10}));
    }
    return zk_respond_text(res, 200, "end");
}

static const zk_route many_routes[] = {{"GET", "/", many_fields, NULL}, {0}};

ZK_HTTP_TEST(response, a_head_may_be_larger_than_the_output_buffer, .routes = many_routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/") GET("/"));
    const char *text = wire_take(w);
    size_t size = strlen(text);
    cr_assert_gt(size, 2 * 49500u);
    for (int half = 0; half < 2; half++) {
        const char *at = text + (size_t)half * (size / 2);
        cr_assert(!memcmp(at, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" TEXT_TYPE, 70));
        for (int i = 0; i < 100; i++) {
            char line[1040];
            memset(line, 'v', sizeof line);
            int begin = snprintf(line, sizeof line, "\r\nX-%d: ", i);
            line[begin] = 'v';
            if (!i) line[begin] = '\r';
            memcpy(line + begin + i * 10, "\r\n", 3);
            cr_assert(strstr(at, line), "field %d", i);
        }
        cr_assert(!memcmp(at + size / 2 - 7, "\r\n\r\nend", 7));
    }
    wire_close(w);
}

/* ---- errors of the connection ---- */

static int writes_into_nothing(zk_request *req, zk_response *res)
{
    (void)req;
    seen[0] = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    seen[1] = zk_response_flush(res);
    seen[2] = zk_response_write(res, "a", 1);
    seen[3] = zk_response_flush(res);
    seen[4] = zk_response_end(res);
    seen[5] = zk_respond_text(res, 200, "");
    return 0;
}

static const zk_route nothing_routes[] = {{"GET", "/", writes_into_nothing, NULL}, {0}};

ZK_HTTP_TEST(response, an_error_of_the_connection_sticks, .routes = nothing_routes)
{
    static const long long wanted[] = {0,           -ECONNRESET, -ECONNRESET,
                                       -ECONNRESET, -ECONNRESET, -ECONNRESET};
    wire c, *w = &c;
    wire_open(w, f);
    w->write_error = -ECONNRESET;
    wire_send(w, GET("/"));
    cr_assert_wire(w, "", true);
    for (size_t i = 0; i < ROWS(wanted); i++)
        cr_assert_rc(seen[i], wanted[i], "call %zu", i);
    wire_close(w);
}
