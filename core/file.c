/*
 * Files: each call is a job for the blocking pool, in the frame of the task that waits for it.
 *
 * Invariants: a job that has begun is waited for (zk_blocking), so buffers and paths may be the
 * caller's; a descriptor belongs to the job until the job's task has seen its result. Results that
 * do not fit into an int go through the job.
 *
 * Reading tries preadv2(RWF_NOWAIT) first: what the page cache has costs one system call instead of
 * two switches of threads (4 KiB on ext4: 0.4 against 11 microseconds, 64 KiB: 2.4 against 13).
 */
#include "core/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/budget.h"

/* The kernel moves no more at once (MAX_RW_COUNT). */
static const size_t piece_max = 0x7ffff000;
/* Reads above this would copy for so long that the worker's other tasks had to wait. */
enum { QUICK_BYTES_MAX = 65536 };

struct zk_file {
    int fd;
};

/* What a job works with; each kind of job uses some. */
typedef struct job {
    const char *path, *path2;
    int fd, flags;
    mode_t mode;
    void *buf;
    const void *data;
    size_t size, got;
    int64_t offset; /* < 0: where the file's own position is */
    struct stat st;
    const zk_write_options *options;
} job;

int zk__file_fd(const zk_file *file) { return file->fd; }

static int result(long rc) { return rc < 0 ? -errno : 0; }

/* Runs a job that only has a result. */
static int run(zk_fn *fn, job *j)
{
    int rc = zk_blocking(fn, j);
    return rc < 0 ? rc : 0;
}

/* ---- opening and closing ---- */

static int job_open(void *arg)
{
    job *j = arg;
    do {
        j->fd = open(j->path, j->flags | O_CLOEXEC | O_NOCTTY, j->mode);
    } while (j->fd < 0 && errno == EINTR);
    return j->fd < 0 ? -errno : 0;
}

static int job_close(void *arg)
{
    job *j = arg;
    int fd = j->fd;
    j->fd = -1; /* begun */
    /* Linux has given the number back even if it says EINTR. */
    return close(fd) && errno != EINTR ? -errno : 0;
}

/* Closes whatever happens: in the pool, or where that cannot be had, here. */
static int close_always(int fd)
{
    job j = {.fd = fd};
    int rc = 0;
    if (zk__worker_self()) {
        ZK_SHIELD
            rc = zk_blocking(job_close, &j);
    }
    return j.fd < 0 ? rc : job_close(&j);
}

int zk_file_open(const char *path, int flags, mode_t mode, zk_file **ret_file)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    zk_file *file = zk_alloc(sizeof *file);
    if (!file) return -ENOMEM;
    job j = {.path = path, .flags = flags, .mode = mode};
    int rc = zk_blocking(job_open, &j);
    if (rc < 0) {
        zk_free(file);
        return rc;
    }
    file->fd = j.fd;
    zk__leak_name(file, "file", file->fd);
    *ret_file = file;
    return 0;
}

int zk_file_close(zk_file *file)
{
    if (!file) return 0;
    int rc = close_always(file->fd);
    zk_free(file);
    return rc;
}

/* ---- reading ---- */

static ssize_t read_once(int fd, void *buf, size_t size, int64_t offset)
{
    for (;;) {
        ssize_t n = offset < 0 ? read(fd, buf, size) : pread(fd, buf, size, offset);
        if (n >= 0 || errno != EINTR) return n < 0 ? -errno : n;
    }
}

static int job_read(void *arg)
{
    job *j = arg;
    ssize_t n = read_once(j->fd, j->buf, j->size, j->offset);
    if (n < 0) return (int)n;
    j->got = (size_t)n;
    return 0;
}

/* What the page cache has, without waiting for the disk. returns -EAGAIN: ask the pool. */
static ssize_t read_cached(int fd, void *buf, size_t size, int64_t offset)
{
    struct iovec iov = {buf, size < QUICK_BYTES_MAX ? size : QUICK_BYTES_MAX};
    /* An offset of -1 is the file's own position. */
    ssize_t n = preadv2(fd, &iov, 1, offset < 0 ? -1 : offset, RWF_NOWAIT);
    /* Errors are the pool's to tell: file systems without RWF_NOWAIT have one, too. */
    return n < 0 ? -EAGAIN : n;
}

static ssize_t file_read(zk_file *file, void *buf, size_t size, int64_t offset)
{
    int rc = zk__spend();
    if (rc < 0) return rc;
    if (!size) return 0;
    ssize_t n = read_cached(file->fd, buf, size, offset);
    if (n >= 0) return n;
    job j = {
        .fd = file->fd, .buf = buf, .size = size < piece_max ? size : piece_max, .offset = offset};
    rc = zk_blocking(job_read, &j);
    return rc < 0 ? rc : (ssize_t)j.got;
}

ssize_t zk_file_read(zk_file *file, void *buf, size_t size)
{
    return file_read(file, buf, size, -1);
}

ssize_t zk_file_read_at(zk_file *file, void *buf, size_t size, int64_t offset)
{
    return offset < 0 ? -EINVAL : file_read(file, buf, size, offset);
}

/* ---- writing ---- */

static int job_write(void *arg)
{
    job *j = arg;
    for (size_t done = 0; done < j->size;) {
        const char *data = (const char *)j->data + done;
        size_t size = j->size - done < piece_max ? j->size - done : piece_max;
        ssize_t n = j->offset < 0 ? write(j->fd, data, size)
                                  : pwrite(j->fd, data, size, j->offset + (int64_t)done);
        if (n < 0 && errno != EINTR) return -errno;
        if (n > 0) done += (size_t)n;
    }
    return 0;
}

int zk_file_write(zk_file *file, const void *data, size_t size)
{
    job j = {.fd = file->fd, .data = data, .size = size, .offset = -1};
    return run(job_write, &j);
}

int zk_file_write_at(zk_file *file, const void *data, size_t size, int64_t offset)
{
    if (offset < 0 || size > (uint64_t)(INT64_MAX - offset)) return -EINVAL;
    job j = {.fd = file->fd, .data = data, .size = size, .offset = offset};
    return run(job_write, &j);
}

/* ---- about the file ---- */

static int job_stat(void *arg)
{
    job *j = arg;
    return result(fstat(j->fd, &j->st));
}

int zk_file_stat(zk_file *file, struct stat *ret_stat)
{
    job j = {.fd = file->fd};
    int rc = run(job_stat, &j);
    if (rc >= 0) *ret_stat = j.st;
    return rc;
}

static int job_truncate(void *arg)
{
    job *j = arg;
    int rc;
    do {
        rc = result(ftruncate(j->fd, j->offset));
    } while (rc == -EINTR);
    return rc;
}

int zk_file_truncate(zk_file *file, int64_t size)
{
    job j = {.fd = file->fd, .offset = size};
    return run(job_truncate, &j);
}

static int sync_with(int (*function)(int fd), int fd)
{
    int rc;
    do {
        rc = result(function(fd));
    } while (rc == -EINTR);
    return rc;
}

static int job_sync(void *arg) { return sync_with(fsync, ((job *)arg)->fd); }

static int job_sync_data(void *arg) { return sync_with(fdatasync, ((job *)arg)->fd); }

int zk_file_sync(zk_file *file) { return run(job_sync, &(job){.fd = file->fd}); }

int zk_file_sync_data(zk_file *file) { return run(job_sync_data, &(job){.fd = file->fd}); }

/* ---- whole files ---- */

static int job_open_sized(void *arg)
{
    job *j = arg;
    int rc = job_open(j);
    if (rc < 0) return rc;
    if (!fstat(j->fd, &j->st)) {
        if (!S_ISDIR(j->st.st_mode)) return 0;
        errno = EISDIR;
    }
    rc = -errno;
    close(j->fd);
    return rc;
}

/* Reads until the buffer is full or the file has ended; got == size: there may be more. */
static int job_fill(void *arg)
{
    job *j = arg;
    while (j->got < j->size) {
        size_t size = j->size - j->got < piece_max ? j->size - j->got : piece_max;
        ssize_t n = read_once(j->fd, (char *)j->buf + j->got, size, -1);
        if (n <= 0) return (int)n;
        j->got += (size_t)n;
    }
    return 0;
}

/* The size that stat tells is a hint: files of /proc have none, others grow. */
static int read_rest(job *j, size_t bytes_max)
{
    uint64_t hint = j->st.st_size > 0 ? (uint64_t)j->st.st_size : 0;
    if (hint > bytes_max && S_ISREG(j->st.st_mode)) return ZK_E_LIMIT;
    /* One byte more shows the end, and becomes the NUL. */
    size_t capacity = hint > 0 && hint <= bytes_max ? (size_t)hint + 1 : 4096;
    for (;;) {
        char *grown = zk_alloc(capacity);
        if (!grown) return -ENOMEM;
        if (j->got) memcpy(grown, j->buf, j->got);
        zk_free(j->buf);
        j->buf = grown;
        j->size = capacity;
        int rc = zk_blocking(job_fill, j);
        if (rc < 0) return rc;
        if (j->got > bytes_max) return ZK_E_LIMIT;
        if (j->got < j->size) return 0;
        if (capacity > SIZE_MAX / 2) return -ENOMEM;
        capacity *= 2;
        /* No more than shows that the file is too large. */
        if (capacity > bytes_max && bytes_max < SIZE_MAX - 2) capacity = bytes_max + 2;
    }
}

int zk_file_read_all(const char *path, size_t bytes_max, char **ret_data, size_t *ret_size)
{
    job j = {.path = path, .flags = O_RDONLY, .offset = -1};
    int rc = zk_blocking(job_open_sized, &j);
    if (rc < 0) return rc;
    rc = read_rest(&j, bytes_max);
    (void)close_always(j.fd); /* nothing was written that could be lost */
    if (rc < 0) {
        zk_free(j.buf);
        return rc;
    }
    ((char *)j.buf)[j.got] = '\0';
    *ret_data = j.buf;
    *ret_size = j.got;
    return 0;
}

/* Creates a file beside `path` that nobody else has. Writes its name to `name`. */
static int temporary_open(const char *path, mode_t mode, char *name, size_t name_size)
{
    for (;;) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) < 0 && errno != EINTR) return -errno;
        int size = snprintf(name, name_size, "%s.%016llx", path, (unsigned long long)number);
        if (size < 0 || (size_t)size >= name_size) return -ENAMETOOLONG;
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0) return fd;
        if (errno != EEXIST && errno != EINTR) return -errno;
    }
}

/* A new name survives a loss of power once its directory has been synced. */
static int directory_sync(const char *path)
{
    char name[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) + 1 : 1;
    if (size >= sizeof name) return -ENAMETOOLONG;
    memcpy(name, slash ? path : ".", size);
    name[size] = '\0';
    job folder = {.path = name, .flags = O_RDONLY | O_DIRECTORY};
    int rc = job_open(&folder);
    if (rc < 0) return rc;
    rc = sync_with(fsync, folder.fd);
    close(folder.fd);
    return rc;
}

static int job_write_all(void *arg)
{
    job *j = arg;
    char name[PATH_MAX];
    int fd = temporary_open(j->path, j->options->mode ? j->options->mode : 0666, name, sizeof name);
    if (fd < 0) return fd;
    j->fd = fd;
    j->offset = -1;
    int rc = job_write(j);
    if (!rc && j->options->is_synced) rc = sync_with(fsync, fd);
    int closed = job_close(j);
    if (!rc) rc = closed;
    if (!rc) rc = result(rename(name, j->path));
    if (rc < 0) {
        unlink(name);
        return rc;
    }
    return j->options->is_synced ? directory_sync(j->path) : 0;
}

int zk_file_write_all(const char *path, const void *data, size_t size,
                      const zk_write_options *options)
{
    static const zk_write_options defaults = {0};
    job j = {.path = path, .data = data, .size = size, .options = options ? options : &defaults};
    return run(job_write_all, &j);
}

/* ---- names ---- */

static int job_path_stat(void *arg)
{
    job *j = arg;
    return result(fstatat(AT_FDCWD, j->path, &j->st, j->flags));
}

static int path_stat(const char *path, int flags, struct stat *ret_stat)
{
    job j = {.path = path, .flags = flags};
    int rc = run(job_path_stat, &j);
    if (rc >= 0) *ret_stat = j.st;
    return rc;
}

int zk_path_stat(const char *path, struct stat *ret_stat) { return path_stat(path, 0, ret_stat); }

int zk_path_link_stat(const char *path, struct stat *ret_stat)
{
    return path_stat(path, AT_SYMLINK_NOFOLLOW, ret_stat);
}

static int job_unlink(void *arg) { return result(unlink(((job *)arg)->path)); }

int zk_path_unlink(const char *path) { return run(job_unlink, &(job){.path = path}); }

static int job_rename(void *arg)
{
    job *j = arg;
    return result(rename(j->path, j->path2));
}

int zk_path_rename(const char *from, const char *to)
{
    return run(job_rename, &(job){.path = from, .path2 = to});
}

static int job_make_dir(void *arg)
{
    job *j = arg;
    return result(mkdir(j->path, j->mode));
}

int zk_path_make_dir(const char *path, mode_t mode)
{
    return run(job_make_dir, &(job){.path = path, .mode = mode});
}

static int job_remove_dir(void *arg) { return result(rmdir(((job *)arg)->path)); }

int zk_path_remove_dir(const char *path) { return run(job_remove_dir, &(job){.path = path}); }
