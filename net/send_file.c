/*
 * Copying by the kernel: sendfile from a file to a stream, and splice from stream to stream.
 *
 * Both go piece by piece between what the streams' descriptors allow; a full one is waited for with
 * ZK__OP_WRITABLE, an empty one with ZK__OP_READABLE. Bytes between two streams pass through a
 * pipe, which is empty before each piece, so that EAGAIN can only be the source's.
 *
 * The io_uring poller receives streams ahead into buffers of its own, past which splice would go;
 * there, and where a stream has no descriptor, a buffer does it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "core/budget.h"
#include "core/file.h"
#include "core/sigpipe.h"
#include "net/stream.h"

enum { FILE_PIECE = 256 * 1024, PIPE_PIECE = 64 * 1024, BUFFER_BYTES = 32 * 1024 };
enum { NOT_THIS_WAY = 1 };

static zk__io *io_of(zk_stream *stream) { return stream->ops->io ? stream->ops->io(stream) : NULL; }

/* The first use of a stream makes it the worker's. returns 0, ZK_E_WORKER, ZK_E_NO_RUNTIME. */
static int claim(zk_stream *stream)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    return (int)zk_stream_try_write(stream, NULL, 0);
}

static int wait_writable(zk__io *io)
{
    zk__op op = {.code = ZK__OP_WRITABLE, .io = io};
    return (int)zk__op_run(&op);
}

static int wait_readable(zk__io *io)
{
    zk__op op = {.code = ZK__OP_READABLE, .io = io};
    return (int)zk__op_run(&op);
}

/* The descriptor that takes what follows. */
static int sink_of(zk_stream *stream, bool is_full, zk__io **ret_io)
{
    if (stream->ops->sink) return stream->ops->sink(stream, is_full, ret_io);
    *ret_io = io_of(stream);
    if (!*ret_io) return ZK__SINK_NONE;
    return is_full ? wait_writable(*ret_io) : 0;
}

static bool is_unfit(int rc) { return rc == -EINVAL || rc == -ENOSYS || rc == -EOPNOTSUPP; }

/* ---- files ---- */

typedef struct piece {
    int fd;
    int64_t offset;
    size_t size;
} piece;

static bool is_cold_at(int fd, int64_t offset)
{
    char c;
    struct iovec iov = {&c, 1};
    return preadv2(fd, &iov, 1, offset, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

/* In the pool: what has been read once is in the page cache. */
static int job_warm(void *arg)
{
    piece *p = arg;
    char buf[32768];
    for (size_t done = 0; done < p->size;) {
        ssize_t n = pread(p->fd, buf, sizeof buf, p->offset + (int64_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break; /* sendfile will say what is wrong */
        done += (size_t)n;
    }
    return 0;
}

/* The worker is not to wait for the disk: looks at both ends of the piece. */
static int warm(piece *p)
{
    if (!is_cold_at(p->fd, p->offset) && !is_cold_at(p->fd, p->offset + (int64_t)p->size - 1)) {
        return 0;
    }
    return zk_blocking(job_warm, p);
}

static ssize_t sendfile_once(int to, const piece *p)
{
    zk__sigpipe quiet;
    off_t offset = p->offset;
    zk__sigpipe_hold(&quiet);
    ssize_t n = sendfile(to, p->fd, &offset, p->size);
    int rc = n < 0 ? -errno : 0;
    zk__sigpipe_release(&quiet, rc == -EPIPE);
    return rc < 0 ? rc : n;
}

bool zk__stream_takes_files(zk_stream *stream)
{
    if (zk__worker_self()->poller.ops->kernel != &zk__kernel_system) return false;
    return stream->ops->sink ? stream->ops->sink(stream, false, NULL) == 0
                             : stream->ops->io != NULL;
}

ssize_t zk__stream_send_file_some(zk_stream *stream, zk_file *file, int64_t offset, uint64_t size)
{
    piece p = {zk__file_fd(file), offset, size < FILE_PIECE ? (size_t)size : FILE_PIECE};
    if (!zk__stream_takes_files(stream)) return -EOPNOTSUPP;
    bool is_full = false;
    for (;;) {
        zk__io *io;
        int rc = zk__spend();
        if (rc >= 0) rc = warm(&p);
        if (rc >= 0) rc = sink_of(stream, is_full, &io);
        if (rc == ZK__SINK_NONE) return -EOPNOTSUPP;
        if (rc < 0) return rc;
        ssize_t n = sendfile_once(io->fd, &p);
        if (n == 0 && size) return -ENODATA;
        if (is_unfit((int)n)) return -EOPNOTSUPP;
        if (n != -EAGAIN && n != -EINTR) return n;
        is_full = n == -EAGAIN;
    }
}

/* returns 0; NOT_THIS_WAY if the kernel cannot do it with these; an error. */
static int send_by_kernel(zk_stream *stream, zk_file *file, int64_t *offset, uint64_t *left)
{
    while (*left) {
        ssize_t n = zk__stream_send_file_some(stream, file, *offset, *left);
        if (n == -EOPNOTSUPP) return NOT_THIS_WAY;
        if (n < 0) return (int)n;
        *offset += n;
        *left -= (uint64_t)n;
    }
    return 0;
}

static int send_by_buffer(zk_stream *stream, zk_file *file, int64_t offset, uint64_t left)
{
    char *buf = zk_alloc(BUFFER_BYTES);
    if (!buf) return -ENOMEM;
    int rc = 0;
    while (left && rc >= 0) {
        size_t size = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
        ssize_t n = zk_file_read_at(file, buf, size, offset);
        rc = n == 0 ? -ENODATA : n < 0 ? (int)n : zk_stream_write(stream, buf, (size_t)n);
        if (rc < 0) break;
        offset += n;
        left -= (uint64_t)n;
    }
    zk_free(buf);
    return rc;
}

int zk_stream_send_file(zk_stream *stream, zk_file *file, int64_t offset, uint64_t size)
{
    int rc = claim(stream);
    if (rc < 0) return rc;
    if (offset < 0 || size > (uint64_t)(INT64_MAX - offset)) return -EINVAL;
    rc = send_by_kernel(stream, file, &offset, &size);
    return rc == NOT_THIS_WAY ? send_by_buffer(stream, file, offset, size) : rc;
}

/* ---- streams ---- */

static ssize_t splice_once(int from, int to, size_t size)
{
    zk__sigpipe quiet;
    zk__sigpipe_hold(&quiet);
    ssize_t n = splice(from, NULL, to, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    int rc = n < 0 ? -errno : 0;
    zk__sigpipe_release(&quiet, rc == -EPIPE);
    return rc < 0 ? rc : n;
}

/* Some bytes into the pipe. returns how many, 0 at the end; NOT_THIS_WAY is told by *ret_unfit. */
static ssize_t pipe_fill(zk__io *from, int pipe_end, size_t size, bool *ret_unfit)
{
    for (;;) {
        int rc = zk__spend();
        if (rc < 0) return rc;
        ssize_t n = splice_once(from->fd, pipe_end, size);
        if (n >= 0) return n;
        *ret_unfit = is_unfit((int)n);
        if (n == -EAGAIN) n = wait_readable(from);
        if (n < 0 && n != -EINTR) return n;
    }
}

/* All that the pipe holds out of it. */
static int pipe_drain(int pipe_end, zk_stream *to, size_t held, bool *ret_unfit)
{
    bool is_full = false;
    while (held) {
        zk__io *io;
        int rc = sink_of(to, is_full, &io);
        if (rc < 0) return rc;
        ssize_t n = splice_once(pipe_end, io->fd, held);
        *ret_unfit = is_unfit((int)n);
        is_full = n == -EAGAIN;
        if (n > 0) held -= (size_t)n;
        if (n < 0 && n != -EAGAIN && n != -EINTR) return (int)n;
    }
    return 0;
}

/* What a destination that splice does not know has not taken: through a buffer. */
static int pipe_drain_by_buffer(int pipe_end, zk_stream *to, size_t held)
{
    char buf[4096];
    while (held) {
        ssize_t n = read(pipe_end, buf, held < sizeof buf ? held : sizeof buf);
        if (n <= 0) return n < 0 ? -errno : -EIO;
        int rc = zk_stream_write(to, buf, (size_t)n);
        if (rc < 0) return rc;
        held -= (size_t)n;
    }
    return 0;
}

/* Adds to *moved. returns 0 when done; NOT_THIS_WAY; an error. */
static int move_by_kernel(zk_stream *from, zk_stream *to, int64_t bytes_max, int64_t *moved)
{
    int ends[2];
    bool is_kernel_unfit = false;
    ssize_t n = 1;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return NOT_THIS_WAY; /* a buffer needs none */
    while (*moved < bytes_max) {
        int64_t left = bytes_max - *moved;
        n = pipe_fill(io_of(from), ends[1], left < PIPE_PIECE ? (size_t)left : PIPE_PIECE,
                      &is_kernel_unfit);
        if (n <= 0) break;
        size_t held = (size_t)n;
        int rc = pipe_drain(ends[0], to, held, &is_kernel_unfit);
        /* It is the kind of the destination, so it has taken nothing. */
        if (rc < 0 && is_kernel_unfit) rc = pipe_drain_by_buffer(ends[0], to, held);
        if (rc < 0) n = rc;
        if (n < 0) break;
        *moved += (int64_t)held;
        if (is_kernel_unfit) n = -EINVAL;
        if (n < 0) break;
    }
    close(ends[0]);
    close(ends[1]);
    if (n < 0) return is_kernel_unfit && is_unfit((int)n) ? NOT_THIS_WAY : (int)n;
    return 0;
}

static int move_by_buffer(zk_stream *from, zk_stream *to, int64_t bytes_max, int64_t *moved)
{
    char *buf = zk_alloc(BUFFER_BYTES);
    if (!buf) return -ENOMEM;
    int rc = 0;
    while (*moved < bytes_max) {
        int64_t left = bytes_max - *moved;
        ssize_t n = zk_stream_read(from, buf, left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES);
        rc = n > 0 ? zk_stream_write(to, buf, (size_t)n) : (int)n;
        if (n <= 0 || rc < 0) break;
        *moved += n;
    }
    zk_free(buf);
    return rc;
}

int64_t zk_stream_splice(zk_stream *from, zk_stream *to, int64_t bytes_max)
{
    int rc = claim(from);
    if (rc >= 0) rc = claim(to);
    if (rc < 0) return rc;
    if (bytes_max < 0) return -EINVAL;
    zk__io *source = io_of(from);
    bool is_received_ahead =
        source && source->bits & ZK__IO_STREAM && zk__worker_self()->poller.ops->receives_ahead;
    int64_t moved = 0;
    rc = source && zk__stream_takes_files(to) && !is_received_ahead
             ? move_by_kernel(from, to, bytes_max, &moved)
             : NOT_THIS_WAY;
    if (rc == NOT_THIS_WAY) rc = move_by_buffer(from, to, bytes_max, &moved);
    return rc < 0 ? rc : moved;
}

int64_t zk_stream_copy(zk_stream *from, zk_stream *to)
{
    return zk_stream_splice(from, to, INT64_MAX);
}
