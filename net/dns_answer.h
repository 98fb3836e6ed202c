/*
 * What a DNS server said, read with c-ares: addresses with their lifetime, or why there are none.
 */
#ifndef ZOKIO_NET_DNS_ANSWER_H
#define ZOKIO_NET_DNS_ANSWER_H

#include <zokio/addr.h>

#include "net/hosts.h"

/* To a question for one family. */
typedef struct zk__dns_answer {
    int rc; /* 0, ZK_E_DNS_* */
    zk_time lifetime;
    size_t count;
    zk__ip ips[ZK__HOST_ADDRS_MAX];
} zk__dns_answer;

/* Of a name. */
typedef struct zk__dns_result {
    int rc;
    bool is_lasting; /* may be remembered */
    zk_time lifetime;
    size_t count;
    zk__ip ips[ZK__HOST_ADDRS_MAX];
} zk__dns_result;

/* status: c-ares's, with the message that it got, if any. */
void zk__dns_answer_read(zk__dns_answer *answer, bool is_v6, int status, const uint8_t *data,
                         size_t size);

/* Joins the answers of both families, the addresses in the order in which to try them. */
void zk__dns_result_merge(zk__dns_result *result, const zk__dns_answer *a,
                          const zk__dns_answer *aaaa);

/* The lifetime of a negative answer: the smaller of its SOA record's own and its minimum (RFC 2308
 * section 5); 0 without one. */
zk_time zk__dns_negative_lifetime(const uint8_t *data, size_t size);

zk_addr zk__ip_addr(const zk__ip *ip);

#endif
