/*
 * Our client, talking to an echo server of somebody else, for tests/ws_peers: ws_peer URL. The
 * server knows the subprotocols "b" and "c", and closes with 4001 "bye" when it is told "close".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zokio/task.h>
#include <zokio/ws.h>

enum { LARGE_BYTES = 1000000 };

static const char *url;
static char *binary, *text;

#define REQUIRE(is_true, ...)                                                                      \
    do {                                                                                           \
        if (is_true) break;                                                                        \
        fprintf(stderr, "line %d, %s: ", __LINE__, #is_true);                                      \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fprintf(stderr, " (%s)\n", zk_trail());                                                    \
        exit(1);                                                                                   \
    } while (0)

static void echo(zk_ws *ws, zk_ws_type type, const char *data, size_t size)
{
    zk_ws_message m;
    int rc = zk_ws_send(ws, type, data, size);
    if (rc >= 0) rc = zk_ws_recv(ws, &m);
    REQUIRE(rc == 1, "%zu bytes: %s", size, zk_strerror(rc));
    REQUIRE(m.type == type && m.size == size && !memcmp(m.data, data, size),
            "%zu bytes came back as %zu", size, m.size);
}

/* As fragments, read in pieces. */
static void echo_pieces(zk_ws *ws, const char *data, size_t size)
{
    static char buf[10000];
    zk_ws_type type;
    size_t got = 0;
    int rc = zk_ws_send_begin(ws, ZK_WS_BINARY);
    for (size_t at = 0; at < size && rc >= 0; at += 7777)
        rc = zk_ws_write(ws, data + at, size - at < 7777 ? size - at : 7777);
    if (rc >= 0) rc = zk_ws_send_end(ws);
    if (rc >= 0) rc = zk_ws_recv_begin(ws, &type);
    REQUIRE(rc == 1 && type == ZK_WS_BINARY, "%s", zk_strerror(rc));
    for (ssize_t n; (n = zk_ws_read(ws, buf, sizeof buf));) {
        REQUIRE(n > 0, "%s", zk_strerror((int)n));
        REQUIRE(got + (size_t)n <= size && !memcmp(buf, data + got, (size_t)n), "at %zu", got);
        got += (size_t)n;
    }
    REQUIRE(got == size, "%zu", got);
}

static void talk(const zk_ws_options *options)
{
    static const size_t sizes[] = {0, 1, 2, 125, 126, 127, 4096, 65535, 65536, 70000, LARGE_BYTES};
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_connect(url, options, &ws);
    REQUIRE(rc >= 0, "%s", zk_strerror(rc));
    REQUIRE(options->protocols ? !strcmp(zk_ws_protocol(ws), "b") : !zk_ws_protocol(ws),
            "another subprotocol");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        echo(ws, ZK_WS_BINARY, binary, sizes[i]);
        echo(ws, ZK_WS_TEXT, text, sizes[i] / 2 * 2);
        echo_pieces(ws, binary, sizes[i]);
    }
    REQUIRE(zk_ws_ping(ws, "ping", 4) >= 0, "a ping");
    for (int i = 0; i < 1000; i++)
        REQUIRE(zk_ws_send(ws, ZK_WS_TEXT, text, 20) >= 0, "message %d", i);
    for (int i = 0; i < 1000; i++)
        REQUIRE(zk_ws_recv(ws, &m) == 1 && m.size == 20, "answer %d", i);
    rc = zk_ws_close(ws, 1000, "gr\xc3\xbc\xc3\x9f");
    REQUIRE(rc == 0 && zk_ws_close_code(ws) == 1000, "%s, %d", zk_strerror(rc),
            zk_ws_close_code(ws));
    zk_ws_free(ws);
    REQUIRE(zk_ws_connect(url, options, &ws) >= 0, "again");
    REQUIRE(zk_ws_send_text(ws, "close") >= 0, "the word");
    REQUIRE(zk_ws_recv(ws, &m) == 0 && zk_ws_close_code(ws) == 4001, "%d", zk_ws_close_code(ws));
    REQUIRE(!strcmp(zk_ws_close_reason(ws), "bye"), "%s", zk_ws_close_reason(ws));
    zk_ws_free(ws);
}

static int run(void *arg)
{
    (void)arg;
    static const char *const protocols[] = {"a", "b", NULL};
    static const zk_ws_deflate lending = {.bytes_min = 1};
    static const zk_ws_deflate keeping = {.keeps_server_context = true,
                                          .keeps_client_context = true};
    static const zk_ws_deflate small = {.server_window_bits = 10, .client_window_bits = 9};
    static const zk_ws_options ways[] = {
        {.connect_timeout_ms = 5000}, {.protocols = protocols}, {.deflate = &lending},
        {.deflate = &keeping},        {.deflate = &small},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        talk(&ways[i]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    url = argv[1];
    binary = malloc(LARGE_BYTES);
    text = malloc(LARGE_BYTES);
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        binary[i] = (char)(i * 2654435761u >> 24);
        text[i] = i / 2 % 3 ? 'a' : i % 2 ? '\xa9' : '\xc3';
    }
    int rc = zk_run(NULL, run, NULL);
    free(binary);
    free(text);
    return rc < 0;
}
