/*
 * What the runtime's files share about tasks: see task.c for how they work.
 */
#ifndef ZOKIO_CORE_TASK_H
#define ZOKIO_CORE_TASK_H

#include "core/worker.h"

/*
 * A task's memory, with room for a small copied argument. Three cache lines: with two, the lines
 * that matter of a batch of tasks would all fall into every other set of the first-level cache.
 */
enum {
    ZK__TASK_BYTES = 192,
    ZK__TASK_ARG_OFFSET = (sizeof(zk_task) + 15) & ~15u, /* aligned for every type */
    ZK__TASK_ARG_BYTES = ZK__TASK_BYTES - ZK__TASK_ARG_OFFSET,
};

/*
 * Suspends the current task until somebody makes *ret_waiter, set to it, ready. Not cut short by
 * cancellation. scope: whose tasks are waited for, NULL for a future.
 */
void zk__join(zk_task **ret_waiter, const zk_scope *scope);

/* zk__word of a spawned task: queued, and has_room until somebody puts something there. */
#define ZK__WORD_SPAWNED                                                                           \
    ((uint64_t)ZK__TASK_QUEUED << 32 | (uint64_t)ZK__TASK_SPAWNED << 40 | (uint64_t)1 << 56)

/* The urgent task to run next; NULL: the ring and the poller are to go on up to w->turn_end. */
zk_task *zk__urgent_take(zk__worker *w);

enum { ZK__RING_ENTRIES = 512 }; /* what the run queue begins with */

/* Halves the run queue's memory if it is hardly used. returns whether it did. */
bool zk__ring_trim(zk__worker *w);

/* Makes a task of an entry of the run queue that is none yet. returns NULL without memory. */
zk_task *zk__entry_become_task(zk__worker *w, uint32_t index);

/* Exchanges two entries of the run queue. */
static inline void zk__entries_swap(zk__worker *w, uint32_t i, uint32_t j)
{
    uint32_t a = i & w->ring_mask, b = j & w->ring_mask;
    zk__entry entry = w->ring[a];
    zk__record record = w->records[a];
    w->ring[a] = w->ring[b];
    w->records[a] = w->records[b];
    w->ring[b] = entry;
    w->records[b] = record;
}

/* Spawns a task that stays on this worker, into a scope of this worker. Also from the loop. returns
 * 0, -ENOMEM. */
int zk__spawn_pinned(zk_scope *scope, zk_fn *fn, void *arg, const zk_site *site);

/* Puts the tasks of a join's calls that have not begun into the run queue. */
void zk__unfold(zk__worker *w, zk_task *folded);
/* One of them has ended, on the worker of its scope. */
void zk__joined_finished(zk__worker *w, zk_task *task, int rc);

/* A task of the scope has ended. */
static inline void zk__scope_child_finished(zk__worker *w, zk_scope *scope)
{
    if (--scope->live == 0 && scope->joiner) zk__ready(w, scope->joiner);
}

/* What such a task waits on. */
typedef struct zk__join_wait {
    zk__wait wait;
    zk_task **waiter;
} zk__join_wait;
extern const zk__wait_kind zk__future_kind, zk__tasks_kind;

/* For a join that cannot have a stack to go on with: sees to it that there is one. */
void zk__join_without_memory(zk__worker *w, const zk_scope *scope);

void zk__overflow_drain(zk__worker *w);

/* Before a turn's tasks run: prefetches what they will need, where there are very many. */
void zk__look_far_ahead(const zk__worker *w);

/* Gives back a stack that is in no list any more. */
void zk__loop_stack_free(zk__worker *w, zk__stack *stack);
/* Gives some of the loop stacks back that have not been needed for a while. */
void zk__loop_stacks_look(zk__worker *w);
/* Gives surplus loop stacks back, for a worker that has been idle for a while. */
void zk__loop_stacks_trim(zk__worker *w);

/* What is current on a thread that is no worker. */
extern zk_task zk__task_outside;

/* Panics if another task awaits this future, which is queued or has been started: there is one
 * place for an awaiter, and the first would wait for ever. */
void zk__check_sole_awaiter(const zk_future *future);

#endif
