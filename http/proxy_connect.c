/*
 * A forward proxy's CONNECT (RFC 9110 section 9.3.6; over HTTP/2 RFC 9113 section 8.5): a tunnel to
 * a host and port that the client names, if the proxy's list has it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/dial.h"
#include "http/proxy.h"

/* ---- the list ---- */

/* "host:port": "*" for all of either, "*.example.org" for names below that. */
static bool parts_take(zk_str text, zk_str *ret_host, zk_str *ret_port)
{
    const char *colon = text.size ? memrchr(text.data, ':', text.size) : NULL;
    if (!colon) return false;
    *ret_host = (zk_str){text.data, (size_t)(colon - text.data)};
    *ret_port = (zk_str){colon + 1, text.size - ret_host->size - 1};
    return ret_host->size && ret_port->size;
}

static bool is_all(zk_str s) { return s.size == 1 && s.data[0] == '*'; }

static bool is_pattern(zk_str text)
{
    zk_str host, port;
    if (!parts_take(text, &host, &port)) return false;
    bool is_below = host.size > 2 && !memcmp(host.data, "*.", 2);
    const char *rest = is_below ? host.data + 2 : host.data;
    size_t size = host.size - (size_t)(rest - host.data);
    if (!is_all(host) && memchr(rest, '*', size)) return false;
    if (!is_all(host) && !zk__h1_is_host((zk_str){rest, size})) return false;
    if (is_all(port)) return true;
    unsigned n = 0;
    for (size_t i = 0; i < port.size && n <= UINT16_MAX; i++) {
        if (port.data[i] < '0' || port.data[i] > '9') return false;
        n = 10 * n + (unsigned)(port.data[i] - '0');
    }
    return n > 0 && n <= UINT16_MAX;
}

static bool matches(const char *pattern, zk_str host, zk_str port)
{
    zk_str own_host, own_port;
    if (!parts_take((zk_str){pattern, strlen(pattern)}, &own_host, &own_port)) return false;
    if (!is_all(own_port) &&
        (own_port.size != port.size || memcmp(own_port.data, port.data, port.size))) {
        return false;
    }
    if (is_all(own_host)) return true;
    if (own_host.data[0] == '*') {
        zk_str below = {own_host.data + 1, own_host.size - 1}; /* with its dot */
        if (host.size <= below.size) return false;
        host = (zk_str){host.data + host.size - below.size, below.size};
        return zk__name_equal(host, below.data, below.size);
    }
    return zk__name_equal(host, own_host.data, own_host.size);
}

int zk__proxy_connect_init(zk_proxy *p, const char *const *allow)
{
    size_t count = 0;
    while (allow && allow[count])
        count++;
    if (!count) return 0;
    p->connect_allow = calloc(count + 1, sizeof *p->connect_allow);
    for (size_t i = 0; p->connect_allow && i < count; i++) {
        if (!is_pattern((zk_str){allow[i], strlen(allow[i])})) {
            return zk_fail(ZK_E_CONFIG, "\"%.200s\" is no host:port for CONNECT", allow[i]);
        }
        p->connect_allow[i] = strdup(allow[i]);
        if (!p->connect_allow[i]) return -ENOMEM;
    }
    return p->connect_allow ? 0 : -ENOMEM;
}

void zk__proxy_connect_done(zk_proxy *p)
{
    for (char **at = p->connect_allow; at && *at; at++)
        free(*at);
    free(p->connect_allow);
}

/* ---- the tunnel ---- */

static bool is_allowed(const zk_proxy *p, zk_str target)
{
    zk_str host, port;
    if (!parts_take(target, &host, &port)) return false;
    while (port.size > 1 && port.data[0] == '0')
        port.data++, port.size--;
    for (char **at = p->connect_allow; *at; at++)
        if (matches(*at, host, port)) return true;
    return false;
}

static int dial(const zk_proxy *p, const char *address, zk_stream **ret_stream)
{
    int timeout_ms = p->limits.connect_timeout_ms;
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
    int rc = zk__dial(address, ret_stream);
    if (rc == -ETIMEDOUT && !wait.parent->reason) rc = ZK_E_HTTP_TIMEOUT;
    if (rc == -ECANCELED && wait.parent->reason) rc = wait.parent->reason;
    return rc;
}

int zk__proxy_connect(const zk_proxy *p, zk_request *req, zk_response *res)
{
    if (!p->connect_allow) return zk_respond_status(res, 501);
    zk_str target = req->target.authority;
    if (!is_allowed(p, target)) return zk_respond_status(res, 403);
    char *address = zk_arena_copy(&req->arena, target.data, target.size);
    if (!address) return -ENOMEM;
    zk_stream *stream;
    int rc = dial(p, address, &stream);
    if (rc < 0) return zk_fail(rc, "connecting to %s", address);
    rc = zk__proxy_carry(p, stream, ZK_STR(""), ZK_STR(""), res);
    zk_stream_close(stream);
    return rc;
}
