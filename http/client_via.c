/*
 * Proxies that a client goes through, see client_via.h.
 *
 * The environment is that of curl: http_proxy in small letters only, for a web server hands a
 * client's field "Proxy" to its CGI programs as HTTP_PROXY; the others in either.
 */
#include "http/client_via.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

#include "http/exchange.h"
#include "http/path.h"

static char *copy(const char *text, size_t size)
{
    char *own = zk_alloc(size + 1);
    if (!own) return NULL;
    if (size) memcpy(own, text, size);
    own[size] = '\0';
    return own;
}

static int authorization_fill(zk__via *via, zk_str user_info)
{
    char text[512];
    if (user_info.size > sizeof text) return zk_fail(ZK_E_CONFIG, "a proxy's user is too long");
    ptrdiff_t size = zk__percent_decode(user_info, text, false);
    if (size < 0) return ZK_E_CONFIG;
    zk_arena arena = {0};
    char *value = zk__basic(&arena, (zk_str){text, (size_t)size});
    via->authorization = value ? copy(value, strlen(value)) : NULL;
    zk_arena_done(&arena);
    return via->authorization ? 0 : -ENOMEM;
}

/* "http://user:password@host:port", "host:port" */
static int via_fill(zk__via *via, const char *text)
{
    char url_text[1024], address[ZK_URL_AUTHORITY_BYTES + 8];
    zk_url url;
    if (!text || !*text || via->address) return 0;
    bool is_url = strstr(text, "://") != NULL;
    int n = snprintf(url_text, sizeof url_text, "%s%s", is_url ? "" : "http://", text);
    if (n < 0 || (size_t)n >= sizeof url_text ||
        zk_url_parse((zk_str){url_text, (size_t)n}, &url) < 0 || url.is_secure ||
        url.scheme.data[0] != 'h') {
        return zk_fail(ZK_E_CONFIG, "the proxy is no http URL");
    }
    snprintf(address, sizeof address, url.is_ipv6 ? "[%.*s]:%u" : "%.*s:%u", (int)url.host.size,
             url.host.data, url.port);
    via->address = copy(address, strlen(address));
    if (!via->address) return -ENOMEM;
    return url.user_info.data ? authorization_fill(via, url.user_info) : 0;
}

static const char *either(const char *small, const char *capital)
{
    const char *value = getenv(small);
    return value ? value : getenv(capital);
}

int zk__vias_init(zk__vias *v, const char *text)
{
    *v = (zk__vias){0};
    if (text) {
        int rc = via_fill(&v->http, text);
        return rc < 0 ? rc : via_fill(&v->https, text);
    }
    const char *none_for = either("no_proxy", "NO_PROXY"), *all = either("all_proxy", "ALL_PROXY");
    int rc = via_fill(&v->http, getenv("http_proxy"));
    if (!rc) rc = via_fill(&v->https, either("https_proxy", "HTTPS_PROXY"));
    if (!rc) rc = via_fill(&v->http, all);
    if (!rc) rc = via_fill(&v->https, all);
    if (rc || !none_for) return rc;
    v->none_for = copy(none_for, strlen(none_for));
    return v->none_for ? 0 : -ENOMEM;
}

void zk__vias_done(zk__vias *v)
{
    zk_free(v->http.address);
    zk_free(v->http.authorization);
    zk_free(v->https.address);
    zk_free(v->https.authorization);
    zk_free(v->none_for);
}

static bool is(zk_str s, const char *text) { return zk__name_equal(s, text, strlen(text)); }

static bool is_this_machine(zk_str host)
{
    static const char suffix[] = ".localhost";
    size_t n = sizeof suffix - 1;
    bool is_below = host.size > n && is((zk_str){host.data + host.size - n, n}, suffix);
    return is_below || is(host, "localhost") || is(host, "::1") ||
           (host.size > 4 && !memcmp(host.data, "127.", 4));
}

/* "example.org" and ".example.org" are the host and all below it; "*" is everybody. */
static bool is_excepted(const char *list, zk_str host)
{
    for (const char *at = list; at && *at;) {
        size_t size = strcspn(at, ", ");
        zk_str name = {at, size};
        at += size;
        at += strspn(at, ", ");
        if (is(name, "*")) return true;
        if (name.size && *name.data == '.') name = (zk_str){name.data + 1, name.size - 1};
        if (!name.size || name.size > host.size) continue;
        zk_str tail = {host.data + host.size - name.size, name.size};
        bool is_part = zk__name_equal(tail, name.data, name.size);
        if (is_part && (tail.size == host.size || tail.data[-1] == '.')) return true;
    }
    return false;
}

const zk__via *zk__via_for(const zk__vias *v, const zk_url *url)
{
    const zk__via *via = url->is_secure ? &v->https : &v->http;
    if (!via->address || is_this_machine(url->host) || is_excepted(v->none_for, url->host)) {
        return NULL;
    }
    return via;
}
