/*
 * A worker's part of a proxy: its connections, its counts, and its view of the upstreams.
 *
 * A view belongs to one set and is replaced when the set is. What two views have in common is the
 * same zk__upstream_use; it lives as long as one of them. A use that the latest view does not have
 * any more keeps no idle connections.
 */
#include "http/proxy.h"

#include <string.h>

#include "http/dial.h"

/* ---- uses ---- */

static zk__upstream_use *use_new(zk__proxy_worker *w, zk__upstream *u)
{
    zk__upstream_use *use = zk_alloc_zeroed(sizeof *use);
    if (!use) return NULL;
    zk_str address = {u->address, strlen(u->address)}, host = {u->host, strlen(u->host)};
    use->origin = u->is_h2c ? zk__pool_origin_h2c(w->pool, address)
                            : zk__pool_origin(w->pool, address, u->tls, host, NULL);
    if (!use->origin) {
        zk_free(use);
        return NULL;
    }
    zk__origin_keep(use->origin);
    atomic_fetch_add(&u->holders, 1);
    use->upstream = u;
    return use;
}

static void use_drop(zk__proxy_worker *w, zk__upstream_use *use)
{
    if (--use->holders) return;
    if (w->pool) zk__origin_release(use->origin);
    if (w->pool && use->http1) zk__origin_release(use->http1);
    zk__upstream_drop(use->upstream);
    zk_free(use);
}

static zk__upstream_use *use_find(const zk__proxy_view *view, const zk__upstream *u)
{
    for (int i = 0; view && i < view->count; i++)
        if (view->at[i]->upstream == u) return view->at[i];
    return NULL;
}

/* ---- views ---- */

static void view_free(zk__proxy_view *view)
{
    for (int i = 0; i < view->count; i++)
        use_drop(view->worker, view->at[i]);
    zk__upstream_set_give(view->set);
    zk_free(view);
}

void zk__proxy_view_give(zk__proxy_view *view)
{
    if (ZK_UNLIKELY(!--view->holders)) view_free(view);
}

static zk__proxy_view *view_new(zk__proxy_worker *w, zk__upstream_set *set)
{
    size_t uses_bytes = (size_t)set->count * sizeof(zk__upstream_use *);
    zk__proxy_view *view = zk_alloc_zeroed(sizeof *view + uses_bytes);
    if (!view) return NULL;
    atomic_fetch_add(&set->holders, 1);
    view->worker = w;
    view->set = set;
    view->holders = 1;
    for (int i = 0; i < set->count; i++) {
        zk__upstream_use *use = use_find(w->view, set->at[i]);
        if (!use) use = use_new(w, set->at[i]);
        if (!use) {
            view_free(view);
            return NULL;
        }
        use->holders++;
        view->at[view->count++] = use;
    }
    return view;
}

void zk__proxy_view_renew(zk__proxy_worker *w)
{
    zk_proxy *p = w->proxy;
    zk__upstream_set *set = zk__upstream_set_take(p);
    zk__proxy_view *before = w->view;
    zk__proxy_view *view = before && before->set == set ? NULL : view_new(w, set);
    zk__upstream_set_give(set);
    if (!view) return;
    pthread_mutex_lock(&p->lock);
    w->view = view;
    pthread_mutex_unlock(&p->lock);
    if (!before) return;
    for (int i = 0; i < before->count; i++) {
        zk__upstream_use *use = before->at[i];
        if (use_find(view, use->upstream)) continue;
        zk__origin_retire(use->origin);
        if (use->http1) zk__origin_retire(use->http1);
    }
    zk__proxy_view_give(before);
}

/* ---- a worker's part ---- */

static void worker_free(void *context)
{
    zk__proxy_worker *w = context;
    zk_proxy *p = w->proxy;
    if (p) {
        pthread_mutex_lock(&p->lock);
        atomic_store(&p->workers[zk_worker_index()], NULL);
        pthread_mutex_unlock(&p->lock);
    }
    w->pool = NULL;
    if (w->view) zk__proxy_view_give(w->view);
    while (w->big_count)
        zk_free(w->big[--w->big_count]);
    zk_free(w);
}

static zk__proxy_worker *worker_new(zk_proxy *p)
{
    zk__proxy_worker *w = zk_alloc_zeroed(sizeof *w);
    if (!w) return NULL;
    w->pool = zk__pool_new(&p->limits);
    if (!w->pool) {
        zk_free(w);
        return NULL;
    }
    w->proxy = p;
    w->retry_tokens = ZK__RETRY_TOKENS_MAX / 10;
    zk__proxy_view_renew(w);
    if (!w->view) {
        zk__pool_free(w->pool);
        zk_free(w);
        return NULL;
    }
    w->pool->owner = w;
    w->pool->owner_free = worker_free;
    return w;
}

zk__proxy_worker *zk__proxy_worker_get(zk_proxy *p)
{
    int index = zk_worker_index();
    if (index < 0 || index >= ZK__PROXY_WORKERS_MAX) return NULL;
    zk__proxy_worker *w = atomic_load_explicit(&p->workers[index], memory_order_relaxed);
    if (ZK_UNLIKELY(!w)) {
        w = worker_new(p);
        atomic_store_explicit(&p->workers[index], w, memory_order_release);
    }
    return w;
}
