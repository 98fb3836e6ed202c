/*
 * Rows of micro about tasks: many of them, joined, timed out, asleep, on two workers; and about
 * what waits without a task.
 */
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/micro.h"
#include "core/worker.h"
#include "net/socket.h"

enum { BATCH = 1000, YIELDERS = 1000, SLEEPERS = 100000, WAITERS = 100000, PARKED = 1000000 };

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

/* ---- batches of a thousand tasks: by one worker, by two at once ---- */

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

static double measure_spawn_join_1000(void)
{
    const intptr_t batches = 1000;
    double start = now_ns();
    spawn_batches((void *)batches);
    return (now_ns() - start) / ((double)batches * BATCH);
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

static zk_wait_group end;

static int wait_for_end(void *arg) { return zk_wait_group_wait(arg); }

static double measure_task_bytes(void)
{
    double before = resident_bytes(), bytes = 0;
    zk_wait_group_add(&end, 1);
    ZK_SCOPE(s) {
        for (int i = 0; i < WAITERS; i++)
            must(zk_spawn(&s, wait_for_end, (void *)&end));
        zk_yield();
        while (zk_sleep(ZK_MS(1)) < 0)
            continue;
        bytes = (resident_bytes() - before) / WAITERS;
        zk_wait_group_done(&end);
        must(zk_scope_wait(&s));
    }
    return bytes;
}

/*
 * A callback parked on a stream, with a deadline, as a connection between two requests has it. What
 * is counted is all that it needs in this process: the stream, this record, and what the poller and
 * the allocator keep of them. The kernel's own memory is not resident in any process.
 *
 * Hardly anybody may open a million descriptors, so the streams share one, and the poller is told
 * that the kernel watches it already. So this is about epoll: io_uring would have a million
 * requests for one socket.
 */
typedef struct parked parked;
struct parked {
    zk__timer deadline;
    zk_stream *stream;
    parked *next;
};

static int unparked;

static void on_ready(void *context)
{
    (void)context;
    must(-EBADMSG); /* nobody has sent anything */
}

static void on_deadline(zk__timer *timer)
{
    parked *p = (parked *)(void *)((char *)timer - offsetof(parked, deadline));
    zk_stream_unpark(p->stream);
    zk__socket_stream_io(p->stream)->fd = -1; /* shared */
    zk_stream_close(p->stream);
    zk_free(p);
    unparked++;
}

static parked *park(int fd, parked *next)
{
    enum { BITS = ZK__IO_SOCKET | ZK__IO_STREAM | ZK__IO_REGISTERED };
    parked *p = zk_alloc(sizeof *p);
    if (!p) abort();
    *p = (parked){.deadline.fire = on_deadline, .next = next};
    must(zk__fd_stream(fd, BITS, &p->stream));
    must(zk_stream_park(p->stream, on_ready, p));
    zk__wheel_add(&zk__worker_self()->wheel, &p->deadline, zk_now() + ZK_SEC(3600));
    return p;
}

static double measure_parked_bytes(void)
{
    int ends[2];
    parked *list = NULL;
    zk__wheel *wheel = &zk__worker_self()->wheel;
    if (zk__worker_self()->poller.ops != &zk__poller_epoll) return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) must(-errno);
    unparked = 0;
    double before = resident_bytes();
    for (int i = 0; i < PARKED; i++)
        list = park(ends[0], list);
    must(zk_sleep(ZK_MS(1)));
    double bytes = (resident_bytes() - before) / PARKED;
    zk_time now = zk_now();
    for (; list; list = list->next) {
        zk__wheel_remove(wheel, &list->deadline);
        zk__wheel_add(wheel, &list->deadline, now);
    }
    must(zk_sleep(ZK_MS(1)));
    if (unparked != PARKED) must(-EBADMSG);
    close(ends[0]);
    close(ends[1]);
    return bytes;
}

const row task_rows[] = {
    {"yield_1000", measure_yield_1000, false, 0},
    {"spawn_join_1000", measure_spawn_join_1000, false, 0},
    {"spawn_join_2w", measure_spawn_join_2w, false, 2},
    {"join3_ready", measure_join3_ready, false, 0},
    {"join3_pending", measure_join3_pending, false, 0},
    {"timeout_pending", measure_timeout_pending, false, 0},
    {"timer", measure_timer, false, 0},
    {"task_bytes", measure_task_bytes, true, 0},
    {"parked_bytes", measure_parked_bytes, true, 0},
    {0},
};
