/*
 * zk_alloc, zk_alloc_zeroed, zk_free: the calling worker's heap (see slab.h).
 */
#include <string.h>

#include "core/worker.h"

static inline zk__heap *heap_current(void)
{
    zk__worker *w = zk__lane.worker;
    return ZK_LIKELY(w != NULL) ? w->heap : NULL;
}

void *zk_alloc(size_t size)
{
    zk__heap *heap = heap_current();
    return ZK_LIKELY(heap != NULL) ? zk__heap_alloc(heap, size) : NULL;
}

void *zk_alloc_zeroed(size_t size)
{
    void *ptr = zk_alloc(size);
    return ptr ? memset(ptr, 0, size) : NULL;
}

void zk_free(void *ptr)
{
    if (ptr) zk__heap_free(heap_current(), ptr);
}
