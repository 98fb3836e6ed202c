/*
 * Stacks: their sizes, guards and reuse; and tasks that ask for one of their own.
 */
#include "tests/async.h"

#include <sys/mman.h>

#include "core/stack.h"
#include "core/worker.h"

static void never_entered(void) { abort(); }

static int touch(void *arg)
{
    *(volatile char *)arg = 1;
    return 0;
}

ZK_TEST(stack, all_of_it_can_be_used_and_what_lies_below_cannot)
{
    static const size_t sizes[] = {0, 1, 32768, 100000, 1 << 20, 64 << 20};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i / 2];
        zk__stack_pool pool;
        zk__stack_pool_init(&pool, i % 2 ? 0 : size, never_entered);
        zk__stack *stack = i % 2 ? zk__stack_new_special(&pool, size) : zk__stack_new(&pool);
        cr_assert_not_null(stack);
        cr_assert_geq(stack->size, size < 32768 ? 16384 : size - 16384 - 8192, "size %zu", size);
        cr_assert((char *)stack > stack->base && (char *)(stack + 1) <= stack->base + stack->size);
        memset(stack->base, 1, (size_t)((char *)stack->sp - stack->base));
        /* A sanitizer's report takes its time: then the first byte has to do. */
        int step = ZK_TEST_ASAN || ZK_TEST_TSAN ? ZK__STACK_GUARD_BYTES : ZK__STACK_GUARD_BYTES - 1;
        for (int below = 1; below <= ZK__STACK_GUARD_BYTES; below += step) {
            cr_assert(zk__stack_guards(stack, stack->base - below));
            zk_test_child child = zk_test_fork(touch, stack->base - below);
            if (!ZK_TEST_ASAN && !ZK_TEST_TSAN) cr_assert_child_killed(child, SIGSEGV, "");
            cr_assert(!WIFEXITED(child.status) || WEXITSTATUS(child.status), "size %zu", size);
        }
        cr_assert(!zk__stack_guards(stack, stack->base));
        cr_assert(!zk__stack_guards(stack, stack->base - ZK__STACK_GUARD_BYTES - 1));
        zk__stack_free(&pool, stack);
        zk__stack_pool_done(&pool);
    }
}

ZK_TEST(stack, a_freed_one_is_reused_without_its_memory)
{
    zk__stack_pool pool;
    zk__stack_pool_init(&pool, 0, never_entered);
    enum { COUNT = 200 };
    zk__stack *stacks[COUNT];
    char *lowest = NULL;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            stacks[i] = zk__stack_new(&pool);
            cr_assert_not_null(stacks[i]);
            cr_assert_eq(stacks[i]->base[0], 0, "stale");
            stacks[i]->base[0] = 1;
            if (!lowest || stacks[i]->start < lowest) lowest = stacks[i]->start;
        }
        for (int i = 0; i < COUNT; i++) {
            unsigned char is_resident = 1;
            char *base = stacks[i]->base;
            zk__stack_free(&pool, stacks[i]);
            cr_assert(!mincore(base, 4096, &is_resident) && !(is_resident & 1));
        }
    }
    cr_assert_leq(pool.free_count, (size_t)COUNT);
    zk__stack_pool_done(&pool);
}

/* ---- of a task ---- */

/* Frames that stay on the real stack, whatever compilers and ASan do with others. */
static __attribute__((noinline, no_sanitize("address"))) int recurse(int depth,
                                                                     volatile char *caller)
{
    volatile char frame[1024];
    frame[0] = caller[0];
    if (depth == 0) return zk_yield();
    int rc = recurse(depth - 1, frame);
    return rc < 0 ? rc : frame[0];
}

static int recurse_three_megabytes(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int rc = recurse(3 << 10, (char[]){1});
        if (rc < 0) return rc;
    }
    return 0;
}

ZK_ASYNC_TEST(stack, a_task_with_a_large_one_recurses_deeply_and_waits_there)
{
    for (int round = 0; round < 20; round++) {
        ZK_SCOPE(s) {
            zk_spawn_options options = {.stack_bytes = 4 << 20};
            for (int i = 0; i < 5; i++) {
                cr_assert_ok(zk_spawn_with(&s, &options, recurse_three_megabytes, NULL));
            }
            cr_assert_ok(zk_scope_wait(&s));
        }
    }
}

static int run_recursion(void *arg)
{
    ZK_SCOPE(s) {
        zk_spawn(&s, recurse_three_megabytes, arg);
        zk_scope_wait(&s);
    }
    return 0;
}

static int run_recursion_on_common_stacks(void *arg) { return zk_test_run(1, run_recursion, arg); }

ZK_TEST(stack, a_common_one_is_too_small_for_that)
{
    zk_test_child child = zk_test_fork(run_recursion_on_common_stacks, NULL);
    cr_assert(WIFSIGNALED(child.status) || WEXITSTATUS(child.status));
    cr_assert(
        strstr(child.output, ZK_TEST_ASAN ? "stack-overflow" : "task recurse_three_megabytes"),
        "%s", child.output);
}

static int run_on_large_stacks(void *arg)
{
    zk_config config = {.workers = 1, .stack_bytes = 4 << 20};
    return zk_run(&config, run_recursion, arg);
}

ZK_TEST(stack, the_common_size_can_be_configured)
{
    zk_test_child child = zk_test_fork(run_on_large_stacks, NULL);
    cr_assert_child_ok(child);
}

static int quick(void *arg)
{
    (void)arg;
    return 0;
}

static size_t mapped_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t pages = 0;
    for (int c; (c = fgetc(file)) >= '0' && c <= '9';)
        pages = pages * 10 + (size_t)(c - '0');
    fclose(file);
    return pages * 4096;
}

ZK_ASYNC_TEST(stack, one_of_its_own_goes_with_its_task)
{
    size_t before = mapped_bytes();
    for (int i = 0; i < 1000; i++) {
        ZK_SCOPE(s) {
            zk_spawn_options options = {.stack_bytes = 64 << 20};
            cr_assert_ok(
                zk_spawn_with(&s, &options, i % 2 ? quick : recurse_three_megabytes, NULL));
            cr_assert_ok(zk_scope_wait(&s));
        }
    }
    cr_assert_ok(zk_sleep(ZK_US(1)));
    if (!ZK_TEST_ASAN && !ZK_TEST_TSAN) cr_assert_lt(mapped_bytes(), before + (128 << 20));
}

ZK_ASYNC_TEST(stack, a_task_whose_own_one_cannot_be_had_fails)
{
    ZK_SCOPE(s) {
        struct rlimit old, tight;
        cr_assert(!getrlimit(RLIMIT_AS, &old));
        tight = old;
        tight.rlim_cur = mapped_bytes() + (64 << 20);
        if (ZK_TEST_ASAN || ZK_TEST_TSAN) break;
        zk_spawn_options options = {.stack_bytes = 1 << 30};
        cr_assert_ok(zk_spawn_with(&s, &options, quick, NULL));
        setrlimit(RLIMIT_AS, &tight);
        int rc = zk_scope_wait(&s);
        setrlimit(RLIMIT_AS, &old);
        cr_assert_rc(rc, -ENOMEM);
    }
}
