/*
 * Parked sockets: between messages there is no task.
 *
 *   IDLE --something to read--> a task: messages, one after the other --nothing more--> IDLE
 *     \--it breaks, the server ends--> a task --on_close--> over
 */
#include "core/task.h"
#include "ws/connection.h"

static int serve_run(void *arg);

/* Has a task serve it. returns false if there is no memory for one. */
static bool task_start(zk_ws *ws)
{
    static const zk_site site = {"websocket", __FILE__, __LINE__};
    if (ws->has_task) return true;
    ws->has_task = zk__spawn_pinned(zk__upgrade_scope(&ws->upgrade), serve_run, ws, &site) >= 0;
    return ws->has_task;
}

static void on_ready(void *context)
{
    zk_ws *ws = context;
    if (!task_start(ws)) zk__ws_break(ws, -ENOMEM);
}

void zk__ws_park_wake(zk_ws *ws)
{
    /* Somebody has to tell it, later if not now. */
    if (!task_start(ws)) zk__ws_deadline(ws, zk_now() + ZK_MS(100));
}

/* Serves what has come. returns whether it is idle again; else *ret_rc says why it is over. */
static bool serve(zk_ws *ws, int *ret_rc)
{
    for (;;) {
        zk_ws_message m;
        int rc = zk__ws_next(ws, false, &m);
        if (rc == 1) {
            rc = ws->handlers->on_message(ws, ws->context, &m);
            if (rc >= 0) continue;
            (void)zk__ws_finish(ws, zk_cancelled() ? 1001 : 1011, NULL, 0);
        } else if (rc == -EAGAIN) {
            rc = zk_stream_park(ws->upgrade.stream, on_ready, ws);
            if (!rc) return true;
            if (rc > 0) continue;
            zk__ws_break(ws, rc);
        } else if (rc == 0) {
            rc = zk__ws_drain(ws);
        } else {
            (void)zk__ws_drain(ws); /* what the peer is told */
        }
        *ret_rc = rc;
        return false;
    }
}

static void over(zk_ws *ws, int rc)
{
    if (ws->handlers->on_close) ws->handlers->on_close(ws, ws->context, rc);
}

static int serve_run(void *arg)
{
    zk_ws *ws = arg;
    bool is_idle = false;
    int rc = 0;
    ZK_SCOPE(scope) {
        zk__bind_to_worker();
        ws->scope = &scope;
        is_idle = serve(ws, &rc);
        if (!is_idle) over(ws, rc);
        ws->scope = NULL;
        if (is_idle) ws->has_task = false;
    }
    if (zk__lane.current->flags & ZK__TASK_TRAIL) zk__trail_drop(zk__lane.current);
    if (is_idle) return 0;
    zk__upgrade upgrade = ws->upgrade;
    enum zk__upgrade_end how = zk__ws_end_of(ws);
    zk__ws_free(ws);
    zk__upgrade_end(&upgrade, how);
    return 0;
}

bool zk__ws_park_begin(zk_ws *ws, int rc)
{
    ws->has_task = true; /* this one */
    if (rc < 0) {
        (void)zk__ws_finish(ws, 1011, NULL, 0);
    } else if (serve(ws, &rc)) {
        ws->has_task = false;
        return true;
    }
    over(ws, rc);
    return false;
}

void zk__ws_park_abort(zk_ws *ws)
{
    if (ws->scope) zk__scope_cancel_as(ws->scope, -ECANCELED);
    zk__ws_break(ws, -ECANCELED);
}

/* The same in a loop: a client has no scope of its own that tasks could go on in. */
static int park_loop(zk_ws *ws, const zk_ws_handlers *handlers, void *context)
{
    zk_ws_message m;
    int rc;
    while ((rc = zk_ws_recv(ws, &m)) > 0) {
        rc = handlers->on_message(ws, context, &m);
        if (rc >= 0) continue;
        (void)zk__ws_finish(ws, zk_cancelled() ? 1001 : 1011, NULL, 0);
        break;
    }
    if (handlers->on_close) handlers->on_close(ws, context, rc);
    return 0;
}

int zk_ws_park(zk_ws *ws, const zk_ws_handlers *handlers, void *context)
{
    if (ws->handlers || ws->is_receiving) return ZK_E_WS_STATE;
    if (ws->is_client) return park_loop(ws, handlers, context);
    ws->handlers = handlers;
    ws->context = context;
    return 0;
}
