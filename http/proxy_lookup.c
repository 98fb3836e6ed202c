/*
 * The addresses of the upstreams' names, looked up again whenever they may have changed.
 *
 * One task for the whole proxy; the names that are due are looked up side by side. Names come and
 * go by reloads, so it looks around each second. A set of addresses is sorted before it is compared
 * with the last: servers give them in another order each time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/dial.h"
#include "http/proxy.h"
#include "net/dns.h"

#define LOOK_AROUND ZK_SEC(1)
#define LIFETIME_MIN ZK_SEC(1)

typedef struct lookup {
    zk_proxy *proxy;
    char given[1024], host[ZK_URL_AUTHORITY_BYTES];
    uint16_t port;
} lookup;

static int resolve(const lookup *l, zk_addr *addresses, zk_time *ret_lifetime)
{
    const zk_proxy_options *o = &l->proxy->options;
    if (o->resolve) {
        return o->resolve(o->context, l->host, addresses, ZK__PROXY_ADDRESSES_MAX, ret_lifetime);
    }
#if ZK__CARES
    return zk__resolve_for(l->host, NULL, addresses, ZK__PROXY_ADDRESSES_MAX, ret_lifetime);
#else
    return -EOPNOTSUPP;
#endif
}

static int compare(const void *a, const void *b)
{
    const zk_addr *x = a, *y = b;
    if (x->sa.sa_family != y->sa.sa_family) return x->sa.sa_family < y->sa.sa_family ? -1 : 1;
    if (x->sa.sa_family == AF_INET) return memcmp(&x->in.sin_addr, &y->in.sin_addr, 4);
    return memcmp(&x->in6.sin6_addr, &y->in6.sin6_addr, 16);
}

/* Sorted, with the upstream's port, and each once. returns how many are left. */
static int arrange(zk_addr *addresses, int count, uint16_t port)
{
    int kept = 0;
    for (int i = 0; i < count; i++) {
        zk_addr *addr = &addresses[i];
        if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6) continue;
        if (addr->sa.sa_family == AF_INET) addr->in.sin_port = htons(port);
        if (addr->sa.sa_family == AF_INET6) addr->in6.sin6_port = htons(port);
        addresses[kept++] = *addr;
    }
    qsort(addresses, (size_t)kept, sizeof *addresses, compare);
    int unique = 0;
    for (int i = 0; i < kept; i++) {
        if (unique && !compare(&addresses[unique - 1], &addresses[i])) continue;
        addresses[unique++] = addresses[i];
    }
    return unique;
}

static void say(const lookup *l, int count, const char *reason)
{
    const zk_proxy_options *o = &l->proxy->options;
    if (o->on_resolve) o->on_resolve(o->context, l->given, count, reason);
}

static int lookup_run(void *arg)
{
    lookup *l = *(lookup **)arg;
    zk_addr addresses[ZK__PROXY_ADDRESSES_MAX];
    zk_time lifetime = 0;
    int count = resolve(l, addresses, &lifetime);
    if (count == -ECANCELED || count == -ETIMEDOUT) return 0;
    if (count > 0) count = arrange(addresses, count, l->port);
    if (count == 0) count = ZK_E_DNS_NO_DATA;
    zk_time now = zk_now();
    if (count < 0) {
        zk_time retry = now + ZK_MS(l->proxy->options.resolve_retry_ms);
        (void)zk__proxy_addresses_set(l->proxy, l->given, NULL, 0, retry);
        const char *trail = zk_trail();
        say(l, count, *trail ? trail : zk_strerror(count));
        return 0;
    }
    zk_time due = now + (lifetime < LIFETIME_MIN ? LIFETIME_MIN : lifetime);
    int rc = zk__proxy_addresses_set(l->proxy, l->given, addresses, count, due);
    if (rc > 0) say(l, count, "the addresses are others");
    return 0;
}

/* Copies what is due, since names may go while they are looked up. returns how many; -ENOMEM. */
static int due_copy(zk_proxy *p, lookup ***ret_list)
{
    int count = 0;
    lookup **list = zk_alloc(ZK__UPSTREAMS_MAX * sizeof *list);
    if (!list) return -ENOMEM;
    zk_time now = zk_now();
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->name_count; i++) {
        const zk__proxy_name *n = &p->names[i];
        bool is_due = n->is_name && n->due <= now && strlen(n->given) < sizeof list[0]->given &&
                      strlen(n->host) < sizeof list[0]->host;
        lookup *l = is_due ? zk_alloc_zeroed(sizeof *l) : NULL;
        if (!l) continue; /* without memory: next time */
        l->proxy = p;
        l->port = n->port;
        memcpy(l->given, n->given, strlen(n->given));
        memcpy(l->host, n->host, strlen(n->host));
        list[count++] = l;
    }
    pthread_mutex_unlock(&p->lock);
    *ret_list = list;
    return count;
}

static int look(zk_proxy *p)
{
    lookup **list;
    int count = due_copy(p, &list), rc = 0;
    if (count < 0) return count;
    zk__upstream_set *before = zk__upstream_set_take(p);
    ZK_SCOPE(scope) {
        for (int i = 0; i < count && !rc; i++) {
            zk_spawn_options options = {.arg_bytes = sizeof list[i], .is_pinned = true};
            rc = zk_spawn_with(&scope, &options, lookup_run, &list[i]);
        }
        int end = zk_scope_wait(&scope);
        if (!rc) rc = end;
    }
    bool is_other = atomic_load(&p->set) != before;
    zk__upstream_set_give(before);
    for (int i = 0; i < count; i++)
        zk_free(list[i]);
    zk_free(list);
    if (is_other) zk__proxy_workers_tell(p);
    return rc < 0 ? rc : 0;
}

int zk_proxy_resolve(zk_proxy *p)
{
    int rc = 0;
    while (!rc) {
        rc = look(p);
        if (rc == -ENOMEM) rc = 0; /* nothing is lost by waiting */
        if (!rc) rc = zk_sleep(LOOK_AROUND);
    }
    return rc;
}
