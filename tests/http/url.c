/*
 * URLs: what each comes to, and all that is refused.
 */
#include "tests/test.h"

#include <string.h>

#include <zokio/url.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

static bool is_text(zk_str s, const char *text)
{
    if (!text) return !s.data;
    return s.data && s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

/* Every part of a URL must be where RFC 3986 has it. */
ZK_TEST(url, is_split_into_its_parts)
{
    static const struct {
        const char *text, *scheme, *user_info, *host, *path, *query;
        unsigned port;
        bool is_secure, is_ipv6;
        const char *authority;
    } cases[] = {
        {"http://example.org", "http", NULL, "example.org", "/", NULL, 80, false, false,
         "example.org"},
        {"HTTPS://Example.ORG/", "https", NULL, "Example.ORG", "/", NULL, 443, true, false,
         "example.org"},
        {"ws://a:81/chat?room=1", "ws", NULL, "a", "/chat", "room=1", 81, false, false, "a:81"},
        {"wss://a_b.c-d./x", "wss", NULL, "a_b.c-d.", "/x", NULL, 443, true, false, "a_b.c-d."},
        {"http://h?q=/?@:", "http", NULL, "h", "/", "q=/?@:", 80, false, false, "h"},
        {"http://h/?", "http", NULL, "h", "/", "", 80, false, false, "h"},
        {"http://h#frag?no", "http", NULL, "h", "/", NULL, 80, false, false, "h"},
        {"http://h/a%2Fb;c=d@e:f//../#", "http", NULL, "h", "/a%2Fb;c=d@e:f//../", NULL, 80, false,
         false, "h"},
        {"http://127.0.0.1:8080/a", "http", NULL, "127.0.0.1", "/a", NULL, 8080, false, false,
         "127.0.0.1:8080"},
        {"https://[::1]:443/", "https", NULL, "::1", "/", NULL, 443, true, true, "[::1]"},
        {"http://[2001:DB8::192.0.2.1]:65535", "http", NULL, "2001:DB8::192.0.2.1", "/", NULL,
         65535, false, true, "[2001:db8::192.0.2.1]:65535"},
        {"http://user:p%40ss@h:1/", "http", "user:p%40ss", "h", "/", NULL, 1, false, false, "h:1"},
        {"http://@h/", "http", "", "h", "/", NULL, 80, false, false, "h"},
        {"http://1.example/", "http", NULL, "1.example", "/", NULL, 80, false, false, "1.example"},
        {"http://example.0xg/", "http", NULL, "example.0xg", "/", NULL, 80, false, false,
         "example.0xg"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_url url;
        char authority[ZK_URL_AUTHORITY_BYTES];
        int rc = zk_url_parse(str(cases[i].text), &url);
        cr_assert_eq(rc, 0, "%s gave %d", cases[i].text, rc);
        cr_expect(is_text(url.scheme, cases[i].scheme), "%s: scheme", cases[i].text);
        cr_expect(is_text(url.user_info, cases[i].user_info), "%s: user info", cases[i].text);
        cr_expect(is_text(url.host, cases[i].host), "%s: host", cases[i].text);
        cr_expect(is_text(url.path, cases[i].path), "%s: path", cases[i].text);
        cr_expect(is_text(url.query, cases[i].query), "%s: query", cases[i].text);
        cr_expect_eq(url.port, cases[i].port, "%s: port %d", cases[i].text, url.port);
        cr_expect_eq(url.is_secure, cases[i].is_secure, "%s: is_secure", cases[i].text);
        cr_expect_eq(url.is_ipv6, cases[i].is_ipv6, "%s: is_ipv6", cases[i].text);
        size_t size = zk_url_authority(&url, authority);
        cr_expect_str_eq(authority, cases[i].authority);
        cr_expect_eq(size, strlen(authority));
    }
}

/* What two readers could understand differently is no URL, and leaves the result alone. */
ZK_TEST(url, refuses_what_is_not_plain)
{
    static const char *const cases[] = {
        "",
        "http",
        "http:",
        "http:/h",
        "http:h",
        "//h/",
        "/path",
        "h:80",
        "ftp://h/",
        "httpx://h/",
        "htt://h/",
        " http://h/",
        "http ://h/",
        "http://",
        "http:///",
        "http://?q",
        "http://:80/",
        "http://user@/",
        "http://a@b@c/",
        "http://us er@h/",
        "http://h:/",
        "http://h:0/",
        "http://h:080/",
        "http://h:65536/",
        "http://h:99999/",
        "http://h:123456/",
        "http://h:+80/",
        "http://h:80a/",
        "http://h:80:80/",
        "http://h h/",
        "http://h\\h/",
        "http://h%2e/",
        "http://h,h/",
        "http://.h/",
        "http://h..h/",
        "http://./",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://127.0.0.0x1/",
        "http://010.0.0.1/",
        "http://1.2.3.4.5/",
        "http://256.0.0.1/",
        "http://1.2.3.4.:80a/",
        "http://a.1/",
        "http://::1/",
        "http://[::1/",
        "http://[::1]80/",
        "http://[::1]x:80/",
        "http://[]/",
        "http://[127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://[::g]/",
        "http://h/a b",
        "http://h/a\tb",
        "http://h/a\r\nb",
        "http://h/\\",
        "http://h/%",
        "http://h/%4",
        "http://h/%4g",
        "http://h/\"",
        "http://h/<a>",
        "http://h/{a}",
        "http://h/a|b",
        "http://h/^",
        "http://h/`",
        "http://h/\x7f",
        "http://h/\xc3\xa4",
        "http://\xc3\xa4/",
        "http://h/?a b",
        "http://h/?%zz",
        "http://h/#a#b",
        "http://h/# ",
        "http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/",
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_url url = {.port = 7};
        int rc = zk_url_parse(str(cases[i]), &url);
        cr_expect_eq(rc, ZK_E_HTTP_URL, "%s gave %d", cases[i], rc);
        cr_expect_eq(url.port, 7, "%s has touched the result", cases[i]);
    }
}

/* A NUL ends nothing: the text has a size. */
ZK_TEST(url, has_no_nul)
{
    static const zk_str cases[] = {
        ZK_STR("http\0://h/"),     ZK_STR("http://h\0/"),      ZK_STR("http://h/\0"),
        ZK_STR("http://[::1\0]/"), ZK_STR("http://h:8\0000/"), ZK_STR("http://u\0@h/"),
        ZK_STR("http://h/?\0"),    ZK_STR("http://h/#\0"),     ZK_STR("http://1.2.3.4\0/"),
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_url url;
        cr_expect_eq(zk_url_parse(cases[i], &url), ZK_E_HTTP_URL, "case %zu", i);
    }
}

/* The longest name fits into the text of its authority, with its port; one byte more is refused. */
ZK_TEST(url, has_names_of_253_bytes)
{
    char text[300] = "http://", authority[ZK_URL_AUTHORITY_BYTES];
    size_t size = 7;
    for (size_t i = 0; i < 253; i++)
        text[size++] = i % 50 == 49 ? '.' : 'A';
    memcpy(text + size, ":65535", 7);
    zk_url url;
    cr_assert_ok(zk_url_parse(str(text), &url));
    cr_expect_eq(zk_url_authority(&url, authority), 253 + 6);
    memcpy(text + size, "A:65535", 8);
    cr_expect_eq(zk_url_parse(str(text), &url), ZK_E_HTTP_URL);
}
