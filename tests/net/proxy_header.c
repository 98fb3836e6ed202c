/*
 * The header of the PROXY protocol: each field at its bounds, cut at each byte, and what is
 * written is read back.
 */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

#include "net/proxy_header.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))
#define BYTES(literal)                                                                             \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

#define SIGN "\r\n\r\n\0\r\nQUIT\n"
#define V4_BYTES "\x0a\x00\x00\x01\xc0\x00\x02\x02\xc7\x38\x01\xbb"
#define V6_HALF "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
#define V6_BYTES V6_HALF "\x01" V6_HALF "\x02\xc7\x38\x01\xbb"
#define ZEROS_10 "\0\0\0\0\0\0\0\0\0\0"
#define ZEROS_100                                                                                  \
    ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10 ZEROS_10
#define UNIX_BYTES "/run/a\0\0" ZEROS_100 "\0abstr\0\0" ZEROS_100
#define V6_LONGEST "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

/* Gives a parser the header as a careful reader would: never a byte more than is wanted.
 * returns its size, an error, or 0: it wants more than there is. */
static ptrdiff_t read_carefully(zk_str s, zk__proxy_header *h, int *reads)
{
    char own[5000];
    for (size_t size = 0;;) {
        size_t wanted = 0;
        memcpy(own, s.data, size);
        memset(own + size, '#', sizeof own - size);
        ptrdiff_t n = zk__proxy_header_parse(own, size, &wanted, h);
        if (n) return n;
        cr_assert_gt(wanted, 0u);
        if (wanted > s.size - size) return 0;
        size += wanted;
        ++*reads;
    }
}

typedef struct row {
    zk_str text;
    const char *from, *to; /* NULL: it is about the connection itself */
} row;

static const row good[] = {
    {BYTES("PROXY TCP4 10.0.0.1 192.0.2.2 51000 443\r\n"), "10.0.0.1:51000", "192.0.2.2:443"},
    {BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n"), "1.1.1.1:0", "1.1.1.1:0"},
    {BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255:65535",
     "255.255.255.255:65535"},
    {BYTES("PROXY TCP6 2001:db8::1 ::1 51000 443\r\n"), "[2001:db8::1]:51000", "[::1]:443"},
    {BYTES("PROXY TCP6 :: :: 1 1\r\n"), "[::]:1", "[::]:1"},
    {BYTES("PROXY TCP6 " V6_LONGEST " " V6_LONGEST " 65535 65535\r\n"), "[" V6_LONGEST "]:65535",
     "[" V6_LONGEST "]:65535"},
    {BYTES("PROXY UNKNOWN\r\n"), NULL, NULL},
    {BYTES("PROXY UNKNOWN " V6_LONGEST " " V6_LONGEST " 65535 65535\r\n"), NULL, NULL},
    {BYTES("PROXY UNKNOWN  what\rever\n it says \r\n"), NULL, NULL},
    {BYTES(SIGN "\x21\x11\0\x0c" V4_BYTES), "10.0.0.1:51000", "192.0.2.2:443"},
    {BYTES(SIGN "\x21\x12\0\x0c" V4_BYTES), "10.0.0.1:51000", "192.0.2.2:443"},
    {BYTES(SIGN "\x21\x21\0\x24" V6_BYTES), "[2001:db8::1]:51000", "[2001:db8::2]:443"},
    {BYTES(SIGN "\x21\x31\0\xd8" UNIX_BYTES), "unix:/run/a", "unix:@abstr"},
    {BYTES(SIGN "\x21\x11\0\x0f" V4_BYTES "\x04\0\0"), "10.0.0.1:51000", "192.0.2.2:443"},
    {BYTES(SIGN "\x21\x11\0\x16" V4_BYTES "\x04\0\x01#\x05\0\x03#\0#"), "10.0.0.1:51000",
     "192.0.2.2:443"},
    {BYTES(SIGN "\x20\x00\0\0"), NULL, NULL},
    {BYTES(SIGN "\x20\x11\0\x0c" V4_BYTES), NULL, NULL},
    {BYTES(SIGN "\x20\x11\0\x01#"), NULL, NULL},
    {BYTES(SIGN "\x21\x00\0\0"), NULL, NULL},
    {BYTES(SIGN "\x21\x00\0\x03###"), NULL, NULL},
    {BYTES(SIGN "\x21\x10\0\0"), NULL, NULL},
};

static void expect_addr(const zk_addr *got, const char *wanted, size_t i)
{
    char text[ZK_ADDR_TEXT_BYTES];
    if (!wanted) {
        cr_expect_eq(got->size, 0u, "row %zu", i);
        return;
    }
    zk_addr_format(got, text);
    cr_expect_str_eq(text, wanted, "row %zu: %s", i, text);
}

/* What is right is read, and not a byte of what is behind it. */
ZK_TEST(proxy_header, reads_both_versions)
{
    for (size_t i = 0; i < ROWS(good); i++) {
        zk__proxy_header h;
        int reads = 0;
        memset(&h, 0x5a, sizeof h);
        cr_assert_eq(read_carefully(good[i].text, &h, &reads), (ptrdiff_t)good[i].text.size,
                     "row %zu", i);
        cr_expect_leq(reads, 50, "row %zu takes %d reads", i, reads);
        cr_expect_eq(h.version, good[i].text.data[0] == 'P' ? 1 : 2);
        cr_expect_eq(h.is_own, !good[i].from, "row %zu", i);
        expect_addr(&h.from, good[i].from, i);
        expect_addr(&h.to, good[i].to, i);
        /* with bytes behind it, and with all at once */
        char behind[600];
        memcpy(behind, good[i].text.data, good[i].text.size);
        memset(behind + good[i].text.size, '\r', 20);
        size_t wanted;
        cr_expect_eq(zk__proxy_header_parse(behind, good[i].text.size + 20, &wanted, &h),
                     (ptrdiff_t)good[i].text.size, "row %zu", i);
    }
}

/* Cut anywhere it is not whole yet, wants no more than there is to come, and says nothing. */
ZK_TEST(proxy_header, waits_for_the_rest)
{
    for (size_t i = 0; i < ROWS(good); i++) {
        for (size_t size = 0; size < good[i].text.size; size++) {
            zk__proxy_header h = {.version = 77};
            size_t wanted = 0;
            char *own = malloc(size + !size); /* for the sanitizers: not a byte more */
            memcpy(own, good[i].text.data, size);
            cr_assert_eq(zk__proxy_header_parse(own, size, &wanted, &h), 0, "row %zu, %zu", i,
                         size);
            cr_expect(wanted > 0 && wanted <= good[i].text.size - size, "row %zu, %zu: %zu", i,
                      size, wanted);
            cr_expect_eq(h.version, 77);
            free(own);
        }
    }
}

/* What is wrong is refused, at the latest when it is whole. */
ZK_TEST(proxy_header, refuses_what_is_not_right)
{
    static const zk_str rows[] = {
        BYTES("GET / HTTP/1.1\r\n"),
        BYTES("G"),
        BYTES("PROXY\r\n"),
        BYTES("proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4\r\n"),
        BYTES("PROXY TCP4 \r\n"),
        BYTES("PROXY TCP4 1.1.1.1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 \r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n"),
        BYTES("PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 1x\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 100000\r\n"),
        BYTES("PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP4 ::1 ::1 1 1\r\n"),
        BYTES("PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n"),
        BYTES("PROXY TCP6 ::g ::1 1 1\r\n"),
        BYTES("PROXY TCP6 1::1::1 ::1 1 1\r\n"),
        BYTES("PROXY TCP6 " V6_LONGEST ":1 ::1 1 1\r\n"),
        BYTES("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\r\n"),
        BYTES("PROXY UNKNOWNS\r\n"),
        BYTES("PROXY UNKNOWN " V6_LONGEST " " V6_LONGEST " 65535 655355\r\n"),
        BYTES("PROXY UNKNOWN " ZEROS_100),
        BYTES("\r\n\r\n\0\r\nQUIX"),
        BYTES("\r\n\r\n\0\r\nQUIT\r"),
        BYTES(SIGN "\x11\x11\0\x0c" V4_BYTES),
        BYTES(SIGN "\x31\x11\0\x0c" V4_BYTES),
        BYTES(SIGN "\x22\x11\0\x0c" V4_BYTES),
        BYTES(SIGN "\x2f"),
        BYTES(SIGN "\x21\x41\0\x0c" V4_BYTES),
        BYTES(SIGN "\x21\x13\0\x0c" V4_BYTES),
        BYTES(SIGN "\x21\x11\0\x0b" V4_BYTES),
        BYTES(SIGN "\x21\x11\0\0"),
        BYTES(SIGN "\x21\x21\0\x23" V6_BYTES),
        BYTES(SIGN "\x21\x31\0\xd7" UNIX_BYTES),
        BYTES(SIGN "\x21\x11\0\x0d" V4_BYTES "\x04"),
        BYTES(SIGN "\x21\x11\0\x0e" V4_BYTES "\x04\0"),
        BYTES(SIGN "\x21\x11\0\x0f" V4_BYTES "\x04\0\x01"),
        BYTES(SIGN "\x21\x11\0\x10" V4_BYTES "\x04\x01\0#"),
        BYTES(SIGN "\x21\x11\0\x11" V4_BYTES "\x04\0\x01##"),
        BYTES(SIGN "\x20\x00\x0f\xf1"),
        BYTES(SIGN "\x21\x11\xff\xff"),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk__proxy_header h = {.version = 77};
        size_t wanted = 77;
        cr_expect_eq(zk__proxy_header_parse(rows[i].data, rows[i].size, &wanted, &h),
                     ZK_E_PROXY_HEADER, "row %zu: \"%s\"", i, rows[i].data);
        cr_expect_eq(h.version, 77);
        cr_expect_eq(wanted, 77u);
        int reads = 0;
        ptrdiff_t n = read_carefully(rows[i], &h, &reads);
        cr_expect_leq(n, 0, "row %zu: %td", i, n);
    }
}

/* What is written is read back as what it was. */
ZK_TEST(proxy_header, reads_what_it_writes)
{
    static const struct {
        int version;
        const char *from, *to, *read_from, *read_to;
    } rows[] = {
        {1, "1.2.3.4:5", "10.0.0.1:80", "1.2.3.4:5", "10.0.0.1:80"},
        {2, "1.2.3.4:5", "10.0.0.1:80", "1.2.3.4:5", "10.0.0.1:80"},
        {1, "[2001:db8::1]:5", "[::1]:80", "[2001:db8::1]:5", "[::1]:80"},
        {2, "[2001:db8::1]:5", "[::1]:80", "[2001:db8::1]:5", "[::1]:80"},
        {1, "[" V6_LONGEST "]:65535", "[" V6_LONGEST "]:65535", "[" V6_LONGEST "]:65535",
         "[" V6_LONGEST "]:65535"},
        {1, "[::ffff:1.2.3.4]:5", "10.0.0.1:80", "1.2.3.4:5", "10.0.0.1:80"},
        {2, "[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.5]:80", "1.2.3.4:5", "1.2.3.5:80"},
        {1, "1.2.3.4:5", "[::1]:80", "[::ffff:1.2.3.4]:5", "[::1]:80"},
        {2, "[::1]:5", "1.2.3.4:80", "[::1]:5", "[::ffff:1.2.3.4]:80"},
        {1, "unix:/run/a", "unix:/run/b", NULL, NULL},
        {2, "unix:/run/a", "unix:@b", "unix:/run/a", "unix:@b"},
        {1, "1.2.3.4:5", "unix:/run/b", "1.2.3.4:5", "0.0.0.0:0"},
        {2, "[::1]:5", "unix:/run/b", "[::1]:5", "[::]:0"},
        {1, "unix:/run/a", "1.2.3.4:5", NULL, NULL},
        {2, "unix:/run/a", "1.2.3.4:5", NULL, NULL},
        {1, NULL, NULL, NULL, NULL},
        {2, NULL, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_addr from, to;
        char text[ZK__PROXY_HEADER_BYTES];
        if (rows[i].from) {
            cr_assert_eq(zk_addr_parse(rows[i].from, &from), 0);
            cr_assert_eq(zk_addr_parse(rows[i].to, &to), 0);
        }
        size_t size =
            zk__proxy_header_write(rows[i].version, rows[i].from ? &from : NULL, &to, text);
        zk__proxy_header h;
        size_t wanted;
        cr_assert_eq(zk__proxy_header_parse(text, size, &wanted, &h), (ptrdiff_t)size, "row %zu",
                     i);
        cr_expect_eq(h.version, rows[i].version);
        cr_expect_eq(h.is_own, !rows[i].read_from);
        expect_addr(&h.from, rows[i].read_from, i);
        expect_addr(&h.to, rows[i].read_to, i);
        if (rows[i].version == 1) cr_expect_leq(size, (size_t)ZK__PROXY_V1_BYTES_MAX);
    }
}
