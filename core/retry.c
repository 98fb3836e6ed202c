/*
 * Calls again, with exponential backoff and jitter, and calls at intervals.
 */
#include <errno.h>
#include <limits.h>

#include <zokio/call.h>

#include "core/worker.h"

enum { TRIES_DEFAULT = 5 };
static const zk_time delay_default = ZK_MS(100), delay_max_default = ZK_SEC(10);

/* Some moment between half of it and all of it, so that those who failed together do not all come
 * back together. */
static zk_time jittered(zk_time delay)
{
    return delay / 2 + (zk_time)(zk__random(zk__lane.worker) % (uint64_t)(delay - delay / 2 + 1));
}

int zk_retry(const zk_retry_options *options, zk_fn *fn, void *arg)
{
    zk_retry_options o = options ? *options : (zk_retry_options){0};
    if (!zk__lane.worker) return ZK_E_NO_RUNTIME;
    if (o.tries_max <= 0) o.tries_max = TRIES_DEFAULT;
    if (o.delay <= 0) o.delay = delay_default;
    if (o.delay_max <= 0) o.delay_max = delay_max_default;
    for (int tries = 1;; tries++) {
        int rc = fn(arg);
        if (rc >= 0 || tries == o.tries_max || zk_cancelled()) return rc;
        if (o.is_transient && !o.is_transient(rc, arg)) return rc;
        zk_time delay = o.delay < o.delay_max ? o.delay : o.delay_max;
        rc = zk_sleep(o.no_jitter ? delay : jittered(delay));
        if (rc < 0) return rc;
        o.delay = delay <= o.delay_max / 2 ? 2 * delay : o.delay_max;
    }
}

/* ---- intervals ---- */

void zk_interval_init(zk_interval *interval, zk_time period)
{
    interval->period = period > 0 ? period : 1;
    interval->next = zk__moment_in(interval->period);
}

int zk_interval_wait(zk_interval *interval)
{
    if (!zk__lane.worker) return ZK_E_NO_RUNTIME;
    zk_time now = zk__sleep_until(interval->next);
    int rc = now < 0 ? (int)now : zk_cancelled();
    if (rc < 0) return rc;
    zk_time ticks = 1 + (now - interval->next) / interval->period;
    interval->next += ticks * interval->period;
    return ticks < INT_MAX ? (int)ticks : INT_MAX;
}
