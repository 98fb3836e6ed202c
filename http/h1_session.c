/*
 * Sessions: what a connection of HTTP/1.1 borrows while a task serves it. A shard keeps those that
 * are not in use.
 */
#include "core/arena.h"
#include "core/task.h"
#include "http/h1_conn.h"

static zk__session *session_new(zk__shard *shard)
{
    const zk_server *config = shard->config;
    size_t in_bytes = (size_t)config->header_bytes_max + ZK__H1_IN_EXTRA_BYTES;
    size_t field_bytes = config->header_count_max * sizeof(zk_field);
    zk__session *x = zk_alloc(sizeof *x + 2 * field_bytes + in_bytes);
    if (!x) return NULL;
    x->fields = (zk_field *)(void *)(x + 1);
    x->trailers = x->fields + config->header_count_max;
    x->in = (char *)(x->trailers + config->header_count_max);
    x->in_capacity = in_bytes;
    x->in_begin = x->in_end = x->out_size = 0;
    x->req.arena = (zk_arena){0};
    zk__scope_root_init(&x->scope, shard->scope, zk__worker_self());
    x->scope.flags = ZK__SCOPE_BOUND; /* what a handler starts may use its request */
    zk__arena_start(&x->req.arena, x->arena_block, sizeof x->arena_block);
    x->arena_start = x->req.arena.next;
    zk__h1_init(&x->h1, &(zk__h1_limits){
                            .head_bytes_max = config->header_bytes_max,
                            .target_bytes_max = config->target_bytes_max,
                            .fields_max = config->header_count_max,
                        });
    return x;
}

static void session_free(zk__session *x)
{
    zk__scope_unlink(&x->scope);
    zk__arena_reset(&x->req.arena, false);
    zk_free(x);
}

static zk__session *session_take(zk__shard *shard)
{
    zk__session *x = shard->free_sessions;
    if (x) {
        shard->free_sessions = x->next;
        zk__spare_taken(&shard->spare_sessions);
    } else {
        x = session_new(shard);
    }
    return x;
}

static void session_give(zk__shard *shard, zk__session *x)
{
    if (ZK_UNLIKELY(!zk__session_renew(x))) {
        session_free(x);
        return;
    }
    x->next = shard->free_sessions;
    shard->free_sessions = x;
    zk__spare_given(&shard->spare_sessions);
}

void zk__session_free_one(zk__spare *spare)
{
    zk__shard *shard = (zk__shard *)(void *)((char *)spare - offsetof(zk__shard, spare_sessions));
    zk__session *x = shard->free_sessions;
    shard->free_sessions = x->next;
    session_free(x);
}

bool zk__session_renew(zk__session *x)
{
    if (ZK_UNLIKELY(x->h1.state == ZK__H1_FAILED || x->scope.reason)) return false;
    zk__h1_next(&x->h1);
    x->in_begin = x->in_end = x->out_size = 0;
    return true;
}

zk__session *zk__session_enter(zk__shard *shard)
{
    zk__session *x = session_take(shard);
    if (!x) return NULL;
    zk_task *me = zk__lane.current;
    x->stack = zk__worker_self()->stack;
    x->is_leader = false;
    /* The session's scope is in the tree as long as the session lives; entering it is only this. */
    me->scope = &x->scope;
    x->scope.owner = me;
    zk__h1_gathered(x); /* nothing yet; should the task wait, it is to notice a client that goes */
    return x;
}

void zk__session_leave(zk__shard *shard, zk__session *x)
{
    x->stack->on_leave = NULL;
    zk__lane.current->scope = x->scope.parent;
    session_give(shard, x);
}
