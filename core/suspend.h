/*
 * Suspending, for the few functions that do nothing else most of the time: the whole way from a
 * wait to the other stack in one frame. Each frame between the two costs a push and a pop of its
 * registers, and a `ret` that the processor predicts wrongly whenever the task that it goes on with
 * has come here by another way. All others call zk__wait_for.
 */
#ifndef ZOKIO_CORE_SUSPEND_H
#define ZOKIO_CORE_SUSPEND_H

#include "core/probe.h"
#include "core/switch.h"
#include "core/task.h"

#define ZK__INLINE static inline __attribute__((always_inline))

/* Calls the stack's on_leave. */
void zk__leave_hook(zk__stack *stack);

/*
 * Where many tasks are ready their stacks are not in the nearest caches, and often not in the TLB:
 * what will be needed soon is asked for ahead of time, the tasks a little before their stacks. More
 * lines of each than are sure to be needed make it slower. (100,000 sleeping tasks, CPU for each:
 * 1,500 ns without this, 700 with it.)
 */
enum { ZK__AHEAD_OF_STACK = 4, ZK__AHEAD_OF_TASK = 10, ZK__LOOPS_NEAR = 64, ZK__LINE_BYTES = 64 };

/* Inlined, or gcc takes it for a function without effects and drops the call. */
ZK__INLINE void zk__look_ahead(const zk__worker *w, uint32_t head)
{
    if (ZK_LIKELY(w->tail - head <= ZK__AHEAD_OF_TASK)) return;
    __builtin_prefetch((void *)w->ring[(head + ZK__AHEAD_OF_TASK) & w->ring_mask], 1);
    const zk_task *soon = zk__entry_task(w->ring[(head + ZK__AHEAD_OF_STACK) & w->ring_mask]);
    if (!soon) return;
    uintptr_t sp = (uintptr_t)soon->sp; /* or an argument, and then this does not matter */
    __builtin_prefetch((void *)sp, 1);
    __builtin_prefetch((void *)(sp + ZK__LINE_BYTES), 1);
    __builtin_prefetch((void *)(sp + 2 * ZK__LINE_BYTES), 1);
    __builtin_prefetch(soon->stack, 1);
}

ZK__INLINE zk__stack *zk__loop_stack_take(zk__worker *w)
{
    uint32_t count = --w->loop_count;
    zk__stack *stack = w->loops[count];
    if (count < w->loops_spare) w->loops_spare = count;
    if (ZK_UNLIKELY(count > ZK__LOOPS_NEAR)) {
        const char *record = (const char *)w->loops[count - ZK__AHEAD_OF_STACK];
        __builtin_prefetch(record, 1);
        __builtin_prefetch(record - ZK__LINE_BYTES, 1);
        __builtin_prefetch(record - 2 * ZK__LINE_BYTES, 1);
        __builtin_prefetch(record - 3 * ZK__LINE_BYTES, 1);
    }
    return stack;
}

/* Leaves the current stack to the current task, `me`, until that is taken from the ring again. No
 * future is pending. wait: for dumps; NULL for a yield. */
ZK__INLINE void zk__leave(zk__worker *w, zk_task *me, const zk__wait *wait)
{
    zk__stack *mine = w->stack, *to;
    if (ZK_UNLIKELY(mine->on_leave != NULL)) zk__leave_hook(mine);
    me->stack = mine;
    me->state = ZK__TASK_STARTED;
    mine->wait = wait;
    uint32_t head = w->head;
    zk__entry entry = ZK__ENTRY_GONE;
    if (head != w->tail && head != w->turn_end) entry = w->ring[head & w->ring_mask];
    zk_task *next = (zk_task *)entry;
    void *to_sp;
    if (!(entry & ZK__ENTRY_SPAWNED) && next->state == ZK__TASK_STARTED) {
        w->head = head + 1;
        zk__look_ahead(w, head);
        if (ZK_UNLIKELY(next == me)) return; /* what it waits for has come while it was leaving */
        zk__lane.current = next;
        to = next->stack;
        to_sp = next->sp;
    } else {
        to = zk__loop_stack_take(w);
        to_sp = to->sp;
    }
    w->stack = to;
    zk__switch(mine, &me->sp, to, to_sp, false);
}

ZK__INLINE void zk__suspend(zk__worker *w, zk_task *me, const zk__wait *wait)
{
    if (ZK_UNLIKELY(zk__lane.pending != NULL)) zk__pending_flush(w);
    zk__leave(w, me, wait);
}

/* zk__wait_for. can_cancel: whether wait->cancel is set. */
ZK__INLINE ssize_t zk__wait_here(zk__worker *w, zk__wait *wait, bool can_cancel)
{
    zk_task *me = zk__lane.current;
    zk_scope *scope = me->scope;
    wait->task = me;
    wait->since = w->now;
    zk__count(&w->waits, 1);
    if (can_cancel) {
        wait->next = scope->waits;
        wait->link = &scope->waits;
        if (wait->next) wait->next->link = &wait->next;
        scope->waits = wait;
    } else {
        wait->link = NULL;
    }
    ZK__PROBE(park, me, wait);
    zk__suspend(w, me, wait);
    ZK__PROBE(resume, wait->task, wait->result);
    ssize_t result = wait->result;
    if (ZK_LIKELY(result != -ECANCELED)) return result;
    int reason = wait->task->scope->reason;
    return reason ? reason : result;
}

/* zk__join. */
ZK__INLINE void zk__join_here(zk_task **ret_waiter, const zk_scope *scope,
                              const zk__wait_kind *kind)
{
    zk__worker *w = zk__lane.worker;
    *ret_waiter = zk__lane.current;
    if (ZK_UNLIKELY(!w->loop_count && !zk__loop_stack_reserve(w))) {
        /* It may be made ready before it has been left; then it just goes on. */
        zk__lane.current->state = ZK__TASK_STARTED;
        if (zk__lane.pending) zk__pending_flush(w);
        zk__join_without_memory(w, scope);
    }
    zk__join_wait wait;
    wait.waiter = ret_waiter;
    wait.wait.kind = kind;
    wait.wait.task = zk__lane.current;
    wait.wait.since = w->now;
    zk__count(&w->waits, 1);
    ZK__PROBE(park, wait.wait.task, &wait.wait);
    zk__suspend(w, wait.wait.task, &wait.wait);
    ZK__PROBE(resume, wait.wait.task, 0);
}

#endif
