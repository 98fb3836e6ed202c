/*
 * Memory: a slab allocator per worker, arenas for what dies together, and a way to plug in your
 * own.
 */
#ifndef ZOKIO_ALLOC_H
#define ZOKIO_ALLOC_H

#include <zokio/base.h>

ZK_BEGIN

/**
 * An allocator to use instead of the built-in one (zk_config.allocator). Both functions are called
 * from every thread of the runtime. `alloc` returns 16-byte aligned memory, or NULL when there is
 * none.
 */
typedef struct zk_allocator {
    void *(*alloc)(void *context, size_t size);
    void (*free)(void *context, void *ptr, size_t size);
    void *context;
} zk_allocator;

/**
 * Allocates `size` bytes, 16-byte aligned, not cleared. Never suspends.
 *
 * Small sizes come from the worker's slabs without a lock. May be freed on any thread, as long as
 * the runtime that it came from is running.
 *
 * @return the memory; NULL when there is none, or outside zk_run
 */
ZK_API void *zk_alloc(size_t size) ZK_NODISCARD;

/** As zk_alloc, and cleared. */
ZK_API void *zk_alloc_zeroed(size_t size) ZK_NODISCARD;

/** Frees what zk_alloc returned; NULL is allowed. Never suspends. */
ZK_API void zk_free(void *ptr);

/** A bump allocator: everything in it is freed at once. Zero-initialised is empty and ready. */
typedef struct zk_arena {
    char *next, *end;
    struct zk__arena_block *blocks;
} zk_arena;

/**
 * Allocates from the arena, 16-byte aligned, not cleared. Never suspends.
 *
 * @return memory that lives until zk_arena_done; NULL when there is none
 */
ZK_API void *zk_arena_alloc(zk_arena *arena, size_t size) ZK_NODISCARD;

/**
 * Copies `size` bytes into the arena and puts a NUL behind them. @return the copy, or NULL. Never
 * suspends.
 */
ZK_API char *zk_arena_copy(zk_arena *arena, const void *data, size_t size) ZK_NODISCARD;

/** Formats into the arena as printf does. @return the text, or NULL. Never suspends. */
ZK_API char *zk_arena_printf(zk_arena *arena, const char *format, ...) ZK_PRINTF(2, 3) ZK_NODISCARD;

/** Frees all that the arena holds; it is empty and ready again. Never suspends. */
ZK_API void zk_arena_done(zk_arena *arena);

ZK_END
#endif
