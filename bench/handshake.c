/*
 * Does nothing but TLS 1.3 handshakes, for bench/tls.py:
 *
 *   handshake ADDRESS PORT full|resumed SECONDS
 *
 * Each of a few threads connects, does a handshake, says goodbye and waits until the server has
 * closed, over and over. For resumption each first gets a session of its own. Prints how many
 * handshakes there were, in what time, and how many of them were resumed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 16 };

typedef struct client {
    pthread_t thread;
    long handshakes, resumed;
} client;

static SSL_CTX *context;
static struct sockaddr_in address;
static bool is_resuming;
static double end_s;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "handshake: %s\n", what);
    exit(1);
}

static int connected(void)
{
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* One connection. With a place for it, gets a session: a ticket comes before the response. */
static bool handshake(SSL_SESSION *session, SSL_SESSION **ret_session)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    char buf[4096];
    int fd = connected();
    SSL *ssl = SSL_new(context);
    if (!ssl || !SSL_set_fd(ssl, fd) || (session && !SSL_set_session(ssl, session))) fail("setup");
    if (SSL_connect(ssl) != 1) fail("a handshake has failed");
    bool is_resumed = SSL_session_reused(ssl);
    if (ret_session) {
        if (SSL_write(ssl, request, sizeof request - 1) <= 0) fail("write");
        while (SSL_read(ssl, buf, sizeof buf) > 0) {
        }
        *ret_session = SSL_get1_session(ssl);
        if (!SSL_SESSION_is_resumable(*ret_session)) fail("the server gives no ticket");
    }
    SSL_shutdown(ssl);
    /* Once the server has closed it has done all that belongs to this connection. */
    while (read(fd, buf, sizeof buf) > 0) {
    }
    SSL_free(ssl);
    close(fd);
    return is_resumed;
}

static void *client_run(void *arg)
{
    client *me = arg;
    SSL_SESSION *session = NULL;
    if (is_resuming) handshake(NULL, &session);
    while (now_s() < end_s) {
        me->resumed += handshake(session, NULL);
        me->handshakes++;
    }
    SSL_SESSION_free(session);
    return NULL;
}

int main(int argc, char **argv)
{
    client clients[THREADS] = {{0}};
    long handshakes = 0, resumed = 0;
    if (argc != 5 || !inet_aton(argv[1], &address.sin_addr)) fail("see the top of handshake.c");
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    is_resuming = !strcmp(argv[3], "resumed");
    context = SSL_CTX_new(TLS_client_method());
    if (!context) fail("OpenSSL");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    double start_s = now_s();
    end_s = start_s + atof(argv[4]);
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&clients[i].thread, NULL, client_run, &clients[i])) fail("no thread");
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        handshakes += clients[i].handshakes;
        resumed += clients[i].resumed;
    }
    printf("%ld handshakes in %.3f s, %ld resumed\n", handshakes, now_s() - start_s, resumed);
    SSL_CTX_free(context);
    return 0;
}
