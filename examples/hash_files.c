/*
 * Hashes all files below a directory, several at once on all workers, and prints the sums in the
 * order of their names: hash_files [DIRECTORY]
 *
 * The walk collects names; each file is a task. A semaphore bounds how many are open at once. What
 * a task finds out lies in the file's record, so the order of finishing does not matter.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zokio/file.h>
#include <zokio/sync.h>
#include <zokio/task.h>

enum { AT_ONCE = 16, BUFFER_BYTES = 65536 };

typedef struct file {
    char *path;
    uint64_t sum;
    int rc;
} file;

typedef struct files {
    file *all;
    size_t count, capacity;
    zk_semaphore permits;
} files;

static int add(files *f, const char *path)
{
    if (f->count == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 64;
        file *all = realloc(f->all, capacity * sizeof *all);
        if (!all) return -ENOMEM;
        f->all = all;
        f->capacity = capacity;
    }
    char *copy = strdup(path);
    if (!copy) return -ENOMEM;
    f->all[f->count++] = (file){.path = copy};
    return 0;
}

static int find(files *f, const char *path)
{
    zk_dir *dir;
    zk_dir_entry entry;
    int rc = zk_dir_open(path, -1, &dir);
    if (rc < 0) return zk_fail(rc, "%s", path);
    while ((rc = zk_dir_next(dir, &entry)) > 0) {
        if (entry.kind == ZK_KIND_FILE) rc = add(f, entry.path);
        if (rc < 0) break;
    }
    zk_dir_close(dir);
    return rc;
}

/* FNV-1a. */
static uint64_t hash(uint64_t sum, const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static int hash_open_file(file *f, zk_file *opened)
{
    unsigned char *buf = zk_alloc(BUFFER_BYTES);
    if (!buf) return -ENOMEM;
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    ssize_t n;
    while ((n = zk_file_read(opened, buf, BUFFER_BYTES)) > 0)
        sum = hash(sum, buf, (size_t)n);
    zk_free(buf);
    f->sum = sum;
    return (int)n;
}

typedef struct job {
    files *files;
    size_t index;
} job;

/* One file's error is its own: it does not end the others. */
static int hash_file(void *arg)
{
    job *j = arg;
    file *f = &j->files->all[j->index];
    zk_file *opened;
    f->rc = zk_file_open(f->path, O_RDONLY, 0, &opened);
    if (f->rc >= 0) {
        f->rc = hash_open_file(f, opened);
        zk_file_close(opened);
    }
    zk_semaphore_release(&j->files->permits, 1);
    return 0;
}

static int hash_all(files *f)
{
    int rc = 0;
    ZK_SCOPE(s) {
        for (size_t i = 0; i < f->count && rc >= 0; i++) {
            rc = zk_semaphore_acquire(&f->permits, 1);
            if (rc >= 0) rc = zk_spawn(&s, hash_file, &((job){f, i}));
        }
    }
    return rc;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const file *)a)->path, ((const file *)b)->path);
}

static int run(void *arg)
{
    files f = {.permits = ZK_SEMAPHORE(AT_ONCE)};
    int rc = find(&f, arg), failed = 0;
    if (rc >= 0) {
        if (f.count) qsort(f.all, f.count, sizeof *f.all, by_path);
        rc = hash_all(&f);
    }
    for (size_t i = 0; i < f.count; i++) {
        if (rc >= 0 && f.all[i].rc >= 0)
            printf("%016" PRIx64 "  %s\n", f.all[i].sum, f.all[i].path);
        if (rc >= 0 && f.all[i].rc < 0) {
            fprintf(stderr, "hash_files: %s: %s\n", f.all[i].path, zk_strerror(f.all[i].rc));
            failed++;
        }
        free(f.all[i].path);
    }
    free(f.all);
    return rc < 0 ? rc : failed;
}

int main(int argc, char **argv)
{
    int rc = zk_run(NULL, run, argc > 1 ? argv[1] : ".");
    if (rc < 0) fprintf(stderr, "hash_files: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc != 0;
}
