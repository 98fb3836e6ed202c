/*
 * The quick path's eyes: where does a run of plain bytes end? See h1_quick.c.
 *
 * With SSE2 sixteen bytes at a time become a mask of those that end the run; elsewhere they are
 * looked at one by one. Comparisons are signed: bytes from 0x80 on are below all of ASCII.
 */
#ifndef ZOKIO_HTTP_H1_QUICK_H
#define ZOKIO_HTTP_H1_QUICK_H

#include <zokio/base.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * TARGET: visible ASCII but '#', which ends the query and is no part of a request target.
 * NAME: letters, digits, '-' and '.': what names of fields and of hosts are made of.
 * TEXT: visible ASCII and the space.
 */
enum zk__h1_run { ZK__H1_RUN_TARGET, ZK__H1_RUN_NAME, ZK__H1_RUN_TEXT, ZK__H1_RUN_DIGITS };

static inline bool zk__h1_is_in_run(char c, enum zk__h1_run run)
{
    char letter = c | 0x20;
    switch (run) {
    case ZK__H1_RUN_TARGET: return c > ' ' && c < 0x7f && c != '#';
    case ZK__H1_RUN_TEXT: return c >= ' ' && c < 0x7f;
    case ZK__H1_RUN_DIGITS: return c >= '0' && c <= '9';
    default: return (letter >= 'a' && letter <= 'z') || (c >= '-' && c <= '9' && c != '/');
    }
}

/* Returns the first byte of [at, end) that is not in the run, or end. */
static inline const char *zk__h1_skip_portable(const char *at, const char *end, enum zk__h1_run run)
{
    while (at < end && zk__h1_is_in_run(*at, run))
        at++;
    return at;
}

#ifdef __SSE2__
/* low..high of ASCII. The sum makes high the greatest signed byte: one comparison is enough. */
static inline __m128i zk__h1_in_range(__m128i x, char low, char high)
{
    __m128i moved = _mm_add_epi8(x, _mm_set1_epi8((char)(0x7f - high)));
    return _mm_cmpgt_epi8(moved, _mm_set1_epi8((char)(0x7f - high + low - 1)));
}

/* Sixteen bytes: bit i is set if p[i] is not in the run. */
static inline uint64_t zk__h1_run_ends(const char *p, enum zk__h1_run run)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p), in;
    if (run == ZK__H1_RUN_TARGET) {
        __m128i hash = _mm_cmpeq_epi8(x, _mm_set1_epi8('#'));
        in = _mm_andnot_si128(hash, zk__h1_in_range(x, '!', '~'));
    } else if (run == ZK__H1_RUN_NAME) {
        __m128i letters = zk__h1_in_range(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 'z');
        __m128i slash = _mm_cmpeq_epi8(x, _mm_set1_epi8('/'));
        in = _mm_or_si128(letters, _mm_andnot_si128(slash, zk__h1_in_range(x, '-', '9')));
    } else {
        in = run == ZK__H1_RUN_TEXT ? zk__h1_in_range(x, ' ', '~') : zk__h1_in_range(x, '0', '9');
    }
    return (unsigned)_mm_movemask_epi8(in) ^ 0xffff;
}

/* The same as zk__h1_skip_portable(), for an end with 16 readable bytes or more in front of it. */
static inline const char *zk__h1_skip(const char *at, const char *end, enum zk__h1_run run)
{
    const char *last = end - 16;
    for (; ZK_LIKELY(at <= last); at += 16) {
        uint64_t ends = zk__h1_run_ends(at, run);
        if (ends != 0) return at + __builtin_ctzll(ends);
    }
    uint64_t ends = zk__h1_run_ends(last, run) >> (at - last);
    return ends != 0 ? at + __builtin_ctzll(ends) : end;
}

/* Sixteen bytes of a target: bit i is set if in a path p[i] does not stand for itself alone: it
 * begins a percent sequence, a query, or maybe a dot segment, or is refused there. */
static inline uint64_t zk__h1_path_codes(const char *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i codes =
        _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('%')), _mm_cmpeq_epi8(x, _mm_set1_epi8('?')));
    __m128i others =
        _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('.')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(codes, others));
}

static inline const char *zk__h1_skip_target_rest(const char *at, const char *end,
                                                  bool *ret_is_plain)
{
    const char *stop = zk__h1_skip(at, end, ZK__H1_RUN_TARGET);
    uint64_t codes = 0;
    for (; stop - at >= 16; at += 16)
        codes |= zk__h1_path_codes(at);
    if (at < stop) codes |= zk__h1_path_codes(stop - 16); /* some of them for a second time */
    *ret_is_plain = codes == 0;
    return stop;
}

/*
 * Skips a run of TARGET, with 16 readable bytes or more behind `at`. *ret_is_plain: whether it is
 * known, if it begins with '/', to be a path in which every byte stands for itself.
 */
static inline const char *zk__h1_skip_target(const char *at, const char *end, bool *ret_is_plain)
{
    uint64_t ends = zk__h1_run_ends(at, ZK__H1_RUN_TARGET);
    if (ZK_UNLIKELY(ends == 0)) return zk__h1_skip_target_rest(at, end, ret_is_plain);
    *ret_is_plain = (zk__h1_path_codes(at) & (ends ^ (ends - 1)) >> 1) == 0;
    return at + __builtin_ctzll(ends);
}
#else
static inline const char *zk__h1_skip(const char *at, const char *end, enum zk__h1_run run)
{
    return zk__h1_skip_portable(at, end, run);
}

static inline const char *zk__h1_skip_target(const char *at, const char *end, bool *ret_is_plain)
{
    *ret_is_plain = false; /* nothing is known */
    return zk__h1_skip_portable(at, end, ZK__H1_RUN_TARGET);
}
#endif

#endif
