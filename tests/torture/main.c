/*
 * The main of a test program under torture: PROGRAM [--strict] [--one MANNER N] [WORD]..
 *
 * Runs each test (of those with a WORD in SUITE.NAME) again and again, and lets a different call
 * of the library fail each time, until every call that it makes has. An assertion of the test
 * may fail then, and it may wait in vain: the test has not been told. But nothing may crash, no
 * sanitizer may complain, no assertion of the library may fail, and a test that passes
 * nevertheless may not leave descriptors open. Of a call that is only interrupted, or moves
 * less, nothing at all may be seen. --strict is for tests that expect failures (scenarios.c):
 * for them every assertion counts, and the time limit too.
 *
 * ZOKIO_TORTURE_MAX: at most so many runs per test and manner, one for each path of functions
 * that leads to a call, if possible, the others spread over the calls; else all.
 * ZOKIO_TORTURE_LOG: a file to which each run adds what it wrote to stderr and how it ended.
 * --one: a single run, to look into what was found. The last line is for tests/tally.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/shim/shim.h"
#include "tests/torture/inject.h"

enum { CALLS_MAX = 1 << 18, SHOWN_MAX = 20 };

static const char *const manners[TORTURE_MANNERS] = {"once", "stretch", "interrupt", "short"};
static torture *shared;
static bool is_strict, is_quiet = true;

static int descriptors_open(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (folder && readdir(folder))
        count++;
    if (folder) closedir(folder);
    return count;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void at_end(void) { shared->descriptors = descriptors_open(); }

static void prepare(void)
{
    /* What fails on purpose is no news. A sanitizer's report goes to its log file. */
    const char *log = getenv("ZOKIO_TORTURE_LOG");
    int to = -1;
    if (is_quiet)
        to = open(log ? log : "/dev/null", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (to >= 0) {
        dup2(to, STDERR_FILENO);
        close(to);
    }
    atexit(at_end);
    torture_state = shared;
}

/* returns the status of waitpid. */
static int run(const shim_test *test, torture_manner manner, int first, double timeout_s)
{
    memset(shared, 0, first ? offsetof(torture, path_count) : sizeof *shared);
    shared->manner = manner;
    shared->first = first;
    shared->descriptors = -1;
    return shim_run(test, timeout_s, prepare);
}

/* Into the log of all runs, after what the run itself has written there. */
static void note(const shim_test *test, torture_manner manner, int first, int status)
{
    const char *failed = shared->failed, *name = getenv("ZOKIO_TORTURE_LOG");
    FILE *log = name ? fopen(name, "ae") : NULL;
    if (!log) return;
    fprintf(log, "= %s.%s --one %s %d (%s of %d): %s\n", test->suite, test->name, manners[manner],
            first, failed ? failed : "?", shared->calls, shim_outcome(test, status));
    fclose(log);
}

/* What is wrong with how it went; NULL: nothing. */
static const char *judge(const shim_test *test, int status, int descriptors)
{
    if (shim_has_passed(test, status)) {
        return shared->descriptors > descriptors ? "a descriptor was left open" : NULL;
    }
    bool has_asserted = WIFEXITED(status) && WEXITSTATUS(status) == SHIM_EXIT_FAILED;
    bool is_late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    /* That a call is interrupted, or moves less than it could, is not to be seen. */
    bool has_failed = shared->manner == TORTURE_ONCE || shared->manner == TORTURE_STRETCH;
    if (!is_strict && has_failed && (has_asserted || is_late)) return NULL;
    return shim_outcome(test, status);
}

typedef struct sums {
    int passed, failed, late, in_part;
    long calls;
} sums;

/* Fills `ret_calls` with the calls to fail, at most `max` of them (0: all): the first on each path
 * of functions, then others, evenly. returns how many. */
static int choose(int calls, int max, int *ret_calls)
{
    static char is_chosen[CALLS_MAX + 1];
    int count = 0, paths = shared->path_count;
    if (paths > TORTURE_PATHS_MAX) paths = TORTURE_PATHS_MAX;
    if (calls > CALLS_MAX) calls = CALLS_MAX;
    if (max <= 0 || max > calls) max = calls;
    memset(is_chosen, 0, sizeof is_chosen);
    for (int i = 0; i < max && i < paths; i++) {
        int call = shared->path_firsts[paths <= max ? i : (int)((long)i * paths / max)];
        if (call <= calls) is_chosen[call] = 1;
    }
    for (int i = 0; i < max - paths; i++)
        is_chosen[1 + (int)((long)i * calls / (max - paths))] = 1;
    for (int call = 1; call <= calls; call++)
        if (is_chosen[call]) ret_calls[count++] = call;
    return count;
}

static void torment(const shim_test *test, torture_manner manner, int max, sums *sums)
{
    static int chosen[CALLS_MAX];
    double began = seconds();
    int status = run(test, manner, 0, test->options.timeout);
    double timeout_s = test->options.timeout;
    if (!is_strict && (manner == TORTURE_ONCE || manner == TORTURE_STRETCH))
        timeout_s = 1 + 10 * (seconds() - began);
    note(test, manner, 0, status);
    if (!shim_has_passed(test, status)) {
        printf("failed: %s.%s as it is: %s\n", test->suite, test->name, shim_outcome(test, status));
        sums->failed++;
        return;
    }
    sums->passed++;
    int calls = shared->calls, descriptors = shared->descriptors, shown = 0;
    int count = choose(calls, max, chosen);
    if (count < calls) sums->in_part++;
    sums->calls += calls;
    for (int i = 0; i < count; i++) {
        int first = chosen[i];
        status = run(test, manner, first, timeout_s);
        note(test, manner, first, status);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) sums->late++;
        const char *what = judge(test, status, descriptors);
        if (!what) {
            sums->passed++;
            continue;
        }
        sums->failed++;
        if (shown++ >= SHOWN_MAX) continue;
        printf("failed: %s.%s: --one %s %d (%s): %s\n", test->suite, test->name, manners[manner],
               first, shared->failed ? shared->failed : "?", what);
        fflush(stdout);
    }
}

static int run_one(const shim_test *test, const char *manner, int first)
{
    int m = 0;
    while (m < TORTURE_MANNERS - 1 && strcmp(manners[m], manner))
        m++;
    is_quiet = false;
    int status = run(test, (torture_manner)m, first, 0);
    const char *failed = shared->failed;
    printf("%s.%s: %s; failed: %s, %d calls\n", test->suite, test->name, shim_outcome(test, status),
           failed ? failed : "nothing", shared->calls);
    return !shim_has_passed(test, status);
}

int main(int argc, char **argv)
{
    const char *max = getenv("ZOKIO_TORTURE_MAX"), *one = NULL;
    int first = 0;
    sums sums = {0};
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    char **words = argv + 1;
    if (*words && !strcmp(*words, "--strict")) {
        is_strict = true;
        words++;
    }
    if (*words && !strcmp(*words, "--one") && words[1] && words[2]) {
        one = words[1];
        first = atoi(words[2]);
        words += 3;
    }
    for (const shim_test *test = shim_first; test; test = test->next) {
        if (!shim_is_wanted(test, words, (int)(argv + argc - words))) continue;
        if (one) return run_one(test, one, first);
        for (int m = 0; m < TORTURE_MANNERS; m++)
            torment(test, (torture_manner)m, max ? atoi(max) : 0, &sums);
    }
    printf("%ld calls; only a part of them failed in %d tests and manners; out of time: %d\n",
           sums.calls, sums.in_part, sums.late);
    printf("tally: %d %d\n", sums.passed, sums.failed);
    return sums.failed > 0 || sums.passed == 0;
}
