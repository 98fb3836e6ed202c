/*
 * Leaks: what a program has allocated or opened and not given back when the runtime ends.
 *
 * While they are looked for, all memory comes one by one from the allocator below (malloc, or the
 * one that is plugged in) and is linked in a list, with the task that asked for it and how it came
 * to. What holds a descriptor says so by zk__leak_name. Else nothing of this costs anything.
 */
#ifndef ZOKIO_CORE_LEAK_H
#define ZOKIO_CORE_LEAK_H

#include <pthread.h>

#include <zokio/dump.h>

#include "core/backtrace.h"
#include "core/slab.h"

typedef struct zk__leak_block zk__leak_block;

typedef struct zk__leaks {
    pthread_mutex_t lock; /* of the list */
    zk__leak_block *blocks;
    zk_allocator below;
    bool is_below_ours;     /* nobody else would free what is left */
    zk_allocator allocator; /* to give to the heaps */
} zk__leaks;

/* What the run looks for leaks with; NULL: it does not. */
extern zk__leaks *zk__leaks_current;

/* below: NULL for malloc. is_below_ours: as the field says; always so with malloc. */
void zk__leaks_begin(zk__leaks *leaks, const zk_allocator *below, bool is_below_ours);

/*
 * Reports what is left, and frees it if nobody else would. Nobody may use the heaps any more.
 * on_leak: NULL writes to stderr. returns how many blocks there were.
 */
size_t zk__leaks_end(zk__leaks *leaks, void (*on_leak)(void *context, const zk_leak *leak),
                     void *context);

void zk__leak_name_slow(void *ptr, const char *what, int fd);

/* Says what a block is, and that it holds a descriptor. `what` is not copied. */
static inline void zk__leak_name(void *ptr, const char *what, int fd)
{
    if (ZK_UNLIKELY(zk__leaks_current != NULL)) zk__leak_name_slow(ptr, what, fd);
}

#endif
