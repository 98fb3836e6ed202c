/*
 * The life of a WebSocket: its deadlines and its end. See connection.h for the states.
 */
#include "ws/connection.h"

#include <string.h>

#include "ws/shared.h"

static const zk_ws_options defaults = {
    .message_bytes_max = 1024 * 1024,
    .stream_bytes_max = 1024 * 1024 * 1024,
    .fragments_max = 16384,
    .controls_queued_max = 64,
    .send_queue_bytes_max = 256 * 1024,
    .ping_interval_ms = 30000,
    .pong_timeout_ms = 20000,
    .write_timeout_ms = 30000,
    .close_timeout_ms = 5000,
};

#define OPTION(name) (options && options->name ? options->name : defaults.name)

static void on_timer(zk__timer *timer);

zk_ws *zk__ws_new(const zk_ws_options *options, bool is_client)
{
    zk_ws *ws = zk_alloc_zeroed(sizeof *ws);
    if (!ws) return NULL;
    ws->limits = zk__ws_limits_get(&(zk__ws_limits){
        .message_bytes_max = OPTION(message_bytes_max),
        .stream_bytes_max = OPTION(stream_bytes_max),
        .send_queue_bytes_max = OPTION(send_queue_bytes_max),
        .controls_queued_max = OPTION(controls_queued_max),
        .ping_interval_ms = OPTION(ping_interval_ms),
        .pong_timeout_ms = OPTION(pong_timeout_ms),
        .write_timeout_ms = OPTION(write_timeout_ms),
        .close_timeout_ms = OPTION(close_timeout_ms),
    });
    if (!ws->limits) {
        zk_free(ws);
        return NULL;
    }
    ws->is_client = is_client;
    ws->slow = options ? (uint8_t)options->slow : ZK_WS_SLOW_WAIT;
    ws->reader.is_client = is_client;
    ws->reader.fragments_max = OPTION(fragments_max);
    ws->timer.fire = on_timer;
    return ws;
}

void zk__ws_free(zk_ws *ws)
{
    if (zk__timer_is_pending(&ws->timer)) {
        zk__wheel_remove(&zk__worker_self()->wheel, &ws->timer);
    }
    zk__ws_unsubscribe_all(ws);
    zk__ws_in_done(ws);
    zk__ws_out_free(ws);
    zk__ws_deflate_free(ws->deflate);
    zk__ws_limits_unref(ws->limits);
    zk_free(ws->protocol);
    zk_free(ws->reason);
    zk_free(ws);
}

/* ---- deadlines ---- */

zk_time zk__ws_after(zk_time from, int ms) { return ms < 0 ? INT64_MAX : from + ZK_MS(ms); }

/* An earlier timer stays, and finds out that it is. */
void zk__ws_deadline(zk_ws *ws, zk_time when)
{
    if (when == INT64_MAX) return;
    zk__wheel *wheel = &zk__worker_self()->wheel;
    if (zk__timer_is_pending(&ws->timer)) {
        if (ws->timer.tick <= (uint64_t)(when / ZK__TICK_NS) + 1) return;
        zk__wheel_remove(wheel, &ws->timer);
    }
    zk__wheel_add(wheel, &ws->timer, when);
}

void zk__ws_open(zk_ws *ws)
{
    ws->heard = zk_now();
    zk__ws_deadline(ws, zk__ws_after(ws->heard, ws->limits->ping_interval_ms));
}

/* What a silent peer is due next. */
static zk_time silence_due(const zk_ws *ws)
{
    if (ws->is_close_sent) return INT64_MAX;
    if (ws->pinged) return zk__ws_after(ws->pinged, ws->limits->pong_timeout_ms);
    return zk__ws_after(ws->heard, ws->limits->ping_interval_ms);
}

static void silence_look(zk_ws *ws, zk_time now)
{
    if (ws->is_close_sent) return;
    if (ws->pinged && ws->heard > ws->pinged) ws->pinged = 0;
    if (now < silence_due(ws)) return;
    if (ws->pinged) {
        zk__ws_break(ws, ZK_E_WS_TIMEOUT);
    } else if (zk__ws_put_control(ws, ZK__WS_PING, NULL, 0) >= 0) {
        ws->pinged = now;
    } else {
        ws->heard = now; /* no memory, or a queue full of pongs: later */
    }
}

static void on_timer(zk__timer *timer)
{
    zk_ws *ws = (zk_ws *)(void *)((char *)timer - offsetof(zk_ws, timer));
    zk_time now = zk_now();
    if (ws->is_broken) {
        /* No task could be had when it broke. */
        if (ws->handlers) zk__ws_park_wake(ws);
        return;
    }
    if (now >= zk__ws_write_due(ws)) {
        zk__ws_break(ws, ZK_E_SLOW);
        return;
    }
    if (ws->is_close_sent && ws->close_due && now >= ws->close_due) {
        zk__ws_break(ws, ZK_E_WS_TIMEOUT);
        return;
    }
    silence_look(ws, now);
    if (ws->is_broken) return;
    if (ws->is_close_sent && ws->close_due) zk__ws_deadline(ws, ws->close_due);
    zk__ws_deadline(ws, zk__ws_write_due(ws));
    zk__ws_deadline(ws, silence_due(ws));
}

/* ---- the end ---- */

void zk__ws_break(zk_ws *ws, int rc)
{
    if (ws->is_broken) return;
    ws->is_broken = true;
    if (!ws->error) ws->error = rc == -ECONNRESET || rc == -EPIPE ? ZK_E_CLOSED : rc;
    if (!ws->close_code) ws->close_code = 1006;
    zk__wait *receiver = ws->receiver;
    ws->receiver = NULL;
    zk_stream_unpark(ws->upgrade.stream);
    if (receiver) zk__wait_end(receiver, 0);
    zk__ws_changed(ws);
    zk__ws_out_free(ws);
    if (ws->handlers) zk__ws_park_wake(ws);
}

/* Receives until the peer's close, or until another task has; what is parked has one when there is
 * something to receive. */
static int close_wait(zk_ws *ws)
{
    while (!ws->is_close_received && !ws->error) {
        int rc;
        if (ws->is_receiving || (ws->handlers && !ws->has_task)) {
            rc = zk__ws_wait_change(ws);
        } else {
            zk_ws_message dropped;
            ws->is_receiving = true;
            rc = zk__ws_next(ws, true, &dropped);
            ws->is_receiving = false;
            zk__ws_changed(ws);
        }
        if (rc < 0 && !ws->error) return rc;
    }
    return ws->is_close_received ? 0 : ws->error;
}

int zk__ws_finish(zk_ws *ws, int code, const char *reason, size_t reason_size)
{
    if (ws->is_broken) return ws->is_close_received && ws->is_close_sent ? 0 : ws->error;
    if (!ws->is_close_sent) {
        int rc = zk__ws_put_close(ws, code, reason, reason_size);
        if (rc < 0) return rc;
    }
    int rc = zk__ws_drain(ws);
    if (rc >= 0 && !ws->error) rc = close_wait(ws);
    return rc;
}

static enum zk__upgrade_end end_of(const zk_ws *ws)
{
    if (ws->is_close_received && !ws->out) return ZK__UPGRADE_CLOSE;
    if (ws->is_broken) return ws->error == ZK_E_CLOSED ? ZK__UPGRADE_CLOSE : ZK__UPGRADE_RESET;
    return ZK__UPGRADE_LINGER;
}

enum zk__upgrade_end zk__ws_end(zk_ws *ws)
{
    enum zk__upgrade_end how = end_of(ws);
    if (!ws->waiters && !ws->is_receiving) return how;
    zk__ws_flush_now(ws);
    how = end_of(ws);
    zk__ws_break(ws, ZK_E_CLOSED);
    ZK_SHIELD {
        while (ws->waiters || ws->is_receiving) {
            zk__wait_begin_always();
            (void)zk_yield();
        }
    }
    return how;
}

int zk_ws_close(zk_ws *ws, int code, const char *reason)
{
    size_t size = reason ? strlen(reason) : 0;
    zk__utf8 text = 0;
    if (code ? !zk__ws_code_is_valid((unsigned)code) : size > 0) return -EINVAL;
    if (size > ZK__WS_CONTROL_BYTES_MAX - 2) return -EINVAL;
    if (!zk__utf8_take(&text, reason ? reason : "", size) || text) return -EINVAL;
    return zk__ws_finish(ws, code, reason, size);
}

int zk_ws_close_code(const zk_ws *ws) { return ws->close_code; }

const char *zk_ws_close_reason(const zk_ws *ws) { return ws->reason ? ws->reason : ""; }

const char *zk_ws_protocol(const zk_ws *ws) { return ws->protocol; }
