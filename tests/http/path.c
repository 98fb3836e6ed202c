/*
 * Request targets: each form, what decoding and dot segments come to, and all that is refused.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include <zokio/error.h>

#include "http/path.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

static bool is_text(zk_str s, const char *text)
{
    return s.data != NULL && s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

/* An arena over memory of the test: outside zk_run an arena cannot take any of its own. */
#define ARENA_OVER(buffer)                                                                         \
    {                                                                                              \
        .next = (buffer), .end = (buffer) + sizeof(buffer)                                         \
    }

/* One row of a table: a target and what it comes to. authority, query: NULL is "". */
struct target_case {
    const char *method, *target, *path, *query, *authority;
};

static void expect_targets(const struct target_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct target_case *row = &cases[i];
        const char *query = row->query != NULL ? row->query : "";
        const char *authority = row->authority != NULL ? row->authority : "";
        _Alignas(16) char buffer[256];
        zk_arena arena = ARENA_OVER(buffer);
        zk__target got;
        int rc = zk__target_parse(str(row->method), str(row->target), &arena, &got);

        cr_assert_eq(rc, 0, "%s %s gave %d", row->method, row->target, rc);
        cr_expect(is_text(got.path, row->path), "%s %s has the path %.*s", row->method, row->target,
                  (int)got.path.size, got.path.data);
        cr_expect(is_text(got.query, query), "%s %s has the query %.*s", row->method, row->target,
                  (int)got.query.size, got.query.data);
        cr_expect(is_text(got.authority, authority), "%s %s has the authority %.*s", row->method,
                  row->target, (int)got.authority.size, got.authority.data);
    }
}

ZK_TEST(path, splits_the_origin_form)
{
    static const struct target_case cases[] = {
        {"GET", "/", "/", NULL, NULL},
        {"GET", "/plaintext", "/plaintext", NULL, NULL},
        {"GET", "/a/b/", "/a/b/", NULL, NULL},
        {"GET", "/a?", "/a", NULL, NULL},
        {"GET", "/a?b=c&d", "/a", "b=c&d", NULL},
        {"GET", "/?a", "/", "a", NULL},
        {"GET", "/a?b?c/../%zz\\%", "/a", "b?c/../%zz\\%", NULL},
        {"GET", "//a//b//", "//a//b//", NULL, NULL},
        {"GET", "/http://h/p", "/http://h/p", NULL, NULL},
        {"GET", "/*", "/*", NULL, NULL},
        {"OPTIONS", "/a", "/a", NULL, NULL},
        {"GET", "/a+b;c=d,e:@!$&'()*~_-", "/a+b;c=d,e:@!$&'()*~_-", NULL, NULL},
        {"GET", "/|[]{}^`\"<>", "/|[]{}^`\"<>", NULL, NULL},
    };
    expect_targets(cases, LENGTH(cases));
}

ZK_TEST(path, decodes_each_segment_once)
{
    static const struct target_case cases[] = {
        {"GET", "/a%20b", "/a b", NULL, NULL},
        {"GET", "/%61%6A%6a", "/ajj", NULL, NULL},
        {"GET", "/%C3%A9%ff", "/\xc3\xa9\xff", NULL, NULL},
        {"GET", "/a%3Fb?c%3Fd", "/a?b", "c%3Fd", NULL},
        {"GET", "/a%23", "/a#", NULL, NULL},
        {"GET", "/%252e%252e/a", "/%2e%2e/a", NULL, NULL},
        {"GET", "/%2561", "/%61", NULL, NULL},
        {"GET", "/a%2Bb+c", "/a+b+c", NULL, NULL},
    };
    expect_targets(cases, LENGTH(cases));
}

ZK_TEST(path, resolves_dot_segments_after_decoding)
{
    static const struct target_case cases[] = {
        {"GET", "/.", "/", NULL, NULL},
        {"GET", "/./", "/", NULL, NULL},
        {"GET", "/a/.", "/a/", NULL, NULL},
        {"GET", "/a/./b", "/a/b", NULL, NULL},
        {"GET", "/a/..", "/", NULL, NULL},
        {"GET", "/a/../", "/", NULL, NULL},
        {"GET", "/a/../b", "/b", NULL, NULL},
        {"GET", "/a/b/..", "/a/", NULL, NULL},
        {"GET", "/a/b/../../c", "/c", NULL, NULL},
        {"GET", "/a/%2e%2e/b", "/b", NULL, NULL},
        {"GET", "/a/.%2E/b", "/b", NULL, NULL},
        {"GET", "/a/%2e/b", "/a/b", NULL, NULL},
        {"GET", "/a/b%20/..%2e/..", "/a/b /", NULL, NULL},
        {"GET", "/a//../b", "/a/b", NULL, NULL},
        {"GET", "//..", "/", NULL, NULL},
        {"GET", "/a/..?b", "/", "b", NULL},
        {"GET", "/a?/../..", "/a", "/../..", NULL},
        {"GET", "/...", "/...", NULL, NULL},
        {"GET", "/.a/..b/c./d..", "/.a/..b/c./d..", NULL, NULL},
        {"GET", "/..;/a", "/..;/a", NULL, NULL},
    };
    expect_targets(cases, LENGTH(cases));
}

ZK_TEST(path, takes_the_other_forms_where_they_belong)
{
    static const struct target_case cases[] = {
        {"GET", "http://h", "/", NULL, "h"},
        {"GET", "http://h?q", "/", "q", "h"},
        {"GET", "http://h/", "/", NULL, "h"},
        {"GET", "http://h/p?q", "/p", "q", "h"},
        {"GET", "http://h//p", "//p", NULL, "h"},
        {"GET", "HTTPS://Example.org:8443/a/../b", "/b", NULL, "Example.org:8443"},
        {"GET", "http://[::1]:80/p", "/p", NULL, "[::1]:80"},
        {"GET", "http://[::ffff:1.2.3.4]/", "/", NULL, "[::ffff:1.2.3.4]"},
        {"GET", "http://h:/p", "/p", NULL, "h:"},
        {"GET", "http://a_b-c.d~e/", "/", NULL, "a_b-c.d~e"},
        {"OPTIONS", "*", "*", NULL, NULL},
        {"OPTIONS", "http://h", "*", NULL, "h"},
        {"OPTIONS", "http://h/", "/", NULL, "h"},
        {"OPTIONS", "http://h?q", "/", "q", "h"},
        {"CONNECT", "host:443", "", NULL, "host:443"},
        {"CONNECT", "[::1]:65535", "", NULL, "[::1]:65535"},
    };
    expect_targets(cases, LENGTH(cases));
}

ZK_TEST(path, refuses_what_can_be_read_in_two_ways_and_leaves_the_result_untouched)
{
    static const struct {
        const char *method;
        zk_str target;
    } cases[] = {
#define GET(text)                                                                                  \
    {                                                                                              \
        "GET", { text, sizeof(text) - 1 }                                                          \
    }
        /* Above the root. */
        GET("/.."),
        GET("/../a"),
        GET("/%2E%2e/"),
        GET("/a/../.."),
        GET("/./.."),
        GET("/a/../../b"),
        GET("http://h/.."),
        /* Percent sequences. */
        GET("/%"),
        GET("/%a"),
        GET("/%zz"),
        GET("/%2"),
        GET("/%2/"),
        GET("/%2/41"),
        GET("/%%41"),
        GET("/% 1"),
        GET("/%+1"),
        GET("/%-1"),
        GET("/%0x"),
        GET("/%4g"),
        GET("/%?41"),
        GET("/%\xe1"),
        /* Decoded bytes. */
        GET("/a%00b"),
        GET("/%01"),
        GET("/%1f"),
        GET("/%0a"),
        GET("/%0D"),
        GET("/%7f"),
        GET("/a%2Fb"),
        GET("/a%2fb"),
        GET("/..%2fa"),
        GET("/a%5Cb"),
        GET("/%5c"),
        /* Raw bytes. */
        GET("/a\\b"),
        GET("\\"),
        GET("/a b"),
        GET("/a\tb"),
        GET("/a\0b"),
        GET("/a\x7f"),
        GET("/\x80"),
        GET("/\xff"),
        GET("/\xc3\xa9"),
        GET("/a#b"),
        GET("/a?b#c"),
        GET("/a?b c"),
        GET("/a?\0"),
        GET("/a?\r\n"),
        GET("/a?\x7f"),
        GET("/a?\x80"),
        GET("http://h?\xff"),
        /* Forms. */
        GET(""),
        GET("a"),
        GET("*"),
        GET("?"),
        GET("./a"),
        GET("../a"),
        GET(" /a"),
        GET("h:80"),
        GET("ftp://h/"),
        GET("http:/h"),
        GET("http:h"),
        GET("http//h"),
        GET("httpss://h/"),
        GET("http"),
        GET("http:"),
        GET("http:/"),
        GET("http://"),
        GET("http:///p"),
        GET("http://?q"),
        {"get", {"*", 1}},
        {"options", {"*", 1}},
        {"OPTIONS", {"**", 2}},
        {"OPTIONS", {"*?", 2}},
        /* Authorities. */
        GET("http://user@h/"),
        GET("http://u:p@h/"),
        GET("http://h%41/"),
        GET("http://h:80a/"),
        GET("http://h:65536/"),
        GET("http://h:99999999999999999999/"),
        GET("http://:80/"),
        GET("http://[]/"),
        GET("http://[::1/"),
        GET("http://[::1]a/"),
        GET("http://[fe80::1%25lo]/"),
        GET("http://h\\p/"),
        GET("http://h#f"),
        GET("http://h /"),
        GET("http://h\0/"),
        GET("http://h\x80/"),
        GET("http://[g]/"),
        GET("http://a[::1]/"),
        GET("http://h:80:80/"),
        {"CONNECT", {"", 0}},
        {"CONNECT", {"host", 4}},
        {"CONNECT", {"host:", 5}},
        {"CONNECT", {"host:0", 6}},
        {"CONNECT", {"host:65536", 10}},
        {"CONNECT", {":443", 4}},
        {"CONNECT", {"/", 1}},
        {"CONNECT", {"*", 1}},
        {"CONNECT", {"http://host:443", 15}},
        {"CONNECT", {"host:443/", 9}},
        {"CONNECT", {"u@host:443", 10}},
#undef GET
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        _Alignas(16) char buffer[256];
        zk_arena arena = ARENA_OVER(buffer);
        zk__target got, before;
        memset(&got, 0x5a, sizeof(got));
        memcpy(&before, &got, sizeof(got));
        cr_expect_eq(zk__target_parse(str(cases[i].method), cases[i].target, &arena, &got),
                     ZK_E_HTTP_PATH, "%s %s", cases[i].method, cases[i].target.data);
        cr_expect_eq(memcmp(&got, &before, sizeof(got)), 0, "%s %s", cases[i].method,
                     cases[i].target.data);
    }
}

/* A request that needs no work must cost no memory: this arena has none. */
ZK_TEST(path, points_into_the_target_when_there_is_nothing_to_do)
{
    static const char *const cases[] = {
        "/", "/plaintext", "/a/b.c?d=%20", "/.well-known/x", "//a/..b/...", "/a?./../.", "/a/b..",
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        zk_arena arena = {0};
        zk__target got;
        cr_assert_ok(zk__target_parse(str("GET"), str(cases[i]), &arena, &got));
        cr_expect_eq(got.path.data, cases[i], "%s", cases[i]);
    }
}

/* An empty arena outside zk_run has no memory. */
ZK_TEST(path, says_so_when_there_is_no_memory)
{
    zk_arena arena = {0};
    zk__target got, before;
    zk_str value = {"untouched", 9};
    memset(&got, 0x5a, sizeof(got));
    memcpy(&before, &got, sizeof(got));

    cr_expect_eq(zk__target_parse(str("GET"), str("/%61"), &arena, &got), -ENOMEM);
    cr_expect_eq(zk__target_parse(str("GET"), str("http://h/a/.."), &arena, &got), -ENOMEM);
    cr_expect_eq(memcmp(&got, &before, sizeof(got)), 0);
    cr_expect_eq(zk__query_find(str("a=%61"), str("a"), &arena, &value), -ENOMEM);
    cr_expect(is_text(value, "untouched"));
}

ZK_TEST(path, decodes_percent_sequences)
{
    static const struct {
        zk_str in;
        bool plus_is_space;
        ptrdiff_t size;
        const char *out;
    } cases[] = {
        {{"", 0}, false, 0, ""},
        {{NULL, 0}, false, 0, ""},
        {{"abc", 3}, false, 3, "abc"},
        {{"a+b", 3}, false, 3, "a+b"},
        {{"a+b%2B", 6}, true, 4, "a b+"},
        {{"%00%fF", 6}, false, 2, "\0\xff"},
        {{"%2541", 5}, false, 3, "%41"},
        {{"%", 1}, false, ZK_E_HTTP_PATH, ""},
        {{"a%4", 3}, false, ZK_E_HTTP_PATH, ""},
        {{"%4g1", 4}, false, ZK_E_HTTP_PATH, ""},
        /* The hexadecimal digit lies behind the end. */
        {{"%41", 2}, false, ZK_E_HTTP_PATH, ""},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        char out[16] = "";
        ptrdiff_t size = zk__percent_decode(cases[i].in, out, cases[i].plus_is_space);
        cr_assert_eq(size, cases[i].size, "row %zu", i);
        if (size > 0) cr_expect_arr_eq(out, cases[i].out, (size_t)size, "row %zu", i);
    }
}

ZK_TEST(path, decodes_in_place)
{
    char text[] = "%61b%63+";
    cr_assert_eq(zk__percent_decode((zk_str){text, 8}, text, true), 4);
    cr_expect_arr_eq(text, "abc ", 4);
}

ZK_TEST(path, finds_the_first_of_a_name_in_a_query)
{
    static const struct {
        const char *query, *name;
        int rc;
        const char *value;
    } cases[] = {
        {"a=1&b=2", "a", 1, "1"},
        {"a=1&b=2", "b", 1, "2"},
        {"a=1&b=2", "c", 0, ""},
        {"a=1&a=2", "a", 1, "1"},
        {"", "a", 0, ""},
        {"", "", 0, ""},
        {"a", "a", 1, ""},
        {"a=", "a", 1, ""},
        {"a&b", "b", 1, ""},
        {"ab=1&a=2", "a", 1, "2"},
        {"a=1&ab=2", "ab", 1, "2"},
        {"a=b=c", "a", 1, "b=c"},
        {"&&a=1&", "a", 1, "1"},
        {"&&a=1&", "", 0, ""},
        {"=v", "", 1, "v"},
        {"a=two+words%21", "a", 1, "two words!"},
        {"a%20b+c=1", "a b c", 1, "1"},
        {"%61=%2b+", "a", 1, "+ "},
        {"A=1&a=2", "a", 1, "2"},
        {"b=%zz&a=1", "a", 1, "1"},
        {"a=1&%zz=2", "a", 1, "1"},
        {"%zz=1&a=2", "a", ZK_E_HTTP_PATH, ""},
        {"xyz%=1&a=2", "a", ZK_E_HTTP_PATH, ""},
        {"a=%zz", "a", ZK_E_HTTP_PATH, ""},
        {"a=%4&b=1", "a", ZK_E_HTTP_PATH, ""},
        {"%4&1=1", "a", ZK_E_HTTP_PATH, ""},
    };

    for (size_t i = 0; i < LENGTH(cases); i++) {
        _Alignas(16) char buffer[256];
        zk_arena arena = ARENA_OVER(buffer);
        zk_str value = {"untouched", 9};
        int rc = zk__query_find(str(cases[i].query), str(cases[i].name), &arena, &value);
        const char *expected = rc == 1 ? cases[i].value : "untouched";

        cr_expect_eq(rc, cases[i].rc, "%s of %s gave %d", cases[i].name, cases[i].query, rc);
        cr_expect(is_text(value, expected), "%s of %s is %.*s", cases[i].name, cases[i].query,
                  (int)value.size, value.data);
    }
}

ZK_TEST(path, finds_without_copying_what_is_not_encoded)
{
    static const char query[] = "a=1&b=plain";
    zk_arena arena = {0};
    zk_str value;
    cr_assert_eq(zk__query_find(str(query), str("b"), &arena, &value), 1);
    cr_expect_eq(value.data, query + 6);
    cr_expect_eq(zk__query_find((zk_str){NULL, 0}, str("b"), &arena, &value), 0);
}
