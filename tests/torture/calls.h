/*
 * The calls that tests/torture makes fail: a row each, read by inject.c, which defines torture_NAME
 * for it, and by rename_calls.
 *
 *   CALL(type, name, parameters, arguments, errno, may be interrupted)  fails with -1 and errno
 *   CODE(.., result, ..)                                                fails with this result
 *   MOVE(.., arguments)  as CALL; it may also move a single byte, with these arguments
 *   OWN(type, name, why)                                                written out in inject.c
 *
 * Calls whose failure nobody could do anything about (close, munmap, the clock, a write to an
 * eventfd), and those that fail for a wrong argument only (sigaction), are not here.
 */
/* clang-format off */

/* memory */
CODE(void *, malloc, (size_t a), (a), NULL, 0)
CODE(void *, calloc, (size_t a, size_t b), (a, b), NULL, 0)
CODE(void *, realloc, (void *a, size_t b), (a, b), NULL, 0)
CODE(void *, aligned_alloc, (size_t a, size_t b), (a, b), NULL, 0)
CALL(void *, mmap64, (void *a, size_t b, int c, int d, int e, off_t f), (a, b, c, d, e, f), ENOMEM,
     0)
CALL(int, mprotect, (void *a, size_t b, int c), (a, b, c), ENOMEM, 0)
CALL(int, madvise, (void *a, size_t b, int c), (a, b, c), ENOMEM, 0)

/* threads */
CODE(int, pthread_create,
     (pthread_t * a, const pthread_attr_t *b, void *(*c)(void *), void *d), (a, b, c, d), EAGAIN, 0)
CODE(int, pthread_attr_setaffinity_np, (pthread_attr_t * a, size_t b, const cpu_set_t *c),
     (a, b, c), ENOMEM, 0)
CALL(int, sched_getaffinity, (pid_t a, size_t b, cpu_set_t *c), (a, b, c), EPERM, 0)
CALL(int, sched_setaffinity, (pid_t a, size_t b, const cpu_set_t *c), (a, b, c), EPERM, 0)
CALL(long, syscall, (long a, long b, long c, long d, long e, long f), (a, b, c, d, e, f), ENOSYS, 0)
CALL(ssize_t, process_vm_readv,
     (pid_t a, const struct iovec *b, unsigned long c, const struct iovec *d, unsigned long e,
      unsigned long f),
     (a, b, c, d, e, f), EPERM, 0)
CALL(int, sigaltstack, (const stack_t *a, stack_t *b), (a, b), ENOMEM, 0)

/* pollers */
CALL(int, epoll_create1, (int a), (a), EMFILE, 0)
OWN(int, epoll_ctl, removing cannot fail)
CALL(int, epoll_wait, (int a, struct epoll_event *b, int c, int d), (a, b, c, d), EINTR, 1)
CALL(int, eventfd, (unsigned a, int b), (a, b), EMFILE, 0)
CALL(int, poll, (struct pollfd * a, nfds_t b, int c), (a, b, c), ENOMEM, 1)

/* sockets */
CALL(int, socket, (int a, int b, int c), (a, b, c), EMFILE, 0)
CALL(int, socketpair, (int a, int b, int c, int *d), (a, b, c, d), EMFILE, 0)
CALL(int, bind, (int a, const struct sockaddr *b, socklen_t c), (a, b, c), EADDRINUSE, 0)
CALL(int, listen, (int a, int b), (a, b), EADDRINUSE, 0)
CALL(int, accept4, (int a, struct sockaddr *b, socklen_t *c, int d), (a, b, c, d), EMFILE, 1)
CALL(int, connect, (int a, const struct sockaddr *b, socklen_t c), (a, b, c), ENETUNREACH, 0)
CALL(int, setsockopt, (int a, int b, int c, const void *d, socklen_t e), (a, b, c, d, e), ENOBUFS,
     0)
CALL(int, getsockopt, (int a, int b, int c, void *d, socklen_t *e), (a, b, c, d, e), ENOBUFS, 0)
CODE(char *, if_indextoname, (unsigned a, char *b), (a, b), NULL, 0)
CALL(int, getsockname, (int a, struct sockaddr *b, socklen_t *c), (a, b, c), ENOBUFS, 0)
CALL(int, getpeername, (int a, struct sockaddr *b, socklen_t *c), (a, b, c), ENOTCONN, 0)
CALL(int, shutdown, (int a, int b), (a, b), ENOTCONN, 0)
MOVE(ssize_t, send, (int a, const void *b, size_t c, int d), (a, b, c, d), EPIPE, 1, (a, b, 1, d))
CALL(ssize_t, recv, (int a, void *b, size_t c, int d), (a, b, c, d), ECONNRESET, 1)
CALL(ssize_t, sendmsg, (int a, const struct msghdr *b, int c), (a, b, c), EPIPE, 1)
CALL(ssize_t, recvmsg, (int a, struct msghdr *b, int c), (a, b, c), ECONNRESET, 1)
CALL(int, sendmmsg, (int a, struct mmsghdr *b, unsigned c, int d), (a, b, c, d), ENOBUFS, 1)
CALL(int, recvmmsg, (int a, struct mmsghdr *b, unsigned c, int d, struct timespec *e),
     (a, b, c, d, e), ENOMEM, 1)

/* files and pipes */
OWN(ssize_t, read, moves a single byte of files only)
CALL(ssize_t, writev, (int a, const struct iovec *b, int c), (a, b, c), EIO, 1)
MOVE(ssize_t, pread64, (int a, void *b, size_t c, off_t d), (a, b, c, d), EIO, 1, (a, b, 1, d))
MOVE(ssize_t, pwrite64, (int a, const void *b, size_t c, off_t d), (a, b, c, d), ENOSPC, 1,
     (a, b, 1, d))
CALL(int, fsync, (int a), (a), EIO, 1)
CALL(int, fdatasync, (int a), (a), EIO, 1)
CALL(int, ftruncate64, (int a, off_t b), (a, b), EIO, 1)
CALL(int, pipe2, (int *a, int b), (a, b), EMFILE, 0)
MOVE(ssize_t, sendfile64, (int a, int b, off_t *c, size_t d), (a, b, c, d), EIO, 1, (a, b, c, 1))
MOVE(ssize_t, splice, (int a, off_t *b, int c, off_t *d, size_t e, unsigned f), (a, b, c, d, e, f),
     EIO, 1, (a, b, c, d, 1, f))
CALL(ssize_t, preadv64v2, (int a, const struct iovec *b, int c, off_t d, int e), (a, b, c, d, e),
     EIO, 1)
CALL(int, open64, (const char *a, int b, mode_t c), (a, b, c), EMFILE, 1)
CALL(int, openat64, (int a, const char *b, int c, mode_t d), (a, b, c, d), EMFILE, 1)
CALL(int, fcntl64, (int a, int b, long c), (a, b, c), EMFILE, 0)
CALL(int, ioctl, (int a, unsigned long b, void *c), (a, b, c), EIO, 0)
OWN(ssize_t, write, to files only)
CALL(int, fstat64, (int a, struct stat64 *b), (a, b), EIO, 0)
CALL(int, stat64, (const char *a, struct stat64 *b), (a, b), EIO, 0)
CALL(int, fstatat64, (int a, const char *b, struct stat64 *c, int d), (a, b, c, d), EIO, 0)
CODE(DIR *, fdopendir, (int a), (a), NULL, 0)
CODE(struct dirent64 *, readdir64, (DIR * a), (a), NULL, 0)
CALL(ssize_t, getrandom, (void *a, size_t b, unsigned c), (a, b, c), ENOSYS, 0)
CALL(int, mkdir, (const char *a, mode_t b), (a, b), ENOSPC, 0)
CALL(int, rmdir, (const char *a), (a), EIO, 0)
CALL(int, unlink, (const char *a), (a), EIO, 0)
CALL(int, rename, (const char *a, const char *b), (a, b), ENOSPC, 0)

/* processes and signals */
CODE(int, posix_spawnp,
     (pid_t * a, const char *b, const posix_spawn_file_actions_t *c, const posix_spawnattr_t *d,
      char *const *e, char *const *f),
     (a, b, c, d, e, f), EAGAIN, 0)
CODE(int, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t * a, int b, int c),
     (a, b, c), ENOMEM, 0)
CODE(int, posix_spawn_file_actions_addchdir_np, (posix_spawn_file_actions_t * a, const char *b),
     (a, b), ENOMEM, 0)
CODE(int, posix_spawn_file_actions_addclosefrom_np, (posix_spawn_file_actions_t * a, int b), (a, b),
     ENOMEM, 0)
CALL(int, waitid, (idtype_t a, id_t b, siginfo_t *c, int d), (a, b, c, d), ECHILD, 0)

#if ZK__CARES
CODE(int, ares_library_init, (int a), (a), ARES_ENOMEM, 0)
CODE(int, ares_init_options, (ares_channel * a, struct ares_options *b, int c), (a, b, c),
     ARES_ENOMEM, 0)
CODE(int, ares_set_servers_ports_csv, (ares_channel a, const char *b), (a, b), ARES_ENOMEM, 0)
CODE(int, ares_get_servers_ports, (ares_channel a, struct ares_addr_port_node **b), (a, b),
     ARES_ENOMEM, 0)
#endif

#if ZK__IO_URING
CODE(int, io_uring_queue_init_params,
     (unsigned a, struct io_uring *b, struct io_uring_params *c), (a, b, c), -ENOMEM, 0)
CODE(struct io_uring_probe *, io_uring_get_probe_ring, (struct io_uring * a), (a), NULL, 0)
CODE(int, io_uring_register_ring_fd, (struct io_uring * a), (a), -EINVAL, 0)
CODE(int, io_uring_register_buf_ring,
     (struct io_uring * a, struct io_uring_buf_reg *b, unsigned c), (a, b, c), -ENOMEM, 0)
CODE(int, io_uring_submit, (struct io_uring * a), (a), -EAGAIN, 1)
CODE(int, io_uring_submit_and_wait, (struct io_uring * a, unsigned b), (a, b), -EINTR, 1)
CODE(int, io_uring_submit_and_get_events, (struct io_uring * a), (a), -EAGAIN, 1)
CODE(int, io_uring_submit_and_wait_timeout,
     (struct io_uring * a, struct io_uring_cqe **b, unsigned c, struct __kernel_timespec *d,
      sigset_t *e),
     (a, b, c, d, e), -EINTR, 1)
#endif
/* clang-format on */
