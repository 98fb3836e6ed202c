/*
 * Redirects: where to, and what of the request goes along (RFC 9110 section 15.4).
 */
#include <string.h>

#include "http/client.h"
#include "http/exchange.h"

enum { URL_BYTES_MAX = 16 * 1024 };

/* ---- references, RFC 3986 section 5.2 ---- */

static bool has_scheme(zk_str s)
{
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        if (c == ':') return i > 0;
        bool is_letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        bool is_other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!is_letter && !(is_other && i > 0)) return false;
    }
    return false;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Servers send references with raw spaces and UTF-8; everybody encodes these. What has no agreed
 * meaning (control bytes, backslashes) is left alone, so that the URL is refused. */
static size_t put_encoded(char *to, zk_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        bool is_lone_percent =
            c == '%' && (s.size - i < 3 || !is_hex(s.data[i + 1]) || !is_hex(s.data[i + 2]));
        if (c == ' ' || c >= 0x80 || (c && strchr("\"<>^`{|}", c)) || is_lone_percent) {
            to[n++] = '%';
            to[n++] = "0123456789ABCDEF"[c >> 4];
            to[n++] = "0123456789ABCDEF"[c & 15];
        } else {
            to[n++] = (char)c;
        }
    }
    return n;
}

/* Takes "." and ".." segments out of a path that begins with '/'. returns its new size. */
static size_t remove_dots(char *path, size_t size)
{
    size_t out = 0, at = 0;
    while (at < size) {
        size_t end = at + 1;
        while (end < size && path[end] != '/')
            end++;
        size_t n = end - at - 1; /* of the segment */
        bool is_last = end == size;
        if (n == 1 && path[at + 1] == '.') {
            if (is_last) path[out++] = '/';
        } else if (n == 2 && path[at + 1] == '.' && path[at + 2] == '.') {
            while (out > 0 && path[--out] != '/') {
            }
            if (is_last) path[out++] = '/';
        } else {
            memmove(path + out, path + at, end - at);
            out += end - at;
        }
        at = end;
    }
    return out;
}

static size_t put(char *to, zk_str s)
{
    if (s.size) memcpy(to, s.data, s.size);
    return s.size;
}

static size_t count_until(zk_str s, const char *ends)
{
    size_t n = 0;
    while (n < s.size && (!s.data[n] || !strchr(ends, s.data[n])))
        n++;
    return n;
}

char *zk__url_resolve(const zk_url *base, zk_str ref, zk_arena *arena)
{
    size_t room = base->scheme.size + ZK_URL_AUTHORITY_BYTES + base->path.size + base->query.size +
                  3 * ref.size + 16;
    if (ref.size > URL_BYTES_MAX || memchr(ref.data ? ref.data : "", 0, ref.size)) return NULL;
    char *text = zk_arena_alloc(arena, room);
    if (!text) return NULL;
    size_t n = 0;
    if (!has_scheme(ref)) {
        n += put(text, base->scheme);
        bool has_authority = ref.size >= 2 && ref.data[0] == '/' && ref.data[1] == '/';
        n += put(text + n, has_authority ? ZK_STR(":") : ZK_STR("://"));
        if (!has_authority) {
            n += zk_url_authority(base, text + n);
            size_t path_size = count_until(ref, "?#");
            size_t path = n;
            bool is_relative = path_size > 0 && ref.data[0] != '/';
            size_t kept = base->path.size;
            if (is_relative) {
                while (kept > 0 && base->path.data[kept - 1] != '/')
                    kept--;
            }
            if (path_size == 0 || is_relative) n += put(text + n, (zk_str){base->path.data, kept});
            n += put_encoded(text + n, (zk_str){ref.data, path_size});
            if (path_size > 0) n = path + remove_dots(text + path, n - path);
            ref = (zk_str){ref.data + path_size, ref.size - path_size};
            if (path_size == 0 && base->query.data && (ref.size == 0 || ref.data[0] == '#')) {
                text[n++] = '?';
                n += put(text + n, base->query);
            }
        }
    }
    n += put_encoded(text + n, ref);
    text[n] = '\0';
    return text;
}

/* ---- following ---- */

static bool is_same_origin(const zk_url *a, const zk_url *b)
{
    char left[ZK_URL_AUTHORITY_BYTES], right[ZK_URL_AUTHORITY_BYTES];
    zk_url_authority(a, left);
    zk_url_authority(b, right);
    return a->is_secure == b->is_secure && a->port == b->port && !strcmp(left, right);
}

static bool is_named(zk_str name, const char *const *names)
{
    for (; *names; names++) {
        if (zk__name_equal(name, *names, strlen(*names))) return true;
    }
    return false;
}

static void fields_drop(zk__ask *ask, bool is_other_origin, bool has_lost_body)
{
    static const char *const secrets[] = {"authorization", "cookie", "proxy-authorization", "host",
                                          NULL};
    static const char *const content[] = {"content-type",
                                          "content-encoding",
                                          "content-language",
                                          "content-location",
                                          "digest",
                                          "last-modified",
                                          NULL};
    size_t kept = 0;
    for (size_t i = 0; i < ask->field_count; i++) {
        zk_str name = ask->fields[i].name;
        if (is_other_origin && is_named(name, secrets)) continue;
        if (has_lost_body && is_named(name, content)) continue;
        ask->fields[kept++] = ask->fields[i];
    }
    ask->field_count = kept;
}

static bool is_method(const zk__ask *ask, const char *name)
{
    return ask->method.size == strlen(name) && !memcmp(ask->method.data, name, ask->method.size);
}

static bool becomes_get(const zk__ask *ask, int status)
{
    if (status == 303) return !is_method(ask, "GET") && !is_method(ask, "HEAD");
    return (status == 301 || status == 302) && is_method(ask, "POST");
}

int zk__fetch_redirect(zk_fetch *f)
{
    const zk__h1_answer *answer = zk__fetch_answer(f);
    int status = answer->status;
    bool is_redirect =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (!is_redirect || f->client->redirects_max < 0 || f->connect) return 0;
    const zk_field *to = zk__field_find(answer->fields, answer->field_count, "location");
    if (!to) return 0;
    zk__ask *ask = &f->ask;
    char *text = zk__url_resolve(&ask->url, to->value, &f->arena);
    zk_url url;
    if (!text || zk_url_parse((zk_str){text, strlen(text)}, &url) < 0) return 0;
    bool is_http = url.scheme.data[0] == 'h';
    if (!is_http || url.user_info.data || (ask->url.is_secure && !url.is_secure)) return 0;
    bool loses_body = becomes_get(ask, status);
    if (ask->is_streamed && !loses_body) return 0;
    if (f->redirects == f->client->redirects_max) {
        return zk_fail(ZK_E_HTTP_REDIRECTS, "%d redirects, the last one to %.300s", f->redirects,
                       text);
    }
    f->redirects++;
    fields_drop(ask, !is_same_origin(&ask->url, &url), loses_body);
    if (loses_body) {
        ask->method = ZK_STR("GET");
        ask->has_body = ask->is_streamed = false;
        ask->body_size = 0;
        ask->body_length = 0;
    }
    ask->url = url;
    ask->url_text = text;
    return 1;
}
