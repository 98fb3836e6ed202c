/*
 * Makes calls fail: the Nth that the library makes in this process, in one of several manners.
 */
#ifndef ZOKIO_TESTS_TORTURE_INJECT_H
#define ZOKIO_TESTS_TORTURE_INJECT_H

#include <stdatomic.h>

typedef enum torture_manner {
    TORTURE_ONCE,      /* the call fails */
    TORTURE_STRETCH,   /* it and the next ones: a system in need stays so for a while */
    TORTURE_INTERRUPT, /* it is interrupted by a signal; counts only what can be */
    TORTURE_SHORT,     /* it moves one byte; counts only what moves bytes */
    TORTURE_MANNERS
} torture_manner;

enum { TORTURE_STRETCH_CALLS = 16 };

enum { TORTURE_PATHS_MAX = 1 << 15 };

/* Shared by the test's process, which counts, and the one that looks at it. */
typedef struct torture {
    torture_manner manner;
    int first; /* the call to fail, from 1; 0: none, and the paths are noted */
    atomic_int calls;
    _Atomic(const char *) failed; /* the name of the first that did */
    int descriptors;              /* open at the end; -1: it did not come to its end */
    /* The number of the first call on each path of functions that led to one. */
    atomic_int path_count;
    int path_firsts[TORTURE_PATHS_MAX];
    atomic_ullong paths[2 * TORTURE_PATHS_MAX]; /* hashes, an open table */
} torture;

extern torture *torture_state; /* NULL: nothing fails */

#endif
