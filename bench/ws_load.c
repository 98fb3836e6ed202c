/*
 * Load for echo servers, and the floor that they are measured against. Owes nothing to the library.
 *
 *   ws_load echo PORT                 a bare TCP echo: epoll, one thread, one buffer
 *   ws_load ws|tcp PORT CONNECTIONS SECONDS BYTES PER_SEGMENT [PATH]
 *                                     prints how many messages were echoed
 *   ws_load fan PORT                  what comes on a connection is sent to all, one send each;
 *                                     a byte says that it belongs to all
 *   ws_load publish-ws|publish-tcp PORT CONNECTIONS SECONDS BYTES PER_SEGMENT [PATH]
 *                                     prints "ready" when all are connected, waits for a line,
 *                                     and prints how many messages were delivered
 *
 * As ws each connection opens a WebSocket at PATH, /ws if not given, and sends messages of so many
 * bytes, masked with a key of zeros; as tcp it sends as many bytes as these frames have. So many
 * messages leave in one segment, and the next when all have come back. To publish, the first
 * connection sends texts, and the next when all connections have got them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER_BYTES = 256 * 1024, FAN_MAX = 100000 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(const char *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons((uint16_t)atoi(port));
    return addr;
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EAGAIN) continue;
        if (n < 0) die("write");
        data += n;
        size -= (size_t)n;
    }
}

/* ---- the floor ---- */

/* Everybody that is connected, for who sends to all. */
static int all[FAN_MAX], all_count;

static void send_to_all(const char *data, size_t size)
{
    for (int i = 0; i < all_count; i++) {
        if (send(all[i], data, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
    }
}

static void forget(int fd)
{
    for (int i = 0; i < all_count; i++) {
        if (all[i] == fd) all[i] = all[--all_count];
    }
}

static _Noreturn void serve(const char *port, bool is_fan)
{
    static char buf[BUFFER_BYTES];
    struct sockaddr_in addr = address_of(port);
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 1024))
        die("bind");
    event.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = fd;
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                if (is_fan && all_count < FAN_MAX) all[all_count++] = fd;
                if (is_fan) write_all(fd, "+", 1);
                continue;
            }
            ssize_t n = read(fd, buf, sizeof buf);
            if (n > 0 && is_fan) {
                send_to_all(buf, (size_t)n);
            } else if (n > 0) {
                write_all(fd, buf, (size_t)n);
            } else if (n == 0 || errno != EAGAIN) {
                forget(fd);
                close(fd);
            }
        }
    }
}

/* ---- the load ---- */

static unsigned char first_byte = 0x82;

static size_t head_of(char *head, size_t size, bool is_masked)
{
    unsigned char *at = (unsigned char *)head;
    size_t bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    at[0] = first_byte;
    at[1] = (unsigned char)(size < 126 ? size : bytes == 2 ? 126 : 127);
    for (size_t i = 0; i < bytes; i++)
        at[2 + i] = (unsigned char)(size >> 8 * (bytes - 1 - i));
    if (is_masked) {
        at[1] |= 0x80;
        memset(at + 2 + bytes, 0, 4);
    }
    return 2 + bytes + (is_masked ? 4 : 0);
}

static const char *path = "/ws";

static void handshake(int fd)
{
    static const char form[] =
        "GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    char buf[4096];
    size_t size = 0;
    int request = snprintf(buf, sizeof buf, form, path);
    write_all(fd, buf, (size_t)request);
    do {
        ssize_t n = read(fd, buf + size, sizeof buf - 1 - size);
        if (n <= 0) die("handshake");
        size += (size_t)n;
        buf[size] = '\0';
    } while (!strstr(buf, "\r\n\r\n"));
}

typedef struct peer {
    int fd;
    size_t left; /* bytes of answers still to come */
    size_t unsent;
} peer;

static void send_more(peer *p, const char *data, size_t size)
{
    while (p->unsent) {
        ssize_t n = write(p->fd, data + size - p->unsent, p->unsent);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("write");
        p->unsent -= (size_t)n;
    }
}

/* What everybody sends at once, and how much everybody is to get for it. */
typedef struct batch {
    char *data;
    size_t ask, answer;
} batch;

static batch batch_make(bool is_ws, bool is_published, size_t bytes, int per_segment)
{
    char head[16];
    size_t count = (size_t)per_segment, answer_head = head_of(head, bytes, false);
    /* Bare, who publishes sends what is to be delivered. */
    size_t ask_head = head_of(head, bytes, is_ws || !is_published);
    batch b = {.ask = (ask_head + bytes) * count};
    b.answer = is_ws ? (answer_head + bytes) * count : b.ask;
    b.data = calloc(1, b.ask);
    if (!b.data) die("memory");
    for (size_t i = 0; i < count; i++)
        memcpy(b.data + i * (ask_head + bytes), head, ask_head);
    return b;
}

/* Until the server has accepted it. */
static void greeting_await(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1) die("greeting");
}

static peer *peers_open(const char *port, bool is_ws, bool is_greeted, int connections, int poller)
{
    peer *peers = calloc((size_t)connections, sizeof *peers);
    struct sockaddr_in addr = address_of(port);
    int one = 1;
    if (!peers) die("memory");
    for (int i = 0; i < connections; i++) {
        peer *p = &peers[i];
        p->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(p->fd, (struct sockaddr *)&addr, sizeof addr)) die("connect");
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (is_ws) handshake(p->fd);
        if (is_greeted) greeting_await(p->fd);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
        epoll_ctl(poller, EPOLL_CTL_ADD, p->fd, &event);
        if (fcntl(p->fd, F_SETFL, O_NONBLOCK)) die("fcntl");
    }
    return peers;
}

/* returns whether all that was to come has. */
static bool take(peer *p)
{
    static char buf[BUFFER_BYTES];
    for (;;) {
        ssize_t n = read(p->fd, buf, sizeof buf);
        if (n < 0 && errno == EAGAIN) return false;
        if (n <= 0) die("read");
        p->left -= (size_t)n;
        if (!p->left) return true;
        if ((size_t)n < sizeof buf) return false;
    }
}

static long run(const char *port, const batch *b, bool is_ws, int connections, double seconds,
                int per_segment)
{
    struct epoll_event events[EVENTS];
    int poller = epoll_create1(0);
    peer *peers = peers_open(port, is_ws, false, connections, poller);
    for (int i = 0; i < connections; i++) {
        peers[i].left = b->answer;
        peers[i].unsent = b->ask;
        send_more(&peers[i], b->data, b->ask);
    }
    long done = 0;
    double end = now() + seconds;
    while (now() < end) {
        int count = epoll_wait(poller, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            peer *p = events[i].data.ptr;
            send_more(p, b->data, b->ask);
            while (take(p)) {
                done += per_segment;
                p->left = b->answer;
                p->unsent = b->ask;
                send_more(p, b->data, b->ask);
            }
        }
    }
    return done;
}

static long publish(const char *port, const batch *b, bool is_ws, int connections, double seconds,
                    int per_segment)
{
    struct epoll_event events[EVENTS];
    int poller = epoll_create1(0);
    peer *peers = peers_open(port, is_ws, !is_ws, connections, poller);
    char line[8];
    long done = 0;
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) exit(1);
    for (double end = now() + seconds; now() < end; done += (long)connections * per_segment) {
        for (int i = 0; i < connections; i++)
            peers[i].left = b->answer;
        write_all(peers[0].fd, b->data, b->ask);
        for (int waiting = connections, silent = 0; waiting;) {
            int count = epoll_wait(poller, events, EVENTS, 1000);
            if (count <= 0 && ++silent == 20) {
                fprintf(stderr, "%d have not got what was published\n", waiting);
                exit(1);
            }
            for (int i = 0; i < count; i++) {
                peer *p = events[i].data.ptr;
                if (p->left && take(p)) waiting--;
            }
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 3 && !strcmp(argv[1], "echo")) serve(argv[2], false);
    if (argc == 3 && !strcmp(argv[1], "fan")) serve(argv[2], true);
    if (argc == 8) path = argv[7];
    if (argc != 7 && argc != 8) {
        fprintf(stderr,
                "usage: ws_load echo|fan PORT\n"
                "       ws_load ws|tcp|publish-ws|publish-tcp PORT CONNECTIONS SECONDS BYTES "
                "PER_SEGMENT [PATH]\n");
        return 2;
    }
    bool is_published = argv[1][0] == 'p', is_ws = strstr(argv[1], "ws") != NULL;
    if (is_published) first_byte = 0x81;
    int connections = atoi(argv[3]), per_segment = atoi(argv[6]);
    batch b = batch_make(is_ws, is_published, (size_t)atol(argv[5]), per_segment);
    long done =
        (is_published ? publish : run)(argv[2], &b, is_ws, connections, atof(argv[4]), per_segment);
    printf("%ld\n", done);
    return 0;
}
