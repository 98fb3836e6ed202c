/*
 * The stream above: reading, writing, parking and closing.
 *
 * Nothing here waits in the inner stream: it is tried, and when it has nothing the connection parks
 * it and waits for itself. So a call that is cancelled has had no effect, and a reader that waits
 * has no buffer but its own.
 *
 * A connection ends in each direction by itself. Reading: read_rc, or the peer's close_notify
 * (is_ended); an inner stream that ends without one has been cut off. Writing: write_rc, or our
 * close_notify (is_shut), behind which the inner stream is shut down once all is sent.
 */
#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "net/tls.h"

/* Bytes that bring nothing for the user must not keep the worker from others. */
enum { PULLS_MAX = 16 };

static zk__tls_stream *of(zk_stream *stream) { return (zk__tls_stream *)(void *)stream; }

/* ---- the engine ---- */

/* Why a call has not succeeded. returns -EAGAIN: it needs more input; 0: close_notify; else
 * read_rc. */
static int read_end(zk__tls_stream *s)
{
    switch (SSL_get_error(s->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        if (!s->is_inner_ended) return -EAGAIN;
        s->read_rc = ZK_E_TLS_TRUNCATED;
        return s->read_rc;
    case SSL_ERROR_ZERO_RETURN: s->is_ended = true; return 0;
    default:
        s->read_rc = zk__tls_error(s->ssl, &s->reason);
        if (s->read_rc == ZK_E_TLS_PROTOCOL && s->is_inner_ended && !s->reason) {
            s->read_rc = ZK_E_TLS_TRUNCATED;
        }
        return s->read_rc;
    }
}

static ssize_t engine_read(zk__tls_stream *s, void *buf, size_t size, bool is_peek)
{
    size_t n;
    if (ZK_UNLIKELY(ERR_peek_error())) ERR_clear_error();
    int ok = is_peek ? SSL_peek_ex(s->ssl, buf, size, &n) : SSL_read_ex(s->ssl, buf, size, &n);
    return ZK_LIKELY(ok > 0) ? (ssize_t)n : read_end(s);
}

/* Reads, or with is_peek only looks, what is there. returns as zk_stream_try_read. */
static ssize_t fill(zk__tls_stream *s, char *buf, size_t size, bool is_peek)
{
    if (s->read_rc) return s->read_rc;
    if (s->is_ended) return 0;
    size_t got = 0;
    ssize_t n = -EAGAIN;
    int pulls = 0;
    s->is_told = false;
    zk__tls_begin(s);
    while (got < size) {
        if (!s->worker->source_size && !SSL_pending(s->ssl) && !s->is_inner_ended) {
            if (got || pulls++ == PULLS_MAX) break;
            n = zk__tls_pull(s, size);
            if (n < 0) break;
        }
        n = engine_read(s, buf + got, size - got, is_peek);
        int refused = s->is_in_kernel && !s->read_rc ? zk__tls_kernel_check(s) : 0;
        if (n == -EAGAIN && !refused) continue;
        if (n < 0 && refused) n = refused;
        if (n <= 0) break;
        got += (size_t)n;
        s->barren_bytes = 0;
        if (is_peek || refused) break;
    }
    zk__tls_end(s);
    return got ? (ssize_t)got : n > 0 ? -EAGAIN : n;
}

/* What ended reading in a bad way has ended writing, too. */
static int write_rc_of_read(const zk__tls_stream *s)
{
    return s->read_rc == ZK_E_TLS_TRUNCATED ? -EPIPE : s->read_rc;
}

static int write_error(zk__tls_stream *s)
{
    int rc = zk__tls_error(s->ssl, &s->reason);
    return s->read_rc ? write_rc_of_read(s) : rc;
}

static int engine_write(zk__tls_stream *s, const char *data, size_t size)
{
    while (size) {
        size_t n;
        if (ZK_UNLIKELY(ERR_peek_error())) ERR_clear_error();
        if (ZK_UNLIKELY(SSL_write_ex(s->ssl, data, size, &n) <= 0)) {
            return s->write_rc = write_error(s);
        }
        data += n;
        size -= n;
    }
    return 0;
}

/* Fills a record from pieces that are small. returns how much of the batch it is. */
static size_t gather(zk__tls_worker *w, const struct iovec **iov, const struct iovec *end,
                     size_t *offset, size_t room)
{
    size_t size = 0;
    if (room > ZK__TLS_RECORD_BYTES) room = ZK__TLS_RECORD_BYTES;
    while (*iov < end && size < room) {
        size_t n = (*iov)->iov_len - *offset;
        if (n > room - size) n = room - size;
        if (n) memcpy(w->gathered + size, (const char *)(*iov)->iov_base + *offset, n);
        size += n;
        *offset += n;
        if (*offset < (*iov)->iov_len) break;
        ++*iov;
        *offset = 0;
    }
    return size;
}

/* Encrypts a batch. returns how many bytes of the pieces that is; write_rc. */
static ssize_t encrypt(zk__tls_stream *s, const struct iovec *iov, int iov_count)
{
    const struct iovec *end = iov + iov_count;
    size_t done = 0, offset = 0;
    while (iov < end && done < ZK__TLS_BATCH_BYTES) {
        size_t room = ZK__TLS_BATCH_BYTES - done, n = iov->iov_len - offset;
        const char *data = (const char *)iov->iov_base + offset;
        if (iov + 1 == end || n >= ZK__TLS_RECORD_BYTES) {
            if (iov + 1 < end) n -= n % ZK__TLS_RECORD_BYTES;
            if (n > room) n = room;
            offset += n;
            if (offset == iov->iov_len) {
                iov++;
                offset = 0;
            }
        } else {
            data = s->worker->gathered;
            n = gather(s->worker, &iov, end, &offset, room);
        }
        int rc = engine_write(s, data, n);
        if (rc) return rc;
        done += n;
    }
    return (ssize_t)done;
}

/* ---- waiting ---- */

typedef struct tls_wait {
    zk__wait wait;
    zk__tls_stream *stream;
} tls_wait;

static void wake(zk__wait **slot, int rc)
{
    zk__wait *wait = *slot;
    *slot = NULL;
    if (wait) zk__wait_end(wait, rc);
}

static void inner_ready(void *context);

/* Parks the inner stream. returns 0; 1: there is something for the user; an error. */
static int inner_park(zk__tls_stream *s)
{
    char byte;
    for (int i = 0; i < PULLS_MAX; i++) {
        int rc = zk_stream_park(s->inner, inner_ready, s);
        if (rc != 1) return rc;
        if (fill(s, &byte, 1, true) != -EAGAIN) return 1;
    }
    return 1; /* it may not be much; whoever reads will see */
}

/* Called on the worker's loop: the inner stream has something. */
static void inner_ready(void *context)
{
    zk__tls_stream *s = context;
    char byte;
    if (s->reader) {
        s->is_told = true;
        wake(&s->reader, 0);
    } else if (s->head.on_ready) {
        if (fill(s, &byte, 1, true) == -EAGAIN) {
            int rc = inner_park(s);
            if (!rc) return;
            if (rc < 0 && !s->read_rc) s->read_rc = rc;
        }
        s->is_told = true;
        zk__stream_ready(&s->head);
    }
}

static void reader_cancel(zk__wait *wait)
{
    zk__tls_stream *s = ((tls_wait *)(void *)wait)->stream;
    zk_stream_unpark(s->inner);
    wake(&s->reader, -ECANCELED);
}

int zk__tls_wait_readable(zk__tls_stream *s)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    rc = zk_stream_park(s->inner, inner_ready, s);
    if (rc) return rc < 0 ? rc : 0;
    static const zk__wait_kind kind = {.name = "TLS read"};
    tls_wait w = {.wait.cancel = reader_cancel, .wait.kind = &kind, .stream = s};
    s->reader = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

static void writer_cancel(zk__wait *wait)
{
    wake(&((tls_wait *)(void *)wait)->stream->writer, -ECANCELED);
}

int zk__tls_wait_drained(zk__tls_stream *s)
{
    if (!s->pending) return 0;
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    static const zk__wait_kind kind = {.name = "TLS write"};
    tls_wait w = {.wait.cancel = writer_cancel, .wait.kind = &kind, .stream = s};
    s->writer = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

/* ---- what a stream does ---- */

static ssize_t tls_read(zk_stream *stream, void *buf, size_t size, bool try_only)
{
    zk__tls_stream *s = of(stream);
    int rc = try_only ? 0 : zk__spend();
    if (rc < 0) return rc;
    for (;;) {
        ssize_t n = fill(s, buf, size, false);
        if (ZK_LIKELY(n >= 0)) return n;
        if (n != -EAGAIN) return s->reason ? zk_fail((int)n, "reading TLS: %s", s->reason) : n;
        if (try_only) return n;
        rc = zk__tls_wait_readable(s);
        if (!rc) rc = zk__spend();
        if (rc < 0) return rc;
    }
}

/* Waits until nothing is pending, so that what is written next can follow. */
static int write_begin(zk__tls_stream *s, bool try_only)
{
    while (s->pending && !s->write_rc) {
        if (try_only) return -EAGAIN;
        int rc = zk__tls_wait_drained(s);
        if (rc < 0) return rc;
    }
    if (ZK_UNLIKELY(s->write_rc)) return s->write_rc;
    return ZK_UNLIKELY(s->is_shut) ? -EPIPE : 0;
}

/* Waits for the socket. */
static int kernel_wait(zk__tls_stream *s)
{
    int rc = zk__spend();
    if (rc >= 0 && !s->pending) rc = zk__tls_await_inner(s);
    if (rc < 0) return rc;
    return zk__tls_wait_drained(s);
}

/* The pieces for one call, which must not keep the worker from others. returns how many. */
static int kernel_batch(const struct iovec **iov, int count, struct iovec *some)
{
    size_t left = ZK__TLS_KERNEL_BYTES;
    int all = 0;
    while (all < count && (*iov)[all].iov_len <= left)
        left -= (*iov)[all++].iov_len;
    if (ZK_LIKELY(all == count)) return count;
    int n = all < ZK__TLS_KERNEL_PIECES ? all : ZK__TLS_KERNEL_PIECES - 1;
    memcpy(some, *iov, (size_t)n * sizeof *some);
    if (n == all && left) some[n++] = (struct iovec){(*iov)[all].iov_base, left};
    *iov = some;
    return n;
}

/* Past the engine: what has ended it ends this, too. */
static ssize_t kernel_writev(zk__tls_stream *s, const struct iovec *iov, int iov_count,
                             bool try_only)
{
    struct iovec some[ZK__TLS_KERNEL_PIECES];
    iov_count = kernel_batch(&iov, iov_count, some);
    for (;;) {
        int rc = write_begin(s, try_only);
        if (rc < 0) return rc;
        if (s->read_rc) return s->write_rc = write_rc_of_read(s);
        ssize_t n = s->inner->ops->writev(s->inner, iov, iov_count, true);
        if (n != -EAGAIN || try_only) return n;
        rc = kernel_wait(s);
        if (rc < 0) return rc;
    }
}

static ssize_t tls_writev(zk_stream *stream, const struct iovec *iov, int iov_count, bool try_only)
{
    zk__tls_stream *s = of(stream);
    int rc = try_only ? 0 : zk__spend();
    if (rc < 0) return rc;
    if (s->is_in_kernel) return kernel_writev(s, iov, iov_count, try_only);
    rc = write_begin(s, try_only);
    if (ZK_UNLIKELY(rc < 0)) return rc;
    zk__tls_begin(s);
    ssize_t n = encrypt(s, iov, iov_count);
    zk__tls_end(s);
    return ZK_LIKELY(!s->write_rc) ? n : s->write_rc;
}

/* Has the engine say that nothing more comes. */
static void notify(zk__tls_stream *s)
{
    s->is_shut = true;
    /* After a failure it has sent an alert, or must not be called any more. */
    if (s->write_rc || s->read_rc) return;
    /* See tls_kernel.c; if this fails it is tried all the same. */
    if (s->is_in_kernel && !s->pending && !zk__tls_kernel_has_room(s)) (void)zk__tls_await_inner(s);
    zk__tls_begin(s);
    ERR_clear_error();
    if (SSL_shutdown(s->ssl) < 0) ERR_clear_error();
    zk__tls_end(s);
}

static int tls_shutdown(zk_stream *stream)
{
    zk__tls_stream *s = of(stream);
    if (!s->is_shut) notify(s);
    if (s->pending || s->is_inner_shut) return 0; /* it follows what is pending */
    s->is_inner_shut = true;
    return zk_stream_shutdown(s->inner);
}

static void tls_reset_on_close(zk_stream *stream)
{
    zk__tls_stream *s = of(stream);
    s->is_reset = true;
    zk__stream_reset_on_close(s->inner);
}

static void tls_close(zk_stream *stream)
{
    zk__tls_stream *s = of(stream);
    s->head.on_ready = NULL;
    s->head.on_hangup = NULL;
    if (!s->is_shut && !s->is_reset) notify(s);
    zk__tls_finish(s);
}

static int tls_park(zk_stream *stream)
{
    zk__tls_stream *s = of(stream);
    char byte;
    if (s->read_rc || s->is_ended || SSL_pending(s->ssl)) return 1;
    if (s->in && fill(s, &byte, 1, true) != -EAGAIN) return 1;
    return inner_park(s);
}

static void tls_unpark(zk_stream *stream) { zk_stream_unpark(of(stream)->inner); }

/* Room is where nothing is pending. */
static int tls_await_room(zk_stream *stream, zk__room *room)
{
    zk__tls_stream *s = of(stream);
    if (s->write_rc) return 1;
    if (!s->pending) {
        int rc = s->is_in_kernel ? zk__tls_await_inner(s) : 1;
        if (rc) return rc;
    }
    s->room = room;
    return 0;
}

static void tls_forget_room(zk_stream *stream, zk__room *room)
{
    (void)room;
    of(stream)->room = NULL;
}

static void inner_hangup(void *context, zk_hangup how)
{
    zk__tls_stream *s = context;
    /* That no more comes was said before, by close_notify, or whoever is about to read sees it. */
    if (how == ZK_HANGUP_HALF && (s->is_ended || s->is_told)) return;
    if (s->head.on_hangup) s->head.on_hangup(s->head.context, how);
}

static void tls_watch(zk_stream *stream)
{
    zk_stream_on_hangup(of(stream)->inner, inner_hangup, stream);
}

static int tls_address(const zk_stream *stream, bool is_peer, zk_addr *ret_addr)
{
    const zk_stream *inner = zk__tls_stream_of(stream)->inner;
    return inner->ops->address(inner, is_peer, ret_addr);
}

static int tls_sink(zk_stream *stream, bool is_full, struct zk__io **ret_io)
{
    zk__tls_stream *s = of(stream);
    if (!s->is_in_kernel) return ZK__SINK_NONE;
    if (!ret_io) return 0;
    int rc = is_full ? kernel_wait(s) : 0;
    if (!rc) rc = write_begin(s, false);
    if (!rc && s->read_rc) rc = s->write_rc = write_rc_of_read(s);
    if (!rc) *ret_io = s->inner->ops->io(s->inner);
    return rc;
}

static const struct zk__stream_ops tls_ops = {
    .kind = "TLS",
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .reset_on_close = tls_reset_on_close,
    .close = tls_close,
    .park = tls_park,
    .unpark = tls_unpark,
    .await_room = tls_await_room,
    .forget_room = tls_forget_room,
    .watch = tls_watch,
    .sink = tls_sink,
    .address = tls_address,
};

const zk__tls_stream *zk__tls_stream_of(const zk_stream *stream)
{
    return stream->ops == &tls_ops ? (const zk__tls_stream *)(const void *)stream : NULL;
}

zk__tls_stream *zk__tls_stream_new(zk_tls *tls, zk_stream *inner)
{
    zk__tls_stream *s = zk_alloc_zeroed(sizeof *s);
    if (!s) return NULL;
    s->head = (zk_stream){.ops = &tls_ops, .worker = zk__worker_self()};
    s->inner = inner;
    s->tls = tls;
    zk__tls_ref(tls);
    return s;
}

void zk__tls_stream_free(zk__tls_stream *s)
{
    if (s->pending) zk__tls_pending_free(s);
    zk_stream_on_hangup(s->inner, NULL, NULL);
    SSL_free(s->ssl);
    zk__tls_set_give(s->set);
    zk_tls_free(s->tls);
    zk_free(s->host);
    zk_free(s->in);
    zk_free(s);
}
