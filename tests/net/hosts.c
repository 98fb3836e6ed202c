/*
 * Hosts files: lines, names, and what is skipped.
 */
#include "tests/async.h"

#include "net/hosts.h"

/* Which names a file gives addresses to. */
ZK_ASYNC_TEST(hosts, lines_become_names)
{
    static const struct {
        const char *text, *name;
        size_t count;
    } rows[] = {
        {"", "a", 0},
        {"127.0.0.1 a", "a", 1},
        {"127.0.0.1\ta b\r\n", "b", 1},
        {"  ::1   A. \n", "a", 1},
        {"127.0.0.1 a\n::1 a\n127.0.0.1 a\n", "a", 2},
        {"# 127.0.0.1 a\n", "a", 0},
        {"127.0.0.1 b # a\n", "a", 0},
        {"127.0.0.1#a\n", "a", 0},
        {"127.0.0.1\n1.2.3 a\n\n256.0.0.1 a\nfe80::1%lo a\n", "a", 0},
        {"127.0.0.1 a..b b", "b", 1},
    };
    zk__hosts hosts = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk__ip ips[4];
        cr_assert_ok(zk__hosts_parse(&hosts, rows[i].text, strlen(rows[i].text)));
        cr_assert_eq(zk__hosts_find(&hosts, rows[i].name, ips, 4), rows[i].count, "row %zu", i);
    }
    zk__hosts_done(&hosts);
}

/* The table grows, and an answer is cut at the room for it. */
ZK_ASYNC_TEST(hosts, many_lines_fit)
{
    char text[4096];
    size_t size = 0;
    for (int i = 0; i < 100; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "10.0.0.%d a\n", i);
    zk__hosts hosts = {0};
    zk__ip ips[ZK__HOST_ADDRS_MAX];
    cr_assert_ok(zk__hosts_parse(&hosts, text, size));
    cr_assert_eq(zk__hosts_find(&hosts, "a", ips, ZK__HOST_ADDRS_MAX), ZK__HOST_ADDRS_MAX);
    cr_assert_eq(ips[31].bytes[3], 31);
    zk__hosts_done(&hosts);
}

/* A label has 63 bytes at most, and a name 253. */
ZK_TEST(hosts, names_have_bounds)
{
    char text[300], name[ZK__HOST_NAME_MAX + 1];
    memset(text, 'x', sizeof text);
    cr_assert(zk__host_name(text, 63, name));
    cr_assert_not(zk__host_name(text, 64, name));
    for (int i = 50; i < 300; i += 51)
        text[i] = '.';
    cr_assert(zk__host_name(text, 253, name));
    cr_assert_not(zk__host_name(text, 254, name));
    cr_assert_not(zk__host_name("a b", 3, name));
    cr_assert_not(zk__host_name(".", 1, name));
}
