/*
 * What a proxy forwards of a head, and what it adds (RFC 9110 section 7.6, RFC 7239).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/proxy.h"

enum kind {
    FORWARD,
    DROP,
    CONNECTION,
    COOKIE,
    FORWARDED_FOR,
    FORWARDED_OTHER,
    FORWARDED,
    VIA,
};

static bool is(zk_str name, const char *text, size_t size)
{
    return zk__name_equal(name, text, size);
}
#define IS(name, literal) is(name, "" literal, sizeof(literal) - 1)

/* Of a request. By length first: most names match none. */
static enum kind kind_of(zk_str name)
{
    switch (name.size) {
    case 2: return IS(name, "te") ? DROP : FORWARD;
    case 3: return IS(name, "via") ? VIA : FORWARD;
    case 4: return IS(name, "host") ? DROP : FORWARD;
    case 6:
        if (IS(name, "cookie")) return COOKIE;
        return IS(name, "expect") ? DROP : FORWARD;
    case 7: return IS(name, "upgrade") || IS(name, "trailer") ? DROP : FORWARD;
    case 9:
        if (IS(name, "x-real-ip")) return FORWARDED_OTHER;
        return IS(name, "forwarded") ? FORWARDED : FORWARD;
    case 10:
        if (IS(name, "connection")) return CONNECTION;
        return IS(name, "keep-alive") ? DROP : FORWARD;
    case 14: return IS(name, "content-length") ? DROP : FORWARD;
    case 15: return IS(name, "x-forwarded-for") ? FORWARDED_FOR : FORWARD;
    case 16:
        if (IS(name, "x-forwarded-host") || IS(name, "x-forwarded-port")) return FORWARDED_OTHER;
        return IS(name, "proxy-connection") ? DROP : FORWARD;
    case 17:
        if (IS(name, "x-forwarded-proto")) return FORWARDED_OTHER;
        return IS(name, "transfer-encoding") ? DROP : FORWARD;
    case 19: return IS(name, "proxy-authorization") ? DROP : FORWARD;
    default: return FORWARD;
    }
}

/* Of a response. Server and Date are the server's own. */
static bool is_answer_dropped(zk_str name)
{
    switch (name.size) {
    case 4: return IS(name, "date");
    case 6: return IS(name, "server");
    case 7: return IS(name, "trailer") || IS(name, "upgrade");
    case 10: return IS(name, "connection") || IS(name, "keep-alive");
    case 14: return IS(name, "content-length");
    case 16: return IS(name, "proxy-connection");
    case 17: return IS(name, "transfer-encoding");
    default: return false;
    }
}

/* Whether a Connection field names a field other than the usual ones, which go anyway. */
static bool is_extra(zk_str option)
{
    return !IS(option, "close") && !IS(option, "keep-alive") && !IS(option, "upgrade") &&
           !IS(option, "te");
}

static bool next_option(zk_str *list, zk_str *ret)
{
    while (list->size) {
        const char *comma = memchr(list->data, ',', list->size);
        zk_str part = {list->data, comma ? (size_t)(comma - list->data) : list->size};
        size_t taken = part.size + (comma != NULL);
        *list = (zk_str){list->data + taken, list->size - taken};
        while (part.size && (*part.data == ' ' || *part.data == '\t'))
            part.data++, part.size--;
        while (part.size && (part.data[part.size - 1] == ' ' || part.data[part.size - 1] == '\t'))
            part.size--;
        *ret = part;
        if (part.size) return true;
    }
    return false;
}

/* Whether some Connection field has options beyond the usual. */
static bool has_extra(const zk_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!IS(fields[i].name, "connection")) continue;
        zk_str list = fields[i].value, option;
        while (next_option(&list, &option))
            if (is_extra(option)) return true;
    }
    return false;
}

/* Whether the field is for this connection only, by name of a Connection field. */
static bool is_named(const zk_field *fields, size_t count, zk_str name)
{
    for (size_t i = 0; i < count; i++) {
        if (!IS(fields[i].name, "connection")) continue;
        zk_str list = fields[i].value, option;
        while (next_option(&list, &option))
            if (zk__name_equal(name, option.data, option.size)) return true;
    }
    return false;
}

/* ---- the request ---- */

static int put(zk__hop *hop, zk_str s) { return zk__hop_put(hop, s.data, s.size); }

static int put_field(zk__hop *hop, zk_str name, zk_str value)
{
    zk__talk *t = hop->talk;
    if (ZK_LIKELY(name.size + value.size + 4 <= ZK__HOP_OUT_BYTES - t->out_size)) {
        char *to = t->out + t->out_size;
        memcpy(to, name.data, name.size);
        to += name.size;
        *to++ = ':';
        *to++ = ' ';
        if (value.size) memcpy(to, value.data, value.size);
        to += value.size;
        *to++ = '\r';
        *to++ = '\n';
        t->out_size = (size_t)(to - t->out);
        return 0;
    }
    int rc = put(hop, name);
    if (!rc) rc = put(hop, ZK_STR(": "));
    if (!rc) rc = put(hop, value);
    return rc ? rc : put(hop, ZK_STR("\r\n"));
}

/* The origin form of the target: an absolute one loses its scheme and authority. */
static int put_target(zk__hop *hop, const zk_request *req)
{
    zk_str t = req->raw_target;
    if (ZK_LIKELY(t.data[0] == '/' || (t.size == 1 && t.data[0] == '*'))) return put(hop, t);
    const char *at = memmem(t.data, t.size, "://", 3);
    if (!at) return put(hop, req->target.path);
    at += 3;
    while (at < t.data + t.size && *at != '/' && *at != '?')
        at++;
    if (at == t.data + t.size || *at == '?') {
        /* RFC 9112 section 3.2.4 */
        int rc =
            put(hop, req->target.path.size == 1 && *req->target.path.data == '*' ? ZK_STR("*")
                                                                                 : ZK_STR("/"));
        if (rc) return rc;
    }
    return put(hop, (zk_str){at, (size_t)(t.data + t.size - at)});
}

/* The client's address as text; *ret_is_v6. returns its size, 0: there is none (a Unix socket). */
static size_t peer_text(const zk_request *req, char text[INET6_ADDRSTRLEN], bool *ret_is_v6)
{
    zk_addr addr;
    *ret_is_v6 = false;
    if (zk_request_peer(req, &addr) < 0) return 0;
    if (addr.sa.sa_family == AF_INET) {
        const unsigned char *b = (const unsigned char *)&addr.in.sin_addr;
        size_t n = 0;
        for (int i = 0; i < 4; i++) {
            if (i) text[n++] = '.';
            if (b[i] >= 100) text[n++] = (char)('0' + b[i] / 100);
            if (b[i] >= 10) text[n++] = (char)('0' + b[i] / 10 % 10);
            text[n++] = (char)('0' + b[i] % 10);
        }
        return n;
    }
    if (addr.sa.sa_family != AF_INET6) return 0;
    if (IN6_IS_ADDR_V4MAPPED(&addr.in6.sin6_addr)) {
        inet_ntop(AF_INET, &addr.in6.sin6_addr.s6_addr[12], text, INET6_ADDRSTRLEN);
    } else {
        inet_ntop(AF_INET6, &addr.in6.sin6_addr, text, INET6_ADDRSTRLEN);
        *ret_is_v6 = true;
    }
    return strlen(text);
}

/* A token, or else a quoted string (RFC 7239 section 4); hosts hold no quotes. */
static int put_host_value(zk__hop *hop, zk_str host)
{
    int rc = put(hop, ZK_STR(";host=\""));
    if (!rc) rc = put(hop, host);
    return rc ? rc : put(hop, ZK_STR("\""));
}

/* What this proxy knows of the client, in both ways of saying it. */
static int put_forwarded(const zk_proxy *p, zk__hop *hop, zk_request *req, zk_str for_list,
                         zk_str forwarded)
{
    char peer[INET6_ADDRSTRLEN];
    bool is_v6;
    zk_str proto = zk_request_scheme(req);
    zk_str address = {peer, peer_text(req, peer, &is_v6)};
    if (!address.size) address = ZK_STR("unknown");
    bool is_kept = p->options.trusts_forwarded;
    int rc = put(hop, ZK_STR("X-Forwarded-For: "));
    if (!rc && is_kept && for_list.size) rc = put(hop, for_list);
    if (!rc && is_kept && for_list.size) rc = put(hop, ZK_STR(", "));
    if (!rc) rc = put(hop, address);
    if (!rc && !(is_kept && zk__field_find(req->fields, req->field_count, "x-forwarded-proto"))) {
        rc = put(hop, ZK_STR("\r\nX-Forwarded-Proto: "));
        if (!rc) rc = put(hop, proto);
    }
    if (!rc && req->host.size &&
        !(is_kept && zk__field_find(req->fields, req->field_count, "x-forwarded-host"))) {
        rc = put(hop, ZK_STR("\r\nX-Forwarded-Host: "));
        if (!rc) rc = put(hop, req->host);
    }
    if (!rc) rc = put(hop, ZK_STR("\r\nForwarded: "));
    if (!rc && is_kept && forwarded.size) rc = put(hop, forwarded);
    if (!rc && is_kept && forwarded.size) rc = put(hop, ZK_STR(", "));
    if (!rc) rc = put(hop, is_v6 ? ZK_STR("for=\"[") : ZK_STR("for="));
    if (!rc) rc = put(hop, address);
    if (!rc) rc = put(hop, is_v6 ? ZK_STR("]\";proto=") : ZK_STR(";proto="));
    if (!rc) rc = put(hop, proto);
    if (!rc && req->host.size && !memchr(req->host.data, '"', req->host.size)) {
        rc = put_host_value(hop, req->host);
    }
    return rc ? rc : put(hop, ZK_STR("\r\n"));
}

/* Several Cookie fields, which HTTP/2 allows, become one (RFC 9113 section 8.2.3). */
static int put_cookies(zk__hop *hop, const zk_request *req)
{
    int rc = put(hop, ZK_STR("Cookie: "));
    bool is_first = true;
    for (size_t i = 0; i < req->field_count && !rc; i++) {
        if (!IS(req->fields[i].name, "cookie")) continue;
        if (!is_first) rc = put(hop, ZK_STR("; "));
        is_first = false;
        if (!rc) rc = put(hop, req->fields[i].value);
    }
    return rc ? rc : put(hop, ZK_STR("\r\n"));
}

static int put_fields(const zk_proxy *p, zk__hop *hop, zk_request *req, zk_str *ret_for,
                      zk_str *ret_forwarded)
{
    const zk_field *fields = req->fields;
    size_t count = req->field_count;
    bool extra = has_extra(fields, count), has_cookies = false;
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        zk_str name = fields[i].name, value = fields[i].value;
        enum kind kind = kind_of(name);
        if (ZK_LIKELY(kind == FORWARD || kind == VIA)) {
            if (ZK_UNLIKELY(extra) && is_named(fields, count, name)) continue;
            rc = put_field(hop, name, value);
        } else if (kind == COOKIE) {
            if (!has_cookies) rc = put_cookies(hop, req);
            has_cookies = true;
        } else if (kind == FORWARDED_FOR) {
            *ret_for = value;
        } else if (kind == FORWARDED) {
            *ret_forwarded = value;
        } else if (kind == FORWARDED_OTHER && p->options.trusts_forwarded) {
            rc = put_field(hop, name, value);
        }
    }
    return rc;
}

static int put_framing(zk__hop *hop, const zk_request *req)
{
    if (req->body_length < 0) return put(hop, ZK_STR("Transfer-Encoding: chunked\r\n"));
    if (ZK_LIKELY(!req->body_length) &&
        !zk__field_find(req->fields, req->field_count, "content-length")) {
        return 0;
    }
    char length[24];
    int n = snprintf(length, sizeof length, "%lld", (long long)req->body_length);
    return put_field(hop, ZK_STR("Content-Length"), (zk_str){length, (size_t)n});
}

/* RFC 6455 section 4.1: 16 random bytes, in base64. They protect browsers from caches that do not
 * know the protocol, and are no secret. */
static int put_websocket_key(zk__hop *hop)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[25] = "....................==";
    for (int i = 0; i < 21; i++)
        key[i] = digits[zk__random(zk__worker_self()) >> 32 & 63];
    memcpy(key + 21, "A==", 4); /* 2 of its bits are data, and 0 */
    return put_field(hop, ZK_STR("Sec-WebSocket-Key"), (zk_str){key, 24});
}

static int put_upgrade(zk__hop *hop, const zk_request *req, zk_str protocol)
{
    int rc = put_field(hop, ZK_STR("Connection"), ZK_STR("Upgrade"));
    if (!rc) rc = put_field(hop, ZK_STR("Upgrade"), protocol);
    return rc || req->version < 20 ? rc : put_websocket_key(hop);
}

int zk__proxy_head_send(const zk_proxy *p, const zk__upstream *u, zk__hop *hop, zk_request *req,
                        zk_str protocol)
{
    zk_str for_list = {NULL, 0}, forwarded = {NULL, 0};
    int rc = put(hop, protocol.size && req->version == 20 ? ZK_STR("GET") : req->method);
    if (!rc) rc = put(hop, ZK_STR(" "));
    if (!rc) rc = put_target(hop, req);
    if (!rc) rc = put(hop, ZK_STR(" HTTP/1.1\r\n"));
    bool is_own_host = p->options.sends_upstream_host || !req->host.size;
    zk_str host = is_own_host ? (zk_str){u->authority, strlen(u->authority)} : req->host;
    if (!rc) rc = put_field(hop, ZK_STR("Host"), host);
    if (!rc) rc = put_fields(p, hop, req, &for_list, &forwarded);
    if (!rc) rc = put_forwarded(p, hop, req, for_list, forwarded);
    if (!rc && *p->via) {
        rc = put(hop, req->version == 20   ? ZK_STR("Via: 2.0 ")
                      : req->version == 10 ? ZK_STR("Via: 1.0 ")
                                           : ZK_STR("Via: 1.1 "));
        if (!rc) rc = put(hop, (zk_str){p->via, strlen(p->via)});
        if (!rc) rc = put(hop, ZK_STR("\r\n"));
    }
    if (!rc && protocol.size) {
        rc = put_upgrade(hop, req, protocol);
    } else if (!rc) {
        rc = put_framing(hop, req);
    }
    return rc ? rc : put(hop, ZK_STR("\r\n"));
}

/* ---- the response ---- */

int zk__proxy_fields_own(zk_response *res, zk_field *fields, size_t count)
{
    if (ZK_LIKELY(res->req->version != 20)) return 0;
    zk_arena *arena = &res->req->arena;
    for (size_t i = 0; i < count; i++) {
        char *name = zk_arena_copy(arena, fields[i].name.data, fields[i].name.size);
        char *value = zk_arena_copy(arena, fields[i].value.data, fields[i].value.size);
        if (!name || !value) return -ENOMEM;
        fields[i].name.data = name;
        fields[i].value.data = value;
    }
    return 0;
}

int zk__proxy_head_take(const zk_proxy *p, const zk__talk *talk, zk_response *res)
{
    const zk__h1_answer *a = &talk->answer;
    zk_field *fields = zk_arena_alloc(&res->req->arena, (a->field_count + 1) * sizeof *fields);
    if (!fields) return -ENOMEM;
    bool extra = has_extra(a->fields, a->field_count);
    size_t count = 0;
    for (size_t i = 0; i < a->field_count; i++) {
        zk_str name = a->fields[i].name;
        if (is_answer_dropped(name)) continue;
        /* The answer to a key of the proxy's own, see put_websocket_key(). */
        if (a->status == 101 && res->req->version == 20 && IS(name, "sec-websocket-accept")) {
            continue;
        }
        if (ZK_UNLIKELY(extra) && is_named(a->fields, a->field_count, name)) continue;
        fields[count++] = a->fields[i];
    }
    const char *via = p->via_values[a->minor];
    if (*p->via) fields[count++] = (zk_field){ZK_STR("Via"), {via, strlen(via)}};
    res->fields = (zk__field_list){fields, count, count};
    return zk__proxy_fields_own(res, fields, count);
}
