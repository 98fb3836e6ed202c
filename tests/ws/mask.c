/*
 * Masking against the definition of RFC 6455 section 5.3.
 */
#include "tests/test.h"

#include <string.h>

#include "ws/mask.h"

/* More than some cache lines, of which each is another case at its begin and its end. */
enum { SIZE = 420, PLACES = 72 };

static void check(size_t offset, size_t size, size_t split)
{
    static unsigned char from[SIZE + PLACES], to[SIZE + PLACES];
    const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t turned[4];
    memcpy(turned, key, 4);
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = to[i] = (unsigned char)(i * 7 + 1);
    zk__ws_mask(to + offset, from + offset, split, turned);
    zk__ws_mask(to + offset + split, from + offset + split, size - split, turned);
    for (size_t i = 0; i < sizeof from; i++) {
        bool is_in = i >= offset && i < offset + size;
        unsigned char wanted = is_in ? from[i] ^ key[(i - offset) & 3] : from[i];
        cr_assert_eq(to[i], wanted, "byte %zu of %zu at %zu, split at %zu", i, size, offset, split);
    }
}

/* Every size and place, and nothing around it. */
ZK_TEST(ws_mask, every_size_at_every_place)
{
    for (size_t size = 0; size <= SIZE; size++) {
        for (size_t offset = 0; offset < PLACES; offset++)
            check(offset, size, 0);
    }
}

/* In two parts it is the same as in one. */
ZK_TEST(ws_mask, every_split)
{
    for (size_t split = 0; split <= SIZE; split++)
        check(3, SIZE, split);
}

ZK_TEST(ws_mask, in_place_and_back)
{
    char text[] = "some text that is longer than a block of the vectors, which has 64 bytes in it";
    char copy[sizeof text];
    uint8_t key[4] = {1, 2, 3, 4}, again[4] = {1, 2, 3, 4};
    memcpy(copy, text, sizeof text);
    zk__ws_mask(text, text, sizeof text, key);
    cr_assert(memcmp(copy, text, sizeof text));
    zk__ws_mask(text, text, sizeof text, again);
    cr_assert(!memcmp(copy, text, sizeof text));
}
