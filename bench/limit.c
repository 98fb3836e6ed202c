/*
 * The floor: what the kernel alone charges for a request.
 *
 * One thread, one epoll, and per event one recv and one send of a response prepared at the start.
 * Nothing is parsed: the first request of a connection is measured once, up to its blank line, and
 * every later one on that connection is taken to be as long (load generators repeat themselves), so
 * pipelined requests are counted by a division and answered by one send. The response has the bytes
 * that examples/hello sends, except that its Date stays that of the start.
 *
 * Our claims are ratios to this program, so whatever makes it cheaper belongs in it. In it because
 * it was measured to pay:
 *
 * - edge-triggered: a level-triggered socket is put back on epoll's ready list by the wait that
 *   reports it, and polled again by the next (2 to 3 % of a keep-alive request);
 * - TCP_DEFER_ACCEPT, and a recv right after accept: a connection arrives with its request, and
 *   one that is closed after the response never enters the epoll set (20 % of such a request).
 *
 * What it leaves out on purpose: timeouts, bad input, slow readers (a short send closes).
 *
 *   limit [ADDR:PORT [close]]    an IPv4 address, default 127.0.0.1:8081; `close`: one request per
 *                                connection, answered with "Connection: close"
 */
#include <arpa/inet.h>
#include <errno.h>
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

enum {
    DESCRIPTORS_MAX = 65536,
    EVENTS_MAX = 256,
    RECV_BYTES_MAX = 16384,
    RESPONSE_BYTES_MAX = 256,
    RESPONSES_PER_SEND_MAX = 64,
};

/* What a connection has to remember between two events; all zero until it has sent something. */
struct connection {
    uint32_t request_bytes; /* length of its first request, 0 until that is complete */
    uint32_t partial_bytes; /* received of a request whose rest has not come yet */
};

static struct connection connections[DESCRIPTORS_MAX];
static char responses[RESPONSES_PER_SEND_MAX * RESPONSE_BYTES_MAX];
static size_t response_bytes;
static bool closes;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void prepare_responses(void)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    struct tm t;
    char one[RESPONSE_BYTES_MAX];

    gmtime_r(&now, &t);
    int length = snprintf(one, sizeof one,
                          "HTTP/1.1 200 OK\r\n"
                          "Server: zokio\r\n"
                          "Date: %.3s, %02d %.3s %d %02d:%02d:%02d GMT\r\n"
                          "Content-Type: text/plain\r\n"
                          "Content-Length: 13\r\n"
                          "%s\r\n"
                          "Hello, World!",
                          days + 3 * t.tm_wday, t.tm_mday, months + 3 * t.tm_mon, t.tm_year + 1900,
                          t.tm_hour, t.tm_min, t.tm_sec, closes ? "Connection: close\r\n" : "");
    if (length < 0 || (size_t)length >= sizeof one) {
        die("response");
    }
    response_bytes = (size_t)length;
    for (size_t i = 0; i < RESPONSES_PER_SEND_MAX; i++) {
        memcpy(responses + i * response_bytes, one, response_bytes);
    }
}

/* How many requests end within the `size` bytes just received. */
static size_t count_requests(struct connection *c, const char *bytes, size_t size)
{
    if (c->request_bytes == 0) {
        const char *end = memmem(bytes, size, "\r\n\r\n", 4);
        if (end == NULL) {
            c->partial_bytes += (uint32_t)size;
            return 0;
        }
        c->request_bytes = c->partial_bytes + (uint32_t)(end + 4 - bytes);
    }
    size += c->partial_bytes;
    c->partial_bytes = (uint32_t)(size % c->request_bytes);
    return size / c->request_bytes;
}

static bool send_responses(int fd, size_t count)
{
    while (count > 0) {
        size_t now = count < RESPONSES_PER_SEND_MAX ? count : RESPONSES_PER_SEND_MAX;
        size_t size = now * response_bytes;
        if (send(fd, responses, size, MSG_NOSIGNAL) != (ssize_t)size) {
            return false;
        }
        count -= now;
    }
    return true;
}

/* Answers what has arrived on `fd`. Returns whether the connection goes on. */
static bool serve(int fd)
{
    static char buffer[RECV_BYTES_MAX];
    ssize_t size;

    do {
        size = recv(fd, buffer, sizeof buffer, 0);
        if (size <= 0) {
            return size < 0 && errno == EAGAIN;
        }
        size_t count = count_requests(&connections[fd], buffer, (size_t)size);
        if (!send_responses(fd, count) || (closes && count > 0)) {
            return false;
        }
    } while (size == sizeof buffer); /* an edge is reported once, and there may be a rest */
    return true;
}

static void accept_all(int epoll_fd, int listen_fd)
{
    int fd;

    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= DESCRIPTORS_MAX) {
            close(fd);
            continue;
        }
        connections[fd] = (struct connection){0};
        if (!serve(fd)) {
            close(fd);
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
            die("epoll_ctl");
        }
    }
    if (errno != EAGAIN && errno != ECONNABORTED) {
        die("accept4");
    }
}

static int listen_on(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN] = "";
    unsigned port = 0;
    int one = 1;

    const char *colon = strchr(text, ':');
    if (colon != NULL && (size_t)(colon - text) < sizeof host) {
        memcpy(host, text, (size_t)(colon - text));
        for (const char *p = colon + 1; *p != '\0' && port <= UINT16_MAX; p++) {
            port = *p >= '0' && *p <= '9' ? port * 10 + (unsigned)(*p - '0') : UINT16_MAX + 1;
        }
    }
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || port == 0 || port > UINT16_MAX) {
        fprintf(stderr, "limit: not an ADDR:PORT: %s\n", text);
        exit(2);
    }
    address.sin_port = htons((uint16_t)port);

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 || /* is inherited */
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0) {
        die(text);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];

    closes = argc > 2 && strcmp(argv[2], "close") == 0;
    if (argc > 3 || (argc == 3 && !closes)) {
        fprintf(stderr, "usage: limit [ADDR:PORT [close]]\n");
        return 2;
    }
    prepare_responses();

    int listen_fd = listen_on(argc > 1 ? argv[1] : "127.0.0.1:8081");
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0) {
        die("epoll");
    }

    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listen_fd) {
                accept_all(epoll_fd, listen_fd);
            } else if (!serve(fd) || (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
                close(fd); /* the kernel takes a closed descriptor out of the epoll set */
            }
        }
    }
}
