/*
 * Connected streams in memory: two directions, each a ring of bytes with at most one reader and one
 * writer waiting.
 *
 * The pair is one allocation, freed when both ends are closed. An end that is closed with bytes
 * unread does what a socket does: the other end's writes fail with -EPIPE.
 */
#include <errno.h>
#include <string.h>

#include "core/worker.h"
#include "net/stream.h"

enum { PIPE_BYTES = 16 * 1024 };

typedef struct pair pair;

/* One direction. */
typedef struct pipe_half {
    char bytes[PIPE_BYTES];
    size_t begin, count;
    bool is_finished;  /* no more will be written */
    bool is_abandoned; /* nobody will read */
    bool is_reset;     /* its end is no end but a break */
    zk__wait *reader, *writer;
    zk__room *room; /* awaited */
} pipe_half;

typedef struct pair_end {
    zk_stream head;
    pair *pair;
    pipe_half *in, *out;
    struct pair_end *other;
    bool is_closed;
} pair_end;

struct pair {
    pipe_half halves[2];
    pair_end ends[2];
    int open_ends;
};

typedef struct half_wait {
    zk__wait wait;
    zk__wait **slot;
} half_wait;

static pair_end *of(zk_stream *stream) { return (pair_end *)(void *)stream; }

static void half_cancel(zk__wait *wait)
{
    *((half_wait *)(void *)wait)->slot = NULL;
    zk__wait_end(wait, -ECANCELED);
}

static int half_wait_for(zk__wait **slot)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    static const zk__wait_kind kind = {.name = "in-memory stream", .is_by_tasks = true};
    half_wait w = {.wait.cancel = half_cancel, .wait.kind = &kind, .slot = slot};
    *slot = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

static void wake(zk__wait **slot)
{
    zk__wait *wait = *slot;
    *slot = NULL;
    if (wait) zk__wait_end(wait, 0);
}

/* What is written now finds room, or fails. Whoever is called may close an end. */
static void wake_writer(pipe_half *half)
{
    zk__room *room = half->room;
    half->room = NULL;
    wake(&half->writer);
    if (room) room->on_room(room);
}

static bool is_readable(const pipe_half *half) { return half->count || half->is_finished; }

/* Something has happened that the reader of `end` may be waiting for. Whoever is called may close
 * `end`. */
static void wake_reader(pair_end *end)
{
    wake(&end->in->reader);
    if (!end->is_closed) zk__stream_ready(&end->head);
}

/* The peer of `end` has gone. Whoever is called may close `end`. */
static void tell_hangup(pair_end *end, zk_hangup how)
{
    if (end->is_closed) return;
    if (end->in->reader || end->head.on_ready) {
        wake_reader(end);
    } else if (end->head.on_hangup) {
        end->head.on_hangup(end->head.context, how);
    }
}

static size_t take(pipe_half *half, char *to, size_t size)
{
    size_t taken = 0;
    while (taken < size && half->count) {
        size_t run = PIPE_BYTES - half->begin;
        if (run > half->count) run = half->count;
        if (run > size - taken) run = size - taken;
        memcpy(to + taken, half->bytes + half->begin, run);
        half->begin = (half->begin + run) % PIPE_BYTES;
        half->count -= run;
        taken += run;
    }
    return taken;
}

static size_t put(pipe_half *half, const char *from, size_t size)
{
    size_t done = 0;
    while (done < size && half->count < PIPE_BYTES) {
        size_t end = (half->begin + half->count) % PIPE_BYTES;
        size_t run = end < half->begin ? half->begin - end : PIPE_BYTES - end;
        if (run > size - done) run = size - done;
        memcpy(half->bytes + end, from + done, run);
        half->count += run;
        done += run;
    }
    return done;
}

static ssize_t pair_read(zk_stream *stream, void *buf, size_t size, bool try_only)
{
    pair_end *end = of(stream);
    int rc = try_only ? 0 : zk__wait_begin();
    if (rc < 0) return rc;
    while (!is_readable(end->in)) {
        if (try_only) return -EAGAIN;
        rc = half_wait_for(&end->in->reader);
        if (rc < 0) return rc;
    }
    size_t n = take(end->in, buf, size);
    if (!n && size && end->in->is_reset) return -ECONNRESET;
    if (n) wake_writer(end->in);
    return (ssize_t)n;
}

static ssize_t pair_writev(zk_stream *stream, const struct iovec *iov, int iov_count, bool try_only)
{
    pair_end *end = of(stream);
    pipe_half *out = end->out;
    int rc = try_only ? 0 : zk__wait_begin();
    if (rc < 0) return rc;
    while (out->count == PIPE_BYTES && !out->is_abandoned && !out->is_finished) {
        if (try_only) return -EAGAIN;
        rc = half_wait_for(&out->writer);
        if (rc < 0) return rc;
    }
    if (out->is_abandoned || out->is_finished) return -EPIPE;
    size_t done = 0;
    for (int i = 0; i < iov_count; i++)
        done += put(out, iov[i].iov_base, iov[i].iov_len);
    if (done) wake_reader(end->other);
    return (ssize_t)done;
}

static int pair_shutdown(zk_stream *stream)
{
    pair_end *end = of(stream);
    end->out->is_finished = true;
    wake_writer(end->out);
    tell_hangup(end->other, ZK_HANGUP_HALF);
    return 0;
}

static void pair_reset_on_close(zk_stream *stream) { of(stream)->out->is_reset = true; }

static void pair_close(zk_stream *stream)
{
    pair_end *end = of(stream);
    end->is_closed = true;
    end->head.on_ready = NULL;
    if (!end->other->is_closed) {
        end->out->is_finished = true;
        end->in->is_abandoned = true;
        /* Each may close the other end; this one still counts as open. */
        wake_writer(end->in);
        tell_hangup(end->other, ZK_HANGUP_FULL);
    }
    if (!--end->pair->open_ends) zk_free(end->pair);
}

static int pair_park(zk_stream *stream) { return is_readable(of(stream)->in); }

static void pair_unpark(zk_stream *stream) { (void)stream; }

static int pair_await_room(zk_stream *stream, zk__room *room)
{
    pipe_half *out = of(stream)->out;
    if (out->count < PIPE_BYTES || out->is_abandoned || out->is_finished) return 1;
    out->room = room;
    return 0;
}

static void pair_forget_room(zk_stream *stream, zk__room *room)
{
    (void)room;
    of(stream)->out->room = NULL;
}

static void pair_watch(zk_stream *stream)
{
    pair_end *end = of(stream);
    if (end->in->is_finished) {
        stream->on_hangup(stream->context, end->other->is_closed ? ZK_HANGUP_FULL : ZK_HANGUP_HALF);
    }
}

static int pair_address(const zk_stream *stream, bool is_peer, zk_addr *ret_addr)
{
    (void)stream, (void)is_peer, (void)ret_addr;
    return -EOPNOTSUPP;
}

static const struct zk__stream_ops pair_ops = {
    .kind = "pair",
    .read = pair_read,
    .writev = pair_writev,
    .shutdown = pair_shutdown,
    .reset_on_close = pair_reset_on_close,
    .close = pair_close,
    .park = pair_park,
    .unpark = pair_unpark,
    .await_room = pair_await_room,
    .forget_room = pair_forget_room,
    .watch = pair_watch,
    .address = pair_address,
};

static void end_init(pair *p, int i)
{
    p->ends[i] = (pair_end){
        .head = {.ops = &pair_ops, .worker = zk__worker_self()},
        .pair = p,
        .in = &p->halves[i],
        .out = &p->halves[1 - i],
        .other = &p->ends[1 - i],
    };
}

static void half_init(pipe_half *half)
{
    half->begin = half->count = 0;
    half->is_finished = half->is_abandoned = half->is_reset = false;
    half->reader = half->writer = NULL;
    half->room = NULL;
}

int zk_stream_pair(zk_stream **ret_a, zk_stream **ret_b)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    pair *p = zk_alloc(sizeof *p);
    if (!p) return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        half_init(&p->halves[i]);
        end_init(p, i);
    }
    zk__leak_name(p, "stream pair", -1);
    p->open_ends = 2;
    zk__bind_to_worker();
    *ret_a = &p->ends[0].head;
    *ret_b = &p->ends[1].head;
    return 0;
}
