/*
 * Addresses: what is read, what is refused and why, and that text and address are each other's
 * inverse.
 */
#include "tests/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <zokio/addr.h>
#include <zokio/error.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* 107 bytes: the longest name of a Unix socket. */
#define NAME_10 "0123456789"
#define NAME_107                                                                                   \
    "/" NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 "012345"

/* Parses what must parse. */
static zk_addr parsed(const char *text)
{
    zk_addr addr;
    memset(&addr, 0, sizeof(addr));
    int rc = zk_addr_parse(text, &addr);
    cr_assert_eq(rc, 0, "\"%s\" gave %d", text, rc);
    return addr;
}

static const char *formatted(const zk_addr *addr)
{
    static char text[ZK_ADDR_TEXT_BYTES];
    memset(text, '#', sizeof(text));
    size_t size = zk_addr_format(addr, text);
    cr_assert_lt(size, sizeof(text));
    cr_assert_eq(size, strlen(text), "\"%s\" has not the length %zu", text, size);
    return text;
}

ZK_TEST(addr, reads_internet_addresses)
{
    static const struct {
        const char *text;
        int family;
        const char *ip;
        uint16_t port;
    } cases[] = {
        {"127.0.0.1:8080", AF_INET, "127.0.0.1", 8080},
        {"0.0.0.0:8080", AF_INET, "0.0.0.0", 8080},
        {"255.255.255.255:65535", AF_INET, "255.255.255.255", 65535},
        {"1.2.3.4:0", AF_INET, "1.2.3.4", 0},
        {"[::1]:80", AF_INET6, "::1", 80},
        {"[::]:80", AF_INET6, "::", 80},
        {"[2001:DB8::a]:443", AF_INET6, "2001:db8::a", 443},
        {"[::ffff:1.2.3.4]:80", AF_INET6, "::ffff:1.2.3.4", 80},
        {"[1111:2222:3333:4444:5555:6666:255.255.255.255]:65535", AF_INET6,
         "1111:2222:3333:4444:5555:6666:ffff:ffff", 65535},
        {":8080", AF_INET6, "::", 8080},
        {"*:8080", AF_INET6, "::", 8080},
        {":0", AF_INET6, "::", 0},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_addr addr = parsed(cases[i].text);
        char ip[INET6_ADDRSTRLEN];
        bool is_ipv4 = cases[i].family == AF_INET;
        const void *raw = is_ipv4 ? (void *)&addr.in.sin_addr : (void *)&addr.in6.sin6_addr;

        cr_expect_eq(addr.sa.sa_family, cases[i].family, "%s", cases[i].text);
        cr_expect_eq(addr.size, is_ipv4 ? sizeof(addr.in) : sizeof(addr.in6), "%s", cases[i].text);
        cr_expect_str_eq(inet_ntop(cases[i].family, raw, ip, sizeof(ip)), cases[i].ip, "%s",
                         cases[i].text);
        cr_expect_eq(zk_addr_port(&addr), cases[i].port, "%s", cases[i].text);
    }
}

/* The kernel compares abstract names over the whole size: a byte more would be another name. */
ZK_TEST(addr, reads_unix_addresses_with_exact_sizes)
{
    static const struct {
        const char *text;
        zk_str path;
        size_t size;
    } cases[] = {
        {"unix:/run/app.sock", {"/run/app.sock", 14}, 14},
        {"unix:relative", {"relative", 9}, 9},
        {"unix:./@not-abstract", {"./@not-abstract", 16}, 16},
        {"unix:@name", {"\0name", 5}, 5},
        {"unix:@@", {"\0@", 2}, 2},
        {"unix:" NAME_107, {NAME_107, 108}, 108},
        {"unix:@" NAME_107, {"\0" NAME_107, 108}, 108},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_addr addr = parsed(cases[i].text);
        cr_expect_eq(addr.sa.sa_family, AF_UNIX, "%s", cases[i].text);
        cr_expect_eq(addr.size, offsetof(struct sockaddr_un, sun_path) + cases[i].size, "%s",
                     cases[i].text);
        cr_expect_arr_eq(addr.un.sun_path, cases[i].path.data, cases[i].path.size, "%s",
                         cases[i].text);
        cr_expect_eq(zk_addr_port(&addr), 0, "%s", cases[i].text);
    }
}

ZK_TEST(addr, refuses_what_has_another_or_no_reading_and_leaves_the_result_untouched)
{
    static const char *const cases[] = {
        NULL,
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1: 80",
        " 127.0.0.1:80",
        "127.0.0.1:80 ",
        "127.0.0.1 :80",
        "127.0.0.1:+80",
        "127.0.0.1:-80",
        "127.0.0.1:080",
        "127.0.0.1:00",
        "127.0.0.1:0x50",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        ":70000",
        ":4294967376",
        ":18446744073709551696",
        ":99999999999999999999999999999999999999999",
        "127.0.0.01:80",
        "127.1:80",
        "2130706433:80",
        "0x7f000001:80",
        "256.0.0.1:80",
        "1.2.3.4.5:80",
        "1.2.3.4/24:80",
        "localhost:80",
        "**:80",
        "[::1]",
        "[::1",
        "[::1:80",
        "[::1]80",
        "[::1]:",
        "[::1] :80",
        "[]:80",
        "[*]:80",
        "[127.0.0.1]:80",
        "[::1]]:80",
        "[[::1]]:80",
        "[:::1]:80",
        "[12345::]:80",
        "[::ffff:1.2.3.04]:80",
        "[1111:2222:3333:4444:5555:6666:255.255.255.255aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]:80",
        "::1",
        "::1:80",
        "fe80::1%lo:80",
        "[fe80::1%]:80",
        "[fe80::1%0]:80",
        "[fe80::1%01]:80",
        "[fe80::1%4294967296]:80",
        "[fe80::1%no-such-if]:80",
        "[fe80::1%lo%lo]:80",
        "[fe80::1%lo:1]:80",
        "[fe80::1%an-interface-name-of-more-than-15]:80",
        "[::1%lo]:80",
        "[2001:db8::1%1]:80",
        "unix:",
        "unix:@",
        "unix:" NAME_107 "x",
        "unix:@" NAME_107 "x",
        "UNIX:/a",
        "unix",
        "tcp://127.0.0.1:80",
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        const char *text = cases[i] != NULL ? cases[i] : "(NULL)";
        zk_addr addr, before;
        memset(&addr, 0x5a, sizeof(addr));
        memcpy(&before, &addr, sizeof(addr));
        cr_expect_eq(zk_addr_parse(cases[i], &addr), ZK_E_ADDR, "\"%s\"", text);
        cr_expect_eq(memcmp(&addr, &before, sizeof(addr)), 0, "\"%s\"", text);
    }
}

/* Every machine has the interface "lo". */
ZK_TEST(addr, reads_a_zone_as_an_interface_s_name_or_number)
{
    unsigned lo = if_nametoindex("lo");
    cr_assert_neq(lo, 0);

    static const char *const by_name[] = {"[fe80::1%lo]:80", "[ff02::1%lo]:80", "[ff01::1%lo]:80"};
    for (size_t i = 0; i < LENGTH(by_name); i++) {
        zk_addr addr = parsed(by_name[i]);
        cr_expect_eq(addr.in6.sin6_scope_id, lo, "%s", by_name[i]);
        cr_expect_str_eq(formatted(&addr), by_name[i]);
    }

    zk_addr by_number = parsed("[fe80::1%4294967295]:80");
    cr_expect_eq(by_number.in6.sin6_scope_id, UINT32_MAX);
    cr_expect_str_eq(formatted(&by_number), "[fe80::1%4294967295]:80");
}

/* A missing descriptor is not a mistake in the address. */
ZK_TEST(addr, says_so_when_the_kernel_cannot_be_asked_for_an_interface)
{
    zk_addr addr;
    struct rlimit limit, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = zk_addr_parse("[fe80::1%lo]:80", &addr);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_expect_eq(rc, -EMFILE);
}

ZK_TEST(addr, writes_what_it_reads)
{
    static const struct {
        const char *text, *canonical;
    } cases[] = {
        {"127.0.0.1:8080", NULL},
        {"255.255.255.255:65535", NULL},
        {"[::1]:80", NULL},
        {"[::ffff:1.2.3.4]:80", NULL},
        {"[2001:DB8:0:0::a]:80", "[2001:db8::a]:80"},
        {":80", "[::]:80"},
        {"*:80", "[::]:80"},
        {"unix:/run/app.sock", NULL},
        {"unix:@name", NULL},
        {"unix:@@", NULL},
        {"unix:./@name", NULL},
        {"unix:" NAME_107, NULL},
        {"unix:@" NAME_107, NULL},
        {"[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535", NULL},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        const char *canonical = cases[i].canonical != NULL ? cases[i].canonical : cases[i].text;
        zk_addr addr = parsed(cases[i].text);
        cr_expect_str_eq(formatted(&addr), canonical);
        zk_addr again = parsed(canonical);
        cr_expect_eq(memcmp(&addr, &again, sizeof(addr)), 0, "%s", canonical);
    }
}

/* Addresses as accept() and getsockname() give them. */
ZK_TEST(addr, writes_what_only_a_kernel_hands_out)
{
    socklen_t header = offsetof(struct sockaddr_un, sun_path);

    zk_addr none = {0};
    cr_expect_str_eq(formatted(&none), "?");

    zk_addr cut_short = parsed("1.2.3.4:80");
    cut_short.size = 4;
    cr_expect_str_eq(formatted(&cut_short), "?");
    cr_expect_eq(zk_addr_port(&cut_short), 0);

    zk_addr unnamed = {.size = header, .un = {.sun_family = AF_UNIX}};
    cr_expect_str_eq(formatted(&unnamed), "unix:");

    zk_addr abstract = {.size = header + 4, .un = {.sun_family = AF_UNIX, .sun_path = "\0a\0b"}};
    cr_expect_str_eq(formatted(&abstract), "unix:@a@b");

    zk_addr at_sign = {.size = header + 6, .un = {.sun_family = AF_UNIX, .sun_path = "@path"}};
    cr_expect_str_eq(formatted(&at_sign), "unix:./@path");

    /* A path without a NUL in sun_path; the kernel counts one behind the structure. */
    zk_addr full = {.size = sizeof(full.un) + 1, .un = {.sun_family = AF_UNIX}};
    memset(full.un.sun_path, '@', sizeof(full.un.sun_path));
    const char *text = formatted(&full);
    cr_expect_eq(strlen(text), strlen("unix:./") + sizeof(full.un.sun_path));

    zk_addr ignored_zone = parsed("[2001:db8::1]:80");
    ignored_zone.in6.sin6_scope_id = 1;
    cr_expect_str_eq(formatted(&ignored_zone), "[2001:db8::1]:80");
}

ZK_TEST(addr, compares_endpoints)
{
    static const struct {
        const char *a, *b;
        bool are_equal;
    } cases[] = {
        {"1.2.3.4:80", "1.2.3.4:80", true},
        {"1.2.3.4:80", "1.2.3.4:81", false},
        {"1.2.3.4:80", "1.2.3.5:80", false},
        {"[::1]:80", "[0:0::1]:80", true},
        {"[::1]:80", "[::2]:80", false},
        {"[::1]:80", "[::1]:81", false},
        {":80", "*:80", true},
        {":80", "0.0.0.0:80", false},
        {"1.2.3.4:80", "[::ffff:1.2.3.4]:80", true},
        {"1.2.3.4:80", "[::1.2.3.4]:80", false},
        {"1.2.3.4:80", "[::ffff:1.2.3.4]:81", false},
        {"[fe80::1%1]:80", "[fe80::1%1]:80", true},
        {"[fe80::1%1]:80", "[fe80::1%2]:80", false},
        {"[fe80::1%1]:80", "[fe80::1]:80", false},
        {"unix:/a", "unix:/a", true},
        {"unix:/a", "unix:/b", false},
        {"unix:/a", "unix:/aa", false},
        {"unix:a", "unix:@a", false},
        {"unix:@a", "unix:@a", true},
        {"unix:@a", "unix:@aa", false},
        {"unix:/a", "1.2.3.4:80", false},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_addr a = parsed(cases[i].a), b = parsed(cases[i].b);
        cr_expect_eq(zk_addr_equal(&a, &b), cases[i].are_equal, "%s, %s", cases[i].a, cases[i].b);
        cr_expect_eq(zk_addr_equal(&b, &a), cases[i].are_equal, "%s, %s", cases[i].b, cases[i].a);
    }
}

/* accept() gives a path with or without its NUL in the size, and may report a flow label. */
ZK_TEST(addr, compares_names_and_not_bytes)
{
    zk_addr a = parsed("unix:/a"), b = a;
    b.size--;
    memset(b.un.sun_path + 2, 'x', sizeof(b.un.sun_path) - 2);
    cr_expect(zk_addr_equal(&a, &b));

    zk_addr c = parsed("[::1]:80"), d = c;
    d.in6.sin6_flowinfo = htonl(7);
    d.in6.sin6_scope_id = 7;
    cr_expect(zk_addr_equal(&c, &d));

    zk_addr none = {0};
    cr_expect(zk_addr_equal(&none, &none));
    cr_expect_not(zk_addr_equal(&none, &a));
}

/* The size and bytes are what bind() wants: the kernel reports the same endpoint back. */
ZK_TEST(addr, makes_addresses_that_the_kernel_takes)
{
    static const char *const cases[] = {"127.0.0.1:0", "unix:@zokio-test-addr"};

    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_addr addr = parsed(cases[i]), bound = {.size = sizeof(bound) - offsetof(zk_addr, sa)};
        int fd = socket(addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, &addr.sa, addr.size), 0, "%s: errno %d", cases[i], errno);
        cr_assert_eq(getsockname(fd, &bound.sa, &bound.size), 0);
        if (addr.sa.sa_family == AF_INET) addr.in.sin_port = bound.in.sin_port;
        cr_expect(zk_addr_equal(&addr, &bound), "%s", cases[i]);
        cr_expect_eq(addr.size, bound.size, "%s", cases[i]);
        close(fd);
    }
}
