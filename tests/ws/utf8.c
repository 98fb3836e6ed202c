/*
 * UTF-8 validation against a table, at each split and at each place of a longer text, and against a
 * decoder that is as plain as can be.
 */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "ws/utf8.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

static const struct {
    const char *text;
    int size;
    /* How many bytes are right: at the next one it fails, or at the end if that is the size and the
     * text is cut. -1: it is a text */
    int bad_at;
} rows[] = {
    {"", 0, -1},
    {"a", 1, -1},
    {"\x00", 1, -1},
    {"\x7f", 1, -1},
    {"hello, world", 12, -1},
    {"\xc2\x80", 2, -1},
    {"\xc3\xa4", 2, -1},
    {"\xdf\xbf", 2, -1},
    {"\xe0\xa0\x80", 3, -1},
    {"\xe0\xbf\xbf", 3, -1},
    {"\xe1\x80\x80", 3, -1},
    {"\xe2\x82\xac", 3, -1},
    {"\xec\xbf\xbf", 3, -1},
    {"\xed\x80\x80", 3, -1},
    {"\xed\x9f\xbf", 3, -1},
    {"\xee\x80\x80", 3, -1},
    {"\xef\xbf\xbd", 3, -1},
    {"\xef\xbf\xbe", 3, -1},
    {"\xef\xbf\xbf", 3, -1},
    {"\xf0\x90\x80\x80", 4, -1},
    {"\xf0\x9f\x98\x80", 4, -1},
    {"\xf0\xbf\xbf\xbf", 4, -1},
    {"\xf1\x80\x80\x80", 4, -1},
    {"\xf3\xbf\xbf\xbf", 4, -1},
    {"\xf4\x80\x80\x80", 4, -1},
    {"\xf4\x8f\xbf\xbf", 4, -1},
    {"a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z", 11, -1},
    {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", 11, -1},
    /* continuations without a lead */
    {"\x80", 1, 0},
    {"\xbf", 1, 0},
    {"a\x80", 2, 1},
    {"\xc3\xa4\x80", 3, 2},
    {"\xe2\x82\xac\x80", 4, 3},
    {"\xf0\x9f\x98\x80\x80", 5, 4},
    {"\x80\x80\x80\x80", 4, 0},
    /* leads that there are not */
    {"\xc0\x80", 2, 0},
    {"\xc0\xaf", 2, 0},
    {"\xc1\xbf", 2, 0},
    {"\xf5\x80\x80\x80", 4, 0},
    {"\xf8\x88\x80\x80\x80", 5, 0},
    {"\xfc\x84\x80\x80\x80\x80", 6, 0},
    {"\xfe", 1, 0},
    {"\xff", 1, 0},
    {"\xfe\xfe\xff\xff", 4, 0},
    /* longer than need be */
    {"\xe0\x80\x80", 3, 1},
    {"\xe0\x80\xaf", 3, 1},
    {"\xe0\x9f\xbf", 3, 1},
    {"\xf0\x80\x80\x80", 4, 1},
    {"\xf0\x80\x80\xaf", 4, 1},
    {"\xf0\x8f\xbf\xbf", 4, 1},
    /* surrogates */
    {"\xed\xa0\x80", 3, 1},
    {"\xed\xad\xbf", 3, 1},
    {"\xed\xae\x80", 3, 1},
    {"\xed\xbf\xbf", 3, 1},
    {"\xed\xa0\x80\xed\xb0\x80", 6, 1},
    /* beyond the last character */
    {"\xf4\x90\x80\x80", 4, 1},
    {"\xf4\xbf\xbf\xbf", 4, 1},
    /* cut by the end */
    {"\xc3", 1, 1},
    {"\xe2", 1, 1},
    {"\xe2\x82", 2, 2},
    {"\xf0", 1, 1},
    {"\xf0\x9f", 2, 2},
    {"\xf0\x9f\x98", 3, 3},
    {"\xf4\x8f\xbf", 3, 3},
    {"\xe0\xa0", 2, 2},
    {"\xed\x9f", 2, 2},
    /* cut by something else */
    {"\xc3\x28", 2, 1},
    {"\xc3\xc3", 2, 1},
    {"\xe2\x28\xa1", 3, 1},
    {"\xe2\x82\x28", 3, 2},
    {"\xe2\x82\xe2\x82\xac", 5, 2},
    {"\xf0\x28\x8c\xbc", 4, 1},
    {"\xf0\x90\x28\xbc", 4, 2},
    {"\xf0\x9f\x98\x28", 4, 3},
    {"\xf0\x9f\x98\xf0", 4, 3},
    {"\xc3\xff", 2, 1},
    {"\xe1\x80\xc0", 3, 2},
    {"\xf1\x80\x80\x00", 4, 3},
};

/* What the bytes are, split at `split`. */
static void check(size_t row, const char *text, size_t size, size_t split, int bad_at)
{
    zk__utf8 state = 0;
    bool is_good = zk__utf8_take(&state, text, split);
    bool is_good_so_far = bad_at < 0 || (size_t)bad_at >= split;
    cr_assert_eq(is_good, is_good_so_far, "row %zu, the first %zu", row, split);
    if (!is_good) return;
    is_good = zk__utf8_take(&state, text + split, size - split);
    cr_assert_eq(is_good && !state, bad_at < 0, "row %zu, split at %zu", row, split);
    cr_assert_eq(is_good, bad_at < 0 || (size_t)bad_at == size, "row %zu, split at %zu", row,
                 split);
}

ZK_TEST(ws_utf8, each_row_at_each_split)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (int split = 0; split <= rows[i].size; split++)
            check(i, rows[i].text, (size_t)rows[i].size, (size_t)split, rows[i].bad_at);
    }
}

/* In the middle of a longer text, at each place of a block of the fast paths. */
static void each_place(const char *filler, size_t filler_size)
{
    static char text[512];
    for (size_t i = 0; i < ROWS(rows); i++) {
        for (size_t before = 0; before < 140; before++) {
            size_t at = 0, size = (size_t)rows[i].size;
            while (at + filler_size <= before)
                at += (memcpy(text + at, filler, filler_size), filler_size);
            memcpy(text + at, rows[i].text, size);
            size_t end = at + size;
            bool is_cut = rows[i].bad_at == rows[i].size && size;
            int bad_at = rows[i].bad_at < 0 ? -1 : (int)at + rows[i].bad_at;
            check(i, text, end, end / 2, bad_at);
            check(i, text, end, 0, bad_at);
            if (is_cut) continue;
            while (end + filler_size <= 300)
                end += (memcpy(text + end, filler, filler_size), filler_size);
            check(i, text, end, 0, bad_at);
            check(i, text, end, at, bad_at);
            check(i, text, end, at + size, bad_at);
        }
    }
}

ZK_TEST(ws_utf8, each_row_in_a_text_of_one_byte_characters) { each_place("a", 1); }
ZK_TEST(ws_utf8, each_row_in_a_text_of_two) { each_place("\xc3\xa4", 2); }
ZK_TEST(ws_utf8, each_row_in_a_text_of_three) { each_place("\xe2\x82\xac", 3); }
ZK_TEST(ws_utf8, each_row_in_a_text_of_four) { each_place("\xf0\x9f\x98\x80", 4); }

/* Decodes one character. returns its size; 0: there is none. */
static size_t decode(const unsigned char *at, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80       ? 1
               : at[0] >> 5 == 6  ? 2
               : at[0] >> 4 == 14 ? 3
               : at[0] >> 3 == 30 ? 4
                                  : 0;
    if (!n || n > size) return 0;
    uint32_t c = n == 1 ? at[0] : at[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (at[i] >> 6 != 2) return 0;
        c = c << 6 | (at[i] & 0x3F);
    }
    return c < least[n] || c > 0x10FFFF || c >> 11 == 0x1B ? 0 : n;
}

static bool is_text(const unsigned char *at, size_t size)
{
    for (size_t n; size; at += n, size -= n) {
        n = decode(at, size);
        if (!n) return false;
    }
    return true;
}

/* Texts of random characters with some bytes changed: the fast paths say what the decoder says. */
ZK_TEST(ws_utf8, agrees_with_a_plain_decoder)
{
    static unsigned char text[400];
    uint32_t seed = 1;
    for (int round = 0; round < 30000; round++) {
        size_t size = 0;
#define RANDOM(n) ((seed = seed * 1664525u + 1013904223u) >> 8) % (n)
        size_t wanted = RANDOM(380);
        while (size < wanted) {
            static const char *const chars[] = {"a",
                                                "\xc3\xa4",
                                                "\xe2\x82\xac",
                                                "\xf0\x9f\x98\x80",
                                                "\xed\x9f\xbf",
                                                "\xf4\x8f\xbf\xbf",
                                                "0123456789"};
            const char *c = chars[RANDOM(7)];
            memcpy(text + size, c, strlen(c));
            size += strlen(c);
        }
        uint32_t changes = RANDOM(3);
        for (uint32_t i = 0; i < changes && size; i++) {
            uint32_t at = RANDOM((uint32_t)size);
            text[at] = (unsigned char)RANDOM(256);
        }
        zk__utf8 state = 0;
        bool is_good = zk__utf8_take(&state, text, size) && !state;
        cr_assert_eq(is_good, is_text(text, size), "round %d", round);
    }
}
