/*
 * Files: reading, writing and their errors; whole files; names; cancellation, and what is left
 * open.
 */
#include "tests/core/folder.h"

#include <pthread.h>

#include <zokio/file.h>

#include "core/file.h"

static zk_file *open_file(const char *name, int flags)
{
    zk_file *file;
    cr_assert_ok(zk_file_open(in_folder(name), flags, 0644, &file));
    return file;
}

/* ---- reading and writing ---- */

FOLDER_TEST(file, what_is_written_is_read_again)
{
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    char buf[20] = "";
    cr_assert_ok(zk_file_write(file, "hello ", 6));
    cr_assert_ok(zk_file_write(file, "world", 5));
    cr_assert_ok(zk_file_write(file, NULL, 0));
    cr_assert_rc(zk_file_read(file, buf, sizeof buf), 0, "at the end");
    cr_assert_rc(zk_file_read_at(file, buf, 5, 6), 5);
    cr_assert_str_eq(buf, "world");
    cr_assert_ok(zk_file_write_at(file, "W", 1, 6));
    cr_assert_rc(zk_file_read_at(file, buf, sizeof buf, 3), 8, "as many as there are");
    cr_assert_arr_eq(buf, "lo World", 8);
    cr_assert_rc(zk_file_read_at(file, buf, 1, 11), 0);
    cr_assert_rc(zk_file_read_at(file, buf, 0, 0), 0);
    cr_assert_ok(zk_file_close(file));
    file = open_file("a", O_RDONLY);
    cr_assert_rc(zk_file_read(file, buf, 6), 6);
    cr_assert_rc(zk_file_read(file, buf, sizeof buf), 5, "from where the last one ended");
    cr_assert_arr_eq(buf, "World", 5);
    cr_assert_ok(zk_file_close(file));
    cr_assert_ok(zk_file_close(NULL));
}

FOLDER_TEST(file, appending_writes_at_the_end)
{
    zk_file *file = open_file("a", O_WRONLY | O_CREAT | O_APPEND);
    zk_file *other = open_file("a", O_WRONLY | O_APPEND);
    cr_assert_ok(zk_file_write(file, "one", 3));
    cr_assert_ok(zk_file_write(other, "two", 3));
    cr_assert_ok(zk_file_write(file, "three", 5));
    cr_assert_ok(zk_file_close(file));
    cr_assert_ok(zk_file_close(other));
    cr_assert_content("a", "onetwothree");
}

/* More than the quick way reads at once, and not from the start of a page. */
FOLDER_TEST(file, a_megabyte_comes_back_as_it_went)
{
    enum { SIZE = 1 << 20 };
    char *out = zk_alloc(SIZE), *in = zk_alloc(SIZE);
    cr_assert(out && in);
    for (size_t i = 0; i < SIZE; i++)
        out[i] = (char)(i * 31 >> 5);
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    cr_assert_ok(zk_file_write_at(file, out, SIZE, 77));
    for (size_t got = 0; got < SIZE;) {
        ssize_t n = zk_file_read_at(file, in + got, SIZE - got, 77 + (int64_t)got);
        cr_assert_gt(n, 0);
        got += (size_t)n;
    }
    cr_assert_arr_eq(in, out, SIZE);
    cr_assert_ok(zk_file_close(file));
    zk_free(in);
    zk_free(out);
}

FOLDER_TEST(file, stat_truncate_and_sync)
{
    struct stat st;
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    cr_assert_ok(zk_file_write(file, "0123456789", 10));
    cr_assert_ok(zk_file_sync_data(file));
    cr_assert_ok(zk_file_sync(file));
    cr_assert_ok(zk_file_truncate(file, 4));
    cr_assert_ok(zk_file_stat(file, &st));
    cr_assert(st.st_size == 4 && S_ISREG(st.st_mode));
    cr_assert_ok(zk_file_truncate(file, 1 << 20));
    cr_assert_ok(zk_file_stat(file, &st));
    cr_assert_eq(st.st_size, 1 << 20);
    cr_assert_rc(zk_file_truncate(file, -1), -EINVAL);
    cr_assert_ok(zk_file_close(file));
}

FOLDER_TEST(file, errors_of_opening_are_told)
{
    zk_file *file = NULL;
    cr_assert_rc(zk_file_open(in_folder("none"), O_RDONLY, 0, &file), -ENOENT);
    cr_assert_rc(zk_file_open(in_folder(""), O_WRONLY, 0, &file), -EISDIR);
    zk_file *there = open_file("a", O_RDONLY | O_CREAT);
    cr_assert_rc(zk_file_open(in_folder("a"), O_RDWR | O_CREAT | O_EXCL, 0600, &file), -EEXIST);
    cr_assert_rc(zk_file_open(in_folder("a/b"), O_RDONLY, 0, &file), -ENOTDIR);
    cr_assert_null(file, "untouched");
    cr_assert_ok(zk_file_close(there));
}

FOLDER_TEST(file, errors_of_reading_and_writing_are_told)
{
    char c;
    struct stat st;
    zk_file *reader = open_file("a", O_RDONLY | O_CREAT), *writer = open_file("a", O_WRONLY);
    cr_assert_rc(zk_file_write(reader, "x", 1), -EBADF);
    cr_assert_rc(zk_file_write_at(reader, "x", 1, 0), -EBADF);
    cr_assert_rc(zk_file_truncate(reader, 0), -EINVAL);
    cr_assert_rc(zk_file_read(writer, &c, 1), -EBADF);
    cr_assert_rc(zk_file_read_at(writer, &c, 1, 0), -EBADF);
    cr_assert_rc(zk_file_read_at(reader, &c, 1, -1), -EINVAL);
    cr_assert_rc(zk_file_write_at(writer, "x", 1, -1), -EINVAL);
    cr_assert_rc(zk_file_write_at(writer, "xy", 2, INT64_MAX - 1), -EINVAL);
    cr_assert_ok(zk_file_stat(reader, &st));
    cr_assert_eq(st.st_size, 0, "nothing of it was written");
    cr_assert_ok(zk_file_close(reader));
    cr_assert_ok(zk_file_close(writer));
    reader = open_file("", O_RDONLY | O_DIRECTORY);
    cr_assert_rc(zk_file_read(reader, &c, 1), -EISDIR);
    cr_assert_ok(zk_file_close(reader));
    zk_file *full;
    cr_assert_ok(zk_file_open("/dev/full", O_WRONLY, 0, &full));
    cr_assert_rc(zk_file_write(full, "x", 1), -ENOSPC);
    cr_assert_ok(zk_file_close(full));
    zk_file *pipe_like;
    int ends[2];
    cr_assert(!pipe(ends));
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    cr_assert_ok(zk_file_open(path, O_WRONLY, 0, &pipe_like));
    cr_assert_rc(zk_file_sync(pipe_like), -EINVAL);
    cr_assert_rc(zk_file_sync_data(pipe_like), -EINVAL);
    cr_assert_ok(zk_file_close(pipe_like));
    close(ends[0]);
    close(ends[1]);
}

FOLDER_TEST(file, is_closed_on_exec)
{
    zk_file *file = open_file("a", O_RDONLY | O_CREAT);
    cr_assert(fcntl(zk__file_fd(file), F_GETFD) & FD_CLOEXEC);
    cr_assert_ok(zk_file_close(file));
}

static int read_first(void *arg)
{
    char c;
    ssize_t n = zk_file_read_at(arg, &c, 1, 0);
    return n == 1 && c == 'x' ? zk_file_write_at(arg, "x", 1, 0) : -EIO;
}

FOLDER_TEST_ON(file, serves_tasks_of_all_workers, 3)
{
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    cr_assert_ok(zk_file_write(file, "x", 1));
    ZK_SCOPE(s) {
        for (int i = 0; i < 30; i++) {
            zk_spawn_options options = {.worker = 1 + i % 3};
            cr_assert_ok(zk_spawn_with(&s, &options, read_first, file));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_ok(zk_file_close(file));
}

static int count_one(void *arg) { return ++*(int *)arg; }

/* A task that reads what is cached must not keep its worker for ever. */
FOLDER_TEST(file, cached_reads_let_others_run)
{
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    cr_assert_ok(zk_file_write(file, "x", 1));
    int others = 0;
    char c;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, count_one, (void *)&others));
        for (int i = 0; i < 1000 && !others; i++)
            cr_assert_rc(zk_file_read_at(file, &c, 1, 0), 1);
        cr_assert_eq(others, 1);
    }
    cr_assert_ok(zk_file_close(file));
}

/* ---- whole files ---- */

FOLDER_TEST(file, read_all_takes_files_of_every_size)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 300000};
    static char content[300000];
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)(i % 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *data = NULL;
        size_t size = 99;
        cr_assert_ok(zk_file_write_all(in_folder("a"), content, sizes[i], NULL));
        cr_assert_ok(zk_file_read_all(in_folder("a"), sizes[i], &data, &size));
        cr_assert_eq(size, sizes[i]);
        cr_assert(memcmp(data, content, size) == 0 && data[size] == '\0');
        zk_free(data);
        if (!sizes[i]) continue;
        data = NULL;
        cr_assert_rc(zk_file_read_all(in_folder("a"), sizes[i] - 1, &data, &size), ZK_E_LIMIT);
        cr_assert_null(data, "untouched");
    }
}

/* Files of /proc say that they are empty; a device never ends. */
FOLDER_TEST(file, read_all_does_not_trust_the_size)
{
    char *data = NULL;
    size_t size;
    cr_assert_ok(zk_file_read_all("/proc/self/smaps", 16 << 20, &data, &size));
    cr_assert_gt(size, 4096);
    zk_free(data);
    cr_assert_rc(zk_file_read_all("/proc/self/smaps", 5000, &data, &size), ZK_E_LIMIT);
    cr_assert_rc(zk_file_read_all("/dev/zero", 100000, &data, &size), ZK_E_LIMIT);
    cr_assert_rc(zk_file_read_all("/proc/self/status", 10, &data, &size), ZK_E_LIMIT);
    cr_assert_ok(zk_file_read_all("/dev/null", 0, &data, &size));
    cr_assert_eq(size, 0);
    zk_free(data);
}

FOLDER_TEST(file, read_all_tells_errors)
{
    char *data = NULL;
    size_t size;
    int open_before = open_count();
    cr_assert_rc(zk_file_read_all(in_folder("none"), 100, &data, &size), -ENOENT);
    cr_assert_rc(zk_file_read_all(in_folder(""), 100, &data, &size), -EISDIR);
    cr_assert_rc(zk_file_read_all("/proc/self/mem", 100, &data, &size), -EIO);
    cr_assert_null(data, "untouched");
    cr_assert_eq(open_count(), open_before);
}

FOLDER_TEST(file, write_all_replaces_and_leaves_nothing_beside)
{
    struct stat st;
    int open_before = open_count();
    cr_assert_ok(zk_file_write_all(in_folder("a"), "old content", 11, NULL));
    zk_write_options options = {.mode = 0600, .is_synced = true};
    cr_assert_ok(zk_file_write_all(in_folder("a"), "new", 3, &options));
    cr_assert_content("a", "new");
    cr_assert_ok(zk_path_stat(in_folder("a"), &st));
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(entry_count(), 1);
    cr_assert(!chdir(in_folder("")));
    cr_assert_ok(zk_file_write_all("a", "bare name", 9, &options));
    cr_assert_content("a", "bare name");
    cr_assert_eq(open_count(), open_before);
}

FOLDER_TEST(file, write_all_that_fails_leaves_the_old_file)
{
    char long_name[5000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    int open_before = open_count();
    cr_assert_ok(zk_path_make_dir(in_folder("dir"), 0700));
    cr_assert_rc(zk_file_write_all(in_folder("dir"), "x", 1, NULL), -EISDIR);
    cr_assert_rc(zk_file_write_all(in_folder("none/a"), "x", 1, NULL), -ENOENT);
    cr_assert_rc(zk_file_write_all(long_name, "x", 1, NULL), -ENAMETOOLONG);
    cr_assert_ok(zk_file_write_all(in_folder("a"), "old", 3, NULL));
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit, small = {.rlim_cur = 1000};
    getrlimit(RLIMIT_FSIZE, &limit);
    small.rlim_max = limit.rlim_max;
    char data[2000] = "";
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = zk_file_write_all(in_folder("a"), data, sizeof data, NULL);
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_assert_rc(rc, -EFBIG);
    cr_assert_content("a", "old");
    cr_assert_eq(entry_count(), 2, "no temporary file is left");
    cr_assert_eq(open_count(), open_before);
}

/* ---- names ---- */

FOLDER_TEST(file, names_are_made_changed_and_removed)
{
    struct stat st;
    char from[300];
    cr_assert_ok(zk_path_make_dir(in_folder("dir"), 0700));
    cr_assert_rc(zk_path_make_dir(in_folder("dir"), 0700), -EEXIST);
    cr_assert_ok(zk_file_write_all(in_folder("dir/a"), "x", 1, NULL));
    cr_assert_rc(zk_path_remove_dir(in_folder("dir")), -ENOTEMPTY);
    snprintf(from, sizeof from, "%s", in_folder("dir/a"));
    cr_assert_ok(zk_path_rename(from, in_folder("b")));
    cr_assert_rc(zk_path_rename(from, in_folder("b")), -ENOENT);
    cr_assert_rc(zk_path_stat(from, &st), -ENOENT);
    cr_assert(!symlink("b", in_folder("link")));
    cr_assert_ok(zk_path_stat(in_folder("link"), &st));
    cr_assert(S_ISREG(st.st_mode) && st.st_size == 1);
    cr_assert_ok(zk_path_link_stat(in_folder("link"), &st));
    cr_assert(S_ISLNK(st.st_mode));
    cr_assert_ok(zk_path_unlink(in_folder("link")));
    cr_assert_rc(zk_path_link_stat(in_folder("link"), &st), -ENOENT);
    cr_assert_rc(zk_path_unlink(in_folder("dir")), -EISDIR);
    cr_assert_ok(zk_path_remove_dir(in_folder("dir")));
    cr_assert_ok(zk_path_unlink(in_folder("b")));
    cr_assert_eq(entry_count(), 0);
}

/* ---- cancellation ---- */

/* Every function refuses to begin, and nothing has happened but what must. */
static void try_all(zk_file *file, int wanted)
{
    char *data = NULL, c = 'c';
    size_t size;
    struct stat st;
    zk_file *other = NULL;
    cr_assert_rc(zk_file_open(in_folder("new"), O_WRONLY | O_CREAT, 0600, &other), wanted);
    cr_assert_rc(zk_file_read(file, &c, 1), wanted);
    cr_assert_rc(zk_file_read_at(file, &c, 1, 0), wanted);
    cr_assert_rc(zk_file_write(file, "y", 1), wanted);
    cr_assert_rc(zk_file_write_at(file, "y", 1, 0), wanted);
    cr_assert_rc(zk_file_stat(file, &st), wanted);
    cr_assert_rc(zk_file_truncate(file, 0), wanted);
    cr_assert_rc(zk_file_sync(file), wanted);
    cr_assert_rc(zk_file_sync_data(file), wanted);
    cr_assert_rc(zk_file_read_all(in_folder("a"), 10, &data, &size), wanted);
    cr_assert_rc(zk_file_write_all(in_folder("a"), "y", 1, NULL), wanted);
    cr_assert_rc(zk_path_stat(in_folder("a"), &st), wanted);
    cr_assert_rc(zk_path_link_stat(in_folder("a"), &st), wanted);
    cr_assert_rc(zk_path_unlink(in_folder("a")), wanted);
    cr_assert_rc(zk_path_rename(in_folder("a"), "b"), wanted);
    cr_assert_rc(zk_path_make_dir(in_folder("new"), 0700), wanted);
    cr_assert_rc(zk_path_remove_dir(in_folder("")), wanted);
    cr_assert(!other && !data && c == 'c', "untouched");
}

FOLDER_TEST(file, in_a_cancelled_scope_nothing_begins_but_closing)
{
    int open_before = open_count();
    zk_file *file = open_file("a", O_RDWR | O_CREAT);
    cr_assert_ok(zk_file_write(file, "x", 1));
    ZK_WITHIN(0) {
        try_all(file, -ETIMEDOUT);
    }
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        try_all(file, -ECANCELED);
        cr_assert_ok(zk_file_close(file));
    }
    cr_assert_content("a", "x");
    cr_assert_eq(entry_count(), 1);
    cr_assert_eq(open_count(), open_before);
}

typedef struct fifo_open {
    const char *path;
    zk_file *file;
    int rc;
} fifo_open;

static int open_fifo(void *arg)
{
    fifo_open *f = arg;
    f->rc = zk_file_open(f->path, O_RDONLY, 0, &f->file);
    return 0;
}

/* An open that has begun is waited for, and what it has opened is handed over. */
FOLDER_TEST(file, a_cancelled_open_leaks_nothing)
{
    int open_before = open_count();
    fifo_open f = {.path = in_folder("fifo"), .rc = 1};
    cr_assert(!mkfifo(f.path, 0600));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, open_fifo, (void *)&f));
        int fd = -1;
        /* It can be opened so as soon as a reader is there: the open has begun. */
        while (fd < 0) {
            fd = open(f.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
            if (fd < 0) cr_assert_ok(zk_yield());
        }
        zk_scope_cancel(&s);
        close(fd);
        (void)zk_scope_wait(&s);
    }
    cr_assert_rc(f.rc, 0);
    cr_assert_ok(zk_file_close(f.file));
    cr_assert_eq(open_count(), open_before);
}

static int read_pipe(void *arg)
{
    char buf[8];
    ssize_t n = zk_file_read(arg, buf, sizeof buf);
    if (n < 0) return (int)n;
    return n == 2 && buf[0] == 'h' ? 7 : -EIO;
}

/* A read that is cancelled has begun and is waited for, or leaves the bytes where they are. */
FOLDER_TEST(file, a_cancelled_read_loses_nothing)
{
    int ends[2];
    char path[40];
    zk_file *file;
    cr_assert(!pipe(ends));
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    cr_assert_ok(zk_file_open(path, O_RDONLY, 0, &file));
    for (int round = 0; round < 100; round++) {
        ZK_SCOPE(s) {
            zk_future f;
            zk_async(&f, read_pipe, file);
            for (int i = 0; i < round % 20; i++)
                cr_assert_ok(zk_yield());
            cr_assert(write(ends[1], "hi", 2) == 2);
            zk_scope_cancel(&s);
            int rc = zk_await(&f);
            if (rc == 7) continue;
            cr_assert_rc(rc, -ECANCELED);
            cr_assert_rc(read(ends[0], path, 2), 2);
        }
    }
    cr_assert_ok(zk_file_close(file));
    close(ends[0]);
    close(ends[1]);
}

ZK_TEST(file, outside_a_runtime_every_function_says_so)
{
    char *data;
    size_t size;
    struct stat st;
    zk_file *file;
    cr_assert_rc(zk_file_open("/", O_RDONLY, 0, &file), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_file_read_all("/dev/null", 1, &data, &size), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_file_write_all("/dev/null", "", 0, NULL), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_path_stat("/", &st), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_path_unlink(""), ZK_E_NO_RUNTIME);
}
