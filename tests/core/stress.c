/*
 * Many tasks on several workers do random things to shared objects, and are cancelled at random:
 * nothing is lost, doubled or stuck. For the thread sanitizer too. A failure prints its seed;
 * ZOKIO_SEED=N repeats it, as far as threads repeat anything.
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/async.h"

#include <zokio/zokio.h>

enum { WORKERS = 3, TASKS = 12, ROUNDS = 400 };

static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void seed_choose(void)
{
    const char *given = getenv("ZOKIO_SEED");
    seed = given && *given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u;
    fprintf(stderr, "seed %llu (ZOKIO_SEED repeats it)\n", (unsigned long long)seed);
}

typedef struct player {
    void *shared;
    uint64_t random;
    int index;
    long done;
} player;

/* Runs TASKS players of a game, on all workers. */
static void play(zk_fn *fn, void *shared, player *players)
{
    seed_choose();
    ZK_SCOPE(s) {
        for (int i = 0; i < TASKS; i++) {
            players[i] = (player){.shared = shared, .random = seed + (uint64_t)i, .index = i};
            player *p = &players[i];
            cr_assert_ok(zk_spawn_on(&s, i % WORKERS, fn, &p));
        }
        cr_assert_rc(zk_scope_wait(&s), 0, "seed %llu", (unsigned long long)seed);
    }
}

/* A span that is often too short for what is waited for. */
static zk_time some_time(player *p) { return ZK_US(next_random(&p->random) % 300); }

static bool is_cut_short(int rc) { return rc == -ETIMEDOUT || rc == -ECANCELED; }

/* ---- locks ---- */

typedef struct locks {
    zk_mutex mutex;
    zk_rwlock rwlock;
    zk_semaphore semaphore;
    atomic_int in_mutex, readers, writers, permits_out;
} locks;

static int lock_and_look(player *p, locks *l)
{
    int rc = zk_mutex_lock(&l->mutex);
    if (rc < 0) return rc;
    if (atomic_fetch_add(&l->in_mutex, 1) != 0) return -EBADMSG;
    if (next_random(&p->random) % 4 == 0) zk_yield();
    atomic_fetch_sub(&l->in_mutex, 1);
    zk_mutex_unlock(&l->mutex);
    return 0;
}

static int read_or_write(player *p, locks *l)
{
    bool is_writer = next_random(&p->random) % 3 == 0;
    int rc = is_writer ? zk_rwlock_write(&l->rwlock) : zk_rwlock_read(&l->rwlock);
    if (rc < 0) return rc;
    if (is_writer) {
        if (atomic_fetch_add(&l->writers, 1) || atomic_load(&l->readers)) return -EBADMSG;
        zk_yield();
        atomic_fetch_sub(&l->writers, 1);
    } else {
        atomic_fetch_add(&l->readers, 1);
        if (atomic_load(&l->writers)) return -EBADMSG;
        zk_yield();
        atomic_fetch_sub(&l->readers, 1);
    }
    zk_rwlock_unlock(&l->rwlock);
    return 0;
}

static int use_permits(player *p, locks *l)
{
    size_t count = 1 + next_random(&p->random) % 3;
    int rc = zk_semaphore_acquire(&l->semaphore, count);
    if (rc < 0) return rc;
    if (atomic_fetch_add(&l->permits_out, (int)count) + (int)count > 4) return -EBADMSG;
    zk_yield();
    atomic_fetch_sub(&l->permits_out, (int)count);
    zk_semaphore_release(&l->semaphore, count);
    return 0;
}

static int play_locks(void *arg)
{
    player *p = *(player **)arg;
    for (int i = 0; i < ROUNDS; i++) {
        int rc = 0;
        ZK_WITHIN(some_time(p)) {
            switch (next_random(&p->random) % 3) {
            case 0: rc = lock_and_look(p, p->shared); break;
            case 1: rc = read_or_write(p, p->shared); break;
            default: rc = use_permits(p, p->shared);
            }
        }
        if (rc < 0 && !is_cut_short(rc)) return rc;
    }
    return 0;
}

ZK_ASYNC_TEST_ON(stress, locks_hold, WORKERS)
{
    locks l = {.semaphore = ZK_SEMAPHORE(4)};
    player players[TASKS];
    play(play_locks, &l, players);
    cr_assert_ok(zk_mutex_try_lock(&l.mutex));
    cr_assert_ok(zk_rwlock_try_write(&l.rwlock));
    cr_assert_ok(zk_semaphore_try_acquire(&l.semaphore, 4));
    cr_assert_rc(zk_semaphore_try_acquire(&l.semaphore, 1), -EAGAIN);
}

/* ---- channels ---- */

typedef struct items {
    zk_channel *channels[3];
    atomic_long sent, received, sent_sum, received_sum;
} items;

static int pass_one(player *p, items *it)
{
    long out = (long)(next_random(&p->random) % 1000), in = 0;
    zk_channel *a = it->channels[next_random(&p->random) % 3];
    zk_channel *b = it->channels[next_random(&p->random) % 3];
    int got;
    switch (next_random(&p->random) % 4) {
    case 0: got = zk_channel_send(a, &out); break;
    case 1: got = zk_channel_recv(a, &in) ?: 1; break;
    case 2: got = zk_select({ZK_SEND(a, &out)}, {ZK_RECV(b, &in)}); break;
    default:
        got = zk_select({ZK_RECV(a, &in)}, {ZK_RECV(b, &in)}, {ZK_AFTER(ZK_US(50))});
        if (got == 2) return 0;
        if (got == 0) got = 1;
    }
    if (got == 0) {
        atomic_fetch_add(&it->sent, 1);
        atomic_fetch_add(&it->sent_sum, out);
    } else if (got == 1) {
        atomic_fetch_add(&it->received, 1);
        atomic_fetch_add(&it->received_sum, in);
    }
    return got < 0 ? got : 0;
}

static int play_items(void *arg)
{
    player *p = *(player **)arg;
    for (int i = 0; i < ROUNDS; i++) {
        int rc = 0;
        ZK_WITHIN(some_time(p)) {
            rc = pass_one(p, p->shared);
        }
        if (rc < 0 && !is_cut_short(rc)) return rc;
    }
    return 0;
}

/* What was sent has been received or is still there, whoever was cancelled when. */
ZK_ASYNC_TEST_ON(stress, channels_lose_and_double_nothing, WORKERS)
{
    static const size_t capacities[] = {0, 1, 16};
    items it = {0};
    player players[TASKS];
    for (int i = 0; i < 3; i++)
        cr_assert_ok(zk_channel_new(sizeof(long), capacities[i], &it.channels[i]));
    play(play_items, &it, players);
    for (int i = 0; i < 3; i++) {
        long item;
        while (zk_channel_try_recv(it.channels[i], &item) == 0) {
            it.received++;
            it.received_sum += item;
        }
        zk_channel_free(it.channels[i]);
    }
    cr_assert_eq(it.sent, it.received, "seed %llu", (unsigned long long)seed);
    cr_assert_eq(it.sent_sum, it.received_sum);
    cr_assert_gt(it.sent, 0);
}

/* ---- one sender's order ---- */

typedef struct flow {
    zk_channel *channel;
    atomic_int senders;
} flow;

static int play_order(void *arg)
{
    player *p = *(player **)arg;
    flow *f = p->shared;
    long last[TASKS];
    if (p->index % 2 == 0) {
        for (long i = 1; i <= 2000; i++) {
            int rc = zk_channel_send(f->channel, &(long){p->index * 1000000L + i});
            if (rc < 0) return rc;
        }
        if (atomic_fetch_sub(&f->senders, 1) == 1) zk_channel_close(f->channel);
        return 0;
    }
    for (int i = 0; i < TASKS; i++)
        last[i] = 0;
    for (;;) {
        long item;
        int rc = zk_channel_recv(f->channel, &item);
        if (rc < 0) return rc == ZK_E_CLOSED ? 0 : rc;
        long from = item / 1000000, number = item % 1000000;
        if (number <= last[from]) return -EBADMSG;
        last[from] = number;
        p->done++;
    }
}

ZK_ASYNC_TEST_ON(stress, each_receiver_sees_each_senders_order, WORKERS)
{
    flow f = {.senders = TASKS / 2};
    player players[TASKS];
    long done = 0;
    cr_assert_ok(zk_channel_new(sizeof(long), 7, &f.channel));
    play(play_order, &f, players);
    for (int i = 0; i < TASKS; i++)
        done += players[i].done;
    cr_assert_eq(done, 2000L * TASKS / 2);
    zk_channel_free(f.channel);
}

/* ---- wake-ups ---- */

typedef struct meeting {
    zk_mutex mutex;
    zk_condition changed;
    zk_barrier barrier;
    long turn;
} meeting;

/* Each waits for its turn: one lost wake-up and this never ends. */
static int play_turns(void *arg)
{
    player *p = *(player **)arg;
    meeting *m = p->shared;
    for (int i = 0; i < 100; i++) {
        int rc = zk_mutex_lock(&m->mutex);
        if (rc < 0) return rc;
        while (m->turn % TASKS != p->index) {
            rc = zk_condition_wait(&m->changed, &m->mutex);
            if (rc < 0) return rc;
        }
        m->turn++;
        zk_condition_broadcast(&m->changed);
        zk_mutex_unlock(&m->mutex);
        if (i % 10 == 0 && (rc = zk_barrier_wait(&m->barrier)) < 0) return rc;
    }
    return 0;
}

ZK_ASYNC_TEST_ON(stress, no_wake_up_is_lost, WORKERS)
{
    meeting m = {.barrier = ZK_BARRIER(TASKS)};
    player players[TASKS];
    play(play_turns, &m, players);
    cr_assert_eq(m.turn, 100L * TASKS);
}
