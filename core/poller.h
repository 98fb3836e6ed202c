/*
 * The poller: one completion-shaped interface between the runtime and the kernel, one backend per
 * worker.
 *
 * An operation (zk__op) on a descriptor (zk__io) is submitted; it is done at once or later, and
 * then its `complete` is called from the worker's loop. Operations that a task waits for go through
 * zk__op_run(), which suspends and takes care of cancellation. At most one read-like and one
 * write-like operation are in flight per descriptor.
 *
 *   submit --(done at once)--> result      cancel: `complete` is called, at once or later, with the
 *     \--> in flight --> complete(op)      result if there was one after all, else with -ECANCELED
 *
 * While an operation is in flight its buffers belong to the backend; once complete is called the
 * kernel holds no reference to them.
 */
#ifndef ZOKIO_CORE_POLLER_H
#define ZOKIO_CORE_POLLER_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "core/kernel.h"
#include "core/wait.h"

typedef struct zk__io zk__io;
typedef struct zk__op zk__op;
typedef struct zk__poller zk__poller;

enum zk__op_code {
    ZK__OP_READ,     /* buf, size: some bytes, 0 at the end */
    ZK__OP_READABLE, /* data, the end or an error is there; result 0 */
    ZK__OP_ACCEPT,   /* a new descriptor, non-blocking and close-on-exec */
    ZK__OP_WRITE,    /* iov, iov_count: some bytes; no SIGPIPE */
    ZK__OP_CONNECT,  /* addr, addr_size; result 0 */
    ZK__OP_WRITABLE, /* a write would find room, or an error; result 0 */
};

struct zk__op {
    uint8_t code;
    zk__io *io;
    union {
        struct {
            void *buf;
            size_t size;
        };
        struct {
            const struct iovec *iov;
            int iov_count;
        };
        struct {
            const struct sockaddr *addr;
            socklen_t addr_size;
        };
    };
    ssize_t result;
    void (*complete)(zk__op *op);
    zk__wait *wait; /* of the task that zk__op_run suspends */
};

enum {
    ZK__IO_MAYBE_READABLE = 1 << 0, /* the last try did not find it empty */
    ZK__IO_MAYBE_WRITABLE = 1 << 1,
    ZK__IO_REGISTERED = 1 << 2, /* the kernel reports on it */
    ZK__IO_PEER_DONE = 1 << 3,  /* the peer has shut its side down: the end follows the data */
    ZK__IO_BROKEN = 1 << 4,     /* reset, or both sides are shut down */
    ZK__IO_SOCKET = 1 << 5,     /* recv and send apply, else read and write */
    ZK__IO_STREAM = 1 << 6,     /* bytes in order: a short read means empty.. */
    ZK__IO_MARKED = 1 << 7,     /* ..unless there are marks among them, at which a read stops */
    ZK__IO_BULK = 1 << 8,       /* the last read was into a large buffer; io_uring's */
};

/* A descriptor. Belongs to the worker that first uses it. */
struct zk__io {
    int fd;
    uint32_t bits;
    zk__op *reader, *writer; /* in flight */
    /* NULL, or: bits PEER_DONE or BROKEN have come up while nobody was reading */
    void (*on_hangup)(zk__io *io);
    void *stash; /* the backend's */
};

/* A backend. Functions are called on the worker's own thread, but for wake. */
struct zk__poller_ops {
    const char *name;
    bool receives_ahead; /* the bytes of a ZK__IO_STREAM, before anybody asks for them */
    const struct zk__kernel *kernel; /* whose sockets it moves bytes of */
    /* returns 0, or -errno: then the next backend is tried. */
    int (*open)(zk__poller *poller);
    void (*close)(zk__poller *poller);
    /* returns true when op->result is there; false: complete will be called. */
    bool (*submit)(zk__poller *poller, zk__op *op);
    /* Does it now or not at all: returns the result, -EAGAIN if it would have to wait. */
    ssize_t (*attempt)(zk__poller *poller, zk__op *op);
    /* The same for reading from and writing to a connection; size is not 0. */
    ssize_t (*recv_now)(zk__poller *poller, zk__io *io, void *buf, size_t size);
    ssize_t (*send_now)(zk__poller *poller, zk__io *io, const void *data, size_t size);
    void (*cancel)(zk__poller *poller, zk__op *op);
    /* Makes sure that on_hangup is called from now on. Cheap when it already is so. */
    void (*watch)(zk__poller *poller, zk__io *io);
    /* Forgets the descriptor and closes it. No operation may be in flight. */
    void (*forget)(zk__poller *poller, zk__io *io);
    /* Calls what completes; waits for something, `timeout` ns or less (0: not at all, < 0: for
     * ever). */
    void (*poll)(zk__poller *poller, zk_time timeout);
    /* Whether something may come from outside: there are descriptors that it reports on. */
    bool (*is_expecting)(const zk__poller *poller);
    /* Ends a poll that waits, now or as soon as it begins. Any thread. */
    void (*wake)(zk__poller *poller);
};

struct zk__poller {
    const struct zk__poller_ops *ops;
    struct zk__worker *worker;
    void *state;
};

extern const struct zk__poller_ops zk__poller_epoll, zk__poller_uring;

/* Opens the named backend, or the best that works if name is NULL. returns 0, ZK_E_CONFIG for an
 * unknown name, -errno. */
int zk__poller_open(zk__poller *poller, const char *name);

/* Describes a descriptor to the poller. bits: ZK__IO_SOCKET, ZK__IO_STREAM and
 * ZK__IO_MARKED as they apply. */
static inline void zk__io_init(zk__io *io, int fd, uint32_t bits)
{
    *io = (zk__io){
        .fd = fd,
        .bits = bits | ZK__IO_MAYBE_READABLE | ZK__IO_MAYBE_WRITABLE,
    };
}

/* The system call behind an operation, tried once without waiting. returns its result or -errno
 * (-EAGAIN: not now). */
ssize_t zk__op_try(zk__op *op);

/* recv_now and send_now, made of attempt. */
ssize_t zk__recv_by_attempt(zk__poller *poller, zk__io *io, void *buf, size_t size);
ssize_t zk__send_by_attempt(zk__poller *poller, zk__io *io, const void *data, size_t size);

/* Whether one of these events of poll(2) is there now; also if nobody can tell. */
bool zk__fd_is_ready(int fd, short events);

/*
 * Runs an operation for the current task. Suspends sometimes.
 * returns the operation's result; -ECANCELED, -ETIMEDOUT (then it has had no effect), -ENOMEM.
 */
ssize_t zk__op_run(zk__op *op);

/*
 * Waits until a descriptor is ready, for who makes the system call itself and was told EAGAIN.
 * code: ZK__OP_READABLE, ZK__OP_WRITABLE. returns 0; as zk__op_run.
 */
int zk__io_wait(zk__io *io, uint8_t code);

#endif
