/*
 * Sending on a stream, as the server and the client do it.
 */
#ifndef ZOKIO_HTTP_SEND_H
#define ZOKIO_HTTP_SEND_H

#include <errno.h>

#include "core/task.h"
#include "net/stream.h"

/* What a wait in a scope of its own has come to, seen from outside of that: a deadline of its own
 * is ZK_E_HTTP_TIMEOUT. */
static inline ssize_t zk__wait_outcome(const zk_scope *wait, ssize_t n)
{
    if (n == -ETIMEDOUT && !wait->parent->reason) return ZK_E_HTTP_TIMEOUT;
    if (n == -ECANCELED && wait->parent->reason) return wait->parent->reason;
    return n;
}

/* -1: for ever. */
static inline zk_time zk__wait_span(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms);
}

/* Waits until some of it has been written. returns bytes; ZK_E_HTTP_TIMEOUT; as zk_stream_write. */
static inline ssize_t zk__write_within(zk_stream *stream, const struct iovec *iov, int count,
                                       int timeout_ms)
{
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, zk__wait_span(timeout_ms));
    return zk__wait_outcome(&wait, stream->ops->writev(stream, iov, count, false));
}

/* The same for bytes of a file. returns bytes; ZK_E_HTTP_TIMEOUT; as zk__stream_send_file_some. */
static inline ssize_t zk__send_file_within(zk_stream *stream, zk_file *file, int64_t offset,
                                           uint64_t size, int timeout_ms)
{
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, zk__wait_span(timeout_ms));
    return zk__wait_outcome(&wait, zk__stream_send_file_some(stream, file, offset, size));
}

/* Leaves out the first n bytes, and what is empty. returns how many are left of `count`, which
 * begin at *iov. */
static inline int zk__iov_advance(struct iovec **iov, int count, size_t n)
{
    while (count && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        ++*iov;
        count--;
    }
    if (count && n) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
    return count;
}

#endif
