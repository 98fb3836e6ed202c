/*
 * Walking directories: what is found, how deep, what is not followed, errors on the way,
 * cancellation.
 */
#include "tests/core/folder.h"

#include <stdlib.h>

#include <zokio/file.h>

static void make_dir(const char *name) { cr_assert(!mkdir(in_folder(name), 0700), "%s", name); }

static void make_file(const char *name)
{
    int fd = open(in_folder(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
}

typedef struct listing {
    char *lines[4096];
    int count;
} listing;

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "kind depth path" of each entry, sorted, the paths without the folder's. */
static listing list(int depth_max)
{
    static const char kinds[] = {'f', 'd', 'l', 'o'};
    listing l = {.count = 0};
    zk_dir *dir;
    zk_dir_entry e;
    cr_assert_ok(zk_dir_open(folder, depth_max, &dir));
    int rc;
    while ((rc = zk_dir_next(dir, &e)) > 0) {
        char line[600];
        cr_assert_lt(l.count, 4096);
        cr_assert(strncmp(e.path, folder, strlen(folder)) == 0);
        cr_assert_str_eq(e.name, strrchr(e.path, '/') + 1);
        snprintf(line, sizeof line, "%s %c%d", e.path + strlen(folder) + 1, kinds[e.kind], e.depth);
        l.lines[l.count++] = strdup(line);
    }
    cr_assert_ok(rc);
    cr_assert_rc(zk_dir_next(dir, &e), 0, "the end lasts");
    zk_dir_close(dir);
    qsort(l.lines, (size_t)l.count, sizeof *l.lines, compare);
    return l;
}

static void listing_check(listing l, const char *const *wanted, int count)
{
    cr_assert_eq(l.count, count, "%d entries", l.count);
    for (int i = 0; i < l.count; i++) {
        cr_assert_str_eq(l.lines[i], wanted[i]);
        free(l.lines[i]);
    }
}

#define CHECK(listing, ...)                                                                        \
    do {                                                                                           \
        static const char *const wanted[] = {__VA_ARGS__};                                         \
        listing_check((listing), wanted, (int)(sizeof wanted / sizeof *wanted));                   \
    } while (0)

static void make_tree(void)
{
    make_file("a");
    make_dir("sub");
    make_file("sub/b");
    make_dir("sub/deep");
    make_file("sub/deep/c");
    make_dir("empty");
    cr_assert(!symlink("sub", in_folder("link")));
    cr_assert(!symlink(".", in_folder("sub/loop")));
    cr_assert(!mkfifo(in_folder("fifo"), 0600));
}

FOLDER_TEST(dir, lists_one_level)
{
    make_tree();
    CHECK(list(0), "a f0", "empty d0", "fifo o0", "link l0", "sub d0");
}

FOLDER_TEST(dir, enters_as_many_levels_as_asked_for)
{
    make_tree();
    CHECK(list(1), "a f0", "empty d0", "fifo o0", "link l0", "sub d0", "sub/b f1", "sub/deep d1",
          "sub/loop l1");
}

FOLDER_TEST(dir, walks_all_and_follows_no_link)
{
    int open_before = open_count();
    make_tree();
    CHECK(list(-1), "a f0", "empty d0", "fifo o0", "link l0", "sub d0", "sub/b f1", "sub/deep d1",
          "sub/deep/c f2", "sub/loop l1");
    cr_assert_eq(open_count(), open_before);
}

FOLDER_TEST(dir, a_directory_comes_before_what_is_in_it)
{
    zk_dir *dir;
    zk_dir_entry e;
    make_dir("a");
    make_dir("a/b");
    make_file("a/b/c");
    char want[3][2] = {"a", "b", "c"};
    cr_assert_ok(zk_dir_open(folder, -1, &dir));
    for (int i = 0; i < 3; i++) {
        cr_assert_rc(zk_dir_next(dir, &e), 1);
        cr_assert_str_eq(e.name, want[i]);
    }
    zk_dir_close(dir);
    zk_dir_close(NULL);
}

/* More than one batch holds. */
FOLDER_TEST(dir, finds_each_of_thousands_once)
{
    enum { COUNT = 3000 };
    static bool seen[COUNT];
    char name[40];
    zk_dir *dir;
    zk_dir_entry e;
    make_dir("d");
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%sfile-number-%d", i % 2 ? "d/" : "", i);
        make_file(name);
    }
    cr_assert_ok(zk_dir_open(folder, -1, &dir));
    int rc, files = 0;
    while ((rc = zk_dir_next(dir, &e)) > 0) {
        if (e.kind != ZK_KIND_FILE) continue;
        long number = strtol(strrchr(e.name, '-') + 1, NULL, 10);
        cr_assert(number >= 0 && number < COUNT && !seen[number]);
        seen[number] = true;
        files++;
    }
    cr_assert_ok(rc);
    cr_assert_eq(files, COUNT);
    zk_dir_close(dir);
}

FOLDER_TEST(dir, the_root_and_a_trailing_slash_make_no_double_slash)
{
    zk_dir *dir;
    zk_dir_entry e;
    make_file("a");
    cr_assert_ok(zk_dir_open(in_folder(""), 0, &dir));
    cr_assert_rc(zk_dir_next(dir, &e), 1);
    cr_assert_str_eq(e.path, in_folder("a"));
    zk_dir_close(dir);
    cr_assert_ok(zk_dir_open("/", 0, &dir));
    cr_assert_rc(zk_dir_next(dir, &e), 1);
    cr_assert(e.path[0] == '/' && e.path[1] != '/' && e.name == e.path + 1);
    zk_dir_close(dir);
}

FOLDER_TEST(dir, errors_of_opening_are_told)
{
    zk_dir *dir = NULL;
    char long_name[5000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    make_file("a");
    cr_assert_rc(zk_dir_open(in_folder("none"), 0, &dir), -ENOENT);
    cr_assert_rc(zk_dir_open(in_folder("a"), 0, &dir), -ENOTDIR);
    cr_assert_rc(zk_dir_open("", 0, &dir), -ENOENT);
    cr_assert_rc(zk_dir_open(long_name, 0, &dir), -ENAMETOOLONG);
    cr_assert_null(dir, "untouched");
}

/* The walk goes on after a directory that cannot be entered. */
FOLDER_TEST(dir, an_error_below_is_told_once)
{
    enum { DEEP = ZK_DIR_DEPTH_MAX + 2 };
    char path[2 * DEEP + 10] = "";
    zk_dir *dir;
    zk_dir_entry e;
    for (int i = 0; i < DEEP; i++) {
        snprintf(path + strlen(path), 3, i ? "/d" : "d");
        make_dir(path);
    }
    make_file("a");
    cr_assert_ok(zk_dir_open(folder, -1, &dir));
    int rc, errors = 0, files = 0, dirs = 0;
    while ((rc = zk_dir_next(dir, &e)) != 0) {
        if (rc < 0) {
            cr_assert_rc(rc, ZK_E_LIMIT);
            cr_assert(strstr(zk_trail(), in_folder("d/d/d/d")), "%s", zk_trail());
            errors++;
        } else if (e.kind == ZK_KIND_DIR) {
            dirs++;
        } else {
            files++;
        }
    }
    cr_assert(errors == 1 && files == 1 && dirs == ZK_DIR_DEPTH_MAX + 1, "%d errors %d files %d",
              errors, files, dirs);
    zk_dir_close(dir);
}

FOLDER_TEST(dir, a_path_that_is_too_long_is_an_error_of_its_own)
{
    char name[201];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 22; i++) {
        cr_assert(!mkdirat(at, name, 0700));
        int below = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = below;
    }
    close(at);
    zk_dir *dir;
    zk_dir_entry e;
    cr_assert_ok(zk_dir_open(folder, -1, &dir));
    int rc, found = 0;
    while ((rc = zk_dir_next(dir, &e)) > 0)
        found++;
    cr_assert_rc(rc, -ENAMETOOLONG);
    cr_assert_eq(found, 20);
    cr_assert_rc(zk_dir_next(dir, &e), 0, "and the end after it");
    zk_dir_close(dir);
}

FOLDER_TEST(dir, cancellation_loses_no_entry)
{
    int open_before = open_count();
    zk_dir *dir, *other = NULL;
    zk_dir_entry e = {.name = "untouched"};
    make_file("a");
    make_file("b");
    cr_assert_ok(zk_dir_open(folder, 0, &dir));
    for (int i = 0; i < 2; i++) { /* before a batch is fetched, and while one is there */
        ZK_WITHIN(0) {
            cr_assert_rc(zk_dir_next(dir, &e), -ETIMEDOUT);
            cr_assert_rc(zk_dir_open(folder, 0, &other), -ETIMEDOUT);
        }
        ZK_SCOPE(s) {
            zk_scope_cancel(&s);
            cr_assert_rc(zk_dir_next(dir, &e), -ECANCELED);
        }
        if (i == 0) cr_assert_str_eq(e.name, "untouched");
        cr_assert_rc(zk_dir_next(dir, &e), 1);
    }
    cr_assert_rc(zk_dir_next(dir, &e), 0);
    cr_assert_null(other);
    zk_dir_close(dir);
    cr_assert_ok(zk_dir_open(folder, 0, &dir));
    zk_dir_close(dir); /* half-read */
    cr_assert_eq(open_count(), open_before);
}

ZK_TEST(dir, outside_a_runtime_it_says_so)
{
    zk_dir *dir;
    cr_assert_rc(zk_dir_open("/", 0, &dir), ZK_E_NO_RUNTIME);
}
