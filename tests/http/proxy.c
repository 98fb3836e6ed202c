/*
 * The proxy: what it forwards, what it adds and leaves out, and what it says when it cannot.
 */
#include "tests/http/proxying.h"

static origin *const o = &origins[0];

/* Fields of the connection stay on it; what the proxy knows of the client is added. */
PROXY_TEST(proxy, forwards_a_request_and_its_answer, OPTIONS(.via = "p"),
           {"HTTP/1.1 203 Whatever\r\nContent-Length: 2\r\nContent-Type: a/b\r\nServer: other\r\n"
            "Date: never\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nX-B: c\r\n"
            "\r\nok",
            CLOSE})
{
    expect_text(
        talk("GET /a%20b/../c?d=e HTTP/1.1\r\nHost: example.org:81\r\nX-One: 1\r\n"
             "Connection: keep-alive, X-Two\r\nX-Two: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
             "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
             "Proxy-Authorization: x\r\nVia: 1.0 fred\r\nCookie: a=b\r\n\r\n"),
        "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 2\r\n"
        "Content-Type: a/b\r\nX-B: c\r\nVia: 1.1 p\r\n\r\nok");
    expect_text(o->log, "GET /a%20b/../c?d=e HTTP/1.1\r\nHost: example.org:81\r\nX-One: 1\r\n"
                        "Via: 1.0 fred\r\nCookie: a=b\r\nX-Forwarded-For: 127.0.0.1\r\n"
                        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: example.org:81\r\n"
                        "Forwarded: for=127.0.0.1;proto=http;host=\"example.org:81\"\r\n"
                        "Via: 1.1 p\r\n\r\n");
    cr_expect_eq(px.access.status, 203);
    cr_expect_eq(px.access.body_bytes, 2u);
    cr_expect_eq(px.access.tries, 1);
}

/* In front of other proxies their word on the client is kept, and the upstream may be called by
 * its own name. */
PROXY_TEST(proxy, trusts_other_proxies_if_told,
           OPTIONS(.trusts_forwarded = true, .sends_upstream_host = true), {OK_ANSWER})
{
    talk("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"
         "Forwarded: for=1.2.3.4\r\n\r\n");
    char wanted[512];
    snprintf(wanted, sizeof wanted,
             "GET / HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Proto: https\r\n"
             "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nX-Forwarded-Host: a\r\n"
             "Forwarded: for=1.2.3.4, for=127.0.0.1;proto=http;host=\"a\"\r\n\r\n",
             o->address);
    expect_text(o->log, wanted);
}

/* Each form of a target becomes the origin form. */
PROXY_TEST(proxy, sends_targets_in_origin_form, OPTIONS(0))
{
    talk("GET http://a/b?c HTTP/1.1\r\nHost: x\r\n\r\n");
    talk("GET http://a?c HTTP/1.1\r\nHost: x\r\n\r\n");
    talk("OPTIONS http://a HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_text(log_of(o),
                "GET /b?c HTTP/1.1\r\nHost: a\r\n\r\nGET /?c HTTP/1.1\r\nHost: a\r\n\r\n");
}

/* Bodies of requests arrive as they were framed, trailers too. */
PROXY_TEST(proxy, forwards_request_bodies, OPTIONS(0))
{
    talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    talk("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    talk("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n");
    zk_stream *slow = tcp_open(&px.server);
    tcp_send(slow, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    settle();
    tcp_send(slow, "01234");
    settle();
    tcp_send(slow, "56789");
    static reply r;
    reply_read(slow, &r);
    zk_stream_close(slow);
    expect_text(reply_text(&r), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect_text(log_of(o), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                           "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
                           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    cr_expect_eq(o->connections, 1);
}

/* Bodies of answers arrive in a framing that the client understands. */
PROXY_TEST(proxy, forwards_answers_of_each_kind, OPTIONS(0),
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-S: 1\r\n\r\n"},
           {"HTTP/1.1 200 OK\r\n\r\nto the end", CLOSE}, {"HTTP/1.1 204 No Content\r\n\r\n"},
           {"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n"},
           {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
           {"HTTP/1.1 103 Early Hints\r\n\r\n" OK_ANSWER}, {"HTTP/1.1 200 OK\r\n\r\nold", CLOSE})
{
    expect_text(talk(GET("/")), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "3\r\nabc\r\n0\r\nX-S: 1\r\n\r\n");
    expect_text(talk(GET("/")), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "a\r\nto the end\r\n0\r\n\r\n");
    expect_text(talk(GET("/")), "HTTP/1.1 204 No Content\r\n\r\n");
    expect_text(talk(GET("/")), "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    expect_text(talk("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    expect_text(talk(GET("/")), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect_text(talk("GET / HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nold");
}

/* Why there is no answer shows in the status and, in words, in the log. */
PROXY_TEST(proxy, says_what_went_wrong,
           OPTIONS(.tries_max = 1, .failures_max = -1,
                   .client = &(zk_client_options){.answer_timeout_ms = 20}),
           {NULL, CLOSE}, {NULL, RESET}, {"garbage", CLOSE}, {NULL, STALL},
           {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"},
           {"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"})
{
    static const struct {
        const char *status;
        int rc;
        const char *reason;
    } rows[] = {
        {"502", ZK_E_CLOSED, "closed"},           {"502", -ECONNRESET, "reset"},
        {"502", ZK_E_HTTP_SYNTAX, "status line"}, {"504", ZK_E_HTTP_TIMEOUT, "in time"},
        {"502", ZK_E_HTTP_SYNTAX, "malformed"},   {"502", ZK_E_HTTP_SYNTAX, "upgrade"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_stream *stream = tcp_open(&px.server);
        int before = px.accesses;
        tcp_send(stream, GET("/"));
        reply r = {.size = 0};
        if (rows[i].rc == ZK_E_HTTP_TIMEOUT) pass_ms(25);
        origin_until(px.accesses > before);
        reply_read(stream, &r);
        cr_expect(!strncmp(r.text + 9, rows[i].status, 3), "row %zu: %s", i, r.text);
        cr_expect_eq(px.access.rc, rows[i].rc, "row %zu: %s", i, zk_errname(px.access.rc));
        cr_expect(strstr(px.reason, rows[i].reason) && strstr(px.reason, o->address), "row %zu: %s",
                  i, px.reason);
        zk_stream_close(stream);
    }
    origin_close(o);
    o->listener = NULL;
    cr_expect(!strncmp(talk(GET("/")) + 9, "502", 3));
    cr_expect_eq(px.access.rc, -ECONNREFUSED);
}

/* Half an answer never looks like a whole one. */
PROXY_TEST(proxy, breaks_off_what_the_upstream_breaks_off, OPTIONS(0),
           {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", CLOSE},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfx"})
{
    for (int i = 0; i < 3; i++) {
        zk_stream *stream = tcp_open(&px.server);
        tcp_send(stream, GET("/"));
        static reply r;
        memset(&r, 0, sizeof r);
        reply_read(stream, &r);
        cr_expect(r.is_closed);
        cr_expect(!strstr(r.text, "\r\n0\r\n"), "%s", r.text);
        cr_expect_neq(px.access.rc, 0);
        zk_stream_close(stream);
    }
    cr_expect_eq(px.accesses, 3);
}

/* An upstream that has closed a pooled connection costs no request that can be repeated. */
PROXY_TEST(proxy, saves_requests_from_dead_connections, OPTIONS(.tries_max = 1), {OK_ANSWER},
           {NULL, CLOSE}, {OK_ANSWER}, {NULL, CLOSE}, {OK_ANSWER})
{
    for (int i = 0; i < 2; i++)
        cr_expect(!strncmp(talk(GET("/")) + 9, "200", 3));
    cr_expect_eq(o->step_at, 3);
    cr_expect(
        !strncmp(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx") + 9, "502", 3),
        "what may have been done is not done again");
    cr_expect_eq(o->step_at, 4);
    cr_expect(!strncmp(talk(GET("/")) + 9, "200", 3));
}

/* An answer may come before the request has ended, and ends it. */
PROXY_TEST(proxy, forwards_early_answers, OPTIONS(0),
           {"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno", STALL, .reads_head_only = true})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin");
    static reply r;
    reply_read(stream, &r);
    cr_expect(!strncmp(r.text + 9, "413", 3), "%s", r.text);
    zk_stream_close(stream);
    origin_until(px.accesses == 1);
    zk_scope_cancel(&o->scope);
}

/* A client that goes takes its request with it: nothing is left open. */
PROXY_TEST(proxy, client_may_leave_at_any_time, OPTIONS(0), {NULL, STALL},
           {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin", STALL}, {OK_ANSWER})
{
    static const char *const requests[] = {
        GET("/"),
        GET("/"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbegin",
    };
    for (size_t i = 0; i < ROWS(requests); i++) {
        zk_stream *stream = tcp_open(&px.server);
        tcp_send(stream, requests[i]);
        origin_until(o->connections == (int)i + 1);
        for (int k = 0; k < 20; k++)
            settle();
        tcp_reset(stream);
        origin_until(px.accesses == (int)i + 1);
        cr_expect_neq(px.access.rc, 0);
    }
    cr_expect(strstr(px.reason, "left"), "%s", px.reason);
    cr_expect_eq(px.access.status, 499);
    zk_scope_cancel(&o->scope);
    origin_until(o->open == 0);
}

/* Behind a 101 bytes go both ways, also those that came with the heads; without one the answer is
 * like any other. */
PROXY_TEST(proxy, carries_upgrades, OPTIONS(.upgrade = "*"),
           {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n"
            "X-A: b\r\n\r\nhello"},
           {"first", CLOSE}, {OK_ANSWER})
{
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, "GET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
                     "early\r\n\r\n");
    static reply r;
    memset(&r, 0, sizeof r);
    reply_read(stream, &r);
    expect_text(reply_text(&r),
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n"
                "X-A: b\r\n\r\nhellofirst");
    cr_expect(r.is_closed);
    expect_text(log_of(o), "GET /c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n"
                           "\r\nearly\r\n\r\n");
    zk_stream_close(stream);
    origin_until(px.accesses == 1);
    cr_expect_eq(px.access.status, 101);
    expect_text(talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"),
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

/* A line of the log cannot be forged by what a client sends; figures count what has happened. */
PROXY_TEST(proxy, keeps_its_books, OPTIONS(0), {OK_ANSWER}, {NULL, CLOSE}, {NULL, CLOSE})
{
    talk("GET /a%22?\"x HTTP/1.1\r\nHost: a\r\nUser-Agent: \"\\\xc3\xa4\r\nReferer: r\r\n\r\n");
    const char *line = strstr(px.line, "] ");
    cr_assert(line && !strncmp(px.line, "127.0.0.1 - - [", 15), "%s", px.line);
    cr_expect(
        strstr(line, "\"GET /a%22?\\\"x HTTP/1.1\" 200 2 \"r\" \"\\\"\\\\\xc3\xa4\" 127.0.0.1:"),
        "%s", px.line);
    cr_expect(strstr(px.json, "\"target\":\"/a%22?\\\"x\",\"host\":\"a\",\"version\":\"1.1\","
                              "\"status\":200,\"bytes\":2,"),
              "%s", px.json);
    cr_expect(strstr(px.json, "\"agent\":\"\\\"\\\\\\u00c3\\u00a4\"}"), "%s", px.json);
    talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    cr_expect(strstr(px.json, "\"error\":\"upstream 127.0.0.1:"), "%s", px.json);
    const char *metrics = talk(GET("/metrics"));
    static const char *const wanted[] = {
        "zokio_proxy_requests_total{class=\"2xx\"} 1\n",
        "zokio_proxy_requests_total{class=\"5xx\"} 1\n",
        "zokio_proxy_request_seconds_count 2\n",
        "zokio_proxy_request_seconds_bucket{le=\"+Inf\"} 2\n",
        "zokio_proxy_upstream_failures_total{upstream=\"127.0.0.1:",
    };
    for (size_t i = 0; i < ROWS(wanted); i++)
        cr_expect(strstr(metrics, wanted[i]), "%s\nin\n%s", wanted[i], metrics);
}

/* What a configuration cannot mean is refused. */
ZK_ASYNC_TEST(proxy, refuses_bad_configurations)
{
    static const struct {
        zk_upstream upstreams[2];
        const char *via, *health_path;
        int rc;
    } rows[] = {
        {{{NULL, 0}}, NULL, NULL, ZK_E_CONFIG},
        {{{"http://h/path", 0}}, NULL, NULL, ZK_E_CONFIG},
        {{{"http://u@h", 0}}, NULL, NULL, ZK_E_CONFIG},
        {{{"ws://h", 0}}, NULL, NULL, ZK_E_CONFIG},
        {{{"h:0", 0}}, NULL, NULL, ZK_E_HTTP_URL},
        {{{"unix:", 0}}, NULL, NULL, ZK_E_ADDR},
        {{{"h:1", 101}}, NULL, NULL, ZK_E_CONFIG},
        {{{"h:1", -1}}, NULL, NULL, ZK_E_CONFIG},
        {{{"h:1", 0}}, "a b", NULL, ZK_E_CONFIG},
        {{{"h:1", 0}}, NULL, "health", ZK_E_CONFIG},
        {{{"h:1", 0}}, NULL, "/health", 0},
        {{{"unix:/run/a", 100}}, "", NULL, 0},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_proxy *p = NULL;
        zk_proxy_options options = {
            .upstreams = rows[i].upstreams, .via = rows[i].via, .health_path = rows[i].health_path};
        cr_assert_rc(zk_proxy_new(&options, &p), rows[i].rc, "row %zu", i);
        zk_proxy_free(p);
    }
}
