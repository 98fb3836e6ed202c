/*
 * What tests/torture uses of the shim: the tests, and one run of one of them.
 */
#ifndef ZOKIO_TESTS_SHIM_H
#define ZOKIO_TESTS_SHIM_H

#include <criterion/criterion.h>

/* Of a process in which an assertion failed; 1 is what ASan and UBSan end with. */
enum { SHIM_EXIT_FAILED = 43 };

/* All of the program, in the order of the source. */
extern shim_test *shim_first;

/* Runs the test in a child, after `prepare` there, and kills it after so many seconds (0: never).
 * returns the status of waitpid. */
int shim_run(const shim_test *test, double timeout_s, void (*prepare)(void));

/* Whether this is how a passed test ends. */
bool shim_has_passed(const shim_test *test, int status);

/* Whether one of the words is a part of SUITE.NAME, or there is none. */
bool shim_is_wanted(const shim_test *test, char **words, int word_count);

/* "passed", "an assertion failed", "signal 11".. */
const char *shim_outcome(const shim_test *test, int status);

#endif
