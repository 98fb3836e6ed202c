/*
 * Waking, waiting and cancelling for all that is waited for in line: see waiter.h.
 */
#include "core/waiter.h"

#include <errno.h>

typedef struct single {
    zk__selection selection; /* first */
    zk__waiter *waiter;
    zk__line *line;
} single;

static void on_wake(zk__msg *msg)
{
    zk__selection *s = (zk__selection *)(void *)((char *)msg - offsetof(zk__selection, msg));
    zk__wait_end(&s->wait, s->result);
}

void zk__waiter_wake(zk__waiter *waiter, ssize_t result)
{
    zk__selection *s = waiter->selection;
    if (ZK_LIKELY(s->worker == zk__lane.worker)) {
        zk__wait_end(&s->wait, result);
        return;
    }
    s->result = result;
    s->msg.run = on_wake;
    zk__post(s->worker, &s->msg);
}

void zk__line_wake_all(zk__line *line, ssize_t result)
{
    for (zk__waiter *waiter; (waiter = zk__line_take(line));)
        zk__waiter_wake(waiter, result);
}

static void single_cancel(zk__wait *wait)
{
    single *s = (single *)(void *)wait;
    zk__guard *guard = s->waiter->guard;
    zk__guard_enter(guard);
    bool is_in_line = s->waiter->link != NULL;
    if (is_in_line) {
        zk__line_remove(s->line, s->waiter);
        if (s->waiter->on_leave) s->waiter->on_leave(s->waiter);
    }
    zk__guard_leave(guard);
    /* Else it has been given what it waits for, and the message is on its way. */
    if (is_in_line) zk__wait_end(wait, -ECANCELED);
}

static inline ssize_t line_wait(zk__guard *guard, zk__line *line, zk__waiter *waiter,
                                const zk__wait_kind *kind, void (*cancel)(zk__wait *))
{
    single s;
    s.selection.wait.cancel = cancel;
    s.selection.wait.kind = kind;
    s.selection.worker = zk__lane.worker;
    s.selection.is_single = true;
    s.waiter = waiter;
    s.line = line;
    waiter->selection = &s.selection;
    waiter->guard = guard;
    zk__line_add(line, waiter);
    zk__guard_leave(guard);
    return zk__wait_for(&s.selection.wait);
}

ssize_t zk__line_wait(zk__guard *guard, zk__line *line, zk__waiter *waiter,
                      const zk__wait_kind *kind)
{
    return line_wait(guard, line, waiter, kind, single_cancel);
}

ssize_t zk__line_wait_always(zk__guard *guard, zk__line *line, zk__waiter *waiter,
                             const zk__wait_kind *kind)
{
    return line_wait(guard, line, waiter, kind, NULL);
}

zk__waiter *zk__waiter_of(const zk__wait *wait)
{
    return ((const single *)(const void *)wait)->waiter;
}
