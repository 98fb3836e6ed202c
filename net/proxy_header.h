/*
 * The header of the PROXY protocol, versions 1 (text) and 2 (binary): who a connection is from,
 * said by a proxy before the first byte of the connection itself. Pure functions; the protocol is
 * HAProxy's (doc/proxy-protocol.txt).
 */
#ifndef ZOKIO_NET_PROXY_HEADER_H
#define ZOKIO_NET_PROXY_HEADER_H

#include <zokio/addr.h>

enum {
    ZK__PROXY_V1_BYTES_MAX = 107,      /* the line with its end */
    ZK__PROXY_HEADER_BYTES = 232,      /* the longest that is written: version 2 of Unix sockets */
    ZK__PROXY_HEADER_BYTES_MAX = 4096, /* the longest that is read, TLVs included */
};

typedef struct zk__proxy_header {
    int version;
    /* It is about the connection itself (a check by the proxy), or the proxy does not know. Then
     * the connection's own addresses are those that count, and these are empty. */
    bool is_own;
    zk_addr from, to; /* the client's address; what it has connected to */
} zk__proxy_header;

/*
 * Reads a header from the beginning of `data`.
 *
 * @param ret_wanted  with 0: that many more bytes are sure to be the header's. Who reads no more
 *                    takes nothing of what is behind it
 * @return the header's size; 0: it is not whole; ZK_E_PROXY_HEADER: it is none, or longer than
 *         ZK__PROXY_HEADER_BYTES_MAX (the outputs are untouched)
 */
ptrdiff_t zk__proxy_header_parse(const void *data, size_t size, size_t *ret_wanted,
                                 zk__proxy_header *ret_header);

/*
 * Writes a header of version 1 or 2. from: NULL for a connection of the proxy's own. Addresses of
 * different families become IPv6; of a client that has come over a Unix socket in between, `to` is
 * zeros; what the version cannot say is unknown.
 * returns its size
 */
size_t zk__proxy_header_write(int version, const zk_addr *from, const zk_addr *to,
                              char text[ZK__PROXY_HEADER_BYTES]);

#endif
