/*
 * torture_NAME for each row of calls.h: counts, fails when it is its turn, else calls NAME.
 */
#include "tests/torture/inject.h"

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>

#if ZK__CARES
#include <ares.h>
#endif
#if ZK__IO_URING
#include <liburing.h>
#endif

torture *torture_state;

/* A hash of who called whom to get here. All is built with frame pointers; above a task's entry, or
 * in code of others, there may be none. */
static unsigned long long path_here(void)
{
    enum { DEPTH = 6, FRAME_BYTES_MAX = 1 << 14 };
    void **frame = __builtin_frame_address(0);
    unsigned long long hash = 1469598103934665603u;
    for (int i = 0; i < DEPTH; i++) {
        hash = (hash ^ (uintptr_t)frame[1]) * 1099511628211u;
        void **next = frame[0];
        if (next <= frame || (char *)next - (char *)frame > FRAME_BYTES_MAX) break;
        frame = next;
    }
    return hash | 1;
}

static void note_path(torture *t, int number)
{
    unsigned long long path = path_here();
    for (size_t i = path >> 20, tries = 0; tries < 64; i++, tries++) {
        atomic_ullong *slot = &t->paths[i % (2 * TORTURE_PATHS_MAX)];
        unsigned long long there = 0;
        if (atomic_compare_exchange_strong(slot, &there, path)) {
            int n = atomic_fetch_add(&t->path_count, 1);
            if (n < TORTURE_PATHS_MAX) t->path_firsts[n] = number;
            return;
        }
        if (there == path) return;
    }
}

static bool is_due(const char *name, bool is_interruptible, bool is_move)
{
    torture *t = torture_state;
    if (!t || (t->manner == TORTURE_INTERRUPT && !is_interruptible) ||
        (t->manner == TORTURE_SHORT && !is_move)) {
        return false;
    }
    int number = atomic_fetch_add(&t->calls, 1) + 1, count = 1;
    if (!t->first) {
        note_path(t, number);
        return false;
    }
    if (t->manner == TORTURE_STRETCH) count = TORTURE_STRETCH_CALLS;
    if (number < t->first || number >= t->first + count) return false;
    if (number == t->first) t->failed = name;
    return true;
}

/* What goes to an eventfd or to a signal handler's pipe cannot fail, nor be cut in two. */
ssize_t torture_write(int fd, const void *data, size_t bytes);
ssize_t torture_write(int fd, const void *data, size_t bytes)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !is_due("write", true, true))
        return write(fd, data, bytes);
    if (torture_state->manner == TORTURE_SHORT) return write(fd, data, 1);
    errno = torture_state->manner == TORTURE_INTERRUPT ? EINTR : ENOSPC;
    return -1;
}

/* As recv, it moves less from a pipe than asked for only if there is no more. */
ssize_t torture_read(int fd, void *buf, size_t bytes);
ssize_t torture_read(int fd, void *buf, size_t bytes)
{
    struct stat st;
    bool is_file = !fstat(fd, &st) && S_ISREG(st.st_mode);
    if (!is_due("read", true, is_file)) return read(fd, buf, bytes);
    if (torture_state->manner == TORTURE_SHORT) return read(fd, buf, 1);
    errno = torture_state->manner == TORTURE_INTERRUPT ? EINTR : EIO;
    return -1;
}

/* To remove a descriptor takes no memory. */
int torture_epoll_ctl(int epoll_fd, int what, int fd, struct epoll_event *event);
int torture_epoll_ctl(int epoll_fd, int what, int fd, struct epoll_event *event)
{
    if (what == EPOLL_CTL_DEL || !is_due("epoll_ctl", false, false))
        return epoll_ctl(epoll_fd, what, fd, event);
    errno = ENOMEM;
    return -1;
}

#define OWN(type, name, why)
#define DEFINE(type, name, parameters, arguments, error, interruptible, is_move, result, act)      \
    type torture_##name parameters;                                                                \
    type torture_##name parameters                                                                 \
    {                                                                                              \
        if (!is_due(#name, interruptible, is_move)) return name arguments;                         \
        act;                                                                                       \
        errno = torture_state->manner == TORTURE_INTERRUPT ? EINTR : (error);                      \
        return result;                                                                             \
    }

#define CALL(type, name, parameters, arguments, error, interruptible)                              \
    DEFINE(type, name, parameters, arguments, error, interruptible, false, (type)-1, )
#define CODE(type, name, parameters, arguments, result, interruptible)                             \
    DEFINE(type, name, parameters, arguments, ENOMEM, interruptible, false,                        \
           interruptible && torture_state->manner == TORTURE_INTERRUPT ? (type)-EINTR : result, )
#define MOVE(type, name, parameters, arguments, error, interruptible, of_one)                      \
    DEFINE(type, name, parameters, arguments, error, interruptible, true, (type)-1,                \
           if (torture_state->manner == TORTURE_SHORT) return name of_one)

#include "tests/torture/calls.h"
