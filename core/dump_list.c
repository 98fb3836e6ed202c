/*
 * The list of what a dump has collected, and the search for circles in it: depth first, without
 * recursion, along "waits for". A task may wait for several, and needs all of them; so any circle
 * means that none of its members will ever go on.
 */
#include "core/dump.h"

#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX = 65536 };

static bool grow(void **array, size_t *capacity, size_t count, size_t bytes)
{
    if (count < *capacity) return true;
    size_t wanted = *capacity ? 2 * *capacity : 16;
    void *larger = realloc(*array, wanted * bytes);
    if (!larger) return false;
    *array = larger;
    *capacity = wanted;
    return true;
}

zk__dump_task *zk__dump_list_add(zk__dump_list *list)
{
    void *tasks = list->tasks;
    bool has_room =
        list->count < TASKS_MAX && grow(&tasks, &list->capacity, list->count, sizeof *list->tasks);
    list->tasks = tasks;
    if (!has_room) {
        list->left_out++;
        return NULL;
    }
    return memset(&list->tasks[list->count++], 0, sizeof *list->tasks);
}

void zk__dump_list_add_edge(zk__dump_list *list, const zk_task *waiter, const zk_task *other)
{
    void *edges = list->edges;
    bool has_room = grow(&edges, &list->edge_capacity, list->edge_count, sizeof *list->edges);
    list->edges = edges;
    if (has_room) list->edges[list->edge_count++] = (zk__dump_edge){waiter, other};
}

int zk__dump_list_merge(zk__dump_list *to, zk__dump_list *from)
{
    size_t count = to->count + from->count, edge_count = to->edge_count + from->edge_count;
    zk__dump_task *tasks = realloc(to->tasks, (count + 1) * sizeof *tasks);
    if (!tasks) return -ENOMEM;
    to->tasks = tasks;
    to->capacity = count + 1;
    zk__dump_edge *edges = realloc(to->edges, (edge_count + 1) * sizeof *edges);
    if (!edges) return -ENOMEM;
    to->edges = edges;
    to->edge_capacity = edge_count + 1;
    if (from->count) memcpy(tasks + to->count, from->tasks, from->count * sizeof *tasks);
    if (from->edge_count) {
        memcpy(edges + to->edge_count, from->edges, from->edge_count * sizeof *edges);
    }
    to->count = count;
    to->edge_count = edge_count;
    to->left_out += from->left_out;
    return 0;
}

static int task_compare(const void *a, const void *b)
{
    const zk_task *x = ((const zk__dump_task *)a)->task, *y = ((const zk__dump_task *)b)->task;
    return ((uintptr_t)x > (uintptr_t)y) - ((uintptr_t)x < (uintptr_t)y);
}

static int edge_compare(const void *a, const void *b)
{
    const zk_task *x = ((const zk__dump_edge *)a)->waiter, *y = ((const zk__dump_edge *)b)->waiter;
    return ((uintptr_t)x > (uintptr_t)y) - ((uintptr_t)x < (uintptr_t)y);
}

void zk__dump_list_sort(zk__dump_list *list)
{
    if (list->count) qsort(list->tasks, list->count, sizeof *list->tasks, task_compare);
    if (list->edge_count) {
        qsort(list->edges, list->edge_count, sizeof *list->edges, edge_compare);
    }
}

void zk__dump_list_done(zk__dump_list *list)
{
    free(list->tasks);
    free(list->edges);
    *list = (zk__dump_list){0};
}

zk__dump_task *zk__dump_list_find(const zk__dump_list *list, const zk_task *task)
{
    if (!list->count || !task) return NULL;
    zk__dump_task key = {.task = task};
    return bsearch(&key, list->tasks, list->count, sizeof key, task_compare);
}

/* The first edge of a waiter, or where it would be. */
static size_t edges_of(const zk__dump_list *list, const zk_task *waiter)
{
    size_t low = 0, high = list->edge_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)list->edges[middle].waiter < (uintptr_t)waiter) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- circles ---- */

enum { UNSEEN, ON_THE_WAY, SEEN };

typedef struct step {
    size_t edge; /* the next one to follow */
    bool is_holder_done;
} step;

/* The next task that `from` waits for, as far as it is in the list; NULL: no more. */
static zk__dump_task *successor(const zk__dump_list *list, const zk__dump_task *from, step *s)
{
    if (from->state != ZK__DUMP_WAITING && from->state != ZK__DUMP_AWAITING) return NULL;
    if (!s->is_holder_done) {
        s->is_holder_done = true;
        zk__dump_task *holder = zk__dump_list_find(list, from->holder);
        if (holder && holder != from) return holder;
    }
    while (s->edge < list->edge_count && list->edges[s->edge].waiter == from->task) {
        zk__dump_task *other = zk__dump_list_find(list, list->edges[s->edge++].other);
        if (other && other != from) return other;
    }
    return NULL;
}

static void circle_mark(zk__dump_task *const *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        members[i]->fate |= ZK__DUMP_DOOMED;
}

int zk__dump_circles(zk__dump_list *list, const zk_task *helper,
                     void (*each)(void *context, zk__dump_task *const *members, size_t count),
                     void *context)
{
    zk__dump_task **way = malloc((list->count + 1) * sizeof *way);
    step *steps = malloc((list->count + 1) * sizeof *steps);
    int rc = way && steps ? 0 : -ENOMEM;
    for (size_t i = 0; i < list->count; i++) {
        list->tasks[i].visit = UNSEEN;
        list->tasks[i].fate = list->tasks[i].task == helper ? ZK__DUMP_HELPED : 0;
    }
    for (size_t i = 0; !rc && i < list->count; i++) {
        if (list->tasks[i].visit != UNSEEN) continue;
        size_t depth = 0;
        zk__dump_task *next = &list->tasks[i];
        while (next || depth) {
            if (next && next->visit == UNSEEN) {
                next->visit = ON_THE_WAY;
                way[depth] = next;
                steps[depth++] = (step){.edge = edges_of(list, next->task)};
            } else if (next && next->visit == ON_THE_WAY) {
                size_t first = depth;
                while (way[--first] != next)
                    continue;
                circle_mark(way + first, depth - first);
                each(context, way + first, depth - first);
            } else if (next) {
                way[depth - 1]->fate |= next->fate;
            } else {
                way[--depth]->visit = SEEN;
                if (depth) way[depth - 1]->fate |= way[depth]->fate;
            }
            next = depth ? successor(list, way[depth - 1], &steps[depth - 1]) : NULL;
        }
    }
    free(way);
    free(steps);
    return rc;
}
