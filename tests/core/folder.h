/*
 * Tests with a temporary folder of their own, which is removed at the end.
 */
#ifndef ZOKIO_TESTS_FOLDER_H
#define ZOKIO_TESTS_FOLDER_H

#include "tests/async.h"
#include "tests/open_count.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

static char folder[64];

/* A path below the folder; the last four stay valid. */
static inline const char *in_folder(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline int folder_remove_one(const char *path, const struct stat *st, int type,
                                    struct FTW *ftw)
{
    (void)st, (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static inline void folder_remove(void)
{
    if (folder[0]) nftw(folder, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void folder_make(void)
{
    snprintf(folder, sizeof folder,
             "/tmp/zokio-test-XXXX"
             "XX");
    cr_assert(mkdtemp(folder));
    atexit(folder_remove);
}

static inline int entry_count(void) { return entries_of(folder); }

static inline void content_check(const char *name, const char *wanted)
{
    char got[256] = "";
    int fd = open(name[0] == '/' ? name : in_folder(name), O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", name);
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    cr_assert(n >= 0 && strcmp(got, wanted) == 0, "%s holds \"%s\"", name, got);
}

#define cr_assert_content(name, wanted) content_check((name), (wanted))

#define FOLDER_TEST_ON(suite, name, workers)                                                       \
    static void folder_body_##suite##_##name(void);                                                \
    ZK_ASYNC_TEST_ON(suite, name, workers)                                                         \
    {                                                                                              \
        folder_make();                                                                             \
        folder_body_##suite##_##name();                                                            \
    }                                                                                              \
    static void folder_body_##suite##_##name(void)

#define FOLDER_TEST(suite, name) FOLDER_TEST_ON(suite, name, 1)

#endif
