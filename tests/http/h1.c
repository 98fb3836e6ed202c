/*
 * Heads of HTTP/1.1: what is accepted and what it says, what is refused with which error, limits.
 */
#include "http/h1_scan.h"
#include "tests/http/h1_feed.h"

ZK_TEST(h1, accepts_request_lines)
{
    static const row rows[] = {
        {"3 origin form", BYTES(GET END), 0,
         "GET / 1.1 host=a body=none:0 keep-alive {Host=a} state 2"},
        {"3.1 every method of HTTP", BYTES("M-SEARCH * HTTP/1.1\r\n" HOST END), 0,
         "M-SEARCH * 1.1"},
        {"3.1 the last method", BYTES("UNLINK / HTTP/1.1\r\n" HOST END), 0, "UNLINK / 1.1"},
        {"3.1 the longest method", BYTES("UNSUBSCRIBE / HTTP/1.1\r\n" HOST END), 0,
         "UNSUBSCRIBE / 1.1"},
        {"3.2.2 absolute form", BYTES("GET http://b/?c HTTP/1.1\r\n" HOST END), 0,
         "GET http://b/?c 1.1 host=a"},
        {"3.2.3 authority form", BYTES("CONNECT b:443 HTTP/1.1\r\n" HOST END), 0,
         "b:443 1.1 host=a body=none:0 keep-alive upgrade"},
        {"3.2.4 asterisk form", BYTES("OPTIONS * HTTP/1.1\r\n" HOST END), 0, "OPTIONS * 1.1"},
        {"2.3 HTTP/1.0 needs no Host", BYTES("GET / HTTP/1.0\r\n\r\n"), 0,
         "GET / 1.0 host= body=none:0  state 2"},
        {"2.2 one empty line before it", BYTES("\r\n" GET END), 0, "GET / 1.1"},
        {"2.2 four empty lines before it", BYTES("\r\n\r\n\r\n\r\n" GET END), 0, "GET / 1.1"},
    };
    CHECK(rows);
}

ZK_TEST(h1, refuses_request_lines)
{
    const int syntax = ZK_E_HTTP_SYNTAX, method = ZK_E_HTTP_METHOD, version = ZK_E_HTTP_VERSION;
    const row rows[] = {
        {"2.2 five empty lines before it", BYTES("\r\n\r\n\r\n\r\n\r\n" GET END), syntax,
         "empty lines"},
        {"2.2 bare LF before it", BYTES("\n" GET END), syntax, NULL},
        {"2.2 bare CR before it", BYTES("\r" GET END), syntax, "bare CR"},
        {"2.2 bare LF behind it", BYTES("GET / HTTP/1.1\n" HOST END), syntax, NULL},
        {"2.2 bare CR behind it", BYTES("GET / HTTP/1.1\r" HOST END), syntax, NULL},
        {"2.3 HTTP/0.9", BYTES("GET /\r\n"), syntax, "request line"},
        {"2.3 HTTP/0.9 and an empty line", BYTES("GET /\r\n\r\n"), syntax, "request line"},
        {"2.3 HTTP/0.9 with fields", BYTES("GET /\r\n" HOST END), syntax, "request line"},
        {"2.3 HTTP/0.9 by name", BYTES("GET / HTTP/0.9\r\n" HOST END), version, NULL},
        {"2.3 HTTP/1.2", BYTES("GET / HTTP/1.2\r\n" HOST END), version, NULL},
        {"2.3 HTTP/1.9", BYTES("GET / HTTP/1.9\r\n" HOST END), version, NULL},
        {"2.3 HTTP/2.0", BYTES("GET / HTTP/2.0\r\n" HOST END), version, NULL},
        {"2.3 HTTP/3.1", BYTES("GET / HTTP/3.1\r\n" HOST END), version, NULL},
        {"2.3 HTTP/2", BYTES("GET / HTTP/2\r\n" HOST END), syntax, "version"},
        {"2.3 HTTP/1.10", BYTES("GET / HTTP/1.10\r\n" HOST END), syntax, "version"},
        {"2.3 HTTP/01.1", BYTES("GET / HTTP/01.1\r\n" HOST END), syntax, "version"},
        {"2.3 HTTP/1,1", BYTES("GET / HTTP/1,1\r\n" HOST END), syntax, "version"},
        {"2.3 http/1.1", BYTES("GET / http/1.1\r\n" HOST END), syntax, "version"},
        {"2.3 another protocol", BYTES("GET / HTTPS/1.1\r\n" HOST END), syntax, "version"},
        {"2.3 space behind it", BYTES("GET / HTTP/1.1 \r\n" HOST END), syntax, "version"},
        {"3 two spaces before the target", BYTES("GET  / HTTP/1.1\r\n" HOST END), syntax,
         "request line"},
        {"3 two spaces behind the target", BYTES("GET /  HTTP/1.1\r\n" HOST END), syntax,
         "version"},
        {"3 a tab", BYTES("GET\t/ HTTP/1.1\r\n" HOST END), syntax, "method"},
        {"3 a space before it", BYTES(" GET / HTTP/1.1\r\n" HOST END), syntax, "method"},
        {"3 a space in the target", BYTES("GET /a b HTTP/1.1\r\n" HOST END), syntax, "version"},
        {"3 no target", BYTES("GET HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"3.1 case matters", BYTES("get / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 unknown", BYTES("BREW / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 known with more behind it", BYTES("GETS / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 part of a known one", BYTES("GE / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 endless", BYTES(TEN TEN TEN TEN), method, NULL},
        {"3.1 no token", BYTES("G(T / HTTP/1.1\r\n" HOST END), syntax, "method"},
        {"3.1 ICE", BYTES("SOURCE / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 ICE by name", BYTES("SOURCE / ICE/1.0\r\n" HOST END), method, NULL},
        {"3.1 RTSP", BYTES("DESCRIBE / RTSP/1.0\r\n" HOST END), method, NULL},
        {"3.1 RTSP over HTTP", BYTES("ANNOUNCE / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 RTSP, last of them", BYTES("FLUSH / HTTP/1.1\r\n" HOST END), method, NULL},
        {"3.1 HTTP/2's preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), method, NULL},
        {"3.2 no form", BYTES("GET a HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"3.2 a byte above 0x7f", BYTES("GET /\xc3\xa4 HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"3.2 a control byte", BYTES("GET /\x01 HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"3.2 DEL", BYTES("GET /\x7f HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"3.2 NUL", BYTES("GET /\0 HTTP/1.1\r\n" HOST END), syntax, NULL},
        {"a TLS ClientHello", BYTES("\x16\x03\x01\x02\x00\x01\x00"), syntax, "method"},
        {"9110 9.3.6 CONNECT with a length",
         BYTES("CONNECT a:1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n"), syntax, "CONNECT"},
        {"9110 9.3.6 CONNECT in chunks",
         BYTES("CONNECT a:1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), syntax,
         "CONNECT"},
    };
    CHECK(rows);
}

/* Refusing these must not take the rest of the head: a peer that waits for an answer sends none. */
ZK_TEST(h1, refuses_as_soon_as_it_can)
{
    static const struct {
        const char *bytes;
        int rc;
    } rows[] = {
        {"\x16", ZK_E_HTTP_SYNTAX},
        {"\n", ZK_E_HTTP_SYNTAX},
        {"(", ZK_E_HTTP_SYNTAX},
        {" ", ZK_E_HTTP_SYNTAX},
        {"BREW ", ZK_E_HTTP_METHOD},
        {"GET  ", ZK_E_HTTP_SYNTAX},
        {"GET /\r", ZK_E_HTTP_SYNTAX},
        {"GET / X", ZK_E_HTTP_SYNTAX},
        {"GET / HTTP/2.0\r", ZK_E_HTTP_VERSION},
        {"GET / HTTP/1.1\r\nA: b\n", ZK_E_HTTP_SYNTAX},
        {"GET / HTTP/1.1\r\nA: b\rc", ZK_E_HTTP_SYNTAX},
        {"GET / HTTP/1.1\r\nA: \x01", ZK_E_HTTP_SYNTAX},
        {"GET / HTTP/1.1\r\nA: b\r\n ", ZK_E_HTTP_SYNTAX},
        {"GET / HTTP/1.1\r\nA: b\r\n\rc", ZK_E_HTTP_SYNTAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t size = strlen(rows[i].bytes);
        feed f;
        run(&limits, rows[i].bytes, size, 0, &f);
        cr_expect_eq(f.report.rc, rows[i].rc, "\"%s\": %s", rows[i].bytes, f.report.text);
        run(&limits, rows[i].bytes, size - 1, 0, &f);
        cr_expect_eq(f.report.rc, 0, "\"%s\" without its last byte: %s", rows[i].bytes,
                     f.report.text);
    }
}

ZK_TEST(h1, reads_fields)
{
    static const row rows[] = {
        {"5 several", BYTES(GET "B: c\r\nD: e\r\n\r\n"), 0, "{Host=a}{B=c}{D=e}"},
        {"5.1 white space around a value", BYTES(GET "B: \t c d \t \r\n\r\n"), 0, "{B=c d}"},
        {"5.1 no white space", BYTES(GET "B:c\r\n\r\n"), 0, "{B=c}"},
        {"5.1 empty value", BYTES(GET "B:\r\nC: \r\n\r\n"), 0, "{B=}{C=}"},
        {"9110 5.1 the case of a name is kept", BYTES(GET "cOnTeNt-LeNgTh: 0\r\n\r\n"), 0,
         "{cOnTeNt-LeNgTh=0}"},
        {"9110 5.6.2 every tchar", BYTES(GET "!#$%&'*+-.^_`|~9aZ: b\r\n\r\n"), 0,
         "{!#$%&'*+-.^_`|~9aZ=b}"},
        {"9110 5.5 a tab and bytes above 0x7f", BYTES(GET "B: c\td\x80\xff\r\n\r\n"), 0,
         "{B=c\td\x80\xff}"},
        {"9110 7.2 a port", BYTES("GET / HTTP/1.1\r\nHost: a.b-c:8080\r\n\r\n"), 0,
         "host=a.b-c:8080 "},
        {"9110 7.2 an empty port", BYTES("GET / HTTP/1.1\r\nHost: a:\r\n\r\n"), 0, "host=a: "},
        {"9110 7.2 IPv6", BYTES("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0, "host=[::1]:80 "},
        {"9110 7.2 a percent sequence", BYTES("GET / HTTP/1.1\r\nHost: a%2Fb\r\n\r\n"), 0,
         "host=a%2Fb "},
        {"3.2 an empty Host", BYTES("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 0, "host= "},
        {"3.2 Host in HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), 0, "host=a "},
    };
    CHECK(rows);
}

ZK_TEST(h1, refuses_fields)
{
    const int syntax = ZK_E_HTTP_SYNTAX;
    const row rows[] = {
        {"2.2 bare LF", BYTES(GET "B: c\nD: e\r\n\r\n"), syntax, NULL},
        {"2.2 bare CR", BYTES(GET "B: c\rD: e\r\n\r\n"), syntax, NULL},
        {"2.2 CR CR LF", BYTES(GET "B: c\r\r\n\r\n"), syntax, NULL},
        {"2.2 bare LF ends the head", BYTES(GET "\n"), syntax, NULL},
        {"2.2 two bare LF end the head", BYTES("GET / HTTP/1.1\r\nHost: a\n\n"), syntax, NULL},
        {"5.1 space before the colon", BYTES(GET "B : c\r\n\r\n"), syntax, NULL},
        {"5.1 tab before the colon", BYTES(GET "B\t: c\r\n\r\n"), syntax, NULL},
        {"5.1 space before the colon of a known name", BYTES("GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
         syntax, NULL},
        {"5.1 the same, hiding a length", BYTES(GET "Content-Length : 5\r\n\r\n"), syntax, NULL},
        {"5.1 no colon", BYTES(GET "B\r\n\r\n"), syntax, NULL},
        {"5.1 no name", BYTES(GET ": c\r\n\r\n"), syntax, "field name"},
        {"5.1 a space in the name", BYTES(GET "B C: d\r\n\r\n"), syntax, NULL},
        {"2.2 white space before the first field", BYTES("GET / HTTP/1.1\r\n " HOST END), syntax,
         NULL},
        {"5.2 folded", BYTES(GET "B: c\r\n d\r\n\r\n"), syntax, "folded"},
        {"5.2 folded with a tab", BYTES(GET "B: c\r\n\td\r\n\r\n"), syntax, "folded"},
        {"5.2 folded before its value", BYTES(GET "Content-Length:\r\n 5\r\n\r\n"), syntax,
         "folded"},
        {"5.2 folded at the end", BYTES(GET "B: c\r\n \r\n\r\n"), syntax, "folded"},
        {"9110 5.6.2 a byte that no name has", BYTES(GET "B(: c\r\n\r\n"), syntax, NULL},
        {"9110 5.6.2 a byte above 0x7f in a name", BYTES(GET "B\xc3\xa4: c\r\n\r\n"), syntax, NULL},
        {"9110 5.5 NUL", BYTES(GET "B: c\0d\r\n\r\n"), syntax, NULL},
        {"9110 5.5 NUL in a name", BYTES(GET "B\0: c\r\n\r\n"), syntax, NULL},
        {"9110 5.5 a control byte", BYTES(GET "B: c\x1f\r\n\r\n"), syntax, NULL},
        {"9110 5.5 DEL", BYTES(GET "B: c\x7f\r\n\r\n"), syntax, NULL},
        {"3.2 no Host", BYTES("GET / HTTP/1.1\r\nB: c\r\n\r\n"), syntax, "no Host"},
        {"3.2 no field at all", BYTES("GET / HTTP/1.1\r\n\r\n"), syntax, "no Host"},
        {"3.2 no Host in absolute form", BYTES("GET http://a/ HTTP/1.1\r\nB: c\r\n\r\n"), syntax,
         "no Host"},
        {"3.2 repeated Host", BYTES(GET HOST END), syntax, "repeated Host"},
        {"3.2 repeated Host in HTTP/1.0", BYTES("GET / HTTP/1.0\r\n" HOST HOST END), syntax,
         "repeated Host"},
        {"3.2 a space in Host", BYTES("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 a path in Host", BYTES("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 userinfo in Host", BYTES("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 a query in Host", BYTES("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 a backslash in Host", BYTES("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 bad percent sequence in Host", BYTES("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 a port alone", BYTES("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 two ports", BYTES("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"), syntax, "malformed Host"},
        {"3.2 a port of letters", BYTES("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 a port above 65535", BYTES("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 an IPv6 address that is none", BYTES("GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 an IPv6 address longer than any",
         BYTES("GET / HTTP/1.1\r\nHost: [" TEN TEN TEN TEN TEN "]\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 an open bracket", BYTES("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), syntax,
         "malformed Host"},
        {"3.2 more behind the bracket", BYTES("GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n"), syntax,
         "malformed Host"},
    };
    CHECK(rows);
}

ZK_TEST(h1, reads_what_the_connection_becomes)
{
    static const row rows[] = {
        {"9.3 close", BYTES(GET "Connection: close\r\n\r\n"), 0, "none:0 {"},
        {"9.3 close and a tab", BYTES(GET "Connection: close\t\r\n\r\n"), 0, "none:0 {"},
        {"9.3 close in a list", BYTES(GET "Connection: x , CLOSE\t,y\r\n\r\n"), 0, "none:0 {"},
        {"9.3 close in the second field", BYTES(GET "Connection: x\r\nConnection: close\r\n\r\n"),
         0, "none:0 {"},
        {"9.3 close beats keep-alive", BYTES(GET "Connection: keep-alive, close\r\n\r\n"), 0,
         "none:0 {"},
        {"9.3 part of close", BYTES(GET "Connection: closed, clos\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9.3 empty members", BYTES(GET "Connection: ,, ,close,\r\n\r\n"), 0, "none:0 {"},
        {"9.3 HTTP/1.0", BYTES("GET / HTTP/1.0\r\n" HOST END), 0, "none:0 {"},
        {"9.3 HTTP/1.0 keep-alive", BYTES("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9110 7.6.1 no token", BYTES(GET "Connection: a b\r\n\r\n"), ZK_E_HTTP_SYNTAX,
         "Connection"},
        {"9110 7.8 upgrade", BYTES(GET "Connection: Upgrade\r\nUpgrade: x\r\n\r\n"), 0,
         "none:0 keep-alive upgrade {"},
        {"9110 7.8 upgrade in a list",
         BYTES(GET "Upgrade: x\r\nConnection: keep-alive, upgrade\r\n\r\n"), 0, " upgrade {"},
        {"9110 7.8 Upgrade without the option", BYTES(GET "Upgrade: x\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9110 7.8 the option without Upgrade", BYTES(GET "Connection: upgrade\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9110 7.8 empty Upgrade", BYTES(GET "Connection: upgrade\r\nUpgrade:\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9110 7.8 not in HTTP/1.0",
         BYTES("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 0, "none:0 {"},
        {"9110 7.8 upgrade with a body",
         BYTES(POST "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi"), 0,
         "length:2 keep-alive upgrade"},
        {"9110 7.8 upgrade in chunks",
         BYTES(POST "Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n1\r\nh\r\n0\r\nB: c\r\n\r\n"),
         0, "{B=c} state 2"},
        {"9110 10.1.1 continue", BYTES(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"),
         0, "length:1 keep-alive continue {"},
        {"9110 10.1.1 not in HTTP/1.0", BYTES("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"), 0,
         "none:0 {"},
        {"9110 10.1.1 another expectation", BYTES(POST "Expect: 200-ok=\"a\"\r\n\r\n"), 0,
         "none:0 keep-alive {"},
        {"9.6 CONNECT: raw bytes follow",
         BYTES("CONNECT a:1 HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"), 0,
         "length:0 keep-alive upgrade {"},
    };
    CHECK(rows);
}

ZK_TEST(h1, refuses_framing_that_could_be_read_differently)
{
    const int syntax = ZK_E_HTTP_SYNTAX, coding = ZK_E_HTTP_CODING;
#define LENGTH(value) POST "Content-Length:" value "\r\n\r\n"
#define TE(value) POST "Transfer-Encoding:" value "\r\n\r\n"
    const row rows[] = {
        {"6.2 one above 64 bits", BYTES(LENGTH(" 18446744073709551616")), syntax, NULL},
        {"6.2 far above 64 bits", BYTES(LENGTH(" 99999999999999999999999")), syntax, NULL},
        {"6.2 plus", BYTES(LENGTH(" +5")), syntax, NULL},
        {"6.2 minus", BYTES(LENGTH(" -5")), syntax, NULL},
        {"6.2 empty", BYTES(LENGTH("")), syntax, NULL},
        {"6.2 blank", BYTES(LENGTH(" \t")), syntax, NULL},
        {"6.2 hex", BYTES(LENGTH(" 0x5")), syntax, NULL},
        {"6.2 a fraction", BYTES(LENGTH(" 5.0")), syntax, NULL},
        {"6.2 junk behind it", BYTES(LENGTH(" 5a")), syntax, NULL},
        {"6.2 junk before it", BYTES(LENGTH(" a5")), syntax, NULL},
        {"6.2 a space in it", BYTES(LENGTH(" 5 5")), syntax, NULL},
        {"6.2 a list", BYTES(LENGTH(" 5, 5")), syntax, NULL},
        {"6.2 an underscore", BYTES(LENGTH(" 1_0")), syntax, NULL},
        {"6.2 repeated", BYTES(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), syntax,
         NULL},
        {"6.2 repeated, different",
         BYTES(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello"), syntax, NULL},
        {"6.1 with a length behind it",
         BYTES(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), syntax, NULL},
        {"6.1 with a length before it",
         BYTES(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), syntax, NULL},
        {"6.1 in HTTP/1.0", BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), syntax,
         "HTTP/1.0"},
        {"6.1 repeated",
         BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), syntax,
         NULL},
        {"6.1 spread over two",
         BYTES(POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"), coding, NULL},
        {"6.1 empty", BYTES(TE("")), syntax, NULL},
        {"6.1 blank", BYTES(TE(" ")), syntax, NULL},
        {"6.1 empty members", BYTES(TE(" ,")), syntax, NULL},
        {"6.1 chunked and an empty member", BYTES(TE(" chunked,")), syntax, NULL},
        {"6.1 an empty member and chunked", BYTES(TE(" ,chunked")), syntax, NULL},
        {"6.1 chunked twice", BYTES(TE(" chunked, chunked")), syntax, NULL},
        {"6.1 chunked not last", BYTES(TE(" chunked, gzip")), syntax, NULL},
        {"6.1 chunked first and last", BYTES(TE(" chunked, gzip, chunked")), syntax, NULL},
        {"6.1 chunked in the middle", BYTES(TE(" gzip, chunked, gzip")), syntax, NULL},
        {"7.1 a parameter", BYTES(TE(" chunked;a=b")), syntax, NULL},
        {"6.1 quoted", BYTES(TE(" \"chunked\"")), syntax, NULL},
        {"6.1 two words", BYTES(TE(" chunked gzip")), syntax, NULL},
        {"6.1 vertical tab", BYTES(TE(" \vchunked")), syntax, NULL},
        {"6.1 gzip and chunked", BYTES(TE(" gzip, chunked")), coding, NULL},
        {"6.1 with a parameter", BYTES(TE(" gzip;q=1, chunked")), coding, NULL},
        {"6.1 gzip", BYTES(TE(" gzip")), coding, NULL},
        {"6.1 identity", BYTES(TE(" identity")), coding, NULL},
        {"6.1 more than chunked", BYTES(TE(" xchunked")), coding, NULL},
        {"6.1 less than chunked", BYTES(TE(" chunke")), coding, NULL},
    };
    CHECK(rows);
}

/* A head of `size` bytes, all of it valid; its target has `target_size`. */
static void make_head(char *bytes, size_t size, size_t target_size)
{
    char line[256];
    memset(line, 'a', sizeof(line));
    line[0] = '/';
    int n =
        snprintf(bytes, size + 1, "GET %.*s HTTP/1.1\r\nHost: a\r\nB: ", (int)target_size, line);
    memset(bytes + n, 'c', size - (size_t)n);
    put(bytes, size - 4, "\r\n\r\n");
}

ZK_TEST(h1, limits_the_bytes_of_a_head)
{
    char bytes[513];
    make_head(bytes, 512, 1);
    cr_expect_eq(run_every_way(&limits, "512", bytes, 512).rc, 0);
    make_head(bytes, 513, 1);
    cr_expect_eq(run_every_way(&limits, "513", bytes, 513).rc, ZK_E_HTTP_HEADER_TOO_LARGE);
    cr_expect_eq(run_every_way(&limits, "512 of 513", bytes, 512).rc, ZK_E_HTTP_HEADER_TOO_LARGE);
    cr_expect_eq(run_every_way(&limits, "511 of 513", bytes, 511).rc, 0, "there may be an end yet");

    char with_empty_lines[520] = "\r\n\r\n\r\n\r\n";
    make_head(with_empty_lines + 8, 512, 1);
    cr_expect_eq(run_every_way(&limits, "8 + 512", with_empty_lines, 520).rc, 0);
}

ZK_TEST(h1, limits_the_bytes_of_a_target)
{
    char bytes[256];
    make_head(bytes, 200, 64);
    cr_expect_eq(run_every_way(&limits, "64", bytes, 200).rc, 0);
    make_head(bytes, 200, 65);
    cr_expect_eq(run_every_way(&limits, "65", bytes, 200).rc, ZK_E_HTTP_URI_TOO_LONG);
    cr_expect_eq(run_every_way(&limits, "start of 65", bytes, 4 + 65).rc, ZK_E_HTTP_URI_TOO_LONG);
    cr_expect_eq(run_every_way(&limits, "start of 64", bytes, 4 + 64).rc, 0);

    static const zk__h1_limits small = {32, 64, FIELDS_MAX};
    cr_expect_eq(run_every_way(&small, "both limits", bytes, 200).rc, ZK_E_HTTP_HEADER_TOO_LARGE,
                 "the limit that is reached first counts");
}

ZK_TEST(h1, limits_the_number_of_fields)
{
    static const row rows[] = {
        {"8 fields", BYTES(GET "B:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\n\r\n"), 0, NULL},
        {"9 fields", BYTES(GET "B:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\n\r\n"),
         ZK_E_HTTP_HEADER_TOO_LARGE, "too many fields"},
    };
    CHECK(rows);
}

/* Else a peer that sends a byte at a time makes us work quadratically. */
ZK_TEST(h1, looks_at_a_byte_once)
{
    zk__h1 h1;
    zk_field fields[FIELDS_MAX];
    zk__h1_head head;
    zk__h1_init(&h1, &limits);
    const char *bytes = GET "B: c\r\n";
    for (size_t size = 1; size <= strlen(bytes); size++) {
        cr_assert_eq(zk__h1_parse_head(&h1, bytes, size, fields, &head), 0);
        cr_assert_geq(h1.scanned + 2, size, "%zu of %zu", h1.scanned, size);
        cr_assert_geq(h1.line_at, size < 16 ? size : 15);
    }
}

ZK_TEST(h1, a_refused_head_leaves_the_output_alone)
{
    zk__h1 h1;
    zk_field fields[FIELDS_MAX];
    union {
        zk__h1_head head;
        char bytes[sizeof(zk__h1_head)];
    } out, before;
    memset(&out, 0x55, sizeof(out));
    memset(&before, 0x55, sizeof(before));
    const char *bytes = GET HOST END;
    zk__h1_init(&h1, &limits);
    cr_assert_str_eq(zk__h1_reason(&h1), "");
    cr_assert_eq(zk__h1_parse_head(&h1, bytes, strlen(bytes), fields, &out.head), ZK_E_HTTP_SYNTAX);
    cr_assert_arr_eq(out.bytes, before.bytes, sizeof(out.bytes));
    zk__h1_next(&h1);
    cr_assert_eq(h1.state, ZK__H1_FAILED, "a failure is for good");
}

ZK_TEST(h1, finds_every_control_byte_at_every_place)
{
    char window[16];
    for (int c = 0; c < 256; c++) {
        bool is_found = (c < 0x20 && c != '\t') || c == 0x7f;
        for (unsigned place = 0; place < 16; place++) {
            memset(window, ' ', sizeof(window));
            window[place] = (char)c;
            cr_assert_eq(zk__h1_controls(window), (unsigned)is_found << place, "0x%02x", c);
            cr_assert_eq(zk__h1_controls_portable(window), (unsigned)is_found << place, "0x%02x",
                         c);
        }
    }
}

/* The portable mask calculates across bytes: neighbours must not disturb each other. */
ZK_TEST(h1, finds_the_same_control_bytes_with_and_without_sse2)
{
    static const char borders[] = "\t\x08\x0a\x1f\x20\x7e\x7f\x80";
    uint64_t random = 20241120;
    char window[16];
    for (int i = 0; i < 200000; i++) {
        for (size_t place = 0; place < sizeof(window); place++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            unsigned roll = (unsigned)(random >> 32);
            /* Half of them lie around the borders of what counts. */
            window[place] = roll & 0x100 ? borders[roll & 7] : (char)roll;
        }
        cr_assert_eq(zk__h1_controls_portable(window), zk__h1_controls(window), "round %d", i);
    }
}

ZK_TEST(h1, finds_the_end_wherever_it_lies_in_a_window)
{
    char bytes[64];
    for (size_t size = 5; size < sizeof(bytes); size++) {
        memset(bytes, 'a', sizeof(bytes));
        put(bytes, size - 4, "\r\n\r\n");
        for (size_t more = size; more <= sizeof(bytes); more++) {
            size_t at = 0;
            cr_assert_eq(zk__h1_scan(bytes, 0, more, &at), ZK__H1_SCAN_FOUND, "%zu of %zu", size,
                         more);
            cr_assert_eq(at, size);
        }
        for (size_t less = 0; less < size; less++) {
            size_t at = 0;
            cr_assert_eq(zk__h1_scan(bytes, 0, less, &at), ZK__H1_SCAN_MORE);
            cr_assert_geq(at + 2, less);
        }
    }
}

ZK_TEST(h1, knows_tokens)
{
    cr_expect(zk__h1_is_token(ZK_STR("!#$%&'*+-.^_`|~09azAZ")));
    cr_expect_not(zk__h1_is_token(ZK_STR("")));
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool is_mark = c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
        cr_expect_eq(zk__h1_is_token((zk_str){&byte, 1}), is_alnum || is_mark, "0x%02x", c);
    }
}

ZK_TEST(h1, knows_field_values)
{
    cr_expect(zk__h1_is_field_value(ZK_STR("")));
    cr_expect(zk__h1_is_field_value(ZK_STR("a")));
    cr_expect(zk__h1_is_field_value(ZK_STR("a b\tc\x80\xff")));
    cr_expect_not(zk__h1_is_field_value(ZK_STR(" ")));
    cr_expect_not(zk__h1_is_field_value(ZK_STR(" a")));
    cr_expect_not(zk__h1_is_field_value(ZK_STR("a\t")));
    char value[40];
    for (size_t size = 1; size <= sizeof(value); size++) {
        for (size_t place = 0; place < size; place++) {
            memset(value, 'a', sizeof(value));
            for (size_t i = 0; i < 5; i++) {
                value[place] = "\0\r\n\x01\x7f"[i];
                cr_assert_not(zk__h1_is_field_value((zk_str){value, size}), "%zu of %zu", place,
                              size);
            }
        }
    }
}
