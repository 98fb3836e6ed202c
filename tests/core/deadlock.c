/*
 * Deadlocks in dumps: circles of who holds what, and programs in which nothing moves any more.
 */
#include "tests/core/dumps.h"

#include <stdatomic.h>

/* ---- circles ---- */

typedef struct pair {
    zk_mutex first, second;
} pair;

static int lock_both(void *arg)
{
    zk_mutex **mutexes = arg;
    int rc = zk_mutex_lock(mutexes[0]);
    if (rc < 0) return rc;
    rc = zk_yield();
    if (!rc) rc = zk_mutex_lock(mutexes[1]);
    if (!rc) zk_mutex_unlock(mutexes[1]);
    zk_mutex_unlock(mutexes[0]);
    return rc;
}

static int lock_the_other_way(void *arg) { return lock_both(arg); }

ZK_ASYNC_TEST(deadlock, names_a_deadlock_of_two_mutexes)
{
    pair p = {0};
    zk_mutex *one_way[] = {&p.first, &p.second}, *other_way[] = {&p.second, &p.first};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_both, one_way));
        cr_assert_ok(zk_spawn(&s, lock_the_other_way, other_way));
        settle();
        dump();
        assert_line("deadlock: ", "lock_both (");
        assert_line("deadlock: ", "lock_the_other_way (");
        assert_line("deadlock: ", ") -> lock_");
        cr_assert(!strstr(strstr(text, "deadlock: ") + 1, "deadlock: "), "%s", text);
        zk_scope_cancel(&s);
    }
}

static int lock_and_join(void *arg)
{
    zk_mutex *m = *(zk_mutex **)arg;
    int rc = zk_mutex_lock(m);
    if (rc < 0) return rc;
    ZK_SCOPE(inner) {
        rc = zk_spawn(&inner, lock_one, &m);
        if (!rc) rc = zk_scope_wait(&inner);
    }
    zk_mutex_unlock(m);
    return rc;
}

/* Who joins its children while it holds what one of them wants. */
ZK_ASYNC_TEST(deadlock, names_a_deadlock_of_a_parent_and_its_child)
{
    zk_mutex m = {0};
    zk_mutex *pointer = &m;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_and_join, &pointer));
        settle();
        dump();
        assert_line("task lock_and_join", "waits for the tasks of its scope (1 left)");
        assert_line("deadlock: ", "lock_one (");
        assert_line("deadlock: ", "lock_and_join (");
        zk_scope_cancel(&s);
    }
}

static int lock_and_await(void *arg)
{
    zk_mutex *m = *(zk_mutex **)arg, *pointer = m;
    int rc = zk_mutex_lock(m);
    if (rc < 0) return rc;
    zk_future f;
    zk_async(&f, lock_one, &pointer);
    rc = zk_await(&f);
    zk_mutex_unlock(m);
    return rc;
}

/* A task that has called another one in place is not suspended itself, and waits all the same. */
ZK_ASYNC_TEST(deadlock, names_a_deadlock_with_a_future_called_in_place)
{
    zk_mutex m = {0};
    zk_mutex *pointer = &m;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_and_await, &pointer));
        settle();
        dump();
        assert_line("task lock_and_await", "awaits lock_one (");
        assert_line("deadlock: ", "lock_one (");
        assert_line("deadlock: ", "lock_and_await (");
        zk_scope_cancel(&s);
    }
}

typedef struct crossing {
    zk_mutex *first, *second;
    atomic_int *locked;
} crossing;

static int cross(void *arg)
{
    crossing *c = arg;
    int rc = zk_mutex_lock(c->first);
    if (rc < 0) return rc;
    atomic_fetch_add(c->locked, 1);
    while (!rc && atomic_load(c->locked) < 2)
        rc = zk_yield();
    if (!rc) rc = zk_mutex_lock(c->second);
    if (!rc) zk_mutex_unlock(c->second);
    zk_mutex_unlock(c->first);
    return rc;
}

ZK_ASYNC_TEST_ON(deadlock, names_a_deadlock_across_workers, 2)
{
    pair p = {0};
    static atomic_int locked;
    ZK_SCOPE(s) {
        crossing here = {&p.first, &p.second, &locked}, there = {&p.second, &p.first, &locked};
        cr_assert_ok(zk_spawn_on(&s, 0, cross, &here));
        cr_assert_ok(zk_spawn_on(&s, 1, cross, &there));
        do {
            cr_assert_ok(zk_yield());
        } while (!strstr(dump(), "deadlock: cross ("));
        zk_scope_cancel(&s);
    }
}

/* ---- deadlocks among waits that anybody could end ---- */

/* A thread that dumps until both are there, or the tasks have ended, and then cancels the scope. */
typedef struct observer {
    zk_scope *scope;
    const char *wanted, *also;
    atomic_bool is_over;
} observer;

static void *observe(void *arg)
{
    observer *o = arg;
    while (!atomic_load(&o->is_over)) {
        size_t length = 0;
        text[0] = '\0';
        if (zk_dump(keep, &length) < 0) break;
        if (strstr(text, o->wanted) && strstr(text, o->also)) break;
        usleep(1000);
    }
    zk_scope_cancel(o->scope);
    return NULL;
}

/* Waits for the tasks of the scope until the observer has seen both. */
static void wait_observed(zk_scope *scope, const char *wanted, const char *also)
{
    observer o = {scope, wanted, also, false};
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, observe, &o) == 0);
    int rc = zk_scope_wait(scope);
    atomic_store(&o.is_over, true);
    cr_assert(pthread_join(thread, NULL) == 0);
    cr_assert_rc(rc, -ECANCELED);
    cr_assert(strstr(text, wanted) && strstr(text, also), "no \"%s\" or no \"%s\" in:\n%s", wanted,
              also, text);
}

static const char all_stuck[] =
    "deadlock: no task can go on unless another thread of the program helps\n";

/* Each waits for the other, and main for both. */
static void pass_in_a_circle(int worker)
{
    ends e = ends_new(1), back = {e.out, e.in};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, 0, pass_on, &e));
        cr_assert_ok(zk_spawn_on(&s, worker, pass_on, &back));
        wait_observed(&s, all_stuck, "\n  pass_on (");
    }
    const char *stuck = strstr(text, "deadlock: ");
    cr_assert(strstr(stuck, "  main waits for the tasks of its scope (2 left)\n"), "%s", text);
    cr_assert(strstr(stuck, ") waits for channel receive (0 of 1 items, no sender yet)\n"), "%s",
              text);
    ends_free(e);
}

ZK_ASYNC_TEST(deadlock, names_a_deadlock_through_channels) { pass_in_a_circle(0); }

ZK_ASYNC_TEST_ON(deadlock, names_a_deadlock_through_channels_across_workers, 2)
{
    pass_in_a_circle(1);
}

static zk_condition condition;
static zk_mutex condition_mutex;

static int await_signal(void *arg)
{
    (void)arg;
    int rc = zk_mutex_lock(&condition_mutex);
    if (rc < 0) return rc;
    rc = zk_condition_wait(&condition, &condition_mutex);
    zk_mutex_unlock(&condition_mutex);
    return rc;
}

static int make_nothing(zk_emitter *out, void *arg)
{
    (void)out;
    return acquire(arg);
}

static int take_next(void *arg)
{
    int item;
    zk_iter *iter;
    int rc = zk_iter_generate(sizeof item, make_nothing, arg, &iter);
    if (rc < 0) return rc;
    rc = zk_iter_next(iter, &item);
    zk_iter_close(iter);
    return rc;
}

ZK_ASYNC_TEST(deadlock, names_a_deadlock_whatever_is_waited_for)
{
    static const struct {
        zk_fn *fn;
        const char *line;
    } cases[] = {
        {acquire, ") waits for semaphore (1 there, 2 wanted)\n"},
        {meet, ") waits for barrier (1 of 3 there)\n"},
        {wait_group, ") waits for wait-group (1 left)\n"},
        {write_it, ") waits for lock for writing (held for reading 1 times)\n"},
        {await_signal, ") waits for condition\n"},
        {take_next, ") waits for next item\n"},
    };
    zk_wait_group_add(&group, 1);
    cr_assert_ok(zk_rwlock_read(&lock));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t wanted = 2;
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, cases[i].fn, &wanted));
            wait_observed(&s, all_stuck, cases[i].line);
        }
    }
    zk_rwlock_unlock(&lock);
}

static int gate[2];

static int read_gate(void *arg)
{
    (void)arg;
    char byte;
    return read(gate[0], &byte, 1) < 0 ? -errno : 0;
}

static int run_blocking(void *arg) { return zk_blocking(read_gate, arg); }

static int recv_within(void *arg)
{
    int item, rc = 0;
    ZK_WITHIN(ZK_SEC(1000))
        rc = zk_channel_recv(((ends *)arg)->in, &item);
    return rc;
}

static int select_after(void *arg)
{
    int item;
    return zk_select({ZK_RECV(((ends *)arg)->in, &item)}, {ZK_AFTER(ZK_SEC(1000))});
}

static int next_signal(void *arg)
{
    (void)arg;
    zk_signals *signals;
    int rc = zk_signals_open((int[]){SIGUSR1, 0}, &signals);
    if (rc < 0) return rc;
    rc = zk_signals_next(signals, NULL);
    zk_signals_close(signals);
    return rc;
}

/* One that waits for something else may still help the others. */
ZK_ASYNC_TEST(deadlock, names_no_deadlock_while_something_may_come)
{
    static const struct {
        zk_fn *fn;
        const char *state;
    } cases[] = {
        {sleeper, "waits for sleep"},
        {recv_within, "waits for channel receive"},
        {select_after, "waits for select"},
        {next_signal, "waits for read"},
    };
    ends e = ends_new(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, pass_on, &e));
            cr_assert_ok(zk_spawn(&s, cases[i].fn, &e));
            wait_observed(&s, "task main, worker 0, waits for the tasks of its scope (2 left)",
                          cases[i].state);
        }
        cr_assert(!strstr(text, "can go on"), "%s", text);
    }
    ends_free(e);
}

static int dump_for_others(void *arg)
{
    (void)arg;
    settle();
    dump();
    return -ECANCELED;
}

/* A call on a thread of the pool cannot be cut short: the gate lets it end. */
ZK_ASYNC_TEST(deadlock, names_no_deadlock_while_a_blocking_call_runs)
{
    cr_assert(pipe(gate) == 0);
    ends e = ends_new(1);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, pass_on, &e));
        cr_assert_ok(zk_spawn(&s, run_blocking, NULL));
        settle();
        dump();
        assert_line("task run_blocking", "waits for blocking call");
        cr_assert(!strstr(text, "can go on"), "%s", text);
        cr_assert(write(gate[1], "x", 1) == 1);
        zk_scope_cancel(&s);
    }
    ends_free(e);
    close(gate[0]);
    close(gate[1]);
}

static int at_once(void *arg) { return (void)arg, 0; }

static int wait_for_nobody(void *arg)
{
    (void)arg;
    zk_channel *channel;
    int item, rc = zk_channel_new(sizeof item, 0, &channel);
    if (rc < 0) return rc;
    /* Threads of the pool are the runtime's own. */
    rc = zk_blocking(at_once, NULL);
    /* The worker has no time for the dump before this task waits. */
    kill(getpid(), SIGQUIT);
    if (!rc) rc = zk_channel_recv(channel, &item);
    zk_channel_free(channel);
    return rc;
}

/* From outside, of a program that has no other threads. */
ZK_TEST(deadlock, sigquit_names_a_deadlock_without_reservation)
{
    int fds[2];
    cr_assert(pipe(fds) == 0);
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDERR_FILENO);
        unsetenv("ZOKIO_WORKERS");
        _exit(zk_run(&(zk_config){.workers = 2, .dump_on_sigquit = true}, wait_for_nobody, NULL));
    }
    close(fds[1]);
    size_t length = 0;
    ssize_t n = 1;
    text[0] = '\0';
    while (n > 0 &&
           !strstr(text, "\n  main waits for channel receive (rendezvous, no sender yet)\n")) {
        n = read(fds[0], text + length, sizeof text - 1 - length);
        if (n > 0) length += (size_t)n;
        text[length] = '\0';
    }
    kill(pid, SIGKILL);
    cr_assert(waitpid(pid, NULL, 0) == pid && n > 0, "%s", text);
    close(fds[0]);
    /* ThreadSanitizer has a thread of its own. */
    const char *wanted = ZK_TEST_TSAN ? all_stuck : "\ndeadlock: no task can go on\n";
    cr_assert(strstr(text, wanted), "%s", text);
}

/* The task that asks may do something after that, so nothing is certain; but only it may. */
ZK_ASYNC_TEST(deadlock, says_who_alone_can_help)
{
    ends e = ends_new(1);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, pass_on, &e));
        settle();
        dump();
        cr_assert(strstr(text, "\nno waiting task can go on unless main"), "%s", text);
        cr_assert(!strstr(text, "deadlock: "), "%s", text);
        zk_scope_cancel(&s);
    }
    ends_free(e);
}

/* Who waits for the task that asks has no need of help. */
ZK_ASYNC_TEST(deadlock, says_nothing_of_who_waits_for_the_task_that_asks)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, dump_for_others, NULL));
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    assert_line("task main", "waits for the tasks of its scope");
    cr_assert(!strstr(text, "can go on"), "%s", text);
}

/* Of those in a circle, and of those who wait for them, it is said once. */
ZK_ASYNC_TEST(deadlock, says_of_a_circle_no_more_than_that)
{
    pair p = {0};
    zk_mutex *one_way[] = {&p.first, &p.second}, *other_way[] = {&p.second, &p.first};
    ends e = ends_new(1);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_both, one_way));
        cr_assert_ok(zk_spawn(&s, lock_the_other_way, other_way));
        wait_observed(&s, "deadlock: lock_", "task main, worker 0, waits for");
    }
    cr_assert(!strstr(text, "can go on"), "%s", text);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_both, one_way));
        cr_assert_ok(zk_spawn(&s, lock_the_other_way, other_way));
        cr_assert_ok(zk_spawn(&s, pass_on, &e));
        wait_observed(&s, "deadlock: lock_", all_stuck);
    }
    const char *stuck = strstr(text, all_stuck) + strlen(all_stuck);
    cr_assert(strncmp(stuck, "  pass_on (", 11) == 0 && !strstr(stuck, "\n  "), "%s", text);
    ends_free(e);
}
