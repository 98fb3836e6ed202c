/*
 * The two ways to parse a head of HTTP/1.1. Input as for h1.c: a byte that picks the limits, a byte
 * that picks a truncation, then what a client sends, request behind request.
 *
 * One engine reads with zk__h1_parse_head(), the other with the slow path only. Both must tell the
 * same of every head and every body, and refuse the same with the same reason. A path that is
 * called plain is held against http/path.h. Before each head, the quick path alone: what it takes
 * is the same without the bytes behind the head, and is not taken with a byte less; what it does
 * not take it leaves as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "http/h1_internal.h"
#include "http/path.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { FIELDS_MAX = 12, STREAM_BYTES_MAX = 16384 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of the two engines, with what it has read last. */
typedef struct reader {
    zk__h1 h1;
    zk__h1_head head;
    zk_field fields[FIELDS_MAX];
} reader;

static void check_same_str(zk_str a, zk_str b) { CHECK(a.data == b.data && a.size == b.size); }

static void check_same_fields(const zk_field *a, const zk_field *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_same_str(a[i].name, b[i].name);
        check_same_str(a[i].value, b[i].value);
    }
}

static void check_same_head(const zk__h1_head *a, const zk__h1_head *b)
{
    check_same_str(a->method, b->method);
    check_same_str(a->target, b->target);
    check_same_str(a->host, b->host);
    CHECK(a->minor == b->minor && a->framing == b->framing && a->keep_alive == b->keep_alive);
    CHECK(a->expects_continue == b->expects_continue && a->is_upgrade == b->is_upgrade);
    CHECK(a->content_length == b->content_length && a->field_count == b->field_count);
    check_same_fields(a->fields, b->fields, a->field_count);
}

/* All of the state but llhttp's. */
static void check_same_engine(const zk__h1 *a, const zk__h1 *b)
{
    CHECK(a->state == b->state && a->scanned == b->scanned && a->body_left == b->body_left);
    CHECK(a->line_at == b->line_at && a->line_part == b->line_part && a->error == b->error);
    CHECK(a->line_phase == b->line_phase && a->chunk_phase == b->chunk_phase);
    CHECK(a->framing == b->framing && a->extension_excess == b->extension_excess);
    CHECK(strcmp(a->reason, b->reason) == 0);
}

/* The quick path alone, on a copy of the engine and of just these bytes. Returns what it did. */
static ptrdiff_t try_quick(const zk__h1 *before, const char *bytes, size_t size)
{
    zk__h1 h1;
    zk__h1_head head, head_before;
    zk_field fields[FIELDS_MAX];
    char *copy = malloc(size);
    CHECK(copy != NULL || size == 0);
    if (size > 0) memcpy(copy, bytes, size);
    memcpy(&h1, before, sizeof(h1));
    memset(&head, 0xa5, sizeof(head));
    memcpy(&head_before, &head, sizeof(head));
    ptrdiff_t n = zk__h1_quick_head(&h1, copy, size, fields, &head, false);
    CHECK(n >= 0 && n <= (ptrdiff_t)size);
    if (n == 0) {
        CHECK(memcmp(&h1, before, sizeof(h1)) == 0);
        CHECK(memcmp(&head, &head_before, sizeof(head)) == 0);
    }
    free(copy);
    return n;
}

/* A path that is said to be plain is found to be just that. */
static void check_path(const zk__h1_head *head)
{
    if (!head->is_path_plain) return;
    zk_arena arena = {0};
    zk__target target;
    CHECK(zk__target_parse(head->method, head->target, &arena, &target) == 0);
    check_same_str(target.path, head->target);
    CHECK(target.query.size == 0 && target.authority.size == 0);
}

static ptrdiff_t read_heads(reader *both, reader *slow, const char *bytes, size_t size, size_t cut)
{
    ptrdiff_t quick = try_quick(&both->h1, bytes, size);
    if (quick > 0) {
        CHECK(try_quick(&both->h1, bytes, (size_t)quick) == quick);
        CHECK(try_quick(&both->h1, bytes, (size_t)quick - 1) == 0);
        CHECK(try_quick(&both->h1, bytes, cut % (size_t)quick) == 0);
    }
    ptrdiff_t n = zk__h1_parse_head(&both->h1, bytes, size, both->fields, &both->head);
    CHECK(n == zk__h1_slow_head(&slow->h1, bytes, size, slow->fields, &slow->head));
    CHECK(quick == 0 || quick == n);
    if (n > 0) {
        check_same_head(&both->head, &slow->head);
        check_path(&both->head);
    }
    return n;
}

static ptrdiff_t read_bodies(reader *both, reader *slow, const char *bytes, size_t size)
{
    zk_str span = {NULL, 0}, slow_span = {NULL, 0};
    size_t count = 0, slow_count = 0;
    ptrdiff_t n = zk__h1_body(&both->h1, bytes, size, &span, both->fields, &count);
    CHECK(n == zk__h1_body(&slow->h1, bytes, size, &slow_span, slow->fields, &slow_count));
    CHECK(count == slow_count);
    check_same_str(span, slow_span);
    check_same_fields(both->fields, slow->fields, count);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > STREAM_BYTES_MAX) return 0;
    bool is_tight = data[0] & 1;
    const zk__h1_limits limits = {
        .head_bytes_max = is_tight ? 96 : 8192,
        .target_bytes_max = is_tight ? 12 : 2048,
        .fields_max = is_tight ? 3 : FIELDS_MAX,
    };
    reader both, slow;
    zk__h1_init(&both.h1, &limits);
    zk__h1_init(&slow.h1, &limits);
    for (size_t at = 2; at < size;) {
        char *bytes = malloc(size - at);
        CHECK(bytes != NULL);
        memcpy(bytes, data + at, size - at);
        ptrdiff_t n = both.h1.state == ZK__H1_HEAD
                          ? read_heads(&both, &slow, bytes, size - at, data[1])
                          : read_bodies(&both, &slow, bytes, size - at);
        check_same_engine(&both.h1, &slow.h1);
        free(bytes);
        if (n <= 0) break;
        at += (size_t)n;
        if (both.h1.state == ZK__H1_DONE) {
            zk__h1_next(&both.h1);
            zk__h1_next(&slow.h1);
        }
    }
    return 0;
}
