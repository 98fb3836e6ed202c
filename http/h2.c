/*
 * The HTTP/2 engine: see h2.h. nghttp2 is named here only.
 */
#include "http/h2.h"

#include "http/h2_account.h"
#include "http/h2_conn.h"
#include "http/h2_message.h"
#include "http/h2_send.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "core/arena.h"
#include "core/task.h"

enum {
    PROVOKED_RESET_COST = 10,
    FIELDS_FIRST = 12,
    IN_BYTES = 4096,   /* that a body's buffer begins with */
    HEADER_EXCESS = 4, /* times header_bytes_max: then it is no mistake any more */
    STREAMS_KEPT = 256,
};

extern nghttp2_mem zk__h2_memory; /* h2_memory.c */

void zk__h2_terminate(zk__h2 *h2, uint32_t error)
{
    h2->is_terminated = true;
    (void)nghttp2_session_terminate_session(h2->session, error); /* no memory: it ends as well */
}

/* ---- streams ---- */

static zk__h2_stream *stream_take(zk__shard *shard)
{
    zk__h2_stream *s = shard->free_h2_streams;
    if (ZK_LIKELY(s != NULL)) {
        shard->free_h2_streams = s->next;
        shard->free_h2_stream_count--;
        return s;
    }
    s = zk_alloc(sizeof *s);
    if (!s) return NULL;
    s->req.arena = (zk_arena){0};
    s->in = (zk__received){0};
    s->out.buffer = NULL;
    zk__scope_root_init(&s->scope, shard->scope, zk__worker_self());
    s->scope.flags = ZK__SCOPE_BOUND; /* what a handler starts may use its request */
    zk__arena_start(&s->req.arena, s->arena_block, sizeof s->arena_block);
    return s;
}

static zk__h2_stream *stream_open(zk__h2 *h2, int32_t id)
{
    zk__h2_stream *s = stream_take(h2->shard);
    if (!s) return NULL;
    s->h2 = h2;
    s->conn = NULL;
    s->id = id;
    s->refused = 0;
    s->has_task = s->is_kept = s->is_reset = s->has_ended = false;
    s->header_bytes = s->field_capacity = 0;
    s->scheme = s->protocol = s->other_host = (zk_str){NULL, 0};
    s->owes_continue = s->owes_interim = s->is_out_awaited = false;
    s->has_head = s->is_whole = false;
    s->type = (zk_str){NULL, 0};
    s->said = 0;
    s->in_total = 0;
    s->fields = s->trailers = NULL;
    s->is_in_ended = false;
    s->reader = s->writer = NULL;
    s->out.data = NULL;
    s->out.size = 0;
    s->out.is_last = s->out.is_begun = false;
    s->tunnel = NULL;
    s->req.method = s->req.raw_target = s->req.host = ZK_STR("");
    s->req.fields = NULL;
    s->req.field_count = 0;
    s->req.version = 20;
    s->req.body_length = -1;
    s->req.is_body_done = false;
    s->next = h2->streams;
    s->link = &h2->streams;
    if (s->next) s->next->link = &s->next;
    h2->streams = s;
    h2->stream_count++;
    return s;
}

/* The engine and nghttp2 know it no more. */
static void stream_forget(zk__h2_stream *s)
{
    if (s->h2->block == s) s->h2->block = NULL;
    if (s->h2->sent == s) s->h2->sent = NULL;
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    s->h2->stream_count--;
    s->h2 = NULL;
}

static void stream_destroy(zk__h2_stream *s)
{
    zk__scope_unlink(&s->scope);
    zk__arena_reset(&s->req.arena, false);
    zk_free(s);
}

void zk__h2_stream_free(zk__h2_stream *s)
{
    zk__shard *shard = s->req.shard;
    if (s->in.bytes) zk__received_free(&s->in);
    if (s->out.buffer) zk_free(s->out.buffer);
    s->out.buffer = NULL;
    zk__arena_reset(&s->req.arena, true);
    if (s->scope.reason || shard->free_h2_stream_count >= STREAMS_KEPT) {
        stream_destroy(s);
        return;
    }
    s->next = shard->free_h2_streams;
    shard->free_h2_streams = s;
    shard->free_h2_stream_count++;
}

void zk__h2_streams_free(zk__shard *shard)
{
    while (shard->free_h2_streams) {
        zk__h2_stream *s = shard->free_h2_streams;
        shard->free_h2_streams = s->next;
        stream_destroy(s);
    }
    shard->free_h2_stream_count = 0;
}

/* ---- receiving ---- */

static zk__h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    zk__h2 *h2 = context;
    h2->header_bytes = h2->header_count = 0;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        h2->block = stream_of(session, frame->hd.stream_id);
        return 0;
    }
    h2->block = NULL;
    zk__h2_stream *s = stream_open(h2, frame->hd.stream_id);
    if (!s) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    zk__exchange_init(&s->req, &s->res, NULL, h2->shard, h2->transport);
    (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    h2->block = s;
    return 0;
}

static bool fields_grow(zk__h2_stream *s, zk_field **fields, size_t count)
{
    uint32_t capacity = s->field_capacity ? 2 * s->field_capacity : FIELDS_FIRST;
    zk_field *grown = zk_arena_alloc(&s->req.arena, capacity * sizeof *grown);
    if (!grown) return false;
    if (count) memcpy(grown, *fields, count * sizeof *grown);
    *fields = grown;
    s->field_capacity = capacity;
    return true;
}

/* Copies a text that is short as a rule, too short for a call, and ends it by a zero. */
static inline void text_copy(char *to, const uint8_t *from, size_t size)
{
    to[size] = '\0';
    if (ZK_UNLIKELY(size > 32)) {
        memcpy(to, from, size);
    } else if (size >= 16) {
        memcpy(to, from, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, from, 4);
        memcpy(to + size - 4, from + size - 4, 4);
    } else {
        for (size_t i = 0; i < size; i++)
            to[i] = (char)from[i];
    }
}

/* returns a copy in the stream's arena, ended by a zero for the handler's comfort; .data NULL. */
static inline zk_str text_keep(zk__h2_stream *s, nghttp2_vec text)
{
    char *copy = zk__arena_bump(&s->req.arena, text.len + 1);
    if (ZK_LIKELY(copy != NULL)) text_copy(copy, text.base, text.len);
    return (zk_str){copy, text.len};
}

static inline int field_keep(zk__h2_stream *s, zk_field **fields, size_t *count, zk_field field)
{
    if (*count >= s->h2->shard->config->header_count_max) return ZK_E_HTTP_HEADER_TOO_LARGE;
    if (*count == s->field_capacity && !fields_grow(s, fields, *count)) return -ENOMEM;
    (*fields)[(*count)++] = field;
    return 0;
}

/* Keeps a field, and checks it. A known name is one of RFC 7541's own table, which stays where it
 * is. returns 0, an error. */
static int field_take(zk__h2_stream *s, nghttp2_vec name, nghttp2_vec value, bool is_name_known,
                      bool is_trailer)
{
    bool is_pseudo = name.len && name.base[0] == ':', is_good;
    zk_field field = {{(const char *)name.base, name.len}, text_keep(s, value)};
    if (is_pseudo) {
        is_good =
            !is_trailer && field.value.data && zk__h2_pseudo_notice(s, field.name, field.value);
    } else {
        if (!is_name_known) field.name = text_keep(s, name);
        is_good = field.name.data && field.value.data &&
                  zk__h2_field_notice(s, &field, is_name_known, is_trailer);
    }
    if (ZK_UNLIKELY(!field.name.data || !field.value.data)) return -ENOMEM;
    if (ZK_UNLIKELY(!is_good)) s->said |= ZK__H2_MALFORMED_FIELD;
    if (is_pseudo || !is_good) return 0;
    if (is_trailer) return field_keep(s, &s->trailers, &s->req.trailer_count, field);
    return field_keep(s, &s->fields, &s->req.field_count, field);
}

/* ---- fields that are known ---- */

enum { KNOWN_BYTES_MAX = 256 };

static void known_forget(zk__h2_known *known)
{
    if (!known->value) return;
    nghttp2_rcbuf_decref(known->name);
    nghttp2_rcbuf_decref(known->value);
    known->value = NULL;
}

/* The field has been taken and was good; said: by the fields up to it. */
static void known_set(zk__h2_known *known, nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint16_t said)
{
    known_forget(known);
    nghttp2_vec name_bytes = nghttp2_rcbuf_get_buf(name), bytes = nghttp2_rcbuf_get_buf(value);
    zk_str text = {(const char *)name_bytes.base, name_bytes.len};
    /* Most compressors put no paths into their tables: a new object comes each time. */
    bool is_kept = said != ZK__H2_SAID_PATH || nghttp2_rcbuf_is_static(value);
    if (!is_kept || !nghttp2_rcbuf_is_static(name) || bytes.len > KNOWN_BYTES_MAX ||
        !zk__h2_is_plain(text))
        return;
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    *known = (zk__h2_known){
        .name = name,
        .value = value,
        .name_text = text,
        .text = (const char *)bytes.base,
        .size = (uint32_t)bytes.len,
        .cost = (uint32_t)(name_bytes.len + bytes.len + 32),
        .said = said,
    };
    if (bytes.len < sizeof known->small) memcpy(known->small, bytes.base, bytes.len);
}

/* As field_take, with nothing left to check but the place. */
static inline int known_take(zk__h2_stream *s, const zk__h2_known *known)
{
    zk_str value = {NULL, known->size};
    if (ZK_LIKELY(value.size < sizeof known->small)) {
        char *copy = zk__arena_bump(&s->req.arena, sizeof known->small);
        if (ZK_LIKELY(copy != NULL)) memcpy(copy, known->small, sizeof known->small);
        value.data = copy;
    } else {
        value = text_keep(s, (nghttp2_vec){(uint8_t *)(uintptr_t)known->text, known->size});
    }
    if (ZK_UNLIKELY(!value.data)) return -ENOMEM;
    uint16_t said = known->said;
    if (ZK_UNLIKELY(said != ZK__H2_SAID_FIELD && s->said & (said | ZK__H2_SAID_FIELD))) {
        s->said |= ZK__H2_MALFORMED_FIELD;
        return 0;
    }
    s->said |= said;
    switch (said) {
    case ZK__H2_SAID_METHOD: s->req.method = value; return 0;
    case ZK__H2_SAID_SCHEME: s->scheme = value; return 0;
    case ZK__H2_SAID_PATH: s->req.raw_target = value; return 0;
    case ZK__H2_SAID_AUTHORITY: s->req.host = value; return 0;
    default:
        return field_keep(s, &s->fields, &s->req.field_count, (zk_field){known->name_text, value});
    }
}

/* The next field of its block. returns whether it is to be kept; refuses what is too much. */
static inline bool is_within(zk__h2 *h2, zk__h2_stream *s, uint32_t cost, int *ret_rc)
{
    uint32_t limit = h2->shard->config->header_bytes_max;
    h2->header_bytes += cost;
    *ret_rc = 0;
    if (ZK_UNLIKELY(h2->header_bytes > limit)) {
        /* The table of the compression has to stay right, so all of it is read; but not more. */
        if (h2->header_bytes / HEADER_EXCESS > limit) *ret_rc = NGHTTP2_ERR_CALLBACK_FAILURE;
        if (s) s->refused = ZK_E_HTTP_HEADER_TOO_LARGE;
        return false;
    }
    return s && !s->refused && !(s->said & ZK__H2_MALFORMED_FIELD);
}

static __attribute__((noinline)) int field_received(zk__h2 *h2, zk__h2_known *known,
                                                    bool is_trailer, nghttp2_rcbuf *name,
                                                    nghttp2_rcbuf *value)
{
    zk__h2_stream *s = h2->block;
    nghttp2_vec name_bytes = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec value_bytes = nghttp2_rcbuf_get_buf(value);
    int rc;
    /* As RFC 9113 section 6.5.2 counts. A value of 64 KiB is the most that nghttp2 takes. */
    if (!is_within(h2, s, (uint32_t)(name_bytes.len + value_bytes.len + 32), &rc)) return rc;
    bool is_name_known = nghttp2_rcbuf_is_static(name); /* of RFC 7541's own table */
    uint16_t before = s->said;
    rc = field_take(s, name_bytes, value_bytes, is_name_known, is_trailer);
    if (rc < 0) s->refused = rc;
    bool is_good = rc == 0 && !(s->said & ZK__H2_MALFORMED_FIELD);
    uint16_t said = s->said & (uint16_t)~before;
    if (known && is_good) known_set(known, name, value, said ? said : ZK__H2_SAID_FIELD);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    (void)session, (void)flags;
    zk__h2 *h2 = context;
    int rc;
    zk__h2_known *known = NULL;
    if (ZK_LIKELY(h2->header_count < ZK__H2_KNOWN)) known = &h2->known[h2->header_count++];
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) known = NULL;
    if (ZK_UNLIKELY(!known || known->value != value || known->name != name)) {
        bool is_trailer = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
        return field_received(h2, known, is_trailer, name, value);
    }
    zk__h2_stream *s = h2->block;
    if (!is_within(h2, s, known->cost, &rc)) return rc;
    rc = known_take(s, known);
    if (ZK_UNLIKELY(rc < 0)) s->refused = rc;
    return 0;
}

/* As many bytes as it has been said to have, or it is malformed (RFC 9113 section 8.1.1). */
static void body_ended(zk__h2_stream *s)
{
    if (s->req.body_length >= 0 && s->in_total != (uint64_t)s->req.body_length) {
        zk__h2_reset(s, ZK__H2_MALFORMED);
        return;
    }
    s->is_in_ended = true;
    s->h2->events->on_body(s);
}

static void headers_received(zk__h2 *h2, const nghttp2_frame *frame)
{
    zk__h2_stream *s = h2->block;
    if (!s || s->id != frame->hd.stream_id) return;
    h2->block = NULL;
    bool is_end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    bool is_trailer = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
    bool is_good = !(s->said & ZK__H2_MALFORMED_FIELD);
    if (is_good && !s->refused) is_good = is_trailer ? is_end : zk__h2_head_check(s);
    if (is_good && is_end && !is_trailer) is_good = s->req.body_length <= 0;
    if (ZK_UNLIKELY(!is_good)) {
        zk__h2_reset(s, ZK__H2_MALFORMED);
        return;
    }
    if (is_trailer) {
        s->req.trailers = s->trailers;
        if (s->refused) s->req.body_error = s->refused;
        if (is_end) body_ended(s);
        return;
    }
    s->field_capacity = 0; /* trailers begin anew */
    s->req.fields = s->fields;
    zk__h2_request_check(s);
    nghttp2_extpri priority;
    if (ZK_UNLIKELY(s->said & ZK__H2_SAID_PRIORITY) && zk__h2_priority_of(s, &priority)) {
        (void)nghttp2_session_change_extpri_stream_priority(h2->session, s->id, &priority, 0);
    }
    if (is_end) {
        s->is_in_ended = s->req.is_body_done = true;
        s->req.body_length = 0;
    }
    h2->events->on_request(s);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    zk__h2 *h2 = context;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        headers_received(h2, frame);
    } else if (frame->hd.type == NGHTTP2_DATA) {
        zk__h2_stream *s = stream_of(session, frame->hd.stream_id);
        zk__h2_padding_seen(h2, frame);
        if (s && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) body_ended(s);
    } else if (frame->hd.type == NGHTTP2_SETTINGS) {
        if (zk__h2_settings_taken(h2, &frame->settings) < 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

/* The windows bound what can come before somebody reads it. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags, (void)context;
    zk__h2_stream *s = stream_of(session, id);
    if (s) s->in_total += size;
    if (s && s->req.body_length >= 0 && s->in_total > (uint64_t)s->req.body_length) {
        zk__h2_reset(s, ZK__H2_MALFORMED);
    }
    bool is_wanted = s && !s->is_reset && s->has_task;
    if (!is_wanted || !zk__received_put(&s->in, data, size, IN_BYTES)) {
        (void)nghttp2_session_consume(session, id, size); /* nobody wants it */
        if (is_wanted) zk__h2_reset(s, ZK__H2_FAILED);
        return 0;
    }
    s->owes_continue = false; /* it has not waited for it */
    s->h2->events->on_body(s);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *context)
{
    zk__h2 *h2 = context;
    zk__h2_stream *s = h2->sent && h2->sent->id == id ? h2->sent : stream_of(session, id);
    if (!s) return 0;
    size_t unread = zk__received_size(&s->in);
    if (unread) (void)nghttp2_session_consume_connection(session, unread);
    const struct zk__h2_events *events = h2->events;
    zk__h2_whole_drop(s);
    stream_forget(s);
    events->on_closed(s, error);
    return 0;
}

int zk__h2_recv(zk__h2 *h2, void *data, size_t size)
{
    if (!zk__h2_account(h2, data, size)) return ZK_E_HTTP_SYNTAX;
    if (ZK_UNLIKELY(h2->has_settings)) {
        if (zk__h2_whole_flush(h2) < 0) return -ENOMEM;
        h2->has_settings = h2->payload_left && h2->head[3] == NGHTTP2_SETTINGS;
    }
    ssize_t n = nghttp2_session_mem_recv(h2->session, data, size);
    if (ZK_LIKELY(n == (ssize_t)size)) return 0;
    if (n == NGHTTP2_ERR_NOMEM) return -ENOMEM;
    uint32_t error =
        n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM;
    zk__h2_terminate(h2, error);
    return ZK_E_HTTP_SYNTAX;
}

/* ---- what tasks ask for ---- */

void zk__h2_reset(zk__h2_stream *s, enum zk__h2_why why)
{
    static const uint32_t errors[] = {
        [ZK__H2_DONE] = NGHTTP2_NO_ERROR,
        [ZK__H2_FAILED] = NGHTTP2_INTERNAL_ERROR,
        [ZK__H2_TIRED] = NGHTTP2_CANCEL,
        [ZK__H2_REFUSED] = NGHTTP2_REFUSED_STREAM,
        [ZK__H2_MALFORMED] = NGHTTP2_PROTOCOL_ERROR,
    };
    if (!s->h2 || s->is_reset) return;
    if (why >= ZK__H2_REFUSED) zk__h2_pay(s->h2, PROVOKED_RESET_COST);
    s->is_reset = true;
    (void)nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, errors[why]);
}

void zk__h2_consumed(zk__h2_stream *s, size_t size)
{
    if (!s->h2) return;
    (void)nghttp2_session_consume(s->h2->session, s->id, size);
}

/* ---- the session ---- */

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

/* Both are the same for all connections, and live as long as the process. */
static void shared_make(void)
{
    if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&options)) return;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, zk__h2_on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, zk__h2_on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, zk__h2_on_data_send);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1); /* h2_message.c does that */
#if ZK__H2_CONTINUATIONS
    /* It counts pieces that arrive; the account counts frames. */
    nghttp2_option_set_max_continuations(options, SIZE_MAX);
#endif
    nghttp2_option_set_builtin_recv_extension_type(options, NGHTTP2_PRIORITY_UPDATE);
}

static int settings_submit(zk__h2 *h2)
{
    const zk_server *config = h2->shard->config;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, config->h2_streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, ZK__H2_STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, config->header_bytes_max},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int rc = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof *settings);
    if (!rc) {
        rc = nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                   ZK__H2_WINDOW_BYTES);
    }
    return rc ? -ENOMEM : 0;
}

int zk__h2_init(zk__h2 *h2, zk__shard *shard, const struct zk__h2_events *events)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, shared_make);
    if (!callbacks || !options) return -ENOMEM;
    *h2 = (zk__h2){
        .shard = shard,
        .events = events,
    };
    zk__h2_account_init(h2);
    if (nghttp2_session_server_new3(&h2->session, callbacks, h2, options, &zk__h2_memory)) {
        return -ENOMEM;
    }
    int rc = settings_submit(h2);
    if (rc < 0) nghttp2_session_del(h2->session);
    return rc;
}

void zk__h2_done(zk__h2 *h2)
{
    nghttp2_session_del(h2->session);
    zk__h2_send_done(h2);
    for (size_t i = 0; i < ZK__H2_KNOWN; i++)
        known_forget(&h2->known[i]);
    while (h2->streams) {
        zk__h2_stream *s = h2->streams;
        stream_forget(s);
        h2->events->on_closed(s, NGHTTP2_CANCEL);
    }
}

bool zk__h2_is_alive(const zk__h2 *h2)
{
    return h2->carry || nghttp2_session_want_read(h2->session) ||
           nghttp2_session_want_write(h2->session);
}

void zk__h2_goaway(zk__h2 *h2, bool is_final)
{
    if (!is_final) {
        (void)nghttp2_submit_shutdown_notice(h2->session);
        return;
    }
    (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h2->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
}
