/*
 * Listening, accepting and connecting, for TCP and Unix stream sockets.
 *
 * TCP_NODELAY is set on the listening socket, since Linux hands it on to what is accepted: no
 * system call per connection.
 */
#include "net/tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/probe.h"
#include "core/worker.h"
#include "net/socket.h"

enum { BACKLOG = 4096 };
static const zk_time accept_pause = ZK_MS(50), connect_pause = ZK_MS(5);

struct zk_listener {
    zk__io io;
    zk__worker *worker; /* that it belongs to: the first to accept */
    bool is_unix_file;  /* remove addr when closed */
    zk_addr addr;
};

/* Descriptors may come along with the bytes of a Unix socket. */
static uint32_t marked(const zk_addr *addr)
{
    return addr->sa.sa_family == AF_UNIX ? ZK__IO_MARKED : 0;
}

static const struct zk__kernel *kernel(void) { return zk__worker_self()->poller.ops->kernel; }

static int set_flag(int fd, int level, int option)
{
    return kernel()->set_option(fd, level, option, &(int){1}, sizeof(int));
}

static int socket_for(const zk_addr *addr)
{
    int fd = kernel()->socket(addr->sa.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || addr->sa.sa_family == AF_UNIX) return fd;
    int rc = set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
    if (rc == 0) return fd;
    kernel()->close(fd);
    return rc;
}

static bool is_unix_file(const zk_addr *addr)
{
    return addr->sa.sa_family == AF_UNIX && addr->un.sun_path[0] != '\0' &&
           kernel() == &zk__kernel_system;
}

/* Removes a socket file that nobody listens on any more: what a killed server leaves behind. */
static void unix_file_remove_stale(const zk_addr *addr)
{
    struct stat st;
    if (stat(addr->un.sun_path, &st) || !S_ISSOCK(st.st_mode)) return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (connect(fd, &addr->sa, addr->size) && errno == ECONNREFUSED) unlink(addr->un.sun_path);
    close(fd);
}

static int socket_listen(int fd, const zk_addr *addr, const zk_listen_options *options)
{
    int rc = 0;
    if (addr->sa.sa_family != AF_UNIX) rc = set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
    if (!rc && addr->sa.sa_family != AF_UNIX && options->is_port_shared) {
        rc = set_flag(fd, SOL_SOCKET, SO_REUSEPORT);
    }
    if (!rc && addr->sa.sa_family == AF_INET6) {
        /* ":8080" is every address, whatever the system's default says. */
        rc = kernel()->set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    }
    if (!rc && addr->sa.sa_family != AF_UNIX && options->is_client_first) {
        /* One second: the first retransmitted SYN-ACK ends it, so a silent client is accepted
         * too. */
        rc = set_flag(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    }
    if (!rc && is_unix_file(addr)) unix_file_remove_stale(addr);
    if (!rc) rc = kernel()->bind(fd, &addr->sa, addr->size);
    if (!rc) rc = kernel()->listen(fd, options->backlog > 0 ? options->backlog : BACKLOG);
    return rc;
}

int zk_listen(const zk_addr *addr, const zk_listen_options *options, zk_listener **ret_listener)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    zk_listener *l = zk_alloc_zeroed(sizeof *l);
    if (!l) return -ENOMEM;
    int fd = socket_for(addr);
    int rc = fd;
    if (fd >= 0) {
        rc = socket_listen(fd, addr, options ? options : &(zk_listen_options){0});
        if (rc < 0) kernel()->close(fd);
    }
    if (rc < 0) {
        zk_free(l);
        return rc;
    }
    zk__io_init(&l->io, fd, ZK__IO_SOCKET);
    zk__leak_name(l, "listener", fd);
    l->addr = *addr;
    l->is_unix_file = is_unix_file(addr);
    zk__bind_to_worker();
    *ret_listener = l;
    return 0;
}

int zk__listener_share(const zk_listener *listener, zk_listener **ret_listener)
{
    zk_listener *l = zk_alloc_zeroed(sizeof *l);
    if (!l) return -ENOMEM;
    int fd = kernel()->duplicate(listener->io.fd);
    if (fd < 0) {
        zk_free(l);
        return fd;
    }
    zk__io_init(&l->io, fd, ZK__IO_SOCKET);
    zk__leak_name(l, "listener", fd);
    l->addr = listener->addr;
    *ret_listener = l;
    return 0;
}

int zk_listener_addr(const zk_listener *listener, zk_addr *ret_addr)
{
    zk_addr addr = {.size = sizeof addr.un};
    int rc = kernel()->name(listener->io.fd, false, &addr.sa, &addr.size);
    if (rc < 0) return rc;
    *ret_addr = addr;
    return 0;
}

/* Out of descriptors or memory: passes when others give some back. */
static bool is_shortage(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

int zk_accept(zk_listener *listener, zk_stream **ret_stream)
{
    zk__worker *self = zk__worker_self();
    if (!listener->worker) listener->worker = self;
    if (listener->worker != self) return self ? ZK_E_WORKER : ZK_E_NO_RUNTIME;
    /* First the memory: a connection that there is none for stays in the kernel's queue. */
    void *memory = NULL;
    int rc;
    do {
        if (!memory) memory = zk__socket_stream_memory();
        zk__op op = {.code = ZK__OP_ACCEPT, .io = &listener->io};
        ssize_t fd = memory ? zk__op_run(&op) : -ENOMEM;
        if (fd >= 0) {
            ZK__PROBE(accept, listener->io.fd, fd);
            *ret_stream = zk__socket_stream_begin(memory, (int)fd, marked(&listener->addr));
            return 0;
        }
        rc = is_shortage((int)fd) ? zk__pause(accept_pause) : (int)fd;
    } while (rc >= 0);
    zk_free(memory);
    return rc;
}

void zk_listener_close(zk_listener *listener)
{
    if (!listener) return;
    zk__poller *poller = &zk__worker_self()->poller;
    poller->ops->forget(poller, &listener->io);
    if (listener->is_unix_file) unlink(listener->addr.un.sun_path);
    zk_free(listener);
}

/* A Unix listener whose queue is full says so, but not when there is room again. */
static int connect_unix(zk__op *op)
{
    zk__poller *poller = &zk__worker_self()->poller;
    for (;;) {
        int rc = zk_cancelled();
        if (!rc) rc = (int)poller->ops->attempt(poller, op);
        if (rc != -EAGAIN) return rc;
        rc = zk_sleep(connect_pause);
        if (rc < 0) return rc;
    }
}

int zk_connect(const zk_addr *addr, zk_stream **ret_stream)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    int fd = socket_for(addr);
    if (fd < 0) return fd;
    zk_stream *stream;
    int rc = zk__socket_stream(fd, marked(addr), &stream);
    if (rc < 0) return rc;
    zk__op op = {
        .code = ZK__OP_CONNECT,
        .io = zk__socket_stream_io(stream),
        .addr = &addr->sa,
        .addr_size = addr->size,
    };
    rc = addr->sa.sa_family == AF_UNIX ? connect_unix(&op) : (int)zk__op_run(&op);
    if (rc < 0) {
        zk_stream_close(stream);
        return rc;
    }
    *ret_stream = stream;
    return 0;
}
