/*
 * Simulation: a program on a simulated kernel, all of whose accidents come from a seed.
 *
 * Time is virtual: an hour's sleep takes no time, and nothing depends on how fast the machine is.
 * Sockets are in memory, with delay, and with the faults that are asked for. Tasks that are ready
 * run in random order. Everything happens on one thread, so a seed that fails fails again in the
 * same way, under a debugger, as often as one likes.
 *
 *     for (uint64_t seed = 1; seed <= 1000; seed++) {
 *         int rc = zk_sim_run(seed, &ZK_SIM_FAULTS, test, NULL);
 *         if (rc < 0) { printf("seed %" PRIu64 ": %s\n", seed, zk_trail()); break; }
 *     }
 *
 * What is simulated: the clock, timers, TCP and Unix stream sockets, the order of tasks, memory
 * running out, and the moment at which zk_blocking's function runs (on the same thread). What is
 * not: files, processes, signals, DNS; they are the real ones.
 */
#ifndef ZOKIO_SIM_H
#define ZOKIO_SIM_H

#include <zokio/task.h>

ZK_BEGIN

/**
 * What happens to a simulated program. Zero-initialised: a short random delay, random order of
 * tasks, no faults. Chances are in thousandths.
 */
typedef struct zk_sim_options {
    zk_time delay_min, delay_max; /* of what is sent; both 0: 10 us to 1 ms */
    int short_read_chance;        /* fewer bytes than there are */
    int short_write_chance;       /* fewer bytes than there is room for */
    int reset_chance;             /* of a write: the connection breaks */
    int refuse_chance;            /* of a connect: ECONNREFUSED */
    int out_of_files_chance;      /* of an accept or a socket: EMFILE; or ENFILE of an accept */
    int out_of_buffers_chance;    /* of a write: ENOBUFS */
    int out_of_memory_chance;     /* of an allocation */
    bool is_in_order;             /* tasks run in the order in which they became ready */
} zk_sim_options;

/** A bit of everything but the end of memory. */
#define ZK_SIM_FAULTS                                                                              \
    ((const zk_sim_options){.short_read_chance = 200,                                              \
                            .short_write_chance = 200,                                             \
                            .reset_chance = 10,                                                    \
                            .refuse_chance = 20,                                                   \
                            .out_of_files_chance = 20,                                             \
                            .out_of_buffers_chance = 5})

/** What a run has come to. */
typedef struct zk_sim_report {
    uint64_t trace;        /* a hash of all that happened: the same for the same run */
    uint64_t events;       /* of the network */
    uint64_t faults;       /* that were injected */
    zk_time virtual_time;  /* that has passed */
    size_t sockets_leaked; /* not closed at the end */
    size_t blocks_leaked;  /* of memory not freed at the end */
} zk_sim_report;

/**
 * Runs `main_fn(arg)` as zk_run does, simulated, with one worker. The environment has no influence.
 * Blocks the calling thread. One runtime per process at a time.
 *
 * @param options  NULL for the defaults
 * @return main_fn's result; ZK_E_STUCK if all tasks waited for each other (the program was then
 *         cancelled); ZK_E_LEAK if it succeeded but left sockets or memory behind; -EINVAL (a
 *         chance is not within 0..1000); else as zk_run. zk_trail has the seed and says more.
 */
ZK_API int zk_sim_run(uint64_t seed, const zk_sim_options *options, zk_fn *main_fn, void *arg);

/** As zk_sim_run; *ret_report is filled in whatever the result. */
ZK_API int zk_sim_run_report(uint64_t seed, const zk_sim_options *options, zk_fn *main_fn,
                             void *arg, zk_sim_report *ret_report);

/** A random number from the run's seed, for the program's own choices; 0 outside a simulation.
 * Never suspends. */
ZK_API uint64_t zk_sim_random(void);

/** Whether the program is simulated. Never suspends. */
ZK_API bool zk_sim_is_running(void);

ZK_END
#endif
