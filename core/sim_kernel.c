/*
 * Simulated sockets and the network between them: addresses, connections, events under way.
 *
 * A connection is two sockets. What one sends is an event that arrives at the other later, in
 * order. Sockets live until the run is over, so an event may always look at the one it is for.
 */
#include "core/sim_kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

sim_net zk__sim_net;

/* The simulation's own memory: what it has no memory for is not the simulated program's fault. */
static void *grown(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (!memory) zk__panic("simulation: out of memory");
    return memory;
}

/* ---- sockets ---- */

sim_socket *zk__sim_socket(int fd)
{
    size_t index = (size_t)fd - SIM_FD_FIRST;
    return fd >= SIM_FD_FIRST && index < zk__sim_net.count ? zk__sim_net.sockets[index] : NULL;
}

sim_socket *zk__sim_socket_new(int family)
{
    sim_net *n = &zk__sim_net;
    if (n->count == n->capacity) {
        n->capacity = n->capacity ? 2 * n->capacity : 64;
        n->sockets = grown(n->sockets, n->capacity * sizeof(sim_socket *));
    }
    sim_socket *s = grown(NULL, sizeof *s);
    memset(s, 0, sizeof *s);
    s->fd = SIM_FD_FIRST + (int)n->count;
    s->family = family;
    n->sockets[n->count++] = s;
    n->open++;
    return s;
}

void zk__sim_net_clear(void)
{
    sim_net *n = &zk__sim_net;
    for (size_t i = 0; i < n->count; i++) {
        free(n->sockets[i]->in);
        free(n->sockets[i]);
    }
    for (size_t i = 0; i < n->event_count; i++)
        free(n->heap[i].data);
    free(n->sockets);
    free(n->heap);
    free(n->outside);
    *n = (sim_net){.next_port = SIM_PORT_FIRST};
}

/* ---- events: a binary heap ---- */

static bool is_before(const sim_event *a, const sim_event *b)
{
    return a->when != b->when ? a->when < b->when : a->number < b->number;
}

void zk__sim_event_add(sim_event event)
{
    sim_net *n = &zk__sim_net;
    if (n->event_count == n->event_capacity) {
        n->event_capacity = n->event_capacity ? 2 * n->event_capacity : 64;
        n->heap = grown(n->heap, n->event_capacity * sizeof *n->heap);
    }
    event.number = n->numbers++;
    size_t at = n->event_count++;
    for (; at > 0 && is_before(&event, &n->heap[(at - 1) / 2]); at = (at - 1) / 2)
        n->heap[at] = n->heap[(at - 1) / 2];
    n->heap[at] = event;
}

zk_time zk__sim_next(void)
{
    return zk__sim_net.event_count ? zk__sim_net.heap[0].when : INT64_MAX;
}

sim_event zk__sim_take(void)
{
    sim_net *n = &zk__sim_net;
    sim_event first = n->heap[0], last = n->heap[--n->event_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n->event_count) break;
        if (child + 1 < n->event_count && is_before(&n->heap[child + 1], &n->heap[child])) child++;
        if (!is_before(&n->heap[child], &last)) break;
        n->heap[at] = n->heap[child];
        at = child;
    }
    n->heap[at] = last;
    return first;
}

static zk_time arrival(sim_socket *to)
{
    zk__sim *sim = zk__sim_current;
    uint64_t spread = (uint64_t)(sim->options.delay_max - sim->options.delay_min) + 1;
    zk_time when = sim->now + sim->options.delay_min + (zk_time)(zk__sim_random(sim) % spread);
    if (when < to->last_arrival) when = to->last_arrival;
    to->last_arrival = when;
    return when;
}

void zk__sim_send(sim_socket *to, enum sim_event_kind kind, const void *data, size_t size)
{
    sim_event e = {.when = arrival(to), .kind = kind, .to = to, .size = size};
    if (size) {
        e.data = grown(NULL, size);
        memcpy(e.data, data, size);
        to->in_flight += size;
    }
    zk__sim_event_add(e);
}

/* ---- addresses ---- */

static uint16_t *port_of(struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET) return &((struct sockaddr_in *)(void *)addr)->sin_port;
    if (addr->ss_family == AF_INET6) return &((struct sockaddr_in6 *)(void *)addr)->sin6_port;
    return NULL;
}

static bool is_any(const struct sockaddr_storage *addr)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    if (addr->ss_family == AF_INET) {
        return ((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr == INADDR_ANY;
    }
    if (addr->ss_family != AF_INET6) return false;
    return !memcmp(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, &any6,
                   sizeof any6);
}

/* Whether a listener on `local` takes what is sent to `to`. */
static bool is_reached(struct sockaddr_storage *local, socklen_t local_size,
                       struct sockaddr_storage *to, socklen_t to_size)
{
    uint16_t *a = port_of(local), *b = port_of(to);
    if (a && b && is_any(local)) return *a == *b;
    return local_size == to_size && !memcmp(local, to, local_size);
}

static sim_socket *listener_at(struct sockaddr_storage *to, socklen_t size)
{
    for (size_t i = 0; i < zk__sim_net.count; i++) {
        sim_socket *s = zk__sim_net.sockets[i];
        if (s->state == SIM_LISTENING && is_reached(&s->local, s->local_size, to, size)) {
            return s->shares ? s->shares : s;
        }
    }
    return NULL;
}

void zk__sim_name(sim_socket *s)
{
    if (s->local_size) return;
    s->local.ss_family = (sa_family_t)s->family;
    s->local_size = s->family == AF_INET    ? sizeof(struct sockaddr_in)
                    : s->family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                            : sizeof(sa_family_t);
    if (port_of(&s->local)) *port_of(&s->local) = htons((uint16_t)zk__sim_net.next_port++);
}

/* ---- connections ---- */

void zk__sim_wake(sim_socket *s)
{
    zk__io *io = s->io;
    if (!io) return;
    io->bits |= ZK__IO_MAYBE_READABLE | ZK__IO_MAYBE_WRITABLE;
    if (s->has_end_in) io->bits |= ZK__IO_PEER_DONE;
    if (s->is_dead || (s->has_end_in && s->has_end_out)) io->bits |= ZK__IO_BROKEN;
}

/* A connection attempt reaches its listener, or finds none. */
static void arrive(sim_event *e)
{
    enum { TRIES = 6 };
    sim_socket *client = e->to, *listener;
    if (client->state != SIM_CONNECTING) return;
    listener = listener_at(&client->remote, client->remote_size);
    bool is_full = listener && listener->queue_count >= listener->backlog;
    if (is_full && client->family != AF_UNIX && e->tries < TRIES) {
        /* As a SYN that was dropped is sent again. */
        e->when = zk__sim_current->now + ZK_SEC(1 << e->tries++);
        zk__sim_event_add(*e);
        return;
    }
    if (!listener || is_full) {
        client->error = is_full ? -ETIMEDOUT : -ECONNREFUSED;
        zk__sim_send(client, SIM_CONNECTED_NOW, NULL, 0);
        return;
    }
    sim_socket *server = zk__sim_socket_new(client->family);
    server->state = SIM_CONNECTED;
    server->local = client->remote;
    server->local_size = client->remote_size;
    server->remote = client->local;
    server->remote_size = client->local_size;
    server->peer = client;
    client->peer = server;
    int at = (listener->queue_first + listener->queue_count++) % 64;
    listener->queue[at] = server;
    zk__sim_send(client, SIM_CONNECTED_NOW, NULL, 0);
    for (size_t i = 0; i < zk__sim_net.count; i++) {
        sim_socket *s = zk__sim_net.sockets[i];
        if (s == listener || s->shares == listener) zk__sim_wake(s);
    }
}

void zk__sim_break(sim_socket *s)
{
    s->is_dead = s->is_break_untold = s->has_end_in = true;
    s->in_count = 0;
}

static void data_in(sim_socket *s, const sim_event *e)
{
    s->in_flight -= e->size;
    if (s->state == SIM_CLOSED) {
        if (s->peer) zk__sim_send(s->peer, SIM_RESET, NULL, 0);
        return;
    }
    if (!s->in) s->in = grown(NULL, SIM_BUFFER_BYTES);
    for (size_t i = 0; i < e->size; i++)
        s->in[(s->in_first + s->in_count + i) % SIM_BUFFER_BYTES] = e->data[i];
    s->in_count += e->size;
}

void zk__sim_deliver(sim_event *e)
{
    sim_socket *s = e->to;
    zk__sim_note(zk__sim_current, e->kind, (uint64_t)s->fd << 32 | e->size);
    switch (e->kind) {
    case SIM_ARRIVE: arrive(e); return;
    case SIM_CONNECTED_NOW:
        if (s->state == SIM_CONNECTING && !s->error) s->state = SIM_CONNECTED;
        break;
    case SIM_DATA: data_in(s, e); break;
    case SIM_END: s->has_end_in = true; break;
    case SIM_RESET: zk__sim_break(s); break;
    }
    free(e->data);
    zk__sim_wake(s);
}

void zk__sim_close(sim_socket *s)
{
    if (s->state == SIM_CLOSED) return;
    bool is_listener = s->state == SIM_LISTENING;
    bool is_connected = s->peer && (s->state == SIM_CONNECTED || s->state == SIM_CONNECTING);
    s->state = SIM_CLOSED;
    s->io = NULL;
    zk__sim_net.open--;
    if (is_connected && (s->in_count || s->resets_on_close)) {
        zk__sim_send(s->peer, SIM_RESET, NULL, 0);
    } else if (is_connected && !s->has_end_out && !s->is_dead) {
        zk__sim_send(s->peer, SIM_END, NULL, 0);
    }
    s->in_count = 0;
    if (!is_listener) return;
    sim_socket *owner = s->shares ? s->shares : s;
    if (--owner->users > 0) return;
    /* Nobody will accept these. */
    while (owner->queue_count--) {
        sim_socket *waiting = owner->queue[owner->queue_first++ % 64];
        waiting->resets_on_close = true;
        zk__sim_close(waiting);
    }
    owner->queue_count = 0;
}

/* ---- the calls ---- */

static int sim_socket_call(int family, int type, int protocol)
{
    zk__sim *sim = zk__sim_current;
    (void)protocol;
    if (type != SOCK_STREAM) return -EPROTONOSUPPORT;
    if (zk__sim_fails(sim, sim->options.out_of_files_chance)) return -EMFILE;
    return zk__sim_socket_new(family)->fd;
}

static int sim_set_option(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)value, (void)size;
    sim_socket *s = zk__sim_socket(fd);
    if (!s) return -EBADF;
    if (level == SOL_SOCKET && name == SO_LINGER) s->resets_on_close = true;
    return 0;
}

static int sim_bind(int fd, const struct sockaddr *addr, socklen_t size)
{
    sim_socket *s = zk__sim_socket(fd);
    if (!s) return -EBADF;
    memcpy(&s->local, addr, size);
    s->local_size = size;
    uint16_t *port = port_of(&s->local);
    if (port && !*port) *port = htons((uint16_t)zk__sim_net.next_port++);
    return listener_at(&s->local, s->local_size) ? -EADDRINUSE : 0;
}

static int sim_listen(int fd, int backlog)
{
    sim_socket *s = zk__sim_socket(fd);
    if (!s) return -EBADF;
    zk__sim_name(s);
    s->state = SIM_LISTENING;
    s->backlog = backlog < 64 ? backlog : 64;
    s->users = 1;
    return 0;
}

static int sim_name(int fd, bool is_peer, struct sockaddr *ret_addr, socklen_t *size)
{
    sim_socket *s = zk__sim_socket(fd);
    if (!s) return -EBADF;
    if (is_peer && s->state != SIM_CONNECTED) return -ENOTCONN;
    zk__sim_name(s);
    socklen_t bytes = is_peer ? s->remote_size : s->local_size;
    memcpy(ret_addr, is_peer ? &s->remote : &s->local, bytes < *size ? bytes : *size);
    *size = bytes;
    return 0;
}

static int sim_shutdown(int fd, int how)
{
    sim_socket *s = zk__sim_socket(fd);
    if (!s || s->state != SIM_CONNECTED) return s ? -ENOTCONN : -EBADF;
    if (how == SHUT_RD || s->has_end_out) return 0;
    s->has_end_out = true;
    if (!s->is_dead) zk__sim_send(s->peer, SIM_END, NULL, 0);
    zk__sim_wake(s);
    return 0;
}

static int sim_duplicate(int fd)
{
    sim_socket *of = zk__sim_socket(fd);
    if (!of || of->state != SIM_LISTENING) return -EBADF;
    sim_socket *s = zk__sim_socket_new(of->family);
    s->state = SIM_LISTENING;
    s->local = of->local;
    s->local_size = of->local_size;
    s->shares = of->shares ? of->shares : of;
    s->shares->users++;
    return s->fd;
}

static int sim_close_call(int fd)
{
    sim_socket *s = zk__sim_socket(fd);
    if (!s) return close(fd) ? -errno : 0;
    zk__sim_close(s);
    return 0;
}

const struct zk__kernel zk__kernel_sim = {
    .socket = sim_socket_call,
    .set_option = sim_set_option,
    .bind = sim_bind,
    .listen = sim_listen,
    .name = sim_name,
    .shutdown = sim_shutdown,
    .duplicate = sim_duplicate,
    .close = sim_close_call,
};
