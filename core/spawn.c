/*
 * Spawning: a task's memory, and where it goes. In the usual case it needs none of its own, see
 * zk__entry: it is written into the run queue of the same worker.
 */
#include <errno.h>
#include <string.h>

#include "core/probe.h"
#include "core/task.h"

/* Memory for a task: from the worker's cache, which is as deep as batches usually are, or from its
 * heap. */
static zk_task *task_memory(zk__worker *w, size_t arg_bytes)
{
    if (arg_bytes > ZK__TASK_ARG_BYTES) {
        return zk__heap_alloc(w->heap, ZK__TASK_ARG_OFFSET + arg_bytes);
    }
    if (w->task_count) return w->tasks[--w->task_count];
    return zk__heap_alloc(w->heap, ZK__TASK_BYTES);
}

static inline void task_init(zk_task *task, zk_scope *scope, zk_fn *fn, void *arg,
                             const zk_site *site)
{
    task->fn = fn;
    task->arg = arg;
    task->scope = scope;
    task->site = site;
    task->zk__word = ZK__WORD_SPAWNED;
}

static __attribute__((noinline)) int spawn_slow(zk_scope *scope, zk_fn *fn, const void *arg,
                                                size_t arg_bytes, const zk_site *site)
{
    zk_spawn_options options = {.site = site, .arg_bytes = arg_bytes};
    return zk_spawn_with(scope, &options, fn, arg);
}

static inline void entry_add(zk__worker *w, zk_scope *scope, zk__entry bits, zk_fn *fn, void *arg,
                             const zk_site *site)
{
    uint32_t at = w->tail & w->ring_mask;
    w->ring[at] = (zk__entry)scope | bits;
    w->records[at] = (zk__record){fn, arg, site};
    w->tail++;
    scope->live++;
    ZK__PROBE(spawn, 0, site); /* last: the compiler orders memory accesses around it */
}

zk_task *zk__entry_become_task(zk__worker *w, uint32_t index)
{
    zk__entry *entry = &w->ring[index & w->ring_mask];
    const zk__record *r = &w->records[index & w->ring_mask];
    zk_task *task = task_memory(w, 0);
    if (!task) return NULL;
    task_init(task, zk__entry_scope(*entry), r->fn, r->arg, r->site);
    if (*entry & ZK__ENTRY_PINNED) task->flags |= ZK__TASK_PINNED;
    *entry = (zk__entry)task;
    return task;
}

int zk__spawn_pinned(zk_scope *scope, zk_fn *fn, void *arg, const zk_site *site)
{
    zk__worker *w = zk__lane.worker;
    if (ZK_LIKELY(w->tail - w->head <= w->ring_mask)) {
        entry_add(w, scope, ZK__ENTRY_SPAWNED | ZK__ENTRY_PINNED, fn, arg, site);
        return 0;
    }
    zk_task *task = task_memory(w, 0);
    if (!task) return -ENOMEM;
    task_init(task, scope, fn, arg, site);
    task->flags |= ZK__TASK_PINNED;
    scope->live++;
    zk__ready(w, task);
    ZK__PROBE(spawn, task, site);
    return 0;
}

int zk__spawn(zk_scope *scope, zk_fn *fn, const void *arg, size_t arg_bytes, const zk_site *site)
{
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(scope->worker != w || arg_bytes || w->tail - w->head > w->ring_mask)) {
        return spawn_slow(scope, fn, arg, arg_bytes, site);
    }
    entry_add(w, scope, ZK__ENTRY_SPAWNED, fn, (void *)arg, site);
    return 0;
}

int zk_spawn_with(zk_scope *scope, const zk_spawn_options *options, zk_fn *fn, const void *arg)
{
    static const zk_site unnamed = {"(unnamed)", "", 0};
    zk__worker *w = zk__lane.worker;
    if (!w) return ZK_E_NO_RUNTIME;
    if (options->worker < 0 || options->worker > w->runtime->worker_count ||
        options->stack_bytes > UINT32_MAX) {
        return -EINVAL;
    }
    zk_task *task = task_memory(w, options->arg_bytes);
    if (!task) return -ENOMEM;
    void *own = (void *)arg;
    if (options->arg_bytes) {
        own = memcpy((char *)task + ZK__TASK_ARG_OFFSET, arg, options->arg_bytes);
    }
    task_init(task, scope, fn, own, options->site ? options->site : &unnamed);
    ZK__PROBE(spawn, task, task->site);
    if (options->arg_bytes > ZK__TASK_ARG_BYTES) task->flags |= ZK__TASK_LARGE;
    if (options->arg_bytes) task->has_room = false;
    if (options->is_pinned || options->stack_bytes || options->worker) {
        task->flags |= ZK__TASK_PINNED;
    }
    if (options->is_urgent) task->flags |= ZK__TASK_URGENT;
    if (options->stack_bytes) {
        task->flags |= ZK__TASK_OWN_STACK;
        task->stack_bytes = (uint32_t)options->stack_bytes;
    }
    int rc = 0;
    zk__worker *to = options->worker ? w->runtime->workers[options->worker - 1] : w;
    if (scope->worker != w) {
        rc = zk__spawn_remote(scope, task, options->worker ? to : scope->worker);
    } else if (to != w) {
        rc = zk__task_send(w, task, to);
    }
    if (rc < 0) {
        zk__heap_free(w->heap, task);
        return rc;
    }
    if (scope->worker != w) return 0;
    scope->live++;
    if (to == w) zk__ready(w, task);
    return 0;
}

int zk__spawn_on(zk_scope *scope, int worker_index, zk_fn *fn, const void *arg, size_t arg_bytes,
                 const zk_site *site)
{
    if (worker_index < 0) return -EINVAL;
    zk_spawn_options options = {.site = site, .arg_bytes = arg_bytes, .worker = worker_index + 1};
    return zk_spawn_with(scope, &options, fn, arg);
}
