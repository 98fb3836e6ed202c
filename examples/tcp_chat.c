/*
 * A chat room over TCP: each line that somebody types goes to all the others.
 *
 *     tcp_chat [ADDR:PORT]      (127.0.0.1:9100); then: nc 127.0.0.1 9100
 *
 * All lines go through one broadcast. Each client has two tasks: one reads its lines, the other
 * writes those of the rest. Who reads too slowly misses lines, and is told; nobody waits for it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <zokio/zokio.h>

enum { LINE_BYTES = 256, REMEMBERED = 128 };

typedef struct line {
    int from;
    int size;
    char text[LINE_BYTES];
} line;

typedef struct client {
    int number;
    zk_stream *stream;
    zk_subscription lines;
} client;

static zk_broadcast *room;
static int clients;

static int write_lines(void *arg)
{
    client *c = arg;
    line l;
    uint64_t missed;
    int rc;
    while ((rc = zk_broadcast_recv(&c->lines, &l, &missed)) == 0) {
        char text[64];
        int size = snprintf(text, sizeof text, "(%d lines missed)\n", (int)missed);
        if (missed) rc = zk_stream_write(c->stream, text, (size_t)size);
        if (rc == 0 && l.from != c->number) {
            rc = zk_stream_write(c->stream, l.text, (size_t)l.size);
        }
        if (rc < 0) break;
    }
    return rc;
}

static void say(int from, const char *text, size_t size)
{
    line l = {.from = from};
    l.size = snprintf(l.text, sizeof l.text, "%d: %.*s\n", from, (int)size, text);
    if (l.size >= LINE_BYTES) l.size = LINE_BYTES - 1;
    zk_broadcast_send(room, &l);
}

static int read_lines(void *arg)
{
    client *c = arg;
    char buf[LINE_BYTES - 16];
    size_t have = 0;
    ssize_t n;
    while ((n = zk_stream_read(c->stream, buf + have, sizeof buf - have)) > 0) {
        have += (size_t)n;
        char *end;
        while ((end = memchr(buf, '\n', have))) {
            size_t size = (size_t)(end - buf);
            say(c->number, buf, size);
            have -= size + 1;
            memmove(buf, end + 1, have);
        }
        if (have == sizeof buf) have = 0; /* too long for a line: it is dropped */
    }
    return (int)n;
}

static int serve_client(void *arg)
{
    client c = {.number = ++clients, .stream = arg};
    zk_broadcast_subscribe(room, &c.lines);
    say(c.number, "joined", 6);
    zk_race({read_lines, &c}, {write_lines, &c});
    zk_stream_close(c.stream);
    say(c.number, "left", 4);
    return 0;
}

static int accept_clients(void *arg)
{
    zk_listener *listener = arg;
    int rc = 0;
    ZK_SCOPE(all) {
        zk_stream *stream;
        while ((rc = zk_accept(listener, &stream)) == 0) {
            if (zk_spawn(&all, serve_client, stream) < 0) zk_stream_close(stream);
        }
    }
    return rc;
}

static int wait_for_signal(void *arg) { return zk_signals_next(arg, NULL); }

static int run(void *arg)
{
    zk_addr addr;
    zk_listener *listener = NULL;
    zk_signals *signals = NULL;
    char text[ZK_ADDR_TEXT_BYTES];
    int rc = zk_addr_parse(arg, &addr);
    if (rc >= 0) rc = zk_signals_open((const int[]){SIGINT, SIGTERM, 0}, &signals);
    if (rc >= 0) rc = zk_broadcast_new(sizeof(line), REMEMBERED, &room);
    if (rc >= 0) rc = zk_listen(&addr, NULL, &listener);
    if (rc >= 0) rc = zk_listener_addr(listener, &addr);
    if (rc >= 0) {
        zk_addr_format(&addr, text);
        printf("chatting on %s\n", text);
        fflush(stdout);
        rc = zk_race({accept_clients, listener}, {wait_for_signal, signals});
    }
    zk_listener_close(listener);
    zk_broadcast_free(room);
    zk_signals_close(signals);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = zk_run(&(zk_config){.workers = 1}, run, argc > 1 ? argv[1] : "127.0.0.1:9100");
    if (rc < 0) fprintf(stderr, "tcp_chat: %s\n", zk_strerror(rc));
    return rc < 0;
}
