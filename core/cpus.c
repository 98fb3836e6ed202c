/*
 * How many CPUs this process may use.
 *
 * /proc/self/cgroup has a line "ID:CONTROLLERS:PATH" for each hierarchy: no controllers mean
 * version 2, a list with "cpu" in it the controller of version 1. Quotas bind the whole subtree, so
 * PATH is walked up to the root of the mount. That also helps in containers which see their own
 * group as the mount's root but the host's PATH: the files at the longer paths are just not there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zokio/base.h>

#include "core/cpus.h"

enum { FILE_BYTES_MAX = 16384, QUOTA_BYTES_MAX = 64, CPUS_TRIED_MAX = 1 << 20 };

/* Reads a whole file as a string. returns false if there is none, or it is longer. */
static bool file_read(const char *path, char *ret_text, size_t size)
{
    int fd;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return false;
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used < size) {
        got = read(fd, ret_text + used, size - used);
        if (got > 0)
            used += (size_t)got;
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    close(fd);
    if (got < 0 || used == size) return false;
    ret_text[used] = '\0';
    return true;
}

/* Reads a decimal number, moves the text behind it. returns false if there is none that fits. */
static bool number_read(const char **text, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > (UINT64_MAX - 9) / 10) return false;
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (at == *text) return false;
    *text = at;
    *ret_number = number;
    return true;
}

static bool is_end(const char *text) { return *text == '\0' || *text == '\n'; }

/* 0 for no limit. */
static int quota_cpus(uint64_t quota, uint64_t period)
{
    if (quota == 0 || period == 0) return 0;
    uint64_t cpus = quota / period + (quota % period != 0);
    return cpus > INT_MAX ? 0 : (int)cpus;
}

int zk__cpus_from_cpu_max(const char *text)
{
    uint64_t quota, period;
    if (!number_read(&text, &quota) || *text++ != ' ' || !number_read(&text, &period) ||
        !is_end(text))
        return 0;
    return quota_cpus(quota, period);
}

/* Reads `directory`/cpu.max or its predecessors. returns 0 for no limit. */
static int group_cpus(const char *directory, bool is_v2)
{
    char path[PATH_MAX], text[QUOTA_BYTES_MAX];
    const char *at = text;
    uint64_t quota, period;
    if (is_v2) {
        if (snprintf(path, sizeof path, "%s/cpu.max", directory) >= (int)sizeof path ||
            !file_read(path, text, sizeof text))
            return 0;
        return zk__cpus_from_cpu_max(text);
    }
    if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory) >= (int)sizeof path ||
        !file_read(path, text, sizeof text) || !number_read(&at, &quota) || !is_end(at))
        return 0; /* "-1" is no limit */
    at = text;
    if (snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory) >= (int)sizeof path ||
        !file_read(path, text, sizeof text) || !number_read(&at, &period) || !is_end(at))
        return 0;
    return quota_cpus(quota, period);
}

static int stricter(int limit, int other)
{
    return limit == 0 || (other != 0 && other < limit) ? other : limit;
}

/* The strictest limit from the group at mount + path up to the one at mount. */
static int hierarchy_cpus(const char *root, const char *mount, const char *path, bool is_v2)
{
    char directory[PATH_MAX];
    int mount_size = snprintf(directory, sizeof directory, "%s/sys/fs/cgroup%s", root, mount);
    if (mount_size >= (int)sizeof directory) return 0;
    /* A path that leads up is outside of this cgroup namespace: only the mount's root is ours. */
    if (strstr(path, "/..")) path = "";
    size_t room = sizeof directory - (size_t)mount_size;
    if (snprintf(directory + mount_size, room, "%s", path) >= (int)room) return 0;

    int limit = 0;
    char *last;
    do {
        limit = stricter(limit, group_cpus(directory, is_v2));
        last = strrchr(directory + mount_size, '/');
        if (last) *last = '\0';
    } while (last);
    return limit;
}

static bool list_has_cpu(const char *controllers)
{
    static const char name[] = "cpu";
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        size_t size = strcspn(at, ",");
        if (size == sizeof name - 1 && memcmp(at, name, size) == 0) return true;
    }
    return false;
}

/* The limit for one line of /proc/self/cgroup, which is taken apart. returns 0 for none. */
static int line_cpus(const char *root, char *line)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return 0;
    controllers++;
    *path++ = '\0';

    if (*controllers == '\0') /* the second mount is where version 1 is the main one */
        return stricter(hierarchy_cpus(root, "", path, true),
                        hierarchy_cpus(root, "/unified", path, true));
    if (!list_has_cpu(controllers)) return 0;
    /* Mounted under the list's name, with links for each; or just under one name. */
    char mount[QUOTA_BYTES_MAX];
    int limit = hierarchy_cpus(root, "/cpu", path, false);
    if (snprintf(mount, sizeof mount, "/%s", controllers) < (int)sizeof mount)
        limit = stricter(limit, hierarchy_cpus(root, mount, path, false));
    return limit;
}

static int cgroup_cpus(const char *root)
{
    char path[PATH_MAX], text[FILE_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path ||
        !file_read(path, text, sizeof text))
        return 0;
    int limit = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")))
        limit = stricter(limit, line_cpus(root, line));
    return limit;
}

/* The CPUs of the affinity mask; 0 if that cannot be told. */
static int affinity_cpus(void)
{
    /* The kernel refuses masks with less room than it has CPUs configured. */
    for (int room = 1024; room <= CPUS_TRIED_MAX; room *= 2) {
        cpu_set_t *mask = CPU_ALLOC((size_t)room);
        if (!mask) return 0;
        size_t size = CPU_ALLOC_SIZE((size_t)room);
        int rc = sched_getaffinity(0, size, mask) == 0 ? 0 : -errno;
        int cpus = rc == 0 ? CPU_COUNT_S(size, mask) : 0;
        CPU_FREE(mask);
        if (rc != -EINVAL) return cpus;
    }
    return 0;
}

int zk__cpus_allowed(const char *root)
{
    int cpus = stricter(affinity_cpus(), cgroup_cpus(root));
    return cpus > 0 ? cpus : 1;
}

/* The n-th CPU of a set, counted round; -1 if it is empty. */
static int nth_of_set(const cpu_set_t *set, int n)
{
    int count = CPU_COUNT(set);
    if (!count) return -1;
    n %= count;
    int cpu = 0;
    for (;; cpu++) {
        if (CPU_ISSET((size_t)cpu, set) && n-- == 0) return cpu;
    }
}

static int nth_of_list(const int *list, int n)
{
    int count = 0;
    while (list[count] >= 0)
        count++;
    return count ? list[n % count] : -1;
}

int zk__cpu_pin(const cpu_set_t *allowed, const int *list, int n)
{
    int cpu = list ? nth_of_list(list, n) : nth_of_set(allowed, n);
    if (cpu < 0 || cpu >= CPU_SETSIZE) return -EINVAL;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) ? -errno : 0;
}
