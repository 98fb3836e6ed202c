/*
 * What tests/gdb looks into: a task that sleeps, one that waits for a mutex which the first task
 * holds, one that has not started, and a stop.
 */
#include <stdio.h>
#include <stdlib.h>

#include <zokio/sync.h>
#include <zokio/task.h>

static zk_mutex mutex;

static int sleep_long(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_SEC(100));
}

static int lock_it(void *arg)
{
    (void)arg;
    int rc = zk_mutex_lock(&mutex);
    if (!rc) zk_mutex_unlock(&mutex);
    return rc;
}

void stop_here(void);
__attribute__((noinline)) void stop_here(void) { puts("here"); }

static int run(void *arg)
{
    int rc = zk_mutex_lock(&mutex);
    if (rc < 0) return rc;
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, sleep_long, NULL);
        if (!rc) rc = zk_spawn(&s, lock_it, NULL);
        if (!rc) rc = zk_yield();
        if (!rc) rc = zk_spawn(&s, sleep_long, NULL);
        stop_here();
        if (*(bool *)arg) abort();
        zk_mutex_unlock(&mutex);
        zk_scope_cancel(&s);
    }
    return rc;
}

/* gdb-target [abort] */
int main(int argc, char **argv)
{
    (void)argv;
    bool is_to_abort = argc > 1;
    return zk_run(&(zk_config){.workers = 1}, run, &is_to_abort) ? 1 : 0;
}
