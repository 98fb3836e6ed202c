/*
 * Streams over connected sockets, TCP or Unix, through the worker's poller.
 */
#include "net/socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/worker.h"

/* What each request needs is in the first cache line and the third, for zk_alloc aligns what has a
 * multiple of their size. */
typedef struct socket_stream {
    zk_stream head;
    zk__io io;
    /* The peer's address once it was asked for: it stays, and proxies ask for each request. */
    sa_family_t peer_family; /* 0: not known */
    uint16_t peer_port;      /* as on the wire */
    union {
        struct in_addr in;
        struct in6_addr in6;
        char fills_the_line[44];
    } peer;
    zk__op park;
    uint64_t fills_the_last;
} socket_stream;

_Static_assert(sizeof(void *) != 8 ||
                   (offsetof(socket_stream, io.on_hangup) <= 64 &&
                    offsetof(socket_stream, park) == 128 && sizeof(socket_stream) == 192),
               "lies in more cache lines than it has to");

static socket_stream *of(zk_stream *stream) { return (socket_stream *)(void *)stream; }

static zk__poller *poller(void) { return &zk__worker_self()->poller; }

static __attribute__((noinline)) ssize_t read_waiting(zk__io *io, void *buf, size_t size)
{
    return zk__op_run(&(zk__op){.code = ZK__OP_READ, .io = io, .buf = buf, .size = size});
}

/* Without waiting it goes through the poller as well, for that may hold data that it has received
 * already. */
static ssize_t socket_read(zk_stream *stream, void *buf, size_t size, bool try_only)
{
    zk__io *io = &of(stream)->io;
    zk__poller *p = poller();
    return ZK_LIKELY(try_only) ? p->ops->recv_now(p, io, buf, size) : read_waiting(io, buf, size);
}

static __attribute__((noinline)) ssize_t write_many(zk__io *io, const struct iovec *iov,
                                                    int iov_count, bool try_only)
{
    zk__op op = {.code = ZK__OP_WRITE, .io = io, .iov = iov, .iov_count = iov_count};
    return try_only ? poller()->ops->attempt(poller(), &op) : zk__op_run(&op);
}

static ssize_t socket_writev(zk_stream *stream, const struct iovec *iov, int iov_count,
                             bool try_only)
{
    zk__io *io = &of(stream)->io;
    zk__poller *p = poller();
    if (ZK_LIKELY(try_only && iov_count == 1)) {
        return p->ops->send_now(p, io, iov->iov_base, iov->iov_len);
    }
    return write_many(io, iov, iov_count, try_only);
}

static int socket_shutdown(zk_stream *stream)
{
    return poller()->ops->kernel->shutdown(of(stream)->io.fd, SHUT_WR);
}

static void socket_reset_on_close(zk_stream *stream)
{
    struct linger now = {.l_onoff = 1};
    /* Fails only for sockets that know no reset, as Unix ones. */
    (void)poller()->ops->kernel->set_option(of(stream)->io.fd, SOL_SOCKET, SO_LINGER, &now,
                                            sizeof now);
}

static void socket_close(zk_stream *stream)
{
    poller()->ops->forget(poller(), &of(stream)->io);
    zk_free(stream);
}

static void park_complete(zk__op *op)
{
    socket_stream *s = (socket_stream *)(void *)((char *)op - offsetof(socket_stream, park));
    zk__stream_ready(&s->head);
}

static int socket_park(zk_stream *stream)
{
    socket_stream *s = of(stream);
    if (!poller()->ops->submit(poller(), &s->park)) return 0;
    return s->park.result < 0 ? (int)s->park.result : 1;
}

static void socket_unpark(zk_stream *stream) { poller()->ops->cancel(poller(), &of(stream)->park); }

static void room_complete(zk__op *op)
{
    zk__room *room = (zk__room *)(void *)((char *)op - offsetof(zk__room, op));
    if (op->result != -ECANCELED) room->on_room(room);
}

static int socket_await_room(zk_stream *stream, zk__room *room)
{
    room->op = (zk__op){
        .code = ZK__OP_WRITABLE,
        .io = &of(stream)->io,
        .complete = room_complete,
    };
    if (!poller()->ops->submit(poller(), &room->op)) return 0;
    return room->op.result < 0 ? (int)room->op.result : 1;
}

static void socket_forget_room(zk_stream *stream, zk__room *room)
{
    (void)stream;
    poller()->ops->cancel(poller(), &room->op);
}

static void on_hangup(zk__io *io)
{
    socket_stream *s = (socket_stream *)(void *)((char *)io - offsetof(socket_stream, io));
    if (!s->head.on_hangup) return;
    s->head.on_hangup(s->head.context, io->bits & ZK__IO_BROKEN ? ZK_HANGUP_FULL : ZK_HANGUP_HALF);
}

static void socket_watch(zk_stream *stream)
{
    zk__io *io = &of(stream)->io;
    io->on_hangup = on_hangup;
    poller()->ops->watch(poller(), io);
    /* What has come together with the last data was told to its reader. */
    if (io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN)) on_hangup(io);
}

/* A zone (RFC 4007) has no place there: such an address is asked for each time. */
static void peer_keep(socket_stream *s, const zk_addr *addr)
{
    if (addr->sa.sa_family == AF_INET) {
        s->peer.in = addr->in.sin_addr;
        s->peer_port = addr->in.sin_port;
    } else if (addr->sa.sa_family == AF_INET6 && !addr->in6.sin6_scope_id) {
        s->peer.in6 = addr->in6.sin6_addr;
        s->peer_port = addr->in6.sin6_port;
    } else {
        return;
    }
    s->peer_family = addr->sa.sa_family;
}

static zk_addr peer_kept(const socket_stream *s)
{
    zk_addr addr = {.size = sizeof addr.in};
    if (s->peer_family == AF_INET) {
        addr.in = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = s->peer_port, .sin_addr = s->peer.in};
    } else if (s->peer_family == AF_UNIX) {
        addr.size = offsetof(struct sockaddr_un, sun_path);
        addr.un = (struct sockaddr_un){.sun_family = AF_UNIX};
    } else {
        addr.size = sizeof addr.in6;
        addr.in6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = s->peer_port, .sin6_addr = s->peer.in6};
    }
    return addr;
}

static int socket_address(const zk_stream *stream, bool is_peer, zk_addr *ret_addr)
{
    const socket_stream *s = (const socket_stream *)(const void *)stream;
    if (is_peer && s->peer_family) {
        *ret_addr = peer_kept(s);
        return 0;
    }
    zk_addr addr = {.size = sizeof addr.un};
    int rc = poller()->ops->kernel->name(s->io.fd, is_peer, &addr.sa, &addr.size);
    if (rc < 0) return rc;
    if (is_peer) peer_keep((socket_stream *)(uintptr_t)s, &addr);
    *ret_addr = addr;
    return 0;
}

static zk__io *socket_io(zk_stream *stream) { return &of(stream)->io; }

static const struct zk__stream_ops socket_ops = {
    .kind = "socket",
    .read = socket_read,
    .writev = socket_writev,
    .shutdown = socket_shutdown,
    .reset_on_close = socket_reset_on_close,
    .close = socket_close,
    .park = socket_park,
    .unpark = socket_unpark,
    .await_room = socket_await_room,
    .forget_room = socket_forget_room,
    .watch = socket_watch,
    .io = socket_io,
    .address = socket_address,
};

static zk_stream *stream_begin(void *memory, int fd, uint32_t bits)
{
    socket_stream *s = memory;
    s->head = (zk_stream){.ops = &socket_ops};
    s->peer_family = 0;
    zk__io_init(&s->io, fd, bits);
    s->park = (zk__op){.code = ZK__OP_READABLE, .io = &s->io, .complete = park_complete};
    zk__leak_name(s, "stream", fd);
    zk__bind_to_worker();
    return &s->head;
}

int zk__fd_stream(int fd, uint32_t bits, zk_stream **ret_stream)
{
    void *memory = zk_alloc(sizeof(socket_stream));
    if (!memory) {
        poller()->ops->kernel->close(fd);
        return -ENOMEM;
    }
    *ret_stream = stream_begin(memory, fd, bits);
    return 0;
}

void *zk__socket_stream_memory(void) { return zk_alloc(sizeof(socket_stream)); }

zk_stream *zk__socket_stream_begin(void *memory, int fd, uint32_t bits)
{
    return stream_begin(memory, fd, ZK__IO_SOCKET | ZK__IO_STREAM | bits);
}

int zk__socket_stream(int fd, uint32_t bits, zk_stream **ret_stream)
{
    return zk__fd_stream(fd, ZK__IO_SOCKET | ZK__IO_STREAM | bits, ret_stream);
}

void zk__socket_stream_set_peer(zk_stream *stream, const zk_addr *addr)
{
    socket_stream *s = of(stream);
    ZK_ASSERT(stream->ops == &socket_ops);
    peer_keep(s, addr);
    s->peer_family = addr->sa.sa_family;
}

zk__io *zk__socket_stream_io(zk_stream *stream) { return &of(stream)->io; }
