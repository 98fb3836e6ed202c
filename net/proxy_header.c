/*
 * The header of the PROXY protocol, see proxy_header.h.
 *
 *   version 1:  PROXY TCP4 192.0.2.1 192.0.2.2 51000 443\r\n         (UNKNOWN: whatever follows)
 *   version 2:  signature:12 version,command:1 family,transport:1 length:2 addresses TLVs
 *
 * There is no guessing: whatever is not exactly one of these is refused, at the first byte that
 * cannot be right.
 */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <zokio/error.h>

enum {
    SIGNATURE_BYTES = 12,
    V2_HEAD_BYTES = 16,
    V2_VERSION = 0x20,
    V2_LOCAL = 0,
    V2_PROXY = 1,
    V2_UNSPEC = 0,
    V2_INET = 1,
    V2_INET6 = 2,
    V2_UNIX = 3,
    V2_DGRAM = 2, /* the last transport: what was a datagram before a proxy made a stream of it */
    TLV_HEAD_BYTES = 3,
    /* "PROXY UNKNOWN\r\n": no header is shorter */
    SHORTEST = 15,
};

static const char signature[SIGNATURE_BYTES + 1] = "\r\n\r\n\0\r\nQUIT\n";
static const char word[] = "PROXY ";

/* ---- addresses ---- */

static zk_addr addr_v4(const void *address, uint16_t port)
{
    zk_addr a = {.size = sizeof a.in};
    a.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
    memcpy(&a.in.sin_addr, address, 4);
    return a;
}

static zk_addr addr_v6(const void *address, uint16_t port)
{
    zk_addr a = {.size = sizeof a.in6};
    a.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    memcpy(&a.in6.sin6_addr, address, 16);
    return a;
}

/* A path ends with a NUL if there is room for one; an abstract name begins with one. */
static zk_addr addr_unix(const char path[108])
{
    zk_addr a = {.un.sun_family = AF_UNIX};
    size_t begin = path[0] ? 0 : 1, size = begin + strnlen(path + begin, 108 - begin);
    if (size == 1 && begin) size = 0; /* no name at all */
    memcpy(a.un.sun_path, path, size);
    size_t nul = size && !begin && size < sizeof a.un.sun_path;
    a.size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + nul);
    return a;
}

/* ---- version 1 ---- */

/* 0 to 65535, without leading zeros. returns false: it is none. */
static bool port_parse(zk_str text, uint16_t *ret_port)
{
    unsigned port = 0;
    if (text.size < 1 || text.size > 5 || (text.size > 1 && *text.data == '0')) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        port = port * 10 + (unsigned)(text.data[i] - '0');
    }
    if (port > UINT16_MAX) return false;
    *ret_port = htons((uint16_t)port);
    return true;
}

static bool address_parse(int family, zk_str text, uint8_t bytes[16])
{
    char copy[INET6_ADDRSTRLEN];
    if (text.size >= sizeof copy || memchr(text.data, '\0', text.size)) return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return inet_pton(family, copy, bytes) == 1;
}

/* What is between two spaces, and the end of the line. */
enum { PROTOCOL, SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, PARTS };

static bool parts_parse(const zk_str parts[PARTS], zk__proxy_header *h)
{
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
    bool is_v6 = parts[PROTOCOL].data[3] == '6';
    int family = is_v6 ? AF_INET6 : AF_INET;
    bool is_right = address_parse(family, parts[SOURCE], from) &&
                    address_parse(family, parts[DESTINATION], to) &&
                    port_parse(parts[SOURCE_PORT], &from_port) &&
                    port_parse(parts[DESTINATION_PORT], &to_port);
    if (!is_right) return false;
    h->from = is_v6 ? addr_v6(from, from_port) : addr_v4(from, from_port);
    h->to = is_v6 ? addr_v6(to, to_port) : addr_v4(to, to_port);
    return true;
}

/* Splits at the spaces. returns how many parts there are; PARTS + 1: too many. */
static int split(zk_str line, zk_str parts[PARTS])
{
    int count = 0;
    const char *end = line.data + line.size;
    for (const char *at = line.data;; at++) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        if (count == PARTS) return PARTS + 1;
        parts[count++] = (zk_str){at, (size_t)((space ? space : end) - at)};
        if (!space) return count;
        at = space;
    }
}

/* How many bytes a line that begins so has beyond these at least, 0: it cannot be one. */
static size_t rest_of(const char *data, size_t size)
{
    /* From the beginning of a part on, if all are as short as can be: "1.1.1.1" or "::", "1". */
    static const size_t v4[] = {0, 21, 13, 5, 3}, v6[] = {0, 11, 8, 5, 3};
    static const char *const openings[] = {"PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"};
    int which = 0;
    while (which < 3) {
        size_t n = strlen(openings[which]);
        if (!memcmp(openings[which], data, n < size ? n : size)) break;
        which++;
    }
    if (which == 3) return 0;
    if (size < SHORTEST) return SHORTEST - size;
    size_t line_end = data[size - 1] == '\r' ? 1 : 2;
    if (which == 2) return line_end;
    zk_str parts[PARTS];
    int count = split((zk_str){data + sizeof word - 1, size - (sizeof word - 1)}, parts);
    if (count > PARTS) return 0;
    size_t rest = (which ? v6 : v4)[count - 1], begun = parts[count - 1].size;
    return begun + line_end < rest ? rest - begun : line_end;
}

static ptrdiff_t v1_parse(const char *data, size_t size, size_t *ret_wanted, zk__proxy_header *h)
{
    size_t seen = size < ZK__PROXY_V1_BYTES_MAX ? size : ZK__PROXY_V1_BYTES_MAX;
    const char *end = memmem(data, seen, "\r\n", 2);
    size_t rest = rest_of(data, end ? (size_t)(end - data) : seen);
    if (!rest) return ZK_E_PROXY_HEADER;
    if (!end) {
        if (seen == ZK__PROXY_V1_BYTES_MAX) return ZK_E_PROXY_HEADER;
        *ret_wanted = rest;
        return 0;
    }
    size_t begin = sizeof word - 1;
    zk_str parts[PARTS], line = {data + begin, (size_t)(end - data) - begin};
    zk__proxy_header header = {.version = 1};
    header.is_own = line.size >= 7 && line.data[0] == 'U';
    bool is_right = header.is_own ? line.size == 7 || line.data[7] == ' '
                                  : split(line, parts) == PARTS && parts_parse(parts, &header);
    if (!is_right) return ZK_E_PROXY_HEADER;
    *h = header;
    return end + 2 - data;
}

/* ---- version 2 ---- */

static bool are_tlvs(const uint8_t *data, size_t size)
{
    while (size) {
        if (size < TLV_HEAD_BYTES) return false;
        size_t whole = TLV_HEAD_BYTES + ((size_t)data[1] << 8 | data[2]);
        if (whole > size) return false;
        data += whole;
        size -= whole;
    }
    return true;
}

static uint16_t port_at(const uint8_t *data)
{
    uint16_t port;
    memcpy(&port, data, 2);
    return port;
}

/* returns how many bytes the addresses take; -1: there are not that many. */
static int addresses_take(int family, const uint8_t *data, size_t size, zk__proxy_header *h)
{
    static const uint8_t sizes[] = {[V2_INET] = 12, [V2_INET6] = 36, [V2_UNIX] = 216};
    if (size < sizes[family]) return -1;
    if (family == V2_INET) {
        h->from = addr_v4(data, port_at(data + 8));
        h->to = addr_v4(data + 4, port_at(data + 10));
    } else if (family == V2_INET6) {
        h->from = addr_v6(data, port_at(data + 32));
        h->to = addr_v6(data + 16, port_at(data + 34));
    } else {
        h->from = addr_unix((const char *)data);
        h->to = addr_unix((const char *)data + 108);
    }
    return sizes[family];
}

static ptrdiff_t v2_parse(const uint8_t *data, size_t size, size_t *ret_wanted, zk__proxy_header *h)
{
    if (size > 12 && ((data[12] & 0xf0) != V2_VERSION || (data[12] & 0x0f) > V2_PROXY)) {
        return ZK_E_PROXY_HEADER;
    }
    int family = size > 13 ? data[13] >> 4 : 0, transport = size > 13 ? data[13] & 0x0f : 0;
    if (family > V2_UNIX || transport > V2_DGRAM) return ZK_E_PROXY_HEADER;
    size_t length = size > 14 ? (size_t)data[14] << 8 : 0;
    if (size > 15) length |= data[15];
    size_t whole = V2_HEAD_BYTES + length;
    if (whole > ZK__PROXY_HEADER_BYTES_MAX) return ZK_E_PROXY_HEADER;
    if (size < whole) {
        *ret_wanted = size < SHORTEST ? SHORTEST - size : whole - size;
        return 0;
    }
    zk__proxy_header header = {.version = 2};
    /* What comes behind these two is not defined, so it is not looked at. */
    header.is_own = (data[12] & 0x0f) == V2_LOCAL || family == V2_UNSPEC || !transport;
    if (!header.is_own) {
        int taken = addresses_take(family, data + V2_HEAD_BYTES, length, &header);
        if (taken < 0) return ZK_E_PROXY_HEADER;
        size_t at = V2_HEAD_BYTES + (size_t)taken;
        if (!are_tlvs(data + at, whole - at)) return ZK_E_PROXY_HEADER;
    }
    *h = header;
    return (ptrdiff_t)whole;
}

/* ---- both ---- */

static bool begins(const void *data, size_t size, const char *with, size_t with_size)
{
    return !memcmp(data, with, size < with_size ? size : with_size);
}

ptrdiff_t zk__proxy_header_parse(const void *data, size_t size, size_t *ret_wanted,
                                 zk__proxy_header *ret_header)
{
    if (!size) {
        *ret_wanted = SHORTEST;
        return 0;
    }
    if (begins(data, size, signature, SIGNATURE_BYTES)) {
        return v2_parse(data, size, ret_wanted, ret_header);
    }
    if (!begins(data, size, word, sizeof word - 1)) return ZK_E_PROXY_HEADER;
    if (size < sizeof word) {
        *ret_wanted = SHORTEST - size;
        return 0;
    }
    return v1_parse(data, size, ret_wanted, ret_header);
}

/* ---- writing ---- */

static bool is_ip(const zk_addr *a)
{
    return a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6;
}

/* The address's bytes as IPv4, if it is that or stands for one. */
static const uint8_t *as_v4(const zk_addr *a)
{
    if (a->sa.sa_family == AF_INET) return (const uint8_t *)&a->in.sin_addr;
    bool is_mapped = IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr);
    return is_mapped ? (const uint8_t *)&a->in6.sin6_addr + 12 : NULL;
}

static void as_v6(const zk_addr *a, uint8_t bytes[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (a->sa.sa_family == AF_INET6) {
        memcpy(bytes, &a->in6.sin6_addr, 16);
    } else {
        memcpy(bytes, mapped, 12);
        memcpy(bytes + 12, &a->in.sin_addr, 4);
    }
}

static size_t v1_write(const zk_addr *from, const zk_addr *to, char *text)
{
    static const char unknown[] = "PROXY UNKNOWN\r\n";
    char sides[2][INET6_ADDRSTRLEN];
    if (!from || !is_ip(from) || !is_ip(to)) {
        memcpy(text, unknown, sizeof unknown - 1);
        return sizeof unknown - 1;
    }
    const uint8_t *from_v4 = as_v4(from), *to_v4 = as_v4(to);
    bool is_v4 = from_v4 && to_v4;
    uint8_t from_v6[16], to_v6[16];
    as_v6(from, from_v6);
    as_v6(to, to_v6);
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? from_v4 : from_v6, sides[0], sizeof sides[0]);
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? to_v4 : to_v6, sides[1], sizeof sides[1]);
    int size = snprintf(text, ZK__PROXY_HEADER_BYTES, "PROXY TCP%d %s %s %u %u\r\n", is_v4 ? 4 : 6,
                        sides[0], sides[1], zk_addr_port(from), zk_addr_port(to));
    return (size_t)size;
}

static void unix_put(char *text, const zk_addr *a)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    memset(text, 0, 108);
    if (a->size > head) memcpy(text, a->un.sun_path, a->size - head);
}

static size_t v2_write(const zk_addr *from, const zk_addr *to, char *text)
{
    int family = V2_UNSPEC;
    char *at = text + V2_HEAD_BYTES;
    if (from && is_ip(from) && is_ip(to)) {
        const uint8_t *from_v4 = as_v4(from), *to_v4 = as_v4(to);
        uint16_t ports[2] = {htons(zk_addr_port(from)), htons(zk_addr_port(to))};
        family = from_v4 && to_v4 ? V2_INET : V2_INET6;
        size_t size = family == V2_INET ? 4 : 16;
        if (family == V2_INET) {
            memcpy(at, from_v4, 4);
            memcpy(at + 4, to_v4, 4);
        } else {
            as_v6(from, (uint8_t *)at);
            as_v6(to, (uint8_t *)at + 16);
        }
        memcpy(at + 2 * size, ports, sizeof ports);
        at += 2 * size + sizeof ports;
    } else if (from && from->sa.sa_family == AF_UNIX && to->sa.sa_family == AF_UNIX) {
        family = V2_UNIX;
        unix_put(at, from);
        unix_put(at + 108, to);
        at += 216;
    }
    size_t length = (size_t)(at - text) - V2_HEAD_BYTES;
    memcpy(text, signature, SIGNATURE_BYTES);
    text[12] = (char)(V2_VERSION | (from ? V2_PROXY : V2_LOCAL));
    text[13] = (char)(family ? family << 4 | 1 : 0);
    text[14] = (char)(length >> 8);
    text[15] = (char)length;
    return V2_HEAD_BYTES + length;
}

size_t zk__proxy_header_write(int version, const zk_addr *from, const zk_addr *to,
                              char text[ZK__PROXY_HEADER_BYTES])
{
    /* Who the client is counts for more than what it has connected to. */
    zk_addr nothing = {.size = sizeof nothing.in};
    nothing.in = (struct sockaddr_in){.sin_family = AF_INET};
    if (from && is_ip(from) && from->sa.sa_family != AF_INET) {
        nothing.size = sizeof nothing.in6;
        nothing.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
    }
    if (from && is_ip(from) && !is_ip(to)) to = &nothing;
    return version == 1 ? v1_write(from, to, text) : v2_write(from, to, text);
}
