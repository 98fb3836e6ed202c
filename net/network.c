/*
 * Networks, see network.h.
 */
#include "net/network.h"

#include <arpa/inet.h>
#include <string.h>

#include <zokio/error.h>

enum { V4_BITS = 32, V6_BITS = 128 };

/* "/0" to "/128", without a sign or leading zeros. returns -1: it is none. */
static int bits_parse(const char *text, int bits_max)
{
    size_t digits = strlen(text);
    int bits = 0;
    if (digits < 1 || digits > 3 || (digits > 1 && *text == '0')) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return -1;
        bits = bits * 10 + (*text - '0');
    }
    return bits <= bits_max ? bits : -1;
}

/* Clears what is beyond the prefix. */
static void mask(uint8_t bytes[16], int bits)
{
    for (int i = 0; i < 16; i++) {
        int kept = bits - 8 * i;
        if (kept <= 0) bytes[i] = 0;
        if (kept > 0 && kept < 8) bytes[i] &= (uint8_t)(0xff << (8 - kept));
    }
}

int zk__network_parse(const char *text, zk__network *ret_network)
{
    zk__network n = {.family = AF_UNIX};
    char address[INET6_ADDRSTRLEN];
    if (!strcmp(text, "unix")) {
        *ret_network = n;
        return 0;
    }
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    if (size >= sizeof address) return zk_fail(ZK_E_ADDR, "network \"%.100s\"", text);
    memcpy(address, text, size);
    address[size] = '\0';
    n.family = strchr(address, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(n.family, address, n.bytes) != 1) {
        return zk_fail(ZK_E_ADDR, "network \"%.100s\": no address", text);
    }
    int bits_max = n.family == AF_INET ? V4_BITS : V6_BITS;
    int bits = slash ? bits_parse(slash + 1, bits_max) : bits_max;
    if (bits < 0) return zk_fail(ZK_E_ADDR, "network \"%.100s\": the prefix", text);
    uint8_t masked[16];
    memcpy(masked, n.bytes, sizeof masked);
    mask(masked, bits);
    if (memcmp(masked, n.bytes, sizeof masked)) {
        return zk_fail(ZK_E_ADDR, "network \"%.100s\": bits beyond the prefix", text);
    }
    n.bits = (uint8_t)bits;
    *ret_network = n;
    return 0;
}

bool zk__network_has(const zk__network *network, const zk_addr *addr)
{
    uint8_t bytes[16] = {0};
    sa_family_t family = addr->sa.sa_family;
    if (family == AF_INET) {
        memcpy(bytes, &addr->in.sin_addr, 4);
    } else if (family == AF_INET6) {
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr);
        /* "::/0" is every IPv6 address, and no IPv4 one. */
        memcpy(bytes, (const uint8_t *)&addr->in6.sin6_addr + (is_mapped ? 12 : 0),
               is_mapped ? 4 : 16);
        if (is_mapped) family = AF_INET;
    }
    if (family != network->family) return false;
    mask(bytes, network->bits);
    return family == AF_UNIX || !memcmp(bytes, network->bytes, sizeof bytes);
}
