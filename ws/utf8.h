/*
 * Whether bytes are UTF-8 (RFC 3629), piece by piece.
 */
#ifndef ZOKIO_WS_UTF8_H
#define ZOKIO_WS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Between two pieces: what the next byte may be. 0 is the start, and the only place to end. */
typedef uint8_t zk__utf8;

/* returns false at the first byte that cannot be: nothing that follows could make it right. */
bool zk__utf8_take(zk__utf8 *state, const void *data, size_t size);

#endif
