/*
 * The HTTP/1.1 engine, continued: bodies. See h1.h.
 *
 *   chunked:  SIZE --(n > 0)--> DATA --> DATA_END --> SIZE
 *             SIZE --(0)--> TRAILERS --> the state DONE
 *
 * The framing is our own code rather than llhttp's: a size line and the trailers have to be there
 * as a whole, with clean line ends, before anyone looks at them, and after that only a number is
 * left to be read. Trailers take the same way through llhttp as the fields of a head.
 */
#include <string.h>

#include "http/h1_internal.h"
#include "http/h1_scan.h"

/* A size line is "1000\r\n"; what is much longer carries extensions that nobody reads. */
#define SIZE_LINE_BYTES_MAX 4096
/* How far extensions may outweigh the data: else a gigabyte of them could carry a byte of it. */
#define EXTENSION_EXCESS_MAX 16384

enum chunk_phase { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILERS };

/* RFC 9110 section 5.6.4: the backslash takes the next byte with it, be it a quote. */
static const char *skip_quoted_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') at++;
        if (at == end || is_control(*at)) return NULL;
    }
    return at < end ? at + 1 : NULL;
}

static const char *skip_token(const char *at, const char *end)
{
    const char *start = at;
    while (at < end && is_class(*at, TOKEN))
        at++;
    return at > start ? at : NULL;
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

/* RFC 9112 section 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ). */
static bool are_extensions(const char *at, const char *end)
{
    while (at < end) {
        at = skip_blanks(at, end);
        if (at == end || *at != ';') return false;
        at = skip_token(skip_blanks(at + 1, end), end);
        if (at == NULL) return false;
        const char *equals = skip_blanks(at, end);
        if (equals == end || *equals != '=') continue;
        at = skip_blanks(equals + 1, end);
        at = at < end && *at == '"' ? skip_quoted_string(at, end) : skip_token(at, end);
        if (at == NULL) return false;
    }
    return true;
}

static unsigned hex_value(char c)
{
    return is_class(c, DIGIT) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* RFC 9112 section 7.1.1 asks for a limit; ours is on what extensions weigh beyond the data. */
static bool is_extension_flood(zk__h1 *h1, size_t extension_bytes, uint64_t chunk_bytes)
{
    uint64_t excess = h1->extension_excess + extension_bytes;
    excess -= chunk_bytes < excess ? chunk_bytes : excess;
    if (excess > EXTENSION_EXCESS_MAX) return true;
    h1->extension_excess = (uint32_t)excess;
    return false;
}

/* Like the two that follow: returns the bytes taken, 0 if more must arrive first, or an error. */
static ptrdiff_t take_size_line(zk__h1 *h1, const char *data, size_t size)
{
    if (!is_class(data[0], HEX)) return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed chunk size");
    size_t searched = size < SIZE_LINE_BYTES_MAX ? size : SIZE_LINE_BYTES_MAX;
    const char *lf = memchr(data + h1->scanned, '\n', searched - h1->scanned);
    if (lf == NULL) {
        h1->scanned = searched;
        if (searched == SIZE_LINE_BYTES_MAX)
            return zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "chunk size line too long");
        return 0;
    }
    h1->scanned = 0;
    const char *end = lf - 1, *at = data;
    if (*end != '\r') return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "bare LF in chunk framing");
    uint64_t chunk_bytes = 0;
    for (; is_class(*at, HEX); at++)
        chunk_bytes = chunk_bytes << 4 | hex_value(*at);
    if (at - data > 16) return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "chunk size too large");
    if (!are_extensions(at, end))
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed chunk size line");
    if (is_extension_flood(h1, (size_t)(end - at), chunk_bytes))
        return zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "too many bytes of chunk extensions");
    h1->body_left = chunk_bytes;
    h1->chunk_phase = chunk_bytes > 0 ? CHUNK_DATA : CHUNK_TRAILERS;
    return lf + 1 - data;
}

static ptrdiff_t take_data_end(zk__h1 *h1, const char *data, size_t size)
{
    if (data[0] != '\r' || (size > 1 && data[1] != '\n'))
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "no CRLF behind chunk data");
    if (size < 2) return 0;
    h1->chunk_phase = CHUNK_SIZE;
    return 2;
}

static ptrdiff_t take_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                               size_t *ret_trailer_count)
{
    size_t limit = h1->limits.head_bytes_max;
    size_t searched = size < limit ? size : limit;
    switch (zk__h1_scan(data, 0, searched, &h1->scanned)) {
    case ZK__H1_SCAN_BAD:
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX,
                           "bare CR or LF, control byte, or folded line in the trailers");
    case ZK__H1_SCAN_MORE:
        return searched == limit ? zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "trailers too large")
                                 : 0;
    case ZK__H1_SCAN_FOUND: break;
    }
    int rc = zk__h1_parse_trailers(h1, data, h1->scanned, trailers, ret_trailer_count);
    if (rc < 0) return rc;
    h1->state = ZK__H1_DONE;
    return (ptrdiff_t)h1->scanned;
}

/* Takes up to body_left bytes as a span. */
static size_t take_data(zk__h1 *h1, const char *data, size_t size, zk_str *ret_span)
{
    size_t taken = size < h1->body_left ? size : (size_t)h1->body_left;
    h1->body_left -= taken;
    *ret_span = (zk_str){data, taken};
    return taken;
}

static ptrdiff_t chunked_body(zk__h1 *h1, const char *data, size_t size, zk_str *ret_span,
                              zk_field *trailers, size_t *ret_trailer_count)
{
    size_t at = 0;
    while (at < size && h1->state == ZK__H1_BODY) {
        ptrdiff_t taken;
        switch ((enum chunk_phase)h1->chunk_phase) {
        case CHUNK_SIZE: taken = take_size_line(h1, data + at, size - at); break;
        case CHUNK_DATA:
            at += take_data(h1, data + at, size - at, ret_span);
            if (h1->body_left == 0) h1->chunk_phase = CHUNK_DATA_END;
            return (ptrdiff_t)at;
        case CHUNK_DATA_END: taken = take_data_end(h1, data + at, size - at); break;
        default:
            taken = take_trailers(h1, data + at, size - at, trailers, ret_trailer_count);
            break;
        }
        if (taken < 0) return taken;
        if (taken == 0) break;
        at += (size_t)taken;
    }
    *ret_span = (zk_str){data + at, 0};
    return (ptrdiff_t)at;
}

ptrdiff_t zk__h1_body(zk__h1 *h1, const char *data, size_t size, zk_str *ret_span,
                      zk_field *trailers, size_t *ret_trailer_count)
{
    if (h1->state == ZK__H1_FAILED) return h1->error;
    if (h1->framing == ZK__H1_CHUNKED)
        return chunked_body(h1, data, size, ret_span, trailers, ret_trailer_count);
    size_t taken = take_data(h1, data, size, ret_span);
    if (h1->body_left == 0) {
        h1->state = ZK__H1_DONE;
        if (ret_trailer_count != NULL) *ret_trailer_count = 0;
    }
    return (ptrdiff_t)taken;
}
