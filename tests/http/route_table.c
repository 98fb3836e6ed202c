/*
 * The route table: which pattern wins, what it captures, 405 and Allow, and what is refused as a
 * pattern.
 */
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

#include <zokio/error.h>

#include "http/route_table.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

struct pair {
    const char *method, *pattern;
};

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

/* A table whose routes have their row as index; added in order, or from the last on. */
static zk__route_table *table_of(const struct pair *routes, size_t count, bool is_reversed)
{
    zk__route_table *table = zk__route_table_new();
    cr_assert_not_null(table);
    for (size_t i = 0; i < count; i++) {
        size_t row = is_reversed ? count - 1 - i : i;
        const char *reason = "no reason";
        int rc =
            zk__route_table_add(table, routes[row].method, routes[row].pattern, (int)row, &reason);
        cr_assert_eq(rc, 0, "%s: %s", routes[row].pattern, reason);
    }
    return table;
}

/* Writes a match as "index name=value name=value", "405" or "404". */
static const char *match_text(const zk__route_table *table, const char *method, const char *path)
{
    static char text[512];
    zk__route_match match;
    memset(&match, 0x5a, sizeof(match));
    int index = zk__route_table_match(table, str(method), str(path), &match);

    cr_assert_eq(index, match.index);
    if (index < 0) {
        cr_assert_eq(match.param_count, 0);
        return match.path_exists ? "405" : "404";
    }
    cr_assert_not(match.path_exists);
    int used = snprintf(text, sizeof(text), "%d", index);
    for (size_t i = 0; i < match.param_count; i++)
        used += snprintf(text + used, sizeof(text) - (size_t)used, " %.*s=%.*s",
                         (int)match.params[i].name.size, match.params[i].name.data,
                         (int)match.params[i].value.size, match.params[i].value.data);
    return text;
}

struct match_case {
    const char *method, *path, *expected;
};

/* The order of the table must not matter, so each case runs on the table in both orders. */
static void expect_matches(const struct pair *routes, size_t route_count,
                           const struct match_case *cases, size_t case_count)
{
    for (int is_reversed = 0; is_reversed < 2; is_reversed++) {
        zk__route_table *table = table_of(routes, route_count, is_reversed);
        for (size_t i = 0; i < case_count; i++)
            cr_expect_str_eq(match_text(table, cases[i].method, cases[i].path), cases[i].expected,
                             "%s %s, reversed: %d", cases[i].method, cases[i].path, is_reversed);
        zk__route_table_free(table);
    }
}

ZK_TEST(route_table, matches_literals_byte_for_byte)
{
    static const struct pair routes[] = {
        {"GET", "/"},    {"GET", "/a"},           {"GET", "/a/"},
        {"GET", "/a/b"}, {"GET", "/abcdefgh"},    {"GET", "/abcdefgh/abcdefghi"},
        {"GET", "/a b"}, {"GET", "/caf\xc3\xa9"}, {"GET", "//"},
    };
    static const struct match_case cases[] = {
        {"GET", "/", "0"},
        {"GET", "/a", "1"},
        {"GET", "/a/", "2"},
        {"GET", "/a/b", "3"},
        {"GET", "/abcdefgh", "4"},
        {"GET", "/abcdefgh/abcdefghi", "5"},
        {"GET", "/a b", "6"},
        {"GET", "/caf\xc3\xa9", "7"},
        {"GET", "//", "8"},
        {"GET", "/A", "404"},
        {"GET", "/ab", "404"},
        {"GET", "/a/b/", "404"},
        {"GET", "/a/b/c", "404"},
        {"GET", "///", "404"},
        {"GET", "/abcdefgi", "404"},
        {"GET", "/abcdefghi", "404"},
        {"GET", "/abcdefgh/abcdefghj", "404"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

ZK_TEST(route_table, captures_segments_and_the_rest)
{
    static const struct pair routes[] = {
        {"GET", "/users/{id}"},
        {"GET", "/users/{user}/posts/{post-id}"},
        {"GET", "/files/{path...}"},
        {"POST", "/users/{name}"},
    };
    static const struct match_case cases[] = {
        {"GET", "/users/7", "0 id=7"},
        {"POST", "/users/7", "3 name=7"},
        {"GET", "/users/a b", "0 id=a b"},
        {"GET", "/users/", "404"},
        {"GET", "/users", "404"},
        {"GET", "/users/7/", "404"},
        {"GET", "/users/7/posts/8", "1 user=7 post-id=8"},
        {"GET", "/users//posts/8", "404"},
        {"GET", "/users/7/posts/", "404"},
        {"GET", "/files/", "2 path="},
        {"GET", "/files/a", "2 path=a"},
        {"GET", "/files/a/b//c/", "2 path=a/b//c/"},
        {"GET", "/files//", "2 path=/"},
        {"GET", "/files", "404"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

ZK_TEST(route_table, prefers_literals_to_parameters_to_the_rest_and_comes_back)
{
    static const struct pair routes[] = {
        {"GET", "/{all...}"}, {"GET", "/{a}"},         {"GET", "/x"},
        {"GET", "/x/{b}"},    {"GET", "/x/y"},         {"GET", "/{a}/y/z"},
        {"GET", "/x/{b...}"}, {"GET", "/x/y/{c}/end"}, {"GET", "/{a}/{b}/{c}/{d}"},
    };
    static const struct match_case cases[] = {
        {"GET", "/", "0 all="},
        {"GET", "/q", "1 a=q"},
        {"GET", "/x", "2"},
        {"GET", "/x/y", "4"},
        {"GET", "/x/q", "3 b=q"},
        {"GET", "/x/", "6 b="},
        /* "/{a}/y/z" has two literals, but the first segment decides. */
        {"GET", "/x/y/z", "6 b=y/z"},
        {"GET", "/q/y/z", "5 a=q"},
        {"GET", "/x/y/z/end", "7 c=z"},
        {"GET", "/x/y/z/q", "6 b=y/z/q"},
        {"GET", "/q/y/z/e", "8 a=q b=y c=z d=e"},
        {"GET", "/q/y/q", "0 all=q/y/q"},
        {"GET", "/q//z/e", "0 all=q//z/e"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

ZK_TEST(route_table, tells_methods_apart)
{
    static const struct pair routes[] = {
        {"GET", "/a"},  {"POST", "/a"},       {NULL, "/any"},       {"PUT", "/any"},
        {"*", "/star"}, {"HEAD", "/h"},       {"GET", "/h"},        {"OPTIONS", "/h"},
        {"POST", "/p"}, {"MKCALENDAR", "/a"}, {"MKCALENDAS", "/a"},
    };
    static const struct match_case cases[] = {
        {"GET", "/a", "0"},         {"POST", "/a", "1"},      {"HEAD", "/a", "0"},
        {"PUT", "/a", "405"},       {"OPTIONS", "/a", "405"}, {"get", "/a", "405"},
        {"GE", "/a", "405"},        {"GETS", "/a", "405"},    {"MKCALENDAR", "/a", "9"},
        {"MKCALENDAS", "/a", "10"}, {"GET", "/any", "2"},     {"PUT", "/any", "3"},
        {"HEAD", "/any", "2"},      {"OPTIONS", "/any", "2"}, {"BREW", "/star", "4"},
        {"HEAD", "/h", "5"},        {"GET", "/h", "6"},       {"OPTIONS", "/h", "7"},
        {"HEAD", "/p", "405"},      {"GET", "/none", "404"},  {"*", "/a", "405"},
        {"", "/any", "404"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

/* A pattern that lacks the method does not hide a more general one that has it. */
ZK_TEST(route_table, looks_on_for_the_method_in_more_general_patterns)
{
    static const struct pair routes[] = {
        {"GET", "/users/me"}, {"POST", "/users/{id}"}, {NULL, "/{rest...}"},
        {"GET", "/v/{a}/w"},  {"PUT", "/v/{a...}"},
    };
    static const struct match_case cases[] = {
        {"GET", "/users/me", "0"},
        {"HEAD", "/users/me", "0"},
        {"POST", "/users/me", "1 id=me"},
        {"PUT", "/users/me", "2 rest=users/me"},
        {"GET", "/users/you", "2 rest=users/you"},
        {"PUT", "/v/1/w", "4 a=1/w"},
        {"HEAD", "/v/1/w", "3 a=1"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

/* HEAD belongs to GET's route of the same pattern before it belongs to a route for every method. */
ZK_TEST(route_table, gives_head_to_get_before_the_route_for_every_method)
{
    static const struct pair routes[] = {
        {"GET", "/a"},
        {NULL, "/a"},
        {"HEAD", "/{x}"},
        {NULL, "/b"},
    };
    static const struct match_case cases[] = {
        {"HEAD", "/a", "0"},
        {"PUT", "/a", "1"},
        {"HEAD", "/c", "2 x=c"},
        {"HEAD", "/b", "3"},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));
}

ZK_TEST(route_table, matches_nothing_that_is_not_a_path)
{
    static const struct pair routes[] = {{NULL, "/{all...}"}};
    static const struct match_case cases[] = {
        {"OPTIONS", "*", "404"},
        {"CONNECT", "", "404"},
        {"GET", "a", "404"},
        {"GET", "/", "0 all="},
    };
    expect_matches(routes, LENGTH(routes), cases, LENGTH(cases));

    zk__route_table *empty = table_of(NULL, 0, false);
    cr_expect_str_eq(match_text(empty, "GET", "/"), "404");
    zk__route_table_free(empty);
    zk__route_table_free(NULL);
}

ZK_TEST(route_table, lists_the_methods_of_a_path_sorted_and_once)
{
    static const struct pair routes[] = {
        {"POST", "/a"},       {"GET", "/a"},     {"DELETE", "/{x}"},   {"POST", "/{x}"},
        {"PUT", "/b/{r...}"}, {NULL, "/any"},    {"HEAD", "/h/h"},     {"OPTIONS", "/o/o"},
        {"PATCHES", "/p/p"},  {"PATCH", "/p/p"}, {"BREW", "/any/{y}"}, {NULL, "/any/{y}"},
    };
    static const struct {
        const char *path, *allow;
    } cases[] = {
        {"/a", "DELETE, GET, HEAD, OPTIONS, POST"},
        {"/q", "DELETE, OPTIONS, POST"},
        {"/b/", "OPTIONS, PUT"},
        {"/b/1/2", "OPTIONS, PUT"},
        {"/any", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
        {"/any/1", "BREW, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
        {"/h/h", "HEAD, OPTIONS"},
        {"/o/o", "OPTIONS"},
        {"/p/p", "OPTIONS, PATCH, PATCHES"},
        {"/none/none", ""},
        {"", ""},
        {"*", "BREW, DELETE, GET, HEAD, OPTIONS, PATCH, PATCHES, POST, PUT"},
    };

    zk__route_table *table = table_of(routes, LENGTH(routes), false);
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char out[128];
        size_t size = zk__route_table_allow(table, str(cases[i].path), out, sizeof(out));
        cr_expect_eq(size, strlen(cases[i].allow), "%s", cases[i].path);
        cr_expect_str_eq(out, cases[i].allow, "%s", cases[i].path);
    }
    zk__route_table_free(table);
}

ZK_TEST(route_table, cuts_the_list_of_methods_at_a_whole_method)
{
    static const struct pair routes[] = {{"GET", "/a"}, {"POST", "/a"}};
    static const struct {
        size_t size;
        const char *allow;
    } cases[] = {
        {1, ""},
        {3, ""},
        {4, "GET"},
        {9, "GET"},
        {10, "GET, HEAD"},
        {18, "GET, HEAD"},
        {19, "GET, HEAD, OPTIONS"},
        {24, "GET, HEAD, OPTIONS"},
        {25, "GET, HEAD, OPTIONS, POST"},
    };

    zk__route_table *table = table_of(routes, LENGTH(routes), false);
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char out[64];
        memset(out, '#', sizeof(out));
        size_t size = zk__route_table_allow(table, str("/a"), out, cases[i].size);
        cr_expect_eq(size, strlen(cases[i].allow), "size %zu", cases[i].size);
        cr_expect_str_eq(out, cases[i].allow, "size %zu", cases[i].size);
        cr_expect_eq(out[cases[i].size], '#', "size %zu", cases[i].size);
    }
    char untouched = '#';
    cr_expect_eq(zk__route_table_allow(table, str("/a"), &untouched, 0), 0);
    cr_expect_eq(untouched, '#');
    zk__route_table_free(table);
}

ZK_TEST(route_table, refuses_mistakes_with_a_reason)
{
    static const struct pair cases[] = {
        {"GET", ""},
        {"GET", "a"},
        {"GET", "{a}"},
        {"GET", "*"},
        {"GET", "/{}"},
        {"GET", "/{...}"},
        {"GET", "/{a"},
        {"GET", "/a}"},
        {"GET", "/{"},
        {"GET", "/}"},
        {"GET", "/x{a}"},
        {"GET", "/{a}x"},
        {"GET", "/{a}{b}"},
        {"GET", "/{{a}}"},
        {"GET", "/{a/b}"},
        {"GET", "/{a.}"},
        {"GET", "/{a..}"},
        {"GET", "/{a....}"},
        {"GET", "/{a:int}"},
        {"GET", "/{a*}"},
        {"GET", "/{a b}"},
        {"GET", "/{a...}/"},
        {"GET", "/{a...}/b"},
        {"GET", "/{a}/{a}"},
        {"GET", "/{a}/x/{a...}"},
        {"GET", "/a?b"},
        {"GET", "/a#b"},
        {"GET", "/a%20b"},
        {"GET", "/a\\b"},
        {"GET", "/a\nb"},
        {"GET", "/a\x7f"},
        {"GET", "/."},
        {"GET", "/a/../b"},
        {"", "/a"},
        {"GE T", "/a"},
        {"GET,POST", "/a"},
        {"G\xc3\x84T", "/a"},
        {"GET", "/taken"},
        {"GET", "/taken/{other}/{names...}"},
        {NULL, "/taken"},
        {"*", "/taken"},
    };
    static const struct pair routes[] = {
        {"GET", "/taken"},
        {"GET", "/taken/{a}/{b...}"},
        {"*", "/taken"},
    };

    zk__route_table *table = table_of(routes, LENGTH(routes), false);
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const char *reason = NULL;
        int rc = zk__route_table_add(table, cases[i].method, cases[i].pattern, 100, &reason);
        cr_expect_eq(rc, ZK_E_HTTP_ROUTE, "row %zu: %s", i, cases[i].pattern);
        cr_expect_not_null(reason, "row %zu: %s", i, cases[i].pattern);
    }
    cr_expect_str_eq(match_text(table, "GET", "/taken"), "0");
    cr_expect_str_eq(match_text(table, "PUT", "/taken"), "2");
    cr_expect_str_eq(match_text(table, "GET", "/taken/x/y/z"), "1 a=x b=y/z");
    zk__route_table_free(table);
}

ZK_TEST(route_table, takes_as_many_segments_and_parameters_as_it_says_and_no_more)
{
    char segments[2 * (ZK__ROUTE_SEGMENTS_MAX + 1) + 1] = "", params[256] = "", path[64] = "";
    const char *reason = NULL;
    zk__route_match match;
    zk__route_table *table = table_of(NULL, 0, false);

    for (int i = 0; i < ZK__ROUTE_SEGMENTS_MAX + 1; i++)
        memcpy(segments + 2 * i, "/s", 3);
    cr_expect_eq(zk__route_table_add(table, "GET", segments, 0, &reason), ZK_E_HTTP_ROUTE);
    segments[2 * ZK__ROUTE_SEGMENTS_MAX] = '\0';
    cr_assert_ok(zk__route_table_add(table, "GET", segments, 1, &reason));
    cr_expect_eq(zk__route_table_match(table, str("GET"), str(segments), &match), 1);

    char *end = params;
    for (int i = 0; i < ZK__ROUTE_PARAMS_MAX + 1; i++) {
        end += snprintf(end, 16, "/{p%d}", i);
        memcpy(path + 2 * i, "/v", 3);
    }
    cr_expect_eq(zk__route_table_add(table, "GET", params, 2, &reason), ZK_E_HTTP_ROUTE);
    *strrchr(params, '/') = '\0';
    *strrchr(path, '/') = '\0';
    cr_assert_ok(zk__route_table_add(table, "GET", params, 3, &reason));
    cr_expect_eq(zk__route_table_match(table, str("GET"), str(path), &match), 3);
    cr_expect_eq(match.param_count, ZK__ROUTE_PARAMS_MAX);
    cr_expect(match.params[15].name.size == 3 && memcmp(match.params[15].name.data, "p15", 3) == 0);
    zk__route_table_free(table);
}

ZK_TEST(route_table, finds_each_of_a_thousand_routes)
{
    enum { COUNT = 1000 };
    static char patterns[COUNT][2][32];
    zk__route_table *table = table_of(NULL, 0, false);
    const char *reason;

    for (int i = 0; i < COUNT; i++) {
        snprintf(patterns[i][0], sizeof(patterns[i][0]), "/resource-%d", i);
        snprintf(patterns[i][1], sizeof(patterns[i][1]), "/resource-%d/{id}", i);
        for (int j = 0; j < 2; j++)
            cr_assert_ok(zk__route_table_add(table, "GET", patterns[i][j], 2 * i + j, &reason));
    }
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < 2; j++) {
            zk__route_match match;
            cr_expect_eq(zk__route_table_match(table, str("GET"), str(patterns[i][j]), &match),
                         2 * i + j, "%s", patterns[i][j]);
        }
    }
    zk__route_table_free(table);
}

/* The worst case: each of 2^10 ways down the tree fails, and it does so at the last segment. */
ZK_TEST(route_table, comes_back_from_every_dead_end)
{
    enum { DEPTH = 10, COUNT = 1 << DEPTH };
    static char patterns[COUNT][DEPTH * 6 + 4];
    char path[2 * ZK__ROUTE_SEGMENTS_MAX + 1] = "";
    zk__route_table *table = table_of(NULL, 0, false);
    const char *reason;

    for (int i = 0; i < COUNT; i++) {
        char *end = patterns[i];
        for (int j = 0; j < DEPTH; j++)
            end += i >> j & 1 ? snprintf(end, 8, "/a") : snprintf(end, 8, "/{p%d}", j);
        snprintf(end, 4, "/z");
        cr_assert_ok(zk__route_table_add(table, "GET", patterns[i], i, &reason));
    }
    for (int i = 0; i < ZK__ROUTE_SEGMENTS_MAX; i++)
        memcpy(path + 2 * i, "/a", 3);

    cr_expect_str_eq(match_text(table, "GET", path), "404");
    path[2 * DEPTH] = '\0';
    memcpy(path + 2 * DEPTH, "/z", 3);
    snprintf(patterns[0], sizeof(patterns[0]), "%d", COUNT - 1);
    cr_expect_str_eq(match_text(table, "GET", path), patterns[0]);
    zk__route_table_free(table);
}
