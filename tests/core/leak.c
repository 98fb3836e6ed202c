/*
 * Leaks: what a program leaves behind is reported with the task that made it.
 */
#include "tests/async.h"

#include <errno.h>
#include <fcntl.h>

#include <zokio/dump.h>
#include <zokio/file.h>
#include <zokio/iter.h>
#include <zokio/stream.h>
#include <zokio/tcp.h>

#if ZK_TEST_ASAN
#include <sanitizer/lsan_interface.h>
#else
static void __lsan_disable(void) {}
static void __lsan_enable(void) {}
#endif

typedef struct found {
    int count, line;
    size_t bytes;
    int fd;
    char what[64], task[64], backtrace[1024];
} found;

static void note(void *context, const zk_leak *leak)
{
    found *f = context;
    f->count++;
    f->bytes = leak->bytes;
    f->fd = leak->fd;
    f->line = leak->task->line;
    snprintf(f->what, sizeof f->what, "%s", leak->what);
    snprintf(f->task, sizeof f->task, "%s", leak->task->name);
    snprintf(f->backtrace, sizeof f->backtrace, "%s", leak->backtrace);
}

static int run_noting(zk_fn *fn, void *arg, int workers, found *ret_found)
{
    *ret_found = (found){.fd = -2};
    unsetenv("ZOKIO_LEAKS");
    zk_config config = {
        .workers = workers, .finds_leaks = true, .on_leak = note, .on_leak_context = ret_found};
    return zk_run(&config, fn, arg);
}

static int take_memory(void *arg)
{
    (void)arg;
    __lsan_disable(); /* it would find it, too; each thread says it for itself */
    void *kept = zk_alloc(100);
    __lsan_enable();
    return kept ? 0 : -ENOMEM;
}

static int spawn_taker(void *arg)
{
    const int *worker = arg;
    ZK_SCOPE(s) {
        static const zk_site site = {"taker", "leak.c", 7};
        zk_spawn_options options = {.site = &site, .worker = *worker};
        int rc = zk_spawn_with(&s, &options, take_memory, NULL);
        return rc < 0 ? rc : zk_scope_wait(&s);
    }
    return 0;
}

ZK_TEST(leak, memory_is_told_with_the_task_that_took_it)
{
    found f;
    for (int worker = 1; worker <= 2; worker++) {
        cr_assert_ok(run_noting(spawn_taker, &worker, 2, &f));
        cr_assert_eq(f.count, 1);
        cr_assert_str_eq(f.what, "memory");
        cr_assert_str_eq(f.task, "taker");
        cr_assert_eq(f.line, 7);
        cr_assert_eq(f.bytes, 100u);
        cr_assert_eq(f.fd, -1);
    }
}

ZK_TEST(leak, the_backtrace_leads_to_who_took_it)
{
    found f;
    int worker = 1;
    cr_assert_ok(run_noting(spawn_taker, &worker, 1, &f));
    cr_assert(strchr(f.backtrace, '\n') && strstr(f.backtrace, "+0x"), "%s", f.backtrace);
}

static int open_listener(void *arg)
{
    zk_addr addr;
    int rc = zk_addr_parse("127.0.0.1:0", &addr);
    return rc < 0 ? rc : zk_listen(&addr, NULL, arg);
}

static int open_file(void *arg) { return zk_file_open("/dev/null", O_RDONLY, 0, arg); }

static int emit_numbers(zk_emitter *out, void *arg)
{
    int rc = 0;
    (void)arg;
    for (int n = 0; rc >= 0; n++)
        rc = zk_emit(out, &n);
    return rc;
}

static int open_streams(void *arg)
{
    zk_stream **streams = arg;
    return zk_stream_pair(&streams[0], &streams[1]);
}

ZK_TEST(leak, what_holds_a_descriptor_is_told_by_its_kind)
{
    static const struct row {
        const char *what;
        zk_fn *open;
        bool has_fd;
    } rows[] = {
        {"listener", open_listener, true},
        {"file", open_file, true},
        {"stream pair", open_streams, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static void *opened[2];
        found f;
        __lsan_disable();
        cr_assert_ok(run_noting(rows[i].open, opened, 1, &f));
        __lsan_enable();
        cr_assert_eq(f.count, 1, "%s: %d", rows[i].what, f.count);
        cr_assert_str_eq(f.what, rows[i].what);
        cr_assert_str_eq(f.task, "main");
        cr_assert_eq(f.fd >= 0, rows[i].has_fd);
        if (f.fd >= 0) close(f.fd);
    }
}

static int take_and_free(void *arg)
{
    (void)arg;
    for (size_t size = 1; size < 1 << 20; size *= 3)
        zk_free(zk_alloc(size));
    return zk_yield();
}

static int spawn_many(void *arg)
{
    ZK_SCOPE(s) {
        for (int i = 0; i < 2000; i++) {
            int rc = zk_spawn(&s, take_and_free, NULL);
            if (rc < 0) return rc;
        }
        return zk_scope_wait(&s);
    }
    (void)arg;
    return 0;
}

ZK_TEST(leak, nothing_is_told_of_what_was_freed)
{
    found f;
    cr_assert_ok(run_noting(spawn_many, NULL, 2, &f));
    cr_assert_eq(f.count, 0, "%s by %s", f.what, f.task);
}

static int leak_by_environment(void *arg)
{
    setenv("ZOKIO_LEAKS", arg, 1);
    return zk_run(&(zk_config){.workers = 1}, take_memory, NULL);
}

/* To stderr, as the environment asks for, in each build. */
ZK_TEST(leak, the_environment_turns_it_on_and_off)
{
    zk_test_child on = zk_test_fork(leak_by_environment, "1");
    cr_assert_child_ok(on);
    cr_assert(strstr(on.output, "zokio: leak: memory, 100 bytes, made by task main"), "%s",
              on.output);
    zk_test_child off = zk_test_fork(leak_by_environment, "0");
    cr_assert_child_ok(off);
    cr_assert_not(strstr(off.output, "leak:"), "%s", off.output);
    cr_assert_rc(leak_by_environment("perhaps"), ZK_E_CONFIG);
}

/* ---- what a scope leaves behind ---- */

static int sleep_long(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_SEC(100));
}

static int leave_pending(void *arg)
{
    (void)arg;
    zk_future f;
    ZK_WITHIN(ZK_SEC(1))
        zk_async(&f, sleep_long, NULL);
    return 0;
}

static int leave_waiting(void *arg)
{
    (void)arg;
    zk_future f;
    ZK_WITHIN(ZK_SEC(1)) {
        zk_async(&f, sleep_long, NULL);
        if (zk_yield() < 0 || zk_yield() < 0) return -EIO;
    }
    return 0;
}

static int leave_iterator(void *arg)
{
    zk_iter *iter;
    int n;
    ZK_WITHIN(ZK_SEC(1)) {
        int rc = zk_iter_generate(sizeof n, emit_numbers, arg, &iter);
        if (rc >= 0) rc = zk_iter_next(iter, &n);
        if (rc < 0) return rc;
    }
    return 0;
}

static int run_on_one(void *arg) { return zk_test_run(1, *(zk_fn **)arg, NULL); }

/* Their memory is about to end: to go on would corrupt whatever comes to lie there. */
ZK_TEST(leak, a_scope_is_not_left_with_a_future_or_an_iterator_in_it)
{
    static const struct row {
        const char *text;
        zk_fn *fn;
    } rows[] = {
        {"sleep_long (", leave_pending},
        {"sleep_long (", leave_waiting},
        {"each iterator is to be closed", leave_iterator},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_fn *fn = rows[i].fn;
        zk_test_child child = zk_test_fork(run_on_one, &fn);
        cr_assert_child_killed(child, SIGABRT, rows[i].text);
    }
}
