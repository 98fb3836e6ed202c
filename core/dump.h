/*
 * What a dump collects, and the circles that it finds in that.
 */
#ifndef ZOKIO_CORE_DUMP_H
#define ZOKIO_CORE_DUMP_H

#include <zokio/dump.h>

#include "core/backtrace.h"
#include "core/worker.h"

typedef enum zk__dump_state {
    ZK__DUMP_RUNNING,
    ZK__DUMP_READY,  /* has waited, and is about to go on */
    ZK__DUMP_QUEUED, /* has not started */
    ZK__DUMP_WAITING,
    ZK__DUMP_AWAITING, /* has called another one in place, on whose stack it lies */
} zk__dump_state;

/* What a task, or one of those that it needs, is. */
enum zk__dump_fate {
    ZK__DUMP_DOOMED = 1 << 0, /* in a circle */
    ZK__DUMP_HELPED = 1 << 1, /* the helper */
};

/* A task as it was when its worker looked. */
typedef struct zk__dump_task {
    const zk_task *task; /* only to be compared */
    const zk_site *site;
    int worker;
    zk__dump_state state;
    const zk__wait *wait; /* only to be compared */
    const char *wait_name;
    bool is_by_tasks; /* as its kind's */
    zk__wait_detail detail;
    const zk_task *holder; /* who has to act first; only to be compared */
    const zk_site *holder_site;
    zk_time since;
    uint8_t visit; /* of the search for circles */
    uint8_t fate;  /* found by that: bits of zk__dump_fate */
    int frame_count;
    void *frames[ZK__FRAMES_MAX];
} zk__dump_task;

/* `waiter` cannot go on before `other` has ended. */
typedef struct zk__dump_edge {
    const zk_task *waiter, *other;
} zk__dump_edge;

typedef struct zk__dump_list {
    zk__dump_task *tasks; /* sorted by `task` before the search */
    size_t count, capacity;
    zk__dump_edge *edges; /* sorted by `waiter` before the search */
    size_t edge_count, edge_capacity;
    size_t left_out;
} zk__dump_list;

/* Adds an entry, zeroed; NULL when there is no memory or too many. */
zk__dump_task *zk__dump_list_add(zk__dump_list *list);
void zk__dump_list_add_edge(zk__dump_list *list, const zk_task *waiter, const zk_task *other);
/* Moves what `from` holds. returns 0, -ENOMEM. */
int zk__dump_list_merge(zk__dump_list *to, zk__dump_list *from);
void zk__dump_list_sort(zk__dump_list *list);
void zk__dump_list_done(zk__dump_list *list);
/* In a sorted list; NULL if it is not there. */
zk__dump_task *zk__dump_list_find(const zk__dump_list *list, const zk_task *task);

/*
 * Calls `each` for every circle of waiting tasks, in a sorted list, with its members in order, and
 * sets the fate of all. helper: NULL, or whose help matters.
 * returns 0, -ENOMEM.
 */
int zk__dump_circles(zk__dump_list *list, const zk_task *helper,
                     void (*each)(void *context, zk__dump_task *const *members, size_t count),
                     void *context);

/* Whether a worker may do something though no task does, and what changes when it runs a task. */
typedef struct zk__dump_pulse {
    bool is_expecting;
    uint32_t head, urgent_added;
} zk__dump_pulse;

/* Adds what the tasks of the current worker do. returns its pulse. */
zk__dump_pulse zk__dump_collect(zk__worker *w, zk__dump_list *list);

/* zk_dump of this runtime, from any thread. */
int zk__dump(zk__runtime *rt, zk_dump_write *write, void *context);

/* What zk_dump says of deadlocks, on one line and cut to `size`, for a runtime of one worker whose
 * loop calls this because nothing can happen any more. */
void zk__dump_stuck(zk__runtime *rt, char *buf, size_t size);

#endif
