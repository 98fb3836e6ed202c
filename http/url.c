/*
 * URLs, see <zokio/url.h>: one pass from left to right, without memory of its own.
 */
#include <zokio/url.h>

#include <arpa/inet.h>
#include <string.h>

#include "http/client.h"

enum { HOST_BYTES_MAX = 253, LABEL_BYTES_MAX = 63 };

/* RFC 3986 section 3.3 and 3.4: pchar without '%', and '/' and '?'. */
enum { NAME = 1, USER = 2, PATH = 4, QUERY = 8, HEX = 16, DIGIT = 32 };

static const uint8_t classes[256] = {
    ['!'] = USER | PATH | QUERY,
    ['$'] = USER | PATH | QUERY,
    ['&' ... ','] = USER | PATH | QUERY,
    ['-' ... '.'] = NAME | USER | PATH | QUERY,
    ['/'] = PATH | QUERY,
    ['0' ... '9'] = NAME | USER | PATH | QUERY | HEX | DIGIT,
    [':'] = USER | PATH | QUERY,
    [';'] = USER | PATH | QUERY,
    ['='] = USER | PATH | QUERY,
    ['?'] = QUERY,
    ['@'] = PATH | QUERY,
    ['A' ... 'F'] = NAME | USER | PATH | QUERY | HEX,
    ['G' ... 'Z'] = NAME | USER | PATH | QUERY,
    ['_'] = NAME | USER | PATH | QUERY,
    ['a' ... 'f'] = NAME | USER | PATH | QUERY | HEX,
    ['g' ... 'z'] = NAME | USER | PATH | QUERY,
    ['~'] = USER | PATH | QUERY,
};

static bool is_class(char c, unsigned class) { return (classes[(unsigned char)c] & class) != 0; }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

/* Whether all of s is of that class or percent sequences. */
static bool is_made_of(zk_str s, unsigned class)
{
    for (size_t i = 0; i < s.size; i++) {
        if (is_class(s.data[i], class)) continue;
        if (s.data[i] != '%' || s.size - i < 3 || !is_class(s.data[i + 1], HEX) ||
            !is_class(s.data[i + 2], HEX)) {
            return false;
        }
        i += 2;
    }
    return true;
}

/* Takes what stands before the first of `ends` off the text, or all of it. */
static inline zk_str take_until(zk_str *text, const char ends[3])
{
    size_t n = 0;
    while (n < text->size && text->data[n] != ends[0] && text->data[n] != ends[1] &&
           text->data[n] != ends[2])
        n++;
    zk_str part = {text->data, n};
    *text = (zk_str){text->data + n, text->size - n};
    return part;
}

static bool take_scheme(zk_str *text, zk_url *url)
{
    static const struct {
        zk_str name;
        uint16_t port;
    } schemes[] = {
        {ZK_STR("http"), 80}, {ZK_STR("https"), 443}, {ZK_STR("ws"), 80}, {ZK_STR("wss"), 443}};
    zk_str written = take_until(text, ":::");
    if (text->size < 3 || memcmp(text->data, "://", 3)) return false;
    *text = (zk_str){text->data + 3, text->size - 3};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        zk_str name = schemes[i].name;
        size_t same = 0;
        while (same < name.size && same < written.size &&
               lower(written.data[same]) == name.data[same])
            same++;
        if (same != name.size || same != written.size) continue;
        url->scheme = name;
        url->port = schemes[i].port;
        url->is_secure = url->port == 443;
        return true;
    }
    return false;
}

static bool is_address(int family, zk_str s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    if (!s.size || s.size >= sizeof text || memchr(s.data, 0, s.size)) return false;
    memcpy(text, s.data, s.size);
    text[s.size] = 0;
    return inet_pton(family, text, &ignored) == 1;
}

/* Readers disagree on "127.1", "0x7f.0.0.1" and "010.0.0.1": what ends like a number is to be an
 * address in the one form that all agree on. */
static bool ends_in_number(zk_str last_label)
{
    size_t i = 0;
    if (last_label.size >= 2 && last_label.data[0] == '0' && lower(last_label.data[1]) == 'x') {
        for (i = 2; i < last_label.size && is_class(last_label.data[i], HEX);)
            i++;
        return i == last_label.size;
    }
    while (i < last_label.size && is_class(last_label.data[i], DIGIT))
        i++;
    return i == last_label.size;
}

static bool is_name(zk_str s)
{
    if (s.size && s.data[s.size - 1] == '.') s.size--; /* the root, named */
    if (!s.size || s.size > HOST_BYTES_MAX) return false;
    size_t label = 0;
    for (size_t i = 0; i <= s.size; i++) {
        if (i < s.size && s.data[i] != '.') {
            if (!is_class(s.data[i], NAME)) return false;
            continue;
        }
        if (i == label || i - label > LABEL_BYTES_MAX) return false;
        if (i == s.size && ends_in_number((zk_str){s.data + label, i - label})) {
            return is_address(AF_INET, s);
        }
        label = i + 1;
    }
    return true;
}

static bool take_port(zk_str text, zk_url *url)
{
    unsigned port = 0;
    if (text.size < 1 || text.size > 5 || text.data[0] == '0') return false;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_class(text.data[i], DIGIT)) return false;
        port = port * 10 + (unsigned)(text.data[i] - '0');
    }
    url->port = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool take_authority(zk_str text, zk_url *url)
{
    const char *at = memchr(text.data, '@', text.size);
    if (at) {
        url->user_info = (zk_str){text.data, (size_t)(at - text.data)};
        text = (zk_str){at + 1, text.size - url->user_info.size - 1};
        if (!is_made_of(url->user_info, USER)) return false;
    }
    if (text.size && text.data[0] == '[') {
        const char *close = memchr(text.data, ']', text.size);
        if (!close) return false;
        url->is_ipv6 = true;
        url->host = (zk_str){text.data + 1, (size_t)(close - text.data) - 1};
        text = (zk_str){close + 1, text.size - url->host.size - 2};
        if (!is_address(AF_INET6, url->host)) return false;
    } else {
        url->host = take_until(&text, ":::");
        if (!is_name(url->host)) return false;
    }
    if (!text.size) return true;
    return text.data[0] == ':' && take_port((zk_str){text.data + 1, text.size - 1}, url);
}

int zk_url_parse(zk_str text, zk_url *ret_url)
{
    zk_url url = {.path = ZK_STR("/")};
    if (!take_scheme(&text, &url)) return ZK_E_HTTP_URL;
    if (!take_authority(take_until(&text, "/?#"), &url)) return ZK_E_HTTP_URL;
    zk_str path = take_until(&text, "?##");
    if (path.size) url.path = path;
    if (!is_made_of(path, PATH)) return ZK_E_HTTP_URL;
    if (text.size && text.data[0] == '?') {
        text = (zk_str){text.data + 1, text.size - 1};
        url.query = take_until(&text, "###");
        if (!is_made_of(url.query, QUERY)) return ZK_E_HTTP_URL;
    }
    if (text.size && !is_made_of((zk_str){text.data + 1, text.size - 1}, QUERY)) {
        return ZK_E_HTTP_URL;
    }
    *ret_url = url;
    return 0;
}

/* By hand: the client does it twice per request, and printf would be most of what that costs. */
static size_t host_write(const zk_url *url, bool has_port, char text[ZK_URL_AUTHORITY_BYTES])
{
    char *to = text;
    if (url->is_ipv6) *to++ = '[';
    for (size_t i = 0; i < url->host.size; i++)
        *to++ = lower(url->host.data[i]);
    if (url->is_ipv6) *to++ = ']';
    if (has_port) {
        char digits[5];
        int count = 0;
        for (unsigned left = url->port; left || !count; left /= 10)
            digits[count++] = (char)('0' + left % 10);
        *to++ = ':';
        while (count)
            *to++ = digits[--count];
    }
    *to = '\0';
    return (size_t)(to - text);
}

size_t zk_url_authority(const zk_url *url, char text[ZK_URL_AUTHORITY_BYTES])
{
    return host_write(url, url->port != (url->is_secure ? 443 : 80), text);
}

size_t zk__url_address(const zk_url *url, char text[ZK_URL_AUTHORITY_BYTES])
{
    return host_write(url, true, text);
}
