/*
 * Join, race and any: the calls are made in place, in a scope of their own, one after the other,
 * for as long as none waits. While they are, a single folded task in the list of pending ones
 * stands for those that have not begun; as soon as a call waits it is unfolded into a future for
 * each. The first call that decides the matter cancels the scope; all are awaited.
 */
#include <errno.h>

#include <zokio/call.h>

#include "core/scope.h"
#include "core/task.h"

enum { RUNNERS_IN_FRAME = 8 };
enum decides { BY_FAILURE = 1 << 0, BY_SUCCESS = 1 << 1 };

typedef struct runner runner;

typedef struct together {
    zk_scope scope;
    zk_task folded;
    unsigned decided_by;
    int decided;     /* the index of the call that decided; -1 */
    bool is_success; /* and how that ended */
    int error;       /* the first one; 0 */
    const zk_call *calls;
    int *results; /* or NULL */
    size_t count, begun;
    size_t unfolded_from; /* calls from here on have futures; 0: none has */
    runner *runners;      /* of the calls after the first */
} together;

struct runner {
    zk_future future;
    together *all;
    int index;
};

static const zk_site site = {"(joined call)", "", 0};

static __attribute__((noinline)) void decide(together *all, int index, int rc)
{
    bool is_first_error = rc < 0 && !all->error;
    if (is_first_error) all->error = rc;
    /* One error is told; so is one trail. */
    if (rc < 0 && !is_first_error) zk__trail_drop(zk__lane.current);
    if (all->decided < 0 && all->decided_by & (rc < 0 ? BY_FAILURE : BY_SUCCESS)) {
        all->decided = index;
        all->is_success = rc >= 0;
        zk__scope_cancel_as(&all->scope, -ECANCELED);
    }
}

/* What follows `all` is what it holds, where that is known. */
ZK__INLINE int call_make(together *all, size_t index, const zk_call *calls, unsigned decided_by,
                         int *ret_results)
{
    int rc = calls[index].fn(calls[index].arg);
    if (ret_results) ret_results[index] = rc;
    if (ZK_UNLIKELY(rc < 0) || decided_by & BY_SUCCESS) decide(all, (int)index, rc);
    return rc;
}

static int run(void *arg)
{
    runner *r = arg;
    together *all = r->all;
    return call_make(all, (size_t)r->index, all->calls, all->decided_by, all->results);
}

static int unfold(void *arg)
{
    together *all = arg;
    all->unfolded_from = all->begun;
    for (size_t i = all->begun; i < all->count; i++) {
        runner *r = &all->runners[i - 1];
        r->all = all;
        r->index = (int)i;
        zk_async_at(&r->future, run, r, &site);
        r->future.scope = &all->scope; /* the call that waits may be in a scope of its own */
    }
    return 0;
}

ZK__INLINE void run_all(together *all, const zk_call *calls, size_t count, unsigned decided_by,
                        int *ret_results)
{
    zk_task *folded = &all->folded;
    folded->fn = unfold;
    folded->arg = all;
    folded->next = zk__lane.pending;
    folded->scope = &all->scope;
    folded->site = &site;
    folded->state = ZK__TASK_FOLDED;
    zk__lane.pending = folded;
    all->unfolded_from = 0;
    for (size_t i = 0; i < count;) {
        size_t index = i++;
        all->begun = i;
        int rc = call_make(all, index, calls, decided_by, ret_results);
        /* After a failure each has a future, and with it an error trail of its own. */
        if (ZK_UNLIKELY(rc < 0) && !all->unfolded_from) zk__pending_flush(zk__lane.worker);
        if (ZK_UNLIKELY(all->unfolded_from)) break;
    }
    /* Else a call has left a future, and leaving the scope will tell. */
    if (ZK_LIKELY(zk__lane.pending == folded)) zk__lane.pending = folded->next;
    if (ZK_LIKELY(!all->unfolded_from)) return;
    for (size_t i = all->unfolded_from; i < count; i++) {
        zk_future *future = &all->runners[i - 1].future;
        if (!zk__task_is_done(future) || future->flags) zk_await(future);
    }
}

ZK__INLINE void together_run(together *all, const zk_call *calls, runner *runners, size_t count,
                             unsigned decided_by, int *ret_results)
{
    zk_task *me = zk__lane.current;
    zk_scope *outer = me->scope;
    zk__scope_enter_here(&all->scope, me, outer);
    all->decided_by = decided_by;
    all->decided = -1;
    all->error = 0;
    all->calls = calls;
    all->results = ret_results;
    all->count = count;
    all->runners = runners;
    run_all(all, calls, count, decided_by, ret_results);
    /* For this call, unlike for those that it made, the deadline around it is its own. */
    int reason = outer->reason;
    if (ZK_UNLIKELY(reason) && (all->error == -ECANCELED || decided_by == BY_SUCCESS)) {
        all->error = reason;
    }
    zk__scope_leave_here(&all->scope, me);
}

static __attribute__((noinline)) int run_many(together *all, const zk_call *calls, size_t count,
                                              unsigned decided_by, int *ret_results)
{
    runner *runners = zk_alloc((count - 1) * sizeof *runners);
    if (!runners) return -ENOMEM;
    together_run(all, calls, runners, count, decided_by, ret_results);
    zk_free(runners);
    return 0;
}

/* Makes the calls. returns 0, -ENOMEM. */
ZK__INLINE int run_together(together *all, const zk_call *calls, size_t count, unsigned decided_by,
                            int *ret_results)
{
    runner runners[RUNNERS_IN_FRAME];
    if (!zk__lane.worker) return ZK_E_NO_RUNTIME;
    if (ZK_UNLIKELY(count > RUNNERS_IN_FRAME + 1)) {
        return run_many(all, calls, count, decided_by, ret_results);
    }
    together_run(all, calls, runners, count, decided_by, ret_results);
    return 0;
}

int zk_join_calls(const zk_call *calls, size_t count, int *ret_results)
{
    together all;
    if (!count) return 0;
    int rc = run_together(&all, calls, count, BY_FAILURE, ret_results);
    return rc < 0 ? rc : all.error;
}

int zk_race_calls(const zk_call *calls, size_t count, int *ret_results)
{
    together all;
    if (!count) return -EINVAL;
    int rc = run_together(&all, calls, count, BY_FAILURE | BY_SUCCESS, ret_results);
    if (rc < 0) return rc;
    return all.is_success ? all.decided : all.error;
}

int zk_any_calls(const zk_call *calls, size_t count, int *ret_results)
{
    together all;
    if (!count) return -EINVAL;
    int rc = run_together(&all, calls, count, BY_SUCCESS, ret_results);
    if (rc < 0) return rc;
    return all.decided >= 0 ? all.decided : all.error;
}
