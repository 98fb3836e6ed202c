/*
 * What the tests of the rate limit see of it.
 */
#ifndef ZOKIO_HTTP_RATE_LIMIT_H
#define ZOKIO_HTTP_RATE_LIMIT_H

#include <zokio/rate_limit.h>

/* SipHash-2-4 (Aumasson and Bernstein, 2012): who does not know the key cannot make collisions. */
uint64_t zk__siphash(const uint64_t key[2], const void *data, size_t size);

#endif
