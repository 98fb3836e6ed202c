/*
 * The HTTP/1.1 engine, continued: a quick path for plain heads, in one pass and without llhttp.
 *
 * Plain is what nearly every client sends: one of seven methods, an origin-form target, HTTP/1.1,
 * then lines of "name: value" in visible ASCII and spaces. The first is Host (RFC 9110 section 7.2
 * asks clients for that), a name or an IPv4 address. Of the fields that say how to read the message
 * or what becomes of the connection, only one Content-Length may follow, and Connection with just
 * "close" or "keep-alive". And the head is there as a whole, at the start of what has arrived.
 *
 * The contract: the quick path accepts a strict subset of what the slow path (h1.c: the scan,
 * llhttp and its callbacks) accepts, with an identical result. It has no opinion on the rest: it
 * never refuses, and it changes nothing before it accepts; zk__h1_slow_head() then starts from the
 * same bytes and state. So llhttp stays the judge of everything unusual, and of every error.
 *
 * Why it is sound: each test below is narrower than the slow path's, and the result is made of
 * the same pieces. llhttp's own state has no part in it: it is read only while a head or trailers
 * are parsed, trailers follow only a head that went the slow way, and before a head it is reset
 * unless it is at its start. tests/fuzz/h1_quick.c holds both paths against each other.
 *
 * Why it is there: of the 2,573 instructions of a pipelined GET /plaintext, 1,511 were the head's,
 * and llhttp alone had 691. In zk__h1_parse_head(), gcc 12 -O2: instructions by callgrind, and the
 * best time of 40 runs, zk__h1_next() included:
 *                                            slow              quick
 *   GET /plaintext with Host, 49 bytes       1509,  191 ns      200,  24 ns
 *   a browser's, 11 fields, 694 bytes        9493, 1190 ns     1380, 182 ns
 */
#include "http/h1_quick.h"

#include <endian.h>
#include <string.h>

#include "http/h1_internal.h"

#define VERSION_LINE_END " HTTP/1.1\r\n"

enum {
    VERSION_LINE_END_BYTES = sizeof(VERSION_LINE_END) - 1,
    VALUE_BYTES_MIN = sizeof(": a\r\n\r\n") - 1, /* the least from a colon to the head's end */
    HEAD_BYTES_MIN = sizeof("GET / HTTP/1.1\r\nHost: a\r\n\r\n") - 1,
    REST_BYTES_MIN = sizeof(" HTTP/1.1\r\nHost: a\r\n\r\n") - 1,
    LENGTH_DIGITS_MAX = 18, /* no number of so many digits overflows */
};

/* What the fields behind Host have said so far. */
struct notes {
    size_t field_count;
    uint64_t content_length;
    bool has_length;
    bool has_close;
};

/* ---- words: a few bytes at once, the first one lowest ---- */

#define WORD2(a, b) ((a) | (b) << 8)
#define WORD4(a, b, c, d)                                                                          \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define WORD8(a, b, c, d, e, f, g, h) (WORD4(a, b, c, d) | (uint64_t)WORD4(e, f, g, h) << 32)

static inline uint16_t load2(const char *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof(x));
    return le16toh(x);
}

static inline uint32_t load4(const char *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof(x));
    return le32toh(x);
}

static inline uint64_t load8(const char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    return le64toh(x);
}

/* In small letters. As in h1.c: where there are no control bytes, nothing else becomes a letter. */
static inline uint32_t lower4(const char *p) { return load4(p) | 0x20202020u; }
static inline uint64_t lower8(const char *p) { return load8(p) | 0x2020202020202020u; }

/* ---- the request line ---- */

/* Returns the size of the method that a request begins with, 0 if it is none of ours. */
static inline size_t method_size(const char *data)
{
    uint64_t word = load8(data);
    if (ZK_LIKELY((uint32_t)word == WORD4('G', 'E', 'T', ' '))) return 3;
    if ((uint32_t)word == WORD4('P', 'U', 'T', ' ')) return 3;
    if (word == WORD8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' ')) return 7;
    uint64_t five = word << 24, six = word << 16, seven = word << 8;
    if (five == WORD8(0, 0, 0, 'P', 'O', 'S', 'T', ' ')) return 4;
    if (five == WORD8(0, 0, 0, 'H', 'E', 'A', 'D', ' ')) return 4;
    if (six == WORD8(0, 0, 'P', 'A', 'T', 'C', 'H', ' ')) return 5;
    if (seven == WORD8(0, 'D', 'E', 'L', 'E', 'T', 'E', ' ')) return 6;
    return 0;
}

static inline bool is_version_line_end(const char *p)
{
    return load8(p) == WORD8(' ', 'H', 'T', 'T', 'P', '/', '1', '.') &&
           load4(p + 7) == WORD4('.', '1', '\r', '\n');
}

/* ---- fields: each returns whether all is plain ---- */

static inline bool note_connection(struct notes *notes, zk_str value)
{
    const char *p = value.data;
    if (value.size == 10)
        return lower8(p) == WORD8('k', 'e', 'e', 'p', '-', 'a', 'l', 'i') &&
               (load2(p + 8) | 0x2020) == WORD2('v', 'e');
    notes->has_close = true;
    return value.size == 5 && lower4(p) == WORD4('c', 'l', 'o', 's') && (p[4] | 0x20) == 'e';
}

static inline bool note_length(struct notes *notes, zk_str value)
{
    if (notes->has_length || value.size > LENGTH_DIGITS_MAX) return false;
    uint64_t length = 0;
    for (size_t i = 0; i < value.size; i++) {
        unsigned digit = (unsigned)(unsigned char)value.data[i] - '0';
        if (digit > 9) return false;
        length = length * 10 + digit;
    }
    notes->has_length = true;
    notes->content_length = length;
    return true;
}

/* A name that h1.c or llhttp looks at, and we do not, is not plain; nor what begins like it. */
static inline bool note_field(struct notes *notes, zk_str name, zk_str value)
{
    const char *p = name.data;
    switch (name.size) {
    case 4: return lower4(p) != WORD4('h', 'o', 's', 't');
    case 6: return lower4(p) != WORD4('e', 'x', 'p', 'e'); /* Expect */
    case 7: return lower4(p) != WORD4('u', 'p', 'g', 'r'); /* Upgrade */
    case 10:
        return lower8(p) != WORD8('c', 'o', 'n', 'n', 'e', 'c', 't', 'i') ||
               (load2(p + 8) | 0x2020) != WORD2('o', 'n') || note_connection(notes, value);
    case 14:
        return lower8(p) != WORD8('c', 'o', 'n', 't', 'e', 'n', 't', '-') ||
               lower8(p + 6) != WORD8('t', '-', 'l', 'e', 'n', 'g', 't', 'h') ||
               note_length(notes, value);
    case 16: return lower4(p) != WORD4('p', 'r', 'o', 'x'); /* Proxy-Connection */
    case 17: return lower4(p) != WORD4('t', 'r', 'a', 'n'); /* Transfer-Encoding */
    default: return true;
    }
}

/*
 * Reads the field lines behind Host, to the empty line behind them. Returns what follows that, or
 * NULL if not all is plain and there. Inlined, it would cost heads that have none 5 instructions.
 */
static __attribute__((noinline)) const char *read_fields(const char *at, const char *end,
                                                         zk_field *fields, size_t fields_max,
                                                         struct notes *notes)
{
    while (notes->field_count < fields_max) {
        const char *colon = zk__h1_skip(at, end, ZK__H1_RUN_NAME);
        if (colon > end - VALUE_BYTES_MIN || colon == at || load2(colon) != WORD2(':', ' '))
            return NULL;
        const char *start = colon + 2;
        const char *stop = zk__h1_skip(start, end, ZK__H1_RUN_TEXT);
        /* An empty value shows as a space in front of its end, too. */
        if (stop > end - 4 || stop[-1] == ' ' || *start == ' ') return NULL;
        uint32_t line_end = load4(stop);
        zk_str name = {at, (size_t)(colon - at)}, value = {start, (size_t)(stop - start)};
        if ((uint16_t)line_end != WORD2('\r', '\n') || !note_field(notes, name, value)) return NULL;
        fields[notes->field_count++] = (zk_field){name, value};
        if (line_end == WORD4('\r', '\n', '\r', '\n')) return stop + 4;
        at = stop + 2;
    }
    return NULL;
}

/* ---- the head ---- */

/* Returns the end of a name or an IPv4 address, and a port if there is one; NULL if it is none. */
static inline const char *read_host(const char *start, const char *end)
{
    const char *at = zk__h1_skip(start, end, ZK__H1_RUN_NAME);
    if (at > end - 4 || at == start) return NULL;
    if (*at != ':') return at;
    const char *port = at + 1;
    at = zk__h1_skip(port, end, ZK__H1_RUN_DIGITS);
    size_t digit_count = (size_t)(at - port);
    if (at > end - 4 || digit_count - 1 >= 5) return NULL;
    if (digit_count < 5) return at;
    uint32_t front = __builtin_bswap32(load4(port));
    uint32_t front_max = __builtin_bswap32(WORD4('6', '5', '5', '3'));
    return front < front_max || (front == front_max && port[4] <= '5') ? at : NULL;
}

static inline bool quick_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                              zk__h1_head *ret_head, size_t *ret_size)
{
    if (h1->state != ZK__H1_HEAD || h1->scanned != 0) return false;
    if (size > h1->limits.head_bytes_max) size = h1->limits.head_bytes_max;
    if (size < HEAD_BYTES_MIN || h1->limits.fields_max == 0) return false;
    const char *end = data + size;

    size_t method_bytes = method_size(data);
    const char *target = data + method_bytes + 1;
    if (method_bytes == 0 || *target != '/') return false;
    bool is_path_plain;
    const char *target_end = zk__h1_skip_target(target, end, &is_path_plain);
    size_t target_bytes = (size_t)(target_end - target);
    if (target_end > end - REST_BYTES_MIN || !is_version_line_end(target_end) ||
        target_bytes > h1->limits.target_bytes_max)
        return false;

    const char *at = target_end + VERSION_LINE_END_BYTES;
    const char *host = at + sizeof("Host: ") - 1;
    if (lower4(at) != WORD4('h', 'o', 's', 't') || load2(at + 4) != WORD2(':', ' ')) return false;
    const char *host_end = read_host(host, end);
    if (host_end == NULL || load2(host_end) != WORD2('\r', '\n')) return false;
    zk_str host_value = {host, (size_t)(host_end - host)};
    fields[0] = (zk_field){{at, 4}, host_value};

    struct notes notes = {.field_count = 1};
    const char *head_end = host_end + 4;
    if (load2(host_end + 2) != WORD2('\r', '\n')) {
        struct notes seen = notes; /* so that `notes` need not be in memory: 10 instructions */
        head_end = read_fields(host_end + 2, end, fields, h1->limits.fields_max, &seen);
        if (head_end == NULL) return false;
        notes = seen;
    }

    h1->framing = notes.has_length ? ZK__H1_LENGTH : ZK__H1_NO_BODY;
    h1->body_left = notes.content_length;
    h1->state = notes.content_length > 0 ? ZK__H1_BODY : ZK__H1_DONE;
    *ret_head = (zk__h1_head){
        .method = {data, method_bytes},
        .target = {target, target_bytes},
        .host = host_value,
        .minor = 1,
        .framing = h1->framing,
        .keep_alive = !notes.has_close,
        .is_path_plain = is_path_plain,
        .content_length = notes.content_length,
        .field_count = notes.field_count,
        .fields = fields,
    };
    *ret_size = (size_t)(head_end - data);
    return true;
}

ptrdiff_t zk__h1_quick_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                            zk__h1_head *ret_head, bool falls_back)
{
    size_t head_size;
    if (ZK_LIKELY(quick_head(h1, data, size, fields, ret_head, &head_size)))
        return (ptrdiff_t)head_size;
    return falls_back ? zk__h1_slow_head(h1, data, size, fields, ret_head) : 0;
}
