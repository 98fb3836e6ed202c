/*
 * Stacks: see stack.h.
 *
 * Guards are installed with MADV_GUARD_INSTALL, which leaves the region one mapping: 100,000 stacks
 * fit although vm.max_map_count is 65,530. Kernels without it get mprotect guards, two mappings a
 * stack, and so about 32,000 stacks.
 *
 * Tops are coloured: shifted by a few cache lines from stack to stack. Otherwise the hot frames of
 * all stacks would lie at the same page offset and fight for the same eight ways of the first-level
 * cache.
 */
#include "core/stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/switch.h"

#if ZK__ASAN
#include <sanitizer/asan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { REGION_STACKS = 64, COLOURS = 8, COLOUR_BYTES = 192 };

typedef struct zk__stack_region {
    struct zk__stack_region *next;
    void *start;
    size_t bytes;
} region;

void zk__stack_pool_init(zk__stack_pool *pool, size_t stack_bytes, void (*entry)(void))
{
    if (!stack_bytes) stack_bytes = ZK__STACK_BYTES;
#if ZK__ASAN || ZK__TSAN
    stack_bytes *= 2; /* instrumented frames are larger */
#endif
    if (stack_bytes < ZK__STACK_BYTES_MIN) stack_bytes = ZK__STACK_BYTES_MIN;
    *pool = (zk__stack_pool){
        .stack_bytes = (stack_bytes + 4095) & ~(size_t)4095,
        .entry = entry,
    };
}

static void *map(size_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (start == MAP_FAILED) return NULL;
    /* A huge page would give each waiting task 2 MiB. Fails only where there are none. */
    (void)madvise(start, bytes, MADV_NOHUGEPAGE);
    return start;
}

/* Reserves the address space of more stacks: a whole region, or what can be had. */
static bool region_add(zk__stack_pool *pool)
{
    region *r = malloc(sizeof *r);
    if (!r) return false;
    for (size_t stacks = REGION_STACKS; stacks > 0; stacks /= 8) {
        r->bytes = stacks * pool->stack_bytes;
        r->start = map(r->bytes);
        if (r->start) break;
    }
    if (!r->start) {
        free(r);
        return false;
    }
    r->next = pool->regions;
    pool->regions = r;
    pool->region_next = r->start;
    pool->region_end = pool->region_next + r->bytes;
    return true;
}

static bool guard(zk__stack_pool *pool, char *start)
{
    if (!pool->is_guard_by_mprotect) {
        if (!madvise(start, ZK__STACK_GUARD_BYTES, MADV_GUARD_INSTALL)) return true;
        if (errno != EINVAL) return false;
        pool->is_guard_by_mprotect = true;
    }
    return !mprotect(start, ZK__STACK_GUARD_BYTES, PROT_NONE);
}

/* Puts the record of a stack at the top of start[0..bytes). */
static zk__stack *stack_make(zk__stack_pool *pool, char *start, size_t bytes, size_t shift)
{
    zk__stack *stack = (zk__stack *)(start + bytes - shift - sizeof *stack);
    *stack = (zk__stack){
        .base = start + ZK__STACK_GUARD_BYTES,
        .size = bytes - ZK__STACK_GUARD_BYTES - shift,
        .start = start,
        .bytes = bytes,
    };
    stack->valgrind_id = VALGRIND_STACK_REGISTER(stack->base, stack->base + stack->size);
#if ZK__TSAN
    stack->tsan_fiber = __tsan_create_fiber(0);
#endif
    stack->sp = zk__switch_prepare(stack, pool->entry);
    pool->made_count++;
    return stack;
}

zk__stack *zk__stack_new(zk__stack_pool *pool)
{
    size_t shift = pool->colour++ % COLOURS * COLOUR_BYTES;
    if (pool->free_count) {
        return stack_make(pool, pool->free_starts[--pool->free_count], pool->stack_bytes, shift);
    }
    if (pool->region_next == pool->region_end && !region_add(pool)) return NULL;
    char *start = pool->region_next;
    if (!guard(pool, start)) return NULL;
    pool->region_next += pool->stack_bytes;
    return stack_make(pool, start, pool->stack_bytes, shift);
}

zk__stack *zk__stack_new_special(zk__stack_pool *pool, size_t stack_bytes)
{
#if ZK__ASAN || ZK__TSAN
    stack_bytes *= 2;
#endif
    if (stack_bytes < ZK__STACK_BYTES_MIN) stack_bytes = ZK__STACK_BYTES_MIN;
    stack_bytes = (stack_bytes + ZK__STACK_GUARD_BYTES + 4095) & ~(size_t)4095;
    char *start = map(stack_bytes);
    if (!start) return NULL;
    if (!guard(pool, start)) {
        munmap(start, stack_bytes);
        return NULL;
    }
    zk__stack *stack = stack_make(pool, start, stack_bytes, 0);
    stack->is_special = true;
    stack->special_next = pool->specials;
    pool->specials = stack;
    return stack;
}

static void stack_forget(zk__stack *stack)
{
    VALGRIND_STACK_DEREGISTER(stack->valgrind_id);
#if ZK__ASAN
    /* The loop's frame was never left. */
    __asan_unpoison_memory_region(stack->base, stack->size);
#endif
#if ZK__TSAN
    __tsan_destroy_fiber(stack->tsan_fiber);
#endif
}

/* Room to remember one more free stack. */
static bool free_starts_reserve(zk__stack_pool *pool)
{
    if (pool->free_count < pool->free_capacity) return true;
    size_t capacity = pool->free_capacity ? 2 * pool->free_capacity : 64;
    char **starts = realloc(pool->free_starts, capacity * sizeof *starts);
    if (!starts) return false;
    pool->free_starts = starts;
    pool->free_capacity = capacity;
    return true;
}

void zk__stack_free(zk__stack_pool *pool, zk__stack *stack)
{
    char *start = stack->start;
    size_t bytes = stack->bytes;
    bool is_special = stack->is_special;
    stack_forget(stack);
    pool->made_count--;
    if (is_special) {
        zk__stack **link = &pool->specials;
        while (*link != stack)
            link = &(*link)->special_next;
        *link = stack->special_next;
        munmap(start, bytes);
        return;
    }
    /* DONTNEED and not FREE: resident memory falls at once, where its owner can see it. */
    (void)madvise(start + ZK__STACK_GUARD_BYTES, bytes - ZK__STACK_GUARD_BYTES, MADV_DONTNEED);
    /* Without memory to remember it, its address space waits for the end of the pool. */
    if (free_starts_reserve(pool)) pool->free_starts[pool->free_count++] = start;
}

void zk__stack_pool_done(zk__stack_pool *pool)
{
    while (pool->regions) {
        region *r = pool->regions;
        pool->regions = r->next;
        munmap(r->start, r->bytes);
        free(r);
    }
    free(pool->free_starts);
    pool->free_starts = NULL;
}

/*
 * The record in the stack at `start`; NULL if that has no memory. Above a record nothing is ever
 * written, and memory that was given back reads as zeros: so the topmost place that looks like the
 * record is it.
 */
static zk__stack *record_of(const zk__stack_pool *pool, char *start)
{
    for (size_t shift = 0; shift < COLOURS * COLOUR_BYTES; shift += COLOUR_BYTES) {
        zk__stack *stack = (zk__stack *)(void *)(start + pool->stack_bytes - shift - sizeof *stack);
        if (stack->start == start && stack->bytes == pool->stack_bytes) return stack;
    }
    return NULL;
}

void zk__stack_each(const zk__stack_pool *pool, void (*each)(zk__stack *stack, void *context),
                    void *context)
{
    for (const region *r = pool->regions; r; r = r->next) {
        char *end = r == pool->regions ? pool->region_next : (char *)r->start + r->bytes;
        for (char *start = r->start; start < end; start += pool->stack_bytes) {
            zk__stack *stack = record_of(pool, start);
            if (stack) each(stack, context);
        }
    }
    for (zk__stack *stack = pool->specials; stack; stack = stack->special_next)
        each(stack, context);
}

void zk__stack_of_thread(zk__stack *ret_stack)
{
    *ret_stack = (zk__stack){0};
#if ZK__ASAN
    pthread_attr_t attributes;
    void *base = NULL;
    if (!pthread_getattr_np(pthread_self(), &attributes)) {
        pthread_attr_getstack(&attributes, &base, &ret_stack->size);
        pthread_attr_destroy(&attributes);
    }
    ret_stack->base = base;
#endif
#if ZK__TSAN
    ret_stack->tsan_fiber = __tsan_get_current_fiber();
#endif
}
