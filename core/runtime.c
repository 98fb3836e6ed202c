/*
 * The runtime: workers, their loop's turn, and zk_run.
 *
 * A turn is what a worker does between two batches of tasks: messages, timers, poller. It blocks in
 * the poller only when no task is ready. To be woken from there it raises is_sleeping and then
 * looks at its inbox once more; a sender pushes its message and then looks at is_sleeping: in the
 * total order of these four one of them sees the other.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "core/cpus.h"
#include "core/guard.h"
#include "core/probe.h"
#include "core/sim.h"
#include "core/switch.h"
#include "core/task.h"
#include "core/watchdog.h"

enum { TURN_TASKS = 256, WORKERS_MAX = 64 };

#ifdef NDEBUG
static const bool is_debug_build = false;
#else
static const bool is_debug_build = true;
#endif

static const zk_time trim_after = ZK_SEC(1), far = ZK_MS(200);

static atomic_bool is_running;
zk__runtime *_Atomic zk__runtime_running;

zk_time zk__clock_real(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ZK_SEC(t.tv_sec) + t.tv_nsec;
}

zk_time zk__clock(void)
{
    if (ZK_UNLIKELY(zk__sim_current != NULL)) return zk__sim_current->now;
    return zk__clock_real();
}

zk_time zk__moment_in(zk_time span)
{
    zk_time now = zk__clock();
    return span > INT64_MAX - now ? INT64_MAX : now + span;
}

_Noreturn void zk__panic(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("zokio: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

zk__heap *zk__heap_current(void) { return zk__lane.worker ? zk__lane.worker->heap : NULL; }

/* ---- messages ---- */

void zk__post(zk__worker *to, zk__msg *msg)
{
    zk__msg *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        msg->next = head;
    } while (!atomic_compare_exchange_weak(&to->inbox, &head, msg));
    if (atomic_load(&to->is_sleeping) && atomic_exchange(&to->is_sleeping, false)) {
        to->poller.ops->wake(&to->poller);
    }
}

void zk__inbox_run(zk__worker *w)
{
    if (!atomic_load_explicit(&w->inbox, memory_order_relaxed)) return;
    zk__msg *newest = atomic_exchange(&w->inbox, NULL), *oldest = NULL;
    while (newest) {
        zk__msg *msg = newest;
        newest = msg->next;
        msg->next = oldest;
        oldest = msg;
    }
    uint64_t count = 0;
    while (oldest) {
        count++;
        zk__msg *msg = oldest;
        oldest = msg->next; /* run owns the message */
        msg->run(msg);
    }
    zk__count(&w->messages, count);
}

/* ---- the turn ---- */

static bool is_idle(const zk__worker *w)
{
    return w->head == w->tail && !w->overflow && !w->urgent;
}

/* How long the poller may wait: until the next timer. */
static zk_time poll_timeout(const zk__worker *w)
{
    zk_time next = zk__wheel_next(&w->wheel);
    if (next == INT64_MAX) return -1;
    /* Far away: half of it, from a moment that is as old as the batch; saves reading the clock each
     * turn. */
    if (next - w->now > far) return (next - w->now) / 2;
    zk_time now = zk__clock();
    return next > now ? next - now : 0;
}

/* Nothing has happened for a while: what a burst has left behind goes back to the system. */
static void trim(zk__worker *w)
{
    zk__loop_stacks_trim(w);
    while (zk__ring_trim(w))
        continue;
    zk__heap_trim(w->heap);
    w->is_trimmed = true;
}

static void poll_asleep(zk__worker *w)
{
    uint64_t bit = (uint64_t)1 << w->index;
    if (w->runtime->worker_count > 1) atomic_fetch_or(&w->runtime->idle_workers, bit);
    zk__count(&w->sleeps, 1);
    atomic_store(&w->is_sleeping, true);
    bool is_called = atomic_load(&w->inbox) != NULL;
    zk_time timeout = is_called ? 0 : poll_timeout(w);
    bool may_trim = !w->is_trimmed && (timeout < 0 || timeout > trim_after);
    w->poller.ops->poll(&w->poller, may_trim ? trim_after : timeout);
    /* A poll may end before its time. */
    bool is_time = may_trim && is_idle(w) && zk__clock() - w->now >= trim_after;
    if (is_time && !atomic_load(&w->inbox)) trim(w);
    atomic_store_explicit(&w->is_sleeping, false, memory_order_relaxed);
    if (w->runtime->worker_count > 1) atomic_fetch_and(&w->runtime->idle_workers, ~bit);
}

static void dead_stacks_free(zk__worker *w)
{
    while (w->dead) {
        zk__stack *stack = w->dead;
        w->dead = stack->next;
        zk__loop_stack_free(w, stack);
    }
}

/* How far the loop goes before the next turn. */
static void turn_begin(zk__worker *w)
{
    w->turn_goal = w->head + TURN_TASKS;
    w->turn_end = w->urgent ? w->head : w->turn_goal;
    if (ZK_UNLIKELY(zk__sim_current != NULL)) zk__sim_turn(w);
}

/* Asking the poller takes as long as dozens of small tasks do: with nothing else to see to, the
 * ready ones go on until it has not been asked for a while. */
static bool may_go_on(zk__worker *w)
{
    static const zk_time poll_every = ZK_US(10);
    if (w->head == w->tail || w->urgent || w->overflow || w->hooks || w->dead) return false;
    if (w->is_stopping || zk__sim_current) return false;
    if (atomic_load_explicit(&w->inbox, memory_order_relaxed)) return false;
    w->now = zk__clock();
    return w->now - w->polled < poll_every;
}

void zk__worker_turn(zk__worker *w)
{
    if (may_go_on(w)) {
        turn_begin(w);
        return;
    }
    zk__lane.current = &w->root_task;
    zk__count(&w->polls, 1);
    if (w->dead) dead_stacks_free(w);
    while (w->hooks) {
        zk__hook *hook = w->hooks;
        w->hooks = hook->next;
        hook->is_armed = false;
        hook->run(hook);
    }
    if (w->overflow) zk__overflow_drain(w);
    zk__inbox_run(w);
    if (w->wheel.unsettled) zk__wheel_settle(&w->wheel, zk__clock());
    if (!is_idle(w)) {
        w->poller.ops->poll(&w->poller, 0);
    } else if (!w->is_stopping) {
        poll_asleep(w);
    }
    w->polled = w->now = zk__clock();
    if (w->wheel.pending) zk__wheel_advance(&w->wheel, w->now);
    zk__inbox_run(w);
    zk__loop_stacks_look(w);
    zk__look_far_ahead(w);
    turn_begin(w);
    ZK__PROBE(poll, w->index, w->tail - w->head);
    if (!is_idle(w)) w->is_trimmed = false;
}

/* ---- a worker's life ---- */

static void worker_close(zk__worker *w)
{
    for (int i = 0; i < ZK__SLOT_COUNT; i++) {
        if (w->slots[i].state) w->slots[i].done(w->slots[i].state);
        w->slots[i].state = NULL;
    }
    if (w->poller.ops) w->poller.ops->close(&w->poller);
    while (w->loop_count)
        zk__loop_stack_free(w, w->loops[--w->loop_count]);
    free(w->loops);
    w->loops = NULL;
    w->loop_capacity = 0;
    dead_stacks_free(w);
    zk__stack_pool_done(&w->stacks);
    while (w->task_count)
        zk__heap_free(w->heap, w->tasks[--w->task_count]);
    free(w->tasks);
    free(w->ring);
    free(w->records);
    w->tasks = NULL;
    w->ring = NULL;
    w->records = NULL;
    zk__lane = (struct zk__lane){.current = &zk__task_outside};
}

static int worker_pin(zk__worker *w)
{
    zk__runtime *rt = w->runtime;
    if (!rt->is_pinned_to_cpus) return 0;
    return zk__cpu_pin(&rt->cpus_allowed, rt->config.cpus, w->index);
}

/* What a worker needs, made on its own thread (io_uring allows only one submitter). */
static int worker_open(zk__worker *w)
{
    static const zk_site root_site = {"(worker)", "", 0};
    w->root_task.site = &root_site;
    w->root_task.scope = &w->no_task;
    zk__scope_root_init(&w->root, NULL, w);
    zk__scope_root_init(&w->no_task, NULL, w);
    w->no_task.reason = ZK_E_NO_RUNTIME;
    zk__lane = (struct zk__lane){.current = &w->root_task, .worker = w};
    w->lane = &zk__lane;
    zk__stack_pool_init(&w->stacks, w->runtime->config.stack_bytes, zk__loop);
    w->ring = malloc(ZK__RING_ENTRIES * sizeof *w->ring);
    w->records = malloc(ZK__RING_ENTRIES * sizeof *w->records);
    w->ring_mask = ZK__RING_ENTRIES - 1;
    w->now = zk__clock();
    w->random = (uint64_t)w->now ^ (uint64_t)w->index << 56;
    zk__wheel_init(&w->wheel, w->now);
    w->poller.worker = w;
    w->tasks = malloc(ZK__TASKS_CACHED * sizeof *w->tasks);
    int rc = w->ring && w->records && w->tasks && zk__loop_stack_reserve(w) ? 0 : -ENOMEM;
    if (!rc && w->index) rc = worker_pin(w);
    if (!rc) rc = zk__poller_open(&w->poller, w->runtime->config.poller);
    if (rc < 0) worker_close(w);
    return rc;
}

/* Runs the loop until the worker stops. The thread's own stack waits meanwhile. */
static void worker_run(zk__worker *w)
{
    void *crash_stack = NULL;
    bool has_crash_stack = !zk__crash_stack_open(&crash_stack);
    zk__stack_of_thread(&w->thread_stack);
    turn_begin(w);
    zk__stack *stack = w->loops[--w->loop_count];
    w->stack = stack;
    zk__switch(&w->thread_stack, &w->thread_stack.sp, stack, stack->sp, false);
    if (has_crash_stack) zk__crash_stack_close(crash_stack);
}

/*
 * Who posts a message wakes its receiver afterwards, which by then may have run it, even the one
 * that stops it. So nobody closes before all have left their loops.
 */
static void all_left_wait(zk__runtime *rt)
{
    pthread_mutex_lock(&rt->lock);
    if (--rt->looping == 0) pthread_cond_broadcast(&rt->has_left);
    while (rt->looping)
        pthread_cond_wait(&rt->has_left, &rt->lock);
    pthread_mutex_unlock(&rt->lock);
}

typedef struct worker_start {
    zk__worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int rc; /* > 0: not known yet */
} worker_start;

static void *worker_thread(void *arg)
{
    worker_start *start = arg;
    zk__worker *w = start->worker;
    int rc = worker_open(w);
    pthread_mutex_lock(&start->lock);
    start->rc = rc;
    pthread_cond_signal(&start->changed);
    pthread_mutex_unlock(&start->lock);
    if (rc < 0) return NULL;
    worker_run(w);
    all_left_wait(w->runtime);
    worker_close(w);
    return NULL;
}

static int worker_thread_start(zk__worker *w)
{
    worker_start start = {.worker = w, .rc = 1};
    pthread_mutex_init(&start.lock, NULL);
    pthread_cond_init(&start.changed, NULL);
    int rc = -pthread_create(&w->thread, NULL, worker_thread, &start);
    if (!rc) {
        pthread_mutex_lock(&start.lock);
        while (start.rc > 0)
            pthread_cond_wait(&start.changed, &start.lock);
        rc = start.rc;
        pthread_mutex_unlock(&start.lock);
        if (rc < 0) pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&start.changed);
    pthread_mutex_destroy(&start.lock);
    return rc;
}

/* ---- zk_run ---- */

/* A whole number from the environment; `unset` when the variable is absent or empty, -1 when it is
 * no such number. */
static int env_number(const char *name, int unset)
{
    const char *text = getenv(name);
    if (!text || !*text) return unset;
    int n = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || n > WORKERS_MAX) return -1;
        n = n * 10 + (*p - '0');
    }
    return n;
}

static int config_read(const zk_config *given, zk_config *ret_config)
{
    zk_config config = given ? *given : (zk_config){0};
    int workers = env_number("ZOKIO_WORKERS", config.workers);
    if (workers < 0 || workers > WORKERS_MAX) return ZK_E_CONFIG;
    if (!workers) workers = zk__cpus_allowed("");
    config.workers = workers > WORKERS_MAX ? WORKERS_MAX : workers;
    const char *poller = getenv("ZOKIO_POLLER");
    if (poller && *poller) config.poller = poller;
    if (config.blocking_threads_max < 0 || config.stack_bytes > UINT32_MAX) return ZK_E_CONFIG;
    if (!config.blocking_threads_max) config.blocking_threads_max = 64;
    int on_sigquit = env_number("ZOKIO_DUMP_ON_SIGQUIT", config.dump_on_sigquit);
    if (on_sigquit < 0 || config.watchdog_ms < 0) return ZK_E_CONFIG;
    config.dump_on_sigquit = on_sigquit != 0;
    int finds_leaks = env_number("ZOKIO_LEAKS", config.finds_leaks || is_debug_build);
    if (finds_leaks < 0) return ZK_E_CONFIG;
    config.finds_leaks = finds_leaks != 0;
    *ret_config = config;
    return 0;
}

static void runtime_free(zk__runtime *rt)
{
    if (rt->config.finds_leaks) {
        zk__leaks_end(&rt->leaks, rt->config.on_leak, rt->config.on_leak_context);
    }
    for (int i = 0; i < rt->worker_count; i++) {
        if (rt->workers[i] && rt->workers[i]->heap) zk__heap_free_all(rt->workers[i]->heap);
        free(rt->workers[i]);
    }
    pthread_cond_destroy(&rt->has_left);
    pthread_mutex_destroy(&rt->lock);
    free(rt);
}

static zk__runtime *runtime_new(const zk_config *config)
{
    zk__runtime *rt = calloc(1, sizeof *rt + (size_t)config->workers * sizeof *rt->workers);
    if (!rt) return NULL;
    rt->config = *config;
    const zk_allocator *allocator = config->allocator;
    if (config->finds_leaks) {
        zk__leaks_begin(&rt->leaks, allocator, zk__sim_current != NULL);
        allocator = &rt->leaks.allocator;
    }
    rt->worker_count = config->workers;
    rt->is_pinned_to_cpus = (config->is_pinned_to_cpus || config->cpus) &&
                            !sched_getaffinity(0, sizeof rt->cpus_allowed, &rt->cpus_allowed);
    pthread_mutex_init(&rt->lock, NULL);
    pthread_cond_init(&rt->has_left, NULL);
    for (int i = 0; i < config->workers; i++) {
        zk__worker *w = aligned_alloc(64, (sizeof *w + 63) & ~(size_t)63);
        if (w) {
            memset(w, 0, sizeof *w);
            w->runtime = rt;
            w->index = i;
            w->heap = zk__heap_new(allocator);
        }
        rt->workers[i] = w;
        if (!w || !w->heap) {
            runtime_free(rt);
            return NULL;
        }
    }
    return rt;
}

static void on_stop(zk__msg *msg)
{
    (void)msg;
    zk__lane.worker->is_stopping = true;
}

/* Stops workers 1..count-1, and waits for their threads. */
static void workers_stop(zk__runtime *rt, int count)
{
    zk__msg stop[WORKERS_MAX];
    rt->looping = count; /* nobody looks at it before it is told to stop */
    for (int i = 1; i < count; i++) {
        stop[i].run = on_stop;
        zk__post(rt->workers[i], &stop[i]);
    }
    all_left_wait(rt);
    for (int i = 1; i < count; i++)
        pthread_join(rt->workers[i]->thread, NULL);
}

/* Cancellations that came too late, and their answers: nobody waits for them; they own memory. */
static void inboxes_drain(zk__runtime *rt, int count)
{
    bool is_empty;
    do {
        is_empty = true;
        for (int i = 0; i < count; i++) {
            if (!atomic_load(&rt->workers[i]->inbox)) continue;
            zk__inbox_run(rt->workers[i]);
            is_empty = false;
        }
    } while (!is_empty);
}

typedef struct main_task {
    zk_fn *fn;
    void *arg;
    int rc;
} main_task;

/* The first task. When it returns, all that it started has ended. */
static int run_main(void *arg)
{
    main_task *m = arg;
    m->rc = m->fn(m->arg);
    zk__trail_keep(zk__lane.current);
    zk__trail_drop(zk__lane.current);
    zk__lane.worker->is_stopping = true;
    return 0;
}

static int run_workers(zk__runtime *rt, main_task *m)
{
    static const zk_site main_site = {"main", "", 0};
    zk__worker *w = rt->workers[0];
    w->thread = pthread_self();
    int rc = worker_open(w);
    if (rc < 0) return rc;
    int started = 1;
    while (started < rt->worker_count && !rc) {
        rc = worker_thread_start(rt->workers[started]);
        if (!rc) started++;
    }
    /* Last, for the other threads inherit this one's CPUs. */
    if (!rc) rc = worker_pin(w);
    if (!rc) rc = zk__watchdog_start(rt);
    if (!rc) {
        zk_spawn_options options = {.site = &main_site, .is_pinned = true};
        rc = zk_spawn_with(&w->root, &options, run_main, m);
    }
    if (!rc) {
        worker_run(w);
        rc = m->rc;
    }
    zk__watchdog_stop(rt);
    zk__blocking_stop(rt);
    workers_stop(rt, started);
    inboxes_drain(rt, started);
    worker_close(w);
    if (rt->is_pinned_to_cpus) {
        sched_setaffinity(0, sizeof rt->cpus_allowed, &rt->cpus_allowed);
    }
    return rc;
}

static int run(const zk_config *config, zk_fn *main_fn, void *arg)
{
    zk__runtime *rt = runtime_new(config);
    if (!rt) return -ENOMEM;
    zk__guards_init();
    if (!config->no_crash_report) zk__crash_report_install();
    atomic_store(&zk__runtime_running, rt);
    int rc = run_workers(rt, &(main_task){.fn = main_fn, .arg = arg});
    atomic_store(&zk__runtime_running, NULL);
    if (!config->no_crash_report) zk__crash_report_uninstall();
    runtime_free(rt);
    return rc;
}

int zk_run(const zk_config *given, zk_fn *main_fn, void *arg)
{
    zk_config config;
    int rc = config_read(given, &config);
    if (rc < 0) return rc;
    if (atomic_exchange(&is_running, true)) return -EBUSY;
    rc = run(&config, main_fn, arg);
    atomic_store(&is_running, false);
    return rc;
}

int zk__run_simulated(const zk_config *config, zk_fn *main_fn, void *arg, zk__sim *sim)
{
    if (atomic_exchange(&is_running, true)) return -EBUSY;
    zk__sim_current = sim;
    int rc = run(config, main_fn, arg);
    zk__sim_current = NULL;
    atomic_store(&is_running, false);
    return rc;
}

int zk_worker_count(void) { return zk__lane.worker ? zk__lane.worker->runtime->worker_count : 0; }
int zk_worker_index(void) { return zk__lane.worker ? zk__lane.worker->index : -1; }
zk_time zk_now(void) { return zk__lane.worker ? zk__lane.worker->now : zk__clock(); }

const char *zk_poller_name(void)
{
    return zk__lane.worker ? zk__lane.worker->poller.ops->name : "";
}
