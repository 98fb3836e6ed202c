/*
 * The client's handshake (RFC 6455 section 4.1), over HTTP/1.1; that over HTTP/2 is in
 * connect_h2.c. What the server says is checked word by word; anything but a 101 is refused,
 * redirects too.
 */
#include <stdio.h>
#include <string.h>

#include "http/dial.h"
#include "ws/connect.h"

enum { HEAD_BYTES_MAX = 16 * 1024, FIELDS_MAX = 100, CONNECT_TIMEOUT_MS = 10000 };

typedef zk__ws_connecting connecting;

/* ---- the request ---- */

static bool is_text(zk_str a, const char *b) { return zk__name_equal(a, b, strlen(b)); }

/* Fields that the handshake itself writes. */
static bool is_ours(zk_str name)
{
    static const char *const ours[] = {
        "Host",
        "Upgrade",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Accept",
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (is_text(name, ours[i])) return true;
    }
    return false;
}

typedef struct lines {
    zk_arena *arena;
    char *data;
    size_t size, capacity;
} lines;

static int add(lines *t, const char *data, size_t size)
{
    if (t->capacity - t->size < size) {
        size_t capacity = 2 * t->capacity + size + 1024;
        char *grown = zk_arena_alloc(t->arena, capacity);
        if (!grown) return -ENOMEM;
        if (t->size) memcpy(grown, t->data, t->size);
        t->data = grown;
        t->capacity = capacity;
    }
    memcpy(t->data + t->size, data, size);
    t->size += size;
    return 0;
}

static int add_text(lines *t, const char *s) { return add(t, s, strlen(s)); }

static int add_field(lines *t, const char *name, zk_str value)
{
    int rc = add_text(t, name);
    if (!rc) rc = add(t, ": ", 2);
    if (!rc) rc = add(t, value.data, value.size);
    return rc ? rc : add(t, "\r\n", 2);
}

/* "a, b, c" */
static int protocols_join(connecting *c, const char *const *protocols, zk_str *ret)
{
    lines t = {.arena = &c->arena};
    int rc = 0;
    for (const char *const *p = protocols; *p && !rc; p++) {
        if (!zk__h1_is_token((zk_str){*p, strlen(*p)})) return ZK_E_HTTP_FIELD;
        if (p != protocols) rc = add(&t, ", ", 2);
        if (!rc) rc = add_text(&t, *p);
    }
    *ret = (zk_str){t.data, t.size};
    return rc;
}

static void field_put(connecting *c, const char *name, zk_str value)
{
    c->fields[c->field_count++] = (zk_field){{name, strlen(name)}, value};
}

static int fields_collect(connecting *c)
{
    const zk_ws_options *o = c->options;
    const zk_header *headers = o ? o->headers : NULL;
    size_t count = 3;
    while (headers && headers[count - 3].name)
        count++;
    c->fields = zk_arena_alloc(&c->arena, count * sizeof *c->fields);
    if (!c->fields) return -ENOMEM;
    field_put(c, "Sec-WebSocket-Version", ZK_STR("13"));
    if (o && o->deflate) {
        char *offer = zk_arena_alloc(&c->arena, ZK__WS_EXTENSION_BYTES);
        if (!offer) return -ENOMEM;
        zk__ws_offer_write(o->deflate, offer);
        field_put(c, "Sec-WebSocket-Extensions", (zk_str){offer, strlen(offer)});
    }
    if (o && o->protocols && *o->protocols) {
        zk_str list;
        int rc = protocols_join(c, o->protocols, &list);
        if (rc < 0) return rc;
        field_put(c, "Sec-WebSocket-Protocol", list);
    }
    for (; headers && headers->name; headers++) {
        zk_str name = {headers->name, strlen(headers->name)};
        zk_str value = {headers->value, strlen(headers->value)};
        if (!zk__h1_is_token(name) || !zk__h1_is_field_value(value) || is_ours(name)) {
            return ZK_E_HTTP_FIELD;
        }
        field_put(c, headers->name, value);
    }
    return 0;
}

static int request_write(connecting *c, lines *t)
{
    char authority[ZK_URL_AUTHORITY_BYTES];
    size_t size = zk_url_authority(c->url, authority);
    int rc = add_text(t, "GET ");
    if (!rc) rc = add(t, c->url->path.data, c->url->path.size);
    if (!rc && c->url->query.data) {
        rc = add(t, "?", 1);
        if (!rc) rc = add(t, c->url->query.data, c->url->query.size);
    }
    if (!rc) rc = add_text(t, " HTTP/1.1\r\n");
    if (!rc) rc = add_field(t, "Host", (zk_str){authority, size});
    if (!rc) rc = add_text(t, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    if (!rc) rc = add_field(t, "Sec-WebSocket-Key", (zk_str){c->key, sizeof c->key});
    for (size_t i = 0; i < c->field_count && !rc; i++)
        rc = add_field(t, c->fields[i].name.data, c->fields[i].value);
    return rc ? rc : add(t, "\r\n", 2);
}

/* ---- the answer ---- */

static const zk_field *single(const zk__h1_answer *a, const char *name, int *ret_count)
{
    const zk_field *found = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < a->field_count; i++) {
        if (!is_text(a->fields[i].name, name)) continue;
        found = &a->fields[i];
        ++*ret_count;
    }
    return found;
}

static int protocol_check(connecting *c, const zk__h1_answer *a)
{
    int count;
    const zk_field *field = single(a, "Sec-WebSocket-Protocol", &count);
    if (!field) return 0;
    const char *const *p = c->options ? c->options->protocols : NULL;
    for (; count == 1 && p && *p; p++) {
        size_t size = strlen(*p);
        if (field->value.size != size || memcmp(field->value.data, *p, size)) continue;
        c->ws->protocol = zk_alloc(size + 1);
        if (!c->ws->protocol) return -ENOMEM;
        memcpy(c->ws->protocol, *p, size + 1);
        return 0;
    }
    return zk_fail(ZK_E_WS_HANDSHAKE, "the server chose a subprotocol that was not offered");
}

static int extension_check(connecting *c, zk_str answer)
{
    zk__ws_agreed agreed;
    const zk_ws_deflate *own = c->options ? c->options->deflate : NULL;
    if (!own || !zk__ws_answer_take(answer, own, &agreed)) {
        return zk_fail(ZK_E_WS_HANDSHAKE, "an extension that was not offered like that");
    }
    c->ws->deflate = zk__ws_deflate_new(&agreed, own);
    c->ws->reader.allows_deflate = true;
    return c->ws->deflate ? 0 : -ENOMEM;
}

int zk__ws_answer_agree(connecting *c, const zk__h1_answer *a)
{
    int count;
    const zk_field *extension = single(a, "Sec-WebSocket-Extensions", &count);
    int rc = extension ? extension_check(c, count == 1 ? extension->value : ZK_STR("")) : 0;
    return rc < 0 ? rc : protocol_check(c, a);
}

static int answer_check(connecting *c, const zk__h1_answer *a)
{
    int upgrades, accepts;
    if (a->status != 101) return zk_fail(ZK_E_WS_HANDSHAKE, "status %d", a->status);
    const zk_field *upgrade = single(a, "Upgrade", &upgrades);
    if (upgrades != 1 || !is_text(upgrade->value, "websocket")) {
        return zk_fail(ZK_E_WS_HANDSHAKE, "the server switches to something else");
    }
    const zk_field *connection = zk__field_find(a->fields, a->field_count, "Connection");
    if (!connection || !zk__ws_list_has(connection->value, "upgrade")) {
        return zk_fail(ZK_E_WS_HANDSHAKE, "no Connection: Upgrade");
    }
    char accept[ZK__WS_ACCEPT_BYTES];
    zk__ws_accept_key(c->key, accept);
    const zk_field *key = single(a, "Sec-WebSocket-Accept", &accepts);
    if (accepts != 1 || key->value.size != sizeof accept ||
        memcmp(key->value.data, accept, sizeof accept)) {
        return zk_fail(ZK_E_WS_HANDSHAKE, "not the answer to our key");
    }
    return zk__ws_answer_agree(c, a);
}

/* Reads the head of the final response. What is behind it belongs to the socket. */
static int answer_read(connecting *c)
{
    zk__h1 h1;
    zk__h1_answer answer;
    zk_field *fields = zk_arena_alloc(&c->arena, FIELDS_MAX * sizeof *fields);
    char *buf = zk_arena_alloc(&c->arena, HEAD_BYTES_MAX);
    if (!fields || !buf) return -ENOMEM;
    zk__h1_response_init(
        &h1, &(zk__h1_limits){.head_bytes_max = HEAD_BYTES_MAX, .fields_max = FIELDS_MAX});
    size_t begin = 0, end = 0;
    for (;;) {
        ptrdiff_t n = end > begin ? zk__h1_parse_response(&h1, buf + begin, end - begin,
                                                          ZK__H1_ASKED_USUAL, fields, &answer)
                                  : 0;
        if (n < 0) return zk_fail((int)n, "%s", zk__h1_reason(&h1));
        begin += (size_t)n;
        if (n && (answer.status >= 200 || answer.status == 101)) break;
        if (n) {
            zk__h1_next(&h1);
            continue;
        }
        if (end == HEAD_BYTES_MAX) return ZK_E_HTTP_HEADER_TOO_LARGE;
        ssize_t got = zk_stream_read(c->stream, buf + end, HEAD_BYTES_MAX - end);
        if (got <= 0) return got ? (int)got : ZK_E_CLOSED;
        end += (size_t)got;
    }
    int rc = answer_check(c, &answer);
    return rc < 0 ? rc : zk__ws_receive_ahead(c->ws, buf + begin, end - begin);
}

/* ---- the connection ---- */

/* The address to connect to. */
static int address_write(const connecting *c, char *buf, size_t size)
{
    const zk_url *url = c->url;
    if (c->options && c->options->connect) {
        return snprintf(buf, size, "%s", c->options->connect) < (int)size ? 0 : ZK_E_ADDR;
    }
    int n = snprintf(buf, size, url->is_ipv6 ? "[%.*s]:%u" : "%.*s:%u", (int)url->host.size,
                     url->host.data, url->port);
    return n < (int)size ? 0 : ZK_E_HTTP_URL;
}

static int secure(connecting *c)
{
    zk_tls *tls = c->options ? c->options->tls : NULL;
    int rc = tls ? 0 : zk__ws_tls(&tls);
    if (rc < 0) return rc;
    char *host = zk_arena_copy(&c->arena, c->url->host.data, c->url->host.size);
    return host ? zk__dial_tls(tls, true, c->stream, host, &c->stream) : -ENOMEM;
}

/* A connection of its own. */
static int dial(connecting *c)
{
    char host[ZK_URL_AUTHORITY_BYTES + 16];
    int rc = address_write(c, host, sizeof host);
    if (!rc) rc = zk__dial(host, &c->stream);
    return !rc && c->url->is_secure ? secure(c) : rc;
}

static int connect_run(void *arg)
{
    connecting *c = arg;
    uint8_t key[16];
    lines request = {.arena = &c->arena};
    int rc = zk__ws_random(key, sizeof key);
    if (rc < 0) return rc;
    zk__ws_key_encode(key, c->key);
    rc = fields_collect(c);
    if (!rc) rc = request_write(c, &request);
    if (!rc) rc = c->options && c->options->client ? zk__ws_reach(c) : dial(c);
    if (rc) return rc;
    rc = zk_stream_write(c->stream, request.data, request.size);
    return rc ? rc : answer_read(c);
}

int zk_ws_connect(const char *address, const zk_ws_options *options, zk_ws **ret_ws)
{
    zk_url url;
    int rc = zk_url_parse((zk_str){address, strlen(address)}, &url);
    if (rc < 0) return rc;
    if ((url.scheme.data[0] | 0x20) != 'w' || url.user_info.data) return ZK_E_HTTP_URL;
    if (options && options->deflate && !ZK__ZLIB) return ZK_E_WS_DEFLATE;
    connecting c = {.url = &url, .options = options, .ws = zk__ws_new(options, true)};
    if (!c.ws) return -ENOMEM;
    int timeout_ms =
        options && options->connect_timeout_ms ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    rc = zk_timeout(timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms), connect_run, &c);
    if (rc == -ETIMEDOUT && !zk_cancelled()) rc = ZK_E_WS_TIMEOUT;
    if (rc == -ECANCELED && zk_cancelled()) rc = zk_cancelled(); /* the caller's own time is over */
    zk_arena_done(&c.arena);
    if (rc < 0) {
        zk_stream_close(c.stream);
        zk__ws_free(c.ws);
        return rc;
    }
    c.ws->upgrade.stream = c.stream;
    zk__ws_open(c.ws);
    *ret_ws = c.ws;
    return 0;
}

void zk__ws_close_client(zk_ws *ws)
{
    zk_stream *stream = ws->upgrade.stream;
    if (!ws->is_broken) zk__ws_flush_now(ws);
    zk__ws_break(ws, ZK_E_CLOSED);
    zk__ws_free(ws);
    zk_stream_close(stream);
}

void zk_ws_free(zk_ws *ws)
{
    if (ws && ws->is_client && !ws->handlers) zk__ws_close_client(ws);
}
