/*
 * Tasks across workers: donation, spawning on a given worker, and into a scope of another one.
 *
 * Only tasks that have not started ever move. A task that runs away from its scope gets a proxy:
 *
 *   origin                                     target
 *   zk__task_send: proxy, linked in the scope
 *     ------------------- run --------------->  proxy->scope is the root of what the task does here
 *     ------------------- cancel ------------>  cancels that root                    (at most once)
 *     <------------------ done ---------------  the task has returned
 *   the scope counts it as finished; the proxy is freed once `cancel`, if it was sent, has been
 *   answered too
 *
 * Only messages cross, so nothing in a task or a scope needs to be atomic.
 *
 * Donation: an idle worker raises its bit; a worker that is about to start a task and has more to
 * start sends half of them. Each time that this did not pay (what was donated took less time than
 * waking somebody) it is tried half as often, so that batches of tiny tasks stay where they are.
 * Tasks of a scope that has to do with a stream or a listener of this worker are never donated
 * (zk__bind_to_worker): they may use it.
 */
#include <errno.h>
#include <time.h>

#include "core/task.h"

enum { DONATE_MAX = 64, DONATE_SKIP_MAX = 1 << 14 };
static const zk_time donate_pays = ZK_US(20);

typedef struct zk__proxy {
    zk__msg msg;                    /* run, then done */
    zk__msg cancel_msg;             /* cancel, and its answer */
    struct zk__proxy *next, **link; /* in the origin scope's list */
    zk_task *task;
    zk_scope *origin_scope;
    zk__worker *origin, *target;
    zk_scope scope;
    zk_time began, took;
    bool is_running; /* on the target */
    bool is_done;    /* seen by the origin */
    bool is_cancel_sent;
    bool is_cancel_answered;
    bool is_donated;
    int result;
    int reason; /* of the cancellation */
} proxy;

static proxy *proxy_of_cancel(zk__msg *msg)
{
    return (proxy *)(void *)((char *)msg - offsetof(proxy, cancel_msg));
}

/* ---- on the origin ---- */

static void proxy_release(proxy *p)
{
    if (p->is_done && (!p->is_cancel_sent || p->is_cancel_answered)) zk_free(p);
}

static void on_cancel_answered(zk__msg *msg)
{
    proxy *p = proxy_of_cancel(msg);
    p->is_cancel_answered = true;
    proxy_release(p);
}

static void on_done(zk__msg *msg)
{
    proxy *p = (proxy *)(void *)msg;
    zk__worker *w = p->origin;
    *p->link = p->next;
    if (p->next) p->next->link = p->link;
    zk_task *task = p->task;
    task->scope = p->origin_scope;
    task->flags &= (uint8_t)~ZK__TASK_REMOTE;
    task->is_away = false;
    if (p->is_donated) {
        if (p->took >= donate_pays) {
            w->donate_skip = 0;
        } else if (w->donate_skip < DONATE_SKIP_MAX) {
            w->donate_skip = w->donate_skip ? 2 * w->donate_skip : 1;
        }
        w->donate_wait = w->donate_skip;
    }
    int result = p->result;
    p->is_done = true;
    proxy_release(p);
    zk__task_finished(w, task, result);
}

/* ---- on the target ---- */

static void on_run(zk__msg *msg)
{
    proxy *p = (proxy *)(void *)msg;
    zk__worker *w = p->target;
    zk__scope_root_init(&p->scope, &w->root, w);
    p->scope.owner = p->task;
    p->scope.bindings = p->origin_scope->bindings; /* fixed before the task was sent */
    p->task->scope = &p->scope;
    p->is_running = true;
    zk__count(&w->tasks_received, 1);
    p->began = p->is_donated ? zk__clock() : 0;
    zk__ready(w, p->task);
}

static void on_cancel(zk__msg *msg)
{
    proxy *p = proxy_of_cancel(msg);
    if (p->is_running) zk__scope_cancel_as(&p->scope, p->reason);
    p->cancel_msg.run = on_cancel_answered;
    zk__post(p->origin, &p->cancel_msg);
}

void zk__proxy_finished(zk__worker *w, zk_task *task, int rc)
{
    proxy *p = task->proxy;
    ZK_ASSERT(p->target == w);
    (void)w;
    p->is_running = false;
    zk__scope_unlink(&p->scope);
    p->result = rc;
    p->took = p->is_donated ? zk__clock() - p->began : 0;
    p->msg.run = on_done;
    zk__post(p->origin, &p->msg);
}

/* ---- sending ---- */

void zk__proxies_each(const zk_scope *scope,
                      void (*each)(const zk_scope *scope, const zk_task *task, void *context),
                      void *context)
{
    for (proxy *p = scope->proxies; p; p = p->next)
        each(scope, p->task, context);
}

void zk__proxies_cancel(zk_scope *scope)
{
    for (proxy *p = scope->proxies; p; p = p->next) {
        if (p->is_cancel_sent) continue;
        p->is_cancel_sent = true;
        p->reason = scope->reason;
        p->cancel_msg.run = on_cancel;
        zk__post(p->target, &p->cancel_msg);
    }
}

static int task_send(zk__worker *w, zk_task *task, zk__worker *to, bool is_donated)
{
    proxy *p = zk_alloc_zeroed(sizeof *p);
    if (!p) return -ENOMEM;
    zk_scope *scope = task->scope; /* which the target sets, too, once it has the task */
    p->task = task;
    p->origin_scope = scope;
    p->origin = w;
    p->target = to;
    p->is_donated = is_donated;
    p->next = scope->proxies;
    p->link = &scope->proxies;
    if (p->next) p->next->link = &p->next;
    scope->proxies = p;
    task->proxy = p;
    task->flags |= ZK__TASK_REMOTE;
    task->is_away = true;
    p->msg.run = on_run;
    zk__count(&w->tasks_sent, 1);
    zk__post(to, &p->msg);
    /* Its scope is cancelled already: the task has to learn that where it runs. */
    if (scope->reason) zk__proxies_cancel(scope);
    return 0;
}

int zk__task_send(zk__worker *w, zk_task *task, zk__worker *to)
{
    return task_send(w, task, to, false);
}

/* ---- a scope of another worker ---- */

typedef struct adoption {
    zk__msg msg;
    zk_scope *scope;
    zk_task *task;
    zk__worker *to;
} adoption;

static void on_adopt(zk__msg *msg)
{
    adoption *a = (adoption *)(void *)msg;
    zk__worker *w = a->scope->worker;
    a->scope->live++;
    if (a->to == w) {
        zk__ready(w, a->task);
    } else if (zk__task_send(w, a->task, a->to) < 0) {
        zk__task_finished(w, a->task, -ENOMEM);
    }
    zk_free(a);
}

/* The caller belongs to the scope, so the scope lives until the message has come: the caller's own
 * end travels the same way, later. */
int zk__spawn_remote(zk_scope *scope, zk_task *task, zk__worker *to)
{
    adoption *a = zk_alloc(sizeof *a);
    if (!a) return -ENOMEM;
    *a = (adoption){.msg.run = on_adopt, .scope = scope, .task = task, .to = to};
    zk__post(scope->worker, &a->msg);
    return 0;
}

static void on_scope_cancel(zk__msg *msg)
{
    adoption *a = (adoption *)(void *)msg;
    zk__scope_cancel_as(a->scope, -ECANCELED);
    free(a);
}

void zk__scope_cancel_remote(zk_scope *scope)
{
    /* Any thread may cancel, so the memory is no worker's. It cannot fail: it waits for memory. */
    adoption *a = malloc(sizeof *a);
    for (; !a; a = malloc(sizeof *a))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    *a = (adoption){.msg.run = on_scope_cancel, .scope = scope};
    zk__post(scope->worker, &a->msg);
}

/* ---- donation ---- */

/* Claims an idle worker. returns NULL if there is none after all. */
static zk__worker *idle_worker_claim(zk__worker *w)
{
    zk__runtime *rt = w->runtime;
    uint64_t idle = atomic_load(&rt->idle_workers);
    while (idle) {
        uint64_t bit = idle & -idle;
        if (atomic_compare_exchange_weak(&rt->idle_workers, &idle, idle & ~bit)) {
            zk__worker *to = rt->workers[__builtin_ctzll(bit)];
            return to != w ? to : NULL;
        }
    }
    return NULL;
}

static bool is_donatable(zk__entry entry)
{
    const zk_task *task = zk__entry_task(entry);
    const zk_scope *scope = task ? task->scope : zk__entry_scope(entry);
    bool may_go = task ? task->state == ZK__TASK_QUEUED &&
                             !(task->flags & (ZK__TASK_PINNED | ZK__TASK_REMOTE))
                       : scope && !(entry & ZK__ENTRY_PINNED);
    return may_go && !(scope->flags & ZK__SCOPE_BOUND);
}

void zk__donate(zk__worker *w)
{
    if (w->donate_wait) {
        w->donate_wait--;
        return;
    }
    /* Thousands may be queued that have to stay, so each is looked at once. */
    bool is_ahead = w->donate_seen - w->head <= w->tail - w->head;
    uint32_t at = is_ahead ? w->donate_seen : w->head, count = 0;
    for (; at != w->tail && count < DONATE_MAX; at++) {
        if (is_donatable(w->ring[at & w->ring_mask])) {
            count++;
        } else if (!count) {
            w->donate_seen = at + 1;
        }
    }
    if (!count) return;
    zk__worker *to = idle_worker_claim(w);
    if (!to) return;
    zk__lane.current = &w->root_task; /* the task that was may be over */
    /* The caller is about to run one task itself, so of what is queued behind it half, rounded up,
     * goes. */
    for (count = (count + 1) / 2; count;) {
        zk__entry *slot = &w->ring[--at & w->ring_mask];
        if (!is_donatable(*slot)) continue;
        zk_task *task = zk__entry_task(*slot);
        if (!task && !(task = zk__entry_become_task(w, at))) break;
        if (task_send(w, task, to, true) < 0) break;
        *slot = ZK__ENTRY_GONE;
        count--;
    }
    w->donate_wait = w->donate_skip ? w->donate_skip : 1;
}
