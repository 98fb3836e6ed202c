/*
 * The client against a server that does as it is told: what it sends, what it makes of answers,
 * when it tries again and when it must not, and its limits.
 */
#include "tests/http/origin.h"

#include <errno.h>

#include <zokio/client.h>

#include "http/client.h"
#include "net/stream.h"

static origin o; /* too large for a stack */

static zk_fetch *get(zk_client *client, const char *url)
{
    zk_fetch *f;
    cr_assert_ok(zk_fetch_open(client, &(zk_fetch_options){.url = url}, &f));
    return f;
}

static const char *body_of(zk_fetch *f)
{
    zk_str body;
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_assert_eq(strlen(body.data), body.size);
    return body.data;
}

static zk_client *client_with(zk_client_options options)
{
    zk_client *c;
    options.user_agent = "";
    cr_assert_ok(zk_client_new(&options, &c));
    return c;
}

/* What was written down, with the origin's own address replaced. */
static void expect_log(const char *wanted)
{
    static char text[sizeof o.log];
    size_t n = 0;
    for (const char *at = o.log; *at;) {
        if (!strncmp(at, o.address, strlen(o.address))) {
            text[n++] = '@';
            at += strlen(o.address);
        } else if (!strncmp(at, "Accept-Encoding: ", 17)) {
            at = strchr(at, '\n') + 1; /* what the library was built with */
        } else {
            text[n++] = *at++;
        }
    }
    text[n] = '\0';
    cr_expect_str_eq(text, wanted, "---- sent\n%s\n---- wanted\n%s\n----", text, wanted);
}

#define CLIENT_TEST(name, ...)                                                                     \
    static void client_test_##name(void);                                                          \
    ZK_ASYNC_TEST(client, name)                                                                    \
    {                                                                                              \
        static const step steps[] = {__VA_ARGS__};                                                 \
        origin_open(&o, steps, (int)ROWS(steps));                                                  \
        client_test_##name();                                                                      \
        origin_close(&o);                                                                          \
    }                                                                                              \
    static void client_test_##name(void)

/* One line is enough for a GET; the response has a status, fields and a body. */
CLIENT_TEST(gets_a_url_in_a_line, {"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"})
{
    zk_fetch *f;
    cr_assert_ok(zk_get(o.url, &f));
    cr_expect_eq(zk_fetch_status(f), 200);
    cr_expect_eq(zk_fetch_version(f), 11);
    cr_expect_eq(zk_fetch_length(f), 5);
    cr_expect_str_eq(zk_fetch_url(f), o.url);
    cr_expect_eq(zk_fetch_header_count(f), 2u);
    cr_expect_eq(zk_fetch_header_at(f, 1).value.data[0], 'b');
    cr_expect_eq(zk_fetch_header(f, "x-a").data[0], 'b');
    cr_expect_eq(zk_fetch_header(f, "x-b").data, NULL);
    cr_expect_str_eq(body_of(f), "hello");
    cr_expect_eq(zk_fetch_header(f, "x-a").data[0], 'b');
    zk_fetch_close(f);
    expect_log("GET / HTTP/1.1\r\nHost: @\r\nUser-Agent: zokio\r\nAccept: */*\r\n\r\n");
}

/* A request says what its options say, and nothing of the library's can be overridden. */
CLIENT_TEST(sends_what_it_is_told, {OK_ANSWER}, {OK_ANSWER}, {OK_ANSWER}, {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){0});
    char url[128];
    snprintf(url, sizeof url, "%sa%%20b?c=d#e", o.url);
    zk_fetch *f;
    static const zk_header headers[] = {{"X-One", "1"}, {"accept", "text/plain"}, {0}};
    cr_assert_ok(zk_fetch_open(c,
                               &(zk_fetch_options){.url = url,
                                                   .method = "DELETE",
                                                   .headers = headers,
                                                   .user = "Aladdin",
                                                   .password = "open sesame"},
                               &f));
    zk_fetch_close(f);
    cr_assert_ok(zk_fetch_open(c,
                               &(zk_fetch_options){.url = o.url,
                                                   .content_type = "text/plain",
                                                   .body = "hello",
                                                   .body_size = 5,
                                                   .bearer_token = "abc"},
                               &f));
    zk_fetch_close(f);
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url, .method = "PUT"}, &f));
    zk_fetch_close(f);
    expect_log("DELETE /a%20b?c=d HTTP/1.1\r\nHost: @\r\nX-One: 1\r\naccept: text/plain\r\n"
               "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
               "POST / HTTP/1.1\r\nHost: @\r\nAuthorization: Bearer abc\r\n"
               "Content-Type: text/plain\r\nAccept: */*\r\nContent-Length: 5\r\n\r\nhello"
               "PUT / HTTP/1.1\r\nHost: @\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n");
    const struct {
        zk_fetch_options options;
        int rc;
    } bad[] = {
        {{.url = "http://h/ "}, ZK_E_HTTP_URL},
        {{.url = "ws://h/"}, ZK_E_HTTP_URL},
        {{.url = "http://u:p@h/"}, ZK_E_HTTP_URL},
        {{.url = NULL}, ZK_E_HTTP_URL},
        {{.url = "http://h/", .method = "A B"}, ZK_E_HTTP_METHOD},
        {{.url = "http://h/", .method = "CONNECT"}, ZK_E_HTTP_METHOD},
        {{.url = "http://h/", .headers = (zk_header[]){{"a b", "c"}, {0}}}, ZK_E_HTTP_FIELD},
        {{.url = "http://h/", .headers = (zk_header[]){{"a", "c\r\nd: e"}, {0}}}, ZK_E_HTTP_FIELD},
        {{.url = "http://h/", .headers = (zk_header[]){{"Content-Length", "3"}, {0}}},
         ZK_E_HTTP_FIELD},
        {{.url = "http://h/", .user = "a:b"}, ZK_E_HTTP_FIELD},
    };
    for (size_t i = 0; i < ROWS(bad); i++)
        cr_assert_rc(zk_fetch_open(c, &bad[i].options, &f), bad[i].rc, "row %zu", i);
    zk_client_free(c);
    cr_expect_eq(o.connections, 1);
}

/* A body may come in any framing; trailers are there when it has been read. */
CLIENT_TEST(reads_bodies_of_each_kind,
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n"
             "X-Sum: 9\r\n\r\n"},
            {"HTTP/1.1 204 No Content\r\n\r\n"}, {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"},
            {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" OK_ANSWER},
            {"HTTP/1.1 200 OK\r\n\r\nto the end", CLOSE})
{
    zk_client *c = client_with((zk_client_options){0});
    zk_fetch *f = get(c, o.url);
    cr_expect_eq(zk_fetch_length(f), -1);
    cr_expect_eq(zk_fetch_trailer(f, "x-sum").data, NULL);
    cr_expect_str_eq(body_of(f), "abcde");
    cr_expect_eq(zk_fetch_trailer(f, "x-sum").data[0], '9');
    zk_fetch_close(f);
    f = get(c, o.url);
    cr_expect_eq(zk_fetch_status(f), 204);
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = o.url, .method = "HEAD"}, &f));
    cr_expect_str_eq(body_of(f), "");
    zk_fetch_close(f);
    f = get(c, o.url);
    cr_expect_str_eq(body_of(f), "ok");
    zk_fetch_close(f);
    cr_expect_eq(o.connections, 1, "all that can share a connection do");
    f = get(c, o.url);
    char part[4];
    cr_expect_eq(zk_fetch_read(f, part, 4), 4);
    cr_expect_str_eq(body_of(f), "he end");
    cr_expect_eq(zk_fetch_read(f, part, 4), 0);
    zk_fetch_close(f);
    zk_client_free(c);
}

/* A body that breaks off is an error, never a shorter body. */
CLIENT_TEST(tells_a_broken_body_from_a_whole_one,
            {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc", CLOSE},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", CLOSE},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcx"},
            {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc", STALL})
{
    static const int codes[] = {ZK_E_CLOSED, ZK_E_CLOSED, ZK_E_HTTP_SYNTAX, ZK_E_HTTP_TIMEOUT};
    zk_client *c = client_with((zk_client_options){.body_timeout_ms = 20});
    for (size_t i = 0; i < ROWS(codes); i++) {
        zk_fetch *f = get(c, o.url);
        zk_str body;
        cr_assert_rc(zk_fetch_body(f, &body), codes[i], "row %zu", i);
        cr_assert_rc(zk_fetch_read(f, &(char){0}, 1), codes[i], "row %zu: it sticks", i);
        zk_fetch_close(f);
    }
    zk_client_free(c);
    origin_until(o.open == 0 || o.open == 1); /* the one that stalls knows nothing yet */
}

/* What is no answer is refused, with the right word for it. */
CLIENT_TEST(refuses_what_is_no_answer, {"SSH-2.0-x\r\n", STALL}, {NULL, CLOSE},
            {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
            {"HTTP/2.0 200 OK\r\n\r\n"}, {NULL, STALL},
            {"HTTP/1.1 101 Hi\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"})
{
    static const int codes[] = {ZK_E_HTTP_SYNTAX,  ZK_E_CLOSED,       ZK_E_HTTP_SYNTAX,
                                ZK_E_HTTP_VERSION, ZK_E_HTTP_TIMEOUT, ZK_E_HTTP_SYNTAX};
    zk_client *c = client_with((zk_client_options){.answer_timeout_ms = 20});
    for (size_t i = 0; i < ROWS(codes); i++) {
        zk_fetch *f;
        cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), codes[i], "row %zu",
                     i);
    }
    cr_expect_eq(o.connections, (int)ROWS(codes), "none is used again");
    zk_client_free(c);
}

/* An idle connection that dies just as a request goes out costs an idempotent request nothing. */
CLIENT_TEST(tries_again_what_is_safe, {OK_ANSWER}, {NULL, CLOSE}, {OK_ANSWER}, {NULL, RESET},
            {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){0});
    for (int i = 0; i < 3; i++) {
        zk_fetch *f = get(c, o.url);
        cr_expect_str_eq(body_of(f), "ok");
        zk_fetch_close(f);
    }
    cr_expect_eq(o.connections, 3);
    cr_expect_eq(o.step_at, 5);
    zk_client_free(c);
}

/* What may have been done already is not done again: a POST that was sent, an answer that has
 * begun, and what fails on a fresh connection. */
CLIENT_TEST(never_repeats_what_may_have_been_done, {OK_ANSWER}, {NULL, CLOSE}, {OK_ANSWER},
            {"HTTP/1.1 2", CLOSE}, {NULL, CLOSE})
{
    zk_client *c = client_with((zk_client_options){0});
    zk_fetch *f = get(c, o.url);
    zk_fetch_close(f);
    zk_fetch_options post = {.url = o.url, .body = "x", .body_size = 1};
    cr_assert_rc(zk_fetch_open(c, &post, &f), ZK_E_CLOSED);
    zk_fetch_close(get(c, o.url));
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), ZK_E_CLOSED);
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), ZK_E_CLOSED);
    cr_expect_eq(o.step_at, 5, "each of them once");
    zk_client_free(c);
}

/* What arrives on an idle connection is no answer to what is asked next. */
CLIENT_TEST(takes_no_answer_that_was_not_asked_for,
            {OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"}, {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){0});
    for (int i = 0; i < 2; i++) {
        zk_fetch *f = get(c, o.url);
        cr_expect_str_eq(body_of(f), "ok");
        zk_fetch_close(f);
        settle();
    }
    cr_expect_eq(o.connections, 2);
    zk_client_free(c);
}

/* Idle connections are closed when their time is over, and all of them with the client. */
CLIENT_TEST(closes_idle_connections, {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){.idle_timeout_ms = 5000});
    zk_fetch_close(get(c, o.url));
    settle();
    cr_expect_eq(o.open, 1);
    pass_ms(4000);
    cr_expect_eq(o.open, 1);
    pass_ms(1100);
    origin_until(o.open == 0);
    zk_fetch_close(get(c, o.url));
    cr_expect_eq(o.open, 1);
    zk_client_free(c);
    origin_until(o.open == 0);
}

static int get_one(void *arg)
{
    zk_fetch *f = get(*(zk_client **)arg, o.url);
    cr_expect_str_eq(body_of(f), "ok");
    zk_fetch_close(f);
    return 0;
}

/* No more connections than the limit; the others wait their turn, and nobody is forgotten. */
CLIENT_TEST(shares_few_connections, {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){.connections_max = 2});
    ZK_SCOPE(scope) {
        for (int i = 0; i < 20; i++)
            cr_assert_ok(zk_spawn(&scope, get_one, &c));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_expect_eq(o.connections, 2);
    zk_client_free(c);
}

/* Who waits for a place may give up, or have to. */
CLIENT_TEST(place_in_the_pool_is_not_waited_for_for_ever, {"HTTP/1.1 200 OK\r\n\r\n", STALL})
{
    zk_client *c = client_with((zk_client_options){.connections_max = 1, .connect_timeout_ms = 20});
    zk_fetch *held = get(c, o.url), *f;
    zk_fetch_options options = {.url = o.url};
    cr_assert_rc(zk_fetch_open(c, &options, &f), ZK_E_HTTP_TIMEOUT);
    ZK_WITHIN(ZK_MS(5))
        cr_assert_rc(zk_fetch_open(c, &options, &f), -ETIMEDOUT);
    zk_fetch_close(held);
    settle();
    zk_fetch_close(get(c, o.url));
    zk_client_free(c);
}

/* A cancelled scope ends an exchange wherever it is, and the connection with it. */
CLIENT_TEST(is_cancelled_with_its_scope, {NULL, STALL}, {"HTTP/1.1 200 OK\r\n\r\na", STALL})
{
    zk_client *c = client_with((zk_client_options){0});
    zk_fetch *f;
    ZK_WITHIN(ZK_MS(5))
        cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f), -ETIMEDOUT);
    f = get(c, o.url);
    zk_str body;
    ZK_WITHIN(ZK_MS(5))
        cr_assert_rc(zk_fetch_body(f, &body), -ETIMEDOUT);
    zk_fetch_close(f);
    zk_client_free(c);
}

/* A streamed request goes out piece by piece, in chunks or as long as announced, with trailers. */
CLIENT_TEST(streams_a_request, {OK_ANSWER}, {OK_ANSWER}, {OK_ANSWER})
{
    zk_client *c = client_with((zk_client_options){0});
    zk_fetch *f;
    zk_fetch_options options = {.url = o.url, .is_streamed = true, .body_length = -1};
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    cr_assert_rc(zk_fetch_read(f, &(char){0}, 1), ZK_E_HTTP_STATE);
    cr_assert_ok(zk_fetch_write(f, "hello", 5));
    cr_assert_ok(zk_fetch_flush(f));
    cr_assert_ok(zk_fetch_write(f, "sixteen bytes...", 16));
    cr_assert_ok(zk_fetch_write_trailer(f, "X-Sum", "1"));
    cr_assert_rc(zk_fetch_write_trailer(f, "Content-Length", "1"), ZK_E_HTTP_FIELD);
    cr_assert_ok(zk_fetch_answer(f));
    cr_assert_rc(zk_fetch_write(f, "x", 1), ZK_E_HTTP_STATE);
    cr_expect_str_eq(body_of(f), "ok");
    zk_fetch_close(f);
    options.body_length = 4;
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    cr_assert_rc(zk_fetch_write(f, "12345", 5), ZK_E_HTTP_LENGTH);
    cr_assert_rc(zk_fetch_write_trailer(f, "X-Sum", "1"), ZK_E_HTTP_STATE);
    cr_assert_ok(zk_fetch_write(f, "1234", 4));
    cr_assert_ok(zk_fetch_answer(f));
    zk_fetch_close(f);
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    cr_assert_ok(zk_fetch_write(f, "12", 2));
    cr_assert_rc(zk_fetch_answer(f), ZK_E_HTTP_LENGTH);
    zk_fetch_close(f);
    zk_client_free(c);
    expect_log("POST / HTTP/1.1\r\nHost: @\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n"
               "5\r\nhello\r\n10\r\nsixteen bytes...\r\n0\r\nX-Sum: 1\r\n\r\n"
               "POST / HTTP/1.1\r\nHost: @\r\nAccept: */*\r\nContent-Length: 4\r\n\r\n1234");
}

/* A server that answers without reading all, and closes, is heard. */
CLIENT_TEST(hears_an_early_answer,
            {"HTTP/1.1 413 Too much\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", STALL,
             .reads_head_only = true})
{
    zk_client *c = client_with((zk_client_options){.write_timeout_ms = 50});
    zk_fetch *f;
    zk_fetch_options options = {.url = o.url, .is_streamed = true, .body_length = 10};
    cr_assert_ok(zk_fetch_open(c, &options, &f));
    cr_assert_ok(zk_fetch_write(f, "0123456789", 10));
    cr_assert_ok(zk_fetch_answer(f));
    cr_expect_eq(zk_fetch_status(f), 413);
    zk_fetch_close(f);
    zk_client_free(c);
}

/* A body over its limit is refused, whether it says so beforehand or not. */
CLIENT_TEST(limits_what_is_read_whole, {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789"},
            {"HTTP/1.1 200 OK\r\n\r\n123456789", CLOSE},
            {"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678"},
            {"HTTP/1.1 200 OK\r\nA: 0123456789012345678901234567890123456789\r\n\r\n"})
{
    zk_client *c = client_with((zk_client_options){.body_bytes_max = 8, .header_bytes_max = 48});
    zk_str body;
    zk_fetch *f;
    for (int i = 0; i < 2; i++) {
        f = get(c, o.url);
        cr_assert_rc(zk_fetch_body(f, &body), ZK_E_HTTP_BODY_TOO_LARGE);
        zk_fetch_close(f);
    }
    f = get(c, o.url);
    cr_expect_str_eq(body_of(f), "12345678");
    zk_fetch_close(f);
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = o.url}, &f),
                 ZK_E_HTTP_HEADER_TOO_LARGE);
    zk_client_free(c);
}

/* Errors of connecting come through. */
CLIENT_TEST(says_why_it_cannot_connect, {OK_ANSWER})
{
    zk_fetch *f;
    char url[64];
    snprintf(url, sizeof url, "%s", o.url);
    zk_fetch_options options = {.url = "http://zokio.invalid/", .connect = "127.0.0.1:1"};
    cr_assert_rc(zk_fetch_open(NULL, &options, &f), -ECONNREFUSED);
    options.connect = "unix:/nowhere/at/all";
    cr_assert_rc(zk_fetch_open(NULL, &options, &f), -ENOENT);
    options.connect = o.address;
    cr_assert_ok(zk_fetch_open(NULL, &options, &f));
    zk_fetch_close(f);
    expect_log("GET / HTTP/1.1\r\nHost: zokio.invalid\r\nUser-Agent: zokio\r\nAccept: */*\r\n\r\n");
}

static zk_client *shared;
static char shared_url[64];

static int get_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        zk_fetch *f;
        zk_str body;
        zk_client *c = i % 2 ? shared : NULL;
        int rc = zk_fetch_open(c, &(zk_fetch_options){.url = shared_url}, &f);
        if (rc < 0) return rc;
        rc = zk_fetch_body(f, &body);
        bool is_right = !rc && !strcmp(body.data, "ok");
        zk_fetch_close(f);
        if (!is_right) return rc < 0 ? rc : -EBADMSG;
    }
    return 0;
}

/* A client serves all workers, each with connections of its own, and is freed for all. */
ZK_ASYNC_TEST_ON(client, serves_all_workers, 3)
{
    origin_open(&o, NULL, 0);
    snprintf(shared_url, sizeof shared_url, "%s", o.url);
    cr_assert_ok(zk_client_new(NULL, &shared));
    ZK_SCOPE(scope) {
        for (int i = 0; i < 9; i++)
            cr_assert_ok(zk_spawn_on(&scope, i % 3, get_many, NULL));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    zk_client_free(shared);
    /* Those of the workers' own clients stay until these end. */
    origin_until(o.open <= 9);
    origin_close(&o);
}
