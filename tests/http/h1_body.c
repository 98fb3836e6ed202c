/*
 * Bodies of HTTP/1.1: by length and in chunks, trailers, limits, and requests one after another.
 */
#include "tests/http/h1_feed.h"

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

ZK_TEST(h1_body, frames_by_length)
{
    static const row rows[] = {
        {"6.2 a length", BYTES(POST "Content-Length: 5\r\n\r\nhello"), 0, "length:5"},
        {"6.2 zero", BYTES(POST "Content-Length: 0\r\n\r\n"), 0,
         "length:0 keep-alive {Host=a}{Content-Length=0} state 2"},
        {"6.2 leading zeros", BYTES(POST "Content-Length: 005\r\n\r\nhello"), 0, "length:5"},
        {"6.2 on GET", BYTES(GET "Content-Length: 5\r\n\r\nhello"), 0, "length:5"},
        {"6.2 the largest", BYTES(POST "Content-Length: 18446744073709551615\r\n\r\n"), 0,
         "length:18446744073709551615"},
    };
    CHECK(rows);
    report r = run_every_way(&limits, rows[0].name, rows[0].bytes, rows[0].size);
    cr_assert_eq(r.body_size, 5);
    cr_assert_arr_eq(r.body, "hello", 5);
}

ZK_TEST(h1_body, reads_chunks)
{
    static const struct {
        row row;
        const char *body;
    } rows[] = {
        {{"7.1 empty", BYTES(CHUNKED "0\r\n\r\n"), 0, "chunked:0"}, ""},
        {{"7.1 one", BYTES(CHUNKED "5\r\nhello\r\n0\r\n\r\n"), 0, " state 2"}, "hello"},
        {{"7.1 several", BYTES(CHUNKED "1\r\nh\r\n003\r\nell\r\n1\r\no\r\n000\r\n\r\n"), 0,
          " state 2"},
         "hello"},
        {{"7.1 both cases of hex digits",
          BYTES(CHUNKED "a\r\n" TEN "\r\nA\r\n" TEN "\r\n0\r\n\r\n"), 0, " state 2"},
         TEN TEN},
        {{"7.1 line ends as data", BYTES(CHUNKED "4\r\n\r\n\r\n\r\n0\r\n\r\n"), 0, " state 2"},
         "\r\n\r\n"},
        {{"7.1 the case of chunked",
          BYTES(POST "Transfer-Encoding: \tChUnKeD \r\n\r\n1\r\nh\r\n0\r\n\r\n"), 0, " state 2"},
         "h"},
        {{"7.1.1 extensions", BYTES(CHUNKED "1;a;b=c\r\nh\r\n0;d=e\r\n\r\n"), 0, " state 2"}, "h"},
        {{"7.1.1 white space in them", BYTES(CHUNKED "1 ;\ta = b\r\nh\r\n0\r\n\r\n"), 0,
          " state 2"},
         "h"},
        {{"7.1.1 a quoted string", BYTES(CHUNKED "1;a=\"b;c=\td\"\r\nh\r\n0\r\n\r\n"), 0,
          " state 2"},
         "h"},
        {{"7.1.1 a quoted pair", BYTES(CHUNKED "1;a=\"\\\"\\\\\\b\";c\r\nh\r\n0\r\n\r\n"), 0,
          " state 2"},
         "h"},
        {{"7.1.2 trailers", BYTES(CHUNKED "1\r\nh\r\n0\r\nB: c\r\nD:\r\n\r\n"), 0,
          "{B=c}{D=} state 2"},
         "h"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const row *w = &rows[i].row;
        check_rows(w, 1);
        report r = run_every_way(&limits, w->name, w->bytes, w->size);
        cr_expect_eq(r.body_size, strlen(rows[i].body), "%s", w->name);
        cr_expect_arr_eq(r.body, rows[i].body, r.body_size, "%s", w->name);
    }
}

ZK_TEST(h1_body, refuses_chunks_that_could_be_read_differently)
{
    const int syntax = ZK_E_HTTP_SYNTAX;
    const row rows[] = {
        {"7.1 no size", BYTES(CHUNKED "\r\n\r\n"), syntax, NULL},
        {"7.1 not hex", BYTES(CHUNKED "g\r\n"), syntax, NULL},
        {"7.1 0x", BYTES(CHUNKED "0x1\r\nh\r\n"), syntax, NULL},
        {"7.1 plus", BYTES(CHUNKED "+1\r\nh\r\n"), syntax, NULL},
        {"7.1 minus", BYTES(CHUNKED "-1\r\nh\r\n"), syntax, NULL},
        {"7.1 a space before it", BYTES(CHUNKED " 1\r\nh\r\n"), syntax, NULL},
        {"7.1 a space behind it", BYTES(CHUNKED "1 \r\nh\r\n"), syntax, NULL},
        {"7.1 17 digits", BYTES(CHUNKED "10000000000000000\r\n"), syntax, "too large"},
        {"7.1 17 digits, most of them zeros", BYTES(CHUNKED "00000000000000001\r\nh"), syntax,
         "too large"},
        {"2.2 bare LF behind the size", BYTES(CHUNKED "1\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"2.2 bare CR behind the size", BYTES(CHUNKED "1\rh\r\n0\r\n\r\n"), syntax, NULL},
        {"2.2 CR CR LF behind the size", BYTES(CHUNKED "1\r\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1 no line end behind the data", BYTES(CHUNKED "1\r\nh0\r\n\r\n"), syntax,
         "behind chunk data"},
        {"2.2 bare LF behind the data", BYTES(CHUNKED "1\r\nh\n0\r\n\r\n"), syntax,
         "behind chunk data"},
        {"2.2 bare CR behind the data", BYTES(CHUNKED "1\r\nh\r0\r\n\r\n"), syntax,
         "behind chunk data"},
        {"7.1 data longer than its size", BYTES(CHUNKED "1\r\nhe\r\n0\r\n\r\n"), syntax,
         "behind chunk data"},
        {"7.1.1 an empty extension", BYTES(CHUNKED "1;\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 no semicolon", BYTES(CHUNKED "1 a\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 no value", BYTES(CHUNKED "1;a=\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 an open quote", BYTES(CHUNKED "1;a=\"b\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 the quote is escaped", BYTES(CHUNKED "1;a=\"b\\\"\r\nh\r\n0\r\n\r\n"), syntax,
         NULL},
        {"7.1.1 the line end is escaped", BYTES(CHUNKED "1;a=\"b\\\r\n\"\r\nh\r\n0\r\n\r\n"),
         syntax, NULL},
        {"7.1.1 a bare LF in quotes", BYTES(CHUNKED "1;a=\"\n\"\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 a bare CR in quotes", BYTES(CHUNKED "1;a=\"\r\"\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 NUL in quotes", BYTES(CHUNKED "1;a=\"\0\"\r\nh\r\n0\r\n\r\n"), syntax, NULL},
        {"7.1.1 more behind the quote", BYTES(CHUNKED "1;a=\"b\"c\r\nh\r\n0\r\n\r\n"), syntax,
         NULL},
        {"2.2 bare LF ends the trailers", BYTES(CHUNKED "0\r\n\n"), syntax, NULL},
        {"2.2 bare CR ends the trailers", BYTES(CHUNKED "0\r\n\rX"), syntax, NULL},
        {"2.2 bare LF in the trailers", BYTES(CHUNKED "0\r\nB: c\n\r\n"), syntax, NULL},
        {"5.2 folded trailer", BYTES(CHUNKED "0\r\nB: c\r\n d\r\n\r\n"), syntax, "folded"},
        {"5.2 folded from the start", BYTES(CHUNKED "0\r\n B: c\r\n\r\n"), syntax, NULL},
        {"5.1 no name", BYTES(CHUNKED "0\r\n: c\r\n\r\n"), syntax, NULL},
        {"5.1 no colon", BYTES(CHUNKED "0\r\nGET / HTTP/1.1\r\n\r\n"), syntax, NULL},
        {"9110 5.5 NUL in the trailers", BYTES(CHUNKED "0\r\nB: \0\r\n\r\n"), syntax, NULL},
        {"9110 6.5.1 a length", BYTES(CHUNKED "0\r\nContent-Length: 5\r\n\r\n"), syntax, NULL},
        {"9110 6.5.1 a coding", BYTES(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n"), syntax,
         NULL},
        {"9110 6.5.1 Host", BYTES(CHUNKED "0\r\nhOST: b\r\n\r\n"), syntax, "trailers"},
        {"9110 6.5.1 Trailer", BYTES(CHUNKED "0\r\nTrailer: b\r\n\r\n"), syntax, "trailers"},
        {"9110 6.5.1 Connection", BYTES(CHUNKED "0\r\nConnection: close\r\n\r\n"), syntax,
         "trailers"},
        {"9110 6.5.1 Authorization", BYTES(CHUNKED "0\r\nAuthorization: b\r\n\r\n"), syntax,
         "trailers"},
        {"9110 6.5.1 Content-Encoding", BYTES(CHUNKED "0\r\nContent-Encoding: gzip\r\n\r\n"),
         syntax, "trailers"},
    };
    CHECK(rows);
}

ZK_TEST(h1_body, hands_out_the_bytes_where_they_lie)
{
    zk__h1 h1;
    zk_field fields[FIELDS_MAX];
    zk__h1_head head;
    const char *bytes = CHUNKED "5\r\nhello\r\n0\r\nB: c\r\n\r\nGET";
    zk__h1_init(&h1, &limits);
    ptrdiff_t at = zk__h1_parse_head(&h1, bytes, strlen(bytes), fields, &head);
    cr_assert_eq(at, (ptrdiff_t)strlen(CHUNKED));
    zk_str span;
    size_t trailer_count;
    cr_assert_eq(
        zk__h1_body(&h1, bytes + at, strlen(bytes) - (size_t)at, &span, fields, &trailer_count), 8);
    cr_assert_eq(span.data, bytes + at + 3);
    cr_assert_eq(span.size, 5);
    at += 8;
    cr_assert_eq(
        zk__h1_body(&h1, bytes + at, strlen(bytes) - (size_t)at, &span, fields, &trailer_count),
        13);
    cr_assert_eq(span.size, 0);
    cr_assert_eq(h1.state, ZK__H1_DONE);
    cr_assert_eq(trailer_count, 1);
    cr_assert_eq(fields[0].name.data, bytes + at + 5);
}

ZK_TEST(h1_body, checks_trailers_that_nobody_wants)
{
    static const struct {
        const char *bytes;
        enum zk__h1_state state;
    } rows[] = {
        {"0\r\nB: c\r\n\r\n", ZK__H1_DONE},
        {"0\r\nB c\r\n\r\n", ZK__H1_FAILED},
        {"0\r\nHost: c\r\n\r\n", ZK__H1_FAILED},
        {"0\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\n\r\n", ZK__H1_FAILED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        zk__h1 h1;
        zk_field fields[FIELDS_MAX];
        zk__h1_head head;
        zk_str span;
        zk__h1_init(&h1, &limits);
        cr_assert_gt(zk__h1_parse_head(&h1, CHUNKED, strlen(CHUNKED), fields, &head), 0);
        zk__h1_body(&h1, rows[i].bytes, strlen(rows[i].bytes), &span, NULL, NULL);
        cr_expect_eq(h1.state, rows[i].state, "%s", rows[i].bytes);
    }
}

/* A chunked request: `before`, then a filler of that many bytes, then `after`. */
static size_t make_body(char *bytes, const char *before, size_t filler_size, const char *after)
{
    size_t at = put(bytes, put(bytes, 0, CHUNKED), before);
    memset(bytes + at, 'a', filler_size);
    return put(bytes, at + filler_size, after);
}

ZK_TEST(h1_body, limits_the_bytes_of_a_size_line)
{
    char bytes[6000];
    feed f;
    size_t size = make_body(bytes, "1;", 4096 - 4, "\r\nh\r\n0\r\n\r\n");
    run(&limits, bytes, size, 0, &f);
    cr_expect_eq(f.report.rc, 0, "%s", f.report.text);
    size = make_body(bytes, "1;", 4097 - 4, "\r\nh\r\n0\r\n\r\n");
    run(&limits, bytes, size, 0, &f);
    cr_expect_eq(f.report.rc, ZK_E_HTTP_HEADER_TOO_LARGE, "%s", f.report.text);
    run(&limits, bytes, size, SIZE_MAX, &f);
    cr_expect_eq(f.report.rc, ZK_E_HTTP_HEADER_TOO_LARGE, "%s", f.report.text);
}

/* Feeds chunks with so many bytes of data and of extensions each, until one is refused. */
static size_t count_chunks(size_t data_size, size_t extension_size, size_t count_max)
{
    zk__h1 h1;
    zk_field fields[FIELDS_MAX];
    zk__h1_head head;
    zk_str span;
    zk__h1_init(&h1, &limits);
    cr_assert_gt(zk__h1_parse_head(&h1, CHUNKED, strlen(CHUNKED), fields, &head), 0);

    char chunk[8192];
    size_t size = (size_t)snprintf(chunk, sizeof(chunk), "%zx;", data_size);
    memset(chunk + size, 'a', extension_size - 1);
    size = put(chunk, size + extension_size - 1, "\r\n");
    memset(chunk + size, 'd', data_size);
    size = put(chunk, size + data_size, "\r\n");
    for (size_t count = 0; count < count_max; count++) {
        for (size_t at = 0; at < size;) {
            ptrdiff_t n = zk__h1_body(&h1, chunk + at, size - at, &span, NULL, NULL);
            if (n < 0) {
                cr_assert_eq(n, ZK_E_HTTP_HEADER_TOO_LARGE);
                return count;
            }
            cr_assert_gt(n, 0);
            at += (size_t)n;
        }
    }
    return count_max;
}

ZK_TEST(h1_body, limits_what_extensions_outweigh_the_data)
{
    cr_expect_eq(count_chunks(1, 1025, 1000), 16, "16384 bytes more than the data are allowed");
    cr_expect_eq(count_chunks(1, 2, 20000), 16384, "one byte more in each chunk");
    cr_expect_eq(count_chunks(1024, 1024, 10000), 10000, "as much as the data is fine");
    cr_expect_eq(count_chunks(4096, 64, 10000), 10000, "a signature for each page is fine");
}

ZK_TEST(h1_body, limits_the_bytes_of_trailers)
{
    char bytes[2048];
    size_t size = make_body(bytes, "0\r\nB: ", 512 - 7, "\r\n\r\n");
    cr_expect_eq(run_every_way(&limits, "512", bytes, size).rc, 0);
    size = make_body(bytes, "0\r\nB: ", 513 - 7, "\r\n\r\n");
    cr_expect_eq(run_every_way(&limits, "513", bytes, size).rc, ZK_E_HTTP_HEADER_TOO_LARGE);
    cr_expect_eq(run_every_way(&limits, "no end", bytes, size - 1).rc, ZK_E_HTTP_HEADER_TOO_LARGE);
}

ZK_TEST(h1_body, limits_the_number_of_trailers)
{
#define SEVEN "B:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\nB:\r\n"
    static const row rows[] = {
        {"8 trailers", BYTES(CHUNKED "0\r\n" SEVEN "B:\r\n\r\n"), 0, NULL},
        {"9 trailers", BYTES(CHUNKED "0\r\n" SEVEN "B:\r\nB:\r\n\r\n"), ZK_E_HTTP_HEADER_TOO_LARGE,
         NULL},
    };
    CHECK(rows);
}

/* The parser is not made anew for each request: what one leaves must not show in the next. */
ZK_TEST(h1_body, a_request_does_not_depend_on_the_one_before_it)
{
    static const char *const requests[] = {
        GET END,
        GET "Connection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        POST "Content-Length: 5\r\n\r\nhello",
        POST "Content-Length: 0\r\n\r\n",
        CHUNKED "5\r\nhello\r\n0\r\nB: c\r\n\r\n",
        POST "Connection: upgrade\r\nUpgrade: x\r\n\r\n",
        POST "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
        POST
        "Connection: upgrade, close\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n" HOST END,
        POST "Content-Length: 5, 5\r\n\r\n",
    };
    const size_t count = sizeof(requests) / sizeof(requests[0]);
    for (size_t i = 0; i + 1 < count; i++) {
        for (size_t j = 0; j < count; j++) {
            feed first, alone;
            run(&limits, requests[j], strlen(requests[j]), 0, &alone);
            run(&limits, requests[i], strlen(requests[i]), 0, &first);
            cr_assert_eq(first.h1.state, ZK__H1_DONE, "%s", requests[i]);
            zk__h1_next(&first.h1);
            memset(&first.report, 0, sizeof(first.report));
            feed_bytes(&first, requests[j], strlen(requests[j]));
            say(&first.report, " state %d", first.h1.state);
            check_same(requests[j], i, &alone.report, &first.report);
        }
    }
}

ZK_TEST(h1_body, requests_may_come_in_one_go)
{
    static const char bytes[] =
        "\r\n" GET END POST "Content-Length: 2\r\n\r\nhi" CHUNKED "1\r\nh\r\n0\r\n\r\n\r\n" GET END;
    feed f;
    feed_init(&f, &limits);
    feed_bytes(&f, bytes, sizeof(bytes) - 1);
    for (int count = 1; count < 4; count++) {
        cr_assert_eq(f.h1.state, ZK__H1_DONE, "request %d", count);
        zk__h1_next(&f.h1);
        feed_bytes(&f, "", 0);
    }
    cr_assert_eq(f.h1.state, ZK__H1_DONE);
    cr_assert_eq(f.kept_size, 0);
    cr_assert_eq(f.report.body_size, 3);
    cr_assert_arr_eq(f.report.body, "hih", 3);
}
