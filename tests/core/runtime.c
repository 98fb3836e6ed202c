/*
 * zk_run: its configuration, one runtime after and inside another, calls from outside, and the end
 * of memory, of the allocator's and of the address space's.
 */
#include "tests/async.h"

#include <pthread.h>
#include <stdatomic.h>

#include <zokio/call.h>
#include <zokio/tcp.h>

#include "core/worker.h"

static int succeed(void *arg)
{
    (void)arg;
    return 0;
}

static int worker_count(void *arg)
{
    (void)arg;
    return zk_worker_count();
}

static int worker_index(void *arg)
{
    (void)arg;
    return zk_worker_index();
}

/* ---- configuration ---- */

ZK_TEST(runtime, configurations_that_make_no_sense_are_refused)
{
    static const struct row {
        const char *workers, *poller; /* the environment */
        zk_config config;
        int wanted;
    } rows[] = {
        {"2", NULL, {0}, 2},
        {"2", NULL, {.workers = 1}, 2},
        {"", NULL, {.workers = 3}, 3},
        {NULL, NULL, {.workers = 64}, 64},
        {"007", NULL, {0}, 7},
        {"65", NULL, {0}, ZK_E_CONFIG},
        {"-1", NULL, {0}, ZK_E_CONFIG},
        {"2 ", NULL, {0}, ZK_E_CONFIG},
        {"two", NULL, {0}, ZK_E_CONFIG},
        {"99999999999999999999", NULL, {0}, ZK_E_CONFIG},
        {NULL, NULL, {.workers = -1}, ZK_E_CONFIG},
        {NULL, NULL, {.workers = 65}, ZK_E_CONFIG},
        {NULL, NULL, {.workers = 1, .blocking_threads_max = -1}, ZK_E_CONFIG},
        {NULL, NULL, {.workers = 1, .stack_bytes = SIZE_MAX}, ZK_E_CONFIG},
        {NULL, NULL, {.workers = 1, .stack_bytes = 1}, 1},
        {NULL, "epoll", {.workers = 2, .poller = "kqueue"}, 2},
        {NULL, "kqueue", {.workers = 2}, ZK_E_CONFIG},
        {NULL, "", {.workers = 1, .poller = "kqueue"}, ZK_E_CONFIG},
        {NULL, "io_uring", {.workers = 1}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        rows[i].workers ? setenv("ZOKIO_WORKERS", row->workers, 1) : unsetenv("ZOKIO_WORKERS");
        rows[i].poller ? setenv("ZOKIO_POLLER", row->poller, 1) : unsetenv("ZOKIO_POLLER");
        int rc = zk_run(&row->config, worker_count, NULL);
        cr_assert_eq(rc, row->wanted, "row %zu: %d (%s)", i, rc, zk_errname(rc));
    }
}

static int check_poller(void *arg) { return strcmp(zk_poller_name(), arg) ? -EINVAL : 0; }

ZK_TEST(runtime, the_poller_is_the_one_asked_for)
{
    unsetenv("ZOKIO_POLLER");
    cr_assert_ok(zk_run(&(zk_config){.workers = 1, .poller = "epoll"}, check_poller, "epoll"));
}

ZK_TEST(runtime, without_a_configuration_there_is_a_worker_per_cpu)
{
    unsetenv("ZOKIO_WORKERS");
    cr_assert_geq(zk_run(NULL, worker_count, NULL), 1);
}

/* ---- one after the other ---- */

static int fail(void *arg)
{
    (void)arg;
    return -EIO;
}

ZK_TEST(runtime, runs_again_and_again)
{
    for (int i = 0; i < 20; i++) {
        cr_assert_rc(zk_test_run(1 + i % 4, succeed, NULL), 0);
        cr_assert_rc(zk_test_run(1 + i % 4, fail, NULL), -EIO);
    }
}

static int run_inside(void *arg) { return zk_run(NULL, succeed, arg); }

ZK_TEST(runtime, one_inside_another_is_refused)
{
    cr_assert_rc(zk_test_run(1, run_inside, NULL), -EBUSY);
    cr_assert_rc(zk_test_run(1, succeed, NULL), 0, "afterwards");
}

static void *run_elsewhere(void *arg)
{
    *(int *)arg = zk_test_run(2, worker_index, NULL);
    return NULL;
}

ZK_TEST(runtime, any_thread_may_run_one)
{
    pthread_t thread;
    int rc = -1;
    cr_assert(!pthread_create(&thread, NULL, run_elsewhere, &rc) && !pthread_join(thread, NULL));
    cr_assert_rc(rc, 0);
}

/* ---- from outside ---- */

static int call_stream_pair(void *arg)
{
    zk_stream *a, *b;
    (void)arg;
    return zk_stream_pair(&a, &b);
}

static int call_connect(void *arg)
{
    zk_addr addr;
    zk_stream *stream;
    (void)arg;
    cr_assert_ok(zk_addr_parse("127.0.0.1:1", &addr));
    return zk_connect(&addr, &stream);
}

static int call_listen(void *arg)
{
    zk_addr addr;
    zk_listener *listener;
    (void)arg;
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    return zk_listen(&addr, NULL, &listener);
}

static int call_sleep(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_MS(1));
}

static int call_yield(void *arg)
{
    (void)arg;
    return zk_yield();
}

static int call_blocking(void *arg) { return zk_blocking(succeed, arg); }

static int call_timeout(void *arg) { return zk_timeout(ZK_MS(1), succeed, arg); }

static int call_spawn(void *arg)
{
    zk_scope scope = {0};
    return zk_spawn_with(&scope, &(zk_spawn_options){0}, succeed, arg);
}

static void outside_check(const char *where)
{
    static const struct row {
        const char *name;
        zk_fn *fn;
    } rows[] = {
        {"sleep", call_sleep},     {"yield", call_yield},   {"blocking", call_blocking},
        {"timeout", call_timeout}, {"spawn", call_spawn},   {"stream_pair", call_stream_pair},
        {"connect", call_connect}, {"listen", call_listen},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert_rc(rows[i].fn(NULL), ZK_E_NO_RUNTIME, "%s, %s", rows[i].name, where);
    }
    cr_assert_eq(zk_worker_count(), 0);
    cr_assert_eq(zk_worker_index(), -1);
    cr_assert_str_eq(zk_poller_name(), "");
    cr_assert_eq(zk_cancelled(), 0);
    cr_assert_rc(zk_fail(-EIO, "outside"), -EIO);
    cr_assert_null(zk_alloc(1));
    zk_future f, g;
    zk_async(&f, fail, NULL);
    zk_async(&g, call_sleep, NULL);
    cr_assert_rc(zk_await(&f), -EIO, "in place, for want of anything else");
    cr_assert_rc(zk_await(&g), ZK_E_NO_RUNTIME);
}

ZK_TEST(runtime, calls_from_outside_say_so)
{
    outside_check("before");
    cr_assert_ok(zk_test_run(1, succeed, NULL));
    outside_check("after");
}

static void on_timer(zk__timer *timer)
{
    (void)timer;
    cr_assert_eq(zk_cancelled(), 0);
    cr_assert_rc(zk_yield(), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_sleep(1), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_blocking(succeed, NULL), ZK_E_NO_RUNTIME);
}

ZK_ASYNC_TEST(runtime, a_callback_of_the_loop_cannot_suspend)
{
    zk__timer timer = {.fire = on_timer};
    zk__wheel_add(&zk__lane.worker->wheel, &timer, 0);
    cr_assert_ok(zk_sleep(ZK_MS(2)));
    cr_assert(!zk__timer_is_pending(&timer));
}

/* ---- an allocator that fails ---- */

typedef struct failing {
    atomic_long calls, live;
    long fail_at; /* which call fails; -1: none */
} failing;

static void *failing_alloc(void *context, size_t size)
{
    failing *f = context;
    if (atomic_fetch_add(&f->calls, 1) == f->fail_at) return NULL;
    void *ptr = aligned_alloc(16, (size + 15) & ~(size_t)15);
    if (ptr) atomic_fetch_add(&f->live, 1);
    return ptr;
}

static void failing_free(void *context, void *ptr, size_t size)
{
    failing *f = context;
    (void)size;
    atomic_fetch_sub(&f->live, 1);
    free(ptr);
}

static int echo(void *arg)
{
    zk_stream *stream = arg;
    char byte;
    ssize_t n = zk_stream_read(stream, &byte, 1);
    if (n < 0) return zk_fail((int)n, "reading");
    int rc = n ? zk_stream_write(stream, &byte, 1) : 0;
    return rc < 0 ? zk_fail(rc, "writing") : 0;
}

/* Takes memory in every way that the runtime and the streams have. */
static int take_memory(void *arg)
{
    zk_stream *a, *b;
    int rc = zk_stream_pair(&a, &b), remote = *(int *)arg;
    if (rc < 0) return zk_fail(rc, "making a pair");
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, echo, (void *)b);
        char big[1000] = "";
        if (!rc) rc = zk_spawn(&s, succeed, &big);
        for (int i = 0; i < 10 && !rc; i++)
            rc = zk_spawn(&s, call_yield, NULL);
        zk_spawn_options elsewhere = {.worker = remote};
        if (!rc && remote) rc = zk_spawn_with(&s, &elsewhere, call_sleep, NULL);
        char byte = 'x';
        if (!rc) rc = zk_stream_write(a, &byte, 1);
        if (!rc && zk_stream_read(a, &byte, 1) != 1) rc = -EPIPE;
        if (rc < 0) break;
        rc = zk_scope_wait(&s);
    }
    zk_stream_close(a);
    zk_stream_close(b);
    return rc < 0 ? zk_fail(rc, "taking memory") : 0;
}

static void fail_each_allocation(int workers)
{
    unsetenv("ZOKIO_WORKERS");
    int remote = workers > 1 ? 2 : 0;
    for (long n = 0;; n++) {
        failing f = {.fail_at = n};
        zk_allocator allocator = {failing_alloc, failing_free, &f};
        zk_config config = {.workers = workers, .allocator = &allocator};
        int rc = zk_run(&config, take_memory, &remote);
        cr_assert_eq(f.live, 0, "%ld leaked when call %ld failed", f.live, n);
        bool has_failed = f.calls > n;
        if (!has_failed) {
            cr_assert_ok(rc);
            cr_assert_gt(n, 10);
            return;
        }
        /* Context that could not be kept is no error, but everything else is. */
        cr_assert(rc == -ENOMEM || rc == 0, "call %ld: %s", n, zk_errname(rc));
    }
}

ZK_TEST(runtime, every_allocation_may_fail) { fail_each_allocation(1); }

ZK_TEST(runtime, every_allocation_may_fail_on_two_workers) { fail_each_allocation(2); }

/* ---- no address space ---- */

/* From here on there is no memory. Only for a child: what malloc had is lost. */
static void memory_forbid(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    rlim_t pages = 0;
    for (int c; (c = fgetc(file)) >= '0' && c <= '9';)
        pages = pages * 10 + (rlim_t)(c - '0');
    fclose(file);
    rlim_t bytes = pages * (rlim_t)sysconf(_SC_PAGESIZE);
    setrlimit(RLIMIT_AS, &(struct rlimit){bytes, RLIM_INFINITY});
    for (size_t size = 1 << 20; size >= 16; size /= 2) {
        void *volatile lost;
        while ((lost = malloc(size)))
            continue;
    }
}

static void memory_allow(void)
{
    setrlimit(RLIMIT_AS, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
}

enum { CROWD = 20000 };
static zk_future crowd[CROWD];
static int crowd_waiting, crowd_refused;

static int wait_in_the_crowd(void *arg)
{
    (void)arg;
    crowd_waiting++;
    int rc = zk_sleep(ZK_MS(20));
    crowd_waiting--;
    if (rc == -ENOMEM) crowd_refused++;
    return rc;
}

static int wait_without_memory(void *arg)
{
    (void)arg;
    memory_forbid();
    for (int i = 0; i < CROWD; i++)
        zk_async(&crowd[i], wait_in_the_crowd, NULL);
    int ok = 0;
    for (int i = 0; i < CROWD; i++) {
        int rc = zk_await(&crowd[i]);
        if (rc != 0 && rc != -ENOMEM) return 1;
        ok += rc == 0;
    }
    memory_allow();
    if (crowd_waiting) return 2;
    if (!crowd_refused || !ok) return 3;
    return zk_sleep(ZK_US(1)) ? 4 : 0;
}

static int run_without_memory(void *arg) { return zk_test_run(1, wait_without_memory, arg); }

/* The run queue cannot grow either. */
ZK_TEST(runtime, a_wait_without_memory_for_a_stack_is_refused)
{
    if (ZK_TEST_ASAN || ZK_TEST_TSAN) return; /* they need address space of their own */
    zk_test_child child = zk_test_fork(run_without_memory, NULL);
    cr_assert_child_ok(child);
}

static int join_a_child(void *arg)
{
    int rc = 0;
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, wait_in_the_crowd, arg);
        if (!rc) rc = zk_scope_wait(&s);
    }
    return rc == -ENOMEM ? 0 : rc;
}

static int join_calls(void *arg)
{
    int rc = zk_join({wait_in_the_crowd, arg}, {wait_in_the_crowd, arg}, {wait_in_the_crowd, arg});
    return rc == -ENOMEM ? 0 : rc;
}

/* Each takes two stacks or more, until one that has the last stack has to wait for the others. */
static int join_without_memory(void *arg)
{
    zk_fn *const *fn = arg;
    int rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 200 && !rc; i++)
            rc = zk_spawn(&s, *fn, NULL);
        memory_forbid();
        if (!rc) rc = zk_scope_wait(&s);
        memory_allow();
    }
    return rc == 0 && crowd_refused ? 0 : 1;
}

static int run_join_without_memory(void *arg) { return zk_test_run(1, join_without_memory, arg); }

ZK_TEST(runtime, a_join_without_memory_for_a_stack_still_ends)
{
    if (ZK_TEST_ASAN || ZK_TEST_TSAN) return;
    zk_fn *fns[] = {join_a_child, join_calls};
    for (int i = 0; i < 2; i++) {
        zk_test_child child = zk_test_fork(run_join_without_memory, &fns[i]);
        cr_assert_child_ok(child);
    }
}

static int start_without_memory(void *arg)
{
    memory_forbid();
    int rc = zk_test_run(1, succeed, arg);
    memory_allow();
    return rc == -ENOMEM && zk_test_run(1, succeed, arg) == 0 ? 0 : 1;
}

ZK_TEST(runtime, one_without_memory_does_not_start)
{
    if (ZK_TEST_ASAN || ZK_TEST_TSAN) return;
    zk_test_child child = zk_test_fork(start_without_memory, NULL);
    cr_assert_child_ok(child);
}
