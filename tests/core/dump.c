/*
 * Dumps: what they say of running, ready, queued and waiting tasks, who holds what and who is at
 * the other end, backtraces, other workers and busy ones. Of deadlocks: deadlock.c.
 */
#include "tests/core/dumps.h"

#include <stdatomic.h>

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

ZK_TEST(dump, says_that_there_is_no_runtime)
{
    size_t length = 0;
    cr_assert(zk_dump(keep, &length) == ZK_E_NO_RUNTIME);
    cr_assert(length == 0);
}

/* Each state that a task may be in, with where it was started. */
ZK_ASYNC_TEST(dump, names_every_task_with_its_site_and_state)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, sleeper, NULL));
        int line = __LINE__ - 1;
        settle();
        cr_assert_ok(zk_spawn(&s, nothing, NULL));
        dump();
        char site[64];
        snprintf(site, sizeof site, "dump.c:%d)", line);
        assert_line("task sleeper", site);
        assert_line("task sleeper", "worker 0, waits for sleep, for ");
        assert_line("task nothing", "queued");
        assert_line("task main", "running");
        cr_assert(strstr(text, "zokio: 1 workers, 3 tasks"), "%s", text);
        zk_scope_cancel(&s);
    }
}

static int yielder(void *arg)
{
    int rc = 0;
    while (!*(bool *)arg && !rc)
        rc = zk_yield();
    return rc;
}

/* A task that has waited and may go on is not said to wait, nor one that is over. */
ZK_ASYNC_TEST(dump, knows_who_is_ready_and_who_is_over)
{
    bool is_over = false;
    bool *over = &is_over;
    zk_future f;
    zk_async(&f, yielder, over);
    settle();
    dump();
    assert_line("task yielder", "ready");
    is_over = true;
    cr_assert_ok(zk_await(&f));
    cr_assert(!strstr(dump(), "yielder"), "%s", text);
}

ZK_ASYNC_TEST(dump, says_who_holds_a_mutex)
{
    zk_mutex m = {0}, *pointer = &m;
    cr_assert_ok(zk_mutex_lock(&m));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, lock_one, &pointer));
        settle();
        dump();
        assert_line("task lock_one", "waits for mutex, held by main");
        cr_assert(!strstr(text, "deadlock"), "%s", text);
        zk_scope_cancel(&s);
    }
    zk_mutex_unlock(&m);
}

static int await_queued(void *arg)
{
    (void)arg;
    zk_future f;
    zk_async(&f, sleeper, NULL);
    int rc = zk_yield();
    int awaited = zk_await(&f);
    return rc ? rc : awaited;
}

ZK_ASYNC_TEST(dump, says_which_future_is_awaited)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, await_queued, NULL));
        settle();
        dump();
        assert_line("task await_queued", "waits for the end of sleeper (");
        zk_scope_cancel(&s);
    }
}

int wait_deep_inside(void *arg);
__attribute__((noinline)) int wait_deep_inside(void *arg)
{
    volatile int rc = sleeper(arg); /* no tail call: its frame has to stay */
    return rc;
}

ZK_ASYNC_TEST(dump, shows_the_functions_that_a_waiting_task_is_in)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, wait_deep_inside, NULL));
        settle();
        dump();
        const char *task = strstr(text, "task wait_deep_inside");
        cr_assert(task);
        cr_assert(strstr(task + 10, " wait_deep_inside+0x"), "%s", text);
        zk_scope_cancel(&s);
    }
}

static int sleep_on_own_stack(void *arg) { return sleeper(arg); }

/* Stacks of a size of their own are not among the others. */
ZK_ASYNC_TEST(dump, finds_tasks_on_stacks_of_their_own)
{
    static const zk_site site = {"special", __FILE__, __LINE__};
    ZK_SCOPE(s) {
        zk_spawn_options options = {.site = &site, .stack_bytes = 128 * 1024};
        cr_assert_ok(zk_spawn_with(&s, &options, sleep_on_own_stack, NULL));
        settle();
        dump();
        assert_line("task special", "waits for sleep");
        zk_scope_cancel(&s);
    }
    settle();
    cr_assert(!strstr(dump(), "special"), "%s", text);
}

static int sleep_noting(void *arg)
{
    atomic_int *count = *(atomic_int **)arg;
    atomic_fetch_add(count, 1);
    return zk_sleep(ZK_SEC(100));
}

ZK_ASYNC_TEST_ON(dump, describes_the_tasks_of_other_workers, 2)
{
    static atomic_int there;
    atomic_int *pointer = &there;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, 1, sleep_noting, &pointer));
        while (!atomic_load(&there))
            cr_assert_ok(zk_yield());
        dump();
        assert_line("task sleep_noting", "worker 1, waits for sleep");
        zk_scope_cancel(&s);
    }
}

static int hold_worker(void *arg)
{
    atomic_int *step = *(atomic_int **)arg;
    atomic_store(step, 1);
    while (atomic_load(step) < 2)
        usleep(1000);
    return 0;
}

ZK_ASYNC_TEST_ON(dump, says_which_task_keeps_a_worker_from_answering, 2)
{
    static atomic_int step;
    atomic_int *pointer = &step;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, 1, hold_worker, &pointer));
        while (!atomic_load(&step))
            cr_assert_ok(zk_yield());
        dump();
        atomic_store(&step, 2);
        cr_assert(strstr(text, "worker 1: busy in task hold_worker ("), "%s", text);
    }
}

/* ---- what channels and the like say ---- */

static int send_two(void *arg)
{
    const ends *e = arg;
    int item = 0, rc = zk_channel_send(e->out, &item);
    return rc < 0 ? rc : zk_channel_send(e->out, &item);
}

static int select_both(void *arg)
{
    const ends *e = arg;
    int item, other = 0;
    zk_future f;
    zk_async(&f, sleeper, NULL);
    int rc = zk_select({ZK_RECV(e->in, &item)}, {ZK_SEND(e->out, &other)}, {ZK_AWAIT(&f)},
                       {ZK_AFTER(ZK_SEC(50))});
    (void)zk_await(&f);
    return rc;
}

/* Where the other end of a channel is: whoever has used it last, even if that task is over. */
ZK_ASYNC_TEST(dump, names_the_other_end_of_a_channel)
{
    ends e = ends_new(1), back = {e.out, e.in};
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, pass_on, &e));
        settle();
        dump();
        assert_line("task pass_on", "waits for channel receive (0 of 1 items, no sender yet)");
        cr_assert_ok(zk_spawn(&s, send_two, &back));
        settle();
        dump();
        assert_line("task pass_on", "waits for channel send (1 of 1 items, no receiver yet)");
        cr_assert(!strstr(text, "task send_two"), "%s", text);
        int item;
        cr_assert_ok(zk_channel_recv(e.out, &item));
        cr_assert_ok(zk_channel_recv(e.out, &item));
        settle();
        dump();
        assert_line("task pass_on", "waits for channel receive (0 of 1 items, last sender send_two "
                                    "(");
        cr_assert_ok(zk_spawn(&s, send_two, &back));
        settle();
        dump();
        assert_line("task pass_on", "waits for channel send (1 of 1 items, last receiver main)");
        zk_scope_cancel(&s);
    }
    ends_free(e);
}

static void *send_from_thread(void *arg)
{
    int item = 0;
    return zk_channel_try_send(arg, &item) ? arg : NULL;
}

/* A thread that is no worker has no task that could be named. */
ZK_ASYNC_TEST(dump, knows_a_channel_s_end_that_is_no_task)
{
    ends e = ends_new(1);
    ZK_SCOPE(s) {
        pthread_t thread;
        void *failed;
        cr_assert(pthread_create(&thread, NULL, send_from_thread, e.in) == 0);
        cr_assert(pthread_join(thread, &failed) == 0 && !failed);
        cr_assert_ok(zk_channel_send(e.out, &(int){0}));
        cr_assert_ok(zk_spawn(&s, pass_on, &e));
        settle();
        cr_assert_ok(zk_channel_recv(e.out, &(int){0}));
        settle();
        dump();
        assert_line("task pass_on", "last sender (no task))");
        zk_scope_cancel(&s);
    }
    ends_free(e);
}

ZK_ASYNC_TEST(dump, names_the_ends_of_the_channels_of_a_select)
{
    ends e = ends_new(0);
    int item = 0;
    cr_assert_rc(zk_channel_try_recv(e.out, &item), -EAGAIN);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, select_both, &e));
        settle();
        dump();
        assert_line("task select_both", "waits for select (receive: rendezvous, no sender yet; "
                                        "send: rendezvous, last receiver main; "
                                        "await: sleeper (");
        assert_line("task select_both", "; after), for ");
        zk_scope_cancel(&s);
    }
    ends_free(e);
}

static zk_broadcast *news;
static zk_watch *level;

static int hear(void *arg)
{
    (void)arg;
    zk_subscription s;
    int item;
    zk_broadcast_subscribe(news, &s);
    return zk_broadcast_recv(&s, &item, NULL);
}

static int see(void *arg)
{
    (void)arg;
    int value;
    uint64_t version = zk_watch_get(level, &value);
    return zk_watch_changed(level, &version, &value);
}

ZK_ASYNC_TEST(dump, names_who_sends_to_a_broadcast_and_sets_a_watch)
{
    int item = 0;
    cr_assert_ok(zk_broadcast_new(sizeof item, 4, &news));
    cr_assert_ok(zk_watch_new(sizeof item, &item, &level));
    for (int i = 0; i < 2; i++) {
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, hear, NULL));
            cr_assert_ok(zk_spawn(&s, see, NULL));
            settle();
            dump();
            assert_line("task hear", i ? "waits for broadcast receive (1 sent, last sender main)"
                                       : "waits for broadcast receive (0 sent, no sender yet)");
            assert_line("task see", i ? "waits for watch (version 2, last set by main)"
                                      : "waits for watch (version 1, not set since it was made)");
            zk_scope_cancel(&s);
        }
        cr_assert_ok(zk_broadcast_send(news, &item));
        cr_assert_ok(zk_watch_set(level, &item));
    }
    zk_broadcast_free(news);
    zk_watch_free(level);
}

ZK_ASYNC_TEST(dump, says_how_far_it_is_with_what_is_waited_for)
{
    size_t wanted = 2;
    zk_wait_group_add(&group, 5);
    cr_assert_ok(zk_rwlock_read(&lock));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, acquire, &wanted));
        cr_assert_ok(zk_spawn(&s, meet, NULL));
        cr_assert_ok(zk_spawn(&s, wait_group, NULL));
        cr_assert_ok(zk_spawn(&s, write_it, NULL));
        settle();
        dump();
        assert_line("task acquire", "waits for semaphore (1 there, 2 wanted)");
        assert_line("task meet", "waits for barrier (1 of 3 there)");
        assert_line("task wait_group", "waits for wait-group (5 left)");
        assert_line("task write_it", "waits for lock for writing (held for reading 1 times)");
        zk_scope_cancel(&s);
    }
    zk_rwlock_unlock(&lock);
}
