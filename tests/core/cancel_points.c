/*
 * Cancellation at every suspension point of every primitive.
 *
 * Each operation is a task that would do its thing, with helpers that let it succeed in the end. It
 * is cancelled when it suspends for the first time, in another run for the second time, and so on,
 * until it ends before it is cancelled. Each time it must end, with -ECANCELED or with what it had
 * got already, and what it worked on must be as good as new: `check` uses it once more.
 */
#include <errno.h>

#include "tests/sim.h"

#include <zokio/zokio.h>

#include "core/worker.h"

/* What the operations work on; made anew for each run. */
static struct world {
    zk_channel *channel, *rendezvous;
    zk_broadcast *broadcast;
    zk_subscription subscription;
    zk_watch *watch;
    zk_mutex mutex;
    zk_rwlock rwlock;
    zk_semaphore semaphore;
    zk_condition condition;
    zk_barrier barrier;
    zk_once once;
    zk_wait_group group;
    zk_stream *a, *b;
    zk_listener *listener;
    zk_addr addr;
    int sent, received; /* items of the channels */
} w;

/* ---- operations; each waits at least once, for what `help` does ---- */

static int op_sleep(void) { return zk_sleep(ZK_MS(1)); }

static int op_yield(void)
{
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = zk_yield();
    return rc;
}

static int op_send(void)
{
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = zk_channel_send(w.rendezvous, &i);
        w.sent += rc == 0;
    }
    return rc;
}

static int op_recv(void)
{
    int item, rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = zk_channel_recv(w.channel, &item);
        w.received += rc == 0;
    }
    return rc;
}

static int op_broadcast(void)
{
    int item;
    return zk_broadcast_recv(&w.subscription, &item, NULL);
}

static int op_watch(void)
{
    uint64_t version = 1;
    int value;
    return zk_watch_changed(w.watch, &version, &value);
}

static int op_mutex(void)
{
    int rc = zk_mutex_lock(&w.mutex);
    if (rc == 0) {
        rc = zk_yield();
        zk_mutex_unlock(&w.mutex);
    }
    return rc;
}

static int op_read_lock(void)
{
    int rc = zk_rwlock_read(&w.rwlock);
    if (rc == 0) zk_rwlock_unlock(&w.rwlock);
    return rc;
}

static int op_write_lock(void)
{
    int rc = zk_rwlock_write(&w.rwlock);
    if (rc == 0) zk_rwlock_unlock(&w.rwlock);
    return rc;
}

static int op_semaphore(void)
{
    int rc = zk_semaphore_acquire(&w.semaphore, 2);
    if (rc == 0) zk_semaphore_release(&w.semaphore, 2);
    return rc;
}

static int op_condition(void)
{
    int rc = zk_mutex_lock(&w.mutex);
    if (rc < 0) return rc;
    rc = zk_condition_wait(&w.condition, &w.mutex);
    zk_mutex_unlock(&w.mutex);
    return rc;
}

static int op_barrier(void) { return zk_barrier_wait(&w.barrier); }

static int once_fn(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_MS(1));
}

static int op_once(void) { return zk_once_call(&w.once, once_fn, NULL); }
static int op_wait_group(void) { return zk_wait_group_wait(&w.group); }

static int op_select(void)
{
    int item, out = 1;
    int got = zk_select({ZK_RECV(w.channel, &item)}, {ZK_SEND(w.rendezvous, &out)},
                        {ZK_READABLE(w.a)}, {ZK_AFTER(ZK_MS(5))});
    w.received += got == 0;
    w.sent += got == 1;
    return got < 0 ? got : 0;
}

static int sleeper(void *arg) { return zk_sleep(ZK_US((intptr_t)arg)); }

static int op_select_future(void)
{
    zk_future f;
    zk_async(&f, sleeper, (void *)1000);
    int rc = zk_select({ZK_AWAIT(&f)});
    int awaited = zk_await(&f);
    return rc < 0 ? rc : awaited;
}

static int op_await(void)
{
    zk_future f;
    zk_async(&f, sleeper, (void *)1000);
    zk_yield();
    return zk_await(&f);
}

static int op_join(void) { return zk_join({sleeper, (void *)500}, {sleeper, (void *)1500}); }

static int op_race(void)
{
    int rc = zk_race({sleeper, (void *)500}, {sleeper, (void *)60000000});
    return rc < 0 ? rc : 0;
}

static int op_any(void)
{
    int rc = zk_any({sleeper, (void *)500}, {sleeper, (void *)60000000});
    return rc < 0 ? rc : 0;
}

static int op_timeout(void) { return zk_timeout(ZK_SEC(60), sleeper, (void *)1000); }

static int fail_twice(void *arg)
{
    int *left = arg;
    return --*left >= 0 ? -EAGAIN : 0;
}

static int op_retry(void)
{
    int left = 2;
    int rc = zk_retry(&(zk_retry_options){.delay = ZK_US(100)}, fail_twice, &left);
    return rc == -EAGAIN && zk_cancelled() ? -ECANCELED : rc;
}

static int op_interval(void)
{
    zk_interval interval;
    zk_interval_init(&interval, ZK_MS(1));
    int rc = zk_interval_wait(&interval);
    return rc < 0 ? rc : 0;
}

static int emit_three(zk_emitter *out, void *arg)
{
    (void)arg;
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = zk_sleep(ZK_US(100));
        if (rc == 0) rc = zk_emit(out, &i);
    }
    return rc;
}

static int drain(zk_iter *it)
{
    int item, rc;
    while ((rc = zk_iter_next(it, &item)) > 0)
        continue;
    zk_iter_close(it);
    return rc;
}

static int op_generator(void)
{
    zk_iter *it;
    int rc = zk_iter_generate(sizeof(int), emit_three, NULL, &it);
    return rc < 0 ? rc : drain(it);
}

static int op_merged(void)
{
    zk_iter *its[2] = {NULL, NULL}, *it;
    for (int i = 0; i < 2; i++)
        cr_assert_ok(zk_iter_generate(sizeof(int), emit_three, NULL, &its[i]));
    cr_assert_ok(zk_iter_merge(its, 2, &it));
    cr_assert_ok(zk_iter_buffer(&it, 2));
    return drain(it);
}

static int op_read(void)
{
    char byte;
    ssize_t n = zk_stream_read(w.a, &byte, 1);
    return n < 0 ? (int)n : 0;
}

static int op_write(void)
{
    static char much[1 << 18];
    return zk_stream_write(w.a, much, sizeof much);
}

static int op_accept(void)
{
    zk_stream *s;
    int rc = zk_accept(w.listener, &s);
    if (rc == 0) zk_stream_close(s);
    return rc;
}

static int op_connect(void)
{
    zk_stream *s;
    int rc = zk_connect(&w.addr, &s);
    if (rc == 0) zk_stream_close(s);
    return rc;
}

static int nap(void *arg)
{
    (void)arg;
    usleep(1000);
    return 0;
}

static int op_blocking(void) { return zk_blocking(nap, NULL); }

/* ---- what lets them succeed ---- */

/* Gives, after a while, what any of them may be waiting for. */
static int help(void *arg)
{
    (void)arg;
    int item, rc = zk_sleep(ZK_MS(1));
    if (rc < 0) return rc;
    for (int i = 0; i < 3; i++) {
        w.sent += zk_channel_try_send(w.channel, &i) == 0;
        w.received += zk_channel_try_recv(w.rendezvous, &item) == 0;
        zk_yield();
        w.received += zk_channel_try_recv(w.rendezvous, &item) == 0;
    }
    zk_broadcast_send(w.broadcast, &(int){1});
    zk_watch_set(w.watch, &(int){2});
    zk_condition_signal(&w.condition);
    zk_wait_group_done(&w.group);
    ZK_WITHIN(ZK_MS(1)) {
        (void)zk_barrier_wait(&w.barrier);
    }
    static char buf[1 << 20];
    for (int i = 0; i < 40 && rc >= 0; i++) {
        rc = (int)zk_stream_try_write(w.b, "x", 1);
        (void)zk_stream_try_read(w.b, buf, sizeof buf);
        int item2;
        w.received += zk_channel_try_recv(w.rendezvous, &item2) == 0;
        zk_condition_signal(&w.condition);
        rc = zk_sleep(ZK_US(100));
    }
    zk_stream *s;
    rc = zk_connect(&w.addr, &s);
    if (rc == 0) zk_stream_close(s);
    return 0;
}

static void world_make(void)
{
    memset(&w, 0, sizeof w);
    w.semaphore = (zk_semaphore)ZK_SEMAPHORE(2);
    w.barrier = (zk_barrier)ZK_BARRIER(2);
    cr_assert_ok(zk_channel_new(sizeof(int), 8, &w.channel));
    cr_assert_ok(zk_channel_new(sizeof(int), 0, &w.rendezvous));
    cr_assert_ok(zk_broadcast_new(sizeof(int), 4, &w.broadcast));
    zk_broadcast_subscribe(w.broadcast, &w.subscription);
    cr_assert_ok(zk_watch_new(sizeof(int), &(int){1}, &w.watch));
    zk_wait_group_add(&w.group, 1);
    cr_assert_ok(zk_stream_pair(&w.a, &w.b));
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &w.addr));
    cr_assert_ok(zk_listen(&w.addr, NULL, &w.listener));
    cr_assert_ok(zk_listener_addr(w.listener, &w.addr));
}

/* All is free again, nothing is lost, and everything works. */
static void world_check(const char *name)
{
    int item;
    cr_assert_ok(zk_mutex_try_lock(&w.mutex));
    zk_mutex_unlock(&w.mutex);
    cr_assert_ok(zk_rwlock_try_write(&w.rwlock));
    zk_rwlock_unlock(&w.rwlock);
    cr_assert_rc(zk_semaphore_try_acquire(&w.semaphore, 2), 0, "%s", name);
    cr_assert_rc(zk_semaphore_try_acquire(&w.semaphore, 1), -EAGAIN, "%s", name);
    cr_assert_rc(zk_once_call(&w.once, once_fn, NULL), 0, "%s", name);
    while (zk_channel_try_recv(w.channel, &item) == 0)
        w.received++;
    cr_assert_eq(w.sent, w.received, "%s: %d sent, %d received", name, w.sent, w.received);
    cr_assert_rc(zk_channel_try_send(w.rendezvous, &(int){1}), -EAGAIN,
                 "%s: a receiver is left in line", name);
    cr_assert_rc(zk_channel_try_recv(w.rendezvous, &item), -EAGAIN, "%s: a sender is left", name);
    zk_stream_close(w.a);
    zk_stream_close(w.b);
    zk_listener_close(w.listener);
    zk_channel_free(w.channel);
    zk_channel_free(w.rendezvous);
    zk_broadcast_free(w.broadcast);
    zk_watch_free(w.watch);
}

/* ---- the runs ---- */

static const struct operation {
    const char *name;
    int (*run)(void);
    bool holds; /* the mutex, the lock and the permits are held by another at first */
} operations[] = {
    {"sleep", op_sleep, false},
    {"yield", op_yield, false},
    {"send", op_send, false},
    {"receive", op_recv, false},
    {"broadcast", op_broadcast, false},
    {"watch", op_watch, false},
    {"mutex", op_mutex, true},
    {"read lock", op_read_lock, true},
    {"write lock", op_write_lock, true},
    {"semaphore", op_semaphore, true},
    {"condition", op_condition, false},
    {"condition, contended", op_condition, true},
    {"barrier", op_barrier, false},
    {"once", op_once, false},
    {"wait-group", op_wait_group, false},
    {"select", op_select, false},
    {"select of a future", op_select_future, false},
    {"await", op_await, false},
    {"join", op_join, false},
    {"race", op_race, false},
    {"any", op_any, false},
    {"timeout", op_timeout, false},
    {"retry", op_retry, false},
    {"interval", op_interval, false},
    {"generator", op_generator, false},
    {"merge and buffer", op_merged, false},
    {"stream read", op_read, false},
    {"stream write", op_write, false},
    {"accept", op_accept, false},
    {"connect", op_connect, false},
    {"blocking", op_blocking, false},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

typedef struct run {
    const struct operation *op;
    bool is_over;
    int rc;
} run;

static int run_operation(void *arg)
{
    run *r = arg;
    r->rc = r->op->run();
    r->is_over = true;
    return 0;
}

static int hold_for_a_while(void *arg)
{
    (void)arg;
    cr_assert_ok(zk_mutex_lock(&w.mutex));
    cr_assert_ok(zk_rwlock_write(&w.rwlock));
    cr_assert_ok(zk_semaphore_acquire(&w.semaphore, 2));
    ZK_SHIELD {
        zk_sleep(ZK_MS(2));
    }
    zk_semaphore_release(&w.semaphore, 2);
    zk_rwlock_unlock(&w.rwlock);
    zk_mutex_unlock(&w.mutex);
    return 0;
}

/* An operation is cancelled after so many turns of the others, or of a deadline. */
typedef struct attempt {
    const struct operation *op;
    int turns;
    bool by_deadline, was_over; /* it had ended by itself */
} attempt;

static void run_until(attempt *a, run *r)
{
    if (a->by_deadline) {
        ZK_WITHIN(ZK_US(250) * a->turns) {
            run_operation(r);
        }
        a->was_over = r->rc != -ETIMEDOUT && r->rc != -ECANCELED;
        return;
    }
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, run_operation, (void *)r));
        for (int i = 0; i < a->turns && !r->is_over; i++)
            zk_yield();
        a->was_over = r->is_over;
        zk_scope_cancel(&s);
    }
}

static int cancel_after(void *arg)
{
    attempt *a = arg;
    const char *name = a->op->name;
    run r = {.op = a->op};
    world_make();
    ZK_SCOPE(helpers) {
        if (a->op->holds) {
            cr_assert_ok(zk_spawn(&helpers, hold_for_a_while, NULL));
            while (!zk_mutex_try_lock(&w.mutex)) {
                zk_mutex_unlock(&w.mutex);
                zk_yield();
            }
        }
        cr_assert_ok(zk_spawn(&helpers, help, NULL));
        run_until(a, &r);
        cr_assert(r.is_over, "%s", name);
        cr_assert_ok(zk_scope_wait(&helpers));
    }
    bool is_cut_short = r.rc == -ECANCELED || r.rc == -ETIMEDOUT;
    cr_assert(r.rc == 0 || (is_cut_short && !a->was_over), "%s, turn %d: %s", name, a->turns,
              zk_errname(r.rc));
    world_check(name);
    return 0;
}

/* In virtual time, and with the leak check of the simulation. returns whether it was over. */
static bool simulate(const struct operation *op, int turns, bool by_deadline)
{
    attempt a = {.op = op, .turns = turns, .by_deadline = by_deadline};
    int rc = zk_sim_run((uint64_t)turns, NULL, cancel_after, &a);
    cr_assert_rc(rc, 0, "%s, turn %d: %s", op->name, turns, zk_trail());
    return a.was_over;
}

/* The k-th run cancels k turns after the start: at each point where the operation waits. */
ZK_TEST(cancel_points, by_a_scope)
{
    for (int i = 0; i < OPERATIONS; i++) {
        bool was_cut_short = false, is_over = false;
        for (int turns = 1; turns <= 200000 && !is_over;
             turns = turns < 60 ? turns + 1 : 2 * turns) {
            is_over = simulate(&operations[i], turns, false);
            was_cut_short |= !is_over;
        }
        cr_assert(was_cut_short, "%s never waited", operations[i].name);
        cr_assert(is_over, "%s never ended", operations[i].name);
    }
}

ZK_TEST(cancel_points, by_a_deadline)
{
    for (int i = 0; i < OPERATIONS; i++) {
        bool is_over = false;
        for (int turns = 0; turns <= 4000 && !is_over; turns = turns < 60 ? turns + 1 : 2 * turns)
            is_over = simulate(&operations[i], turns, true);
        cr_assert(is_over, "%s never ended", operations[i].name);
    }
}
