/*
 * A client's HTTP/2 connection, see h2_client.h: nghttp2 between the stream and the calls.
 *
 *   parked --on_ready--> receive --> callbacks: note in the call, wake its task --> flush, parked
 *   a task: submits, or gives out data --> flush --(no room)--> on_room --> flush
 *
 * nghttp2 is never entered from its own callbacks. A connection that is lost fails its calls, is
 * taken from its origin and freed; calls live on until their owners free them.
 */
#include "http/h2_client.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/worker.h"
#include "http/client.h"
#include "http/h2_client_tunnel.h"
#include "net/stream.h"

enum {
    OUT_BYTES = 64 * 1024,
    FRAME_BYTES_MAX = 17 * 1024,
    READ_BYTES = 16 * 1024,
    READS_MAX = 16,
    STREAM_WINDOW_BYTES = 256 * 1024,
    WINDOW_BYTES = 1024 * 1024,
};

/* Somebody who waits for the server's settings. */
typedef struct settings_wait {
    zk__wait wait;
    struct settings_wait *next, **link;
} settings_wait;

struct zk__h2_link {
    zk__h2_link *next, **link; /* of its origin */
    zk__origin *origin;
    zk_stream *stream;
    nghttp2_session *session;
    zk__h2_call *calls;
    uint32_t call_count;
    zk__timer timer; /* ends it when it has been idle for long */
    zk__room room;
    zk__hook hook; /* sends what tunnels have written */
    settings_wait *settings_waits;
    bool has_settings;
    bool is_full;    /* waits for room */
    bool is_leaving; /* takes no more calls */
    bool has_received;
    bool has_served; /* an answer has come on it */
    size_t out_begin, out_end;
    char out[OUT_BYTES];
};

extern nghttp2_mem zk__h2_memory;

static const zk__hop_limits *limits_of(const zk__h2_link *l) { return &l->origin->pool->limits; }

static void wake(zk__wait **place)
{
    zk__wait *wait = *place;
    *place = NULL;
    if (wait) zk__wait_end(wait, 0);
}

/* Something has come for who reads. */
static void wake_reader(zk__h2_call *c)
{
    wake(&c->reader);
    if (c->tunnel) zk__h2_call_tunnel_news(c);
}

static void wake_writer(zk__h2_call *c)
{
    wake(&c->writer);
    if (c->tunnel) zk__h2_call_tunnel_news(c);
}

static void settings_tell(zk__h2_link *l, int rc)
{
    for (settings_wait *w; (w = l->settings_waits);) {
        l->settings_waits = w->next;
        zk__wait_end(&w->wait, rc);
    }
}

/* ---- calls leave their connection ---- */

static void call_detach(zk__h2_call *c)
{
    zk__h2_link *l = c->conn;
    if (!l) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->conn = NULL;
    l->call_count--;
    int timeout_ms = l->is_leaving ? 0 : limits_of(l)->idle_timeout_ms;
    if (!l->call_count && timeout_ms >= 0 && !zk__timer_is_pending(&l->timer)) {
        zk__wheel_add(&zk__worker_self()->wheel, &l->timer, zk_now() + ZK_MS(timeout_ms));
    }
}

static void call_fail(zk__h2_call *c, int error)
{
    if (!c->error) c->error = error;
    if (!c->is_sent) c->was_not_begun = true;
    call_detach(c);
    wake_reader(c);
    wake_writer(c);
    if (c->tunnel) zk__h2_call_tunnel_over(c); /* may free it */
}

/* ---- what the server says: callbacks of nghttp2 ---- */

static zk__h2_call *call_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int field_add(zk__h2_call *c, zk_str name, zk_str value)
{
    if (c->field_count == c->field_capacity) {
        size_t capacity = c->field_capacity ? 2 * c->field_capacity : 16;
        zk_field *fields = zk_arena_alloc(&c->arena, capacity * sizeof *fields);
        if (!fields) return -ENOMEM;
        if (c->field_count) memcpy(fields, c->fields, c->field_count * sizeof *fields);
        c->fields = fields;
        c->field_capacity = capacity;
    }
    char *own_name = zk_arena_copy(&c->arena, name.data, name.size);
    char *own_value = zk_arena_copy(&c->arena, value.data, value.size);
    if (!own_name || !own_value) return -ENOMEM;
    c->fields[c->field_count++] = (zk_field){{own_name, name.size}, {own_value, value.size}};
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    zk__h2_link *l = context;
    zk__h2_call *c = call_of(session, frame->hd.stream_id);
    if (!c || c->error) return 0;
    zk_str n = {(const char *)name, name_size}, v = {(const char *)value, value_size};
    if (name_size == 7 && !memcmp(name, ":status", 7)) {
        c->answer.status = (v.data[0] - '0') * 100 + (v.data[1] - '0') * 10 + (v.data[2] - '0');
        return 0;
    }
    c->header_bytes += name_size + value_size + 4;
    if (c->header_bytes > limits_of(l)->header_bytes_max ||
        c->field_count >= limits_of(l)->header_count_max) {
        c->error = ZK_E_HTTP_HEADER_TOO_LARGE;
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    }
    if (name_size == 14 && !c->has_answer && !memcmp(name, "content-length", 14)) {
        c->answer.has_length = zk__h1_content_length(v, &c->answer.content_length);
    }
    if (field_add(c, n, v) < 0) {
        c->error = -ENOMEM;
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

/* A block of fields is whole: an interim answer, the answer, or trailers. */
static void fields_end(zk__h2_call *c, bool is_last)
{
    if (c->has_answer) {
        c->trailers = c->fields;
        c->trailer_count = c->field_count;
    } else if (c->answer.status >= 200) {
        zk__h1_answer *a = &c->answer;
        c->has_answer = true;
        if (c->conn) c->conn->has_served = true;
        a->fields = c->fields;
        a->field_count = c->field_count;
        a->framing = is_last ? ZK__H1_NO_BODY : a->has_length ? ZK__H1_LENGTH : ZK__H1_TO_END;
        a->keep_alive = true;
        wake_reader(c);
    }
    c->fields = NULL;
    c->field_count = c->field_capacity = 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    zk__h2_link *l = context;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        l->is_leaving = true;
        return 0;
    }
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        l->has_settings = true;
        settings_tell(l, 0);
        return 0;
    }
    zk__h2_call *c = frame->hd.stream_id ? call_of(session, frame->hd.stream_id) : NULL;
    if (!c) return 0;
    bool is_last = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_HEADERS) fields_end(c, is_last);
    if (is_last && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        c->is_in_ended = true;
        wake_reader(c);
    }
    return 0;
}

static bool in_reserve(zk__h2_call *c, size_t size)
{
    if (c->in_begin == c->in_end) c->in_begin = c->in_end = 0;
    if (c->in_capacity - c->in_end >= size) return true;
    size_t have = c->in_end - c->in_begin;
    if (c->in_capacity - have >= size) {
        memmove(c->in, c->in + c->in_begin, have);
    } else {
        size_t capacity = c->in_capacity ? 2 * c->in_capacity : READ_BYTES;
        while (capacity - have < size)
            capacity *= 2;
        char *larger = zk_alloc(capacity);
        if (!larger) return false;
        if (have) memcpy(larger, c->in + c->in_begin, have);
        zk_free(c->in);
        c->in = larger;
        c->in_capacity = capacity;
    }
    c->in_begin = 0;
    c->in_end = have;
    return true;
}

/* No more than the window comes: the buffer cannot grow without bound. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags, (void)context;
    zk__h2_call *c = call_of(session, id);
    if (!c || c->error || !in_reserve(c, size)) {
        if (c && !c->error) c->error = -ENOMEM;
        (void)nghttp2_session_consume(session, id, size);
        return 0;
    }
    memcpy(c->in + c->in_end, data, size);
    c->in_end += size;
    wake_reader(c);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *context)
{
    (void)context;
    zk__h2_call *c = call_of(session, id);
    if (!c) return 0;
    c->was_not_begun = code == NGHTTP2_REFUSED_STREAM;
    if (code != NGHTTP2_NO_ERROR) c->reset = nghttp2_http2_strerror(code);
    bool is_good = c->is_in_ended && (code == NGHTTP2_NO_ERROR || code == NGHTTP2_CANCEL);
    int error = is_good                            ? 0
                : code == NGHTTP2_PROTOCOL_ERROR   ? ZK_E_HTTP_SYNTAX
                : code == NGHTTP2_FRAME_SIZE_ERROR ? ZK_E_HTTP_SYNTAX
                                                   : ZK_E_CLOSED;
    call_fail(c, error);
    return 0;
}

/* From now on the server may know of it. */
static int on_before_send(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    (void)context;
    zk__h2_call *c =
        frame->hd.type == NGHTTP2_HEADERS ? call_of(session, frame->hd.stream_id) : NULL;
    if (c) c->is_sent = true;
    return 0;
}

/* ---- what goes to the server ---- */

enum { NV_MAX = 256 };

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
    zk__h2_call *c = call_of(session, id);
    if (!c) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = c->out_size < size ? c->out_size : size;
    if (n) {
        memcpy(buf, c->out, n);
        c->out += n;
        c->out_size -= n;
    }
    if (!c->out_size) wake_writer(c);
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

static void on_room(zk__room *room);

/* Sends what there is, as far as there is room. returns 0 or an error of the stream. */
static int flush(zk__h2_link *l)
{
    if (l->is_full) return 0;
    for (;;) {
        while (l->out_begin < l->out_end) {
            ssize_t n =
                zk_stream_try_write(l->stream, l->out + l->out_begin, l->out_end - l->out_begin);
            if (n == -EAGAIN) {
                l->room.on_room = on_room;
                int rc = l->stream->ops->await_room(l->stream, &l->room);
                if (rc == 1) continue;
                l->is_full = rc == 0;
                return rc;
            }
            if (n < 0) return (int)n;
            l->out_begin += (size_t)n;
        }
        l->out_begin = l->out_end = 0;
        while (OUT_BYTES - l->out_end >= FRAME_BYTES_MAX) {
            const uint8_t *data;
            ssize_t n = nghttp2_session_mem_send(l->session, &data);
            if (n < 0) return -ENOMEM;
            if (n == 0) break;
            if ((size_t)n > OUT_BYTES - l->out_end) return ZK_E_HTTP_HEADER_TOO_LARGE;
            memcpy(l->out + l->out_end, data, (size_t)n);
            l->out_end += (size_t)n;
        }
        if (!l->out_end) return 0;
    }
}

/* ---- the connection ---- */

void zk__h2_link_end(zk__h2_link *l, int error)
{
    if (l->origin->h2 == l) l->origin->h2 = NULL;
    *l->link = l->next;
    if (l->next) l->next->link = l->link;
    /* What it has answered was not HTTP/2. */
    bool is_other = l->has_received && !l->has_settings;
    if (is_other && (error == ZK_E_CLOSED || error == ZK_E_HTTP_SYNTAX)) error = ZK_E_HTTP_VERSION;
    while (l->calls)
        call_fail(l->calls, error);
    settings_tell(l, error);
    zk__wheel_remove(&zk__worker_self()->wheel, &l->timer);
    if (l->hook.is_armed) zk__hook_disarm(zk__worker_self(), &l->hook);
    if (l->is_full) l->stream->ops->forget_room(l->stream, &l->room);
    zk_stream_close(l->stream);
    nghttp2_session_del(l->session);
    zk_free(l);
}

/* Sends what there is; a connection that is lost by that is ended. returns false then. */
static bool push(zk__h2_link *l)
{
    int rc = flush(l);
    bool is_over = rc < 0 || (!nghttp2_session_want_read(l->session) &&
                              !nghttp2_session_want_write(l->session));
    if (!is_over) return true;
    zk__h2_link_end(l, rc < 0 && rc != -EPIPE ? rc : ZK_E_CLOSED);
    return false;
}

static void on_room(zk__room *room)
{
    zk__h2_link *l = (zk__h2_link *)(void *)((char *)room - offsetof(zk__h2_link, room));
    l->is_full = false;
    (void)push(l);
}

static void on_batch_end(zk__hook *hook)
{
    (void)push((zk__h2_link *)(void *)((char *)hook - offsetof(zk__h2_link, hook)));
}

/* Takes what has come. returns 0: there is no more now; an error. */
static int receive(zk__h2_link *l)
{
    char buf[READ_BYTES];
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t n = zk_stream_try_read(l->stream, buf, sizeof buf);
        if (n == -EAGAIN) return 0;
        if (n <= 0) return n < 0 ? (int)n : ZK_E_CLOSED;
        l->has_received = true;
        ssize_t rc = nghttp2_session_mem_recv(l->session, (const uint8_t *)buf, (size_t)n);
        if (rc < 0) return rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : ZK_E_HTTP_SYNTAX;
    }
    return 0;
}

/* It takes no more calls; those that it has not been told of yet will not be. */
static void leave(zk__h2_link *l)
{
    l->is_leaving = true;
    if (l->origin->h2 == l) l->origin->h2 = NULL;
    for (zk__h2_call *c = l->calls, *next; c; c = next) {
        next = c->next;
        if (c->is_sent) continue;
        (void)nghttp2_session_set_stream_user_data(l->session, c->id, NULL);
        (void)nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, c->id, NGHTTP2_CANCEL);
        call_fail(c, ZK_E_CLOSED);
    }
}

static void on_ready(void *context)
{
    zk__h2_link *l = context;
    for (;;) {
        int rc = receive(l);
        if (l->is_leaving) leave(l);
        if (rc < 0) {
            (void)flush(l); /* says why, perhaps */
            zk__h2_link_end(l, rc);
            return;
        }
        if (!push(l)) return;
        if (l->is_leaving && !l->call_count) {
            zk__h2_link_end(l, ZK_E_CLOSED);
            return;
        }
        rc = zk_stream_park(l->stream, on_ready, l);
        if (rc == 0) return;
        if (rc < 0) {
            zk__h2_link_end(l, rc);
            return;
        }
    }
}

static void on_timer(zk__timer *timer)
{
    zk__h2_link *l = (zk__h2_link *)(void *)((char *)timer - offsetof(zk__h2_link, timer));
    if (l->call_count) return;
    (void)nghttp2_submit_goaway(l->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
    (void)flush(l);
    zk__h2_link_end(l, ZK_E_CLOSED);
}

void zk__h2_links_leave(zk__origin *o)
{
    for (zk__h2_link *l = o->h2_links, *next; l; l = next) {
        next = l->next;
        l->is_leaving = true;
        leave(l);
        zk__wheel_remove(&zk__worker_self()->wheel, &l->timer);
        if (!l->call_count) on_timer(&l->timer);
    }
}

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

static void shared_make(void)
{
    if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&options)) return;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_before_frame_send_callback(callbacks, on_before_send);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
}

static int session_open(zk__h2_link *l)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, shared_make);
    if (!callbacks || !options) return -ENOMEM;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits_of(l)->header_bytes_max},
    };
    if (nghttp2_session_client_new3(&l->session, callbacks, l, options, &zk__h2_memory)) {
        return -ENOMEM;
    }
    int rc = nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof *settings);
    if (!rc) {
        rc = nghttp2_session_set_local_window_size(l->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES);
    }
    return rc ? -ENOMEM : 0;
}

int zk__h2_link_new(zk__origin *o, zk_stream *stream)
{
    zk__h2_link *l = zk_alloc_zeroed(sizeof *l);
    if (!l) {
        zk_stream_close(stream);
        return -ENOMEM;
    }
    l->origin = o;
    l->stream = stream;
    l->timer.fire = on_timer;
    l->hook.run = on_batch_end;
    l->next = o->h2_links;
    l->link = &o->h2_links;
    if (l->next) l->next->link = &l->next;
    o->h2_links = o->h2 = l;
    o->is_h2 = true;
    int rc = session_open(l);
    if (!rc) rc = flush(l);
    if (!rc) rc = zk_stream_park(stream, on_ready, l);
    if (rc == 1) {
        on_ready(l); /* may end it: then only the origin knows */
        return o->h2 == l ? 0 : ZK_E_CLOSED;
    }
    if (rc < 0) zk__h2_link_end(l, rc);
    return rc;
}

static bool link_has_room(const zk__h2_link *l)
{
    return !l->is_leaving &&
           l->call_count < nghttp2_session_get_remote_settings(
                               l->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool zk__h2_has_room(zk__origin *o, uint32_t places_held)
{
    if (!o->h2) return false;
    if (link_has_room(o->h2)) return true;
    uint32_t count = 0;
    for (zk__h2_link *l = o->h2_links; l; l = l->next) {
        count++;
        if (!link_has_room(l)) continue;
        o->h2 = l;
        return true;
    }
    /* Calls that find no room wait in nghttp2; so they do while another connection is made. */
    return o->count > places_held || count >= o->pool->limits.connections_max;
}

/* ---- calls ---- */

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
        if (rc == ZK_E_CLOSED) leave(l); /* it has no numbers left */
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
    (void)push(l); /* if it is lost, the call knows */
    *ret_call = c;
    return 0;
}

static void settings_cancel(zk__wait *wait)
{
    settings_wait *w = (settings_wait *)(void *)wait;
    *w->link = w->next;
    if (w->next) w->next->link = w->link;
    zk__wait_end(wait, -ECANCELED);
}

int zk__h2_link_connects(const zk__h2_link *l)
{
    if (!l->has_settings) return -EAGAIN;
    return nghttp2_session_get_remote_settings(l->session,
                                               NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

int zk__h2_link_settings(zk__h2_link *l)
{
    static const zk__wait_kind kind = {.name = "HTTP/2 settings"};
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    settings_wait w = {.wait = {.cancel = settings_cancel, .kind = &kind}};
    w.next = l->settings_waits;
    w.link = &l->settings_waits;
    if (w.next) w.next->link = &w.next;
    l->settings_waits = &w;
    return (int)zk__wait_for(&w.wait);
}

void zk__h2_call_push(zk__h2_call *c, size_t taken)
{
    zk__h2_link *l = c->conn;
    if (taken) (void)nghttp2_session_consume(l->session, c->id, taken);
    if (c->out_size || c->is_out_last) (void)nghttp2_session_resume_data(l->session, c->id);
    zk__hook_arm(zk__worker_self(), &l->hook);
}

zk_stream *zk__h2_call_carrier(const zk__h2_call *c) { return c->conn ? c->conn->stream : NULL; }

/* The server has answered that it does not want the request: the rest of that is not waited for. */
static bool is_refused(const zk__h2_call *c)
{
    return c->has_answer && (c->is_in_ended || c->answer.status >= 400);
}

int zk__h2_call_write(zk__h2_call *c, const void *data, size_t size, bool is_last)
{
    if (c->error) return c->error;
    if (!c->conn) return c->has_answer ? 0 : ZK_E_CLOSED; /* it has answered, and wants no more */
    int timeout_ms = limits_of(c->conn)->write_timeout_ms;
    c->out = data;
    c->out_size = size;
    c->is_out_last = is_last;
    if (c->has_body) (void)nghttp2_session_resume_data(c->conn->session, c->id);
    (void)push(c->conn);
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
        rc = zk__h2_call_wait(&c->writer, limits_of(c->conn)->write_timeout_ms);
    if (c->conn && c->out_size) c->is_out_last = false;
    c->out_size = 0;
    return rc;
}

ssize_t zk__h2_call_read(zk__h2_call *c, void *buf, size_t size)
{
    while (c->in_begin == c->in_end) {
        if (c->is_in_ended) return 0;
        if (c->error) return c->error;
        if (!c->conn) return ZK_E_CLOSED;
        int rc = zk__h2_call_wait(&c->reader, limits_of(c->conn)->body_timeout_ms);
        if (rc < 0) return rc;
    }
    size_t have = c->in_end - c->in_begin, n = have < size ? have : size;
    memcpy(buf, c->in + c->in_begin, n);
    c->in_begin += n;
    if (c->conn) {
        (void)nghttp2_session_consume(c->conn->session, c->id, n);
        (void)push(c->conn);
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
        if (c->in_end > c->in_begin) {
            (void)nghttp2_session_consume(l->session, c->id, c->in_end - c->in_begin);
        }
        call_detach(c);
        (void)push(l);
    }
    zk_free(c->in);
    zk_arena_done(&c->arena);
    zk_free(c);
}
