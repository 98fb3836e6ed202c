/*
 * TLS as the server uses it, also where the library is built without: then a server that wants it
 * does not start.
 */
#ifndef ZOKIO_HTTP_SECURE_H
#define ZOKIO_HTTP_SECURE_H

#include <errno.h>

#include <zokio/tls.h>

#if ZK__TLS

/* Of net/tls.h, which needs OpenSSL's headers. */
int zk__tls_settle(void);

static inline int zk__tls_server_new(const zk_tls_server *options, zk_tls **ret_tls)
{
    return zk_tls_server_new(options, ret_tls);
}
static inline int zk__tls_reload(zk_tls *tls) { return zk_tls_reload(tls); }
static inline void zk__tls_free(zk_tls *tls) { zk_tls_free(tls); }

/*
 * Does the handshake: *stream becomes the stream inside TLS. returns 1 if HTTP/2 has been agreed
 * upon, 0 if not, an error.
 */
static inline int zk__tls_secure(zk_tls *tls, zk_stream **stream)
{
    zk_tls_info info;
    int rc = zk_tls_accept(tls, *stream, stream);
    if (rc >= 0) rc = zk_tls_info_get(*stream, &info);
    if (rc < 0) return rc;
    return info.alpn.size == 2 && info.alpn.data[0] == 'h' && info.alpn.data[1] == '2';
}

#else

static inline int zk__tls_server_new(const zk_tls_server *options, zk_tls **ret_tls)
{
    (void)options, (void)ret_tls;
    return -EOPNOTSUPP;
}
static inline int zk__tls_reload(zk_tls *tls)
{
    (void)tls;
    return -EOPNOTSUPP;
}
static inline void zk__tls_free(zk_tls *tls) { (void)tls; }
static inline int zk__tls_secure(zk_tls *tls, zk_stream **stream)
{
    (void)tls, (void)stream;
    return -EOPNOTSUPP;
}
static inline int zk__tls_settle(void) { return 0; }

#endif

#endif
