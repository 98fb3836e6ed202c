/*
 * The main of a test program without Criterion: PROGRAM [--list | --here] [WORD]..
 *
 * Runs the tests whose SUITE.NAME contains one of the words. --here: the first of them in this very
 * process, without a time limit, for a debugger. ZOKIO_TEST_PATIENCE multiplies the time limits,
 * for slow machines and emulators. ZOKIO_TEST_SKIP: words, separated by white space, of tests to
 * leave out. The last line, "tally: PASSED FAILED", is for tests/tally.
 */
#include "tests/shim/shim.h"

enum { EXIT_ALL_SKIPPED = 77 }; /* as Meson knows it */

static bool is_skipped(const shim_test *test)
{
    char text[1024], *words[64], *rest = text;
    int count = 0;
    const char *skipped = getenv("ZOKIO_TEST_SKIP");
    if (!skipped) return false;
    snprintf(text, sizeof text, "%s", skipped);
    while (count < 64 && (words[count] = strsep(&rest, " \n")))
        if (*words[count]) count++;
    return count > 0 && shim_is_wanted(test, words, count);
}

static int run_here(const shim_test *test)
{
    test->run();
    return test->options.exit_code;
}

int main(int argc, char **argv)
{
    const char *patience = getenv("ZOKIO_TEST_PATIENCE");
    double factor = patience ? atof(patience) : 1;
    bool is_list = argc > 1 && !strcmp(argv[1], "--list");
    bool is_here = argc > 1 && !strcmp(argv[1], "--here");
    int first = 1 + (is_list || is_here), passed = 0, failed = 0, skipped = 0;
    for (const shim_test *test = shim_first; test; test = test->next) {
        if (!shim_is_wanted(test, argv + first, argc - first)) continue;
        if (is_list) {
            printf("%s.%s\n", test->suite, test->name);
            continue;
        }
        if (is_here) return run_here(test);
        if (is_skipped(test)) {
            printf("left out: %s.%s\n", test->suite, test->name);
            skipped++;
            continue;
        }
        int status = shim_run(test, test->options.timeout * factor, NULL);
        if (shim_has_passed(test, status)) {
            passed++;
        } else {
            failed++;
            printf("failed: %s.%s: %s\n", test->suite, test->name, shim_outcome(test, status));
        }
    }
    if (is_list) return 0;
    printf("tally: %d %d\n", passed, failed);
    if (failed == 0 && passed == 0 && skipped > 0) return EXIT_ALL_SKIPPED;
    return failed > 0 || passed == 0;
}
