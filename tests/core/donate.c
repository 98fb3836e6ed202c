/*
 * More than one worker: donation, spawning on a given worker, into a scope of another one, and
 * cancellation, errors and trails that cross. What other workers see is noted; worker 0 asserts.
 */
#include "tests/async.h"

#include <stdatomic.h>

#include "core/worker.h"

enum { WORKERS = 4 };

/* ---- donation ---- */

typedef struct marks {
    atomic_uint workers; /* a bit per worker that has run one of the tasks */
    atomic_int done;
} marks;

/* Busy until all wanted workers have joined in, or for a long time. */
static int work(void *arg)
{
    marks *m = arg;
    atomic_fetch_or(&m->workers, 1u << zk_worker_index());
    zk_time start = zk__clock();
    while (zk__clock() - start < ZK_US(200))
        continue;
    return atomic_fetch_add(&m->done, 1) < 0;
}

ZK_ASYNC_TEST_ON(donate, busy_tasks_of_one_scope_use_both_workers, 2)
{
    marks m = {0};
    for (int round = 0; round < 1000 && m.workers != 3; round++) {
        ZK_SCOPE(s) {
            for (int i = 0; i < 20; i++)
                cr_assert_ok(zk_spawn(&s, work, (void *)&m));
            cr_assert_ok(zk_scope_wait(&s));
        }
        cr_assert_eq(m.done, 20 * (round + 1));
    }
    cr_assert_eq(m.workers, 3u);
}

static int work_with_result(void *arg)
{
    int n = *(int *)arg;
    zk_time start = zk__clock();
    while (zk__clock() - start < ZK_US(100))
        continue;
    if (n % 10 == 0) return zk_fail(-EIO, "number %d", n);
    if (n % 3 == 0 && zk_yield() < 0) return -EINVAL;
    return 100 * zk_worker_index() + n;
}

ZK_ASYNC_TEST_ON(donate, results_and_trails_of_futures_come_back, 2)
{
    bool has_crossed = false;
    for (int round = 0; round < 1000 && !has_crossed; round++) {
        enum { COUNT = 40 };
        zk_future f[COUNT];
        int args[COUNT];
        for (int i = 0; i < COUNT; i++) {
            args[i] = i;
            zk_async(&f[i], work_with_result, &args[i]);
        }
        cr_assert_ok(zk_yield());
        for (int i = 0; i < COUNT; i++) {
            int rc = zk_await(&f[i]);
            if (i % 10 == 0) {
                char wanted[64];
                snprintf(wanted, sizeof wanted, "number %d: EIO (Input/output error)", i);
                cr_assert_rc(rc, -EIO);
                cr_assert_str_eq(zk_trail(), wanted);
            } else {
                cr_assert_eq(rc % 100, i);
                has_crossed |= rc >= 100;
            }
        }
    }
    cr_assert(has_crossed);
}

/* ---- on a given worker ---- */

typedef struct findings {
    atomic_int worker[WORKERS];
    atomic_int rcs[8];
    atomic_int waiting;
} findings;

typedef struct errand {
    findings *seen;
    int index;
} errand;

static int note_worker(void *arg)
{
    errand *e = arg;
    int before = zk_worker_index();
    int rc = zk_sleep(ZK_US(1));
    atomic_store(&e->seen->worker[e->index], before == zk_worker_index() ? before : -2);
    return rc;
}

ZK_ASYNC_TEST_ON(donate, a_task_runs_on_the_worker_asked_for, WORKERS)
{
    for (int round = 0; round < 50; round++) {
        findings seen = {0};
        ZK_SCOPE(s) {
            for (int i = 0; i < WORKERS; i++) {
                errand e = {&seen, i};
                zk_spawn_options options = {.worker = 1 + i, .arg_bytes = sizeof e};
                cr_assert_ok(zk_spawn_with(&s, &options, note_worker, &e));
            }
            cr_assert_ok(zk_scope_wait(&s));
        }
        for (int i = 0; i < WORKERS; i++)
            cr_assert_eq(seen.worker[i], i);
    }
}

static int own_stack_depth(int depth)
{
    volatile char frame[1024];
    frame[0] = 0;
    return depth ? own_stack_depth(depth - 1) + frame[0] : zk_yield();
}

static int need_large_stack(void *arg)
{
    (void)arg;
    return own_stack_depth(2000);
}

ZK_ASYNC_TEST_ON(donate, a_stack_of_its_own_is_made_where_the_task_runs, 2)
{
    ZK_SCOPE(s) {
        for (int i = 0; i < 10; i++) {
            zk_spawn_options options = {.worker = 2, .stack_bytes = 4 << 20};
            cr_assert_ok(zk_spawn_with(&s, &options, need_large_stack, NULL));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
}

static int work_pinned(void *arg) { return work(arg) < 0 || zk_worker_index() != 0 ? -EINVAL : 0; }

ZK_ASYNC_TEST_ON(donate, a_pinned_task_stays, 2)
{
    marks m = {0};
    ZK_SCOPE(s) {
        for (int i = 0; i < 200; i++) {
            zk_spawn_options options = {.is_pinned = true};
            cr_assert_ok(zk_spawn_with(&s, &options, work_pinned, &m));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(m.workers, 1u);
}

static int await_idle_worker(void *arg)
{
    (void)arg;
    while (!zk__worker_self()->runtime->idle_workers)
        continue;
    return 0;
}

static int check_all_are_seen(void *arg)
{
    (void)arg;
    const zk__worker *w = zk__worker_self();
    return w->donate_seen == w->tail ? 0 : -EINVAL;
}

ZK_ASYNC_TEST_ON(donate, what_has_to_stay_is_looked_at_once, 2)
{
    ZK_SCOPE(s) {
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&s, &options, await_idle_worker, NULL));
        for (int i = 0; i < 100; i++)
            cr_assert_ok(zk_spawn_with(&s, &options, check_all_are_seen, NULL));
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- errors and cancellation ---- */

static int sleep_long(void *arg)
{
    findings *seen = arg;
    atomic_fetch_add(&seen->waiting, 1);
    int rc = zk_sleep(ZK_SEC(3600));
    atomic_fetch_add(&seen->waiting, -1);
    return rc;
}

static int sleep_long_in_scopes(void *arg)
{
    int rc = 0;
    ZK_SCOPE(a) {
        ZK_WITHIN(ZK_SEC(1000)) {
            ZK_SCOPE(b) {
                rc = zk_spawn(&b, sleep_long, arg);
                if (!rc) rc = zk_scope_wait(&b);
            }
        }
    }
    return rc;
}

static int fail_with_trail(void *arg)
{
    (void)arg;
    (void)zk_sleep(ZK_US(1));
    return zk_fail(-EPIPE, "on worker %d", zk_worker_index());
}

static void spawn_on_all(zk_scope *s, zk_fn *fn, void *arg)
{
    for (int i = 0; i < WORKERS; i++) {
        zk_spawn_options options = {.worker = 1 + i};
        cr_assert_ok(zk_spawn_with(s, &options, fn, arg));
    }
}

static void wait_until_waiting(findings *seen, int count)
{
    while (seen->waiting < count)
        cr_assert_ok(zk_yield());
}

ZK_ASYNC_TEST_ON(donate, an_error_elsewhere_cancels_the_rest_and_comes_with_its_trail, WORKERS)
{
    for (int round = 0; round < 50; round++) {
        findings seen = {0};
        ZK_SCOPE(s) {
            spawn_on_all(&s, sleep_long, &seen);
            spawn_on_all(&s, sleep_long_in_scopes, &seen);
            wait_until_waiting(&seen, 2 * WORKERS);
            zk_spawn_options options = {.worker = 3};
            cr_assert_ok(zk_spawn_with(&s, &options, fail_with_trail, NULL));
            cr_assert_rc(zk_scope_wait(&s), -EPIPE);
            cr_assert_str_eq(zk_trail(), "on worker 2: EPIPE (Broken pipe)");
        }
        cr_assert_eq(seen.waiting, 0);
    }
}

ZK_ASYNC_TEST_ON(donate, cancelling_reaches_all_workers, WORKERS)
{
    for (int round = 0; round < 50; round++) {
        findings seen = {0};
        ZK_SCOPE(s) {
            spawn_on_all(&s, sleep_long, &seen);
            spawn_on_all(&s, sleep_long_in_scopes, &seen);
            if (round % 2) wait_until_waiting(&seen, 2 * WORKERS);
            zk_scope_cancel(&s);
            spawn_on_all(&s, sleep_long, &seen);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
        cr_assert_eq(seen.waiting, 0);
    }
}

ZK_ASYNC_TEST_ON(donate, a_deadline_reaches_all_workers, WORKERS)
{
    findings seen = {0};
    ZK_WITHIN(ZK_MS(2)) {
        ZK_SCOPE(s) {
            spawn_on_all(&s, sleep_long, &seen);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
        cr_assert_rc(zk_yield(), -ETIMEDOUT);
    }
    cr_assert_eq(seen.waiting, 0);
}

/* The cancellation and the task's end cross each other; nothing of it may be left at the end. */
static int cancel_what_ends(void *arg)
{
    (void)arg;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3; i++) {
            zk_spawn_options options = {.worker = 2, .is_pinned = true};
            zk_spawn_with(&s, &options, fail_with_trail, NULL);
        }
        zk_scope_wait(&s);
    }
    return 0;
}

static atomic_long live;

static void *count_alloc(void *context, size_t size)
{
    (void)context;
    atomic_fetch_add(&live, 1);
    return aligned_alloc(16, (size + 15) & ~(size_t)15);
}

static void count_free(void *context, void *ptr, size_t size)
{
    (void)context;
    (void)size;
    atomic_fetch_sub(&live, 1);
    free(ptr);
}

static const zk_allocator counting = {count_alloc, count_free, NULL};

ZK_TEST(donate, a_cancellation_that_comes_too_late_leaves_nothing_behind)
{
    unsetenv("ZOKIO_WORKERS");
    for (int round = 0; round < 200; round++) {
        zk_config config = {.workers = 2, .allocator = &counting};
        cr_assert_ok(zk_run(&config, cancel_what_ends, NULL));
        cr_assert_eq(live, 0, "%ld in round %d", live, round);
    }
}

/* ---- into a scope of another worker ---- */

typedef struct reach {
    zk_scope *scope;
    atomic_int left, done, wrong_worker;
    int child_worker; /* 1 + where the children are to run; 0: wherever */
} reach;

static int be_a_child(void *arg)
{
    reach *r = arg;
    if (r->child_worker && zk_worker_index() != r->child_worker - 1) r->wrong_worker++;
    atomic_fetch_add(&r->done, 1);
    return zk_sleep(ZK_US(1));
}

static int spawn_back(void *arg)
{
    reach *r = arg;
    int rc = 0;
    for (int i = 0; i < 10 && !rc; i++) {
        if (r->child_worker) {
            zk_spawn_options options = {.worker = r->child_worker};
            rc = zk_spawn_with(r->scope, &options, be_a_child, arg);
        } else {
            rc = zk_spawn(r->scope, be_a_child, arg);
        }
        if (i % 3 == 0) (void)zk_yield();
    }
    return rc;
}

ZK_ASYNC_TEST_ON(donate, a_child_elsewhere_spawns_into_the_scope, WORKERS)
{
    for (int child_worker = 0; child_worker <= WORKERS; child_worker++) {
        for (int round = 0; round < 20; round++) {
            reach r = {.child_worker = child_worker};
            ZK_SCOPE(s) {
                r.scope = &s;
                spawn_on_all(&s, spawn_back, &r);
                cr_assert_ok(zk_scope_wait(&s));
                cr_assert_eq(r.done, 10 * WORKERS);
                cr_assert_eq(r.wrong_worker, 0, "%d of %d, wanted on %d", r.wrong_worker, r.done,
                             child_worker - 1);
            }
        }
    }
}

static int cancel_the_scope(void *arg)
{
    zk_scope_cancel(arg);
    return zk_sleep(ZK_SEC(3600)); /* until the cancellation has come back */
}

ZK_ASYNC_TEST_ON(donate, a_child_elsewhere_cancels_the_scope, WORKERS)
{
    for (int round = 0; round < 50; round++) {
        findings seen = {0};
        ZK_SCOPE(s) {
            spawn_on_all(&s, sleep_long, &seen);
            spawn_on_all(&s, cancel_the_scope, &s);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
        }
    }
}

static int wait_for_foreign_scope(void *arg) { return zk_scope_wait(arg) == -EINVAL ? 0 : -EIO; }

ZK_ASYNC_TEST_ON(donate, only_its_own_worker_can_wait_for_a_scope, 2)
{
    ZK_SCOPE(s) {
        zk_spawn_options options = {.worker = 2};
        cr_assert_ok(zk_spawn_with(&s, &options, wait_for_foreign_scope, &s));
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- at random ---- */

typedef struct chaos {
    atomic_uint_least64_t random;
    atomic_long started, ended, budget;
    int workers;
} chaos;

typedef struct node {
    chaos *chaos;
    zk_scope *scope; /* that it is in */
    int depth;
} node;

static unsigned dice(chaos *c, unsigned sides)
{
    uint64_t x = atomic_fetch_add(&c->random, 0x9e3779b97f4a7c15u);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ x >> 31) % sides);
}

static int chaos_node(void *arg);

static int chaos_spawn(const node *n, zk_scope *scope)
{
    chaos *c = n->chaos;
    if (atomic_fetch_sub(&c->budget, 1) <= 0) return 0;
    node child = {c, scope, n->depth + 1};
    atomic_fetch_add(&c->started, 1);
    zk_spawn_options options = {
        .arg_bytes = sizeof child,
        .worker = dice(c, 4) ? 0 : (int)dice(c, (unsigned)c->workers) + 1,
        .is_pinned = dice(c, 8) == 0,
        .stack_bytes = dice(c, 16) ? 0 : 65536,
    };
    int rc = dice(c, 2) ? zk_spawn(scope, chaos_node, &child)
                        : zk_spawn_with(scope, &options, chaos_node, &child);
    if (rc < 0) atomic_fetch_add(&c->ended, 1);
    return rc;
}

static int chaos_quick(void *arg)
{
    chaos *c = arg;
    return dice(c, 2) ? zk_yield() : (int)dice(c, 100);
}

static int chaos_block(node *n)
{
    chaos *c = n->chaos;
    int rc = 0;
    ZK_SCOPE(s) {
        unsigned children = dice(c, 6);
        for (unsigned i = 0; i < children && rc >= 0; i++)
            rc = chaos_spawn(n, &s);
        switch (dice(c, 8)) {
        case 0: zk_scope_cancel(&s); break;
        case 1: return zk_yield();
        case 2: (void)zk_sleep(ZK_US(dice(c, 2000))); break;
        }
        if (dice(c, 2)) rc = zk_scope_wait(&s);
    }
    return rc;
}

static int chaos_steps(node *n)
{
    chaos *c = n->chaos;
    int rc = 0;
    switch (dice(c, 10)) {
    case 0: rc = chaos_spawn(n, n->scope); break;
    case 1: rc = zk_sleep(ZK_US(dice(c, 500))); break;
    case 2: rc = zk_yield(); break;
    case 3: {
        zk_future f[3];
        for (int i = 0; i < 3; i++)
            zk_async(&f[i], chaos_quick, c);
        if (dice(c, 2)) rc = zk_yield();
        for (int i = 0; i < 3; i++)
            (void)zk_await(&f[i]);
        break;
    }
    case 4: ZK_WITHIN(ZK_US(dice(c, 1500))) { rc = chaos_block(n);
        }
        break;
    case 5: ZK_SHIELD { rc = chaos_block(n);
        }
        break;
    case 6: (void)zk_blocking(chaos_quick, c); break;
    default: rc = n->depth < 6 ? chaos_block(n) : 0;
    }
    return rc;
}

static int chaos_node(void *arg)
{
    node *n = arg;
    int rc = chaos_steps(n);
    atomic_fetch_add(&n->chaos->ended, 1);
    if (dice(n->chaos, 50) == 0) return zk_fail(-EIO, "at depth %d", n->depth);
    /* Most errors are let go of: otherwise little would ever run. */
    return rc < 0 && dice(n->chaos, 4) == 0 ? rc : 0;
}

static int chaos_main(void *arg)
{
    chaos *c = arg;
    while (c->budget > 0) {
        node n = {c, NULL, 0};
        (void)chaos_block(&n);
        if (zk_cancelled()) return -EINVAL;
    }
    return 0;
}

ZK_TEST(donate, whatever_is_spawned_at_random_ends)
{
    const char *given = getenv("ZOKIO_SEED");
    uint64_t seed = (uint64_t)zk__clock();
    if (given) {
        seed = 0;
        for (; *given >= '0' && *given <= '9'; given++)
            seed = seed * 10 + (uint64_t)(*given - '0');
    }
    fprintf(stderr, "ZOKIO_SEED=%llu\n", (unsigned long long)seed);
    unsetenv("ZOKIO_WORKERS");
    for (int round = 0; round < 6; round++) {
        chaos c = {.random = seed + (uint64_t)round, .budget = ZK_TEST_TSAN ? 3000 : 20000};
        c.workers = 2 + round % 3;
        zk_config config = {.workers = c.workers, .allocator = round % 2 ? &counting : NULL};
        cr_assert_ok(zk_run(&config, chaos_main, &c));
        cr_assert_gt(c.started, 2000);
        cr_assert_eq(c.started, c.ended, "round %d: %ld started, %ld ended", round, c.started,
                     c.ended);
        cr_assert_eq(live, 0, "round %d: %ld objects are left", round, live);
    }
}
