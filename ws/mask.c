/*
 * Masking, 64 bytes at a time: the vectors are the compiler's own, so every machine gets its best.
 */
#include "ws/mask.h"

#include <string.h>

typedef uint64_t lanes __attribute__((vector_size(16)));

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
        lanes part[4];
        memcpy(part, in, STEP);
        for (int i = 0; i < 4; i++)
            part[i] ^= mask;
        memcpy(out, part, STEP);
    }
    for (; left >= 8; left -= 8, in += 8, out += 8) {
        uint64_t part;
        memcpy(&part, in, 8);
        part ^= wide;
        memcpy(out, &part, 8);
    }
    for (size_t i = 0; i < left; i++)
        out[i] = in[i] ^ key[i & 3];
    if (size & 3) turn(key, size & 3);
}
