/*
 * What the test program has open, for tests that look for descriptors left behind.
 */
#ifndef ZOKIO_TESTS_OPEN_COUNT_H
#define ZOKIO_TESTS_OPEN_COUNT_H

#include "tests/test.h"

#include <dirent.h>

/* Entries of a folder, but for "." and "..". */
static inline int entries_of(const char *path)
{
    int count = -2;
    DIR *dir = opendir(path);
    cr_assert(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Descriptors that the process has. */
static inline int open_count(void) { return entries_of("/proc/self/fd") - 1; }

#endif
