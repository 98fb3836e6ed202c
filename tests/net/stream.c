/*
 * What all streams have in common, as a table: each test runs over a pair in memory, over TCP and
 * over Unix sockets.
 */
#include "tests/net/streams.h"

enum { BIG = 8 << 20 };

/* The byte at each place of an endless pattern that no shift maps to itself. */
static unsigned char pattern(size_t at) { return (unsigned char)(at * 7 + at / 251 + at / 65521); }

static unsigned char *pattern_new(size_t size)
{
    unsigned char *bytes = malloc(size);
    cr_assert_not_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(i);
    return bytes;
}

/* ---- reading and writing ---- */

STREAM_TEST(bytes_arrive_in_order_both_ways)
{
    char buf[16];
    cr_assert_ok(zk_stream_write(e->a, "hello", 5));
    cr_assert_ok(zk_stream_write(e->a, " you", 4));
    cr_assert_ok(zk_stream_write(e->b, "back", 4));
    cr_assert_ok(read_exactly(e->b, buf, 9));
    cr_assert(!memcmp(buf, "hello you", 9), "%s", kind->name);
    cr_assert_ok(read_exactly(e->a, buf, 4));
    cr_assert(!memcmp(buf, "back", 4), "%s", kind->name);
}

STREAM_TEST(a_read_takes_no_more_than_asked_for)
{
    char buf[4] = "....";
    cr_assert_ok(zk_stream_write(e->a, "abc", 3));
    cr_assert_rc(zk_stream_read(e->b, buf, 1), 1, "%s", kind->name);
    cr_assert(!memcmp(buf, "a...", 4), "%s", kind->name);
    cr_assert_rc(zk_stream_read(e->b, buf, 4), 2, "%s", kind->name);
    cr_assert(!memcmp(buf, "bc..", 4), "%s", kind->name);
}

STREAM_TEST(nothing_to_read_or_write_returns_at_once)
{
    struct iovec none[2] = {{NULL, 0}, {NULL, 0}};
    cr_assert_rc(zk_stream_read(e->a, NULL, 0), 0, "%s", kind->name);
    cr_assert_rc(zk_stream_try_read(e->a, NULL, 0), 0, "%s", kind->name);
    cr_assert_rc(zk_stream_write(e->a, NULL, 0), 0, "%s", kind->name);
    cr_assert_rc(zk_stream_try_write(e->a, NULL, 0), 0, "%s", kind->name);
    cr_assert_rc(zk_stream_writev(e->a, none, 2), 0, "%s", kind->name);
}

typedef struct transfer {
    zk_stream *stream;
    unsigned char *bytes;
    size_t size, done;
    unsigned seed; /* 0: as much at a time as there is */
} transfer;

static size_t random_size(transfer *t, size_t max)
{
    if (!t->seed) return max;
    t->seed = t->seed * 1103515245 + 12345;
    size_t size = 1 + (t->seed >> 8) % (t->seed >> 28 ? 2000 : 100000);
    return size < max ? size : max;
}

static int write_all(void *arg)
{
    transfer *t = arg;
    while (t->done < t->size) {
        size_t size = random_size(t, t->size - t->done);
        int rc = zk_stream_write(t->stream, t->bytes + t->done, size);
        if (rc < 0) return rc;
        t->done += size;
        if (t->seed >> 12 & 1 && zk_yield() < 0) return -EINVAL;
    }
    return zk_stream_shutdown(t->stream);
}

static int read_all(void *arg)
{
    transfer *t = arg;
    unsigned char *buf = malloc(100000);
    ssize_t n;
    while ((n = zk_stream_read(t->stream, buf, random_size(t, 100000))) > 0) {
        for (ssize_t i = 0; i < n; i++, t->done++) {
            if (buf[i] == pattern(t->done)) continue;
            free(buf);
            return -EBADMSG;
        }
        if (t->seed >> 13 & 1 && zk_yield() < 0) break;
    }
    free(buf);
    return (int)n;
}

static void transfer_both_ways(const struct kind *kind, ends *e, unsigned seed)
{
    /* Encrypting takes its time, above all with sanitizers. */
    size_t size = strncmp(kind->name, "TLS", 3) ? BIG : BIG / 8;
    unsigned char *bytes = pattern_new(size);
    transfer t[4] = {
        {e->a, bytes, size, 0, seed},
        {e->b, bytes, size, 0, seed ? seed + 1 : 0},
        {e->a, NULL, 0, 0, seed ? seed + 2 : 0},
        {e->b, NULL, 0, 0, seed ? seed + 3 : 0},
    };
    ZK_SCOPE(s) {
        for (int i = 0; i < 4; i++) {
            cr_assert_ok(zk_spawn(&s, i < 2 ? write_all : read_all, (void *)&t[i]));
        }
        cr_assert_rc(zk_scope_wait(&s), 0, "%s, seed %u", kind->name, seed);
    }
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(t[i].done, size, "%s, seed %u: %zu", kind->name, seed, t[i].done);
    }
    free(bytes);
}

STREAM_TEST(one_task_reads_while_another_writes) { transfer_both_ways(kind, e, 0); }

STREAM_TEST(pieces_of_any_size_arrive_whole)
{
    unsigned seed = (unsigned)zk__clock() | 1;
    fprintf(stderr, "%s: seed %u\n", kind->name, seed);
    transfer_both_ways(kind, e, seed);
}

STREAM_TEST(writev_writes_all_of_many_pieces)
{
    enum { PIECES = 3000 };
    static struct iovec iov[PIECES];
    unsigned char *bytes = pattern_new(BIG);
    size_t at = 0;
    for (int i = 0; i < PIECES; i++) {
        size_t size = i % 7 == 0 ? 0 : (size_t)(i * 37 % 5000);
        iov[i] = (struct iovec){bytes + at, size};
        at += size;
    }
    cr_assert(at < BIG);
    transfer t = {.stream = e->b};
    zk_future f;
    zk_async(&f, read_all, &t);
    cr_assert_rc(zk_stream_writev(e->a, iov, PIECES), 0, "%s", kind->name);
    cr_assert_ok(zk_stream_shutdown(e->a));
    cr_assert_rc(zk_await(&f), 0, "%s", kind->name);
    cr_assert_eq(t.done, at, "%s", kind->name);
    free(bytes);
}

STREAM_TEST(a_writer_is_held_up_by_a_slow_reader)
{
    unsigned char *bytes = pattern_new(BIG);
    transfer out = {e->a, bytes, BIG, 0, 12345}, in = {.stream = e->b};
    zk_future f;
    zk_async(&f, write_all, &out);
    size_t before;
    do {
        before = out.done;
        turns(3);
    } while (out.done > before);
    cr_assert_lt(out.done, (size_t)BIG - 100000, "%s: %zu", kind->name, out.done);
    cr_assert_rc(read_all(&in), 0, "%s", kind->name);
    cr_assert_rc(zk_await(&f), 0, "%s", kind->name);
    cr_assert_eq(in.done, (size_t)BIG, "%s", kind->name);
    free(bytes);
}

/* ---- without waiting ---- */

/* Bytes are on their way for a moment, even between sockets of one machine. */
static ssize_t try_read_soon(zk_stream *stream, void *buf, size_t size)
{
    for (int i = 0; i < 10000; i++) {
        ssize_t n = zk_stream_try_read(stream, buf, size);
        if (n != -EAGAIN) return n;
        turns(1);
    }
    return -EAGAIN;
}

STREAM_TEST(try_read_takes_what_is_there)
{
    char buf[16];
    cr_assert_rc(zk_stream_try_read(e->b, buf, 16), -EAGAIN, "%s", kind->name);
    for (int round = 0; round < 5; round++) {
        cr_assert_ok(zk_stream_write(e->a, "abc", 3));
        cr_assert_rc(try_read_soon(e->b, buf, 16), 3, "%s, round %d", kind->name, round);
    }
    cr_assert_rc(zk_stream_try_read(e->b, buf, 16), -EAGAIN, "%s", kind->name);
    cr_assert_ok(zk_stream_shutdown(e->a));
    cr_assert_rc(try_read_soon(e->b, buf, 16), 0, "%s", kind->name);
    cr_assert_rc(try_read_soon(e->b, buf, 16), 0, "%s, again", kind->name);
}

STREAM_TEST(try_write_writes_what_fits)
{
    unsigned char *bytes = pattern_new(BIG);
    for (int round = 0; round < 3; round++) {
        size_t sent = 0, got = 0;
        ssize_t n = 0;
        while ((n = zk_stream_try_write(e->a, bytes, BIG)) > 0)
            sent += (size_t)n;
        cr_assert_rc(n, -EAGAIN, "%s, round %d", kind->name, round);
        while (got < sent) {
            n = try_read_soon(e->b, bytes, BIG);
            cr_assert_gt(n, 0, "%s, round %d", kind->name, round);
            got += (size_t)n;
        }
        cr_assert_eq(got, sent, "%s, round %d", kind->name, round);
        cr_assert_rc(zk_stream_try_read(e->b, bytes, 1), -EAGAIN, "%s", kind->name);
    }
    free(bytes);
}

/* ---- the end ---- */

STREAM_TEST(after_a_shutdown_the_other_way_goes_on)
{
    char buf[8];
    cr_assert_ok(zk_stream_write(e->a, "last", 4));
    cr_assert_ok(zk_stream_shutdown(e->a));
    cr_assert_ok(read_exactly(e->b, buf, 4));
    for (int i = 0; i < 3; i++)
        cr_assert_rc(zk_stream_read(e->b, buf, 8), 0, "%s", kind->name);
    for (int i = 0; i < 3; i++) {
        cr_assert_ok(zk_stream_write(e->b, "more", 4));
        cr_assert_ok(read_exactly(e->a, buf, 4));
    }
    cr_assert_rc(zk_stream_write(e->a, "x", 1), -EPIPE, "%s", kind->name);
    cr_assert_ok(zk_stream_shutdown(e->b));
    cr_assert_rc(zk_stream_read(e->a, buf, 8), 0, "%s", kind->name);
}

STREAM_TEST(what_was_written_before_a_close_can_be_read)
{
    char buf[8];
    cr_assert_ok(zk_stream_write(e->a, "last", 4));
    zk_stream_close(e->a);
    e->a = NULL;
    cr_assert_ok(read_exactly(e->b, buf, 4));
    cr_assert_rc(zk_stream_read(e->b, buf, 8), 0, "%s", kind->name);
}

STREAM_TEST(writing_to_who_has_closed_fails)
{
    zk_stream_close(e->a);
    e->a = NULL;
    int rc = 0;
    for (int i = 0; i < 10000 && !rc; i++) {
        rc = zk_stream_write(e->b, "x", 1);
        turns(1);
    }
    cr_assert(rc == -EPIPE || rc == -ECONNRESET, "%s: %s", kind->name, zk_errname(rc));
}

static int read_one(void *arg)
{
    char byte;
    ssize_t n = zk_stream_read(arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}

static int write_one_big(void *arg)
{
    unsigned char *bytes = pattern_new(BIG);
    int rc = zk_stream_write(arg, bytes, BIG);
    free(bytes);
    return rc;
}

STREAM_TEST(the_end_wakes_a_reader_that_waits)
{
    zk_future f;
    zk_async(&f, read_one, e->b);
    turns(3);
    cr_assert_ok(zk_stream_shutdown(e->a));
    cr_assert_rc(zk_await(&f), 0, "%s", kind->name);
}

STREAM_TEST(a_close_wakes_a_writer_that_waits)
{
    zk_future f;
    zk_async(&f, write_one_big, e->b);
    turns(3);
    zk_stream_close(e->a);
    e->a = NULL;
    int rc = zk_await(&f);
    cr_assert(rc == -EPIPE || rc == -ECONNRESET, "%s: %s", kind->name, zk_errname(rc));
}

/* ---- cancellation ---- */

STREAM_TEST(a_cancelled_read_takes_nothing)
{
    for (int round = 0; round < 20; round++) {
        char buf[4] = "....";
        ZK_SCOPE(s) {
            cr_assert_ok(zk_spawn(&s, read_one, (void *)e->b));
            if (round % 2) turns(round % 3);
            zk_scope_cancel(&s);
            cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "%s", kind->name);
        }
        ZK_WITHIN(ZK_US(1)) {
            cr_assert_rc(zk_stream_read(e->b, buf, 4), -ETIMEDOUT);
        }
        cr_assert(!memcmp(buf, "....", 4), "%s", kind->name);
        cr_assert_ok(zk_stream_write(e->a, "abc", 3));
        cr_assert_ok(read_exactly(e->b, buf, 3));
        cr_assert(!memcmp(buf, "abc", 3), "%s", kind->name);
    }
}

/* The data and the cancellation come together: either the read has it, or the next one gets it. */
STREAM_TEST(no_byte_is_lost_between_data_and_cancellation)
{
    int read_count = 0;
    for (int round = 0; round < 300; round++) {
        char letter = (char)('a' + round % 26);
        int got = 0;
        zk_future f;
        ZK_SCOPE(s) {
            zk_async(&f, read_one, e->b);
            turns(1);
            cr_assert_ok(zk_stream_write(e->a, &letter, 1));
            if (round % 3) turns(round % 3 - 1);
            for (int i = 0; i < round % 5; i++)
                cr_assert_ok(zk_yield());
            zk_scope_cancel(&s);
            got = zk_await(&f);
        }
        if (got == -ECANCELED) {
            got = read_one(e->b);
        } else {
            read_count++;
        }
        cr_assert_eq(got, letter, "%s, round %d: %d", kind->name, round, got);
    }
    cr_assert_gt(read_count, 0, "%s", kind->name);
}

STREAM_TEST(a_cancelled_write_has_sent_a_beginning)
{
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, write_one_big, (void *)e->a));
        turns(3);
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED, "%s", kind->name);
    }
    cr_assert_ok(zk_stream_shutdown(e->a));
    transfer in = {.stream = e->b};
    cr_assert_rc(read_all(&in), 0, "%s", kind->name);
    cr_assert(in.done > 0 && in.done < BIG, "%s: %zu", kind->name, in.done);
}

STREAM_TEST(in_a_cancelled_scope_even_what_is_ready_is_refused)
{
    char byte;
    cr_assert_ok(zk_stream_write(e->a, "x", 1));
    turns(3);
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        for (int i = 0; i < 2; i++) {
            cr_assert_rc(zk_stream_read(e->b, &byte, 1), -ECANCELED, "%s", kind->name);
            cr_assert_rc(zk_stream_write(e->b, "y", 1), -ECANCELED, "%s", kind->name);
        }
        ZK_SHIELD {
            cr_assert_rc(read_one(e->b), 'x', "%s", kind->name);
        }
    }
    cr_assert_rc(zk_stream_try_read(e->a, &byte, 1), -EAGAIN, "%s", kind->name);
}

/* ---- parking ---- */

typedef struct ready {
    zk_stream *stream;
    int count, half, full;
    bool closes;
} ready;

static void on_ready(void *context)
{
    ready *r = context;
    r->count++;
    if (r->closes) zk_stream_close(r->stream);
}

static void on_hangup(void *context, zk_hangup how)
{
    ready *r = context;
    if (how == ZK_HANGUP_HALF) {
        r->half++;
    } else {
        r->full++;
    }
    if (r->closes) zk_stream_close(r->stream);
    r->closes = false;
}

static void wait_for_count(const int *count, const char *name)
{
    for (int i = 0; i < 10000 && !*count; i++)
        turns(1);
    cr_assert_eq(*count, 1, "%s: %d", name, *count);
}

STREAM_TEST(a_parked_stream_tells_when_there_is_something)
{
    ready r = {0};
    char buf[8];
    for (int round = 0; round < 3; round++) {
        r.count = 0;
        cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 0, "%s, round %d", kind->name, round);
        turns(3);
        cr_assert_eq(r.count, 0, "%s, round %d", kind->name, round);
        cr_assert_ok(zk_stream_write(e->a, "abc", 3));
        wait_for_count(&r.count, kind->name);
        cr_assert_rc(zk_stream_read(e->b, buf, 3), 3, "%s", kind->name);
    }
    cr_assert_ok(zk_stream_write(e->a, "abc", 3));
    cr_assert_rc(zk_stream_read(e->b, buf, 8), 3, "after the last one");
    turns(3);
    cr_assert_eq(r.count, 1, "%s: called once", kind->name);
}

/* How much a reader has room for may change how its stream is waited for, in any order. */
STREAM_TEST(a_stream_is_parked_between_large_and_small_reads)
{
    static char buf[64 * 1024];
    static const size_t sizes[] = {8, sizeof buf, sizeof buf, 8, 8, sizeof buf, 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ready r = {0};
        cr_assert_rc(zk_stream_try_read(e->b, buf, sizes[i]), -EAGAIN, "%s, %zu", kind->name, i);
        cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 0, "%s, %zu", kind->name, i);
        turns(3);
        cr_assert_eq(r.count, 0, "%s, %zu", kind->name, i);
        cr_assert_ok(zk_stream_write(e->a, "abc", 3));
        wait_for_count(&r.count, kind->name);
        cr_assert_rc(zk_stream_try_read(e->b, buf, sizes[i]), 3, "%s, %zu", kind->name, i);
        cr_assert(!memcmp(buf, "abc", 3), "%s, %zu", kind->name, i);
    }
}

STREAM_TEST(parking_finds_what_is_there_already)
{
    ready r = {0};
    cr_assert_ok(zk_stream_write(e->a, "ab", 2));
    cr_assert_rc(read_one(e->b), 'a', "%s", kind->name);
    /* It may be found at once or in the next turn. */
    int rc = zk_stream_park(e->b, on_ready, &r);
    cr_assert(rc == 0 || rc == 1, "%s: %d", kind->name, rc);
    if (rc == 0) wait_for_count(&r.count, kind->name);
    cr_assert_rc(read_one(e->b), 'b', "%s", kind->name);
}

STREAM_TEST(a_parked_stream_tells_the_end)
{
    ready r = {0};
    cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 0, "%s", kind->name);
    cr_assert_ok(zk_stream_shutdown(e->a));
    wait_for_count(&r.count, kind->name);
    cr_assert_rc(read_one(e->b), 0, "%s", kind->name);
    cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 1, "%s: it is still there", kind->name);
}

STREAM_TEST(a_park_can_be_taken_back)
{
    ready r = {0};
    zk_stream_unpark(e->b);
    for (int round = 0; round < 5; round++) {
        cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 0, "%s", kind->name);
        if (round % 2) turns(3);
        zk_stream_unpark(e->b);
        zk_stream_unpark(e->b);
        cr_assert_ok(zk_stream_write(e->a, "x", 1));
        if (round % 2) turns(3);
        cr_assert_rc(read_one(e->b), 'x', "%s", kind->name);
    }
    turns(3);
    cr_assert_eq(r.count, 0, "%s", kind->name);
}

STREAM_TEST(a_stream_may_be_closed_when_it_is_ready_or_while_it_is_parked)
{
    ready r = {.stream = e->b, .closes = true};
    cr_assert_rc(zk_stream_park(e->b, on_ready, &r), 0, "%s", kind->name);
    cr_assert_ok(zk_stream_write(e->a, "x", 1));
    wait_for_count(&r.count, kind->name);
    e->b = NULL;
    r.count = 0;
    ends other = kind->open();
    cr_assert_rc(zk_stream_park(other.a, on_ready, &r), 0, "%s", kind->name);
    zk_stream_close(other.a);
    turns(3);
    zk_stream_close(other.b);
    cr_assert_eq(r.count, 0, "%s", kind->name);
}

/* Events of one turn: what the first one closes must not be touched by the others. */
static void on_ready_close_all(void *context)
{
    ends *all = context;
    for (int i = 0; i < 10; i++) {
        if (!all[i].b) continue;
        zk_stream_close(all[i].b);
        all[i].b = NULL;
    }
}

ZK_ASYNC_TEST(stream, one_callback_may_close_all_that_are_ready)
{
    EACH_KIND(kind) {
        ends all[10];
        for (int i = 0; i < 10; i++) {
            all[i] = kind->open();
            cr_assert_rc(zk_stream_park(all[i].b, on_ready_close_all, all), 0);
        }
        turns(3);
        for (int i = 0; i < 10; i++) {
            char byte = 'x';
            (void)zk_stream_try_write(all[i].a, &byte, 1);
        }
        turns(3);
        for (int i = 0; i < 10; i++) {
            cr_assert_null(all[i].b, "%s", kind->name);
            zk_stream_close(all[i].a);
        }
    }
}

/* ---- hang-ups ---- */

STREAM_TEST(a_hangup_while_nobody_reads_is_told)
{
    ready r = {0};
    zk_stream_on_hangup(e->b, on_hangup, &r);
    cr_assert_ok(zk_stream_write(e->a, "x", 1));
    turns(3);
    cr_assert(!r.half && !r.full, "%s: data is none", kind->name);
    cr_assert_ok(zk_stream_shutdown(e->a));
    for (int i = 0; i < 10000 && !r.half; i++)
        turns(1);
    cr_assert(r.half && !r.full, "%s: %d half, %d full", kind->name, r.half, r.full);
    cr_assert_rc(read_one(e->b), 'x', "%s", kind->name);
    cr_assert_rc(read_one(e->b), 0, "%s", kind->name);
    zk_stream_close(e->a);
    e->a = NULL;
    int rc = 0;
    for (int i = 0; i < 10000 && !r.full; i++) {
        if (!rc) rc = zk_stream_write(e->b, "y", 1); /* which TCP's other end answers by a reset */
        turns(1);
    }
    cr_assert(r.full, "%s", kind->name);
}

STREAM_TEST(a_hangup_is_told_to_the_reader_if_there_is_one)
{
    ready r = {0};
    zk_stream_on_hangup(e->b, on_hangup, &r);
    zk_future f;
    zk_async(&f, read_one, e->b);
    turns(3);
    cr_assert_ok(zk_stream_shutdown(e->a));
    cr_assert_rc(zk_await(&f), 0, "%s", kind->name);
    turns(3);
    cr_assert(!r.half && !r.full, "%s", kind->name);
    ends other = kind->open();
    zk_stream_on_hangup(other.b, on_hangup, &r);
    cr_assert_rc(zk_stream_park(other.b, on_ready, &r), 0, "%s", kind->name);
    zk_stream_close(other.a);
    wait_for_count(&r.count, kind->name);
    turns(3);
    cr_assert(!r.half && (!r.full || kind->ends_twice), "%s: parked", kind->name);
    zk_stream_close(other.b);
    zk_stream_on_hangup(e->b, NULL, NULL);
}

STREAM_TEST(a_hangup_that_nobody_wants_to_know_is_not_told)
{
    ready r = {0};
    zk_stream_on_hangup(e->b, on_hangup, &r);
    zk_stream_on_hangup(e->b, NULL, NULL);
    zk_stream_close(e->a);
    e->a = NULL;
    turns(3);
    cr_assert(!r.half && !r.full, "%s", kind->name);
}

STREAM_TEST(a_stream_may_be_closed_when_its_peer_hangs_up)
{
    ready r = {.stream = e->b, .closes = true};
    zk_stream_on_hangup(e->b, on_hangup, &r);
    zk_stream_close(e->a);
    e->a = NULL;
    for (int i = 0; i < 10000 && r.closes; i++)
        turns(1);
    cr_assert(!r.closes, "%s", kind->name);
    e->b = NULL;
}

/* ---- addresses ---- */

STREAM_TEST(addresses_of_both_ends_agree)
{
    zk_addr local, peer;
    if (!kind->has_addresses) {
        cr_assert_rc(zk_stream_local(e->a, &local), -EOPNOTSUPP);
        cr_assert_rc(zk_stream_peer(e->a, &peer), -EOPNOTSUPP);
        return;
    }
    cr_assert_ok(zk_stream_local(e->a, &local));
    cr_assert_ok(zk_stream_peer(e->b, &peer));
    cr_assert(zk_addr_equal(&local, &peer), "%s", kind->name);
    cr_assert_ok(zk_stream_local(e->b, &local));
    cr_assert_ok(zk_stream_peer(e->a, &peer));
    cr_assert(zk_addr_equal(&local, &peer), "%s", kind->name);
}

static int note_turn(void *arg)
{
    *(bool *)arg = true;
    return 0;
}

/* A connection that always has something to read lets its neighbours run. */
ZK_ASYNC_TEST(stream, a_busy_connection_lets_others_run)
{
    ends e = open_tcp();
    static char data[4096];
    char byte;
    bool has_run = false;
    cr_assert_ok(zk_stream_write(e.a, data, sizeof data));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, note_turn, (void *)&has_run));
        int reads = 0;
        for (; !has_run && reads < 4096; reads++)
            cr_assert_eq(zk_stream_read(e.b, &byte, 1), 1);
        cr_assert_lt(reads, 200, "%d reads", reads);
    }
    ends_close(&e);
}
