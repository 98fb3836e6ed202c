/*
 * Reading the bodies of HTTP/1.1 requests.
 *
 * Bytes come into the session's buffer behind the head, which has to stay in place, or, for a body
 * of known length, straight into the handler's own buffer.
 */
#include <errno.h>
#include <string.h>

#include "http/h1_conn.h"

enum { DISCARD_MAX = 256 * 1024 };

typedef struct reading {
    zk_stream *stream;
    void *buf;
    size_t size;
} reading;

static ssize_t read_wait(void *arg)
{
    reading *r = arg;
    return zk_stream_read(r->stream, r->buf, r->size);
}

/* Reads, waiting no longer than the limits say. returns bytes (> 0) or an error; the client's end
 * is ZK_E_CLOSED. */
static ssize_t read_some(zk__session *x, void *buf, size_t size)
{
    zk_stream *stream = x->conn->stream;
    ssize_t n = zk_stream_try_read(stream, buf, size);
    if (n == -EAGAIN) n = zk__body_wait(&x->req, read_wait, &(reading){stream, buf, size});
    return n == 0 ? ZK_E_CLOSED : n;
}

static int continue_send(zk__session *x)
{
    x->owes_continue = false;
    /* A final response says as much to a client that waits, and nothing may stand behind its
     * head. */
    if (x->res.state != ZK__RESPONSE_NONE) return 0;
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (sizeof text - 1 > ZK__H1_OUT_BYTES - x->out_size) {
        int rc = zk__h1_flush(x);
        if (rc < 0) return rc;
    }
    memcpy(x->out + x->out_size, text, sizeof text - 1);
    x->out_size += sizeof text - 1;
    return zk__h1_flush(x);
}

/* Gets more bytes of the body into the buffer. */
static int fill(zk__session *x)
{
    if (x->in_begin == x->in_end) x->in_begin = x->in_end = x->body_base;
    if (x->in_end == x->in_capacity) {
        /* A part of a line at the very end: it moves to where there is room behind it. */
        if (x->in_begin == x->body_base) return ZK_E_HTTP_HEADER_TOO_LARGE;
        x->in_end -= x->in_begin - x->body_base;
        memmove(x->in + x->body_base, x->in + x->in_begin, x->in_end - x->body_base);
        x->in_begin = x->body_base;
    }
    ssize_t n = read_some(x, x->in + x->in_end, x->in_capacity - x->in_end);
    if (n < 0) return (int)n;
    x->in_end += (size_t)n;
    return 0;
}

/* Parses what is in the buffer into x->span. returns 1 when there is something in it or the body
 * has ended, 0: more is needed. */
static int parse(zk__session *x)
{
    while (x->in_begin < x->in_end) {
        zk_str span = {NULL, 0};
        ptrdiff_t n = zk__h1_body(&x->h1, x->in + x->in_begin, x->in_end - x->in_begin, &span,
                                  x->trailers, &x->req.trailer_count);
        if (n < 0) return (int)n;
        if (n == 0) return 0;
        x->in_begin += (size_t)n;
        x->span = span;
        if (x->h1.state == ZK__H1_DONE) {
            x->req.trailers = x->trailers;
            return 1;
        }
        if (span.size) return 1;
    }
    return 0;
}

static ssize_t take_span(zk__session *x, void *buf, size_t size)
{
    size_t n = x->span.size < size ? x->span.size : size;
    memcpy(buf, x->span.data, n);
    x->span.data += n;
    x->span.size -= n;
    return (ssize_t)n;
}

/* Straight into the handler's buffer: the length is known and nothing is buffered. */
static ssize_t read_direct(zk__session *x, void *buf, size_t size)
{
    size_t part = x->h1.body_left < size ? (size_t)x->h1.body_left : size;
    ssize_t n = read_some(x, buf, part);
    if (n < 0) return n;
    zk_str span;
    ptrdiff_t counted = zk__h1_body(&x->h1, buf, (size_t)n, &span, NULL, NULL);
    return counted < 0 ? counted : n;
}

ssize_t zk__h1_body_read(zk_request *req, void *buf, size_t size)
{
    zk__session *x = zk__session_of(req);
    for (;;) {
        if (x->span.size) return take_span(x, buf, size);
        if (x->h1.state == ZK__H1_DONE) {
            req->is_body_done = true;
            return 0;
        }
        int rc = parse(x);
        if (rc < 0) return rc;
        if (rc) continue;
        if (x->owes_continue && (rc = continue_send(x)) < 0) return rc;
        if (x->in_begin == x->in_end && x->framing == ZK__H1_LENGTH) {
            return read_direct(x, buf, size);
        }
        rc = fill(x);
        if (rc < 0) return rc;
    }
}

int zk__h1_body_view(zk_request *req, zk_str *ret)
{
    zk__session *x = zk__session_of(req);
    if (x->framing != ZK__H1_LENGTH || x->span.size ||
        x->h1.body_left > x->in_end - x->in_begin) {
        return 0;
    }
    int rc = parse(x);
    if (rc <= 0) return 0;
    *ret = x->span;
    req->body_taken += x->span.size;
    x->span.size = 0;
    req->is_body_done = true;
    return 1;
}

bool zk__h1_body_is_short(const zk__session *x)
{
    return x->framing != ZK__H1_LENGTH || x->h1.body_left <= DISCARD_MAX;
}

bool zk__h1_body_discard(zk__session *x)
{
    char scrap[4096];
    if (x->req.is_body_done || x->h1.state == ZK__H1_DONE) return true;
    /* A client that waits for a 100 will not send its body; what it sends next cannot be told from
     * it. */
    if (x->owes_continue || x->req.body_error) return false;
    if (!zk__h1_body_is_short(x)) return false;
    for (size_t discarded = 0; discarded < DISCARD_MAX;) {
        ssize_t n = zk__h1_body_read(&x->req, scrap, sizeof scrap);
        if (n <= 0) return n == 0;
        discarded += (size_t)n;
        x->req.body_taken += (size_t)n;
    }
    return false;
}
