/*
 * Load for echo servers, and the floor that they are measured against. Owes nothing to the library.
 *
 *   ws_load echo PORT                 a bare TCP echo: epoll, one thread, one buffer
 *   ws_load ws|tcp PORT CONNECTIONS SECONDS BYTES PER_SEGMENT [PATH]
 *                                     prints how many messages were echoed
 *
 * As ws each connection opens a WebSocket at PATH, /ws if not given, and sends messages of so many
 * bytes, masked with a key of zeros; as tcp it sends as many bytes as these frames have. So many
 * messages leave in one segment, and the next when all have come back.
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER_BYTES = 256 * 1024 };

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

static _Noreturn void echo(const char *port)
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
                continue;
            }
            ssize_t n = read(fd, buf, sizeof buf);
            if (n > 0) {
                write_all(fd, buf, (size_t)n);
            } else if (n == 0 || errno != EAGAIN) {
                close(fd);
            }
        }
    }
}

/* ---- the load ---- */

static size_t head_of(char *head, size_t size, bool is_masked)
{
    unsigned char *at = (unsigned char *)head;
    size_t bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    at[0] = 0x82;
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

static long run(const char *port, bool is_ws, int connections, double seconds, size_t bytes,
                int per_segment)
{
    static char buf[BUFFER_BYTES];
    char head[16], *batch = NULL;
    size_t ask_head = head_of(head, bytes, true);
    size_t ask = (ask_head + bytes) * (size_t)per_segment;
    size_t answer = is_ws ? (head_of(buf, bytes, false) + bytes) * (size_t)per_segment : ask;
    batch = calloc(1, ask);
    peer *peers = calloc((size_t)connections, sizeof *peers);
    if (!batch || !peers) die("memory");
    for (int i = 0; i < per_segment; i++)
        memcpy(batch + (size_t)i * (ask_head + bytes), head, ask_head);
    struct sockaddr_in addr = address_of(port);
    struct epoll_event events[EVENTS];
    int one = 1, poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        peer *p = &peers[i];
        p->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(p->fd, (struct sockaddr *)&addr, sizeof addr)) die("connect");
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (is_ws) handshake(p->fd);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
        epoll_ctl(poller, EPOLL_CTL_ADD, p->fd, &event);
        p->left = answer;
        p->unsent = ask;
    }
    for (int i = 0; i < connections; i++) {
        int fd = peers[i].fd;
        if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("fcntl");
        send_more(&peers[i], batch, ask);
    }
    long done = 0;
    double end = now() + seconds;
    while (now() < end) {
        int count = epoll_wait(poller, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            peer *p = events[i].data.ptr;
            send_more(p, batch, ask);
            for (;;) {
                ssize_t n = read(p->fd, buf, sizeof buf);
                if (n < 0 && errno == EAGAIN) break;
                if (n <= 0) die("read");
                p->left -= (size_t)n;
                if (!p->left) {
                    done += per_segment;
                    p->left = answer;
                    p->unsent = ask;
                    send_more(p, batch, ask);
                }
                if ((size_t)n < sizeof buf) break;
            }
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "echo")) echo(argv[2]);
    if (argc == 8) path = argv[7];
    if (argc != 7 && argc != 8) {
        fprintf(stderr,
                "usage: ws_load echo PORT\n"
                "       ws_load ws|tcp PORT CONNECTIONS SECONDS BYTES PER_SEGMENT [PATH]\n");
        return 2;
    }
    long done = run(argv[2], argv[1][0] == 'w', atoi(argv[3]), atof(argv[4]), (size_t)atol(argv[5]),
                    atoi(argv[6]));
    printf("%ld\n", done);
    return 0;
}
