/*
 * Arenas: bump allocation from blocks that double from 4 KiB to (just under) 64 KiB.
 *
 * A request that would take up more than half of the next block gets a block of its own, behind the
 * first in the list, so that what is left of the current block stays in use. The list therefore
 * starts with the block that `next` and `end` point into, if there is one; the very first such
 * block is the one that is kept for reuse.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/slab.h"

enum {
    ALIGN_BYTES = 16,
    BLOCK_MIN_BYTES = 4096,
    BLOCK_MAX_BYTES = ZK__CHUNK_OBJECT_MAX_BYTES & ~(ALIGN_BYTES - 1), /* else each costs a mmap */
};

enum block_kind { BLOCK_OWN, BLOCK_SHARED, BLOCK_FIRST, BLOCK_OF_CALLER };

_Static_assert(sizeof(struct zk__arena_block) % ALIGN_BYTES == 0, "contents are not aligned");

static void block_use(zk_arena *arena, struct zk__arena_block *block)
{
    arena->next = (char *)(block + 1);
    arena->end = (char *)block + block->bytes;
}

/* Memory in a block of its own. `size` is aligned. */
static void *own_block(zk_arena *arena, size_t size)
{
    struct zk__arena_block *block = zk_alloc(sizeof *block + size);
    if (!block) return NULL;
    *block = (struct zk__arena_block){.kind = BLOCK_OWN};
    struct zk__arena_block *first = arena->blocks;
    if (first && first->kind != BLOCK_OWN) {
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->blocks = block;
    }
    return block + 1;
}

/* Memory from a new block. `size` is aligned and does not fit what is left of the current one. */
static void *next_block(zk_arena *arena, size_t size)
{
    struct zk__arena_block *current = arena->blocks;
    if (current && current->kind == BLOCK_OWN) current = NULL;
    size_t bytes = BLOCK_MIN_BYTES;
    if (current && current->bytes >= BLOCK_MIN_BYTES)
        bytes = current->bytes < BLOCK_MAX_BYTES / 2 ? current->bytes * 2 : BLOCK_MAX_BYTES;
    if (size > bytes / 2) return own_block(arena, size);

    struct zk__arena_block *block = zk_alloc(bytes);
    if (!block) return NULL;
    *block = (struct zk__arena_block){
        .next = arena->blocks,
        .bytes = (uint32_t)bytes,
        .kind = current ? BLOCK_SHARED : BLOCK_FIRST,
    };
    arena->blocks = block;
    block_use(arena, block);
    void *ptr = arena->next;
    arena->next += size;
    return ptr;
}

void *zk_arena_alloc(zk_arena *arena, size_t size)
{
    if (ZK_UNLIKELY(size > PTRDIFF_MAX - BLOCK_MAX_BYTES)) return NULL;
    size = size ? (size + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1) : ALIGN_BYTES;
    if (ZK_UNLIKELY(size > (size_t)(arena->end - arena->next))) return next_block(arena, size);
    void *ptr = arena->next;
    arena->next += size;
    return ptr;
}

char *zk_arena_copy(zk_arena *arena, const void *data, size_t size)
{
    char *copy = size < SIZE_MAX ? zk_arena_alloc(arena, size + 1) : NULL;
    if (!copy) return NULL;
    if (size > 0) memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

char *zk_arena_printf(zk_arena *arena, const char *format, ...)
{
    /* Most texts fit into what is left of the block, where they are then kept. */
    size_t room = (size_t)(arena->end - arena->next);
    va_list args;
    va_start(args, format);
    int size = vsnprintf(arena->next, room, format, args);
    va_end(args);
    if (size < 0) return NULL;
    char *text = zk_arena_alloc(arena, (size_t)size + 1);
    if (!text || (size_t)size < room) return text;
    va_start(args, format);
    vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
    return text;
}

void zk__arena_start(zk_arena *arena, void *buffer, size_t size)
{
    size_t skip = -(uintptr_t)buffer & (ALIGN_BYTES - 1);
    if (size < skip + sizeof(struct zk__arena_block) + ALIGN_BYTES) return;
    size = (size - skip) & ~(size_t)(ALIGN_BYTES - 1);
    if (size > BLOCK_MAX_BYTES) size = BLOCK_MAX_BYTES;
    struct zk__arena_block *block = (struct zk__arena_block *)((char *)buffer + skip);
    *block = (struct zk__arena_block){.bytes = (uint32_t)size, .kind = BLOCK_OF_CALLER};
    arena->blocks = block;
    block_use(arena, block);
}

void zk__arena_reset(zk_arena *arena, bool keep_first_block)
{
    struct zk__arena_block *block = arena->blocks, *kept = NULL;
    if (keep_first_block && block && !block->next && arena->next == (char *)(block + 1)) return;
    while (block) {
        struct zk__arena_block *next = block->next;
        if (keep_first_block && block->kind >= BLOCK_FIRST)
            kept = block;
        else if (block->kind != BLOCK_OF_CALLER)
            zk_free(block);
        block = next;
    }
    *arena = (zk_arena){0};
    if (kept) {
        kept->next = NULL;
        arena->blocks = kept;
        block_use(arena, kept);
    }
}

void zk_arena_done(zk_arena *arena) { zk__arena_reset(arena, false); }
