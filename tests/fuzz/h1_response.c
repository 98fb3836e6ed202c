/*
 * Responses. Input: a byte that picks what was asked and the limits, a byte for the piece size,
 * then what the server sends.
 *
 * What is read never depends on the pieces that it arrives in. A head that is accepted is accepted
 * by llhttp as well, with the same status, version, number of fields and length; and it is what it
 * seems: names are tokens, values hold no control bytes and no blanks at their ends.
 */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1_response.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { FIELDS_MAX = 16, STREAM_BYTES_MAX = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came of a stream of bytes. */
typedef struct outcome {
    uint64_t hash; /* of heads, body bytes and trailers */
    int rc;        /* 0, or why it was refused */
    int state;
    size_t heads;
} outcome;

static void mix(outcome *o, const void *data, size_t size)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < size; i++)
        o->hash = (o->hash ^ at[i]) * 0x100000001b3u;
}

static void mix_fields(outcome *o, const zk_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CHECK(zk__h1_is_token(fields[i].name) && zk__h1_is_field_value(fields[i].value));
        mix(o, fields[i].name.data, fields[i].name.size);
        mix(o, ":", 1);
        mix(o, fields[i].value.data, fields[i].value.size);
        mix(o, "\n", 1);
    }
    mix(o, &count, sizeof count);
}

/* ---- llhttp's opinion ---- */

typedef struct opinion {
    size_t fields;
    bool is_complete;
} opinion;

static int on_field_complete(llhttp_t *parser)
{
    ((opinion *)parser->data)->fields++;
    return 0;
}

static int on_head(llhttp_t *parser)
{
    ((opinion *)parser->data)->is_complete = true;
    return HPE_PAUSED;
}

static void check_with_llhttp(const zk__h1_answer *a, const char *head, size_t size)
{
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_header_value_complete = on_field_complete;
    settings.on_headers_complete = on_head;
    llhttp_t parser;
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    opinion op = {0, false};
    parser.data = &op;
    llhttp_errno_t rc = llhttp_execute(&parser, head, size);
    CHECK(rc == HPE_PAUSED || rc == HPE_PAUSED_UPGRADE || rc == HPE_OK);
    CHECK(op.is_complete && op.fields == a->field_count);
    CHECK(parser.status_code == a->status && parser.http_major == 1 &&
          parser.http_minor == a->minor);
    if (a->has_length) CHECK(parser.content_length == a->content_length);
    CHECK(a->framing != ZK__H1_CHUNKED || (parser.flags & F_CHUNKED));
}

/* ---- ours ---- */

/* One call of the engine on a block of just these bytes. */
static ptrdiff_t step(zk__h1 *h1, outcome *o, const uint8_t *data, size_t size,
                      enum zk__h1_asked asked)
{
    zk_field fields[FIELDS_MAX];
    char *bytes = malloc(size);
    CHECK(bytes);
    memcpy(bytes, data, size);
    ptrdiff_t n;
    if (h1->state == ZK__H1_HEAD) {
        zk__h1_answer a;
        n = zk__h1_parse_response(h1, bytes, size, asked, fields, &a);
        if (n > 0) {
            CHECK(n <= (ptrdiff_t)size && a.status >= 100 && a.status <= 999 && a.minor <= 1);
            check_with_llhttp(&a, bytes, (size_t)n);
            mix(o, &a.status, sizeof a.status);
            mix(o, &a.framing, 1);
            mix(o, &a.keep_alive, 1);
            mix(o, &a.is_switched, 1);
            mix_fields(o, a.fields, a.field_count);
            o->heads++;
        }
    } else {
        zk_str span = {NULL, 0};
        size_t count = 0;
        n = zk__h1_body(h1, bytes, size, &span, fields, &count);
        if (n > 0) {
            CHECK(span.size == 0 || (span.data >= bytes && span.data + span.size <= bytes + n));
            mix(o, span.data, span.size);
            if (h1->state == ZK__H1_DONE) mix_fields(o, fields, count);
        }
    }
    free(bytes);
    return n;
}

static outcome run(const uint8_t *data, size_t size, size_t piece, enum zk__h1_asked asked,
                   const zk__h1_limits *limits)
{
    zk__h1 h1;
    outcome o = {.hash = 0xcbf29ce484222325u};
    zk__h1_response_init(&h1, limits);
    size_t begin = 0, end = 0;
    while (end < size) {
        end = size - end > piece ? end + piece : size;
        while (begin < end) {
            ptrdiff_t n = step(&h1, &o, data + begin, end - begin, asked);
            if (n < 0) {
                CHECK(h1.state == ZK__H1_FAILED && *zk__h1_reason(&h1));
                o.rc = (int)n;
                o.state = h1.state;
                return o;
            }
            if (n == 0) break;
            begin += (size_t)n;
            if (h1.state == ZK__H1_DONE) zk__h1_next(&h1);
        }
    }
    if (h1.state == ZK__H1_BODY) o.rc = zk__h1_response_end(&h1);
    o.state = h1.state;
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > STREAM_BYTES_MAX) return 0;
    bool is_tight = data[0] & 4;
    const zk__h1_limits limits = {
        .head_bytes_max = is_tight ? 96 : 4096,
        .fields_max = is_tight ? 3 : FIELDS_MAX,
    };
    enum zk__h1_asked asked = (enum zk__h1_asked)(data[0] % 3);
    outcome whole = run(data + 2, size - 2, size, asked, &limits);
    outcome parts = run(data + 2, size - 2, (size_t)data[1] % 32 + 1, asked, &limits);
    CHECK(whole.hash == parts.hash && whole.rc == parts.rc && whole.state == parts.state &&
          whole.heads == parts.heads);
    return 0;
}
