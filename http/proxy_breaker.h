/*
 * The circuit breaker of an upstream: limits on what it has to do at once, and a switch that opens
 * when too many requests fail.
 *
 *            breaker_percent of the window failed            breaker_open_ms later
 *   CLOSED ---------------------------------------> OPEN ---------------------------> HALF OPEN
 *     ^                                              ^                                |      |
 *     |                                              +-----------one trial failed-----+      |
 *     +------------------------------breaker_trials succeeded--------------------------------+
 *
 * Shared by all workers. While it is closed there are only atomic counters; the lock is for the
 * changes of state, and for the few requests of the half-open one. It reads no clock: the moment is
 * given.
 */
#ifndef ZOKIO_HTTP_PROXY_BREAKER_H
#define ZOKIO_HTTP_PROXY_BREAKER_H

#include <pthread.h>
#include <stdatomic.h>

#include <zokio/proxy.h>

enum zk__breaker_state { ZK__BREAKER_CLOSED, ZK__BREAKER_OPEN, ZK__BREAKER_HALF_OPEN };
enum { ZK__BREAKER_SLOTS = 8 };

typedef struct zk__breaker {
    _Atomic int state;
    _Atomic int active, pending; /* counted only if there is a limit */
    _Atomic zk_time opens_until; /* OPEN: when trials begin */
    /* The last requests: a slot's number, requests and failures (24, 20 and 20 bits) per eighth of
     * the window. */
    _Atomic uint64_t slots[ZK__BREAKER_SLOTS];
    _Atomic uint64_t opened; /* how often, ever */
    pthread_mutex_t lock;    /* of what follows */
    uint32_t period;         /* of being half open: trials of an earlier one count no more */
    int trials, passed;      /* HALF OPEN: in progress, and succeeded */
} zk__breaker;

/* What a request was let in as. */
typedef struct zk__breaker_ticket {
    bool is_counted; /* in `active` */
    bool is_judged;
    bool is_trial;
    uint32_t period; /* of the trial */
} zk__breaker_ticket;

enum zk__breaker_outcome { ZK__OUTCOME_GOOD, ZK__OUTCOME_BAD, ZK__OUTCOME_UNKNOWN };

void zk__breaker_init(zk__breaker *b);
void zk__breaker_done(zk__breaker *b);

/* Whether it would let a request in now. */
bool zk__breaker_admits(const zk__breaker *b, const zk_proxy_options *o, zk_time now);

/* Lets a request in, to leave later. returns false: it does not. */
bool zk__breaker_enter(zk__breaker *b, const zk_proxy_options *o, zk_time now,
                       zk__breaker_ticket *ret_ticket);

/* It is known how the request has gone; the first word counts. returns the state that it has
 * brought about; -1: no change. */
int zk__breaker_judge(zk__breaker *b, const zk_proxy_options *o, zk_time now,
                      zk__breaker_ticket *ticket, enum zk__breaker_outcome outcome);

/* The request has ended; it has been judged before. */
void zk__breaker_leave(zk__breaker *b, const zk__breaker_ticket *ticket);

/* "closed", "open", "half-open" */
const char *zk__breaker_state_name(int state);

#endif
