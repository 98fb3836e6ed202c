/*
 * Tests over many seeds of the simulation: ZK_SIM_TEST.
 *
 * A failing seed is printed with the command that repeats it; with ZOKIO_SEED in the environment
 * only that seed runs.
 */
#ifndef ZOKIO_TESTS_SIM_H
#define ZOKIO_TESTS_SIM_H

#include "tests/async.h"

#include <inttypes.h>
#include <zokio/sim.h>

/* Runs `fn` with each seed from 1 on; ends the test at the first that fails. */
static inline void zk_test_seeds(const char *test, int count, const zk_sim_options *options,
                                 zk_fn *fn, void *arg)
{
    const char *given = getenv("ZOKIO_SEED");
    uint64_t first = given && *given ? strtoull(given, NULL, 0) : 1;
    if (given && *given) count = 1;
    for (uint64_t seed = first; seed < first + (uint64_t)count; seed++) {
        int rc = zk_sim_run(seed, options, fn, arg);
        if (rc >= 0) continue;
        cr_assert_fail("%s: %s\nrepeat it with: ZOKIO_SEED=%" PRIu64 " ./dev test %s", test,
                       zk_trail(), seed, test);
    }
}

/* A test whose body is an async function (it returns an error to fail), run with many seeds. */
#define ZK_SIM_TEST(suite, name, seeds, options)                                                   \
    static int zk__sim_##suite##_##name(void *arg);                                                \
    ZK_TEST(suite, name)                                                                           \
    {                                                                                              \
        zk_test_seeds(#suite, (seeds), (options), zk__sim_##suite##_##name, NULL);                 \
    }                                                                                              \
    static int zk__sim_##suite##_##name(void *arg)

/* In such a body: what must be true, or the seed has failed. */
#define ZK_SIM_CHECK(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) return zk_fail(-EBADMSG, "%s:%d: %s", __FILE__, __LINE__, #condition);   \
    } while (0)

#endif
