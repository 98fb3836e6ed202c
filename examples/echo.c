/*
 * A TCP echo server: what a client sends comes back. SIGTERM and SIGINT end it.
 *
 *   echo [ADDR:PORT]      127.0.0.1:7777 if not given
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <zokio/zokio.h>

static int serve(void *arg)
{
    zk_stream *client = *(zk_stream **)arg;
    char buf[16 * 1024];
    ssize_t n;
    int rc = 0;
    while (rc >= 0 && (n = zk_stream_read(client, buf, sizeof buf)) > 0) {
        /* What has been read goes back, even at the end; a client that does not take it is left. */
        ZK_SHIELD {
            ZK_WITHIN(ZK_SEC(5)) {
                rc = zk_stream_write(client, buf, (size_t)n);
            }
        }
    }
    zk_stream_close(client);
    return 0; /* how one client went is no matter for the others */
}

static int accept_all(void *arg)
{
    zk_listener *listener = *(zk_listener **)arg;
    int rc = 0;
    ZK_SCOPE(clients) {
        zk_stream *client;
        while ((rc = zk_accept(listener, &client)) >= 0) {
            if (zk_spawn(&clients, serve, &client) < 0) zk_stream_close(client);
        }
    }
    return rc;
}

/* Runs on a thread of its own. A call that has begun there is waited for, so it is a short one. */
static int signal_wait(void *signals)
{
    int number = sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = 200000000});
    return number < 0 ? 0 : number;
}

typedef struct options {
    const char *listen;
    sigset_t signals;
} options;

static int echo(void *arg)
{
    options *o = arg;
    zk_addr addr;
    zk_listener *listener;
    int rc = zk_addr_parse(o->listen, &addr);
    if (rc >= 0) rc = zk_listen(&addr, NULL, &listener);
    if (rc < 0) return zk_fail(rc, "listening on %s", o->listen);
    ZK_SCOPE(s) {
        rc = zk_spawn(&s, accept_all, &listener);
        while (rc == 0)
            rc = zk_blocking(signal_wait, &o->signals);
        if (rc > 0) zk_scope_cancel(&s);
    }
    zk_listener_close(listener);
    return rc;
}

int main(int argc, char **argv)
{
    options o = {.listen = argc > 1 ? argv[1] : "127.0.0.1:7777"};
    sigemptyset(&o.signals);
    sigaddset(&o.signals, SIGTERM);
    sigaddset(&o.signals, SIGINT);
    sigprocmask(SIG_BLOCK, &o.signals, NULL); /* in all threads: sigtimedwait takes them */
    int rc = zk_run(NULL, echo, &o);
    if (rc < 0) fprintf(stderr, "echo: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
