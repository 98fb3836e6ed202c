/*
 * The ring of the io_uring backend.
 *
 * One thread submits (SINGLE_ISSUER), and completions are run only inside its own system calls
 * (DEFER_TASKRUN). A flag in the ring tells whether any are due (TASKRUN_FLAG), which spares the
 * call when there is nothing to do.
 */
#include "core/uring_ring.h"

#include <errno.h>
#include <time.h>

enum { SQ_ENTRIES = 256, SQ_ENTRIES_MIN = 16, CQ_PER_SQ = 4 };

static int probe(struct io_uring *ring)
{
    static const int needed[] = {
        IORING_OP_NOP, IORING_OP_RECV, IORING_OP_ACCEPT, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
    };
    struct io_uring_probe *supported = io_uring_get_probe_ring(ring);
    if (!supported) return -ENOSYS;
    int rc = 0;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!io_uring_opcode_supported(supported, needed[i])) rc = -ENOSYS;
    }
    io_uring_free_probe(supported);
    return rc;
}

/* Some systems let a ring be set up, but not be entered. */
static int try_out(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (!sqe) return -ENOSYS;
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data64(sqe, ZK__RING_IGNORED);
    /* A signal may end the wait early. */
    for (int tries = 0; tries < 10 && io_uring_cq_ready(ring) == 0; tries++) {
        int rc = io_uring_submit_and_wait(ring, 1);
        if (rc < 0 && rc != -EINTR) return rc;
    }
    return io_uring_cq_ready(ring) == 1 ? 0 : -ENOSYS;
}

int zk__ring_open(struct io_uring *ring)
{
    int rc = -ENOMEM; /* also where rings count against RLIMIT_MEMLOCK: then a smaller one may do */
    for (unsigned entries = SQ_ENTRIES; rc == -ENOMEM && entries >= SQ_ENTRIES_MIN; entries /= 4) {
        struct io_uring_params params = {
            .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP |
                     IORING_SETUP_CQSIZE,
            .cq_entries = CQ_PER_SQ * entries,
        };
        rc = io_uring_queue_init_params(entries, ring, &params);
    }
    if (rc < 0) return rc;
    rc = probe(ring);
    if (!rc) rc = try_out(ring);
    if (rc < 0) {
        io_uring_queue_exit(ring);
        return rc;
    }
    /* Spares a look-up per system call; where it is not to be had it goes without. */
    io_uring_register_ring_fd(ring);
    return 0;
}

struct io_uring_sqe *zk__ring_sqe(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (ZK_LIKELY(sqe != NULL)) return sqe;
    io_uring_submit(ring);
    return io_uring_get_sqe(ring);
}

struct io_uring_sqe *zk__ring_sqe_always(struct io_uring *ring)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = zk__ring_sqe(ring)))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return sqe;
}

void zk__ring_flush(struct io_uring *ring)
{
    unsigned flags = IO_URING_READ_ONCE(*ring->sq.kflags);
    if (io_uring_sq_ready(ring) || flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
        io_uring_submit_and_get_events(ring);
    }
}

void zk__ring_wait(struct io_uring *ring, zk_time timeout)
{
    if (timeout < 0) {
        io_uring_submit_and_wait(ring, 1);
        return;
    }
    struct __kernel_timespec span = {timeout / ZK_SEC(1), timeout % ZK_SEC(1)};
    struct io_uring_cqe *cqe;
    io_uring_submit_and_wait_timeout(ring, &cqe, 1, &span, NULL);
}
