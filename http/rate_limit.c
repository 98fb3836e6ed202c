/*
 * Rate limits, see zokio/rate_limit.h.
 *
 * A bucket of tokens is one number (the "generic cell rate algorithm"): the moment at which it will
 * be full again. A request moves that moment on by the time that a token takes to come back; it is
 * refused if the moment would be further away than a whole bucket takes. So nothing has to be done
 * as time goes by, and a bucket whose moment has passed is as good as none.
 *
 * The table is bounded: sets of eight slots, a key may be in one set only. In a full set the slot
 * goes whose moment is the earliest, most likely one that has passed. A key is known by 64 bits of
 * a hash with a secret seed. A stripe of sets has a lock, held for the look at one set.
 */
#include "http/rate_limit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/worker.h"

enum { WAYS = 8, STRIPES = 64, KEYS = 65536, KEYS_MAX = 1 << 26 };

typedef struct set {
    uint64_t keys[WAYS];   /* hashes; 0: free */
    zk_time full_at[WAYS]; /* when the bucket is full again */
} set;

typedef struct stripe {
    _Alignas(64) pthread_mutex_t lock;
    zk_rate_limit_stats stats;
} stripe;

struct zk_rate_limit {
    zk_rate_limit_options options;
    char *header;
    zk_time token_time, bucket_time; /* for one to come back, for all */
    uint64_t seed[2];
    uint64_t set_mask;
    set *sets;
    stripe stripes[STRIPES];
};

/* ---- keys ---- */

static inline uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t zk__siphash(const uint64_t key[2], const void *data, size_t size)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const unsigned char *at = data;
    for (size_t done = 0; done <= size; done += 8) {
        uint64_t word = done + 8 > size ? (uint64_t)size << 56 : 0;
        for (size_t i = 0; i < 8 && done + i < size; i++)
            word |= (uint64_t)at[done + i] << (8 * i);
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* An address without what one client can change at will. */
static zk_str key_of_address(const zk_rate_limit *l, const zk_request *req, unsigned char text[17])
{
    zk_addr addr;
    memset(text, 0, 17);
    if (zk_request_peer(req, &addr) < 0) return (zk_str){(char *)text, 1};
    text[0] = (unsigned char)addr.sa.sa_family;
    if (addr.sa.sa_family == AF_INET) {
        memcpy(text + 1, &addr.in.sin_addr, 4);
        return (zk_str){(char *)text, 5};
    }
    if (addr.sa.sa_family != AF_INET6) return (zk_str){(char *)text, 1};
    const unsigned char *bytes = addr.in6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&addr.in6.sin6_addr)) {
        text[0] = AF_INET;
        memcpy(text + 1, bytes + 12, 4);
        return (zk_str){(char *)text, 5};
    }
    int bits = l->options.ipv6_prefix_bits;
    memcpy(text + 1, bytes, (size_t)(bits + 7) / 8);
    if (bits % 8) text[1 + bits / 8] &= (unsigned char)(0xff00 >> bits % 8);
    return (zk_str){(char *)text, 17};
}

/* ---- tokens ---- */

/* The slot of that key, made if it is not there. */
static int slot_find(set *s, uint64_t key, zk_time now, stripe *own)
{
    int oldest = 0;
    for (int i = 0; i < WAYS; i++) {
        if (s->keys[i] == key) return i;
        if (s->full_at[i] < s->full_at[oldest]) oldest = i;
    }
    if (s->keys[oldest] && s->full_at[oldest] > now) own->stats.forgotten++;
    s->keys[oldest] = key;
    s->full_at[oldest] = now;
    return oldest;
}

int zk_rate_limit_take(zk_rate_limit *l, zk_str text, zk_time *ret_wait)
{
    uint64_t hash = zk__siphash(l->seed, text.data, text.size),
             key = hash ? hash : 1; /* 0 is none */
    uint64_t index = hash >> 20 & l->set_mask;
    set *s = &l->sets[index];
    stripe *own = &l->stripes[index % STRIPES];
    zk_time now = zk_now();
    pthread_mutex_lock(&own->lock);
    int i = slot_find(s, key, now, own);
    zk_time before = s->full_at[i] > now ? s->full_at[i] : now;
    zk_time wait = before + l->token_time - l->bucket_time - now;
    bool is_allowed = wait <= 0;
    if (is_allowed) s->full_at[i] = before + l->token_time;
    own->stats.allowed += is_allowed;
    own->stats.refused += !is_allowed;
    pthread_mutex_unlock(&own->lock);
    if (!is_allowed && ret_wait) *ret_wait = wait;
    return is_allowed;
}

int zk_rate_limit_check(zk_rate_limit *l, zk_request *req, zk_response *res)
{
    unsigned char address[17];
    zk_str key = {NULL, 0};
    const zk_rate_limit_options *o = &l->options;
    if (o->key) {
        key = o->key(o->context, req);
        if (!key.data) return 0;
    } else if (l->header) {
        key = zk_request_header(req, l->header);
    }
    if (!key.data) key = key_of_address(l, req, address);
    zk_time wait;
    if (ZK_LIKELY(zk_rate_limit_take(l, key, &wait))) return 0;
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%lld", (long long)((wait + ZK_SEC(1) - 1) / ZK_SEC(1)));
    int rc = zk_response_header(res, "Retry-After", seconds);
    if (!rc) rc = zk_respond_status(res, 429);
    return rc < 0 ? rc : 1;
}

int zk_rate_limit_run(zk_rate_limit *l, zk_request *req, zk_response *res, zk_next *next)
{
    int rc = zk_rate_limit_check(l, req, res);
    return rc == 0 ? zk_next_run(next) : rc < 0 ? rc : 0;
}

zk_rate_limit_stats zk_rate_limit_stats_get(zk_rate_limit *l)
{
    zk_rate_limit_stats sum = {0};
    for (int i = 0; i < STRIPES; i++) {
        pthread_mutex_lock(&l->stripes[i].lock);
        const zk_rate_limit_stats *s = &l->stripes[i].stats;
        sum.allowed += s->allowed;
        sum.refused += s->refused;
        sum.forgotten += s->forgotten;
        pthread_mutex_unlock(&l->stripes[i].lock);
    }
    return sum;
}

/* ---- making one ---- */

static int options_check(const zk_rate_limit_options *o)
{
    if (!(o->per_second >= 0.0001 && o->per_second <= 1e6)) {
        return zk_fail(ZK_E_CONFIG, "a rate limit is 0.0001 to 1,000,000 requests per second");
    }
    if (o->burst < 0 || o->burst > 1000000000 || o->burst / o->per_second > 1e9) {
        return zk_fail(ZK_E_CONFIG, "the burst of a rate limit takes too long to come back");
    }
    if (o->keys_max < 0 || o->keys_max > KEYS_MAX || o->ipv6_prefix_bits < 0 ||
        o->ipv6_prefix_bits > 128) {
        return zk_fail(ZK_E_CONFIG, "keys_max is at most %d, an IPv6 prefix 128 bits", KEYS_MAX);
    }
    return 0;
}

static int tables_make(zk_rate_limit *l)
{
    const zk_rate_limit_options *o = &l->options;
    size_t count = 1;
    while (count * WAYS < (size_t)o->keys_max)
        count *= 2;
    l->set_mask = count - 1;
    l->sets = calloc(count, sizeof *l->sets);
    if (o->header) l->header = strdup(o->header);
    if (!l->sets || !l->header != !o->header) return -ENOMEM;
    /* Before the system has any randomness there is nobody who could guess. */
    if (getrandom(l->seed, sizeof l->seed, GRND_NONBLOCK) != sizeof l->seed) {
        l->seed[0] = (uint64_t)(uintptr_t)l->sets;
        l->seed[1] = (uint64_t)zk__clock_real();
    }
    return 0;
}

int zk_rate_limit_new(const zk_rate_limit_options *options, zk_rate_limit **ret_limit)
{
    int rc = options_check(options);
    if (rc < 0) return rc;
    zk_rate_limit *l = aligned_alloc(_Alignof(zk_rate_limit), sizeof *l);
    if (!l) return -ENOMEM;
    memset(l, 0, sizeof *l);
    l->options = *options;
    zk_rate_limit_options *o = &l->options;
    if (!o->burst) o->burst = o->per_second < 1 ? 1 : (int)o->per_second;
    if (!o->keys_max) o->keys_max = KEYS;
    if (!o->ipv6_prefix_bits) o->ipv6_prefix_bits = 64;
    l->token_time = (zk_time)((double)ZK_SEC(1) / o->per_second);
    l->bucket_time = l->token_time * o->burst;
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_init(&l->stripes[i].lock, NULL);
    rc = tables_make(l);
    if (rc < 0) {
        zk_rate_limit_free(l);
        return rc;
    }
    *ret_limit = l;
    return 0;
}

void zk_rate_limit_free(zk_rate_limit *l)
{
    if (!l) return;
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&l->stripes[i].lock);
    free(l->sets);
    free(l->header);
    free(l);
}
