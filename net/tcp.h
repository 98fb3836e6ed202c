/*
 * What a server needs of listeners beyond <zokio/tcp.h>.
 */
#ifndef ZOKIO_NET_TCP_H
#define ZOKIO_NET_TCP_H

#include <zokio/tcp.h>

/* Makes a listener for this worker on the socket of another worker's. returns 0, -ENOMEM,
 * -EMFILE. */
int zk__listener_share(const zk_listener *listener, zk_listener **ret_listener);

#endif
