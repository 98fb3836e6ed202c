/*
 * What tests of dumps share: taking one, finding lines in it, tasks that wait for this and that.
 */
#ifndef ZOKIO_TESTS_DUMPS_H
#define ZOKIO_TESTS_DUMPS_H

#include "tests/async.h"

#include <errno.h>
#include <pthread.h>

#include <zokio/channel.h>
#include <zokio/dump.h>
#include <zokio/iter.h>
#include <zokio/select.h>
#include <zokio/signal.h>
#include <zokio/sync.h>

enum { TEXT_BYTES = 64 * 1024 };

static char text[TEXT_BYTES];

static inline void keep(void *context, const char *line)
{
    size_t *length = context;
    *length += (size_t)snprintf(text + *length, sizeof text - *length, "%s\n", line);
}

static inline const char *dump(void)
{
    size_t length = 0;
    text[0] = '\0';
    cr_assert_ok(zk_dump(keep, &length));
    return text;
}

/* The line of the dump that contains this; fails if there is none. */
static inline const char *line_with(const char *wanted)
{
    static char line[1024];
    const char *at = strstr(text, wanted);
    cr_assert(at, "no \"%s\" in:\n%s", wanted, text);
    const char *begin = at, *end = strchr(at, '\n');
    while (begin > text && begin[-1] != '\n')
        begin--;
    snprintf(line, sizeof line, "%.*s", (int)(end - begin), begin);
    return line;
}

#define assert_line(task, wanted)                                                                  \
    cr_assert(strstr(line_with(task), wanted), "no \"%s\" in \"%s\" in:\n%s", wanted,              \
              line_with(task), text)

static inline int sleeper(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_SEC(100));
}

/* Lets those that are ready run until they wait. */
static inline void settle(void)
{
    for (int i = 0; i < 3; i++)
        cr_assert_ok(zk_yield());
}

/* ---- tasks ---- */

static inline int lock_one(void *arg)
{
    zk_mutex *m = *(zk_mutex **)arg;
    int rc = zk_mutex_lock(m);
    if (!rc) zk_mutex_unlock(m);
    return rc;
}

typedef struct ends {
    zk_channel *in, *out;
} ends;

static inline int pass_on(void *arg)
{
    const ends *e = arg;
    for (int item;;) {
        int rc = zk_channel_recv(e->in, &item);
        if (!rc) rc = zk_channel_send(e->out, &item);
        if (rc < 0) return rc;
    }
}

static inline ends ends_new(size_t capacity)
{
    ends e;
    cr_assert_ok(zk_channel_new(sizeof(int), capacity, &e.in));
    cr_assert_ok(zk_channel_new(sizeof(int), capacity, &e.out));
    return e;
}

static inline void ends_free(ends e)
{
    zk_channel_free(e.in);
    zk_channel_free(e.out);
}

static zk_semaphore permits = ZK_SEMAPHORE(1);
static zk_barrier barrier = ZK_BARRIER(3);
static zk_wait_group group;
static zk_rwlock lock;

static inline int acquire(void *arg) { return zk_semaphore_acquire(&permits, *(size_t *)arg); }
static inline int meet(void *arg) { return (void)arg, zk_barrier_wait(&barrier); }
static inline int wait_group(void *arg) { return (void)arg, zk_wait_group_wait(&group); }
static inline int write_it(void *arg) { return (void)arg, zk_rwlock_write(&lock); }

#endif
