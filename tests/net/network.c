/*
 * Networks: what is read, what is refused, and which addresses are in them.
 */
#include "tests/test.h"

#include <string.h>

#include <zokio/error.h>

#include "net/network.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

/* What is no network is refused, and the result is left alone. */
ZK_TEST(network, refuses_what_is_none)
{
    static const char *const rows[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0/8",
        "10.0.0.0/8 ",
        " 10.0.0.0/8",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0.1/8",
        "::1/129",
        "::1/64",
        "[::1]",
        "::1%lo",
        "localhost",
        "unix:",
        "10.0.0.0:1",
        "fe80::/1000",
        "1.2.3.4.5",
        "0.0.0.0/0x1",
        "300.0.0.0/8",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8",
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk__network n = {.bits = 77};
        cr_expect_eq(zk__network_parse(rows[i], &n), ZK_E_ADDR, "\"%s\"", rows[i]);
        cr_expect_eq(n.bits, 77);
    }
}

/* The prefix decides, to the bit; families are apart but for IPv4 inside IPv6. */
ZK_TEST(network, has_what_begins_with_its_prefix)
{
    static const struct {
        const char *network, *addr;
        bool is_in;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255:1", true},
        {"10.0.0.0/8", "11.0.0.0:1", false},
        {"10.0.0.0/8", "9.255.255.255:1", false},
        {"10.0.0.128/25", "10.0.0.128:1", true},
        {"10.0.0.128/25", "10.0.0.127:1", false},
        {"10.0.0.1", "10.0.0.1:80", true},
        {"10.0.0.1/32", "10.0.0.2:80", false},
        {"0.0.0.0/0", "255.1.2.3:1", true},
        {"0.0.0.0/0", "[::1]:1", false},
        {"10.0.0.0/8", "[::ffff:10.1.2.3]:1", true},
        {"10.0.0.0/8", "[::ffff:11.1.2.3]:1", false},
        {"::/0", "[2001:db8::1]:1", true},
        {"::/0", "1.2.3.4:1", false},
        {"::/0", "[::ffff:1.2.3.4]:1", false},
        {"::1", "[::1]:1", true},
        {"::1/128", "[::2]:1", false},
        {"2001:db8::/33", "[2001:db8:7fff::1]:1", true},
        {"2001:db8::/33", "[2001:db8:8000::1]:1", false},
        {"unix", "unix:/run/a", true},
        {"unix", "127.0.0.1:1", false},
        {"0.0.0.0/0", "unix:@a", false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk__network n;
        zk_addr addr;
        cr_assert_eq(zk__network_parse(rows[i].network, &n), 0, "%s", rows[i].network);
        cr_assert_eq(zk_addr_parse(rows[i].addr, &addr), 0, "%s", rows[i].addr);
        cr_expect_eq(zk__network_has(&n, &addr), rows[i].is_in, "%s in %s", rows[i].addr,
                     rows[i].network);
    }
}
