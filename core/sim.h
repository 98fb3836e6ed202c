/*
 * What the parts of the simulation share. One runs at a time, on one thread.
 */
#ifndef ZOKIO_CORE_SIM_H
#define ZOKIO_CORE_SIM_H

#include <zokio/sim.h>

#include "core/worker.h"

typedef struct zk__sim {
    zk_sim_options options;
    zk_sim_report report;
    uint64_t random;
    zk_time now;
    bool has_begun; /* the program's own code runs: faults may happen */
    bool is_stuck;
    char leak[256];  /* about the first block of memory that was not freed */
    char stuck[320]; /* who waits for what then */
} zk__sim;

/* The one that runs; NULL: none does. */
extern zk__sim *zk__sim_current;

uint64_t zk__sim_random(zk__sim *sim);
/* Whether something with this chance (in thousandths) happens now. */
bool zk__sim_happens(zk__sim *sim, int chance);
/* The same for faults, which are counted. */
bool zk__sim_fails(zk__sim *sim, int chance);
/* Enters into the trace that `what` has happened. */
void zk__sim_note(zk__sim *sim, uint64_t what, uint64_t detail);

/* At the end of a worker's turn: puts the tasks that are ready into random order. */
void zk__sim_turn(zk__worker *w);
/* Waits a random while, as a call on another thread would take. returns 0. */
int zk__sim_blocking(zk_fn *fn, void *arg);

/* Nothing can happen any more, and tasks are waiting. */
void zk__sim_stuck(zk__worker *w);

#endif
