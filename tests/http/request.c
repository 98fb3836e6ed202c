/*
 * What a handler can ask of its request.
 */
#include "tests/http/fixture.h"

/* The test's own checks, on the request that it sends; whether they ran. */
static void (*check)(zk_request *req);
static int checks;

static int runs_check(zk_request *req, zk_response *res)
{
    checks++;
    check(req);
    return zk_respond(res, 200, NULL, NULL, 0);
}

static const zk_route routes[] = {
    {"GET", "/r/{id}/{other}", runs_check, NULL},
    {"POST", "/{rest...}", runs_check, NULL},
    {"GET", "/{rest...}", runs_check, NULL},
    {0},
};

static char context[] = "mine";

static void check_request(fixture *f, void (*fn)(zk_request *), const char *text)
{
    wire c, *w = &c;
    check = fn;
    checks = 0;
    wire_open(w, f);
    wire_send(w, text);
    wire_take(w);
    cr_assert_eq(checks, 1, "%s", w->text);
    wire_close(w);
}

#define cr_assert_text(call, wanted, ...)                                                          \
    do {                                                                                           \
        zk_str zk__s = (call), zk__w = ZK_STR(wanted);                                             \
        cr_assert(zk__s.data &&zk__s.size == zk__w.size &&                                         \
                      !memcmp(zk__s.data, zk__w.data, zk__w.size),                                 \
                  "%s: \"%.*s\" " __VA_ARGS__, #call, (int)zk__s.size, zk__s.data);                \
    } while (0)

static void check_line(zk_request *req)
{
    cr_assert_text(zk_request_method(req), "GET");
    cr_assert_text(zk_request_path(req), "/a b/d");
    cr_assert_text(zk_request_query(req), "x=1&y=%20");
    cr_assert_text(zk_request_target(req), "/a%20b/c/../d?x=1&y=%20");
    cr_assert_text(zk_request_host(req), "example.org:8080");
    cr_assert_eq(zk_request_version(req), 11);
    cr_assert_eq(zk_request_context(req), context);
    cr_assert_eq(zk_body_length(req), 0);
    zk_addr addr;
    cr_assert_rc(zk_request_peer(req, &addr), -EOPNOTSUPP);
}

ZK_HTTP_TEST(request, gives_the_parts_of_the_request_line, .routes = routes, .context = context)
{
    check_request(f, check_line,
                  "GET /a%20b/c/../d?x=1&y=%20 HTTP/1.1\r\nHost: example.org:8080\r\n\r\n");
}

static void check_absolute(zk_request *req)
{
    cr_assert_text(zk_request_host(req), "real.example:81");
    cr_assert_text(zk_request_path(req), "/x");
    cr_assert_text(zk_request_target(req), "http://real.example:81/x");
    cr_assert_text(zk_request_header(req, "host"), "other");
}

/* RFC 9112 section 3.2.2: Host must be ignored then. */
ZK_HTTP_TEST(request, host_of_an_absolute_form_is_the_one_in_it, .routes = routes)
{
    check_request(f, check_absolute,
                  "GET http://real.example:81/x HTTP/1.1\r\nHost: other\r\n\r\n");
}

static void check_1_0(zk_request *req)
{
    cr_assert_eq(zk_request_version(req), 10);
    cr_assert_eq(zk_request_host(req).size, 0u);
    cr_assert_eq(zk_request_query(req).size, 0u);
    cr_assert_eq(zk_request_header_count(req), 0u);
    cr_assert(!zk_request_header(req, "host").data);
}

ZK_HTTP_TEST(request, of_http_1_0_may_have_no_host, .routes = routes)
{
    check_request(f, check_1_0, "GET / HTTP/1.0\r\n\r\n");
}

static void check_headers(zk_request *req)
{
    cr_assert_eq(zk_request_header_count(req), 5u);
    cr_assert_text(zk_request_header_at(req, 1).name, "X-Twice");
    cr_assert_text(zk_request_header_at(req, 1).value, "one");
    cr_assert_text(zk_request_header_at(req, 4).name, "x-Empty");
    cr_assert_text(zk_request_header_at(req, 4).value, "");
    cr_assert_text(zk_request_header(req, "x-twice"), "one", "the first");
    cr_assert_text(zk_request_header(req, "X-TWICE"), "one");
    cr_assert_text(zk_request_header(req, "X-White"), "a  b", "trimmed");
    cr_assert_text(zk_request_header(req, "X-Empty"), "");
    cr_assert(!zk_request_header(req, "X-Absent").data);
    cr_assert(!zk_request_header(req, "X-Twic").data);
    cr_assert(!zk_request_header(req, "").data);
    /* Only letters have a case: CR is '-' but for that bit. */
    cr_assert(!zk_request_header(req, "X\rTWICE").data);
    cr_assert(!zk_request_trailer(req, "X-Twice").data);
}

ZK_HTTP_TEST(request, header_fields_are_found_whatever_their_case, .routes = routes)
{
    check_request(f, check_headers,
                  "GET / HTTP/1.1\r\nHost: a\r\nX-Twice: one\r\nX-Twice: two\r\n"
                  "X-White: \t a  b \t\r\nx-Empty:\r\n\r\n");
}

static void check_params(zk_request *req)
{
    cr_assert_text(zk_request_param(req, "id"), "7");
    cr_assert_text(zk_request_param(req, "other"), "a?b");
    cr_assert(!zk_request_param(req, "ID").data);
    cr_assert(!zk_request_param(req, "i").data);
    cr_assert(!zk_request_param(req, "rest").data);
}

ZK_HTTP_TEST(request, parameters_are_those_of_the_route, .routes = routes)
{
    check_request(f, check_params, GET("/r/7/a%3fb"));
}

static void check_number(zk_request *req)
{
    zk_str wanted = zk_request_param(req, "other");
    uint64_t n = 77;
    int rc = zk_request_param_u64(req, "id", &n);
    cr_assert_rc(zk_request_param_u64(req, "absent", &n), ZK_E_HTTP_PATH);
    char text[32] = "refused";
    if (rc >= 0) snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    cr_assert(rc == 0 || (rc == ZK_E_HTTP_PATH && n == 77));
    cr_assert(wanted.size == strlen(text) && !memcmp(text, wanted.data, wanted.size),
              "%s, not %.*s", text, (int)wanted.size, wanted.data);
}

ZK_HTTP_TEST(request, a_parameter_may_be_taken_as_a_number, .routes = routes)
{
    static const char *const paths[] = {
        GET("/r/0/0"),
        GET("/r/42/42"),
        GET("/r/007/7"),
        GET("/r/18446744073709551615/18446744073709551615"),
        GET("/r/18446744073709551616/refused"),
        GET("/r/99999999999999999999999/refused"),
        GET("/r/-1/refused"),
        GET("/r/+1/refused"),
        GET("/r/1x/refused"),
        GET("/r/%201/refused"),
        GET("/r/0x1/refused"),
    };
    for (size_t i = 0; i < ROWS(paths); i++)
        check_request(f, check_number, paths[i]);
}

static void check_query(zk_request *req)
{
    zk_str value = ZK_STR("untouched");
    cr_assert_rc(zk_request_query_get(req, "a", &value), 1);
    cr_assert_text(value, "1", "the first");
    cr_assert_rc(zk_request_query_get(req, "b c", &value), 1);
    cr_assert_text(value, "x y&z");
    cr_assert_rc(zk_request_query_get(req, "bare", &value), 1);
    cr_assert_text(value, "");
    cr_assert_rc(zk_request_query_get(req, "absent", &value), 0);
    cr_assert_rc(zk_request_query_get(req, "bad", &value), ZK_E_HTTP_PATH);
    cr_assert_text(value, "");
}

static void check_no_query(zk_request *req)
{
    zk_str value = ZK_STR("untouched");
    cr_assert_rc(zk_request_query_get(req, "a", &value), 0);
    cr_assert_text(value, "untouched");
}

ZK_HTTP_TEST(request, query_values_are_decoded, .routes = routes)
{
    check_request(f, check_query, GET("/?a=1&a=2&b%20c=x+y%26z&bare&bad=%4"));
    check_request(f, check_no_query, GET("/a=1"));
    check_request(f, check_no_query, GET("/?"));
}

/* ---- bodies, as the API shows them; how they come in is tested in h1_input.c ---- */

#define POST(fields, body) "POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n" body

static void check_whole(zk_request *req)
{
    zk_str body = ZK_STR("untouched");
    cr_assert_eq(zk_body_length(req), 5);
    cr_assert_ok(zk_body(req, &body));
    cr_assert_text(body, "12345");
    char c;
    cr_assert_rc(zk_body_read(req, &c, 1), 0);
}

static void check_in_parts(zk_request *req)
{
    char part[4];
    zk_str rest;
    cr_assert_rc(zk_body_read(req, part, 0), 0);
    cr_assert_rc(zk_body_read(req, part, 2), 2);
    cr_assert(!memcmp(part, "12", 2));
    cr_assert_ok(zk_body(req, &rest));
    cr_assert_text(rest, "345");
    cr_assert_rc(zk_body_read(req, part, 2), 0);
}

static void check_none(zk_request *req)
{
    zk_str body;
    char c;
    cr_assert_eq(zk_body_length(req), 0);
    cr_assert_rc(zk_body_read(req, &c, 1), 0);
    cr_assert_ok(zk_body(req, &body));
    cr_assert_text(body, "");
}

static void check_chunked(zk_request *req)
{
    zk_str body;
    cr_assert_eq(zk_body_length(req), -1);
    cr_assert(!zk_request_trailer(req, "x-sum").data);
    cr_assert_ok(zk_body(req, &body));
    cr_assert_text(body, "12345");
    cr_assert_text(zk_request_trailer(req, "x-sum"), "15");
    cr_assert(!zk_request_header(req, "x-sum").data);
}

ZK_HTTP_TEST(request, a_body_is_given_whole_or_in_parts, .routes = routes)
{
    check_request(f, check_whole, POST("Content-Length: 5\r\n", "12345"));
    check_request(f, check_in_parts, POST("Content-Length: 5\r\n", "12345"));
    check_request(f, check_none, POST("Content-Length: 0\r\n", ""));
    check_request(f, check_none, POST("", ""));
    check_request(f, check_chunked,
                  POST("Transfer-Encoding: chunked\r\n",
                       "2\r\n12\r\n3;x=y\r\n345\r\n0\r\nX-Sum: 15\r\n\r\n"));
}
