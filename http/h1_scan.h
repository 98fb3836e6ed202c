/*
 * The quick pass over a head or a trailer section: where does it end, and is each line end a CRLF?
 *
 * Sixteen bytes at a time become a mask of control bytes (SSE2, or 64-bit arithmetic elsewhere), so
 * that only line ends and what is wrong are looked at singly. Refused at the first byte that shows
 * it: a bare CR or LF, any other control byte but tab (RFC 9110 section 5.5), and a folded line
 * (RFC 9112 section 5.2). What is left are lines that every reader splits at the same places.
 */
#ifndef ZOKIO_HTTP_H1_SCAN_H
#define ZOKIO_HTTP_H1_SCAN_H

#include <endian.h>
#include <string.h>
#include <zokio/base.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Eight bytes: bit i is set if p[i] is a control byte other than tab. No carry leaves its byte. */
static inline unsigned zk__h1_controls8(const char *p)
{
    const uint64_t ones = 0x0101010101010101u, low = 0x7f * ones, high = 0x80 * ones;
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    x = le64toh(x);
    uint64_t not_below_space = ((x & low) + 0x60 * ones) | x;
    uint64_t tab = x ^ '\t' * ones, del = x ^ low;
    uint64_t not_tab = ((tab & low) + low) | tab, not_del = ((del & low) + low) | del;
    uint64_t found = ((~not_below_space & not_tab) | ~not_del) & high;
    return (unsigned)((found >> 7) * 0x0102040810204080u >> 56);
}

static inline unsigned zk__h1_controls_portable(const char *p)
{
    return zk__h1_controls8(p) | zk__h1_controls8(p + 8) << 8;
}

/* Sixteen bytes: bit i is set if p[i] is a control byte other than tab. */
static inline unsigned zk__h1_controls(const char *p)
{
#ifdef __SSE2__
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i below_space = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
    __m128i tab = _mm_cmpeq_epi8(x, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, below_space), del));
#else
    return zk__h1_controls_portable(p);
#endif
}

/* The same for up to sixteen bytes at data[at..size); never reads outside data[0..size). */
static inline unsigned zk__h1_controls_at(const char *data, size_t size, size_t at)
{
    size_t left = size - at;
    if (left >= 16) return zk__h1_controls(data + at);
    if (size >= 16) return zk__h1_controls(data + size - 16) >> (16 - left);
    char padded[16] = "               ";
    memcpy(padded, data + at, left);
    return zk__h1_controls(padded) & ((1u << left) - 1);
}

enum zk__h1_scan { ZK__H1_SCAN_MORE, ZK__H1_SCAN_FOUND, ZK__H1_SCAN_BAD };

/*
 * Searches data[start..size), the beginning of a section of lines, for the empty line that ends it.
 *
 * at: in, where to go on (start, or what the last call with fewer bytes has left there). Out:
 *     FOUND: the section's end. BAD: behind the byte that made it bad. MORE: where to go on.
 */
static inline enum zk__h1_scan zk__h1_scan(const char *data, size_t start, size_t size, size_t *at)
{
    size_t window = *at;
    while (window < size) {
        unsigned mask = zk__h1_controls_at(data, size, window);
        size_t next = window + 16;
        for (; mask != 0; mask &= mask - 1) {
            size_t cr = window + (size_t)__builtin_ctz(mask);
            *at = cr + 1;
            if (data[cr] != '\r') return ZK__H1_SCAN_BAD;
            *at = cr;
            if (cr + 1 == size) return ZK__H1_SCAN_MORE;
            *at = cr + 2;
            if (data[cr + 1] != '\n') return ZK__H1_SCAN_BAD;
            if (cr == start || data[cr - 1] == '\n') return ZK__H1_SCAN_FOUND;
            *at = cr;
            if (cr + 2 == size) return ZK__H1_SCAN_MORE;
            *at = cr + 3;
            if (data[cr + 2] == ' ' || data[cr + 2] == '\t') return ZK__H1_SCAN_BAD;
            mask &= mask - 1; /* and the loop drops the LF, if it is in this window */
            if (cr + 2 > next) next = cr + 2;
        }
        window = next;
    }
    *at = size;
    return ZK__H1_SCAN_MORE;
}

#endif
