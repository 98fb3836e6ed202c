/*
 * Child processes: started, talked to through streams, waited for, ended.
 *
 * A child does not outlive its zk_process: closing that kills what still runs. It begins with no
 * descriptors but the three standard ones, no signal blocked, and every signal at its default.
 */
#ifndef ZOKIO_PROCESS_H
#define ZOKIO_PROCESS_H

#include <sys/types.h>

#include <zokio/base.h>
#include <zokio/stream.h>

ZK_BEGIN

/** A child process. Belongs to the worker that has started it. */
typedef struct zk_process zk_process;

/** What one of the child's standard descriptors is. */
typedef enum zk_stdio_kind {
    ZK_STDIO_INHERIT, /* the one of this process */
    ZK_STDIO_NULL,    /* /dev/null */
    ZK_STDIO_PIPE,    /* a stream of the zk_process */
    ZK_STDIO_FD,      /* the descriptor `fd`, which stays the caller's */
    ZK_STDIO_MERGE,   /* err only: where out goes */
} zk_stdio_kind;

typedef struct zk_stdio {
    zk_stdio_kind kind;
    int fd;
} zk_stdio;

typedef struct zk_process_options {
    /* the program and its arguments, ended by NULL; searched for in PATH if there is no slash */
    const char *const *argv;
    const char *const *env; /* "NAME=value", ended by NULL; NULL: that of this process */
    const char *cwd; /* NULL: that of this process. A relative argv[0] with a slash is below it. */
    zk_stdio in, out, err;
    /* the child leads a process group of its own; signals go to the whole group */
    bool has_own_group;
} zk_process_options;

/** How a child has ended. */
typedef struct zk_process_exit {
    int code;   /* of exit; -1 if a signal has ended it */
    int signal; /* that; 0 if none has */
} zk_process_exit;

/**
 * Starts a child process. Suspends always. Once begun it is waited for, so that a cancelled call
 * has started nothing, and one that has started something hands it over.
 *
 * @return 0; -ENOENT, -EACCES, -ENOEXEC and what else execve(2) or chdir(2) says; -EINVAL (no
 *   argv, MERGE for in or out); -EBADF (ZK_STDIO_FD); -EMFILE, -EAGAIN (no process or thread can be
 *   had), -ENOMEM; -ECANCELED, -ETIMEDOUT; ZK_E_NO_RUNTIME
 */
ZK_API int zk_process_spawn(const zk_process_options *options, zk_process **ret_process)
    ZK_NODISCARD;

/** The child's process number; not to be used once it has been waited for. Never suspends. */
ZK_API pid_t zk_process_pid(const zk_process *process);

/**
 * The stream that the child reads as its standard input, or reads its standard output or error
 * from; NULL unless it is a ZK_STDIO_PIPE. It is closed with the process. Never suspends.
 */
ZK_API zk_stream *zk_process_stdin(zk_process *process);
/** As zk_process_stdin. */
ZK_API zk_stream *zk_process_stdout(zk_process *process);
/** As zk_process_stdin. */
ZK_API zk_stream *zk_process_stderr(zk_process *process);

/** Closes the stream to the child's standard input: the child reads its end. Never suspends. */
ZK_API void zk_process_close_stdin(zk_process *process);

/**
 * Waits for the child to end. Its output may be read before or after; a child that waits for
 * somebody to read it does not end. May be called again. Suspends sometimes. One task at a time.
 *
 * @return 0; -ECANCELED, -ETIMEDOUT (the child runs on), -ENOMEM; -EBUSY (another task waits);
 *   -ECHILD: somebody else has waited for it, or this process ignores SIGCHLD; ZK_E_WORKER
 */
ZK_API int zk_process_wait(zk_process *process, zk_process_exit *ret_exit) ZK_NODISCARD;

/**
 * Sends a signal to the child, or to its group. Never suspends.
 *
 * @return 0, also for one that has ended and was not waited for; -ESRCH once it was; -EINVAL;
 *   -EPERM; ZK_E_WORKER
 */
ZK_API int zk_process_signal(zk_process *process, int number);

/**
 * Ends the child: SIGTERM, SIGKILL once `grace` has passed, and waits for it, in a cancelled scope
 * too. A group of its own is killed with it. Suspends sometimes.
 *
 * @param grace     0: SIGKILL at once
 * @param ret_exit  may be NULL
 * @return 0; -EBUSY, -ECHILD, ZK_E_WORKER as zk_process_wait
 */
ZK_API int zk_process_stop(zk_process *process, zk_time grace, zk_process_exit *ret_exit);

/**
 * Closes the streams, kills the child with SIGKILL if it was not waited for, and frees; NULL is
 * allowed. No task may be using it. Suspends while a killed child dies.
 */
ZK_API void zk_process_close(zk_process *process);

/* ---- in one call ----------------------------------------------------------------------------- */

/** What zk_process_run is to do besides starting the child. Zero-initialised is a good choice. */
typedef struct zk_process_run_options {
    zk_str input;            /* written to the child if its `in` is a ZK_STDIO_PIPE */
    size_t output_bytes_max; /* of each stream; 0: 1 MiB */
    zk_time grace;           /* between SIGTERM and SIGKILL; 0: two seconds */
} zk_process_run_options;

/** What has become of it. */
typedef struct zk_process_result {
    zk_process_exit exit;
    /* what it wrote where that is a ZK_STDIO_PIPE; else NULL. A NUL, not counted, follows. */
    char *out, *err;
    size_t out_size, err_size;
} zk_process_result;

/**
 * Runs a child to its end: feeds it, collects what it writes, waits for it. On an error or when the
 * scope is cancelled it is ended as zk_process_stop does it, before this returns. Suspends always.
 *
 * The call waits for the ends of the output, too: what the child has left running in the background
 * with its output is waited for. A child that does not read all its input is no error.
 *
 * @param run         NULL for the defaults
 * @param ret_result  to be freed with zk_process_result_done
 * @return 0, whatever the exit code; ZK_E_LIMIT: too much output; what zk_process_spawn and
 *   zk_process_wait return
 */
ZK_API int zk_process_run(const zk_process_options *options, const zk_process_run_options *run,
                          zk_process_result *ret_result) ZK_NODISCARD;

/** Frees what zk_process_run has given; a zeroed one is allowed. Never suspends. */
ZK_API void zk_process_result_done(zk_process_result *result);

ZK_END
#endif
