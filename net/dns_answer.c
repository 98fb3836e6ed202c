/*
 * Reading answers. c-ares parses addresses and follows aliases; it does not tell the lifetime of a
 * negative answer, so the SOA record is found here.
 */
#include "net/dns_answer.h"

#include <ares.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zokio/error.h>

enum { HEADER_BYTES = 12, TYPE_SOA = 6, SOA_NUMBERS_BYTES = 20 };

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }

/* The offset behind the name at `at`; 0 if the message ends before. */
static size_t name_skip(const uint8_t *data, size_t size, size_t at)
{
    while (at < size) {
        if (data[at] == 0) return at + 1;
        if (data[at] >= 0xc0) return at + 2; /* a pointer is the end of a name */
        if (data[at] >= 0x40) return 0;
        at += 1u + data[at];
    }
    return 0;
}

zk_time zk__dns_negative_lifetime(const uint8_t *data, size_t size)
{
    if (size < HEADER_BYTES) return 0;
    size_t at = HEADER_BYTES;
    uint32_t questions = get16(data + 4), records = get16(data + 6) + get16(data + 8);
    for (; questions > 0; questions--) {
        at = name_skip(data, size, at);
        if (at == 0) return 0;
        at += 4;
    }
    for (; records > 0; records--) {
        at = name_skip(data, size, at);
        if (at == 0 || at + 10 > size) return 0;
        uint32_t type = get16(data + at), lifetime = get32(data + at + 4);
        size_t end = at + 10 + get16(data + at + 8);
        if (end > size) return 0;
        if (type == TYPE_SOA) {
            if (end < at + 10 + SOA_NUMBERS_BYTES) return 0;
            uint32_t minimum = get32(data + end - 4);
            return ZK_SEC(minimum < lifetime ? minimum : lifetime);
        }
        at = end;
    }
    return 0;
}

static int rc_of(int status)
{
    switch (status) {
    case ARES_SUCCESS: return 0;
    case ARES_ENODATA: return ZK_E_DNS_NO_DATA;
    case ARES_ENOTFOUND: return ZK_E_DNS_NOT_FOUND;
    case ARES_EREFUSED: return ZK_E_DNS_REFUSED;
    case ARES_ETIMEOUT: return ZK_E_DNS_TIMEOUT;
    case ARES_EBADNAME: return ZK_E_DNS_NAME;
    case ARES_EBADRESP:
    case ARES_EFORMERR: return ZK_E_DNS_ANSWER;
    case ARES_ECONNREFUSED: return -ECONNREFUSED;
    case ARES_ENOMEM: return -ENOMEM;
    default: return ZK_E_DNS_SERVER;
    }
}

static int read_v4(zk__dns_answer *answer, const uint8_t *data, int size)
{
    struct ares_addrttl records[ZK__HOST_ADDRS_MAX];
    int count = ZK__HOST_ADDRS_MAX;
    int status = ares_parse_a_reply(data, size, NULL, records, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; i++) {
        zk__ip *ip = &answer->ips[answer->count++];
        *ip = (zk__ip){0};
        memcpy(ip->bytes, &records[i].ipaddr, sizeof records[i].ipaddr);
        if (i == 0 || ZK_SEC(records[i].ttl) < answer->lifetime) {
            answer->lifetime = ZK_SEC(records[i].ttl);
        }
    }
    return status;
}

static int read_v6(zk__dns_answer *answer, const uint8_t *data, int size)
{
    struct ares_addr6ttl records[ZK__HOST_ADDRS_MAX];
    int count = ZK__HOST_ADDRS_MAX;
    int status = ares_parse_aaaa_reply(data, size, NULL, records, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; i++) {
        zk__ip *ip = &answer->ips[answer->count++];
        *ip = (zk__ip){.is_v6 = true};
        memcpy(ip->bytes, &records[i].ip6addr, sizeof ip->bytes);
        if (i == 0 || ZK_SEC(records[i].ttl) < answer->lifetime) {
            answer->lifetime = ZK_SEC(records[i].ttl);
        }
    }
    return status;
}

void zk__dns_answer_read(zk__dns_answer *answer, bool is_v6, int status, const uint8_t *data,
                         size_t size)
{
    *answer = (zk__dns_answer){0};
    if (status == ARES_SUCCESS) {
        status = is_v6 ? read_v6(answer, data, (int)size) : read_v4(answer, data, (int)size);
        if (status == ARES_SUCCESS && answer->count == 0) status = ARES_ENODATA;
    }
    answer->rc = rc_of(status);
    if (answer->rc < 0 && data) answer->lifetime = zk__dns_negative_lifetime(data, size);
}

zk_addr zk__ip_addr(const zk__ip *ip)
{
    zk_addr addr = {.size = ip->is_v6 ? sizeof addr.in6 : sizeof addr.in};
    addr.sa.sa_family = ip->is_v6 ? AF_INET6 : AF_INET;
    if (ip->is_v6) {
        memcpy(&addr.in6.sin6_addr, ip->bytes, 16);
    } else {
        memcpy(&addr.in.sin_addr, ip->bytes, 4);
    }
    return addr;
}

/* Connecting a datagram socket asks the routing table and sends nothing. */
static bool has_route(const zk__ip *ip)
{
    zk_addr addr = zk__ip_addr(ip);
    addr.in.sin_port = htons(9); /* in the same place in sockaddr_in6 */
    int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno == EMFILE || errno == ENFILE; /* not known */
    bool is_there = connect(fd, &addr.sa, addr.size) == 0;
    close(fd);
    return is_there;
}

static void result_add(zk__dns_result *result, const zk__dns_answer *answer, bool routed)
{
    for (size_t i = 0; i < answer->count && result->count < ZK__HOST_ADDRS_MAX; i++) {
        if (has_route(&answer->ips[i]) == routed) result->ips[result->count++] = answer->ips[i];
    }
}

static bool is_lasting(int rc) { return rc == ZK_E_DNS_NOT_FOUND || rc == ZK_E_DNS_NO_DATA; }

void zk__dns_result_merge(zk__dns_result *result, const zk__dns_answer *a,
                          const zk__dns_answer *aaaa)
{
    *result = (zk__dns_result){0};
    zk_time shorter = a->lifetime < aaaa->lifetime ? a->lifetime : aaaa->lifetime;
    if (a->count + aaaa->count == 0) {
        /* A failure that may pass says more than that one family has nothing. */
        result->rc = is_lasting(a->rc) ? aaaa->rc : a->rc;
        if (a->rc == ZK_E_DNS_NOT_FOUND && is_lasting(aaaa->rc)) result->rc = a->rc;
        result->is_lasting = is_lasting(a->rc) && is_lasting(aaaa->rc) && shorter > 0;
        result->lifetime = shorter;
        return;
    }
    result->is_lasting = true;
    result->lifetime = shorter;
    /* That there is none of the other family needs no lifetime of its own to be believed. */
    if (a->count == 0 && is_lasting(a->rc) && !a->lifetime) result->lifetime = aaaa->lifetime;
    if (aaaa->count == 0 && is_lasting(aaaa->rc) && !aaaa->lifetime) result->lifetime = a->lifetime;
    for (int routed = 1; routed >= 0; routed--) {
        result_add(result, aaaa, routed);
        result_add(result, a, routed);
    }
}
