/*
 * How many CPUs may be used: the texts of cpu.max, and made-up trees of /proc and /sys.
 */
#include "tests/test.h"

#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cpus.h"

ZK_TEST(cpus, quotas_are_rounded_up_and_nonsense_is_no_limit)
{
    static const struct {
        const char *text;
        int cpus;
    } rows[] = {
        {"150000 100000\n", 2},
        {"150000 100000", 2},
        {"100000 100000\n", 1},
        {"1 100000\n", 1},
        {"200000 100000\n", 2},
        {"200001 100000\n", 3},
        {"max 100000\n", 0},
        {"max\n", 0},
        {"", 0},
        {"\n", 0},
        {"150000", 0},
        {"150000 ", 0},
        {"150000 max", 0},
        {"150000 100000 1", 0},
        {"150000  100000", 0},
        {" 150000 100000", 0},
        {"-1 100000", 0},
        {"+150000 100000", 0},
        {"0 100000", 0},
        {"100000 0", 0},
        {"0x10 1", 0},
        {"99999999999999999999 1", 0},
        {"18446744073709551615 18446744073709551615", 0},
        {"3000000000 1", 0},
        {"2147483647 1", 2147483647},
        {"2147483648 1", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int cpus = zk__cpus_from_cpu_max(rows[i].text);
        cr_assert_eq(cpus, rows[i].cpus, "row %zu, \"%s\": %d", i, rows[i].text, cpus);
    }
}

/* Writes root/path, and the directories that lead there. */
static void file_write(const char *root, const char *path, const char *text)
{
    char full[PATH_MAX];
    cr_assert_lt(snprintf(full, sizeof full, "%s%s", root, path), (int)sizeof full);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "we");
    cr_assert_not_null(file, "%s", full);
    cr_assert(fputs(text, file) >= 0);
    cr_assert_eq(fclose(file), 0);
}

static int entry_remove(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

typedef struct tree {
    const char *name;
    struct {
        const char *path, *text;
    } files[6];
    int quota; /* 0 for none */
} tree;

#define GROUP "/proc/self/cgroup"
#define SYS "/sys/fs/cgroup"

static const tree trees[] = {
    {"nothing at all", {{NULL, NULL}}, 0},
    {"v2, this group", {{GROUP, "0::/a/b\n"}, {SYS "/a/b/cpu.max", "50000 100000\n"}}, 1},
    {"v2, the parent", {{GROUP, "0::/a/b\n"}, {SYS "/a/cpu.max", "50000 100000\n"}}, 1},
    {"v2, the root", {{GROUP, "0::/\n"}, {SYS "/cpu.max", "50000 100000\n"}}, 1},
    {"v2, no limit",
     {{GROUP, "0::/a\n"}, {SYS "/a/cpu.max", "max 100000\n"}, {SYS "/cpu.max", "max 100000\n"}},
     0},
    {"v2, the parent is stricter",
     {{GROUP, "0::/a/b\n"},
      {SYS "/a/b/cpu.max", "9000000 100000\n"},
      {SYS "/a/cpu.max", "100000 100000\n"}},
     1},
    {"v2, the parent is more generous",
     {{GROUP, "0::/a/b\n"},
      {SYS "/a/b/cpu.max", "100000 100000\n"},
      {SYS "/a/cpu.max", "9000000 100000\n"}},
     1},
    {"v2, a sibling's", {{GROUP, "0::/a/b\n"}, {SYS "/a/c/cpu.max", "100000 100000\n"}}, 0},
    {"v2, the host's path in a container",
     {{GROUP, "0::/kubepods/x\n"}, {SYS "/cpu.max", "100000 100000\n"}},
     1},
    {"v2, outside of the namespace",
     {{GROUP, "0::/../x\n"}, {"/sys/fs/x/cpu.max", "1 100000\n"}, {SYS "/cpu.max", "max 1\n"}},
     0},
    {"v2, no line end", {{GROUP, "0::/a"}, {SYS "/a/cpu.max", "50000 100000"}}, 1},
    {"v2 beside v1",
     {{GROUP, "1:cpu:/\n0::/a\n"}, {SYS "/unified/a/cpu.max", "50000 100000\n"}},
     1},
    {"v1, this group",
     {{GROUP, "12:memory:/a\n4:cpu,cpuacct:/a\n"},
      {SYS "/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n"},
      {SYS "/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}},
     1},
    {"v1, the parent, by its short name",
     {{GROUP, "4:cpuacct,cpu:/a/b\n"},
      {SYS "/cpu/a/b/cpu.cfs_quota_us", "-1\n"},
      {SYS "/cpu/a/b/cpu.cfs_period_us", "100000\n"},
      {SYS "/cpu/a/cpu.cfs_quota_us", "100000\n"},
      {SYS "/cpu/a/cpu.cfs_period_us", "100000\n"}},
     1},
    {"v1, no period", {{GROUP, "4:cpu:/a\n"}, {SYS "/cpu/a/cpu.cfs_quota_us", "50000\n"}}, 0},
    {"v1, another controller",
     {{GROUP, "4:cpuset:/a\n5:cpuacct:/a\n"},
      {SYS "/cpu/a/cpu.cfs_quota_us", "50000\n"},
      {SYS "/cpu/a/cpu.cfs_period_us", "100000\n"},
      {SYS "/cpuset/a/cpu.cfs_quota_us", "50000\n"},
      {SYS "/cpuset/a/cpu.cfs_period_us", "100000\n"}},
     0},
    {"lines of no use", {{GROUP, "\n:\n::\n0:\nnonsense\n0::\n"}, {SYS "/cpu.max", "1 1\n"}}, 1},
};

/* The CPUs without a quota, told in another way than by the code under test. */
static int affinity_cpus(void)
{
    cpu_set_t mask;
    cr_assert_eq(sched_getaffinity(0, sizeof mask, &mask), 0, "more than 1024 CPUs?");
    return CPU_COUNT(&mask);
}

ZK_TEST(cpus, the_strictest_limit_of_the_tree_holds)
{
    for (size_t i = 0; i < sizeof trees / sizeof trees[0]; i++) {
        char root[] = "/tmp/zokio-cpus-XXXXXX";
        cr_assert_not_null(mkdtemp(root));
        for (size_t k = 0; k < 6 && trees[i].files[k].path; k++)
            file_write(root, trees[i].files[k].path, trees[i].files[k].text);
        int cpus = zk__cpus_allowed(root);
        nftw(root, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
        int expected = trees[i].quota ? trees[i].quota : affinity_cpus();
        cr_assert_eq(cpus, expected, "%s: %d instead of %d", trees[i].name, cpus, expected);
    }
}

ZK_TEST(cpus, affinity_is_the_limit_where_quotas_are_generous)
{
    char root[] = "/tmp/zokio-cpus-XXXXXX";
    cr_assert_not_null(mkdtemp(root));
    file_write(root, GROUP, "0::/\n");
    file_write(root, SYS "/cpu.max", "100000000 1000\n");
    int all = zk__cpus_allowed(root);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    int rc = sched_setaffinity(0, sizeof one, &one);
    int restricted = zk__cpus_allowed(root);
    nftw(root, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
    cr_assert_eq(all, affinity_cpus() > 1 ? affinity_cpus() : all);
    cr_assert_eq(rc, 0);
    cr_assert_eq(restricted, 1);
}

ZK_TEST(cpus, the_real_system_has_some)
{
    int cpus = zk__cpus_allowed("");
    cr_assert(cpus >= 1 && cpus <= affinity_cpus(), "%d", cpus);
}

ZK_TEST(cpus, a_root_that_is_too_long_is_no_limit)
{
    static char root[3 * PATH_MAX];
    memset(root, 'x', sizeof root - 1);
    cr_assert_eq(zk__cpus_allowed(root), affinity_cpus());
}
