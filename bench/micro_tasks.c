/*
 * Rows of micro about tasks: many of them, joined, timed out, asleep, on two workers.
 */
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/micro.h"

enum { BATCH = 1000, YIELDERS = 1000, SLEEPERS = 100000, WAITERS = 100000 };

static int yield_once(void *arg)
{
    (void)arg;
    return zk_yield();
}

/* ---- a thousand tasks, round robin ---- */

static int take_turns(void *arg)
{
    for (intptr_t n = (intptr_t)arg; n > 0; n--)
        zk_yield();
    return 0;
}

static double measure_yield_1000(void)
{
    const intptr_t turns = 500;
    double start = now_ns();
    ZK_SCOPE(s) {
        for (int i = 0; i < YIELDERS; i++)
            must(zk_spawn(&s, take_turns, (void *)turns));
        must(zk_scope_wait(&s));
    }
    return (now_ns() - start) / ((double)turns * YIELDERS);
}

/* ---- two workers, each with batches of its own ---- */

static int spawn_batches(void *arg)
{
    for (intptr_t n = (intptr_t)arg; n > 0; n--) {
        ZK_SCOPE(s) {
            for (int i = 0; i < BATCH; i++)
                must(zk_spawn(&s, nothing, NULL));
            must(zk_scope_wait(&s));
        }
    }
    return 0;
}

static double measure_spawn_join_2w(void)
{
    const intptr_t batches = 1000;
    double start = now_ns();
    ZK_SCOPE(s) {
        for (int i = 0; i < 2; i++)
            must(zk_spawn_on(&s, i, spawn_batches, (void *)batches));
        must(zk_scope_wait(&s));
    }
    return (now_ns() - start) / (2.0 * (double)batches * BATCH);
}

/* ---- join, timeout ---- */

static double measure_join3_ready(void)
{
    const int n = 500000;
    double start = now_ns();
    for (int i = 0; i < n; i++)
        must(zk_join({nothing, NULL}, {nothing, NULL}, {nothing, NULL}));
    return (now_ns() - start) / n;
}

static double measure_join3_pending(void)
{
    const int n = 200000;
    double start = now_ns();
    for (int i = 0; i < n; i++)
        must(zk_join({yield_once, NULL}, {yield_once, NULL}, {yield_once, NULL}));
    return (now_ns() - start) / n;
}

static double measure_timeout_pending(void)
{
    const int n = 300000;
    double start = now_ns();
    for (int i = 0; i < n; i++)
        must(zk_timeout(ZK_SEC(10), yield_once, NULL));
    return (now_ns() - start) / n;
}

/* ---- timers ---- */

static double cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec) * 1e9 +
           ((double)u.ru_utime.tv_usec + (double)u.ru_stime.tv_usec) * 1e3;
}

static zk_wait_group awake;

static int sleep_a_while(void *arg) { return zk_sleep(ZK_MS(1 + (intptr_t)arg % 20)); }

/* 100,000 tasks that sleep 1 to 20 ms each: processor time of one. */
static double measure_timer(void)
{
    double start = cpu_ns();
    ZK_SCOPE(s) {
        for (intptr_t i = 0; i < SLEEPERS; i++)
            must(zk_spawn(&s, sleep_a_while, (void *)i));
        must(zk_scope_wait(&s));
    }
    return (cpu_ns() - start) / SLEEPERS;
}

/* ---- memory ---- */

static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, resident = 0;
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) exit(1);
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static int wait_for_end(void *arg) { return zk_wait_group_wait(arg); }

static double measure_task_bytes(void)
{
    double before = resident_bytes(), bytes = 0;
    zk_wait_group_add(&awake, 1);
    ZK_SCOPE(s) {
        for (int i = 0; i < WAITERS; i++)
            must(zk_spawn(&s, wait_for_end, (void *)&awake));
        zk_yield();
        while (zk_sleep(ZK_MS(1)) < 0)
            continue;
        bytes = (resident_bytes() - before) / WAITERS;
        zk_wait_group_done(&awake);
        must(zk_scope_wait(&s));
    }
    return bytes;
}

const row task_rows[] = {
    {"yield_1000", measure_yield_1000, false, 0},
    {"spawn_join_2w", measure_spawn_join_2w, false, 2},
    {"join3_ready", measure_join3_ready, false, 0},
    {"join3_pending", measure_join3_pending, false, 0},
    {"timeout_pending", measure_timeout_pending, false, 0},
    {"timer", measure_timer, false, 0},
    {"task_bytes", measure_task_bytes, true, 0},
    {0},
};
