/*
 * Waking, waiting and cancelling for all that is waited for in line: see waiter.h.
 */
#include "core/waiter.h"

#include <errno.h>

#include "core/suspend.h"

static void on_wake(zk__msg *msg)
{
    zk__selection *s = (zk__selection *)(void *)((char *)msg - offsetof(zk__selection, msg));
    zk__wait_end(&s->wait, s->result);
}

void zk__waiter_wake_afar(zk__selection *s, ssize_t result)
{
    s->result = result;
    s->msg.run = on_wake;
    zk__post(s->worker, &s->msg);
}

void zk__line_wake_all(zk__line *line, ssize_t result)
{
    for (zk__waiter *waiter; (waiter = zk__line_take(line));)
        zk__waiter_wake(waiter, result);
}

static void cancel(zk__wait *wait)
{
    zk__line_waiting *s = (zk__line_waiting *)(void *)wait;
    zk__guard_enter(s->guard);
    bool is_in_line = s->waiter.link != NULL;
    if (is_in_line) {
        zk__line_remove(s->line, &s->waiter);
        if (wait->kind->on_leave) wait->kind->on_leave(s->guard);
    }
    zk__guard_leave(s->guard);
    /* Else it has been given what it waits for, and the message is on its way. */
    if (is_in_line) zk__wait_end(wait, -ECANCELED);
}

ZK__INLINE int line_wait(zk__guard *guard, zk__line *line, void *data, const zk__wait_kind *kind,
                         int mode, bool can_cancel)
{
    zk__worker *w = zk__lane.worker;
    zk__line_waiting s;
    s.selection.wait.cancel = can_cancel ? cancel : NULL;
    s.selection.wait.kind = kind;
    s.selection.worker = w;
    s.selection.is_single = true;
    s.guard = guard;
    s.line = line;
    s.waiter.selection = &s.selection;
    s.waiter.data = data;
    s.waiter.mode = mode;
    zk__line_add(line, &s.waiter);
    zk__guard_leave(guard);
    return (int)zk__wait_here(w, &s.selection.wait, can_cancel);
}

ZK__RETURNS_BY_JUMP int zk__line_wait(zk__guard *guard, zk__line *line, void *data,
                                      const zk__wait_kind *kind)
{
    return line_wait(guard, line, data, kind, 0, true);
}

ZK__RETURNS_BY_JUMP int zk__line_wait_as(zk__guard *guard, zk__line *line, void *data,
                                         const zk__wait_kind *kind, int mode)
{
    return line_wait(guard, line, data, kind, mode, true);
}

ZK__RETURNS_BY_JUMP int zk__line_wait_always(zk__guard *guard, zk__line *line, void *data,
                                             const zk__wait_kind *kind)
{
    return line_wait(guard, line, data, kind, 0, false);
}
