/*
 * The timer wheel: compared with a plain list under random use, and its particular promises.
 */
#include "tests/test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/timer.h"

enum { FIRED_MAX = 64 };

/* Which timers have fired, in order. */
static zk__timer *fired[FIRED_MAX];
static size_t fired_count;

static void note(zk__timer *timer)
{
    if (fired_count < FIRED_MAX) fired[fired_count] = timer;
    fired_count++;
}

static zk__wheel wheel;

/* A wheel at a moment that is not at the beginning of a tick, nor of any level's slot. */
static const zk_time START = ZK_SEC(123456) + ZK_US(789);

static void start(void)
{
    zk__wheel_init(&wheel, START);
    fired_count = 0;
}

ZK_TEST(timer, fires_at_its_moment_or_up_to_a_tick_later)
{
    static const zk_time spans[] = {1,
                                    ZK_US(500),
                                    ZK_MS(1),
                                    ZK_MS(1) + 1,
                                    ZK_MS(255),
                                    ZK_MS(256),
                                    ZK_MS(257),
                                    ZK_MS(16383),
                                    ZK_MS(16384),
                                    ZK_MS(16385),
                                    ZK_SEC(17 * 60),
                                    ZK_SEC(17 * 61),
                                    ZK_SEC(600),
                                    ZK_SEC(3600),
                                    ZK_SEC(3600 * 17),
                                    ZK_SEC(3600 * 19),
                                    ZK_SEC(86400 * 365)};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        start();
        zk__timer timer = {.fire = note};
        zk__wheel_add(&wheel, &timer, START + spans[i]);
        cr_assert(zk__timer_is_pending(&timer), "row %zu", i);
        zk__wheel_advance(&wheel, START + spans[i] - 1);
        cr_assert_eq(fired_count, 0, "row %zu: early", i);
        zk__wheel_advance(&wheel, START + spans[i] + ZK__TICK_NS);
        cr_assert_eq(fired_count, 1, "row %zu: late", i);
        cr_assert(!zk__timer_is_pending(&timer) && wheel.pending == 0, "row %zu", i);
        cr_assert_eq(zk__wheel_next(&wheel), INT64_MAX, "row %zu", i);
    }
}

ZK_TEST(timer, what_is_past_fires_at_the_next_advance_of_the_same_tick)
{
    static const zk_time moments[] = {INT64_MIN, -1, 0, 1, START - ZK_SEC(1), START - ZK_US(789)};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        start();
        zk__timer timer = {.fire = note};
        zk__wheel_add(&wheel, &timer, moments[i]);
        cr_assert_leq(zk__wheel_next(&wheel), START, "row %zu", i);
        cr_assert_eq(zk__wheel_advance(&wheel, START), 1, "row %zu", i);
        cr_assert_eq(fired_count, 1, "row %zu", i);
    }
}

ZK_TEST(timer, a_removed_timer_does_not_fire)
{
    start();
    zk__timer timers[3] = {{.fire = note}, {.fire = note}, {.fire = note}};
    for (size_t removed = 0; removed < 3; removed++) { /* wherever it is in its slot */
        fired_count = 0;
        zk_time now = START + ZK_SEC((zk_time)removed);
        for (size_t i = 0; i < 3; i++)
            zk__wheel_add(&wheel, &timers[i], now + ZK_MS(5));
        zk__wheel_remove(&wheel, &timers[removed]);
        zk__wheel_remove(&wheel, &timers[removed]);
        cr_assert_not(zk__timer_is_pending(&timers[removed]));
        cr_assert_eq(zk__wheel_advance(&wheel, now + ZK_MS(6)), 2, "timer %zu", removed);
        for (size_t i = 0; i < 2; i++)
            cr_assert_neq(fired[i], &timers[removed], "timer %zu", removed);
    }
}

ZK_TEST(timer, a_span_begins_when_it_is_settled)
{
    static const zk_time spans[] = {1, ZK_MS(5), ZK_SEC(3), ZK_SEC(86400)};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        for (size_t removed = 0; removed < 4; removed++) { /* 3: none */
            start();
            zk__timer timers[3] = {{.fire = note}, {.fire = note}, {.fire = note}};
            for (size_t j = 0; j < 3; j++)
                zk__wheel_add_span(&wheel, &timers[j], spans[i]);
            cr_assert(zk__timer_is_pending(&timers[0]) && wheel.pending == 3);
            if (removed < 3) zk__wheel_remove(&wheel, &timers[removed]);
            zk_time now = START + ZK_MS(700);
            zk__wheel_advance(&wheel, now - 1);
            zk__wheel_settle(&wheel, now);
            zk__wheel_advance(&wheel, now + spans[i] - 1);
            cr_assert_eq(fired_count, 0, "row %zu: early", i);
            zk__wheel_advance(&wheel, now + spans[i] + ZK__TICK_NS);
            cr_assert_eq(fired_count, removed < 3 ? 2 : 3, "row %zu: late", i);
            cr_assert_eq(wheel.pending, 0, "row %zu", i);
        }
    }
    zk__timer timer = {.fire = note};
    zk__wheel_add_span(&wheel, &timer, INT64_MAX);
    zk__wheel_settle(&wheel, START + ZK_SEC(86400 * 3));
    cr_assert_gt(timer.tick, (uint64_t)ZK_SEC(86400 * 365) / ZK__TICK_NS, "it does not overflow");
    zk__wheel_remove(&wheel, &timer);
    cr_assert_eq(wheel.pending, 0);
}

ZK_TEST(timer, an_emptied_wheel_needs_no_advance)
{
    start();
    static const zk_time spans[] = {
        -1, 0, ZK_MS(3), ZK_SEC(1), ZK_SEC(100), ZK_SEC(5000), ZK_SEC(500000)};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        zk__timer first = {.fire = note}, second = {.fire = note};
        zk__wheel_add(&wheel, &first, START + spans[i]);
        zk__wheel_add(&wheel, &second, START + spans[i]);
        zk__wheel_remove(&wheel, &first);
        cr_assert_lt(zk__wheel_next(&wheel), INT64_MAX, "row %zu", i);
        zk__wheel_remove(&wheel, &second);
        cr_assert_eq(zk__wheel_next(&wheel), INT64_MAX, "row %zu", i);
    }
}

/* Going through 30,000 years tick by tick would outlast the test's time limit. */
ZK_TEST(timer, a_huge_jump_is_quick)
{
    start();
    zk__timer timers[2] = {{.fire = note}, {.fire = note}};
    zk__wheel_add(&wheel, &timers[0], INT64_MAX / 10);
    zk__wheel_add(&wheel, &timers[1], START + ZK_SEC(1));
    cr_assert_eq(zk__wheel_advance(&wheel, INT64_MAX / 10 - 1), 1);
    cr_assert_eq(zk__wheel_advance(&wheel, INT64_MAX / 10 + ZK__TICK_NS), 1);
    cr_assert(fired[0] == &timers[1] && fired[1] == &timers[0]);
}

ZK_TEST(timer, a_clock_that_goes_back_does_no_harm)
{
    start();
    zk__timer timer = {.fire = note};
    zk__wheel_add(&wheel, &timer, START + ZK_MS(5));
    cr_assert_eq(zk__wheel_advance(&wheel, START - ZK_SEC(5)), 0);
    cr_assert_eq(zk__wheel_advance(&wheel, START + ZK_MS(4)), 0);
    cr_assert_eq(zk__wheel_advance(&wheel, START + ZK_MS(6)), 1);
}

/* Sleeping until zk__wheel_next says must get a timer fired on time, in a few steps. */
ZK_TEST(timer, following_next_wakes_a_few_times_and_in_time)
{
    for (int bits = 0; bits < 34; bits++) {
        start();
        zk__timer timer = {.fire = note};
        zk_time when = START + (ZK_MS(1) << bits) + ZK_US(bits);
        zk__wheel_add(&wheel, &timer, when);
        zk_time now = START;
        int steps = 0, steps_max = 4 + (int)((1ull << bits) >> 25);
        while (fired_count == 0) {
            zk_time next = zk__wheel_next(&wheel);
            cr_assert_gt(next, now, "2^%d ms: no progress", bits);
            now = next;
            zk__wheel_advance(&wheel, now);
            cr_assert_leq(++steps, steps_max, "2^%d ms", bits);
        }
        cr_assert(now >= when && now - when < ZK__TICK_NS, "2^%d ms: %lld ns late", bits,
                  (long long)(now - when));
    }
}

/* A timer that does something to others when it fires. */
typedef struct actor {
    zk__timer timer;
    zk__timer *victims[4];
    zk__timer *added;
    zk_time added_when;
} actor;

static void act(zk__timer *timer)
{
    actor *self = (actor *)timer;
    note(timer);
    for (size_t i = 0; i < 4 && self->victims[i]; i++)
        zk__wheel_remove(&wheel, self->victims[i]);
    if (self->added) zk__wheel_add(&wheel, self->added, self->added_when);
}

ZK_TEST(timer, a_callback_may_remove_what_is_due_in_the_same_advance)
{
    static const zk_time moments[] = {-ZK_MS(1), ZK_MS(5), ZK_SEC(1), ZK_SEC(3600)};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        start();
        actor actors[3] = {{{.fire = act}, {0}, NULL, 0},
                           {{.fire = act}, {0}, NULL, 0},
                           {{.fire = act}, {0}, NULL, 0}};
        zk__timer later = {.fire = note};
        for (size_t k = 0; k < 3; k++) { /* whichever fires first removes the others */
            actors[k].victims[0] = &actors[(k + 1) % 3].timer;
            actors[k].victims[1] = &actors[(k + 2) % 3].timer;
            actors[k].victims[2] = &later;
            zk__wheel_add(&wheel, &actors[k].timer, START + moments[i]);
        }
        zk__wheel_add(&wheel, &later, START + moments[i] + ZK_MS(300));
        cr_assert_eq(zk__wheel_advance(&wheel, START + ZK_SEC(10000)), 1, "row %zu", i);
        cr_assert_eq(wheel.pending, 0, "row %zu", i);
        cr_assert_eq(zk__wheel_next(&wheel), INT64_MAX, "row %zu", i);
    }
}

ZK_TEST(timer, what_a_callback_adds_for_now_or_before_fires_in_the_next_advance)
{
    static const zk_time moments[] = {0, START, START + ZK_MS(5), START + ZK_MS(50),
                                      START + ZK_SEC(1)};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        start();
        actor self = {{.fire = act}, {0}, &self.timer, moments[i]};
        zk__wheel_add(&wheel, &self.timer, START + ZK_MS(5));
        for (size_t round = 1; round < 5; round++) {
            cr_assert_eq(zk__wheel_advance(&wheel, START + ZK_SEC(2)), 1, "row %zu", i);
            cr_assert_eq(fired_count, round, "row %zu", i);
            cr_assert_leq(zk__wheel_next(&wheel), START + ZK_SEC(2), "row %zu", i);
        }
    }
}

ZK_TEST(timer, what_a_callback_adds_for_later_fires_then)
{
    static const zk_time spans[] = {ZK_MS(1), ZK_MS(100), ZK_MS(256), ZK_SEC(60), ZK_SEC(100000)};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        start();
        zk_time now = START + ZK_SEC(3), when = now + spans[i];
        zk__timer later = {.fire = note};
        actor self = {{.fire = act}, {0}, &later, when};
        zk__wheel_add(&wheel, &self.timer, START + ZK_MS(5));
        cr_assert_eq(zk__wheel_advance(&wheel, now), 1, "row %zu", i);
        cr_assert_eq(zk__wheel_advance(&wheel, when - 1), 0, "row %zu", i);
        cr_assert_eq(zk__wheel_advance(&wheel, when + ZK__TICK_NS), 1, "row %zu", i);
    }
}

/* Random use beside a model: each timer's moment, looked through from end to end. */

enum { TIMERS = 300, STEPS = 20000 };

typedef struct model_timer {
    zk__timer timer;
    zk_time when;
    bool is_pending, is_added_while_advancing;
} model_timer;

static model_timer models[TIMERS];
static uint64_t model_seed;
static zk_time model_now;
static uint64_t model_last_tick;
static bool model_is_advancing;
static char model_error[100];

static uint32_t model_random(void)
{
    model_seed = model_seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(model_seed >> 33);
}

/* Of every order of magnitude alike: level borders, and beyond the top level. */
static zk_time model_span(void)
{
    unsigned bits = model_random() % 58;
    uint64_t random = (uint64_t)model_random() << 31 | model_random();
    return (zk_time)(random & ((1ull << bits) - 1));
}

static void model_add(model_timer *model)
{
    model->when = model_now + model_span() - (model_random() % 8 == 0 ? ZK_SEC(1) : 0);
    model->is_pending = true;
    model->is_added_while_advancing = model_is_advancing;
    zk__wheel_add(&wheel, &model->timer, model->when);
}

static void model_remove(model_timer *model)
{
    model->is_pending = false;
    zk__wheel_remove(&wheel, &model->timer);
}

static void model_fire(zk__timer *timer)
{
    model_timer *model = (model_timer *)timer;
    uint64_t tick = timer->tick;
    if (!model->is_pending || zk__timer_is_pending(timer))
        snprintf(model_error, sizeof model_error, "fired but not pending");
    else if (model->when > model_now)
        snprintf(model_error, sizeof model_error, "early");
    else if (model->is_added_while_advancing)
        snprintf(model_error, sizeof model_error, "added by this very advance");
    else if (tick < model_last_tick)
        snprintf(model_error, sizeof model_error, "out of order");
    model_last_tick = tick;
    model->is_pending = false;

    switch (model_random() % 6) {
    case 0: model_add(model); break;
    case 1: model_remove(&models[model_random() % TIMERS]); break;
    case 2: {
        model_timer *other = &models[model_random() % TIMERS];
        if (!other->is_pending) model_add(other);
        break;
    }
    default: break;
    }
}

/* What is pending must be what the model says, nothing of it late, and next not too late for it. */
static void model_check(int step)
{
    size_t pending = 0;
    zk_time earliest = INT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        const model_timer *model = &models[i];
        cr_assert_eq(zk__timer_is_pending(&model->timer), model->is_pending, "step %d", step);
        if (!model->is_pending) continue;
        pending++;
        if (model->when < earliest) earliest = model->when;
    }
    cr_assert_eq(wheel.pending, pending, "step %d", step);
    zk_time next = zk__wheel_next(&wheel);
    if (pending == 0)
        cr_assert_eq(next, INT64_MAX, "step %d", step);
    else if (earliest > model_now)
        cr_assert_lt(next, earliest + ZK__TICK_NS, "step %d", step);
    else
        cr_assert_leq(next, earliest > model_now - ZK__TICK_NS ? earliest + ZK__TICK_NS : model_now,
                      "step %d", step);
}

static void model_advance(int step)
{
    uint32_t kind = model_random() % 10;
    if (kind < 4) {
        zk_time next = zk__wheel_next(&wheel);
        if (next != INT64_MAX && next > model_now) model_now = next;
    } else if (kind < 9) {
        model_now += model_span() >> (model_random() % 30);
    } else {
        model_now += model_span();
    }
    for (size_t i = 0; i < TIMERS; i++)
        models[i].is_added_while_advancing = false;
    model_last_tick = 0;
    model_is_advancing = true;
    zk__wheel_advance(&wheel, model_now);
    model_is_advancing = false;
    cr_assert(model_error[0] == '\0', "step %d: %s", step, model_error);
    for (size_t i = 0; i < TIMERS; i++) {
        const model_timer *model = &models[i];
        bool is_lost = model->is_pending && !model->is_added_while_advancing &&
                       model->when <= model_now - ZK__TICK_NS;
        cr_assert_not(is_lost, "step %d: %lld ns late", step, (long long)(model_now - model->when));
    }
}

ZK_TEST(timer, random_use_does_what_a_sorted_list_would_do)
{
    model_seed = (uint64_t)getpid() * 2654435761u;
    const char *given = getenv("ZOKIO_SEED");
    if (given) model_seed = strtoull(given, NULL, 10);
    printf("ZOKIO_SEED=%llu\n", (unsigned long long)model_seed);
    fflush(stdout);
    model_now = START;
    zk__wheel_init(&wheel, model_now);
    for (size_t i = 0; i < TIMERS; i++)
        models[i].timer.fire = model_fire;

    for (int step = 0; step < STEPS; step++) {
        model_timer *model = &models[model_random() % TIMERS];
        if (model_random() % 3 == 0)
            model_advance(step);
        else if (!model->is_pending)
            model_add(model);
        else if (model_random() % 2)
            model_remove(model);
        if (model_now > INT64_MAX / 4) { /* far enough */
            for (size_t i = 0; i < TIMERS; i++)
                model_remove(&models[i]);
            model_now = START + step;
            zk__wheel_init(&wheel, model_now);
        }
        model_check(step);
    }
}
