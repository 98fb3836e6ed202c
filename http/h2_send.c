/*
 * What a connection of HTTP/2 sends: heads, bodies, and in which frames; see h2.h.
 *
 * nghttp2's session decides which frame is next, and makes most of them. Heads it is given without
 * a field; when it calls zk__h2_on_frame_send for such a frame, in the order of sending, the real
 * one takes its place. So there is one compressor, here, and what it does for the usual heads can
 * be remembered: each of their fields is in its table, and one byte long. That holds until
 * something is put into the table. Their length, which differs, is never put there, and written
 * here.
 *
 * A whole body that is small leaves with its head. nghttp2 is told that the response has none, and
 * forgets the stream when the head is sent; DATA is written behind it, ahead of what RFC 9218 has
 * to say about the order, as heads are. What nghttp2 does not know is kept right here:
 *   - It believes the connection's window to be larger than it is, by `owed`. That is taken off the
 *     client's updates of the window (h2_account.c), and heeded by out_read.
 *   - The stream's window may only shrink by the client's settings: before they are taken, whole
 *     responses leave for `carry` (zk__h2_whole_flush).
 */
#include "http/h2_send.h"

#include <errno.h>
#include <string.h>

#include "core/arena.h"
#include "core/worker.h"
#include "http/h2_account.h"

enum {
    CREDIT_PER_FRAME = 8, /* of a response */
    PROVOKED_RESET_COST = 10,
    FRAME_HEAD_BYTES = 9,
    FRAME_BYTES_MAX = 16384,
    WHOLE_BYTES_MAX = 512,
    HEAD_BYTES_MAX = 64 * 1024,
    TABLE_BYTES_MAX = 4096,
    CARRY_STEP_BYTES = 64 * 1024,
    /* An update of the client's may come in two pieces, and is not taken off then. So nghttp2's
     * window must not be close to the largest that there may be. */
    WINDOW_MAX = (1 << 30) + (1 << 20),
};

extern nghttp2_mem zk__h2_memory; /* h2_memory.c */

static zk__h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- room ---- */

/* Room in what is being sent; when that is full, in `carry`, which is sent before all else. */
static char *room_take(zk__h2 *h2, size_t size)
{
    if (ZK_LIKELY(!h2->carry && h2->out_capacity - h2->out_size >= size)) {
        char *room = h2->out + h2->out_size;
        h2->out_size += size;
        return room;
    }
    char *grown = zk_alloc(h2->carry_size + size);
    if (!grown) return NULL;
    if (h2->carry_size) memcpy(grown, h2->carry + h2->carry_begin, h2->carry_size);
    zk_free(h2->carry);
    h2->carry = grown;
    h2->carry_begin = 0;
    h2->carry_size += size;
    return grown + h2->carry_size - size;
}

static void carry_send(zk__h2 *h2)
{
    size_t room = h2->out_capacity - h2->out_size;
    size_t n = h2->carry_size < room ? h2->carry_size : room;
    memcpy(h2->out + h2->out_size, h2->carry + h2->carry_begin, n);
    h2->out_size += n;
    h2->carry_begin += n;
    h2->carry_size -= n;
    if (h2->carry_size) return;
    zk_free(h2->carry);
    h2->carry = NULL;
}

static char *frame_head_put(char *to, size_t size, uint8_t type, uint8_t flags, int32_t id)
{
    uint32_t length_type = __builtin_bswap32((uint32_t)size << 8 | type);
    uint32_t stream = __builtin_bswap32((uint32_t)id);
    memcpy(to, &length_type, 4);
    to[4] = (char)flags;
    memcpy(to + 5, &stream, 4);
    return to + FRAME_HEAD_BYTES;
}

/* ---- compression ---- */

enum { BLOCK_BYTES = 512, LENGTH_BYTES_MAX = 3 + 20 };

/* A header block; there is room for a length behind it. */
typedef struct block {
    uint8_t *bytes;
    size_t size;
    uint8_t *large; /* to be freed */
    uint8_t small[BLOCK_BYTES + LENGTH_BYTES_MAX];
} block;

static void heads_forget(zk__h2 *h2)
{
    for (size_t i = 0; i < ZK__H2_HEADS; i++)
        h2->heads[i].size = 0;
}

static int deflater_make(zk__h2 *h2)
{
    if (ZK_LIKELY(h2->deflater != NULL)) return 0;
    int rc = nghttp2_hd_deflate_new2(&h2->deflater, TABLE_BYTES_MAX, &zk__h2_memory);
    return rc ? -ENOMEM : 0;
}

int zk__h2_settings_taken(zk__h2 *h2, const nghttp2_settings *settings)
{
    for (size_t i = 0; i < settings->niv; i++) {
        if (settings->iv[i].settings_id != NGHTTP2_SETTINGS_HEADER_TABLE_SIZE) continue;
        heads_forget(h2); /* the next block begins with the new size */
        if (deflater_make(h2) < 0) return -ENOMEM;
        if (nghttp2_hd_deflate_change_table_size(h2->deflater, settings->iv[i].value)) {
            return -ENOMEM;
        }
    }
    return 0;
}

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

/* Lower case in place: the names are in the arena. */
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

/* returns 0, -ENOMEM. */
static int block_make(zk__h2 *h2, block *b, const nghttp2_nv *nv, size_t count)
{
    if (deflater_make(h2) < 0) return -ENOMEM;
    size_t bound = nghttp2_hd_deflate_bound(h2->deflater, nv, count);
    b->bytes = b->small;
    if (bound > BLOCK_BYTES) b->bytes = b->large = zk_alloc(bound + LENGTH_BYTES_MAX);
    if (!b->bytes) return -ENOMEM;
    ssize_t n = nghttp2_hd_deflate_hd(h2->deflater, b->bytes, bound, nv, count);
    if (n < 0) return -ENOMEM;
    b->size = (size_t)n;
    return 0;
}

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

/* RFC 9110 section 8.6: 204 must not have one; a 304's would be another's. */
static bool has_length(const zk_response *res)
{
    return res->length >= 0 && res->status != 204 && res->status != 304;
}

/* What all heads have. */
static size_t nv_common(const zk__h2_stream *s, zk__shard *shard, char *status, nghttp2_nv *nv)
{
    const char *server = shard->config->server_name;
    size_t count = 0;
    nv[count++] = nv_of(ZK_STR(":status"), decimal_before(status, (uint64_t)s->res.status));
    if (*server) nv[count++] = nv_of(ZK_STR("server"), (zk_str){server, strlen(server)});
    nv[count++] = nv_of(ZK_STR("date"), zk__shard_date(shard));
    if (s->type.data) nv[count++] = nv_of(ZK_STR("content-type"), s->type);
    return count;
}

static zk__h2_head *head_of(zk__h2 *h2, const zk__h2_stream *s)
{
    return &h2->heads[((size_t)s->res.status ^ s->type.size) % ZK__H2_HEADS];
}

static bool head_is(const zk__h2_head *head, const zk__h2_stream *s)
{
    return head->size && head->status == s->res.status && head->type_size == s->type.size &&
           (!s->type.size || !memcmp(head->type, s->type.data, s->type.size));
}

/* Each field in a byte: it has been found in the table, and nothing was put there. */
static bool is_found(const block *b, size_t count)
{
    for (size_t i = 0; i < b->size; i++) {
        if (b->bytes[i] < 0x80 || b->bytes[i] == 0xff) return false;
    }
    return b->size == count;
}

static void head_remember(zk__h2 *h2, const zk__h2_stream *s, const block *b)
{
    zk__h2_head *head = head_of(h2, s);
    if (b->size > sizeof head->block || s->type.size > sizeof head->type) return;
    head->status = (uint16_t)s->res.status;
    head->type_size = (uint8_t)s->type.size;
    head->size = (uint8_t)b->size;
    if (s->type.size) memcpy(head->type, s->type.data, s->type.size);
    memcpy(head->block, b->bytes, b->size);
}

/* The usual head, but for the length. */
static int usual_make(zk__h2 *h2, zk__h2_stream *s, block *b)
{
    char status[20];
    nghttp2_nv nv[4];
    size_t count = nv_common(s, h2->shard, status + sizeof status, nv);
    int rc = block_make(h2, b, nv, count);
    if (rc < 0) return rc;
    if (is_found(b, count)) {
        head_remember(h2, s, b);
    } else {
        heads_forget(h2);
    }
    return 0;
}

/* A head with fields that a handler has set. */
static int special_make(zk__h2 *h2, zk__h2_stream *s, block *b)
{
    enum { COMMON = 5, IN_FRAME = COMMON + 12 };
    const zk__field_list *list = &s->res.fields;
    nghttp2_nv in_frame[IN_FRAME], *nv = in_frame;
    if (list->count > IN_FRAME - COMMON) {
        nv = zk_arena_alloc(&s->req.arena, (COMMON + list->count) * sizeof *nv);
        if (!nv) return -ENOMEM;
    }
    char status[20];
    size_t count = nv_common(s, h2->shard, status + sizeof status, nv);
    char length[20], *end = length + sizeof length;
    if (has_length(&s->res)) {
        nv[count++] = nv_of(ZK_STR("content-length"), decimal_before(end, (uint64_t)s->res.length));
    }
    count += nv_list(list, nv + count);
    heads_forget(h2);
    return block_make(h2, b, nv, count);
}

static int trailers_make(zk__h2 *h2, zk__h2_stream *s, block *b)
{
    const zk__field_list *list = &s->res.trailers;
    nghttp2_nv *nv = zk_arena_alloc(&s->req.arena, list->count * sizeof *nv);
    if (!nv) return -ENOMEM;
    heads_forget(h2);
    return block_make(h2, b, nv, nv_list(list, nv));
}

static int continue_make(zk__h2 *h2, block *b)
{
    nghttp2_nv status = nv_of(ZK_STR(":status"), ZK_STR("100"));
    heads_forget(h2);
    return block_make(h2, b, &status, 1);
}

/* ---- heads in their frames ---- */

/* A literal that is never indexed, with the name's place in the table of RFC 7541. */
static char *length_put(char *to, uint64_t length)
{
    to[0] = 0x0f;
    to[1] = 28 - 15;
    if (length < 100) {
        char *at = to + 3;
        if (length >= 10) *at++ = (char)('0' + length / 10);
        *at++ = (char)('0' + length % 10);
        to[2] = (char)(at - to - 3);
        return at;
    }
    char digits[20];
    zk_str text = decimal_before(digits + sizeof digits, length);
    to[2] = (char)text.size;
    for (size_t i = 0; i < text.size; i++)
        to[3 + i] = text.data[i];
    return to + 3 + text.size;
}

static void whole_sent(zk__h2_stream *s)
{
    s->is_whole = false;
    s->h2->wholes--;
    s->out.size = 0;
}

static char *body_put(zk__h2_stream *s, char *to)
{
    to = frame_head_put(to, s->out.size, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, s->id);
    memcpy(to, s->out.data, s->out.size);
    to += s->out.size;
    zk__h2_earn(s->h2, CREDIT_PER_FRAME);
    whole_sent(s);
    return to;
}

/* As many frames as it takes, and then the body, if that comes along. */
static int block_send(zk__h2 *h2, zk__h2_stream *s, const block *b, uint8_t flags, bool is_whole)
{
    size_t size = b->size + FRAME_HEAD_BYTES * (1 + b->size / FRAME_BYTES_MAX);
    if (b->size && b->size % FRAME_BYTES_MAX == 0) size -= FRAME_HEAD_BYTES;
    if (is_whole) size += FRAME_HEAD_BYTES + s->out.size;
    char *to = room_take(h2, size);
    if (!to) return -ENOMEM;
    uint8_t type = NGHTTP2_HEADERS;
    for (size_t done = 0; !done || done < b->size; type = NGHTTP2_CONTINUATION) {
        size_t left = b->size - done, n = left < FRAME_BYTES_MAX ? left : FRAME_BYTES_MAX;
        uint8_t last = n == left ? NGHTTP2_FLAG_END_HEADERS : 0;
        to = frame_head_put(to, n, type, flags | last, s->id);
        memcpy(to, b->bytes + done, n);
        to += n;
        done += n;
        flags = 0;
    }
    if (is_whole) body_put(s, to);
    return 0;
}

/* The usual head from memory. returns false if it cannot be. */
static bool usual_send(zk__h2 *h2, zk__h2_stream *s, uint8_t flags, bool is_whole)
{
    enum { ROOM = 2 * FRAME_HEAD_BYTES + 4 + LENGTH_BYTES_MAX + WHOLE_BYTES_MAX };
    (void)zk__shard_date(h2->shard); /* which may renew it */
    if (ZK_UNLIKELY(h2->heads_second != h2->shard->common_second)) {
        h2->heads_second = h2->shard->common_second;
        heads_forget(h2);
        return false;
    }
    const zk__h2_head *head = head_of(h2, s);
    if (!head_is(head, s)) return false;
    if (h2->carry || h2->out_capacity - h2->out_size < ROOM) return false;
    char *begin = h2->out + h2->out_size, *payload = begin + FRAME_HEAD_BYTES;
    memcpy(payload, head->block, sizeof head->block);
    char *to = payload + head->size;
    if (has_length(&s->res)) to = length_put(to, (uint64_t)s->res.length);
    flags |= NGHTTP2_FLAG_END_HEADERS;
    frame_head_put(begin, (size_t)(to - payload), NGHTTP2_HEADERS, flags, s->id);
    if (is_whole) to = body_put(s, to);
    h2->out_size += (size_t)(to - begin);
    return true;
}

/* The head that is next of this stream, in the place of nghttp2's. */
static int head_send(zk__h2 *h2, zk__h2_stream *s, uint8_t flags)
{
    block b;
    b.large = NULL;
    bool is_response = !s->owes_interim && !s->has_head, is_whole = s->is_whole && is_response;
    if (is_whole) flags = 0; /* END_STREAM is the body's */
    bool is_usual = is_response && !s->res.fields.count;
    if (ZK_LIKELY(is_response)) s->has_head = true;
    if (ZK_LIKELY(is_usual) && usual_send(h2, s, flags, is_whole)) return 0;
    int rc = is_usual          ? usual_make(h2, s, &b)
             : is_response     ? special_make(h2, s, &b)
             : s->owes_interim ? continue_make(h2, &b)
                               : trailers_make(h2, s, &b);
    s->owes_interim = false;
    if (rc == 0 && is_usual && has_length(&s->res)) {
        char *end = length_put((char *)b.bytes + b.size, (uint64_t)s->res.length);
        b.size = (size_t)((uint8_t *)end - b.bytes);
    }
    if (rc == 0) rc = block_send(h2, s, &b, flags, is_whole);
    zk_free(b.large);
    return rc;
}

/* ---- what nghttp2 calls ---- */

/* What is still to come of the request is of no use (RFC 9113 section 8.1), unless the handler goes
 * on reading it. */
static void ended(zk__h2_stream *s)
{
    s->has_ended = true;
    s->h2->sent = s;
    if (!s->is_in_ended && !s->has_task) zk__h2_reset(s, ZK__H2_DONE);
}

/* What a response's frame costs is earned back by it. Resets that the client has provoked cost;
 * those that a handler or its slowness has brought about are no trick. */
int zk__h2_on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    zk__h2 *h2 = context;
    int32_t id = frame->hd.stream_id;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        zk__h2_stream *reset = stream_of(session, id);
        if (!reset || !reset->is_reset) zk__h2_pay(h2, PROVOKED_RESET_COST);
        return 0;
    }
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
    zk__h2_earn(h2, CREDIT_PER_FRAME);
    zk__h2_stream *s = h2->sent;
    if (!s || s->id != id) s = stream_of(session, id);
    uint8_t flags = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (!s || head_send(h2, s, flags) < 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
        h2->is_replaced = true;
    }
    if (s && flags) ended(s);
    return 0;
}

/* Nothing else would tell the client. */
int zk__h2_on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *context)
{
    (void)error, (void)context;
    zk__h2_stream *s = stream_of(session, frame->hd.stream_id);
    if (s && frame->hd.type == NGHTTP2_HEADERS) zk__h2_reset(s, ZK__H2_FAILED);
    return 0;
}

static size_t window_left(const zk__h2 *h2)
{
    int32_t window = nghttp2_session_get_remote_window_size(h2->session);
    return window > 0 && (uint32_t)window > h2->owed ? (uint32_t)window - h2->owed : 0;
}

/* What nghttp2 would not send, and a client would not take. */
static bool is_too_large(const zk__field_list *list)
{
    size_t size = 0;
    for (size_t i = 0; i < list->count; i++)
        size += list->fields[i].name.size + list->fields[i].value.size;
    return size > HEAD_BYTES_MAX;
}

static int trailers_submit(zk__h2_stream *s)
{
    if (is_too_large(&s->res.trailers)) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    int rc = nghttp2_submit_trailer(s->h2->session, s->id, NULL, 0);
    return rc ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static ssize_t out_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                        uint32_t *data_flags, nghttp2_data_source *source, void *context)
{
    (void)session, (void)id, (void)buf;
    zk__h2 *h2 = context;
    zk__h2_stream *s = source->ptr;
    if (ZK_UNLIKELY(h2->owed)) {
        size_t left = window_left(h2);
        if (left < size) size = left;
        if (!size && s->out.size) {
            h2->is_starved = true;
            return NGHTTP2_ERR_DEFERRED;
        }
    }
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
int zk__h2_on_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t size, nghttp2_data_source *source, void *context)
{
    (void)session, (void)frame; /* without padding: it is not asked for */
    zk__h2 *h2 = context;
    zk__h2_stream *s = source->ptr;
    bool has_room = !h2->carry && h2->out_capacity - h2->out_size >= FRAME_HEAD_BYTES + size;
    if (!has_room) return NGHTTP2_ERR_WOULDBLOCK;
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

/* ---- sending ---- */

/* The client has made room for those that have waited for it. returns whether it has. */
static bool starved_resume(zk__h2 *h2)
{
    if (!h2->is_starved || !window_left(h2)) return false;
    h2->is_starved = false;
    for (zk__h2_stream *s = h2->streams; s; s = s->next) {
        if (s->out.is_begun && s->out.size) zk__h2_resume(s);
    }
    return true;
}

ssize_t zk__h2_send(zk__h2 *h2, char *buf, size_t size)
{
    h2->out = buf;
    h2->out_size = 0;
    h2->out_capacity = size;
    /* A frame that nghttp2 makes itself is at most 16 KiB long. */
    for (;;) {
        if (ZK_UNLIKELY(h2->carry != NULL)) carry_send(h2);
        if (h2->out_capacity - h2->out_size < ZK__H2_SEND_BYTES_MIN) break;
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);
        if (n < 0) return -ENOMEM;
        if (n == 0) {
            if (h2->carry || starved_resume(h2)) continue;
            break;
        }
        if (ZK_LIKELY(h2->is_replaced)) {
            h2->is_replaced = false;
            continue;
        }
        ZK_ASSERT((size_t)n <= h2->out_capacity - h2->out_size);
        memcpy(h2->out + h2->out_size, data, (size_t)n);
        h2->out_size += (size_t)n;
    }
    return (ssize_t)h2->out_size;
}

int zk__h2_whole_flush(zk__h2 *h2)
{
    while (h2->wholes) {
        size_t capacity = h2->carry_size + CARRY_STEP_BYTES;
        char *buf = zk_alloc(capacity);
        if (!buf) return -ENOMEM;
        ssize_t n = zk__h2_send(h2, buf, capacity);
        size_t before = n > 0 ? (size_t)n : 0;
        if (n > 0 && h2->carry) { /* that has come up behind it */
            h2->out = NULL;
            h2->out_size = h2->out_capacity = 0;
            char *rest = h2->carry + h2->carry_begin;
            size_t rest_size = h2->carry_size;
            char *all = zk_alloc(before + rest_size);
            if (all) memcpy(all, buf, before);
            if (all) memcpy(all + before, rest, rest_size);
            zk_free(buf);
            if (!all) return -ENOMEM;
            zk_free(h2->carry);
            buf = all;
            before += rest_size;
        }
        if (n <= 0) {
            zk_free(buf);
            return n < 0 ? -ENOMEM : 0;
        }
        h2->carry = buf;
        h2->carry_begin = 0;
        h2->carry_size = before;
    }
    return 0;
}

void zk__h2_whole_drop(zk__h2_stream *s)
{
    if (!s->is_whole) return;
    s->h2->owed -= (uint32_t)s->out.size;
    whole_sent(s);
}

void zk__h2_send_done(zk__h2 *h2)
{
    if (h2->deflater) nghttp2_hd_deflate_del(h2->deflater);
    zk_free(h2->carry);
}

/* ---- what tasks ask for ---- */

int zk__h2_offer(zk__h2_stream *s, const void *body, size_t size)
{
    zk__h2 *h2 = s->h2;
    if (!h2 || s->is_reset || size > WHOLE_BYTES_MAX) return 0;
    bool fits = size <= window_left(h2) &&
                nghttp2_session_get_remote_window_size(h2->session) <= WINDOW_MAX &&
                size <= nghttp2_session_get_remote_settings(h2->session,
                                                            NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    if (!fits) return 0;
    char *copy = zk__arena_bump(&s->req.arena, size);
    if (!copy) return -ENOMEM;
    memcpy(copy, body, size);
    s->out.data = copy;
    s->out.size = size;
    s->is_whole = true;
    h2->wholes++;
    h2->owed += (uint32_t)size;
    return 1;
}

/* The handler's text may be gone when the head is sent. */
static int type_keep(zk__h2_stream *s, const char *content_type)
{
    s->type = s->res.content_type;
    if (s->type.data || !content_type) return 0;
    size_t size = strlen(content_type);
    char *copy = zk__arena_bump(&s->req.arena, size + 1);
    if (!copy) return -ENOMEM;
    memcpy(copy, content_type, size + 1);
    s->type = (zk_str){copy, size};
    return 0;
}

static int respond(zk__h2_stream *s, const char *content_type, bool has_body)
{
    if (!s->h2 || s->is_reset) return -ECONNRESET;
    if (type_keep(s, content_type) < 0) return -ENOMEM;
    if (ZK_UNLIKELY(s->res.fields.count) && is_too_large(&s->res.fields)) {
        zk__h2_reset(s, ZK__H2_FAILED);
        return -ECONNRESET;
    }
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = out_read};
    bool is_provided = has_body && !s->is_whole;
    s->out.is_begun = is_provided;
    s->out_since = zk_now();
    int rc = nghttp2_submit_response(s->h2->session, s->id, NULL, 0, is_provided ? &body : NULL);
    return ZK_LIKELY(!rc) ? 0 : rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : -ECONNRESET;
}

int zk__h2_respond(zk__h2_stream *s, const char *content_type, bool has_body)
{
    int rc = respond(s, content_type, has_body);
    if (ZK_UNLIKELY(rc < 0) && s->h2) zk__h2_whole_drop(s);
    return rc;
}

int zk__h2_continue(zk__h2_stream *s)
{
    s->owes_continue = false;
    if (!s->h2 || s->is_reset) return 0;
    int rc = nghttp2_submit_headers(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NULL, NULL, 0, NULL);
    if (rc >= 0) s->owes_interim = true;
    return rc < 0 ? -ENOMEM : 0;
}

void zk__h2_resume(zk__h2_stream *s)
{
    if (!s->h2 || s->is_reset) return;
    /* It is not deferred if nghttp2 has not come to it yet. */
    (void)nghttp2_session_resume_data(s->h2->session, s->id);
}
