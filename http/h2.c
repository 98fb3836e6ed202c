/*
 * The HTTP/2 engine: see h2.h. nghttp2 is named here only.
 */
#include "http/h2.h"

#include "http/h2_account.h"
#include "http/h2_conn.h"
#include "http/h2_message.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "core/arena.h"
#include "core/task.h"

enum {
    CREDIT_PER_FRAME = 8, /* of a response */
    PROVOKED_RESET_COST = 10,
    FIELDS_FIRST = 12,
    HEADER_EXCESS = 4, /* times header_bytes_max: then it is no mistake any more */
    STREAMS_KEPT = 256,
    FRAME_HEAD_BYTES = 9,
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
    s->in = NULL;
    s->in_capacity = 0;
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
    s->owes_continue = s->is_out_awaited = false;
    s->said = 0;
    s->in_total = 0;
    s->fields = s->trailers = NULL;
    s->in_begin = s->in_end = 0;
    s->is_in_ended = false;
    s->reader = s->writer = NULL;
    s->out.data = NULL;
    s->out.size = 0;
    s->out.is_last = s->out.is_begun = false;
    s->tunnel = NULL;
    s->req.method = s->req.raw_target = s->req.host = (zk_str){"", 0};
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
    if (s->in) zk_free(s->in);
    if (s->out.buffer) zk_free(s->out.buffer);
    s->in = s->out.buffer = NULL;
    s->in_capacity = 0;
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
    h2->header_bytes = 0;
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
    size_t *count = is_trailer ? &s->req.trailer_count : &s->req.field_count;
    zk_field **fields = is_trailer ? &s->trailers : &s->fields;
    if (*count >= s->h2->shard->config->header_count_max) return ZK_E_HTTP_HEADER_TOO_LARGE;
    if (*count == s->field_capacity && !fields_grow(s, fields, *count)) return -ENOMEM;
    (*fields)[(*count)++] = field;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    (void)session, (void)flags;
    zk__h2 *h2 = context;
    nghttp2_vec name_bytes = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec value_bytes = nghttp2_rcbuf_get_buf(value);
    uint32_t limit = h2->shard->config->header_bytes_max;
    /* As RFC 9113 section 6.5.2 counts. A value of 64 KiB is the most that nghttp2 takes. */
    h2->header_bytes += (uint32_t)(name_bytes.len + value_bytes.len + 32);
    zk__h2_stream *s = h2->block;
    if (ZK_UNLIKELY(h2->header_bytes > limit)) {
        /* The table of the compression has to stay right, so all of it is read; but not more. */
        if (h2->header_bytes / HEADER_EXCESS > limit) return NGHTTP2_ERR_CALLBACK_FAILURE;
        if (s) s->refused = ZK_E_HTTP_HEADER_TOO_LARGE;
        return 0;
    }
    if (!s || s->refused || s->said & ZK__H2_MALFORMED_FIELD) return 0;
    bool is_trailer = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
    bool is_name_known = nghttp2_rcbuf_is_static(name); /* of RFC 7541's own table */
    int rc = field_take(s, name_bytes, value_bytes, is_name_known, is_trailer);
    if (rc < 0) s->refused = rc;
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
    }
    return 0;
}

/* Room for `size` more bytes of the body, behind those that are there. */
static bool in_reserve(zk__h2_stream *s, size_t size)
{
    uint32_t have = s->in_end - s->in_begin;
    if (!have) s->in_begin = s->in_end = 0;
    if (s->in_capacity - s->in_end >= size) return true;
    if (s->in_capacity - have >= size) {
        memmove(s->in, s->in + s->in_begin, have);
    } else {
        size_t capacity = s->in_capacity ? 2 * (size_t)s->in_capacity : 4096;
        while (capacity < have + size)
            capacity *= 2;
        char *grown = zk_alloc(capacity);
        if (!grown) return false;
        if (have) memcpy(grown, s->in + s->in_begin, have);
        zk_free(s->in);
        s->in = grown;
        s->in_capacity = (uint32_t)capacity;
    }
    s->in_begin = 0;
    s->in_end = have;
    return true;
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
    if (!s || s->is_reset || !s->has_task || !in_reserve(s, size)) {
        (void)nghttp2_session_consume(session, id, size); /* nobody wants it */
        if (s && s->has_task && !s->is_reset) zk__h2_reset(s, ZK__H2_FAILED);
        return 0;
    }
    s->owes_continue = false; /* it has not waited for it */
    memcpy(s->in + s->in_end, data, size);
    s->in_end += (uint32_t)size;
    s->h2->events->on_body(s);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *context)
{
    zk__h2 *h2 = context;
    zk__h2_stream *s = h2->sent && h2->sent->id == id ? h2->sent : stream_of(session, id);
    if (!s) return 0;
    if (s->in_end > s->in_begin) {
        (void)nghttp2_session_consume_connection(session, s->in_end - s->in_begin);
    }
    const struct zk__h2_events *events = h2->events;
    stream_forget(s);
    events->on_closed(s, error);
    return 0;
}

int zk__h2_recv(zk__h2 *h2, const void *data, size_t size)
{
    if (!zk__h2_account(h2, data, size)) return ZK_E_HTTP_SYNTAX;
    ssize_t n = nghttp2_session_mem_recv(h2->session, data, size);
    if (ZK_LIKELY(n == (ssize_t)size)) return 0;
    if (n == NGHTTP2_ERR_NOMEM) return -ENOMEM;
    uint32_t error =
        n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM;
    zk__h2_terminate(h2, error);
    return ZK_E_HTTP_SYNTAX;
}

/* ---- sending ---- */

/* What a response's frame costs is earned back by it. Resets that the client has provoked cost;
 * those that a handler or its slowness has brought about are no trick. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    zk__h2 *h2 = context;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        zk__h2_stream *reset = stream_of(session, frame->hd.stream_id);
        if (!reset || !reset->is_reset) zk__h2_pay(h2, PROVOKED_RESET_COST);
        return 0;
    }
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
    zk__h2_earn(h2, CREDIT_PER_FRAME);
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    zk__h2_stream *s = h2->sent;
    if (!s || s->id != frame->hd.stream_id) s = stream_of(session, frame->hd.stream_id);
    if (!s) return 0;
    s->has_ended = true;
    /* What is still to come of the request is of no use (RFC 9113 section 8.1), unless the handler
     * goes on reading it. */
    if (!s->is_in_ended && !s->has_task) zk__h2_reset(s, ZK__H2_DONE);
    return 0;
}

/* A head that is larger than nghttp2 sends (64 KiB), or no memory for it: nothing else would tell
 * the client. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *context)
{
    (void)error, (void)context;
    zk__h2_stream *s = stream_of(session, frame->hd.stream_id);
    if (s && frame->hd.type == NGHTTP2_HEADERS) zk__h2_reset(s, ZK__H2_FAILED);
    return 0;
}

/* Lower case in place: the names are in the arena. */
static nghttp2_nv nv_of(zk_str name, zk_str value)
{
    return (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.data,
        .value = (uint8_t *)(uintptr_t)value.data,
        .namelen = name.size,
        .valuelen = value.size,
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    };
}

static size_t nv_list(const zk__field_list *list, nghttp2_nv *nv)
{
    for (size_t i = 0; i < list->count; i++) {
        char *name = (char *)(uintptr_t)list->fields[i].name.data;
        for (size_t j = 0; j < list->fields[i].name.size; j++) {
            if (name[j] >= 'A' && name[j] <= 'Z') name[j] |= 0x20;
        }
        nv[i] = nv_of(list->fields[i].name, list->fields[i].value);
    }
    return list->count;
}

static int trailers_submit(zk__h2_stream *s)
{
    const zk__field_list *list = &s->res.trailers;
    nghttp2_nv *nv = zk_arena_alloc(&s->req.arena, list->count * sizeof *nv);
    if (!nv) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    nv_list(list, nv);
    int rc = nghttp2_submit_trailer(s->h2->session, s->id, nv, list->count);
    return rc ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static ssize_t out_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                        uint32_t *data_flags, nghttp2_data_source *source, void *context)
{
    (void)session, (void)id, (void)buf, (void)context;
    zk__h2_stream *s = source->ptr;
    size_t n = s->out.size < size ? s->out.size : size;
    if (n == s->out.size) {
        if (s->out.is_last) {
            *data_flags |= NGHTTP2_DATA_FLAG_EOF;
            if (s->res.trailers.count) {
                int rc = trailers_submit(s);
                if (rc) return rc;
                *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            }
        } else if (!n) {
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)n;
}

/* nghttp2 has taken all earlier frames out by now, so this one goes behind them. */
static int out_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                    size_t size, nghttp2_data_source *source, void *context)
{
    (void)session, (void)frame; /* without padding: it is not asked for */
    zk__h2 *h2 = context;
    zk__h2_stream *s = source->ptr;
    if (h2->out_capacity - h2->out_size < FRAME_HEAD_BYTES + size) return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(h2->out + h2->out_size, head, FRAME_HEAD_BYTES);
    if (size) {
        memcpy(h2->out + h2->out_size + FRAME_HEAD_BYTES, s->out.data, size);
        s->out.data += size;
        s->out.size -= size;
    }
    h2->out_size += FRAME_HEAD_BYTES + size;
    h2->sent = s;
    s->out_since = zk_now();
    if (!s->out.size) h2->events->on_room(s);
    return 0;
}

ssize_t zk__h2_send(zk__h2 *h2, char *buf, size_t size)
{
    h2->out = buf;
    h2->out_size = 0;
    h2->out_capacity = size;
    /* A frame that nghttp2 makes itself is at most 16 KiB long. */
    while (h2->out_capacity - h2->out_size >= ZK__H2_SEND_BYTES_MIN) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);
        if (n < 0) return -ENOMEM;
        if (n == 0) break;
        ZK_ASSERT((size_t)n <= h2->out_capacity - h2->out_size);
        memcpy(h2->out + h2->out_size, data, (size_t)n);
        h2->out_size += (size_t)n;
    }
    return (ssize_t)h2->out_size;
}

/* ---- what tasks ask for ---- */

/* Writes it in front of `end`. */
static zk_str decimal_before(char *end, uint64_t n)
{
    char *at = end;
    do {
        *--at = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    return (zk_str){at, (size_t)(end - at)};
}

int zk__h2_respond(zk__h2_stream *s, const char *content_type, bool has_body)
{
    enum { FIXED = 5, IN_FRAME = FIXED + 11 };
    if (!s->h2 || s->is_reset) return -ECONNRESET;
    zk_response *res = &s->res;
    zk__shard *shard = s->h2->shard;
    nghttp2_nv in_frame[IN_FRAME], *nv = in_frame;
    size_t count = 0;
    if (ZK_UNLIKELY(res->fields.count > IN_FRAME - FIXED)) {
        nv = zk_arena_alloc(&s->req.arena, (FIXED + res->fields.count) * sizeof *nv);
        if (!nv) return -ENOMEM;
    }
    char *end = s->numbers + sizeof s->numbers;
    zk_str status =
        ZK_LIKELY(res->status == 200) ? ZK_STR("200") : decimal_before(end, (uint64_t)res->status);
    nv[count++] = nv_of(ZK_STR(":status"), status);
    if (*shard->config->server_name) {
        zk_str name = {shard->config->server_name, strlen(shard->config->server_name)};
        nv[count++] = nv_of(ZK_STR("server"), name);
    }
    nv[count++] = nv_of(ZK_STR("date"), zk__shard_date(shard));
    zk_str type = res->content_type;
    if (!type.data && content_type) type = (zk_str){content_type, strlen(content_type)};
    if (type.data) nv[count++] = nv_of(ZK_STR("content-type"), type);
    /* RFC 9110 section 8.6: 204 must not have one; a 304's would be another's. */
    if (res->length >= 0 && res->status != 204 && res->status != 304) {
        nv[count++] =
            nv_of(ZK_STR("content-length"), decimal_before(end - 3, (uint64_t)res->length));
    }
    count += nv_list(&res->fields, nv + count);
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = out_read};
    s->out.is_begun = has_body;
    s->out_since = zk_now();
    int rc = nghttp2_submit_response(s->h2->session, s->id, nv, count, has_body ? &body : NULL);
    return rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : rc ? -ECONNRESET : 0;
}

int zk__h2_continue(zk__h2_stream *s)
{
    nghttp2_nv status = nv_of(ZK_STR(":status"), ZK_STR("100"));
    s->owes_continue = false;
    if (!s->h2 || s->is_reset) return 0;
    int rc =
        nghttp2_submit_headers(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NULL, &status, 1, NULL);
    return rc < 0 ? -ENOMEM : 0;
}

void zk__h2_resume(zk__h2_stream *s)
{
    if (!s->h2 || s->is_reset) return;
    /* It is not deferred if nghttp2 has not come to it yet. */
    (void)nghttp2_session_resume_data(s->h2->session, s->id);
}

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
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, out_send);
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
    while (h2->streams) {
        zk__h2_stream *s = h2->streams;
        stream_forget(s);
        h2->events->on_closed(s, NGHTTP2_CANCEL);
    }
}

bool zk__h2_is_alive(const zk__h2 *h2)
{
    return nghttp2_session_want_read(h2->session) || nghttp2_session_want_write(h2->session);
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
