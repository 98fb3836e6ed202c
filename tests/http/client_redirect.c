/*
 * Redirects: what a reference comes to, and what goes along with a request to where it leads.
 */
#include "tests/http/origin.h"

#include <zokio/client.h>

#include "http/client.h"
#include "net/stream.h"

static origin o, other;

/* RFC 3986 section 5.4, and what servers send beside that. */
ZK_ASYNC_TEST(client_redirect, references_are_resolved)
{
    static const char *const rows[][2] = {
        {"", "http://a/b/c/d;p?q"},
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g"},
        {"//g:81/x", "http://g:81/x"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q#s"},
        {"g#s", "http://a/b/c/g#s"},
        {"g;x?y#s", "http://a/b/c/g;x?y#s"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../g", "http://a/g"},
        {"../../../g", "http://a/g"},
        {"/./g", "http://a/g"},
        {"/../g", "http://a/g"},
        {"g.", "http://a/b/c/g."},
        {"..g", "http://a/b/c/..g"},
        {"./../g", "http://a/b/g"},
        {"g/./h", "http://a/b/c/g/h"},
        {"g/../h", "http://a/b/c/h"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"https://b/x", "https://b/x"},
        {"HTTP://b", "HTTP://b"},
        {"mailto:a@b", "mailto:a@b"},
        {"/a b\xc3\xa4|?{c}", "http://a/a%20b%C3%A4%7C?%7Bc%7D"},
        {"/100%", "http://a/100%25"},
        {"/%41%zz", "http://a/%41%25zz"},
        {"g:h/x", "g:h/x"},
        {"./g:h", "http://a/b/c/g:h"},
    };
    zk_url base;
    cr_assert_ok(zk_url_parse(ZK_STR("http://a/b/c/d;p?q"), &base));
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_arena arena = {0};
        char *got = zk__url_resolve(&base, (zk_str){rows[i][0], strlen(rows[i][0])}, &arena);
        cr_expect(got && !strcmp(got, rows[i][1]), "%s is %s, not %s", rows[i][0],
                  got ? got : "NULL", rows[i][1]);
        zk_arena_done(&arena);
    }
    zk_arena arena = {0};
    cr_expect_eq(zk__url_resolve(&base, ZK_STR("a\0b"), &arena), NULL);
}

static char location[256];

#define MOVED(status) "HTTP/1.1 " status " Moved\r\nContent-Length: 4\r\nLocation: /to\r\n\r\nmove"

/* Each kind of redirect keeps or changes the request as browsers do. */
ZK_ASYNC_TEST(client_redirect, is_followed_by_the_right_request)
{
    static const struct {
        const char *method, *answer, *then;
        int status;
    } rows[] = {
        {"GET", MOVED("301"), "GET /to HTTP/1.1", 200},
        {"HEAD", "HTTP/1.1 302 Found\r\nLocation: /to\r\n\r\n", "HEAD /to HTTP/1.1", 200},
        {"POST", MOVED("301"), "GET /to HTTP/1.1", 200},
        {"POST", MOVED("302"), "GET /to HTTP/1.1", 200},
        {"POST", MOVED("303"), "GET /to HTTP/1.1", 200},
        {"PUT", MOVED("303"), "GET /to HTTP/1.1", 200},
        {"PUT", MOVED("302"), "PUT /to HTTP/1.1", 200},
        {"POST", MOVED("307"), "POST /to HTTP/1.1", 200},
        {"POST", MOVED("308"), "POST /to HTTP/1.1", 200},
        {"GET", MOVED("304") "", NULL, 304},
        {"GET", MOVED("300"), NULL, 300},
        {"GET", "HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n", NULL, 302},
        {"GET", "HTTP/1.1 302 No\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n", NULL, 302},
        {"GET", "HTTP/1.1 302 No\r\nLocation: http://u:p@x/\r\nContent-Length: 0\r\n\r\n", NULL,
         302},
        {"GET", "HTTP/1.1 302 No\r\nLocation: \\\\x\r\nContent-Length: 0\r\n\r\n", NULL, 302},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        const step steps[] = {{.answer = rows[i].answer},
                              {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}};
        origin_open(&o, steps, 2);
        bool has_body = rows[i].method[0] == 'P';
        zk_fetch *f;
        cr_assert_ok(zk_fetch_open(NULL,
                                   &(zk_fetch_options){.url = o.url,
                                                       .method = rows[i].method,
                                                       .content_type = has_body ? "a/b" : NULL,
                                                       .body = has_body ? "body" : NULL,
                                                       .body_size = has_body ? 4 : 0},
                                   &f));
        cr_expect_eq(zk_fetch_status(f), rows[i].status, "row %zu", i);
        if (rows[i].then) {
            const char *second = strstr(o.log, rows[i].then);
            cr_expect(second, "row %zu:\n%s", i, o.log);
            bool keeps = second && second[0] == 'P';
            cr_expect_eq(second && strstr(second, "Content-Type: a/b"), keeps, "row %zu", i);
            cr_expect_eq(second && strstr(second, "\r\n\r\nbody"), keeps, "row %zu", i);
            cr_expect(strstr(zk_fetch_url(f), "/to"));
        } else {
            cr_expect_eq(o.step_at, 1, "row %zu", i);
        }
        cr_expect_eq(o.connections, 1, "row %zu", i);
        zk_fetch_close(f);
        origin_close(&o);
    }
}

/* Secrets are for the origin that they were given to. */
ZK_ASYNC_TEST(client_redirect, takes_no_secrets_to_others)
{
    origin_open(&other, NULL, 0);
    snprintf(location, sizeof location,
             "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://%s/x\r\n\r\n",
             other.address);
    const step steps[] = {{.answer = MOVED("302")}, {.answer = location}};
    origin_open(&o, steps, 2);
    static const zk_header headers[] = {{"Cookie", "a=b"}, {"X-Other", "1"}, {"Host", "me"}, {0}};
    zk_fetch *f;
    cr_assert_ok(zk_fetch_open(
        NULL, &(zk_fetch_options){.url = o.url, .headers = headers, .bearer_token = "secret"}, &f));
    zk_fetch_close(f);
    const char *second = strstr(o.log, "GET /to");
    cr_expect(second && strstr(second, "Authorization: Bearer secret") && strstr(second, "a=b"));
    cr_expect(strstr(other.log, "GET /x HTTP/1.1\r\nHost: 127.0.0.1:"));
    cr_expect(strstr(other.log, "X-Other: 1"));
    cr_expect(!strstr(other.log, "secret") && !strstr(other.log, "Cookie"), "%s", other.log);
    origin_close(&o);
    origin_close(&other);
}

/* Cookies are kept across redirects and requests, and said only where they belong. */
ZK_ASYNC_TEST(client_redirect, keeps_cookies_if_there_is_a_jar)
{
    static const step steps[] = {
        {.answer = "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d; Path=/to\r\n"
                   "Content-Length: 0\r\nLocation: /to\r\n\r\n"},
    };
    origin_open(&o, steps, 1);
    zk_cookies *jar;
    zk_client *c;
    zk_fetch *f;
    cr_assert_ok(zk_cookies_new(&jar));
    cr_assert_ok(zk_client_new(&(zk_client_options){.cookies = jar}, &c));
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f));
    zk_fetch_close(f);
    cr_expect(strstr(o.log, "GET /to HTTP/1.1\r\nHost: ") &&
                  strstr(o.log, "\r\nCookie: c=d; a=b\r\n"),
              "%s", o.log);
    o.log_size = 0;
    static const zk_header own[] = {{"Cookie", "x=y"}, {0}};
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url, .headers = own}, &f));
    zk_fetch_close(f);
    cr_expect(strstr(o.log, "Cookie: x=y\r\n") && !strstr(o.log, "a=b"), "%s", o.log);
    zk_client_free(c);
    zk_cookies_free(jar);
    origin_close(&o);
}

/* A circle of redirects has an end, and redirects may be unwanted. */
ZK_ASYNC_TEST(client_redirect, has_a_limit)
{
    static step steps[20];
    for (size_t i = 0; i < ROWS(steps); i++)
        steps[i] = (step){.answer = MOVED("302")};
    origin_open(&o, steps, (int)ROWS(steps));
    zk_client *c;
    cr_assert_ok(zk_client_new(&(zk_client_options){.redirects_max = 3}, &c));
    zk_fetch *f;
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), ZK_E_HTTP_REDIRECTS);
    cr_expect_eq(o.step_at, 4);
    zk_client_free(c);
    cr_assert_ok(zk_client_new(&(zk_client_options){.redirects_max = -1}, &c));
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f));
    cr_expect_eq(zk_fetch_status(f), 302);
    zk_fetch_close(f);
    zk_client_free(c);
    origin_close(&o);
}
