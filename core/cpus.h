/*
 * How many CPUs this process may use: the affinity mask, and the CPU quota of its control group.
 */
#ifndef ZOKIO_CORE_CPUS_H
#define ZOKIO_CORE_CPUS_H

#include <sched.h>

/*
 * CPUs allowed by affinity and by the quota, rounded up, of this process's cgroup and of each of
 * its ancestors (v2: cpu.max, v1: cpu.cfs_quota_us); at least 1.
 *
 * root: prefix for /proc and /sys, "" on a real system (tests pass a made-up tree).
 */
int zk__cpus_allowed(const char *root);

/* The text of a cpu.max file ("150000 100000", "max 100000"): CPUs rounded up, 0 for no limit or
 * nonsense. */
int zk__cpus_from_cpu_max(const char *text);

/*
 * Pins the calling thread to one CPU: `list`'s n-th (ended by -1), or if that is NULL the n-th of
 * those in `allowed`; counted round where there are fewer. returns 0, -EINVAL (an empty list, no
 * such CPU).
 */
int zk__cpu_pin(const cpu_set_t *allowed, const int *list, int n);

#endif
