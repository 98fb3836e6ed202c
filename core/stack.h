/*
 * Stacks: reserved lazily, guarded, pooled.
 *
 * Address space is reserved a region at a time and cut into stacks; the kernel gives a page only
 * when it is touched. Each stack ends in a guard that no access survives. The record of a stack
 * lies at its own top, so a waiting task with shallow frames touches one page in all. A freed stack
 * gives all its pages back; only its address is kept.
 */
#ifndef ZOKIO_CORE_STACK_H
#define ZOKIO_CORE_STACK_H

#include <zokio/base.h>

typedef struct zk__stack zk__stack;
struct zk__stack {
    void *sp;        /* where its loop was left; a task's is in the task */
    zk__stack *next; /* in a pool */
    /* called once, when a task suspends on this stack; see zk__on_suspend */
    void (*on_leave)(void *context);
    /* What the last task that suspended here waits for; NULL if it has only yielded. Valid unless
     * the stack is the one in use, a loop's or a dead one. For dumps. */
    const struct zk__wait *wait;
    void *on_leave_context;
    char *base;  /* the lowest usable byte, above the guard */
    size_t size; /* usable bytes, this record included */
    char *start; /* of the mapping, guard included */
    size_t bytes;
    uint32_t mark;           /* a dump's own */
    zk__stack *special_next; /* among those of special size */
    struct zk_task *task;    /* memory for a spawned one that runs on this stack; see core/task.c */
    struct zk_task *first;   /* on a stack of its own: the task that it was made for */
    bool is_special;         /* not of the common size: unmapped after its task */
    unsigned valgrind_id;
    void *asan_fake;
    void *tsan_fiber;
};

enum {
    ZK__STACK_BYTES = 256 * 1024,
    ZK__STACK_BYTES_MIN = 32 * 1024,
    ZK__STACK_GUARD_BYTES = 16 * 1024
};

typedef struct zk__stack_pool {
    size_t stack_bytes;  /* of each, guard included */
    void (*entry)(void); /* what a fresh stack starts with; never returns */
    char **free_starts;  /* address space of free stacks, without memory */
    size_t free_count, free_capacity;
    struct zk__stack_region *regions;
    zk__stack *specials;
    size_t made_count; /* stacks that have memory */
    char *region_next, *region_end;
    unsigned colour;
    bool is_guard_by_mprotect;
} zk__stack_pool;

/* stack_bytes: 0 for the default. */
void zk__stack_pool_init(zk__stack_pool *pool, size_t stack_bytes, void (*entry)(void));
/* Unmaps everything that the pool ever gave. */
void zk__stack_pool_done(zk__stack_pool *pool);

/* A stack that will run pool->entry; NULL if there is no memory. */
zk__stack *zk__stack_new(zk__stack_pool *pool);
/* One of its own size; NULL if there is no memory. */
zk__stack *zk__stack_new_special(zk__stack_pool *pool, size_t stack_bytes);
/* Takes back a stack that nothing runs on; its memory returns to the system, its address space to
 * the pool. */
void zk__stack_free(zk__stack_pool *pool, zk__stack *stack);

/* Calls `each` for every stack that has memory, whoever uses it. */
void zk__stack_each(const zk__stack_pool *pool, void (*each)(zk__stack *stack, void *context),
                    void *context);

/* Describes the calling thread's own stack, to switch away from and back to. */
void zk__stack_of_thread(zk__stack *ret_stack);

/* Whether an address lies in the guard of this stack. */
static inline bool zk__stack_guards(const zk__stack *stack, const void *address)
{
    return (const char *)address < stack->base &&
           (const char *)address >= stack->base - ZK__STACK_GUARD_BYTES;
}

#endif
