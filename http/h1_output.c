/*
 * Writing HTTP/1.1 responses: heads, bodies, chunks (RFC 9112 sections 4, 6, 7).
 *
 * Everything is gathered in the session's buffer and sent when that is full, when the input is
 * exhausted, or when the task waits; so the responses to pipelined requests leave in one send. A
 * large body is not copied: it is sent from where it lies, together with what was gathered before
 * it.
 */
#include <errno.h>
#include <string.h>

#include "http/h1_conn.h"
#include "http/send.h"
#include "net/stream.h"

enum { COPY_MAX = ZK__H1_OUT_BYTES / 4 };

/* ---- sending ---- */

/* Sends all of iov, waiting for the client no longer than its timeout at a time. */
static int send_all(zk__session *x, struct iovec *iov, int count)
{
    zk_stream *stream = x->conn->stream;
    count = zk__iov_advance(&iov, count, 0);
    while (count) {
        ssize_t n = stream->ops->writev(stream, iov, count, true);
        if (n == -EAGAIN) {
            n = zk__write_within(stream, iov, count, x->conn->shard->config->write_timeout_ms);
        }
        if (n < 0) return x->res.error = (int)n; /* part of it may have left: nothing may follow */
        count = zk__iov_advance(&iov, count, (size_t)n);
    }
    return 0;
}

int zk__h1_send_unsent(zk__session *x)
{
    zk__conn *c = x->conn;
    zk__bytes *unsent = c->unsent;
    struct iovec iov = {unsent->data, unsent->size};
    c->unsent = NULL;
    int rc = send_all(x, &iov, 1);
    zk_free(unsent);
    return rc;
}

/* Whether there is something that has to leave before anything else. */
static inline bool has_put_off(const zk__session *x)
{
    return x->conn->is_staged || x->conn->unsent;
}

int zk__h1_send_put_off(zk__session *x)
{
    zk__stage_flush(x->conn->shard);
    return x->conn->unsent ? zk__h1_send_unsent(x) : 0;
}

int zk__h1_flush(zk__session *x)
{
    if (ZK_UNLIKELY(has_put_off(x))) {
        int rc = zk__h1_send_put_off(x);
        if (rc < 0) return rc;
    }
    if (!x->out_size) return 0;
    struct iovec iov = {x->out, x->out_size};
    x->out_size = 0;
    return send_all(x, &iov, 1);
}

void zk__h1_try_flush(zk__session *x)
{
    if (x->is_leader) zk__batch_hand_over(x);
    if (ZK_UNLIKELY(x->conn->is_staged)) zk__stage_flush(x->conn->shard);
    if (x->out_size && !x->conn->unsent) {
        ssize_t n = zk_stream_try_write(x->conn->stream, x->out, x->out_size);
        if (n > 0) {
            x->out_size -= (size_t)n;
            memmove(x->out, x->out + n, x->out_size);
        }
    }
    zk__conn_watch(x->conn);
    if (x->out_size) zk__h1_gathered(x); /* the rest, when the task next waits */
}

static int put_slow(zk__session *x, const char *data, size_t size)
{
    while (size) {
        size_t room = ZK__H1_OUT_BYTES - x->out_size, part = size < room ? size : room;
        memcpy(x->out + x->out_size, data, part);
        x->out_size += part;
        data += part;
        size -= part;
        if (!size) break;
        int rc = zk__h1_flush(x);
        if (rc < 0) return rc;
    }
    return 0;
}

/* Gathers some bytes. */
static inline int put(zk__session *x, const void *data, size_t size)
{
    if (ZK_UNLIKELY(size > ZK__H1_OUT_BYTES - x->out_size)) return put_slow(x, data, size);
    memcpy(x->out + x->out_size, data, size);
    x->out_size += size;
    return 0;
}

/* Gathers a body, or sends it at once if it is large. */
static int put_body(zk__session *x, const void *data, size_t size)
{
    if (size <= COPY_MAX) return put(x, data, size);
    if (ZK_UNLIKELY(has_put_off(x))) {
        int rc = zk__h1_send_put_off(x);
        if (rc < 0) return rc;
    }
    struct iovec iov[] = {{x->out, x->out_size}, {(void *)data, size}};
    x->out_size = 0;
    return send_all(x, iov, 2);
}

/* ---- numbers ---- */

static size_t put_decimal_long(char *out, uint64_t n)
{
    size_t count = 0;
    for (uint64_t rest = n; rest; rest /= 10)
        count++;
    for (size_t i = count; i-- > 0; n /= 10)
        out[i] = (char)('0' + n % 10);
    return count;
}

static inline size_t put_decimal(char *out, uint64_t n)
{
    if (ZK_UNLIKELY(n >= 100)) return put_decimal_long(out, n);
    if (n < 10) {
        *out = (char)('0' + n);
        return 1;
    }
    unsigned tens = (unsigned)n * 205 >> 11; /* n / 10, for n < 1,029 */
    out[0] = (char)('0' + tens);
    out[1] = (char)('0' + (n - 10 * tens));
    return 2;
}

static size_t put_hex(char *out, uint64_t n)
{
    size_t count = n ? (size_t)(67 - __builtin_clzll(n)) / 4 : 1;
    for (size_t i = count; i-- > 0; n >>= 4)
        out[i] = "0123456789abcdef"[n & 15];
    return count;
}

/* ---- heads ---- */

/* Whether the connection can carry another request behind this response. */
static bool is_kept(const zk__session *x)
{
    return x->keep_alive && !x->res.is_closing && !x->conn->shard->is_draining &&
           !x->owes_continue && !x->req.body_error &&
           (x->req.is_body_done || x->res.state != ZK__RESPONSE_ENDED || zk__h1_body_is_short(x));
}

static size_t put_status_line(char *out, int status)
{
    if (ZK_LIKELY(status == 200)) {
        memcpy(out, "HTTP/1.1 200 OK\r\n", 17);
        return 17;
    }
    memcpy(out, "HTTP/1.1 ", 9);
    size_t at = 9 + put_decimal(out + 9, (uint64_t)status);
    out[at++] = ' ';
    const char *text = zk_status_text(status);
    size_t size = strlen(text);
    memcpy(out + at, text, size);
    memcpy(out + at + size, "\r\n", 2);
    return at + size + 2;
}

/* The fields that frame the message. returns how many bytes. */
static size_t put_framing(zk__session *x, char *out)
{
    const zk_response *res = &x->res;
    size_t at = 0;
    x->is_chunked = false;
    if (res->length >= 0) {
        /* 204 must not have one; a 304's would be that of another representation (RFC 9110 section
         * 8.6). */
        if (ZK_LIKELY(res->status != 204 && res->status != 304)) {
            memcpy(out, "Content-Length: ", 16);
            at = 16 + put_decimal(out + 16, (uint64_t)res->length);
            memcpy(out + at, "\r\n", 2);
            at += 2;
        }
    } else if (x->minor == 1) {
        if (res->status != 204 && res->status != 304) {
            x->is_chunked = true;
            memcpy(out, "Transfer-Encoding: chunked\r\n", 28);
            at = 28;
        }
    } else {
        x->res.is_closing = true; /* HTTP/1.0: the body ends with the connection */
    }
    if (ZK_UNLIKELY(!is_kept(x))) {
        memcpy(out + at, "Connection: close\r\n", 19);
        at += 19;
        x->res.is_closing = true;
    } else if (ZK_UNLIKELY(x->minor == 0)) {
        memcpy(out + at, "Connection: keep-alive\r\n", 24);
        at += 24;
    }
    return at;
}

static int put_field(zk__session *x, zk_str name, zk_str value)
{
    int rc = put(x, name.data, name.size);
    if (!rc) rc = put(x, ": ", 2);
    if (!rc) rc = put(x, value.data, value.size);
    return rc ? rc : put(x, "\r\n", 2);
}

static int put_fields(zk__session *x, const zk__field_list *list)
{
    int rc = 0;
    for (size_t i = 0; i < list->count && !rc; i++) {
        rc = put_field(x, list->fields[i].name, list->fields[i].value);
    }
    return rc;
}

/* Bytes that the parts of a head with a bounded length can take together. */
enum { HEAD_BOUND = 64 + ZK__COMMON_FIELDS_BYTES + 128 + 32 };

static int put_head(zk__session *x, const char *content_type)
{
    zk_response *res = &x->res;
    int rc = 0;
    zk_str type = res->content_type;
    if (!type.data && content_type) type = (zk_str){content_type, strlen(content_type)};
    if (ZK_UNLIKELY(ZK__H1_OUT_BYTES - x->out_size < HEAD_BOUND)) rc = zk__h1_flush(x);
    if (rc < 0) return rc;
    char *out = x->out + x->out_size;
    size_t at = put_status_line(out, res->status);
    zk_str common = zk__shard_common(x->conn->shard);
    memcpy(out + at, common.data, common.size);
    at += common.size;
    at += put_framing(x, out + at);
    x->out_size += at;
    if (type.data) rc = put_field(x, ZK_STR("Content-Type"), type);
    if (ZK_UNLIKELY(res->fields.count && !rc)) rc = put_fields(x, &res->fields);
    return rc ? rc : put(x, "\r\n", 2);
}

int zk__h1_put_switching(zk_response *res, zk_str protocol)
{
    zk__session *x = zk__session_of(res->req);
    int rc = ZK__H1_OUT_BYTES - x->out_size < HEAD_BOUND ? zk__h1_flush(x) : 0;
    if (rc < 0) return rc;
    x->out_size += put_status_line(x->out + x->out_size, res->status);
    zk_str common = zk__shard_common(x->conn->shard);
    rc = put(x, common.data, common.size);
    if (!rc && protocol.size) {
        rc = put_field(x, ZK_STR("Connection"), ZK_STR("Upgrade"));
        if (!rc) rc = put_field(x, ZK_STR("Upgrade"), protocol);
    }
    if (!rc) rc = put_fields(x, &res->fields);
    return rc ? rc : put(x, "\r\n", 2);
}

/* ---- the transport ---- */

/* Gathered bytes leave with the task's next wait; a task on another stack than the connection's
 * sends them itself. */
static int gathered(zk__session *x, int rc)
{
    if (rc < 0) return rc;
    if (ZK_UNLIKELY(zk__worker_self()->stack != x->stack)) return zk__h1_flush(x);
    zk__h1_gathered(x);
    return 0;
}

/* memcpy, without a call for what is short: most types and many bodies are. */
static inline void copy_short(char *to, const char *from, size_t size)
{
    if (size > 32 || size < 8) {
        if (size) memcpy(to, from, size);
    } else if (size >= 16) {
        memcpy(to, from, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    }
}

/* What put_head writes, for what is by far most common: a 200 with its body, nothing special about
 * either. */
static void put_plain(zk__session *x, zk_str type, const void *body, size_t size)
{
    zk_str plain = zk__shard_plain(x->conn->shard);
    char *out = x->out + x->out_size;
    /* A fixed size is a few moves; what is too much is overwritten. */
    enum { USUAL_BYTES = 96 };
    memcpy(out, plain.data, USUAL_BYTES);
    if (ZK_UNLIKELY(plain.size > USUAL_BYTES)) {
        memcpy(out + USUAL_BYTES, plain.data + USUAL_BYTES, plain.size - USUAL_BYTES);
    }
    out += plain.size;
    out += put_decimal(out, size);
    memcpy(out, "\r\nContent-Type: ", 16);
    copy_short(out + 16, type.data, type.size);
    out += 16 + type.size;
    memcpy(out, "\r\n\r\n", 4);
    copy_short(out + 4, body, size);
    x->out_size = (size_t)(out + 4 + size - x->out);
}

static __attribute__((noinline)) int begin_any(zk__session *x, const char *content_type,
                                               const void *body, size_t size, bool is_whole)
{
    int rc = put_head(x, content_type);
    if (!rc && is_whole && !x->res.is_bodiless) rc = put_body(x, body, size);
    return gathered(x, rc);
}

static int h1_begin(zk_response *res, const char *content_type, const void *body, size_t size,
                    bool is_whole)
{
    zk__session *x = zk__session_of(res->req);
    if (ZK_UNLIKELY(res->is_asked_oddly)) res->is_asked_oddly = x->minor == 0 || !is_kept(x);
    bool is_special = res->specials || res->status != 200 || !is_whole || !content_type ||
                      x->conn->shard->is_draining;
    size_t room = ZK__H1_OUT_BYTES - x->out_size;
    if (ZK_UNLIKELY(is_special || size > COPY_MAX || room < HEAD_BOUND + COPY_MAX)) {
        return begin_any(x, content_type, body, size, is_whole);
    }
    size_t type_size = strlen(content_type);
    if (ZK_UNLIKELY(type_size > room - (HEAD_BOUND + COPY_MAX))) {
        return begin_any(x, content_type, body, size, is_whole);
    }
    put_plain(x, (zk_str){content_type, type_size}, body, size);
    if (ZK_UNLIKELY(zk__worker_self()->stack != x->stack)) return zk__h1_flush(x);
    zk__h1_gathered(x);
    return 0;
}

static int h1_write(zk_response *res, const void *data, size_t size)
{
    zk__session *x = zk__session_of(res->req);
    if (!x->is_chunked) return gathered(x, put_body(x, data, size));
    char line[20];
    size_t line_size = put_hex(line, size);
    memcpy(line + line_size, "\r\n", 2);
    int rc = put(x, line, line_size + 2);
    if (!rc) rc = put_body(x, data, size);
    if (!rc) rc = put(x, "\r\n", 2);
    return gathered(x, rc);
}

static ssize_t h1_send_file(zk_response *res, zk_file *file, int64_t offset, uint64_t size)
{
    zk__session *x = zk__session_of(res->req);
    if (x->is_chunked || !zk__stream_takes_files(x->conn->stream)) return -EOPNOTSUPP;
    int rc = zk__h1_flush(x);
    if (rc < 0) return rc;
    ssize_t n = zk__send_file_within(x->conn->stream, file, offset, size,
                                     x->conn->shard->config->write_timeout_ms);
    return n == -ENODATA ? ZK_E_HTTP_LENGTH : n; /* it has become shorter */
}

static int h1_flush(zk_response *res) { return zk__h1_flush(zk__session_of(res->req)); }

static int h1_end(zk_response *res)
{
    zk__session *x = zk__session_of(res->req);
    if (!x->is_chunked || res->is_bodiless) return 0;
    int rc = put(x, "0\r\n", 3);
    if (!rc) rc = put_fields(x, &res->trailers);
    if (!rc) rc = put(x, "\r\n", 2);
    return gathered(x, rc);
}

const struct zk__transport zk__h1_transport = {
    .body_read = zk__h1_body_read,
    .body_view = zk__h1_body_view,
    .begin = h1_begin,
    .write = h1_write,
    .send_file = h1_send_file,
    .flush = h1_flush,
    .end = h1_end,
    .protocol = zk__h1_protocol,
    .upgrade = zk__h1_upgrade,
};
