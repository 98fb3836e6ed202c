/*
 * Waiting: how a task is suspended, made ready again, and found by cancellation.
 */
#ifndef ZOKIO_CORE_WAIT_H
#define ZOKIO_CORE_WAIT_H

#include <sys/types.h>

#include <zokio/task.h>

typedef struct zk__wait zk__wait;
struct zk__guard;

/* What is known of a wait beside its kind. Names of tasks are left to whoever writes it down: where
 * the text has a ZK__DETAIL_SITE belongs the next of the sites, which may be gone. */
enum { ZK__DETAIL_BYTES = 160, ZK__DETAIL_SITES = 4, ZK__DETAIL_SITE = '\x01' };
typedef struct zk__wait_detail {
    char text[ZK__DETAIL_BYTES];
    const zk_site *sites[ZK__DETAIL_SITES];
    int site_count;
} zk__wait_detail;

/* Adds to the text; what does not fit is cut. */
void zk__detail_add(zk__wait_detail *detail, const char *format, ...) ZK_PRINTF(2, 3);
/* Adds the task that was started there. */
void zk__detail_add_site(zk__wait_detail *detail, const zk_site *site);

/* What kind of thing a task waits for; for dumps. */
typedef struct zk__wait_kind {
    const char *name; /* "sleep", "channel receive" */
    /* Only what a task does ends it (or a thread, through a function for any thread), if not a
     * deadline. */
    bool is_by_tasks;
    /* NULL, or: adds what else is known of it. On the waiting task's worker. */
    void (*describe)(const zk__wait *wait, zk__wait_detail *detail);
    /* NULL, or: the task that has to act before the wait can end, and its site; NULL if there is
     * none. On the waiting task's worker; the task is only to be compared, for it may be over. */
    zk_task *(*holder)(const zk__wait *wait, const zk_site **ret_site);
    /* NULL, or: a task has left the line of this guard's object by cancellation. For waits in line,
     * see waiter.h; the guard is held. */
    void (*on_leave)(struct zk__guard *guard);
} zk__wait_kind;

/* What a task is suspended on. Lies in the frame of the function that waits. */
struct zk__wait {
    zk__wait *next, **link; /* in the scope's list */
    zk_task *task;
    /* asked to end early: sees to it that zk__wait_end is called, now or soon */
    void (*cancel)(zk__wait *);
    ssize_t result;
    zk_time since;             /* when it began, for dumps */
    const zk__wait_kind *kind; /* NULL: not said */
};

/*
 * Suspends the current task until zk__wait_end(wait). With a `cancel` the wait ends early when the
 * scope is cancelled; without one it does not. Must be preceded by a successful zk__wait_begin.
 * returns what zk__wait_end was given; -ECANCELED becomes the scope's own reason.
 */
ssize_t zk__wait_for(zk__wait *wait);

/* As zk__wait_begin, for waits that cancellation does not cut short: makes sure of a stack, if need
 * be by blocking. */
void zk__wait_begin_always(void);

/* zk_sleep for who waits for memory to come back: it does not fail for the lack of it. returns 0,
 * -ECANCELED, -ETIMEDOUT. */
int zk__pause(zk_time span);

/* Waits for a moment of zk__clock. Suspends sometimes: not if it has come. returns the moment that
 * it is then; -ECANCELED, -ETIMEDOUT, -ENOMEM. */
zk_time zk__sleep_until(zk_time moment);

/* Ends a wait: the task is made ready. Only on the task's worker. */
void zk__wait_end(zk__wait *wait, ssize_t result);

/*
 * Calls `fn(context)` once, on the worker's loop's behalf, if the current task (or one that it
 * awaits in place) suspends. For work put off in the hope that the task will not. NULL takes it
 * back.
 */
void zk__on_suspend(void (*fn)(void *context), void *context);

#endif
