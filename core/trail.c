/*
 * The error trail: context that functions add to an error on its way up, newest first.
 *
 *   none --zk_fail--> filling --zk_trail--> read --zk_fail--> filling (a new one)
 *
 * It is one buffer of the task, allocated by its first zk_fail and moved along with the error when
 * a task is awaited or a scope waited for. When the buffer is full the oldest contexts, at its end,
 * are cut.
 */
#include <stdarg.h>
#include <string.h>

#include "core/task.h"

enum { TRAIL_BYTES = 512 };

typedef struct trail {
    int rc;
    bool is_read;
    char text[TRAIL_BYTES - 8];
} trail;

void zk__trail_drop(zk_task *task)
{
    if (!(task->flags & ZK__TASK_TRAIL)) return;
    zk_free(task->trail);
    task->flags &= (uint8_t)~ZK__TASK_TRAIL;
}

void zk__trail_take(zk_task *from, zk_task *to)
{
    if (!(from->flags & ZK__TASK_TRAIL)) return;
    zk__trail_drop(to);
    to->trail = from->trail;
    to->flags |= ZK__TASK_TRAIL;
    from->flags &= (uint8_t)~ZK__TASK_TRAIL;
}

static trail *trail_of(zk_task *task)
{
    return task->flags & ZK__TASK_TRAIL ? (trail *)(void *)task->trail : NULL;
}

static trail *trail_start(zk_task *task, int rc)
{
    trail *t = trail_of(task);
    if (!t) {
        t = zk_alloc(sizeof *t);
        if (!t) return NULL;
        task->trail = (char *)t;
        task->flags |= ZK__TASK_TRAIL;
    }
    t->rc = rc;
    t->is_read = false;
    const char *name = zk_errname(rc);
    snprintf(t->text, sizeof t->text, "%s (%s)", name, zk_strerror(rc));
    return t;
}

int zk_fail(int rc, const char *format, ...)
{
    zk_task *me = zk__lane.current;
    if (!zk__lane.worker || me == &zk__lane.worker->root_task) return rc;
    char context[TRAIL_BYTES / 2];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(context, sizeof context, format, args);
    va_end(args);
    if (written < 0) return rc;
    /* Only now, for an argument may be what zk_trail gave. */
    trail *t = trail_of(me);
    if (!t || t->rc != rc || t->is_read) t = trail_start(me, rc);
    if (!t) return rc;
    size_t size = (size_t)written < sizeof context ? (size_t)written : sizeof context - 1;
    size_t shift = size + 2, room = sizeof t->text - shift;
    size_t kept = strlen(t->text) < room ? strlen(t->text) : room - 1;
    memmove(t->text + shift, t->text, kept);
    memcpy(t->text, context, size);
    memcpy(t->text + size, ": ", 2);
    t->text[shift + kept] = '\0';
    return rc;
}

/* Of the last zk_run's main function, for who called zk_run. */
static char run_text[TRAIL_BYTES];

void zk__trail_keep(zk_task *task)
{
    trail *t = trail_of(task);
    snprintf(run_text, sizeof run_text, "%s", t ? t->text : "");
}

void zk__trail_prefix(int rc, const char *context)
{
    char old[TRAIL_BYTES];
    if (run_text[0]) {
        memcpy(old, run_text, sizeof old);
    } else {
        snprintf(old, sizeof old, "%s (%s)", zk_errname(rc), zk_strerror(rc));
    }
    snprintf(run_text, sizeof run_text, "%.360s: %.140s", context, old);
}

const char *zk_trail(void)
{
    if (!zk__lane.worker) return run_text;
    trail *t = trail_of(zk__lane.current);
    if (!t) return "";
    t->is_read = true;
    return t->text;
}
