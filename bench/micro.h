/*
 * What the files of micro share.
 */
#ifndef ZOKIO_BENCH_MICRO_H
#define ZOKIO_BENCH_MICRO_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <zokio/zokio.h>

typedef struct row {
    const char *name;
    double (*measure)(void); /* one round: ns per operation */
    bool is_single;          /* one round says it */
    int workers;             /* 0: one; 2: in a runtime of its own, its workers pinned */
} row;

extern const row task_rows[], channel_rows[], ws_rows[]; /* each ends with {0} */

static inline double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The rows' own calls succeed, or the figure is worth nothing. */
static inline void must(int rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "micro: %s\n", zk_strerror(rc));
    exit(1);
}

#if __has_attribute(noipa) /* gcc looks behind noinline, too */
#define OPAQUE __attribute__((noinline, noipa))
#else
#define OPAQUE __attribute__((noinline))
#endif

int nothing(void *arg);

#endif
