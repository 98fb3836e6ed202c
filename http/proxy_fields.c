/*
 * What a proxy forwards of a head, and what it adds (RFC 9110 section 7.6, RFC 7239).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/proxy.h"
#include "http/websocket_key.h"

/* That a request gets here: X-Forwarded-For, -Proto, -Host, Forwarded, Via, and what a version of
 * HTTP adds. */
enum { HEAD_FIELDS = 8 };

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

/* ---- the request: what it is to say, in any version of HTTP ---- */

/* The origin form of the target: an absolute one loses its scheme and authority. */
static int target_make(zk_request *req, zk_str *ret)
{
    zk_str t = *ret = req->raw_target;
    if (ZK_LIKELY(t.data[0] == '/' || (t.size == 1 && t.data[0] == '*'))) return 0;
    const char *at = memmem(t.data, t.size, "://", 3), *end = t.data + t.size;
    if (!at) {
        *ret = req->target.path;
        return 0;
    }
    at += 3;
    while (at < end && *at != '/' && *at != '?')
        at++;
    *ret = (zk_str){at, (size_t)(end - at)};
    if (at < end && *at == '/') return 0;
    /* RFC 9112 section 3.2.4 */
    bool is_all = req->target.path.size == 1 && *req->target.path.data == '*';
    char *text = zk_arena_alloc(&req->arena, ret->size + 1);
    if (!text) return -ENOMEM;
    *text = is_all ? '*' : '/';
    if (ret->size) memcpy(text + 1, at, ret->size);
    *ret = (zk_str){text, ret->size + 1};
    return 0;
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

static void add(zk__proxy_head *head, zk_str name, zk_str value)
{
    head->fields[head->count++] = (zk_field){name, value};
}

static char *append(char *to, zk_str s)
{
    if (s.size) memcpy(to, s.data, s.size);
    return to + s.size;
}

/* RFC 7239. A host is a quoted string there (section 4); it holds no quotes. */
static int forwarded_make(zk__proxy_head *head, zk_request *req, zk_str before, zk_str address,
                          bool is_v6, zk_str *ret)
{
    zk_str proto = zk_request_scheme(req), host = req->host;
    size_t size_max = before.size + address.size + proto.size + host.size + 48;
    char *text = head->forwarded;
    if (ZK_UNLIKELY(size_max > sizeof head->forwarded)) {
        text = zk_arena_alloc(&req->arena, size_max);
        if (!text) return -ENOMEM;
    }
    char *to = append(text, before);
    if (before.size) to = append(to, ZK_STR(", "));
    to = append(to, is_v6 ? ZK_STR("for=\"[") : ZK_STR("for="));
    to = append(to, address);
    to = append(to, is_v6 ? ZK_STR("]\";proto=") : ZK_STR(";proto="));
    to = append(to, proto);
    if (host.size && !memchr(host.data, '"', host.size)) {
        to = append(to, ZK_STR(";host=\""));
        to = append(to, host);
        to = append(to, ZK_STR("\""));
    }
    *ret = (zk_str){text, (size_t)(to - text)};
    return 0;
}

/* What this proxy knows of the client, in both ways of saying it. */
static int forwarded_add(const zk_proxy *p, zk__proxy_head *head, zk_request *req, zk_str for_list,
                         zk_str forwarded)
{
    bool is_v6, is_kept = p->options.trusts_forwarded;
    zk_str address = {head->peer, peer_text(req, head->peer, &is_v6)}, list, all;
    if (!address.size) address = ZK_STR("unknown");
    list = address;
    if (is_kept && for_list.size) {
        char *text = zk_arena_alloc(&req->arena, for_list.size + 2 + address.size);
        if (!text) return -ENOMEM;
        append(append(append(text, for_list), ZK_STR(", ")), address);
        list = (zk_str){text, for_list.size + 2 + address.size};
    }
    add(head, ZK_STR("X-Forwarded-For"), list);
    if (!(is_kept && zk__field_find(req->fields, req->field_count, "x-forwarded-proto"))) {
        add(head, ZK_STR("X-Forwarded-Proto"), zk_request_scheme(req));
    }
    if (req->host.size &&
        !(is_kept && zk__field_find(req->fields, req->field_count, "x-forwarded-host"))) {
        add(head, ZK_STR("X-Forwarded-Host"), req->host);
    }
    zk_str before = is_kept ? forwarded : (zk_str){NULL, 0};
    int rc = forwarded_make(head, req, before, address, is_v6, &all);
    if (!rc) add(head, ZK_STR("Forwarded"), all);
    return rc;
}

/* Several Cookie fields, which HTTP/2 allows, become one (RFC 9113 section 8.2.3). */
static int cookies_make(zk_request *req, size_t first, zk_str *ret)
{
    size_t size = 0, count = 0;
    for (size_t i = first; i < req->field_count; i++) {
        if (!IS(req->fields[i].name, "cookie")) continue;
        size += req->fields[i].value.size + 2;
        count++;
    }
    *ret = req->fields[first].value;
    if (count == 1) return 0;
    char *text = zk_arena_alloc(&req->arena, size), *to = text;
    if (!text) return -ENOMEM;
    for (size_t i = first; i < req->field_count; i++) {
        if (!IS(req->fields[i].name, "cookie")) continue;
        if (to != text) to = append(to, ZK_STR("; "));
        to = append(to, req->fields[i].value);
    }
    *ret = (zk_str){text, (size_t)(to - text)};
    return 0;
}

/* Those of the client that go on. */
static int fields_add(const zk_proxy *p, zk__proxy_head *head, zk_request *req, zk_str *ret_for,
                      zk_str *ret_forwarded)
{
    const zk_field *fields = req->fields;
    size_t count = req->field_count;
    bool extra = has_extra(fields, count), has_cookies = false;
    for (size_t i = 0; i < count; i++) {
        zk_str name = fields[i].name, value = fields[i].value;
        enum kind kind = kind_of(name);
        if (ZK_LIKELY(kind == FORWARD || kind == VIA)) {
            if (ZK_UNLIKELY(extra) && is_named(fields, count, name)) continue;
            head->fields[head->count++] = fields[i];
        } else if (kind == COOKIE) {
            if (!has_cookies && cookies_make(req, i, &value) < 0) return -ENOMEM;
            if (!has_cookies) add(head, ZK_STR("Cookie"), value);
            has_cookies = true;
        } else if (kind == FORWARDED_FOR) {
            *ret_for = value;
        } else if (kind == FORWARDED) {
            *ret_forwarded = value;
        } else if (kind == FORWARDED_OTHER && p->options.trusts_forwarded) {
            head->fields[head->count++] = fields[i];
        }
    }
    return 0;
}

int zk__proxy_head_make(const zk_proxy *p, const zk__upstream *u, zk_request *req,
                        zk__proxy_head *head)
{
    zk_str for_list = {NULL, 0}, forwarded = {NULL, 0};
    head->method = req->method;
    bool is_own_host = p->options.sends_upstream_host || !req->host.size;
    head->host = is_own_host ? (zk_str){u->authority, strlen(u->authority)} : req->host;
    head->count = 0;
    head->fields =
        zk_arena_alloc(&req->arena, (req->field_count + HEAD_FIELDS) * sizeof *head->fields);
    if (!head->fields) return -ENOMEM;
    int rc = target_make(req, &head->target);
    if (!rc) rc = fields_add(p, head, req, &for_list, &forwarded);
    if (!rc) rc = forwarded_add(p, head, req, for_list, forwarded);
    if (rc < 0) return rc;
    const char *via = p->via_values[req->version == 20 ? 2 : req->version == 10 ? 0 : 1];
    if (*p->via) add(head, ZK_STR("Via"), (zk_str){via, strlen(via)});
    return 0;
}

bool zk__proxy_wants_trailers(const zk_request *req)
{
    for (size_t i = 0; i < req->field_count; i++) {
        if (!IS(req->fields[i].name, "te")) continue;
        zk_str list = req->fields[i].value, option;
        while (next_option(&list, &option))
            if (IS(option, "trailers")) return true;
    }
    return false;
}

/* ---- the request in HTTP/1.1 ---- */

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
    uint64_t random[2] = {zk__random(zk__worker_self()), zk__random(zk__worker_self())};
    uint8_t bytes[16];
    char key[ZK__WS_KEY_BYTES];
    memcpy(bytes, random, sizeof bytes);
    zk__ws_key_encode(bytes, key);
    return put_field(hop, ZK_STR("Sec-WebSocket-Key"), (zk_str){key, sizeof key});
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
    zk__proxy_head head;
    int rc = zk__proxy_head_make(p, u, req, &head);
    if (!rc) rc = put(hop, protocol.size && req->version == 20 ? ZK_STR("GET") : head.method);
    if (!rc) rc = put(hop, ZK_STR(" "));
    if (!rc) rc = put(hop, head.target);
    if (!rc) rc = put(hop, ZK_STR(" HTTP/1.1\r\n"));
    if (!rc) rc = put_field(hop, ZK_STR("Host"), head.host);
    for (size_t i = 0; i < head.count && !rc; i++)
        rc = put_field(hop, head.fields[i].name, head.fields[i].value);
    if (!rc) rc = protocol.size ? put_upgrade(hop, req, protocol) : put_framing(hop, req);
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

int zk__proxy_head_take(const zk_proxy *p, const zk__h1_answer *a, bool is_h2, zk_response *res)
{
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
    const char *via = p->via_values[is_h2 ? 2 : a->minor];
    if (*p->via) fields[count++] = (zk_field){ZK_STR("Via"), {via, strlen(via)}};
    res->fields = (zk__field_list){fields, count, count};
    return zk__proxy_fields_own(res, fields, count);
}
