/*
 * A supervised pool of workers: jobs come through a channel; a worker that fails is started again
 * after a while, a longer one each time, and given up after too many failures. What it was working
 * on goes back to the others. When all jobs are done the pool ends.
 */
#include <errno.h>
#include <stdio.h>
#include <zokio/zokio.h>

enum { JOBS = 40, WORKERS = 3, RESTARTS_MAX = 5 };

typedef struct pool {
    zk_channel *jobs;
    zk_wait_group open; /* jobs that are not done */
    int done, restarts;
} pool;

static pool the_pool;

/* Every seventh job kills its worker, the first time that it is tried. */
static int work(int *job)
{
    int rc = zk_sleep(ZK_US(100));
    if (rc < 0) return rc;
    if (*job % 7 == 0) {
        *job += 1000; /* next time it goes well */
        return -EIO;
    }
    return 0;
}

/* Works until the channel is closed, or something goes wrong. */
static int worker(void *arg)
{
    (void)arg;
    int job, rc;
    while ((rc = zk_channel_recv(the_pool.jobs, &job)) == 0) {
        rc = work(&job);
        if (rc < 0) {
            ZK_SHIELD {
                (void)zk_channel_send(the_pool.jobs, &job);
            }
            return rc;
        }
        the_pool.done++;
        zk_wait_group_done(&the_pool.open);
    }
    return rc == ZK_E_CLOSED ? 0 : rc;
}

static bool count_restart(int rc, void *arg)
{
    (void)arg;
    the_pool.restarts++;
    return rc == -EIO;
}

static int supervise(void *arg)
{
    static const zk_retry_options options = {
        .tries_max = RESTARTS_MAX, .delay = ZK_MS(1), .is_transient = count_restart};
    return zk_retry(&options, worker, arg);
}

static int run(void *arg)
{
    (void)arg;
    int rc = zk_channel_new(sizeof(int), JOBS + WORKERS, &the_pool.jobs);
    if (rc < 0) return rc;
    zk_wait_group_add(&the_pool.open, JOBS);
    for (int job = 1; job <= JOBS && rc == 0; job++)
        rc = zk_channel_send(the_pool.jobs, &job);
    ZK_SCOPE(all) {
        for (int i = 0; i < WORKERS && rc == 0; i++)
            rc = zk_spawn(&all, supervise, NULL);
        if (rc == 0) rc = zk_wait_group_wait(&the_pool.open);
        zk_channel_close(the_pool.jobs); /* the workers end */
        int end = zk_scope_wait(&all);
        if (rc == 0) rc = end;
    }
    zk_channel_free(the_pool.jobs);
    printf("%d jobs done, %d restarts\n", the_pool.done, the_pool.restarts);
    return rc;
}

int main(void)
{
    int rc = zk_run(&(zk_config){.workers = 1}, run, NULL);
    if (rc < 0) fprintf(stderr, "supervisor: %s\n", zk_strerror(rc));
    return rc < 0;
}
