/*
 * UDP sockets. Each operation is tried first; who would have to wait waits until the descriptor is
 * ready and tries again, so a cancelled wait has taken nothing.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <zokio/udp.h>

#include "core/budget.h"
#include "core/poller.h"

struct zk_udp {
    zk__io io;
    zk__worker *worker;
};

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) ? -errno : 0;
}

static int options_set(int fd, int family, const zk_udp_options *o)
{
    int rc = 0;
    if (o->is_port_shared) rc = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!rc && o->may_broadcast) rc = set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (!rc && o->receive_buffer_bytes) {
        rc = set_option(fd, SOL_SOCKET, SO_RCVBUF, o->receive_buffer_bytes);
    }
    if (!rc && o->send_buffer_bytes) {
        rc = set_option(fd, SOL_SOCKET, SO_SNDBUF, o->send_buffer_bytes);
    }
    if (!rc && o->multicast_ttl) {
        rc = family == AF_INET6
                 ? set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, o->multicast_ttl)
                 : set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, o->multicast_ttl);
    }
    return rc;
}

int zk_udp_open(const zk_addr *addr, const zk_udp_options *options, zk_udp **ret_udp)
{
    static const zk_udp_options defaults;
    int family = addr->sa.sa_family;
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (family != AF_INET && family != AF_INET6) return -EAFNOSUPPORT;
    zk_udp *udp = zk_alloc_zeroed(sizeof *udp);
    if (!udp) return -ENOMEM;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : options_set(fd, family, options ? options : &defaults);
    if (!rc && bind(fd, &addr->sa, addr->size)) rc = -errno;
    if (rc < 0) {
        if (fd >= 0) close(fd);
        zk_free(udp);
        return rc;
    }
    zk__io_init(&udp->io, fd, ZK__IO_SOCKET);
    zk__leak_name(udp, "UDP socket", fd);
    udp->worker = zk__worker_self();
    zk__bind_to_worker();
    *ret_udp = udp;
    return 0;
}

/* Whether the caller's worker is the socket's: 0, ZK_E_WORKER, ZK_E_NO_RUNTIME. */
static int belongs(const zk_udp *udp)
{
    const zk__worker *w = zk__worker_self();
    return udp->worker == w ? 0 : w ? ZK_E_WORKER : ZK_E_NO_RUNTIME;
}

int zk_udp_connect(zk_udp *udp, const zk_addr *peer)
{
    int rc = belongs(udp);
    if (rc < 0) return rc;
    return connect(udp->io.fd, &peer->sa, peer->size) ? -errno : 0;
}

static int membership(zk_udp *udp, const zk_addr *group, int name4, int name6)
{
    int failed = belongs(udp);
    if (failed) return failed;
    if (group->sa.sa_family == AF_INET6) {
        struct ipv6_mreq m = {.ipv6mr_multiaddr = group->in6.sin6_addr,
                              .ipv6mr_interface = group->in6.sin6_scope_id};
        failed = setsockopt(udp->io.fd, IPPROTO_IPV6, name6, &m, sizeof m);
    } else {
        struct ip_mreqn m = {.imr_multiaddr = group->in.sin_addr};
        failed = setsockopt(udp->io.fd, IPPROTO_IP, name4, &m, sizeof m);
    }
    return failed ? -errno : 0;
}

int zk_udp_join(zk_udp *udp, const zk_addr *group)
{
    return membership(udp, group, IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP);
}

int zk_udp_leave(zk_udp *udp, const zk_addr *group)
{
    return membership(udp, group, IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP);
}

int zk_udp_local(const zk_udp *udp, zk_addr *ret_addr)
{
    zk_addr addr = {.size = sizeof addr.un};
    int rc = belongs(udp);
    if (rc < 0) return rc;
    if (getsockname(udp->io.fd, &addr.sa, &addr.size)) return -errno;
    *ret_addr = addr;
    return 0;
}

void zk_udp_close(zk_udp *udp)
{
    if (!udp) return;
    if (udp->worker != zk__worker_self()) zk__panic("zk_udp_close on another worker");
    udp->worker->poller.ops->forget(&udp->worker->poller, &udp->io);
    zk_free(udp);
}

/* ---- sending and receiving ---- */

/* Calls `try` until it need not wait. */
static ssize_t run(zk_udp *udp, uint8_t code, ssize_t (*try)(zk_udp *udp, void *arg), void *arg)
{
    int rc = belongs(udp);
    if (rc == 0) rc = zk__spend();
    while (rc >= 0) {
        ssize_t n = try(udp, arg);
        if (n >= 0) return n;
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return -errno;
        rc = zk__io_wait(&udp->io, code);
    }
    return rc;
}

static ssize_t try_sendmsg(zk_udp *udp, void *arg)
{
    return sendmsg(udp->io.fd, arg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t try_recvmsg(zk_udp *udp, void *arg)
{
    return recvmsg(udp->io.fd, arg, MSG_DONTWAIT);
}

int zk_udp_send(zk_udp *udp, const void *data, size_t size, const zk_addr *to)
{
    struct iovec iov = {(void *)data, size};
    struct msghdr msg = {
        .msg_name = to ? (void *)&to->sa : NULL,
        .msg_namelen = to ? to->size : 0,
        .msg_iov = &iov,
        .msg_iovlen = 1,
    };
    ssize_t n = run(udp, ZK__OP_WRITABLE, try_sendmsg, &msg);
    return n < 0 ? (int)n : 0;
}

ssize_t zk_udp_recv(zk_udp *udp, void *buf, size_t size, zk_addr *ret_from)
{
    zk_addr from = {.size = sizeof from.un};
    struct iovec iov = {buf, size};
    struct msghdr msg = {
        .msg_name = &from.sa, .msg_namelen = from.size, .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = run(udp, ZK__OP_READABLE, try_recvmsg, &msg);
    if (n < 0) return n;
    if (msg.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    from.size = msg.msg_namelen;
    if (ret_from) *ret_from = from;
    return n;
}

typedef struct batch {
    struct mmsghdr messages[ZK_UDP_BATCH_MAX];
    struct iovec iovs[ZK_UDP_BATCH_MAX];
    unsigned count;
} batch;

static void batch_init(batch *b, const zk_datagram *datagrams, size_t count)
{
    b->count = count < ZK_UDP_BATCH_MAX ? (unsigned)count : ZK_UDP_BATCH_MAX;
    memset(b->messages, 0, b->count * sizeof *b->messages);
    for (unsigned i = 0; i < b->count; i++) {
        struct msghdr *m = &b->messages[i].msg_hdr;
        const zk_addr *addr = &datagrams[i].addr;
        b->iovs[i] = (struct iovec){datagrams[i].data, datagrams[i].size};
        m->msg_iov = &b->iovs[i];
        m->msg_iovlen = 1;
        m->msg_name = addr->size ? (void *)&addr->sa : NULL;
        m->msg_namelen = addr->size;
    }
}

static ssize_t try_sendmmsg(zk_udp *udp, void *arg)
{
    batch *b = arg;
    return sendmmsg(udp->io.fd, b->messages, b->count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t try_recvmmsg(zk_udp *udp, void *arg)
{
    batch *b = arg;
    return recvmmsg(udp->io.fd, b->messages, b->count, MSG_DONTWAIT, NULL);
}

int zk_udp_send_batch(zk_udp *udp, const zk_datagram *datagrams, size_t count)
{
    batch b;
    if (!count) return -EINVAL;
    batch_init(&b, datagrams, count);
    return (int)run(udp, ZK__OP_WRITABLE, try_sendmmsg, &b);
}

int zk_udp_recv_batch(zk_udp *udp, zk_datagram *datagrams, size_t count)
{
    batch b;
    if (!count) return -EINVAL;
    for (size_t i = 0; i < count && i < ZK_UDP_BATCH_MAX; i++)
        datagrams[i].addr.size = sizeof datagrams[i].addr.un;
    batch_init(&b, datagrams, count);
    int n = (int)run(udp, ZK__OP_READABLE, try_recvmmsg, &b);
    for (int i = 0; i < n; i++) {
        datagrams[i].size = b.messages[i].msg_len;
        datagrams[i].addr.size = b.messages[i].msg_hdr.msg_namelen;
        datagrams[i].is_truncated = b.messages[i].msg_hdr.msg_flags & MSG_TRUNC;
    }
    return n;
}
