/*
 * Calls of a client's HTTP/2 connection, see h2_client.h: a request goes out, and the tasks that
 * write its body or read the answer wait for what h2_client.c tells them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/worker.h"
#include "http/h2_link.h"

enum { NV_MAX = 256, QUEUE_MAX = 64 };

static nghttp2_nv pair(const char *name, size_t name_size, zk_str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value.data, name_size,
                        value.size, NGHTTP2_NV_FLAG_NONE};
}

/* Field names in small letters (RFC 9113 section 8.2.1), in the call's arena. */
static int fields_put(zk__h2_call *c, const zk_field *fields, size_t count, nghttp2_nv *nv,
                      size_t *n, zk_str *ret_host)
{
    for (size_t i = 0; i < count; i++) {
        if (*n == NV_MAX) return ZK_E_HTTP_FIELD;
        zk_str name = fields[i].name;
        char *own = zk_arena_copy(&c->arena, name.data, name.size);
        if (!own) return -ENOMEM;
        for (size_t k = 0; k < name.size; k++)
            if (own[k] >= 'A' && own[k] <= 'Z') own[k] |= 0x20;
        if (ret_host && name.size == 4 && !memcmp(own, "host", 4)) {
            *ret_host = fields[i].value;
            continue;
        }
        nv[(*n)++] = pair(own, name.size, fields[i].value);
    }
    return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                       uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)source, (void)context;
    zk__h2_call *c = nghttp2_session_get_stream_user_data(session, id);
    if (!c) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = c->out_size < size ? c->out_size : size;
    if (n) {
        memcpy(buf, c->out, n);
        c->out += n;
        c->out_size -= n;
    }
    if (!c->out_size) zk__h2_wake_writer(c);
    if (!c->out_size && c->is_out_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!c->out_trailer_count) return (ssize_t)n;
        nghttp2_nv nv[NV_MAX];
        size_t count = 0;
        int rc = fields_put(c, c->out_trailers, c->out_trailer_count, nv, &count, NULL);
        if (rc < 0 || nghttp2_submit_trailer(session, id, nv, count)) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        return (ssize_t)n;
    }
    return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static int call_submit(zk__h2_link *l, zk__h2_call *c, const zk__ask *ask)
{
    char authority[ZK_URL_AUTHORITY_BYTES], length[24];
    nghttp2_nv nv[NV_MAX];
    size_t n = ask->protocol.size ? 5 : 4;
    zk_str host = {authority, zk_url_authority(&ask->url, authority)};
    int rc = fields_put(c, ask->fields, ask->field_count, nv, &n, &host);
    if (rc < 0) return rc;
    const zk_url *u = &ask->url;
    char *path = zk_arena_printf(&c->arena, "%.*s%s%.*s", (int)u->path.size, u->path.data,
                                 u->query.data ? "?" : "", (int)u->query.size,
                                 u->query.data ? u->query.data : "");
    if (!path) return -ENOMEM;
    nv[0] = pair(":method", 7, ask->method);
    nv[1] = pair(":scheme", 7, u->is_secure ? ZK_STR("https") : ZK_STR("http"));
    nv[2] = pair(":authority", 10, host);
    nv[3] = pair(":path", 5, (zk_str){path, strlen(path)});
    if (ask->protocol.size) nv[4] = pair(":protocol", 9, ask->protocol);
    if (ask->has_body && ask->body_length >= 0 && n < NV_MAX) {
        int size = snprintf(length, sizeof length, "%lld", (long long)ask->body_length);
        nv[n++] = pair("content-length", 14, (zk_str){length, (size_t)size});
    }
    if (ask->cookie.data && n < NV_MAX) nv[n++] = pair("cookie", 6, ask->cookie);
    nghttp2_data_provider provider = {.read_callback = on_read};
    c->has_body = ask->has_body && ask->body_length != 0;
    c->id = nghttp2_submit_request(l->session, NULL, nv, n, c->has_body ? &provider : NULL, c);
    if (c->id < 0) return c->id == NGHTTP2_ERR_NOMEM ? -ENOMEM : ZK_E_CLOSED;
    return 0;
}

/* With what others have to send in this batch of tasks; or now, if that has become much. */
static void send_soon(zk__h2_link *l)
{
    if (nghttp2_session_get_outbound_queue_size(l->session) >= QUEUE_MAX) {
        (void)zk__h2_link_push(l); /* if it is lost, its calls know */
    } else {
        zk__hook_arm(zk__worker_self(), &l->hook);
    }
}

int zk__h2_call_open(zk__h2_link *l, const zk__ask *ask, zk__h2_call **ret_call)
{
    if (l->is_leaving) return ZK_E_CLOSED;
    zk__h2_call *c = zk_alloc_zeroed(sizeof *c);
    if (!c) return -ENOMEM;
    c->out = ask->body;
    c->out_size = ask->body_size;
    c->is_out_last = !ask->is_streamed;
    int rc = call_submit(l, c, ask);
    if (rc < 0) {
        if (rc == ZK_E_CLOSED) zk__h2_link_leave(l); /* it has no numbers left */
        zk_arena_done(&c->arena);
        zk_free(c);
        return rc;
    }
    c->conn = l;
    c->is_reused = l->has_served;
    c->next = l->calls;
    c->link = &l->calls;
    if (c->next) c->next->link = &c->next;
    l->calls = c;
    l->call_count++;
    zk__wheel_remove(&zk__worker_self()->wheel, &l->timer);
    send_soon(l);
    *ret_call = c;
    return 0;
}

/* The server has answered that it does not want the request: the rest of that is not waited for. */
static bool is_refused(const zk__h2_call *c)
{
    return c->has_answer && (c->is_in_ended || c->answer.status >= 400);
}

void zk__h2_call_push(zk__h2_call *c, size_t taken)
{
    zk__h2_link *l = c->conn;
    if (taken) (void)nghttp2_session_consume(l->session, c->id, taken);
    if (c->out_size || c->is_out_last) (void)nghttp2_session_resume_data(l->session, c->id);
    send_soon(l);
}

zk_stream *zk__h2_call_carrier(const zk__h2_call *c) { return c->conn ? c->conn->stream : NULL; }

int zk__h2_call_write(zk__h2_call *c, const void *data, size_t size, bool is_last)
{
    if (c->error) return c->error;
    if (!c->conn) return c->has_answer ? 0 : ZK_E_CLOSED; /* it has answered, and wants no more */
    int timeout_ms = zk__h2_limits(c->conn)->write_timeout_ms;
    c->out = data;
    c->out_size = size;
    c->is_out_last = is_last;
    if (c->has_body) (void)nghttp2_session_resume_data(c->conn->session, c->id);
    (void)zk__h2_link_push(c->conn);
    int rc = 0;
    while (c->conn && c->out_size && !rc)
        rc = is_refused(c) ? -EPIPE : zk__h2_call_wait(&c->writer, timeout_ms);
    c->out_size = 0; /* what it points to is not ours for longer */
    return rc ? rc : c->error;
}

int zk__h2_call_head(zk__h2_call *c, int timeout_ms)
{
    int rc = 0;
    while (!c->has_answer && !rc) {
        if (c->error) return c->error;
        if (!c->conn) return ZK_E_CLOSED;
        rc = zk__h2_call_wait(&c->reader, timeout_ms);
    }
    return rc;
}

int zk__h2_call_answer(zk__h2_call *c, int timeout_ms)
{
    int rc = zk__h2_call_head(c, timeout_ms);
    /* A body in memory is the caller's only until this returns. */
    while (!rc && c->conn && c->out_size && !is_refused(c))
        rc = zk__h2_call_wait(&c->writer, zk__h2_limits(c->conn)->write_timeout_ms);
    if (c->conn && c->out_size) c->is_out_last = false;
    c->out_size = 0;
    return rc;
}

ssize_t zk__h2_call_read(zk__h2_call *c, void *buf, size_t size)
{
    while (!zk__received_size(&c->in)) {
        if (c->is_in_ended) return 0;
        if (c->error) return c->error;
        if (!c->conn) return ZK_E_CLOSED;
        int rc = zk__h2_call_wait(&c->reader, zk__h2_limits(c->conn)->body_timeout_ms);
        if (rc < 0) return rc;
    }
    size_t n = zk__received_take(&c->in, buf, size);
    if (c->conn) {
        (void)nghttp2_session_consume(c->conn->session, c->id, n);
        send_soon(c->conn);
    }
    return (ssize_t)n;
}

void zk__h2_call_free(zk__h2_call *c)
{
    if (!c) return;
    zk__h2_link *l = c->conn;
    if (c->tunnel) zk__h2_call_tunnel_free(c);
    if (l) {
        (void)nghttp2_session_set_stream_user_data(l->session, c->id, NULL);
        (void)nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, c->id, NGHTTP2_CANCEL);
        size_t unread = zk__received_size(&c->in);
        if (unread) (void)nghttp2_session_consume(l->session, c->id, unread);
        zk__h2_call_detach(c);
        send_soon(l);
    }
    zk__received_free(&c->in);
    zk_arena_done(&c->arena);
    zk_free(c);
}
