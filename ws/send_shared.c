/*
 * Frames that many sockets send: made once, queued by each, or sent at once by each.
 */
#include <string.h>

#include "ws/out.h"

zk__ws_shared *zk__ws_shared_new(uint8_t first, const void *data, size_t size)
{
    char head[ZK__WS_HEAD_BYTES_MAX];
    size_t head_size = zk__ws_head(head, first, size, NULL);
    zk__ws_shared *shared = zk_alloc(sizeof *shared + head_size + size);
    if (!shared) return NULL;
    atomic_init(&shared->refs, 1);
    shared->size = head_size + size;
    memcpy(shared->bytes, head, head_size);
    if (size) memcpy(shared->bytes + head_size, data, size);
    return shared;
}

/* Whether there is room, or has been made. */
static bool shared_fits(zk_ws *ws)
{
    if (zk__ws_out_is_open(ws) < 0) return false;
    if (!ws->out || ws->out->queued < ws->limits->send_queue_bytes_max) return true;
    zk__ws_flush_now(ws);
    if (ws->error) return false;
    if (!ws->out || ws->out->queued < ws->limits->send_queue_bytes_max) return true;
    if (ws->slow == ZK_WS_SLOW_CLOSE) {
        zk__ws_break(ws, ZK_E_SLOW);
        return false;
    }
    zk__ws_out_drop_oldest(ws->out);
    return ws->out->queued < ws->limits->send_queue_bytes_max;
}

/* Queues it but for its first bytes, which have been sent. returns false if there is no memory. */
static bool put_rest(zk_ws *ws, zk__ws_shared *shared, size_t sent)
{
    zk__ws_out *o = zk__ws_out_get(ws);
    zk__ws_piece *p = o ? zk_alloc(sizeof *p) : NULL;
    if (!p) return false;
    *p = (zk__ws_piece){
        .data = shared->bytes + sent,
        .size = shared->size - sent,
        .shared = zk__ws_shared_ref(shared),
        .is_droppable = !sent,
    };
    if (o->streamer) {
        *o->later_end = p;
        o->later_end = &p->next;
        o->later_bytes += p->size;
        return true;
    }
    if (o->last) {
        o->last->next = p;
    } else {
        o->first = p;
    }
    o->last = p;
    o->queued += p->size;
    if (!o->is_blocked) zk__hook_arm(zk__worker_self(), &o->hook);
    return true;
}

void zk__ws_put_shared(zk_ws *ws, zk__ws_shared *shared)
{
    if (!shared_fits(ws)) return;
    if (ws->out && ws->out->later_bytes >= ws->limits->send_queue_bytes_max) return;
    (void)put_rest(ws, shared, 0);
}

void zk__ws_send_shared(zk_ws *ws, zk__ws_shared *shared)
{
    if (ZK_UNLIKELY(ws->out || zk__ws_out_is_open(ws) < 0)) {
        zk__ws_put_shared(ws, shared);
        return;
    }
    zk_stream *stream = ws->upgrade.stream;
    struct iovec iov = {shared->bytes, shared->size};
    ssize_t n = stream->ops->writev(stream, &iov, 1, true);
    if (ZK_LIKELY(n == (ssize_t)shared->size)) return;
    if (n == -EAGAIN) n = 0;
    if (n < 0) {
        zk__ws_break(ws, (int)n);
    } else if (!put_rest(ws, shared, (size_t)n) && n) {
        zk__ws_break(ws, -ENOMEM); /* half a frame would be followed by another */
    }
}
