/*
 * The tests of a program one by one: see criterion/criterion.h.
 */
#include "tests/shim/shim.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

shim_test *shim_first;
static shim_test **last = &shim_first;
static bool has_failed;

void shim_add(shim_test *test)
{
    *last = test;
    last = &test->next;
}

void shim_fail(bool is_fatal, const char *what, const char *file, int line, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s:%d: failed: %s%s\n", file, line, what, text);
    fflush(NULL);
    if (is_fatal) _exit(SHIM_EXIT_FAILED);
    has_failed = true;
}

static void end_as_failed(void)
{
    if (has_failed) _exit(SHIM_EXIT_FAILED);
}

static _Noreturn void child(const shim_test *test, double timeout_s, void (*prepare)(void))
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    atexit(end_as_failed);
    if (timeout_s > 0) alarm((unsigned)timeout_s + 1);
    if (prepare) prepare();
    test->run();
    exit(0);
}

int shim_run(const shim_test *test, double timeout_s, void (*prepare)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) child(test, timeout_s, prepare);
    int status = -1;
    if (pid > 0) waitpid(pid, &status, 0);
    return status;
}

bool shim_has_passed(const shim_test *test, int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == test->options.exit_code;
}

bool shim_is_wanted(const shim_test *test, char **words, int word_count)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", test->suite, test->name);
    for (int i = 0; i < word_count; i++)
        if (strstr(name, words[i])) return true;
    return word_count == 0;
}

const char *shim_outcome(const shim_test *test, int status)
{
    static char text[64];
    if (shim_has_passed(test, status)) return "passed";
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "its time was over";
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) == SHIM_EXIT_FAILED) {
        return "an assertion failed";
    } else {
        snprintf(text, sizeof text, "exit code %d", WEXITSTATUS(status));
    }
    return text;
}
