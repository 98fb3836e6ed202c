/*
 * The route table against a naive matcher. Input: lines "METHOD PATTERN", the last one "METHOD
 * PATH". With the last line alone the table is a fixed one of overlapping patterns.
 *
 * The naive matcher knows no tree: it tries every route on the whole path and picks the most
 * specific. Both must agree on the route, the parameters, 404 and 405, and the Allow field.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

#include "http/route_table.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { INPUT_BYTES_MAX = 1024, ROUTES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct naive_route {
    const char *method, *pattern;
};

/* How a pattern fits a path: a letter per segment; they sort from specific to general. */
struct fit {
    char shape[ZK__ROUTE_SEGMENTS_MAX + 1];
    size_t value_count;
    zk_str values[ZK__ROUTE_PARAMS_MAX];
    zk_str names[ZK__ROUTE_PARAMS_MAX];
};

static const struct naive_route fixed_routes[] = {
    {"GET", "/"},
    {"GET", "/a"},
    {"POST", "/a"},
    {"*", "/a/"},
    {"GET", "/a/b"},
    {"PUT", "/a/{x}"},
    {"GET", "/a/{y}"},
    {"GET", "/a/{x}/c"},
    {"GET", "/a/b/{z}"},
    {"*", "/a/b/{z}"},
    {"DELETE", "/a/{rest...}"},
    {"GET", "/{x}"},
    {"HEAD", "/{x}"},
    {"GET", "/{x}/b"},
    {"GET", "/{x}/{y}"},
    {"GET", "/{x}/{y}/{z}"},
    {"POST", "/{x}/b/{z...}"},
    {"GET", "/b/{x}/{y}/d"},
    {"OPTIONS", "/b/{x}/{y}/{z}"},
    {"GET", "/b/b/b/{r...}"},
    {"GET", "/abcdefgh"},
    {"GET", "/abcdefgh/abcdefghi"},
    {"GET", "//"},
    {"GET", "/a//b"},
    {"PATCH", "/{all...}"},
};

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

static bool is_equal(zk_str a, zk_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static bool is_any(const char *method) { return strcmp(method, "*") == 0; }

/* The pattern has been accepted by the table: a brace opens and closes whole segments. */
static bool fits(const char *pattern, const char *path, struct fit *fit)
{
    size_t depth = 0;
    memset(fit, 0, sizeof(*fit));

    for (;; depth++) {
        if (*pattern == '\0' || *path == '\0') return *pattern == *path;
        if (*pattern != '/' || *path != '/') return false;
        zk_str want = {pattern + 1, strcspn(pattern + 1, "/")};
        zk_str have = {path + 1, strcspn(path + 1, "/")};
        pattern = want.data + want.size;
        path = have.data + have.size;

        if (want.size == 0 || want.data[0] != '{') {
            if (!is_equal(want, have)) return false;
            fit->shape[depth] = 'a';
            continue;
        }
        bool is_rest = want.size > 5 && memcmp(want.data + want.size - 4, "...}", 4) == 0;
        if (!is_rest && have.size == 0) return false;
        fit->shape[depth] = is_rest ? 'c' : 'b';
        fit->names[fit->value_count] = (zk_str){want.data + 1, want.size - (is_rest ? 5 : 2)};
        fit->values[fit->value_count++] = is_rest ? str(have.data) : have;
        if (is_rest) return true;
    }
}

/* How well a route's method serves a request's: 3 itself, 2 GET for HEAD, 1 any, 0 not at all. */
static int serves(const char *route_method, const char *method)
{
    if (strcmp(route_method, method) == 0 && !is_any(route_method)) return 3;
    if (strcmp(route_method, "GET") == 0 && strcmp(method, "HEAD") == 0) return 2;
    return is_any(route_method);
}

/* returns the row; -1 for 404; -2 for 405. */
static int naive_match(const struct naive_route *routes, size_t count, const char *method,
                       const char *path, struct fit *best)
{
    int row = -1, best_rank = 0;

    for (size_t i = 0; i < count; i++) {
        struct fit fit;
        if (!fits(routes[i].pattern, path, &fit)) continue;
        int rank = serves(routes[i].method, method);
        if (rank == 0) {
            row = row == -1 ? -2 : row;
            continue;
        }
        int order = row < 0 ? -1 : strcmp(fit.shape, best->shape);
        if (order < 0 || (order == 0 && rank > best_rank)) {
            row = (int)i;
            best_rank = rank;
            *best = fit;
        }
    }
    return row;
}

static void check_match(const zk__route_table *table, const struct naive_route *routes,
                        size_t count, const char *method, const char *path)
{
    struct fit fit;
    zk__route_match match;
    int row = naive_match(routes, count, method, path, &fit);
    int index = zk__route_table_match(table, str(method), str(path), &match);

    CHECK(index == match.index);
    CHECK(index == (row < 0 ? -1 : row));
    CHECK(match.path_exists == (row == -2));
    CHECK(match.param_count == (row < 0 ? 0 : fit.value_count));
    for (size_t i = 0; i < match.param_count; i++) {
        CHECK(is_equal(match.params[i].name, fit.names[i]));
        CHECK(match.params[i].value.data == fit.values[i].data);
        CHECK(match.params[i].value.size == fit.values[i].size);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void check_allow(const zk__route_table *table, const struct naive_route *routes,
                        size_t count, const char *path)
{
    static const char *const every[] = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"};
    const char *methods[ROUTES_MAX * 8];
    size_t method_count = 0, used = 0;
    char expected[2 * INPUT_BYTES_MAX] = "", got[sizeof(expected)];

    for (size_t i = 0; i < count; i++) {
        struct fit fit;
        if (!fits(routes[i].pattern, path, &fit) && strcmp(path, "*") != 0) continue;
        methods[method_count++] = "OPTIONS";
        if (!is_any(routes[i].method)) methods[method_count++] = routes[i].method;
        if (strcmp(routes[i].method, "GET") == 0) methods[method_count++] = "HEAD";
        for (size_t j = 0; is_any(routes[i].method) && j < 7; j++)
            methods[method_count++] = every[j];
    }
    qsort(methods, method_count, sizeof(methods[0]), compare_texts);
    for (size_t i = 0; i < method_count; i++) {
        if (i == 0 || strcmp(methods[i], methods[i - 1]) != 0)
            used += (size_t)snprintf(expected + used, sizeof(expected) - used, "%s%s",
                                     i == 0 ? "" : ", ", methods[i]);
    }

    CHECK(zk__route_table_allow(table, str(path), got, sizeof(got)) == used);
    CHECK(strcmp(got, expected) == 0);
    if (used > 0) {
        size_t size = 1 + strlen(path) % used;
        size_t cut = zk__route_table_allow(table, str(path), got, size);
        CHECK(cut < size && cut == strlen(got) && memcmp(got, expected, cut) == 0);
        CHECK(expected[cut] == ',' || cut == 0);
    }
}

/* Cuts a line at its first space. returns false if it has none. */
static bool split_line(char *line, const char **ret_method, const char **ret_rest)
{
    char *space = strchr(line, ' ');
    if (space == NULL) return false;
    *space = '\0';
    *ret_method = line;
    *ret_rest = space + 1;
    return true;
}

/* Adds the route if the table takes it. */
static size_t add(zk__route_table *table, const char *method, const char *pattern,
                  struct naive_route *routes, size_t count)
{
    const char *reason = NULL;
    int rc = zk__route_table_add(table, method, pattern, (int)count, &reason);
    CHECK(rc == 0 || (rc == ZK_E_HTTP_ROUTE && reason != NULL));
    if (rc != 0) return count;
    routes[count] = (struct naive_route){method, pattern};
    return count + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[INPUT_BYTES_MAX + 1];
    struct naive_route routes[ROUTES_MAX];
    size_t count = 0;
    const char *method, *rest;

    if (size > INPUT_BYTES_MAX || (size > 0 && memchr(data, '\0', size) != NULL)) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';

    zk__route_table *table = zk__route_table_new();
    CHECK(table != NULL);
    char *line = text;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (count < ROUTES_MAX && split_line(line, &method, &rest))
            count = add(table, method, rest, routes, count);
    }
    if (line == text) {
        for (size_t i = 0; i < sizeof(fixed_routes) / sizeof(fixed_routes[0]); i++)
            count = add(table, fixed_routes[i].method, fixed_routes[i].pattern, routes, count);
        CHECK(count == sizeof(fixed_routes) / sizeof(fixed_routes[0]));
    }
    if (split_line(line, &method, &rest) && *method != '\0') {
        check_match(table, routes, count, method, rest);
        check_allow(table, routes, count, rest);
    }
    zk__route_table_free(table);
    return 0;
}
