/*
 * The resolver's cache: a hash table with chains, and a list in the order of the last use.
 */
#include "net/dns_cache.h"

#include <string.h>

#include <zokio/alloc.h>

static zk__dns_entry **bucket_of(zk__dns_cache *cache, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a; what one collides with is bounded by entries_max */
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return &cache->buckets[(hash ^ hash >> 16) % ZK__DNS_CACHE_BUCKETS];
}

static void use_unlink(zk__dns_cache *cache, zk__dns_entry *e)
{
    *(e->older ? &e->older->newer : &cache->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &cache->newest) = e->older;
}

static void use_link(zk__dns_cache *cache, zk__dns_entry *e)
{
    e->newer = NULL;
    e->older = cache->newest;
    *(e->older ? &e->older->newer : &cache->oldest) = e;
    cache->newest = e;
}

static void entry_remove(zk__dns_cache *cache, zk__dns_entry *e)
{
    zk__dns_entry **link = bucket_of(cache, e->name);
    while (*link != e)
        link = &(*link)->chain;
    *link = e->chain;
    use_unlink(cache, e);
    cache->count--;
    zk_free(e);
}

static zk__dns_entry *entry_find(zk__dns_cache *cache, const char *name)
{
    zk__dns_entry *e = *bucket_of(cache, name);
    while (e && strcmp(e->name, name) != 0)
        e = e->chain;
    return e;
}

void zk__dns_cache_init(zk__dns_cache *cache, size_t entries_max)
{
    *cache = (zk__dns_cache){.entries_max = entries_max};
}

const zk__dns_entry *zk__dns_cache_find(zk__dns_cache *cache, const char *name, zk_time now)
{
    zk__dns_entry *e = entry_find(cache, name);
    if (!e) return NULL;
    if (e->expires <= now) {
        entry_remove(cache, e);
        return NULL;
    }
    use_unlink(cache, e);
    use_link(cache, e);
    return e;
}

void zk__dns_cache_put(zk__dns_cache *cache, const char *name, int rc, const zk__ip *ips,
                       size_t count, zk_time lifetime, zk_time now)
{
    zk__dns_entry *e = entry_find(cache, name);
    if (e) entry_remove(cache, e);
    if (cache->entries_max == 0) return;
    while (cache->count >= cache->entries_max)
        entry_remove(cache, cache->oldest);
    e = zk_alloc(sizeof *e + count * sizeof *ips);
    if (!e) return;
    zk_time max = rc < 0 ? ZK__DNS_NEGATIVE_MAX : ZK__DNS_LIFETIME_MAX;
    if (lifetime > max) lifetime = max;
    if (lifetime < ZK__DNS_LIFETIME_MIN) lifetime = ZK__DNS_LIFETIME_MIN;
    *e = (zk__dns_entry){.expires = now + lifetime, .rc = rc, .count = count};
    memcpy(e->name, name, strlen(name) + 1);
    if (count) memcpy(e->ips, ips, count * sizeof *ips);
    zk__dns_entry **bucket = bucket_of(cache, name);
    e->chain = *bucket;
    *bucket = e;
    use_link(cache, e);
    cache->count++;
}

void zk__dns_cache_flush(zk__dns_cache *cache)
{
    while (cache->oldest)
        entry_remove(cache, cache->oldest);
}
