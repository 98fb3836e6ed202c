/*
 * Names the task whose stack has overflowed. A fault inside the guard of the stack in use is
 * reported on stderr, then every fault goes on to what it would have met without us: the default
 * action, with its core file.
 *
 * The handler is installed only where SIGSEGV is at its default: a program, or a sanitizer, that
 * handles it keeps that.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/worker.h"

enum { CRASH_STACK_BYTES = 64 * 1024 };

static bool is_installed;

static void put(const char *text)
{
    /* Nothing can be done about a failure here. */
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void put_number(unsigned long n)
{
    char digits[24], *p = digits + sizeof digits;
    *--p = '\0';
    do {
        *--p = (char)('0' + n % 10);
    } while (n /= 10);
    put(p);
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    zk__worker *w = zk__lane.worker;
    if (w && w->stack && zk__stack_guards(w->stack, info->si_addr)) {
        const zk_site *site = zk__lane.current->site;
        put("zokio: stack overflow in task ");
        put(site->name);
        put(" (");
        put(site->file);
        put(":");
        put_number((unsigned long)site->line);
        put("), which ran on ");
        put_number(w->stack->size / 1024);
        put(" KiB\n");
    }
    /*
     * The faulting instruction runs again, now without a handler. What somebody has sent would not
     * come again.
     */
    signal(signal_number, SIG_DFL);
    if (info->si_code <= 0) raise(signal_number);
}

static void on(int signal_number)
{
    struct sigaction old, action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(signal_number, NULL, &old) || old.sa_handler != SIG_DFL) return;
    is_installed = !sigaction(signal_number, &action, NULL);
}

void zk__crash_report_install(void) { on(SIGSEGV); }

void zk__crash_report_uninstall(void)
{
    if (is_installed) signal(SIGSEGV, SIG_DFL);
    is_installed = false;
}

int zk__crash_stack_open(void **ret_memory)
{
    stack_t old;
    if (!is_installed || sigaltstack(NULL, &old) || !(old.ss_flags & SS_DISABLE)) return -EEXIST;
    void *memory =
        mmap(NULL, CRASH_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -errno;
    if (sigaltstack(&(stack_t){.ss_sp = memory, .ss_size = CRASH_STACK_BYTES}, NULL)) {
        int rc = -errno;
        munmap(memory, CRASH_STACK_BYTES);
        return rc;
    }
    *ret_memory = memory;
    return 0;
}

void zk__crash_stack_close(void *memory)
{
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    munmap(memory, CRASH_STACK_BYTES);
}
