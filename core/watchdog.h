/*
 * The thread that looks at the workers from outside: for stalls, and to dump on SIGQUIT.
 */
#ifndef ZOKIO_CORE_WATCHDOG_H
#define ZOKIO_CORE_WATCHDOG_H

#include "core/worker.h"

/* Starts it if the configuration asks for what it does. All workers run. returns 0, -errno. */
int zk__watchdog_start(zk__runtime *rt);
/* Ends it, before any worker leaves its loop. */
void zk__watchdog_stop(zk__runtime *rt);

#endif
