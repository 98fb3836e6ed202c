/*
 * Bytes between the engine and the inner stream.
 *
 *   inner stream --pull--> worker's in --BIO--> engine --BIO--> worker's out --end--> inner stream
 *                             |   ^                                 |           ^
 *                             v   |                                 v           | on_room
 *                        connection's in                      connection's pending
 *
 * The engine never waits: its BIO reads from memory and writes to memory. These buffers are the
 * worker's, for only one call goes on at a time; a connection has its own only for what is left
 * over, so none while it is idle. All connections of a worker share one BIO: it has no state but
 * the worker's. A connection on top of another has buffers of its own depth.
 *
 * What the inner stream does not take is pending: it is sent from the poller's callbacks as room
 * comes up, in the background also of a connection that was closed.
 */
#include <errno.h>
#include <string.h>

#include "net/tls.h"

enum { READ_MIN_BYTES = 4096, RECORD_EXTRA_BYTES = 512 };
/* More than any handshake has, and far more than any record. */
enum { BARREN_BYTES_MAX = 256 * 1024 };
/* Answers to what a peer sends that takes none of them. */
enum { PENDING_BYTES_MAX = ZK__TLS_OUT_BYTES + 16 * 1024 };
/* How long a closed one is kept for a peer that takes nothing, and for one that sends nothing. */
static const zk_time send_time = ZK_SEC(30), discard_time = ZK_SEC(1);

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *buf, size_t size, size_t *ret_size)
{
    zk__tls_worker *w = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!w->source_size) {
        if (!w->is_source_ended) BIO_set_retry_read(bio);
        *ret_size = 0;
        return 0;
    }
    if (size > w->source_size) size = w->source_size;
    memcpy(buf, w->source, size);
    w->source += size;
    w->source_size -= size;
    *ret_size = size;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t size, size_t *ret_size)
{
    zk__tls_worker *w = BIO_get_data(bio);
    size_t room = ZK__TLS_OUT_BYTES - w->out_size;
    BIO_clear_retry_flags(bio);
    if (w->current && w->current->is_in_kernel) {
        *ret_size = size;
        return zk__tls_kernel_add(w->current, data, size);
    }
    if (size > room) size = room;
    *ret_size = size;
    if (!size) {
        BIO_set_retry_write(bio);
        return 0;
    }
    memcpy(w->out + w->out_size, data, size);
    w->out_size += size;
    return 1;
}

/* OpenSSL's own names for these are not public; their numbers are the same in all of 3.x. */
enum {
    CTRL_KTLS_KEYS = 72, /* number: whether for sending */
    CTRL_KTLS_IS_SENDING = 73,
    CTRL_KTLS_RECORD_TYPE = 74, /* of what is written next */
};

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    zk__tls_worker *w = BIO_get_data(bio);
    zk__tls_stream *s = w->current;
    switch (command) {
    case BIO_CTRL_EOF: return w->is_source_ended && !w->source_size;
    case BIO_CTRL_FLUSH: return 1;
    case CTRL_KTLS_KEYS: return s && number && zk__tls_kernel_start(s, pointer);
    case CTRL_KTLS_IS_SENDING: return s && s->is_in_kernel;
    case CTRL_KTLS_RECORD_TYPE:
        if (s) s->record_type = (uint8_t)number;
        return 0;
    default: return 0;
    }
}

static BIO_METHOD *method;

static void method_make(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "zokio");
    if (!made) return;
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_ctrl(made, bio_ctrl);
    method = made;
}

/* ---- the worker's part ---- */

typedef struct zk__tls_settle_wait {
    zk__wait wait;
    struct zk__tls_settle_wait *next, **link;
} settle_wait;

static void settle_end(settle_wait *s, int rc)
{
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    zk__wait_end(&s->wait, rc);
}

static void settle_cancel(zk__wait *wait) { settle_end((settle_wait *)(void *)wait, -ECANCELED); }

int zk__tls_settle(void)
{
    int rc = zk__wait_begin();
    zk__tls_worker *w = zk__worker_self()->slots[ZK__SLOT_TLS].state;
    if (rc < 0 || !w || !w->closed) return rc;
    static const zk__wait_kind kind = {.name = "closed TLS connections"};
    settle_wait s = {.wait.cancel = settle_cancel, .wait.kind = &kind, .next = w->settling};
    s.link = &w->settling;
    if (s.next) s.next->link = &s.next;
    w->settling = &s;
    return (int)zk__wait_for(&s.wait);
}

static void close_now(zk__tls_stream *s)
{
    zk_stream *inner = s->inner;
    zk__tls_worker *w = s->worker;
    if (s->link) {
        *s->link = s->next;
        if (s->next) s->next->link = s->link;
        zk__wheel_remove(&zk__worker_self()->wheel, &s->timer);
        while (!w->closed && w->settling)
            settle_end(w->settling, 0);
    }
    zk__tls_stream_free(s);
    zk_stream_close(inner);
}

static void worker_done(void *state)
{
    zk__tls_worker *w = state;
    if (w->deeper) worker_done(w->deeper);
    while (w->closed)
        close_now(w->closed);
    BIO_free(w->bio);
    zk_free(w);
}

static zk__tls_worker *worker_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, method_make);
    zk__tls_worker *w = method ? zk_alloc(sizeof *w) : NULL;
    if (!w) return NULL;
    w->bio = BIO_new(method);
    if (!w->bio) {
        ERR_clear_error();
        zk_free(w);
        return NULL;
    }
    BIO_set_data(w->bio, w);
    BIO_set_init(w->bio, 1);
    w->source_size = w->out_size = 0;
    w->is_source_ended = false;
    w->closed = NULL;
    w->settling = NULL;
    w->deeper = NULL;
    w->current = NULL;
    return w;
}

zk__tls_worker *zk__tls_worker_get(const zk_stream *inner)
{
    const zk__tls_stream *below = zk__tls_stream_of(inner);
    if (below) {
        if (!below->worker->deeper) below->worker->deeper = worker_new();
        return below->worker->deeper;
    }
    zk__slot *slot = &zk__worker_self()->slots[ZK__SLOT_TLS];
    if (!slot->state) {
        slot->state = worker_new();
        slot->done = worker_done;
    }
    return slot->state;
}

/* ---- closed connections ---- */

static void on_timer(zk__timer *timer)
{
    close_now((zk__tls_stream *)(void *)((char *)timer - offsetof(zk__tls_stream, timer)));
}

static void timer_start(zk__tls_stream *s, zk_time span)
{
    zk__wheel *wheel = &zk__worker_self()->wheel;
    zk__wheel_remove(wheel, &s->timer);
    s->timer.fire = on_timer;
    zk__wheel_add(wheel, &s->timer, zk_now() + span);
}

static void linger(zk__tls_stream *s, zk_time span)
{
    zk__tls_worker *w = s->worker;
    if (!s->link) {
        s->next = w->closed;
        s->link = &w->closed;
        if (s->next) s->next->link = &s->next;
        w->closed = s;
    }
    timer_start(s, span);
}

/* Reads and forgets what has come; waits if that is nothing. */
static void discard(void *context)
{
    zk__tls_stream *s = context;
    char scrap[4096];
    ssize_t n = zk_stream_try_read(s->inner, scrap, sizeof scrap);
    if (n == -EAGAIN && zk_stream_park(s->inner, discard, s) == 0) return;
    for (int i = 0; n > 0 && i < 16; i++)
        n = zk_stream_try_read(s->inner, scrap, sizeof scrap);
    close_now(s);
}

void zk__tls_finish(zk__tls_stream *s)
{
    if (s->pending && !s->is_reset) {
        linger(s, send_time);
        return;
    }
    /* A client that has only written has tickets to read. TCP answers the server by a reset when it
     * is closed with bytes unread, and then the server may lose what it has not read yet. */
    bool has_tickets_to_read = !s->tls->is_server && !s->is_settled && !s->is_reset &&
                               !s->read_rc && !s->write_rc && !s->is_inner_ended;
    if (!has_tickets_to_read) {
        close_now(s);
        return;
    }
    s->is_settled = true;
    linger(s, discard_time);
    if (!s->is_inner_shut) (void)zk_stream_shutdown(s->inner);
    s->is_inner_shut = true;
    discard(s);
}

/* ---- to the inner stream ---- */

void zk__tls_pending_free(zk__tls_stream *s)
{
    zk__tls_pending *p = s->pending;
    s->pending = NULL;
    if (p->is_awaiting) s->inner->ops->forget_room(s->inner, &p->room);
    zk_free(p->bytes);
    zk_free(p);
}

/* Nothing is pending any more, or writing has failed. May free the stream. */
static void drained(zk__tls_stream *s)
{
    if (s->is_shut && !s->is_inner_shut) {
        s->is_inner_shut = true;
        (void)zk_stream_shutdown(s->inner);
    }
    if (s->link) {
        zk__tls_finish(s);
        return;
    }
    zk__wait *wait = s->writer;
    s->writer = NULL;
    if (wait) zk__wait_end(wait, 0);
    zk__room *above = s->room;
    s->room = NULL;
    if (above) above->on_room(above);
}

static void write_failed(zk__tls_stream *s, int rc)
{
    if (!s->write_rc) s->write_rc = rc;
    if (s->pending) zk__tls_pending_free(s);
    drained(s);
}

static ssize_t write_once(zk__tls_stream *s, const char *data, size_t size)
{
    if (ZK_UNLIKELY(s->is_in_kernel)) return zk__tls_kernel_send(s, data, size);
    return zk_stream_try_write(s->inner, data, size);
}

/* Writes what the inner stream takes. returns how much; an error but for -EAGAIN is in *ret_rc. */
static size_t write_some(zk__tls_stream *s, const char *data, size_t size, int *ret_rc)
{
    size_t done = 0;
    *ret_rc = 0;
    while (done < size) {
        ssize_t n = write_once(s, data + done, size - done);
        if (n < 0) {
            if (n != -EAGAIN) *ret_rc = (int)n;
            break;
        }
        done += (size_t)n;
    }
    return done;
}

/* Goes on until all is sent, or the inner stream will tell that it has room. */
static void pending_send(zk__tls_stream *s)
{
    zk__tls_pending *p = s->pending;
    while (p->begin < p->end) { /* none if only room was awaited */
        int rc;
        p->begin += write_some(s, p->bytes + p->begin, p->end - p->begin, &rc);
        if (!rc && p->begin == p->end) break;
        if (!rc) rc = s->inner->ops->await_room(s->inner, &p->room);
        p->is_awaiting = rc == 0;
        if (rc > 0) continue;
        if (rc < 0) write_failed(s, rc);
        return;
    }
    zk__tls_pending_free(s);
    drained(s);
}

static void on_room(zk__room *room)
{
    zk__tls_pending *p = (zk__tls_pending *)(void *)room;
    p->is_awaiting = false;
    if (p->stream->link) timer_start(p->stream, send_time);
    pending_send(p->stream);
}

/* Puts bytes behind what is pending. returns 0, -ENOMEM, ZK_E_LIMIT. */
static int pending_add(zk__tls_stream *s, const char *data, size_t size)
{
    zk__tls_pending *p = s->pending;
    size_t before = p->end - p->begin;
    if (before + size > PENDING_BYTES_MAX) return ZK_E_LIMIT;
    char *bytes = zk_alloc(before + size);
    if (!bytes) return -ENOMEM;
    if (before) memcpy(bytes, p->bytes + p->begin, before);
    memcpy(bytes + before, data, size);
    zk_free(p->bytes);
    p->bytes = bytes;
    p->begin = 0;
    p->end = before + size;
    return 0;
}

static int pending_new(zk__tls_stream *s)
{
    zk__tls_pending *p = zk_alloc_zeroed(sizeof *p);
    if (!p) return -ENOMEM;
    p->room.on_room = on_room;
    p->stream = s;
    s->pending = p;
    return 0;
}

int zk__tls_await_inner(zk__tls_stream *s)
{
    int rc = pending_new(s);
    if (rc < 0) return rc;
    rc = s->inner->ops->await_room(s->inner, &s->pending->room);
    s->pending->is_awaiting = rc == 0;
    if (rc) zk__tls_pending_free(s);
    return rc;
}

/* Sends what the engine has written. */
static void out_send(zk__tls_stream *s, const char *data, size_t size)
{
    int rc = 0;
    size_t done = 0;
    bool is_first = !s->pending;
    if (is_first) done = write_some(s, data, size, &rc);
    if (!rc && done == size) return;
    if (!rc && is_first) rc = pending_new(s);
    if (!rc) rc = pending_add(s, data + done, size - done);
    if (!rc) {
        if (is_first) pending_send(s);
        return;
    }
    if (rc == ZK_E_LIMIT && !s->read_rc) s->read_rc = rc;
    write_failed(s, rc);
}

/* ---- around a call into the engine ---- */

void zk__tls_begin(zk__tls_stream *s)
{
    zk__tls_worker *w = s->worker;
    w->source = s->in ? s->in + s->in_begin : NULL;
    w->source_size = s->in ? s->in_end - s->in_begin : 0;
    w->is_source_ended = s->is_inner_ended;
    w->out_size = 0;
    w->current = s;
}

static void in_free(zk__tls_stream *s)
{
    zk_free(s->in);
    s->in = NULL;
}

/* Keeps what the engine has not read. */
static void in_keep(zk__tls_stream *s, zk__tls_worker *w)
{
    if (ZK_LIKELY(!w->source_size)) {
        if (s->in) in_free(s);
        return;
    }
    if (s->in) {
        s->in_begin = s->in_end - (uint32_t)w->source_size;
        return;
    }
    s->in = zk_alloc(w->source_size);
    if (!s->in) {
        if (!s->read_rc) s->read_rc = -ENOMEM;
        return;
    }
    memcpy(s->in, w->source, w->source_size);
    s->in_begin = 0;
    s->in_end = (uint32_t)w->source_size;
}

void zk__tls_end(zk__tls_stream *s)
{
    zk__tls_worker *w = s->worker;
    in_keep(s, w);
    size_t size = w->out_size;
    w->source_size = w->out_size = 0;
    w->current = NULL;
    if (!size || s->write_rc) return;
    if (s->inner->ops->io) {
        out_send(s, w->out, size);
        return;
    }
    /* Writing to a stream that is no descriptor may call who reads it, and he may use the worker's
     * buffers. */
    char *copy = zk_alloc(size);
    if (!copy) {
        write_failed(s, -ENOMEM);
        return;
    }
    memcpy(copy, w->out, size);
    out_send(s, copy, size);
    zk_free(copy);
}

ssize_t zk__tls_pull(zk__tls_stream *s, size_t want)
{
    zk__tls_worker *w = s->worker;
    if (s->in) in_free(s);
    if (want > ZK__TLS_IN_BYTES - RECORD_EXTRA_BYTES) want = ZK__TLS_IN_BYTES - RECORD_EXTRA_BYTES;
    if (want < READ_MIN_BYTES) want = READ_MIN_BYTES;
    ssize_t n = zk_stream_try_read(s->inner, w->in, want + RECORD_EXTRA_BYTES);
    if (ZK_UNLIKELY(n <= 0)) {
        if (n == 0) {
            s->is_inner_ended = w->is_source_ended = true;
        } else if (n != -EAGAIN) {
            s->read_rc = (int)n;
        }
        return n;
    }
    s->is_settled = true;
    s->barren_bytes += (uint32_t)n;
    if (ZK_UNLIKELY(s->barren_bytes > BARREN_BYTES_MAX)) {
        s->reason = "too many bytes without data";
        return s->read_rc = ZK_E_LIMIT;
    }
    w->source = w->in;
    w->source_size = (size_t)n;
    return n;
}
