/*
 * The runtime's figures: `build/bench/micro [ROW...]` prints NAME<TAB>NS_PER_OP for each row.
 *
 * `call`, an opaque empty function, is the floor: machines differ, and what counts is the ratio to
 * it. Each row is the best of several rounds, which is what the code costs when nothing else runs.
 * The functions that stand for work are opaque: the compiler can neither inline nor remove them.
 */
#include "bench/micro.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/worker.h"

enum { ROUNDS = 15, BATCH = 256 };

OPAQUE int nothing(void *arg)
{
    __asm__ volatile("" : : "r"(arg) : "memory");
    return 0;
}

static double measure_call(void)
{
    const int n = 4000000;
    double start = now_ns();
    for (int i = 0; i < n; i++)
        nothing(NULL);
    return (now_ns() - start) / n;
}

static double measure_async_await(void)
{
    const int n = 4000000;
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        zk_future f;
        zk_async(&f, nothing, NULL);
        zk_await(&f);
    }
    return (now_ns() - start) / n;
}

static double measure_spawn_join(void)
{
    const int rounds = 4000;
    double start = now_ns();
    for (int i = 0; i < rounds; i++) {
        ZK_SCOPE(s) {
            for (int j = 0; j < BATCH; j++) {
                if (zk_spawn(&s, nothing, NULL) < 0) abort();
            }
            zk_scope_wait(&s);
        }
    }
    return (now_ns() - start) / ((double)rounds * BATCH);
}

static int take_turns(void *arg)
{
    for (long n = (long)arg; n > 0; n--)
        zk_yield();
    return 0;
}

static double measure_yield(void)
{
    const long turns = 1000000;
    double start = now_ns();
    ZK_SCOPE(s) {
        if (zk_spawn(&s, take_turns, (void *)turns) < 0) abort();
        if (zk_spawn(&s, take_turns, (void *)turns) < 0) abort();
        zk_scope_wait(&s);
    }
    return (now_ns() - start) / (2.0 * (double)turns);
}

/* Hides from the compiler that a pointer is not used, so that it cannot drop an allocation. */
static inline void use(void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }

static double measure_alloc_free(void)
{
    const int n = 4000000;
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        void *p = zk_alloc(64);
        use(p);
        zk_free(p);
    }
    return (now_ns() - start) / n;
}

static double measure_malloc_free(void)
{
    const int n = 4000000;
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        void *p = malloc(64);
        use(p);
        free(p);
    }
    return (now_ns() - start) / n;
}

/* Another allocator that its users call the fastest; where it is installed. */
static double measure_mimalloc_free(void)
{
    static void *(*allocate)(size_t);
    static void (*release)(void *);
    if (!allocate) {
        void *library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
        if (!library) return 0;
        *(void **)&allocate = dlsym(library, "mi_malloc");
        *(void **)&release = dlsym(library, "mi_free");
    }
    const int n = 4000000;
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        void *p = allocate(64);
        use(p);
        release(p);
    }
    return (now_ns() - start) / n;
}

static void no_fire(zk__timer *timer) { (void)timer; }

static double measure_timer(void)
{
    const int n = 2000000;
    zk__wheel *wheel = &zk__worker_self()->wheel;
    zk_time when = zk_now() + ZK_MS(1500);
    zk__timer timer = {.fire = no_fire};
    double start = now_ns();
    for (int i = 0; i < n; i++) {
        zk__wheel_add(wheel, &timer, when);
        use(&timer);
        zk__wheel_remove(wheel, &timer);
    }
    return (now_ns() - start) / n;
}

/* From fork to the end of a runtime that has run one empty task, in a process of this program. */
static double measure_startup_us(void)
{
    double best = 1e18;
    for (int i = 0; i < ROUNDS; i++) {
        double start = now_ns();
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "micro", "--start", (char *)NULL);
            _exit(1);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || status) abort();
        double took = now_ns() - start;
        if (took < best) best = took;
    }
    return best / 1000;
}

/* Resident memory of a process that runs an idle runtime: this one before anything was measured. */
static double measure_rss_kb(void)
{
    int fds[2];
    char text[32] = "";
    if (pipe(fds)) abort();
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execl("/proc/self/exe", "micro", "--rss", (char *)NULL);
        _exit(1);
    }
    close(fds[1]);
    if (pid < 0 || read(fds[0], text, sizeof text - 1) <= 0) abort();
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return atof(text);
}

static int print_rss(void *arg)
{
    (void)arg;
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    while (status && fgets(line, sizeof line, status)) {
        if (!strncmp(line, "VmRSS:", 6)) printf("%s", line + 6);
    }
    if (status) fclose(status);
    return 0;
}

static const row basic_rows[] = {
    {"call", measure_call, false, 0},
    {"async_await", measure_async_await, false, 0},
    {"spawn_join", measure_spawn_join, false, 0},
    {"yield", measure_yield, false, 0},
    {"alloc_free_64", measure_alloc_free, false, 0},
    {"malloc_free_64", measure_malloc_free, false, 0},
    {"mimalloc_free_64", measure_mimalloc_free, false, 0},
    {"timer_add_cancel", measure_timer, false, 0},
    {0},
};
static const row last_rows[] = {
    {"startup_us", measure_startup_us, true, 0},
    {"rss_kb", measure_rss_kb, true, 0},
    {0},
};
static const row *const all_rows[] = {basic_rows, task_rows, channel_rows, ws_rows, last_rows};
enum { TABLES = sizeof all_rows / sizeof *all_rows };

static const row *row_find(const char *name)
{
    for (int i = 0; i < TABLES; i++) {
        for (const row *r = all_rows[i]; r->name; r++) {
            if (!strcmp(r->name, name)) return r;
        }
    }
    return NULL;
}

static int measure_row(void *arg)
{
    const row *r = arg;
    double best = r->measure();
    for (int round = 1; !r->is_single && round < ROUNDS; round++) {
        double ns = r->measure();
        if (ns < best) best = ns;
    }
    if (best > 0) {
        printf("%s\t%.*f\n", r->name, r->is_single ? best < 100 : 2, best);
    } else {
        fprintf(stderr, "micro: %s: not here\n", r->name);
    }
    fflush(stdout);
    return 0;
}

/* Each row in a runtime of its own, so that none finds what another has left behind. */
static void run_row(const row *r)
{
    zk_config config = {.workers = r->workers ? r->workers : 1,
                        .is_pinned_to_cpus = r->workers > 1};
    unsetenv("ZOKIO_WORKERS");
    must(zk_run(&config, measure_row, (void *)r));
}

int main(int argc, char **argv)
{
    zk_config config = {.workers = 1};
    if (argc == 2 && !strcmp(argv[1], "--start")) return zk_run(&config, nothing, NULL) < 0;
    if (argc == 2 && !strcmp(argv[1], "--rss")) return zk_run(&config, print_rss, NULL) < 0;
    for (int i = 1; i < argc; i++) {
        if (row_find(argv[i])) continue;
        fprintf(stderr, "micro: no row named %s\n", argv[i]);
        return 2;
    }
    for (int i = 1; i < argc; i++)
        run_row(row_find(argv[i]));
    for (int i = 0; i < TABLES && argc == 1; i++) {
        for (const row *r = all_rows[i]; r->name; r++)
            run_row(r);
    }
    return 0;
}
