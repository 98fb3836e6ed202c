/*
 * The circuit breaker of an upstream, see proxy_breaker.h.
 */
#include "http/proxy_breaker.h"

enum { COUNT_BITS = 20, COUNT_MAX = (1 << COUNT_BITS) - 1, SLOT_MASK = (1 << 24) - 1 };

void zk__breaker_init(zk__breaker *b) { pthread_mutex_init(&b->lock, NULL); }
void zk__breaker_done(zk__breaker *b) { pthread_mutex_destroy(&b->lock); }

const char *zk__breaker_state_name(int state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return names[state];
}

/* ---- the window ---- */

static uint64_t slot_number(const zk_proxy_options *o, zk_time now)
{
    return (uint64_t)(now / (ZK_MS(o->breaker_window_ms) / ZK__BREAKER_SLOTS)) & SLOT_MASK;
}

static void window_add(zk__breaker *b, const zk_proxy_options *o, zk_time now, bool is_failure)
{
    uint64_t number = slot_number(o, now);
    _Atomic uint64_t *slot = &b->slots[number % ZK__BREAKER_SLOTS];
    uint64_t before = atomic_load_explicit(slot, memory_order_relaxed), after;
    do {
        uint64_t requests = before >> COUNT_BITS & COUNT_MAX, failures = before & COUNT_MAX;
        if (before >> (2 * COUNT_BITS) != number) requests = failures = 0;
        /* Of very many the share is enough. */
        if (requests == COUNT_MAX) requests /= 2, failures /= 2;
        after = number << (2 * COUNT_BITS) | (requests + 1) << COUNT_BITS | (failures + is_failure);
    } while (!atomic_compare_exchange_weak_explicit(slot, &before, after, memory_order_relaxed,
                                                    memory_order_relaxed));
}

static void window_forget(zk__breaker *b)
{
    for (int i = 0; i < ZK__BREAKER_SLOTS; i++)
        atomic_store_explicit(&b->slots[i], 0, memory_order_relaxed);
}

static bool window_is_bad(const zk__breaker *b, const zk_proxy_options *o, zk_time now)
{
    uint64_t number = slot_number(o, now), requests = 0, failures = 0;
    for (int i = 0; i < ZK__BREAKER_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&b->slots[i], memory_order_relaxed);
        uint64_t age = (number - (slot >> (2 * COUNT_BITS))) & SLOT_MASK;
        if (age >= ZK__BREAKER_SLOTS) continue;
        requests += slot >> COUNT_BITS & COUNT_MAX;
        failures += slot & COUNT_MAX;
    }
    return requests >= (uint64_t)o->breaker_requests_min &&
           failures * 100 >= requests * (uint64_t)o->breaker_percent;
}

/* ---- changes of state, with the lock ---- */

static void open_circuit(zk__breaker *b, const zk_proxy_options *o, zk_time now)
{
    atomic_store(&b->opens_until, now + ZK_MS(o->breaker_open_ms));
    atomic_store(&b->state, ZK__BREAKER_OPEN);
    atomic_fetch_add(&b->opened, 1);
}

static void half_open(zk__breaker *b)
{
    b->period++;
    b->trials = b->passed = 0;
    atomic_store(&b->state, ZK__BREAKER_HALF_OPEN);
}

static void close_circuit(zk__breaker *b)
{
    window_forget(b);
    atomic_store(&b->state, ZK__BREAKER_CLOSED);
}

/* Takes the place of a trial. */
static bool trial_enter(zk__breaker *b, const zk_proxy_options *o, zk_time now,
                        zk__breaker_ticket *t)
{
    bool is_in = false;
    pthread_mutex_lock(&b->lock);
    int state = atomic_load(&b->state);
    if (state == ZK__BREAKER_OPEN && now >= atomic_load(&b->opens_until)) {
        half_open(b);
        state = ZK__BREAKER_HALF_OPEN;
    }
    if (state == ZK__BREAKER_CLOSED) {
        is_in = true; /* meanwhile */
    } else if (state == ZK__BREAKER_HALF_OPEN && b->trials + b->passed < o->breaker_trials) {
        b->trials++;
        t->is_trial = is_in = true;
        t->period = b->period;
    }
    pthread_mutex_unlock(&b->lock);
    return is_in;
}

static int trial_end(zk__breaker *b, const zk_proxy_options *o, zk_time now,
                     const zk__breaker_ticket *t, enum zk__breaker_outcome outcome)
{
    int change = -1;
    pthread_mutex_lock(&b->lock);
    if (t->period == b->period && atomic_load(&b->state) == ZK__BREAKER_HALF_OPEN) {
        b->trials--;
        if (outcome == ZK__OUTCOME_GOOD) b->passed++;
        if (outcome == ZK__OUTCOME_BAD) {
            open_circuit(b, o, now);
            change = ZK__BREAKER_OPEN;
        } else if (b->passed >= o->breaker_trials) {
            close_circuit(b);
            change = ZK__BREAKER_CLOSED;
        }
    }
    pthread_mutex_unlock(&b->lock);
    return change;
}

/* ---- requests ---- */

bool zk__breaker_admits(const zk__breaker *b, const zk_proxy_options *o, zk_time now)
{
    if (o->active_max > 0 &&
        atomic_load_explicit(&b->active, memory_order_relaxed) >= o->active_max)
        return false;
    if (o->pending_max > 0 &&
        atomic_load_explicit(&b->pending, memory_order_relaxed) >= o->pending_max) {
        return false;
    }
    int state = atomic_load_explicit(&b->state, memory_order_relaxed);
    /* Half open: there may be room for a trial; entering shows. */
    return state != ZK__BREAKER_OPEN || now >= atomic_load(&b->opens_until);
}

bool zk__breaker_enter(zk__breaker *b, const zk_proxy_options *o, zk_time now,
                       zk__breaker_ticket *t)
{
    *t = (zk__breaker_ticket){.is_counted = o->active_max > 0};
    if (t->is_counted && atomic_fetch_add(&b->active, 1) >= o->active_max) {
        atomic_fetch_sub(&b->active, 1);
        return false;
    }
    if (ZK_LIKELY(atomic_load(&b->state) == ZK__BREAKER_CLOSED)) return true;
    if (trial_enter(b, o, now, t)) return true;
    if (t->is_counted) atomic_fetch_sub(&b->active, 1);
    return false;
}

int zk__breaker_judge(zk__breaker *b, const zk_proxy_options *o, zk_time now, zk__breaker_ticket *t,
                      enum zk__breaker_outcome outcome)
{
    if (t->is_judged || o->breaker_percent <= 0) return -1;
    t->is_judged = true;
    if (t->is_trial) return trial_end(b, o, now, t, outcome);
    if (outcome == ZK__OUTCOME_UNKNOWN || atomic_load(&b->state) != ZK__BREAKER_CLOSED) return -1;
    window_add(b, o, now, outcome == ZK__OUTCOME_BAD);
    if (outcome == ZK__OUTCOME_GOOD || !window_is_bad(b, o, now)) return -1;
    pthread_mutex_lock(&b->lock);
    bool is_first = atomic_load(&b->state) == ZK__BREAKER_CLOSED;
    if (is_first) open_circuit(b, o, now);
    pthread_mutex_unlock(&b->lock);
    return is_first ? ZK__BREAKER_OPEN : -1;
}

void zk__breaker_leave(zk__breaker *b, const zk__breaker_ticket *t)
{
    if (t->is_counted) atomic_fetch_sub(&b->active, 1);
}
