/*
 * Whether OpenSSL's library contexts are worth having per thread:
 *
 *   tls_contexts CERT KEY [SECONDS]
 *
 * One thread, and then two, do handshakes of TLS 1.3 with themselves, full ones, in memory, and
 * after each some records; with everything shared, with an SSL_CTX for each thread, and with a
 * library context for each as well. Prints the CPU time of each. What the threads share they wait
 * for, or fetch from each other's caches: the difference between one thread and two.
 */
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MAX = 2, RECORDS = 64, RECORD_BYTES = 1024, ROUNDS = 21 };
enum sharing { SHARE_ALL, SHARE_LIBRARY, SHARE_NOTHING, SHARINGS };

typedef struct side {
    pthread_t thread;
    OSSL_LIB_CTX *library;
    SSL_CTX *server, *client;
    long handshakes;
    double handshake_s, record_s; /* of CPU time */
} side;

static const char *certificate, *key;
static double seconds = 4; /* for each combination */

static void fail(const char *what)
{
    fprintf(stderr, "tls_contexts: %s\n", what);
    exit(1);
}

static double clock_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void contexts_make(side *s, bool has_library)
{
    s->library = has_library ? OSSL_LIB_CTX_new() : NULL;
    s->server = SSL_CTX_new_ex(s->library, NULL, TLS_server_method());
    s->client = SSL_CTX_new_ex(s->library, NULL, TLS_client_method());
    if (!s->server || !s->client ||
        SSL_CTX_use_certificate_chain_file(s->server, certificate) <= 0 ||
        SSL_CTX_use_PrivateKey_file(s->server, key, SSL_FILETYPE_PEM) <= 0) {
        fail("cannot use the certificate");
    }
    SSL_CTX_set_session_cache_mode(s->server, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(s->server, 1);
}

static void contexts_free(side *s)
{
    SSL_CTX_free(s->server);
    SSL_CTX_free(s->client);
    OSSL_LIB_CTX_free(s->library);
}

static void one_connection(side *s)
{
    char bytes[RECORD_BYTES] = {0};
    BIO *a = NULL, *b = NULL;
    double begin_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
    SSL *server = SSL_new(s->server), *client = SSL_new(s->client);
    if (!server || !client || BIO_new_bio_pair(&a, 0, &b, 0) <= 0) fail("no memory");
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    while (!SSL_is_init_finished(server) || !SSL_is_init_finished(client)) {
        (void)SSL_do_handshake(client);
        (void)SSL_do_handshake(server);
    }
    double middle_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < RECORDS; i++) {
        if (SSL_write(server, bytes, sizeof bytes) <= 0) fail("write");
        if (SSL_read(client, bytes, sizeof bytes) <= 0) fail("read");
    }
    s->record_s += clock_s(CLOCK_THREAD_CPUTIME_ID) - middle_s;
    double end_s = clock_s(CLOCK_THREAD_CPUTIME_ID);
    SSL_free(server);
    SSL_free(client);
    s->handshake_s += middle_s - begin_s + clock_s(CLOCK_THREAD_CPUTIME_ID) - end_s;
    s->handshakes++;
}

static void *side_run(void *arg)
{
    double end_s = clock_s(CLOCK_MONOTONIC) + seconds / ROUNDS;
    while (clock_s(CLOCK_MONOTONIC) < end_s)
        one_connection(arg);
    return NULL;
}

static void measure(side *sides, int threads, double *ret_handshake_us, double *ret_record_us)
{
    double handshake_s = 0, record_s = 0;
    long handshakes = 0;
    for (int i = 0; i < threads; i++) {
        sides[i].handshakes = 0;
        sides[i].handshake_s = sides[i].record_s = 0;
        if (pthread_create(&sides[i].thread, NULL, side_run, &sides[i])) fail("no thread");
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(sides[i].thread, NULL);
        handshakes += sides[i].handshakes;
        handshake_s += sides[i].handshake_s;
        record_s += sides[i].record_s;
    }
    *ret_handshake_us = handshake_s / (double)handshakes * 1e6;
    *ret_record_us = record_s / (double)handshakes / RECORDS * 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"all shared", "own SSL_CTX", "own library context"};
    static side sides[SHARINGS][THREADS_MAX];
    static double handshake_us[SHARINGS][THREADS_MAX][ROUNDS],
        record_us[SHARINGS][THREADS_MAX][ROUNDS];
    if (argc < 3) fail("see the top of tls_contexts.c");
    certificate = argv[1], key = argv[2];
    if (argc > 3) seconds = atof(argv[3]);
    for (int sharing = 0; sharing < SHARINGS; sharing++) {
        for (int i = 0; i < THREADS_MAX; i++) {
            if (i && sharing == SHARE_ALL) {
                sides[sharing][i] = sides[sharing][0];
            } else {
                contexts_make(&sides[sharing][i], sharing == SHARE_NOTHING);
            }
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int sharing = 0; sharing < SHARINGS; sharing++) {
            for (int n = 0; n < THREADS_MAX; n++)
                measure(sides[sharing], n + 1, &handshake_us[sharing][n][round],
                        &record_us[sharing][n][round]);
        }
    }
    printf("CPU us, medians of %d rounds      a handshake, both sides  %d bytes, both sides\n"
           "                              1 thread   2 threads   1 thread   2 threads\n",
           ROUNDS, RECORD_BYTES);
    for (int sharing = 0; sharing < SHARINGS; sharing++) {
        printf("%-28s", names[sharing]);
        for (int n = 0; n < THREADS_MAX; n++) {
            qsort(handshake_us[sharing][n], ROUNDS, sizeof(double), compare);
            printf("%10.1f", handshake_us[sharing][n][ROUNDS / 2]);
        }
        for (int n = 0; n < THREADS_MAX; n++) {
            qsort(record_us[sharing][n], ROUNDS, sizeof(double), compare);
            printf("%12.3f", record_us[sharing][n][ROUNDS / 2]);
        }
        printf("\n");
        contexts_free(&sides[sharing][0]);
        if (sharing != SHARE_ALL) contexts_free(&sides[sharing][1]);
    }
    return 0;
}
