/*
 * What a request of the client says, made of its options.
 */
#include <errno.h>
#include <string.h>

#include "http/client.h"
#include "http/exchange.h"

/* ---- the request ---- */

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

static bool is_text(zk_str s, const char *text)
{
    return s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

/* Fields that frame the message or speak of the connection. */
static bool is_ours(zk_str name)
{
    static const char *const ours[] = {
        "content-length",  "transfer-encoding", "connection", "keep-alive",
        "upgrade",         "trailer",           "te",         "expect",
        "proxy-connection"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (zk__name_equal(name, ours[i], strlen(ours[i]))) return true;
    }
    return false;
}

/* Adds a field that is known to be right, and to live as long as the exchange. */
static int push(zk_arena *arena, zk_field **list, size_t *count, size_t *capacity, zk_str name,
                zk_str value)
{
    if (*count == *capacity) {
        size_t larger = *capacity ? 2 * *capacity : 8;
        zk_field *fields = zk_arena_alloc(arena, larger * sizeof *fields);
        if (!fields) return -ENOMEM;
        if (*count) memcpy(fields, *list, *count * sizeof *fields);
        *list = fields;
        *capacity = larger;
    }
    (*list)[(*count)++] = (zk_field){name, value};
    return 0;
}

int zk__fields_add(zk_arena *arena, zk_field **list, size_t *count, size_t *capacity, zk_str name,
                   zk_str value)
{
    if (!zk__h1_is_token(name) || !zk__h1_is_field_value(value) || is_ours(name)) {
        return ZK_E_HTTP_FIELD;
    }
    char *own_name = zk_arena_copy(arena, name.data, name.size);
    char *own_value = zk_arena_copy(arena, value.data, value.size);
    if (!own_name || !own_value) return -ENOMEM;
    return push(arena, list, count, capacity, (zk_str){own_name, name.size},
                (zk_str){own_value, value.size});
}

static int field_add(zk_fetch *f, size_t *capacity, zk_str name, zk_str value)
{
    return zk__fields_add(&f->arena, &f->ask.fields, &f->ask.field_count, capacity, name, value);
}

/* One of the library's own. */
static int field_push(zk_fetch *f, size_t *capacity, zk_str name, zk_str value)
{
    return push(&f->arena, &f->ask.fields, &f->ask.field_count, capacity, name, value);
}

static bool has_field(const zk_fetch *f, const char *name)
{
    return zk__field_find(f->ask.fields, f->ask.field_count, name) != NULL;
}

char *zk__basic(zk_arena *arena, zk_str s)
{
    static const char prefix[] = "Basic ";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(prefix);
    char *text = zk_arena_alloc(arena, n + (s.size + 2) / 3 * 4 + 1);
    if (!text) return NULL;
    memcpy(text, prefix, n);
    for (size_t i = 0; i < s.size; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < s.size ? (unsigned char)s.data[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            text[n++] = i + k > s.size ? '=' : digits[bits >> (18 - 6 * k) & 63];
    }
    text[n] = '\0';
    return text;
}

static int authorize(zk_fetch *f, const zk_fetch_options *o, size_t *capacity)
{
    char *value = NULL;
    if (o->bearer_token) {
        value = zk_arena_printf(&f->arena, "Bearer %s", o->bearer_token);
    } else if (o->user) {
        if (strchr(o->user, ':')) return ZK_E_HTTP_FIELD; /* RFC 7617 section 2 */
        char *pair = zk_arena_printf(&f->arena, "%s:%s", o->user, o->password ? o->password : "");
        value = pair ? zk__basic(&f->arena, str(pair)) : NULL;
    } else {
        return 0;
    }
    return value ? field_add(f, capacity, ZK_STR("Authorization"), str(value)) : -ENOMEM;
}

static int ask_fields(zk_fetch *f, const zk_fetch_options *o)
{
    size_t capacity = 0;
    int rc = 0;
    for (const zk_header *h = o->headers; h && h->name && !rc; h++)
        rc = field_add(f, &capacity, str(h->name), str(h->value));
    if (!rc) rc = authorize(f, o, &capacity);
    if (!rc && o->content_type) {
        rc = field_add(f, &capacity, ZK_STR("Content-Type"), str(o->content_type));
    }
    bool is_bare = !f->ask.field_count;
    if (!rc && *f->client->user_agent && (is_bare || !has_field(f, "user-agent"))) {
        rc = field_push(f, &capacity, ZK_STR("User-Agent"), str(f->client->user_agent));
    }
    if (!rc && (is_bare || !has_field(f, "accept"))) {
        rc = field_push(f, &capacity, ZK_STR("Accept"), ZK_STR("*/*"));
    }
    const char *codings = f->client->no_decoding ? NULL : zk__decoder_codings();
    bool is_asked = !is_bare && (has_field(f, "accept-encoding") || has_field(f, "range"));
    if (!rc && codings && !is_asked) {
        f->wants_decoding = true;
        rc = field_push(f, &capacity, ZK_STR("Accept-Encoding"), str(codings));
    }
    return rc;
}

int zk__ask_fill(zk_fetch *f, const zk_fetch_options *o)
{
    zk__ask *ask = &f->ask;
    const char *text = o->url ? zk_arena_copy(&f->arena, o->url, strlen(o->url)) : "";
    if (!text) return -ENOMEM;
    int rc = zk_url_parse(str(text), &ask->url);
    if (rc < 0 || ask->url.scheme.data[0] != 'h' || ask->url.user_info.data) {
        return zk_fail(ZK_E_HTTP_URL, "\"%.300s\"", text);
    }
    ask->url_text = text;
    ask->is_streamed = o->is_streamed;
    ask->has_body = o->body || o->body_size || o->is_streamed;
    ask->body = o->body;
    ask->body_size = o->is_streamed ? 0 : o->body_size;
    ask->body_length = o->is_streamed ? o->body_length : (int64_t)o->body_size;
    if (ask->body_length < ZK_LENGTH_UNKNOWN) return -EINVAL;
    ask->method = ask->has_body ? ZK_STR("POST") : ZK_STR("GET");
    if (o->method) {
        ask->method = str(o->method);
        ask->method.data = zk_arena_copy(&f->arena, o->method, ask->method.size);
        if (!ask->method.data) return -ENOMEM;
        if (!zk__h1_is_token(ask->method) || is_text(ask->method, "CONNECT")) {
            return ZK_E_HTTP_METHOD;
        }
    }
    if (o->connect) {
        f->connect = zk_arena_copy(&f->arena, o->connect, strlen(o->connect));
        if (!f->connect) return -ENOMEM;
    }
    return ask_fields(f, o);
}
