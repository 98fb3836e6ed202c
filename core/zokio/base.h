/*
 * What every other header needs: export marks, time units, and a few words for the compiler.
 */
#ifndef ZOKIO_BASE_H
#define ZOKIO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define ZK_BEGIN extern "C" {
#define ZK_END }
#else
#define ZK_BEGIN
#define ZK_END
#endif

/* Everything is compiled with hidden visibility; what carries this mark is the library's
 * interface. */
#define ZK_API __attribute__((visibility("default")))

#define ZK_LIKELY(x) __builtin_expect(!!(x), 1)
#define ZK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ZK_PRINTF(fmt, first) __attribute__((__format__(__printf__, fmt, first)))
#define ZK_NODISCARD __attribute__((warn_unused_result))

ZK_BEGIN

/** A span of time, or a moment on CLOCK_MONOTONIC, in nanoseconds. */
typedef int64_t zk_time;

#define ZK_NS(n) ((zk_time)(n))
#define ZK_US(n) ((zk_time)(n)*1000)
#define ZK_MS(n) ((zk_time)(n)*1000000)
#define ZK_SEC(n) ((zk_time)(n)*1000000000)

/** A run of bytes that somebody else owns. Not NUL-terminated. */
typedef struct zk_str {
    const char *data;
    size_t size;
} zk_str;

/** A zk_str over a string literal. */
#ifdef __cplusplus
#define ZK_STR(literal) (zk_str{"" literal, sizeof(literal) - 1})
#else
#define ZK_STR(literal) ((zk_str){"" literal, sizeof(literal) - 1})
#endif

ZK_END
#endif
