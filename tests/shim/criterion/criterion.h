/*
 * As much of Criterion as the tests use, for where Criterion does not run: under TSan, Valgrind
 * and qemu, and for tests/torture. The same test files compile against it (-Dtests_main=shim puts
 * this folder in front of the include path); shim.c has the main.
 *
 * Each test runs in a process of its own, with its time limit. A failed assertion ends that process
 * at once, from whichever thread and stack it is on: nothing is unwound.
 */
#ifndef ZOKIO_TESTS_SHIM_CRITERION_H
#define ZOKIO_TESTS_SHIM_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shim_options {
    double timeout; /* seconds; 0: none */
    int exit_code;  /* that a passed test ends with */
} shim_options;

typedef struct shim_test {
    const char *suite, *name;
    void (*run)(void);
    shim_options options;
    struct shim_test *next;
} shim_test;

/* Called before main, once per test. */
void shim_add(shim_test *test);

/* Says what is wrong. is_fatal: and ends the process as failed; if not, exit() will. */
__attribute__((format(printf, 5, 6))) void
shim_fail(bool is_fatal, const char *what, const char *file, int line, const char *format, ...);

#define Test(test_suite, test_name, ...)                                                           \
    static void shim_run_##test_suite##_##test_name(void);                                         \
    __attribute__((constructor)) static void shim_add_##test_suite##_##test_name(void)             \
    {                                                                                              \
        static shim_test test = {                                                                  \
            .suite = #test_suite,                                                                  \
            .name = #test_name,                                                                    \
            .run = shim_run_##test_suite##_##test_name,                                            \
            .options = {__VA_ARGS__},                                                              \
        };                                                                                         \
        shim_add(&test);                                                                           \
    }                                                                                              \
    static void shim_run_##test_suite##_##test_name(void)

#define SHIM_CHECK(is_fatal, is_true, what, ...)                                                   \
    do {                                                                                           \
        if (!(is_true)) shim_fail(is_fatal, what, __FILE__, __LINE__, " " __VA_ARGS__);            \
    } while (0)

#define cr_assert_fail(...) SHIM_CHECK(true, false, "", __VA_ARGS__)

#define cr_assert(is_true, ...) SHIM_CHECK(true, is_true, #is_true, __VA_ARGS__)
#define cr_assert_not(is_true, ...) SHIM_CHECK(true, !(is_true), "not " #is_true, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) SHIM_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) SHIM_CHECK(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) SHIM_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) SHIM_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) SHIM_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) SHIM_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) SHIM_CHECK(true, (a) == NULL, #a " is null", __VA_ARGS__)
#define cr_assert_not_null(a, ...) SHIM_CHECK(true, (a) != NULL, #a " is not null", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) SHIM_CHECK(true, !strcmp(a, b), #a " == " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) SHIM_CHECK(true, strcmp(a, b), #a " != " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, bytes, ...)                                                         \
    SHIM_CHECK(true, !memcmp(a, b, bytes), #a " == " #b, __VA_ARGS__)

#define cr_expect(is_true, ...) SHIM_CHECK(false, is_true, #is_true, __VA_ARGS__)
#define cr_expect_not(is_true, ...) SHIM_CHECK(false, !(is_true), "not " #is_true, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) SHIM_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) SHIM_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) SHIM_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) SHIM_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) SHIM_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) SHIM_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(a, ...) SHIM_CHECK(false, (a) == NULL, #a " is null", __VA_ARGS__)
#define cr_expect_not_null(a, ...) SHIM_CHECK(false, (a) != NULL, #a " is not null", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) SHIM_CHECK(false, !strcmp(a, b), #a " == " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, bytes, ...)                                                         \
    SHIM_CHECK(false, !memcmp(a, b, bytes), #a " == " #b, __VA_ARGS__)

#endif
