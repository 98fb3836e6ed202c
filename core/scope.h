/*
 * Entering and leaving a scope, for what does that often; else zk__scope_enter and zk__scope_leave.
 */
#ifndef ZOKIO_CORE_SCOPE_H
#define ZOKIO_CORE_SCOPE_H

#include "core/leak.h"
#include "core/suspend.h"
#include "core/worker.h"

static inline void zk__scope_link(zk_scope *scope, zk_scope *parent)
{
    scope->parent = parent;
    scope->sibling = parent->children;
    scope->link = &parent->children;
    if (scope->sibling) scope->sibling->link = &scope->sibling;
    parent->children = scope;
}

/* For a task in a scope, `parent`. */
ZK__INLINE void zk__scope_enter_here(zk_scope *scope, zk_task *me, zk_scope *parent)
{
    scope->worker = parent->worker;
    scope->owner = me;
    scope->bindings = parent->bindings;
    scope->reason = parent->reason ? -ECANCELED : 0;
    scope->flags = parent->flags & ZK__SCOPE_BOUND;
    scope->live = 0;
    scope->error = 0;
    scope->children = NULL;
    scope->waits = NULL;
    scope->joiner = NULL;
    scope->proxies = NULL;
    scope->trail = NULL;
    scope->timer.next = NULL;
    scope->timer.link = NULL;
    zk__scope_link(scope, parent);
    me->scope = scope;
}

ZK__INLINE void zk__scope_leave_here(zk_scope *scope, zk_task *me)
{
    if (ZK_UNLIKELY(me->scope != scope || scope->live || scope->children || scope->waits ||
                    scope->trail || scope->timer.link || zk__lane.pending || zk__leaks_current)) {
        zk__scope_leave(scope);
        return;
    }
    me->scope = scope->parent;
    zk__scope_unlink(scope);
}

#endif
