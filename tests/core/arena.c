/*
 * Arenas: what they hand out, which blocks they take for it, and what stays for reuse. A made-up
 * worker gives zk_alloc a heap whose allocator writes down each block's size.
 */
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/worker.h"

enum { BLOCKS_MAX = 256 };

static struct {
    size_t sizes[BLOCKS_MAX];
    int count, live, fail_from; /* fail_from: -1 for never */
} blocks;

static void *block_alloc(void *context, size_t size)
{
    (void)context;
    if (blocks.count == blocks.fail_from || blocks.count == BLOCKS_MAX) return NULL;
    blocks.sizes[blocks.count++] = size - 16; /* the heap's header */
    blocks.live++;
    return malloc(size);
}

static void block_free(void *context, void *ptr, size_t size)
{
    (void)context;
    (void)size;
    blocks.live--;
    free(ptr);
}

static void worker_start(void)
{
    static zk__worker worker;
    blocks.fail_from = -1;
    worker.heap = zk__heap_new(&(zk_allocator){block_alloc, block_free, NULL});
    cr_assert_not_null(worker.heap);
    zk__lane.worker = &worker;
}

static void worker_stop(void)
{
    cr_assert_eq(blocks.live, 0);
    zk__heap_free_all(zk__lane.worker->heap);
    zk__lane.worker = NULL;
}

ZK_TEST(arena, objects_are_aligned_and_apart)
{
    worker_start();
    zk_arena arena = {0};
    unsigned char *ptrs[500];
    for (size_t i = 0; i < 500; i++) {
        ptrs[i] = zk_arena_alloc(&arena, i);
        cr_assert(ptrs[i] && (uintptr_t)ptrs[i] % 16 == 0, "size %zu", i);
        memset(ptrs[i], (int)i, i);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t k = 0; k < i; k++)
            cr_assert_eq(ptrs[i][k], (unsigned char)i, "size %zu, byte %zu", i, k);
    }
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, objects_without_a_size_have_addresses_of_their_own)
{
    worker_start();
    zk_arena arena = {0};
    void *first = zk_arena_alloc(&arena, 0), *second = zk_arena_alloc(&arena, 0);
    cr_assert(first && second && first != second);
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, blocks_double_up_to_what_a_chunk_holds)
{
    worker_start();
    zk_arena arena = {0};
    for (int i = 0; i < 20000; i++)
        cr_assert_not_null(zk_arena_alloc(&arena, 16));
    static const size_t expected[] = {4096, 8192, 16384, 32768};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        cr_assert_eq(blocks.sizes[i], expected[i], "block %zu: %zu", i, blocks.sizes[i]);
    cr_assert_gt(blocks.count, 5);
    for (int i = 4; i < blocks.count; i++)
        cr_assert(blocks.sizes[i] > 60000 && blocks.sizes[i] <= ZK__CHUNK_OBJECT_MAX_BYTES,
                  "block %d: %zu", i, blocks.sizes[i]);
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, a_large_object_leaves_the_current_block_in_use)
{
    worker_start();
    zk_arena arena = {0};
    char *before = zk_arena_alloc(&arena, 16);
    char *large = zk_arena_alloc(&arena, 1 << 20);
    cr_assert(before && large);
    memset(large, 1, 1 << 20);
    cr_assert_eq(zk_arena_alloc(&arena, 16), before + 16);
    cr_assert_eq(blocks.count, 2);
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, a_copy_ends_with_a_nul)
{
    worker_start();
    zk_arena arena = {0};
    static const struct {
        const char *data;
        size_t size;
    } rows[] = {{"abc", 3}, {"abc", 2}, {"", 0}, {NULL, 0}, {"0123456789abcdef", 16}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *after_free = zk_arena_alloc(&arena, 64);
        memset(after_free, 'x', 64);
        char *copy = zk_arena_copy(&arena, rows[i].data, rows[i].size);
        cr_assert_not_null(copy, "row %zu", i);
        cr_assert_eq(strlen(copy), rows[i].size, "row %zu", i);
        cr_assert(rows[i].size == 0 || memcmp(copy, rows[i].data, rows[i].size) == 0, "row %zu", i);
    }
    zk_arena_done(&arena);
    worker_stop();
}

/* Texts of each length around the end of the block: those that just fit, and those that do not. */
ZK_TEST(arena, printf_is_whole_wherever_the_block_ends)
{
    worker_start();
    for (int length = 0; length < 200; length++) {
        zk_arena arena = {0};
        cr_assert_not_null(zk_arena_alloc(&arena, 2000));
        cr_assert_not_null(zk_arena_alloc(&arena, 2000)); /* less than 100 bytes are left */
        char *text = zk_arena_printf(&arena, "%*d", length, 7);
        cr_assert_not_null(text);
        size_t expected = length > 1 ? (size_t)length : 1;
        cr_assert(strlen(text) == expected && text[expected - 1] == '7', "length %d", length);
        char *next = zk_arena_printf(&arena, "%s", "next");
        cr_assert(next && strcmp(next, "next") == 0);
        cr_assert(strlen(text) == expected && text[expected - 1] == '7', "length %d", length);
        zk_arena_done(&arena);
        blocks.count = 0;
    }
    worker_stop();
}

ZK_TEST(arena, printf_works_in_an_empty_arena_and_for_large_texts)
{
    worker_start();
    static const int widths[] = {1, 100, 4095, 5000, 100000};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        zk_arena arena = {0};
        char *text = zk_arena_printf(&arena, "%*d", widths[i], 7);
        cr_assert(text && strlen(text) == (size_t)widths[i], "width %d", widths[i]);
        zk_arena_done(&arena);
    }
    worker_stop();
}

ZK_TEST(arena, the_first_block_is_used_again)
{
    worker_start();
    zk_arena arena = {0};
    char *first = zk_arena_alloc(&arena, 16);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 1000; i++)
            cr_assert_not_null(zk_arena_alloc(&arena, 100));
        cr_assert_not_null(zk_arena_alloc(&arena, 100000));
        zk__arena_reset(&arena, true);
        cr_assert_eq(blocks.live, 1);
        blocks.count = 0;
        cr_assert_eq(zk_arena_alloc(&arena, 16), first, "round %d", round);
        cr_assert_eq(blocks.count, 0, "round %d", round);
    }
    zk_arena_done(&arena);
    worker_stop();
}

/* Else one large request would make a recycled arena hold on to its memory for good. */
ZK_TEST(arena, a_large_first_object_is_not_kept)
{
    worker_start();
    zk_arena arena = {0};
    cr_assert_not_null(zk_arena_alloc(&arena, 1 << 20));
    cr_assert_not_null(zk_arena_alloc(&arena, 16));
    zk__arena_reset(&arena, true);
    cr_assert_eq(blocks.live, 1);
    cr_assert_eq(blocks.sizes[1], 4096);
    cr_assert_not_null(zk_arena_alloc(&arena, 16));
    cr_assert_eq(blocks.count, 2);
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, a_buffer_of_the_caller_comes_first_and_again)
{
    worker_start();
    char buffer[1025];
    zk_arena arena = {0};
    zk__arena_start(&arena, buffer + 1, sizeof buffer - 1);
    for (int round = 0; round < 3; round++) {
        char *ptr = zk_arena_alloc(&arena, 900);
        cr_assert(ptr > buffer && ptr + 900 <= buffer + sizeof buffer, "round %d", round);
        cr_assert_eq((uintptr_t)ptr % 16, 0);
        cr_assert_eq(blocks.live, 0);
        cr_assert_not_null(zk_arena_alloc(&arena, 900));
        cr_assert_not_null(zk_arena_alloc(&arena, 9000));
        cr_assert_eq(blocks.live, 2);
        zk__arena_reset(&arena, true);
        cr_assert_eq(blocks.live, 0);
    }
    zk_arena_done(&arena);
    cr_assert_not_null(zk_arena_alloc(&arena, 900));
    cr_assert_eq(blocks.live, 1);
    zk_arena_done(&arena);
    worker_stop();
}

ZK_TEST(arena, a_buffer_of_any_size_is_never_left)
{
    worker_start();
    for (size_t size = 0; size < 100; size++) {
        char *buffer = malloc(size + 1); /* so that ASan sees the end */
        zk_arena arena = {0};
        zk__arena_start(&arena, buffer, size);
        char *ptr = zk_arena_alloc(&arena, 1);
        cr_assert_not_null(ptr);
        memset(ptr, 1, 16);
        cr_assert(blocks.live == 1 || (ptr >= buffer && ptr + 16 <= buffer + size), "size %zu",
                  size);
        zk_arena_done(&arena);
        free(buffer);
        blocks.count = 0;
    }
    worker_stop();
}

ZK_TEST(arena, sizes_that_no_machine_has_are_refused)
{
    worker_start();
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 64, PTRDIFF_MAX};
    zk_arena arena = {0};
    cr_assert_not_null(zk_arena_alloc(&arena, 16));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cr_assert_null(zk_arena_alloc(&arena, sizes[i]), "row %zu", i);
        cr_assert_null(zk_arena_copy(&arena, "", sizes[i]), "row %zu", i);
    }
    zk_arena_done(&arena);
    worker_stop();
}

/* One step of what a request does with its arena. Returns false when there was no memory. */
static bool arena_step(zk_arena *arena, int step)
{
    switch (step % 4) {
    case 0: return zk_arena_alloc(arena, 1000) != NULL;
    case 1: return zk_arena_copy(arena, "text", 4) != NULL;
    case 2: return zk_arena_alloc(arena, 10000) != NULL;
    default: return zk_arena_printf(arena, "%3000d", step) != NULL;
    }
}

ZK_TEST(arena, a_failing_allocator_leaves_the_arena_intact)
{
    for (int failing = 0; failing < 10; failing++) {
        worker_start();
        blocks.count = 0;
        blocks.fail_from = failing;
        zk_arena arena = {0};
        int failures = 0;
        for (int step = 0; step < 60; step++)
            failures += !arena_step(&arena, step);
        cr_assert_gt(failures, 0, "failing from %d", failing);
        blocks.fail_from = -1;
        for (int step = 0; step < 60; step++)
            cr_assert(arena_step(&arena, step), "failing from %d: step %d", failing, step);
        zk_arena_done(&arena);
        worker_stop();
    }
}

ZK_TEST(arena, zeroed_memory_is_zero_and_outside_of_a_runtime_there_is_none)
{
    worker_start();
    static const char zeros[300];
    char *ptr = zk_alloc_zeroed(sizeof zeros);
    cr_assert(ptr && memcmp(ptr, zeros, sizeof zeros) == 0);
    zk__worker *worker = zk__lane.worker;
    zk__lane.worker = NULL;
    cr_assert(!zk_alloc(1) && !zk_alloc_zeroed(1));
    zk_free(ptr); /* as a thread that is not a worker */
    zk_free(NULL);
    zk__lane.worker = worker;
    worker_stop();
}
