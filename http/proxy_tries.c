/*
 * A request's tries: which upstream is next, what is made of how it went, and whether there is
 * another one.
 *
 * Retries and hedges have a budget (retry_percent_max), so that they cannot bring down what is weak
 * already: each request earns a share of one.
 */
#include <errno.h>

#include "http/proxy.h"

void zk__proxy_budget_earn(zk__proxy_worker *w)
{
    if (w->retry_tokens < ZK__RETRY_TOKENS_MAX) {
        w->retry_tokens += w->proxy->options.retry_percent_max / 100.0;
    }
}

bool zk__proxy_budget_spend(zk__proxy_worker *w)
{
    if (w->proxy->options.retry_percent_max < 0) return true;
    if (w->retry_tokens < 1) return false;
    w->retry_tokens -= 1;
    return true;
}

bool zk__proxy_choose(zk__proxy_job *j, zk__proxy_try *try)
{
    const zk_proxy *p = j->worker->proxy;
    for (;;) {
        int index = zk__proxy_pick(j->view, j->key, j->tried);
        if (index < 0) return false;
        j->tried[index / 64] |= 1ull << (index % 64);
        zk__upstream_use *use = j->view->at[index];
        bool is_in =
            ZK_LIKELY(!p->has_breaker) ||
            zk__breaker_enter(&use->upstream->breaker, &p->options, zk_now(), &try->ticket);
        if (!is_in) continue; /* another request was quicker */
        try->use = use;
        return true;
    }
}

int zk__proxy_answered(zk__proxy_worker *w, zk__proxy_try *try, int status)
{
    const zk_proxy_options *o = &w->proxy->options;
    if (ZK_UNLIKELY(try->race) && !zk__proxy_race_win(try)) return -ECANCELED;
    if (o->hedge_percentile) {
        zk__proxy_latency_add(&w->latency, zk_now() - try->began, o->hedge_percentile);
    }
    zk__proxy_note(w->proxy, try->use->upstream, &try->ticket, 0, status);
    return 0;
}

int zk__proxy_try_run(zk__proxy_job *j, zk__proxy_try *try)
{
    zk__proxy_worker *w = j->worker;
    zk_proxy *p = w->proxy;
    zk__upstream_use *use = try->use;
    j->tries++;
    __atomic_store_n(&use->active, use->active + 1, __ATOMIC_RELAXED); /* zk_proxy_metrics reads */
    w->active++;
    zk__count(&use->requests, 1);
    try->began = zk_now();
    int rc = zk__proxy_forward(w, use, try, j->req, j->res);
    __atomic_store_n(&use->active, use->active - 1, __ATOMIC_RELAXED);
    w->active--;
    /* Who has left, or was sent half an answer, is no sign of a sick upstream. */
    bool is_ours = try->is_client_gone || j->res->error || zk_cancelled() < 0;
    if (ZK_UNLIKELY(rc < 0) && !is_ours) {
        zk__count(&use->failures, 1);
        zk__proxy_note(p, use->upstream, &try->ticket, rc, 0);
    }
    if (is_ours) try->may_repeat = false;
    if (p->has_breaker) {
        zk__breaker *b = &use->upstream->breaker;
        zk__breaker_judge(b, &p->options, zk_now(), &try->ticket, ZK__OUTCOME_UNKNOWN);
        zk__breaker_leave(b, &try->ticket);
    }
    return rc;
}

int zk__proxy_tries(zk__proxy_job *j)
{
    zk__proxy_worker *w = j->worker;
    zk__proxy_try *try = &j->try;
    int rc = -EAGAIN;
    while (zk__proxy_choose(j, try)) {
        if (try->hop) zk__hop_give(try->hop);
        try->hop = NULL;
        if (j->tries) zk__count(&w->retries, 1);
        zk_time delay = zk__proxy_hedge_delay(j);
        rc = ZK_LIKELY(delay < 0) ? zk__proxy_try_run(j, try) : zk__proxy_hedge(j, delay);
        if (ZK_LIKELY(rc >= 0)) return 0;
        bool goes_on = try->may_repeat && j->tries < w->proxy->options.tries_max;
        if (!goes_on || !zk__proxy_budget_spend(w)) break;
    }
    return rc;
}
