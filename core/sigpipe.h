/*
 * Writing without SIGPIPE where the system call has no flag for it: pipes, sendfile, splice.
 *
 * The signal goes to the thread that writes, while it writes. So it is blocked there meanwhile, and
 * taken back if it came. A thread that had it blocked all along keeps what its owner has arranged.
 */
#ifndef ZOKIO_CORE_SIGPIPE_H
#define ZOKIO_CORE_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>
#include <time.h>

typedef struct zk__sigpipe {
    sigset_t only, before;
} zk__sigpipe;

static inline void zk__sigpipe_hold(zk__sigpipe *s)
{
    sigemptyset(&s->only);
    sigaddset(&s->only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &s->only, &s->before);
}

/* is_broken: the call has said EPIPE. Leaves errno alone only if it is not. */
static inline void zk__sigpipe_release(zk__sigpipe *s, bool is_broken)
{
    if (sigismember(&s->before, SIGPIPE)) return;
    if (is_broken) sigtimedwait(&s->only, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &s->before, NULL);
}

#endif
