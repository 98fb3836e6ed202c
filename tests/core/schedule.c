/*
 * Which task runs when and where: the urgent lane, zk_spawn_on, pinned workers, the budget.
 */
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/async.h"

#include <zokio/channel.h>

#include "core/budget.h"
#include "core/worker.h"

typedef struct journal {
    char text[256];
    size_t size;
} journal;

static journal notes;

static int note(void *arg)
{
    notes.text[notes.size++] = (char)(intptr_t)arg;
    return 0;
}

static int spawn_urgent(zk_scope *scope, zk_fn *fn, void *arg)
{
    return zk_spawn_with(scope, &(zk_spawn_options){.is_urgent = true}, fn, arg);
}

/* An urgent task overtakes those that were ready before it. */
ZK_ASYNC_TEST(schedule, urgent_tasks_run_first)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, note, (void *)'a'));
        cr_assert_ok(zk_spawn(&s, note, (void *)'b'));
        cr_assert_ok(spawn_urgent(&s, note, (void *)'U'));
        cr_assert_ok(spawn_urgent(&s, note, (void *)'V'));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(notes.text, "UVab");
}

static int yield_for_ever(void *arg)
{
    bool *is_over = arg;
    while (!*is_over)
        zk_yield();
    return 0;
}

static int set(void *arg)
{
    *(bool *)arg = true;
    return 0;
}

/* Urgent tasks that are always ready do not starve the others. */
ZK_ASYNC_TEST(schedule, urgent_tasks_leave_turns_to_others)
{
    bool is_over = false, *p = &is_over;
    ZK_SCOPE(s) {
        for (int i = 0; i < 20; i++)
            cr_assert_ok(spawn_urgent(&s, yield_for_ever, p));
        cr_assert_ok(zk_spawn(&s, set, (void *)p));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(is_over);
}

static int end_after_sleep(void *arg)
{
    int rc = zk_sleep(ZK_MS(1));
    *(bool *)arg = true;
    return rc;
}

/* Nor do they starve timers and the poller. */
ZK_ASYNC_TEST(schedule, urgent_tasks_leave_turns_to_the_poller)
{
    bool is_over = false, *p = &is_over;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++)
            cr_assert_ok(spawn_urgent(&s, yield_for_ever, p));
        cr_assert_ok(zk_spawn(&s, end_after_sleep, (void *)p));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert(is_over);
}

static int wait_and_note(void *arg)
{
    zk_channel *channel = arg;
    int item;
    int rc = zk_channel_recv(channel, &item);
    return rc < 0 ? rc : note((void *)'U');
}

/* A task is urgent each time that it becomes ready, not only when it starts. */
ZK_ASYNC_TEST(schedule, an_urgent_task_goes_on_first_too)
{
    zk_channel *channel;
    cr_assert_ok(zk_channel_new(sizeof(int), 0, &channel));
    ZK_SCOPE(s) {
        cr_assert_ok(spawn_urgent(&s, wait_and_note, channel));
        zk_yield();
        cr_assert_ok(zk_spawn(&s, note, (void *)'a'));
        cr_assert_ok(zk_channel_send(channel, &(int){1}));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(notes.text, "Ua");
    zk_channel_free(channel);
}

static int store_worker(void *arg)
{
    **(int **)arg = zk_worker_index();
    return 0;
}

/* The clock, which stands still while a test wants it to. */
static bool is_still;
static struct timespec still;

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (!is_still || id != CLOCK_MONOTONIC) return (int)syscall(SYS_clock_gettime, id, t);
    *t = still;
    return 0;
}

/* While tasks are ready the poller is asked when time has passed, not for each batch of them. */
ZK_ASYNC_TEST(schedule, the_poller_is_asked_now_and_then)
{
    bool is_over = false;
    const zk__worker *w = zk__worker_self();
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, yield_for_ever, (void *)&is_over));
        clock_gettime(CLOCK_MONOTONIC, &still);
        is_still = true;
        uint64_t polls = w->polls;
        for (int i = 0; i < 10000; i++)
            cr_assert_ok(zk_yield());
        cr_assert_leq(w->polls - polls, 1u);
        polls = w->polls;
        still.tv_sec++;
        for (int i = 0; i < 10000; i++)
            cr_assert_ok(zk_yield());
        cr_assert_eq(w->polls - polls, 1u);
        is_still = false;
        is_over = true;
    }
}

/* zk_spawn_on names the worker; what it is given is copied as zk_spawn does. */
ZK_ASYNC_TEST_ON(schedule, spawn_on_runs_on_that_worker, 2)
{
    int ran_on[2] = {-1, -1};
    ZK_SCOPE(s) {
        for (int i = 0; i < 2; i++) {
            int *to = &ran_on[i];
            cr_assert_ok(zk_spawn_on(&s, i, store_worker, &to));
        }
        cr_assert_ok(zk_scope_wait(&s));
        cr_assert_rc(zk_spawn_on(&s, 2, store_worker, NULL), -EINVAL);
        cr_assert_rc(zk_spawn_on(&s, -1, store_worker, NULL), -EINVAL);
    }
    cr_assert_eq(ran_on[0], 0);
    cr_assert_eq(ran_on[1], 1);
}

/* ---- CPUs ---- */

static cpu_set_t cpus_now(void)
{
    cpu_set_t set;
    cr_assert(sched_getaffinity(0, sizeof set, &set) == 0);
    return set;
}

static int first_cpu(const cpu_set_t *set)
{
    int cpu = 0;
    while (!CPU_ISSET((size_t)cpu, set))
        cpu++;
    return cpu;
}

static int store_cpus(void *arg)
{
    *(cpu_set_t *)arg = cpus_now();
    return 0;
}

static int cpus_in_main(void *arg)
{
    cpu_set_t *seen = arg;
    seen[0] = cpus_now();
    return zk_blocking(store_cpus, &seen[1]);
}

/* A pinned worker has one CPU; blocking threads and what comes after zk_run have all of them. */
ZK_TEST(schedule, pinned_workers_keep_to_one_cpu)
{
    unsetenv("ZOKIO_WORKERS");
    cpu_set_t before = cpus_now(), seen[2];
    zk_config config = {.workers = 1, .is_pinned_to_cpus = true};
    cr_assert_ok(zk_run(&config, cpus_in_main, seen));
    cr_assert_eq(CPU_COUNT(&seen[0]), 1);
    cr_assert_eq(first_cpu(&seen[0]), first_cpu(&before));
    cr_assert(CPU_EQUAL(&seen[1], &before));
    cpu_set_t after = cpus_now();
    cr_assert(CPU_EQUAL(&after, &before));
}

/* A list says which CPUs; one that cannot be had is an error of zk_run. */
ZK_TEST(schedule, workers_are_pinned_to_the_listed_cpus)
{
    unsetenv("ZOKIO_WORKERS");
    cpu_set_t before = cpus_now(), seen[2];
    int cpus[] = {first_cpu(&before), -1};
    cr_assert_ok(zk_run(&(zk_config){.workers = 1, .cpus = cpus}, cpus_in_main, seen));
    cr_assert_eq(first_cpu(&seen[0]), cpus[0]);
    cr_assert_rc(zk_run(&(zk_config){.workers = 1, .cpus = (int[]){-1}}, cpus_in_main, seen),
                 -EINVAL);
    cr_assert_rc(
        zk_run(&(zk_config){.workers = 2, .cpus = (int[]){100000, -1}}, cpus_in_main, seen),
        -EINVAL);
}

/* ---- the budget ---- */

typedef struct greedy {
    zk_channel *channel;
    int passed;
    bool has_run;
} greedy;

static int other(void *arg)
{
    (*(greedy **)arg)->has_run = true;
    return 0;
}

/* A task that always finds its channel ready lets the others run all the same. */
ZK_ASYNC_TEST(schedule, a_busy_task_lets_others_run)
{
    greedy g = {0}, *p = &g;
    cr_assert_ok(zk_channel_new(sizeof(int), 1, &g.channel));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, other, &p));
        while (!g.has_run) {
            cr_assert_ok(zk_channel_send(g.channel, &(int){1}));
            cr_assert_ok(zk_channel_recv(g.channel, &(int){0}));
            cr_assert(++g.passed < 10000, "the other task never ran");
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_leq(g.passed, ZK__BUDGET);
    zk_channel_free(g.channel);
}

/* Whoever is cancelled while the others run learns it from that very call, which has no effect. */
ZK_ASYNC_TEST(schedule, cancellation_while_the_budget_is_renewed_is_seen)
{
    zk_channel *channel;
    cr_assert_ok(zk_channel_new(sizeof(int), 1000, &channel));
    int sent = 0, rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        while ((rc = zk_channel_send(channel, &sent)) == 0) {
            sent++;
            if (sent == 900) {
                while (sent--)
                    cr_assert_ok(zk_channel_try_recv(channel, &(int){0}));
                sent = 0;
            }
        }
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_eq(zk_channel_count(channel), (size_t)sent);
    zk_channel_free(channel);
}
