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
#include "http/h2_link.h"
#include "net/stream.h"

enum {
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

extern nghttp2_mem zk__h2_memory;

static void settings_tell(zk__h2_link *l, int rc)
{
    for (settings_wait *w; (w = l->settings_waits);) {
        l->settings_waits = w->next;
        zk__wait_end(&w->wait, rc);
    }
}

/* ---- calls leave their connection ---- */

void zk__h2_call_detach(zk__h2_call *c)
{
    zk__h2_link *l = c->conn;
    if (!l) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->conn = NULL;
    l->call_count--;
    int timeout_ms = l->is_leaving ? 0 : zk__h2_limits(l)->idle_timeout_ms;
    if (!l->call_count && timeout_ms >= 0 && !zk__timer_is_pending(&l->timer)) {
        zk__wheel_add(&zk__worker_self()->wheel, &l->timer, zk_now() + ZK_MS(timeout_ms));
    }
}

static void call_fail(zk__h2_call *c, int error)
{
    if (!c->error) c->error = error;
    if (!c->is_sent) c->was_not_begun = true;
    zk__h2_call_detach(c);
    zk__h2_wake_reader(c);
    zk__h2_wake_writer(c);
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
    if (c->header_bytes > zk__h2_limits(l)->header_bytes_max ||
        c->field_count >= zk__h2_limits(l)->header_count_max) {
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
        zk__h2_wake_reader(c);
        if (a->status >= 400) zk__place_wake(&c->writer); /* which may stop */
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
    /* Of a body that there was no memory for the end is none. */
    if (is_last && !c->error &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        c->is_in_ended = true;
        zk__h2_wake_reader(c);
        zk__place_wake(&c->writer);
    }
    return 0;
}

/* No more than the window comes: the buffer cannot grow without bound. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags, (void)context;
    zk__h2_call *c = call_of(session, id);
    if (!c || c->error || !zk__received_put(&c->in, data, size, READ_BYTES)) {
        if (c && !c->error) c->error = -ENOMEM;
        (void)nghttp2_session_consume(session, id, size);
        return 0;
    }
    zk__h2_wake_reader(c);
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
        while (ZK__H2_LINK_OUT_BYTES - l->out_end >= FRAME_BYTES_MAX) {
            const uint8_t *data;
            ssize_t n = nghttp2_session_mem_send(l->session, &data);
            if (n < 0) return -ENOMEM;
            if (n == 0) break;
            if ((size_t)n > ZK__H2_LINK_OUT_BYTES - l->out_end) return ZK_E_HTTP_HEADER_TOO_LARGE;
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
    if (l->ret_error) *l->ret_error = error;
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
bool zk__h2_link_push(zk__h2_link *l)
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
    (void)zk__h2_link_push(l);
}

static void on_batch_end(zk__hook *hook)
{
    (void)zk__h2_link_push((zk__h2_link *)(void *)((char *)hook - offsetof(zk__h2_link, hook)));
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
void zk__h2_link_leave(zk__h2_link *l)
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
        if (l->is_leaving) zk__h2_link_leave(l);
        if (rc < 0) {
            if (rc != -ENOMEM) (void)flush(l); /* says why, perhaps */
            zk__h2_link_end(l, rc);
            return;
        }
        if (!zk__h2_link_push(l)) return;
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
        zk__h2_link_leave(l);
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
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, zk__h2_limits(l)->header_bytes_max},
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
        int error = 0;
        l->ret_error = &error;
        on_ready(l);
        if (!error) l->ret_error = NULL;
        return error;
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

/* ---- the server's settings ---- */

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
