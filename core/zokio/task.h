/*
 * Tasks: async functions, structured concurrency, cancellation and deadlines.
 *
 * An async function is a C function `int fn(void *arg)`; 0 and above is a result, below 0 an error.
 * It may call anything that suspends: the task waits, its thread goes on with other tasks. What
 * runs concurrently is joined before the block that started it is left, so an argument on the
 * caller's stack stays valid.
 *
 * Each function says whether it suspends: *always*, *sometimes* (only when it has to wait) or
 * *never*. A function that may suspend is also a point of cancellation: in a cancelled scope it
 * returns -ECANCELED (-ETIMEDOUT when the innermost scope's own deadline has passed) until that
 * scope is left.
 */
#ifndef ZOKIO_TASK_H
#define ZOKIO_TASK_H

#include <zokio/alloc.h>
#include <zokio/base.h>
#include <zokio/error.h>

ZK_BEGIN

struct zk_leak;

/** An async function: a result >= 0 or an error < 0. */
typedef int zk_fn(void *arg);

/** Where in the source a task was started; what dumps and reports show. */
typedef struct zk_site {
    const char *name; /* of the async function */
    const char *file;
    int line;
} zk_site;

typedef struct zk_scope zk_scope;
typedef struct zk_task zk_task;

/**
 * The record of a task. A future is one in the caller's frame, so zk_async allocates nothing. The
 * fields are the runtime's; they are here so that the compiler knows the size and can run an await
 * in place.
 */
struct zk_task {
    /* The first six are three pairs, see zk_async_at. */
    zk_fn *fn;
    union {
        void *arg;
        void *sp; /* once it has waited: where it goes on */
    };
    zk_task *next;   /* among the pending ones of a worker */
    zk_scope *scope; /* the innermost scope that it is in */
    const zk_site *site;
    union {
        uint64_t zk__word; /* clears all of these in one store */
        struct {
            int result;
            union {
                uint16_t zk__kind; /* both at once */
                struct {
                    uint8_t state; /* see the diagram in core/task.c */
                    uint8_t flags;
                };
            };
            bool is_away; /* on another worker; the scope's worker's, as flags are the other's */
            union {
                bool is_selected; /* a future: awaiter is a zk__waiter, see core/select.c */
                bool has_room;    /* a spawned task: no argument lies behind it */
            };
        };
    };
    uint32_t ring_index;     /* its place in the run queue */
    uint32_t stack_bytes;    /* valid with ZK__TASK_OWN_STACK */
    struct zk__stack *stack; /* the one that it keeps while it waits */
    zk_task *awaiter;        /* suspended until this one is finished */
    char *trail;             /* valid with ZK__TASK_TRAIL */
    struct zk__proxy *proxy; /* valid with ZK__TASK_REMOTE */
};

/** Two fields, stored at once: stores are most of what zk_async costs. */
typedef uintptr_t zk__pair __attribute__((vector_size(16), aligned(8), may_alias));

/** A task whose result somebody awaits. Needs no initialisation before zk_async. */
typedef zk_task zk_future;

/** A timer; part of a scope. */
struct zk__scope_timer {
    void *next, *link;
    uint64_t tick;
    void *fire;
};

/** A block of tasks that are joined before it is left. Made by ZK_SCOPE and its relatives. */
struct zk_scope {
    zk_scope *parent;
    zk_scope *sibling, **link; /* among the scopes inside the parent */
    struct zk__worker *worker;
    zk_task *owner;
    const struct zk__binding *bindings; /* task-local values, innermost first */
    int reason;                         /* 0; -ECANCELED, -ETIMEDOUT once cancelled */
    uint8_t flags;
    /* Cleared when it is entered, by as few stores as that takes. */
    uint32_t live; /* tasks not finished */
    int error;     /* of the first task that failed */
    zk_scope *children;
    struct zk__wait *waits;    /* what tasks in this scope are suspended on */
    zk_task *joiner;           /* suspended until live == 0 */
    struct zk__proxy *proxies; /* tasks of this scope that run on other workers */
    char *trail;               /* of that first error */
    struct zk__scope_timer timer;
};

/** What every thread knows of its runtime. Read and written only by the inline functions below. */
struct zk__lane {
    zk_task *pending; /* futures that nobody has had to queue yet, newest first */
    zk_task *current;
    struct zk__worker *worker;
};
extern ZK_API __thread struct zk__lane zk__lane __attribute__((tls_model("initial-exec")));

#define ZK__SITE(label)                                                                            \
    __extension__({                                                                                \
        static const zk_site zk__here = {label, __FILE__, __LINE__};                               \
        &zk__here;                                                                                 \
    })

/* ---- running --------------------------------------------------------------------------------- */

/**
 * How zk_run runs. Zero-initialised is a good choice everywhere; the environment overrides where
 * noted.
 */
typedef struct zk_config {
    /* threads; 0: one per CPU allowed by affinity and cgroup quota. ZOKIO_WORKERS */
    int workers;
    /* "epoll" or "io_uring"; NULL: the faster one that works. ZOKIO_POLLER */
    const char *poller;
    /* of a waiting task; 0: 256 KiB, of which only what is touched takes memory */
    size_t stack_bytes;
    int blocking_threads_max;      /* for zk_blocking; 0: 64 */
    const zk_allocator *allocator; /* NULL: the built-in one */
    /* do not install the SIGSEGV handler that names the task on a stack overflow */
    bool no_crash_report;
    /* each worker stays on one CPU: the i-th on the i-th of those that the process may use, or of
     * `cpus`. Else the system moves them as it likes */
    bool is_pinned_to_cpus;
    const int *cpus; /* NULL, or numbers of CPUs, ended by -1; implies the above */
    /* SIGQUIT writes what zk_dump says to stderr, and no longer ends the process.
     * ZOKIO_DUMP_ON_SIGQUIT=1 */
    bool dump_on_sigquit;
    /* a task that holds a worker for longer is reported, once each time; 0: never. As the above it
     * takes a thread, and a real-time signal that the program leaves at its default */
    int watchdog_ms;
    /* gets the report, on the watchdog's thread: the task's name and site, and below its backtrace,
     * lines parted by line feeds; NULL: it goes to stderr */
    void (*on_stall)(void *context, const char *report);
    void *on_stall_context;
    /* looks for what is left when main_fn has returned, see zk_leak; makes each allocation slower.
     * Always so in debug builds, never with ZOKIO_LEAKS=0. ZOKIO_LEAKS=1 */
    bool finds_leaks;
    /* gets what was found, one by one, on the thread that called zk_run; NULL: it goes to stderr */
    void (*on_leak)(void *context, const struct zk_leak *leak);
    void *on_leak_context;
} zk_config;

/**
 * Starts the runtime, runs `main_fn(arg)` as its first task, and returns when that has finished and
 * all workers have stopped. Blocks the calling thread, which becomes worker 0. One runtime per
 * process at a time.
 *
 * While it runs, SIGSEGV is handled if it was at its default (see zk_config.no_crash_report), and
 * put back at the end; likewise SIGQUIT and one real-time signal with dump_on_sigquit and
 * watchdog_ms.
 *
 * @param config  NULL for the defaults
 * @return main_fn's result; ZK_E_CONFIG, -EBUSY (a runtime is running), -ENOMEM, -errno when a
 *         thread or the poller cannot be had
 */
ZK_API int zk_run(const zk_config *config, zk_fn *main_fn, void *arg);

/** Workers of the running runtime; 0 outside. Never suspends. */
ZK_API int zk_worker_count(void);

/** The number, from 0, of the worker that runs the caller; -1 outside. Never suspends. */
ZK_API int zk_worker_index(void);

/** The name of the running runtime's poller, "" outside. Never suspends. */
ZK_API const char *zk_poller_name(void);

/**
 * The current moment as the worker knows it: read once per turn of its loop, so it costs a load.
 * Never suspends.
 */
ZK_API zk_time zk_now(void);

/* ---- async and await ------------------------------------------------------------------------- */

/**
 * Lets `fn(arg)` run concurrently. It starts when the caller next waits for something, or in place
 * when the caller awaits it before that. It is in the caller's current scope, and must be awaited
 * before that scope or the future's frame is left. Never suspends.
 */
#define zk_async(future, fn, arg) zk_async_at((future), (fn), (arg), ZK__SITE(#fn))

/** What zk_async does, with the site given. */
static inline void zk_async_at(zk_future *future, zk_fn *fn, void *arg, const zk_site *site)
{
    zk__pair *to = (zk__pair *)(void *)future;
    zk__pair what = {(uintptr_t)fn, (uintptr_t)arg};
    zk__pair where = {(uintptr_t)zk__lane.pending, (uintptr_t)zk__lane.current->scope};
    zk__pair rest = {(uintptr_t)site, 0};
    to[0] = what;
    to[1] = where;
    to[2] = rest;
    zk__lane.pending = future;
}

/** Ends an await that could not be run in place. For zk_await. */
ZK_API int zk__await_slow(zk_future *future);
ZK_API void zk__await_flags(zk_future *future);

/**
 * Waits for the future's task to finish; one task may do so at a time. Cancellation of the scope
 * reaches the task itself, not this call: it returns the task's result once it has ended. Suspends
 * sometimes: a task that has not started is run in place.
 *
 * @return the task's result
 */
static inline int zk_await(zk_future *future)
{
    if (ZK_UNLIKELY(zk__lane.pending != future)) return zk__await_slow(future);
    zk_task *me = zk__lane.current;
    zk__lane.pending = future->next;
    zk__lane.current = future;
    future->awaiter = me; /* for dumps */
    int rc = future->fn(future->arg);
    zk__lane.current = me;
    if (ZK_UNLIKELY(future->flags)) zk__await_flags(future);
    future->zk__word = (uint32_t)rc | (uint64_t)3 << 32; /* FINISHED */
    return rc;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

ZK_API zk_scope *zk__scope_enter(zk_scope *scope);
ZK_API zk_scope *zk__scope_enter_within(zk_scope *scope, zk_time span);
ZK_API zk_scope *zk__scope_enter_shield(zk_scope *scope);
ZK_API zk_scope *zk__scope_finish(zk_scope *scope);
ZK_API void zk__scope_leave(zk_scope *scope);

#define ZK__BLOCK(name, pass, enter)                                                               \
    for (zk_scope name __attribute__((cleanup(zk__scope_leave))), *pass = enter; pass;             \
         pass = zk__scope_finish(&name))
#define ZK__PASTE2(a, b) a##b
#define ZK__PASTE(a, b) ZK__PASTE2(a, b)

/**
 * A block whose tasks are joined before it is left: `ZK_SCOPE(s) { zk_spawn(&s, ...); ... }`.
 * Running off its end waits for them; leaving it by break, return or goto cancels them first. The
 * first task that fails cancels the rest, and the block itself.
 */
#define ZK_SCOPE(name) ZK__BLOCK(name, ZK__PASTE(zk__pass_, name), zk__scope_enter(&name))

/**
 * A block under a deadline: once `span` has passed, every suspending call directly in it returns
 * -ETIMEDOUT, and in scopes inside it and their tasks -ECANCELED, until the block is left. Blocks
 * nest; the earliest deadline counts.
 */
#define ZK_WITHIN(span) ZK__WITHIN(span, ZK__PASTE(zk__within_, __LINE__))
#define ZK__WITHIN(span, name)                                                                     \
    ZK__BLOCK(name, ZK__PASTE(zk__pass_, name), zk__scope_enter_within(&name, (span)))

/**
 * A block that cancellation from outside does not reach: for cleanup that must not be cut short.
 */
#define ZK_SHIELD ZK__SHIELD(ZK__PASTE(zk__shield_, __LINE__))
#define ZK__SHIELD(name) ZK__BLOCK(name, ZK__PASTE(zk__pass_, name), zk__scope_enter_shield(&name))

/** How a task is spawned when the defaults do not fit. */
typedef struct zk_spawn_options {
    const zk_site *site; /* NULL: unnamed */
    size_t arg_bytes;    /* of *arg to copy into the task; 0: the pointer itself is passed */
    size_t stack_bytes;  /* a stack of its own of this size; 0: the common size */
    int worker;          /* 1 + the number of the worker to run on; 0: any */
    bool is_pinned;      /* never donated to another worker */
    /* runs before others that are ready, whenever it is; for short work whose delay matters. Every
     * 16 urgent tasks in a row one of the others has its turn. */
    bool is_urgent;
} zk_spawn_options;

ZK_API int zk__spawn(zk_scope *scope, zk_fn *fn, const void *arg, size_t arg_bytes,
                     const zk_site *site);

/** Spawns a task into the scope with options; else as zk_spawn. */
ZK_API int zk_spawn_with(zk_scope *scope, const zk_spawn_options *options, zk_fn *fn,
                         const void *arg);

/* Handles: to be passed on as they are, for what is behind them is the library's own. */
#define ZK__HANDLES(X)                                                                             \
    X(zk_channel)                                                                                  \
    X(zk_broadcast)                                                                                \
    X(zk_watch)                                                                                    \
    X(zk_iter)                                                                                     \
    X(zk_file)                                                                                     \
    X(zk_process)                                                                                  \
    X(zk_stream)                                                                                   \
    X(zk_listener)                                                                                 \
    X(zk_tls)                                                                                      \
    X(zk_udp)                                                                                      \
    X(zk_request)                                                                                  \
    X(zk_response)                                                                                 \
    X(zk_client)                                                                                   \
    X(zk_fetch)                                                                                    \
    X(zk_proxy)

#define ZK__HANDLE_TYPEDEF(type) typedef struct type type;
ZK__HANDLES(ZK__HANDLE_TYPEDEF)
#undef ZK__HANDLE_TYPEDEF

/**
 * Starts `fn` as a task of the scope. What `arg` points to is copied into the task, an array as a
 * whole, so it may go out of scope. Passed as they are: a `void *` (and so NULL) and a `char *`,
 * for how much is behind them is not known, and handles of this library (`zk_stream *` and the
 * like).
 * An idle worker may get the task before it has started, unless something that belongs to this
 * worker (a stream, a listener, an HTTP request) is open in the scopes around. Never suspends.
 *
 * @return 0; -ENOMEM (the task does not run)
 */
#ifdef __cplusplus
}
template <typename T> static inline size_t zk__target_bytes(const T *) { return sizeof(T); }
static inline size_t zk__target_bytes(const void *) { return 0; }
template <> inline size_t zk__target_bytes<char>(const char *) { return 0; }
#define ZK__HANDLE_BYTES(type)                                                                     \
    template <> inline size_t zk__target_bytes<type>(const type *) { return 0; }
ZK__HANDLES(ZK__HANDLE_BYTES)
extern "C" {
#define ZK__TARGET_BYTES(arg) zk__target_bytes(arg)
#else
/* Of an array its size; of a pointer that of what it points to. */
#define ZK__TARGET_BYTES(arg)                                                                      \
    __extension__(                                                                                 \
        __builtin_choose_expr(__builtin_types_compatible_p(__typeof__(arg), __typeof__(&*(arg))),  \
                              ZK__POINTED_BYTES(arg), sizeof(arg)))
/* What is not selected has to compile, too: so the pointer to a handle is made one to char. */
#define ZK__POINTED_BYTES(arg)                                                                     \
    _Generic((arg)ZK__HANDLES(ZK__HANDLE_ZERO), void * : 0, const void * : 0, char * : 0,          \
             const char * : 0, default                                                             \
             : sizeof(*_Generic((arg)ZK__HANDLES(ZK__HANDLE_CHAR), default                         \
                                : (arg))))
#define ZK__HANDLE_ZERO(type) , type * : 0, const type * : 0
#define ZK__HANDLE_CHAR(type) , type * : (char *)0, const type * : (char *)0
#endif
#define zk_spawn(scope, fn, arg)                                                                   \
    zk__spawn((scope), (fn), (arg), ZK__TARGET_BYTES(arg), ZK__SITE(#fn))

/**
 * As zk_spawn, on the worker with this number. What belongs to another worker (streams, listeners)
 * must not be used there.
 *
 * @return 0; -ENOMEM; -EINVAL (no such worker)
 */
#define zk_spawn_on(scope, worker_index, fn, arg)                                                  \
    zk__spawn_on((scope), (worker_index), (fn), (arg), ZK__TARGET_BYTES(arg), ZK__SITE(#fn))
ZK_API int zk__spawn_on(zk_scope *scope, int worker_index, zk_fn *fn, const void *arg,
                        size_t arg_bytes, const zk_site *site);

/**
 * Waits until all tasks of the scope have finished. Suspends sometimes. When the scope is cancelled
 * its tasks are told; this call still waits for their end.
 *
 * @return 0; the error of the first task that failed; -ECANCELED, -ETIMEDOUT if the scope was
 *   cancelled
 */
ZK_API int zk_scope_wait(zk_scope *scope);

/**
 * Cancels the scope: its tasks' suspending calls return -ECANCELED from now on. On any thread, as
 * long as the scope is sure to last. Never suspends.
 */
ZK_API void zk_scope_cancel(zk_scope *scope);

/** Why the current task's calls would fail: 0, -ECANCELED or -ETIMEDOUT. Never suspends. */
ZK_API int zk_cancelled(void);

/**
 * Calls `fn(arg)` in place under a deadline. Suspends as fn does.
 *
 * @return fn's result; -ETIMEDOUT if the deadline passed and fn failed for it
 */
ZK_API int zk_timeout(zk_time span, zk_fn *fn, void *arg);

/* ---- waiting --------------------------------------------------------------------------------- */

/**
 * Waits for a span of time, never less. Suspends always, unless the span is <= 0. @return 0;
 * -ECANCELED, -ETIMEDOUT, -ENOMEM
 */
ZK_API int zk_sleep(zk_time span);

/** Lets other tasks run. Suspends sometimes. @return 0; -ECANCELED, -ETIMEDOUT, -ENOMEM */
ZK_API int zk_yield(void);

/**
 * Runs `fn(arg)` on a thread where it may block, and waits for it. `fn` must not call what
 * suspends. A call that has begun is waited for even when the scope is cancelled, so `arg` may lie
 * on the stack; one that is still queued is taken back. The trail of its error becomes the task's.
 * Suspends always.
 *
 * @return fn's result; -ECANCELED, -ETIMEDOUT (not begun), -EAGAIN (no thread can be had), -ENOMEM
 */
ZK_API int zk_blocking(zk_fn *fn, void *arg);

ZK_END
#endif
