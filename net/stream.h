/*
 * What a kind of stream provides. The functions of <zokio/stream.h> are these behind checks and
 * loops.
 */
#ifndef ZOKIO_NET_STREAM_H
#define ZOKIO_NET_STREAM_H

#include <zokio/stream.h>

#include "core/poller.h"

/* Told when a stream that was full takes bytes again. */
typedef struct zk__room zk__room;
struct zk__room {
    void (*on_room)(
        zk__room *room); /* on the worker's loop; must not suspend; may close the stream */
    zk__op op;           /* the stream's */
};

enum { ZK__SINK_NONE = 1 };

struct zk__stream_ops {
    const char *kind;
    /* Some bytes; suspends unless try_only, then -EAGAIN. */
    ssize_t (*read)(zk_stream *stream, void *buf, size_t size, bool try_only);
    ssize_t (*writev)(zk_stream *stream, const struct iovec *iov, int iov_count, bool try_only);
    int (*shutdown)(zk_stream *stream);
    /* Closing is to break the connection off rather than to end it. */
    void (*reset_on_close)(zk_stream *stream);
    void (*close)(zk_stream *stream);
    /* 0: on_ready will be called; 1: there is something already; < 0: error. */
    int (*park)(zk_stream *stream);
    void (*unpark)(zk_stream *stream);
    /* Calls on_room once, when a write would find room or fail. Nobody may be writing meanwhile.
     * 0: it will be called; 1: there is room already; < 0: error. */
    int (*await_room)(zk_stream *stream, zk__room *room);
    /* Takes that back; only while it is awaited. */
    void (*forget_room)(zk_stream *stream, zk__room *room);
    /* on_hangup has been set or cleared. */
    void (*watch)(zk_stream *stream);
    /* NULL, or the descriptor that carries the bytes as they are, for copying by the kernel */
    struct zk__io *(*io)(zk_stream *stream);
    /* NULL: as io. Else the descriptor that takes what follows on what was written, as it is, for
     * copying by the kernel; waits until it does, if it is_full. ret_io may be NULL: then it only
     * tells whether there is one. 0; ZK__SINK_NONE; an error. */
    int (*sink)(zk_stream *stream, bool is_full, struct zk__io **ret_io);
    int (*address)(const zk_stream *stream, bool is_peer, zk_addr *ret_addr);
};

/* The head of every stream. */
struct zk_stream {
    const struct zk__stream_ops *ops;
    struct zk__worker *worker;       /* that it belongs to: the first to use it */
    void (*on_ready)(void *context); /* set while parked */
    void (*on_hangup)(void *context, zk_hangup how);
    void *context;
};

/*
 * Sends some of a file's bytes by sendfile, waits until the stream takes any.
 * returns how many; -EOPNOTSUPP if it cannot be done with these; -ENODATA if the file is shorter;
 * as zk_stream_write
 */
ssize_t zk__stream_send_file_some(zk_stream *stream, zk_file *file, int64_t offset, uint64_t size);

/* Whether that is likely to be possible. */
bool zk__stream_takes_files(zk_stream *stream);

/* From now on closing tells the peer that what it has got is not all. */
static inline void zk__stream_reset_on_close(zk_stream *stream)
{
    stream->ops->reset_on_close(stream);
}

/* Calls on_ready, once. */
static inline void zk__stream_ready(zk_stream *stream)
{
    void (*on_ready)(void *) = stream->on_ready;
    stream->on_ready = NULL;
    if (on_ready) on_ready(stream->context);
}

#endif
