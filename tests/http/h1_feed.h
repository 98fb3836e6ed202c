/*
 * Feeds the HTTP/1.1 engine for its tests. Every message of a table arrives in three ways: as a
 * whole, split in two at every byte, and byte by byte. Each time the bytes lie in a fresh heap
 * block of just their size, so that AddressSanitizer sees a read beyond them; and all ways must
 * give the same report.
 */
#ifndef ZOKIO_TESTS_HTTP_H1_FEED_H
#define ZOKIO_TESTS_HTTP_H1_FEED_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "http/h1.h"
#include "tests/test.h"

#define FIELDS_MAX 8

static const zk__h1_limits limits = {512, 64, FIELDS_MAX};

/* What came of a message: a verdict, and in words what was read from it, or why it was refused. */
typedef struct report {
    int rc;
    char text[2048];
    size_t size;
    char body[2048];
    size_t body_size;
} report;

typedef struct row {
    const char *name; /* begins with the section of RFC 9112, or of RFC 9110 if it says so */
    const char *bytes;
    size_t size;
    int rc;
    const char *expected; /* part of the report's text, or of the reason for refusing it */
} row;

static void ZK_PRINTF(2, 3) say(report *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(r->text + r->size, sizeof(r->text) - r->size, format, args);
    va_end(args);
    r->size += (size_t)n;
    cr_assert_lt(r->size, sizeof(r->text));
}

static void say_fields(report *r, const zk_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        say(r, "{%.*s=%.*s}", (int)fields[i].name.size, fields[i].name.data,
            (int)fields[i].value.size, fields[i].value.data);
}

static void say_head(report *r, const zk__h1_head *head)
{
    static const char *const framings[] = {"none", "length", "chunked"};
    say(r, "%.*s %.*s 1.%d host=%.*s body=%s:%llu%s%s%s ", (int)head->method.size,
        head->method.data, (int)head->target.size, head->target.data, head->minor,
        (int)head->host.size, head->host.data, framings[head->framing],
        (unsigned long long)head->content_length, head->keep_alive ? " keep-alive" : "",
        head->expects_continue ? " continue" : "", head->is_upgrade ? " upgrade" : "");
    say_fields(r, head->fields, head->field_count);
}

/* A message on its way through an engine, with the bytes that have arrived and are not consumed. */
typedef struct feed {
    zk__h1 h1;
    report report;
    char kept[8192];
    size_t kept_size;
} feed;

static void feed_init(feed *f, const zk__h1_limits *l)
{
    memset(f, 0, sizeof(*f));
    zk__h1_init(&f->h1, l);
}

/* Lets the engine run once over a copy of what is kept. Returns what it returned. */
static ptrdiff_t feed_once(feed *f)
{
    char *copy = malloc(f->kept_size);
    memcpy(copy, f->kept, f->kept_size);
    zk_field fields[FIELDS_MAX];
    ptrdiff_t n;
    if (f->h1.state == ZK__H1_HEAD) {
        zk__h1_head head;
        n = zk__h1_parse_head(&f->h1, copy, f->kept_size, fields, &head);
        if (n > 0) say_head(&f->report, &head);
    } else {
        zk_str span = {NULL, 0};
        size_t trailer_count = 0;
        n = zk__h1_body(&f->h1, copy, f->kept_size, &span, fields, &trailer_count);
        if (n > 0) {
            cr_assert(span.data >= copy && span.data + span.size == copy + n);
            memcpy(f->report.body + f->report.body_size, span.data, span.size);
            f->report.body_size += span.size;
            say_fields(&f->report, fields, trailer_count);
        }
    }
    free(copy);
    cr_assert(n <= (ptrdiff_t)f->kept_size);
    if (n > 0) {
        f->kept_size -= (size_t)n;
        memmove(f->kept, f->kept + n, f->kept_size);
    }
    return n;
}

/* More bytes have arrived: runs until the engine wants more, is done, or has failed. */
static void feed_bytes(feed *f, const char *bytes, size_t size)
{
    memcpy(f->kept + f->kept_size, bytes, size);
    f->kept_size += size;
    if (f->report.rc < 0) {
        cr_assert_eq(feed_once(f), f->report.rc, "after a failure the error stays the same");
        return;
    }
    while (f->kept_size > 0 && f->h1.state != ZK__H1_DONE) {
        ptrdiff_t n = feed_once(f);
        if (n == 0) return;
        if (n < 0) {
            f->report.rc = (int)n;
            cr_assert_eq(f->h1.state, ZK__H1_FAILED);
            say(&f->report, "%s", zk__h1_reason(&f->h1));
            return;
        }
    }
}

/* Writes a text without its NUL to bytes[at..]. Returns where it ends. */
static size_t put(char *bytes, size_t at, const char *text)
{
    while (*text != '\0')
        bytes[at++] = *text++;
    return at;
}

/* How the bytes arrive: as a whole (0), split behind byte `split`, or one by one (SIZE_MAX). */
static void run(const zk__h1_limits *l, const char *bytes, size_t size, size_t split,
                feed *ret_feed)
{
    feed_init(ret_feed, l);
    if (split == SIZE_MAX) {
        for (size_t i = 0; i < size; i++)
            feed_bytes(ret_feed, bytes + i, 1);
    } else {
        if (split > 0) feed_bytes(ret_feed, bytes, split);
        feed_bytes(ret_feed, bytes + split, size - split);
    }
    say(&ret_feed->report, " state %d", ret_feed->h1.state);
}

static void check_same(const char *name, size_t split, const report *whole, const report *now)
{
    cr_assert(now->rc == whole->rc && strcmp(now->text, whole->text) == 0,
              "%s: split at %zd: %s \"%s\" instead of %s \"%s\"", name, (ssize_t)split,
              zk_errname(now->rc), now->text, zk_errname(whole->rc), whole->text);
    cr_assert(now->body_size == whole->body_size &&
                  memcmp(now->body, whole->body, whole->body_size) == 0,
              "%s: split at %zd: another body", name, (ssize_t)split);
}

/* Feeds the bytes in every way; returns the report that they all gave. */
static report run_every_way(const zk__h1_limits *l, const char *name, const char *bytes,
                            size_t size)
{
    feed whole, now;
    run(l, bytes, size, 0, &whole);
    for (size_t split = 1; split < size; split++) {
        run(l, bytes, size, split, &now);
        check_same(name, split, &whole.report, &now.report);
    }
    run(l, bytes, size, SIZE_MAX, &now);
    check_same(name, SIZE_MAX, &whole.report, &now.report);
    return whole.report;
}

static void check_rows(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const row *w = &rows[i];
        report r = run_every_way(&limits, w->name, w->bytes, w->size);
        cr_expect(r.rc == w->rc, "%s: %s (%s) instead of %s", w->name, zk_errname(r.rc), r.text,
                  zk_errname(w->rc));
        if (w->expected != NULL)
            cr_expect(strstr(r.text, w->expected), "%s: no \"%s\" in \"%s\"", w->name, w->expected,
                      r.text);
    }
}
#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))
/* Two members of a row: the bytes, which may contain NUL, and their size. */
#define BYTES(literal) literal, sizeof(literal) - 1

#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define POST "POST / HTTP/1.1\r\n" HOST
#define END "\r\n"
#define TEN "0123456789"

#endif
