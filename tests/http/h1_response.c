/*
 * Response heads and bodies: what each comes to, what is refused, and that it never matters in
 * which pieces it arrives.
 */
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

#include "http/h1_response.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))
#define USUAL ZK__H1_ASKED_USUAL
#define HEAD ZK__H1_ASKED_HEAD
#define CONNECT ZK__H1_ASKED_CONNECT
#define OK "HTTP/1.1 200 OK\r\n"

static const zk__h1_limits limits = {.head_bytes_max = 512, .fields_max = 4};

/* What an engine made of a whole stream of bytes, as one line of text. */
typedef struct outcome {
    char text[1024];
    size_t size;
} outcome;

static void note(outcome *o, const char *data, size_t size)
{
    if (size > sizeof o->text - 1 - o->size) size = sizeof o->text - 1 - o->size;
    memcpy(o->text + o->size, data, size);
    o->size += size;
    o->text[o->size] = '\0';
}

static void note_text(outcome *o, const char *text) { note(o, text, strlen(text)); }

static void note_head(outcome *o, const zk__h1_answer *a)
{
    static const char *const framings[] = {"none", "length", "chunked", "end"};
    char line[128];
    snprintf(line, sizeof line, "%d 1.%d %s%s%s", a->status, a->minor, framings[a->framing],
             a->keep_alive ? " keep" : "", a->is_switched ? " raw" : "");
    note_text(o, line);
    if (a->has_length) {
        snprintf(line, sizeof line, " %llu", (unsigned long long)a->content_length);
        note_text(o, line);
    }
    for (size_t i = 0; i < a->field_count; i++) {
        note_text(o, "|");
        note(o, a->fields[i].name.data, a->fields[i].name.size);
        note_text(o, "=");
        note(o, a->fields[i].value.data, a->fields[i].value.size);
    }
    note_text(o, ";");
}

static void note_error(outcome *o, int rc)
{
    note_text(o, "!");
    note_text(o, zk_errname(rc));
}

/* One pass over what is there. returns bytes consumed, or an error; *at_body: whether the head is
 * done. */
static ptrdiff_t step(zk__h1 *h1, outcome *o, const char *data, size_t size,
                      enum zk__h1_asked asked)
{
    zk_field fields[4];
    if (h1->state == ZK__H1_HEAD) {
        zk__h1_answer answer;
        ptrdiff_t n = zk__h1_parse_response(h1, data, size, asked, fields, &answer);
        if (n > 0) note_head(o, &answer);
        return n;
    }
    zk_str span = {NULL, 0};
    size_t trailer_count = 0;
    ptrdiff_t n = zk__h1_body(h1, data, size, &span, fields, &trailer_count);
    if (n > 0) note(o, span.data, span.size);
    for (size_t i = 0; n > 0 && h1->state == ZK__H1_DONE && i < trailer_count; i++) {
        note_text(o, "|");
        note(o, fields[i].name.data, fields[i].name.size);
        note_text(o, "=");
        note(o, fields[i].value.data, fields[i].value.size);
    }
    return n;
}

/* Gives the engine the bytes, `piece` more at a time, up to the end of the first final response. */
static void feed(outcome *o, const char *data, size_t size, size_t piece, enum zk__h1_asked asked)
{
    zk__h1 h1;
    zk__h1_response_init(&h1, &limits);
    *o = (outcome){.size = 0};
    size_t begin = 0, end = 0;
    while (end < size) {
        end = size - end > piece ? end + piece : size;
        while (begin < end) {
            ptrdiff_t n = step(&h1, o, data + begin, end - begin, asked);
            if (n < 0) {
                note_error(o, (int)n);
                cr_expect_neq(zk__h1_reason(&h1)[0], '\0');
                cr_expect_eq(step(&h1, o, data, size, asked), n, "the verdict is not final");
                return;
            }
            if (n == 0) break;
            begin += (size_t)n;
            if (h1.state != ZK__H1_DONE) continue;
            bool is_interim = !strncmp(o->text, "1", 1) && !strstr(o->text, "raw") && begin < size;
            if (!is_interim || strchr(o->text, ';') != o->text + o->size - 1) {
                note_text(o, ".");
                return;
            }
            zk__h1_next(&h1);
        }
    }
    if (h1.state == ZK__H1_BODY) {
        int rc = zk__h1_response_end(&h1);
        if (rc < 0) {
            note_error(o, rc);
        } else {
            note_text(o, "$");
        }
    } else if (h1.state == ZK__H1_HEAD) {
        note_text(o, "?");
    }
}

static const struct row {
    const char *in, *out;
    enum zk__h1_asked asked;
} rows[] = {
    /* framing, RFC 9112 section 6.3 */
    {OK "Content-Length: 3\r\n\r\nabc", "200 1.1 length keep 3|Content-Length=3;abc.", USUAL},
    {OK "Content-Length: 0\r\n\r\n", "200 1.1 length keep 0|Content-Length=0;.", USUAL},
    {OK "Content-Length: 4\r\n\r\nabc", "200 1.1 length keep 4|Content-Length=4;abc!ZK_E_CLOSED",
     USUAL},
    {OK "\r\nabc", "200 1.1 end;abc$", USUAL},
    {OK "\r\n", "200 1.1 end;$", USUAL},
    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;abc.", USUAL},
    {OK "Transfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nA: b\r\nC:\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=Chunked;abc|A=b|C=.", USUAL},
    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\nab",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;ab!ZK_E_CLOSED", USUAL},
    {OK "Content-Length: 3\r\n\r\n", "200 1.1 none keep 3|Content-Length=3;.", HEAD},
    {OK "Transfer-Encoding: chunked\r\n\r\n", "200 1.1 none keep|Transfer-Encoding=chunked;.",
     HEAD},
    {OK "\r\n", "200 1.1 none keep;.", HEAD},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
     "304 1.1 none keep 9|Content-Length=9;.", USUAL},
    {"HTTP/1.1 204 No Content\r\n\r\n", "204 1.1 none keep;.", USUAL},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
     "204 1.1 none keep 0|Content-Length=0;.", USUAL},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!ZK_E_HTTP_SYNTAX",
     USUAL},
    /* interim responses */
    {"HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\na",
     "100 1.1 none keep;200 1.1 length keep 1|Content-Length=1;a.", USUAL},
    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
     "103 1.1 none keep|Link=x;200 1.1 length keep 0|Content-Length=0;.", USUAL},
    {"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw",
     "101 1.1 none raw|Upgrade=websocket|Connection=Upgrade;.", USUAL},
    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 200 Fine\r\n\r\nraw", "200 1.1 none raw;.", CONNECT},
    {OK "Content-Length: 3\r\n\r\nraw", "!ZK_E_HTTP_SYNTAX", CONNECT},
    {"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", "407 1.1 length keep 2|Content-Length=2;no.",
     CONNECT},
    /* the connection */
    {OK "Connection: close\r\nContent-Length: 0\r\n\r\n",
     "200 1.1 length 0|Connection=close|Content-Length=0;.", USUAL},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "200 1.0 length 1|Content-Length=1;a.",
     USUAL},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
     "200 1.0 length keep 0|Connection=Keep-Alive|Content-Length=0;.", USUAL},
    {OK "Connection: keep-alive , CLOSE\r\nContent-Length: 0\r\n\r\n",
     "200 1.1 length 0|Connection=keep-alive , CLOSE|Content-Length=0;.", USUAL},
    /* the status line */
    {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 1.1 length keep 0|Content-Length=0;.",
     USUAL},
    {"HTTP/1.1 999 \xc3\xa4 b\tc\r\n\r\n", "999 1.1 end;$", USUAL},
    {"HTTP/1.1 099 x\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 20 x\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 2000 x\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1  200 x\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.2 200 OK\r\n\r\n", "!ZK_E_HTTP_VERSION", USUAL},
    {"HTTP/2.0 200 OK\r\n\r\n", "!ZK_E_HTTP_VERSION", USUAL},
    {"HTTP/11 200 OK\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"http/1.1 200 OK\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"ICY 200 OK\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"\r\n" OK "\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"<html>", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"\x16\x03\x01", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 200 OK\n\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 200 O\x01K\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.1 20", "?", USUAL},
    /* fields */
    {OK "A:b\r\nC:  d e \t \r\n\xc3\xa4: x\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A:b\r\nC: \t d e \t \r\nF:\xc3\xa4\r\n\r\n", "200 1.1 end|A=b|C=d e|F=\xc3\xa4;$", USUAL},
    {OK "A : b\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK ": b\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A: b\r\n c\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A: b\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A: b\rc\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A: \x7f\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\n\r\n", "!ZK_E_HTTP_HEADER_TOO_LARGE", USUAL},
    /* what is framed in two ways */
    {OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length: 3, 3\r\n\r\nabc", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length: +3\r\n\r\nabc", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length: 0x3\r\n\r\nabc", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length:\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length: 18446744073709551616\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "!ZK_E_HTTP_SYNTAX",
     USUAL},
    {OK "Transfer-Encoding: chunked, chunked\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: chunked, gzip\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n", "!ZK_E_HTTP_CODING", USUAL},
    {OK "Transfer-Encoding: identity\r\n\r\n", "!ZK_E_HTTP_CODING", USUAL},
    {OK "Transfer-Encoding:\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: \x0b"
        "chunked\r\n\r\n",
     "!ZK_E_HTTP_SYNTAX", USUAL},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Connection: close close\r\n\r\n", "!ZK_E_HTTP_SYNTAX", USUAL},
    /* chunks and trailers */
    {OK "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;abc!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;!ZK_E_HTTP_SYNTAX", USUAL},
    {OK "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n",
     "200 1.1 chunked keep|Transfer-Encoding=chunked;!ZK_E_HTTP_SYNTAX", USUAL},
};

/* Each row must come to the same whole, byte by byte, and in pieces of two and seven. */
ZK_TEST(h1_response, is_read_as_the_table_says_in_any_pieces)
{
    static const size_t pieces[] = {4096, 1, 2, 7};
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (size_t k = 0; k < ROWS(pieces); k++) {
            outcome o;
            feed(&o, rows[i].in, strlen(rows[i].in), pieces[k], rows[i].asked);
            cr_expect(!strcmp(o.text, rows[i].out), "%s\nin pieces of %zu is\n%s\nnot\n%s",
                      rows[i].in, pieces[k], o.text, rows[i].out);
        }
    }
}

/* A head of exactly the limit passes; one byte more does not, whether its end is there or not. */
ZK_TEST(h1_response, head_has_a_limit)
{
    char data[600];
    size_t size = (size_t)snprintf(data, sizeof data, OK "A: ");
    memset(data + size, 'x', sizeof data - size);
    outcome o;
    memcpy(data + 508, "\r\n\r\n", 4);
    feed(&o, data, 512, 512, USUAL);
    cr_expect_eq(o.text[0], '2', "%s", o.text);
    memset(data + 508, 'x', 4);
    memcpy(data + 509, "\r\n\r\n", 4);
    feed(&o, data, 513, 513, USUAL);
    cr_expect_str_eq(o.text, "!ZK_E_HTTP_HEADER_TOO_LARGE");
    feed(&o, data, 512, 64, USUAL);
    cr_expect_str_eq(o.text, "!ZK_E_HTTP_HEADER_TOO_LARGE");
}
