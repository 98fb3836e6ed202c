/*
 * The system's calls for sockets, with errors as return values.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/kernel.h"

static int result(int rc) { return rc < 0 ? -errno : rc; }

static int system_socket(int family, int type, int protocol)
{
    return result(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

static int system_set_option(int fd, int level, int name, const void *value, socklen_t size)
{
    return result(setsockopt(fd, level, name, value, size));
}

static int system_bind(int fd, const struct sockaddr *addr, socklen_t size)
{
    return result(bind(fd, addr, size));
}

static int system_listen(int fd, int backlog) { return result(listen(fd, backlog)); }

static int system_name(int fd, bool is_peer, struct sockaddr *ret_addr, socklen_t *size)
{
    return result(is_peer ? getpeername(fd, ret_addr, size) : getsockname(fd, ret_addr, size));
}

static int system_shutdown(int fd, int how) { return result(shutdown(fd, how)); }
static int system_duplicate(int fd) { return result(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static int system_close(int fd) { return result(close(fd)); }

const struct zk__kernel zk__kernel_system = {
    .socket = system_socket,
    .set_option = system_set_option,
    .bind = system_bind,
    .listen = system_listen,
    .name = system_name,
    .shutdown = system_shutdown,
    .duplicate = system_duplicate,
    .close = system_close,
};
