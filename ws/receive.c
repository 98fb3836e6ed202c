/*
 * Receiving: the buffer, and messages out of frames.
 *
 *   data:  | ... | the message so far |  heads of frames taken  | begin .. end: not looked at yet |
 *
 * Payloads are unmasked where they lie. The frames of a message are moved together as they come, so
 * that one that comes in a single frame, however large, is never copied. The buffer grows with what
 * has really arrived, never with what a head announces.
 *
 * Buffers are the worker's: a socket that waits with nothing in its buffer gives it back, and the
 * next to receive finds it in the cache.
 */
#include <string.h>

#include "ws/connection.h"
#include "ws/frame_short.h"
#include "ws/pool.h"

enum {
    ROOM_MIN = 4 * 1024,     /* less is not worth a system call */
    LARGE_BYTES = 32 * 1024, /* of a message; io_uring has a read into as much at its word */
    GROWTH = 8,              /* times what has arrived */
};

void zk__ws_in_release(zk_ws *ws)
{
    if (ws->in) zk__ws_in_give(ws->in);
    ws->in = NULL;
}

static void plain_release(zk_ws *ws)
{
    if (!ws->deflate || !ws->deflate->plain) return;
    zk__ws_in_give(ws->deflate->plain);
    ws->deflate->plain = NULL;
}

void zk__ws_in_done(zk_ws *ws)
{
    zk__ws_in_release(ws);
    plain_release(ws);
}

/* ---- the buffer ---- */

static int in_begin(zk_ws *ws)
{
    if (ws->in) return 0;
    zk__ws_in *in = zk__ws_in_take();
    if (!in) return -ENOMEM;
    in->message = in->message_end = in->begin = in->end = 0;
    in->has_message = false;
    ws->in = in;
    return 0;
}

bool zk__ws_in_is_empty(const zk_ws *ws)
{
    return !ws->in || (ws->in->begin == ws->in->end && !ws->in->has_message);
}

/* Moves what is there to the front of `to`, which may be the same. */
static void in_move(const zk__ws_in *from, zk__ws_in *to)
{
    size_t message = from->has_message ? from->message_end - from->message : 0;
    size_t rest = from->end - from->begin;
    bool has_message = from->has_message;
    if (message) memmove(to->data, from->data + from->message, message);
    if (rest) memmove(to->data + message, from->data + from->begin, rest);
    to->message = 0;
    to->message_end = to->begin = message;
    to->end = message + rest;
    to->has_message = has_message;
}

/* Room to read into. returns 0, -ENOMEM. */
static int in_reserve(zk_ws *ws)
{
    if (!ws->in) return in_begin(ws);
    zk__ws_in *in = ws->in;
    if (zk__ws_in_is_empty(ws)) in->begin = in->end = 0;
    size_t wanted = ws->reader.left > ROOM_MIN ? (size_t)ws->reader.left : ROOM_MIN;
    size_t room = in->capacity - in->end;
    if (room >= wanted || (room >= ROOM_MIN && in->end < in->capacity / 4 * 3)) return 0;
    size_t used = in->end - in->begin + (in->has_message ? in->message_end - in->message : 0);
    if (in->capacity - used >= wanted || in->capacity / 4 >= used) {
        in_move(in, in);
        return 0;
    }
    size_t capacity = used * GROWTH > in->capacity * 2 ? used * GROWTH : in->capacity * 2;
    if (capacity > used + wanted + ROOM_MIN) capacity = used + wanted + ROOM_MIN;
    if (capacity <= in->capacity) capacity = in->capacity * 2;
    zk__ws_in *grown = zk_alloc(sizeof *grown + capacity);
    if (!grown) return -ENOMEM;
    grown->capacity = capacity;
    in_move(in, grown);
    zk__ws_in_give(in);
    ws->in = grown;
    return 0;
}

int zk__ws_receive_ahead(zk_ws *ws, const char *data, size_t size)
{
    while (size) {
        int rc = in_reserve(ws);
        if (rc < 0) return rc;
        size_t room = ws->in->capacity - ws->in->end, n = size < room ? size : room;
        memcpy(ws->in->data + ws->in->end, data, n);
        ws->in->end += n;
        data += n;
        size -= n;
    }
    return 0;
}

/* ---- waiting for bytes ---- */

static void on_ready(void *context)
{
    zk_ws *ws = context;
    zk__wait *receiver = ws->receiver;
    ws->receiver = NULL;
    if (receiver) zk__wait_end(receiver, 0);
}

typedef struct ready_wait {
    zk__wait wait;
    zk_ws *ws;
} ready_wait;

static void ready_cancel(zk__wait *wait)
{
    zk_ws *ws = ((ready_wait *)(void *)wait)->ws;
    ws->receiver = NULL;
    zk_stream_unpark(ws->upgrade.stream);
    zk__wait_end(wait, -ECANCELED);
}

static int ready_wait_for(zk_ws *ws)
{
    static const zk__wait_kind kind = {.name = "WebSocket message"};
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    rc = zk_stream_park(ws->upgrade.stream, on_ready, ws);
    if (rc) return rc > 0 ? 0 : rc;
    ready_wait w = {.wait = {.cancel = ready_cancel, .kind = &kind}, .ws = ws};
    ws->receiver = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

/* How much is to be read at once. A buffer that has been larger has room for more than is worth
 * asking for: how much is asked for tells the poller how to wait for more. */
static size_t fill_size(const zk_ws *ws)
{
    size_t room = ws->in->capacity - ws->in->end;
    bool is_large = ws->is_large || ws->reader.left > ZK__WS_IN_BYTES;
    return is_large || room < ZK__WS_IN_BYTES ? room : ZK__WS_IN_BYTES;
}

/* Reads what is there. returns 0, -EAGAIN, an error. */
static int fill_now(zk_ws *ws)
{
    int rc = in_reserve(ws);
    if (rc < 0) return rc;
    zk__ws_in *in = ws->in;
    size_t size = fill_size(ws);
    ssize_t n = zk_stream_try_read(ws->upgrade.stream, in->data + in->end, size);
    if (ZK_LIKELY(n > 0)) {
        in->end += (size_t)n;
        ws->heard = zk_now();
        ws->is_drained = (size_t)n < size;
        return 0;
    }
    if (n == -EAGAIN) return -EAGAIN;
    zk__ws_break(ws, n ? (int)n : ZK_E_CLOSED);
    return ws->error;
}

/* Gets more bytes. returns 0; -EAGAIN, unless it may wait; an error. */
static int fill(zk_ws *ws, bool may_wait)
{
    for (;;) {
        if (ws->error) return ws->error;
        /* Behind a short read there is mostly nothing; waiting finds out if there is. */
        int rc = ws->is_drained ? -EAGAIN : fill_now(ws);
        if (rc != -EAGAIN) return rc;
        ws->is_drained = false;
        if (zk__ws_in_is_empty(ws)) zk__ws_in_release(ws);
        if (!may_wait) return -EAGAIN;
        rc = ready_wait_for(ws);
        if (rc < 0) return ws->error ? ws->error : rc;
    }
}

/* ---- what frames say ---- */

static int refused(zk_ws *ws, const zk__ws_event *ev)
{
    int rc = ev->code == 1007   ? ZK_E_WS_TEXT
             : ev->code == 1008 ? ZK_E_LIMIT
             : ev->code == 1009 ? ZK_E_WS_TOO_LARGE
                                : ZK_E_WS_PROTOCOL;
    int told =
        ws->is_close_sent ? 0 : zk__ws_put_close(ws, ev->code, ev->reason, strlen(ev->reason));
    ws->error = rc;
    ws->close_code = 1006;
    if (told < 0) zk__ws_break(ws, rc);
    zk__ws_changed(ws);
    return zk_fail(rc, "%s", ev->reason);
}

static int closed(zk_ws *ws, const zk__ws_event *ev)
{
    ws->is_close_received = true;
    ws->close_due = 0; /* or pinged */
    ws->close_code = ev->code;
    if (ev->size && (ws->reason = zk_alloc(ev->size + 1))) {
        memcpy(ws->reason, ev->data, ev->size);
        ws->reason[ev->size] = '\0';
    }
    if (!ws->is_close_sent) {
        int rc = zk__ws_put_close(ws, ev->code == 1005 ? 0 : ev->code, NULL, 0);
        if (rc < 0) zk__ws_break(ws, rc);
    }
    zk__ws_changed(ws);
    return 0;
}

/* returns 1: go on; 0: the peer has closed; an error. */
static int control(zk_ws *ws, const zk__ws_event *ev)
{
    if (ev->opcode == ZK__WS_CLOSE) return closed(ws, ev);
    if (ws->is_close_sent) return 1;
    ws->pinged = 0;
    if (ev->opcode != ZK__WS_PING) return 1;
    int rc = zk__ws_put_control(ws, ZK__WS_PONG, ev->data, ev->size);
    if (rc == ZK_E_LIMIT) {
        zk__ws_event flood = {.code = 1008, .reason = "pings without reading their answers"};
        return refused(ws, &flood);
    }
    return rc < 0 ? rc : 1;
}

/* The next piece of a message. returns 1; 0: the peer has closed; -EAGAIN, unless it may wait; an
 * error. */
static int next_piece(zk_ws *ws, bool may_wait, zk__ws_event *ev)
{
    for (;;) {
        if (ws->is_close_received) return 0;
        if (ZK_UNLIKELY(ws->error)) return ws->error;
        zk__ws_in *in = ws->in;
        if (in && in->begin < in->end) {
            in->begin += zk__ws_take(&ws->reader, in->data + in->begin, in->end - in->begin, ev);
            int rc = 1;
            switch (ev->kind) {
            case ZK__WS_DATA:
                if (ZK_LIKELY(!ws->is_close_sent)) return 1;
                continue; /* nobody is left to answer it */
            case ZK__WS_CONTROL: rc = control(ws, ev); break;
            case ZK__WS_REFUSED: rc = refused(ws, ev); break;
            case ZK__WS_MORE: break;
            }
            if (rc <= 0) return rc;
            if (ev->kind != ZK__WS_MORE) continue;
        }
        int rc = fill(ws, may_wait);
        if (rc < 0) return rc;
    }
}

/* ---- whole messages ---- */

/* Puts a piece behind those before it. */
static void piece_append(zk__ws_in *in, const zk__ws_event *ev)
{
    size_t at = (size_t)(ev->data - in->data);
    if (ev->is_first) in->message = in->message_end = at;
    in->has_message = true;
    if (at != in->message_end && ev->size) {
        memmove(in->data + in->message_end, ev->data, ev->size);
    }
    in->message_end += ev->size;
}

/* ---- compressed ones ---- */

static int inflate_refused(zk_ws *ws, int rc)
{
    if (rc == -ENOMEM) {
        zk__ws_break(ws, rc); /* the message cannot be had again */
        return rc;
    }
    zk__ws_event ev = {.code = 1007, .reason = "not valid compressed data"};
    if (rc == ZK_E_WS_TEXT) ev.reason = "the text is not UTF-8";
    if (rc == ZK_E_WS_TOO_LARGE) {
        ev.code = 1009;
        ev.reason = "the message is too large";
    }
    (void)refused(ws, &ev);
    ws->error = rc;
    return rc;
}

/* Room for more of the message, up to one byte beyond its limit. */
static int plain_grow(zk_ws *ws)
{
    zk__ws_in *old = ws->deflate->plain;
    size_t capacity = 2 * old->capacity;
    if (capacity > ws->limits->message_bytes_max)
        capacity = (size_t)ws->limits->message_bytes_max + 1;
    if (capacity <= old->capacity) return ZK_E_WS_TOO_LARGE;
    zk__ws_in *grown = zk_alloc(sizeof *grown + capacity);
    if (!grown) return -ENOMEM;
    grown->capacity = capacity;
    memcpy(grown->data, old->data, old->end);
    grown->end = old->end;
    zk__ws_in_give(old);
    ws->deflate->plain = grown;
    return 0;
}

static int inflate_all(zk_ws *ws, const zk_ws_message *m)
{
    const char *data = m->data;
    size_t size = m->size;
    zk__utf8 text = 0;
    for (;;) {
        zk__ws_in *plain = ws->deflate->plain;
        size_t room = plain->capacity - plain->end, was = plain->end;
        int rc = zk__ws_inflate(ws->deflate, &data, &size, true, plain->data + was, &room);
        plain->end = plain->capacity - room;
        if (rc < 0) return rc;
        if (plain->end > ws->limits->message_bytes_max) return ZK_E_WS_TOO_LARGE;
        if (m->type == ZK_WS_TEXT && !zk__utf8_take(&text, plain->data + was, plain->end - was)) {
            return ZK_E_WS_TEXT;
        }
        if (rc) return m->type == ZK_WS_TEXT && text ? ZK_E_WS_TEXT : 0;
        rc = plain_grow(ws);
        if (rc < 0) return rc;
    }
}

/* Inflates a whole message. returns 1, an error. */
static int message_inflate(zk_ws *ws, zk_ws_message *m)
{
    ws->deflate->plain = zk__ws_in_take();
    if (!ws->deflate->plain) return -ENOMEM;
    ws->deflate->plain->end = 0;
    int rc = inflate_all(ws, m);
    if (rc < 0) {
        zk__ws_inflate_drop(ws->deflate);
        return inflate_refused(ws, rc);
    }
    m->data = ws->deflate->plain->data;
    m->size = ws->deflate->plain->end;
    return 1;
}

static __attribute__((noinline)) int text_check(zk_ws *ws, const zk_ws_message *m)
{
    zk__utf8 state = 0;
    if (ZK_LIKELY(zk__utf8_take(&state, m->data, m->size) && !state)) return 1;
    zk__ws_event ev = {.code = 1007, .reason = "the text is not UTF-8"};
    return refused(ws, &ev);
}

/* The message that was received last is not needed any more. */
static void piece_skip(zk_ws *ws)
{
    plain_release(ws);
    if (ws->in && (ws->is_in_message || !ws->reader.opcode)) ws->in->has_message = false;
    if (ws->is_in_message && ws->deflate) zk__ws_inflate_drop(ws->deflate);
    if (ws->is_in_message && ws->is_last_piece) ws->is_in_message = false;
}

static int next_any(zk_ws *ws, bool may_wait, zk_ws_message *ret)
{
    zk__ws_event ev;
    for (;;) {
        ws->reader.message_bytes_max =
            ws->is_in_message ? ws->limits->stream_bytes_max : ws->limits->message_bytes_max;
        int rc = next_piece(ws, may_wait, &ev);
        if (rc <= 0) return rc;
        if (ws->is_in_message) { /* the rest of one that nobody has read to its end */
            ws->is_in_message = !ev.is_last;
            continue;
        }
        piece_append(ws->in, &ev);
        if (!ev.is_last) continue;
        *ret = (zk_ws_message){
            .type = (zk_ws_type)ev.opcode,
            .data = ws->in->data + ws->in->message,
            .size = ws->in->message_end - ws->in->message,
        };
        ws->is_large = ret->size >= LARGE_BYTES;
        return ZK_LIKELY(!ev.is_compressed) ? 1 : message_inflate(ws, ret);
    }
}

/*
 * The next message if it is a short one that has come, and nothing is in its way. It stays where it
 * is until something is received, so the buffer need not know of it.
 * returns 1; 0: it is not; an error.
 */
static inline int next_short(zk_ws *ws, zk_ws_message *ret)
{
    zk__ws_in *in = ws->in;
    if (!in || ws->deflate || ws->error || ws->is_in_message) return 0;
    if (ws->is_close_received || ws->is_close_sent) return 0;
    char *data = in->data + in->begin;
    uint8_t opcode;
    size_t size;
    ws->reader.message_bytes_max = ws->limits->message_bytes_max;
    size_t taken = zk__ws_short_take(&ws->reader, data, in->end - in->begin, &opcode, &size);
    if (ZK_UNLIKELY(!taken)) return 0;
    in->begin += taken;
    in->has_message = ws->is_large = false;
    ret->type = (zk_ws_type)opcode;
    ret->data = data + ZK__WS_SHORT_HEAD_BYTES;
    ret->size = size;
    return ZK_LIKELY(opcode == ZK__WS_BINARY) ? 1 : text_check(ws, ret);
}

/* Gets more bytes first if there are none: mostly that is a short message, too. */
static __attribute__((noinline)) int next_received(zk_ws *ws, bool may_wait, zk_ws_message *ret)
{
    piece_skip(ws);
    if (zk__ws_in_is_empty(ws) && !ws->is_close_received) {
        int rc = fill(ws, may_wait);
        if (ZK_LIKELY(!rc)) rc = next_short(ws, ret);
        if (ZK_LIKELY(rc)) return rc;
    }
    return next_any(ws, may_wait, ret);
}

int zk__ws_next(zk_ws *ws, bool may_wait, zk_ws_message *ret)
{
    int rc = next_short(ws, ret);
    return ZK_LIKELY(rc) ? rc : next_received(ws, may_wait, ret);
}

/* ---- in pieces ---- */

/* Keeps a piece until it is read. */
static void piece_keep(zk_ws *ws, const zk__ws_event *ev)
{
    zk__ws_in *in = ws->in;
    in->message = (size_t)(ev->data - in->data);
    in->message_end = in->message + ev->size;
    in->has_message = true;
    ws->is_last_piece = ev->is_last;
    ws->is_inflating = ev->is_compressed;
}

static int recv_begin(zk_ws *ws, zk_ws_type *ret_type)
{
    zk__ws_event ev;
    piece_skip(ws);
    ws->reader.message_bytes_max = ws->limits->stream_bytes_max;
    for (;;) {
        int rc = next_piece(ws, true, &ev);
        if (rc <= 0) return rc;
        if (!ws->is_in_message) break;
        ws->is_in_message = !ev.is_last;
    }
    ws->is_in_message = true;
    ws->is_text = ev.opcode == ZK__WS_TEXT;
    if (ws->deflate) ws->deflate->inflated_bytes = 0;
    piece_keep(ws, &ev);
    *ret_type = (zk_ws_type)ev.opcode;
    return 1;
}

/* Inflates some of the message. returns bytes; 0: the message has ended; -EAGAIN: more input is
 * wanted; an error. */
static ssize_t read_inflated(zk_ws *ws, char *buf, size_t size)
{
    zk__ws_in *in = ws->in;
    bool has_piece = in && in->has_message;
    const char *data = has_piece ? in->data + in->message : NULL;
    size_t left = has_piece ? in->message_end - in->message : 0, had = left, room = size;
    int rc = zk__ws_inflate(ws->deflate, &data, &left, ws->is_last_piece, buf, &room);
    if (has_piece) in->message += had - left;
    if (rc < 0) return rc;
    size_t n = size - room;
    ws->deflate->inflated_bytes += n;
    if (ws->deflate->inflated_bytes > ws->limits->stream_bytes_max) return ZK_E_WS_TOO_LARGE;
    if (ws->is_text && !zk__utf8_take(&ws->reader.text, buf, n)) return ZK_E_WS_TEXT;
    if (rc) {
        ws->is_inflating = false;
        if (in) in->has_message = false;
        if (ws->is_text && ws->reader.text) return ZK_E_WS_TEXT;
    }
    return n || rc ? (ssize_t)n : -EAGAIN;
}

static ssize_t read_some(zk_ws *ws, char *buf, size_t size)
{
    for (;;) {
        zk__ws_in *in = ws->in;
        if (ws->is_inflating) {
            ssize_t n = read_inflated(ws, buf, size);
            if (n < 0 && n != -EAGAIN) return inflate_refused(ws, (int)n);
            if (n != -EAGAIN) return n;
        } else if (in && in->has_message && in->message < in->message_end) {
            size_t have = in->message_end - in->message, n = have < size ? have : size;
            memcpy(buf, in->data + in->message, n);
            in->message += n;
            return (ssize_t)n;
        }
        if (in) in->has_message = false;
        if (ws->is_last_piece && !ws->is_inflating) return 0;
        zk__ws_event ev;
        int rc = next_piece(ws, true, &ev);
        if (rc <= 0) return rc ? rc : ZK_E_CLOSED;
        piece_keep(ws, &ev);
    }
}

ssize_t zk_ws_read(zk_ws *ws, void *buf, size_t size)
{
    if (ws->is_receiving || !ws->is_in_message) return ZK_E_WS_STATE;
    if (!size) return 0;
    ws->is_receiving = true;
    ssize_t n = read_some(ws, buf, size);
    ws->is_receiving = false;
    if (n == 0) ws->is_in_message = false;
    return n;
}

/* ---- by whom ---- */

/* The rest of a compressed message has to be inflated, or the window would lack it. */
static __attribute__((noinline)) int inflating_skip(zk_ws *ws)
{
    char scrap[2048];
    while (ws->is_in_message && ws->is_inflating) {
        ssize_t n = read_some(ws, scrap, sizeof scrap);
        if (n < 0) return (int)n;
    }
    return 0;
}

int zk_ws_recv(zk_ws *ws, zk_ws_message *ret_message)
{
    if (ws->is_receiving || ws->handlers) return ZK_E_WS_STATE;
    ws->is_receiving = true;
    int rc = ZK_UNLIKELY(ws->is_in_message) ? inflating_skip(ws) : 0;
    if (rc >= 0) rc = zk__ws_next(ws, true, ret_message);
    ws->is_receiving = false;
    return rc;
}

int zk_ws_recv_begin(zk_ws *ws, zk_ws_type *ret_type)
{
    if (ws->is_receiving || ws->handlers) return ZK_E_WS_STATE;
    ws->is_receiving = true;
    int rc = ZK_UNLIKELY(ws->is_in_message) ? inflating_skip(ws) : 0;
    if (rc >= 0) rc = recv_begin(ws, ret_type);
    ws->is_receiving = false;
    return rc;
}
