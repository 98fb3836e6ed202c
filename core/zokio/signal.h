/*
 * Signals as a stream: a task waits for SIGHUP as it waits for anything else.
 */
#ifndef ZOKIO_SIGNAL_H
#define ZOKIO_SIGNAL_H

#include <signal.h>
#include <sys/types.h>

#include <zokio/base.h>

ZK_BEGIN

/** Listens for some signals. Belongs to the worker that first waits on it. */
typedef struct zk_signals zk_signals;

/** What is known of a signal, as siginfo_t has it. */
typedef struct zk_signal_info {
    int number;
    int code;   /* SI_USER, SI_QUEUE, CLD_EXITED, ... */
    pid_t pid;  /* who sent it, or which child it is about; else 0 */
    uid_t uid;  /* of that process */
    int status; /* SIGCHLD: exit code or signal */
    int value;  /* SI_QUEUE: what sigqueue(3) was given */
} zk_signal_info;

/** How many zk_signals may be open at once in a process. */
#define ZK_SIGNALS_MAX 64

/**
 * Begins to listen. From now on the signals do not do what they did before; the first listener of a
 * signal installs a handler, and when the last one is closed the disposition from before is put
 * back. Each of several listeners sees each signal. The signals must not be blocked in all threads.
 * Children made by zk_process_spawn do not inherit any of this. Never suspends.
 *
 * @param numbers  signals, ended by 0. Not those that cannot be caught (SIGKILL, SIGSTOP) or that
 *   tell of an error at the place where they arise (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
 *   SIGSYS)
 * @return 0; -EINVAL; ZK_E_LIMIT (ZK_SIGNALS_MAX are open); -EMFILE, -ENOMEM, ZK_E_NO_RUNTIME
 */
ZK_API int zk_signals_open(const int *numbers, zk_signals **ret_signals) ZK_NODISCARD;

/**
 * Waits for the next signal. They come in the order of their arrival. As with the kernel's own
 * queue, the same signal sent again before the first one has been taken may be told once; that
 * begins when about 2,000 wait. Suspends until there is one. One task at a time.
 *
 * @param ret_info  NULL, or what is known of it; after such an overflow only the number
 * @return the signal's number; -ECANCELED, -ETIMEDOUT (no signal is lost), -ENOMEM, ZK_E_WORKER,
 *   ZK_E_NO_RUNTIME
 */
ZK_API int zk_signals_next(zk_signals *signals, zk_signal_info *ret_info) ZK_NODISCARD;

/**
 * Ends listening and frees; NULL is allowed. No task may be waiting. Signals that have come and
 * were not taken are dropped. On the worker that has waited on it, or that opened it. Never
 * suspends.
 */
ZK_API void zk_signals_close(zk_signals *signals);

ZK_END
#endif
