/*
 * The addresses of upstreams' names, which change while the proxy runs.
 */
#include "tests/http/policy.h"

static const zk_upstream by_name[] = {{"http://app:9000", 2}, {"127.0.0.1:9003", 1}, {0}};
static const zk_upstream only_name[] = {{"app:9000", 1}, {0}};

/* What "DNS" says at the moment: the last octets of 127.0.0.x, ended by 0. */
static struct {
    int octets[40];
    int rc;
    zk_time lifetime, delay;
    int asked, told, told_count;
    char reason[200];
} dns;

static int resolve(void *context, const char *host, zk_addr *addresses, size_t capacity,
                   zk_time *ret_lifetime)
{
    (void)context;
    dns.asked++;
    if (dns.delay) {
        int rc = zk_sleep(dns.delay);
        if (rc < 0) return rc;
    }
    if (strcmp(host, "app") != 0) return ZK_E_DNS_NOT_FOUND;
    if (dns.rc < 0) return zk_fail(dns.rc, "asking for %s", host);
    int count = 0;
    for (; dns.octets[count] && (size_t)count < capacity; count++) {
        char text[32];
        snprintf(text, sizeof text, "127.0.0.%d:1", dns.octets[count]);
        int rc = zk_addr_parse(text, &addresses[count]);
        if (rc < 0) return rc;
    }
    *ret_lifetime = dns.lifetime;
    return count;
}

static void on_resolve(void *context, const char *upstream, int count, const char *reason)
{
    (void)context;
    dns.told++;
    dns.told_count = count;
    snprintf(dns.reason, sizeof dns.reason, "%s: %s", upstream, reason);
}

static void say(int a, int b, int c)
{
    memset(dns.octets, 0, sizeof dns.octets);
    dns.octets[0] = a;
    dns.octets[1] = b;
    dns.octets[2] = c;
}

static int resolve_run(void *arg)
{
    (void)arg;
    int rc = zk_proxy_resolve(pol.proxy);
    return rc == -ECANCELED ? 0 : rc;
}

static int count_of(void)
{
    zk__proxy_view *v = zk__proxy_view_take(zk__proxy_worker_get(pol.proxy));
    int count = v->count;
    zk__proxy_view_give(v);
    return count;
}

static bool has(const char *name)
{
    zk__proxy_view *v = zk__proxy_view_take(zk__proxy_worker_get(pol.proxy));
    bool is_there = false;
    for (int i = 0; i < v->count; i++)
        is_there = is_there || !strcmp(v->at[i]->upstream->name, name);
    zk__proxy_view_give(v);
    return is_there;
}

#define LOOKUP_TEST(name, ...)                                                                     \
    static int lookup_##name(void);                                                                \
    POLICY_TEST(proxy_lookup, name, .resolve = resolve, .on_resolve = on_resolve, __VA_ARGS__)     \
    {                                                                                              \
        int rc = 0;                                                                                \
        memset(&dns, 0, sizeof dns);                                                               \
        dns.lifetime = ZK_SEC(30);                                                                 \
        say(1, 2, 3);                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            rc = zk_spawn(&scope, resolve_run, NULL);                                              \
            if (!rc) rc = zk_sleep(ZK_MS(10));                                                     \
            if (!rc) rc = lookup_##name();                                                         \
            zk_scope_cancel(&scope);                                                               \
        }                                                                                          \
        return rc;                                                                                 \
    }                                                                                              \
    static int lookup_##name(void)

/* Each address of a name is an upstream, with the name's weight and port. */
LOOKUP_TEST(makes_an_upstream_of_each_address, .upstreams = by_name)
{
    ZK_SIM_CHECK(dns.asked == 1 && dns.told == 1 && dns.told_count == 3);
    ZK_SIM_CHECK(count_of() == 4);
    ZK_SIM_CHECK(has("http://app:9000 (127.0.0.1:9000)") && has("127.0.0.1:9003"));
    for (int i = 0; i < 7; i++)
        ask("/"); /* only 127.0.0.1 listens */
    zk__proxy_view *v = zk__proxy_worker_get(pol.proxy)->view;
    ZK_SIM_CHECK(v->set->weights[0] == 2 && v->set->weights[2] == 2 && v->set->weights[3] == 1);
    ZK_SIM_CHECK(v->at[1]->failures > 0 && sites[0].asked > 0);
    ZK_SIM_CHECK(metric("requests_total{upstream=\"http://app:9000 (127.0.0.2:9000)\"}") > 0);
    return 0;
}

/* Asked again when the lifetime is over, not before; requests never ask. */
LOOKUP_TEST(goes_by_the_lifetime, .upstreams = only_name)
{
    say(1, 0, 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(28)) == 0);
    for (int i = 0; i < 5; i++)
        ask("/");
    ZK_SIM_CHECK(dns.asked == 1 && count_of() == 3);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(4)) == 0);
    ZK_SIM_CHECK(dns.asked == 2 && count_of() == 1 && dns.told == 2);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(60)) == 0);
    ZK_SIM_CHECK(dns.asked == 4 && dns.told == 2); /* the same: nothing is said */
    return 0;
}

/* A lifetime of nothing is a second. */
LOOKUP_TEST(does_not_ask_all_the_time, .upstreams = only_name)
{
    dns.lifetime = 0;
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(30)) == 0);
    int before = dns.asked;
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(100)) == 0);
    ZK_SIM_CHECK(dns.asked - before >= 45 && dns.asked - before <= 101);
    return 0;
}

/* What stays keeps its health; the order of the answer does not matter. */
LOOKUP_TEST(keeps_what_is_known, .upstreams = only_name, .failures_max = 1)
{
    say(2, 1, 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    ZK_SIM_CHECK(count_of() == 2 && dns.told == 2);
    for (int i = 0; i < 4; i++)
        ask("/");
    ZK_SIM_CHECK(pol.turned_out == 1);
    zk__upstream *u = zk__proxy_worker_get(pol.proxy)->view->at[1]->upstream;
    say(4, 2, 1);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    ZK_SIM_CHECK(count_of() == 3 && dns.told == 3);
    ZK_SIM_CHECK(zk__proxy_worker_get(pol.proxy)->view->at[1]->upstream == u);
    say(1, 4, 2);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    ZK_SIM_CHECK(dns.told == 3);
    return 0;
}

/* A lookup that fails, or finds nothing, leaves all as it is, is told, and is tried again soon. */
LOOKUP_TEST(survives_failures, .upstreams = only_name, .resolve_retry_ms = 3000)
{
    dns.rc = ZK_E_DNS_TIMEOUT;
    ZK_SIM_CHECK(zk_sleep(ZK_MS(31500)) == 0);
    ZK_SIM_CHECK(dns.asked == 2 && dns.told == 2 && dns.told_count == ZK_E_DNS_TIMEOUT);
    ZK_SIM_CHECK(strstr(dns.reason, "app:9000: asking for app"));
    ZK_SIM_CHECK(count_of() == 3);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(4)) == 0);
    ZK_SIM_CHECK(dns.asked == 3);
    dns.rc = 0;
    say(0, 0, 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(4)) == 0);
    ZK_SIM_CHECK(dns.told_count == ZK_E_DNS_NO_DATA && count_of() == 3);
    say(1, 0, 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(4)) == 0);
    ZK_SIM_CHECK(count_of() == 1 && ask("/").status == 200);
    return 0;
}

/* A name that comes by a reload is looked up at once; one that goes is forgotten. */
LOOKUP_TEST(follows_reloads, .upstreams = only_name)
{
    static const zk_upstream other[] = {{"127.0.0.1:9003", 1}, {0}};
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, other) == 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(60)) == 0);
    ZK_SIM_CHECK(dns.asked == 1 && count_of() == 1);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, by_name) == 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(2)) == 0);
    ZK_SIM_CHECK(dns.asked == 2 && count_of() == 4);
    /* It stays, and so does what was found. */
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, by_name) == 0);
    ZK_SIM_CHECK(count_of() == 4 && dns.asked == 2);
    return 0;
}

/* A name that goes while it is being looked up. */
LOOKUP_TEST(forgets_names_that_are_gone, .upstreams = only_name)
{
    static const zk_upstream other[] = {{"127.0.0.1:9003", 1}, {0}};
    dns.delay = ZK_SEC(2);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    say(9, 0, 0);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, other) == 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(5)) == 0);
    ZK_SIM_CHECK(count_of() == 1 && has("127.0.0.1:9003") && dns.told == 1);
    return 0;
}

/* The same address twice is one upstream. */
LOOKUP_TEST(counts_addresses_once, .upstreams = only_name)
{
    say(1, 1, 2);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    ZK_SIM_CHECK(count_of() == 2);
    return 0;
}

/* More addresses than there is room for are cut, and every name keeps one. */
static zk_upstream many[201];
static char many_names[200][24];

LOOKUP_TEST(has_room_for_every_name, .upstreams = many)
{
    for (int i = 0; i < 32; i++)
        dns.octets[i] = i + 1;
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(31)) == 0);
    ZK_SIM_CHECK(count_of() == 199 + 32);
    return 0;
}

__attribute__((constructor)) static void many_fill(void)
{
    for (int i = 0; i < 200; i++) {
        snprintf(many_names[i], sizeof many_names[i], i ? "127.0.1.%d:80" : "app:9000", i);
        many[i].address = many_names[i];
    }
}
