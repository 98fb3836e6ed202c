/*
 * The watchdog: reports a task that holds its worker, once, and nobody who waits or yields; SIGQUIT
 * writes a dump, also of a worker that does not come back.
 */
#include "tests/async.h"

#include <stdatomic.h>
#include <time.h>

#include "core/worker.h"

enum { TEXT_BYTES = 16 * 1024 };

static atomic_int reports;
static char last[TEXT_BYTES];

static void keep(void *context, const char *report)
{
    (void)context;
    snprintf(last, sizeof last, "%s", report);
    atomic_fetch_add(&reports, 1);
}

/* Computes until so many stalls have been reported. It calls nothing: interrupted at the beginning
 * of a call, a backtrace by frame pointers would miss this function. */
int spin_until_reported(void *arg);
__attribute__((noinline)) int spin_until_reported(void *arg)
{
    int wanted = *(int *)arg;
    while (atomic_load(&reports) < wanted)
        continue;
    return 0;
}

static int run_watched(zk_fn *fn, int workers)
{
    unsetenv("ZOKIO_WORKERS");
    reports = 0;
    zk_config config = {.workers = workers, .watchdog_ms = 20, .on_stall = keep};
    return zk_run(&config, fn, NULL);
}

static int stall_once(void *arg)
{
    (void)arg;
    ZK_SCOPE(s) {
        int wanted = 1;
        int rc = zk_spawn(&s, spin_until_reported, &wanted);
        if (!rc) rc = zk_scope_wait(&s);
        if (rc < 0) return rc;
    }
    return 0;
}

ZK_TEST(watchdog, reports_a_task_that_holds_its_worker)
{
    cr_assert_ok(run_watched(stall_once, 1));
    cr_assert(strstr(last, "task spin_until_reported ("), "%s", last);
    cr_assert(strstr(last, "watchdog.c:"), "%s", last);
    cr_assert(strstr(last, "has held worker 0 for "), "%s", last);
    /* ThreadSanitizer puts signals off until it is called itself, and then its own frame comes
     * first, from which no frame pointer leads out. */
    if (ZK_TEST_TSAN) return;
    cr_assert(strstr(strchr(last, '\n'), "spin_until_reported+0x"), "%s", last);
}

static int hold_for_long(void *arg)
{
    (void)arg;
    int wanted = 1;
    int rc = spin_until_reported(&wanted);
    /* Ten more looks, at each of which it is still at it. */
    zk_time end = zk__clock() + ZK_MS(200);
    while (zk__clock() < end)
        continue;
    return rc;
}

ZK_TEST(watchdog, reports_a_stall_once)
{
    cr_assert_ok(run_watched(hold_for_long, 1));
    cr_assert(reports == 1, "%d", reports);
}

static int stall_twice(void *arg)
{
    (void)arg;
    int wanted = 1;
    int rc = spin_until_reported(&wanted);
    if (!rc) rc = zk_sleep(ZK_MS(1));
    wanted = 2;
    return rc < 0 ? rc : spin_until_reported(&wanted);
}

ZK_TEST(watchdog, reports_the_next_stall_too)
{
    cr_assert_ok(run_watched(stall_twice, 1));
    cr_assert(reports == 2);
}

static int stall_elsewhere(void *arg)
{
    (void)arg;
    int rc = 0;
    ZK_SCOPE(s) {
        int wanted = 1;
        rc = zk_spawn_on(&s, 1, spin_until_reported, &wanted);
        if (!rc) rc = zk_scope_wait(&s);
    }
    return rc;
}

/* Worker 0 sleeps in its poller meanwhile, and must not be reported. */
ZK_TEST(watchdog, tells_a_worker_that_sleeps_from_one_that_is_held)
{
    cr_assert_ok(run_watched(stall_elsewhere, 2));
    cr_assert(reports == 1);
    cr_assert(strstr(last, "has held worker 1 for "), "%s", last);
}

static zk_time longest; /* between two yields: the system has perhaps run something else */

static int sleep_and_yield(void *arg)
{
    (void)arg;
    int rc = zk_sleep(ZK_MS(100));
    zk_time now = zk__clock(), end = now + ZK_MS(100);
    longest = 0;
    while (!rc && now < end) {
        rc = zk_yield();
        zk_time before = now;
        now = zk__clock();
        if (now - before > longest) longest = now - before;
    }
    return rc;
}

ZK_TEST(watchdog, leaves_who_waits_or_yields_alone)
{
    cr_assert_ok(run_watched(sleep_and_yield, 1));
    cr_assert(reports == 0 || longest >= ZK_MS(10), "%s", last);
}

ZK_TEST(watchdog, a_negative_span_is_refused)
{
    zk_config config = {.workers = 1, .watchdog_ms = -1};
    cr_assert(zk_run(&config, sleep_and_yield, NULL) == ZK_E_CONFIG);
}

/* ---- SIGQUIT ---- */

/* What arrives on the pipe until it contains `wanted`. returns whether it came. */
static bool read_until(int fd, const char *wanted)
{
    size_t length = 0;
    last[0] = '\0';
    while (!strstr(last, wanted) && length < sizeof last - 1) {
        ssize_t n = read(fd, last + length, sizeof last - 1 - length);
        if (n <= 0) return false;
        length += (size_t)n;
        last[length] = '\0';
    }
    return true;
}

typedef struct quit {
    int read_fd;
    const char *wanted;
    bool has_come;
} quit;

static int read_dump(void *arg)
{
    quit *q = arg;
    q->has_come = read_until(q->read_fd, q->wanted);
    return 0;
}

static int quit_while_waiting(void *arg)
{
    kill(getpid(), SIGQUIT);
    return zk_blocking(read_dump, arg);
}

/* The worker does not answer: it blocks in the read itself. */
static int quit_while_busy(void *arg)
{
    kill(getpid(), SIGQUIT);
    return read_dump(arg);
}

static void quit_run(zk_fn *fn, const char *wanted)
{
    struct sigaction before, after;
    sigaction(SIGQUIT, NULL, &before); /* ignored in what a shell has put into the background */
    int fds[2], saved = dup(STDERR_FILENO);
    cr_assert(pipe(fds) == 0);
    dup2(fds[1], STDERR_FILENO);
    quit q = {.read_fd = fds[0], .wanted = wanted};
    unsetenv("ZOKIO_WORKERS");
    int rc = zk_run(&(zk_config){.workers = 1, .dump_on_sigquit = true}, fn, &q);
    dup2(saved, STDERR_FILENO);
    cr_assert_ok(rc);
    cr_assert(q.has_come, "%s", last);
    sigaction(SIGQUIT, NULL, &after);
    cr_assert(after.sa_handler == before.sa_handler);
}

ZK_TEST(watchdog, sigquit_writes_a_dump)
{
    quit_run(quit_while_waiting, "task main, worker 0, waits for blocking call");
}

ZK_TEST(watchdog, sigquit_shows_where_a_busy_worker_is)
{
    quit_run(quit_while_busy, "worker 0: busy in task main");
}

ZK_TEST(watchdog, sigquit_is_asked_for_by_the_environment)
{
    setenv("ZOKIO_DUMP_ON_SIGQUIT", "yes", 1);
    cr_assert(zk_run(NULL, sleep_and_yield, NULL) == ZK_E_CONFIG);
    setenv("ZOKIO_DUMP_ON_SIGQUIT", "1", 1);
    quit_run(quit_while_waiting, "task main");
}
