/*
 * Sending: a queue of pieces, each some frames gathered or the bytes of a large one.
 *
 *   put --> queue --at the end of the batch of tasks, or 16 KiB--> the stream
 *                    \--no room--> blocked --there is room--> on
 *
 * Frames are put whole, without suspending in between, so those of several tasks do not mix. Large
 * payloads of a server are not copied: they are sent from where they lie while their sender waits.
 * What its sender cannot wait for any more is copied then.
 */
#include <string.h>

#include "ws/connection.h"
#include "ws/mask.h"
#include "ws/out.h"

enum {
    FIRST_BYTES = 512, /* of the first piece: what most need, and many fit the cache */
    PIECE_BYTES = 4096,
    COPY_MAX = 8 * 1024, /* larger payloads are lent */
    FLUSH_BYTES = 16 * 1024,
    PIECES_AT_ONCE = 16,
    SHORT_HEAD_BYTES = 2, /* of a payload no longer than a control frame's */
};

typedef zk__ws_piece piece;

typedef struct zk__ws_waiter {
    zk__wait wait;
    struct zk__ws_waiter *next;
    bool is_woken;
} waiter;

/* ---- waiting for a change ---- */

static void waiter_wake(waiter *w, int rc)
{
    w->is_woken = true;
    zk__wait_end(&w->wait, rc);
}

static void waiter_cancel(zk__wait *wait) { waiter_wake((waiter *)(void *)wait, -ECANCELED); }

int zk__ws_wait_change(zk_ws *ws)
{
    static const zk__wait_kind kind = {.name = "WebSocket peer"};
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    waiter w = {.wait = {.cancel = waiter_cancel, .kind = &kind}};
    waiter **link = &ws->waiters;
    while (*link)
        link = &(*link)->next;
    *link = &w;
    rc = (int)zk__wait_for(&w.wait);
    /* Only now: whoever is in the list is somebody for whom the socket has to be there. */
    for (link = &ws->waiters; *link != &w;)
        link = &(*link)->next;
    *link = w.next;
    return rc;
}

void zk__ws_changed(zk_ws *ws)
{
    for (waiter *w = ws->waiters; w; w = w->next)
        if (!w->is_woken) waiter_wake(w, 0);
}

/* ---- the queue ---- */

static void on_batch_end(zk__hook *hook)
{
    zk__ws_flush_now(((zk__ws_out *)(void *)((char *)hook - offsetof(zk__ws_out, hook)))->ws);
}

static void on_room(zk__room *room)
{
    zk__ws_out *o = (zk__ws_out *)(void *)((char *)room - offsetof(zk__ws_out, room));
    o->is_blocked = false;
    zk__hook_arm(zk__worker_self(), &o->hook);
}

zk__ws_out *zk__ws_out_get(zk_ws *ws)
{
    if (ws->out) return ws->out;
    zk__ws_out *o = zk_alloc(sizeof *o + FIRST_BYTES);
    if (!o) return NULL;
    *o = (zk__ws_out){.ws = ws, .hook.run = on_batch_end, .room.on_room = on_room};
    o->later_end = &o->later;
    o->moved = zk_now();
    return ws->out = o;
}

static void piece_free(piece *p)
{
    if (p->is_over) *p->is_over = true;
    if (p->shared) zk__ws_shared_unref(p->shared);
    if (!p->is_part) zk_free(p);
}

static void first_free(zk__ws_out *o)
{
    piece *p = o->first;
    o->first = p->next;
    if (!o->first) o->last = NULL;
    o->controls -= p->controls;
    piece_free(p);
}

void zk__ws_out_free(zk_ws *ws)
{
    zk__ws_out *o = ws->out;
    if (!o) return;
    ws->out = NULL;
    if (o->is_blocked) ws->upgrade.stream->ops->forget_room(ws->upgrade.stream, &o->room);
    if (o->hook.is_armed) zk__hook_disarm(zk__worker_self(), &o->hook);
    while (o->first)
        first_free(o);
    for (piece *p = o->later, *next; p; p = next) {
        next = p->next;
        piece_free(p);
    }
    zk_free(o);
}

static piece *piece_add(zk__ws_out *o, size_t capacity)
{
    bool is_part = !o->has_piece && capacity <= FIRST_BYTES - sizeof(piece);
    if (is_part) capacity = FIRST_BYTES - sizeof(piece);
    piece *p = is_part ? (piece *)(void *)(o + 1) : zk_alloc(sizeof *p + capacity);
    if (!p) return NULL;
    o->has_piece |= is_part;
    *p = (piece){.data = p->bytes, .end = p->bytes + capacity, .is_droppable = true};
    p->is_part = is_part;
    if (o->last) {
        o->last->next = p;
    } else {
        o->first = p;
    }
    o->last = p;
    return p;
}

/* Where so many bytes are to be put behind the rest; NULL: no memory. */
static piece *piece_for(zk__ws_out *o, size_t size)
{
    piece *p = o->last;
    /* What may be dropped one by one must not be gathered. */
    bool is_single = o->is_blocked && o->ws->slow == ZK_WS_SLOW_DROP;
    if (p && p->end && !is_single && (size_t)(p->end - (p->data + p->size)) >= size) return p;
    size_t room = (o->has_piece ? PIECE_BYTES : FIRST_BYTES) - sizeof *p;
    return piece_add(o, is_single || size > room ? size : room);
}

/* Queues a frame, copied. first: its first byte. returns 0, -ENOMEM. */
static int put_frame(zk_ws *ws, uint8_t first, const void *data, size_t size)
{
    zk__ws_out *o = zk__ws_out_get(ws);
    piece *p = o ? piece_for(o, size + ZK__WS_HEAD_BYTES_MAX) : NULL;
    if (!p) return -ENOMEM;
    uint8_t key[4];
    if (ws->is_client) {
        int rc = zk__ws_random(key, sizeof key);
        if (rc < 0) return rc;
    }
    char *to = (char *)(uintptr_t)p->data + p->size;
    size_t head = zk__ws_head(to, first, size, ws->is_client ? key : NULL);
    if (ws->is_client) {
        zk__ws_mask(to + head, data, size, key);
    } else if (size) {
        memcpy(to + head, data, size);
    }
    p->size += head + size;
    o->queued += head + size;
    if ((first & 0x08) || !(first & ZK__WS_FIN) || !(first & 0x0F)) p->is_droppable = false;
    if (first & 0x08) {
        p->controls++;
        o->controls++;
    }
    if (!o->is_blocked) zk__hook_arm(zk__worker_self(), &o->hook);
    return 0;
}

int zk__ws_put_head(zk_ws *ws, zk_str head)
{
    if (!head.size) return 0;
    zk__ws_out *o = zk__ws_out_get(ws);
    piece *p = o ? piece_for(o, head.size) : NULL;
    if (!p) return -ENOMEM;
    memcpy((char *)(uintptr_t)p->data + p->size, head.data, head.size);
    p->size += head.size;
    p->is_droppable = false;
    o->queued += head.size;
    zk__hook_arm(zk__worker_self(), &o->hook);
    return 0;
}

void zk__ws_out_drop_oldest(zk__ws_out *o)
{
    piece **link = &o->first, *before = NULL;
    while (*link && o->queued >= o->ws->limits->send_queue_bytes_max) {
        piece *p = *link;
        if (!p->is_droppable) {
            before = p;
            link = &p->next;
            continue;
        }
        *link = p->next;
        if (o->last == p) o->last = before;
        o->queued -= p->size;
        piece_free(p);
    }
}

/* ---- to the stream ---- */

static void took(zk__ws_out *o, size_t n)
{
    o->moved = zk_now();
    o->queued -= n;
    while (o->first && n >= o->first->size) {
        n -= o->first->size;
        first_free(o);
    }
    if (!o->first) return;
    o->first->data += n;
    o->first->size -= n;
    if (n) o->first->is_droppable = false;
}

/* returns bytes; 0: blocked; an error. */
static ssize_t write_some(zk__ws_out *o)
{
    zk_stream *stream = o->ws->upgrade.stream;
    struct iovec iov[PIECES_AT_ONCE];
    int count = 0;
    for (piece *p = o->first; p && count < PIECES_AT_ONCE; p = p->next)
        iov[count++] = (struct iovec){(void *)(uintptr_t)p->data, p->size};
    for (;;) {
        ssize_t n = stream->ops->writev(stream, iov, count, true);
        if (n != -EAGAIN) return n;
        int rc = stream->ops->await_room(stream, &o->room);
        if (rc < 0) return rc;
        if (rc) continue;
        o->is_blocked = true;
        zk__ws_deadline(o->ws, zk__ws_write_due(o->ws));
        return 0;
    }
}

/* All is sent. */
static void out_settle(zk_ws *ws)
{
    if (ws->is_close_sent && !ws->is_close_received && !ws->close_due) {
        ws->close_due = zk__ws_after(zk_now(), ws->limits->close_timeout_ms);
        zk__ws_deadline(ws, ws->close_due);
    }
    if (!ws->out->streamer) zk__ws_out_free(ws);
}

void zk__ws_flush_now(zk_ws *ws)
{
    zk__ws_out *o = ws->out;
    if (!o || ws->is_broken) return;
    while (o->first && !o->is_blocked) {
        ssize_t n = write_some(o);
        if (n < 0) {
            zk__ws_break(ws, (int)n);
            return;
        }
        if (n) took(o, (size_t)n);
    }
    if (!o->first) out_settle(ws);
    zk__ws_changed(ws);
}

zk_time zk__ws_write_due(const zk_ws *ws)
{
    if (!ws->out || !ws->out->is_blocked) return INT64_MAX;
    return zk__ws_after(ws->out->moved, ws->limits->write_timeout_ms);
}

/* ---- control frames ---- */

int zk__ws_put_control(zk_ws *ws, uint8_t opcode, const void *data, size_t size)
{
    if (ws->error) return ws->error;
    if (ws->is_close_sent) return ZK_E_CLOSED;
    if (ws->out && ws->out->controls >= ws->limits->controls_queued_max) {
        zk__ws_flush_now(ws);
        if (ws->error) return ws->error;
        if (ws->out && ws->out->controls >= ws->limits->controls_queued_max) return ZK_E_LIMIT;
    }
    return put_frame(ws, ZK__WS_FIN | opcode, data, size);
}

int zk__ws_put_close(zk_ws *ws, int code, const char *reason, size_t reason_size)
{
    char payload[ZK__WS_CONTROL_BYTES_MAX];
    size_t size = 0;
    if (code) {
        payload[0] = (char)(code >> 8);
        payload[1] = (char)code;
        size = 2 + reason_size;
        if (reason_size) memcpy(payload + 2, reason, reason_size);
    }
    int rc = put_frame(ws, ZK__WS_FIN | ZK__WS_CLOSE, payload, size);
    if (rc < 0) return rc;
    ws->is_close_sent = true;
    ws->close_due = 0; /* it was `pinged` so far */
    return 0;
}

int zk_ws_ping(zk_ws *ws, const void *data, size_t size)
{
    if (size > ZK__WS_CONTROL_BYTES_MAX) return -EINVAL;
    return zk__ws_put_control(ws, ZK__WS_PING, data, size);
}

/* ---- messages ---- */

/* Waits until a message may be put. returns 0; 1: it is dropped; an error. */
static int turn_wait(zk_ws *ws)
{
    for (;;) {
        int rc = zk__ws_out_is_open(ws);
        zk__ws_out *o = ws->out;
        if (ZK_LIKELY(rc < 0 || !o)) return rc;
        if (o->streamer == zk__lane.current) return ZK_E_WS_STATE;
        if (!o->streamer) {
            bool is_full = o->queued >= ws->limits->send_queue_bytes_max;
            if ((is_full || o->queued >= FLUSH_BYTES) && !o->is_blocked) {
                zk__ws_flush_now(ws);
                continue;
            }
            if (!is_full) return 0;
            if (ws->slow == ZK_WS_SLOW_CLOSE) {
                zk__ws_break(ws, ZK_E_SLOW);
                return ZK_E_SLOW;
            }
            if (ws->slow == ZK_WS_SLOW_DROP) {
                zk__ws_out_drop_oldest(o);
                return o->queued >= ws->limits->send_queue_bytes_max;
            }
        }
        rc = zk__ws_wait_change(ws);
        if (rc < 0) return ws->error ? ws->error : rc;
    }
}

/* Takes a lent piece's bytes over. returns false if there is no memory. */
static bool lent_copy(zk__ws_out *o, piece *lent)
{
    piece *copy = zk_alloc(sizeof *copy + lent->size);
    if (!copy) return false;
    *copy = *lent;
    memcpy(copy->bytes, lent->data, lent->size);
    copy->data = copy->bytes;
    copy->end = copy->bytes + lent->size;
    copy->is_over = NULL;
    piece **link = &o->first;
    while (*link != lent)
        link = &(*link)->next;
    *link = copy;
    if (o->last == lent) o->last = copy;
    zk_free(lent);
    return true;
}

/* Waits until a lent piece is sent. A sender that is cancelled meanwhile is told with its next
 * call: the message is queued as a whole. */
static int lent_wait(zk_ws *ws, piece *lent, const bool *is_over)
{
    while (!*is_over) {
        int rc = zk__ws_wait_change(ws);
        if (rc >= 0 || *is_over) continue;
        if (lent_copy(ws->out, lent)) return 0;
        zk__ws_break(ws, ZK_E_CLOSED); /* half a frame is in the queue */
        return rc;
    }
    return ws->is_broken ? ws->error : 0;
}

/* Queues a frame without copying its payload, and waits until it is sent. */
static int put_lent(zk_ws *ws, uint8_t first, const void *data, size_t size)
{
    zk__ws_out *o = zk__ws_out_get(ws);
    piece *head = o ? piece_for(o, ZK__WS_HEAD_BYTES_MAX) : NULL;
    piece *lent = head ? piece_add(o, 0) : NULL;
    if (!lent) return -ENOMEM;
    char *to = (char *)(uintptr_t)head->data + head->size;
    size_t head_size = zk__ws_head(to, first, size, NULL);
    head->size += head_size;
    head->is_droppable = lent->is_droppable = false;
    lent->data = data;
    lent->size = size;
    lent->end = NULL;
    bool is_over = false;
    lent->is_over = &is_over;
    o->queued += head_size + size;
    zk__ws_flush_now(ws);
    return lent_wait(ws, lent, &is_over);
}

static int put(zk_ws *ws, uint8_t first, const void *data, size_t size)
{
    bool is_lent = size > COPY_MAX && !ws->is_client && ws->slow == ZK_WS_SLOW_WAIT;
    return is_lent ? put_lent(ws, first, data, size) : put_frame(ws, first, data, size);
}

/* Queues a message compressed. returns 1; 0: it is better sent as it is; -ENOMEM. */
static int put_compressed(zk_ws *ws, uint8_t first, const void *data, size_t size)
{
    zk__ws_bytes *out = zk__ws_scratch();
    if (!out) return -ENOMEM;
    int rc = zk__ws_compress(ws->deflate, data, size, out);
    if (rc <= 0) return rc;
    rc = put_frame(ws, first | ZK__WS_RSV1, out->data, out->size);
    if (rc < 0) zk__ws_compress_drop(ws->deflate);
    return rc < 0 ? rc : 1;
}

static __attribute__((noinline)) int send_any(zk_ws *ws, uint8_t first, const void *data,
                                              size_t size)
{
    int rc = turn_wait(ws);
    if (ZK_UNLIKELY(rc)) return rc < 0 ? rc : 0;
    if (ws->deflate && zk__ws_deflate_wants(ws->deflate, size)) {
        rc = put_compressed(ws, first, data, size);
        if (rc) return rc < 0 ? rc : 0;
    }
    return put(ws, first, data, size);
}

/* At most as many bytes as a control frame has; most have 16 or more. */
static inline void short_copy(char *to, const char *from, size_t size)
{
    if (ZK_LIKELY(size >= 16)) {
        for (size_t i = 0; i < size - 16; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else {
        for (size_t i = 0; i < size; i++)
            to[i] = from[i];
    }
}

/* A short message behind others that are about to be sent: no more than the frame itself. returns
 * false if it is another case, also of refusing it. */
static inline bool put_behind(zk_ws *ws, uint8_t first, const void *data, size_t size)
{
    zk__ws_out *o = ws->out;
    if (!o || !o->hook.is_armed || o->streamer || o->queued >= FLUSH_BYTES) return false;
    if (ws->error || ws->is_client || ws->is_close_sent || ws->is_close_received) return false;
    piece *p = o->last;
    if (ws->deflate || size > ZK__WS_CONTROL_BYTES_MAX || !p || !p->end) return false;
    if (o->queued >= ws->limits->send_queue_bytes_max) return false;
    char *to = (char *)(uintptr_t)p->data + p->size;
    if ((size_t)(p->end - to) < SHORT_HEAD_BYTES + size) return false;
    to[0] = (char)first;
    to[1] = (char)size;
    p->size += SHORT_HEAD_BYTES + size;
    o->queued += SHORT_HEAD_BYTES + size;
    short_copy(to + SHORT_HEAD_BYTES, data, size);
    return true;
}

static __attribute__((noinline)) int send_text(zk_ws *ws, const void *data, size_t size)
{
    enum { FIRST = ZK__WS_FIN | ZK__WS_TEXT };
    zk__utf8 text = 0;
    if (!zk__utf8_take(&text, data, size) || text) return ZK_E_WS_TEXT;
    return put_behind(ws, FIRST, data, size) ? 0 : send_any(ws, FIRST, data, size);
}

int zk_ws_send(zk_ws *ws, zk_ws_type type, const void *data, size_t size)
{
    if (type == ZK_WS_TEXT) return send_text(ws, data, size);
    uint8_t first = (uint8_t)(ZK__WS_FIN | type);
    return ZK_LIKELY(put_behind(ws, first, data, size)) ? 0 : send_any(ws, first, data, size);
}

int zk_ws_send_text(zk_ws *ws, const char *text)
{
    return zk_ws_send(ws, ZK_WS_TEXT, text, strlen(text));
}

int zk_ws_flush(zk_ws *ws) { return zk__ws_drain(ws); }

int zk__ws_drain(zk_ws *ws)
{
    zk__ws_flush_now(ws);
    while (!ws->is_broken && ws->out && ws->out->first) {
        int rc = zk__ws_wait_change(ws);
        if (rc < 0) return ws->is_broken ? ws->error : rc;
    }
    return ws->is_broken ? ws->error : 0;
}

/* ---- in pieces ---- */

int zk_ws_send_begin(zk_ws *ws, zk_ws_type type)
{
    int rc;
    do {
        rc = turn_wait(ws);
    } while (rc > 0 && (rc = zk__ws_wait_change(ws)) >= 0); /* what has begun is not dropped */
    if (rc < 0) return rc;
    zk__ws_out *o = zk__ws_out_get(ws);
    if (!o) return -ENOMEM;
    o->streamer = zk__lane.current;
    o->opcode = (uint8_t)type;
    o->is_text = type == ZK_WS_TEXT;
    o->text = 0;
    return 0;
}

/* The streaming task's queue. */
static int streamer_check(const zk_ws *ws)
{
    int rc = zk__ws_out_is_open(ws);
    if (rc < 0) return rc;
    return ws->out && ws->out->streamer == zk__lane.current ? 0 : ZK_E_WS_STATE;
}

int zk_ws_write(zk_ws *ws, const void *data, size_t size)
{
    int rc = streamer_check(ws);
    if (rc < 0 || !size) return rc;
    zk__utf8 text = ws->out->text;
    if (ws->out->is_text && !zk__utf8_take(&text, data, size)) return ZK_E_WS_TEXT;
    while (ws->out->queued >= ws->limits->send_queue_bytes_max) {
        zk__ws_flush_now(ws);
        if (!ws->error && ws->out->queued >= ws->limits->send_queue_bytes_max)
            rc = zk__ws_wait_change(ws);
        if (ws->error) return ws->error;
        if (rc < 0) return rc;
    }
    ws->out->text = text;
    uint8_t opcode = ws->out->opcode;
    ws->out->opcode = ZK__WS_CONTINUATION;
    return put(ws, opcode, data, size);
}

/* What was published meanwhile follows. */
static void later_take(zk__ws_out *o)
{
    if (!o->later) return;
    o->last->next = o->later;
    while (o->last->next) {
        o->last = o->last->next;
        o->queued += o->last->size;
    }
    o->later = NULL;
    o->later_end = &o->later;
    o->later_bytes = 0;
}

int zk_ws_send_end(zk_ws *ws)
{
    int rc = streamer_check(ws);
    if (rc < 0) return rc;
    if (ws->out->text) return ZK_E_WS_TEXT;
    rc = put_frame(ws, ZK__WS_FIN | ws->out->opcode, NULL, 0);
    if (rc < 0) return rc;
    ws->out->streamer = NULL;
    later_take(ws->out);
    zk__ws_changed(ws);
    return 0;
}

size_t zk_ws_queued_bytes(const zk_ws *ws) { return ws->out ? ws->out->queued : 0; }
