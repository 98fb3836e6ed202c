/*
 * nghttp2's memory: from the worker's slabs, with the size in front, as nghttp2 does not say it. A
 * session stays on the worker that has made it, so what it frees is that worker's, and of a size
 * that is known: half of what zk_free costs. Each request has five blocks.
 *
 * Only what nghttp2 has to make larger may come from the system as well. Those are its queues, and
 * when one cannot grow, nghttp2 1.52 keeps an item in its stream that it has freed, and frees it
 * again with the session.
 */
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "core/worker.h"

extern nghttp2_mem zk__h2_memory;

typedef struct block_head {
    _Alignas(16) size_t size; /* with IS_FOREIGN: it is the system's */
} block_head;

#define IS_FOREIGN ((size_t)1 << 63)

static void *mem_alloc(size_t size, void *context)
{
    (void)context;
    if (size > PTRDIFF_MAX - sizeof(block_head)) return NULL;
    block_head *head = zk__heap_alloc(zk__lane.worker->heap, sizeof *head + size);
    if (!head) return NULL;
    head->size = size;
    return head + 1;
}

static void mem_free(void *ptr, void *context)
{
    (void)context;
    if (!ptr) return;
    block_head *head = (block_head *)ptr - 1;
    if (ZK_UNLIKELY(head->size & IS_FOREIGN)) {
        free(head);
        return;
    }
    zk__heap_free_sized(zk__lane.worker->heap, head, sizeof *head + head->size);
}

static void *mem_calloc(size_t count, size_t size, void *context)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *ptr = mem_alloc(bytes, context);
    return ptr ? memset(ptr, 0, bytes) : NULL;
}

static void *foreign_alloc(size_t size)
{
    if (size > PTRDIFF_MAX - sizeof(block_head)) return NULL;
    block_head *head = malloc(sizeof *head + size);
    if (!head) return NULL;
    head->size = size | IS_FOREIGN;
    return head + 1;
}

static void *mem_realloc(void *ptr, size_t size, void *context)
{
    void *grown = mem_alloc(size, context);
    if (ZK_UNLIKELY(!grown)) grown = foreign_alloc(size);
    if (!grown || !ptr) return grown;
    size_t old = ((block_head *)ptr - 1)->size & ~IS_FOREIGN;
    memcpy(grown, ptr, old < size ? old : size);
    mem_free(ptr, context);
    return grown;
}

nghttp2_mem zk__h2_memory = {NULL, mem_alloc, mem_free, mem_calloc, mem_realloc};
