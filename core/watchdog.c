/*
 * The watchdog: a thread that sleeps, looks at every worker a few times per watchdog_ms, and writes
 * a dump when SIGQUIT says so.
 *
 * A worker makes progress when it takes a task, suspends one, lets one go on after a yield, or
 * makes a turn; each changes a counter, so the workers do nothing for the watchdog. One whose
 * counters stand still, and that does not sleep in its poller, is held by its current task; its
 * thread is then asked with a signal where it is, see ask.h. A stall is reported once.
 *
 * The handler of SIGQUIT only writes to an eventfd. A dump gives workers that do not answer the
 * same signal, so it shows where those are, too.
 */
#include "core/watchdog.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/ask.h"
#include "core/dump.h"

enum { LOOKS = 4, REPORT_BYTES = 8192, NAME_BYTES = 128 };

typedef struct progress {
    uint64_t polls, waits;
    uint32_t head, turn_end;
} progress;

typedef struct watched {
    progress last;
    zk_time since; /* when that was first seen */
    bool is_reported;
} watched;

struct zk__watchdog {
    zk__runtime *runtime;
    pthread_t thread;
    int fd; /* an eventfd: there is something to do */
    atomic_bool is_stopping;
    bool is_asking, is_on_sigquit;
    struct sigaction sigquit_before;
    watched workers[];
};

static atomic_int sigquit_fd = -1, handlers_inside;

/* ---- stalls ---- */

/* Each of these is written by its worker only, as it goes, and only ever compared here. */
__attribute__((no_sanitize("thread"))) static progress progress_of(const zk__worker *w)
{
    return (progress){
        .polls = __atomic_load_n(&w->polls, __ATOMIC_RELAXED),
        .waits = __atomic_load_n(&w->waits, __ATOMIC_RELAXED),
        .head = __atomic_load_n(&w->head, __ATOMIC_RELAXED),
        .turn_end = __atomic_load_n(&w->turn_end, __ATOMIC_RELAXED),
    };
}

static bool is_same(progress a, progress b)
{
    return a.polls == b.polls && a.waits == b.waits && a.head == b.head && a.turn_end == b.turn_end;
}

static void write_line(void *context, const char *line)
{
    (void)context;
    struct iovec parts[] = {
        {.iov_base = (void *)line, .iov_len = strlen(line)},
        {.iov_base = (void *)"\n", .iov_len = 1},
    };
    ssize_t n;
    do {
        n = writev(STDERR_FILENO, parts, 2);
    } while (n < 0 && errno == EINTR); /* about any other failure nothing can be done */
}

/* The name and the place that a site may have; it may also be gone. */
static void site_peek(const zk_site *maybe, char *name, char *file, int *ret_line)
{
    zk_site site = {0};
    name[0] = file[0] = '\0';
    *ret_line = 0;
    if (!zk__peek(&site, maybe, sizeof site)) return;
    zk__peek_string(name, NAME_BYTES, site.name);
    zk__peek_string(file, NAME_BYTES, site.file);
    *ret_line = site.line;
}

static void report(const zk__runtime *rt, const zk__worker *w, const zk__answer *answer,
                   zk_time held)
{
    char text[REPORT_BYTES], name[NAME_BYTES], file[NAME_BYTES];
    int line;
    site_peek(answer->site, name, file, &line);
    size_t length =
        (size_t)snprintf(text, sizeof text, "zokio: task %s (%s:%d) has held worker %d for %lld ms",
                         name, file, line, w->index, (long long)(held / ZK_MS(1)));
    for (int i = 0; i < answer->frame_count && length < sizeof text; i++) {
        char frame[256];
        zk__frame_describe(answer->frames[i], frame, sizeof frame);
        length += (size_t)snprintf(text + length, sizeof text - length, "\n    #%d %s", i, frame);
    }
    if (rt->config.on_stall) {
        rt->config.on_stall(rt->config.on_stall_context, text);
    } else {
        write_line(NULL, text);
    }
}

static void worker_look(const zk__runtime *rt, zk__worker *w, watched *seen)
{
    progress now = progress_of(w);
    zk_time moment = zk__clock_real();
    if (!is_same(now, seen->last) || atomic_load(&w->is_sleeping)) {
        *seen = (watched){.last = now, .since = moment};
        return;
    }
    zk_time held = moment - seen->since;
    if (seen->is_reported || held < ZK_MS(rt->config.watchdog_ms)) return;
    zk__answer answer;
    if (!zk__ask(w, &answer)) return;
    /* It may have gone on, or to sleep, just before it answered. */
    if (!is_same(progress_of(w), seen->last) || atomic_load(&w->is_sleeping)) return;
    seen->is_reported = true;
    report(rt, w, &answer, held);
}

/* ---- the thread ---- */

static void on_sigquit(int number)
{
    (void)number;
    int saved_errno = errno;
    atomic_fetch_add(&handlers_inside, 1);
    int fd = atomic_load(&sigquit_fd);
    /* Full after 2^64 - 2 of them. */
    if (fd >= 0 && write(fd, &(uint64_t){1}, sizeof(uint64_t)) < 0) errno = saved_errno;
    atomic_fetch_sub(&handlers_inside, 1);
    errno = saved_errno;
}

static void *watch(void *arg)
{
    struct zk__watchdog *dog = arg;
    zk__runtime *rt = dog->runtime;
    int span_ms = rt->config.watchdog_ms / LOOKS;
    if (!rt->config.watchdog_ms) span_ms = -1;
    if (span_ms == 0) span_ms = 1;
    for (;;) {
        struct pollfd p = {.fd = dog->fd, .events = POLLIN};
        int n = poll(&p, 1, span_ms);
        if (atomic_load(&dog->is_stopping)) return NULL;
        uint64_t count;
        if (n > 0 && read(dog->fd, &count, sizeof count) > 0) {
            (void)zk__dump(rt, write_line, NULL);
        }
        for (int i = 0; rt->config.watchdog_ms && i < rt->worker_count; i++)
            worker_look(rt, rt->workers[i], &dog->workers[i]);
    }
}

/* Starts the thread with all signals blocked: those of the program are not for it. */
static int thread_start(struct zk__watchdog *dog)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = -pthread_create(&dog->thread, NULL, watch, dog);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void dog_free(struct zk__watchdog *dog)
{
    if (dog->is_asking) zk__ask_close();
    if (dog->fd >= 0) close(dog->fd);
    free(dog);
}

int zk__watchdog_start(zk__runtime *rt)
{
    if (!rt->config.watchdog_ms && !rt->config.dump_on_sigquit) return 0;
    struct zk__watchdog *dog =
        calloc(1, sizeof *dog + (size_t)rt->worker_count * sizeof *dog->workers);
    if (!dog) return -ENOMEM;
    dog->runtime = rt;
    dog->fd = eventfd(0, EFD_CLOEXEC);
    int rc = dog->fd < 0 ? -errno : 0;
    if (!rc) rc = zk__ask_open();
    if (!rc) dog->is_asking = true;
    if (!rc) rc = thread_start(dog);
    if (rc < 0) {
        dog_free(dog);
        return rc;
    }
    if (rt->config.dump_on_sigquit) {
        atomic_store(&sigquit_fd, dog->fd);
        struct sigaction action = {.sa_handler = on_sigquit, .sa_flags = SA_RESTART | SA_ONSTACK};
        dog->is_on_sigquit = !sigaction(SIGQUIT, &action, &dog->sigquit_before);
    }
    rt->watchdog = dog;
    return 0;
}

void zk__watchdog_stop(zk__runtime *rt)
{
    struct zk__watchdog *dog = rt->watchdog;
    if (!dog) return;
    rt->watchdog = NULL;
    if (dog->is_on_sigquit) {
        sigaction(SIGQUIT, &dog->sigquit_before, NULL);
        atomic_store(&sigquit_fd, -1);
        while (atomic_load(&handlers_inside))
            sched_yield();
    }
    atomic_store(&dog->is_stopping, true);
    /* It fails only if it is full, and then the thread is awake anyway. */
    if (write(dog->fd, &(uint64_t){1}, sizeof(uint64_t)) < 0) sched_yield();
    pthread_join(dog->thread, NULL);
    dog_free(dog);
}
