/*
 * Seeing inside: what every task is doing right now.
 */
#ifndef ZOKIO_DUMP_H
#define ZOKIO_DUMP_H

#include <zokio/base.h>
#include <zokio/error.h>

ZK_BEGIN

/** Takes one line of a dump, without a line feed. The line is gone when this returns. */
typedef void zk_dump_write(void *context, const char *line);

/**
 * Describes all tasks: name, where each was started, its worker, whether it runs, is ready, has not
 * started or waits, and then for what, held by whom or with whom at a channel's other end, since
 * when, and its backtrace. A line that begins with "deadlock:" names tasks that wait for one
 * another in a circle, or says that no task can go on; then the next lines say why.
 *
 * Each worker describes its own tasks between two of them. One that does not come to it within 100
 * ms is said to be busy, with the task that it runs. Blocks the calling thread meanwhile, and never
 * suspends. At most 65,536 tasks of a worker are described.
 *
 * @param write  is called on the calling thread, and must not suspend
 * @return 0; ZK_E_NO_RUNTIME; -ENOMEM. On a thread that is no worker the runtime must not end
 *         meanwhile
 */
ZK_API int zk_dump(zk_dump_write *write, void *context);

/**
 * Something that was not freed or closed when zk_run returned. It is looked for in debug builds of
 * the library, with zk_config.finds_leaks and with ZOKIO_LEAKS=1, and reported to
 * zk_config.on_leak, or to stderr. All of it is gone when that returns.
 */
typedef struct zk_leak {
    const char *what;           /* "memory", "stream", "listener", "file", ... */
    size_t bytes;               /* of memory */
    int fd;                     /* the descriptor that it holds; -1: none */
    const struct zk_site *task; /* the task that made it, and where that was started */
    const char *backtrace;      /* how it was made: a line per call, parted by line feeds */
} zk_leak;

ZK_END
#endif
