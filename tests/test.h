/*
 * What every test includes: Criterion, and ZK_TEST.
 *
 * Criterion runs each test in a process of its own and believes any process that ends with the
 * expected exit code. With the usual 0 it counts as passed what has called exit(0) halfway, has
 * been skipped, or made the leak checker or UBSan complain on the way out. So a ZK_TEST ends with a
 * code that only its own last line gives.
 */
#ifndef ZOKIO_TESTS_TEST_H
#define ZOKIO_TESTS_TEST_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include <zokio/error.h>

#define ZK_TEST_TIMEOUT_S 10
#define ZK__TEST_PASSED 42

#define ZK_TEST(suite, name)                                                                       \
    static void zk__test_##suite##_##name(void);                                                   \
    Test(suite, name, .timeout = ZK_TEST_TIMEOUT_S, .exit_code = ZK__TEST_PASSED)                  \
    {                                                                                              \
        zk__test_##suite##_##name();                                                               \
        exit(ZK__TEST_PASSED);                                                                     \
    }                                                                                              \
    static void zk__test_##suite##_##name(void)

/* The call has succeeded (0 or a result above it); says by which name it failed otherwise. */
#define cr_assert_ok(call)                                                                         \
    do {                                                                                           \
        long long zk__rc = (long long)(call);                                                      \
        cr_assert(zk__rc >= 0, "%s: %s (%s)", #call, zk_errname((int)zk__rc),                      \
                  zk_strerror((int)zk__rc));                                                       \
    } while (0)

#endif
