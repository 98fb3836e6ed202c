/*
 * Arenas from the inside: starting in memory that is already there, and being used again.
 */
#ifndef ZOKIO_CORE_ARENA_H
#define ZOKIO_CORE_ARENA_H

#include <zokio/alloc.h>

/*
 * Lets an empty arena begin in the caller's buffer, which must live as long as the arena is used.
 * Alignment and size are free; a buffer too small to be of use is left alone.
 */
void zk__arena_start(zk_arena *arena, void *buffer, size_t size);

/*
 * Frees what the arena holds. With keep_first_block, its first block (the caller's buffer, or else
 * the first one of the usual size) stays for what comes next; without, this is zk_arena_done.
 */
void zk__arena_reset(zk_arena *arena, bool keep_first_block);

/* What a block begins with. */
struct zk__arena_block {
    struct zk__arena_block *next;
    uint32_t bytes; /* with this header; not for a block of a single object */
    uint32_t kind;  /* see arena.c */
};

/* zk__arena_reset(arena, true) for an arena that has been started, with the common case in the
 * caller: nothing was allocated, `start` being what `next` was then. */
static inline void zk__arena_renew(zk_arena *arena, const char *start)
{
    if (ZK_UNLIKELY(arena->next != start || arena->blocks->next)) zk__arena_reset(arena, true);
}

/* zk_arena_alloc, with the common case in the caller. */
static inline void *zk__arena_bump(zk_arena *arena, size_t size)
{
    char *ptr = arena->next;
    size_t room = (size_t)(arena->end - ptr) & ~(size_t)15; /* as zk_arena_alloc aligns */
    if (ZK_UNLIKELY(size - 1 >= room)) return zk_arena_alloc(arena, size);
    arena->next = ptr + ((size + 15) & ~(size_t)15);
    return ptr;
}

#endif
