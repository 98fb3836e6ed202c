/*
 * Asking a worker's thread: see ask.h.
 *
 *   IDLE --asker, signal--> ASKED --handler--> WRITING --handler--> WRITTEN --asker--> IDLE
 *                             \--asker, has waited long enough--> IDLE
 *
 * One question at a time. The handler reads its own thread's state and nothing else, so it may come
 * at any moment; a question that was given up leaves a signal that finds nothing to answer.
 */
#include "core/ask.h"

#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

enum { IDLE, ASKED, WRITING, WRITTEN };
enum { PATIENCE_MS = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of who asks */
static int signal_number;                                /* 0: none */
static struct sigaction before;
static sem_t written;
static atomic_int state;
static zk__worker *_Atomic asked;
static zk__answer answer;

static void registers(const ucontext_t *at, void **ret_pc, void **ret_frame)
{
#if defined(__x86_64__)
    *ret_pc = (void *)at->uc_mcontext.gregs[REG_RIP];
    *ret_frame = (void *)at->uc_mcontext.gregs[REG_RBP];
#else
    *ret_pc = (void *)at->uc_mcontext.pc;
    *ret_frame = (void *)at->uc_mcontext.regs[29];
#endif
}

static void on_ask(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    zk__worker *w = zk__lane.worker;
    int wanted = ASKED;
    if (!w || w != atomic_load(&asked) ||
        !atomic_compare_exchange_strong(&state, &wanted, WRITING)) {
        return;
    }
    int saved_errno = errno;
    const zk__stack *stack = w->stack;
    zk__stack_span span = {NULL, NULL};
    if (stack && stack->base) span = (zk__stack_span){stack->base, stack->base + stack->size};
    void *pc, *frame;
    registers(context, &pc, &frame);
    answer.task = zk__lane.current;
    answer.is_in_task = answer.task != &w->root_task;
    answer.site = answer.task->site;
    answer.frame_count = zk__frames_walk(pc, frame, span, answer.frames);
    atomic_store(&state, WRITTEN);
    sem_post(&written);
    errno = saved_errno;
}

int zk__ask_open(void)
{
    for (int number = SIGRTMAX - 1; number > SIGRTMIN; number--) {
        struct sigaction action = {
            .sa_sigaction = on_ask,
            .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK,
        };
        sigfillset(&action.sa_mask);
        if (sigaction(number, NULL, &before)) return -errno;
        if (before.sa_flags & SA_SIGINFO || before.sa_handler != SIG_DFL) continue;
        if (sem_init(&written, 0, 0) || sigaction(number, &action, NULL)) return -errno;
        signal_number = number;
        return 0;
    }
    return -EBUSY;
}

void zk__ask_close(void)
{
    pthread_mutex_lock(&lock);
    /* Ignored and not put back to its default, which would end the process if one is on its way. */
    if (signal_number) signal(signal_number, SIG_IGN);
    if (signal_number) sigaction(signal_number, &before, NULL);
    signal_number = 0;
    pthread_mutex_unlock(&lock);
}

bool zk__ask(zk__worker *w, zk__answer *ret_answer)
{
    pthread_mutex_lock(&lock);
    bool is_answered = false;
    if (signal_number) {
        atomic_store(&asked, w);
        atomic_store(&state, ASKED);
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_nsec += PATIENCE_MS * 1000000L;
        end.tv_sec += end.tv_nsec / 1000000000L;
        end.tv_nsec %= 1000000000L;
        int rc = pthread_kill(w->thread, signal_number);
        while (!rc && sem_timedwait(&written, &end))
            rc = errno == EINTR ? 0 : errno;
        int unanswered = ASKED;
        if (rc && !atomic_compare_exchange_strong(&state, &unanswered, IDLE)) {
            /* The handler is at it after all. */
            while (sem_wait(&written))
                continue;
            rc = 0;
        }
        is_answered = !rc;
        if (is_answered) *ret_answer = answer;
        atomic_store(&state, IDLE);
    }
    pthread_mutex_unlock(&lock);
    return is_answered;
}
