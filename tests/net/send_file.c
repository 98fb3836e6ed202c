/*
 * Sending files and copying between streams: every kind of stream, backpressure, ends, errors.
 */
#include "tests/core/folder.h"
#include "tests/net/streams.h"

#include <zokio/file.h>

#include "net/socket.h"

enum { SIZE = 3 << 20 };
static char content[SIZE];

static zk_file *make_file(void)
{
    zk_file *file;
    folder_make();
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (char)(i * 31 >> 4);
    cr_assert_ok(zk_file_write_all(in_folder("a"), content, SIZE, NULL));
    cr_assert_ok(zk_file_open(in_folder("a"), O_RDONLY, 0, &file));
    return file;
}

/* Ends that are pipes: what is written to a is read from b. */
static ends open_pipe(void)
{
    ends e;
    int fds[2];
    cr_assert(!pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    cr_assert_ok(zk__fd_stream(fds[1], 0, &e.a));
    cr_assert_ok(zk__fd_stream(fds[0], 0, &e.b));
    return e;
}

typedef ends opener(void);
static opener *const openers[] = {open_tcp, open_unix, open_pair, open_pipe};
enum { OPENERS = sizeof openers / sizeof *openers };

typedef struct sending {
    zk_stream *to;
    zk_file *file;
    int64_t offset;
    uint64_t size;
} sending;

static int send_task(void *arg)
{
    sending *s = arg;
    return zk_stream_send_file(s->to, s->file, s->offset, s->size);
}

/* Reads slowly enough that the sender has to wait. */
static void receive(zk_stream *from, const char *wanted, size_t size)
{
    static char got[SIZE];
    for (size_t done = 0; done < size;) {
        ssize_t n = zk_stream_read(from, got + done, size - done);
        cr_assert_gt(n, 0);
        done += (size_t)n;
    }
    cr_assert(memcmp(got, wanted, size) == 0);
}

ZK_ASYNC_TEST(send_file, a_part_of_a_file_arrives_on_every_stream)
{
    zk_file *file = make_file();
    for (int i = 0; i < OPENERS; i++) {
        ends e = openers[i]();
        sending s = {e.a, file, 1234, SIZE - 2000};
        zk_future f;
        zk_async(&f, send_task, &s);
        for (int k = 0; k < 5; k++)
            cr_assert_ok(zk_yield());
        receive(e.b, content + 1234, SIZE - 2000);
        cr_assert_rc(zk_await(&f), 0, "opener %d", i);
        cr_assert_ok(zk_stream_send_file(e.a, file, 0, 0));
        ends_close(&e);
    }
    cr_assert_ok(zk_file_close(file));
}

ZK_ASYNC_TEST(send_file, a_file_that_is_too_short_is_an_error)
{
    zk_file *file = make_file();
    for (int i = 0; i < OPENERS; i++) {
        ends e = openers[i]();
        cr_assert_rc(zk_stream_send_file(e.a, file, SIZE - 10, 11), -ENODATA, "opener %d", i);
        receive(e.b, content + SIZE - 10, 10);
        cr_assert_rc(zk_stream_send_file(e.a, file, -1, 1), -EINVAL);
        cr_assert_rc(zk_stream_send_file(e.a, file, 1, UINT64_MAX), -EINVAL);
        ends_close(&e);
    }
    cr_assert_ok(zk_file_close(file));
}

/* And no SIGPIPE, which would end the test. */
ZK_ASYNC_TEST(send_file, a_peer_that_is_gone_is_an_error)
{
    zk_file *file = make_file();
    for (int i = 0; i < OPENERS; i++) {
        ends e = openers[i]();
        zk_stream_close(e.b);
        int rc = 0;
        for (int k = 0; k < 100 && rc >= 0; k++)
            rc = zk_stream_send_file(e.a, file, 0, 4096);
        cr_assert(rc == -EPIPE || rc == -ECONNRESET, "opener %d: %d", i, rc);
        zk_stream_close(e.a);
    }
    cr_assert_ok(zk_file_close(file));
}

ZK_ASYNC_TEST(send_file, waiting_for_the_peer_can_be_cancelled)
{
    zk_file *file = make_file();
    for (int i = 0; i < OPENERS; i++) {
        ends e = openers[i]();
        ZK_WITHIN(ZK_MS(5)) {
            int rc = 0;
            for (int k = 0; k < 100 && rc >= 0; k++)
                rc = zk_stream_send_file(e.a, file, 0, SIZE);
            cr_assert_rc(rc, -ETIMEDOUT, "opener %d", i);
        }
        ZK_SCOPE(s) {
            zk_scope_cancel(&s);
            cr_assert_rc(zk_stream_send_file(e.a, file, 0, 1), -ECANCELED);
        }
        ends_close(&e);
    }
    cr_assert_ok(zk_file_close(file));
}

static int send_elsewhere(void *arg)
{
    sending *s = arg;
    return zk_stream_send_file(s->to, s->file, 0, 1) == ZK_E_WORKER &&
                   zk_stream_copy(s->to, s->to) == ZK_E_WORKER
               ? 0
               : -EIO;
}

ZK_ASYNC_TEST_ON(send_file, a_stream_belongs_to_one_worker, 2)
{
    zk_file *file = make_file();
    ends e = open_tcp();
    sending what = {e.a, file, 0, 1};
    cr_assert_ok(send_task(&what));
    ZK_SCOPE(s) {
        zk_spawn_options options = {.worker = 2};
        cr_assert_ok(zk_spawn_with(&s, &options, send_elsewhere, &what));
        cr_assert_ok(zk_scope_wait(&s));
    }
    ends_close(&e);
    cr_assert_ok(zk_file_close(file));
}

/* ---- from stream to stream ---- */

typedef struct copying {
    zk_stream *from, *to;
    int64_t bytes_max, moved;
} copying;

static int copy_task(void *arg)
{
    copying *c = arg;
    c->moved = zk_stream_splice(c->from, c->to, c->bytes_max);
    return c->moved < 0 ? (int)c->moved : 0;
}

static int write_and_close(void *arg)
{
    sending *s = arg;
    int rc = zk_stream_write(s->to, content, s->size);
    zk_stream_close(s->to);
    return rc;
}

/* Of every kind to every kind, more than buffers hold, with an end. */
ZK_ASYNC_TEST(send_file, all_of_a_stream_is_copied_to_another)
{
    enum { LENGTH = SIZE / 4 };
    zk_file *file = make_file();
    cr_assert_ok(zk_file_close(file));
    int open_before = open_count();
    for (int i = 0; i < OPENERS * OPENERS; i++) {
        ends in = openers[i / OPENERS](), out = openers[i % OPENERS]();
        sending s = {.to = in.a, .size = LENGTH};
        copying c = {in.b, out.a, INT64_MAX, 0};
        zk_future writing, copy;
        zk_async(&writing, write_and_close, &s);
        zk_async(&copy, copy_task, &c);
        for (int k = 0; k < 5; k++)
            cr_assert_ok(zk_yield());
        receive(out.b, content, LENGTH);
        cr_assert_rc(zk_await(&copy), 0, "from %d to %d", i / OPENERS, i % OPENERS);
        cr_assert_ok(zk_await(&writing));
        cr_assert_eq(c.moved, LENGTH);
        cr_assert_eq(zk_stream_copy(in.b, out.a), 0, "the end lasts");
        zk_stream_close(in.b);
        ends_close(&out);
    }
    cr_assert_ok(zk_yield());
    cr_assert_leq(open_count(), open_before);
}

ZK_ASYNC_TEST(send_file, no_more_is_taken_than_asked_for)
{
    for (int i = 0; i < OPENERS * OPENERS; i++) {
        ends in = openers[i / OPENERS](), out = openers[i % OPENERS]();
        char buf[8];
        cr_assert_ok(zk_stream_write(in.a, "abcdefgh", 8));
        cr_assert_eq(zk_stream_splice(in.b, out.a, 3), 3);
        cr_assert_eq(zk_stream_splice(in.b, out.a, 0), 0);
        cr_assert_rc(zk_stream_splice(in.b, out.a, -1), -EINVAL);
        cr_assert_ok(read_exactly(in.b, buf, 2));
        cr_assert_arr_eq(buf, "de", 2, "what was not asked for is there for a read");
        cr_assert_eq(zk_stream_splice(in.b, out.a, 3), 3);
        cr_assert_ok(read_exactly(out.b, buf, 6));
        cr_assert_arr_eq(buf, "abcfgh", 6);
        ends_close(&in);
        ends_close(&out);
    }
}

ZK_ASYNC_TEST(send_file, copying_can_be_cancelled_on_both_sides)
{
    for (int i = 0; i < OPENERS * OPENERS; i++) {
        ends in = openers[i / OPENERS](), out = openers[i % OPENERS]();
        char buf[4];
        ZK_WITHIN(ZK_MS(2)) {
            cr_assert_rc(zk_stream_copy(in.b, out.a), -ETIMEDOUT, "nothing comes");
        }
        cr_assert_ok(zk_stream_write(in.a, "abc", 3));
        ZK_WITHIN(0) {
            cr_assert_rc(zk_stream_copy(in.b, out.a), -ETIMEDOUT);
        }
        cr_assert_eq(zk_stream_splice(in.b, out.a, 3), 3, "it had taken nothing");
        cr_assert_ok(read_exactly(out.b, buf, 3));
        while (zk_stream_try_write(out.a, content, SIZE) > 0)
            continue;
        cr_assert_ok(zk_stream_write(in.a, "abc", 3));
        ZK_WITHIN(ZK_MS(2)) {
            cr_assert_rc(zk_stream_copy(in.b, out.a), -ETIMEDOUT, "nobody reads");
        }
        ends_close(&in);
        ends_close(&out);
    }
}

ZK_ASYNC_TEST(send_file, copying_to_a_peer_that_is_gone_is_an_error)
{
    for (int i = 0; i < OPENERS * OPENERS; i++) {
        ends in = openers[i / OPENERS](), out = openers[i % OPENERS]();
        zk_stream_close(out.b);
        int64_t rc = 0;
        for (int k = 0; k < 100 && rc >= 0; k++) {
            cr_assert_ok(zk_stream_write(in.a, "abc", 3));
            rc = zk_stream_splice(in.b, out.a, 3);
        }
        cr_assert(rc == -EPIPE || rc == -ECONNRESET, "%d: %d", i, (int)rc);
        zk_stream_close(out.a);
        ends_close(&in);
    }
}
