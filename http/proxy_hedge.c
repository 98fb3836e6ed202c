/*
 * Hedging: a second try beside a first one that is slow.
 *
 *   first  ----------------------+----> answers: the other is cancelled
 *          \--delay--> second ---+
 *
 * Both run as tasks of the request's worker, each in a scope of its own. The one whose answer's
 * head comes first wins the race before a byte of it goes to the client, so nothing can be mixed
 * up; the other is cancelled, which closes its connection. The request goes on when both have
 * ended.
 *
 * The delay may follow the upstreams: a histogram of how long answers took, halved now and then so
 * that it forgets, gives the percentile.
 */
#include <errno.h>
#include <string.h>

#include <zokio/select.h>

#include "http/proxy.h"

enum { KNOWN_MIN = 100, FRESH_MAX = 64, TOTAL_MAX = 4096 };

typedef struct racer {
    struct zk__race *race;
    zk__proxy_try try;
    zk_future future;
    zk_scope *scope; /* while it runs */
} racer;

struct zk__race {
    zk__proxy_job *job;
    racer racers[2];
    racer *winner;
};

/* ---- the delay ---- */

static int bucket_of(zk_time took)
{
    uint64_t us = (uint64_t)(took / 1000);
    if (us < 4) return (int)us;
    int log = 63 - __builtin_clzll(us);
    int i = 4 * (log - 1) + (int)(us >> (log - 2) & 3);
    return i < ZK__LATENCY_BUCKETS ? i : ZK__LATENCY_BUCKETS - 1;
}

/* Where the bucket ends. */
static zk_time bucket_end(int i)
{
    if (i < 4) return ZK_US(i + 1);
    int log = i / 4 + 1;
    return ZK_US((int64_t)(i % 4 + 5) << (log - 2));
}

static void percentile_find(zk__latency *l, int percentile)
{
    uint64_t wanted = ((uint64_t)l->total * (uint64_t)percentile + 99) / 100, sum = 0;
    for (int i = 0; i < ZK__LATENCY_BUCKETS; i++) {
        sum += l->counts[i];
        if (sum < wanted) continue;
        l->at_least = bucket_end(i);
        return;
    }
}

void zk__proxy_latency_add(zk__latency *l, zk_time took, int percentile)
{
    l->counts[bucket_of(took)]++;
    l->total++;
    l->fresh++;
    if (l->total >= TOTAL_MAX) {
        l->total = 0;
        for (int i = 0; i < ZK__LATENCY_BUCKETS; i++)
            l->total += l->counts[i] /= 2;
    }
    bool is_due = l->at_least ? l->fresh >= FRESH_MAX : l->total >= KNOWN_MIN;
    if (!is_due) return;
    l->fresh = 0;
    percentile_find(l, percentile);
}

static bool is_safe(const zk_request *req)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE"};
    for (int i = 0; i < 4; i++) {
        size_t size = strlen(methods[i]);
        if (req->method.size == size && !memcmp(req->method.data, methods[i], size)) return true;
    }
    return false;
}

zk_time zk__proxy_hedge_delay(const zk__proxy_job *j)
{
    const zk_proxy_options *o = &j->worker->proxy->options;
    if (ZK_LIKELY(!o->hedge_ms && !o->hedge_percentile)) return -1;
    const zk__proxy_try *try = &j->try;
    bool has_body = !try->has_whole_body || try->body.size || j->req->trailer_count;
    if (has_body || try->protocol.size || !is_safe(j->req) || j->view->count < 2) return -1;
    zk_time fixed = o->hedge_ms > 0 ? ZK_MS(o->hedge_ms) : -1;
    zk_time measured = o->hedge_percentile ? j->worker->latency.at_least : 0;
    return !measured ? fixed : measured > fixed ? measured : fixed;
}

/* ---- the race ---- */

bool zk__proxy_race_win(zk__proxy_try *try)
{
    struct zk__race *race = try->race;
    if (race->winner) return &race->winner->try == try;
    racer *own = &race->racers[0].try == try ? &race->racers[0] : &race->racers[1];
    racer *other = own == &race->racers[0] ? &race->racers[1] : &race->racers[0];
    race->winner = own;
    if (other->scope) zk_scope_cancel(other->scope);
    return true;
}

static int racer_run(void *arg)
{
    racer *r = arg;
    int rc = 0;
    ZK_SCOPE(scope) {
        r->scope = &scope;
        /* It has been decided before this one began. */
        if (r->race->winner) zk_scope_cancel(&scope);
        rc = zk__proxy_try_run(r->race->job, &r->try);
        r->scope = NULL;
    }
    return rc;
}

static void racer_begin(struct zk__race *race, int i)
{
    racer *r = &race->racers[i];
    r->race = race;
    r->try.race = race;
    zk_async(&r->future, racer_run, r);
}

/* Sends out the second, if there is somewhere to, and the budget allows it. */
static bool second_begin(struct zk__race *race)
{
    zk__proxy_job *j = race->job;
    racer *r = &race->racers[1];
    r->try = (zk__proxy_try){.protocol = j->try.protocol, .has_whole_body = true};
    if (j->tries >= j->worker->proxy->options.tries_max) return false;
    if (!zk__proxy_budget_spend(j->worker) || !zk__proxy_choose(j, &r->try)) return false;
    zk__count(&j->worker->hedges, 1);
    racer_begin(race, 1);
    return true;
}

static void hop_drop(zk__proxy_try *try)
{
    if (try->hop) zk__hop_give(try->hop);
    try->hop = NULL;
}

int zk__proxy_hedge(zk__proxy_job *j, zk_time delay)
{
    struct zk__race race = {.job = j};
    racer *first = &race.racers[0], *second = &race.racers[1];
    first->try = j->try;
    racer_begin(&race, 0);
    int which = zk_select({ZK_AWAIT(&first->future)}, {ZK_AFTER(delay)});
    bool has_second = which == 1 && !race.winner && second_begin(&race);
    int rc = zk_await(&first->future);
    if (!has_second) {
        j->try = first->try;
        j->try.race = NULL;
        return rc;
    }
    int second_rc = zk_await(&second->future);
    bool is_second = race.winner ? race.winner == second : second_rc != -ECANCELED;
    racer *last = is_second ? second : first, *other = is_second ? first : second;
    bool may_repeat = last->try.may_repeat && (race.winner || other->try.may_repeat);
    if (race.winner == second) zk__count(&j->worker->hedges_won, 1);
    hop_drop(&other->try);
    j->try = last->try;
    j->try.race = NULL;
    j->try.may_repeat = may_repeat;
    j->try.is_client_gone = first->try.is_client_gone || second->try.is_client_gone;
    return is_second ? second_rc : rc;
}
