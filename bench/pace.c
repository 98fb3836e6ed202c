/*
 * A paced client, for bench/proxy.py: pace HOST PORT PATH RATE CONNECTIONS SECONDS
 *
 * Sends requests at moments that do not depend on the answers: an open loop, with exponential gaps,
 * the same ones in each run. A request that finds no free connection waits for one, and that is a
 * part of its time, which counts from the moment at which it was due. Prints
 *
 *     REQUESTS SECONDS MEDIAN_US P99_US ERRORS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_BYTES = 4096, EVENTS = 64 };

struct conn {
    int fd;
    int64_t due_ns; /* when its request was due */
    size_t size;    /* received so far */
    struct conn *next;
    char in[IN_BYTES];
};

static struct conn *free_conns;
static char request[1024];
static size_t request_size;
static int64_t *due_ns;   /* of all requests */
static uint32_t *took_us; /* of those that are answered */
static size_t count, sent, answered, errors;
static int epoll_fd;

static void fail(const char *what)
{
    fprintf(stderr, "pace: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

static void conn_open(const struct sockaddr_in *to)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c) fail("memory");
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)to, sizeof *to)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
    c->next = free_conns;
    free_conns = c;
}

/* Sends what is due, as far as there are connections. */
static void send_due(int64_t now)
{
    while (sent < count && due_ns[sent] <= now && free_conns) {
        struct conn *c = free_conns;
        free_conns = c->next;
        c->due_ns = due_ns[sent++];
        c->size = 0;
        if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) fail("send");
    }
}

/* Whether a whole answer is there. */
static bool is_whole(struct conn *c)
{
    c->in[c->size] = '\0';
    const char *end = strstr(c->in, "\r\n\r\n"), *length = strcasestr(c->in, "\ncontent-length:");
    if (!end) return false;
    if (!length || length > end) {
        fprintf(stderr, "pace: an answer without Content-Length\n");
        exit(1);
    }
    size_t whole = (size_t)(end + 4 - c->in) + strtoul(length + 16, NULL, 10);
    return c->size >= whole;
}

static void receive(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->size, IN_BYTES - 1 - c->size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) fail("an answer");
    c->size += (size_t)n;
    if (!is_whole(c)) return;
    int64_t took = now_ns() - c->due_ns;
    if (strncmp(c->in + 8, " 200", 4) != 0) errors++;
    took_us[answered++] = (uint32_t)(took / 1000);
    c->next = free_conns;
    free_conns = c;
}

static int smaller(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Gaps as those of a Poisson process. */
static void plan(double rate, double seconds)
{
    uint64_t seed = 0x9E3779B97F4A7C15u;
    double at = 0;
    count = (size_t)(rate * seconds);
    due_ns = malloc((count + 1) * sizeof *due_ns);
    took_us = malloc((count + 1) * sizeof *took_us);
    if (!due_ns || !took_us || !count) fail("memory");
    int64_t begin = now_ns() + 1000000;
    for (size_t i = 0; i < count; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        at += -log(((double)(seed >> 11) + 1) / 9007199254740993.0) / rate;
        due_ns[i] = begin + (int64_t)(at * 1e9);
    }
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    while (answered < count) {
        int64_t now = now_ns();
        send_due(now);
        /* With all connections taken only an answer changes anything. */
        struct timespec *wait = NULL, left;
        if (sent < count && free_conns) {
            int64_t ns = due_ns[sent] > now ? due_ns[sent] - now : 0;
            left = (struct timespec){ns / 1000000000, ns % 1000000000};
            wait = &left;
        }
        int n = epoll_pwait2(epoll_fd, events, EVENTS, wait, NULL);
        if (n < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: pace HOST PORT PATH RATE CONNECTIONS SECONDS\n");
        return 2;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", argv[3],
                        argv[1], argv[2]);
    request_size = (size_t)size;
    prctl(PR_SET_TIMERSLACK, 1UL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = atoi(argv[5]); i > 0; i--)
        conn_open(&to);
    plan(atof(argv[4]), atof(argv[6]));
    int64_t begin = now_ns();
    run();
    double seconds = (double)(now_ns() - begin) / 1e9;
    qsort(took_us, answered, sizeof *took_us, smaller);
    printf("%zu %.3f %u %u %zu\n", answered, seconds, took_us[answered / 2],
           took_us[answered * 99 / 100], errors);
    return 0;
}
