/*
 * Tests that run as tasks: ZK_ASYNC_TEST, and children for what ends its process.
 *
 * The poller is ZOKIO_POLLER's, so that a test program runs once for each. Criterion's assertions
 * leave by longjmp, which works from a task's stack on the main thread, worker 0. What runs on
 * other workers notes what it saw, and the first task asserts.
 */
#ifndef ZOKIO_TESTS_ASYNC_H
#define ZOKIO_TESTS_ASYNC_H

#include "tests/test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zokio/dump.h>
#include <zokio/task.h>

#include "core/switch.h"

#if ZK__ASAN
#define ZK_TEST_ASAN 1
#else
#define ZK_TEST_ASAN 0
#endif
#if ZK__TSAN
#define ZK_TEST_TSAN 1
#else
#define ZK_TEST_TSAN 0
#endif

static inline void zk__test_leak(void *context, const zk_leak *leak)
{
    *(int *)context += 1;
    fprintf(stderr, "leak: %s, %zu bytes, by %s (%s:%d)\n%s\n", leak->what, leak->bytes,
            leak->task->name, leak->task->file, leak->task->line, leak->backtrace);
}

/* zk_run with so many workers, whatever the environment says. A leak fails it, in builds that look
 * for them. */
static inline int zk_test_run(int workers, zk_fn *fn, void *arg)
{
    int leaks = 0;
    unsetenv("ZOKIO_WORKERS");
    int rc = zk_run(
        &(zk_config){.workers = workers, .on_leak = zk__test_leak, .on_leak_context = &leaks}, fn,
        arg);
    return rc >= 0 && leaks ? ZK_E_LEAK : rc;
}

/* A test whose body is the first task of a runtime with `workers` workers. */
#define ZK_ASYNC_TEST_ON(suite, name, workers)                                                     \
    static void zk__body_##suite##_##name(void);                                                   \
    static int zk__main_##suite##_##name(void *arg)                                                \
    {                                                                                              \
        (void)arg;                                                                                 \
        zk__body_##suite##_##name();                                                               \
        return 0;                                                                                  \
    }                                                                                              \
    ZK_TEST(suite, name) { cr_assert_ok(zk_test_run(workers, zk__main_##suite##_##name, NULL)); }  \
    static void zk__body_##suite##_##name(void)

#define ZK_ASYNC_TEST(suite, name) ZK_ASYNC_TEST_ON(suite, name, 1)

/* A call has given this result; says what it gave instead, and what else the caller says. */
#define cr_assert_rc(call, wanted, ...)                                                            \
    do {                                                                                           \
        int zk__got = (int)(call), zk__wanted = (int)(wanted);                                     \
        if (zk__got == zk__wanted) break;                                                          \
        char zk__what[512];                                                                        \
        snprintf(zk__what, sizeof zk__what, " " __VA_ARGS__);                                      \
        cr_assert_fail("%s: %d (%s), not %d (%s)%s", #call, zk__got, zk_errname(zk__got),          \
                       zk__wanted, zk_errname(zk__wanted), zk__what);                              \
    } while (0)

/* What became of a child process. */
typedef struct zk_test_child {
    int status;        /* of waitpid */
    char output[4096]; /* what it wrote to stderr */
} zk_test_child;

/* Runs `fn` in a child, whose exit code is fn's result. Signals are as a fresh process has them. */
static inline zk_test_child zk_test_fork(zk_fn *fn, void *arg)
{
    zk_test_child child = {0};
    int ends[2];
    cr_assert(pipe(ends) == 0);
    fflush(NULL);
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        /* When the test's time is over, so is the child's, and nobody waits for its output. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (!ZK_TEST_ASAN) signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        _exit(fn(arg));
    }
    close(ends[1]);
    size_t size = 0;
    ssize_t n;
    char rest[512];
    while (size < sizeof child.output - 1 &&
           (n = read(ends[0], child.output + size, sizeof child.output - 1 - size)) > 0) {
        size += (size_t)n;
    }
    while (read(ends[0], rest, sizeof rest) > 0)
        continue;
    close(ends[0]);
    cr_assert(waitpid(pid, &child.status, 0) == pid);
    return child;
}

/* The child has ended by itself with code 0. */
#define cr_assert_child_ok(child)                                                                  \
    cr_assert(WIFEXITED((child).status) && WEXITSTATUS((child).status) == 0,                       \
              "exit code %d, signal %d, stderr: %s",                                               \
              WIFEXITED((child).status) ? WEXITSTATUS((child).status) : -1,                        \
              WIFSIGNALED((child).status) ? WTERMSIG((child).status) : 0, (child).output)

/* The child was ended by this signal, and what it said on stderr contains `text`. */
#define cr_assert_child_killed(child, signal_number, text)                                         \
    cr_assert(WIFSIGNALED((child).status) && WTERMSIG((child).status) == (signal_number) &&        \
                  strstr((child).output, (text)),                                                  \
              "wanted signal %d and \"%s\"; status 0x%x, stderr: %s", (signal_number), (text),     \
              (unsigned)(child).status, (child).output)

#endif
