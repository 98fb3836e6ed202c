/*
 * The slow side of guards: the first to come, revocation, the spinlock.
 */
#include "core/guard.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/switch.h"

/*
 * Spinning pays while the holder runs; when it has lost its processor, ours is the one it needs.
 * Who finds a guard taken stays away for a while: so its holder enters it many times before the
 * cache line changes sides. (A channel between two workers: 46 ns an item, 180 ns with 1 pause.)
 */
enum { SPINS_MAX = 200, PAUSES = 128, ROUNDS_MAX = 16 };

static char revoking, shared; /* their addresses are values of zk__guard.bias */
static bool may_bias;

static long barrier_everywhere(int command) { return syscall(SYS_membarrier, command, 0, 0); }

void zk__guards_init(void)
{
#if ZK__TSAN
    may_bias = false; /* it knows nothing of membarrier */
#else
    if (!may_bias) {
        may_bias = barrier_everywhere(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
    }
#endif
}

static inline void processor_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static inline void relax(unsigned *spins)
{
    if (++*spins % SPINS_MAX == 0) {
        sched_yield();
    } else {
        processor_pause();
    }
}

/* The bias has been taken from its owner by this thread. */
static void bias_revoke(zk__guard *guard)
{
    unsigned spins = 0;
    barrier_everywhere(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    while (__atomic_load_n(&guard->is_busy, __ATOMIC_ACQUIRE))
        relax(&spins);
    __atomic_store_n(&guard->bias, (void *)&shared, __ATOMIC_RELEASE);
}

static void lock(zk__guard *guard)
{
    unsigned rounds = 0;
    while (__atomic_exchange_n(&guard->is_locked, true, __ATOMIC_ACQUIRE)) {
        do {
            for (int i = 0; i < PAUSES; i++)
                processor_pause();
            if (++rounds % ROUNDS_MAX == 0) sched_yield();
        } while (__atomic_load_n(&guard->is_locked, __ATOMIC_RELAXED));
    }
}

void zk__guard_enter_slow(zk__guard *guard)
{
    zk__worker *self = zk__lane.worker;
    unsigned spins = 0;
    for (;;) {
        void *bias = __atomic_load_n(&guard->bias, __ATOMIC_ACQUIRE);
        if (bias == &shared) {
            lock(guard);
            return;
        }
        if (bias == &revoking) {
            relax(&spins);
            continue;
        }
        void *to = bias ? (void *)&revoking : self && may_bias ? (void *)self : (void *)&shared;
        if (!__atomic_compare_exchange_n(&guard->bias, &bias, to, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            continue;
        }
        if (to == &revoking) {
            bias_revoke(guard);
        } else if (to == (void *)self) {
            zk__guard_enter(guard);
            return;
        }
    }
}
