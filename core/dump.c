/*
 * zk_dump: each worker collects what its own tasks do, whoever asked puts it together.
 *
 *   asker --a message to each worker--> collects into its part, unless it is too late --> asker
 *
 * The request belongs to all of them together: who lets go of it last frees it.
 *
 * The parts are of different moments. A circle across workers is named only if a second look finds
 * its members in the very same waits: then they have all waited from the first look to the second,
 * and so could not let each other go in between.
 *
 * Circles are among waits of which it is known who has to end them. Where anybody may (a channel, a
 * semaphore) it is certain only when all that is left is tasks that wait for what tasks do.
 */
#include "core/dump.h"

#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/ask.h"
#include "core/task.h"

enum { ANSWER_MS = 100, LINE_BYTES = 512, STUCK_SHOWN = 16 };

typedef struct request request;

typedef struct part {
    zk__msg msg; /* first */
    request *request;
    zk__worker *worker;
    zk__dump_list list;
    zk__dump_pulse pulse;
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
        p->pulse = zk__dump_collect(p->worker, &p->list);
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
        r->parts[i].pulse = zk__dump_collect(self, &r->parts[i].list);
        /* Who asks is no task then, and may be about to do something. */
        if (zk__lane.current == &self->root_task) r->parts[i].pulse.is_expecting = true;
        r->parts[i].has_answered = true;
    }
    zk_time until = zk__clock_real() + ZK_MS(ANSWER_MS);
    struct timespec t = {.tv_sec = until / ZK_SEC(1), .tv_nsec = until % ZK_SEC(1)};
    while (r->missing && !pthread_cond_timedwait(&r->answered, &r->lock, &t))
        continue;
    r->is_over = true;
    pthread_mutex_unlock(&r->lock);
}

/* What all workers that answered were seen to do, at nearly the same moment. */
typedef struct look {
    request *request;
    zk__dump_list list; /* of all parts, sorted */
} look;

/* returns 0, -ENOMEM; either way to be ended by look_done. */
static int look_take(zk__runtime *rt, look *ret_look)
{
    *ret_look = (look){.request = request_new(rt)};
    request *r = ret_look->request;
    if (!r) return -ENOMEM;
    request_run(r);
    int rc = 0;
    for (int i = 0; i < r->count && !rc; i++)
        rc = zk__dump_list_merge(&ret_look->list, &r->parts[i].list);
    zk__dump_list_sort(&ret_look->list);
    return rc;
}

static void look_done(look *l)
{
    zk__dump_list_done(&l->list);
    request *r = l->request;
    l->request = NULL;
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    request_leave(r);
}

/* ---- nothing moves ---- */

/*
 * Whether nothing will ever happen unless `helper` (NULL: nobody) does something: every other task
 * waits for what only tasks do, and no worker expects a timer or something from outside. What the
 * workers have sent to each other is seen to by is_confirmed.
 */
static bool nothing_moves(const look *l, const zk_task *helper)
{
    for (int i = 0; i < l->request->count; i++) {
        const part *p = &l->request->parts[i];
        if (!p->has_answered || p->pulse.is_expecting) return false;
    }
    for (size_t i = 0; i < l->list.count; i++) {
        const zk__dump_task *t = &l->list.tasks[i];
        bool is_held_up =
            t->state == ZK__DUMP_AWAITING || (t->state == ZK__DUMP_WAITING && t->is_by_tasks);
        if (!is_held_up && t->task != helper) return false;
    }
    return !l->list.left_out;
}

/*
 * Whether no task has run on any worker from its part of one look to that of the next, before and
 * after which nothing moved. Then at the moment between the looks nothing moved anywhere; and what
 * had been sent before that had arrived by the second look, without effect.
 */
static bool is_confirmed(const look *first, const look *again, const zk_task *helper)
{
    /* It is the only worker itself that has looked. */
    if (first->request->count == 1 && zk__lane.worker) return true;
    if (!again->request || !nothing_moves(again, helper)) return false;
    for (int i = 0; i < first->request->count; i++) {
        zk__dump_pulse a = first->request->parts[i].pulse, b = again->request->parts[i].pulse;
        if (a.head != b.head || a.urgent_added != b.urgent_added) return false;
    }
    return true;
}

/* Whether the program has threads that the runtime knows nothing of: those may do what functions
 * for any thread do. */
static bool has_other_threads(zk__runtime *rt)
{
    struct stat st;
    if (stat("/proc/self/task", &st)) return true;
    /* The links of the folder: two, and one for each thread. */
    int known = rt->worker_count + zk__blocking_threads(rt) + (rt->watchdog != NULL);
    return (int)st.st_nlink - 2 > known;
}

/* ---- writing ---- */

typedef struct writer {
    zk_dump_write *write; /* NULL: circles are only counted */
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

/* Of a task that may be over, and its site gone with it. */
static void put_site_peeking(writer *o, const zk_site *maybe)
{
    zk_site site;
    char name[64] = "", file[128] = "";
    if (!maybe || !zk__peek(&site, maybe, sizeof site)) {
        put(o, "an unknown task");
        return;
    }
    if (site.name) zk__peek_string(name, sizeof name, site.name);
    if (site.file) zk__peek_string(file, sizeof file, site.file);
    put_site(o, &(zk_site){site.name ? name : NULL, file, site.line});
}

static void put_detail(writer *o, const zk__wait_detail *detail)
{
    int site = 0;
    put(o, " (");
    for (const char *text = detail->text; *text;) {
        size_t length = strcspn(text, (char[]){ZK__DETAIL_SITE, '\0'});
        put(o, "%.*s", (int)length, text);
        text += length;
        if (!*text) break;
        put_site_peeking(o, detail->sites[site++]);
        text++;
    }
    put(o, ")");
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

/* What it waits for, and who holds that. */
static void put_wait(writer *o, const zk__dump_task *t)
{
    if (t->state == ZK__DUMP_WAITING) put(o, " %s", t->wait_name);
    if (t->detail.text[0]) put_detail(o, &t->detail);
    if (!t->holder) return;
    const zk__dump_task *holder = zk__dump_list_find(o->list, t->holder);
    bool is_future = t->wait_name == zk__future_kind.name;
    put(o, t->state == ZK__DUMP_AWAITING ? " " : is_future ? " of " : ", held by ");
    if (holder) {
        put_site(o, holder->site);
    } else {
        put_site_peeking(o, t->holder_site);
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
    put_wait(o, t);
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

/* The tasks that wait, but for those that need one of a circle or the helper to go on: of these it
 * is said already. */
static size_t stuck_count(const zk__dump_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += list->tasks[i].state == ZK__DUMP_WAITING && !list->tasks[i].fate;
    return count;
}

/* Nothing moves: says so, and names the tasks that are in no circle. */
static void put_stuck(writer *o, const zk_task *helper, bool has_threads)
{
    const zk__dump_list *list = o->list;
    size_t stuck = stuck_count(list), shown = 0;
    if (!stuck) return;
    if (helper) {
        put(o, "no waiting task can go on unless ");
        put_site(o, zk__dump_list_find(list, helper)->site);
        put(o, "%s helps", has_threads ? " or another thread of the program" : "");
        put_line(o);
        return;
    }
    put(o, "deadlock: no task can go on%s",
        has_threads ? " unless another thread of the program helps" : "");
    put_line(o);
    for (size_t i = 0; i < list->count && shown < STUCK_SHOWN; i++) {
        const zk__dump_task *t = &list->tasks[i];
        if (t->state != ZK__DUMP_WAITING || t->fate) continue;
        put(o, "  ");
        put_site(o, t->site);
        put(o, " waits for");
        put_wait(o, t);
        put_line(o);
        shown++;
    }
    if (shown == stuck) return;
    put(o, "  and %zu more", stuck - shown);
    put_line(o);
}

static void deadlocks_write(writer *o, zk__runtime *rt, look *first, const look *again,
                            const zk_task *helper)
{
    o->again = &again->list;
    /* It has had the memory for this before. */
    if (o->circles && zk__dump_circles(&first->list, helper, put_circle, o) < 0) return;
    if (!nothing_moves(first, helper) || !is_confirmed(first, again, helper)) return;
    put_stuck(o, helper, has_other_threads(rt));
}

int zk__dump(zk__runtime *rt, zk_dump_write *write, void *context)
{
    const zk__worker *self = zk__lane.worker;
    const zk_task *helper = self ? zk__lane.current : NULL;
    look first, again = {0};
    int rc = look_take(rt, &first);
    writer o = {.context = context, .list = &first.list, .now = zk__clock()};
    if (!rc) rc = zk__dump_circles(&first.list, helper, put_circle, &o);
    bool is_at_once = self && rt->worker_count == 1;
    if (!rc && !is_at_once && (o.circles || nothing_moves(&first, helper))) {
        if (look_take(rt, &again) < 0) look_done(&again);
    }
    if (!rc) {
        o.write = write;
        put(&o, "zokio: %d workers, %zu tasks", rt->worker_count,
            first.list.count + first.list.left_out);
        put_line(&o);
        for (size_t i = 0; i < first.list.count; i++)
            put_task(&o, &first.list.tasks[i]);
        for (int i = 0; i < rt->worker_count; i++) {
            if (!first.request->parts[i].has_answered) put_busy(&o, rt->workers[i]);
        }
        deadlocks_write(&o, rt, &first, &again, helper);
    }
    look_done(&again);
    look_done(&first);
    return rc;
}

/* Where zk__dump_stuck writes. */
typedef struct line_buffer {
    char *text;
    size_t size;
} line_buffer;

static void line_join(void *context, const char *line)
{
    line_buffer *b = context;
    size_t length = strlen(b->text);
    while (*line == ' ')
        line++;
    snprintf(b->text + length, b->size - length, "%s%s", length ? "; " : "", line);
}

void zk__dump_stuck(zk__runtime *rt, char *buf, size_t size)
{
    line_buffer b = {buf, size};
    buf[0] = '\0';
    look l;
    int rc = look_take(rt, &l);
    writer o = {.write = line_join, .context = &b, .list = &l.list};
    if (!rc) rc = zk__dump_circles(&l.list, NULL, put_circle, &o);
    if (!rc) put_stuck(&o, NULL, false);
    look_done(&l);
}

int zk_dump(zk_dump_write *write, void *context)
{
    zk__runtime *rt =
        zk__lane.worker ? zk__lane.worker->runtime : atomic_load(&zk__runtime_running);
    return rt ? zk__dump(rt, write, context) : ZK_E_NO_RUNTIME;
}
