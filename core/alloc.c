/*
 * zk_alloc, zk_alloc_zeroed, zk_free: the calling worker's heap (see slab.h).
 */
#include <string.h>

#include "core/worker.h"

static zk__heap *heap_current(void)
{
    zk__worker *w = zk__lane.worker;
    return w ? w->heap : NULL;
}

static __attribute__((noinline)) void *alloc_slow(size_t size)
{
    zk__heap *heap = heap_current();
    return heap ? zk__heap_alloc_slow(heap, size) : NULL;
}

void *zk_alloc(size_t size)
{
    zk__heap *slabs = zk__lane.slabs;
    return ZK_LIKELY(slabs != NULL) ? zk__heap_alloc(slabs, size) : alloc_slow(size);
}

void *zk_alloc_zeroed(size_t size)
{
    void *ptr = zk_alloc(size);
    return ptr ? memset(ptr, 0, size) : NULL;
}

void zk_free(void *ptr)
{
    zk__heap *slabs = zk__lane.slabs;
    if (ZK_LIKELY(slabs && ptr)) {
        zk__slabs_free(slabs, ptr);
    } else if (ptr) {
        zk__heap_free_any(heap_current(), ptr);
    }
}
