/*
 * Networks: ranges of addresses by prefix, as "10.0.0.0/8".
 */
#ifndef ZOKIO_NET_NETWORK_H
#define ZOKIO_NET_NETWORK_H

#include <zokio/addr.h>

typedef struct zk__network {
    uint8_t family; /* AF_INET, AF_INET6, AF_UNIX */
    uint8_t bits;
    uint8_t bytes[16]; /* 4 of them for AF_INET; what is beyond the prefix is 0 */
} zk__network;

/*
 * Reads "10.0.0.0/8", "::1/128", an address alone for just that one, or "unix" for whoever comes
 * over a Unix socket. Bits beyond the prefix have to be 0.
 * returns 0; ZK_E_ADDR (the trail says what is wrong)
 */
int zk__network_parse(const char *text, zk__network *ret_network);

/* Whether the address is in it. An IPv4-mapped one is the IPv4 address that it stands for. */
bool zk__network_has(const zk__network *network, const zk_addr *addr);

#endif
