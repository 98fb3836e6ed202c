/*
 * Signals: one handler for all, which writes a record to the pipe of each listener.
 *
 *   kernel --any thread--> on_signal --for each slot that wants it--> pipe --poller--> task
 *
 * The handler runs on whatever thread the kernel picks, maybe in the middle of anything, so it only
 * reads atomics and writes. signalfd would want the signals blocked in every thread, those of the
 * program that are not ours too.
 *
 * A record is smaller than PIPE_BUF, so it is written whole or not at all. If the pipe is full, the
 * signal is noted in `missed`, and a record without a number is tried: either that arrives, or the
 * pipe was still full after the note, and the reader comes by when it has emptied it. So a signal
 * may be merged with others of its number, as the kernel does too, but never lost.
 *
 * A slot's descriptor is closed when no handler is inside any more that may have read it.
 */
#include <zokio/signal.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/budget.h"
#include "core/poller.h"

enum { NUMBERS = 65 }; /* 1..64 */

typedef struct slot {
    _Atomic uint64_t wanted; /* bit n - 1: signal n; 0: free */
    _Atomic uint64_t missed;
    atomic_int fd; /* to write to */
} slot;

struct zk_signals {
    zk__io io; /* to read from */
    zk__worker *worker;
    slot *slot;
    uint64_t wanted;
};

static slot slots[ZK_SIGNALS_MAX];
static atomic_int handlers_inside;
static atomic_int owner; /* whose slots these are: not a child's after fork */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the next two, and of free slots */
static int listeners[NUMBERS];
static struct sigaction before[NUMBERS];

static uint64_t bit_of(int number) { return UINT64_C(1) << (number - 1); }

/* ---- the handler ---- */

/* returns whether the pipe had room. */
static bool record_write(int fd, const zk_signal_info *info)
{
    ssize_t n;
    do {
        n = write(fd, info, sizeof *info);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

static void on_signal(int number, siginfo_t *from, void *context)
{
    (void)context;
    if (atomic_load(&owner) != getpid()) return;
    int saved_errno = errno;
    zk_signal_info info = {.number = number, .code = from->si_code};
    int code = from->si_code;
    if (code == SI_USER || code == SI_QUEUE || code == SI_TKILL || number == SIGCHLD) {
        info.pid = from->si_pid;
        info.uid = from->si_uid;
    }
    if (number == SIGCHLD) info.status = from->si_status;
    if (code == SI_QUEUE) info.value = from->si_value.sival_int;
    atomic_fetch_add(&handlers_inside, 1);
    for (slot *s = slots; s < slots + ZK_SIGNALS_MAX; s++) {
        if (!(atomic_load(&s->wanted) & bit_of(number))) continue;
        int fd = atomic_load(&s->fd);
        if (record_write(fd, &info)) continue;
        atomic_fetch_or(&s->missed, bit_of(number));
        (void)record_write(fd, &(zk_signal_info){0});
    }
    atomic_fetch_sub(&handlers_inside, 1);
    errno = saved_errno;
}

/* ---- who listens ---- */

/* The lock is held. */
static int listener_add(int number)
{
    if (listeners[number]++) return 0;
    /* On the alternate stack where there is one: it may come while a task's stack is nearly full.
     */
    struct sigaction action = {
        .sa_sigaction = on_signal,
        .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK,
    };
    sigfillset(&action.sa_mask);
    if (!sigaction(number, &action, &before[number])) return 0;
    listeners[number] = 0;
    return -errno;
}

/* The lock is held. */
static void listener_remove(int number)
{
    if (--listeners[number] == 0) sigaction(number, &before[number], NULL);
}

static int listeners_add(uint64_t wanted)
{
    uint64_t added = 0;
    for (int number = 1; number < NUMBERS; number++) {
        if (!(wanted & bit_of(number))) continue;
        int rc = listener_add(number);
        if (!rc) {
            added |= bit_of(number);
            continue;
        }
        for (int n = 1; n < number; n++)
            if (added & bit_of(n)) listener_remove(n);
        return rc;
    }
    return 0;
}

/* In a child after fork everything is the parent's, and its handlers write nothing. The lock is
 * held. */
static void own(void)
{
    int pid = getpid();
    if (atomic_load(&owner) == pid) return;
    for (slot *s = slots; s < slots + ZK_SIGNALS_MAX; s++)
        atomic_store(&s->wanted, 0);
    for (int number = 1; number < NUMBERS; number++) {
        if (!listeners[number]) continue;
        listeners[number] = 0;
        sigaction(number, &before[number], NULL);
    }
    atomic_store(&handlers_inside, 0);
    atomic_store(&owner, pid);
}

static slot *slot_take(int fd, uint64_t wanted)
{
    own();
    for (slot *s = slots; s < slots + ZK_SIGNALS_MAX; s++) {
        if (atomic_load(&s->wanted)) continue;
        atomic_store(&s->missed, 0);
        atomic_store(&s->fd, fd);
        atomic_store(&s->wanted, wanted); /* last: the handler may look from now on */
        return s;
    }
    return NULL;
}

/* Numbers are added once the slot listens, so that none that comes in between is lost. */
static int attach(zk_signals *signals, int fd)
{
    pthread_mutex_lock(&lock);
    int rc = ZK_E_LIMIT;
    signals->slot = slot_take(fd, signals->wanted);
    if (signals->slot) {
        rc = listeners_add(signals->wanted);
        if (rc < 0) atomic_store(&signals->slot->wanted, 0);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void detach(zk_signals *signals)
{
    pthread_mutex_lock(&lock);
    for (int number = 1; number < NUMBERS; number++)
        if (signals->wanted & bit_of(number)) listener_remove(number);
    int fd = atomic_load(&signals->slot->fd);
    atomic_store(&signals->slot->wanted, 0);
    while (atomic_load(&handlers_inside))
        sched_yield(); /* it only writes to pipes that do not block */
    close(fd);
    pthread_mutex_unlock(&lock);
}

/* ---- the public functions ---- */

/* returns 0, -EINVAL. */
static int numbers_parse(const int *numbers, uint64_t *ret_wanted)
{
    static const int refused[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,
                                  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS};
    uint64_t wanted = 0;
    for (; *numbers; numbers++) {
        if (*numbers < 1 || *numbers >= NUMBERS) return -EINVAL;
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (*numbers == refused[i]) return -EINVAL;
        wanted |= bit_of(*numbers);
    }
    if (!wanted) return -EINVAL;
    *ret_wanted = wanted;
    return 0;
}

int zk_signals_open(const int *numbers, zk_signals **ret_signals)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    uint64_t wanted;
    int rc = numbers_parse(numbers, &wanted), ends[2];
    if (rc < 0) return rc;
    zk_signals *signals = zk_alloc_zeroed(sizeof *signals);
    if (!signals) return -ENOMEM;
    signals->wanted = wanted;
    rc = pipe2(ends, O_CLOEXEC | O_NONBLOCK) ? -errno : 0;
    if (!rc) {
        rc = attach(signals, ends[1]);
        if (rc < 0) {
            close(ends[0]);
            close(ends[1]);
        }
    }
    if (rc < 0) {
        zk_free(signals);
        return rc;
    }
    zk__io_init(&signals->io, ends[0], 0);
    zk__leak_name(signals, "signal stream", ends[0]);
    zk__bind_to_worker();
    *ret_signals = signals;
    return 0;
}

/* Takes one of the signals that the pipe had no room for. returns its number, 0. */
static int missed_take(zk_signals *signals)
{
    uint64_t missed = atomic_load(&signals->slot->missed);
    if (!missed) return 0;
    int number = __builtin_ctzll(missed) + 1;
    atomic_fetch_and(&signals->slot->missed, ~bit_of(number));
    return number;
}

int zk_signals_next(zk_signals *signals, zk_signal_info *ret_info)
{
    zk__worker *self = zk__worker_self();
    if (!self) return ZK_E_NO_RUNTIME;
    if (!signals->worker) signals->worker = self;
    if (signals->worker != self) return ZK_E_WORKER;
    int rc = zk__spend();
    if (rc < 0) return rc;
    for (;;) {
        zk_signal_info info = {0};
        zk__op op = {
            .code = ZK__OP_READ,
            .io = &signals->io,
            .buf = &info,
            .size = sizeof info,
        };
        ssize_t n = self->poller.ops->attempt(&self->poller, &op);
        if (n == -EAGAIN) {
            info.number = missed_take(signals);
            if (!info.number) n = zk__op_run(&op);
        }
        if (n < 0 && n != -EAGAIN) return (int)n;
        if (!info.number) continue; /* some were missed: they are behind what the pipe holds */
        if (ret_info) *ret_info = info;
        return info.number;
    }
}

void zk_signals_close(zk_signals *signals)
{
    if (!signals) return;
    zk__worker *self = zk__worker_self();
    if (signals->worker && signals->worker != self) {
        zk__panic("zk_signals_close on another worker than the one that has waited on it");
    }
    detach(signals);
    self->poller.ops->forget(&self->poller, &signals->io);
    zk_free(signals);
}
