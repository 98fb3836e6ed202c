/*
 * Which upstream is next. Each worker chooses by what it knows itself: with many requests that is
 * as good as common knowledge, and costs no shared cache line.
 */
#include <stdio.h>
#include <string.h>

#include "http/proxy.h"

static bool is_tried(const uint64_t tried[4], int i) { return tried[i / 64] >> (i % 64) & 1; }

/* Whether its circuit breaker would let a request in. */
static bool is_admitted(const zk__proxy_view *v, int i)
{
    const zk_proxy *p = v->worker->proxy;
    return ZK_LIKELY(!p->has_breaker) ||
           zk__breaker_admits(&v->at[i]->upstream->breaker, &p->options, zk_now());
}

static bool is_open(zk__proxy_view *v, const uint64_t tried[4], int i)
{
    return !is_tried(tried, i) && zk__upstream_is_well(v->at[i]->upstream) && is_admitted(v, i);
}

/*
 * In thousandths. Slow start: it grows from a tenth to the whole, in a straight line.
 */
static int weight_of(const zk__proxy_view *v, int i)
{
    zk__upstream *u = v->at[i]->upstream;
    zk_time from = atomic_load_explicit(&u->ramp_from, memory_order_relaxed);
    int full = v->set->weights[i] * 1000;
    if (ZK_LIKELY(!from)) return full;
    zk_time age = zk_now() - from, length = ZK_MS(v->worker->proxy->options.slow_start_ms);
    if (age >= length) {
        /* Unless it has begun anew meanwhile. */
        atomic_compare_exchange_strong(&u->ramp_from, &from, 0);
        return full;
    }
    int share = age <= 0 ? 0 : (int)(age * 1000 / length);
    return v->set->weights[i] * (share < 100 ? 100 : share);
}

/* Smooth weighted round robin, as nginx does it: all gain their weight, the richest is chosen and
 * pays for all. */
static int pick_in_turn(zk__proxy_view *v, const uint64_t tried[4])
{
    int best = -1, total = 0;
    for (int i = 0; i < v->count; i++) {
        if (!is_open(v, tried, i)) continue;
        int weight = weight_of(v, i);
        v->at[i]->current_weight += weight;
        total += weight;
        if (best < 0 || v->at[i]->current_weight > v->at[best]->current_weight) best = i;
    }
    if (best >= 0) v->at[best]->current_weight -= total;
    return best;
}

/* Whether a has less to do than b, by weight. */
static bool is_freer(const zk__proxy_view *v, int a, int b)
{
    return (uint64_t)(v->at[a]->active + 1) * (uint64_t)weight_of(v, b) <
           (uint64_t)(v->at[b]->active + 1) * (uint64_t)weight_of(v, a);
}

/* The scan begins somewhere else each time, so that equals share. */
static int pick_least(zk__proxy_view *v, const uint64_t tried[4])
{
    int count = v->count, best = -1;
    int start = (int)(zk__random(zk__worker_self()) % (uint64_t)count);
    for (int k = 0; k < count; k++) {
        int i = start + k < count ? start + k : start + k - count;
        if (is_open(v, tried, i) && (best < 0 || is_freer(v, i, best))) best = i;
    }
    return best;
}

static int pick_two_choices(zk__proxy_view *v, const uint64_t tried[4])
{
    int open[ZK__UPSTREAMS_MAX], count = 0;
    for (int i = 0; i < v->count; i++)
        if (is_open(v, tried, i)) open[count++] = i;
    if (count < 2) return count ? open[0] : -1;
    uint64_t random = zk__random(zk__worker_self());
    int a = (int)(random % (uint64_t)count), b = (int)((random >> 32) % (uint64_t)(count - 1));
    if (b >= a) b++;
    return is_freer(v, open[b], open[a]) ? open[b] : open[a];
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* The upstream's draw for a key: with more weight it draws more often, and its best counts. */
static uint64_t draw(const zk__upstream *u, int weight, uint64_t key)
{
    uint64_t best = 0;
    for (int i = 0; i < weight; i++) {
        uint64_t z = mix(u->hash ^ key ^ (uint64_t)i * 0x9E3779B97F4A7C15u);
        if (z > best) best = z;
    }
    return best;
}

/*
 * Rendezvous hashing: each upstream draws a number for the key, the highest has it. When one goes,
 * only its keys move. Bounded load (Mirrokni and others, 2016): none gets more than a quarter above
 * its share; the key then goes to the next highest.
 */
static int pick_by_hash(zk__proxy_view *v, uint64_t key, const uint64_t tried[4])
{
    uint64_t total_weight = 0;
    for (int i = 0; i < v->count; i++)
        if (is_open(v, tried, i)) total_weight += (uint64_t)weight_of(v, i);
    int best = -1, best_over = -1;
    uint64_t best_draw = 0, best_over_draw = 0;
    for (int i = 0; i < v->count; i++) {
        if (!is_open(v, tried, i)) continue;
        uint64_t own = draw(v->at[i]->upstream, v->set->weights[i], key);
        uint64_t weight = (uint64_t)weight_of(v, i);
        uint64_t load_max = 1 + (uint64_t)(v->worker->active + 1) * weight * 5 / 4 / total_weight;
        if (v->at[i]->active >= load_max) {
            if (best_over < 0 || own > best_over_draw) best_over = i, best_over_draw = own;
        } else if (best < 0 || own > best_draw) {
            best = i, best_draw = own;
        }
    }
    return best >= 0 ? best : best_over;
}

/* None is well: rather than to give up, the one is tried that was left out the longest ago, unless
 * the checks have found it down, or its circuit is open. */
static int pick_hopeful(zk__proxy_view *v, const uint64_t tried[4])
{
    int best = -1;
    zk_time best_until = INT64_MAX;
    for (int i = 0; i < v->count; i++) {
        zk__upstream *u = v->at[i]->upstream;
        zk_time until = atomic_load_explicit(&u->ejected_until, memory_order_relaxed);
        if (is_tried(tried, i) || until >= best_until) continue;
        if (atomic_load_explicit(&u->is_down, memory_order_relaxed) ||
            atomic_load_explicit(&u->is_gone, memory_order_relaxed) || !is_admitted(v, i)) {
            continue;
        }
        best = i;
        best_until = until;
    }
    return best;
}

int zk__proxy_pick(zk__proxy_view *v, uint64_t key, const uint64_t tried[4])
{
    int i = -1;
    if (!v->count) return -1;
    if (v->count == 1) {
        if (is_open(v, tried, 0)) return 0;
    } else {
        switch (v->worker->proxy->options.balance) {
        case ZK_BALANCE_LEAST: i = pick_least(v, tried); break;
        case ZK_BALANCE_TWO_CHOICES: i = pick_two_choices(v, tried); break;
        case ZK_BALANCE_HASH: i = pick_by_hash(v, key, tried); break;
        default: i = pick_in_turn(v, tried); break;
        }
    }
    return ZK_LIKELY(i >= 0) ? i : pick_hopeful(v, tried);
}

void zk__proxy_refusal(const zk__proxy_view *v, char *text, size_t size)
{
    int down = 0, open = 0, full = 0;
    for (int i = 0; i < v->count; i++) {
        const zk__upstream *u = v->at[i]->upstream;
        if (atomic_load(&u->is_down)) {
            down++;
        } else if (!is_admitted(v, i)) {
            bool is_circuit = atomic_load(&u->breaker.state) != ZK__BREAKER_CLOSED;
            open += is_circuit;
            full += !is_circuit;
        } else if (atomic_load(&u->breaker.state) == ZK__BREAKER_HALF_OPEN) {
            open++; /* with as many trials as it may have */
        }
    }
    snprintf(text, size, "none is available (%d down, %d with an open circuit, %d at the limit)",
             down, open, full);
}

static uint64_t hash_of(const void *data, size_t size)
{
    const unsigned char *at = data;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        h = (h ^ at[i]) * 0x100000001b3u;
    return mix(h);
}

uint64_t zk__proxy_key(const zk_proxy *p, const zk_request *req)
{
    if (ZK_LIKELY(p->options.balance != ZK_BALANCE_HASH)) return 0;
    if (p->hash_header) {
        zk_str value = zk_request_header(req, p->hash_header);
        return hash_of(value.data, value.size);
    }
    zk_addr addr;
    if (zk_request_peer(req, &addr) < 0) return 0;
    return addr.sa.sa_family == AF_INET    ? hash_of(&addr.in.sin_addr, sizeof addr.in.sin_addr)
           : addr.sa.sa_family == AF_INET6 ? hash_of(&addr.in6.sin6_addr, sizeof addr.in6.sin6_addr)
                                           : 0;
}
