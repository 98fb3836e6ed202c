/*
 * The HTTP/1.1 engine. Input: a byte that picks the limits, a byte that seeds the split, then what
 * a client sends, request behind request.
 *
 * The bytes arrive once as a whole and once in pieces, each time in a heap block of just their
 * size, and both must give the same story: every head, every body, every trailer and the error. A
 * request must give the same head to an engine that has seen none before. No head is accepted with
 * a bare CR or LF, NUL or a folded line in it, nor one whose framing could be read in two ways.
 */
#include <stdlib.h>
#include <string.h>

#include "http/h1.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { FIELDS_MAX = 12, STREAM_BYTES_MAX = 16384, REQUESTS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that came out of the engine, with lengths in between: equal bytes mean equal results. */
typedef struct story {
    size_t size;
    bool is_over;
    uint64_t body_size;
    uint64_t body_hash;
    char bytes[4 * STREAM_BYTES_MAX + 64 * REQUESTS_MAX];
} story;

static void tell(story *to, const void *bytes, size_t size)
{
    CHECK(size <= sizeof(to->bytes) - to->size);
    if (size > 0) memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void tell_number(story *to, uint64_t number) { tell(to, &number, sizeof(number)); }

static void tell_str(story *to, zk_str s)
{
    tell_number(to, s.size);
    tell(to, s.data, s.size);
}

static void tell_fields(story *to, const zk_field *fields, size_t count)
{
    tell_number(to, count);
    for (size_t i = 0; i < count; i++) {
        tell_str(to, fields[i].name);
        tell_str(to, fields[i].value);
    }
}

static void tell_head(story *to, const zk__h1_head *head)
{
    const uint8_t flags[] = {head->minor,      head->framing,          head->keep_alive,
                             head->is_upgrade, head->expects_continue, 0};
    tell(to, flags, sizeof(flags));
    tell_str(to, head->method);
    tell_str(to, head->target);
    tell_str(to, head->host);
    tell_number(to, head->content_length);
    tell_fields(to, head->fields, head->field_count);
}

static bool is_inside(zk_str s, const char *data, size_t size)
{
    return s.data >= data && s.data <= data + size && s.size <= (size_t)(data + size - s.data);
}

static bool is_named(zk_str s, const char *lower)
{
    size_t i = 0;
    for (; i < s.size && lower[i] != '\0'; i++) {
        char c = s.data[i];
        if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != lower[i]) return false;
    }
    return i == s.size && lower[i] == '\0';
}

static size_t count_named(const zk_field *fields, size_t count, const char *lower)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += is_named(fields[i].name, lower);
    return found;
}

/* bytes: a head or a trailer section that was accepted. */
static void check_section(const char *bytes, size_t size, const zk_field *fields, size_t count)
{
    CHECK(size >= 2 && bytes[size - 2] == '\r' && bytes[size - 1] == '\n');
    size_t line_count = 0;
    for (size_t i = 0; i < size; i++) {
        CHECK(bytes[i] != '\0');
        if (bytes[i] == '\r') CHECK(bytes[i + 1] == '\n');
        if (bytes[i] != '\n') continue;
        CHECK(i > 0 && bytes[i - 1] == '\r');
        if (i + 1 < size) CHECK(bytes[i + 1] != ' ' && bytes[i + 1] != '\t');
        line_count++;
    }
    CHECK(line_count > count);
    for (size_t i = 0; i < count; i++) {
        CHECK(is_inside(fields[i].name, bytes, size) && is_inside(fields[i].value, bytes, size));
        CHECK(zk__h1_is_token(fields[i].name) && zk__h1_is_field_value(fields[i].value));
        CHECK(i == 0 || fields[i].name.data > fields[i - 1].name.data);
    }
}

static void check_head(const char *bytes, size_t size, const zk__h1_head *head)
{
    check_section(bytes, size, head->fields, head->field_count);
    CHECK(head->field_count <= FIELDS_MAX && head->minor <= 1);
    CHECK(is_inside(head->method, bytes, size) && is_inside(head->target, bytes, size));
    CHECK(zk__h1_is_token(head->method) && head->target.size > 0);
    CHECK(head->method.data + head->method.size + 1 == head->target.data);
    size_t hosts = count_named(head->fields, head->field_count, "host");
    size_t lengths = count_named(head->fields, head->field_count, "content-length");
    size_t codings = count_named(head->fields, head->field_count, "transfer-encoding");
    CHECK(hosts == 1 || (hosts == 0 && head->minor == 0));
    CHECK(lengths + codings <= 1 && (codings == 0 || head->minor == 1));
    CHECK((head->framing == ZK__H1_CHUNKED) == (codings == 1));
    CHECK((head->framing == ZK__H1_LENGTH) == (lengths == 1));
}

/* The head that the engine has just read, read by one that starts with it. */
static void check_with_fresh_engine(const zk__h1 *used, const char *bytes, size_t size,
                                    const zk__h1_head *head)
{
    static story one, other;
    zk__h1 fresh;
    zk_field fields[FIELDS_MAX];
    zk__h1_head again;
    zk__h1_init(&fresh, &used->limits);
    CHECK(zk__h1_parse_head(&fresh, bytes, size, fields, &again) == (ptrdiff_t)size);
    CHECK(fresh.state == used->state && fresh.body_left == used->body_left);
    one.size = other.size = 0;
    tell_head(&one, head);
    tell_head(&other, &again);
    CHECK(one.size == other.size && memcmp(one.bytes, other.bytes, one.size) == 0);
}

static ptrdiff_t read_head(zk__h1 *h1, const char *bytes, size_t size, story *to)
{
    zk_field fields[FIELDS_MAX];
    zk__h1_head head;
    ptrdiff_t n = zk__h1_parse_head(h1, bytes, size, fields, &head);
    CHECK(n <= (ptrdiff_t)size);
    if (n <= 0) return n;
    size_t skipped = 0;
    while (bytes[skipped] == '\r')
        skipped += 2;
    CHECK(skipped <= 8 && (size_t)n - skipped <= h1->limits.head_bytes_max);
    CHECK(head.target.size <= h1->limits.target_bytes_max);
    check_head(bytes + skipped, (size_t)n - skipped, &head);
    check_with_fresh_engine(h1, bytes, (size_t)n, &head);
    tell_head(to, &head);
    to->body_size = 0;
    to->body_hash = 0;
    return n;
}

static ptrdiff_t read_body(zk__h1 *h1, const char *bytes, size_t size, story *to)
{
    zk_field trailers[FIELDS_MAX];
    size_t trailer_count = SIZE_MAX;
    zk_str span = {NULL, 0};
    uint64_t left = h1->body_left;
    bool has_length = h1->framing == ZK__H1_LENGTH;
    ptrdiff_t n = zk__h1_body(h1, bytes, size, &span, trailers, &trailer_count);
    CHECK(n <= (ptrdiff_t)size);
    if (n < 0) CHECK(span.data == NULL);
    if (n <= 0) return n;
    CHECK(span.data + span.size == bytes + n && span.size <= (size_t)n);
    CHECK(!has_length || (span.size == (size_t)n && h1->body_left == left - span.size));
    CHECK((trailer_count != SIZE_MAX) == (h1->state == ZK__H1_DONE));
    for (size_t i = 0; i < span.size; i++)
        to->body_hash = (to->body_hash ^ (uint8_t)span.data[i]) * 1099511628211u;
    to->body_size += span.size;
    if (h1->state == ZK__H1_DONE) {
        CHECK(trailer_count <= FIELDS_MAX);
        if (trailer_count > 0) {
            const char *start = trailers[0].name.data;
            check_section(start, (size_t)(bytes + n - start), trailers, trailer_count);
        }
        tell_number(to, to->body_size);
        tell_number(to, to->body_hash);
        tell_fields(to, trailers, trailer_count);
    }
    return n;
}

/* Lets the engine run over what is there, request behind request. Returns the bytes taken. */
static size_t advance(zk__h1 *h1, const char *bytes, size_t size, story *to)
{
    size_t at = 0;
    while (!to->is_over && at < size) {
        bool is_head = h1->state == ZK__H1_HEAD;
        ptrdiff_t n = is_head ? read_head(h1, bytes + at, size - at, to)
                              : read_body(h1, bytes + at, size - at, to);
        if (n == 0) break;
        if (n < 0) {
            CHECK(h1->state == ZK__H1_FAILED && zk__h1_reason(h1)[0] != '\0');
            CHECK(zk__h1_parse_head(h1, bytes, size, NULL, NULL) == n);
            CHECK(zk__h1_body(h1, bytes, size, NULL, NULL, NULL) == n);
            tell_number(to, (uint64_t)n);
            to->is_over = true;
            break;
        }
        at += (size_t)n;
        if (h1->state == ZK__H1_DONE) zk__h1_next(h1);
    }
    return at;
}

/* seed: of the sizes of the pieces; 0 for one piece. */
static void run(const zk__h1_limits *limits, const uint8_t *data, size_t size, uint32_t seed,
                story *to)
{
    zk__h1 h1;
    zk__h1_init(&h1, limits);
    to->size = 0;
    to->is_over = false;
    size_t taken = 0, arrived = 0;
    while (arrived < size && !to->is_over) {
        size_t piece = size - arrived;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            size_t wanted = 1 + (seed >> 16) % (seed >> 31 ? 3 : 40);
            if (wanted < piece) piece = wanted;
        }
        arrived += piece;
        char *bytes = malloc(arrived - taken);
        CHECK(bytes != NULL);
        memcpy(bytes, data + taken, arrived - taken);
        taken += advance(&h1, bytes, arrived - taken, to);
        free(bytes);
    }
    tell_number(to, h1.state);
    tell_number(to, to->is_over ? 0 : h1.body_left);
    tell_number(to, to->is_over || h1.state != ZK__H1_BODY ? 0 : to->body_hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static story whole, split;
    if (size < 2 || size > STREAM_BYTES_MAX) return 0;
    bool is_tight = data[0] & 1;
    const zk__h1_limits limits = {
        .head_bytes_max = is_tight ? 96 : 8192,
        .target_bytes_max = is_tight ? 12 : 2048,
        .fields_max = is_tight ? 3 : FIELDS_MAX,
    };
    run(&limits, data + 2, size - 2, 0, &whole);
    run(&limits, data + 2, size - 2, data[1] + 1u, &split);
    CHECK(whole.size == split.size && memcmp(whole.bytes, split.bytes, whole.size) == 0);
    return 0;
}
