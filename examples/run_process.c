/*
 * Runs a program under a time limit and tells what has become of it:
 *
 *     run_process MILLISECONDS PROGRAM [ARGUMENT...]
 *
 * What it writes is passed on line by line, numbered. SIGINT and SIGTERM end it, not us.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zokio/process.h>
#include <zokio/signal.h>
#include <zokio/task.h>

typedef struct order {
    zk_time limit;
    const char *const *argv;
} order;

/* Numbers the lines as they come. */
static int pass_on(void *arg)
{
    char buf[4096];
    ssize_t n;
    int line = 1;
    bool is_at_start = true;
    while ((n = zk_stream_read(arg, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (is_at_start) printf("%3d  ", line++);
            putchar(buf[i]);
            is_at_start = buf[i] == '\n';
        }
        fflush(stdout);
    }
    return (int)n;
}

typedef struct stopper {
    zk_signals *signals;
    zk_process *process;
} stopper;

static int pass_signals_on(void *arg)
{
    stopper *s = arg;
    for (;;) {
        int number = zk_signals_next(s->signals, NULL);
        if (number < 0) return number;
        zk_process_signal(s->process, number);
    }
}

static int attend(zk_process *process, zk_signals *signals, zk_time limit, zk_process_exit *end)
{
    int rc = 0;
    stopper s = {signals, process};
    ZK_SCOPE(helpers) {
        rc = zk_spawn(&helpers, pass_signals_on, &s);
        ZK_WITHIN(limit) {
            if (rc >= 0) rc = pass_on(zk_process_stdout(process));
            if (rc >= 0) rc = zk_process_wait(process, end);
        }
        zk_scope_cancel(&helpers);
    }
    if (rc < 0) zk_process_stop(process, ZK_MS(500), end);
    return rc;
}

static int run(void *arg)
{
    order *o = arg;
    zk_process *process;
    zk_signals *signals;
    zk_process_exit end = {0};
    zk_process_options options = {
        .argv = o->argv,
        .out = {.kind = ZK_STDIO_PIPE},
        .err = {.kind = ZK_STDIO_MERGE},
        .has_own_group = true,
    };
    int rc = zk_signals_open((int[]){SIGINT, SIGTERM, 0}, &signals);
    if (rc < 0) return rc;
    rc = zk_process_spawn(&options, &process);
    if (rc < 0) {
        zk_signals_close(signals);
        return zk_fail(rc, "%s", o->argv[0]);
    }
    rc = attend(process, signals, o->limit, &end);
    zk_process_close(process);
    zk_signals_close(signals);
    if (rc == -ETIMEDOUT) printf("it was too slow\n");
    if (end.signal)
        printf("ended by signal %d (%s)\n", end.signal, strsignal(end.signal));
    else
        printf("exit code %d\n", end.code);
    return rc == -ETIMEDOUT ? 0 : rc;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: run_process MILLISECONDS PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    order o = {.limit = ZK_MS(atoi(argv[1])), .argv = (const char *const *)argv + 2};
    int rc = zk_run(NULL, run, &o);
    if (rc < 0) fprintf(stderr, "run_process: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
