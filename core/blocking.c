/*
 * The blocking pool: threads that run what may block, for tasks of all workers.
 *
 *   QUEUED --a thread takes it--> RUNNING --returns--> message to the worker --> the task goes on
 *      \--cancelled--> taken back
 *
 * Threads are started as calls pile up, up to the limit, and leave after ten idle seconds.
 * Everything is behind one mutex: next to what a blocking call costs, that is nothing.
 */
#include <errno.h>
#include <time.h>

#include "core/sim.h"
#include "core/task.h"

enum { IDLE_SECONDS = 10 };

typedef struct job {
    zk__msg msg;
    zk__wait wait;
    struct job *next, **link; /* in the queue; link is NULL once a thread has it */
    zk_fn *fn;
    void *arg;
    int rc;
    char *trail; /* what has been said about that */
    zk__worker *worker;
} job;

typedef struct zk__blocking {
    pthread_mutex_t lock;
    pthread_cond_t has_jobs, has_no_threads;
    job *first, **last;
    int job_count, thread_count, idle_count, threads_max;
    bool is_stopping;
    const cpu_set_t *cpus; /* where its threads may run; NULL: as their maker */
} zk__blocking;

static pthread_mutex_t creation = PTHREAD_MUTEX_INITIALIZER;

static void on_done(zk__msg *msg)
{
    job *j = (job *)(void *)msg;
    zk__wait_end(&j->wait, 0);
}

static job *job_take(zk__blocking *b)
{
    job *j = b->first;
    b->first = j->next;
    if (j->next) {
        j->next->link = &b->first;
    } else {
        b->last = &b->first;
    }
    j->link = NULL;
    b->job_count--;
    return j;
}

/* Waits for a job. returns false when the thread should leave. The lock is held. */
static bool job_wait(zk__blocking *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    b->idle_count++;
    int rc = 0;
    while (!b->first && !b->is_stopping && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&b->has_jobs, &b->lock, &until);
    }
    b->idle_count--;
    return b->first != NULL;
}

static void *thread_main(void *arg)
{
    zk__blocking *b = arg;
    pthread_mutex_lock(&b->lock);
    while (b->first || job_wait(b)) {
        job *j = job_take(b);
        pthread_mutex_unlock(&b->lock);
        j->rc = j->fn(j->arg);
        zk__trail_export(j->rc, j->trail);
        zk__post(j->worker, &j->msg); /* the job is in its task's frame: gone from here on */
        pthread_mutex_lock(&b->lock);
    }
    if (--b->thread_count == 0) pthread_cond_signal(&b->has_no_threads);
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static zk__blocking *pool_new(int threads_max)
{
    zk__blocking *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->has_jobs, &monotonic);
    pthread_cond_init(&b->has_no_threads, NULL);
    pthread_condattr_destroy(&monotonic);
    b->last = &b->first;
    b->threads_max = threads_max;
    return b;
}

static zk__blocking *pool_of(zk__runtime *rt)
{
    pthread_mutex_lock(&creation);
    if (!rt->blocking) rt->blocking = pool_new(rt->config.blocking_threads_max);
    zk__blocking *b = rt->blocking;
    if (b && rt->is_pinned_to_cpus) b->cpus = &rt->cpus_allowed;
    pthread_mutex_unlock(&creation);
    return b;
}

/* One more thread, if jobs wait and the limit allows. returns 0, -EAGAIN. The lock is held. */
static int thread_add(zk__blocking *b)
{
    if (b->job_count <= b->idle_count || b->thread_count >= b->threads_max) return 0;
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    /* A pinned worker's thread would hand its one CPU on. */
    if (b->cpus) pthread_attr_setaffinity_np(&detached, sizeof *b->cpus, b->cpus);
    int rc = pthread_create(&thread, &detached, thread_main, b);
    pthread_attr_destroy(&detached);
    if (!rc) b->thread_count++;
    /* With other threads there the job will have its turn. */
    return rc && !b->thread_count ? -EAGAIN : 0;
}

/* The lock is held. */
static void job_remove(zk__blocking *b, job *j)
{
    *j->link = j->next;
    if (j->next) {
        j->next->link = j->link;
    } else {
        b->last = j->link;
    }
    j->link = NULL;
    b->job_count--;
}

static void job_cancel(zk__wait *wait)
{
    job *j = (job *)(void *)((char *)wait - offsetof(job, wait));
    zk__blocking *b = j->worker->runtime->blocking;
    pthread_mutex_lock(&b->lock);
    bool is_mine = j->link != NULL;
    if (is_mine) job_remove(b, j);
    pthread_mutex_unlock(&b->lock);
    if (is_mine) zk__wait_end(wait, -ECANCELED);
}

int zk_blocking(zk_fn *fn, void *arg)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    if (ZK_UNLIKELY(zk__sim_current != NULL)) return zk__sim_blocking(fn, arg);
    zk__worker *w = zk__lane.worker;
    zk__blocking *b = pool_of(w->runtime);
    if (!b) return -ENOMEM;
    static const zk__wait_kind kind = {.name = "blocking call"};
    char text[ZK__TRAIL_BYTES];
    job j = {.msg.run = on_done,
             .wait.cancel = job_cancel,
             .wait.kind = &kind,
             .fn = fn,
             .arg = arg,
             .trail = text,
             .worker = w};
    pthread_mutex_lock(&b->lock);
    j.link = b->last;
    *b->last = &j;
    b->last = &j.next;
    b->job_count++;
    rc = thread_add(b);
    if (rc < 0) {
        job_remove(b, &j);
    } else {
        pthread_cond_signal(&b->has_jobs);
    }
    pthread_mutex_unlock(&b->lock);
    if (rc < 0) return rc;
    ssize_t ended = zk__wait_for(&j.wait);
    if (ended < 0) return (int)ended;
    zk__trail_import(j.rc, text);
    return j.rc;
}

int zk__blocking_threads(zk__runtime *rt)
{
    pthread_mutex_lock(&creation);
    zk__blocking *b = rt->blocking;
    pthread_mutex_unlock(&creation);
    if (!b) return 0;
    pthread_mutex_lock(&b->lock);
    int count = b->thread_count;
    pthread_mutex_unlock(&b->lock);
    return count;
}

void zk__blocking_stop(zk__runtime *rt)
{
    zk__blocking *b = rt->blocking;
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->is_stopping = true;
    pthread_cond_broadcast(&b->has_jobs);
    while (b->thread_count)
        pthread_cond_wait(&b->has_no_threads, &b->lock);
    pthread_mutex_unlock(&b->lock);
    pthread_cond_destroy(&b->has_jobs);
    pthread_cond_destroy(&b->has_no_threads);
    pthread_mutex_destroy(&b->lock);
    free(b);
    rt->blocking = NULL;
}
