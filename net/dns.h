/*
 * What others of the library ask the resolver.
 */
#ifndef ZOKIO_NET_DNS_H
#define ZOKIO_NET_DNS_H

#include <zokio/dns.h>

/* What has no lifetime of its own, such as a line of the hosts file, is looked at again then. */
#define ZK__DNS_LOCAL_LIFETIME ZK_SEC(10)

/* As zk_resolve; and for how long the answer is good. */
int zk__resolve_for(const char *name, const zk_resolve_options *options, zk_addr *addresses,
                    size_t capacity, zk_time *ret_lifetime);

#endif
