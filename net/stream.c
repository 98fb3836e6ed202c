/*
 * The functions that all streams share: see stream.h for what a kind of stream provides.
 */
#include "net/stream.h"

#include <errno.h>
#include <limits.h>

#include "core/worker.h"

/* Whether the calling worker may use the stream; the first one to do so keeps it. */
static inline bool is_ours(zk_stream *stream)
{
    zk__worker *self = zk__worker_self();
    if (ZK_LIKELY(stream->worker == self)) return true;
    if (stream->worker) return false;
    stream->worker = self;
    return true;
}

ssize_t zk_stream_read(zk_stream *stream, void *buf, size_t size)
{
    if (ZK_UNLIKELY(!is_ours(stream))) return ZK_E_WORKER;
    return size ? stream->ops->read(stream, buf, size, false) : 0;
}

ssize_t zk_stream_try_read(zk_stream *stream, void *buf, size_t size)
{
    if (ZK_UNLIKELY(!is_ours(stream))) return ZK_E_WORKER;
    return size ? stream->ops->read(stream, buf, size, true) : 0;
}

ssize_t zk_stream_try_write(zk_stream *stream, const void *data, size_t size)
{
    if (ZK_UNLIKELY(!is_ours(stream))) return ZK_E_WORKER;
    struct iovec iov = {(void *)data, size};
    return size ? stream->ops->writev(stream, &iov, 1, true) : 0;
}

int zk_stream_write(zk_stream *stream, const void *data, size_t size)
{
    struct iovec iov = {(void *)data, size};
    return zk_stream_writev(stream, &iov, 1);
}

int zk_stream_writev(zk_stream *stream, struct iovec *iov, int iov_count)
{
    if (ZK_UNLIKELY(!is_ours(stream))) return ZK_E_WORKER;
    for (;;) {
        while (iov_count && !iov->iov_len)
            iov++, iov_count--;
        if (!iov_count) return 0;
        ssize_t n =
            stream->ops->writev(stream, iov, iov_count < IOV_MAX ? iov_count : IOV_MAX, false);
        if (n < 0) return (int)n;
        size_t left = (size_t)n;
        while (left && left >= iov->iov_len) {
            left -= iov->iov_len;
            iov++, iov_count--;
        }
        if (left) {
            iov->iov_base = (char *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
}

int zk_stream_shutdown(zk_stream *stream)
{
    return is_ours(stream) ? stream->ops->shutdown(stream) : ZK_E_WORKER;
}

void zk_stream_close(zk_stream *stream)
{
    if (!stream) return;
    if (!is_ours(stream)) zk__panic("zk_stream_close on another worker than the stream's");
    zk_stream_unpark(stream);
    stream->ops->close(stream);
}

int zk_stream_park(zk_stream *stream, void (*on_ready)(void *context), void *context)
{
    if (ZK_UNLIKELY(!is_ours(stream))) return ZK_E_WORKER;
    stream->context = context;
    stream->on_ready = on_ready;
    int rc = stream->ops->park(stream);
    if (rc) stream->on_ready = NULL;
    return rc;
}

void zk_stream_unpark(zk_stream *stream)
{
    if (!stream->on_ready) return;
    stream->on_ready = NULL;
    stream->ops->unpark(stream);
}

void zk_stream_on_hangup(zk_stream *stream, void (*on_hangup)(void *context, zk_hangup how),
                         void *context)
{
    stream->on_hangup = on_hangup;
    if (!on_hangup) return;
    stream->context = context;
    stream->ops->watch(stream);
}

int zk_stream_peer(const zk_stream *stream, zk_addr *ret_addr)
{
    return stream->ops->address(stream, true, ret_addr);
}

int zk_stream_local(const zk_stream *stream, zk_addr *ret_addr)
{
    return stream->ops->address(stream, false, ret_addr);
}
