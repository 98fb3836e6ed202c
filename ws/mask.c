/*
 * Masking, 64 bytes at a time: the vectors are the compiler's own, so every machine gets its best.
 */
#include "ws/mask.h"

#include <string.h>

/* Anywhere in memory, whatever else lies there. */
typedef uint64_t lanes __attribute__((vector_size(16), aligned(1), may_alias));

enum { STEP = 4 * sizeof(lanes) };

static void turn(uint8_t key[4], size_t by)
{
    uint8_t old[4];
    memcpy(old, key, 4);
    for (size_t i = 0; i < 4; i++)
        key[i] = old[(i + by) & 3];
}

void zk__ws_mask(void *to, const void *from, size_t size, uint8_t key[4])
{
    uint8_t *out = to;
    const uint8_t *in = from;
    size_t left = size;
    uint32_t word;
    memcpy(&word, key, 4);
    uint64_t wide = word | (uint64_t)word << 32;
    lanes mask = {wide, wide};
    for (; left >= STEP; left -= STEP, in += STEP, out += STEP) {
        const lanes *a = (const lanes *)(const void *)in;
        lanes *b = (lanes *)(void *)out;
        lanes p = a[0] ^ mask, q = a[1] ^ mask, r = a[2] ^ mask, s = a[3] ^ mask;
        b[0] = p;
        b[1] = q;
        b[2] = r;
        b[3] = s;
    }
    for (; left >= 8; left -= 8, in += 8, out += 8) {
        uint64_t part;
        memcpy(&part, in, 8);
        part ^= wide;
        memcpy(out, &part, 8);
    }
    if (left & 4) {
        uint32_t part;
        memcpy(&part, in, 4);
        part ^= word;
        memcpy(out, &part, 4);
        in += 4;
        out += 4;
        left -= 4;
    }
    for (size_t i = 0; i < left; i++)
        out[i] = in[i] ^ key[i & 3];
    if (size & 3) turn(key, size & 3);
}
