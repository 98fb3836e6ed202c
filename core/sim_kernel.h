/*
 * Simulated sockets: what the poller of the simulation moves bytes between.
 */
#ifndef ZOKIO_CORE_SIM_KERNEL_H
#define ZOKIO_CORE_SIM_KERNEL_H

#include <sys/un.h>

#include "core/kernel.h"
#include "core/sim.h"

enum {
    SIM_FD_FIRST = 1 << 24,       /* far from what the system gives out */
    SIM_BUFFER_BYTES = 64 * 1024, /* under way and not read, per direction */
    SIM_PORT_FIRST = 40000,
};

enum sim_state { SIM_NEW, SIM_LISTENING, SIM_CONNECTING, SIM_CONNECTED, SIM_CLOSED };

typedef struct sim_socket sim_socket;
struct sim_socket {
    int fd, family;
    enum sim_state state;
    zk__io *io; /* once the poller has seen it */
    struct sockaddr_storage local, remote;
    socklen_t local_size, remote_size;

    sim_socket *peer; /* of a connection, even when that is closed */
    char *in;         /* a ring of SIM_BUFFER_BYTES: what has arrived */
    size_t in_first, in_count;
    size_t in_flight;     /* bytes on their way here */
    zk_time last_arrival; /* of what is on its way: nothing overtakes */
    bool has_end_in, has_end_out, resets_on_close;
    bool is_dead;         /* the connection was broken */
    bool is_break_untold; /* and no read has said so yet */
    int error;            /* of a connect */

    sim_socket *queue[64]; /* of a listener: connections to be accepted */
    int queue_first, queue_count, backlog;
    sim_socket *shares; /* a listener that was duplicated: whose queue it takes from */
    int users;          /* of a listener's queue */
};

enum sim_event_kind { SIM_DATA, SIM_END, SIM_RESET, SIM_ARRIVE, SIM_CONNECTED_NOW };

/* Something on its way through the network. */
typedef struct sim_event {
    zk_time when;
    uint64_t number; /* events of one moment happen in the order in which they were made */
    enum sim_event_kind kind;
    sim_socket *to;
    int tries; /* of a connection attempt */
    size_t size;
    char *data;
} sim_event;

typedef struct sim_net {
    sim_socket **sockets; /* the n-th has the descriptor SIM_FD_FIRST + n; never reused */
    size_t count, capacity, open;
    sim_event *heap; /* by time */
    size_t event_count, event_capacity;
    uint64_t numbers;
    int next_port;
    zk__op **outside; /* operations on descriptors of the system that wait */
    size_t outside_count, outside_capacity;
} sim_net;

extern sim_net zk__sim_net;

sim_socket *zk__sim_socket(int fd);
sim_socket *zk__sim_socket_new(int family);
void zk__sim_net_clear(void);

/* Sends something to a socket; it arrives after a random delay, behind what was sent before. */
void zk__sim_send(sim_socket *to, enum sim_event_kind kind, const void *data, size_t size);
/* The next event's moment; INT64_MAX: there is none. */
zk_time zk__sim_next(void);
/* Takes the next event. */
sim_event zk__sim_take(void);
void zk__sim_event_add(sim_event event);

/* What an event does when it arrives. */
void zk__sim_deliver(sim_event *event);
/* Gives a socket that has no address one. */
void zk__sim_name(sim_socket *s);
/* The connection is broken, on this side. */
void zk__sim_break(sim_socket *s);
void zk__sim_close(sim_socket *s);
/* Something has happened that the socket's reader or writer may wait for. */
void zk__sim_wake(sim_socket *s);

extern const struct zk__kernel zk__kernel_sim;
extern const struct zk__poller_ops zk__poller_sim;

#endif
