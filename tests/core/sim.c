/*
 * The simulation: the same seed is the same run, time is virtual, faults happen, what is stuck or
 * left behind is told.
 */
#include <errno.h>

#include "tests/sim.h"

#include <zokio/zokio.h>

#include "core/worker.h"

static int sleep_an_hour(void *arg)
{
    zk_time start = zk_now();
    int rc = zk_sleep(ZK_SEC(3600));
    *(zk_time *)arg = zk_now() - start;
    return rc;
}

static zk_time real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ZK_SEC(t.tv_sec) + t.tv_nsec;
}

ZK_TEST(sim, an_hour_takes_no_time)
{
    zk_time slept = 0, start = real_now();
    cr_assert_ok(zk_sim_run(1, NULL, sleep_an_hour, &slept));
    cr_assert_geq(slept, ZK_SEC(3600));
    cr_assert_lt(slept, ZK_SEC(3601));
    cr_assert_lt(real_now() - start, ZK_SEC(5));
    cr_assert(!zk_sim_is_running());
}

/* ---- a small world: a server that doubles numbers, clients that ask ---- */

static int answer(void *arg)
{
    zk_stream *s = arg;
    uint32_t number;
    size_t have = 0;
    ssize_t n;
    while ((n = zk_stream_read(s, (char *)&number + have, sizeof number - have)) > 0) {
        have += (size_t)n;
        if (have < sizeof number) continue;
        have = 0;
        number *= 2;
        if (zk_stream_write(s, &number, sizeof number) < 0) break;
    }
    zk_stream_close(s);
    return 0;
}

static int serve(void *arg)
{
    zk_listener *l = arg;
    ZK_SCOPE(s) {
        zk_stream *stream;
        while (zk_accept(l, &stream) >= 0) {
            if (zk_spawn(&s, answer, stream) < 0) zk_stream_close(stream);
        }
    }
    return 0;
}

static int ask(const zk_addr *addr, uint32_t number)
{
    zk_stream *s;
    int rc = zk_connect(addr, &s);
    if (rc < 0) return rc;
    uint32_t reply = 0;
    size_t have = 0;
    rc = zk_stream_write(s, &number, sizeof number);
    while (rc == 0 && have < sizeof reply) {
        ssize_t n = zk_stream_read(s, (char *)&reply + have, sizeof reply - have);
        if (n <= 0) {
            rc = n < 0 ? (int)n : -ECONNRESET;
        } else {
            have += (size_t)n;
        }
    }
    zk_stream_close(s);
    if (rc == 0 && reply != 2 * number) return -EBADMSG;
    return rc;
}

typedef struct client {
    const zk_addr *addr;
    int index, answers;
} client;

static bool is_networks_fault(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED || rc == -EMFILE ||
           rc == -ENOBUFS || rc == -ENOMEM || rc == -ETIMEDOUT;
}

static int ask_several(void *arg)
{
    client *c = *(client **)arg;
    for (uint32_t i = 0; i < 5; i++) {
        int rc = ask(c->addr, (uint32_t)c->index * 100 + i);
        if (rc < 0 && !is_networks_fault(rc)) return rc;
        if (rc >= 0) c->answers++;
    }
    return 0;
}

static int world(void *arg)
{
    int *answers = arg;
    zk_addr addr;
    zk_listener *l;
    client clients[4];
    int rc = zk_addr_parse("127.0.0.1:0", &addr);
    if (rc >= 0) rc = zk_listen(&addr, NULL, &l);
    if (rc < 0) return is_networks_fault(rc) ? 0 : rc;
    zk_listener_addr(l, &addr);
    ZK_SCOPE(all) {
        rc = zk_spawn(&all, serve, l);
        ZK_SCOPE(asking) {
            for (int i = 0; i < 4 && rc >= 0; i++) {
                clients[i] = (client){.addr = &addr, .index = i};
                client *c = &clients[i];
                rc = zk_spawn(&asking, ask_several, &c);
            }
            int end = zk_scope_wait(&asking);
            if (rc >= 0) rc = end;
        }
        for (int i = 0; i < 4 && answers && rc >= 0; i++)
            *answers += clients[i].answers;
        zk_scope_cancel(&all);
    }
    zk_listener_close(l);
    return is_networks_fault(rc) ? 0 : rc;
}

/* The same seed gives the same run to the last event, another one another. */
ZK_TEST(sim, a_seed_is_a_run)
{
    zk_sim_report first, again, other;
    int traces = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cr_assert_ok(zk_sim_run_report(seed, &ZK_SIM_FAULTS, world, NULL, &first));
        cr_assert_ok(zk_sim_run_report(seed, &ZK_SIM_FAULTS, world, NULL, &again));
        cr_assert_ok(zk_sim_run_report(seed + 1000, &ZK_SIM_FAULTS, world, NULL, &other));
        cr_assert(memcmp(&first, &again, sizeof first) == 0, "seed %d", (int)seed);
        traces += first.trace != other.trace;
        cr_assert_gt(first.events, 0u);
    }
    cr_assert_eq(traces, 20);
}

/* Without faults every question is answered. */
ZK_TEST(sim, without_faults_all_goes_well)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        int answers = 0;
        zk_sim_report report;
        cr_assert_ok(zk_sim_run_report(seed, NULL, world, &answers, &report));
        cr_assert_eq(answers, 20);
        cr_assert_eq(report.faults, 0u);
    }
}

/* Each kind of fault does happen when it is asked for, and the program survives it. */
ZK_TEST(sim, every_kind_of_fault_happens)
{
    static const zk_sim_options kinds[] = {
        {.short_read_chance = 500},   {.short_write_chance = 500},  {.reset_chance = 200},
        {.refuse_chance = 200},       {.out_of_files_chance = 300}, {.out_of_buffers_chance = 200},
        {.out_of_memory_chance = 50},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t faults = 0;
        for (uint64_t seed = 1; seed <= 30; seed++) {
            zk_sim_report report;
            int rc = zk_sim_run_report(seed, &kinds[i], world, NULL, &report);
            cr_assert_rc(rc, 0, "kind %zu, %s", i, zk_trail());
            faults += report.faults;
        }
        cr_assert_gt(faults, 0u, "kind %zu", i);
    }
}

ZK_TEST(sim, impossible_options_are_refused)
{
    cr_assert_rc(zk_sim_run(1, &(zk_sim_options){.reset_chance = 1001}, world, NULL), -EINVAL);
    cr_assert_rc(zk_sim_run(1, &(zk_sim_options){.refuse_chance = -1}, world, NULL), -EINVAL);
    cr_assert_rc(zk_sim_run(1, &(zk_sim_options){.delay_min = 5, .delay_max = 4}, world, NULL),
                 -EINVAL);
}

/* ---- order ---- */

static char order[8];

static int note(void *arg)
{
    size_t size = strlen(order);
    order[size] = (char)(intptr_t)arg;
    return 0;
}

static int three_tasks(void *arg)
{
    (void)arg;
    memset(order, 0, sizeof order);
    ZK_SCOPE(s) {
        for (int c = 'a'; c <= 'c'; c++) {
            if (zk_spawn(&s, note, (void *)(intptr_t)c) < 0) return -ENOMEM;
        }
        zk_yield();
        zk_scope_wait(&s);
    }
    return 0;
}

ZK_TEST(sim, tasks_run_in_every_order)
{
    bool has_seen[2] = {false};
    for (uint64_t seed = 1; seed <= 100; seed++) {
        cr_assert_ok(zk_sim_run(seed, NULL, three_tasks, NULL));
        has_seen[strcmp(order, "abc") == 0] = true;
        cr_assert_eq(strlen(order), 3u);
    }
    cr_assert(has_seen[0] && has_seen[1]);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cr_assert_ok(zk_sim_run(seed, &(zk_sim_options){.is_in_order = true}, three_tasks, NULL));
        cr_assert_str_eq(order, "abc");
    }
}

/* ---- what goes wrong is told ---- */

static int wait_for_ever(void *arg)
{
    (void)arg;
    zk_channel *c;
    int item, rc = zk_channel_new(sizeof item, 1, &c);
    if (rc < 0) return rc;
    rc = zk_channel_recv(c, &item);
    zk_channel_free(c);
    return rc;
}

ZK_TEST(sim, a_program_that_is_stuck_is_told_so)
{
    cr_assert_rc(zk_sim_run(7, NULL, wait_for_ever, NULL), ZK_E_STUCK);
    cr_assert_str_eq(zk_trail(),
                     "seed 7: deadlock: no task can go on; main waits for channel receive "
                     "(0 of 1 items, no sender yet): ZK_E_STUCK (all tasks wait for "
                     "each other)");
}

static zk_mutex first, second;

static int lock_first(void *arg)
{
    (void)arg;
    int rc = zk_mutex_lock(&first);
    if (rc < 0) return rc;
    rc = zk_sleep(ZK_MS(1));
    if (!rc) rc = zk_mutex_lock(&second);
    if (!rc) zk_mutex_unlock(&second);
    zk_mutex_unlock(&first);
    return rc;
}

static int lock_second(void *arg)
{
    (void)arg;
    int rc = zk_mutex_lock(&second);
    if (rc < 0) return rc;
    rc = zk_sleep(ZK_MS(1));
    if (!rc) rc = zk_mutex_lock(&first);
    if (!rc) zk_mutex_unlock(&first);
    zk_mutex_unlock(&second);
    return rc;
}

static int lock_both_ways(void *arg)
{
    (void)arg;
    int rc = 0;
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, lock_first, NULL);
        if (!rc) rc = zk_spawn(&s, lock_second, NULL);
        if (!rc) rc = zk_scope_wait(&s);
    }
    return rc;
}

/* Named as zk_dump names it. */
ZK_TEST(sim, a_program_that_is_stuck_is_told_who_holds_whom_up)
{
    cr_assert_rc(zk_sim_run(1, NULL, lock_both_ways, NULL), ZK_E_STUCK);
    const char *trail = zk_trail();
    cr_assert(strstr(trail, "seed 1: deadlock: lock_") == trail, "%s", trail);
    cr_assert(strstr(trail, "lock_first (") && strstr(trail, "lock_second (") &&
                  strstr(trail, ") -> lock_"),
              "%s", trail);
}

static int leak_memory(void *arg)
{
    (void)arg;
    void *p = zk_alloc(100);
    return p ? 0 : -ENOMEM;
}

static int leak_socket(void *arg)
{
    (void)arg;
    zk_addr addr;
    zk_listener *l;
    int rc = zk_addr_parse("127.0.0.1:0", &addr);
    return rc < 0 ? rc : zk_listen(&addr, NULL, &l);
}

ZK_TEST(sim, what_is_left_behind_is_told)
{
    zk_sim_report report;
    cr_assert_rc(zk_sim_run_report(1, NULL, leak_memory, NULL, &report), ZK_E_LEAK);
    cr_assert_eq(report.blocks_leaked, 1u);
    cr_assert_rc(zk_sim_run_report(1, NULL, leak_socket, NULL, &report), ZK_E_LEAK);
    cr_assert_eq(report.sockets_leaked, 1u);
    cr_assert(strstr(zk_trail(), "1 sockets"), "%s", zk_trail());
}

static int fail_with_context(void *arg)
{
    (void)arg;
    return zk_fail(-EIO, "reading the moon");
}

ZK_TEST(sim, an_error_carries_its_seed)
{
    cr_assert_rc(zk_sim_run(42, NULL, fail_with_context, NULL), -EIO);
    cr_assert_str_eq(zk_trail(), "seed 42: reading the moon: EIO (Input/output error)");
}

/* ---- blocking calls, and no influence from outside ---- */

static int add_one(void *arg) { return ++*(int *)arg; }

static int call_blocking(void *arg)
{
    int n = 41, *cut_short = arg;
    int rc = zk_blocking(add_one, &n), late = 0;
    if (rc != 42 || n != 42) return -EBADMSG;
    ZK_WITHIN(ZK_MS(3)) {
        late = zk_blocking(add_one, &n);
    }
    if (late == -ETIMEDOUT) ++*cut_short;
    return (late == -ETIMEDOUT && n == 42) || late == 43 ? 0 : -EBADMSG;
}

/* A call that has not begun when the deadline passes is taken back, on some seeds. */
ZK_TEST(sim, blocking_calls_take_virtual_time)
{
    int cut_short = 0;
    for (uint64_t seed = 1; seed <= 50; seed++)
        cr_assert_ok(zk_sim_run(seed, NULL, call_blocking, &cut_short));
    cr_assert(cut_short > 0 && cut_short < 50, "%d", cut_short);
}

static int tell_poller(void *arg)
{
    (void)arg;
    return zk_worker_count() == 1 && !strcmp(zk_poller_name(), "sim") && zk_sim_is_running() ? 0
                                                                                             : -1;
}

static int run_inside(void *arg)
{
    (void)arg;
    return zk_sim_run(1, NULL, tell_poller, NULL);
}

ZK_TEST(sim, the_environment_has_no_influence)
{
    setenv("ZOKIO_WORKERS", "4", 1);
    setenv("ZOKIO_POLLER", "epoll", 1);
    cr_assert_ok(zk_sim_run(1, NULL, tell_poller, NULL));
    cr_assert_rc(zk_sim_run(1, NULL, run_inside, NULL), -EBUSY);
}
