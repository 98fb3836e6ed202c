/*
 * The allocator's slow side: chunks and where they come from, magazines being filled and emptied.
 *
 *   system --1 MiB--> region --64 KiB--> chunk --objects--> magazine --> the caller
 *
 * Every pointer handed out lies in the aligned 64 KiB that its chunk's header is in: objects as
 * they are inside of the chunk, large ones as they start right behind the header. So zk__chunk_of
 * finds the header, whatever the pointer's kind; `magazine` is NULL for large ones.
 *
 *   region   16 chunks. `clean` has a bit for each chunk that is neither in use nor cached; those
 *            have no memory behind them. The record lies in the header of the first chunk, whose
 *            first page is therefore never given back before the whole region is.
 *   chunk    objects are handed out in the order of their addresses first (`carved` of them so
 *            far), so that a tail that was never needed is never touched; a bitmap behind the
 *            header marks those that came back. Taking and giving back touch the header only. A
 *            chunk whose objects are all back returns to the region at once, by way of a small
 *            cache of chunks that keep their memory.
 *
 * Only the owner touches any of this, with the exception of heap.remote.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/slab.h"
#include "core/worker.h"

enum {
    CHUNK_BYTES = ZK__CHUNK_BYTES,
    REGION_CHUNKS = 16,
    REGION_BYTES = REGION_CHUNKS * CHUNK_BYTES,
    PAGE_BYTES = 4096,
    OBJECT_ALIGN_BYTES = 64, /* of a chunk's first object; sizes of whole cache lines profit */
    MAGAZINE_BYTES_MAX = 32 << 10, /* an idle magazine holds back at most about this much */
    COLLECT_OBJECTS_MAX = 256,     /* sorted in at a time, so that no single alloc takes long */
};

struct region {
    zk__link links; /* heap.open_regions or heap.full_regions */
    uint32_t clean;
};

struct zk__chunk {
    zk__chunk_front front;
    zk__chunk *region_first; /* the region's first chunk; NULL for a mapping of its own */
    size_t mapped_bytes;     /* of a mapping of its own */
    uint32_t object_bytes;   /* 0 while the chunk is cached */
    uint32_t object_inverse; /* above 2^32 / object_bytes by less than 1 */
    uint16_t class_index, first_offset, capacity, carved, free_count;
    struct region region;    /* in a region's first chunk */
    uint64_t free_objects[]; /* bitmap; in slab chunks only */
};

_Static_assert(sizeof(zk__chunk) <= ZK__CHUNK_HEADER_BYTES, "the header reaches into the object");

/* In front of what passes through. */
typedef struct pass_header {
    zk__heap *owner;
    size_t bytes; /* with this header */
} pass_header;

_Static_assert(sizeof(pass_header) == ZK__PASS_HEADER_BYTES, "zk__leak_name would not find it");

/* How many heaps exist: built-in ones count up from 0, those that pass through count down. */
static atomic_int heap_balance;

static void link_push(zk__link **list, zk__link *node)
{
    node->next = *list;
    node->link = list;
    if (node->next) node->next->link = &node->next;
    *list = node;
}

static void link_remove(zk__link *node)
{
    *node->link = node->next;
    if (node->next) node->next->link = node->link;
    node->link = NULL;
}

/* Mappings */

/* Maps memory aligned to CHUNK_BYTES. `bytes` is in whole pages. */
static void *map_aligned(size_t bytes)
{
    const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *start = mmap(NULL, bytes, protection, flags, -1, 0);
    if (start == MAP_FAILED) return NULL;
    if (((uintptr_t)start & (CHUNK_BYTES - 1)) == 0) /* usual once there is a region to lie below */
        return start;
    munmap(start, bytes);

    size_t spare = CHUNK_BYTES - PAGE_BYTES;
    start = mmap(NULL, bytes + spare, protection, flags, -1, 0);
    if (start == MAP_FAILED) return NULL;
    size_t before = -(uintptr_t)start & (CHUNK_BYTES - 1);
    if (before > 0) munmap(start, before);
    if (before < spare) munmap(start + before + bytes, spare - before);
    return start + before;
}

/* Regions and chunks */

static zk__chunk *chunk_of(const void *ptr) { return (zk__chunk *)zk__chunk_of(ptr); }

/* Where the chunk begins, a few cache lines before its header. */
static char *chunk_base(const zk__chunk *chunk)
{
    return (char *)((uintptr_t)chunk & ~(uintptr_t)(CHUNK_BYTES - 1));
}

static zk__chunk *region_chunk(const zk__chunk *first, int index)
{
    return chunk_of(chunk_base(first) + (size_t)index * CHUNK_BYTES);
}

static bool region_open(zk__heap *heap)
{
    void *base = map_aligned(REGION_BYTES);
    if (!base) return false;
    zk__chunk *first = chunk_of(base);
    first->region.clean = (1u << REGION_CHUNKS) - 1;
    link_push(&heap->open_regions, &first->region.links);
    return true;
}

/* A chunk of which only owner and region_first are set; NULL without memory. */
static zk__chunk *chunk_acquire(zk__heap *heap)
{
    if (heap->cached_count > 0) return heap->cached[--heap->cached_count];
    if (!heap->open_regions && !region_open(heap)) return NULL;

    struct region *region = (struct region *)heap->open_regions;
    zk__chunk *first = chunk_of(region);
    zk__chunk *chunk = region_chunk(first, __builtin_ctz(region->clean));
    region->clean &= region->clean - 1;
    if (region->clean == 0) {
        link_remove(&region->links);
        link_push(&heap->full_regions, &region->links);
    }
    chunk->front.owner = heap;
    chunk->region_first = first;
    heap->chunk_bytes += CHUNK_BYTES;
    return chunk;
}

/* Gives a chunk's memory back to the system, and its region if that is then unused. */
static void chunk_clean(zk__heap *heap, zk__chunk *chunk)
{
    zk__chunk *first = chunk->region_first;
    struct region *region = &first->region;
    size_t index = (size_t)(chunk_base(chunk) - chunk_base(first)) / CHUNK_BYTES;
    uint32_t clean = region->clean | 1u << index;
    link_remove(&region->links);
    heap->chunk_bytes -= CHUNK_BYTES;
    if (clean == (1u << REGION_CHUNKS) - 1) {
        munmap(chunk_base(first), REGION_BYTES);
        return;
    }
    region->clean = clean;
    link_push(&heap->open_regions, &region->links);
    size_t kept = chunk == first ? PAGE_BYTES : 0;
    madvise(chunk_base(chunk) + kept, CHUNK_BYTES - kept, MADV_DONTNEED);
}

static void chunk_release(zk__heap *heap, zk__chunk *chunk)
{
    if (heap->cached_count == ZK__CACHED_CHUNKS) {
        chunk_clean(heap, chunk);
        return;
    }
    chunk->object_bytes = 0;
    heap->cached[heap->cached_count++] = chunk;
}

/* Objects of a chunk */

static uint32_t class_bytes(unsigned class_index)
{
    if (class_index < 16) return (class_index + 1) * 16;
    unsigned above = class_index - 16;
    return (5 + above % 4) << (6 + above / 4);
}

static bool chunk_has_objects(const zk__chunk *chunk)
{
    return chunk->free_count > 0 || chunk->carved < chunk->capacity;
}

/* Where the first object begins behind the header: behind the bitmap. */
static uint32_t first_offset(uint32_t object_bytes)
{
    uint32_t words = (CHUNK_BYTES / object_bytes + 63) / 64;
    uint32_t header = (uint32_t)(offsetof(zk__chunk, free_objects) + words * sizeof(uint64_t));
    return (header + OBJECT_ALIGN_BYTES - 1) & ~(uint32_t)(OBJECT_ALIGN_BYTES - 1);
}

/* A new chunk of a class, in the list of those with objects; NULL without memory. */
static zk__chunk *slab_new(zk__heap *heap, unsigned class_index)
{
    zk__chunk *chunk = chunk_acquire(heap);
    if (!chunk) return NULL;
    uint32_t bytes = class_bytes(class_index), first = first_offset(bytes);
    uint32_t room = CHUNK_BYTES - (uint32_t)((char *)chunk - chunk_base(chunk)) - first;
    chunk->front.magazine = &heap->magazines[class_index];
    chunk->object_bytes = bytes;
    chunk->object_inverse = (uint32_t)((1ull << 32) / bytes + 1);
    chunk->class_index = (uint16_t)class_index;
    chunk->first_offset = (uint16_t)first;
    chunk->capacity = (uint16_t)(room / bytes);
    chunk->carved = 0;
    chunk->free_count = 0;
    memset(chunk->free_objects, 0, (chunk->capacity + 63u) / 64 * sizeof(uint64_t));
    link_push(&heap->partial[class_index], &chunk->front.links);
    return chunk;
}

/* Takes up to `wanted` objects, lowest addresses of the returned ones first. returns how many. */
static uint32_t slab_take(zk__chunk *chunk, void **ret_objects, uint32_t wanted)
{
    char *first = (char *)chunk + chunk->first_offset;
    uint32_t taken = 0;
    for (uint32_t word = 0; chunk->free_count > 0 && taken < wanted; word++) {
        uint64_t bits = chunk->free_objects[word];
        for (; bits && taken < wanted; bits &= bits - 1) {
            size_t index = word * 64 + (unsigned)__builtin_ctzll(bits);
            ret_objects[taken++] = first + index * chunk->object_bytes;
            chunk->free_count--;
        }
        chunk->free_objects[word] = bits;
    }
    while (taken < wanted && chunk->carved < chunk->capacity)
        ret_objects[taken++] = first + (size_t)chunk->carved++ * chunk->object_bytes;
    if (!chunk_has_objects(chunk)) link_remove(&chunk->front.links);
    return taken;
}

/*
 * Gives those of the `number` objects back that lie in the first one's chunk, up to the first that
 * does not. Counts in registers: one by one, each would wait for the store of the one before.
 * returns how many.
 */
static uint32_t slab_put(zk__heap *heap, void *const *objects, uint32_t number)
{
    zk__chunk *chunk = chunk_of(objects[0]);
    uintptr_t first = (uintptr_t)chunk + chunk->first_offset;
    uint64_t inverse = chunk->object_inverse, *word = chunk->free_objects, bits = *word;
    uint32_t put = 0;
    do {
        size_t offset = (uintptr_t)objects[put] - first, index = (offset * inverse) >> 32;
        uint64_t bit = 1ull << (index % 64);
        if (word != &chunk->free_objects[index / 64]) {
            *word = bits;
            word = &chunk->free_objects[index / 64];
            bits = *word;
        }
        ZK_ASSERT(index < chunk->carved && index * chunk->object_bytes == offset);
        ZK_ASSERT(!(bits & bit)); /* else freed twice */
        bits |= bit;
    } while (++put < number && chunk_of(objects[put]) == chunk);
    *word = bits;

    if (!chunk_has_objects(chunk))
        link_push(&heap->partial[chunk->class_index], &chunk->front.links);
    chunk->free_count = (uint16_t)(chunk->free_count + put);
    if (chunk->free_count == chunk->carved) {
        link_remove(&chunk->front.links);
        chunk_release(heap, chunk);
    }
    return put;
}

/* Magazines */

static void magazine_set_limits(zk__magazine *magazine, uint32_t object_bytes)
{
    uint32_t limit = MAGAZINE_BYTES_MAX / object_bytes;
    if (limit > ZK__MAGAZINE_OBJECTS) limit = ZK__MAGAZINE_OBJECTS;
    magazine->limit = limit;
    magazine->returned_limit = limit / 4; /* 1 or more: the largest class has a limit of 4 */
}

/* Fills half of an empty magazine from chunks. returns false if there is no memory. */
static bool magazine_fill(zk__heap *heap, zk__magazine *magazine, unsigned class_index)
{
    if (magazine->limit == 0) magazine_set_limits(magazine, class_bytes(class_index));
    uint32_t wanted = magazine->limit / 2, count = 0;
    while (count < wanted) {
        zk__chunk *chunk = (zk__chunk *)heap->partial[class_index];
        if (!chunk) chunk = slab_new(heap, class_index);
        if (!chunk) break;
        count += slab_take(chunk, magazine->objects + count, wanted - count);
    }
    /* The last one is handed out first: let that be the lowest, to touch memory in order. */
    for (uint32_t low = 0; low + 1 < count - low; low++) {
        void *object = magazine->objects[low];
        magazine->objects[low] = magazine->objects[count - 1 - low];
        magazine->objects[count - 1 - low] = object;
    }
    magazine->count = count;
    return count > 0;
}

/* Gives the `number` objects that have lain in the magazine longest back to their chunks. */
static void magazine_flush(zk__heap *heap, zk__magazine *magazine, uint32_t number)
{
    for (uint32_t i = 0; i < number;)
        i += slab_put(heap, magazine->objects + i, number - i);
    magazine->count -= number;
    memmove(magazine->objects, magazine->objects + number, magazine->count * sizeof(void *));
}

/* Moves what was returned to the magazine, after making room for it there. */
static void magazine_take_returned(zk__heap *heap, zk__magazine *magazine)
{
    if (magazine->count + magazine->returned_count > magazine->limit)
        magazine_flush(heap, magazine, magazine->limit / 2);
    memcpy(magazine->objects + magazine->count, magazine->returned,
           magazine->returned_count * sizeof(void *));
    magazine->count += magazine->returned_count;
    magazine->returned_count = 0;
}

static inline void magazine_return(zk__heap *heap, zk__magazine *magazine, void *ptr)
{
    if (ZK_UNLIKELY(magazine->returned_count == magazine->returned_limit))
        magazine_take_returned(heap, magazine);
    magazine->returned[magazine->returned_count++] = ptr;
}

/* Large objects */

static void *large_alloc(zk__heap *heap, size_t size)
{
    zk__chunk *chunk;
    if (size <= ZK__CHUNK_OBJECT_MAX_BYTES) {
        chunk = chunk_acquire(heap);
        if (!chunk) return NULL;
    } else {
        if (size > PTRDIFF_MAX - CHUNK_BYTES) return NULL;
        size_t around = CHUNK_BYTES - ZK__CHUNK_OBJECT_MAX_BYTES + PAGE_BYTES - 1;
        size_t bytes = (size + around) & ~(size_t)(PAGE_BYTES - 1);
        void *base = map_aligned(bytes);
        if (!base) return NULL;
        chunk = chunk_of(base);
        chunk->front.owner = heap;
        chunk->region_first = NULL;
        chunk->mapped_bytes = bytes;
        heap->chunk_bytes += bytes;
        link_push(&heap->large, &chunk->front.links);
    }
    chunk->front.magazine = NULL;
    chunk->object_bytes = 1; /* any but 0 */
    return (char *)chunk + ZK__CHUNK_HEADER_BYTES;
}

static void large_free(zk__heap *heap, zk__chunk *chunk)
{
    if (chunk->region_first) {
        chunk_release(heap, chunk);
        return;
    }
    link_remove(&chunk->front.links);
    heap->chunk_bytes -= chunk->mapped_bytes;
    munmap(chunk_base(chunk), chunk->mapped_bytes);
}

/* Objects freed by other threads */

static void remote_push(zk__chunk *chunk, void *ptr)
{
    /* The owner may take its time: the memory, at least, is free at once. */
    if (!chunk->front.magazine && !chunk->region_first)
        madvise(chunk_base(chunk) + PAGE_BYTES, chunk->mapped_bytes - PAGE_BYTES, MADV_DONTNEED);

    _Atomic(void *) *remote = &chunk->front.owner->remote;
    void *next = atomic_load_explicit(remote, memory_order_relaxed);
    do {
        *(void **)ptr = next;
    } while (!atomic_compare_exchange_weak_explicit(remote, &next, ptr, memory_order_release,
                                                    memory_order_relaxed));
}

/* Sorts in at most `number` of the objects that other threads have freed. */
static void remote_collect(zk__heap *heap, size_t number)
{
    for (; number > 0; number--) {
        if (!heap->collected) {
            if (!atomic_load_explicit(&heap->remote, memory_order_relaxed)) return;
            heap->collected = atomic_exchange_explicit(&heap->remote, NULL, memory_order_acquire);
        }
        void *ptr = heap->collected;
        zk__chunk *chunk = chunk_of(ptr);
        heap->collected = *(void **)ptr;
        if (chunk->front.magazine)
            magazine_return(heap, chunk->front.magazine, ptr);
        else
            large_free(heap, chunk);
    }
}

/* Objects of a plugged-in allocator, or of malloc */

static void *malloc_alloc(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void malloc_free(void *context, void *ptr, size_t size)
{
    (void)context;
    (void)size;
    free(ptr);
}

static void *pass_alloc(zk__heap *heap, size_t size)
{
    if (size > PTRDIFF_MAX - sizeof(pass_header)) return NULL;
    size_t bytes = size + sizeof(pass_header);
    pass_header *header = heap->allocator.alloc(heap->allocator.context, bytes);
    if (!header) return NULL;
    *header = (pass_header){.owner = heap, .bytes = bytes};
    atomic_fetch_add_explicit(&heap->pass_through_live, 1, memory_order_relaxed);
    return header + 1;
}

static void pass_free(void *ptr)
{
    pass_header *header = (pass_header *)ptr - 1;
    zk__heap *owner = header->owner;
    atomic_fetch_sub_explicit(&owner->pass_through_live, 1, memory_order_relaxed);
    owner->allocator.free(owner->allocator.context, header, header->bytes);
}

/* Heaps */

/* Counts a heap in; returns false while there are heaps of the other kind. */
static bool heap_count_in(int step)
{
    int balance = atomic_load(&heap_balance);
    do {
        if (balance * step < 0) return false;
    } while (!atomic_compare_exchange_weak(&heap_balance, &balance, balance + step));
    return true;
}

zk__heap *zk__heap_new(const zk_allocator *allocator)
{
    static const zk_allocator from_malloc = {.alloc = malloc_alloc, .free = malloc_free};
    if (!allocator && ZK__HEAP_PASSES_THROUGH) allocator = &from_malloc;
    int step = allocator ? -1 : 1;
    if (!heap_count_in(step)) return NULL;
    zk__heap *heap =
        mmap(NULL, sizeof *heap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED) {
        atomic_fetch_sub(&heap_balance, step);
        return NULL;
    }
    if (allocator) {
        heap->is_pass_through = true;
        heap->allocator = *allocator;
    }
    return heap;
}

static void regions_unmap(zk__link *list)
{
    while (list) {
        char *base = chunk_base(chunk_of(list));
        list = list->next;
        munmap(base, REGION_BYTES);
    }
}

void zk__heap_free_all(zk__heap *heap)
{
    if (!heap) return;
    regions_unmap(heap->open_regions);
    regions_unmap(heap->full_regions);
    while (heap->large)
        large_free(heap, (zk__chunk *)heap->large);
    atomic_fetch_sub(&heap_balance, heap->is_pass_through ? -1 : 1);
    munmap(heap, sizeof *heap);
}

void *zk__heap_alloc_slow(zk__heap *heap, size_t size)
{
    if (size == 0) size = 1;
    if (heap->is_pass_through) return pass_alloc(heap, size);
    remote_collect(heap, COLLECT_OBJECTS_MAX);
    if (size > ZK__CLASS_MAX_BYTES) return large_alloc(heap, size);

    unsigned class_index = zk__class_of(size);
    zk__magazine *magazine = &heap->magazines[class_index];
    if (magazine->returned_count > 0) magazine_take_returned(heap, magazine);
    if (magazine->count == 0 && !magazine_fill(heap, magazine, class_index)) return NULL;
    return magazine->objects[--magazine->count];
}

void zk__heap_free_slow(zk__heap *heap, void *ptr, size_t size)
{
    if (heap->is_pass_through || size - 1 >= ZK__CLASS_MAX_BYTES) {
        zk__heap_free_any(heap, ptr);
        return;
    }
    zk__magazine *magazine = &heap->magazines[zk__class_of(size)];
    magazine_flush(heap, magazine, magazine->limit / 2);
    magazine->objects[magazine->count++] = ptr;
}

void zk__heap_free_any(zk__heap *heap, void *ptr)
{
    if (!ptr) return;
    if (heap ? heap->is_pass_through
             : atomic_load_explicit(&heap_balance, memory_order_relaxed) < 0) {
        pass_free(ptr);
        return;
    }
    zk__chunk *chunk = chunk_of(ptr);
    if (chunk->front.owner != heap)
        remote_push(chunk, ptr);
    else if (!chunk->front.magazine)
        large_free(heap, chunk);
    else
        magazine_return(heap, chunk->front.magazine, ptr);
}

void zk__heap_trim(zk__heap *heap)
{
    remote_collect(heap, SIZE_MAX);
    for (unsigned i = 0; i < ZK__CLASSES; i++) {
        zk__magazine *magazine = &heap->magazines[i];
        magazine_flush(heap, magazine, magazine->count);
        magazine_take_returned(heap, magazine);
        magazine_flush(heap, magazine, magazine->count);
    }
    while (heap->cached_count > 0)
        chunk_clean(heap, heap->cached[--heap->cached_count]);
}

static size_t regions_live(const zk__link *list)
{
    size_t live = 0;
    for (; list; list = list->next) {
        zk__chunk *first = chunk_of(list);
        for (uint32_t used = ~first->region.clean & ((1u << REGION_CHUNKS) - 1); used;
             used &= used - 1) {
            const zk__chunk *chunk = region_chunk(first, __builtin_ctz(used));
            if (chunk->object_bytes > 0)
                live += chunk->front.magazine ? (size_t)(chunk->carved - chunk->free_count) : 1;
        }
    }
    return live;
}

zk__heap_stats zk__heap_stats_read(const zk__heap *heap)
{
    size_t live = atomic_load_explicit(&heap->pass_through_live, memory_order_relaxed);
    live += regions_live(heap->open_regions) + regions_live(heap->full_regions);
    for (const zk__link *large = heap->large; large; large = large->next)
        live++;
    for (unsigned i = 0; i < ZK__CLASSES; i++)
        live -= heap->magazines[i].count + heap->magazines[i].returned_count;
    const void *lists[] = {heap->collected,
                           atomic_load_explicit(&heap->remote, memory_order_acquire)};
    for (size_t i = 0; i < 2; i++) {
        for (const void *ptr = lists[i]; ptr; ptr = *(void *const *)ptr)
            live--;
    }
    return (zk__heap_stats){.live_objects = live, .chunk_bytes = heap->chunk_bytes};
}
