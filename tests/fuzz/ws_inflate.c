/*
 * Inflating WebSocket messages. Input: a byte of flags (1: the window is kept, 2: small buffers), a
 * byte that seeds the split, then messages: two bytes of length, and so many bytes.
 *
 * Each is inflated as a whole and in pieces, input and output, and both must give the same bytes
 * and the same end. Then its bytes are compressed, and must come back.
 */
#include <stdlib.h>
#include <string.h>

#include <zokio/task.h>

#include "ws/deflate.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { OUT_MAX = 200000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* returns 1 and the bytes; an error. SIZE_MAX pieces: as a whole. */
static int inflate_all(zk__ws_deflate *d, const char *data, size_t size, uint32_t seed, char *out,
                       size_t *ret_size)
{
    size_t at = 0, made = 0;
    for (;;) {
        size_t in = size - at, room = OUT_MAX - made;
        if (seed) {
            seed = seed * 1664525u + 1013904223u;
            size_t in_wanted = (seed >> 16) % 20, room_wanted = 1 + (seed >> 24) % 50;
            if (in_wanted < in) in = in_wanted;
            if (room_wanted < room) room = room_wanted;
        }
        bool is_last = at + in == size;
        const char *from = data + at;
        size_t left = in, had = room;
        int rc = zk__ws_inflate(d, &from, &left, is_last, out + made, &room);
        CHECK(left <= in && room <= had);
        at += in - left;
        made += had - room;
        if (rc < 0) return rc;
        if (rc) {
            *ret_size = made;
            return 1;
        }
        if (made == OUT_MAX) return 0; /* a bomb */
    }
}

static void round_trip(zk__ws_deflate *d, const char *data, size_t size)
{
    static char back[OUT_MAX];
    zk__ws_bytes packed = {0};
    size_t back_size = 0;
    int rc = zk__ws_compress(d, data, size, &packed);
    CHECK(rc >= 0);
    if (rc) {
        CHECK(inflate_all(d, packed.data, packed.size, 0, back, &back_size) == 1);
        CHECK(back_size == size && !memcmp(back, data, size));
    }
    zk_free(packed.data);
}

typedef struct input {
    const uint8_t *data;
    size_t size;
} input;

static int run(void *arg)
{
    static char one[OUT_MAX], other[OUT_MAX];
    const input *in = arg;
    bool is_kept = in->data[0] & 1;
    zk__ws_agreed agreed = {true, is_kept, is_kept, 15, 15};
    zk_ws_deflate own = {.level = 1};
    zk__ws_deflate *whole = zk__ws_deflate_new(&agreed, &own);
    zk__ws_deflate *split = zk__ws_deflate_new(&agreed, &own);
    zk__ws_deflate *again = zk__ws_deflate_new(&agreed, &own);
    CHECK(whole && split && again);
    for (size_t at = 2; at + 2 <= in->size;) {
        size_t size = (size_t)in->data[at] << 8 | in->data[at + 1];
        at += 2;
        if (size > in->size - at) size = in->size - at;
        size_t a = 0, b = 0;
        const char *message = (const char *)in->data + at;
        int first = inflate_all(whole, message, size, 0, one, &a);
        int second = inflate_all(split, message, size, in->data[1] + 1u, other, &b);
        CHECK(first == second);
        if (first <= 0) break;
        CHECK(a == b && !memcmp(one, other, a));
        if (a) round_trip(again, one, a);
        at += size;
    }
    zk__ws_deflate_free(whole);
    zk__ws_deflate_free(split);
    zk__ws_deflate_free(again);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4 || size > 20000) return 0;
    input in = {data, size};
    CHECK(zk_run(&(zk_config){.workers = 1, .poller = "epoll"}, run, &in) == 0);
    return 0;
}
