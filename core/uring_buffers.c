/*
 * Receive buffers for io_uring, and stashes.
 *
 *   spare --grow--> lent to the kernel --filled--> with the poller -----------> lent, or spare
 *                                                     \--> held by a stash --/
 *
 * The kernel uses lent buffers in turn, so all of them get touched and occupy memory. Only a few
 * are lent at first, more when the kernel runs out of them or stashes hold many, and few again once
 * there was nothing to do for a while.
 *
 * A stash holds on to the buffers that its bytes arrived in, until half of all are held: from then
 * on it copies, so that slow readers cannot take the buffers away from the others.
 */
#include "core/uring_buffers.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <zokio/alloc.h>

enum { LENT_AT_FIRST = 32, COPY_UNIT_BYTES = 1024 };

static const size_t memory_bytes = (size_t)ZK__BUFFERS * ZK__BUFFER_BYTES;
static const size_t ring_bytes = ZK__BUFFERS * sizeof(struct io_uring_buf);

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void lend(zk__buffers *buffers, uint16_t id)
{
    io_uring_buf_ring_add(buffers->ring, buffers->memory + (size_t)id * ZK__BUFFER_BYTES,
                          ZK__BUFFER_BYTES, id, io_uring_buf_ring_mask(ZK__BUFFERS), 0);
    io_uring_buf_ring_advance(buffers->ring, 1);
}

static void lend_wanted(zk__buffers *buffers)
{
    while (ZK__BUFFERS - buffers->spare_count < buffers->wanted) {
        lend(buffers, buffers->spare[--buffers->spare_count]);
    }
}

void zk__buffers_grow(zk__buffers *buffers)
{
    if (buffers->wanted >= ZK__BUFFERS) return;
    buffers->wanted *= 2;
    lend_wanted(buffers);
}

int zk__buffers_open(zk__buffers *buffers, struct io_uring *ring)
{
    buffers->ring = map(ring_bytes);
    buffers->memory = map(memory_bytes);
    int rc = -ENOMEM;
    if (buffers->ring && buffers->memory) {
        /* A huge page would be all of it. */
        madvise(buffers->memory, memory_bytes, MADV_NOHUGEPAGE);
        struct io_uring_buf_reg reg = {
            .ring_addr = (uintptr_t)buffers->ring,
            .ring_entries = ZK__BUFFERS,
            .bgid = ZK__BUFFER_GROUP,
        };
        rc = io_uring_register_buf_ring(ring, &reg, 0);
    }
    if (rc < 0) {
        zk__buffers_close(buffers);
        return rc;
    }
    for (uint32_t i = 0; i < ZK__BUFFERS; i++) {
        buffers->spare[i] = (uint16_t)(ZK__BUFFERS - 1 - i);
    }
    buffers->spare_count = ZK__BUFFERS;
    buffers->wanted = LENT_AT_FIRST;
    lend_wanted(buffers);
    return 0;
}

void zk__buffers_close(zk__buffers *buffers)
{
    if (buffers->ring) munmap(buffers->ring, ring_bytes);
    if (buffers->memory) munmap(buffers->memory, memory_bytes);
    buffers->ring = NULL;
    buffers->memory = NULL;
}

void zk__buffers_return(zk__buffers *buffers, uint16_t id)
{
    buffers->use_count++;
    if (ZK__BUFFERS - buffers->spare_count > buffers->wanted) {
        buffers->spare[buffers->spare_count++] = id;
    } else {
        lend(buffers, id);
    }
}

void zk__buffers_trim(zk__buffers *buffers)
{
    if (buffers->held) return;
    madvise(buffers->memory, memory_bytes, MADV_DONTNEED);
    buffers->use_count = 0;
    buffers->wanted = LENT_AT_FIRST;
}

/* ---- stashes ---- */

static void append(zk__stash *stash, zk__piece *piece)
{
    if (stash->last) {
        piece->next = stash->last->next;
        stash->last->next = piece;
    } else {
        piece->next = piece;
    }
    stash->last = piece;
}

/* A piece with room for the bytes, on the heap; NULL if there is no memory. */
static zk__piece *piece_new(uint32_t size)
{
    uint32_t capacity = (size + COPY_UNIT_BYTES - 1) / COPY_UNIT_BYTES * COPY_UNIT_BYTES;
    zk__piece *piece = zk_alloc(sizeof *piece + capacity);
    if (!piece) return NULL;
    *piece = (zk__piece){.data = (uint8_t *)(piece + 1), .capacity = capacity, .is_copy = true};
    return piece;
}

/* The piece to copy bytes into: one with room for them, a new one if too many buffers are held. */
static zk__piece *piece_to_copy_to(zk__stash *stash, zk__buffers *buffers, uint32_t size)
{
    zk__piece *last = stash->last;
    if (last && last->capacity - last->end >= size) return last;
    uint32_t all = ZK__BUFFERS - buffers->spare_count;
    if (2 * (buffers->held + 1) > all && all < ZK__BUFFERS) {
        zk__buffers_grow(buffers);
        all = ZK__BUFFERS - buffers->spare_count;
    }
    if (2 * (buffers->held + 1) <= all) return NULL;
    zk__piece *piece = piece_new(size);
    if (piece) append(stash, piece);
    return piece;
}

void zk__stash_put(zk__stash *stash, zk__buffers *buffers, uint16_t id, uint32_t skip,
                   uint32_t size)
{
    uint8_t *data = buffers->memory + (size_t)id * ZK__BUFFER_BYTES;
    stash->size_bytes += size - skip;
    zk__piece *to = piece_to_copy_to(stash, buffers, size - skip);
    if (to) {
        memcpy(to->data + to->end, data + skip, size - skip);
        to->end += size - skip;
        zk__buffers_return(buffers, id);
        return;
    }
    zk__piece *piece = &buffers->pieces[id];
    *piece = (zk__piece){.data = data, .start = skip, .end = size, .capacity = ZK__BUFFER_BYTES};
    append(stash, piece);
    buffers->held++;
}

static void piece_free(zk__piece *piece, zk__buffers *buffers)
{
    if (piece->is_copy) {
        zk_free(piece);
        return;
    }
    buffers->held--;
    zk__buffers_return(buffers, (uint16_t)(piece - buffers->pieces));
}

static void drop_first(zk__stash *stash, zk__buffers *buffers)
{
    zk__piece *piece = stash->last->next;
    stash->last->next = piece->next;
    if (stash->last == piece) stash->last = NULL;
    piece_free(piece, buffers);
}

size_t zk__stash_take(zk__stash *stash, zk__buffers *buffers, void *to, size_t size)
{
    size_t taken = 0;
    while (taken < size && stash->last) {
        zk__piece *piece = stash->last->next;
        size_t n = piece->end - piece->start;
        if (n > size - taken) n = size - taken;
        memcpy((uint8_t *)to + taken, piece->data + piece->start, n);
        piece->start += (uint32_t)n;
        taken += n;
        if (piece->start == piece->end) drop_first(stash, buffers);
    }
    stash->size_bytes -= (uint32_t)taken;
    return taken;
}

void zk__stash_drop(zk__stash *stash, zk__buffers *buffers)
{
    while (stash->last)
        drop_first(stash, buffers);
    stash->size_bytes = 0;
}
