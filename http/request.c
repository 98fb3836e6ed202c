/*
 * What a handler asks of its request.
 */
#include <errno.h>
#include <string.h>

#include "http/exchange.h"
#include "http/shard.h"

static inline unsigned char lower(unsigned char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

bool zk__name_equal(zk_str a, const char *b, size_t b_size)
{
    if (a.size != b_size) return false;
    for (size_t i = 0; i < b_size; i++) {
        if (lower((unsigned char)a.data[i]) != lower((unsigned char)b[i])) return false;
    }
    return true;
}

const zk_field *zk__field_find(const zk_field *fields, size_t count, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < count; i++) {
        if (zk__name_equal(fields[i].name, name, size)) return &fields[i];
    }
    return NULL;
}

static zk_str value_of(const zk_field *field) { return field ? field->value : (zk_str){NULL, 0}; }

zk_str zk_request_method(const zk_request *req) { return req->method; }
zk_str zk_request_path(const zk_request *req) { return req->target.path; }
zk_str zk_request_query(const zk_request *req) { return req->target.query; }
zk_str zk_request_target(const zk_request *req) { return req->raw_target; }
zk_str zk_request_host(const zk_request *req) { return req->host; }
int zk_request_version(const zk_request *req) { return req->version; }
size_t zk_request_header_count(const zk_request *req) { return req->field_count; }
zk_field zk_request_header_at(const zk_request *req, size_t i) { return req->fields[i]; }
zk_arena *zk_request_arena(zk_request *req) { return &req->arena; }
void *zk_request_context(const zk_request *req) { return req->shard->config->context; }
int64_t zk_body_length(const zk_request *req) { return req->body_length; }

const zk_stream *zk_request_stream(const zk_request *req) { return req->stream; }

zk_str zk_request_scheme(const zk_request *req)
{
    return req->shard->config->tls ? ZK_STR("https") : ZK_STR("http");
}

bool zk_request_is_draining(const zk_request *req) { return req->shard->is_draining; }

int zk_request_peer(const zk_request *req, zk_addr *ret_addr)
{
    return zk_stream_peer(req->stream, ret_addr);
}

zk_str zk_request_header(const zk_request *req, const char *name)
{
    return value_of(zk__field_find(req->fields, req->field_count, name));
}

zk_str zk_request_trailer(const zk_request *req, const char *name)
{
    return value_of(zk__field_find(req->trailers, req->trailer_count, name));
}

zk_str zk_request_param(const zk_request *req, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < req->match.param_count; i++) {
        zk_str own = req->match.params[i].name;
        if (own.size == size && !memcmp(own.data, name, size)) return req->match.params[i].value;
    }
    return (zk_str){NULL, 0};
}

int zk_request_param_u64(const zk_request *req, const char *name, uint64_t *ret_number)
{
    zk_str text = zk_request_param(req, name);
    uint64_t n = 0;
    if (!text.size) return ZK_E_HTTP_PATH;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9 || n > (UINT64_MAX - digit) / 10) return ZK_E_HTTP_PATH;
        n = n * 10 + digit;
    }
    *ret_number = n;
    return 0;
}

int zk_request_query_get(zk_request *req, const char *name, zk_str *ret_value)
{
    return zk__query_find(req->target.query, (zk_str){name, strlen(name)}, &req->arena, ret_value);
}

/* ---- the body ---- */

static const zk_time rate_grace = ZK_SEC(5);

/* How long the next read may wait; *ret_code is what it then fails with. */
static zk_time wait_limit(const zk_request *req, int *ret_code)
{
    const zk_server *config = req->shard->config;
    zk_time limit = INT64_MAX;
    *ret_code = ZK_E_HTTP_TIMEOUT;
    if (config->body_timeout_ms >= 0) limit = ZK_MS(config->body_timeout_ms);
    if (config->body_rate_min_bytes_per_s > 0) {
        uint64_t seconds = req->body_taken / (uint64_t)config->body_rate_min_bytes_per_s;
        zk_time allowed = rate_grace + ZK_SEC(seconds > 1000000 ? 1000000 : seconds);
        zk_time left = allowed > req->body_waited ? allowed - req->body_waited : 0;
        if (left < limit) {
            limit = left;
            *ret_code = ZK_E_SLOW;
        }
    }
    return limit;
}

ssize_t zk__body_wait(zk_request *req, ssize_t (*wait)(void *arg), void *arg)
{
    int code;
    zk_time began = zk_now();
    zk_scope limit __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&limit, wait_limit(req, &code));
    ssize_t n = wait(arg);
    if (n == -ETIMEDOUT && !limit.parent->reason) n = code;
    if (n == -ECANCELED && limit.parent->reason) n = limit.parent->reason;
    req->body_waited += zk_now() - began;
    return n;
}

static ssize_t body_read(zk_request *req, void *buf, size_t size, uint64_t limit)
{
    if (req->body_error) return req->body_error;
    if (req->is_body_done || !size) return 0;
    ssize_t n = req->body_length > 0 && (uint64_t)req->body_length > limit
                    ? ZK_E_HTTP_BODY_TOO_LARGE
                    : req->transport->body_read(req, buf, size);
    if (n > 0) {
        req->body_taken += (uint64_t)n;
        if (req->body_taken > limit) n = ZK_E_HTTP_BODY_TOO_LARGE;
    }
    /* A scope of the handler's may end and the body still be read; everything else is the end of
     * it. */
    if (n < 0 && n != -ECANCELED && n != -ETIMEDOUT && n != -ENOMEM) req->body_error = (int)n;
    return n;
}

ssize_t zk_body_read(zk_request *req, void *buf, size_t size)
{
    return body_read(req, buf, size, req->shard->config->body_stream_bytes_max);
}

/* A body of unknown length, in a block of the arena that doubles. */
static int body_collect(zk_request *req, zk_str *ret_body)
{
    uint64_t limit = req->shard->config->body_bytes_max;
    size_t capacity = 4096, size = 0;
    char *data = zk_arena_alloc(&req->arena, capacity);
    while (data) {
        ssize_t n = body_read(req, data + size, capacity - size, limit);
        if (n < 0) return (int)n;
        if (n == 0) {
            *ret_body = (zk_str){data, size};
            return 0;
        }
        size += (size_t)n;
        if (size < capacity) continue;
        char *larger = zk_arena_alloc(&req->arena, 2 * capacity);
        if (larger) memcpy(larger, data, size);
        data = larger;
        capacity *= 2;
    }
    return -ENOMEM;
}

int zk_body(zk_request *req, zk_str *ret_body)
{
    if (req->body_error) return req->body_error;
    if (req->body_length < 0) return body_collect(req, ret_body);
    if ((uint64_t)req->body_length > req->shard->config->body_bytes_max) {
        return req->body_error = ZK_E_HTTP_BODY_TOO_LARGE;
    }
    size_t size = (size_t)req->body_length - (size_t)req->body_taken;
    if (!size) {
        *ret_body = (zk_str){"", 0};
        return 0;
    }
    if (req->transport->body_view(req, ret_body)) return 0;
    char *data = zk_arena_alloc(&req->arena, size);
    if (!data) return -ENOMEM;
    for (size_t have = 0; have < size;) {
        ssize_t n = body_read(req, data + have, size - have, UINT64_MAX);
        if (n < 0) return (int)n;
        if (n == 0) return req->body_error = ZK_E_CLOSED;
        have += (size_t)n;
    }
    *ret_body = (zk_str){data, size};
    return 0;
}
