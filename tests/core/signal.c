/*
 * Signals as a stream: arrival, order, several listeners, floods, dispositions, cancellation.
 */
#include "tests/async.h"
#include "tests/open_count.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include <zokio/signal.h>

static zk_signals *listen_to(int a, int b)
{
    zk_signals *signals;
    cr_assert_ok(zk_signals_open((int[]){a, b, 0}, &signals));
    return signals;
}

static int next(zk_signals *signals) { return zk_signals_next(signals, NULL); }

/* Nothing is there. */
static void quiet(zk_signals *signals)
{
    ZK_WITHIN(ZK_MS(1)) {
        cr_assert_rc(next(signals), -ETIMEDOUT);
    }
}

ZK_ASYNC_TEST(signal, one_that_has_come_is_told)
{
    zk_signals *signals = listen_to(SIGUSR1, 0);
    zk_signal_info info;
    raise(SIGUSR1);
    cr_assert_rc(zk_signals_next(signals, &info), SIGUSR1);
    cr_assert(info.number == SIGUSR1 && info.pid == getpid() && info.uid == getuid());
    quiet(signals);
    zk_signals_close(signals);
    zk_signals_close(NULL);
}

static int wait_for_one(void *arg) { return next(arg); }

static int kill_own_process(void *arg) { return kill(getpid(), *(int *)arg) ? -errno : 0; }

ZK_ASYNC_TEST(signal, wakes_the_task_that_waits)
{
    zk_signals *signals = listen_to(SIGUSR1, SIGHUP);
    for (int i = 0; i < 20; i++) {
        int number = i % 2 ? SIGHUP : SIGUSR1;
        zk_future f;
        zk_async(&f, wait_for_one, signals);
        for (int k = 0; k < 3; k++)
            cr_assert_ok(zk_yield());
        cr_assert_ok(zk_blocking(kill_own_process, &number));
        cr_assert_rc(zk_await(&f), number);
    }
    zk_signals_close(signals);
}

ZK_ASYNC_TEST(signal, they_come_in_order_with_what_was_sent_along)
{
    zk_signals *signals = listen_to(SIGRTMIN, SIGRTMIN + 1);
    for (int i = 0; i < 100; i++) {
        union sigval value = {.sival_int = i};
        cr_assert(!sigqueue(getpid(), SIGRTMIN + i % 2, value));
    }
    for (int i = 0; i < 100; i++) {
        zk_signal_info info;
        cr_assert_rc(zk_signals_next(signals, &info), SIGRTMIN + i % 2);
        cr_assert(info.value == i && info.code == SI_QUEUE);
    }
    quiet(signals);
    zk_signals_close(signals);
}

ZK_ASYNC_TEST(signal, every_listener_sees_each)
{
    zk_signals *a = listen_to(SIGUSR1, 0), *b = listen_to(SIGUSR1, SIGUSR2);
    zk_signals *c = listen_to(SIGUSR2, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    cr_assert_rc(next(a), SIGUSR1);
    cr_assert_rc(next(b), SIGUSR1);
    cr_assert_rc(next(b), SIGUSR2);
    cr_assert_rc(next(c), SIGUSR2);
    zk_signals_close(b);
    raise(SIGUSR1);
    raise(SIGUSR2);
    cr_assert_rc(next(a), SIGUSR1, "still handled when another listener has gone");
    cr_assert_rc(next(c), SIGUSR2);
    quiet(a);
    quiet(c);
    zk_signals_close(a);
    zk_signals_close(c);
}

static int first_and_second(void *arg)
{
    zk_signals *signals;
    int *told = arg;
    int rc = zk_signals_open((int[]){SIGUSR1, 0}, &signals);
    if (rc < 0) return rc;
    __atomic_add_fetch(told, 1, __ATOMIC_SEQ_CST);
    rc = next(signals);
    zk_signals_close(signals);
    return rc == SIGUSR1 ? 0 : -EIO;
}

ZK_ASYNC_TEST_ON(signal, listeners_on_all_workers_see_it, 3)
{
    int listening = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++) {
            zk_spawn_options options = {.worker = 1 + i};
            cr_assert_ok(zk_spawn_with(&s, &options, first_and_second, &listening));
        }
        while (__atomic_load_n(&listening, __ATOMIC_SEQ_CST) < 3)
            cr_assert_ok(zk_yield());
        kill(getpid(), SIGUSR1);
        cr_assert_ok(zk_scope_wait(&s));
    }
}

static void *raise_many(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++)
        pthread_kill(pthread_self(), SIGUSR1);
    return NULL;
}

/* Far more than a pipe holds, from a thread that is none of ours, and another one at the end. */
ZK_ASYNC_TEST(signal, a_flood_is_merged_and_loses_no_kind)
{
    zk_signals *signals = listen_to(SIGUSR1, SIGUSR2);
    pthread_t thread;
    int count = 20000, taken = 0;
    cr_assert(!pthread_create(&thread, NULL, raise_many, &count));
    pthread_join(thread, NULL);
    raise(SIGUSR2);
    bool is_second_seen = false;
    ZK_WITHIN(ZK_SEC(5)) {
        while (!is_second_seen) {
            int number = next(signals);
            cr_assert(number == SIGUSR1 || number == SIGUSR2, "%d", number);
            is_second_seen = number == SIGUSR2;
            taken++;
        }
    }
    cr_assert(taken > 1500 && taken < count, "%d", taken);
    quiet(signals);
    raise(SIGUSR1);
    cr_assert_rc(next(signals), SIGUSR1, "and goes on as before");
    zk_signals_close(signals);
}

/* A listener opens and closes again and again while signals come: no descriptor is used late. */
ZK_ASYNC_TEST(signal, closing_while_signals_come)
{
    int open_before = open_count(), count = 20000;
    zk_signals *keep = listen_to(SIGUSR1, 0); /* else one would end the process */
    pthread_t thread;
    cr_assert(!pthread_create(&thread, NULL, raise_many, &count));
    for (int i = 0; i < 300; i++) {
        zk_signals *signals = listen_to(SIGUSR1, 0);
        int ends[2];
        zk_signals_close(signals);
        cr_assert(!pipe2(ends, O_NONBLOCK | O_CLOEXEC));
        char c;
        cr_assert(read(ends[0], &c, 1) < 0 && errno == EAGAIN, "written to by a handler");
        close(ends[0]);
        close(ends[1]);
    }
    pthread_join(thread, NULL);
    cr_assert_rc(next(keep), SIGUSR1);
    zk_signals_close(keep);
    cr_assert_eq(open_count(), open_before);
}

static void on_usr1(int number) { (void)number; }

ZK_ASYNC_TEST(signal, the_disposition_from_before_is_put_back)
{
    struct sigaction action;
    signal(SIGUSR1, on_usr1);
    signal(SIGUSR2, SIG_IGN);
    zk_signals *a = listen_to(SIGUSR1, SIGUSR2), *b = listen_to(SIGUSR1, 0);
    zk_signals_close(a);
    sigaction(SIGUSR1, NULL, &action);
    cr_assert(action.sa_handler != on_usr1, "one still listens");
    sigaction(SIGUSR2, NULL, &action);
    cr_assert(action.sa_handler == SIG_IGN);
    zk_signals_close(b);
    sigaction(SIGUSR1, NULL, &action);
    cr_assert(action.sa_handler == on_usr1);
}

ZK_ASYNC_TEST(signal, what_cannot_be_listened_to_is_refused)
{
    static const int bad[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL,
                              SIGTRAP, SIGSYS,  -1,      65,     32,     33};
    zk_signals *signals = NULL;
    int open_before = open_count();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_rc(zk_signals_open((int[]){SIGUSR1, bad[i], 0}, &signals), -EINVAL, "%d", bad[i]);
    }
    cr_assert_rc(zk_signals_open((int[]){0}, &signals), -EINVAL);
    cr_assert_null(signals, "untouched");
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    cr_assert(action.sa_handler == SIG_DFL, "nor is anything installed");
    cr_assert_eq(open_count(), open_before);
}

ZK_ASYNC_TEST(signal, there_is_a_limit_to_listeners)
{
    zk_signals *all[ZK_SIGNALS_MAX], *other = NULL;
    for (int i = 0; i < ZK_SIGNALS_MAX; i++)
        all[i] = listen_to(SIGUSR1, 0);
    cr_assert_rc(zk_signals_open((int[]){SIGUSR1, 0}, &other), ZK_E_LIMIT);
    cr_assert_null(other);
    raise(SIGUSR1);
    for (int i = 0; i < ZK_SIGNALS_MAX; i++) {
        cr_assert_rc(next(all[i]), SIGUSR1);
        zk_signals_close(all[i]);
    }
    zk_signals_close(listen_to(SIGUSR1, 0));
}

ZK_ASYNC_TEST(signal, without_descriptors_opening_fails)
{
    zk_signals *signals = NULL;
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    int rc = zk_signals_open((int[]){SIGUSR1, 0}, &signals);
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_rc(rc, -EMFILE);
    cr_assert_null(signals);
}

ZK_ASYNC_TEST(signal, cancellation_takes_none)
{
    zk_signals *signals = listen_to(SIGUSR1, 0);
    ZK_SCOPE(s) {
        zk_future f;
        zk_async(&f, wait_for_one, signals);
        cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        raise(SIGUSR1);
        cr_assert_rc(zk_await(&f), -ECANCELED);
        cr_assert_rc(next(signals), -ECANCELED);
    }
    ZK_WITHIN(0) {
        cr_assert_rc(next(signals), -ETIMEDOUT);
    }
    cr_assert_rc(next(signals), SIGUSR1);
    zk_signals_close(signals);
}

static int next_elsewhere(void *arg) { return next(arg) == ZK_E_WORKER ? 0 : -EIO; }

ZK_ASYNC_TEST_ON(signal, belongs_to_one_worker, 2)
{
    zk_signals *signals = listen_to(SIGUSR1, 0);
    raise(SIGUSR1);
    cr_assert_rc(next(signals), SIGUSR1);
    ZK_SCOPE(s) {
        zk_spawn_options options = {.worker = 2};
        cr_assert_ok(zk_spawn_with(&s, &options, next_elsewhere, signals));
        cr_assert_ok(zk_scope_wait(&s));
    }
    zk_signals_close(signals);
}

/* returns 0, or which step went wrong. */
static int listen_in_child(void)
{
    zk_signals *signals;
    raise(SIGUSR1); /* the handler is inherited, and must not write to the parent's pipe */
    if (zk_signals_open((int[]){SIGUSR1, 0}, &signals) < 0) return 1;
    raise(SIGUSR1);
    if (next(signals) != SIGUSR1) return 2;
    zk_signals_close(signals);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    return action.sa_handler == SIG_IGN ? 0 : 3;
}

/* After fork the handler is the child's too, but the listeners are the parent's. */
ZK_ASYNC_TEST(signal, a_forked_child_s_signals_are_not_the_parent_s)
{
    int status;
    signal(SIGUSR1, SIG_IGN);
    zk_signals *signals = listen_to(SIGUSR1, 0);
    pid_t pid = fork();
    if (pid == 0) _exit(listen_in_child());
    cr_assert(waitpid(pid, &status, 0) == pid);
    cr_assert_eq(status, 0, "step %d", WEXITSTATUS(status));
    quiet(signals);
    zk_signals_close(signals);
}

ZK_TEST(signal, outside_a_runtime_it_says_so)
{
    zk_signals *signals;
    cr_assert_rc(zk_signals_open((int[]){SIGUSR1, 0}, &signals), ZK_E_NO_RUNTIME);
}
