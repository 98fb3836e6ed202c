/*
 * Sends every datagram back to where it came from, in batches.
 *
 *     udp_echo [ADDR:PORT]      (127.0.0.1:9000)
 */
#include <signal.h>
#include <stdio.h>
#include <zokio/zokio.h>

enum { BATCH = 32, BYTES = 2048 };

static int echo(void *arg)
{
    zk_udp *udp = arg;
    static char buffers[BATCH][BYTES];
    for (;;) {
        zk_datagram datagrams[BATCH];
        for (int i = 0; i < BATCH; i++)
            datagrams[i] = (zk_datagram){.data = buffers[i], .size = BYTES};
        int count = zk_udp_recv_batch(udp, datagrams, BATCH);
        if (count < 0) return count;
        /* What was received says who sent it, which is whom it goes back to. */
        for (int sent = 0; sent < count;) {
            int n = zk_udp_send_batch(udp, datagrams + sent, (size_t)(count - sent));
            if (n < 0) return n;
            sent += n;
        }
    }
}

static int wait_for_signal(void *arg)
{
    zk_signals *signals = arg;
    return zk_signals_next(signals, NULL);
}

static int serve(void *arg)
{
    zk_addr addr;
    zk_udp *udp = NULL;
    zk_signals *signals = NULL;
    char text[ZK_ADDR_TEXT_BYTES];
    int rc = zk_addr_parse(arg, &addr);
    if (rc >= 0) rc = zk_signals_open((const int[]){SIGINT, SIGTERM, 0}, &signals);
    if (rc >= 0) rc = zk_udp_open(&addr, NULL, &udp);
    if (rc >= 0) rc = zk_udp_local(udp, &addr);
    if (rc >= 0) {
        zk_addr_format(&addr, text);
        printf("echoing on %s\n", text);
        fflush(stdout);
        /* Whichever ends first ends the other: a signal, or an error of the socket. */
        rc = zk_race({echo, udp}, {wait_for_signal, signals});
    }
    zk_udp_close(udp);
    zk_signals_close(signals);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = zk_run(&(zk_config){.workers = 1}, serve, argc > 1 ? argv[1] : "127.0.0.1:9000");
    if (rc < 0) fprintf(stderr, "udp_echo: %s\n", zk_strerror(rc));
    return rc < 0;
}
