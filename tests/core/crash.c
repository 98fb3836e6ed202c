/*
 * Stack overflows: named on stderr, and the process still ends by SIGSEGV.
 */
#include "tests/async.h"

static volatile int zero;

/* Frames on the real stack, whatever ASan does with others. */
static __attribute__((noinline, no_sanitize("address"))) int recurse(int depth)
{
    volatile char frame[512];
    frame[0] = (char)depth;
    if (depth < 0) return zero;
    return recurse(depth + 1) + frame[0];
}

static int overflow_the_stack(void *arg)
{
    (void)arg;
    return recurse(0);
}

static int overflow_later(void *arg) { return zk_yield() < 0 ? 0 : overflow_the_stack(arg); }

typedef struct row {
    const char *name, *wanted;
    zk_fn *fn;
    int worker;
    size_t stack_bytes;
} row;

static int spawn_row(void *arg)
{
    const row *r = arg;
    ZK_SCOPE(s) {
        static zk_site site;
        site = (zk_site){r->wanted, "crash.c", 7};
        zk_spawn_options options = {
            .site = &site, .worker = r->worker, .stack_bytes = r->stack_bytes};
        zk_spawn_with(&s, &options, r->fn, NULL);
        zk_scope_wait(&s);
    }
    return 0;
}

static int run_row(void *arg) { return zk_test_run(2, spawn_row, arg); }

ZK_TEST(crash, a_stack_overflow_names_the_task)
{
    static const row rows[] = {
        {"on a fresh stack", "fresh_task", overflow_the_stack, 0, 0},
        {"after a wait", "waiting_task", overflow_later, 0, 0},
        {"on another worker", "remote_task", overflow_later, 2, 0},
        {"on a stack of its own", "own_task", overflow_the_stack, 0, 1 << 20},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_test_child child = zk_test_fork(run_row, (void *)&rows[i]);
        if (ZK_TEST_ASAN) {
            cr_assert(strstr(child.output, "stack-overflow"), "%s: %s", rows[i].name, child.output);
            continue;
        }
        char wanted[128];
        snprintf(wanted, sizeof wanted,
                 "zokio: stack overflow in task %s (crash.c:7), which ran on %s", rows[i].wanted,
                 ZK_TEST_TSAN          ? "" /* stacks are twice as large */
                 : rows[i].stack_bytes ? "10"
                                       : "2");
        cr_assert_child_killed(child, SIGSEGV, wanted);
    }
}

static int touch_null(void *arg)
{
    (void)arg;
    return *(volatile int *)(uintptr_t)zero;
}

static int run_touch_null(void *arg) { return zk_test_run(1, touch_null, arg); }

static int send_itself_sigsegv(void *arg)
{
    (void)arg;
    kill(getpid(), SIGSEGV);
    return 0;
}

static int run_send_sigsegv(void *arg) { return zk_test_run(1, send_itself_sigsegv, arg); }

ZK_TEST(crash, other_faults_end_the_process_as_ever)
{
    if (ZK_TEST_ASAN || ZK_TEST_TSAN) return;
    zk_test_child child = zk_test_fork(run_touch_null, NULL);
    cr_assert_child_killed(child, SIGSEGV, "");
    cr_assert_str_eq(child.output, "");
    child = zk_test_fork(run_send_sigsegv, NULL);
    cr_assert_child_killed(child, SIGSEGV, "");
    cr_assert_str_eq(child.output, "");
}

static void on_signal(int signal_number) { (void)signal_number; }

static int has_handler(void *arg)
{
    struct sigaction now;
    sigaction(SIGSEGV, NULL, &now);
    return now.sa_handler == (void (*)(int))arg;
}

ZK_TEST(crash, the_handler_is_only_borrowed)
{
    struct sigaction old;
    cr_assert(!sigaction(SIGSEGV, NULL, &old));
    signal(SIGSEGV, SIG_DFL);
    cr_assert_rc(zk_test_run(1, has_handler, (void *)SIG_DFL), 0);
    cr_assert(has_handler((void *)SIG_DFL), "put back");
    cr_assert_rc(
        zk_run(&(zk_config){.workers = 1, .no_crash_report = true}, has_handler, (void *)SIG_DFL),
        1, "unwanted");
    signal(SIGSEGV, on_signal);
    cr_assert_rc(zk_test_run(1, has_handler, (void *)on_signal), 1, "somebody else's");
    cr_assert(has_handler((void *)on_signal));
    sigaction(SIGSEGV, &old, NULL);
}
