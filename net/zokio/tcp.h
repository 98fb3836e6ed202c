/*
 * Listening, accepting and connecting, for TCP and Unix stream sockets.
 */
#ifndef ZOKIO_TCP_H
#define ZOKIO_TCP_H

#include <zokio/stream.h>

ZK_BEGIN

typedef struct zk_listener zk_listener;

typedef struct zk_listen_options {
    int backlog; /* connections that the kernel holds ready; 0: 4096 */
    /* SO_REUSEPORT: several sockets, of this process or others, share the port */
    bool is_port_shared;
    bool is_client_first; /* TCP: the client speaks first, so the kernel may hold a connection back
                             until it does, for a second at most; saves a wake-up each */
} zk_listen_options;

/**
 * Listens on an address. A Unix socket's file is replaced if nobody listens on it, and removed when
 * it is closed. Never suspends.
 *
 * @param options  NULL for the defaults
 * @return 0; -EADDRINUSE, -EACCES and other system errors; -ENOMEM; ZK_E_NO_RUNTIME
 */
ZK_API int zk_listen(const zk_addr *addr, const zk_listen_options *options,
                     zk_listener **ret_listener) ZK_NODISCARD;

/**
 * The address that the listener is bound to (with the port that the system chose for 0). Never
 * suspends.
 */
ZK_API int zk_listener_addr(const zk_listener *listener, zk_addr *ret_addr);

/**
 * Waits for a connection. When the process or the system is out of descriptors or memory it pauses
 * and tries again, so these are not errors. Suspends sometimes.
 *
 * @return 0; -ECANCELED, -ETIMEDOUT (no connection is lost); a system error
 */
ZK_API int zk_accept(zk_listener *listener, zk_stream **ret_stream) ZK_NODISCARD;

/**
 * Stops listening and frees the listener; NULL is allowed. No task may be in zk_accept. Never
 * suspends.
 */
ZK_API void zk_listener_close(zk_listener *listener);

/**
 * Connects to an address. Suspends sometimes.
 *
 * @return 0; -ECONNREFUSED, -EHOSTUNREACH and other system errors; -ECANCELED, -ETIMEDOUT; -ENOMEM
 */
ZK_API int zk_connect(const zk_addr *addr, zk_stream **ret_stream) ZK_NODISCARD;

ZK_END
#endif
