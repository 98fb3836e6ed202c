/*
 * The ring of the io_uring backend: opening it, queueing requests, entering the kernel.
 */
#ifndef ZOKIO_CORE_URING_RING_H
#define ZOKIO_CORE_URING_RING_H

#include <liburing.h>

#include <zokio/base.h>

/* What the ring's own requests carry; all others carry something above. */
enum { ZK__RING_IGNORED = 0 };

/*
 * To be called on the thread that will use it.
 * returns 0, -errno where the system does not allow all that is needed.
 */
int zk__ring_open(struct io_uring *ring);

/* A request to fill in. returns NULL if the kernel has no memory to take those queued so far. */
struct io_uring_sqe *zk__ring_sqe(struct io_uring *ring);

/* The same, but waits for memory: only at the very end of it, and only this thread. */
struct io_uring_sqe *zk__ring_sqe_always(struct io_uring *ring);

/* Hands over what is queued and lets completions happen. Without either it costs no system call. */
void zk__ring_flush(struct io_uring *ring);

/* The same, and waits for a completion, up to `timeout` ns or (< 0) for ever. */
void zk__ring_wait(struct io_uring *ring, zk_time timeout);

#endif
