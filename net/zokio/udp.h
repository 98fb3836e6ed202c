/*
 * UDP: datagrams, one at a time or in batches.
 *
 * A socket belongs to the worker that opened it; calls from others return ZK_E_WORKER. One task may
 * receive while another sends.
 */
#ifndef ZOKIO_UDP_H
#define ZOKIO_UDP_H

#include <sys/types.h>

#include <zokio/addr.h>
#include <zokio/task.h>

ZK_BEGIN

typedef struct zk_udp zk_udp;

typedef struct zk_udp_options {
    bool is_port_shared;      /* SO_REUSEPORT: several sockets share the port */
    bool may_broadcast;       /* SO_BROADCAST */
    int receive_buffer_bytes; /* SO_RCVBUF; 0: the system's default */
    int send_buffer_bytes;    /* SO_SNDBUF; 0: the system's default */
    int multicast_ttl;        /* hops of what is sent to a group; 0: the system's default, 1 */
} zk_udp_options;

/**
 * Opens a socket on an address; port 0 lets the system choose. Never suspends.
 *
 * @param options  NULL for the defaults
 * @return 0; -EADDRINUSE, -EACCES and other system errors; -EAFNOSUPPORT (no IP address); -ENOMEM;
 *         ZK_E_NO_RUNTIME
 */
ZK_API int zk_udp_open(const zk_addr *addr, const zk_udp_options *options, zk_udp **ret_udp)
    ZK_NODISCARD;

/**
 * From now on the socket sends to this peer and receives from nobody else, and a peer that is not
 * there is an error (-ECONNREFUSED) of a later call. Never suspends. @return 0; a system error;
 * ZK_E_WORKER
 */
ZK_API int zk_udp_connect(zk_udp *udp, const zk_addr *peer);

/** Joins a multicast group, or leaves it, on the interface that the system chooses. Never suspends.
 * @return 0; -EINVAL (no group's address) and other system errors; ZK_E_WORKER */
ZK_API int zk_udp_join(zk_udp *udp, const zk_addr *group);
/** As zk_udp_join. */
ZK_API int zk_udp_leave(zk_udp *udp, const zk_addr *group);

/** The socket's own address. Never suspends. @return 0; a system error; ZK_E_WORKER */
ZK_API int zk_udp_local(const zk_udp *udp, zk_addr *ret_addr);

/** Closes and frees the socket; NULL is allowed. No task may be using it. Never suspends. */
ZK_API void zk_udp_close(zk_udp *udp);

/**
 * Sends a datagram. Suspends while the system has no room for it.
 *
 * @param to  NULL for the peer of zk_udp_connect
 * @return 0; -EMSGSIZE (too large), -EDESTADDRREQ (no peer), -ECONNREFUSED and other system errors;
 *         -ECANCELED, -ETIMEDOUT: not sent; -ENOMEM, ZK_E_WORKER
 */
ZK_API int zk_udp_send(zk_udp *udp, const void *data, size_t size, const zk_addr *to);

/**
 * Receives a datagram. Suspends until one is there. One that is larger than the buffer is an error
 * and gone; 65,535 bytes hold every one.
 *
 * @param ret_from  NULL, or where the sender's address goes
 * @return its bytes (0 is a datagram, too); -EMSGSIZE (it was larger than `size`), -ECONNREFUSED
 *         and other system errors; -ECANCELED, -ETIMEDOUT: none was taken; -ENOMEM, ZK_E_WORKER
 */
ZK_API ssize_t zk_udp_recv(zk_udp *udp, void *buf, size_t size, zk_addr *ret_from);

/** A datagram of a batch. */
typedef struct zk_datagram {
    void *data;
    size_t size;       /* of the data; to receive: of the buffer, then of what it holds */
    zk_addr addr;      /* the receiver (size 0: the peer of zk_udp_connect), or the sender */
    bool is_truncated; /* received: it was larger than the buffer */
} zk_datagram;

enum { ZK_UDP_BATCH_MAX = 64 };

/**
 * Sends several datagrams with one system call, as many as there is room for now. Suspends while
 * there is none for the first.
 *
 * @param count  at least 1; at most ZK_UDP_BATCH_MAX are looked at
 * @return how many were sent, from the first, at least 1; else as zk_udp_send, about the first
 */
ZK_API int zk_udp_send_batch(zk_udp *udp, const zk_datagram *datagrams, size_t count);

/**
 * Receives what is there, with one system call. Suspends until there is at least one datagram.
 *
 * @param count  at least 1; at most ZK_UDP_BATCH_MAX are received
 * @return how many were received, at least 1; else as zk_udp_recv
 */
ZK_API int zk_udp_recv_batch(zk_udp *udp, zk_datagram *datagrams, size_t count);

ZK_END
#endif
