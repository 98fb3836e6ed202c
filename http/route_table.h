/*
 * The route table: patterns compiled once into a tree of segments, matched without allocating.
 *
 * A pattern is '/' and segments with '/' between them:
 *
 *   literal     itself, compared with the decoded path
 *   {name}      one non-empty segment
 *   {name...}   at the end only: the rest of the path, slashes included, may be empty
 *
 * "/files/{rest...}" matches "/files/" and "/files/a/b" but not "/files"; "/a/" and "/a" are
 * different. The most specific pattern wins, segment by segment: literal before {name} before
 * {name...}, with backtracking, among the patterns that have a route for the method. The order of
 * the table does not matter.
 *
 * A pattern is at most ZK__ROUTE_SEGMENTS_MAX segments with ZK__ROUTE_PARAMS_MAX parameters. Names
 * are of letters, digits, '_' and '-'. Refused as mistakes: the same shape twice for one method, a
 * brace anywhere else, an empty or repeated name, a pattern that does not begin with '/', and what
 * no path can contain or would be written differently there: control bytes, '\\', '?', '#', '%'
 * (patterns are decoded text), and the segments "." and "..".
 */
#ifndef ZOKIO_HTTP_ROUTE_TABLE_H
#define ZOKIO_HTTP_ROUTE_TABLE_H

#include <zokio/base.h>

enum { ZK__ROUTE_PARAMS_MAX = 16, ZK__ROUTE_SEGMENTS_MAX = 64 };

typedef struct zk__route_table zk__route_table;

typedef struct zk__route_match {
    int index;        /* of the matching route, as passed to zk__route_table_add; -1: none */
    bool path_exists; /* index is -1, but the path has other methods: 405 */
    size_t param_count;
    struct {
        zk_str name, value; /* the name points into the pattern, the value into the path */
    } params[ZK__ROUTE_PARAMS_MAX];
} zk__route_match;

/* returns NULL when there is no memory. Memory is malloc's: a table is made before the runtime and
 * outlives it. */
zk__route_table *zk__route_table_new(void);
/* NULL is allowed. */
void zk__route_table_free(zk__route_table *table);

/*
 * Adds a pattern ("GET", "/users/{id}"). The strings must outlive the table. A NULL or "*" method
 * takes every method that no other route of the same pattern names.
 *
 * index: 0 and above; what zk__route_table_match returns
 * returns 0; ZK_E_HTTP_ROUTE with *ret_reason set to a constant text; -ENOMEM. The table still
 *         matches as before after a failure.
 */
int zk__route_table_add(zk__route_table *table, const char *method, const char *pattern, int index,
                        const char **ret_reason);

/*
 * Matches a decoded path. HEAD without a route of its own is GET's. OPTIONS is not special here: it
 * matches where a route names it or takes every method. A path that does not begin with '/' ("*",
 * or CONNECT's empty one) matches nothing.
 *
 * ret: params beyond param_count are not written
 * returns index, also in ret->index; -1: no route.
 */
int zk__route_table_match(const zk__route_table *table, zk_str method, zk_str path,
                          zk__route_match *ret);

/*
 * Writes the value of an Allow field for a path: "GET, HEAD, OPTIONS, POST", sorted by name, HEAD
 * with GET, OPTIONS always. A route for every method counts as DELETE, GET, HEAD, OPTIONS, PATCH,
 * POST and PUT. The path "*" gives the methods of the whole table; a path that matches no pattern
 * gives an empty text.
 *
 * returns its length, cut to size-1 at a whole method; always NUL-terminated (unless size is 0).
 */
size_t zk__route_table_allow(const zk__route_table *table, zk_str path, char *out, size_t size);

#endif
