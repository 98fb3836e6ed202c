/*
 * The resolver's cache: lifetimes and bounds, with a clock of the test's own.
 */
#include "tests/async.h"

#include "net/dns_cache.h"

static const zk__ip ip = {.bytes = {127, 0, 0, 1}};

/* An entry lives for its lifetime, within bounds, and not a nanosecond longer. */
ZK_ASYNC_TEST(dns_cache, lifetimes_are_kept_within_bounds)
{
    static const struct {
        int rc;
        zk_time lifetime, lives;
    } rows[] = {
        {0, 0, ZK_SEC(1)},
        {0, ZK_SEC(60), ZK_SEC(60)},
        {0, ZK_SEC(1000000), ZK_SEC(3600)},
        {-1, ZK_SEC(60), ZK_SEC(60)},
        {-1, ZK_SEC(3000), ZK_SEC(300)},
    };
    zk__dns_cache cache;
    zk__dns_cache_init(&cache, 4);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk__dns_cache_put(&cache, "a", rows[i].rc, &ip, 1, rows[i].lifetime, 1000);
        const zk__dns_entry *e = zk__dns_cache_find(&cache, "a", 999 + rows[i].lives);
        cr_assert(e && e->rc == rows[i].rc && e->count == 1, "row %zu", i);
        cr_assert_null(zk__dns_cache_find(&cache, "a", 1000 + rows[i].lives), "row %zu", i);
    }
    cr_assert_eq(cache.count, 0, "what is over is removed");
    zk__dns_cache_flush(&cache);
}

/* The least recently used entry makes room. */
ZK_ASYNC_TEST(dns_cache, the_least_used_entry_goes)
{
    zk__dns_cache cache;
    zk__dns_cache_init(&cache, 2);
    zk__dns_cache_put(&cache, "a", 0, &ip, 1, ZK_SEC(9), 0);
    zk__dns_cache_put(&cache, "b", 0, &ip, 1, ZK_SEC(9), 0);
    cr_assert(zk__dns_cache_find(&cache, "a", 1));
    zk__dns_cache_put(&cache, "c", -1, NULL, 0, ZK_SEC(9), 0);
    cr_assert_null(zk__dns_cache_find(&cache, "b", 1));
    cr_assert(zk__dns_cache_find(&cache, "a", 1) && zk__dns_cache_find(&cache, "c", 1));
    zk__dns_cache_put(&cache, "c", 0, &ip, 1, ZK_SEC(9), 0);
    cr_assert_eq(cache.count, 2, "replaced");
    zk__dns_cache_flush(&cache);
    cr_assert_null(zk__dns_cache_find(&cache, "a", 1));
    cr_assert_eq(cache.count, 0);
}
