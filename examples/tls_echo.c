/*
 * Echo over TLS: a server, and a client for it.
 *
 *   tls_echo serve ADDR:PORT CERT.pem KEY.pem     SIGHUP: reads the files again; SIGTERM: ends
 *   tls_echo send ADDR:PORT HOST CA.pem TEXT      HOST is whom the certificate has to be for
 *
 * A pair for trying it out:
 *   openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
 *       -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <zokio/zokio.h>

/* ---- the server ---- */

typedef struct client {
    zk_tls *tls;
    zk_stream *stream; /* TCP */
} client;

static int serve_one(void *arg)
{
    client *c = arg;
    zk_stream *stream;
    int rc = zk_tls_accept(c->tls, c->stream, &stream);
    if (rc < 0) {
        fprintf(stderr, "%s\n", zk_trail());
        zk_stream_close(c->stream);
        return 0; /* how one client went is no matter for the others */
    }
    zk_tls_info info;
    zk_tls_info_get(stream, &info);
    fprintf(stderr, "TLS 1.%d, %s%s\n", info.version - 10, info.cipher,
            info.is_resumed ? ", resumed" : "");
    if (zk_stream_copy(stream, stream) < 0) fprintf(stderr, "%s\n", zk_trail());
    zk_stream_close(stream);
    return 0;
}

typedef struct server {
    zk_tls *tls;
    zk_listener *listener;
} server;

static int accept_all(void *arg)
{
    server *s = arg;
    int rc = 0;
    ZK_SCOPE(clients) {
        client c = {.tls = s->tls};
        while ((rc = zk_accept(s->listener, &c.stream)) >= 0) {
            if (zk_spawn(&clients, serve_one, &c) < 0) zk_stream_close(c.stream);
        }
    }
    return rc;
}

/* Until SIGTERM or SIGINT. */
static int obey(server *s)
{
    zk_signals *signals;
    int rc = zk_signals_open((const int[]){SIGHUP, SIGTERM, SIGINT, 0}, &signals);
    if (rc < 0) return rc;
    while ((rc = zk_signals_next(signals, NULL)) == SIGHUP) {
        if (zk_tls_reload(s->tls) < 0) fprintf(stderr, "still the old ones: %s\n", zk_trail());
    }
    zk_signals_close(signals);
    return rc;
}

static int serve(char **args)
{
    zk_addr addr;
    server s;
    zk_tls_certificate certificates[] = {{args[1], args[2], NULL}, {0}};
    int rc = zk_addr_parse(args[0], &addr);
    if (rc < 0) return zk_fail(rc, "%s", args[0]);
    rc = zk_tls_server_new(&(zk_tls_server){.certificates = certificates}, &s.tls);
    if (rc < 0) return rc;
    rc = zk_listen(&addr, NULL, &s.listener);
    if (rc >= 0) {
        ZK_SCOPE(all) {
            rc = zk_spawn(&all, accept_all, &s);
            if (rc >= 0) rc = obey(&s);
            zk_scope_cancel(&all);
        }
        zk_listener_close(s.listener);
    }
    zk_tls_free(s.tls);
    return rc < 0 ? zk_fail(rc, "serving on %s", args[0]) : 0;
}

/* ---- the client ---- */

static int talk(zk_stream *stream, const char *text)
{
    char buf[256];
    ssize_t n;
    int rc = zk_stream_write(stream, text, strlen(text));
    if (rc >= 0) rc = zk_stream_shutdown(stream);
    if (rc < 0) return rc;
    while ((n = zk_stream_read(stream, buf, sizeof buf)) > 0)
        fwrite(buf, 1, (size_t)n, stdout);
    putchar('\n');
    return (int)n;
}

static int send_text(char **args)
{
    zk_addr addr;
    zk_tls *tls;
    zk_stream *tcp, *stream;
    int rc = zk_addr_parse(args[0], &addr);
    if (rc < 0) return zk_fail(rc, "%s", args[0]);
    rc = zk_tls_client_new(&(zk_tls_client){.ca_file = args[2]}, &tls);
    if (rc < 0) return rc;
    rc = zk_connect(&addr, &tcp);
    if (rc >= 0) {
        rc = zk_tls_connect(tls, tcp, args[1], &stream);
        if (rc < 0) zk_stream_close(tcp);
    }
    if (rc >= 0) {
        rc = talk(stream, args[3]);
        zk_stream_close(stream);
    }
    zk_tls_free(tls);
    return rc < 0 ? zk_fail(rc, "talking to %s", args[0]) : 0;
}

static int run(void *arg)
{
    char **args = arg;
    return strcmp(args[1], "serve") ? send_text(args + 2) : serve(args + 2);
}

int main(int argc, char **argv)
{
    bool is_serving = argc == 5 && !strcmp(argv[1], "serve");
    if (!is_serving && !(argc == 6 && !strcmp(argv[1], "send"))) {
        fprintf(stderr,
                "usage: %s serve ADDR:PORT CERT KEY\n"
                "       %s send ADDR:PORT HOST CA TEXT\n",
                argv[0], argv[0]);
        return 2;
    }
    int rc = zk_run(NULL, run, argv);
    if (rc < 0) fprintf(stderr, "tls_echo: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
