/*
 * Join, race and any: the calls are made in place, in a scope of their own, one after the other,
 * for as long as none waits. While they are, a single folded task in the list of pending ones
 * stands for those that have not begun; as soon as a call waits it is unfolded into a task for
 * each. These count as tasks of the scope, but their records lie in the frame of the join, which
 * waits for the scope. The first call that decides the matter cancels the scope.
 */
#include <errno.h>

#include <zokio/call.h>

#include "core/scope.h"
#include "core/suspend.h"

enum { TASKS_IN_FRAME = 8 };
enum decides { BY_FAILURE = 1 << 0, BY_SUCCESS = 1 << 1 };

typedef struct together {
    zk_scope scope;                    /* first: that of each call's task, which so finds this */
    zk_task folded;                    /* only `next` and `state` of it are used */
    const zk_call *calls, *next, *end; /* next: the first that has not been made in place */
    int *results;                      /* or NULL */
    unsigned decided_by;
    int decided; /* the index of the call that decided; -1 */
    int error;   /* the first one; 0 */
    bool is_unfolded;
    bool is_success; /* how the call that decided has ended */
    zk_task tasks[]; /* of the calls from `next` on, once unfolded */
} together;

/* Most are of a few calls. */
typedef union together_few {
    together all;
    char bytes[sizeof(together) + TASKS_IN_FRAME * sizeof(zk_task)];
} together_few;

static const zk_site site = {"(joined call)", "", 0};

/* A call that `task` has made is over, and that may decide the matter. */
static __attribute__((noinline)) void decide(together *all, zk_task *task, size_t index, int rc)
{
    bool is_first_error = rc < 0 && !all->error;
    if (is_first_error) all->error = rc;
    /* One error is told; so is one trail. */
    if (rc < 0 && !is_first_error) zk__trail_drop(task);
    if (all->decided < 0 && all->decided_by & (rc < 0 ? BY_FAILURE : BY_SUCCESS)) {
        all->decided = (int)index;
        all->is_success = rc >= 0;
        zk__scope_cancel_as(&all->scope, -ECANCELED);
    }
}

static inline void task_make(together *all, zk_task *task, const zk_call *call)
{
    task->fn = call->fn;
    task->arg = call->arg;
    task->scope = &all->scope;
    task->site = &site;
    task->zk__word = (uint64_t)ZK__TASK_QUEUED << 32 | (uint64_t)ZK__TASK_JOINED << 40;
    task->awaiter = NULL;
}

static __attribute__((noinline)) void unfold_slow(zk__worker *w, together *all)
{
    zk_task *task = all->tasks;
    for (const zk_call *call = all->next; call < all->end; call++, task++) {
        task_make(all, task, call);
        zk__ready(w, task);
    }
}

void zk__unfold(zk__worker *w, zk_task *folded)
{
    together *all = (together *)(void *)((char *)folded - offsetof(together, folded));
    const zk_call *call = all->next, *end = all->end;
    size_t count = (size_t)(end - call);
    all->is_unfolded = true;
    all->scope.live += (uint32_t)count;
    if (ZK_UNLIKELY(w->overflow || count > w->ring_mask + 1 - (w->tail - w->head))) {
        unfold_slow(w, all);
        return;
    }
    zk_task *task = all->tasks;
    zk__entry *ring = w->ring;
    uint32_t tail = w->tail, mask = w->ring_mask;
    for (; call < end; call++, task++) {
        task_make(all, task, call);
        ring[tail++ & mask] = (zk__entry)task;
    }
    w->tail = tail;
}

/* The trail of the first error waits in the scope. */
static void trail_keep(together *all, zk_task *task, int rc)
{
    if (rc < 0 && !all->scope.trail) {
        all->scope.trail = task->trail;
        task->flags &= (uint8_t)~ZK__TASK_TRAIL;
    }
    zk__trail_drop(task);
}

static __attribute__((noinline)) void finished_slow(zk__worker *w, together *all, zk_task *task,
                                                    int rc)
{
    size_t index = (size_t)(all->next - all->calls) + (size_t)(task - all->tasks);
    if (all->results) all->results[index] = rc;
    if (rc < 0 || all->decided_by & BY_SUCCESS) decide(all, task, index, rc);
    if (task->flags & ZK__TASK_TRAIL) trail_keep(all, task, rc);
    zk__scope_child_finished(w, &all->scope);
}

void zk__joined_finished(zk__worker *w, zk_task *task, int rc)
{
    together *all = (together *)(void *)task->scope;
    if (ZK_UNLIKELY(rc < 0 || all->results || all->decided_by & BY_SUCCESS ||
                    task->flags & ZK__TASK_TRAIL)) {
        finished_slow(w, all, task, rc);
        return;
    }
    zk__scope_child_finished(w, &all->scope);
}

ZK__INLINE void run_all(together *all, const zk_call *calls, size_t count, unsigned decided_by,
                        int *ret_results)
{
    zk_task *me = zk__lane.current, *folded = &all->folded;
    folded->next = zk__lane.pending;
    folded->state = ZK__TASK_FOLDED;
    zk__lane.pending = folded;
    for (size_t index = 0; index < count; index++) {
        all->next = &calls[index + 1];
        int rc = calls[index].fn(calls[index].arg);
        if (ret_results) ret_results[index] = rc;
        if (ZK_UNLIKELY(rc < 0) || decided_by & BY_SUCCESS) decide(all, me, index, rc);
        /* After a failure each has a task, and with it an error trail of its own. */
        if (ZK_UNLIKELY(rc < 0) && !all->is_unfolded) zk__pending_flush(zk__lane.worker);
        if (ZK_UNLIKELY(all->is_unfolded)) break;
    }
    /* Else a call has left a future, and leaving the scope will tell. */
    if (ZK_LIKELY(zk__lane.pending == folded)) zk__lane.pending = folded->next;
    if (all->scope.live) {
        zk__join_here(&all->scope.joiner, &all->scope, &zk__tasks_kind);
        all->scope.joiner = NULL;
    }
    if (ZK_UNLIKELY(all->scope.trail != NULL)) zk__scope_trail_take(&all->scope, me);
}

ZK__INLINE int together_run(together *all, const zk_call *calls, size_t count, unsigned decided_by,
                            int *ret_results)
{
    zk_task *me = zk__lane.current;
    zk_scope *outer = me->scope;
    zk__scope_enter_here(&all->scope, me, outer);
    all->calls = calls;
    all->end = calls + count;
    all->results = ret_results;
    all->decided_by = decided_by;
    all->decided = -1;
    all->error = 0;
    all->is_unfolded = false;
    all->is_success = false;
    run_all(all, calls, count, decided_by, ret_results);
    /* For this call, unlike for those that it made, the deadline around it is its own. */
    int reason = outer->reason;
    if (ZK_UNLIKELY(reason) && (all->error == -ECANCELED || decided_by == BY_SUCCESS)) {
        all->error = reason;
    }
    zk__scope_leave_here(&all->scope, me);
    bool is_error = decided_by == BY_FAILURE || all->decided < 0 || !all->is_success;
    return is_error ? all->error : all->decided;
}

static __attribute__((noinline)) int run_many(const zk_call *calls, size_t count,
                                              unsigned decided_by, int *ret_results)
{
    together *all = zk_alloc(sizeof *all + (count - 1) * sizeof(zk_task));
    if (!all) return -ENOMEM;
    int rc = together_run(all, calls, count, decided_by, ret_results);
    zk_free(all);
    return rc;
}

/* Makes the calls. returns 0 or the index of the call that decided; the error. */
ZK__INLINE int run_together(const zk_call *calls, size_t count, unsigned decided_by,
                            int *ret_results)
{
    together_few few;
    if (ZK_UNLIKELY(!zk__lane.worker)) return ZK_E_NO_RUNTIME;
    if (ZK_UNLIKELY(count > TASKS_IN_FRAME + 1)) {
        return run_many(calls, count, decided_by, ret_results);
    }
    return together_run(&few.all, calls, count, decided_by, ret_results);
}

int zk_join_calls(const zk_call *calls, size_t count, int *ret_results)
{
    return count ? run_together(calls, count, BY_FAILURE, ret_results) : 0;
}

int zk_race_calls(const zk_call *calls, size_t count, int *ret_results)
{
    return count ? run_together(calls, count, BY_FAILURE | BY_SUCCESS, ret_results) : -EINVAL;
}

int zk_any_calls(const zk_call *calls, size_t count, int *ret_results)
{
    return count ? run_together(calls, count, BY_SUCCESS, ret_results) : -EINVAL;
}
