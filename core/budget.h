/*
 * The cooperative budget: how long a task may go on without waiting.
 *
 * A task that always finds something to do (a busy connection, a full channel) would keep its
 * worker for ever. So each operation that might have waited takes one from a budget, and when that
 * is used up lets the others run first. The budget is the worker's and is renewed when the worker
 * takes another task from its run queue, which costs the run queue nothing: its head has moved.
 */
#ifndef ZOKIO_CORE_BUDGET_H
#define ZOKIO_CORE_BUDGET_H

#include "core/worker.h"

enum { ZK__BUDGET = 128 };

/* The budget has come to its end: lets others run. returns as zk__spend. */
int zk__budget_renew(zk__worker *w);

/*
 * What an operation that may suspend begins with: zk__wait_begin, and one from the budget. May let
 * other tasks run.
 */
static inline int zk__spend(void)
{
    int rc = zk__wait_begin();
    if (ZK_UNLIKELY(rc < 0)) return rc;
    zk__worker *w = zk__lane.worker;
    uint32_t head = w->head;
    if (w->budget_head != head) {
        w->budget_head = head;
        w->budget = ZK__BUDGET;
    }
    return ZK_LIKELY(--w->budget) ? 0 : zk__budget_renew(w);
}

/* zk__spend in the usual case; else returns false, and has done nothing. Who has to wait then sees
 * to it that there is a stack to go on with. */
static inline bool zk__spend_quickly(zk__worker *w)
{
    if (ZK_UNLIKELY(zk__lane.current->scope->reason)) return false;
    uint32_t head = w->head, budget = w->budget;
    if (w->budget_head != head) {
        w->budget_head = head;
        budget = ZK__BUDGET;
    }
    if (ZK_UNLIKELY(budget <= 1)) return false;
    w->budget = budget - 1;
    return true;
}

#endif
