/*
 * HTTP/2: what requests and responses are made of, RFC 9113 section 8. A malformed request is an
 * error of its stream; what is valid in HTTP/2 but no request that we serve gets an error page. In
 * both cases the connection goes on.
 */
#include "tests/http/h2_frames.h"

/* Tells what it has got. */
static int tells(zk_request *req, zk_response *res)
{
    zk_arena *arena = zk_request_arena(req);
    zk_str method = zk_request_method(req), target = zk_request_target(req);
    zk_str host = zk_request_host(req), scheme = zk_request_scheme(req), body;
    int rc = zk_body(req, &body);
    if (rc < 0) return rc;
    zk_str trailer = zk_request_trailer(req, "X-T"), x = zk_request_header(req, "X");
    char *text = zk_arena_printf(arena, "%.*s %.*s %.*s %.*s %.*s|%.*s|%.*s", (int)method.size,
                                 method.data, (int)target.size, target.data, (int)host.size,
                                 host.data, (int)scheme.size, scheme.data, (int)body.size,
                                 body.data, (int)trailer.size, trailer.data, (int)x.size, x.data);
    return zk_respond_text(res, 200, text);
}

static int empty(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 204, NULL, NULL, 0);
}

static int not_modified(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 304, NULL, NULL, 0);
}

/* Upper case in names, a value of no size, the same name twice, and the type set by hand. */
static int with_fields(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_header(res, "X-Upper-CASE", "Value");
    if (rc >= 0) rc = zk_response_header(res, "x-empty", "");
    if (rc >= 0) rc = zk_response_header(res, "X-Upper-CASE", "two");
    return rc < 0 ? rc : zk_respond(res, 200, NULL, "ok", 2);
}

static int with_trailers(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    if (rc >= 0) rc = zk_response_write(res, "body", 4);
    if (rc >= 0) rc = zk_response_trailer(res, "X-Sum", "1");
    return rc < 0 ? rc : zk_response_trailer(res, "x-more", "2");
}

static int only_trailers(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    return rc < 0 ? rc : zk_response_trailer(res, "X-Sum", "1");
}

static int streamed(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, 4);
    return rc < 0 ? rc : zk_response_write(res, "body", 4);
}

/* Less than it has announced: an error of the handler's. */
static int too_little(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, 5);
    return rc < 0 ? rc : zk_response_write(res, "body", 4);
}

static int fails(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    return -EIO;
}

static int fails_later(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    if (rc >= 0) rc = zk_response_write(res, "body", 4);
    return rc < 0 ? rc : -EIO;
}

static int says_nothing(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    return 0;
}

/* Fields that are an error in HTTP/2 cannot be set. */
static int forbidden_fields(zk_request *req, zk_response *res)
{
    (void)req;
    static const char *const names[] = {
        "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Transfer-Encoding", ":status",
        "TE",         "a b"};
    for (size_t i = 0; i < ROWS(names); i++) {
        if (zk_response_header(res, names[i], "a") != ZK_E_HTTP_FIELD) return -EIO;
    }
    return zk_respond_text(res, 200, "ok");
}

/* A head that one frame does not hold. */
static int many_fields(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    char *value = rc < 0 ? NULL : zk_arena_alloc(zk_request_arena(req), 1001);
    if (!value) return -ENOMEM;
    memset(value, '~', 1000); /* 13 bits in Huffman's code: sent as it is */
    value[1000] = '\0';
    for (uint64_t i = 0; i < size / 1000 && rc >= 0; i++)
        rc = zk_response_header(res, "x", value);
    return rc < 0 ? rc : zk_respond_text(res, 200, "ok");
}

static const zk_route routes[] = {
    {NULL, "/", tells, NULL},
    {NULL, "/path", tells, NULL},
    {"GET", "/204", empty, NULL},
    {"GET", "/304", not_modified, NULL},
    {"GET", "/fields", with_fields, NULL},
    {"GET", "/trailers", with_trailers, NULL},
    {"GET", "/only_trailers", only_trailers, NULL},
    {"GET", "/streamed", streamed, NULL},
    {"GET", "/too_little", too_little, NULL},
    {"GET", "/fails", fails, NULL},
    {"GET", "/fails_later", fails_later, NULL},
    {"GET", "/says_nothing", says_nothing, NULL},
    {"GET", "/forbidden", forbidden_fields, NULL},
    {"GET", "/many/{size}", many_fields, NULL},
    {"POST", "/posts", tells, NULL},
    {0},
};

typedef struct message_row {
    const char *name, *in, *out;
} message_row;

/* On a connection of its own, on which another request is then answered. */
static void row_run(fixture *f, const message_row *row, const char *out, size_t piece)
{
    h2_client c;
    h2_open(&c, f);
    h2_bytes b = h2_script(row->in);
    wire_send_n(&c.w, b.data, b.size, piece);
    free(b.data);
    h2_check(&c, out, row->name);
    h2_send(&c, "headers.eh 9 GET:/204");
    h2_check(&c, "headers 9 204 end\n", row->name);
    h2_close(&c);
}

static void rows_run(fixture *f, const message_row *rows, size_t count, const char *out)
{
    for (size_t i = 0; i < count; i++) {
        row_run(f, &rows[i], rows[i].out ? rows[i].out : out, 0);
        row_run(f, &rows[i], rows[i].out ? rows[i].out : out, 1);
    }
}

#define RESET "reset 1 PROTOCOL_ERROR\n"
#define BAD_REQUEST "headers 1 400 content-length=16\ndata 1 16 end 400 Bad Request\n\n"

/* ---- 8.1 to 8.3: malformed requests ---- */

ZK_HTTP_TEST(h2_message, rfc_9113_8_2_malformed_fields, .routes = routes)
{
    static const message_row rows[] = {
        {"8.2 an upper-case name", "headers.eh 1 GET:/ A=b", NULL},
        {"8.2 upper case within a name", "headers.eh 1 GET:/ abC=d", NULL},
        {"8.2.1 a space in a name", "headers.eh 1 GET:/ hex:00036120620163", NULL},
        {"8.2.1 a colon in a name", "headers.eh 1 GET:/ hex:0003613a620163", NULL},
        {"8.2.1 a control character in a name", "headers.eh 1 GET:/ hex:000261010163", NULL},
        {"8.2.1 a byte over 0x7f in a name", "headers.eh 1 GET:/ hex:000261ff0163", NULL},
        {"8.2.1 an empty name", "headers.eh 1 GET:/ hex:00000163", NULL},
        {"8.2.1 a NUL in a value", "headers.eh 1 GET:/ hex:00017803610062", NULL},
        {"8.2.1 a CR in a value", "headers.eh 1 GET:/ hex:00017803610d62", NULL},
        {"8.2.1 a LF in a value", "headers.eh 1 GET:/ hex:00017803610a62", NULL},
        {"8.2.1 a value that begins with a space", "headers.eh 1 GET:/ hex:000178022061", NULL},
        {"8.2.1 a value that ends with a tab", "headers.eh 1 GET:/ hex:000178026109", NULL},
        {"8.2.2 Connection", "headers.eh 1 GET:/ connection=close", NULL},
        {"8.2.2 Keep-Alive", "headers.eh 1 GET:/ keep-alive=1", NULL},
        {"8.2.2 Proxy-Connection", "headers.eh 1 GET:/ proxy-connection=close", NULL},
        {"8.2.2 Transfer-Encoding", "headers.h 1 POST:/ transfer-encoding=chunked", NULL},
        {"8.2.2 Upgrade", "headers.eh 1 GET:/ upgrade=h2c", NULL},
        {"8.2.2 TE with more than trailers", "headers.eh 1 GET:/ te=gzip", NULL},
        {"8.2.2 in trailers", "headers.h 1 POST:/; headers.eh 1 connection=close", NULL},
        {"RFC 9110 6.5.1 a length in trailers", "headers.h 1 POST:/; headers.eh 1 content-length=0",
         NULL},
        {"RFC 9110 7.2 Host twice", "headers.eh 1 GET:/ host=a host=a", NULL},
        {"RFC 9110 7.2 an empty Host", "headers.eh 1 GET:/ host=", NULL},
    };
    rows_run(f, rows, ROWS(rows), RESET);
}

#define M ":method=GET "
#define S ":scheme=http "
#define A ":authority=a "
#define P ":path=/ "

ZK_HTTP_TEST(h2_message, rfc_9113_8_3_malformed_pseudo_fields, .routes = routes)
{
    static const message_row rows[] = {
        {"no :method", "headers.eh 1 " S A P, NULL},
        {"no :scheme", "headers.eh 1 " M A P, NULL},
        {"no :path", "headers.eh 1 " M S A, NULL},
        {"no :authority and no Host", "headers.eh 1 " M S P, NULL},
        {"none at all", "headers.eh 1 a=b", NULL},
        {"an empty block", "headers.eh 1", NULL},
        {":method twice", "headers.eh 1 " M M S A P, NULL},
        {":scheme twice", "headers.eh 1 " M S S A P, NULL},
        {":authority twice", "headers.eh 1 " M S A A P, NULL},
        {":path twice", "headers.eh 1 " M S A P P, NULL},
        {":path behind a field", "headers.eh 1 " M S A "a=b " P, NULL},
        {"an unknown one", "headers.eh 1 " M S A P ":what=x", NULL},
        {"one of responses", "headers.eh 1 " M S A P ":status=200", NULL},
        {"an empty :method", "headers.eh 1 :method= " S A P, NULL},
        {"an empty :path", "headers.eh 1 " M S A ":path=", NULL},
        {"a :path without a slash", "headers.eh 1 " M S A ":path=x", NULL},
        {"a :path of * but for OPTIONS", "headers.eh 1 " M S A ":path=*", NULL},
        {"an empty :authority", "headers.eh 1 " M S ":authority= " P, NULL},
        {"a :scheme that is none", "headers.eh 1 " M ":scheme=1/x " A P, NULL},
        {"8.3 in trailers", "headers.h 1 POST:/; headers.eh 1 " P, NULL},
        {"8.1 trailers that do not end the stream", "headers.h 1 POST:/; headers.h 1 a=b", NULL},
        {"8.5 CONNECT with a path", "headers.h 1 :method=CONNECT " A P, NULL},
        {"8.5 CONNECT with a scheme", "headers.h 1 :method=CONNECT " A S, NULL},
        {"8.5 CONNECT without an authority", "headers.h 1 :method=CONNECT", NULL},
        {"RFC 8441 4 :protocol without CONNECT", "headers.h 1 GET:/ :protocol=websocket", NULL},
        {"RFC 8441 4 without a path", "headers.h 1 :method=CONNECT :protocol=w " S A, NULL},
        {"RFC 8441 4 without a scheme", "headers.h 1 :method=CONNECT :protocol=w " A P, NULL},
        {"RFC 8441 4 without an authority", "headers.h 1 :method=CONNECT :protocol=w " S P, NULL},
        {"RFC 8441 4 :protocol twice", "headers.h 1 :method=CONNECT :protocol=w :protocol=w " S A P,
         NULL},
        {"RFC 8441 4 an empty :protocol", "headers.h 1 :method=CONNECT :protocol= " S A P, NULL},
    };
    rows_run(f, rows, ROWS(rows), RESET);
}

ZK_HTTP_TEST(h2_message, rfc_9113_8_1_1_the_body_is_as_long_as_content_length_says,
             .routes = routes)
{
    static const message_row rows[] = {
        {"more", "headers.h 1 POST:/ content-length=1; data.e 1 'xy'", NULL},
        {"less", "headers.h 1 POST:/ content-length=3; data.e 1 'xy'", NULL},
        {"none", "headers.eh 1 POST:/ content-length=3", NULL},
        {"less, and trailers", "headers.h 1 POST:/ content-length=3; data 1 'xy'; headers.eh 1 a=b",
         NULL},
        {"twice", "headers.h 1 POST:/ content-length=2 content-length=2; data.e 1 'xy'", NULL},
        {"a sign", "headers.h 1 POST:/ content-length=+2; data.e 1 'xy'", NULL},
        {"negative", "headers.h 1 POST:/ content-length=-2; data.e 1 'xy'", NULL},
        {"no number", "headers.h 1 POST:/ content-length=x; data.e 1 'xy'", NULL},
        {"empty", "headers.h 1 POST:/ content-length=; data.e 1 'xy'", NULL},
        {"a list", "headers.h 1 POST:/ content-length=2,2; data.e 1 'xy'", NULL},
        {"over 2^63", "headers.h 1 POST:/ content-length=9223372036854775808; data.e 1 'xy'", NULL},
        {"padding does not count", "headers.h 1 POST:/ content-length=3; data.ep 1 u8:1 'xy' u8:0",
         NULL},
    };
    /* Whole: in pieces a handler may have all that it wants before there is too much. */
    for (size_t i = 0; i < ROWS(rows); i++)
        row_run(f, &rows[i], RESET, 0);
}

/* HTTP/2 has no objection, but no request is like that, or two readers might differ. */
ZK_HTTP_TEST(h2_message, requests_that_are_well_framed_but_wrong_get_a_page, .routes = routes)
{
    static const message_row rows[] = {
        {"8.3.1 Host differs from :authority", "headers.eh 1 " M S A P "host=b", NULL},
        {"8.3.1 user information", "headers.eh 1 " M S ":authority=u@a " P, NULL},
        {"an :authority that is no host", "headers.eh 1 " M S ":authority=a/b " P, NULL},
        {"a port that is none", "headers.eh 1 " M S ":authority=a:x " P, NULL},
        {"a Host that is none", "headers.eh 1 " M S P "host=u@a", NULL},
        {"a method that is no token", "headers.eh 1 :method=G,T " S A P, NULL},
        {"a path above the root", "headers.eh 1 " M S A ":path=/../x", NULL},
        {"a :path with a space", "headers.eh 1 " M S A "hex:00053a70617468032f2078", NULL},
        {"a path that is not encoded", "headers.eh 1 " M S A ":path=/%", NULL},
    };
    rows_run(f, rows, ROWS(rows), BAD_REQUEST);
}

/* ---- 8.3: what is right ---- */

#define TELLS(size, text) "headers 1 200 content-length=" size "\ndata 1 " size " end " text "\n"

ZK_HTTP_TEST(h2_message, rfc_9113_8_3_valid_requests, .routes = routes)
{
    static const message_row rows[] = {
        {"in another order", "headers.eh 1 " P A S M, TELLS("15", "GET / a http ||")},
        {"Host instead of :authority", "headers.eh 1 " M S P "host=b:1",
         TELLS("17", "GET / b:1 http ||")},
        {"both, the same", "headers.eh 1 " M S A P "host=A", TELLS("15", "GET / a http ||")},
        {"TE: trailers", "headers.eh 1 GET:/ te=trailers", TELLS("15", "GET / a http ||")},
        {"a query", "headers.eh 1 " M S A ":path=/path?q=1",
         TELLS("23", "GET /path?q=1 a http ||")},
        {"another method", "headers.eh 1 BREW:/", TELLS("16", "BREW / a http ||")},
        {"8.2.3 Cookie in pieces", "headers.eh 1 GET:/ cookie=a cookie=b x=1",
         TELLS("16", "GET / a http ||1")},
        {"a body", "headers.h 1 POST:/ content-length=2; data.e 1 'xy'",
         TELLS("18", "POST / a http xy||")},
        {"a body in pieces", "headers.h 1 POST:/; data 1 'x'; data 1; data.e 1 'y'",
         TELLS("18", "POST / a http xy||")},
        {"trailers", "headers.h 1 POST:/ x=y; data 1 'x'; headers.eh 1 x-t=t a=b",
         TELLS("19", "POST / a http x|t|y")},
        {"trailers without a body", "headers.h 1 POST:/; headers.eh 1 x-t=t",
         TELLS("17", "POST / a http |t|")},
        {"priority information", "headers.ehq 1 u32:0x80000000 u8:255 GET:/",
         TELLS("15", "GET / a http ||")},
    };
    rows_run(f, rows, ROWS(rows), "");
}

/* ---- responses ---- */

ZK_HTTP_TEST(h2_message, rfc_9113_8_1_responses, .routes = routes)
{
    static const message_row rows[] = {
        {"HEAD", "headers.eh 1 HEAD:/streamed", "headers 1 200 content-length=4 end\n"},
        {"HEAD, of unknown length", "headers.eh 1 HEAD:/trailers", "headers 1 200 end\n"},
        {"HEAD, whole", "headers.eh 1 HEAD:/", "headers 1 200 content-length=16 end\n"},
        {"HEAD of what is not there", "headers.eh 1 HEAD:/none",
         "headers 1 404 content-length=14 end\n"},
        {"204", "headers.eh 1 GET:/204", "headers 1 204 end\n"},
        {"304", "headers.eh 1 GET:/304", "headers 1 304 end\n"},
        {"8.2 names become lower case", "headers.eh 1 GET:/fields",
         "headers 1 200 content-length=2 x-upper-case=Value x-empty= x-upper-case=two\n"
         "data 1 2 end ok\n"},
        {"8.2.2 fields of connections are refused", "headers.eh 1 GET:/forbidden",
         "headers 1 200 content-length=2\ndata 1 2 end ok\n"},
        {"trailers", "headers.eh 1 GET:/trailers",
         "headers 1 200\ndata 1 4 body\nheaders 1 x-sum=1 x-more=2 end\n"},
        {"trailers without a body", "headers.eh 1 GET:/only_trailers",
         "headers 1 200\nheaders 1 x-sum=1 end\n"},
        {"streamed", "headers.eh 1 GET:/streamed",
         "headers 1 200 content-length=4\ndata 1 4 end body\n"},
        {"OPTIONS", "headers.eh 1 OPTIONS:/204", "headers 1 204 allow=GET, HEAD, OPTIONS end\n"},
        {"OPTIONS of the server", "headers.eh 1 OPTIONS:*",
         "headers 1 204 allow=DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT end\n"},
        {"another method", "headers.eh 1 PUT:/204",
         "headers 1 405 content-length=23 allow=GET, HEAD, OPTIONS\n"
         "data 1 23 end 405 Method Not Allowed\n\n"},
        {"no such path", "headers.eh 1 GET:/none",
         "headers 1 404 content-length=14\ndata 1 14 end 404 Not Found\n\n"},
        {"an error of the handler's", "headers.eh 1 GET:/fails",
         "headers 1 500 content-length=26\ndata 1 26 end 500 Internal Server Error\n\n"},
        {"no response", "headers.eh 1 GET:/says_nothing",
         "headers 1 500 content-length=26\ndata 1 26 end 500 Internal Server Error\n\n"},
        {"8.5 CONNECT is not for us", "headers.h 1 :method=CONNECT :authority=a:1",
         "headers 1 404 content-length=14\ndata 1 14 end 404 Not Found\n\nreset 1 NO_ERROR\n"},
    };
    rows_run(f, rows, ROWS(rows), "");
}

/* Half a response must not look like a whole one. What was gathered of it may be sent or not. */
ZK_HTTP_TEST(h2_message, rfc_9113_8_1_a_response_that_fails_resets_its_stream, .routes = routes)
{
    static const char *const paths[] = {"/too_little", "/fails_later"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        h2_client c;
        char script[64];
        h2_open(&c, f);
        snprintf(script, sizeof script, "headers.eh 1 GET:%s", paths[i]);
        h2_send(&c, script);
        const char *log = h2_take(&c);
        cr_assert(strstr(log, "reset 1 INTERNAL_ERROR\n"), "%s", log);
        cr_assert(!strstr(log, " end"), "%s", log);
        h2_send(&c, "headers.eh 3 GET:/204");
        cr_assert_h2(&c, "headers 3 204 end\n");
        h2_close(&c);
    }
}

/* RFC 9113 section 4.3: behind HEADERS comes CONTINUATION. What nghttp2 does not send at all ends
 * the stream. */
ZK_HTTP_TEST(h2_message, a_head_of_many_frames, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/many/40000");
    const char *log = h2_take(&c);
    cr_assert(!strncmp(log, "headers 1 200 content-length=2 x=~~", 35), "%.100s", log);
    cr_assert(strstr(log, "data 1 2 end ok\n"));
    h2_send(&c, "headers.eh 3 GET:/many/200000");
    cr_assert_h2(&c, "reset 3 INTERNAL_ERROR\n");
    h2_send(&c, "headers.eh 5 GET:/204");
    cr_assert_h2(&c, "headers 5 204 end\n");
    h2_close(&c);
}

/* RFC 8441: accepted, and a GET for routes. Unless its handler takes the tunnel over there is none,
 * whatever it says. */
ZK_HTTP_TEST(h2_message, rfc_8441_extended_connect_is_a_request_with_a_path, .routes = routes)
{
    static const message_row rows[] = {
        {"to a handler that knows no tunnels",
         "headers.h 1 :method=CONNECT :protocol=w " S A P "; data.e 1", "headers 1 501 end\n"},
        {"without a body", "headers.h 1 :method=CONNECT :protocol=w " S A ":path=/204",
         "headers 1 501 end\nreset 1 NO_ERROR\n"},
        {"to no route", "headers.h 1 :method=CONNECT :protocol=w " S A ":path=/nowhere",
         "headers 1 404 content-length=14\ndata 1 14 end 404 Not Found\n\nreset 1 NO_ERROR\n"},
    };
    rows_run(f, rows, ROWS(rows), "");
}

/* RFC 9110 section 10.1.1: only who is about to wait for the body asks for it. */
ZK_HTTP_TEST(h2_message, rfc_9110_10_1_1_expect_100_continue, .routes = routes)
{
    static const struct {
        const char *name, *in, *first, *rest, *out;
    } rows[] = {
        {"is told to go on", "headers.h 1 POST:/ expect=100-continue", "headers 1 100\n",
         "data.e 1 'x'", TELLS("17", "POST / a http x||")},
        {"in any case", "headers.h 1 POST:/ expect=100-Continue", "headers 1 100\n", "data.e 1 'x'",
         TELLS("17", "POST / a http x||")},
        {"has gone on already", "headers.h 1 POST:/ expect=100-continue; data 1 'x'", "",
         "data.e 1 'y'", TELLS("18", "POST / a http xy||")},
        {"has nothing to send", "headers.eh 1 POST:/ expect=100-continue",
         TELLS("16", "POST / a http ||"), "", ""},
        {"another expectation", "headers.h 1 POST:/ expect=tea", "", "data.e 1 'x'",
         TELLS("17", "POST / a http x||")},
        {"is not wanted", "headers.h 1 POST:/none expect=100-continue",
         "headers 1 404 content-length=14\ndata 1 14 end 404 Not Found\n\nreset 1 NO_ERROR\n", "",
         ""},
        {"is too large", "headers.h 1 POST:/ expect=100-continue content-length=2000000",
         "headers 1 413 content-length=22\ndata 1 22 end 413 Content Too Large\n\n"
         "reset 1 NO_ERROR\n",
         "", ""},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        h2_open(&c, f);
        h2_send(&c, rows[i].in);
        h2_check(&c, rows[i].first, rows[i].name);
        h2_send(&c, rows[i].rest);
        h2_check(&c, rows[i].out, rows[i].name);
        h2_close(&c);
    }
}

/* What is not wanted of a request any more is not waited for. */
ZK_HTTP_TEST(h2_message, rfc_9113_8_1_an_early_response, .routes = routes)
{
    static const message_row row = {"in one piece", "headers.h 1 POST:/ content-length=0; data.e 1",
                                    TELLS("16", "POST / a http ||")};
    row_run(f, &row, row.out, 0);
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 POST:/ content-length=0");
    cr_assert_h2(&c, TELLS("16", "POST / a http ||") "reset 1 NO_ERROR\n");
    h2_send(&c, "data.e 1"); /* was on its way */
    cr_assert_h2(&c, "");
    h2_close(&c);
}
