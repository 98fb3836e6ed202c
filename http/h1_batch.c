/*
 * Requests that arrive together: one task for all of them.
 *
 * What parked connections have got is received in the poller's callback, one behind the other into
 * the shard's inbox, and noted in `ready`. The first one noted spawns a *leader*, a task with a
 * session, which then serves connection after connection. So a request whose handler does not wait
 * pays for no task, session or scope of its own.
 *
 *   receive, note --first--> leader queued --> serves ready[begin++], .. --> none left: ends
 *                                                |
 *                                                | a handler is about to wait
 *                                                v
 *                      a new leader queued <-- the rest; this one serves on where it is
 *
 * A leader never waits as such: by the stack's on_leave hook, or where it knows before, it first
 * hands the rest over, and goes on as any task of one connection. There is at most one leader that
 * has not: while shard->has_leader is set.
 */
#include <string.h>

#include "core/budget.h"
#include "core/task.h"
#include "http/h1_conn.h"

static int lead(void *arg);

static int leader_spawn(zk__shard *shard)
{
    static const zk_site site = {"http connection", __FILE__, __LINE__};
    return zk__spawn_pinned(shard->scope, lead, shard, &site);
}

static void batch_over(zk__shard *shard)
{
    shard->ready_begin = shard->ready_end = shard->inbox_used = 0;
    shard->has_leader = false;
}

/* The next connection to be served, NULL if there is none. */
static inline zk__conn *ready_take(zk__shard *shard, zk__arrival *ret_ready)
{
    while (shard->ready_begin < shard->ready_end) {
        zk__arrival *ready = &shard->ready[shard->ready_begin++];
        zk__conn *c = ready->conn;
        __builtin_prefetch(ready[1].conn);
        if (ZK_UNLIKELY(!c)) continue;
        *ret_ready = *ready;
        c->ready_place = 0;
        return c;
    }
    return NULL;
}

/* Without memory for a task or a session. */
static __attribute__((cold)) void batch_close(zk__shard *shard)
{
    zk__arrival ready;
    for (zk__conn *c; (c = ready_take(shard, &ready));)
        zk__conn_close(c);
    batch_over(shard);
}

static void hand_over(zk__shard *shard, zk__session *x)
{
    x->is_leader = false;
    if (shard->ready_begin == shard->ready_end) {
        batch_over(shard);
    } else if (leader_spawn(shard) < 0) {
        batch_close(shard);
    }
}

void zk__batch_hand_over(zk__session *x)
{
    if (x->is_leader) hand_over(x->conn->shard, x);
}

bool zk__batch_add(zk__conn *c)
{
    zk__shard *shard = c->shard;
    if (ZK_UNLIKELY(shard->ready_end == ZK__READY_MAX)) return false;
    if (ZK_UNLIKELY(!shard->inbox)) {
        shard->inbox = zk_alloc(ZK__READY_MAX * ZK__AHEAD_BYTES);
        if (!shard->inbox) return false;
    }
    if (!shard->has_leader) {
        if (ZK_UNLIKELY(leader_spawn(shard) < 0)) return false;
        shard->has_leader = true;
    }
    char *to = shard->inbox + shard->inbox_used;
    ssize_t n = zk_stream_try_read(c->stream, to, ZK__AHEAD_BYTES);
    uint32_t place = shard->ready_end++;
    shard->ready[place] = (zk__arrival){c, shard->inbox_used, (int32_t)n};
    if (ZK_LIKELY(n > 0)) shard->inbox_used += (uint32_t)n;
    c->ready_place = (uint16_t)(place + 1);
    return true;
}

void zk__batch_forget(zk__conn *c) { c->shard->ready[c->ready_place - 1].conn = NULL; }

/* Serves one connection of the batch. */
static inline void serve_one(zk__conn *c, zk__session *x, const zk__arrival *ready)
{
    zk__conn_begin(c, x);
    if (ZK_LIKELY(ready->result > 0)) {
        memcpy(x->in + x->in_end, c->shard->inbox + ready->offset, (size_t)ready->result);
    }
    /* More is there at once behind what is large, or from a client that is quick. It has its turn
     * when the others have had theirs. */
    if (ZK_UNLIKELY(zk__conn_turn(c, x, ready->result))) zk__conn_start(c);
}

/* A session for what is left of the batch. returns NULL if there is none. */
static zk__session *session_enter(zk__shard *shard)
{
    zk__session *x = zk__session_enter(shard);
    if (ZK_LIKELY(x != NULL)) {
        x->is_leader = true;
    } else {
        batch_close(shard);
    }
    return x;
}

static int lead(void *arg)
{
    zk__shard *shard = arg;
    zk__worker *w = zk__worker_self();
    zk__session *x = session_enter(shard);
    zk__arrival ready;
    for (zk__conn *c; x && (c = ready_take(shard, &ready));) {
        w->budget = ZK__BUDGET; /* as for a task of its own */
        serve_one(c, x, &ready);
        if (ZK_UNLIKELY(!x->is_leader)) break;
        if (ZK_UNLIKELY(w->urgent != NULL)) {
            hand_over(shard, x);
            break;
        }
        if (ZK_LIKELY(zk__session_renew(x))) continue;
        zk__session_leave(shard, x);
        x = session_enter(shard);
    }
    if (!x) return 0;
    if (x->is_leader) batch_over(shard);
    zk__session_leave(shard, x);
    return 0;
}
