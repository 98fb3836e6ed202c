/*
 * Connecting as the client does it, also where the library is built without names (c-ares) or
 * without TLS: then only addresses, or plain connections, work.
 */
#ifndef ZOKIO_HTTP_DIAL_H
#define ZOKIO_HTTP_DIAL_H

#include <errno.h>

#include <zokio/dns.h>
#include <zokio/tcp.h>
#include <zokio/tls.h>

/* As zk_connect_host. */
static inline int zk__dial(const char *address, zk_stream **ret_stream)
{
#if ZK__CARES
    return zk_connect_host(address, NULL, ret_stream);
#else
    zk_addr addr;
    int rc = zk_addr_parse(address, &addr);
    return rc < 0 ? rc : zk_connect(&addr, ret_stream);
#endif
}

#if ZK__TLS
/* Of net/tls.h, which needs OpenSSL's headers. */
int zk__tls_connect_http1(zk_tls *tls, zk_stream *inner, const char *host, zk_stream **ret_stream);
#endif

/* As zk_tls_connect. is_http1: HTTP/1.1 is all that is offered, whatever the configuration says. */
static inline int zk__dial_tls(zk_tls *tls, bool is_http1, zk_stream *inner, const char *host,
                               zk_stream **ret_stream)
{
#if ZK__TLS
    return is_http1 ? zk__tls_connect_http1(tls, inner, host, ret_stream)
                    : zk_tls_connect(tls, inner, host, ret_stream);
#else
    (void)tls, (void)is_http1, (void)inner, (void)host, (void)ret_stream;
    return -EOPNOTSUPP;
#endif
}

/* Whether HTTP/2 has been agreed upon. */
static inline bool zk__dial_is_h2(const zk_stream *stream)
{
#if ZK__TLS
    zk_tls_info info;
    if (zk_tls_info_get(stream, &info) < 0) return false;
    return info.alpn.size == 2 && info.alpn.data[0] == 'h' && info.alpn.data[1] == '2';
#else
    (void)stream;
    return false;
#endif
}

/* As zk_tls_client_new. */
static inline int zk__dial_tls_new(const zk_tls_client *options, zk_tls **ret_tls)
{
#if ZK__TLS
    return zk_tls_client_new(options, ret_tls);
#else
    (void)options, (void)ret_tls;
    return -EOPNOTSUPP;
#endif
}

static inline void zk__dial_tls_free(zk_tls *tls)
{
#if ZK__TLS
    zk_tls_free(tls);
#else
    (void)tls;
#endif
}

#endif
