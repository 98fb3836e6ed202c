/*
 * Renewing the budget, and letting others run when it is used up: see budget.h.
 */
#include "core/budget.h"

int zk__budget_renew(zk__worker *w)
{
    int rc = zk_yield();
    w->budget_head = w->head;
    w->budget = ZK__BUDGET;
    /* Meanwhile the scope may have been cancelled. */
    return rc < 0 ? rc : zk__wait_begin();
}
