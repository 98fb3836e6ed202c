/*
 * What a handler says in its response, and its one way through the states
 *
 *   NONE --respond--> ENDED          NONE --begin--> BEGUN --write...--end--> ENDED
 *
 * An error of the client's connection sticks: every later call returns it.
 */
#include <errno.h>
#include <string.h>

#include "http/exchange.h"
#include "http/h1.h"
#include "http/shard.h"

/* ---- fields ---- */

static int field_add(zk_response *res, zk__field_list *list, const char *name, zk_str value)
{
    zk_arena *arena = &res->req->arena;
    res->has_fields = true;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 8;
        zk_field *fields = zk_arena_alloc(arena, capacity * sizeof *fields);
        if (!fields) return -ENOMEM;
        if (list->count) memcpy(fields, list->fields, list->count * sizeof *fields);
        list->fields = fields;
        list->capacity = capacity;
    }
    size_t name_size = strlen(name);
    char *own_name = zk_arena_copy(arena, name, name_size);
    char *own_value = zk_arena_copy(arena, value.data, value.size);
    if (!own_name || !own_value) return -ENOMEM;
    list->fields[list->count++] = (zk_field){{own_name, name_size}, {own_value, value.size}};
    return 0;
}

/* Fields that frame the message or are written for every one. */
static bool is_ours(zk_str name)
{
    static const zk_str ours[] = {
        ZK_STR("content-length"),
        ZK_STR("transfer-encoding"),
        ZK_STR("connection"),
        ZK_STR("keep-alive"),
        ZK_STR("upgrade"),
        ZK_STR("trailer"),
        ZK_STR("date"),
        ZK_STR("server"),
        ZK_STR("te"),
        ZK_STR("proxy-connection"),
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (zk__name_equal(name, ours[i].data, ours[i].size)) return true;
    }
    return false;
}

static int field_check(const char *name, zk_str value)
{
    zk_str own = {name, strlen(name)};
    bool is_valid = zk__h1_is_token(own) && zk__h1_is_field_value(value) && !is_ours(own);
    return is_valid ? 0 : ZK_E_HTTP_FIELD;
}

int zk_response_header_n(zk_response *res, const char *name, zk_str value)
{
    if (res->state != ZK__RESPONSE_NONE) return ZK_E_HTTP_STATE;
    int rc = field_check(name, value);
    if (rc < 0) return rc;
    if (!zk__name_equal(ZK_STR("content-type"), name, strlen(name))) {
        return field_add(res, &res->fields, name, value);
    }
    char *type = zk_arena_copy(&res->req->arena, value.data, value.size);
    if (!type) return -ENOMEM;
    res->content_type = (zk_str){type, value.size};
    res->has_fields = true;
    return 0;
}

int zk__response_header(zk_response *res, const char *name, zk_str value)
{
    return field_add(res, &res->fields, name, value);
}

int zk_response_header(zk_response *res, const char *name, const char *value)
{
    return zk_response_header_n(res, name, (zk_str){value, strlen(value)});
}

int zk_response_trailer(zk_response *res, const char *name, const char *value)
{
    if (res->state != ZK__RESPONSE_BEGUN || res->length >= 0) return ZK_E_HTTP_STATE;
    zk_str text = {value, strlen(value)};
    int rc = field_check(name, text);
    return rc < 0 ? rc : field_add(res, &res->trailers, name, text);
}

/* ---- sending ---- */

/* What every sending function of the transport returned: errors stick. */
static int sent(zk_response *res, int rc)
{
    if (ZK_UNLIKELY(rc < 0)) res->error = rc;
    return rc;
}

static int begin(zk_response *res, int status, int64_t length)
{
    if (ZK_UNLIKELY(res->error)) return res->error;
    if (ZK_UNLIKELY(res->state != ZK__RESPONSE_NONE)) return ZK_E_HTTP_STATE;
    if (ZK_UNLIKELY(status < 200 || status > 999)) return -EINVAL;
    res->status = status;
    res->length = length;
    if (status == 204 || status == 304 || status == 205) res->is_bodiless = true;
    if (status == 205) res->length = 0; /* RFC 9110 section 15.3.6 */
    return 0;
}

int zk_respond(zk_response *res, int status, const char *content_type, const void *data,
               size_t size)
{
    int rc = begin(res, status, (int64_t)size);
    if (ZK_UNLIKELY(rc < 0)) return rc;
    res->state = ZK__RESPONSE_ENDED;
    res->written = size;
    if (!data) data = "";
    return sent(res, res->req->transport->begin(res, content_type, data, size, true));
}

int zk_respond_text(zk_response *res, int status, const char *text)
{
    return zk_respond(res, status, "text/plain; charset=utf-8", text, strlen(text));
}

int zk_respond_json(zk_response *res, int status, const char *json)
{
    return zk_respond(res, status, "application/json", json, strlen(json));
}

int zk_respond_html(zk_response *res, int status, const char *html)
{
    return zk_respond(res, status, "text/html; charset=utf-8", html, strlen(html));
}

int zk_respond_status(zk_response *res, int status)
{
    char page[80];
    int size = snprintf(page, sizeof page, "%d %s\n", status, zk_status_text(status));
    return zk_respond(res, status, "text/plain; charset=utf-8", page, (size_t)size);
}

int zk_response_begin(zk_response *res, int status, const char *content_type, int64_t length)
{
    if (length < ZK_LENGTH_UNKNOWN) return -EINVAL;
    int rc = begin(res, status, length);
    if (rc < 0) return rc;
    res->state = ZK__RESPONSE_BEGUN;
    return sent(res, res->req->transport->begin(res, content_type, NULL, 0, false));
}

int zk_response_write(zk_response *res, const void *data, size_t size)
{
    if (res->error) return res->error;
    if (res->state != ZK__RESPONSE_BEGUN) return ZK_E_HTTP_STATE;
    if (res->length >= 0 && size > (uint64_t)res->length - res->written) return ZK_E_HTTP_LENGTH;
    if (!size) return 0;
    res->written += size;
    if (res->is_bodiless) return 0;
    return sent(res, res->req->transport->write(res, data, size));
}

ssize_t zk__response_send_file(zk_response *res, zk_file *file, int64_t offset, uint64_t size)
{
    if (res->error) return res->error;
    ZK_ASSERT(res->state == ZK__RESPONSE_BEGUN && !res->is_bodiless);
    ZK_ASSERT(res->length >= 0 && size <= (uint64_t)res->length - res->written);
    if (!res->req->transport->send_file) return -EOPNOTSUPP;
    ssize_t n = res->req->transport->send_file(res, file, offset, size);
    if (n == -EOPNOTSUPP) return n;
    if (n > 0) res->written += (uint64_t)n;
    return n < 0 ? sent(res, (int)n) : n;
}

int zk_response_flush(zk_response *res)
{
    if (res->error) return res->error;
    return sent(res, res->req->transport->flush(res));
}

int zk_response_end(zk_response *res)
{
    if (res->error) return res->error;
    if (res->state != ZK__RESPONSE_BEGUN) return ZK_E_HTTP_STATE;
    if (res->length >= 0 && res->written != (uint64_t)res->length && !res->is_bodiless) {
        return sent(res, ZK_E_HTTP_LENGTH);
    }
    res->state = ZK__RESPONSE_ENDED;
    return sent(res, res->req->transport->end(res));
}

void zk_response_close(zk_response *res) { res->is_closing = true; }

int zk_response_status(const zk_response *res)
{
    return res->state == ZK__RESPONSE_NONE ? 0 : res->status;
}
