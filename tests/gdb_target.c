/*
 * What tests/gdb looks into: a task that sleeps, one that waits for a mutex which the first task
 * holds, two that wait in a channel and a rendezvous, one that has not started, and a stop.
 */
#include <stdio.h>
#include <stdlib.h>

#include <zokio/channel.h>
#include <zokio/sync.h>
#include <zokio/task.h>

static zk_mutex mutex;
static zk_channel *full, *quiet;

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

static int send_two(void *arg)
{
    (void)arg;
    int item = 0, rc = zk_channel_send(full, &item);
    return rc < 0 ? rc : zk_channel_send(full, &item);
}

static int receive_one(void *arg)
{
    (void)arg;
    int item;
    return zk_channel_recv(quiet, &item);
}

void stop_here(void);
__attribute__((noinline)) void stop_here(void) { puts("here"); }

static int run(void *arg)
{
    int rc = zk_channel_new(sizeof(int), 1, &full), item = 0;
    if (!rc) rc = zk_channel_new(sizeof(int), 0, &quiet);
    if (!rc) rc = zk_mutex_lock(&mutex);
    if (rc < 0) return rc;
    (void)zk_channel_try_send(quiet, &item);
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, sleep_long, NULL);
        if (!rc) rc = zk_spawn(&s, lock_it, NULL);
        if (!rc) rc = zk_spawn(&s, send_two, NULL);
        if (!rc) rc = zk_spawn(&s, receive_one, NULL);
        if (!rc) rc = zk_yield();
        if (!rc) rc = zk_spawn(&s, sleep_long, NULL);
        stop_here();
        if (*(bool *)arg) abort();
        zk_mutex_unlock(&mutex);
        zk_scope_cancel(&s);
    }
    zk_channel_free(full);
    zk_channel_free(quiet);
    return rc;
}

/* gdb-target [abort] */
int main(int argc, char **argv)
{
    (void)argv;
    bool is_to_abort = argc > 1;
    return zk_run(&(zk_config){.workers = 1}, run, &is_to_abort) ? 1 : 0;
}
