/*
 * What the files of the HTTP/1.1 engine share: characters, failing, and trailers. Nobody else
 * includes it.
 */
#ifndef ZOKIO_HTTP_H1_INTERNAL_H
#define ZOKIO_HTTP_H1_INTERNAL_H

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

/*
 * The two ways to parse a head, see zk__h1_parse_head(). The quick one takes plain heads only. What
 * becomes of any other: the slow one takes it, or without falls_back (for tests) 0 is returned and
 * nothing but fields[] has changed. See h1_quick.c.
 */
ptrdiff_t zk__h1_quick_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                            zk__h1_head *ret_head, bool falls_back);
ptrdiff_t zk__h1_slow_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                           zk__h1_head *ret_head);

/* The state becomes FAILED, for good. Returns error. */
int zk__h1_fail(zk__h1 *h1, int error, const char *reason);

/*
 * Parses a whole trailer section, its empty line included, which zk__h1_scan() has found good.
 * returns 0; ZK_E_HTTP_SYNTAX or ZK_E_HTTP_HEADER_TOO_LARGE: FAILED.
 */
int zk__h1_parse_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                          size_t *ret_count);

#endif
