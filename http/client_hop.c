/*
 * A client's HTTP/1.1 connection, see client_hop.h. The bytes of a body come into the talk's
 * buffer behind the head, which has to stay in place, or straight into the caller's own.
 */
#include "http/client_hop.h"

#include <errno.h>
#include <string.h>

#include "core/worker.h"
#include "http/client_pool.h"
#include "http/send.h"
#include "net/stream.h"

enum { COPY_MAX = ZK__HOP_OUT_BYTES / 4, INTERIM_MAX = 16 };

static int broken(zk__hop *l, int rc)
{
    l->is_broken = true;
    return rc;
}

static const zk__hop_limits *limits(const zk__hop *l) { return &l->origin->pool->limits; }

void zk__hop_begin(zk__hop *l)
{
    zk__talk *t = l->talk;
    zk__h1_next(&t->h1);
    t->in_begin = t->in_end = t->out_size = 0;
    t->trailer_count = 0;
    t->span = (zk_str){NULL, 0};
    l->has_sent = l->has_received = l->is_request_done = false;
    l->has_head = l->watches = l->is_checked = false;
    l->asked = ZK__H1_ASKED_USUAL;
    l->interim_left = INTERIM_MAX;
}

void zk__hop_ask(zk__hop *l, enum zk__h1_asked asked, bool watches)
{
    l->asked = asked;
    l->watches = watches;
}

/* Parses a head out of what is there. returns 1; 0: more is needed; an error. */
static int head_parse(zk__hop *l)
{
    zk__talk *t = l->talk;
    while (t->in_begin < t->in_end) {
        ptrdiff_t n = zk__h1_parse_response(&t->h1, t->in + t->in_begin, t->in_end - t->in_begin,
                                            l->asked, t->fields, &t->answer);
        if (n <= 0) return (int)n;
        t->in_begin += (size_t)n;
        if (ZK_LIKELY(t->answer.status >= 200 || t->answer.is_switched)) {
            t->body_base = t->in_begin;
            l->has_head = true;
            return 1;
        }
        if (--l->interim_left == 0) return ZK_E_HTTP_HEADER_TOO_LARGE;
        zk__h1_next(&t->h1);
    }
    return 0;
}

/* Makes room for more of a head behind what is there of it. */
static void head_room(zk__talk *t)
{
    if (t->in_begin == t->in_end) {
        t->in_begin = t->in_end = 0;
    } else if (t->in_end == t->in_capacity) {
        memmove(t->in, t->in + t->in_begin, t->in_end - t->in_begin);
        t->in_end -= t->in_begin;
        t->in_begin = 0;
    }
}

/* ---- a response that comes before the request has ended ---- */

/* Looks for one, without waiting. returns 0: there is none, or it wants the rest of the request;
 * -EPIPE: there is one; an error. */
static int early_look(zk__hop *l)
{
    zk__talk *t = l->talk;
    while (!l->has_head) {
        head_room(t);
        ssize_t n = zk_stream_try_read(l->stream, t->in + t->in_end, t->in_capacity - t->in_end);
        if (n == -EAGAIN) return 0;
        if (n <= 0) return n < 0 ? (int)n : ZK_E_CLOSED;
        l->has_received = true;
        t->in_end += (size_t)n;
        int rc = head_parse(l);
        if (rc < 0) return rc;
    }
    return t->answer.status >= 400 || !t->answer.keep_alive ? -EPIPE : 0;
}

typedef struct early_wait {
    zk__wait wait;
    zk__room room;
    bool has_news, has_room, is_over;
} early_wait;

static void early_end(early_wait *w, int rc)
{
    if (!w->is_over) zk__wait_end(&w->wait, rc);
    w->is_over = true;
}

static void early_cancel(zk__wait *wait) { early_end((early_wait *)(void *)wait, -ECANCELED); }

static void on_news(void *context)
{
    early_wait *w = context;
    w->has_news = true;
    early_end(w, 0);
}

static void on_room(zk__room *room)
{
    early_wait *w = (early_wait *)(void *)((char *)room - offsetof(early_wait, room));
    w->has_room = true;
    early_end(w, 0);
}

/* Waits until there is room, or something to read. returns 0; as zk__wait_for. */
static int room_or_news(zk__hop *l)
{
    static const zk__wait_kind kind = {.name = "sending a request"};
    zk_stream *stream = l->stream;
    early_wait w = {.wait = {.cancel = early_cancel, .kind = &kind}, .room.on_room = on_room};
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    rc = zk_stream_park(stream, on_news, &w);
    if (rc) return rc < 0 ? rc : 0;
    rc = stream->ops->await_room(stream, &w.room);
    if (rc == 0) {
        rc = (int)zk__wait_for(&w.wait);
        if (!w.has_room) stream->ops->forget_room(stream, &w.room);
    }
    if (!w.has_news) zk_stream_unpark(stream);
    return rc < 0 ? rc : 0;
}

/* ---- writing ---- */

static bool is_dead(ssize_t rc)
{
    return rc == 0 || rc == ZK_E_CLOSED || rc == -ECONNRESET || rc == -EPIPE ||
           rc == ZK_E_TLS_TRUNCATED;
}

/* Whether a kept connection has ended meanwhile, of which nobody has been told yet. */
static bool has_ended(zk__hop *l)
{
    zk__talk *t = l->talk;
    return zk_stream_try_read(l->stream, t->in, t->in_capacity) != -EAGAIN;
}

/* returns bytes; -EAGAIN: again; an error. */
static ssize_t send_some(zk__hop *l, const struct iovec *iov, int count)
{
    bool may_redial = l->is_checked && l->is_reused && !l->has_sent;
    if (may_redial && has_ended(l)) {
        int rc = zk__hop_redial(l);
        if (rc < 0) return rc;
        may_redial = false;
    }
    ssize_t n = l->stream->ops->writev(l->stream, iov, count, true);
    if (ZK_UNLIKELY(may_redial && is_dead(n))) {
        int rc = zk__hop_redial(l);
        return rc < 0 ? rc : -EAGAIN;
    }
    if (n != -EAGAIN) return n;
    int timeout_ms = limits(l)->write_timeout_ms;
    if (!l->watches || l->has_head) return zk__write_within(l->stream, iov, count, timeout_ms);
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, zk__wait_span(timeout_ms));
    n = zk__wait_outcome(&wait, room_or_news(l));
    if (n == 0) n = early_look(l);
    return n < 0 ? n : -EAGAIN;
}

static int send_all(zk__hop *l, struct iovec *iov, int count)
{
    count = zk__iov_advance(&iov, count, 0);
    while (count) {
        ssize_t n = send_some(l, iov, count);
        if (n == -EAGAIN) continue;
        if (n < 0) return broken(l, (int)n);
        l->has_sent = true;
        count = zk__iov_advance(&iov, count, (size_t)n);
    }
    return 0;
}

int zk__hop_flush(zk__hop *l)
{
    zk__talk *t = l->talk;
    struct iovec iov = {t->out, t->out_size};
    t->out_size = 0;
    return send_all(l, &iov, 1);
}

int zk__hop_put_more(zk__hop *l, const void *data, size_t size)
{
    zk__talk *t = l->talk;
    const char *from = data;
    while (size > ZK__HOP_OUT_BYTES - t->out_size) {
        size_t part = ZK__HOP_OUT_BYTES - t->out_size;
        memcpy(t->out + t->out_size, from, part);
        t->out_size += part;
        from += part;
        size -= part;
        int rc = zk__hop_flush(l);
        if (rc < 0) return rc;
    }
    if (size) memcpy(t->out + t->out_size, from, size);
    t->out_size += size;
    return 0;
}

int zk__hop_write(zk__hop *l, const void *data, size_t size)
{
    zk__talk *t = l->talk;
    if (size <= COPY_MAX) return zk__hop_put(l, data, size);
    struct iovec iov[] = {{t->out, t->out_size}, {(void *)data, size}};
    t->out_size = 0;
    return send_all(l, iov, 2);
}

int zk__hop_write_chunk(zk__hop *l, const void *data, size_t size)
{
    char line[24];
    size_t at = sizeof line;
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t n = size; n || at == sizeof line - 2; n >>= 4)
        line[--at] = "0123456789abcdef"[n & 15];
    int rc = zk__hop_put(l, line + at, sizeof line - at);
    if (!rc) rc = zk__hop_write(l, data, size);
    return rc ? rc : zk__hop_put(l, "\r\n", 2);
}

/* ---- reading ---- */

/* returns bytes, 0 at the end of the connection, an error. */
static ssize_t read_some(zk__hop *l, void *buf, size_t size)
{
    ssize_t n = zk_stream_try_read(l->stream, buf, size);
    if (n == -EAGAIN) {
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, zk__wait_span(limits(l)->body_timeout_ms));
        n = zk__wait_outcome(&wait, zk_stream_read(l->stream, buf, size));
    }
    return n;
}

static int head_read(zk__hop *l)
{
    zk__talk *t = l->talk;
    for (;;) {
        int rc = head_parse(l);
        if (rc) return rc;
        head_room(t);
        ssize_t n = zk_stream_read(l->stream, t->in + t->in_end, t->in_capacity - t->in_end);
        if (n <= 0) return n < 0 ? (int)n : ZK_E_CLOSED;
        l->has_received = true;
        t->in_end += (size_t)n;
    }
}

int zk__hop_answer(zk__hop *l)
{
    int rc = 0;
    if (!l->has_head) {
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, zk__wait_span(limits(l)->answer_timeout_ms));
        rc = (int)zk__wait_outcome(&wait, head_read(l));
    }
    if (rc < 0) {
        const char *reason = zk__h1_reason(&l->talk->h1);
        return broken(l, *reason ? zk_fail(rc, "%s", reason) : rc);
    }
    if (!l->talk->answer.keep_alive) l->is_broken = true;
    return 0;
}

/* Gets more bytes of the body into the buffer. returns 1; 0: the connection has ended. */
static int fill(zk__hop *l)
{
    zk__talk *t = l->talk;
    if (t->in_begin == t->in_end) t->in_begin = t->in_end = t->body_base;
    if (t->in_end == t->in_capacity) {
        /* A part of a line at the very end: it moves to where there is room behind it. */
        if (t->in_begin == t->body_base) return ZK_E_HTTP_HEADER_TOO_LARGE;
        t->in_end -= t->in_begin - t->body_base;
        memmove(t->in + t->body_base, t->in + t->in_begin, t->in_end - t->body_base);
        t->in_begin = t->body_base;
    }
    ssize_t n = read_some(l, t->in + t->in_end, t->in_capacity - t->in_end);
    if (n <= 0) return (int)n;
    t->in_end += (size_t)n;
    return 1;
}

/* Parses what is in the buffer into the span. returns 1 when there is something in it or the body
 * has ended; 0: more is needed. */
static int body_parse(zk__hop *l)
{
    zk__talk *t = l->talk;
    while (t->in_begin < t->in_end && t->h1.state == ZK__H1_BODY) {
        zk_str span = {NULL, 0};
        ptrdiff_t n = zk__h1_body(&t->h1, t->in + t->in_begin, t->in_end - t->in_begin, &span,
                                  t->trailers, &t->trailer_count);
        if (n <= 0) return (int)n;
        t->in_begin += (size_t)n;
        t->span = span;
        if (span.size) return 1;
    }
    return t->h1.state == ZK__H1_DONE;
}

void zk__hop_forget_body(zk__hop *l)
{
    int rc;
    do {
        l->talk->span.size = 0;
        rc = body_parse(l);
    } while (rc > 0 && l->talk->h1.state == ZK__H1_BODY);
    l->talk->span.size = 0;
}

/* Makes sure that there is a span. returns 1; 0 at the end of the body. */
static int body_next(zk__hop *l)
{
    zk__talk *t = l->talk;
    while (!t->span.size && t->h1.state != ZK__H1_DONE) {
        int rc = body_parse(l);
        if (!rc) {
            rc = fill(l);
            if (rc == 0) rc = zk__h1_response_end(&t->h1);
        }
        if (rc < 0) return broken(l, rc);
    }
    return t->span.size > 0;
}

int zk__hop_span(zk__hop *l, zk_str *ret_span)
{
    int rc = body_next(l);
    if (rc <= 0) return rc;
    *ret_span = l->talk->span;
    l->talk->span.size = 0;
    return 1;
}

/* Straight into the caller's buffer. */
static ssize_t read_direct(zk__hop *l, void *buf, size_t size)
{
    zk__talk *t = l->talk;
    size_t part = t->h1.body_left < size ? (size_t)t->h1.body_left : size;
    ssize_t n = read_some(l, buf, part);
    if (n == 0) n = zk__h1_response_end(&t->h1);
    if (n < 0) return broken(l, (int)n);
    zk_str span;
    if (n > 0) (void)zk__h1_body(&t->h1, buf, (size_t)n, &span, NULL, NULL);
    return n;
}

ssize_t zk__hop_read(zk__hop *l, void *buf, size_t size)
{
    if (!size) return 0;
    if (zk__hop_is_direct(l)) return read_direct(l, buf, size);
    int rc = body_next(l);
    if (rc <= 0) return rc;
    zk_str *span = &l->talk->span;
    size_t n = span->size < size ? span->size : size;
    memcpy(buf, span->data, n);
    span->data += n;
    span->size -= n;
    return (ssize_t)n;
}
