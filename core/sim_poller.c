/*
 * The poller of the simulation: operations on simulated sockets, and the passing of virtual time.
 *
 * Time stands still while tasks run, but for a microsecond per turn, so that who waits by yielding
 * sees it pass. When nothing is ready it jumps to the next event of the network or the next timer.
 * When there is neither, the program is stuck.
 *
 * Descriptors of the system (a file, the wake-up of a signal handler) are tried for real, once per
 * turn.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/sim_kernel.h"

static int sim_open(zk__poller *poller)
{
    poller->state = &zk__sim_net;
    zk__sim_net_clear();
    return 0;
}

static void sim_close_poller(zk__poller *poller)
{
    zk__sim_current->report.sockets_leaked = zk__sim_net.open;
    zk__sim_net_clear();
    poller->state = NULL;
}

/* ---- operations ---- */

static ssize_t try_read(sim_socket *s, void *buf, size_t size)
{
    zk__sim *sim = zk__sim_current;
    if (s->state != SIM_CONNECTED) return -ENOTCONN;
    if (!s->in_count) {
        if (s->is_break_untold) {
            s->is_break_untold = false; /* then it is the end */
            return -ECONNRESET;
        }
        return s->has_end_in ? 0 : -EAGAIN;
    }
    size_t n = size < s->in_count ? size : s->in_count;
    if (n > 1 && zk__sim_fails(sim, sim->options.short_read_chance)) {
        n = 1 + zk__sim_random(sim) % (n - 1);
    }
    for (size_t i = 0; i < n; i++)
        ((char *)buf)[i] = s->in[(s->in_first + i) % SIM_BUFFER_BYTES];
    s->in_first = (s->in_first + n) % SIM_BUFFER_BYTES;
    s->in_count -= n;
    if (s->peer && s->peer->state != SIM_CLOSED) zk__sim_wake(s->peer);
    return (ssize_t)n;
}

static void connection_break(sim_socket *s)
{
    zk__sim_send(s->peer, SIM_RESET, NULL, 0);
    zk__sim_break(s);
    s->is_break_untold = false; /* the writer is told */
    zk__sim_wake(s);
}

static ssize_t try_write(sim_socket *s, const struct iovec *iov, int iov_count)
{
    zk__sim *sim = zk__sim_current;
    if (s->state != SIM_CONNECTED) return -ENOTCONN;
    if (s->has_end_out || s->is_dead) return -EPIPE;
    if (zk__sim_fails(sim, sim->options.out_of_buffers_chance)) return -ENOBUFS;
    if (zk__sim_fails(sim, sim->options.reset_chance)) {
        connection_break(s);
        return -ECONNRESET;
    }
    size_t room = SIM_BUFFER_BYTES - s->peer->in_count - s->peer->in_flight, done = 0;
    if (!room) return -EAGAIN;
    if (room > 1 && zk__sim_fails(sim, sim->options.short_write_chance)) {
        room = 1 + zk__sim_random(sim) % (room < 256 ? room - 1 : 255);
    }
    for (int i = 0; i < iov_count && room; i++) {
        size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        if (n) zk__sim_send(s->peer, SIM_DATA, iov[i].iov_base, n);
        done += n;
        room -= n;
    }
    return (ssize_t)done;
}

static ssize_t try_accept(sim_socket *listener)
{
    zk__sim *sim = zk__sim_current;
    sim_socket *s = listener->shares ? listener->shares : listener;
    if (listener->state != SIM_LISTENING) return -EINVAL;
    if (!s->queue_count) return -EAGAIN;
    if (zk__sim_fails(sim, sim->options.out_of_files_chance)) {
        return s->queue_first % 2 ? -EMFILE : -ENFILE;
    }
    sim_socket *connection = s->queue[s->queue_first++ % 64];
    s->queue_count--;
    return connection->fd;
}

static ssize_t try_connect(sim_socket *s, const struct sockaddr *addr, socklen_t size)
{
    zk__sim *sim = zk__sim_current;
    if (s->state == SIM_CONNECTED) return 0;
    if (s->error) {
        int error = s->error;
        s->error = 0;
        s->state = SIM_NEW;
        return error;
    }
    if (s->state == SIM_CONNECTING) return -EAGAIN;
    if (zk__sim_fails(sim, sim->options.refuse_chance)) return -ECONNREFUSED;
    memcpy(&s->remote, addr, size);
    s->remote_size = size;
    zk__sim_name(s);
    s->state = SIM_CONNECTING;
    zk__sim_send(s, SIM_ARRIVE, NULL, 0);
    return -EAGAIN;
}

static bool is_readable(const sim_socket *s)
{
    const sim_socket *queue = s->shares ? s->shares : s;
    return s->in_count || s->has_end_in || (s->state == SIM_LISTENING && queue->queue_count);
}

static bool is_writable(const sim_socket *s)
{
    return s->is_dead || s->has_end_out || !s->peer ||
           s->peer->in_count + s->peer->in_flight < SIM_BUFFER_BYTES;
}

static ssize_t try_op(zk__op *op)
{
    sim_socket *s = zk__sim_socket(op->io->fd);
    if (!s) return zk__op_try(op);
    if (!s->io) {
        s->io = op->io;
        zk__sim_wake(s);
    }
    switch (op->code) {
    case ZK__OP_READ: return try_read(s, op->buf, op->size);
    case ZK__OP_READABLE: return is_readable(s) ? 0 : -EAGAIN;
    case ZK__OP_ACCEPT: return try_accept(s);
    case ZK__OP_WRITE: return try_write(s, op->iov, op->iov_count);
    case ZK__OP_CONNECT: return try_connect(s, op->addr, op->addr_size);
    default: return is_writable(s) ? 0 : -EAGAIN;
    }
}

static bool is_read_like(const zk__op *op)
{
    return op->code == ZK__OP_READ || op->code == ZK__OP_READABLE || op->code == ZK__OP_ACCEPT;
}

static zk__op **slot_of(zk__op *op) { return is_read_like(op) ? &op->io->reader : &op->io->writer; }

static ssize_t sim_attempt(zk__poller *poller, zk__op *op)
{
    (void)poller;
    return try_op(op);
}

static void outside_add(zk__op *op)
{
    sim_net *n = &zk__sim_net;
    if (n->outside_count == n->outside_capacity) {
        n->outside_capacity = n->outside_capacity ? 2 * n->outside_capacity : 8;
        n->outside = realloc(n->outside, n->outside_capacity * sizeof(zk__op *));
        if (!n->outside) zk__panic("simulation: out of memory");
    }
    n->outside[n->outside_count++] = op;
}

static void outside_remove(const zk__op *op)
{
    sim_net *n = &zk__sim_net;
    for (size_t i = 0; i < n->outside_count; i++) {
        if (n->outside[i] == op) n->outside[i--] = n->outside[--n->outside_count];
    }
}

static ssize_t try_outside(zk__op *op)
{
    if (op->code != ZK__OP_READABLE) return zk__op_try(op);
    struct pollfd p = {.fd = op->io->fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0 ? -EAGAIN : 0;
}

static bool sim_submit(zk__poller *poller, zk__op *op)
{
    (void)poller;
    bool is_outside = !zk__sim_socket(op->io->fd);
    op->result = is_outside ? try_outside(op) : try_op(op);
    if (op->result != -EAGAIN) return true;
    *slot_of(op) = op;
    if (is_outside) outside_add(op);
    return false;
}

static void finish(zk__op *op, ssize_t result)
{
    *slot_of(op) = NULL;
    op->result = result;
    op->complete(op);
}

static void sim_cancel(zk__poller *poller, zk__op *op)
{
    (void)poller;
    outside_remove(op);
    finish(op, -ECANCELED);
}

static void sim_watch(zk__poller *poller, zk__io *io)
{
    (void)poller;
    sim_socket *s = zk__sim_socket(io->fd);
    if (!s) return;
    s->io = io;
    zk__sim_wake(s);
}

static void sim_forget(zk__poller *poller, zk__io *io)
{
    (void)poller;
    sim_socket *s = zk__sim_socket(io->fd);
    if (s) {
        zk__sim_close(s);
    } else {
        close(io->fd);
    }
    io->fd = -1;
}

/* ---- time ---- */

static void retry(sim_socket *s, zk__op *op)
{
    ssize_t result = s->io ? try_op(op) : -EAGAIN;
    if (result != -EAGAIN) finish(op, result);
}

/* Sees to who waits for the socket. What is called may close it, and any other. */
static void socket_look(sim_socket *s)
{
    zk__io *io = s->io;
    if (!io) return;
    if (io->reader) {
        retry(s, io->reader);
    } else if (io->on_hangup && io->bits & (ZK__IO_PEER_DONE | ZK__IO_BROKEN)) {
        io->on_hangup(io);
    }
    if (s->io == io && io->writer) retry(s, io->writer);
}

static void events_run(zk__sim *sim)
{
    while (zk__sim_next() <= sim->now) {
        sim_event e = zk__sim_take();
        zk__sim_deliver(&e);
        if (e.kind == SIM_ARRIVE) continue;
        socket_look(e.to);
    }
    /* Room that a reader has made, and connections that a listener has got. */
    for (size_t i = 0; i < zk__sim_net.count; i++) {
        sim_socket *s = zk__sim_net.sockets[i];
        if (!s->io) continue;
        if (s->io->writer && is_writable(s)) retry(s, s->io->writer);
        if (s->io && s->state == SIM_LISTENING && s->io->reader) retry(s, s->io->reader);
    }
}

/* Whether something of the system's has happened. */
static bool outside_run(void)
{
    bool is_any = false;
    for (size_t i = zk__sim_net.outside_count; i-- > 0;) {
        if (i >= zk__sim_net.outside_count) continue;
        zk__op *op = zk__sim_net.outside[i];
        ssize_t result = try_outside(op);
        if (result == -EAGAIN) continue;
        outside_remove(op);
        finish(op, result);
        is_any = true;
    }
    return is_any;
}

static void sim_poll(zk__poller *poller, zk_time timeout)
{
    zk__sim *sim = zk__sim_current;
    sim->now += ZK_US(1);
    bool is_any = outside_run();
    if (timeout != 0 && !is_any) {
        zk_time next = zk__sim_next();
        if (timeout > 0 && sim->now + timeout < next) next = sim->now + timeout;
        if (next == INT64_MAX) {
            zk__sim_stuck(poller->worker);
            return;
        }
        if (next > sim->now) sim->now = next;
    }
    events_run(sim);
}

static bool sim_is_expecting(const zk__poller *poller)
{
    const sim_net *net = poller->state;
    return net->outside_count > 0 || zk__sim_next() != INT64_MAX;
}

static void sim_wake(zk__poller *poller) { (void)poller; }

const struct zk__poller_ops zk__poller_sim = {
    .name = "sim",
    .kernel = &zk__kernel_sim,
    .open = sim_open,
    .close = sim_close_poller,
    .submit = sim_submit,
    .attempt = sim_attempt,
    .recv_now = zk__recv_by_attempt,
    .send_now = zk__send_by_attempt,
    .cancel = sim_cancel,
    .watch = sim_watch,
    .forget = sim_forget,
    .poll = sim_poll,
    .is_expecting = sim_is_expecting,
    .wake = sim_wake,
};
