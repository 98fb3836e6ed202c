/*
 * Child processes: what they get, what they give back, how they end, and that nothing is left.
 */
#include "tests/async.h"
#include "tests/open_count.h"

#include <errno.h>
#include <fcntl.h>

#include <zokio/process.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SHELL(script) ARGV("sh", "-c", script)
static const zk_stdio from_pipe = {.kind = ZK_STDIO_PIPE};

/* No child, not even a zombie. */
static void assert_no_child(void)
{
    cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static zk_process *spawn(const zk_process_options *options)
{
    zk_process *p;
    cr_assert_ok(zk_process_spawn(options, &p));
    return p;
}

static zk_process *spawn_shell(const char *script)
{
    return spawn(&(zk_process_options){.argv = SHELL(script), .out = from_pipe});
}

static zk_process_result run(const zk_process_options *options, const char *input)
{
    zk_process_result r;
    zk_process_run_options how = {.input = {input, strlen(input)}};
    cr_assert_ok(zk_process_run(options, &how, &r));
    return r;
}

/* What the child writes until its first line's end. */
static void await_line(zk_process *p, const char *wanted)
{
    char line[64];
    size_t size = 0;
    do {
        cr_assert_lt(size, sizeof line - 1);
        cr_assert_rc(zk_stream_read(zk_process_stdout(p), line + size, 1), 1);
    } while (line[size++] != '\n');
    line[size - 1] = '\0';
    cr_assert_str_eq(line, wanted);
}

/* ---- what a child gets ---- */

ZK_ASYNC_TEST(process, output_and_exit_code_come_back)
{
    int open_before = open_count();
    zk_process_options o = {
        .argv = SHELL("cat; echo oops >&2; exit 7"),
        .in = from_pipe,
        .out = from_pipe,
        .err = from_pipe,
    };
    zk_process_result r = run(&o, "hello");
    cr_assert_str_eq(r.out, "hello");
    cr_assert_str_eq(r.err, "oops\n");
    cr_assert(r.out_size == 5 && r.err_size == 5);
    cr_assert(r.exit.code == 7 && r.exit.signal == 0);
    zk_process_result_done(&r);
    cr_assert(!r.out && !r.err);
    assert_no_child();
    cr_assert_eq(open_count(), open_before);
}

/* More in both directions than pipes hold: nobody waits for the other. */
ZK_ASYNC_TEST(process, a_megabyte_goes_through_cat)
{
    enum { SIZE = 1 << 20 };
    char *data = zk_alloc(SIZE);
    cr_assert_not_null(data);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 >> 3);
    zk_process_options o = {.argv = ARGV("cat"), .in = from_pipe, .out = from_pipe};
    zk_process_run_options how = {.input = {data, SIZE}, .output_bytes_max = SIZE};
    zk_process_result r;
    cr_assert_ok(zk_process_run(&o, &how, &r));
    cr_assert(r.out_size == SIZE && memcmp(r.out, data, SIZE) == 0);
    zk_process_result_done(&r);
    zk_free(data);
}

ZK_ASYNC_TEST(process, environment_and_directory_are_as_asked_for)
{
    zk_process_options o = {.argv = SHELL("pwd; echo $WHAT"), .out = from_pipe};
    setenv("WHAT", "inherited", 1);
    o.cwd = "/";
    zk_process_result r = run(&o, "");
    cr_assert_str_eq(r.out, "/\ninherited\n");
    zk_process_result_done(&r);
    o.env = ARGV("WHAT=given");
    r = run(&o, "");
    cr_assert_str_eq(r.out, "/\ngiven\n");
    zk_process_result_done(&r);
}

ZK_ASYNC_TEST(process, stderr_can_go_where_stdout_goes)
{
    zk_process_options o = {.argv = SHELL("echo a; echo b >&2; echo c")};
    o.out = from_pipe;
    o.err.kind = ZK_STDIO_MERGE;
    zk_process_result r = run(&o, "");
    cr_assert_str_eq(r.out, "a\nb\nc\n");
    cr_assert_null(r.err);
    zk_process_result_done(&r);
    int ends[2];
    char buf[8] = "";
    cr_assert(!pipe2(ends, O_CLOEXEC));
    o.out = (zk_stdio){.kind = ZK_STDIO_FD, .fd = ends[1]};
    r = run(&o, "");
    cr_assert_rc(read(ends[0], buf, sizeof buf - 1), 6);
    cr_assert_str_eq(buf, "a\nb\nc\n");
    close(ends[0]);
    close(ends[1]);
}

/* The descriptors given are 1 and 2 themselves, the other way round. */
ZK_ASYNC_TEST(process, standard_descriptors_can_be_swapped)
{
    int out[2], err[2], saved[2];
    char buf[8] = "";
    cr_assert(!pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
    saved[0] = fcntl(1, F_DUPFD_CLOEXEC, 3);
    saved[1] = fcntl(2, F_DUPFD_CLOEXEC, 3);
    dup2(out[1], 1);
    dup2(err[1], 2);
    zk_process_options o = {
        .argv = SHELL("echo out; echo error >&2"),
        .out = {.kind = ZK_STDIO_FD, .fd = 2},
        .err = {.kind = ZK_STDIO_FD, .fd = 1},
    };
    zk_process_result r;
    int rc = zk_process_run(&o, NULL, &r);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    cr_assert_ok(rc);
    cr_assert_rc(read(err[0], buf, sizeof buf), 4);
    cr_assert_arr_eq(buf, "out\n", 4);
    cr_assert_rc(read(out[0], buf, sizeof buf), 6);
    cr_assert_arr_eq(buf, "error\n", 6);
    for (int i = 0; i < 2; i++) {
        close(out[i]);
        close(err[i]);
        close(saved[i]);
    }
}

ZK_ASYNC_TEST(process, null_is_empty_and_swallows)
{
    zk_process_options o = {.argv = SHELL("cat; echo a; echo b >&2"), .out = from_pipe};
    o.in.kind = o.err.kind = ZK_STDIO_NULL;
    zk_process_result r = run(&o, "ignored, as there is no pipe");
    cr_assert_str_eq(r.out, "a\n");
    zk_process_result_done(&r);
    o.out.kind = ZK_STDIO_NULL;
    r = run(&o, "");
    cr_assert(!r.out && !r.err && r.exit.code == 0);
}

/* Not even one that this process has forgotten to mark. */
ZK_ASYNC_TEST(process, inherits_no_other_descriptor)
{
    int leaky = fcntl(0, F_DUPFD, 50);
    cr_assert_geq(leaky, 50);
    zk_process_options o = {.argv = ARGV("ls", "/proc/self/fd"), .out = from_pipe};
    zk_process_result r = run(&o, "");
    cr_assert_str_eq(r.out, "0\n1\n2\n3\n", "3 is the directory itself");
    zk_process_result_done(&r);
    close(leaky);
}

ZK_ASYNC_TEST(process, signals_are_as_in_a_fresh_process)
{
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    zk_process_options o = {.argv = ARGV("cat", "/proc/self/status"), .out = from_pipe};
    zk_process_result r = run(&o, "");
    static const char *const fields[] = {"SigBlk:", "SigIgn:", "SigCgt:"};
    for (int i = 0; i < 3; i++) {
        const char *at = strstr(r.out, fields[i]);
        cr_assert(at);
        /* The C library keeps 32 and 33 for itself, and has the child ignore them. */
        cr_assert_eq(strtoull(at + strlen(fields[i]), NULL, 16) & ~0x180000000ull, 0, "%s", at);
    }
    zk_process_result_done(&r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- errors of starting ---- */

ZK_ASYNC_TEST(process, errors_of_exec_come_back)
{
    const struct {
        zk_process_options options;
        int rc;
    } rows[] = {
        {{.argv = ARGV("zokio-no-such-program")}, -ENOENT},
        {{.argv = ARGV("/nowhere/program")}, -ENOENT},
        {{.argv = ARGV("/etc/passwd")}, -EACCES},
        {{.argv = ARGV("true"), .cwd = "/nowhere"}, -ENOENT},
        {{.argv = (const char *const[]){NULL}}, -EINVAL},
        {{.argv = NULL}, -EINVAL},
        {{.argv = ARGV("true"), .out = {.kind = ZK_STDIO_MERGE}}, -EINVAL},
        {{.argv = ARGV("true"), .out = {.kind = ZK_STDIO_FD, .fd = 999}}, -EBADF},
        {{.argv = ARGV("true"), .in = {.kind = (zk_stdio_kind)77}}, -EINVAL},
    };
    int open_before = open_count();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_process *p = NULL;
        zk_process_options o = rows[i].options;
        if (!o.in.kind) o.in = from_pipe;
        cr_assert_rc(zk_process_spawn(&o, &p), rows[i].rc, "row %zu", i);
        cr_assert_null(p, "untouched");
        zk_process_result r = {.out_size = 99};
        cr_assert_rc(zk_process_run(&o, NULL, &r), rows[i].rc, "row %zu", i);
        cr_assert_eq(r.out_size, 99, "untouched");
    }
    cr_assert_eq(open_count(), open_before);
    assert_no_child();
}

/* At each number of descriptors that may run out, nothing leaks. */
ZK_ASYNC_TEST(process, running_out_of_descriptors_is_an_error_at_every_step)
{
    zk_process_options o = {
        .argv = ARGV("true"),
        .in = from_pipe,
        .out = from_pipe,
        .err = {.kind = ZK_STDIO_NULL},
    };
    zk_process *p;
    struct rlimit limit, few;
    getrlimit(RLIMIT_NOFILE, &limit);
    few = limit;
    cr_assert_ok(zk_process_spawn(&o, &p)); /* the runtime has what it needs */
    zk_process_close(p);
    int open_before = open_count(), failed = 0, rc = -EMFILE;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lowest);
    for (int more = 0; rc < 0; more++) {
        few.rlim_cur = (rlim_t)(lowest + more);
        setrlimit(RLIMIT_NOFILE, &few);
        rc = zk_process_spawn(&o, &p);
        setrlimit(RLIMIT_NOFILE, &limit);
        if (rc >= 0) break;
        cr_assert_rc(rc, -EMFILE);
        cr_assert_eq(open_count(), open_before, "with %d more", more);
        failed++;
    }
    cr_assert_gt(failed, 4);
    zk_process_close(p);
    cr_assert_eq(open_count(), open_before);
    assert_no_child();
}

/* ---- the end ---- */

ZK_ASYNC_TEST(process, wait_tells_code_or_signal)
{
    zk_process_exit end;
    zk_process *p = spawn_shell("exit 3");
    cr_assert_gt(zk_process_pid(p), 0);
    cr_assert_ok(zk_process_wait(p, &end));
    cr_assert(end.code == 3 && end.signal == 0);
    end = (zk_process_exit){0};
    cr_assert_ok(zk_process_wait(p, &end));
    cr_assert_eq(end.code, 3, "once more");
    cr_assert_rc(zk_process_signal(p, SIGTERM), -ESRCH);
    zk_process_close(p);

    p = spawn_shell("kill -USR1 $$; exec sleep 100");
    cr_assert_ok(zk_process_wait(p, &end));
    cr_assert(end.code == -1 && end.signal == SIGUSR1);
    zk_process_close(p);
    zk_process_close(NULL);
    assert_no_child();
}

ZK_ASYNC_TEST(process, signals_reach_it)
{
    zk_process_exit end;
    zk_process *p = spawn_shell("trap 'echo got it; exit 5' HUP; echo ready; "
                                "for i in $(seq 2000); do sleep 0.01; done");
    await_line(p, "ready");
    cr_assert_rc(zk_process_signal(p, 999), -EINVAL);
    cr_assert_ok(zk_process_signal(p, SIGHUP));
    await_line(p, "got it");
    cr_assert_ok(zk_process_wait(p, &end));
    cr_assert_eq(end.code, 5);
    zk_process_close(p);
}

typedef struct waiter {
    zk_process *process;
    zk_process_exit end;
} waiter;

static int wait_task(void *arg)
{
    waiter *w = arg;
    return zk_process_wait(w->process, &w->end);
}

ZK_ASYNC_TEST(process, a_wait_suspends_and_only_one_may_wait)
{
    zk_process_options o = {.argv = ARGV("cat"), .in = from_pipe, .out = from_pipe};
    waiter w = {.process = spawn(&o)};
    zk_process_exit end;
    zk_future f;
    zk_async(&f, wait_task, &w);
    cr_assert_ok(zk_yield());
    cr_assert_rc(zk_process_wait(w.process, &end), -EBUSY);
    cr_assert_rc(zk_process_stop(w.process, 0, &end), -EBUSY);
    zk_process_close_stdin(w.process);
    cr_assert_null(zk_process_stdin(w.process));
    cr_assert_ok(zk_await(&f));
    cr_assert_eq(w.end.code, 0);
    zk_process_close(w.process);
}

ZK_ASYNC_TEST(process, a_cancelled_wait_leaves_it_running)
{
    zk_process_options o = {.argv = ARGV("cat"), .in = from_pipe, .out = from_pipe};
    waiter w = {.process = spawn(&o)};
    ZK_WITHIN(ZK_MS(1)) {
        cr_assert_rc(zk_process_wait(w.process, &w.end), -ETIMEDOUT);
    }
    ZK_SCOPE(s) {
        zk_future f;
        zk_async(&f, wait_task, &w);
        cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        cr_assert_rc(zk_await(&f), -ECANCELED);
        cr_assert_rc(zk_process_wait(w.process, &w.end), -ECANCELED);
    }
    char buf[4];
    cr_assert_ok(zk_stream_write(zk_process_stdin(w.process), "hey", 3));
    cr_assert_rc(zk_stream_read(zk_process_stdout(w.process), buf, 4), 3, "it still answers");
    zk_process_close_stdin(w.process);
    cr_assert_ok(zk_process_wait(w.process, &w.end));
    zk_process_close(w.process);
}

/* Without a descriptor for it the child is looked at again and again. */
ZK_ASYNC_TEST(process, is_waited_for_without_a_pidfd)
{
    zk_process_options o = {.argv = SHELL("exit 4")};
    struct rlimit limit, none;
    zk_process *p;
    zk_process_exit end;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = (rlim_t)fd;
    setrlimit(RLIMIT_NOFILE, &none);
    int rc = zk_process_spawn(&o, &p);
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_ok(rc);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    cr_assert_eq(next, fd, "there is no pidfd");
    cr_assert_ok(zk_process_wait(p, &end));
    cr_assert_eq(end.code, 4);
    zk_process_close(p);
    setrlimit(RLIMIT_NOFILE, &none);
    o.argv = ARGV("sleep", "100");
    rc = zk_process_spawn(&o, &p);
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_ok(rc);
    ZK_WITHIN(ZK_MS(5)) {
        cr_assert_rc(zk_process_wait(p, &end), -ETIMEDOUT);
    }
    zk_process_close(p);
    assert_no_child();
}

ZK_ASYNC_TEST(process, somebody_else_s_wait_is_noticed)
{
    zk_process_exit end;
    zk_process *p = spawn_shell("exit 0");
    cr_assert(waitpid(zk_process_pid(p), NULL, 0) > 0);
    cr_assert_rc(zk_process_wait(p, &end), -ECHILD);
    cr_assert_rc(zk_process_wait(p, &end), -ECHILD);
    cr_assert_rc(zk_process_stop(p, 0, NULL), -ECHILD);
    zk_process_close(p);
    signal(SIGCHLD, SIG_IGN);
    p = spawn_shell("exit 0");
    cr_assert_rc(zk_process_wait(p, &end), -ECHILD);
    zk_process_close(p);
}

ZK_ASYNC_TEST(process, stop_asks_first_and_kills_then)
{
    zk_process_exit end;
    zk_process *p =
        spawn_shell("trap 'exit 9' TERM; echo ready; for i in $(seq 2000); do sleep 0.01; done");
    await_line(p, "ready");
    cr_assert_ok(zk_process_stop(p, ZK_SEC(9), &end));
    cr_assert(end.code == 9);
    cr_assert_ok(zk_process_stop(p, ZK_SEC(9), &end));
    cr_assert(end.code == 9, "once more");
    zk_process_close(p);

    p = spawn_shell("trap '' TERM; echo ready; for i in $(seq 2000); do sleep 0.01; done");
    await_line(p, "ready");
    cr_assert_ok(zk_process_stop(p, ZK_MS(5), &end));
    cr_assert(end.signal == SIGKILL);
    zk_process_close(p);

    p = spawn_shell("trap 'exit 9' TERM; echo ready; for i in $(seq 2000); do sleep 0.01; done");
    await_line(p, "ready");
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        cr_assert_ok(zk_process_stop(p, 0, &end));
        cr_assert(end.signal == SIGKILL, "at once, in a cancelled scope");
    }
    zk_process_close(p);
    assert_no_child();
}

ZK_ASYNC_TEST(process, closing_kills_and_leaves_no_zombie)
{
    int open_before = open_count();
    zk_process *p = spawn_shell("exec sleep 100");
    pid_t pid = zk_process_pid(p);
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        zk_process_close(p);
    }
    cr_assert(kill(pid, 0) == -1 && errno == ESRCH);
    zk_process_close(spawn_shell("exit 0")); /* maybe dead already, and not waited for */
    assert_no_child();
    cr_assert_eq(open_count(), open_before);
}

/* What the child has started goes with it: its end of the pipe is closed. */
ZK_ASYNC_TEST(process, a_group_is_stopped_as_a_whole)
{
    zk_process_options o = {
        .argv = SHELL(
            "trap 'exit 9' TERM; (trap '' TERM; echo ready; sleep 100) & for i in $(seq 2000); do "
            "sleep 0.01; done"),
        .out = from_pipe,
        .has_own_group = true,
    };
    zk_process_exit end;
    char c;
    zk_process *p = spawn(&o);
    await_line(p, "ready");
    cr_assert_eq(getpgid(zk_process_pid(p)), zk_process_pid(p));
    cr_assert_ok(zk_process_stop(p, ZK_SEC(9), &end));
    cr_assert_eq(end.code, 9);
    cr_assert_rc(zk_stream_read(zk_process_stdout(p), &c, 1), 0, "nobody holds it any more");
    zk_process_close(p);
}

static int use_elsewhere(void *arg)
{
    zk_process_exit end;
    return zk_process_wait(arg, &end) == ZK_E_WORKER &&
                   zk_process_signal(arg, SIGTERM) == ZK_E_WORKER &&
                   zk_process_stop(arg, 0, &end) == ZK_E_WORKER
               ? 0
               : -EIO;
}

ZK_ASYNC_TEST_ON(process, belongs_to_one_worker, 2)
{
    zk_process *p = spawn_shell("exit 0");
    ZK_SCOPE(s) {
        zk_spawn_options options = {.worker = 2};
        cr_assert_ok(zk_spawn_with(&s, &options, use_elsewhere, p));
        cr_assert_ok(zk_scope_wait(&s));
    }
    zk_process_close(p);
}

/* ---- in one call ---- */

ZK_ASYNC_TEST(process, too_much_output_ends_it)
{
    zk_process_options o = {.argv = ARGV("yes"), .out = from_pipe};
    zk_process_run_options how = {.output_bytes_max = 10000, .grace = ZK_SEC(9)};
    zk_process_result r;
    cr_assert_rc(zk_process_run(&o, &how, &r), ZK_E_LIMIT);
    o.argv = SHELL("printf 12345");
    how.output_bytes_max = 5;
    cr_assert_ok(zk_process_run(&o, &how, &r));
    cr_assert_str_eq(r.out, "12345", "exactly as much is not too much");
    zk_process_result_done(&r);
    how.output_bytes_max = 4;
    cr_assert_rc(zk_process_run(&o, &how, &r), ZK_E_LIMIT);
    assert_no_child();
}

/* Neither SIGPIPE nor an error: `true` has ended well. */
ZK_ASYNC_TEST(process, input_that_nobody_reads_is_no_error)
{
    static char input[1 << 18];
    zk_process_options o = {.argv = ARGV("true"), .in = from_pipe};
    zk_process_run_options how = {.input = {input, sizeof input}};
    zk_process_result r;
    cr_assert_ok(zk_process_run(&o, &how, &r));
    cr_assert_eq(r.exit.code, 0);
}

ZK_ASYNC_TEST(process, a_run_that_is_cancelled_ends_the_child)
{
    int open_before = open_count();
    zk_process_options o = {
        .argv = SHELL("trap '' TERM; echo; for i in $(seq 2000); do sleep 0.01; done")};
    o.in = o.out = o.err = from_pipe;
    zk_process_run_options how = {.grace = ZK_MS(5)};
    zk_process_result r;
    ZK_WITHIN(ZK_MS(20)) {
        cr_assert_rc(zk_process_run(&o, &how, &r), -ETIMEDOUT);
    }
    ZK_WITHIN(0) {
        cr_assert_rc(zk_process_run(&o, &how, &r), -ETIMEDOUT, "not even begun");
    }
    assert_no_child();
    cr_assert_eq(open_count(), open_before);
}

static int run_cat(void *arg)
{
    zk_process_options o = {.argv = ARGV("cat"), .in = from_pipe, .out = from_pipe};
    zk_process_result r;
    char text[20];
    snprintf(text, sizeof text, "number %d", *(int *)arg);
    zk_process_run_options how = {.input = {text, strlen(text)}};
    int rc = zk_process_run(&o, &how, &r);
    if (rc < 0) return rc;
    if (strcmp(r.out, text) != 0) rc = -EIO;
    zk_process_result_done(&r);
    return rc;
}

ZK_ASYNC_TEST_ON(process, many_at_once_on_all_workers, 3)
{
    ZK_SCOPE(s) {
        for (int i = 0; i < 40; i++)
            cr_assert_ok(zk_spawn(&s, run_cat, &i));
        cr_assert_ok(zk_scope_wait(&s));
    }
    assert_no_child();
}

/* A spawn that is cancelled at any time has either handed the child over or started none. */
ZK_ASYNC_TEST(process, a_cancelled_spawn_leaves_nothing)
{
    int open_before = open_count();
    for (int i = 0; i < 40; i++) {
        zk_process *p = NULL;
        zk_process_options o = {.argv = ARGV("cat"), .in = from_pipe, .out = from_pipe};
        ZK_WITHIN(ZK_US(50) * i) {
            int rc = zk_process_spawn(&o, &p);
            cr_assert(rc == 0 || rc == -ETIMEDOUT);
            cr_assert((rc == 0) == (p != NULL));
        }
        zk_process_close(p);
        assert_no_child();
    }
    cr_assert_eq(open_count(), open_before);
}

ZK_TEST(process, outside_a_runtime_it_says_so)
{
    zk_process *p;
    cr_assert_rc(zk_process_spawn(&(zk_process_options){.argv = ARGV("true")}, &p),
                 ZK_E_NO_RUNTIME);
}
