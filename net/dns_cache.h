/*
 * What the resolver remembers: per name its addresses or why it has none, for as long as the
 * records live. A pure structure: the moment is given.
 */
#ifndef ZOKIO_NET_DNS_CACHE_H
#define ZOKIO_NET_DNS_CACHE_H

#include "net/hosts.h"

enum { ZK__DNS_CACHE_BUCKETS = 256 };

/* An answer is kept at least and at most for so long, one that there is nothing shorter. */
#define ZK__DNS_LIFETIME_MIN ZK_SEC(1)
#define ZK__DNS_LIFETIME_MAX ZK_SEC(3600)
#define ZK__DNS_NEGATIVE_MAX ZK_SEC(300)

typedef struct zk__dns_entry zk__dns_entry;
struct zk__dns_entry {
    zk__dns_entry *chain;         /* in its bucket */
    zk__dns_entry *older, *newer; /* by their last use */
    zk_time expires;
    char name[ZK__HOST_NAME_MAX + 2]; /* with the dot that it was asked with */
    int rc;                           /* 0, or the error that the name gives */
    size_t count;
    zk__ip ips[];
};

typedef struct zk__dns_cache {
    zk__dns_entry *buckets[ZK__DNS_CACHE_BUCKETS];
    zk__dns_entry *oldest, *newest;
    size_t count, entries_max;
} zk__dns_cache;

void zk__dns_cache_init(zk__dns_cache *cache, size_t entries_max);

/* The entry of a name; NULL if there is none that lives. Valid until the next call. */
const zk__dns_entry *zk__dns_cache_find(zk__dns_cache *cache, const char *name, zk_time now);

/*
 * Remembers an answer, in the place of the name's last one; the least recently used entry goes when
 * there are too many. The lifetime is clamped. Without memory nothing is remembered.
 */
void zk__dns_cache_put(zk__dns_cache *cache, const char *name, int rc, const zk__ip *ips,
                       size_t count, zk_time lifetime, zk_time now);

/* Forgets all. */
void zk__dns_cache_flush(zk__dns_cache *cache);

#endif
