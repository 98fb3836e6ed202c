/*
 * Walking directories: the pool fills a batch of entries, and zk_dir_next hands them out.
 *
 * The walk is depth first with one open directory per level, each opened below its parent
 * (openat, O_NOFOLLOW): no symbolic link is followed, not even one that takes a directory's place
 * meanwhile. All of it lies in the zk_dir and is touched by one job at a time, or by the task
 * between jobs. Directory streams are of the C library's heap, so a pool's thread may make them.
 *
 *   batch:  record, path, NUL, padding | record, path, NUL, padding | ...
 */
#include <zokio/file.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "core/budget.h"

enum { BATCH_BYTES = 16384, LEVELS_MAX = ZK_DIR_DEPTH_MAX + 1 };

typedef struct record {
    uint32_t bytes; /* with the path, to the next record */
    uint16_t name_offset;
    uint8_t kind;
    int depth;
    int error; /* < 0: of this path */
} record;

enum { RECORD_BYTES_MAX = sizeof(record) + PATH_MAX + _Alignof(record) };

typedef struct level {
    DIR *dir;
    size_t path_size; /* of the directory itself */
} level;

struct zk_dir {
    int depth_max;
    bool is_done;
    bool is_to_enter; /* the last record is of a directory that is walked next */
    int level_count;
    size_t batch_next, batch_size;
    size_t path_size;
    char path[PATH_MAX];
    level levels[LEVELS_MAX];
    _Alignas(record) char batch[BATCH_BYTES];
};

/* ---- in the pool ---- */

/* Opens what d->path says as the next level. returns 0, -errno. */
static int level_push(zk_dir *d, const char *name, bool is_top)
{
    if (d->level_count == LEVELS_MAX) return ZK_E_LIMIT;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK;
    int at = is_top ? AT_FDCWD : dirfd(d->levels[d->level_count - 1].dir);
    int fd;
    do {
        fd = openat(at, name, is_top ? flags : flags | O_NOFOLLOW);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    d->levels[d->level_count++] = (level){.dir = dir, .path_size = d->path_size};
    return 0;
}

static void level_pop(zk_dir *d) { closedir(d->levels[--d->level_count].dir); }

static void batch_add(zk_dir *d, size_t name_offset, zk_file_kind kind, int error)
{
    size_t bytes = sizeof(record) + d->path_size + 1;
    bytes = (bytes + _Alignof(record) - 1) & ~(_Alignof(record) - 1);
    record *r = (record *)(void *)(d->batch + d->batch_size);
    *r = (record){.bytes = (uint32_t)bytes,
                  .name_offset = (uint16_t)name_offset,
                  .kind = (uint8_t)kind,
                  .depth = d->level_count - 1,
                  .error = error};
    memcpy(r + 1, d->path, d->path_size + 1);
    d->batch_size += bytes;
}

/* Sets d->path to that of a name in the innermost directory. returns where the name begins, or
 * -ENAMETOOLONG, and then the path is the directory's. */
static ssize_t path_set(zk_dir *d, const char *name)
{
    size_t base = d->levels[d->level_count - 1].path_size, size = strlen(name);
    bool has_slash = base && d->path[base - 1] == '/';
    size_t begin = base + !has_slash;
    d->path_size = base;
    d->path[base] = '\0';
    if (begin + size >= sizeof d->path) return -ENAMETOOLONG;
    d->path[begin - 1] = '/';
    memcpy(d->path + begin, name, size + 1);
    d->path_size = begin + size;
    return (ssize_t)begin;
}

static zk_file_kind kind_of_mode(mode_t mode)
{
    return S_ISREG(mode)   ? ZK_KIND_FILE
           : S_ISDIR(mode) ? ZK_KIND_DIR
           : S_ISLNK(mode) ? ZK_KIND_LINK
                           : ZK_KIND_OTHER;
}

/* returns whether it is still there. */
static bool kind_of(const zk_dir *d, const struct dirent *e, zk_file_kind *ret_kind)
{
    struct stat st;
    switch (e->d_type) {
    case DT_REG: *ret_kind = ZK_KIND_FILE; return true;
    case DT_DIR: *ret_kind = ZK_KIND_DIR; return true;
    case DT_LNK: *ret_kind = ZK_KIND_LINK; return true;
    case DT_UNKNOWN: break; /* some file systems do not say */
    default: *ret_kind = ZK_KIND_OTHER; return true;
    }
    if (fstatat(dirfd(d->levels[d->level_count - 1].dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
        return false;
    }
    *ret_kind = kind_of_mode(st.st_mode);
    return true;
}

/* Goes down into the directory that the last record named. */
static void enter(zk_dir *d)
{
    d->is_to_enter = false;
    const char *slash = strrchr(d->path, '/');
    int rc = level_push(d, slash ? slash + 1 : d->path, false);
    /* Gone, or no directory any more: no more of an error than had it been so a moment ago. */
    if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP) return;
    if (rc < 0) batch_add(d, 0, ZK_KIND_DIR, rc);
}

/* Reads one entry of the innermost directory. */
static void step(zk_dir *d)
{
    errno = 0;
    const struct dirent *e = readdir(d->levels[d->level_count - 1].dir);
    if (!e) {
        int error = -errno;
        d->path_size = d->levels[d->level_count - 1].path_size;
        d->path[d->path_size] = '\0';
        if (error) batch_add(d, 0, ZK_KIND_DIR, error);
        level_pop(d);
        return;
    }
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) return;
    zk_file_kind kind;
    if (!kind_of(d, e, &kind)) return;
    ssize_t name = path_set(d, e->d_name);
    if (name < 0) {
        batch_add(d, 0, kind, (int)name);
        return;
    }
    batch_add(d, (size_t)name, kind, 0);
    d->is_to_enter = kind == ZK_KIND_DIR && (d->depth_max < 0 || d->level_count - 1 < d->depth_max);
}

static int job_fill(void *arg)
{
    zk_dir *d = arg;
    d->batch_next = d->batch_size = 0;
    while (BATCH_BYTES - d->batch_size >= RECORD_BYTES_MAX) {
        if (d->is_to_enter) {
            enter(d);
        } else if (d->level_count) {
            step(d);
        } else {
            d->is_done = true;
            break;
        }
    }
    return 0;
}

static int job_open(void *arg)
{
    zk_dir *d = arg;
    return level_push(d, d->path, true);
}

/* ---- for the task ---- */

int zk_dir_open(const char *path, int depth_max, zk_dir **ret_dir)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    size_t size = strlen(path);
    if (size >= PATH_MAX) return -ENAMETOOLONG;
    zk_dir *d = zk_alloc_zeroed(sizeof *d);
    if (!d) return -ENOMEM;
    d->depth_max = depth_max;
    d->path_size = size;
    memcpy(d->path, path, size + 1);
    int rc = zk_blocking(job_open, d);
    if (rc < 0) {
        zk_free(d);
        return rc;
    }
    zk__leak_name(d, "directory", dirfd(d->levels[0].dir));
    *ret_dir = d;
    return 0;
}

int zk_dir_next(zk_dir *dir, zk_dir_entry *ret_entry)
{
    int rc = zk__spend();
    if (rc < 0) return rc;
    if (dir->batch_next == dir->batch_size) {
        if (dir->is_done) return 0;
        rc = zk_blocking(job_fill, dir);
        if (rc < 0) return rc;
        if (!dir->batch_size) return 0;
    }
    const record *r = (const record *)(const void *)(dir->batch + dir->batch_next);
    const char *path = (const char *)(r + 1);
    dir->batch_next += r->bytes;
    if (r->error < 0) return zk_fail(r->error, "%s", path);
    *ret_entry = (zk_dir_entry){
        .path = path,
        .name = path + r->name_offset,
        .kind = (zk_file_kind)r->kind,
        .depth = r->depth,
    };
    return 1;
}

void zk_dir_close(zk_dir *dir)
{
    if (!dir) return;
    while (dir->level_count)
        level_pop(dir);
    zk_free(dir);
}
