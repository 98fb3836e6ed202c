/*
 * Hunting: a thousand seeds of a small client-server program pass, and planted bugs are found by
 * some seed, and again by the same.
 */
#include <errno.h>

#include "tests/sim.h"

#include <zokio/zokio.h>

/* A bank on one connection per client: "D" deposits one, the answer is the balance. */
typedef struct bank {
    zk_mutex lock;
    long balance;
    bool has_race, has_short_read; /* the planted bugs */
    zk_listener *listener;
    zk_addr addr;
    int confirmed, unsure;
} bank;

static bank *the_bank;

static int deposit(bank *b)
{
    if (b->has_race) {
        /* Reads, lets others run, writes back: a lost update. */
        long seen = b->balance;
        zk_yield();
        b->balance = seen + 1;
        return 0;
    }
    int rc = zk_mutex_lock(&b->lock);
    if (rc < 0) return rc;
    long seen = b->balance;
    rc = zk_yield();
    b->balance = seen + 1;
    zk_mutex_unlock(&b->lock);
    return rc;
}

/* Reads a request of four bytes. The bug takes what comes first for all of it. */
static int read_request(bank *b, zk_stream *s, char *request)
{
    size_t have = 0;
    while (have < 4) {
        ssize_t n = zk_stream_read(s, request + have, 4 - have);
        if (n <= 0) return n < 0 ? (int)n : -ECONNRESET;
        have += (size_t)n;
        if (b->has_short_read) break;
    }
    return memcmp(request, "DEPO", 4) == 0 ? 0 : -EBADMSG;
}

static int teller(void *arg)
{
    zk_stream *s = arg;
    bank *b = the_bank;
    char request[4] = {0};
    int rc;
    while ((rc = read_request(b, s, request)) == 0) {
        if (deposit(b) < 0 || zk_stream_write(s, "OK", 2) < 0) break;
        memset(request, 0, sizeof request);
    }
    zk_stream_close(s);
    return rc == -EBADMSG ? rc : 0;
}

static int open_bank(void *arg)
{
    (void)arg;
    int rc = 0;
    ZK_SCOPE(s) {
        zk_stream *stream;
        while ((rc = zk_accept(the_bank->listener, &stream)) >= 0) {
            if (zk_spawn(&s, teller, stream) < 0) zk_stream_close(stream);
        }
        int end = zk_scope_wait(&s);
        if (end == -EBADMSG) rc = end;
    }
    return rc == -EBADMSG ? rc : 0;
}

static int customer(void *arg)
{
    (void)arg;
    zk_stream *s;
    if (zk_connect(&the_bank->addr, &s) < 0) return 0;
    for (int i = 0; i < 3; i++) {
        char reply[2];
        size_t have = 0;
        the_bank->unsure++;
        if (zk_stream_write(s, "DEPO", 4) < 0) break;
        ssize_t n = 1;
        while (have < 2 && n > 0) {
            n = zk_stream_read(s, reply + have, 2 - have);
            if (n > 0) have += (size_t)n;
        }
        if (n <= 0) break;
        the_bank->unsure--;
        the_bank->confirmed++;
    }
    zk_stream_close(s);
    return 0;
}

/* What was confirmed is in the balance; what was not may be. */
static int a_day_at_the_bank(void *arg)
{
    bank b = *(const bank *)arg;
    the_bank = &b;
    int rc = zk_addr_parse("127.0.0.1:0", &b.addr);
    if (rc >= 0) rc = zk_listen(&b.addr, NULL, &b.listener);
    if (rc < 0) return rc == -EMFILE ? 0 : rc;
    zk_listener_addr(b.listener, &b.addr);
    ZK_SCOPE(all) {
        rc = zk_spawn(&all, open_bank, NULL);
        ZK_SCOPE(customers) {
            for (int i = 0; i < 3; i++)
                if (zk_spawn(&customers, customer, NULL) < 0) break;
            zk_scope_wait(&customers);
        }
        zk_sleep(ZK_MS(10)); /* what is under way arrives */
        int seen = zk_cancelled();
        zk_scope_cancel(&all);
        int end = zk_scope_wait(&all);
        if (seen || end == -EBADMSG) rc = -EBADMSG;
    }
    zk_listener_close(b.listener);
    if (rc < 0) return zk_fail(rc, "a request was misread");
    ZK_SIM_CHECK(b.balance >= b.confirmed);
    ZK_SIM_CHECK(b.balance <= b.confirmed + b.unsure);
    return 0;
}

ZK_TEST(sim_hunt, a_thousand_seeds_pass)
{
    zk_test_seeds("sim_hunt", 1000, &ZK_SIM_FAULTS, a_day_at_the_bank, &(bank){0});
}

/* The seeds that fail, among the first thousand. */
static uint64_t hunt(bank *b, const zk_sim_options *options, int wanted)
{
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        int rc = zk_sim_run(seed, options, a_day_at_the_bank, b);
        if (rc >= 0) continue;
        cr_assert_rc(rc, wanted, "%s", zk_trail());
        char first[512];
        snprintf(first, sizeof first, "%s", zk_trail());
        for (int i = 0; i < 3; i++) {
            cr_assert_rc(zk_sim_run(seed, options, a_day_at_the_bank, b), wanted);
            cr_assert_str_eq(zk_trail(), first);
        }
        return seed;
    }
    return 0;
}

ZK_TEST(sim_hunt, a_lost_update_is_found_and_found_again)
{
    cr_assert_neq(hunt(&(bank){.has_race = true}, NULL, -EBADMSG), 0u);
}

ZK_TEST(sim_hunt, a_short_read_is_found_and_found_again)
{
    cr_assert_neq(hunt(&(bank){.has_short_read = true}, &ZK_SIM_FAULTS, -EBADMSG), 0u);
    zk_sim_options none = {0};
    cr_assert_eq(hunt(&(bank){.has_short_read = true}, &none, -EBADMSG), 0u,
                 "it takes a short read to find this one");
}
