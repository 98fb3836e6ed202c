/*
 * Parked sockets: between messages there is no task.
 *
 *   IDLE --something to read--> a task: messages, one after the other --nothing more--> IDLE
 *     \--it breaks, the server ends--> a task --on_close--> over
 */
#include "core/member.h"
#include "core/task.h"
#include "ws/connection.h"

/* A client's socket that is parked: its `context` is this one. */
typedef struct lodger {
    zk__member member; /* of the scope that it was parked in */
    zk_ws *ws;
    void *context;
} lodger;

static int serve_run(void *arg);

static lodger *lodger_of(const zk_ws *ws) { return ws->is_client ? ws->context : NULL; }

static void *context_of(const zk_ws *ws)
{
    return ZK_UNLIKELY(ws->is_client) ? lodger_of(ws)->context : ws->context;
}

static zk_scope *scope_of(const zk_ws *ws)
{
    return ws->is_client ? lodger_of(ws)->member.scope : zk__upgrade_scope(&ws->upgrade);
}

/* Has a task serve it. returns false if there is no memory for one. */
static bool task_start(zk_ws *ws)
{
    static const zk_site site = {"websocket", __FILE__, __LINE__};
    if (ws->has_task) return true;
    ws->has_task = zk__spawn_pinned(scope_of(ws), serve_run, ws, &site) >= 0;
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
    void *context = context_of(ws);
    for (;;) {
        zk_ws_message m;
        /* A task that closes it has received while on_message was waiting. */
        while (ws->is_receiving && !ws->is_broken) {
            int rc = zk__ws_wait_change(ws);
            if (rc < 0) zk__ws_break(ws, rc);
        }
        int rc = zk__ws_next(ws, false, &m);
        if (rc == 1) {
            rc = ws->handlers->on_message(ws, context, &m);
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
    if (ws->handlers->on_close) ws->handlers->on_close(ws, context_of(ws), rc);
}

/* Nobody is to use it any more. */
static void leave(zk_ws *ws)
{
    lodger *l = lodger_of(ws);
    enum zk__upgrade_end how = zk__ws_end(ws);
    if (!l) {
        zk__upgrade upgrade = ws->upgrade;
        zk__ws_free(ws);
        zk__upgrade_end(&upgrade, how);
        return;
    }
    zk__ws_close_client(ws);
    zk__member_leave(&l->member);
    zk_free(l);
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
    if (!is_idle) leave(ws);
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

/* The scope's time is over: said to the peer, but not waited for. */
static void on_cancel(zk__member *member)
{
    zk_ws *ws = ((lodger *)(void *)member)->ws;
    if (!ws->error && !ws->is_close_sent) (void)zk__ws_put_close(ws, 1001, NULL, 0);
    zk__ws_flush_now(ws);
    zk__ws_break(ws, member->scope->reason);
}

int zk_ws_park_in(zk_scope *scope, zk_ws *ws, const zk_ws_handlers *handlers, void *context)
{
    if (!ws->is_client || ws->handlers || ws->is_receiving) return ZK_E_WS_STATE;
    zk__worker *self = zk__worker_self();
    if (scope->worker != self || ws->upgrade.stream->worker != self) return ZK_E_WORKER;
    if (scope->reason) return scope->reason;
    lodger *l = zk_alloc(sizeof *l);
    if (!l) return -ENOMEM;
    l->ws = ws;
    l->context = context;
    l->member.scope = scope;
    ws->context = l;
    /* There may be messages that came with the handshake, or behind one that was received. */
    if (!task_start(ws)) {
        zk_free(l);
        return -ENOMEM;
    }
    ws->handlers = handlers;
    zk__member_join(&l->member, scope, on_cancel);
    return 0;
}

/* The same in a loop, for a task that has nothing else to do. */
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
