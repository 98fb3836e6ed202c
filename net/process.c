/*
 * Child processes: posix_spawn on the blocking pool, and a pidfd to wait for the end.
 *
 * posix_spawn runs the child on this memory until it has executed its program (CLONE_VFORK), which
 * is why it is cheap, why errors of exec come back, and why it blocks: so it goes to the pool. It
 * closes all descriptors above the standard ones in the child, blocks all signals meanwhile, and
 * puts handlers to their defaults before it unblocks them.
 *
 *   spawn -> running --the pidfd is readable--> ended, a zombie --reap--> is_reaped
 *
 * The number of a process is its own until it is reaped, so signals go to numbers only before that.
 * Where no pidfd can be had (before Linux 5.3, or out of descriptors) waiting looks again and
 * again.
 */
#include <zokio/process.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/worker.h"
#include "net/socket.h"

enum { IN, OUT, ERR, STDIO_COUNT };
static const zk_time look_first = ZK_MS(1), look_last = ZK_MS(50);

struct zk_process {
    zk__worker *worker;
    pid_t pid;
    zk__io io; /* the pidfd; -1: there is none */
    bool has_own_group;
    bool is_reaped, is_waiting;
    bool is_stopping; /* with its group, once it has ended */
    int error;        /* of reaping */
    zk_process_exit exit;
    zk_stream *streams[STDIO_COUNT];
};

extern char **environ;

/* ---- starting, in the pool ---- */

typedef struct start {
    const zk_process_options *options;
    pid_t pid;
    int pidfd;
    int ours[STDIO_COUNT];  /* our ends of pipes; -1: none */
    int child[STDIO_COUNT]; /* what the child is to have; -1: what it has. None is below 3. */
} start;

static void fds_close(int *fds)
{
    for (int i = 0; i < STDIO_COUNT; i++) {
        if (fds[i] >= 0) close(fds[i]);
        fds[i] = -1;
    }
}

/* Above the numbers that the child's are moved to, so that none is overwritten before its turn. */
static int raise_fd(int fd, bool is_to_close)
{
    int raised = fcntl(fd, F_DUPFD_CLOEXEC, STDIO_COUNT);
    int rc = raised < 0 ? -errno : raised;
    if (is_to_close) close(fd);
    return rc;
}

static int pipe_open(start *s, int i)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    int mine = i == IN ? 1 : 0;
    s->ours[i] = ends[mine];
    if (fcntl(s->ours[i], F_SETFL, O_NONBLOCK)) {
        int rc = -errno;
        close(ends[!mine]);
        return rc;
    }
    return raise_fd(ends[!mine], true);
}

/* returns the child's descriptor; -1: as it is; below that -errno. */
static int stdio_open(start *s, int i, zk_stdio stdio)
{
    int fd;
    switch (stdio.kind) {
    case ZK_STDIO_INHERIT: return -1;
    case ZK_STDIO_NULL: do { fd = open("/dev/null", (i == IN ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
        } while (fd < 0 && errno == EINTR);
        return fd < 0 ? -errno : raise_fd(fd, true);
    case ZK_STDIO_PIPE: return pipe_open(s, i);
    case ZK_STDIO_FD: return raise_fd(stdio.fd, false);
    case ZK_STDIO_MERGE:
        if (i != ERR) return -EINVAL;
        return raise_fd(s->child[OUT] >= 0 ? s->child[OUT] : STDOUT_FILENO, false);
    }
    return -EINVAL;
}

static int actions_fill(const start *s, posix_spawn_file_actions_t *actions)
{
    int rc = 0;
    for (int i = 0; !rc && i < STDIO_COUNT; i++) {
        if (s->child[i] >= 0) rc = posix_spawn_file_actions_adddup2(actions, s->child[i], i);
    }
    if (!rc) rc = posix_spawn_file_actions_addclosefrom_np(actions, STDIO_COUNT);
    if (!rc && s->options->cwd) {
        rc = posix_spawn_file_actions_addchdir_np(actions, s->options->cwd);
    }
    return rc;
}

static int attributes_fill(const start *s, posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (s->options->has_own_group) flags |= POSIX_SPAWN_SETPGROUP; /* 0: its own number */
    int rc = posix_spawnattr_setflags(attributes, flags);
    if (!rc) rc = posix_spawnattr_setsigmask(attributes, &none);
    if (!rc) rc = posix_spawnattr_setsigdefault(attributes, &all);
    return rc;
}

static int child_start(start *s)
{
    const zk_process_options *o = s->options;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc) return -rc;
    rc = posix_spawnattr_init(&attributes);
    if (!rc) {
        rc = actions_fill(s, &actions);
        if (!rc) rc = attributes_fill(s, &attributes);
        if (!rc) {
            rc = posix_spawnp(&s->pid, o->argv[0], &actions, &attributes, (char **)o->argv,
                              o->env ? (char **)o->env : environ);
        }
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static int job_start(void *arg)
{
    start *s = arg;
    const zk_stdio stdio[] = {s->options->in, s->options->out, s->options->err};
    int rc = 0;
    for (int i = 0; rc >= 0 && i < STDIO_COUNT; i++) {
        int fd = stdio_open(s, i, stdio[i]);
        if (fd < -1 || (fd == -1 && stdio[i].kind != ZK_STDIO_INHERIT)) {
            rc = fd;
        } else {
            s->child[i] = fd;
        }
    }
    if (rc >= 0) rc = child_start(s);
    fds_close(s->child);
    if (rc < 0) {
        fds_close(s->ours);
        return rc;
    }
    s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    return 0;
}

/* ---- ending ---- */

static void set_exit(zk_process *p, const siginfo_t *info)
{
    bool has_exited = info->si_code == CLD_EXITED;
    p->exit.code = has_exited ? info->si_status : -1;
    p->exit.signal = has_exited ? 0 : info->si_status;
}

/* Takes note of the end. flags: WNOHANG, or 0 to block. returns whether it is reaped. */
static bool reap(zk_process *p, int flags)
{
    siginfo_t info = {0};
    if (p->is_reaped) return true;
    if (p->is_stopping && p->has_own_group) {
        /* The group's number is safe as long as its leader is there to be reaped. */
        if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOWAIT | flags)) info.si_pid = 0;
        if (!info.si_pid) return false;
        kill(-p->pid, SIGKILL);
    }
    int rc;
    do {
        info.si_pid = 0;
        rc = waitid(P_PID, (id_t)p->pid, &info, WEXITED | flags);
    } while (rc && errno == EINTR);
    if (!rc && !info.si_pid) return false;
    p->is_reaped = true;
    if (rc) {
        p->error = -errno;
    } else {
        set_exit(p, &info);
    }
    return true;
}

/* Waits until there may be something to reap. */
static int wait_for_end(zk_process *p, zk_time *pause)
{
    if (p->io.fd >= 0) {
        zk__op op = {.code = ZK__OP_READABLE, .io = &p->io};
        return (int)zk__op_run(&op);
    }
    int rc = zk_sleep(*pause);
    *pause = *pause < look_last / 2 ? *pause * 2 : look_last;
    return rc;
}

int zk_process_wait(zk_process *process, zk_process_exit *ret_exit)
{
    zk_process *p = process;
    if (p->worker != zk__worker_self()) return ZK_E_WORKER;
    if (p->is_waiting) return -EBUSY;
    zk_time pause = look_first;
    int rc = zk_cancelled();
    p->is_waiting = true;
    while (rc >= 0 && !reap(p, WNOHANG))
        rc = wait_for_end(p, &pause);
    p->is_waiting = false;
    if (rc >= 0) rc = p->error;
    if (rc < 0) return rc;
    *ret_exit = p->exit;
    return 0;
}

int zk_process_signal(zk_process *process, int number)
{
    if (process->worker != zk__worker_self()) return ZK_E_WORKER;
    if (process->is_reaped) return -ESRCH;
    return kill(process->has_own_group ? -process->pid : process->pid, number) ? -errno : 0;
}

/* A wait that neither cancellation nor a lack of memory ends: the child is dying. */
static int wait_always(zk_process *p, zk_process_exit *ret_exit)
{
    int rc = 0;
    ZK_SHIELD
        rc = zk_process_wait(p, ret_exit);
    if (p->is_reaped || rc == -EBUSY) return rc;
    while (!reap(p, 0))
        continue;
    if (!p->error) *ret_exit = p->exit;
    return p->error;
}

int zk_process_stop(zk_process *process, zk_time grace, zk_process_exit *ret_exit)
{
    zk_process *p = process;
    zk_process_exit end;
    if (p->worker != zk__worker_self()) return ZK_E_WORKER;
    if (p->is_waiting) return -EBUSY;
    p->is_stopping = true;
    if (!p->is_reaped && grace > 0) {
        (void)zk_process_signal(p, SIGTERM);
        ZK_SHIELD {
            int rc = 0;
            ZK_WITHIN(grace)
                rc = zk_process_wait(p, &end);
            (void)rc; /* p tells whether it has ended */
        }
    }
    if (!p->is_reaped) (void)zk_process_signal(p, SIGKILL);
    int rc = wait_always(p, &end);
    if (rc >= 0 && ret_exit) *ret_exit = end;
    return rc;
}

void zk_process_close(zk_process *process)
{
    zk_process *p = process;
    if (!p) return;
    if (p->worker != zk__worker_self()) {
        zk__panic("zk_process_close on another worker than the process's");
    }
    for (int i = 0; i < STDIO_COUNT; i++)
        zk_stream_close(p->streams[i]);
    if (!p->is_reaped) (void)zk_process_stop(p, 0, NULL);
    if (p->io.fd >= 0) p->worker->poller.ops->forget(&p->worker->poller, &p->io);
    zk_free(p);
}

/* ---- what is started ---- */

static int streams_open(zk_process *p, int *fds)
{
    for (int i = 0; i < STDIO_COUNT; i++) {
        if (fds[i] < 0) continue;
        int fd = fds[i];
        fds[i] = -1; /* zk__fd_stream closes it if it fails */
        int rc = zk__fd_stream(fd, 0, &p->streams[i]);
        if (rc < 0) return rc;
    }
    return 0;
}

int zk_process_spawn(const zk_process_options *options, zk_process **ret_process)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (!options->argv || !options->argv[0]) return -EINVAL;
    zk_process *p = zk_alloc_zeroed(sizeof *p);
    if (!p) return -ENOMEM;
    start s = {.options = options, .ours = {-1, -1, -1}, .child = {-1, -1, -1}};
    int rc = zk_blocking(job_start, &s);
    if (rc < 0) {
        zk_free(p);
        return rc;
    }
    p->worker = zk__worker_self();
    p->pid = s.pid;
    p->has_own_group = options->has_own_group;
    zk__io_init(&p->io, s.pidfd, 0);
    zk__leak_name(p, "process", s.pidfd);
    rc = streams_open(p, s.ours);
    if (rc < 0) {
        fds_close(s.ours);
        zk_process_close(p);
        return rc;
    }
    zk__bind_to_worker();
    *ret_process = p;
    return 0;
}

pid_t zk_process_pid(const zk_process *process) { return process->pid; }

zk_stream *zk_process_stdin(zk_process *process) { return process->streams[IN]; }

zk_stream *zk_process_stdout(zk_process *process) { return process->streams[OUT]; }

zk_stream *zk_process_stderr(zk_process *process) { return process->streams[ERR]; }

void zk_process_close_stdin(zk_process *process)
{
    zk_stream_close(process->streams[IN]);
    process->streams[IN] = NULL;
}

/* ---- in one call ---- */

typedef struct feeding {
    zk_process *process;
    zk_str input;
} feeding;

static int feed(void *arg)
{
    feeding *f = arg;
    int rc = zk_stream_write(f->process->streams[IN], f->input.data, f->input.size);
    zk_process_close_stdin(f->process);
    return rc == -EPIPE ? 0 : rc;
}

typedef struct collecting {
    zk_stream *from;
    size_t bytes_max;
    char *data;
    size_t size, capacity;
} collecting;

static int collect_grow(collecting *c)
{
    size_t capacity = c->capacity ? 2 * c->capacity : 4096;
    /* A byte more than allowed shows the excess, and one is for the NUL. */
    if (c->bytes_max < SIZE_MAX / 4 && capacity > c->bytes_max + 2) capacity = c->bytes_max + 2;
    char *grown = zk_alloc(capacity);
    if (!grown) return -ENOMEM;
    if (c->size) memcpy(grown, c->data, c->size);
    zk_free(c->data);
    c->data = grown;
    c->capacity = capacity;
    return 0;
}

static int collect(void *arg)
{
    collecting *c = arg;
    for (;;) {
        if (c->size + 1 >= c->capacity) {
            int rc = collect_grow(c);
            if (rc < 0) return rc;
        }
        ssize_t n = zk_stream_read(c->from, c->data + c->size, c->capacity - 1 - c->size);
        if (n < 0) return (int)n;
        c->size += (size_t)n;
        if (c->size > c->bytes_max) return ZK_E_LIMIT;
        if (n) continue;
        c->data[c->size] = '\0';
        return 0;
    }
}

/* Feeds the child and collects its output until all has ended. */
static int attend(zk_process *p, zk_str input, collecting *out, collecting *err,
                  zk_process_exit *ret_exit)
{
    int rc = 0;
    ZK_SCOPE(s) {
        /* Passed by void *: these are of this frame, which outlives the scope. */
        feeding f = {.process = p, .input = input};
        if (p->streams[IN]) rc = zk_spawn(&s, feed, (void *)&f);
        if (rc >= 0 && out->from) rc = zk_spawn(&s, collect, (void *)out);
        if (rc >= 0 && err->from) rc = zk_spawn(&s, collect, (void *)err);
        if (rc < 0) zk_scope_cancel(&s);
        int waited = zk_process_wait(p, ret_exit);
        int joined = zk_scope_wait(&s);
        if (rc >= 0) rc = joined < 0 ? joined : waited;
    }
    /* The scope inside knows that it was cancelled, the one around it why. */
    return rc == -ECANCELED && zk_cancelled() ? zk_cancelled() : rc;
}

int zk_process_run(const zk_process_options *options, const zk_process_run_options *run,
                   zk_process_result *ret_result)
{
    static const zk_process_run_options defaults = {0};
    zk_process *p;
    zk_process_exit end = {0};
    if (!run) run = &defaults;
    int rc = zk_process_spawn(options, &p);
    if (rc < 0) return rc;
    size_t bytes_max = run->output_bytes_max ? run->output_bytes_max : 1 << 20;
    collecting out = {.from = p->streams[OUT], .bytes_max = bytes_max};
    collecting err = {.from = p->streams[ERR], .bytes_max = bytes_max};
    rc = attend(p, run->input, &out, &err, &end);
    if (rc < 0) (void)zk_process_stop(p, run->grace > 0 ? run->grace : ZK_SEC(2), NULL);
    zk_process_close(p);
    if (rc < 0) {
        zk_free(out.data);
        zk_free(err.data);
        return rc;
    }
    *ret_result = (zk_process_result){
        .exit = end,
        .out = out.data,
        .out_size = out.size,
        .err = err.data,
        .err_size = err.size,
    };
    return 0;
}

void zk_process_result_done(zk_process_result *result)
{
    zk_free(result->out);
    zk_free(result->err);
    *result = (zk_process_result){0};
}
