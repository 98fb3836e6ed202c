/*
 * What becomes of a request: routes, methods, middleware, and the response that is sent when the
 * handler has none.
 */
#include "tests/http/fixture.h"

static int says_hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "hello");
}

static int says_method(zk_request *req, zk_response *res)
{
    return zk_respond(res, 200, NULL, zk_request_method(req).data, zk_request_method(req).size);
}

static int says_id(zk_request *req, zk_response *res)
{
    zk_str id = zk_request_param(req, "id");
    return zk_respond(res, 200, NULL, id.data, id.size);
}

static int says_rest(zk_request *req, zk_response *res)
{
    zk_str rest = zk_request_param(req, "rest"), none = zk_request_param(req, "id");
    if (none.data) return -EINVAL;
    return zk_respond(res, 200, NULL, rest.data, rest.size);
}

static int says_path(zk_request *req, zk_response *res)
{
    return zk_respond(res, 200, NULL, zk_request_path(req).data, zk_request_path(req).size);
}

#define BARE(length, text) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n" text

static const zk_route routes[] = {
    {"GET", "/hello", says_hello, NULL},
    {"GET", "/users/{id}", says_id, NULL},
    {"GET", "/files/{rest...}", says_rest, NULL},
    {"POST", "/hello", says_method, NULL},
    {"PUT", "/put", says_method, NULL},
    {NULL, "/any", says_method, NULL},
    {"GET", "/own", says_hello, NULL},
    {"HEAD", "/own", says_method, NULL},
    {"OPTIONS", "/own", says_method, NULL},
    {"GET", "/p/{rest...}", says_path, NULL},
    {0},
};

ZK_HTTP_TEST(exchange, routes_are_found_by_path_and_method, .routes = routes)
{
    static const exchange_row rows[] = {
        {"a literal", GET("/hello"), OK_TEXT("5", "hello"), false},
        {"a parameter", GET("/users/42"), BARE("2", "42"), false},
        {"a decoded parameter", GET("/users/a%20b"), BARE("3", "a b"), false},
        {"the rest", GET("/files/a/b%3fc"), BARE("5", "a/b?c"), false},
        {"an empty rest", GET("/files/"), BARE("0", ""), false},
        {"another method", "POST /hello HTTP/1.1\r\nHost: a\r\n\r\n", BARE("4", "POST"), false},
        {"any method", "PATCH /any HTTP/1.1\r\nHost: a\r\n\r\n", BARE("5", "PATCH"), false},
        {"RFC 9110 7.1: a query is no part of the path", GET("/hello?a=/b"), OK_TEXT("5", "hello"),
         false},
        {"RFC 9112 3.2.2: the absolute form", GET("http://a/hello"), OK_TEXT("5", "hello"), false},
        {"no such path", GET("/nothing"), PAGE("14", "404 Not Found"), false},
        {"no such path below", GET("/hello/"), PAGE("14", "404 Not Found"), false},
        {"an empty parameter", GET("/users/"), PAGE("14", "404 Not Found"), false},
    };
    cr_assert_exchanges(f, rows);
}

#define ALLOW(allow) "HTTP/1.1 204 No Content\r\nAllow: " allow "\r\n\r\n"
#define NOT_ALLOWED(allow)                                                                         \
    "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n" TEXT_TYPE "Allow: " allow          \
    "\r\n\r\n405 Method Not Allowed\n"

ZK_HTTP_TEST(exchange, methods_that_a_path_has_not_are_answered_for_it, .routes = routes)
{
    static const exchange_row rows[] = {
        {"RFC 9110 15.5.6: 405 names what is allowed", "DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n",
         NOT_ALLOWED("GET, HEAD, OPTIONS, POST"), false},
        {"405 of a path without GET", GET("/put"), NOT_ALLOWED("OPTIONS, PUT"), false},
        {"RFC 9110 9.3.2: HEAD is GET without the body", "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n",
         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" TEXT_TYPE "\r\n", false},
        {"a HEAD of nothing has no body either", "HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
         "HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n" TEXT_TYPE "\r\n", false},
        {"a HEAD that is not allowed", "HEAD /put HTTP/1.1\r\nHost: a\r\n\r\n",
         "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n" TEXT_TYPE
         "Allow: OPTIONS, PUT\r\n\r\n",
         false},
        {"HEAD of its own", "HEAD /own HTTP/1.1\r\nHost: a\r\n\r\n",
         "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", false},
        {"RFC 9110 9.3.7: OPTIONS", "OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n",
         ALLOW("GET, HEAD, OPTIONS, POST"), false},
        {"OPTIONS of its own", "OPTIONS /own HTTP/1.1\r\nHost: a\r\n\r\n", BARE("7", "OPTIONS"),
         false},
        {"OPTIONS of nothing", "OPTIONS /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
         PAGE("14", "404 Not Found"), false},
        {"OPTIONS of the server", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
         ALLOW("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"), false},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(exchange, paths_are_decoded_once_and_cannot_escape, .routes = routes)
{
    static const exchange_row rows[] = {
        {"RFC 3986 5.2.4: dot segments are resolved", GET("/p/a/../b/./c"), BARE("6", "/p/b/c"),
         false},
        {"encoded ones, too", GET("/p/a/%2e%2E/b"), BARE("4", "/p/b"), false},
        {"decoded once", GET("/p/%2541"), BARE("6", "/p/%41"), false},
        {"up to the root", GET("/p/../p/x"), BARE("4", "/p/x"), false},
        {"above the root", GET("/../p/x"), LAST_PAGE("16", "400 Bad Request"), true},
        {"above the root, encoded", GET("/p/%2e%2e/%2e%2e/x"), LAST_PAGE("16", "400 Bad Request"),
         true},
        {"an encoded slash", GET("/p/a%2fb"), LAST_PAGE("16", "400 Bad Request"), true},
        {"an encoded NUL", GET("/p/a%00b"), LAST_PAGE("16", "400 Bad Request"), true},
        {"half a percent sequence", GET("/p/a%4"), LAST_PAGE("16", "400 Bad Request"), true},
        {"no hexadecimal digit", GET("/p/a%4x"), LAST_PAGE("16", "400 Bad Request"), true},
        {"a target without a slash", GET("p"), LAST_PAGE("16", "400 Bad Request"), true},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(exchange, a_path_that_is_refused_leaves_what_came_before_it_answered, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/hello") GET("/../x") GET("/hello"));
    cr_assert_wire(w, OK_TEXT("5", "hello") LAST_PAGE("16", "400 Bad Request"), true);
    cr_assert_eq(w->sends, 1);
    wire_close(w);
}

/* ---- middleware ---- */

static char noted[64];

static void note(const char *word) { strncat(noted, word, sizeof noted - strlen(noted) - 1); }

static int outer(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req, (void)res;
    note("(outer ");
    int rc = zk_next_run(next);
    note("outer)");
    return rc;
}

static int middle(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req;
    note("(middle ");
    cr_assert_ok(zk_response_header(res, "X-Middle", "1"));
    int rc = zk_next_run(next);
    note("middle) ");
    return rc;
}

static int inner(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req, (void)res;
    note("(inner ");
    cr_assert_ok(zk_sleep(1));
    int rc = zk_next_run(next);
    note("inner) ");
    return rc;
}

static int refuses(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req, (void)next;
    note("refused ");
    return zk_respond_status(res, 401);
}

static int fails(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req, (void)res, (void)next;
    return zk_fail(-EIO, "in the middleware");
}

static int twice(zk_request *req, zk_response *res, zk_next *next)
{
    (void)req, (void)res;
    int rc = zk_next_run(next);
    cr_assert_rc(zk_next_run(next), ZK_E_HTTP_STATE);
    return rc;
}

static int notes_hello(zk_request *req, zk_response *res)
{
    note("handler ");
    return says_hello(req, res);
}

static zk_middleware *const server_with[] = {outer, middle, NULL};
static zk_middleware *const with_inner[] = {inner, NULL};
static zk_middleware *const with_refuses[] = {inner, refuses, inner, NULL};
static zk_middleware *const with_fails[] = {fails, NULL};
static zk_middleware *const with_twice[] = {twice, NULL};
static const zk_route wrapped[] = {
    {"GET", "/plain", notes_hello, NULL},           {"GET", "/inner", notes_hello, with_inner},
    {"GET", "/refused", notes_hello, with_refuses}, {"GET", "/fails", notes_hello, with_fails},
    {"GET", "/twice", notes_hello, with_twice},     {0},
};

ZK_HTTP_TEST(exchange, middleware_runs_from_the_outside_in, .routes = wrapped, .with = server_with)
{
    static const struct row {
        const char *path, *wanted, *status;
    } rows[] = {
        {"/plain", "(outer (middle handler middle) outer)", "200"},
        {"/inner", "(outer (middle (inner handler inner) middle) outer)", "200"},
        {"/refused", "(outer (middle (inner refused inner) middle) outer)", "401"},
        {"/fails", "(outer (middle middle) outer)", "500"},
        {"/twice", "(outer (middle handler handler middle) outer)", "200"},
        {"/nothing", "(outer (middle middle) outer)", "404"},
    };
    for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
        wire c;
        wire_open(&c, f);
        noted[0] = '\0';
        wire_send(&c, "GET ");
        wire_send(&c, row->path);
        wire_send(&c, " HTTP/1.1\r\nHost: a\r\n\r\n");
        pass_ms(1);
        const char *text = wire_take(&c);
        cr_assert_str_eq(noted, row->wanted, "%s: %s", row->path, noted);
        cr_assert(!memcmp(text + 9, row->status, 3), "%s: %s", row->path, text);
        /* An error page has no field that was meant for the response that failed. */
        bool has_field = strstr(text, "X-Middle: 1\r\n");
        cr_assert_eq(has_field, row->status[0] != '5', "%s: %s", row->path, text);
        wire_close(&c);
    }
}

/* ---- one whole response, whatever the handler does ---- */

static int does_nothing(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    return 0;
}

static int returns_error(zk_request *req, zk_response *res)
{
    uint64_t n;
    cr_assert_ok(zk_response_header(res, "X-Lost", "1"));
    cr_assert_ok(zk_request_param_u64(req, "n", &n));
    return -(int)n;
}

static int fails_in_the_middle(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN));
    cr_assert_ok(zk_response_write(res, "half", 4));
    return zk_fail(-EIO, "reading the other half");
}

static int fails_in_the_middle_of_ten(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, 10));
    cr_assert_ok(zk_response_write(res, "half", 4));
    return -EIO;
}

static int fails_behind_it(zk_request *req, zk_response *res)
{
    int rc = says_hello(req, res);
    return rc < 0 ? rc : -EIO;
}

static int does_not_end(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN));
    return zk_response_write(res, "open", 4);
}

static int begins_only(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_response_begin(res, 200, NULL, 5);
}

static const zk_route faulty[] = {
    {"GET", "/ok", says_hello, NULL},
    {"GET", "/nothing", does_nothing, NULL},
    {"GET", "/error/{n}", returns_error, NULL},
    {"GET", "/middle", fails_in_the_middle, NULL},
    {"GET", "/middle-of-ten", fails_in_the_middle_of_ten, NULL},
    {"GET", "/behind", fails_behind_it, NULL},
    {"GET", "/open", does_not_end, NULL},
    {"GET", "/short", begins_only, NULL},
    {0},
};

ZK_HTTP_TEST(exchange, there_is_one_response_whatever_the_handler_does, .routes = faulty)
{
    static const exchange_row rows[] = {
        {"no response", GET("/nothing"), PAGE("26", "500 Internal Server Error"), false},
        {"an error of the system", GET("/error/5"), PAGE("26", "500 Internal Server Error"), false},
        {"ENOMEM", GET("/error/12"), PAGE("24", "503 Service Unavailable"), false},
        {"ZK_E_HTTP_SYNTAX", GET("/error/4200"), PAGE("16", "400 Bad Request"), false},
        {"ZK_E_HTTP_PATH", GET("/error/4211"), PAGE("16", "400 Bad Request"), false},
        {"ZK_E_HTTP_TIMEOUT", GET("/error/4206"), PAGE("20", "408 Request Timeout"), false},
        {"ZK_E_HTTP_BODY_TOO_LARGE", GET("/error/4205"), PAGE("22", "413 Content Too Large"),
         false},
        {"an error behind the response", GET("/behind"), OK_TEXT("5", "hello"), false},
        {"not ended", GET("/open"),
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nopen\r\n0\r\n\r\n", false},
    };
    cr_assert_exchanges(f, rows);
}

/* The client must see that there is something missing, and every response before it. */
ZK_HTTP_TEST(exchange, an_error_in_the_middle_breaks_the_connection_off, .routes = faulty)
{
    static const exchange_row rows[] = {
        {"chunked: no last chunk", GET("/ok") GET("/middle") GET("/ok"),
         OK_TEXT("5", "hello") "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
         true},
        {"fewer bytes than announced", GET("/ok") GET("/middle-of-ten") GET("/ok"),
         OK_TEXT("5", "hello") "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true},
        {"none of the bytes announced", GET("/ok") GET("/short") GET("/ok"),
         OK_TEXT("5", "hello") "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true},
    };
    exchange_rows_run(f, rows, ROWS(rows), 0);
}

/* ---- on_error ---- */

static char reported[256];

static void on_error(void *context, const zk_request *req, int rc, const char *what)
{
    cr_assert_eq(context, reported);
    size_t size = strlen(reported);
    zk_str path = zk_request_path(req);
    snprintf(reported + size, sizeof reported - size, "[%.*s %s: %s]", (int)path.size, path.data,
             zk_errname(rc), what);
}

ZK_HTTP_TEST(exchange, what_fails_is_reported_once, .routes = faulty, .on_error = on_error,
             .context = reported)
{
    static const struct row {
        const char *in, *wanted;
    } rows[] = {
        {GET("/ok"), ""},
        {GET("/error/5"), "[/error/5 EIO: Input/output error]"},
        {GET("/middle"), "[/middle EIO: reading the other half: EIO (Input/output error)]"},
        {GET("/behind"), "[/behind EIO: Input/output error]"},
        {GET("/nothing"), "[/nothing ZK_E_HTTP_STATE: the handler has not responded]"},
        {GET("/short"),
         "[/short ZK_E_HTTP_LENGTH: the HTTP body does not match the announced length]"},
        {"x\r\n\r\n", "[ ZK_E_HTTP_SYNTAX: does not begin with a method]"},
        {GET("/.."), "[ ZK_E_HTTP_PATH: the request target is not valid]"},
    };
    for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
        wire c;
        reported[0] = '\0';
        wire_open(&c, f);
        wire_send(&c, row->in);
        wire_take(&c);
        cr_assert_str_eq(reported, row->wanted, "%s%s", row->in, reported);
        wire_close(&c);
    }
}

static int fails_with_trail(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    return zk_fail(-EIO, "the first");
}

static const zk_route trails[] = {
    {"GET", "/1", fails_with_trail, NULL},
    {"GET", "/error/{n}", returns_error, NULL},
    {0},
};

ZK_HTTP_TEST(exchange, a_report_has_no_trail_of_another_request, .routes = trails,
             .on_error = on_error, .context = reported)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/1") GET("/error/5"));
    wire_take(w);
    cr_assert_str_eq(reported,
                     "[/1 EIO: the first: EIO (Input/output error)]"
                     "[/error/5 EIO: Input/output error]",
                     "%s", reported);
    wire_close(w);
}

/* To an HTTP/1.0 client the end of the connection would be the end of the body. */
ZK_HTTP_TEST(exchange, a_body_that_ends_with_the_connection_is_broken_off_by_a_reset,
             .routes = faulty)
{
    wire c, *w = &c;
    wire_open(w, f);
    const char *text = "GET /middle HTTP/1.0\r\n\r\n";
    wire_send_n(w, text, strlen(text), 0);
    wire_collect(w);
    cr_assert(w->is_reset, "%s", w->text);
    wire_close(w);
}

/* A client that sends a line end too many is idle, not late (RFC 9112 section 2.2). */
ZK_HTTP_TEST(exchange, a_line_end_behind_a_request_is_no_late_head, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    const char *text = GET("/hello") "\r\n";
    wire_send_n(w, text, strlen(text), 0);
    wire_collect(w);
    cr_assert(!w->is_closed);
    size_t size = w->size;
    pass_ms(30000);
    wire_collect(w);
    cr_assert_eq(w->size, size, "%s", w->text + size);
    cr_assert(!w->is_closed);
    wire_close(w);
}
