/*
 * The HTTP/1.1 engine, continued: the small grammars of RFC 9110, and of hosts in RFC 3986.
 */
#include <arpa/inet.h>
#include <string.h>

#include "http/h1_internal.h"
#include "http/h1_scan.h"

const uint8_t zk__h1_classes[256] = {
    ['!'] = TOKEN | HOST,
    ['#'] = TOKEN,
    ['$'] = TOKEN | HOST,
    ['%'] = TOKEN,
    ['&' ... '\''] = TOKEN | HOST,
    ['(' ... ')'] = HOST,
    ['*' ... '+'] = TOKEN | HOST,
    [','] = HOST,
    ['-' ... '.'] = TOKEN | HOST,
    ['0' ... '9'] = TOKEN | HOST | HEX | DIGIT,
    [';'] = HOST,
    ['='] = HOST,
    ['A' ... 'F'] = TOKEN | HOST | HEX,
    ['G' ... 'Z'] = TOKEN | HOST,
    ['^'] = TOKEN,
    ['_'] = TOKEN | HOST,
    ['`'] = TOKEN,
    ['a' ... 'f'] = TOKEN | HOST | HEX,
    ['g' ... 'z'] = TOKEN | HOST,
    ['|'] = TOKEN,
    ['~'] = TOKEN | HOST,
};

/* Returns the size of the bracketed IPv6 address that s begins with, 0 if it is none. */
static size_t ip_literal_size(zk_str s)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    const char *close = memchr(s.data, ']', s.size);
    size_t size = close != NULL ? (size_t)(close - s.data) - 1 : sizeof(address);
    if (size >= sizeof(address)) return 0;
    memcpy(address, s.data + 1, size);
    address[size] = '\0';
    return inet_pton(AF_INET6, address, &ignored) == 1 ? size + 2 : 0;
}

/* The size of the registered name or IPv4 address that s begins with, RFC 3986 section 3.2.2. */
static size_t reg_name_size(zk_str s)
{
    size_t i = 0;
    for (;;) {
        while (i < s.size && is_class(s.data[i], HOST))
            i++;
        if (s.size - i < 3 || s.data[i] != '%' || !is_class(s.data[i + 1], HEX) ||
            !is_class(s.data[i + 2], HEX))
            return i;
        i += 3;
    }
}

bool zk__h1_is_host(zk_str s)
{
    size_t i = s.size > 0 && s.data[0] == '[' ? ip_literal_size(s) : reg_name_size(s);
    if (i == s.size) return true;
    if (i == 0 || s.data[i] != ':') return false;
    unsigned port = 0;
    while (++i < s.size) {
        port = port * 10 + (unsigned)(s.data[i] - '0');
        if (!is_class(s.data[i], DIGIT) || port > UINT16_MAX) return false;
    }
    return true;
}

bool zk__h1_is_token(zk_str s)
{
    for (size_t i = 0; i < s.size; i++)
        if (!is_class(s.data[i], TOKEN)) return false;
    return s.size > 0;
}

bool zk__h1_is_field_value(zk_str s)
{
    if (s.size == 0) return true;
    if (is_blank(s.data[0]) || is_blank(s.data[s.size - 1])) return false;
    for (size_t at = 0; at < s.size; at += 16)
        if (zk__h1_controls_at(s.data, s.size, at) != 0) return false;
    return true;
}
