/*
 * Select.
 *
 *   1. Each case is tried by itself, beginning with another one each time. Mostly one is ready.
 *      Channels of this worker are looked at without a call (poll_quickly).
 *   2. All guards are entered, in the order of their addresses; each case is tried again, and if
 *      none is ready all are put in line before the guards are left. So nothing can come between.
 *      Guards that are all still biased to this worker are entered in any order, and nothing is
 *      tried again, for nobody else has been there since the first time.
 *   3. The task waits. Who has something for one of the cases claims the selection (waiter.h): the
 *      first succeeds, has committed the case, and wakes the task; the others pass it over.
 *   4. What is still in line is taken out.
 */
#include "core/select.h"

#include <errno.h>

#include "core/budget.h"
#include "core/channel.h"
#include "core/suspend.h"
#include "core/task.h"

enum { PLACES_IN_FRAME = 8, CASES_MAX = 4096 };

static inline zk__guard *guard_of(const zk_case *c)
{
    return c->ops->is_guarded ? c->object : NULL;
}

static int poll_guarded(zk_case *c)
{
    zk__guard *guard = guard_of(c);
    if (!guard) return c->ops->poll(c);
    zk__guard_enter(guard);
    int rc = c->ops->poll(c);
    zk__guard_leave(guard);
    return rc;
}

/* What select returns for the case that was committed with this outcome. */
static int outcome(const zk_case *c, size_t index, int rc)
{
    if (c->ret_rc) {
        *c->ret_rc = rc;
        return (int)index;
    }
    return rc < 0 ? rc : (int)index;
}

/* The index of the first case of a kind, or -1. */
static int find(const zk_case *cases, size_t count, const struct zk__case_ops *ops)
{
    for (size_t i = 0; i < count; i++) {
        if (cases[i].ops == ops) return (int)i;
    }
    return -1;
}

/* ---- waiting ---- */

typedef struct selecting {
    zk__selection selection; /* first */
    zk_case *cases;
    zk__place *places;
    size_t count, guard_count;
} selecting;

static void guards_enter(selecting *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        zk__guard *guard = guard_of(&s->cases[i]);
        if (!guard) continue;
        size_t at = n;
        while (at > 0 && s->places[at - 1].sorted > guard)
            at--;
        if (at > 0 && s->places[at - 1].sorted == guard) continue;
        for (size_t j = n++; j > at; j--)
            s->places[j].sorted = s->places[j - 1].sorted;
        s->places[at].sorted = guard;
    }
    s->guard_count = n;
    for (size_t i = 0; i < n; i++)
        zk__guard_enter(s->places[i].sorted);
}

static void guards_leave(selecting *s)
{
    for (size_t i = s->guard_count; i-- > 0;)
        zk__guard_leave(s->places[i].sorted);
}

/* Enters all guards, if all are biased to this worker; else none. */
static inline bool guards_own(selecting *s, zk__worker *w)
{
    for (size_t i = 0; i < s->count; i++) {
        zk__guard *guard = guard_of(&s->cases[i]);
        if (!guard || ZK_LIKELY(zk__guard_own(w, guard))) continue;
        while (i-- > 0) {
            guard = guard_of(&s->cases[i]);
            if (guard) zk__guard_disown(guard);
        }
        return false;
    }
    return true;
}

static inline void guards_disown(selecting *s)
{
    for (size_t i = 0; i < s->count; i++) {
        zk__guard *guard = guard_of(&s->cases[i]);
        if (guard) zk__guard_disown(guard);
    }
}

static inline void place_leave(zk_case *c, zk__place *place)
{
    if (place->waiter.link) zk__line_remove(place->line, &place->waiter);
    if (c->ops->dequeue) c->ops->dequeue(c, place);
}

/*
 * Tries all cases: all before any is in line, for two cases of one select must not meet each other.
 * The guards are held. returns the outcome of the one that was ready; -EAGAIN.
 */
static int poll_all(selecting *s, size_t start)
{
    for (size_t i = 0, at = start; i < s->count; i++, at = at + 1 < s->count ? at + 1 : 0) {
        int rc = s->cases[at].ops->poll(&s->cases[at]);
        if (rc != -EAGAIN) return outcome(&s->cases[at], at, rc);
    }
    return -EAGAIN;
}

/* Puts all in line. The guards are held. returns the outcome of one that turned out to be ready;
 * -EAGAIN: all are in line. */
static inline int enqueue_all(selecting *s)
{
    for (size_t at = 0; at < s->count; at++) {
        zk__place *place = &s->places[at];
        place->waiter.link = NULL;
        place->waiter.selection = &s->selection;
        place->waiter.index = (int)at;
        int rc = s->cases[at].ops->enqueue(&s->cases[at], place);
        if (ZK_LIKELY(rc == -EAGAIN)) continue;
        for (size_t i = 0; i < at; i++)
            place_leave(&s->cases[i], &s->places[i]);
        return outcome(&s->cases[at], at, rc);
    }
    return -EAGAIN;
}

/* Takes out of line what is still there. Whoever claimed a waiter has taken that one out. */
static void dequeue_all(selecting *s, size_t claimed)
{
    for (size_t i = 0; i < s->count; i++) {
        zk_case *c = &s->cases[i];
        zk__guard *guard = guard_of(c);
        if (guard && i == claimed) continue;
        if (guard) zk__guard_enter(guard);
        place_leave(c, &s->places[i]);
        if (guard) zk__guard_leave(guard);
    }
}

static void select_cancel(zk__wait *wait)
{
    zk__selection *s = (zk__selection *)(void *)wait;
    int unchosen = ZK__UNCHOSEN;
    if (__atomic_compare_exchange_n(&s->chosen, &unchosen, ZK__CHOSEN_CANCEL, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        zk__wait_end(wait, -ECANCELED);
    }
}

static void select_describe(const zk__wait *wait, zk__wait_detail *detail)
{
    const selecting *s = (const selecting *)(const void *)wait;
    for (size_t i = 0; i < s->count; i++) {
        const struct zk__case_ops *ops = s->cases[i].ops;
        zk__detail_add(detail, "%s%s", i ? "; " : "", ops->name);
        if (!ops->describe) continue;
        zk__detail_add(detail, ": ");
        ops->describe(&s->cases[i], detail);
    }
}

/* By tasks, as far as the select itself knows: a timer and a stream make the worker expect it. */
static inline int select_wait(zk_case *cases, size_t count, size_t start, bool is_known,
                              int default_index, zk__place *places)
{
    static const zk__wait_kind kind = {
        .name = "select", .is_by_tasks = true, .describe = select_describe};
    zk__worker *w = zk__lane.worker;
    selecting s;
    s.selection.wait.cancel = select_cancel;
    s.selection.wait.kind = &kind;
    s.selection.worker = w;
    s.selection.is_single = false;
    s.selection.chosen = ZK__UNCHOSEN;
    s.cases = cases;
    s.places = places;
    s.count = count;
    int rc;
    if (ZK_LIKELY(is_known) && guards_own(&s, w)) {
        rc = enqueue_all(&s);
        guards_disown(&s);
    } else {
        guards_enter(&s);
        rc = poll_all(&s, start);
        if (rc == -EAGAIN) rc = enqueue_all(&s);
        guards_leave(&s);
    }
    if (ZK_UNLIKELY(rc != -EAGAIN)) return rc;
    if (ZK_UNLIKELY(default_index >= 0)) {
        dequeue_all(&s, SIZE_MAX);
        return default_index;
    }
    rc = (int)zk__wait_here(w, &s.selection.wait, true);
    /* Who comes too late for a claim may still be trying, until all have left their lines. */
    int chosen = __atomic_load_n(&s.selection.chosen, __ATOMIC_ACQUIRE);
    dequeue_all(&s, (size_t)chosen - 1);
    if (ZK_LIKELY(chosen > 0)) return outcome(&cases[chosen - 1], (size_t)chosen - 1, rc);
    int index = find(cases, count, &zk__case_cancel);
    return index >= 0 ? index : rc;
}

static __attribute__((noinline)) int select_wait_many(zk_case *cases, size_t count, size_t start,
                                                      int default_index)
{
    zk__place *places = zk_alloc(count * sizeof *places);
    if (!places) return -ENOMEM;
    int rc = select_wait(cases, count, start, false, default_index, places);
    zk_free(places);
    return rc;
}

static __attribute__((noinline)) ZK__RETURNS_BY_JUMP int
select_wait_few(zk_case *cases, size_t count, size_t start, bool is_known, int default_index)
{
    zk__place places[PLACES_IN_FRAME];
    return select_wait(cases, count, start, is_known, default_index, places);
}

/* is_known: poll_quickly has just said that no case is ready. */
static __attribute__((noinline)) int select_slow(zk_case *cases, size_t count, size_t start,
                                                 bool is_known)
{
    int default_index = -1;
    bool must_enqueue = false;
    for (size_t i = count; i-- > 0;) {
        if (ZK_UNLIKELY(cases[i].ops == &zk__case_default)) default_index = (int)i;
        must_enqueue |= cases[i].ops->only_enqueue_tells;
    }
    if (default_index >= 0 && !must_enqueue) return default_index;
    if (ZK_UNLIKELY(count > PLACES_IN_FRAME)) {
        return select_wait_many(cases, count, start, default_index);
    }
    return select_wait_few(cases, count, start, is_known, default_index);
}

/* ---- the public functions ---- */

static int may_not_wait(const zk_case *cases, size_t count, int rc)
{
    int index = rc == -ECANCELED || rc == -ETIMEDOUT ? find(cases, count, &zk__case_cancel) : -1;
    return index >= 0 ? index : rc;
}

/* Any way. */
static __attribute__((noinline)) int select_from(zk_case *cases, size_t count, size_t start)
{
    int rc = zk__spend();
    if (ZK_UNLIKELY(rc < 0)) return may_not_wait(cases, count, rc);
    for (size_t i = 0, at = start; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
        rc = poll_guarded(&cases[at]);
        if (rc != -EAGAIN) return outcome(&cases[at], at, rc);
    }
    return select_slow(cases, count, start, false);
}

static zk_time span_of(const zk_case *c) { return (zk_time)(intptr_t)c->data; }

/*
 * Tries a case without calling anything. returns 0: it is done; -EAGAIN: it was not ready, and
 * cannot be before somebody else has run or its guard has lost its bias; above 0: try another way.
 */
static inline int poll_quickly(zk__worker *w, zk_case *c)
{
    enum zk__case_quick quick = c->ops->quick;
    if (ZK_UNLIKELY(quick > ZK__QUICK_SEND)) {
        bool is_ready = false;
        if (quick == ZK__QUICK_AFTER) is_ready = span_of(c) <= 0;
        if (quick == ZK__QUICK_AWAIT) {
            is_ready = zk__task_is_done(c->object);
        }
        return is_ready ? 0 : -EAGAIN;
    }
    zk_channel *channel = c->object;
    if (ZK_UNLIKELY(quick == ZK__QUICK_NOT || !zk__guard_own(w, &channel->guard))) return 1;
    bool is_recv = quick == ZK__QUICK_RECV;
    bool is_ready = is_recv ? channel->count || channel->senders.first
                            : channel->count < channel->capacity || channel->receivers.first;
    if (!is_ready || ZK_UNLIKELY(!channel->is_quick)) {
        bool is_known = !is_ready && !channel->is_closed;
        zk__guard_disown(&channel->guard);
        return is_known ? -EAGAIN : 1;
    }
    int rc = is_recv ? zk__channel_recv_quickly(w, channel, c->data)
                     : zk__channel_send_quickly(w, channel, c->data);
    ZK_ASSERT(rc != -EAGAIN);
    return rc;
}

static inline int select_quickly(zk_case *cases, size_t count, size_t start)
{
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(!w || !zk__spend_quickly(w))) return select_from(cases, count, start);
    for (size_t i = 0, at = start; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
        int rc = poll_quickly(w, &cases[at]);
        if (rc == 0) {
            if (ZK_UNLIKELY(cases[at].ret_rc != NULL)) *cases[at].ret_rc = 0;
            return (int)at;
        }
        if (rc > 0) return select_from(cases, count, start);
    }
    if (ZK_UNLIKELY(!w->loop_count)) return select_from(cases, count, start);
    return select_slow(cases, count, start, true);
}

int zk_select_cases(zk_case *cases, size_t count)
{
    zk__worker *w = zk__lane.worker;
    if (ZK_UNLIKELY(!w)) return ZK_E_NO_RUNTIME;
    if (ZK_UNLIKELY(count - 1 >= CASES_MAX)) return -EINVAL;
    /* Each case comes first equally often (a Weyl sequence: no division, no random numbers). */
    uint32_t turn = w->select_turn += 0x9E3779B9u;
    return select_quickly(cases, count, (size_t)((uint64_t)turn * count >> 32));
}

int zk_select_cases_ordered(zk_case *cases, size_t count)
{
    if (ZK_UNLIKELY(count - 1 >= CASES_MAX)) return -EINVAL;
    return select_quickly(cases, count, 0);
}

/* ---- futures, timers, cancellation, default ---- */

static int never(zk_case *c)
{
    (void)c;
    return -EAGAIN;
}

static int never_enqueue(zk_case *c, zk__place *place)
{
    (void)place;
    return never(c);
}

static int await_poll(zk_case *c)
{
    const zk_future *future = c->object;
    return zk__task_is_done(future) ? 0 : -EAGAIN;
}

static int await_enqueue(zk_case *c, zk__place *place)
{
    zk_future *future = c->object;
    if (zk__lane.pending) zk__pending_flush(zk__lane.worker); /* it resets the awaiter */
    zk__check_sole_awaiter(future);
    future->is_selected = true;
    future->awaiter = (zk_task *)(void *)&place->waiter;
    return -EAGAIN;
}

static void await_dequeue(zk_case *c, zk__place *place)
{
    (void)place;
    zk_future *future = c->object;
    future->is_selected = false;
    future->awaiter = NULL;
}

static void await_describe(const zk_case *c, zk__wait_detail *detail)
{
    zk__detail_add_site(detail, ((const zk_future *)c->object)->site);
}

static int after_poll(zk_case *c) { return span_of(c) <= 0 ? 0 : -EAGAIN; }

static void after_fire(zk__timer *timer)
{
    zk__place *place = (zk__place *)(void *)((char *)timer - offsetof(zk__place, timer));
    zk__waiter_give(&place->waiter, 0);
}

static int after_enqueue(zk_case *c, zk__place *place)
{
    place->timer.fire = after_fire;
    place->timer.link = NULL;
    zk__wheel_add_span(&zk__lane.worker->wheel, &place->timer, span_of(c));
    return -EAGAIN;
}

static void after_dequeue(zk_case *c, zk__place *place)
{
    (void)c;
    zk__wheel_remove(&zk__lane.worker->wheel, &place->timer);
}

const struct zk__case_ops zk__case_await = {.name = "await",
                                            .quick = ZK__QUICK_AWAIT,
                                            .poll = await_poll,
                                            .enqueue = await_enqueue,
                                            .dequeue = await_dequeue,
                                            .describe = await_describe};
const struct zk__case_ops zk__case_after = {.name = "after",
                                            .quick = ZK__QUICK_AFTER,
                                            .poll = after_poll,
                                            .enqueue = after_enqueue,
                                            .dequeue = after_dequeue};
const struct zk__case_ops zk__case_cancel = {
    .name = "cancel", .quick = ZK__QUICK_NEVER, .poll = never, .enqueue = never_enqueue};
const struct zk__case_ops zk__case_default = {
    .name = "default", .quick = ZK__QUICK_NEVER, .poll = never, .enqueue = never_enqueue};
