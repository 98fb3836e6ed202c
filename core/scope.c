/*
 * Scopes: structured concurrency, cancellation, deadlines.
 *
 * Scopes form a tree: a scope's parent is the innermost scope of the task that enters it. Spawning
 * only counts (live++), so a task costs the scope nothing more; what cancellation has to find is
 * linked: scopes inside it, waits of suspended tasks, and tasks that run on other workers.
 * Cancelling walks that tree once, sets `reason` everywhere below and ends the waits; a shield
 * stops the walk. Since `reason` is set in each scope, a suspending call checks one word.
 *
 * All scopes of a tree belong to one worker. A task that runs elsewhere has its own root there (see
 * donate.c).
 */
#include <errno.h>

#include "core/member.h"
#include "core/scope.h"
#include "core/task.h"

_Static_assert(sizeof(zk__timer) == sizeof(struct zk__scope_timer),
               "the public mirror of zk__timer");

static zk__timer *scope_timer(zk_scope *scope) { return (zk__timer *)(void *)&scope->timer; }

void zk__scope_root_init(zk_scope *scope, zk_scope *parent, zk__worker *w)
{
    *scope = (zk_scope){.worker = w};
    if (parent) zk__scope_link(scope, parent);
}

zk_scope *zk__scope_enter(zk_scope *scope)
{
    zk_task *me = zk__lane.current;
    zk_scope *parent = me->scope;
    if (!parent) zk__panic("a scope was entered outside zk_run");
    zk__scope_enter_here(scope, me, parent);
    return scope;
}

zk_scope *zk__scope_enter_shield(zk_scope *scope)
{
    zk__scope_enter(scope);
    scope->reason = 0;
    scope->flags |= ZK__SCOPE_SHIELD;
    return scope;
}

void zk__bind_to_worker(void)
{
    zk_scope *scope = zk__lane.current->scope;
    for (; scope && !(scope->flags & ZK__SCOPE_BOUND); scope = scope->parent) {
        scope->flags |= ZK__SCOPE_BOUND;
    }
}

static void deadline_passed(zk__timer *timer)
{
    zk_scope *scope = (zk_scope *)(void *)((char *)timer - offsetof(zk_scope, timer));
    zk__scope_cancel_as(scope, -ETIMEDOUT);
}

zk_scope *zk__scope_enter_within(zk_scope *scope, zk_time span)
{
    zk__scope_enter(scope);
    if (scope->reason) return scope;
    if (span <= 0) {
        scope->reason = -ETIMEDOUT;
        return scope;
    }
    scope->timer.fire = (void *)deadline_passed;
    zk__wheel_add_span(&scope->worker->wheel, scope_timer(scope), span);
    return scope;
}

static void scope_join(zk_scope *scope)
{
    if (!scope->live) return;
    zk__join(&scope->joiner, scope);
    scope->joiner = NULL;
}

zk_scope *zk__scope_finish(zk_scope *scope)
{
    scope_join(scope);
    return NULL;
}

enum { LEFT_BEHIND_LOOKED_AT = 256 };

/* A future of this scope that is queued, if it is found: for runs that look for leaks. */
static const zk_task *future_queued(const zk_scope *scope)
{
    const zk__worker *w = zk__lane.worker;
    for (uint32_t i = 0; i < LEFT_BEHIND_LOOKED_AT && i < w->tail - w->head; i++) {
        const zk_task *task = zk__entry_task(w->ring[(w->tail - 1 - i) & w->ring_mask]);
        if (task && task->scope == scope) return task;
    }
    return NULL;
}

/*
 * Tasks that were spawned have ended by now. What still is in the scope is a future that was not
 * awaited, or an iterator that was not closed; the scope's memory ends, so they cannot go on.
 */
static __attribute__((noinline)) void left_behind_check(const zk_scope *scope)
{
    const zk_task *left = NULL;
    const zk_task *pending = zk__lane.pending;
    if (pending && pending->state != ZK__TASK_FOLDED && pending->scope == scope) left = pending;
    if (!left && scope->waits) left = scope->waits->task;
    if (!left && zk__leaks_current) left = future_queued(scope);
    if (left) {
        zk__panic("task %s has left a scope in which %s (%s:%d) is not over: each future is to be "
                  "awaited before",
                  zk__lane.current->site->name, left->site->name, left->site->file,
                  left->site->line);
    }
    if (scope->children) {
        zk__panic("task %s has left a scope before one inside it: each iterator is to be closed "
                  "before, each future to be awaited",
                  zk__lane.current->site->name);
    }
}

void zk__scope_leave(zk_scope *scope)
{
    zk_task *me = zk__lane.current;
    if (scope->live) {
        zk__scope_cancel_as(scope, -ECANCELED);
        scope_join(scope);
    }
    if (me->scope != scope) {
        zk__panic("scopes are left in another order than entered, in task %s", me->site->name);
    }
    if (ZK_UNLIKELY(scope->waits || scope->children || zk__lane.pending || zk__leaks_current)) {
        left_behind_check(scope);
    }
    me->scope = scope->parent;
    zk__scope_unlink(scope);
    if (scope->timer.link) zk__wheel_remove(&scope->worker->wheel, scope_timer(scope));
    if (scope->trail) zk_free(scope->trail);
}

void zk__scope_trail_take(zk_scope *scope, zk_task *to)
{
    zk_task carrier = {.flags = ZK__TASK_TRAIL, .trail = scope->trail};
    scope->trail = NULL;
    zk__trail_take(&carrier, to);
}

int zk_scope_wait(zk_scope *scope)
{
    if (scope->worker != zk__lane.worker) return -EINVAL;
    scope_join(scope);
    if (!scope->error) return scope->reason;
    if (scope->trail) zk__scope_trail_take(scope, zk__lane.current);
    return scope->error;
}

/* Ends the waits in one scope, and tells its tasks elsewhere. */
static void scope_wake(zk_scope *scope)
{
    while (scope->waits) {
        zk__wait *wait = scope->waits;
        zk__wait_unlink(wait);
        wait->cancel(wait);
    }
    if (scope->proxies) zk__proxies_cancel(scope);
}

/* From a list of siblings, the first that cancellation has to enter. */
static zk_scope *scope_to_cancel(zk_scope *scope)
{
    while (scope && (scope->reason || scope->flags & ZK__SCOPE_SHIELD))
        scope = scope->sibling;
    return scope;
}

void zk__scope_cancel_as(zk_scope *scope, int reason)
{
    if (scope->reason) return;
    scope->reason = reason;
    /* Depth first and without recursion: how deep a program nests is not for this stack to bear. */
    for (zk_scope *s = scope;;) {
        scope_wake(s);
        zk_scope *next = scope_to_cancel(s->children);
        while (!next && s != scope) {
            next = scope_to_cancel(s->sibling);
            s = s->parent;
        }
        if (!next) return;
        next->reason = -ECANCELED;
        s = next;
    }
}

void zk_scope_cancel(zk_scope *scope)
{
    if (scope->worker != zk__lane.worker) {
        zk__scope_cancel_remote(scope);
        return;
    }
    zk__scope_cancel_as(scope, -ECANCELED);
}

static void member_cancel(zk__wait *wait)
{
    zk__member *member = (zk__member *)(void *)((char *)wait - offsetof(zk__member, wait));
    member->on_cancel(member);
}

void zk__member_join(zk__member *member, zk_scope *scope, void (*on_cancel)(zk__member *))
{
    zk__wait *wait = &member->wait;
    *member = (zk__member){.wait.cancel = member_cancel, .scope = scope, .on_cancel = on_cancel};
    wait->next = scope->waits;
    wait->link = &scope->waits;
    if (wait->next) wait->next->link = &wait->next;
    scope->waits = wait;
    scope->live++;
}

void zk__member_leave(zk__member *member)
{
    zk_scope *scope = member->scope;
    zk__wait_unlink(&member->wait);
    if (--scope->live == 0 && scope->joiner) zk__ready(scope->worker, scope->joiner);
}

int zk_cancelled(void)
{
    zk_scope *scope = zk__lane.current->scope;
    return scope && scope->reason != ZK_E_NO_RUNTIME ? scope->reason : 0;
}

int zk_timeout(zk_time span, zk_fn *fn, void *arg)
{
    if (!zk__lane.worker) return ZK_E_NO_RUNTIME;
    int rc = 0;
    zk_scope scope __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&scope, span);
    rc = fn(arg);
    return rc == -ECANCELED && scope.reason == -ETIMEDOUT ? -ETIMEDOUT : rc;
}

/* ---- sleeping ---- */

typedef struct sleeper sleeper;
struct sleeper {
    zk__wait wait;
    zk__timer timer;
    const sleeper *ahead; /* as the timers lay when it began: the one after the next; a hint only */
};

static sleeper *sleeper_of(zk__timer *timer)
{
    return (sleeper *)(void *)((char *)timer - offsetof(sleeper, timer));
}

static void sleep_over(zk__timer *timer);

/* The one that fires after this one, if it is a sleep. */
static sleeper *sleeper_next(const sleeper *s)
{
    zk__timer *next = s->timer.next;
    return next && next->fire == sleep_over ? sleeper_of(next) : NULL;
}

/*
 * Sleepers that fire together are cache misses each, and the wheel's list tells the address of the
 * next one only: so each knows one more, and asks for what the third from here will touch.
 */
static void sleep_over(zk__timer *timer)
{
    sleeper *s = sleeper_of(timer);
    const sleeper *next = sleeper_next(s);
    if (next) {
        uintptr_t third = (uintptr_t)next->ahead;
        __builtin_prefetch((const void *)(third - ZK__LINE_BYTES), 1); /* its task */
        __builtin_prefetch((const void *)third, 1);
        __builtin_prefetch((const void *)(third + ZK__LINE_BYTES), 1);
    }
    zk__wait_end_on(zk__lane.worker, &s->wait, 0);
}

static void sleep_cancel(zk__wait *wait)
{
    sleeper *s = (sleeper *)(void *)wait;
    zk__wheel_remove(&zk__lane.worker->wheel, &s->timer);
    zk__wait_end(wait, -ECANCELED);
}

/*
 * Where 100,000 tasks sleep each stack is a page of its own, far from the others, and what a timer
 * touches when it fires is better near. So the record of a sleep lies behind the task, if there is
 * room. It is the current task's only one: a task that this one awaits in place has its own.
 */
ZK__INLINE int sleep_in(sleeper *s, zk_time span)
{
    static const zk__wait_kind sleeping = {.name = "sleep"};
    zk__worker *w = zk__lane.worker;
    s->wait.cancel = sleep_cancel;
    s->wait.kind = &sleeping;
    s->timer.fire = sleep_over;
    zk__wheel_add(&w->wheel, &s->timer, zk__moment_in(span));
    const sleeper *next = sleeper_next(s);
    s->ahead = next ? sleeper_next(next) : NULL;
    return (int)zk__wait_here(w, &s->wait, true);
}

/* Apart, so that the other way has a small frame. */
static __attribute__((noinline)) int sleep_on_stack(zk_time span)
{
    sleeper s;
    return sleep_in(&s, span);
}

static int sleep_for(zk_time span)
{
    zk_task *me = zk__lane.current;
    if (!(me->flags & ZK__TASK_SPAWNED && me->has_room)) return sleep_on_stack(span);
    _Static_assert(sizeof(sleeper) <= ZK__TASK_ARG_BYTES, "the room behind a task");
    return sleep_in((sleeper *)(void *)((char *)me + ZK__TASK_ARG_OFFSET), span);
}

int zk_sleep(zk_time span)
{
    int rc = zk__wait_begin();
    return rc < 0 || span <= 0 ? rc : sleep_for(span);
}

zk_time zk__sleep_until(zk_time moment)
{
    zk_time now = zk__clock();
    /* A sleep is never too short, but what it is measured from may be a little later. */
    while (now < moment) {
        int rc = zk_sleep(moment - now);
        if (rc < 0) return rc;
        now = zk__clock();
    }
    return now;
}

int zk__pause(zk_time span)
{
    const zk_scope *scope = zk__lane.current->scope;
    int reason = scope ? scope->reason : ZK_E_NO_RUNTIME;
    if (reason) return reason;
    zk__wait_begin_always();
    return sleep_for(span);
}
