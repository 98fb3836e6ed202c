/*
 * Tasks and the loop that runs them.
 *
 * Every stack runs zk__loop at its base. The loop takes a task from the worker's ring and calls it
 * on the stack that it is on: a task that finishes without waiting has cost a call. A task that
 * waits keeps the stack, with the loop frame below it, and the loop goes on on another one:
 *
 *            stack A                            stack B
 *   loop -> task 1 (waits) ...... kept          loop -> task 2, task 3 (neither waits: plain calls)
 *                                                    -> task 1 is ready: B's loop frame is parked
 *                                                    in w->loops,
 *   task 1 goes on, returns into A's loop  <------------ switch to A
 *
 *   PENDING ---flush---> QUEUED ---loop---> running ---suspend---> STARTED (waits, or is ready)
 *      |                    |                 |  ^                     |
 *      +------- await ------+--- in place ----+  +------ resume -------+    running --> FINISHED
 *
 * A future begins PENDING in zk__lane.pending, known only to the stack that made it. Should its
 * owner await it before anything waits, it is run in place and never reaches the ring. As soon as
 * the stack is about to wait, all pending ones are queued. A spawned task is QUEUED at once.
 *
 * A task that waits and finds a STARTED task next in the ring switches straight to that one's
 * stack.
 */
#include "core/task.h"

#include <errno.h>
#include <string.h>

#include "core/select.h"
#include "core/suspend.h"

/*
 * Parked loop stacks that a worker keeps. A burst of waiting tasks will probably come again, and
 * pages that have to be faulted in anew cost more than all else about a task; so what was not
 * needed for a second goes back little by little, and nearly all of it when the worker idles.
 */
enum { LOOPS_KEPT = 256, LOOPS_FREED_AT_ONCE = 128, LOOPS_IDLE = 16 };

static const zk_site outside_site = {"(no task)", "", 0};
zk_task zk__task_outside = {.site = &outside_site};

__thread struct zk__lane zk__lane = {.current = &zk__task_outside};

ZK__DEFINE_RETURN_BY_JUMP

/* ---- suspending ---- */

/* Makes room for one more than all stacks that there are. */
static bool loops_grow(zk__worker *w)
{
    uint32_t capacity = w->loop_capacity ? 2 * w->loop_capacity : 64;
    zk__stack **loops = realloc(w->loops, capacity * sizeof *loops);
    if (!loops) return false;
    w->loops = loops;
    w->loop_capacity = capacity;
    return true;
}

/*
 * A stack, of the common size if stack_bytes is 0, and with it memory for the spawned tasks that
 * run on it, one after the other. Not on the stack itself, if that can be: where many wait, what is
 * looked at of them while they do should lie close together. returns NULL if there is no memory.
 */
static zk__stack *loop_stack_new(zk__worker *w, size_t stack_bytes)
{
    if (w->stacks.made_count >= w->loop_capacity && !loops_grow(w)) return NULL;
    zk__stack *stack =
        stack_bytes ? zk__stack_new_special(&w->stacks, stack_bytes) : zk__stack_new(&w->stacks);
    if (stack) stack->task = zk__heap_alloc(w->heap, ZK__TASK_BYTES);
    return stack;
}

void zk__loop_stack_free(zk__worker *w, zk__stack *stack)
{
    if (stack->task) zk__heap_free(w->heap, stack->task);
    zk__stack_free(&w->stacks, stack);
}

bool zk__loop_stack_reserve(zk__worker *w)
{
    if (w->loop_count) return true;
    zk__stack *stack = loop_stack_new(w, 0);
    if (!stack) return false;
    w->loops[w->loop_count++] = stack;
    return true;
}

void zk__loop_stacks_look(zk__worker *w)
{
    if (w->loop_count <= LOOPS_KEPT || w->now < w->loops_look_at) return;
    uint32_t spare = w->loops_spare;
    uint32_t count = spare < LOOPS_FREED_AT_ONCE ? spare : LOOPS_FREED_AT_ONCE;
    for (uint32_t i = 0; i < count && w->loop_count > LOOPS_KEPT; i++)
        zk__loop_stack_free(w, zk__loop_stack_take(w));
    (void)zk__ring_trim(w);
    w->loops_spare = spare > count ? spare - count : w->loop_count;
    w->loops_look_at = w->now + (spare > count ? ZK_MS(10) : ZK_SEC(1));
}

void zk__loop_stacks_trim(zk__worker *w)
{
    while (w->loop_count > LOOPS_IDLE)
        zk__loop_stack_free(w, zk__loop_stack_take(w));
}

__attribute__((noinline)) void zk__leave_hook(zk__stack *stack)
{
    void (*fn)(void *) = stack->on_leave;
    stack->on_leave = NULL;
    fn(stack->on_leave_context);
}

ssize_t zk__wait_for(zk__wait *wait)
{
    return zk__wait_here(zk__lane.worker, wait, wait->cancel != NULL);
}

void zk__wait_end(zk__wait *wait, ssize_t result)
{
    zk__wait_end_on(zk__lane.worker, wait, result);
}

void zk__on_suspend(void (*fn)(void *context), void *context)
{
    zk__stack *stack = zk__lane.worker->stack;
    stack->on_leave_context = context;
    stack->on_leave = fn;
}

/* Apart, so that the other way need not look again at what zk__ready_slow may have changed. */
static __attribute__((noinline)) int yield_slow(zk__worker *w, zk_task *me)
{
    zk__ready_slow(w, me);
    zk__leave(w, me, NULL);
    return 0;
}

int zk_yield(void)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    zk__worker *w = zk__lane.worker;
    if (w->head == w->tail && !zk__lane.pending && w->head != w->turn_end) {
        /* Nobody else is ready; let the poller have a look now and then. */
        w->turn_goal = --w->turn_end;
        return 0;
    }
    if (zk__lane.pending) zk__pending_flush(w); /* they go first: this is their turn */
    zk_task *me = zk__lane.current;
    if (!zk__ready_is_quick(w, me)) return yield_slow(w, me);
    zk__ready_quickly(w, me);
    zk__leave(w, me, NULL);
    return 0;
}

/* ---- finishing ---- */

static void scope_child_failed(zk_scope *scope, zk_task *task, int rc)
{
    if (scope->error) return;
    scope->error = rc;
    if (task->flags & ZK__TASK_TRAIL) {
        scope->trail = task->trail;
        task->flags &= (uint8_t)~ZK__TASK_TRAIL;
    }
    zk__scope_cancel_as(scope, -ECANCELED);
}

/* Of its scope, on its scope's worker. */
static void spawned_finished(zk__worker *w, zk_task *task, int rc)
{
    zk_scope *scope = task->scope;
    if (rc < 0) scope_child_failed(scope, task, rc);
    zk__trail_drop(task);
    zk__scope_child_finished(w, scope);
}

/* What is not a plain spawned task that succeeded. */
static __attribute__((noinline)) void finish_slow(zk__worker *w, zk_task *task, int rc)
{
    if (task->flags & ZK__TASK_REMOTE) {
        zk__proxy_finished(w, task, rc);
        return;
    }
    if (!(task->flags & ZK__TASK_SPAWNED)) {
        if (task->flags & ZK__TASK_JOINED) {
            zk__joined_finished(w, task, rc);
            return;
        }
        /* A future. Once it is FINISHED its owner may be gone, so that comes last. */
        zk_task *awaiter = task->awaiter;
        bool is_selected = task->is_selected;
        task->result = rc;
        task->state = ZK__TASK_FINISHED;
        if (!awaiter) return;
        if (is_selected) {
            zk__waiter_give((zk__waiter *)(void *)awaiter, 0);
        } else {
            zk__ready(w, awaiter);
        }
        return;
    }
    spawned_finished(w, task, rc);
    zk__heap_free(w->heap, task);
}

void zk__task_finished(zk__worker *w, zk_task *task, int rc) { finish_slow(w, task, rc); }

/* Spawned, on its scope's worker, with nothing else about it. */
enum { KIND_PLAIN = ZK__TASK_QUEUED | ZK__TASK_SPAWNED << 8 };
_Static_assert(offsetof(zk_task, arg) == 8 && offsetof(zk_task, next) == 16 &&
                   offsetof(zk_task, scope) == 24 && offsetof(zk_task, site) == 32 &&
                   offsetof(zk_task, zk__word) == 40,
               "zk_async_at stores pairs");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "zk__kind is made of state and flags");

/* Read first: to compare it in memory is an instruction that takes long to decode. */
static inline bool is_plain(const zk_task *task)
{
    return ZK_LIKELY(*(const volatile uint16_t *)&task->zk__kind == KIND_PLAIN);
}

static inline void finish_plain(zk__worker *w, zk_task *task)
{
    zk__scope_child_finished(w, task->scope);
    if (ZK_LIKELY(w->task_count < ZK__TASKS_CACHED)) {
        w->tasks[w->task_count++] = task;
    } else {
        zk__heap_free(w->heap, task);
    }
}

static void check_none_pending(const zk_task *task)
{
    if (ZK_LIKELY(zk__lane.pending == NULL)) return;
    /* Which one cannot be said: its frame is gone. */
    zk__panic("task %s (%s:%d) ended without awaiting a future that it had started",
              task->site->name, task->site->file, task->site->line);
}

static __attribute__((noinline)) void record_finished(zk__worker *w, zk_task *task, int rc)
{
    check_none_pending(task);
    spawned_finished(w, task, rc);
}

/* With as much room behind it as other spawned tasks have. */
typedef union task_in_frame {
    zk_task task;
    char bytes[ZK__TASK_BYTES];
} task_in_frame;

/* Runs what the entry of the run queue stands for that this record belongs to. task: memory. */
ZK__INLINE void record_run(zk__worker *w, zk_task *task, zk_scope *scope, const zk__record *record)
{
    task->scope = scope;
    task->site = record->site;
    task->zk__word = ZK__WORD_SPAWNED;
    zk__lane.current = task;
    int rc = record->fn(record->arg);
    bool is_plain = rc >= 0 && !zk__lane.pending && !(task->flags & ZK__TASK_TRAIL);
    if (ZK_LIKELY(is_plain)) {
        zk__scope_child_finished(w, scope);
    } else {
        record_finished(w, task, rc);
    }
}

static inline void finish(zk__worker *w, zk_task *task, int rc)
{
    check_none_pending(task);
    unsigned flags = task->flags & ~(unsigned)(ZK__TASK_PINNED | ZK__TASK_URGENT);
    if (flags == ZK__TASK_JOINED) {
        zk__joined_finished(w, task, rc);
    } else if (ZK_UNLIKELY(flags != ZK__TASK_SPAWNED || rc < 0)) {
        finish_slow(w, task, rc);
    } else {
        finish_plain(w, task);
    }
}

/* ---- joining ---- */

static zk_task *future_holder(const zk__wait *wait, const zk_site **ret_site)
{
    zk_task **waiter = ((const zk__join_wait *)(const void *)wait)->waiter;
    zk_task *future = (zk_task *)(void *)((char *)waiter - offsetof(zk_task, awaiter));
    *ret_site = future->site;
    return future;
}

const zk__wait_kind zk__future_kind = {
    .name = "the end", .is_by_tasks = true, .holder = future_holder};
const zk__wait_kind zk__tasks_kind = {.name = "the tasks of its scope", .is_by_tasks = true};

/* Moves a task that has a stack to the front of the run queue. returns false if there is none. */
static bool started_to_front(zk__worker *w)
{
    while (w->urgent && w->tail - w->head <= w->ring_mask) {
        zk_task *task = w->urgent;
        w->urgent = task->next;
        zk__ready_quickly(w, task);
    }
    for (uint32_t i = w->head; i != w->tail; i++) {
        const zk_task *task = zk__entry_task(w->ring[i & w->ring_mask]);
        if (!task || task->state != ZK__TASK_STARTED) continue;
        zk__entries_swap(w, w->head, i);
        zk_task *other = zk__entry_task(w->ring[i & w->ring_mask]);
        if (other) other->ring_index = i;
        return true;
    }
    return false;
}

/* Runs a task of the scope that has not started, here and now. returns false if there is none. */
static bool child_run_in_place(zk__worker *w, const zk_scope *scope)
{
    for (uint32_t i = w->head; i != w->tail; i++) {
        zk__entry *slot = &w->ring[i & w->ring_mask];
        zk_task *task = zk__entry_task(*slot);
        zk_scope *entry_scope = task ? NULL : zk__entry_scope(*slot);
        if (entry_scope == scope) {
            zk__record record = w->records[i & w->ring_mask];
            *slot = ZK__ENTRY_GONE;
            task_in_frame own;
            record_run(w, &own.task, entry_scope, &record);
            return true;
        }
        if (!task || task->state != ZK__TASK_QUEUED || task->scope != scope) continue;
        if (!(task->flags & (ZK__TASK_SPAWNED | ZK__TASK_JOINED))) continue;
        *slot = ZK__ENTRY_GONE;
        int rc = -ENOMEM; /* for a task that wants a stack of its own */
        if (!(task->flags & ZK__TASK_OWN_STACK)) {
            zk__lane.current = task;
            rc = task->fn(task->arg);
        }
        finish(w, task, rc);
        return true;
    }
    return false;
}

/*
 * A join cannot fail. Where there is no memory for a stack to go on with, what it waits for is run
 * on this one, which has nothing to do before that has ended; or it is left for a task that has a
 * stack, and until such a task is ready the loop's turns are made here.
 */
__attribute__((noinline)) void zk__join_without_memory(zk__worker *w, const zk_scope *scope)
{
    zk_task *me = zk__lane.current;
    while (!started_to_front(w) && !zk__loop_stack_reserve(w)) {
        if (!scope || !child_run_in_place(w, scope)) {
            /* What is ready belongs to others, who have no stack to start it on either. */
            if (w->head != w->tail) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            zk__worker_turn(w);
        }
        zk__lane.current = me;
    }
    if (w->turn_end == w->head) w->turn_goal = ++w->turn_end;
}

void zk__join(zk_task **ret_waiter, const zk_scope *scope)
{
    static const zk__wait_kind other = {.name = "the end of something"};
    zk__join_here(ret_waiter, scope, scope ? &zk__tasks_kind : &other);
}

void zk__wait_begin_always(void)
{
    zk__worker *w = zk__lane.worker;
    /* Only this thread is held up, and only at the very end of memory. */
    while (!w->loop_count && !zk__loop_stack_reserve(w)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* ---- the loop ---- */

/* Leaves the stack of the loop for good or until it is taken from w->loops again. */
static inline void loop_switch(zk__worker *w, zk__stack *to, void *to_sp)
{
    zk__stack *mine = w->stack;
    w->loops[w->loop_count++] = mine;
    w->stack = to;
    zk__switch(mine, &mine->sp, to, to_sp, false);
}

/* A task with a stack of its own is over: the loop goes on on a common one, if one can be had. */
static void loop_retire(zk__worker *w, zk__stack *mine)
{
    mine->first = NULL;
    zk__lane.current = &w->root_task;
    if (!zk__loop_stack_reserve(w)) return;
    mine->next = w->dead;
    w->dead = mine;
    w->stack = zk__loop_stack_take(w);
    zk__switch(mine, &mine->sp, w->stack, w->stack->sp, true);
}

static void loop_run_first(zk__worker *w, zk__stack *mine)
{
    zk_task *task = mine->first;
    zk__lane.current = task;
    finish(w, task, task->fn(task->arg));
    loop_retire(w, mine);
}

static void loop_start_on_own_stack(zk__worker *w, zk_task *task)
{
    task->flags &= (uint8_t)~ZK__TASK_OWN_STACK;
    zk__lane.current = &w->root_task; /* the task that was may be over */
    zk__stack *own = loop_stack_new(w, task->stack_bytes);
    if (!own) {
        finish(w, task, -ENOMEM);
        return;
    }
    own->first = task;
    loop_switch(w, own, own->sp);
}

_Noreturn void zk__loop(void)
{
    zk__switch_entered();
    zk__worker *const w = zk__lane.worker;
    const _Atomic uint64_t *const idle_workers = &w->runtime->idle_workers;
    task_in_frame frame; /* for want of other memory */
    zk_task *const own = w->stack->task ? w->stack->task : &frame.task;
    if (w->stack->first) loop_run_first(w, w->stack);
    for (;;) {
        uint32_t head = w->head;
        zk_task *task;
        if (ZK_UNLIKELY(head == w->tail || head == w->turn_end)) {
            task = zk__urgent_take(w);
            if (!task) {
                if (head != w->tail && head != w->turn_end) continue;
                if (w->is_stopping && head == w->tail && !w->overflow && !w->urgent) {
                    loop_switch(w, &w->thread_stack, w->thread_stack.sp);
                }
                zk__worker_turn(w);
                continue;
            }
        } else {
            zk__entry entry = w->ring[head & w->ring_mask];
            w->head = head + 1;
            if (entry & ZK__ENTRY_SPAWNED) {
                zk_scope *scope = zk__entry_scope(entry);
                if (ZK_UNLIKELY(!scope)) continue;
                if (ZK_UNLIKELY(atomic_load_explicit(idle_workers, memory_order_relaxed))) {
                    zk__donate(w);
                }
                record_run(w, own, scope, &w->records[head & w->ring_mask]);
                continue;
            }
            task = (zk_task *)entry;
        }
        if (task->state == ZK__TASK_STARTED) {
            zk__look_ahead(w, head);
            zk__lane.current = task;
            loop_switch(w, task->stack, task->sp);
            continue;
        }
        if (ZK_UNLIKELY(atomic_load_explicit(idle_workers, memory_order_relaxed))) {
            zk__donate(w);
        }
        if (ZK_UNLIKELY(task->flags & ZK__TASK_OWN_STACK)) {
            loop_start_on_own_stack(w, task);
            continue;
        }
        zk__lane.current = task;
        int rc = task->fn(task->arg);
        if (is_plain(task) && ZK_LIKELY(rc >= 0 && !zk__lane.pending)) {
            finish_plain(w, task);
        } else {
            finish(w, task, rc);
        }
    }
}

/* ---- await ---- */

static int run_in_place(zk_task *task)
{
    zk_task *me = zk__lane.current;
    zk__lane.current = task;
    task->awaiter = me;
    int rc = task->fn(task->arg);
    zk__lane.current = me;
    task->result = rc;
    task->state = ZK__TASK_FINISHED;
    return rc;
}

/* A future that the loop runs is still QUEUED when what it awaits in place waits for something. */
static bool ring_has(const zk__worker *w, const zk_task *task)
{
    return task->ring_index - w->head < w->tail - w->head &&
           w->ring[task->ring_index & w->ring_mask] == (zk__entry)task;
}

/* Takes a future out of the run queue, which must not grow by what nobody will run. */
static void ring_remove(zk__worker *w, zk_task *task)
{
    w->ring[task->ring_index & w->ring_mask] = ZK__ENTRY_GONE;
    while (w->tail != w->head && w->ring[(w->tail - 1) & w->ring_mask] == ZK__ENTRY_GONE) {
        if (w->donate_seen == w->tail) w->donate_seen--;
        w->tail--;
    }
}

void zk__check_sole_awaiter(const zk_future *future)
{
    if (ZK_LIKELY(!future->awaiter)) return;
    zk__panic("task %s awaits %s (%s:%d), which another task awaits already",
              zk__lane.current->site->name, future->site->name, future->site->file,
              future->site->line);
}

/* Sees to a future that is neither finished nor waiting for something: it is run in place, or found
 * in the run queue and run in place, or left there. */
static __attribute__((noinline)) void await_unstarted(zk__worker *w, zk_future *future)
{
    if (future->state == ZK__TASK_PENDING) {
        /* Older than other pending ones. All of them are queued, for an await that searched would
         * be quadratic. */
        if (w) zk__pending_flush(w);
        if (future->state == ZK__TASK_PENDING) { /* outside zk_run, or never started */
            zk_task **link = &zk__lane.pending;
            while (*link && *link != future)
                link = &(*link)->next;
            if (!*link) zk__panic("zk_await of a future that zk_async did not start");
            *link = future->next;
            run_in_place(future);
            return;
        }
    }
    zk__check_sole_awaiter(future);
    if (future->state == ZK__TASK_QUEUED && !(future->flags & ZK__TASK_OVERFLOWED) &&
        ring_has(w, future)) {
        ring_remove(w, future);
        run_in_place(future);
    }
}

int zk__await_slow(zk_future *future)
{
    /* While it is away its state is the other worker's. */
    if (!zk__task_is_away(future) && future->state != ZK__TASK_STARTED &&
        future->state != ZK__TASK_FINISHED) {
        await_unstarted(zk__lane.worker, future);
    }
    if (!zk__task_is_done(future)) {
        zk__check_sole_awaiter(future);
        zk__join_here(&future->awaiter, NULL, &zk__future_kind);
    }
    if (ZK_UNLIKELY(future->flags)) zk__await_flags(future);
    return future->result;
}

void zk__await_flags(zk_future *future) { zk__trail_take(future, zk__lane.current); }
