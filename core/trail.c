/*
 * The error trail: context that functions add to an error on its way up, newest first.
 *
 *   none --zk_fail--> filling --zk_trail--> read --zk_fail--> filling (a new one)
 *
 * It is one buffer of the task, allocated by its first zk_fail and moved along with the error when
 * a task is awaited or a scope waited for. A thread without a task has one, too, which a task of
 * zk_blocking takes over. When the buffer is full the oldest contexts, at its end, are cut.
 */
#include <stdarg.h>
#include <string.h>

#include "core/task.h"

typedef struct trail {
    int rc;
    bool is_read;
    char text[ZK__TRAIL_BYTES];
} trail;

/* Outside of tasks, on this thread. */
static _Thread_local trail loose;

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

/* The running task; NULL on the worker's loop, and where there is no worker. */
static zk_task *current(void)
{
    zk_task *me = zk__lane.current;
    return zk__lane.worker && me != &zk__lane.worker->root_task ? me : NULL;
}

static trail *trail_of(zk_task *task)
{
    if (!task) return &loose;
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
    zk_task *me = current();
    char context[ZK__TRAIL_BYTES / 2];
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

void zk__trail_keep(zk_task *task)
{
    trail *t = trail_of(task);
    loose.rc = t ? t->rc : 0;
    loose.is_read = true;
    snprintf(loose.text, sizeof loose.text, "%s", t ? t->text : "");
}

void zk__trail_prefix(int rc, const char *context)
{
    char old[ZK__TRAIL_BYTES];
    if (loose.text[0]) {
        memcpy(old, loose.text, sizeof old);
    } else {
        snprintf(old, sizeof old, "%s (%s)", zk_errname(rc), zk_strerror(rc));
    }
    snprintf(loose.text, sizeof loose.text, "%.360s: %.140s", context, old);
}

void zk__trail_export(int rc, char text[ZK__TRAIL_BYTES])
{
    bool is_its = rc < 0 && loose.rc == rc;
    snprintf(text, ZK__TRAIL_BYTES, "%s", is_its ? loose.text : "");
    loose.rc = 0;
    loose.text[0] = '\0';
}

void zk__trail_import(int rc, const char *text)
{
    trail *t = *text ? trail_start(current(), rc) : NULL;
    if (t) snprintf(t->text, sizeof t->text, "%s", text);
}

const char *zk_trail(void)
{
    trail *t = trail_of(current());
    if (!t) return "";
    t->is_read = true;
    return t->text;
}
