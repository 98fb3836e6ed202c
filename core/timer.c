/*
 * Timers: a hierarchical wheel (see timer.h).
 *
 * A timer lies in the lowest level in which its slot is less than one turn ahead:
 *
 *   level   ticks per slot    holds timers whose slot is ... slots ahead of now's
 *     0            1              1..255
 *     1          2^8              1..63
 *     2          2^14             1..63
 *     3          2^20             1..63, and 63 for whatever is farther away
 *
 * So the slot that `now` is in is empty in each level, and the distance of a slot says when it
 * begins. Advancing goes from one beginning of an occupied slot to the next: in level 0 the slot's
 * timers fire, in the others they are placed again, which moves them down.
 */
#include <string.h>

#include "core/timer.h"

enum { LEVEL_0_SLOTS = 256, LEVEL_SLOTS = 64 };

/* Of levels 1 to 3. Each has one word of `occupied`, behind level 0's four. */
static inline unsigned level_shift(unsigned level) { return 2 + 6 * level; }
static inline unsigned level_word(unsigned level) { return 3 + level; }
static inline unsigned level_slot(unsigned level, uint64_t tick)
{
    return level_word(level) * 64 + (unsigned)((tick >> level_shift(level)) % LEVEL_SLOTS);
}

static uint64_t tick_floor(zk_time when) { return when > 0 ? (uint64_t)when / ZK__TICK_NS : 0; }

static uint64_t tick_ceil(zk_time when)
{
    return when > 0 ? ((uint64_t)when + (ZK__TICK_NS - 1)) / ZK__TICK_NS : 0;
}

static inline void list_push(zk__timer **list, zk__timer *timer)
{
    timer->next = *list;
    timer->link = list;
    if (timer->next) timer->next->link = &timer->next;
    *list = timer;
}

static inline void list_remove(zk__timer *timer)
{
    *timer->link = timer->next;
    if (timer->next) timer->next->link = timer->link;
    timer->link = NULL;
}

/* The slot for a tick that is after now. */
static inline unsigned slot_for(uint64_t now, uint64_t tick)
{
    if (tick - now < LEVEL_0_SLOTS) return (unsigned)(tick % LEVEL_0_SLOTS);
    for (unsigned level = 1; level < ZK__WHEEL_LEVELS; level++) {
        unsigned shift = level_shift(level);
        if ((tick >> shift) - (now >> shift) < LEVEL_SLOTS) return level_slot(level, tick);
    }
    const unsigned top = ZK__WHEEL_LEVELS - 1;
    return level_slot(top, now + ((uint64_t)(LEVEL_SLOTS - 1) << level_shift(top)));
}

static void place(zk__wheel *wheel, zk__timer *timer)
{
    unsigned slot = slot_for(wheel->now, timer->tick);
    wheel->next_tick = 0;
    list_push(&wheel->slots[slot], timer);
    wheel->occupied[slot / 64] |= 1ull << (slot % 64);
}

/* Moves all timers of a list to another one, which is empty; they may be removed from there. */
static void list_move(zk__timer **from, zk__timer **to)
{
    *to = *from;
    *from = NULL;
    if (*to) (*to)->link = to;
}

static void slot_move(zk__wheel *wheel, unsigned slot, zk__timer **to)
{
    list_move(&wheel->slots[slot], to);
    wheel->occupied[slot / 64] &= ~(1ull << (slot % 64));
}

/* The next tick with an occupied slot in level 0; UINT64_MAX if all are empty. */
static uint64_t level_0_next(const zk__wheel *wheel)
{
    const unsigned words = LEVEL_0_SLOTS / 64;
    unsigned word = (unsigned)(wheel->now % LEVEL_0_SLOTS) / 64, bit = (unsigned)(wheel->now % 64);
    /* In the order of distance: the upper part of now's word, the others, then its lower part. */
    uint64_t bits = wheel->occupied[word] >> bit;
    if (bits) return wheel->now + (unsigned)__builtin_ctzll(bits);
    for (unsigned i = 1; i <= words; i++) {
        bits = wheel->occupied[(word + i) % words];
        if (bits) return wheel->now + i * 64 - bit + (unsigned)__builtin_ctzll(bits);
    }
    return UINT64_MAX;
}

/* The tick at which an upper level's next occupied slot begins; UINT64_MAX if there is none. */
static inline uint64_t level_next(const zk__wheel *wheel, unsigned level)
{
    uint64_t bits = wheel->occupied[level_word(level)], slot = wheel->now >> level_shift(level);
    if (!bits) return UINT64_MAX;
    unsigned turn = (unsigned)(slot % LEVEL_SLOTS);
    uint64_t by_distance = bits >> turn | bits << (-turn % 64);
    return (slot + (unsigned)__builtin_ctzll(by_distance)) << level_shift(level);
}

static uint64_t wheel_next_tick(const zk__wheel *wheel)
{
    uint64_t next = level_0_next(wheel);
    for (unsigned level = 1; level < ZK__WHEEL_LEVELS; level++) {
        uint64_t tick = level_next(wheel, level);
        if (tick < next) next = tick;
    }
    return next;
}

/* Fires a list's timers one by one: a callback may remove those still in it. */
static size_t fire_all(zk__wheel *wheel, zk__timer **list)
{
    size_t fired = 0;
    while (*list) {
        zk__timer *timer = *list;
        list_remove(timer);
        wheel->pending--;
        /* Of the next one, which may be NULL, what its callback will touch. */
        __builtin_prefetch((void *)((uintptr_t)*list - 64), 1);
        __builtin_prefetch(*list, 1);
        timer->fire(timer);
        fired++;
    }
    return fired;
}

/* Places anew what lies in the slots of the upper levels that begin with this tick, `now`. */
static void move_down(zk__wheel *wheel)
{
    for (unsigned level = ZK__WHEEL_LEVELS - 1; level > 0; level--) {
        unsigned slot = level_slot(level, wheel->now);
        bool is_begin = (wheel->now & ((1ull << level_shift(level)) - 1)) == 0;
        if (!is_begin || !wheel->slots[slot]) continue;
        zk__timer *list;
        slot_move(wheel, slot, &list);
        while (list) {
            zk__timer *timer = list;
            list_remove(timer);
            place(wheel, timer);
        }
    }
}

void zk__wheel_init(zk__wheel *wheel, zk_time now)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->now = wheel->due_tick = tick_floor(now);
}

static void add(zk__wheel *wheel, zk__timer *timer, zk_time when)
{
    timer->tick = tick_ceil(when);
    if (ZK_UNLIKELY(timer->tick <= wheel->due_tick)) {
        timer->tick = wheel->due_tick; /* all in this list are equally late, so it needs no order */
        list_push(&wheel->overdue, timer);
    } else {
        place(wheel, timer);
    }
}

void zk__wheel_add(zk__wheel *wheel, zk__timer *timer, zk_time when)
{
    wheel->pending++;
    add(wheel, timer, when);
}

void zk__wheel_add_span(zk__wheel *wheel, zk__timer *timer, zk_time span)
{
    timer->tick = (uint64_t)span;
    wheel->pending++;
    list_push(&wheel->unsettled, timer);
}

void zk__wheel_settle(zk__wheel *wheel, zk_time now)
{
    while (wheel->unsettled) {
        zk__timer *timer = wheel->unsettled;
        zk_time span = (zk_time)timer->tick;
        list_remove(timer);
        add(wheel, timer, span > INT64_MAX - now ? INT64_MAX : now + span);
    }
}

void zk__wheel_remove(zk__wheel *wheel, zk__timer *timer)
{
    if (!timer->link) return;
    /* Is it alone in a slot (rather than in another list, or with others)? */
    uintptr_t offset = (uintptr_t)timer->link - (uintptr_t)wheel->slots;
    if (!timer->next && offset < sizeof wheel->slots) {
        unsigned slot = (unsigned)(offset / sizeof wheel->slots[0]);
        wheel->occupied[slot / 64] &= ~(1ull << (slot % 64));
    }
    list_remove(timer);
    wheel->pending--;
}

size_t zk__wheel_advance(zk__wheel *wheel, zk_time now)
{
    uint64_t target = tick_floor(now);
    if (target > wheel->due_tick) wheel->due_tick = target;

    zk__timer *due;
    list_move(&wheel->overdue, &due);
    size_t fired = fire_all(wheel, &due);
    while (wheel->pending > 0) {
        /* Timers that are removed leave it as it is: then it is early, which does no harm. */
        if (!wheel->next_tick) wheel->next_tick = wheel_next_tick(wheel);
        uint64_t next = wheel->next_tick;
        if (next > wheel->due_tick) break;
        wheel->next_tick = 0;
        wheel->now = next;
        move_down(wheel);
        slot_move(wheel, (unsigned)(next % LEVEL_0_SLOTS), &due);
        fired += fire_all(wheel, &due);
    }
    wheel->now = wheel->due_tick;
    return fired;
}

zk_time zk__wheel_next(const zk__wheel *wheel)
{
    if (wheel->overdue) return (zk_time)wheel->now * ZK__TICK_NS;
    if (!wheel->pending) return INT64_MAX;
    uint64_t next = wheel->next_tick ? wheel->next_tick : wheel_next_tick(wheel);
    return next == UINT64_MAX ? INT64_MAX : (zk_time)(next * ZK__TICK_NS);
}
