/*
 * torture_NAME for each row of calls.h: counts, fails when it is its turn, else calls NAME.
 */
#include "tests/torture/inject.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fcntl.h>

#if ZK__IO_URING
#include <liburing.h>
#endif

torture *torture_state;

static bool is_due(const char *name, bool is_interruptible, bool is_move)
{
    torture *t = torture_state;
    if (!t || (t->manner == TORTURE_INTERRUPT && !is_interruptible) ||
        (t->manner == TORTURE_SHORT && !is_move)) {
        return false;
    }
    int number = atomic_fetch_add(&t->calls, 1) + 1, count = 1;
    if (t->manner == TORTURE_STRETCH) count = TORTURE_STRETCH_CALLS;
    if (!t->first || number < t->first || number >= t->first + count) return false;
    if (number == t->first) t->failed = name;
    return true;
}

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
