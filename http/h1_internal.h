/*
 * What the files of the HTTP/1.1 engine share: characters, failing, and trailers. Nobody else
 * includes it.
 */
#ifndef ZOKIO_HTTP_H1_INTERNAL_H
#define ZOKIO_HTTP_H1_INTERNAL_H

#include <string.h>

#include "http/h1.h"

enum { TOKEN = 1, HOST = 2, HEX = 4, DIGIT = 8 };

/* Per byte. TOKEN: RFC 9110 section 5.6.2. HOST: RFC 3986 section 3.2.2, reg-name, but for '%'. */
extern const uint8_t zk__h1_classes[256];

static inline bool is_class(char c, unsigned class)
{
    return (zk__h1_classes[(unsigned char)c] & class) != 0;
}

static inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

static inline bool is_control(char c) { return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f; }

/* lower: small letters, digits, '-'. Only control bytes fold onto those too: no field has any. */
static inline bool equals_nocase(zk_str s, const char *lower, size_t size)
{
    if (s.size != size) return false;
    for (size_t i = 0; i < size; i++)
        if ((s.data[i] | 0x20) != lower[i]) return false;
    return true;
}
#define IS(s, literal) equals_nocase(s, "" literal, sizeof(literal) - 1)

static inline zk_str trim(zk_str s)
{
    while (s.size > 0 && is_blank(s.data[s.size - 1]))
        s.size--;
    while (s.size > 0 && is_blank(s.data[0]))
        s.data++, s.size--;
    return s;
}

/* Takes the next member off a comma-separated list, skipping empty ones: RFC 9110 section 5.6.1. */
static inline bool next_member(zk_str *list, zk_str *ret_member)
{
    while (list->size > 0) {
        const char *comma = memchr(list->data, ',', list->size);
        size_t size = comma != NULL ? (size_t)(comma - list->data) : list->size;
        zk_str member = trim((zk_str){list->data, size});
        size += comma != NULL;
        *list = (zk_str){list->data + size, list->size - size};
        if (member.size > 0) {
            *ret_member = member;
            return true;
        }
    }
    return false;
}

/* Content-Length = 1*DIGIT, RFC 9110 section 8.6; false if it is none or does not fit. */
static inline bool zk__h1_read_length(zk_str value, uint64_t *ret_length)
{
    uint64_t length = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (!is_class(value.data[i], DIGIT) || __builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, (uint64_t)(value.data[i] - '0'), &length))
            return false;
    }
    *ret_length = length;
    return value.size > 0;
}

/* The state becomes FAILED, for good. Returns error. */
int zk__h1_fail(zk__h1 *h1, int error, const char *reason);

/*
 * Parses a whole trailer section, its empty line included, which zk__h1_scan() has found good.
 * returns 0; ZK_E_HTTP_SYNTAX or ZK_E_HTTP_HEADER_TOO_LARGE: FAILED.
 */
int zk__h1_parse_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                          size_t *ret_count);

/* Whether a Transfer-Encoding is chunked alone. returns 0; ZK_E_HTTP_SYNTAX, ZK_E_HTTP_CODING. */
int zk__h1_check_codings(zk_str value, const char **ret_reason);
/* Whether a field of that name may be in trailers. */
bool zk__h1_is_trailer(zk_str name);
/* zk__h1_parse_trailers() of a response. */
int zk__h1_response_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                             size_t *ret_count);

#endif
