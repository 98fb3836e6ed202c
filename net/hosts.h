/*
 * The hosts file, parsed, and what the resolver has in common with it: bare IP addresses.
 */
#ifndef ZOKIO_NET_HOSTS_H
#define ZOKIO_NET_HOSTS_H

#include <zokio/base.h>

/* An address without a port. */
typedef struct zk__ip {
    bool is_v6;
    uint8_t bytes[16]; /* the first 4 for IPv4, the rest 0 */
} zk__ip;

enum { ZK__HOST_NAME_MAX = 253, ZK__HOST_ADDRS_MAX = 32 };

typedef struct zk__host zk__host;

/* Zero-initialised is empty. */
typedef struct zk__hosts {
    zk__host *hosts; /* one per name and line, in the file's order */
    size_t count, capacity;
} zk__hosts;

/*
 * Writes a host name in the form in which names are compared: lower case, without a dot at the end.
 * returns false if it is none: letters, digits, '-' and '_', labels of 1 to 63 bytes, 253 in all.
 */
bool zk__host_name(const char *text, size_t size, char ret_name[ZK__HOST_NAME_MAX + 1]);

/* Reads "127.0.0.1" or "::1". */
bool zk__ip_parse(const char *text, zk__ip *ret_ip);

/*
 * Replaces what the table holds by the file's content. Lines that are malformed are skipped, and so
 * are addresses with a zone. returns 0, -ENOMEM (then the table is empty).
 */
int zk__hosts_parse(zk__hosts *hosts, const char *text, size_t size);

/* Addresses of a name (see zk__host_name), without repetition. returns how many. */
size_t zk__hosts_find(const zk__hosts *hosts, const char *name, zk__ip *ips, size_t capacity);

void zk__hosts_done(zk__hosts *hosts);

#endif
