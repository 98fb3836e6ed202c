/*
 * Runtime counters: what the workers have done so far, and what they have now.
 */
#ifndef ZOKIO_METRICS_H
#define ZOKIO_METRICS_H

#include <zokio/base.h>
#include <zokio/error.h>

ZK_BEGIN

/** Counts of one worker, or of all of them. Each is exact, but they are of different moments. */
typedef struct zk_metrics {
    /* since zk_run began; these only grow */
    uint64_t waits;          /* times that a task was suspended, yields left out */
    uint64_t turns;          /* looks at messages, timers and the poller between batches of tasks */
    uint64_t sleeps;         /* turns that had nothing to run, and waited in the poller */
    uint64_t messages;       /* received from other threads */
    uint64_t tasks_sent;     /* unstarted ones, to another worker */
    uint64_t tasks_received; /* from another worker */
    /* now */
    uint64_t tasks_ready;    /* to run or to go on */
    uint64_t timers_pending; /* sleeps, deadlines and the like */
    uint64_t stacks;         /* that have memory; a waiting task keeps one */
    uint64_t stacks_parked;  /* of these, kept for the loop to go on with */
    uint64_t stacks_cached;  /* address space of stacks without memory */
    /* held from the system for objects; 0 with an allocator of the user's and with sanitizers */
    uint64_t heap_bytes;
} zk_metrics;

/**
 * Reads the sum over all workers. On any thread while zk_run is sure not to return; never suspends,
 * and holds up nobody.
 *
 * @return 0; ZK_E_NO_RUNTIME
 */
ZK_API int zk_metrics_read(zk_metrics *ret_metrics);

/**
 * Reads those of the worker with this number. As zk_metrics_read.
 *
 * @return 0; ZK_E_NO_RUNTIME; -EINVAL (no such worker)
 */
ZK_API int zk_metrics_read_worker(int worker_index, zk_metrics *ret_metrics);

ZK_END
#endif
