/*
 * Decoding the content codings of answers. Input: a byte that chooses the coding, a byte that seeds
 * the split, then the body.
 *
 * It is decoded as a whole and in pieces, input and output, and both must give the same bytes and
 * the same end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/client_decode.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { OUT_MAX = 200000, IN_MAX = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* returns 0 and the bytes; 1: there are more than that; an error. seed 0: as a whole. */
static int decode_all(const char *coding, const char *data, size_t size, uint32_t seed, char *out,
                      size_t *ret_size)
{
    zk__decoder *d;
    CHECK(zk__decoder_new((zk_str){coding, strlen(coding)}, &d) == 0);
    size_t given = seed ? 0 : size, made = 0;
    zk_str in = {data, given};
    int result = 1;
    while (made < OUT_MAX) {
        size_t room = OUT_MAX - made;
        if (seed) {
            seed = seed * 1664525u + 1013904223u;
            size_t more = (seed >> 16) % 20, wanted = 1 + (seed >> 24) % 50;
            if (more > size - given) more = size - given;
            if (wanted < room) room = wanted;
            given += more;
            in.size += more;
        }
        size_t before = in.size;
        ssize_t n = zk__decoder_run(d, &in, given == size, out + made, room);
        CHECK(n <= (ssize_t)room && in.size <= before && in.data + in.size == data + given);
        if (n < 0) result = (int)n;
        if (n < 0) break;
        made += (size_t)n;
        if (n == 0 && given == size) {
            result = 0;
            break;
        }
    }
    zk__decoder_free(d);
    *ret_size = made;
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const codings[] = {"gzip", "deflate", "br", "zstd"};
    static char whole[OUT_MAX], pieces[OUT_MAX];
    if (size < 2 || size > IN_MAX) return 0;
    const char *coding = codings[data[0] % 4];
    zk__decoder *d;
    if (zk__decoder_new((zk_str){coding, strlen(coding)}, &d)) return 0; /* built without */
    zk__decoder_free(d);
    size_t whole_size, pieces_size;
    const char *body = (const char *)data + 2;
    int a = decode_all(coding, body, size - 2, 0, whole, &whole_size);
    int b = decode_all(coding, body, size - 2, 1u + data[1], pieces, &pieces_size);
    CHECK(a == b);
    size_t both = whole_size < pieces_size ? whole_size : pieces_size;
    CHECK(!memcmp(whole, pieces, both));
    CHECK(a || whole_size == pieces_size);
    return 0;
}
