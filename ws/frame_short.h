/*
 * What most of what a server gets is: a short message in one masked frame that is all there. Here
 * inline, for who takes one after the other; frame.c takes everything.
 */
#ifndef ZOKIO_WS_FRAME_SHORT_H
#define ZOKIO_WS_FRAME_SHORT_H

#include <string.h>

#include "ws/frame.h"

enum { ZK__WS_SHORT_HEAD_BYTES = 6, ZK__WS_SHORT_BYTES_MAX = 125 };

/* The key is as it lies in memory. */
static inline void zk__ws_short_unmask(char *data, size_t size, uint32_t key)
{
    typedef uint64_t lanes __attribute__((vector_size(16), aligned(1), may_alias));
    uint64_t wide = key | (uint64_t)key << 32;
    for (; size >= 16; size -= 16, data += 16)
        *(lanes *)(void *)data ^= (lanes){wide, wide};
    if (size & 8) {
        uint64_t part;
        memcpy(&part, data, 8);
        part ^= wide;
        memcpy(data, &part, 8);
        data += 8;
    }
    if (size & 4) {
        uint32_t part;
        memcpy(&part, data, 4);
        part ^= key;
        memcpy(data, &part, 4);
        data += 4;
    }
    uint8_t bytes[4];
    memcpy(bytes, &key, 4);
    if (size & 2) {
        uint16_t part, two;
        memcpy(&part, data, 2);
        memcpy(&two, bytes, 2);
        part ^= two;
        memcpy(data, &part, 2);
        data += 2;
    }
    if (size & 1) *data = (char)(*data ^ (size & 2 ? bytes[2] : bytes[0]));
}

/*
 * Takes such a message and leaves the reader as it is between messages. Its payload lies behind the
 * head, unmasked; whether a text is UTF-8 is the caller's to check.
 * returns bytes consumed; 0: it is something else.
 */
static inline size_t zk__ws_short_take(const zk__ws_reader *r, char *data, size_t size,
                                       uint8_t *ret_opcode, size_t *ret_size)
{
    const uint8_t *at = (const uint8_t *)data;
    if (r->is_client || r->opcode || size < ZK__WS_SHORT_HEAD_BYTES) return 0;
    /* The opcode is 1 or 2, and the mask's bit is taken off the length. */
    unsigned opcode = at[0] - ZK__WS_FIN, n = at[1] - 0x80u;
    if (opcode - 1 > 1 || n > ZK__WS_SHORT_BYTES_MAX || n > size - ZK__WS_SHORT_HEAD_BYTES) {
        return 0;
    }
    if (n > r->message_bytes_max || !r->fragments_max) return 0;
    uint32_t key;
    memcpy(&key, at + 2, 4);
    zk__ws_short_unmask(data + ZK__WS_SHORT_HEAD_BYTES, n, key);
    *ret_opcode = (uint8_t)opcode;
    *ret_size = n;
    return ZK__WS_SHORT_HEAD_BYTES + n;
}

#endif
