/*
 * The quick path for heads: which heads it takes, that it reads them as the slow path does, and
 * that it leaves everything else alone.
 *
 * Bytes lie in a heap block of just their size, so that AddressSanitizer sees a read beyond them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1_internal.h"
#include "http/h1_quick.h"
#include "http/path.h"
#include "tests/test.h"

enum { FIELDS_MAX = 8, COUNT_OF_RUNS = 4 };

static const zk__h1_limits limits = {512, 64, FIELDS_MAX};

typedef struct row {
    const char *name;
    const char *bytes;
    size_t size;
} row;

/* Two members of a row: the bytes, which may contain NUL, and their size. */
#define BYTES(literal) literal, sizeof(literal) - 1
#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define POST "POST / HTTP/1.1\r\n" HOST
#define END "\r\n"
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* One head on one of the two ways. */
typedef struct result {
    zk__h1 h1;
    zk__h1_head head;
    zk_field fields[FIELDS_MAX];
    ptrdiff_t n;
} result;

static void parse(const zk__h1_limits *l, const char *bytes, size_t size, bool is_quick,
                  result *ret)
{
    memset(ret, 0, sizeof(*ret));
    zk__h1_init(&ret->h1, l);
    ret->n = is_quick ? zk__h1_quick_head(&ret->h1, bytes, size, ret->fields, &ret->head, false)
                      : zk__h1_slow_head(&ret->h1, bytes, size, ret->fields, &ret->head);
}

static bool is_same_str(zk_str a, zk_str b) { return a.data == b.data && a.size == b.size; }

static bool is_same_head(const zk__h1_head *a, const zk__h1_head *b)
{
    if (a->field_count != b->field_count) return false;
    for (size_t i = 0; i < a->field_count; i++)
        if (!is_same_str(a->fields[i].name, b->fields[i].name) ||
            !is_same_str(a->fields[i].value, b->fields[i].value))
            return false;
    return is_same_str(a->method, b->method) && is_same_str(a->target, b->target) &&
           is_same_str(a->host, b->host) && a->minor == b->minor && a->framing == b->framing &&
           a->keep_alive == b->keep_alive && a->expects_continue == b->expects_continue &&
           a->is_upgrade == b->is_upgrade && a->content_length == b->content_length;
}

static bool is_same_result(const result *a, const result *b)
{
    return a->n == b->n && is_same_head(&a->head, &b->head) && a->h1.state == b->h1.state &&
           a->h1.scanned == b->h1.scanned && a->h1.body_left == b->h1.body_left &&
           a->h1.framing == b->h1.framing && a->h1.line_at == b->h1.line_at &&
           a->h1.line_phase == b->h1.line_phase && a->h1.chunk_phase == b->h1.chunk_phase &&
           a->h1.extension_excess == b->h1.extension_excess;
}

/* Whether the engine and the output are as before. */
static bool is_untouched(const zk__h1_limits *l, const result *r)
{
    static const zk__h1_head empty;
    zk__h1 fresh;
    memset(&fresh, 0, sizeof(fresh));
    zk__h1_init(&fresh, l);
    return memcmp(&r->h1, &fresh, sizeof(fresh)) == 0 &&
           memcmp(&r->head, &empty, sizeof(empty)) == 0;
}

/*
 * Whether the quick path takes the head that bytes[0..size) begins with. Checks what must be true
 * either way: the slow path gives the same result, or nothing has been touched.
 */
static bool is_quick(const zk__h1_limits *l, const char *name, const char *bytes, size_t size)
{
    char *copy = malloc(size);
    result quick, slow;
    memcpy(copy, bytes, size);
    parse(l, copy, size, true, &quick);
    if (quick.n != 0) {
        parse(l, copy, size, false, &slow);
        cr_assert(is_same_result(&quick, &slow), "%s: %td instead of %td (%s), or another head",
                  name, quick.n, slow.n, zk__h1_reason(&slow.h1));
    } else {
        cr_assert(is_untouched(l, &quick), "%s: not taken, and yet something has changed", name);
    }
    free(copy);
    return quick.n != 0;
}

static const row plain_rows[] = {
    {"the shortest", BYTES(GET END)},
    {"the benchmarks' one", BYTES("GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")},
    {"HEAD", BYTES("HEAD / HTTP/1.1\r\n" HOST END)},
    {"POST", BYTES(POST END)},
    {"PUT", BYTES("PUT / HTTP/1.1\r\n" HOST END)},
    {"DELETE", BYTES("DELETE / HTTP/1.1\r\n" HOST END)},
    {"OPTIONS", BYTES("OPTIONS / HTTP/1.1\r\n" HOST END)},
    {"PATCH", BYTES("PATCH / HTTP/1.1\r\n" HOST END)},
    {"a target of 16 bytes", BYTES("GET /23456789abcdef? HTTP/1.1\r\n" HOST END)},
    {"a target with a query", BYTES("GET /a%20b;c/..//?d[]=e&f={\"\\^`|~} HTTP/1.1\r\n" HOST END)},
    {"an empty port-like path", BYTES("GET //a:1/@?? HTTP/1.1\r\n" HOST END)},
    {"Host in capitals", BYTES("GET / HTTP/1.1\r\nHOST: A.B-C.9\r\n\r\n")},
    {"a port of one digit", BYTES("GET / HTTP/1.1\r\nHost: a:1\r\n\r\n")},
    {"the greatest port", BYTES("GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n")},
    {"a port with a zero in front", BYTES("GET / HTTP/1.1\r\nHost: a:00080\r\n\r\n")},
    {"a long host",
     BYTES("GET / HTTP/1.1\r\nHost: abcdefghijklmnop.qrstuvwxyz.example:80\r\n\r\n")},
    {"a field", BYTES(GET "Accept: */*\r\n" END)},
    {"a field of two bytes", BYTES(GET "A: b\r\n" END)},
    {"a value with spaces in it", BYTES(GET "User-Agent: Mozilla/5.0  (X11; Linux)\r\n" END)},
    {"digits and a dot in a name", BYTES(GET "X-B3.Id: 1\r\n" END)},
    {"names as long as those that count",
     BYTES(GET "From: a\r\nCookie: a\r\nReferer: a\r\nKeep-Alive: a\r\nAccept-Charset: a\r\n"
               "If-Modified-Since: a\r\n" END)},
    {"close", BYTES(GET "Connection: close\r\n" END)},
    {"close in capitals", BYTES(GET "CONNECTION: CLOSE\r\n" END)},
    {"keep-alive", BYTES(GET "Connection: keep-alive\r\n" END)},
    {"keep-alive in capitals", BYTES(GET "connection: Keep-Alive\r\n" END)},
    {"close and keep-alive", BYTES(GET "Connection: close\r\nConnection: keep-alive\r\n" END)},
    {"a length", BYTES(POST "Content-Length: 5\r\n" END)},
    {"a length of zero", BYTES(POST "content-length: 0\r\n" END)},
    {"a length with zeros in front", BYTES(POST "Content-Length: 007\r\n" END)},
    {"a length of 18 digits", BYTES(POST "Content-Length: 999999999999999999\r\n" END)},
    {"a length for GET", BYTES(GET "Content-Length: 5\r\n" END)},
    {"TE and Trailer, which change nothing", BYTES(GET "TE: trailers\r\nTrailer: a\r\n" END)},
};

ZK_TEST(h1_quick, takes_plain_heads)
{
    for (size_t i = 0; i < COUNT(plain_rows); i++) {
        const row *r = &plain_rows[i];
        cr_expect(is_quick(&limits, r->name, r->bytes, r->size), "%s: not taken", r->name);
    }
}

ZK_TEST(h1_quick, does_not_look_behind_a_head)
{
    static const char *const behind[] = {"G", "\r\n", " ", "\0\xff", GET END, "a: b\r\n\r\n"};
    for (size_t i = 0; i < COUNT(plain_rows); i++) {
        for (size_t j = 0; j < COUNT(behind); j++) {
            const row *r = &plain_rows[i];
            char bytes[512];
            size_t size = r->size + (j == 3 ? 2 : strlen(behind[j]));
            memcpy(bytes, r->bytes, r->size);
            memcpy(bytes + r->size, behind[j], size - r->size);
            result whole;
            parse(&limits, bytes, size, true, &whole);
            cr_expect_eq(whole.n, (ptrdiff_t)r->size, "%s, and behind it row %zu", r->name, j);
            cr_expect(is_quick(&limits, r->name, bytes, size));
        }
    }
}

ZK_TEST(h1_quick, takes_no_part_of_a_head)
{
    for (size_t i = 0; i < COUNT(plain_rows); i++) {
        const row *r = &plain_rows[i];
        for (size_t size = 0; size < r->size; size++)
            cr_expect_not(is_quick(&limits, r->name, r->bytes, size), "%s: %zu bytes of it",
                          r->name, size);
    }
}

ZK_TEST(h1_quick, leaves_what_is_not_plain)
{
    static const row rows[] = {
        {"an empty line before it", BYTES("\r\n" GET END)},
        {"another method", BYTES("TRACE / HTTP/1.1\r\n" HOST END)},
        {"a method in small letters", BYTES("get / HTTP/1.1\r\n" HOST END)},
        {"a longer method", BYTES("GETS / HTTP/1.1\r\n" HOST END)},
        {"two spaces before the target", BYTES("GET  / HTTP/1.1\r\n" HOST END)},
        {"two spaces behind the target", BYTES("GET /  HTTP/1.1\r\n" HOST END)},
        {"absolute form", BYTES("GET http://a/ HTTP/1.1\r\n" HOST END)},
        {"asterisk form", BYTES("OPTIONS * HTTP/1.1\r\n" HOST END)},
        {"authority form", BYTES("CONNECT a:1 HTTP/1.1\r\n" HOST END)},
        {"a fragment", BYTES("GET /#a HTTP/1.1\r\n" HOST END)},
        {"a byte beyond ASCII in the target", BYTES("GET /\xc3\xa4 HTTP/1.1\r\n" HOST END)},
        {"HTTP/1.0", BYTES("GET / HTTP/1.0\r\n" HOST END)},
        {"HTTP/1.1 in small letters", BYTES("GET / http/1.1\r\n" HOST END)},
        {"a bare LF behind the request line", BYTES("GET / HTTP/1.1\n" HOST END END)},
        {"no Host", BYTES("GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n")},
        {"no Host but another field", BYTES("GET / HTTP/1.1\r\nFrom: a\r\n\r\n")},
        {"Host not first", BYTES("GET / HTTP/1.1\r\nA: b\r\n" HOST END)},
        {"Host twice", BYTES(GET "HOST: a\r\n" END)},
        {"an empty Host", BYTES("GET / HTTP/1.1\r\nHost: \r\nA: b\r\n\r\n")},
        {"Host without a space", BYTES("GET / HTTP/1.1\r\nHost:aaa\r\n\r\n")},
        {"a space behind Host", BYTES("GET / HTTP/1.1\r\nHost: a \r\n\r\n")},
        {"an IPv6 address", BYTES("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n")},
        {"a host with other bytes", BYTES("GET / HTTP/1.1\r\nHost: a_b\r\n\r\n")},
        {"a port without a host", BYTES("GET / HTTP/1.1\r\nHost: :80\r\n\r\n")},
        {"an empty port", BYTES("GET / HTTP/1.1\r\nHost: aa:\r\n\r\n")},
        {"too great a port", BYTES("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n")},
        {"a port of six digits", BYTES("GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n")},
        {"two ports", BYTES("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n")},
        {"an empty name", BYTES(GET ": bcdef\r\n" END)},
        {"a space in a name", BYTES(GET "A b: c\r\n" END)},
        {"a space behind a name", BYTES(GET "A : cd\r\n" END)},
        {"an underscore in a name", BYTES(GET "A_B: c\r\n" END)},
        {"no colon", BYTES(GET "Abcdefgh\r\n" END)},
        {"no space behind the colon", BYTES(GET "A:bcdef\r\n" END)},
        {"two spaces behind the colon", BYTES(GET "A:  bc\r\n" END)},
        {"a tab behind the colon", BYTES(GET "A:\tbcd\r\n" END)},
        {"an empty value", BYTES(GET "A: \r\nB: c\r\n" END)},
        {"an empty value without a space", BYTES(GET "A:\r\nB: c\r\n" END)},
        {"a space at a value's end", BYTES(GET "A: b \r\n" END)},
        {"a tab in a value", BYTES(GET "A: b\tc\r\n" END)},
        {"NUL in a value", BYTES(GET "A: b\0c\r\n" END)},
        {"DEL in a value", BYTES(GET "A: b\x7f\r\n" END)},
        {"a byte beyond ASCII in a value", BYTES(GET "A: \xc3\xa4\r\n" END)},
        {"a folded line", BYTES(GET "A: b\r\n c\r\n" END)},
        {"a bare LF", BYTES(GET "A: b\nC: d\r\n" END)},
        {"a bare CR", BYTES(GET "A: b\rC: d\r\n" END)},
        {"a bare CR at the end", BYTES(GET "A: b\r\n\rabcd" END)},
        {"Connection with a list", BYTES(GET "Connection: keep-alive, close\r\n" END)},
        {"Connection with another option", BYTES(GET "Connection: TE\r\n" END)},
        {"as long as close", BYTES(GET "Connection: claus\r\n" END)},
        {"as long as keep-alive", BYTES(GET "Connection: keep-alivf\r\n" END)},
        {"an upgrade", BYTES(GET "Connection: upgrade\r\nUpgrade: websocket\r\n" END)},
        {"Upgrade alone", BYTES(GET "UPGRADE: h2c\r\n" END)},
        {"Expect", BYTES(POST "Expect: 100-continue\r\n" END)},
        {"Proxy-Connection", BYTES(GET "Proxy-Connection: close\r\n" END)},
        {"Transfer-Encoding", BYTES(POST "Transfer-Encoding: chunked\r\n" END)},
        {"transfer-encoding", BYTES(POST "transfer-encoding: chunked\r\n" END)},
        {"two lengths", BYTES(POST "Content-Length: 5\r\nContent-Length: 5\r\n" END)},
        {"two lengths of zero", BYTES(POST "Content-Length: 0\r\nContent-Length: 0\r\n" END)},
        {"a list of lengths", BYTES(POST "Content-Length: 5, 5\r\n" END)},
        {"a length with a sign", BYTES(POST "Content-Length: +5\r\n" END)},
        {"a length of 19 digits", BYTES(POST "Content-Length: 1000000000000000000\r\n" END)},
        {"a length that is none", BYTES(POST "Content-Length: 5x\r\n" END)},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        cr_expect_not(is_quick(&limits, rows[i].name, rows[i].bytes, rows[i].size), "%s: taken",
                      rows[i].name);
}

/* Whatever byte stands wherever: the verdict is "no", or that of the slow path (see is_quick). */
ZK_TEST(h1_quick, reads_every_byte_at_every_place_as_the_slow_path_does)
{
    static const char head[] = "POST /a HTTP/1.1\r\nHost: b:80\r\nConnection: close\r\n"
                               "Content-Length: 12\r\nX-Y: z 1\r\n\r\n";
    size_t taken_count = 0;
    for (size_t at = 0; at < sizeof(head) - 1; at++) {
        for (unsigned c = 0; c < 256; c++) {
            char bytes[sizeof(head)], name[64];
            memcpy(bytes, head, sizeof(head));
            bytes[at] = (char)c;
            snprintf(name, sizeof(name), "byte %zu is 0x%02x", at, c);
            taken_count += is_quick(&limits, name, bytes, sizeof(head) - 1);
        }
    }
    cr_expect_gt(taken_count, 256, "the head is plain, and many bytes may be others");
}

ZK_TEST(h1_quick, takes_what_is_at_a_limit_and_leaves_what_is_over_it)
{
    static const char head[] = "GET /abc HTTP/1.1\r\n" HOST "B: c\r\nD: e\r\n" END;
    const size_t size = sizeof(head) - 1;
    const zk__h1_limits at = {(uint32_t)size, 4, 3};
    const struct {
        const char *name;
        zk__h1_limits limits;
    } rows[] = {
        {"bytes of the head", {at.head_bytes_max - 1, 4, 3}},
        {"bytes of the target", {at.head_bytes_max, 3, 3}},
        {"fields", {at.head_bytes_max, 4, 2}},
        {"no bytes at all", {0, 4, 3}},
    };
    char more[sizeof(head) + 64];
    memset(more, 'x', sizeof(more));
    memcpy(more, head, size);
    const zk__h1_limits none = {512, 64, 0};
    cr_expect_not(is_quick(&none, "not even one field", BYTES(GET END)));
    cr_expect(is_quick(&at, "at every limit", head, size));
    cr_expect(is_quick(&at, "at every limit, with bytes behind", more, sizeof(more)));
    for (size_t i = 0; i < COUNT(rows); i++) {
        cr_expect_not(is_quick(&rows[i].limits, rows[i].name, head, size), "%s", rows[i].name);
        cr_expect_not(is_quick(&rows[i].limits, rows[i].name, more, sizeof(more)), "%s",
                      rows[i].name);
    }
}

ZK_TEST(h1_quick, starts_only_where_a_head_starts)
{
    static const char head[] = GET END;
    zk_field fields[FIELDS_MAX];
    zk__h1_head out;
    zk__h1 h1;
    zk__h1_init(&h1, &limits);
    cr_assert_eq(zk__h1_slow_head(&h1, head, 5, fields, &out), 0);
    cr_expect_eq(zk__h1_quick_head(&h1, head, sizeof(head) - 1, fields, &out, false), 0,
                 "the slow path has seen a part of the head");
    cr_expect_eq(zk__h1_quick_head(&h1, head, sizeof(head) - 1, fields, &out, true),
                 (ptrdiff_t)sizeof(head) - 1, "and takes the rest");
    cr_expect_eq(zk__h1_quick_head(&h1, head, sizeof(head) - 1, fields, &out, false), 0,
                 "the message before has not been left");
    zk__h1_next(&h1);
    cr_assert_eq(zk__h1_slow_head(&h1, "\n", 1, fields, &out), ZK_E_HTTP_SYNTAX);
    cr_expect_eq(zk__h1_quick_head(&h1, head, sizeof(head) - 1, fields, &out, false), 0,
                 "the engine has failed");
}

/* Reads one message that is there as a whole; returns its size. */
static size_t read_message(zk__h1 *h1, const char *bytes, size_t size, zk__h1_head *ret_head,
                           zk_field *fields)
{
    zk_field trailers[FIELDS_MAX];
    size_t trailer_count;
    ptrdiff_t at = zk__h1_parse_head(h1, bytes, size, fields, ret_head);
    cr_assert_gt(at, 0, "%s", zk__h1_reason(h1));
    while (h1->state == ZK__H1_BODY) {
        zk_str span;
        ptrdiff_t n =
            zk__h1_body(h1, bytes + at, size - (size_t)at, &span, trailers, &trailer_count);
        cr_assert_gt(n, 0, "%s", zk__h1_reason(h1));
        at += n;
    }
    zk__h1_next(h1);
    return (size_t)at;
}

/* Each message follows each: whatever the one leaves behind in llhttp, the other is read well. */
ZK_TEST(h1_quick, shares_a_connection_with_the_slow_path)
{
    static const row messages[] = {
        {"quick", BYTES(GET END)},
        {"quick with a body", BYTES(POST "Content-Length: 3\r\n" END "abc")},
        {"quick, close", BYTES(GET "Connection: close\r\n" END)},
        {"slow", BYTES(GET "A:\tb\r\n" END)},
        {"slow with a body", BYTES(POST "Content-Length:\t3\r\n" END "abc")},
        {"slow, close", BYTES(GET "Connection:\tclose\r\n" END)},
        {"chunked", BYTES(POST "Transfer-Encoding: chunked\r\n" END "1\r\na\r\n0\r\nA: b\r\n\r\n")},
        {"upgrade", BYTES(GET "Connection: upgrade\r\nUpgrade: a\r\n" END)},
    };
    for (size_t i = 0; i < COUNT(messages) * COUNT(messages); i++) {
        const row *a = &messages[i / COUNT(messages)], *b = &messages[i % COUNT(messages)];
        char bytes[512];
        memcpy(bytes, a->bytes, a->size);
        memcpy(bytes + a->size, b->bytes, b->size);
        size_t size = a->size + b->size;
        zk__h1 h1, fresh;
        zk__h1_head head, expected;
        zk_field fields[FIELDS_MAX], expected_fields[FIELDS_MAX];
        zk__h1_init(&h1, &limits);
        zk__h1_init(&fresh, &limits);
        cr_expect_eq(read_message(&h1, bytes, size, &head, fields), a->size, "%s", a->name);
        cr_expect_eq(read_message(&h1, bytes + a->size, b->size, &head, fields), b->size,
                     "%s behind %s", b->name, a->name);
        read_message(&fresh, bytes + a->size, b->size, &expected, expected_fields);
        cr_expect(is_same_head(&head, &expected), "%s behind %s", b->name, a->name);
    }
}

ZK_TEST(h1_quick, finds_the_end_of_a_run_with_and_without_sse2)
{
    static const char *const names[COUNT_OF_RUNS] = {"target", "name", "text", "digits"};
    static const char inside[COUNT_OF_RUNS] = {'/', 'a', ' ', '0'};
    enum { SIZE = 40 };
    for (int run = 0; run < COUNT_OF_RUNS; run++) {
        for (unsigned at = 0; at < SIZE * 256; at++) {
            char *bytes = malloc(SIZE);
            memset(bytes, inside[run], SIZE);
            bytes[at / 256] = (char)(at % 256);
            for (size_t start = 0; start <= SIZE; start += 1 + start % 7) {
                const char *expected =
                    zk__h1_skip_portable(bytes + start, bytes + SIZE, (enum zk__h1_run)run);
                const char *found = zk__h1_skip(bytes + start, bytes + SIZE, (enum zk__h1_run)run);
                cr_assert_eq(found, expected, "%s: 0x%02x at %u, from %zu on", names[run], at % 256,
                             at / 256, start);
            }
            free(bytes);
        }
    }
}

/* Every byte at every place: only what zk__target_parse() leaves as it is may be called plain. */
ZK_TEST(h1_quick, calls_a_path_plain_only_if_it_is)
{
    enum { SIZE = 40 };
    size_t plain_count = 0;
    for (unsigned at = 1; at < SIZE * 256; at++) {
        char *head = malloc(256);
        char target[SIZE + 1] = "/";
        memset(target + 1, 'a', SIZE - 1);
        if (at / 256) target[at / 256] = (char)(at % 256 ? at % 256 : '/');
        int size = snprintf(head, 256, "GET %.*s HTTP/1.1\r\nHost: a\r\n\r\n", (int)(1 + at % SIZE),
                            target);
        result r;
        parse(&limits, head, (size_t)size, true, &r);
        if (r.n > 0 && r.head.is_path_plain) {
            zk_arena arena = {0};
            zk__target parsed;
            cr_assert_ok(zk__target_parse(r.head.method, r.head.target, &arena, &parsed));
            cr_assert(is_same_str(parsed.path, r.head.target) && !parsed.query.size, "%s", head);
            plain_count++;
        }
        free(head);
    }
#ifdef __SSE2__
    cr_assert_gt(plain_count, SIZE * 80u); /* letters and digits at least */
#endif
}
