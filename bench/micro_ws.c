/*
 * What a WebSocket does to each byte: GB/s, over 64 KiB that stay in the cache.
 */
#include <string.h>

#include "bench/micro.h"
#include "ws/mask.h"
#include "ws/utf8.h"

enum { BYTES = 64 * 1024, ROUNDS = 2000 };

static char bytes[BYTES];

static void fill(const char *pattern)
{
    size_t size = strlen(pattern), at = 0;
    for (; at + size <= BYTES; at += size)
        memcpy(bytes + at, pattern, size);
    memset(bytes + at, '.', BYTES - at);
}

static double texts_per_ns(const char *pattern)
{
    fill(pattern);
    double best = 0;
    for (int round = 0; round < 15; round++) {
        double start = now_ns();
        for (int i = 0; i < ROUNDS / 10; i++) {
            zk__utf8 state = 0;
            if (!zk__utf8_take(&state, bytes, BYTES)) abort();
        }
        double rate = (double)BYTES * (ROUNDS / 10) / (now_ns() - start);
        if (rate > best) best = rate;
    }
    return best;
}

static double measure_ascii(void) { return texts_per_ns("The quick brown fox jumps. "); }

/* Characters of one to four bytes, in no order that a branch could learn. */
static double measure_mixed(void)
{
    return texts_per_ns("a\xc3\xa4 \xe2\x82\xac\xf0\x9f\x98\x80 bc\xd0\xb6\xd0\xb7 \xe4\xb8\xad"
                        "\xe6\x96\x87 de \xc3\xa9t\xc3\xa9 \xf0\x9f\x9a\x80.");
}

static double measure_mask(void)
{
    double best = 0;
    uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    fill("something");
    for (int round = 0; round < 15; round++) {
        double start = now_ns();
        for (int i = 0; i < ROUNDS; i++)
            zk__ws_mask(bytes, bytes, BYTES, key);
        double rate = (double)BYTES * ROUNDS / (now_ns() - start);
        if (rate > best) best = rate;
    }
    return best;
}

const row ws_rows[] = {
    {"utf8_ascii_gb_s", measure_ascii, true, 0},
    {"utf8_mixed_gb_s", measure_mixed, true, 0},
    {"ws_mask_gb_s", measure_mask, true, 0},
    {0},
};
