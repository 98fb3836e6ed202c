/*
 * Runtime counters: each is a plain word that only its worker writes, and that is read as it is at
 * the moment. What the runtime needs anyway (queue, timers, stacks) is not counted once more, and
 * nothing is counted where a task is spawned, awaited or yields.
 */
#include <zokio/metrics.h>

#include "core/worker.h"

/* The fields in order: X(name, where a worker has it). */
#define METRICS(X)                                                                                 \
    X(waits, w->waits)                                                                             \
    X(turns, w->polls)                                                                             \
    X(sleeps, w->sleeps)                                                                           \
    X(messages, w->messages)                                                                       \
    X(tasks_sent, w->tasks_sent)                                                                   \
    X(tasks_received, w->tasks_received)                                                           \
    X(timers_pending, w->wheel.pending)                                                            \
    X(stacks, w->stacks.made_count)                                                                \
    X(stacks_parked, w->loop_count)                                                                \
    X(stacks_cached, w->stacks.free_count)                                                         \
    X(heap_bytes, w->heap->chunk_bytes)

/* Words that their worker changes as it goes: a moment's value is as good as another's. */
__attribute__((no_sanitize("thread"))) static void add(zk_metrics *sum, const zk__worker *w)
{
#define X(name, place) sum->name += __atomic_load_n(&(place), __ATOMIC_RELAXED);
    METRICS(X)
#undef X
    /* The head first: it follows the tail, so the difference is not negative. */
    uint32_t head = __atomic_load_n(&w->head, __ATOMIC_ACQUIRE);
    sum->tasks_ready += __atomic_load_n(&w->tail, __ATOMIC_RELAXED) - head;
}

static zk__runtime *running(void)
{
    return zk__lane.worker ? zk__lane.worker->runtime : atomic_load(&zk__runtime_running);
}

int zk_metrics_read(zk_metrics *ret_metrics)
{
    const zk__runtime *rt = running();
    if (!rt) return ZK_E_NO_RUNTIME;
    *ret_metrics = (zk_metrics){0};
    for (int i = 0; i < rt->worker_count; i++)
        add(ret_metrics, rt->workers[i]);
    return 0;
}

int zk_metrics_read_worker(int worker_index, zk_metrics *ret_metrics)
{
    const zk__runtime *rt = running();
    if (!rt) return ZK_E_NO_RUNTIME;
    if (worker_index < 0 || worker_index >= rt->worker_count) return -EINVAL;
    *ret_metrics = (zk_metrics){0};
    add(ret_metrics, rt->workers[worker_index]);
    return 0;
}
