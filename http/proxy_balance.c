/*
 * Which upstream is next. Each worker chooses by what it knows itself: with many requests that is
 * as good as common knowledge, and costs no shared cache line.
 */
#include <string.h>

#include "http/proxy.h"

static bool is_tried(const uint64_t tried[4], int i) { return tried[i / 64] >> (i % 64) & 1; }

static bool is_open(zk__proxy_worker *w, const uint64_t tried[4], int i)
{
    return !is_tried(tried, i) && zk__upstream_is_well(&w->proxy->upstreams[i]);
}

/* Smooth weighted round robin, as nginx does it: all gain their weight, the richest is chosen and
 * pays for all. */
static int pick_in_turn(zk__proxy_worker *w, const uint64_t tried[4])
{
    const zk_proxy *p = w->proxy;
    int best = -1, total = 0;
    for (int i = 0; i < p->count; i++) {
        if (!is_open(w, tried, i)) continue;
        w->uses[i].current_weight += p->upstreams[i].weight;
        total += p->upstreams[i].weight;
        if (best < 0 || w->uses[i].current_weight > w->uses[best].current_weight) best = i;
    }
    if (best >= 0) w->uses[best].current_weight -= total;
    return best;
}

/* Whether a has less to do than b, by weight. */
static bool is_freer(const zk__proxy_worker *w, int a, int b)
{
    const zk__upstream *u = w->proxy->upstreams;
    return (uint64_t)(w->uses[a].active + 1) * (uint64_t)u[b].weight <
           (uint64_t)(w->uses[b].active + 1) * (uint64_t)u[a].weight;
}

/* The scan begins somewhere else each time, so that equals share. */
static int pick_least(zk__proxy_worker *w, const uint64_t tried[4])
{
    int count = w->proxy->count, best = -1;
    int start = (int)(zk__random(zk__worker_self()) % (uint64_t)count);
    for (int k = 0; k < count; k++) {
        int i = start + k < count ? start + k : start + k - count;
        if (is_open(w, tried, i) && (best < 0 || is_freer(w, i, best))) best = i;
    }
    return best;
}

static int pick_two_choices(zk__proxy_worker *w, const uint64_t tried[4])
{
    int open[ZK__UPSTREAMS_MAX], count = 0;
    for (int i = 0; i < w->proxy->count; i++)
        if (is_open(w, tried, i)) open[count++] = i;
    if (count < 2) return count ? open[0] : -1;
    uint64_t random = zk__random(zk__worker_self());
    int a = (int)(random % (uint64_t)count), b = (int)((random >> 32) % (uint64_t)(count - 1));
    if (b >= a) b++;
    return is_freer(w, open[b], open[a]) ? open[b] : open[a];
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* The upstream's draw for a key: with more weight it draws more often, and its best counts. */
static uint64_t draw(const zk__upstream *u, uint64_t key)
{
    uint64_t best = 0;
    for (int i = 0; i < u->weight; i++) {
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
static int pick_by_hash(zk__proxy_worker *w, uint64_t key, const uint64_t tried[4])
{
    const zk_proxy *p = w->proxy;
    uint64_t total_weight = 0;
    for (int i = 0; i < p->count; i++)
        if (is_open(w, tried, i)) total_weight += (uint64_t)p->upstreams[i].weight;
    int best = -1, best_over = -1;
    uint64_t best_draw = 0, best_over_draw = 0;
    for (int i = 0; i < p->count; i++) {
        if (!is_open(w, tried, i)) continue;
        const zk__upstream *u = &p->upstreams[i];
        uint64_t own = draw(u, key);
        uint64_t load_max =
            1 + (uint64_t)(w->active + 1) * (uint64_t)u->weight * 5 / 4 / total_weight;
        if (w->uses[i].active >= load_max) {
            if (best_over < 0 || own > best_over_draw) best_over = i, best_over_draw = own;
        } else if (best < 0 || own > best_draw) {
            best = i, best_draw = own;
        }
    }
    return best >= 0 ? best : best_over;
}

/* None is well: rather than to give up, the one is tried that was left out the longest ago, unless
 * the checks have found it down. */
static int pick_hopeful(zk__proxy_worker *w, const uint64_t tried[4])
{
    zk_proxy *p = w->proxy;
    int best = -1;
    zk_time best_until = INT64_MAX;
    for (int i = 0; i < p->count; i++) {
        zk__upstream *u = &p->upstreams[i];
        zk_time until = atomic_load_explicit(&u->ejected_until, memory_order_relaxed);
        if (is_tried(tried, i) || until >= best_until) continue;
        if (atomic_load_explicit(&u->is_down, memory_order_relaxed)) continue;
        best = i;
        best_until = until;
    }
    return best;
}

int zk__proxy_pick(zk__proxy_worker *w, uint64_t key, const uint64_t tried[4])
{
    const zk_proxy *p = w->proxy;
    int i = -1;
    if (p->count == 1) {
        if (is_open(w, tried, 0)) return 0;
    } else {
        switch (p->options.balance) {
        case ZK_BALANCE_LEAST: i = pick_least(w, tried); break;
        case ZK_BALANCE_TWO_CHOICES: i = pick_two_choices(w, tried); break;
        case ZK_BALANCE_HASH: i = pick_by_hash(w, key, tried); break;
        default: i = pick_in_turn(w, tried); break;
        }
    }
    return ZK_LIKELY(i >= 0) ? i : pick_hopeful(w, tried);
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
