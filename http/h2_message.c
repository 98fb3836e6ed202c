/*
 * Whether a request is well-formed: see h2_message.h. What is not is an error of its stream.
 */
#include "http/h2_message.h"

#include <string.h>

#include "http/h1.h"
#include "http/h1_internal.h"

static bool is_text(zk_str text, const char *other, size_t size)
{
    return text.size == size && !memcmp(text.data, other, size);
}
#define SAYS(text, other) is_text((text), (other), sizeof(other) - 1)

/* ---- pseudo-fields ---- */

/* RFC 3986 section 3.1. */
static bool is_scheme(zk_str value)
{
    if (SAYS(value, "http") || SAYS(value, "https")) return true;
    for (size_t i = 0; i < value.size; i++) {
        char c = value.data[i], letter = (char)(c | 0x20);
        bool is_other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if ((letter < 'a' || letter > 'z') && (!i || !is_other)) return false;
    }
    return true;
}

static bool say(zk__h2_stream *s, enum zk__h2_said what)
{
    bool is_first = !(s->said & what);
    s->said |= (uint16_t)what;
    return is_first;
}

bool zk__h2_pseudo_notice(zk__h2_stream *s, zk_str name, zk_str value)
{
    if (s->said & ZK__H2_SAID_FIELD || !value.size) return false;
    switch (name.size) {
    case 5:
        if (!SAYS(name, ":path")) return false;
        s->req.raw_target = value;
        return say(s, ZK__H2_SAID_PATH); /* what is in it zk__target_parse finds out */
    case 7:
        if (SAYS(name, ":method")) {
            s->req.method = value;
            return say(s, ZK__H2_SAID_METHOD);
        }
        if (!SAYS(name, ":scheme")) return false;
        s->scheme = value;
        return say(s, ZK__H2_SAID_SCHEME) && is_scheme(value);
    case 9:
        if (!SAYS(name, ":protocol")) return false;
        s->protocol = value;
        return say(s, ZK__H2_SAID_PROTOCOL) && zk__h1_is_token(value);
    case 10:
        if (!SAYS(name, ":authority")) return false;
        s->req.host = value;
        return say(s, ZK__H2_SAID_AUTHORITY);
    default: return false;
    }
}

/* ---- fields ---- */

/* A token in lower case (RFC 9113 section 8.2). */
static bool is_name(zk_str name)
{
    bool is_good = name.size > 0;
    for (size_t i = 0; i < name.size; i++)
        is_good &= is_class(name.data[i], TOKEN) && (name.data[i] < 'A' || name.data[i] > 'Z');
    return is_good;
}

static bool length_notice(zk__h2_stream *s, zk_str value)
{
    int64_t n = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (!is_class(value.data[i], DIGIT) || n > (INT64_MAX - (value.data[i] - '0')) / 10) {
            return false;
        }
        n = n * 10 + (value.data[i] - '0');
    }
    if (!value.size || s->req.body_length >= 0) return false;
    s->req.body_length = n;
    return true;
}

static bool host_notice(zk__h2_stream *s, zk_str value)
{
    *(s->said & ZK__H2_SAID_AUTHORITY ? &s->other_host : &s->req.host) = value;
    return say(s, ZK__H2_SAID_HOST) && value.size;
}

/* What a connection of HTTP/1.1 is told by fields (RFC 9113 section 8.2.2), and what the rest of
 * the house wants to know. */
static bool known_notice(zk__h2_stream *s, zk_str name, zk_str value, bool is_trailer)
{
    switch (name.size) {
    case 2: return !SAYS(name, "te") || zk__name_equal(ZK_STR("trailers"), value.data, value.size);
    case 4: return is_trailer || !SAYS(name, "host") || host_notice(s, value);
    case 6:
        /* Other expectations are ignored, as for HTTP/1.1. */
        if (SAYS(name, "expect") && !is_trailer) {
            s->owes_continue = zk__name_equal(ZK_STR("100-continue"), value.data, value.size);
        }
        return true;
    case 7: return !SAYS(name, "upgrade");
    case 8:
        if (SAYS(name, "priority") && !is_trailer) say(s, ZK__H2_SAID_PRIORITY);
        return true;
    case 10: return !SAYS(name, "connection") && !SAYS(name, "keep-alive");
    case 14: return !SAYS(name, "content-length") || (!is_trailer && length_notice(s, value));
    case 16: return !SAYS(name, "proxy-connection");
    case 17: return !SAYS(name, "transfer-encoding");
    default: return true;
    }
}

bool zk__h2_is_plain(zk_str name)
{
    switch (name.size) {
    case 4: return !SAYS(name, "host");
    case 6: return !SAYS(name, "expect");
    case 8: return !SAYS(name, "priority");
    case 9: return !SAYS(name, ":protocol");
    case 14: return !SAYS(name, "content-length");
    default: return true;
    }
}

bool zk__h2_field_notice(zk__h2_stream *s, const zk_field *field, bool is_name_known,
                         bool is_trailer)
{
    zk_str name = field->name, value = field->value;
    s->said |= ZK__H2_SAID_FIELD;
    if (!is_name_known && !is_name(name)) return false;
    return zk__h1_is_field_value(value) && known_notice(s, name, value, is_trailer);
}

/* ---- the whole ---- */

static bool is_web(zk_str scheme)
{
    return zk__name_equal(ZK_STR("http"), scheme.data, scheme.size) ||
           zk__name_equal(ZK_STR("https"), scheme.data, scheme.size);
}

bool zk__h2_head_check(zk__h2_stream *s)
{
    const unsigned whole = ZK__H2_SAID_METHOD | ZK__H2_SAID_SCHEME | ZK__H2_SAID_PATH;
    const unsigned said = s->said;
    if (ZK_UNLIKELY(SAYS(s->req.method, "CONNECT"))) {
        if (!(said & ZK__H2_SAID_AUTHORITY)) return false;
        if (!(said & ZK__H2_SAID_PROTOCOL)) { /* RFC 9113 section 8.5 */
            s->req.body_length = -1;
            return !(said & (ZK__H2_SAID_SCHEME | ZK__H2_SAID_PATH));
        }
    } else if (said & ZK__H2_SAID_PROTOCOL) { /* RFC 8441 section 4 */
        return false;
    }
    if ((said & whole) != whole) return false;
    if (!(said & (ZK__H2_SAID_AUTHORITY | ZK__H2_SAID_HOST))) return false;
    zk_str path = s->req.raw_target;
    bool is_usual = path.data[0] == '/' || (SAYS(path, "*") && SAYS(s->req.method, "OPTIONS"));
    return is_usual || !is_web(s->scheme);
}

static bool is_method(zk_str method)
{
    return SAYS(method, "GET") || SAYS(method, "POST") || zk__h1_is_token(method);
}

/* Clients ask one host, over and over. */
static bool is_host(zk__h2 *h2, zk_str host)
{
    if (host.size && host.size == h2->host_size && !memcmp(host.data, h2->host, host.size)) {
        return true;
    }
    if (!zk__h1_is_host(host)) return false;
    if (host.size <= sizeof h2->host) {
        h2->host_size = (uint8_t)host.size;
        memcpy(h2->host, host.data, host.size);
    }
    return true;
}

/* Methods are tokens and case matters; what no HTTP/1.1 request could say is refused (RFC 9110
 * section 9.1). So is what two readers might take for different hosts (RFC 9113 section 8.3.1). */
void zk__h2_request_check(zk__h2_stream *s)
{
    zk_str host = s->req.host, *other = &s->other_host;
    bool is_valid = is_method(s->req.method) && is_host(s->h2, host) &&
                    (!other->data || zk__name_equal(*other, host.data, host.size));
    if (!s->refused && !is_valid) s->refused = ZK_E_HTTP_SYNTAX;
    if (!s->refused && s->req.raw_target.size > s->h2->shard->config->target_bytes_max) {
        s->refused = ZK_E_HTTP_URI_TOO_LONG;
    }
}

/* A member of the dictionary, without its parameters; others' are ignored. returns whether it is
 * valid. */
static bool member_take(zk_str member, nghttp2_extpri *priority)
{
    if (!member.size) return false;
    char key = member.data[0];
    bool is_value = member.size > 1 && member.data[1] == '=';
    if (key == 'u' && is_value) {
        priority->urgency = (uint32_t)(member.data[member.size - 1] - '0');
        return member.size == 3 && priority->urgency <= NGHTTP2_EXTPRI_URGENCY_LOW;
    }
    if (key == 'i' && (is_value || member.size == 1)) {
        priority->inc = member.size == 1 || SAYS(member, "i=?1");
        return priority->inc || SAYS(member, "i=?0");
    }
    return (key >= 'a' && key <= 'z') || key == '*';
}

static bool dictionary_take(zk_str text, nghttp2_extpri *priority)
{
    for (size_t i = 0; i <= text.size;) {
        const char *begin = text.data + i;
        const char *comma = memchr(begin, ',', text.size - i);
        size_t size = comma ? (size_t)(comma - begin) : text.size - i;
        i += size + 1;
        while (size && is_blank(*begin))
            begin++, size--;
        while (size && is_blank(begin[size - 1]))
            size--;
        const char *parameters = size ? memchr(begin, ';', size) : NULL;
        if (parameters) size = (size_t)(parameters - begin);
        if (!member_take((zk_str){begin, size}, priority)) return false;
    }
    return true;
}

bool zk__h2_priority_of(const zk__h2_stream *s, nghttp2_extpri *ret_priority)
{
    nghttp2_extpri priority = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY};
    for (size_t i = 0; i < s->req.field_count; i++) {
        const zk_field *field = &s->req.fields[i];
        bool is_meant = SAYS(field->name, "priority");
        if (is_meant && !dictionary_take(field->value, &priority)) return false;
    }
    *ret_priority = priority;
    return true;
}
