/*
 * The system calls that make and change sockets. Those that move bytes are the poller's.
 *
 * Each poller says whose they are: the system's, or the simulated ones. All return their result, or
 * -errno.
 */
#ifndef ZOKIO_CORE_KERNEL_H
#define ZOKIO_CORE_KERNEL_H

#include <stdbool.h>
#include <sys/socket.h>

struct zk__kernel {
    /* Non-blocking and close-on-exec. */
    int (*socket)(int family, int type, int protocol);
    int (*set_option)(int fd, int level, int name, const void *value, socklen_t size);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t size);
    int (*listen)(int fd, int backlog);
    /* The peer's address or the own one. */
    int (*name)(int fd, bool is_peer, struct sockaddr *ret_addr, socklen_t *size);
    int (*shutdown)(int fd, int how);
    int (*duplicate)(int fd);
    /* Of what has not been given to the poller. */
    int (*close)(int fd);
};

extern const struct zk__kernel zk__kernel_system;

#endif
