/*
 * The allocator: per worker, slabs by size class, with a list for what other threads free.
 *
 * A chunk is 64 KiB, aligned to its size, and holds objects of one class. Its header names the
 * class and the owning heap, so that zk__heap_free finds them from the pointer alone. Sizes above
 * the largest class get a chunk, or a mapping, of their own with the same kind of header.
 * Headers lie a cache line further into each of 32 chunks in turn: all at the start of their chunks
 * they would share one set of each cache, and 17 chunks would already push each other out of it.
 *
 * Each class has a magazine, an array of free objects used as a stack: the common alloc is
 * `objects[--count]`, the common free of a known size `objects[count++] = p`. No lock, no list to
 * walk. What is freed by its pointer alone goes to a small second stack, `returned`, which moves to
 * the first as a whole. With one stack, the alloc that follows a free would have to wait until the
 * chunk header has told the free where that stack is: 12 ns a pair instead of 4.
 *
 * An object freed by another thread is pushed on its owner's remote list (an atomic stack through
 * the objects' first words); the owner takes it over when a magazine runs dry.
 *
 * With a plugged-in zk_allocator, and in builds with AddressSanitizer (so that it sees every
 * object), magazines stay empty and each call goes through to the allocator or to malloc, with a
 * small header in front. A pointer does not say of which kind it is, so heaps that exist at the
 * same time are all of the same kind.
 */
#ifndef ZOKIO_CORE_SLAB_H
#define ZOKIO_CORE_SLAB_H

#include <stdatomic.h>

#include <zokio/alloc.h>

/* Whether all heaps of this build do. */
#if defined(__SANITIZE_ADDRESS__)
#define ZK__HEAP_PASSES_THROUGH true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZK__HEAP_PASSES_THROUGH true
#endif
#endif
#ifndef ZK__HEAP_PASSES_THROUGH
#define ZK__HEAP_PASSES_THROUGH false
#endif

/* What lies in front of each object then; it leaves them aligned. */
enum { ZK__PASS_HEADER_BYTES = 16 };

/* Size classes: 16 bytes apart up to 256, then four per doubling up to 8 KiB. */
enum { ZK__CLASS_MAX_BYTES = 8192, ZK__CLASSES = 36 };
enum { ZK__MAGAZINE_OBJECTS = 128, ZK__RETURNED_OBJECTS = 32, ZK__CACHED_CHUNKS = 8 };
enum { ZK__CHUNK_BYTES = 65536, ZK__CHUNK_COLOURS = 32, ZK__CHUNK_HEADER_BYTES = 128 };
/* The largest size that costs no system call while the heap has a chunk at hand. */
enum {
    ZK__CHUNK_OBJECT_MAX_BYTES =
        ZK__CHUNK_BYTES - (ZK__CHUNK_COLOURS - 1) * 64 - ZK__CHUNK_HEADER_BYTES
};

typedef struct zk__heap zk__heap;
typedef struct zk__chunk zk__chunk;

typedef struct zk__magazine {
    uint32_t count;
    uint32_t limit; /* 0 until the class has a chunk, and where calls pass through */
    uint32_t returned_count, returned_limit;
    void *objects[ZK__MAGAZINE_OBJECTS];
    void *returned[ZK__RETURNED_OBJECTS];
} zk__magazine;

/* A node of an intrusive list; `link` is what points to it, NULL outside of a list. */
typedef struct zk__link zk__link;
struct zk__link {
    zk__link *next, **link;
};

/* What a chunk's header starts with. */
typedef struct zk__chunk_front {
    zk__link links; /* heap.partial or heap.large */
    zk__heap *owner;
    zk__magazine *magazine; /* the owner's for this class; NULL if there is one large object */
} zk__chunk_front;

/* Mapped from the system, zeroed: the magazines of unused classes occupy no memory. */
struct zk__heap {
    zk__magazine magazines[ZK__CLASSES];
    bool is_pass_through;
    zk_allocator allocator;               /* if calls pass through */
    zk__link *partial[ZK__CLASSES];       /* chunks with objects to give */
    zk__link *large;                      /* mappings of their own */
    zk__link *open_regions;               /* with chunks that are not in use */
    zk__link *full_regions;               /* without */
    zk__chunk *cached[ZK__CACHED_CHUNKS]; /* not in use, but with memory still behind them */
    uint32_t cached_count;
    size_t chunk_bytes;
    void *collected; /* the part of the remote list that was taken over, not yet sorted in */
    _Alignas(64) _Atomic(void *) remote;
    atomic_size_t pass_through_live;
};

/* The class of a size in 1..ZK__CLASS_MAX_BYTES; folds to a constant for a constant size. */
static inline unsigned zk__class_of(size_t size)
{
    size_t last = size - 1;
    if (last < 256) return (unsigned)(last >> 4);
    unsigned top_bit = 63 - (unsigned)__builtin_clzll(last);
    return 16 + (top_bit - 8) * 4 + ((last >> (top_bit - 2)) & 3);
}

/*
 * Makes a heap, to be used only by the thread that then owns it. allocator: NULL for the built-in
 * one. returns NULL if there is no memory, or a heap of the other kind exists.
 */
zk__heap *zk__heap_new(const zk_allocator *allocator);
/*
 * Frees the heap and all that is in it. No other thread may use it or its objects any more. What
 * passed through is left alone, so that its allocator, or LeakSanitizer, sees what leaks.
 */
void zk__heap_free_all(zk__heap *heap);

void *zk__heap_alloc_slow(zk__heap *heap, size_t size);
void zk__heap_free_slow(zk__heap *heap, void *ptr, size_t size);

/* Allocates from the calling worker's heap; size 0 counts as 1. returns NULL without memory. */
static inline void *zk__heap_alloc(zk__heap *heap, size_t size)
{
    if (ZK_UNLIKELY(size - 1 >= ZK__CLASS_MAX_BYTES)) return zk__heap_alloc_slow(heap, size);
    zk__magazine *magazine = &heap->magazines[zk__class_of(size)];
    uint32_t count = magazine->count;
    if (ZK_UNLIKELY(count == 0)) return zk__heap_alloc_slow(heap, size);
    magazine->count = --count;
    return magazine->objects[count];
}

/*
 * Frees an object that was allocated from this very heap with this very size (for hot paths, which
 * know).
 */
static inline void zk__heap_free_sized(zk__heap *heap, void *ptr, size_t size)
{
    if (ZK_UNLIKELY(size - 1 >= ZK__CLASS_MAX_BYTES)) {
        zk__heap_free_slow(heap, ptr, size);
        return;
    }
    zk__magazine *magazine = &heap->magazines[zk__class_of(size)];
    uint32_t count = magazine->count;
    if (ZK_UNLIKELY(count == magazine->limit)) {
        zk__heap_free_slow(heap, ptr, size);
        return;
    }
    magazine->objects[count] = ptr;
    magazine->count = count + 1;
}

/* The header for any address in the 64 KiB that the header is in. */
static inline zk__chunk_front *zk__chunk_of(const void *ptr)
{
    uintptr_t base = (uintptr_t)ptr & ~(uintptr_t)(ZK__CHUNK_BYTES - 1);
    uintptr_t colour = base / ZK__CHUNK_BYTES % ZK__CHUNK_COLOURS;
    return (zk__chunk_front *)(base + colour * 64);
}

/* As zk__heap_free, for the cases that it leaves. */
void zk__heap_free_any(zk__heap *heap, void *ptr);

/* Frees any object from any thread; heap is the calling worker's, or NULL on other threads. */
static inline void zk__heap_free(zk__heap *heap, void *ptr)
{
    if (ZK_UNLIKELY(!heap || !ptr || heap->is_pass_through)) {
        zk__heap_free_any(heap, ptr);
        return;
    }
    zk__chunk_front *chunk = zk__chunk_of(ptr);
    zk__magazine *magazine = chunk->magazine;
    if (ZK_UNLIKELY(chunk->owner != heap || !magazine ||
                    magazine->returned_count == magazine->returned_limit)) {
        zk__heap_free_any(heap, ptr);
        return;
    }
    magazine->returned[magazine->returned_count++] = ptr;
}

/*
 * Gives all memory that holds no live object back to the system; for a worker that is about to be
 * idle. Costs a few microseconds, and the first allocations afterwards are slow.
 */
void zk__heap_trim(zk__heap *heap);

/*
 * Objects not freed, and bytes in chunks and mappings held from the system, for tests and for leak
 * reports. Called by the owner; walks all chunks.
 */
typedef struct zk__heap_stats {
    size_t live_objects, chunk_bytes;
} zk__heap_stats;
zk__heap_stats zk__heap_stats_read(const zk__heap *heap);

/* The calling worker's heap; NULL on other threads. */
zk__heap *zk__heap_current(void);

#endif
