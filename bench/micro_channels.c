/*
 * Rows of micro about tasks that have to do with each other: channels, select, mutex, wake-ups.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/micro.h"

static zk_channel *a, *b;

static void channels_new(size_t capacity_a, size_t capacity_b)
{
    must(zk_channel_new(sizeof(long), capacity_a, &a));
    must(zk_channel_new(sizeof(long), capacity_b, &b));
}

static void channels_free(void)
{
    zk_channel_free(a);
    zk_channel_free(b);
}

static int echo(void *arg)
{
    long item;
    for (intptr_t n = (intptr_t)arg; n > 0; n--) {
        must(zk_channel_recv(a, &item));
        must(zk_channel_send(b, &item));
    }
    return 0;
}

static int produce(void *arg)
{
    for (long i = 0; i < (intptr_t)arg; i++)
        must(zk_channel_send(a, &i));
    return 0;
}

static int consume(void *arg)
{
    long item;
    for (long i = 0; i < (intptr_t)arg; i++) {
        must(zk_channel_recv(a, &item));
        if (item != i) must(-EBADMSG);
    }
    return 0;
}

static double measure_channel_pingpong(void)
{
    const intptr_t n = 300000;
    double start = now_ns();
    channels_new(0, 0);
    ZK_SCOPE(s) {
        must(zk_spawn(&s, echo, (void *)n));
        for (long i = 0; i < n; i++) {
            long item = i;
            must(zk_channel_send(a, &item));
            must(zk_channel_recv(b, &item));
        }
        must(zk_scope_wait(&s));
    }
    channels_free();
    return (now_ns() - start) / (double)n;
}

static double bounded(int producer_on, int consumer_on)
{
    const intptr_t n = 1000000;
    channels_new(1024, 1);
    double start = now_ns();
    ZK_SCOPE(s) {
        must(zk_spawn_on(&s, producer_on, produce, (void *)n));
        must(zk_spawn_on(&s, consumer_on, consume, (void *)n));
        must(zk_scope_wait(&s));
    }
    double took = now_ns() - start;
    channels_free();
    return took / (double)n;
}

static double measure_channel_bounded(void) { return bounded(0, 0); }
static double measure_channel_bounded_2w(void) { return bounded(0, 1); }

static double measure_select_ready(void)
{
    const int n = 500000;
    long item;
    channels_new(1, (size_t)n);
    for (long i = 0; i < n; i++)
        must(zk_channel_try_send(b, &i));
    double start = now_ns();
    for (int i = 0; i < n; i++)
        must(zk_select({ZK_RECV(a, &item)}, {ZK_RECV(b, &item)}));
    double took = now_ns() - start;
    channels_free();
    return took / n;
}

/* The producer meets a select that waits, each time: one switch to it and one back. */
static double measure_select_pending(void)
{
    const intptr_t n = 300000;
    long item;
    channels_new(0, 0);
    double start = now_ns();
    ZK_SCOPE(s) {
        must(zk_spawn(&s, produce, (void *)n));
        for (int i = 0; i < n; i++)
            must(zk_select({ZK_RECV(a, &item)}, {ZK_RECV(b, &item)}));
        must(zk_scope_wait(&s));
    }
    double took = now_ns() - start;
    channels_free();
    return took / (double)n;
}

static double measure_mutex(void)
{
    const int n = 2000000;
    zk_mutex mutex = {0};
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        must(zk_mutex_lock(&mutex));
        zk_mutex_unlock(&mutex);
    }
    return (now_ns() - start) / n;
}

/* ---- waking another processor ---- */

/* Before each: a processor that has slept for longer wakes later. */
enum { WAKE_UPS = 501, IDLE_US = 1000 };

static int compare(const void *x, const void *y)
{
    double d = *(const double *)x - *(const double *)y;
    return (d > 0) - (d < 0);
}

static double median(double *spans)
{
    qsort(spans, WAKE_UPS, sizeof *spans, compare);
    return spans[WAKE_UPS / 2];
}

/* Half of a round trip to a task of a worker that sleeps. */
static double measure_wakeup_2w(void)
{
    static double spans[WAKE_UPS];
    channels_new(1, 1);
    ZK_SCOPE(s) {
        must(zk_spawn_on(&s, 1, echo, (void *)(intptr_t)WAKE_UPS));
        for (int i = 0; i < WAKE_UPS; i++) {
            long item = i;
            usleep(IDLE_US); /* the thread itself: it has gone to sleep meanwhile */
            double start = now_ns();
            must(zk_channel_send(a, &item));
            must(zk_channel_recv(b, &item));
            spans[i] = (now_ns() - start) / 2;
        }
        must(zk_scope_wait(&s));
    }
    channels_free();
    return median(spans);
}

static int ping_fd, pong_fd;

static void pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *eventfd_echo(void *arg)
{
    (void)arg;
    uint64_t value;
    pin_to(1);
    for (int i = 0; i < WAKE_UPS; i++) {
        if (read(ping_fd, &value, sizeof value) < 0 || write(pong_fd, &value, sizeof value) < 0) {
            exit(1);
        }
    }
    return NULL;
}

static double spans_of_eventfd[WAKE_UPS];

static int eventfd_rounds(void *arg)
{
    (void)arg;
    pthread_t thread;
    uint64_t value = 1;
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    ping_fd = eventfd(0, EFD_CLOEXEC);
    pong_fd = eventfd(0, EFD_CLOEXEC);
    if (pthread_create(&thread, NULL, eventfd_echo, NULL)) exit(1);
    pin_to(0);
    for (int i = 0; i < WAKE_UPS; i++) {
        usleep(IDLE_US);
        double start = now_ns();
        if (write(ping_fd, &value, sizeof value) < 0 || read(pong_fd, &value, sizeof value) < 0) {
            exit(1);
        }
        spans_of_eventfd[i] = (now_ns() - start) / 2;
    }
    pthread_join(thread, NULL);
    close(ping_fd);
    close(pong_fd);
    sched_setaffinity(0, sizeof before, &before);
    return 0;
}

/* The floor of wakeup_2w: two threads, each waits in read. */
static double measure_eventfd_2w(void)
{
    must(zk_blocking(eventfd_rounds, NULL));
    return median(spans_of_eventfd);
}

const row channel_rows[] = {
    {"channel_pingpong", measure_channel_pingpong, false, 0},
    {"channel_bounded", measure_channel_bounded, false, 0},
    {"channel_bounded_2w", measure_channel_bounded_2w, false, 2},
    {"select_ready", measure_select_ready, false, 0},
    {"select_pending", measure_select_pending, false, 0},
    {"mutex", measure_mutex, false, 0},
    {"wakeup_2w", measure_wakeup_2w, true, 2},
    {"eventfd_2w", measure_eventfd_2w, true, 0},
    {0},
};
