/*
 * The route table.
 *
 * A tree with one node per pattern prefix and one level per segment. From a node go edges for
 * literal segments, at most one edge for "{name}" and at most one for "{name...}". The literal
 * edges of all nodes are in one hash map under (node, segment), so a node with a thousand of them
 * costs what one with two does. Parameter names belong to the routes, for "/{id}" and "/{name}/x"
 * share a node.
 *
 * A pattern without parameters is also in the map under (no node, whole pattern): where such a
 * pattern matches it is the most specific one, and one look-up replaces the walk. Measured: 15 ns
 * against 24 for one segment, 17 against 57 for three; it costs the other paths 6.
 *
 * The walk tries the edges of a node in order of specificity and comes back when one leads nowhere.
 * It is not exponential: every step consumes one segment and goes one level down, and a node has
 * one parent, so a node can be reached in one way only and no match visits a node twice. The bound
 * is the number of nodes, and for a path of n segments also 2^n; recursion is no deeper than the
 * longest pattern, hence at most ZK__ROUTE_SEGMENTS_MAX.
 */
#include "http/route_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

struct route {
    uint64_t method_word; /* see word_of; UINT64_MAX for those that have none */
    zk_str method;        /* empty: every method that the node's other routes do not name */
    int index;
    struct route *next;
    size_t param_count;
    zk_str params[]; /* names */
};

struct node {
    uint32_t id;          /* from 1 */
    uint32_t param_count; /* on the way here */
    bool has_literals;
    struct node *param, *rest;
    struct route *routes;
    struct node *next; /* the list of all nodes */
};

/* A literal edge. from: the id of the node that it leaves; 0 for a whole pattern. */
struct edge {
    uint64_t hash;
    zk_str text;
    uint32_t from;
    struct node *to; /* NULL: the slot is free */
};

struct zk__route_table {
    struct node *root;
    struct node *nodes;
    uint32_t node_count;
    size_t literal_bytes_max; /* no literal is longer; bounds what is hashed of a hostile path */
    struct edge *edges;       /* open addressing, at most half full */
    size_t edge_count, edge_capacity; /* the capacity is a power of two, or 0 */
};

static bool is_equal(zk_str a, zk_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* ---- the map of literal edges ---- */

static uint64_t load_8(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

static uint64_t load_2(const char *at)
{
    uint16_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

static uint64_t load_4(const char *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

/* A method of up to eight bytes as a number: methods of equal size and number are equal. 0 for
 * longer ones. */
static inline uint64_t word_of(zk_str method)
{
    uint64_t word = 0;
    if (method.size > 8) return 0;
    if (method.size >= 4) {
        return load_4(method.data) | load_4(method.data + method.size - 4) << 32;
    }
    if (ZK_LIKELY(method.size == 3)) { /* GET, PUT */
        return load_2(method.data) | (uint64_t)(uint8_t)method.data[2] << 16;
    }
    for (size_t i = 0; i < method.size; i++)
        word = word << 8 | (uint8_t)method.data[i];
    return word;
}

/*
 * Eight bytes a step; the last step overlaps the one before. The patterns are the program's own, so
 * a collision cannot be provoked from outside: a path only ever looks up.
 */
static uint64_t hash_edge(uint32_t from, zk_str text)
{
    static const uint64_t k = 0x9e3779b97f4a7c15;
    const char *at = text.data;
    uint64_t hash = (text.size + ((uint64_t)from << 32)) * k;
    uint64_t last = 0;

    if (text.size >= 8) {
        for (size_t i = 8; i < text.size; i += 8, at += 8) {
            hash = (hash ^ load_8(at)) * k;
            hash ^= hash >> 32;
        }
        last = load_8(text.data + text.size - 8);
    } else if (text.size >= 4) {
        last = load_4(at) | load_4(at + text.size - 4) << 32;
    } else if (text.size > 0) {
        last = (uint64_t)(uint8_t)at[0] | (uint64_t)(uint8_t)at[text.size / 2] << 8 |
               (uint64_t)(uint8_t)at[text.size - 1] << 16;
    }
    hash = (hash ^ last) * k;
    return hash ^ hash >> 32;
}

static struct node *find_edge(const zk__route_table *table, uint32_t from, zk_str text)
{
    if (text.size > table->literal_bytes_max || table->edge_count == 0) return NULL;

    uint64_t hash = hash_edge(from, text);
    size_t mask = table->edge_capacity - 1;
    for (size_t i = hash & mask; table->edges[i].to != NULL; i = (i + 1) & mask) {
        const struct edge *edge = &table->edges[i];
        if (edge->hash == hash && edge->from == from && is_equal(edge->text, text)) return edge->to;
    }
    return NULL;
}

static void place_edge(struct edge *edges, size_t capacity, const struct edge *new_edge)
{
    size_t i = new_edge->hash & (capacity - 1);
    while (edges[i].to != NULL)
        i = (i + 1) & (capacity - 1);
    edges[i] = *new_edge;
}

static int add_edge(zk__route_table *table, uint32_t from, zk_str text, struct node *to)
{
    if (table->edge_count * 2 >= table->edge_capacity) {
        size_t capacity = table->edge_capacity > 0 ? table->edge_capacity * 2 : 32;
        struct edge *edges = calloc(capacity, sizeof(*edges));
        if (edges == NULL) return -ENOMEM;
        for (size_t i = 0; i < table->edge_capacity; i++) {
            if (table->edges[i].to != NULL) place_edge(edges, capacity, &table->edges[i]);
        }
        free(table->edges);
        table->edges = edges;
        table->edge_capacity = capacity;
    }

    struct edge new_edge = {.hash = hash_edge(from, text), .text = text, .from = from, .to = to};
    place_edge(table->edges, table->edge_capacity, &new_edge);
    table->edge_count++;
    if (text.size > table->literal_bytes_max) table->literal_bytes_max = text.size;
    return 0;
}

/* ---- building ---- */

_Static_assert(ZK__ROUTE_SEGMENTS_MAX == 64 && ZK__ROUTE_PARAMS_MAX == 16,
               "the reasons below name them");

enum segment_kind { LITERAL, PARAM, REST };

/* A pattern taken apart. */
struct pattern {
    zk_str text;
    size_t segment_count, param_count;
    struct {
        enum segment_kind kind;
        zk_str text; /* of a literal; else the name */
    } segments[ZK__ROUTE_SEGMENTS_MAX];
};

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' ||
           c == '_';
}

/* RFC 9110 section 5.6.2: a token. */
static bool is_method(zk_str method)
{
    for (size_t i = 0; i < method.size; i++) {
        char c = method.data[i];
        if (!is_word_byte(c) && strchr("!#$%&'*+.^`|~", c) == NULL) return false;
    }
    return method.size > 0;
}

/* returns NULL, or why the segment is refused. */
static const char *parse_segment(zk_str text, enum segment_kind *ret_kind, zk_str *ret_text)
{
    enum segment_kind kind = LITERAL;

    if (text.size > 0 && text.data[0] == '{' && text.data[text.size - 1] == '}') {
        kind = PARAM;
        text = (zk_str){text.data + 1, text.size - 2};
        if (text.size >= 3 && memcmp(text.data + text.size - 3, "...", 3) == 0) {
            kind = REST;
            text.size -= 3;
        }
        if (text.size == 0) return "a parameter has no name";
        for (size_t i = 0; i < text.size; i++) {
            if (!is_word_byte(text.data[i]))
                return "a parameter's name may have letters, digits, '_' and '-' only";
        }
    } else {
        for (size_t i = 0; i < text.size; i++) {
            uint8_t c = (uint8_t)text.data[i];
            if (c == '{' || c == '}')
                return "a parameter must be a whole segment, \"{name}\" or \"{name...}\"";
            if (c < 0x20 || c == 0x7f || c == '\\' || c == '?' || c == '#' || c == '%')
                return "a pattern is a decoded path: no '?', '#', '%', '\\' or control byte";
        }
        if (is_equal(text, ZK_STR(".")) || is_equal(text, ZK_STR("..")))
            return "no path has a segment \".\" or \"..\"";
    }
    *ret_kind = kind;
    *ret_text = text;
    return NULL;
}

/* returns NULL, or why the pattern is refused. */
static const char *parse_pattern(const char *text, struct pattern *ret)
{
    if (text[0] != '/') return "a pattern must begin with '/'";

    ret->text = (zk_str){text, strlen(text)};
    ret->segment_count = ret->param_count = 0;
    while (*text == '/') {
        size_t count = ret->segment_count;
        if (count == ZK__ROUTE_SEGMENTS_MAX) return "the pattern has more than 64 segments";
        if (count > 0 && ret->segments[count - 1].kind == REST)
            return "\"{name...}\" must be the last segment";

        zk_str segment = {text + 1, strcspn(text + 1, "/")};
        text = segment.data + segment.size;
        const char *reason =
            parse_segment(segment, &ret->segments[count].kind, &ret->segments[count].text);
        if (reason != NULL) return reason;
        ret->segment_count++;
        if (ret->segments[count].kind == LITERAL) continue;

        if (ret->param_count++ == ZK__ROUTE_PARAMS_MAX)
            return "the pattern has more than 16 parameters";
        for (size_t i = 0; i < count; i++) {
            if (ret->segments[i].kind != LITERAL &&
                is_equal(ret->segments[i].text, ret->segments[count].text))
                return "two parameters have the same name";
        }
    }
    return NULL;
}

static struct node *node_new(zk__route_table *table, size_t param_count)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL) return NULL;
    node->id = ++table->node_count;
    node->param_count = (uint32_t)param_count;
    node->next = table->nodes;
    table->nodes = node;
    return node;
}

/* The node at the end of an edge, made if it is not there. returns NULL when there is no memory. */
static struct node *follow(zk__route_table *table, struct node *from, enum segment_kind kind,
                           zk_str text)
{
    if (kind != LITERAL) {
        struct node **edge = kind == PARAM ? &from->param : &from->rest;
        if (*edge == NULL) *edge = node_new(table, from->param_count + 1);
        return *edge;
    }

    struct node *to = find_edge(table, from->id, text);
    if (to != NULL) return to;
    to = node_new(table, from->param_count);
    if (to == NULL || add_edge(table, from->id, text, to) < 0) return NULL;
    from->has_literals = true;
    return to;
}

static const struct route *find_method(const struct node *node, zk_str method)
{
    for (const struct route *route = node->routes; route != NULL; route = route->next) {
        if (is_equal(route->method, method)) return route;
    }
    return NULL;
}

static int add_route(struct node *node, const struct pattern *pattern, zk_str method, int index)
{
    struct route *new_route = malloc(sizeof(*new_route) + pattern->param_count * sizeof(zk_str));
    if (new_route == NULL) return -ENOMEM;

    uint64_t word = word_of(method);
    *new_route = (struct route){.method_word = word ? word : UINT64_MAX,
                                .method = method,
                                .index = index,
                                .next = node->routes,
                                .param_count = pattern->param_count};
    for (size_t i = 0, param = 0; i < pattern->segment_count; i++) {
        if (pattern->segments[i].kind != LITERAL)
            new_route->params[param++] = pattern->segments[i].text;
    }
    node->routes = new_route;
    return 0;
}

int zk__route_table_add(zk__route_table *table, const char *method, const char *pattern_text,
                        int index, const char **ret_reason)
{
    zk_str method_str = ZK_STR("");
    if (method != NULL && strcmp(method, "*") != 0) {
        method_str = (zk_str){method, strlen(method)};
        if (!is_method(method_str)) {
            *ret_reason = "the method is not a token";
            return ZK_E_HTTP_ROUTE;
        }
    }

    struct pattern pattern;
    const char *reason = parse_pattern(pattern_text, &pattern);
    if (reason != NULL) {
        *ret_reason = reason;
        return ZK_E_HTTP_ROUTE;
    }

    struct node *node = table->root;
    for (size_t i = 0; i < pattern.segment_count; i++) {
        node = follow(table, node, pattern.segments[i].kind, pattern.segments[i].text);
        if (node == NULL) return -ENOMEM;
    }
    if (find_method(node, method_str) != NULL) {
        *ret_reason = "another route has the same method and pattern";
        return ZK_E_HTTP_ROUTE;
    }
    if (pattern.param_count == 0 && find_edge(table, 0, pattern.text) == NULL) {
        int rc = add_edge(table, 0, pattern.text, node);
        if (rc < 0) return rc;
    }
    return add_route(node, &pattern, method_str, index);
}

zk__route_table *zk__route_table_new(void)
{
    zk__route_table *table = calloc(1, sizeof(*table));
    if (table == NULL) return NULL;
    table->root = node_new(table, 0);
    if (table->root == NULL) {
        free(table);
        return NULL;
    }
    return table;
}

void zk__route_table_free(zk__route_table *table)
{
    if (table == NULL) return;
    for (struct node *node = table->nodes, *next_node; node != NULL; node = next_node) {
        for (struct route *route = node->routes, *next_route; route != NULL; route = next_route) {
            next_route = route->next;
            free(route);
        }
        next_node = node->next;
        free(node);
    }
    free(table->edges);
    free(table);
}

/* ---- matching ---- */

/* One walk; it ends at the first node that accepts. */
struct walk {
    const zk__route_table *table;
    zk_str path;
    zk__route_match *match; /* takes the values on the way */
    bool is_listing;        /* for Allow: accept nothing, find the method after `previous` */
    zk_str method;
    uint64_t word;         /* of the method */
    zk_str previous, next; /* is_listing; next is empty until one is found */
};

/* Whether a comes before b in the order of Allow: bytewise, so "PATCH" before "POST". */
static bool is_before(zk_str a, zk_str b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order < 0 || (order == 0 && a.size < b.size);
}

static void list_method(struct walk *walk, zk_str method)
{
    if (is_before(walk->previous, method) &&
        (walk->next.size == 0 || is_before(method, walk->next)))
        walk->next = method;
}

static void list_methods(struct walk *walk, const struct node *node)
{
    static const zk_str every[] = {
        {"DELETE", 6}, {"GET", 3}, {"HEAD", 4}, {"PATCH", 5}, {"POST", 4}, {"PUT", 3},
    };

    for (const struct route *route = node->routes; route != NULL; route = route->next) {
        list_method(walk, ZK_STR("OPTIONS"));
        if (route->method.size == 0) {
            for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++)
                list_method(walk, every[i]);
            continue;
        }
        list_method(walk, route->method);
        if (is_equal(route->method, ZK_STR("GET"))) list_method(walk, ZK_STR("HEAD"));
    }
}

/* Whether the route is the method's. May be false although it is. */
static inline bool is_of(const struct route *route, uint64_t method_word, size_t method_size)
{
    return route->method_word == method_word && route->method.size == method_size;
}

/* The node's route for the method: its own, GET's for HEAD, the one for every method; or NULL. */
static const struct route *accept(struct walk *walk, const struct node *node)
{
    if (ZK_UNLIKELY(walk->is_listing)) {
        list_methods(walk, node);
        return NULL;
    }

    const struct route *found = node->routes;
    if (ZK_LIKELY(found != NULL && is_of(found, walk->word, walk->method.size))) return found;
    found = find_method(node, walk->method);
    if (found == NULL && is_equal(walk->method, ZK_STR("HEAD")))
        found = find_method(node, ZK_STR("GET"));
    if (found == NULL) found = find_method(node, ZK_STR(""));
    if (found == NULL && node->routes != NULL) walk->match->path_exists = true;
    return found;
}

/*
 * Matches the path's segments from `start` on against what is below the node; start is behind a
 * '/', or one behind the path's end if no segment is left.
 */
static const struct route *match_below(struct walk *walk, const struct node *node, size_t start)
{
    if (start > walk->path.size) return accept(walk, node);

    zk_str left = {walk->path.data + start, walk->path.size - start};
    if (!node->has_literals && !node->param && node->rest) {
        walk->match->params[node->param_count].value = left;
        return accept(walk, node->rest);
    }
    const char *slash = memchr(left.data, '/', left.size);
    zk_str segment = {left.data, slash != NULL ? (size_t)(slash - left.data) : left.size};
    size_t next = start + segment.size + 1;
    const struct route *found = NULL;

    if (node->has_literals) {
        const struct node *to = find_edge(walk->table, node->id, segment);
        if (to != NULL) found = match_below(walk, to, next);
    }
    if (found == NULL && node->param != NULL && segment.size > 0) {
        walk->match->params[node->param_count].value = segment;
        found = match_below(walk, node->param, next);
    }
    if (found == NULL && node->rest != NULL) {
        walk->match->params[node->param_count].value = left;
        found = accept(walk, node->rest);
    }
    return found;
}

/* What is not found at once. */
static __attribute__((noinline)) const struct route *match_walking(const zk__route_table *table,
                                                                   zk_str method, zk_str path,
                                                                   const struct node *whole,
                                                                   zk__route_match *match)
{
    struct walk walk = {
        .table = table,
        .path = path,
        .match = match,
        .method = method,
        .word = word_of(method),
    };
    const struct route *found = whole != NULL ? accept(&walk, whole) : NULL;
    return found != NULL ? found : match_below(&walk, table->root, 1);
}

int zk__route_table_match(const zk__route_table *table, zk_str method, zk_str path,
                          zk__route_match *ret)
{
    ret->index = -1;
    ret->path_exists = false;
    ret->param_count = 0;
    if (path.size == 0 || path.data[0] != '/' || method.size == 0) return -1;

    const struct node *root = table->root;
    const struct node *whole = table->edge_count != 0 ? find_edge(table, 0, path) : NULL;
    const struct node *node = whole;
    if (node == NULL && !root->has_literals && !root->param) {
        node = root->rest;
        ret->params[0].value = (zk_str){path.data + 1, path.size - 1};
    }
    const struct route *found = node != NULL ? node->routes : NULL;
    if (ZK_UNLIKELY(found == NULL || !is_of(found, word_of(method), method.size))) {
        found = match_walking(table, method, path, whole, ret);
        if (ZK_UNLIKELY(found == NULL)) return -1;
    }

    ret->index = found->index;
    ret->path_exists = false;
    ret->param_count = found->param_count;
    for (size_t i = 0; i < found->param_count; i++)
        ret->params[i].name = found->params[i];
    return ret->index;
}

size_t zk__route_table_allow(const zk__route_table *table, zk_str path, char *out, size_t size)
{
    zk__route_match match;
    struct walk walk = {.table = table, .path = path, .match = &match, .is_listing = true};
    size_t used = 0;

    if (size == 0) return 0;

    /* One walk per method, the least after the one before: sorted and unique without any memory. */
    for (walk.previous = ZK_STR("");; walk.previous = walk.next) {
        walk.next = ZK_STR("");
        if (is_equal(path, ZK_STR("*"))) {
            for (const struct node *node = table->nodes; node != NULL; node = node->next)
                list_methods(&walk, node);
        } else if (path.size > 0 && path.data[0] == '/') {
            (void)match_below(&walk, table->root, 1);
        }

        size_t comma = used > 0 ? 2 : 0;
        if (walk.next.size == 0 || used + comma + walk.next.size >= size) break;
        memcpy(out + used, ", ", comma);
        memcpy(out + used + comma, walk.next.data, walk.next.size);
        used += comma + walk.next.size;
    }
    out[used] = '\0';
    return used;
}
