/*
 * Request smuggling: whatever a client sends, the proxy and the upstream must agree on where each
 * request ends. Each row is sent through the proxy to an upstream that writes down what it got; a
 * request hidden in the row ("/hidden") must never arrive as one of its own.
 */
#include "tests/http/proxying.h"

static origin *const o = &origins[0];

#define HIDDEN "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct {
    const char *name, *in;
    bool passes; /* the hidden bytes arrive, as part of the body */
} rows[] = {
    {"CL.TE", POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
     false},
    {"TE.CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" HIDDEN,
     false},
    {"CL.CL", POST "Content-Length: 0\r\nContent-Length: 33\r\n\r\n" HIDDEN, false},
    {"CL list", POST "Content-Length: 0, 33\r\n\r\n" HIDDEN, false},
    {"CL plus", POST "Content-Length: +33\r\n\r\n" HIDDEN, false},
    {"CL with blank", POST "Content-Length: 3 3\r\n\r\n" HIDDEN, false},
    {"CL hexadecimal", POST "Content-Length: 0x21\r\n\r\n" HIDDEN, false},
    {"CL too large", POST "Content-Length: 18446744073709551617\r\n\r\n" HIDDEN, false},
    {"CL before a blank colon", POST "Content-Length : 33\r\n\r\n" HIDDEN, false},
    {"CL folded", POST "X: y\r\n Content-Length: 33\r\n\r\n" HIDDEN, false},
    {"TE twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" HIDDEN,
     false},
    {"TE other", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" HIDDEN, false},
    {"TE identity", POST "Transfer-Encoding: identity\r\nContent-Length: 33\r\n\r\n" HIDDEN, false},
    {"TE with tab", POST "Transfer-Encoding:\tchunked\r\n\r\n21\r\n" HIDDEN "\r\n0\r\n\r\n", true},
    {"TE with vertical tab",
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n" HIDDEN,
     false},
    {"TE in lower case", POST "transfer-encoding: CHUNKED\r\n\r\n21\r\n" HIDDEN "\r\n0\r\n\r\n",
     true},
    {"TE in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN, false},
    {"TE in a folded line", POST "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
     false},
    {"bare LF in the head", "POST / HTTP/1.1\nHost: a\nContent-Length: 33\n\n" HIDDEN, false},
    {"bare CR in a value", POST "X: y\rContent-Length: 33\r\n\r\n" HIDDEN, false},
    {"NUL in a value", POST "X: y\x01z\r\nContent-Length: 33\r\n\r\n" HIDDEN, false},
    {"chunk size with bare LF", POST "Transfer-Encoding: chunked\r\n\r\n0\n\r\n" HIDDEN, false},
    {"chunk size with sign", POST "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" HIDDEN, false},
    {"chunk size with 0x", POST "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" HIDDEN, false},
    {"chunk size too large",
     POST "Transfer-Encoding: chunked\r\n\r\n10000000000000021\r\n" HIDDEN "\r\n0\r\n\r\n", false},
    {"chunk without its end", POST "Transfer-Encoding: chunked\r\n\r\n1\r\na0\r\n\r\n" HIDDEN,
     false},
    {"chunk extension with bare LF", POST "Transfer-Encoding: chunked\r\n\r\n0;x\n\r\n" HIDDEN,
     false},
    {"trailer that frames",
     POST "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 33\r\n\r\n" HIDDEN, false},
    {"body as announced", POST "Content-Length: 33\r\n\r\n" HIDDEN, true},
    {"body in chunks", POST "Transfer-Encoding: chunked\r\n\r\n21\r\n" HIDDEN "\r\n0\r\n\r\n",
     true},
    {"GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n" HIDDEN, true},
    {"named by Connection", POST "Connection: Content-Length\r\nContent-Length: 33\r\n\r\n" HIDDEN,
     true},
    {"TE named by Connection",
     POST "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n" HIDDEN
          "\r\n0\r\n\r\n",
     true},
    {"Host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" HIDDEN, false},
    {"Host with a path", "GET / HTTP/1.1\r\nHost: a/hidden\r\n\r\n" HIDDEN, false},
    {"space in the target", "GET / HTTP/1.1\r\nX: /hidden HTTP/1.1\r\nHost: a\r\n\r\n", true},
    {"two spaces", "GET  /hidden HTTP/1.1\r\nHost: a\r\n\r\n", false},
    {"upgrade with a request behind",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
     "HTTP2-Settings: AAMAAABk\r\nContent-Length: 33\r\n\r\n" HIDDEN,
     true},
    {"upgrade to websocket with a body",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
     "Content-Length: 33\r\n\r\n" HIDDEN,
     true},
    {"upgrade to websocket with chunks",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
     "Transfer-Encoding: chunked\r\n\r\n21\r\n" HIDDEN "\r\n0\r\n\r\n",
     true},
    {"Expect with a body", POST "Expect: 100-continue\r\nContent-Length: 33\r\n\r\n" HIDDEN, true},
    {"method override", POST "X-HTTP-Method-Override: GET\r\nContent-Length: 33\r\n\r\n" HIDDEN,
     true},
};

/* How many requests the upstream has read, by its own framing. */
static int requests_of(const char *log, size_t size, bool *ret_is_clean)
{
    static origin_conn c;
    memcpy(c.in, log, size);
    c.size = size;
    int count = 0;
    for (size_t n; (n = request_size(&c, false)); count++) {
        memmove(c.in, c.in + n, c.size - n);
        c.size -= n;
    }
    *ret_is_clean = c.size == 0;
    return count;
}

PROXY_TEST(proxy_smuggling, boundaries_are_the_same_on_both_sides, OPTIONS(0), {OK_ANSWER})
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        o->log_size = 0;
        o->log[0] = '\0';
        talk(rows[i].in);
        /* And one more over the same upstream connection: it must not have become another's. */
        const char *next = talk(GET("/next"));
        cr_expect(!strncmp(next + 9, "200", 3), "%s: %s", rows[i].name, next);
        bool is_clean;
        int count = requests_of(o->log, o->log_size, &is_clean);
        cr_expect(is_clean, "%s:\n%s", rows[i].name, o->log);
        /* What stands behind a request that is whole is one of its own, for both. */
        const char *hidden = strstr(o->log, "/hidden");
        bool is_own = strstr(o->log, "\r\n\r\nGET /hidden") != NULL;
        bool is_first_clean = strstr(rows[i].in, "Content-Length: 33\r\n\r\nGET /hidden") != NULL;
        if (rows[i].passes) {
            cr_expect(hidden, "%s: it has not arrived\n%s", rows[i].name, o->log);
            cr_expect_eq(count, 2, "%s: %d requests\n%s", rows[i].name, count, o->log);
        } else {
            cr_expect(!is_own || is_first_clean, "%s:\n%s", rows[i].name, o->log);
            cr_expect(!hidden, "%s: it has arrived\n%s", rows[i].name, o->log);
            cr_expect_eq(count, 1, "%s: %d requests\n%s", rows[i].name, count, o->log);
        }
    }
}

/* The other way round: what an upstream sends behind its answer is nobody's answer. */
PROXY_TEST(proxy_smuggling, answers_are_not_handed_to_others, OPTIONS(.tries_max = 1),
           {OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
           {"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
           {"HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n"
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
           {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: "
            "4\r\n\r\nevil"})
{
    for (int i = 0; i < 8; i++) {
        const char *answer = talk(GET("/"));
        cr_expect(!strstr(answer, "evil"), "%d: %s", i, answer);
        settle();
    }
}
