/*
 * The run queue, see zk__entry: its ring grows and shrinks, and what is ready but not in it (urgent
 * tasks, those for which it could not grow, futures that are still pending). What is usual is
 * inlined, in worker.h.
 */
#include <stdlib.h>

#include "core/task.h"

/* Urgent tasks in a row while others are ready. */
enum { URGENT_MAX = 16 };

/* capacity: a power of two, with room for what there is. */
static bool ring_resize(zk__worker *w, uint32_t capacity)
{
    zk__entry *ring = malloc(capacity * sizeof *ring);
    zk__record *records = malloc(capacity * sizeof *records);
    if (!ring || !records) {
        free(ring);
        free(records);
        return false;
    }
    uint32_t mask = capacity - 1;
    for (uint32_t i = w->head; i != w->tail; i++) {
        ring[i & mask] = w->ring[i & w->ring_mask];
        records[i & mask] = w->records[i & w->ring_mask];
    }
    free(w->ring);
    free(w->records);
    w->ring = ring;
    w->records = records;
    w->ring_mask = mask;
    return true;
}

static bool ring_grow(zk__worker *w)
{
    uint32_t capacity = w->ring_mask + 1;
    return capacity <= UINT32_MAX / 4 && ring_resize(w, 2 * capacity);
}

bool zk__ring_trim(zk__worker *w)
{
    uint32_t capacity = w->ring_mask + 1, ready = w->tail - w->head;
    if (capacity <= ZK__RING_ENTRIES || ready > capacity / 8) return false;
    return ring_resize(w, capacity / 2);
}

static void overflow_add(zk__worker *w, zk_task *task)
{
    task->next = NULL;
    if (!w->overflow) w->overflow_tail = &w->overflow;
    *w->overflow_tail = task;
    w->overflow_tail = &task->next;
}

/*
 * Urgent tasks have a list of their own. To make the loop look at it, the ring index at which it
 * looks up is set to where it is: the ring itself is as quick as without them. After URGENT_MAX of
 * them in a row one task of the ring has its turn, so neither the ring nor the poller starves.
 */
static void urgent_add(zk__worker *w, zk_task *task)
{
    task->next = NULL;
    if (!w->urgent) w->urgent_tail = &w->urgent;
    *w->urgent_tail = task;
    w->urgent_tail = &task->next;
    w->urgent_added++;
    w->turn_end = w->head;
}

zk_task *zk__urgent_take(zk__worker *w)
{
    if (w->urgent && w->urgent_run < URGENT_MAX) {
        zk_task *task = w->urgent;
        w->urgent = task->next;
        w->urgent_run++;
        if (!w->urgent) w->turn_end = w->turn_goal;
        return task;
    }
    w->urgent_run = 0;
    bool is_one_due = w->urgent && w->head != w->tail && w->head != w->turn_goal;
    w->turn_end = is_one_due ? w->head + 1 : w->turn_goal;
    return NULL;
}

void zk__ready_slow(zk__worker *w, zk_task *task)
{
    if (task->flags & ZK__TASK_URGENT) {
        urgent_add(w, task);
        return;
    }
    if (!w->overflow && (w->tail - w->head <= w->ring_mask || ring_grow(w))) {
        zk__ready(w, task);
        return;
    }
    overflow_add(w, task);
}

/* Moves what overflowed into the ring as far as there is room. */
void zk__overflow_drain(zk__worker *w)
{
    while (w->overflow && (w->tail - w->head <= w->ring_mask || ring_grow(w))) {
        zk_task *task = w->overflow;
        w->overflow = task->next;
        task->flags &= (uint8_t)~ZK__TASK_OVERFLOWED;
        task->ring_index = w->tail;
        zk__ready_quickly(w, task);
    }
}

static __attribute__((noinline)) void pending_flush_all(zk__worker *w)
{
    zk_task *reversed = NULL;
    /* Newest first in the list, oldest first in the ring. */
    while (zk__lane.pending) {
        zk_task *task = zk__lane.pending;
        zk__lane.pending = task->next;
        task->next = reversed;
        reversed = task;
    }
    while (reversed) {
        zk_task *task = reversed;
        reversed = task->next;
        if (task->state == ZK__TASK_FOLDED) {
            zk__unfold(w, task);
            continue;
        }
        task->state = ZK__TASK_QUEUED;
        task->awaiter = NULL;
        if (w->tail - w->head > w->ring_mask && !ring_grow(w)) {
            task->flags |= ZK__TASK_OVERFLOWED;
            overflow_add(w, task);
            continue;
        }
        task->ring_index = w->tail;
        zk__ready_quickly(w, task);
    }
}

void zk__pending_flush(zk__worker *w)
{
    zk_task *last = zk__lane.pending;
    if (last && last->state == ZK__TASK_FOLDED && !last->next) {
        zk__lane.pending = NULL;
        zk__unfold(w, last);
    } else {
        pending_flush_all(w);
    }
}
