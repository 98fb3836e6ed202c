/*
 * Bytes of a body over HTTP/2 that have come and wait to be read: of a request on the server's
 * side, of an answer on the client's. The windows bound how many there can be.
 */
#ifndef ZOKIO_HTTP_H2_RECEIVED_H
#define ZOKIO_HTTP_H2_RECEIVED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <zokio/alloc.h>

/* All zero: it holds nothing. */
typedef struct zk__received {
    char *bytes;
    uint32_t begin, end, capacity;
} zk__received;

static inline size_t zk__received_size(const zk__received *r) { return r->end - r->begin; }

/* Puts bytes behind those that are there; without any, `capacity_min` is what the buffer begins
 * with. returns false if there is no memory. */
static inline bool zk__received_put(zk__received *r, const void *data, size_t size,
                                    size_t capacity_min)
{
    size_t have = zk__received_size(r);
    if (!have) r->begin = r->end = 0;
    if (r->capacity - r->end < size) {
        if (r->capacity - have >= size) {
            memmove(r->bytes, r->bytes + r->begin, have);
        } else {
            size_t capacity = r->capacity ? 2 * (size_t)r->capacity : capacity_min;
            while (capacity < have + size)
                capacity *= 2;
            char *grown = zk_alloc(capacity);
            if (!grown) return false;
            if (have) memcpy(grown, r->bytes + r->begin, have);
            zk_free(r->bytes);
            r->bytes = grown;
            r->capacity = (uint32_t)capacity;
        }
        r->begin = 0;
        r->end = (uint32_t)have;
    }
    memcpy(r->bytes + r->end, data, size);
    r->end += (uint32_t)size;
    return true;
}

/* Takes as many as there are and fit. returns how many. */
static inline size_t zk__received_take(zk__received *r, void *buf, size_t size)
{
    size_t have = zk__received_size(r), n = have < size ? have : size;
    memcpy(buf, r->bytes + r->begin, n);
    r->begin += (uint32_t)n;
    return n;
}

/* Gives the memory back; it holds nothing then. */
static inline void zk__received_free(zk__received *r)
{
    zk_free(r->bytes);
    *r = (zk__received){0};
}

#endif
