/*
 * Receive buffers that are lent to the kernel, and stashes: what has arrived on a stream until
 * somebody reads it. For poller_uring.c.
 */
#ifndef ZOKIO_CORE_URING_BUFFERS_H
#define ZOKIO_CORE_URING_BUFFERS_H

#include <liburing.h>

#include <zokio/base.h>

/* Only what is touched takes memory: a buffer with a small request in it is one page. */
enum { ZK__BUFFERS = 256, ZK__BUFFER_BYTES = 8192, ZK__BUFFER_GROUP = 0 };

/* A run of bytes in a stash: a buffer that the kernel has filled, or a copy on the heap. */
typedef struct zk__piece zk__piece;
struct zk__piece {
    zk__piece *next;
    uint8_t *data;
    uint32_t start, end; /* what is unread */
    uint32_t capacity;
    bool is_copy;
};

/* Zero-initialised is empty. Small, as each stream has one. */
typedef struct zk__stash {
    zk__piece *last; /* whose `next` is the first; NULL: none */
    uint32_t size_bytes;
} zk__stash;

typedef struct zk__buffers {
    struct io_uring_buf_ring *ring;
    uint8_t *memory;
    uint32_t wanted;      /* how many of them are to be outside of `spare` */
    uint32_t held;        /* in stashes */
    uint32_t use_count;   /* since the memory was last given back */
    uint32_t spare_count; /* those that the kernel has not been lent yet, or need not be again */
    uint16_t spare[ZK__BUFFERS];
    zk__piece pieces[ZK__BUFFERS];
} zk__buffers;

/* returns 0, -errno. */
int zk__buffers_open(zk__buffers *buffers, struct io_uring *ring);
/* After the ring has been closed. */
void zk__buffers_close(zk__buffers *buffers);

/* Lends the kernel more: it has run out of them. */
void zk__buffers_grow(zk__buffers *buffers);

/* Takes back a buffer that the kernel has filled, with nothing in it that is needed. */
void zk__buffers_return(zk__buffers *buffers, uint16_t id);

/* Whether buffers have been used so much that trimming pays. */
static inline bool zk__buffers_are_large(const zk__buffers *buffers)
{
    return buffers->use_count > 32 && !buffers->held;
}

/* Gives the memory back to the system. To be called only while no filled buffer is on its way. */
void zk__buffers_trim(zk__buffers *buffers);

/*
 * Appends the `size` bytes that the kernel has put into the buffer, but for the first `skip`. The
 * buffer is taken over.
 */
void zk__stash_put(zk__stash *stash, zk__buffers *buffers, uint16_t id, uint32_t skip,
                   uint32_t size);

/* Moves up to `size` bytes out of the stash. returns how many. */
size_t zk__stash_take(zk__stash *stash, zk__buffers *buffers, void *to, size_t size);

void zk__stash_drop(zk__stash *stash, zk__buffers *buffers);

#endif
