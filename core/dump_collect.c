/*
 * What a dump collects of a worker's own tasks, on that worker: the one that runs, those in its
 * queues, and those that wait. The latter are found through their stacks, and nothing is kept for
 * dumps but what suspend() notes there.
 */
#include "core/dump.h"

#include <stdarg.h>
#include <string.h>

#include "core/switch.h"
#include "core/task.h"

void zk__detail_add(zk__wait_detail *detail, const char *format, ...)
{
    size_t length = strlen(detail->text);
    va_list args;
    va_start(args, format);
    vsnprintf(detail->text + length, sizeof detail->text - length, format, args);
    va_end(args);
}

void zk__detail_add_site(zk__wait_detail *detail, const zk_site *site)
{
    bool has_room =
        detail->site_count < ZK__DETAIL_SITES && strlen(detail->text) + 1 < sizeof detail->text;
    if (has_room) detail->sites[detail->site_count++] = site;
    zk__detail_add(detail, "%s", has_room ? (char[]){ZK__DETAIL_SITE, '\0'} : "...");
}

typedef struct collector {
    zk__worker *worker;
    zk__dump_list *list;
    uint32_t mark; /* of stacks that nobody waits on */
} collector;

static zk__stack_span span_of(const zk__stack *stack)
{
    return (zk__stack_span){stack->base, stack->base + stack->size};
}

/* task: it, or what else is its own. */
static zk__dump_task *task_add_as(collector *c, const zk_task *task, const zk_scope *scope,
                                  const zk_site *site, zk__dump_state state)
{
    zk__dump_task *t = zk__dump_list_add(c->list);
    if (!t) return NULL;
    t->task = task;
    t->site = site;
    t->worker = c->worker->index;
    t->state = state;
    /* For which joins it has to end: those of all scopes around that are not its own. */
    for (const zk_scope *s = scope; s; s = s->parent) {
        if (s->joiner && s->owner != task) zk__dump_list_add_edge(c->list, s->joiner, task);
    }
    return t;
}

static zk__dump_task *task_add(collector *c, const zk_task *task, zk__dump_state state)
{
    return task_add_as(c, task, task->scope, task->site, state);
}

/* Whoever called this future in place, and so lies below it on this stack; NULL: nobody. */
static const zk_task *caller_of(const zk_task *task, const zk__stack *stack)
{
    if (task->flags & ZK__TASK_SPAWNED || task->is_selected) return NULL;
    const zk_task *awaiter = task->awaiter;
    /* One that has waited before has a stack; if it is another one, it waits there. */
    if (awaiter && awaiter->state == ZK__TASK_STARTED && awaiter->stack != stack) return NULL;
    return awaiter;
}

static void callers_add(collector *c, const zk_task *task, const zk__stack *stack)
{
    for (const zk_task *caller; (caller = caller_of(task, stack)); task = caller) {
        zk__dump_task *t = task_add(c, caller, ZK__DUMP_AWAITING);
        if (!t) return;
        t->holder = task;
        t->holder_site = task->site;
    }
}

/* A task of a scope here that runs on another worker. */
static void on_proxy(const zk_scope *scope, const zk_task *task, void *context)
{
    collector *c = context;
    zk__dump_list_add_edge(c->list, scope->joiner, task);
}

static void wait_describe(collector *c, zk__dump_task *t, const zk__wait *wait)
{
    t->wait = wait;
    t->wait_name = wait->kind ? wait->kind->name : "something";
    if (!wait->kind) return;
    t->is_by_tasks = wait->kind->is_by_tasks;
    if (wait->kind->describe) wait->kind->describe(wait, &t->detail);
    if (wait->kind->holder) t->holder = wait->kind->holder(wait, &t->holder_site);
    if (t->holder == t->task) t->holder = NULL; /* it has got it, and is about to be told */
    if (wait->kind != &zk__tasks_kind) return;
    zk_task **joiner = ((const zk__join_wait *)(const void *)wait)->waiter;
    const zk_scope *scope = (zk_scope *)(void *)((char *)joiner - offsetof(zk_scope, joiner));
    zk__detail_add(&t->detail, "%u left", (unsigned)scope->live);
    zk__proxies_each(scope, on_proxy, c);
}

/* A task that has been left on a stack. */
static zk__dump_task *suspended_add(collector *c, const zk_task *task, zk__stack *stack,
                                    zk__dump_state state)
{
    zk__dump_task *t = task_add(c, task, state);
    if (!t) return NULL;
    void *pc, *frame;
    zk__switch_saved(task->sp, &pc, &frame);
    t->frame_count = zk__frames_walk(pc, frame, span_of(stack), t->frames);
    return t;
}

static void on_stack(zk__stack *stack, void *context)
{
    collector *c = context;
    if (!stack->wait || stack->mark == c->mark) return;
    const zk_task *task = stack->wait->task;
    zk__dump_task *t = suspended_add(c, task, stack, ZK__DUMP_WAITING);
    if (!t) return;
    t->since = stack->wait->since;
    wait_describe(c, t, stack->wait);
    callers_add(c, task, stack);
}

static void queued(collector *c, const zk_task *task)
{
    if (task->state != ZK__TASK_STARTED) {
        (void)task_add(c, task, ZK__DUMP_QUEUED);
        return;
    }
    task->stack->mark = c->mark;
    if (suspended_add(c, task, task->stack, ZK__DUMP_READY)) callers_add(c, task, task->stack);
}

static void entry_add(collector *c, uint32_t index)
{
    const zk__worker *w = c->worker;
    zk__entry entry = w->ring[index & w->ring_mask];
    const zk__record *r = &w->records[index & w->ring_mask];
    zk_scope *scope = zk__entry_scope(entry);
    if (!(entry & ZK__ENTRY_SPAWNED)) {
        queued(c, (zk_task *)entry);
    } else if (scope) {
        const zk_task *task = (const void *)r; /* only to be compared */
        (void)task_add_as(c, task, scope, r->site, ZK__DUMP_QUEUED);
    }
}

zk__dump_pulse zk__dump_collect(zk__worker *w, zk__dump_list *list)
{
    static atomic_uint marks;
    uint32_t mark = atomic_fetch_add(&marks, 1) + 1;
    collector c = {.worker = w, .list = list, .mark = mark};
    w->stack->mark = mark;
    for (uint32_t i = 0; i < w->loop_count; i++)
        w->loops[i]->mark = mark;
    for (zk__stack *stack = w->dead; stack; stack = stack->next)
        stack->mark = mark;
    const zk_task *current = zk__lane.current;
    if (current != &w->root_task) {
        zk__dump_task *t = task_add(&c, current, ZK__DUMP_RUNNING);
        if (t) {
            t->frame_count =
                zk__frames_walk(__builtin_return_address(0), *(void **)__builtin_frame_address(0),
                                span_of(w->stack), t->frames);
        }
        callers_add(&c, current, w->stack);
    }
    for (zk_task *task = zk__lane.pending; task; task = task->next) {
        if (task->state != ZK__TASK_FOLDED) queued(&c, task);
    }
    for (zk_task *task = w->urgent; task; task = task->next)
        queued(&c, task);
    for (uint32_t i = w->head; i != w->tail; i++)
        entry_add(&c, i);
    for (zk_task *task = w->overflow; task; task = task->next)
        queued(&c, task);
    zk__stack_each(&w->stacks, on_stack, &c);
    return (zk__dump_pulse){
        .is_expecting = w->wheel.pending || w->hooks || atomic_load(&w->inbox) ||
                        w->poller.ops->is_expecting(&w->poller),
        .head = w->head,
        .urgent_added = w->urgent_added,
    };
}
