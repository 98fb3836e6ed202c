/*
 * The rows of bench/micro that libuv can do, for bench/runtime.py: NAME<TAB>NS_PER_OP.
 *
 * libuv has callbacks where the others have tasks: nothing to spawn or to yield, no channels, no
 * select. What it shares with them is timers, wake-ups and the memory of what waits.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

enum { ROUNDS = 15, TIMERS = 100000, PARKED = 1000000, WAKE_UPS = 501 };

static void must(int rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "runtime-uv: %s\n", uv_strerror(rc));
    exit(1);
}

static void *must_have(void *p)
{
    if (!p) must(UV_ENOMEM);
    return p;
}

/* ---- timers: processor time of one of 100,000 that fire after 1 to 20 ms ---- */

static double cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec) * 1e9 +
           ((double)u.ru_utime.tv_usec + (double)u.ru_stime.tv_usec) * 1e3;
}

static void free_handle(uv_handle_t *handle) { free(handle); }

static void end_timer(uv_timer_t *timer) { uv_close((uv_handle_t *)timer, free_handle); }

static double measure_timer(void)
{
    uv_loop_t loop;
    must(uv_loop_init(&loop));
    double start = cpu_ns();
    for (int i = 0; i < TIMERS; i++) {
        uv_timer_t *timer = must_have(malloc(sizeof *timer));
        must(uv_timer_init(&loop, timer));
        must(uv_timer_start(timer, end_timer, (uint64_t)(1 + i % 20), 0));
    }
    must(uv_run(&loop, UV_RUN_DEFAULT));
    double took = cpu_ns() - start;
    must(uv_loop_close(&loop));
    return took / TIMERS;
}

/* ---- memory of a callback that waits to be woken, with a deadline ---- */

typedef struct parked {
    uv_async_t event;
    uv_timer_t deadline;
} parked;

static int unparked;

static void free_parked(uv_handle_t *handle)
{
    free(handle->data);
    unparked++;
}

static void close_event(uv_handle_t *handle)
{
    parked *p = handle->data;
    uv_close((uv_handle_t *)&p->event, free_parked);
}

static void on_event(uv_async_t *event)
{
    parked *p = event->data;
    uv_close((uv_handle_t *)&p->deadline, close_event);
}

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    must(UV_ETIMEDOUT);
}

static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, resident = 0;
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) exit(1);
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void wake_event(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (handle->type == UV_ASYNC && handle->data) must(uv_async_send((uv_async_t *)handle));
}

static double measure_parked_bytes(void)
{
    uv_loop_t loop;
    must(uv_loop_init(&loop));
    double before = resident_bytes();
    for (int i = 0; i < PARKED; i++) {
        parked *p = must_have(malloc(sizeof *p));
        must(uv_async_init(&loop, &p->event, on_event));
        must(uv_timer_init(&loop, &p->deadline));
        must(uv_timer_start(&p->deadline, on_deadline, 3600 * 1000, 0));
        p->event.data = p->deadline.data = p;
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    double bytes = (resident_bytes() - before) / PARKED;
    uv_walk(&loop, wake_event, NULL);
    must(uv_run(&loop, UV_RUN_DEFAULT));
    must(unparked == PARKED ? 0 : UV_ECANCELED);
    must(uv_loop_close(&loop));
    return bytes;
}

/* ---- half of a round trip to another thread's loop, which has slept for a millisecond ---- */

typedef struct side {
    uv_loop_t loop;
    uv_async_t event;
    int cpu;
} side;

static side asking, answering;
static uint64_t asked_at;
static double spans[WAKE_UPS];
static int span_count;

/* The first or the last processor that this process may use. */
static int allowed_cpu(int is_last)
{
    cpu_set_t set;
    int found = -1;
    must(sched_getaffinity(0, sizeof set, &set) ? UV_EINVAL : 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && (is_last || found < 0); cpu++) {
        if (CPU_ISSET(cpu, &set)) found = cpu;
    }
    return found;
}

static void pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set) ? UV_EINVAL : 0);
}

static void ask(void)
{
    usleep(1000);
    asked_at = uv_hrtime();
    must(uv_async_send(&answering.event));
}

static void on_answer(uv_async_t *event)
{
    spans[span_count++] = (double)(uv_hrtime() - asked_at) / 2;
    if (span_count < WAKE_UPS) {
        ask();
        return;
    }
    uv_close((uv_handle_t *)event, NULL);
}

static void on_question(uv_async_t *event)
{
    static int count;
    must(uv_async_send(&asking.event));
    if (++count == WAKE_UPS) uv_close((uv_handle_t *)event, NULL);
}

static void run_side(void *arg)
{
    side *s = arg;
    pin_to(s->cpu);
    must(uv_run(&s->loop, UV_RUN_DEFAULT));
}

static int compare(const void *x, const void *y)
{
    double d = *(const double *)x - *(const double *)y;
    return (d > 0) - (d < 0);
}

static double measure_wakeup_2w(void)
{
    uv_thread_t thread;
    asking.cpu = allowed_cpu(0);
    answering.cpu = allowed_cpu(1);
    must(uv_loop_init(&asking.loop));
    must(uv_loop_init(&answering.loop));
    must(uv_async_init(&asking.loop, &asking.event, on_answer));
    must(uv_async_init(&answering.loop, &answering.event, on_question));
    must(uv_thread_create(&thread, run_side, &answering));
    ask();
    run_side(&asking);
    must(uv_thread_join(&thread));
    must(uv_loop_close(&asking.loop));
    must(uv_loop_close(&answering.loop));
    qsort(spans, WAKE_UPS, sizeof *spans, compare);
    return spans[WAKE_UPS / 2];
}

/* ---- rows ---- */

static const struct row {
    const char *name;
    double (*measure)(void);
    int rounds;
} rows[] = {
    {"timer", measure_timer, ROUNDS},
    {"parked_bytes", measure_parked_bytes, 1},
    {"wakeup_2w", measure_wakeup_2w, 1},
};
enum { ROWS = sizeof rows / sizeof *rows };

int main(int argc, char **argv)
{
    for (const struct row *r = rows; r < rows + ROWS; r++) {
        int is_wanted = argc == 1;
        for (int i = 1; i < argc; i++)
            is_wanted |= !strcmp(argv[i], r->name);
        if (!is_wanted) continue;
        double best = r->measure();
        for (int round = 1; round < r->rounds; round++) {
            double ns = r->measure();
            if (ns < best) best = ns;
        }
        printf("%s\t%.2f\n", r->name, best);
    }
    return 0;
}
