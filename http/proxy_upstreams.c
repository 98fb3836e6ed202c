/*
 * The proxy's upstreams: what they are named, the set of them that is in use, and how it is
 * replaced while requests go on.
 *
 *   zk_upstream --name_fill--> zk__proxy_name --one per address--> zk__upstream --> set
 *
 * A set never changes; another one takes its place. What a new set has in common with the old one
 * (by name and address) is the same zk__upstream, with all that is known about its health. Workers
 * notice that the set is another one when they have their next request, and are told, so that the
 * connections of what has gone do not stay open on an idle one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/dial.h"
#include "http/proxy.h"

/* ---- names ---- */

static uint64_t hash_of(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static void name_done(zk__proxy_name *n)
{
    free(n->given);
    free(n->address);
    free(n->host);
    free(n->authority);
}

/* "http://host:port", "https://host", "h2c://host:port", "host:port", "unix:/path" */
static int name_fill(zk__proxy_name *n, const zk_upstream *given)
{
    const char *text = given->address;
    char url_text[1024], address[ZK_URL_AUTHORITY_BYTES + 8], authority[ZK_URL_AUTHORITY_BYTES];
    n->weight = given->weight ? given->weight : 1;
    if (n->weight < 1 || n->weight > 100) return zk_fail(ZK_E_CONFIG, "weights are 1 to 100");
    n->given = strdup(text);
    zk_addr addr;
    if (!strncmp(text, "unix:", 5)) {
        int rc = zk_addr_parse(text, &addr);
        if (rc < 0) return zk_fail(rc, "upstream \"%.200s\"", text);
        n->address = strdup(text);
        n->host = strdup("localhost");
        n->authority = strdup("localhost");
    } else {
        n->is_h2c = !strncmp(text, "h2c://", 6);
        if (n->is_h2c && !ZK__H2) return zk_fail(ZK_E_CONFIG, "h2c without HTTP/2");
        if (n->is_h2c) text += 6;
        bool is_url = strstr(text, "://") != NULL;
        int size = snprintf(url_text, sizeof url_text, "%s%s", is_url ? "" : "http://", text);
        if (size < 0 || (size_t)size >= sizeof url_text) return ZK_E_HTTP_URL;
        zk_url url;
        int rc = zk_url_parse((zk_str){url_text, (size_t)size}, &url);
        if (rc < 0) return zk_fail(rc, "upstream \"%.200s\"", text);
        if (url.user_info.data || url.query.data || url.path.size > 1 ||
            url.scheme.data[0] != 'h') {
            return zk_fail(ZK_E_CONFIG, "upstream \"%.200s\": only scheme, host and port", text);
        }
        snprintf(address, sizeof address, url.is_ipv6 ? "[%.*s]:%u" : "%.*s:%u", (int)url.host.size,
                 url.host.data, url.port);
        size_t authority_size = zk_url_authority(&url, authority);
        n->is_secure = url.is_secure;
        n->port = url.port;
        n->is_name = zk_addr_parse(address, &addr) < 0;
        n->address = strdup(address);
        n->host = strndup(url.host.data, url.host.size);
        n->authority = strndup(authority, authority_size);
    }
    return n->given && n->address && n->host && n->authority ? 0 : -ENOMEM;
}

int zk__upstream_check(const zk_upstream *upstream)
{
    zk__proxy_name n = {0};
    int rc = name_fill(&n, upstream);
    name_done(&n);
    return rc;
}

static void names_free(zk__proxy_name *names, int count)
{
    for (int i = 0; names && i < count; i++)
        name_done(&names[i]);
    free(names);
}

void zk__proxy_names_free(zk_proxy *p)
{
    names_free(p->names, p->name_count);
    p->names = NULL;
    p->name_count = 0;
}

/* ---- upstreams and sets ---- */

void zk__upstream_drop(zk__upstream *u)
{
    if (atomic_fetch_sub(&u->holders, 1) > 1) return;
    free(u->name);
    free(u->address);
    free(u->host);
    free(u->authority);
    zk__breaker_done(&u->breaker);
    free(u);
}

static zk__upstream *upstream_new(const zk_proxy *p, const zk__proxy_name *n, const char *name,
                                  const char *address)
{
    zk__upstream *u = calloc(1, sizeof *u);
    if (!u) return NULL;
    atomic_init(&u->holders, 1);
    zk__breaker_init(&u->breaker);
    u->name = strdup(name);
    u->address = strdup(address);
    u->host = strdup(n->host);
    u->authority = strdup(n->authority);
    u->is_secure = n->is_secure;
    u->is_h2c = n->is_h2c;
    u->tls = n->is_secure ? p->tls : NULL;
    u->hash = hash_of(name);
    if (u->name && u->address && u->host && u->authority) return u;
    zk__upstream_drop(u);
    return NULL;
}

static zk__upstream *upstream_find(const zk__upstream_set *set, const char *name,
                                   const char *address)
{
    for (int i = 0; set && i < set->count; i++) {
        zk__upstream *u = set->at[i];
        if (!strcmp(u->name, name) && !strcmp(u->address, address)) return u;
    }
    return NULL;
}

void zk__upstream_set_give(zk__upstream_set *set)
{
    if (!set || atomic_fetch_sub(&set->holders, 1) > 1) return;
    for (int i = 0; i < set->count; i++)
        zk__upstream_drop(set->at[i]);
    free(set);
}

zk__upstream_set *zk__upstream_set_take(zk_proxy *p)
{
    pthread_mutex_lock(&p->lock);
    zk__upstream_set *set = atomic_load(&p->set);
    atomic_fetch_add(&set->holders, 1);
    pthread_mutex_unlock(&p->lock);
    return set;
}

/* Adds the upstream for one address of a name, the one there was before if there was. */
static int set_add(const zk_proxy *p, zk__upstream_set *set, const zk__upstream_set *before,
                   const zk__proxy_name *n, const zk_addr *addr)
{
    char name[1024 + ZK_ADDR_TEXT_BYTES + 4], address[ZK_ADDR_TEXT_BYTES];
    if (addr) zk_addr_format(addr, address);
    snprintf(name, sizeof name, addr ? "%.1023s (%s)" : "%.1023s", n->given, address);
    const char *to = addr ? address : n->address;
    if (upstream_find(set, name, to)) return 0; /* named twice */
    zk__upstream *u = upstream_find(before, name, to);
    if (u) {
        atomic_fetch_add(&u->holders, 1);
    } else {
        u = upstream_new(p, n, name, to);
        if (!u) return -ENOMEM;
        /* What is there from the beginning has no one to be slower than. */
        if (before && p->options.slow_start_ms > 0) atomic_init(&u->ramp_from, zk__clock());
    }
    set->weights[set->count] = n->weight;
    set->at[set->count++] = u;
    return 0;
}

static int set_new(const zk_proxy *p, const zk__proxy_name *names, int name_count,
                   const zk__upstream_set *before, zk__upstream_set **ret_set)
{
    zk__upstream_set *set = calloc(1, sizeof *set);
    if (!set) return -ENOMEM;
    atomic_init(&set->holders, 1);
    int rc = 0;
    for (int i = 0; i < name_count && !rc; i++) {
        const zk__proxy_name *n = &names[i];
        if (!n->count) rc = set_add(p, set, before, n, NULL);
        /* The room that is left has to do for those that follow, one each. */
        int room = ZK__UPSTREAMS_MAX - set->count - (name_count - i - 1);
        for (int k = 0; k < n->count && k < room && !rc; k++)
            rc = set_add(p, set, before, n, &n->addresses[k]);
    }
    if (rc < 0) {
        zk__upstream_set_give(set);
        return rc;
    }
    *ret_set = set;
    return 0;
}

/* With the lock: puts the set of those names in the place of the old one. */
static int set_replace(zk_proxy *p, const zk__proxy_name *names, int name_count)
{
    zk__upstream_set *before = atomic_load(&p->set), *set;
    int rc = set_new(p, names, name_count, before, &set);
    if (rc < 0) return rc;
    for (int i = 0; before && i < before->count; i++) {
        zk__upstream *u = before->at[i];
        if (!upstream_find(set, u->name, u->address)) atomic_store(&u->is_gone, true);
    }
    atomic_store(&p->set, set);
    zk__upstream_set_give(before);
    return 0;
}

/* ---- changing them ---- */

/* With the lock: the TLS configuration, if one of the names needs it and there is none yet. */
static int tls_provide(zk_proxy *p, const zk__proxy_name *names, int count)
{
    bool is_wanted = false;
    for (int i = 0; i < count; i++)
        is_wanted = is_wanted || names[i].is_secure;
    if (!is_wanted || p->tls) return 0;
    const zk_client_options *c = p->options.client;
    zk_tls_client tls = c && c->tls ? *c->tls : (zk_tls_client){0};
    static const char *const both[] = {"h2", "http/1.1", NULL};
    bool has_h2 = ZK__H2 && !(c && c->no_h2) && !p->options.proxy_protocol;
    tls.alpn = has_h2 ? both : both + 1;
    return zk__dial_tls_new(&tls, &p->tls);
}

/* What is known of a name stays known. */
static void addresses_keep(const zk_proxy *p, zk__proxy_name *n)
{
    for (int i = 0; i < p->name_count; i++) {
        const zk__proxy_name *before = &p->names[i];
        if (strcmp(before->given, n->given) != 0) continue;
        n->count = before->count;
        n->due = before->due;
        memcpy(n->addresses, before->addresses, sizeof n->addresses);
        return;
    }
}

static int names_replace(zk_proxy *p, zk__proxy_name *names, int count)
{
    pthread_mutex_lock(&p->lock);
    int rc = tls_provide(p, names, count);
    for (int i = 0; i < count; i++)
        addresses_keep(p, &names[i]);
    if (!rc) rc = set_replace(p, names, count);
    if (!rc) {
        zk__proxy_names_free(p);
        p->names = names;
        p->name_count = count;
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int zk__proxy_names_set(zk_proxy *p, const zk_upstream *given)
{
    int count = 0;
    while (given && given[count].address)
        count++;
    bool may_be_none = p->connect_allow != NULL;
    if ((count < 1 && !may_be_none) || count > ZK__UPSTREAMS_MAX) {
        return zk_fail(ZK_E_CONFIG, "a proxy needs 1 to %d upstreams", ZK__UPSTREAMS_MAX);
    }
    zk__proxy_name *names = calloc((size_t)count + 1, sizeof *names);
    if (!names) return -ENOMEM;
    int rc = 0;
    for (int i = 0; i < count && !rc; i++) {
        rc = name_fill(&names[i], &given[i]);
        if (!rc && names[i].is_h2c && p->options.proxy_protocol) {
            rc = zk_fail(ZK_E_CONFIG, "the PROXY protocol names one client, h2c is for many");
        }
    }
    if (!rc) rc = names_replace(p, names, count);
    if (rc < 0) names_free(names, count);
    return rc;
}

static bool addresses_equal(const zk__proxy_name *n, const zk_addr *addresses, int count)
{
    bool is_equal = n->count == count;
    for (int i = 0; i < count && is_equal; i++)
        is_equal = zk_addr_equal(&n->addresses[i], &addresses[i]);
    return is_equal;
}

int zk__proxy_addresses_set(zk_proxy *p, const char *given, const zk_addr *addresses, int count,
                            zk_time due)
{
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->name_count && !rc; i++) {
        zk__proxy_name *n = &p->names[i];
        if (strcmp(n->given, given) != 0) continue;
        n->due = due;
        /* None were found: what was known before is still the best guess. */
        if (!count || addresses_equal(n, addresses, count)) continue;
        zk__proxy_name before = *n;
        memcpy(n->addresses, addresses, (size_t)count * sizeof *addresses);
        n->count = count;
        rc = set_replace(p, p->names, p->name_count);
        if (rc < 0) *n = before;
        if (!rc) rc = 1;
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static int renew_run(void *arg)
{
    zk_proxy *p = *(zk_proxy **)arg;
    int index = zk_worker_index();
    if (index >= ZK__PROXY_WORKERS_MAX) return 0;
    zk__proxy_worker *w = atomic_load(&p->workers[index]);
    if (w) zk__proxy_view_renew(w);
    return 0;
}

void zk__proxy_workers_tell(zk_proxy *p)
{
    if (zk_worker_index() < 0) return;
    ZK_SHIELD {
        ZK_SCOPE(scope) {
            for (int i = 0; i < zk_worker_count() && i < ZK__PROXY_WORKERS_MAX; i++) {
                /* Without memory it will notice by itself, at its next request. */
                if (atomic_load(&p->workers[i])) (void)zk_spawn_on(&scope, i, renew_run, &p);
            }
            (void)zk_scope_wait(&scope);
        }
    }
}

int zk_proxy_reload(zk_proxy *p, const zk_upstream *upstreams)
{
    int rc = zk__proxy_names_set(p, upstreams);
    if (!rc) zk__proxy_workers_tell(p);
    return rc;
}
