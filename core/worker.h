/*
 * A worker: one thread with its run queue, stacks, heap, timers and poller. Nothing of it is
 * touched by other threads, but for its inbox.
 */
#ifndef ZOKIO_CORE_WORKER_H
#define ZOKIO_CORE_WORKER_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/leak.h"
#include "core/poller.h"
#include "core/slab.h"
#include "core/stack.h"
#include "core/timer.h"
#include "core/wait.h"

#ifdef NDEBUG
#define ZK_ASSERT(condition) ((void)0)
#else
#define ZK_ASSERT(condition)                                                                       \
    (ZK_LIKELY(condition)                                                                          \
         ? (void)0                                                                                 \
         : zk__panic("assertion failed: %s (%s:%d)", #condition, __FILE__, __LINE__))
#endif

/* For states in which memory is already corrupt: says why on stderr and aborts. */
_Noreturn void zk__panic(const char *format, ...) ZK_PRINTF(1, 2);

/* A message from another thread; `run` is called by the receiving worker's loop and owns the
 * message. */
typedef struct zk__msg zk__msg;
struct zk__msg {
    zk__msg *next;
    void (*run)(zk__msg *msg);
};

/* FOLDED stands for calls of a join that have not begun, see call.c. */
enum zk__task_state {
    ZK__TASK_PENDING,
    ZK__TASK_QUEUED,
    ZK__TASK_STARTED,
    ZK__TASK_FINISHED,
    ZK__TASK_FOLDED,
};
enum {
    ZK__TASK_TRAIL = 1 << 0,      /* task.trail holds an error trail */
    ZK__TASK_REMOTE = 1 << 1,     /* runs on another worker than its scope's; task.proxy */
    ZK__TASK_SPAWNED = 1 << 2,    /* of a scope, memory from the slab; else a future */
    ZK__TASK_PINNED = 1 << 3,     /* never donated */
    ZK__TASK_OWN_STACK = 1 << 4,  /* to be started on a stack of task.stack_bytes */
    ZK__TASK_LARGE = 1 << 5,      /* spawned: its memory is larger than ZK__TASK_BYTES */
    ZK__TASK_JOINED = 1 << 5,     /* a future: a call of a join, in whose scope it counts */
    ZK__TASK_OVERFLOWED = 1 << 6, /* in worker.overflow, not in the ring */
    ZK__TASK_URGENT = 1 << 7,     /* runs before others that are ready */
};
enum { ZK__TASKS_CACHED = 1024 };

/* Atomic, or the compiler reads the state along with it: that is the other worker's then. */
static inline bool zk__task_is_away(const zk_task *task)
{
    return __atomic_load_n(&task->is_away, __ATOMIC_RELAXED);
}

/* Whether it has ended, as far as its scope's worker knows. */
static inline bool zk__task_is_done(const zk_task *task)
{
    return !zk__task_is_away(task) && task->state == ZK__TASK_FINISHED;
}
enum {
    ZK__SCOPE_SHIELD = 1 << 0, /* cancellation from outside stops here */
    ZK__SCOPE_BOUND = 1 << 1,  /* its tasks are not donated; see zk__bind_to_worker */
};

/* Work that a module has put off to the end of the batch of tasks that is running. */
typedef struct zk__hook zk__hook;
struct zk__hook {
    zk__hook *next;
    void (*run)(zk__hook *hook);
    bool is_armed;
};

/* What a module keeps per worker: whatever it likes, and NULL before its first use. */
enum { ZK__SLOT_HTTP, ZK__SLOT_NAMES, ZK__SLOT_TLS, ZK__SLOT_WS, ZK__SLOT_COUNT };
typedef struct zk__slot {
    void *state;
    /* Called when the worker ends, if there is a state: all tasks are over, the poller works. */
    void (*done)(void *state);
} zk__slot;

/*
 * What the run queue holds: a task; or with the lowest bit set a spawned one that has not begun and
 * has no memory yet: its scope, and the rest is in the record at the same index. Most end without
 * having waited, and need no more than that.
 */
typedef uintptr_t zk__entry;
enum { ZK__ENTRY_SPAWNED = 1 << 0, ZK__ENTRY_PINNED = 1 << 1, ZK__ENTRY_BITS = 3 };
enum { ZK__ENTRY_GONE = ZK__ENTRY_SPAWNED }; /* of no scope: it has been run out of turn */
typedef struct zk__record {
    zk_fn *fn;
    void *arg;
    const zk_site *site;
} zk__record;

/* NULL if it is not one. */
static inline zk_task *zk__entry_task(zk__entry entry)
{
    return entry & ZK__ENTRY_SPAWNED ? NULL : (zk_task *)entry;
}

/* Of one that has no memory yet; NULL if it is gone. */
static inline zk_scope *zk__entry_scope(zk__entry entry)
{
    return (zk_scope *)(entry & ~(zk__entry)ZK__ENTRY_BITS);
}

typedef struct zk__worker zk__worker;
struct zk__worker {
    zk__entry *ring; /* the run queue */
    zk__record *records;
    uint32_t ring_mask;
    uint32_t head, tail;
    zk_task *overflow, **overflow_tail; /* when the ring could not grow */

    zk_task **tasks; /* free ones, a stack, ZK__TASKS_CACHED at most */
    uint32_t task_count;

    zk__stack *stack; /* the one in use */
    /* Those with a parked loop frame, or fresh: an array, with room for all stacks that there are;
     * the last one is taken first. */
    zk__stack **loops;
    uint32_t loop_count, loop_capacity;
    uint32_t loops_spare; /* that have not been needed since the last look */
    zk_time loops_look_at;
    uint32_t turn_end;  /* ring index at which the loop looks up: turn_goal, or earlier */
    uint32_t turn_goal; /* ring index at which the poller has its turn */
    zk_task *urgent, **urgent_tail; /* ready, and to be run before the ring */
    uint32_t urgent_run;            /* how many of them in a row */
    uint32_t urgent_added;          /* ever; for dumps */
    zk__stack *dead;                /* special stacks whose task is over */
    bool is_stopping;
    bool is_trimmed; /* surplus memory was given back, and nothing has run since */
    zk_time now, polled; /* this turn's beginning; when the poller was last asked */

    zk__heap *heap;
    zk__stack_pool stacks;
    zk__wheel wheel;
    zk__poller poller;
    struct zk__runtime *runtime;
    int index;
    pthread_t thread;
    zk__stack thread_stack; /* of the thread itself; left while the loop runs */
    zk_scope root;          /* of what runs here for other workers */
    zk_task root_task;      /* what is current while no task is */
    zk_scope no_task;       /* its scope: cancelled from the first, for it may not wait */
    zk__slot slots[ZK__SLOT_COUNT];
    uint64_t polls;  /* turns of the loop */
    zk__hook *hooks; /* to be called when the next turn begins */

    uint32_t budget, budget_head; /* see budget.h */
    uint32_t select_turn;         /* see select.c */
    uint64_t random;              /* see zk__random */

    /* Donation, see donate.c. */
    uint32_t donate_seen; /* nothing in the ring before this can be donated */
    uint32_t donate_skip, donate_wait;

    /* For zk_metrics_read, by zk__count. */
    uint64_t waits, sleeps, messages, tasks_sent, tasks_received;
    struct zk__lane *lane; /* of its thread */

    _Alignas(64) _Atomic(zk__msg *) inbox;
    atomic_bool is_sleeping;
};

/* Counts what only this worker writes and others may read at any time. */
static inline void zk__count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

typedef struct zk__runtime {
    int worker_count;
    _Atomic uint64_t idle_workers; /* a bit per worker that has nothing to do and wants some */
    atomic_bool is_stopping;
    zk_config config;
    struct zk__blocking *blocking;
    struct zk__watchdog *watchdog; /* NULL: none */
    cpu_set_t cpus_allowed;        /* to the thread that called zk_run */
    bool is_pinned_to_cpus;
    zk__leaks leaks;      /* if config.finds_leaks */
    pthread_mutex_t lock; /* of the next two */
    pthread_cond_t has_left;
    int looping; /* workers that have not left their loops for good */
    zk__worker *workers[];
} zk__runtime;

/* The next of a worker's pseudo-random numbers (SplitMix64): to spread load, not for secrets. */
static inline uint64_t zk__random(zk__worker *w)
{
    uint64_t z = w->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline zk__worker *zk__worker_self(void) { return zk__lane.worker; }

/* A free stack for the loop to go on with, made sure of before a task is suspended. */
bool zk__loop_stack_reserve(zk__worker *w);

/*
 * Whether the current task may wait: 0, or what the suspending function has to return (the scope is
 * cancelled, there is no memory for a stack, or this is no task at all).
 */
static inline int zk__wait_begin(void)
{
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(!w)) return ZK_E_NO_RUNTIME;
    int reason = zk__lane.current->scope->reason;
    if (ZK_UNLIKELY(reason != 0)) return reason;
    return ZK_LIKELY(w->loop_count) || zk__loop_stack_reserve(w) ? 0 : -ENOMEM;
}

/* Grows the ring, or falls back to the overflow list. */
void zk__ready_slow(zk__worker *w, zk_task *task);

/* Whether a task that becomes ready now just goes to the end of the ring. */
static inline bool zk__ready_is_quick(const zk__worker *w, const zk_task *task)
{
    return ZK_LIKELY(w->tail - w->head <= w->ring_mask && !w->overflow &&
                     !(task->flags & ZK__TASK_URGENT));
}

/* Puts it there. */
static inline void zk__ready_quickly(zk__worker *w, zk_task *task)
{
    w->ring[w->tail++ & w->ring_mask] = (zk__entry)task;
}

/* Puts a task at the end of the run queue. */
static inline void zk__ready(zk__worker *w, zk_task *task)
{
    if (zk__ready_is_quick(w, task)) {
        zk__ready_quickly(w, task);
    } else {
        zk__ready_slow(w, task);
    }
}

/* Takes a wait that has ended out of the scope's list. */
static inline void zk__wait_unlink(zk__wait *wait)
{
    if (!wait->link) return;
    *wait->link = wait->next;
    if (wait->next) wait->next->link = wait->link;
    wait->link = NULL;
}

/* zk__wait_end, on the worker `w`. */
static inline void zk__wait_end_on(zk__worker *w, zk__wait *wait, ssize_t result)
{
    zk__wait_unlink(wait);
    wait->result = result;
    zk__ready(w, wait->task);
}

/* Queues the futures that the current stack has pending: it is about to wait. */
void zk__pending_flush(zk__worker *w);

/* Calls hook->run once, when all tasks that are ready now have run, before the poller has its
 * turn. */
static inline void zk__hook_arm(zk__worker *w, zk__hook *hook)
{
    if (hook->is_armed) return;
    hook->is_armed = true;
    hook->next = w->hooks;
    w->hooks = hook;
}

/* Takes that back. */
static inline void zk__hook_disarm(zk__worker *w, zk__hook *hook)
{
    for (zk__hook **link = &w->hooks; *link; link = &(*link)->next) {
        if (*link != hook) continue;
        *link = hook->next;
        hook->is_armed = false;
        return;
    }
}

/* Hands a message to a worker, from any thread. */
void zk__post(zk__worker *to, zk__msg *msg);

/* Runs what the inbox holds. */
void zk__inbox_run(zk__worker *w);

/* One round of timers, inbox and poller; waits in the poller if nothing is ready. Where there has
 * been one just now it only begins the next batch of tasks. */
void zk__worker_turn(zk__worker *w);

/* The loop at the base of every stack. */
_Noreturn void zk__loop(void);
/* Makes the calling thread this worker until is_stopping is set and nothing is ready. returns 0,
 * -errno. */
int zk__worker_run(zk__worker *w);

/* Finishes a task on the worker of its scope. */
void zk__task_finished(zk__worker *w, zk_task *task, int rc);

/* Offers unstarted tasks to an idle worker, if that seems to pay. */
void zk__donate(zk__worker *w);
/* Sends an unstarted task to a worker. returns 0, -ENOMEM. */
int zk__task_send(zk__worker *w, zk_task *task, zk__worker *to);
/* Shows the tasks that a scope has on other workers; only to be compared. For dumps. */
void zk__proxies_each(const zk_scope *scope,
                      void (*each)(const zk_scope *scope, const zk_task *task, void *context),
                      void *context);
/* Tells the tasks that a scope has on other workers. */
void zk__proxies_cancel(zk_scope *scope);
/* A remote task has finished here: tells its origin. */
void zk__proxy_finished(zk__worker *w, zk_task *task, int rc);
/* Adds a task to a scope of another worker, to be run on `to`. returns 0, -ENOMEM. */
int zk__spawn_remote(zk_scope *scope, zk_task *task, zk__worker *to);
void zk__scope_cancel_remote(zk_scope *scope);

struct zk__sim;
/* zk_run on the simulated kernel: the environment has no say. */
int zk__run_simulated(const zk_config *config, zk_fn *main_fn, void *arg, struct zk__sim *sim);

/* The one that is running; NULL: none. */
extern zk__runtime *_Atomic zk__runtime_running;

/* CLOCK_MONOTONIC, read now; or the simulation's. */
zk_time zk__clock(void);
/* CLOCK_MONOTONIC whatever is simulated: for threads that wait for real. */
zk_time zk__clock_real(void);
/* The moment `span` from now; INT64_MAX if that is beyond time. */
zk_time zk__moment_in(zk_time span);

/*
 * The current task has got something that belongs to this worker (a stream, a listener). What it
 * starts from now on may use that, and so stays here.
 */
void zk__bind_to_worker(void);

/* Cancels a scope of this worker with a reason. */
void zk__scope_cancel_as(zk_scope *scope, int reason);
void zk__scope_root_init(zk_scope *scope, zk_scope *parent, zk__worker *w);

/* Takes a scope out of its parent's list. */
static inline void zk__scope_unlink(zk_scope *scope)
{
    *scope->link = scope->sibling;
    if (scope->sibling) scope->sibling->link = scope->link;
}

/* Moves the error trail of a task to the current one, or frees it. */
void zk__trail_take(zk_task *from, zk_task *to);
void zk__trail_drop(zk_task *task);
/* Moves the trail that a scope has (it has one) to a task. */
void zk__scope_trail_take(zk_scope *scope, zk_task *to);
/* Keeps a copy that zk_trail gives outside zk_run. */
void zk__trail_keep(zk_task *task);
/* Takes what this thread has said outside of tasks about an error; "" if that is nothing. */
enum { ZK__TRAIL_BYTES = 504 };
void zk__trail_export(int rc, char text[ZK__TRAIL_BYTES]);
/* Makes it the current task's, unless it is "". */
void zk__trail_import(int rc, const char *text);
/* Outside zk_run: puts a context in front of that copy. */
void zk__trail_prefix(int rc, const char *context);

/* Threads that the blocking pool has now. */
int zk__blocking_threads(zk__runtime *rt);
/* The blocking pool: made at the first use, ended with the runtime. */
void zk__blocking_stop(zk__runtime *rt);

/* Reports stack overflows with the task's name. */
void zk__crash_report_install(void);
void zk__crash_report_uninstall(void);
int zk__crash_stack_open(void **ret_memory);
void zk__crash_stack_close(void *memory);

#endif
