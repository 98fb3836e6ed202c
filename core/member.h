/*
 * What belongs to a scope as a task does without being one: the scope is not over before it, and
 * it is told of the scope's cancellation. For what goes on by callbacks between the tasks that it
 * starts there.
 */
#ifndef ZOKIO_CORE_MEMBER_H
#define ZOKIO_CORE_MEMBER_H

#include "core/wait.h"

typedef struct zk__member zk__member;
struct zk__member {
    zk__wait wait; /* no task's: only where cancellation looks */
    zk_scope *scope;
    void (*on_cancel)(zk__member *member); /* once, at most; must not suspend */
};

/* Joins a scope of this worker that is not cancelled. */
void zk__member_join(zk__member *member, zk_scope *scope, void (*on_cancel)(zk__member *));

/* Its last act. */
void zk__member_leave(zk__member *member);

#endif
