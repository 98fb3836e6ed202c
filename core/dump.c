/*
 * zk_dump: each worker collects what its own tasks do, whoever asked puts it together.
 *
 *   asker --a message to each worker--> collects into its part, unless it is too late --> asker
 *
 * The request belongs to all of them together: who lets go of it last frees it. Waiting tasks are
 * found through their stacks, and nothing is kept for dumps but what suspend() notes there.
 *
 * The parts are of different moments. A circle across workers is named only if a second look finds
 * its members in the very same waits: then they have all waited from the first look to the second,
 * and so could not let each other go in between.
 */
#include "core/dump.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "core/ask.h"
#include "core/switch.h"
#include "core/task.h"

enum { ANSWER_MS = 100, LINE_BYTES = 512 };

typedef struct request request;

typedef struct part {
    zk__msg msg; /* first */
    request *request;
    zk__worker *worker;
    zk__dump_list list;
    bool has_answered;
} part;

struct request {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int holders, missing;
    bool is_over;
    int count;
    part parts[];
};

/* ---- collecting, on the worker itself ---- */

typedef struct collector {
    zk__worker *worker;
    zk__dump_list *list;
    uint32_t mark; /* of stacks that nobody waits on */
} collector;

static zk__stack_span span_of(const zk__stack *stack)
{
    return (zk__stack_span){stack->base, stack->base + stack->size};
}

/* Notes for which joins this task has to end: those of all scopes around that are not its own. */
static void joiners_add(zk__dump_list *list, const zk_task *task)
{
    for (const zk_scope *s = task->scope; s; s = s->parent) {
        if (s->joiner && s->owner != task) zk__dump_list_add_edge(list, s->joiner, task);
    }
}

static zk__dump_task *task_add(collector *c, const zk_task *task, zk__dump_state state)
{
    zk__dump_task *t = zk__dump_list_add(c->list);
    if (!t) return NULL;
    t->task = task;
    t->site = task->site;
    t->worker = c->worker->index;
    t->state = state;
    joiners_add(c->list, task);
    return t;
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
    if (wait->kind->describe) wait->kind->describe(wait, t->detail, sizeof t->detail);
    if (wait->kind->holder) t->holder = wait->kind->holder(wait, &t->holder_site);
    if (t->holder == t->task) t->holder = NULL; /* it has got it, and is about to be told */
    if (wait->kind != &zk__tasks_kind) return;
    zk_task **joiner = ((const zk__join_wait *)(const void *)wait)->waiter;
    const zk_scope *scope = (zk_scope *)(void *)((char *)joiner - offsetof(zk_scope, joiner));
    snprintf(t->detail, sizeof t->detail, "%u left", (unsigned)scope->live);
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
    if (!task) return;
    if (task->state != ZK__TASK_STARTED) {
        (void)task_add(c, task, ZK__DUMP_QUEUED);
        return;
    }
    task->stack->mark = c->mark;
    if (suspended_add(c, task, task->stack, ZK__DUMP_READY)) callers_add(c, task, task->stack);
}

static void collect(zk__worker *w, zk__dump_list *list)
{
    static atomic_uint marks;
    uint32_t mark = atomic_fetch_add(&marks, 1) + 1;
    collector c = {.worker = w, .list = list, .mark = mark};
    w->stack->mark = mark;
    for (zk__stack *stack = w->loops; stack; stack = stack->next)
        stack->mark = mark;
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
    for (zk_task *task = zk__lane.pending; task; task = task->next)
        queued(&c, task);
    for (zk_task *task = w->urgent; task; task = task->next)
        queued(&c, task);
    for (uint32_t i = w->head; i != w->tail; i++)
        queued(&c, w->ring[i & w->ring_mask]);
    for (zk_task *task = w->overflow; task; task = task->next)
        queued(&c, task);
    zk__stack_each(&w->stacks, on_stack, &c);
}

/* ---- the request ---- */

/* The lock is held; it is left. */
static void request_leave(request *r)
{
    bool is_last = --r->holders == 0;
    pthread_mutex_unlock(&r->lock);
    if (!is_last) return;
    for (int i = 0; i < r->count; i++)
        zk__dump_list_done(&r->parts[i].list);
    pthread_cond_destroy(&r->answered);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void on_request(zk__msg *msg)
{
    part *p = (part *)(void *)msg;
    request *r = p->request;
    pthread_mutex_lock(&r->lock);
    /* Messages that are left at the very end are run by another thread. */
    if (!r->is_over && p->worker == zk__lane.worker) {
        collect(p->worker, &p->list);
        p->has_answered = true;
        if (--r->missing == 0) pthread_cond_signal(&r->answered);
    }
    request_leave(r);
}

static request *request_new(zk__runtime *rt)
{
    int count = rt->worker_count;
    request *r = calloc(1, sizeof *r + (size_t)count * sizeof *r->parts);
    if (!r) return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    r->count = count;
    r->holders = 1;
    for (int i = 0; i < count; i++)
        r->parts[i] = (part){.msg.run = on_request, .request = r, .worker = rt->workers[i]};
    return r;
}

/* Has every worker collect. The lock is held on return, and no part changes any more. */
static void request_run(request *r)
{
    zk__worker *self = zk__lane.worker;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count; i++) {
        part *p = &r->parts[i];
        if (p->worker == self) continue;
        r->holders++;
        r->missing++;
        zk__post(p->worker, &p->msg);
    }
    for (int i = 0; i < r->count; i++) {
        if (r->parts[i].worker != self) continue;
        collect(self, &r->parts[i].list);
        r->parts[i].has_answered = true;
    }
    zk_time until = zk__clock_real() + ZK_MS(ANSWER_MS);
    struct timespec t = {.tv_sec = until / ZK_SEC(1), .tv_nsec = until % ZK_SEC(1)};
    while (r->missing && !pthread_cond_timedwait(&r->answered, &r->lock, &t))
        continue;
    r->is_over = true;
}

/* ---- writing ---- */

typedef struct writer {
    zk_dump_write *write;
    void *context;
    const zk__dump_list *list, *again; /* again: of the second look */
    zk_time now;
    int circles;
    char line[LINE_BYTES];
} writer;

static void put(writer *o, const char *format, ...) ZK_PRINTF(2, 3);

/* Adds to the line; what does not fit is cut. */
static void put(writer *o, const char *format, ...)
{
    size_t length = strlen(o->line);
    va_list args;
    va_start(args, format);
    vsnprintf(o->line + length, sizeof o->line - length, format, args);
    va_end(args);
}

static void put_line(writer *o)
{
    o->write(o->context, o->line);
    o->line[0] = '\0';
}

static void put_site(writer *o, const zk_site *site)
{
    put(o, "%s", site->name ? site->name : "(unnamed)");
    if (site->file && *site->file) put(o, " (%s:%d)", site->file, site->line);
}

/* A task that was seen on no worker may be over, and its site with it. */
static void put_site_peeking(writer *o, const zk_site *maybe)
{
    zk_site site;
    char name[64] = "", file[128] = "";
    if (!maybe || !zk__peek(&site, maybe, sizeof site)) {
        put(o, "an unknown task");
        return;
    }
    zk__peek_string(name, sizeof name, site.name);
    zk__peek_string(file, sizeof file, site.file);
    put(o, "%s (%s:%d)", name, file, site.line);
}

static void put_frames(writer *o, void *const *frames, int count)
{
    for (int i = 0; i < count; i++) {
        char text[LINE_BYTES / 2];
        zk__frame_describe(frames[i], text, sizeof text);
        put(o, "    #%d %s", i, text);
        put_line(o);
    }
}

static void put_task(writer *o, const zk__dump_task *t)
{
    static const char *const states[] = {
        [ZK__DUMP_RUNNING] = "running", [ZK__DUMP_READY] = "ready",
        [ZK__DUMP_QUEUED] = "queued",   [ZK__DUMP_WAITING] = "waits for",
        [ZK__DUMP_AWAITING] = "awaits",
    };
    put(o, "  task ");
    put_site(o, t->site);
    put(o, ", worker %d, %s", t->worker, states[t->state]);
    if (t->state == ZK__DUMP_WAITING) put(o, " %s", t->wait_name);
    if (t->detail[0]) put(o, " (%s)", t->detail);
    if (t->holder) {
        const zk__dump_task *holder = zk__dump_list_find(o->list, t->holder);
        bool is_future = t->wait_name == zk__future_kind.name;
        put(o, t->state == ZK__DUMP_AWAITING ? " " : is_future ? " of " : ", held by ");
        if (holder) {
            put_site(o, holder->site);
        } else {
            put_site_peeking(o, t->holder_site);
        }
    }
    if (t->since) {
        zk_time ms = (o->now - t->since) / ZK_MS(1);
        put(o, ", for %lld ms", (long long)(ms > 0 ? ms : 0));
    }
    put_line(o);
    put_frames(o, t->frames, t->frame_count);
}

/* Whether the members of a circle were in the same waits when looked at again. */
static bool is_still_so(writer *o, zk__dump_task *const *members, size_t count)
{
    bool is_one_worker = true;
    for (size_t i = 1; i < count; i++)
        is_one_worker = is_one_worker && members[i]->worker == members[0]->worker;
    if (is_one_worker) return true;
    for (size_t i = 0; i < count; i++) {
        const zk__dump_task *t = o->again ? zk__dump_list_find(o->again, members[i]->task) : NULL;
        if (!t || t->state != members[i]->state || t->wait != members[i]->wait ||
            t->since != members[i]->since || t->holder != members[i]->holder) {
            return false;
        }
    }
    return true;
}

static void put_circle(void *context, zk__dump_task *const *members, size_t count)
{
    writer *o = context;
    o->circles++;
    if (!o->write || !is_still_so(o, members, count)) return;
    put(o, "deadlock: ");
    for (size_t i = 0; i < count; i++) {
        put_site(o, members[i]->site);
        put(o, " -> ");
    }
    put_site(o, members[0]->site);
    put_line(o);
}

/* A worker that has not answered: all that others can know of it. */
static void put_busy(writer *o, zk__worker *w)
{
    zk__answer answer = {0};
    put(o, "worker %d: busy in task ", w->index);
    if (zk__ask(w, &answer)) {
        put_site_peeking(o, answer.site);
    } else {
        zk_task *current = NULL;
        const zk_site *site = NULL;
        if (zk__peek(&current, &w->lane->current, sizeof current) &&
            zk__peek(&site, &current->site, sizeof site)) {
            put_site_peeking(o, site);
        } else {
            put_site_peeking(o, NULL);
        }
    }
    put(o, " since turn %llu", (unsigned long long)__atomic_load_n(&w->polls, __ATOMIC_RELAXED));
    put_line(o);
    put_frames(o, answer.frames, answer.frame_count);
}

/* A list of all parts of a request that answered. returns 0, -ENOMEM. */
static int parts_merge(request *r, zk__dump_list *list)
{
    int rc = 0;
    for (int i = 0; i < r->count && !rc; i++)
        rc = zk__dump_list_merge(list, &r->parts[i].list);
    zk__dump_list_sort(list);
    return rc;
}

/* The circles, each looked at twice. */
static int circles_write(writer *o, zk__runtime *rt, zk__dump_list *list)
{
    zk__dump_list again = {0};
    writer count_only = {.list = list};
    int rc = zk__dump_circles(list, put_circle, &count_only);
    if (rc < 0 || !count_only.circles) return rc;
    request *r = rt->worker_count > 1 ? request_new(rt) : NULL;
    if (r) {
        request_run(r);
        rc = parts_merge(r, &again);
        request_leave(r);
        o->again = &again;
    }
    for (size_t i = 0; i < list->count; i++)
        list->tasks[i].visit = 0;
    if (!rc) rc = zk__dump_circles(list, put_circle, o);
    zk__dump_list_done(&again);
    return rc;
}

int zk__dump(zk__runtime *rt, zk_dump_write *write, void *context)
{
    request *r = request_new(rt);
    if (!r) return -ENOMEM;
    request_run(r);
    zk__dump_list list = {0};
    int rc = parts_merge(r, &list);
    writer o = {.write = write, .context = context, .list = &list, .now = zk__clock()};
    if (!rc) {
        put(&o, "zokio: %d workers, %zu tasks", rt->worker_count, list.count + list.left_out);
        put_line(&o);
    }
    for (size_t i = 0; !rc && i < list.count; i++)
        put_task(&o, &list.tasks[i]);
    for (int i = 0; !rc && i < r->count; i++) {
        if (!r->parts[i].has_answered) put_busy(&o, r->parts[i].worker);
    }
    request_leave(r);
    if (!rc) rc = circles_write(&o, rt, &list);
    zk__dump_list_done(&list);
    return rc;
}

int zk_dump(zk_dump_write *write, void *context)
{
    zk__runtime *rt =
        zk__lane.worker ? zk__lane.worker->runtime : atomic_load(&zk__runtime_running);
    return rt ? zk__dump(rt, write, context) : ZK_E_NO_RUNTIME;
}
