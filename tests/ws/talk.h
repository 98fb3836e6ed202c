/*
 * Conversations with a server's WebSocket over an in-memory pair: what goes in and comes out is
 * written as in frames.h.
 */
#ifndef ZOKIO_TESTS_WS_TALK_H
#define ZOKIO_TESTS_WS_TALK_H

#include "tests/http/fixture.h"
#undef ROWS
#include "tests/ws/frames.h"

#include <zokio/ws.h>

#define ASK(path)                                                                                  \
    "GET " path " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
#define SWITCHED                                                                                   \
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"            \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

/* A row: frames of the client, and what the server says to them. */
typedef struct talk_row {
    const char *name, *in, *out;
    bool is_closed; /* by the server, in the end */
} talk_row;

static inline void talk_open(wire *w, fixture *f, const char *request)
{
    wire_open(w, f);
    wire_send(w, request);
    wire_collect(w);
    common_fields_strip(w->text, &w->size);
    cr_assert(!strncmp(w->text, "HTTP/1.1 101 ", 13), "%s", w->text);
    w->size = 0;
}

/* Forgets the answer to the request; what came behind it stays. */
static inline void talk_skip_head(wire *w)
{
    wire_collect(w);
    char *behind = strstr(w->text, "\r\n\r\n");
    cr_assert(behind, "%s", w->text);
    size_t head = (size_t)(behind + 4 - w->text);
    memmove(w->text, w->text + head, w->size -= head);
}

/* What the server has sent, in words; the wire forgets it. */
static inline char *talk_take(wire *w, bool allows_deflate)
{
    wire_collect(w);
    bytes in = {.data = w->text, .size = w->size};
    zk__ws_reader r = {
        .message_bytes_max = UINT64_MAX,
        .fragments_max = UINT32_MAX,
        .is_client = true,
        .allows_deflate = allows_deflate,
    };
    char *out = read_all(&r, &in, 0);
    w->size = 0;
    return out;
}

/* Sends frames, so many bytes at a time; 0: as many as fit. What comes meanwhile is kept. */
static inline void talk_send(wire *w, const char *frames, size_t piece)
{
    bytes in = frames_of(frames, true);
    size_t at = 0;
    while (at < in.size) {
        size_t size = piece && in.size - at > piece ? piece : in.size - at;
        ssize_t n = zk_stream_try_write(w->stream, in.data + at, size);
        if (n == -EPIPE) break; /* what the server said before counts */
        if (n != -EAGAIN) cr_assert_ok(n);
        at += n > 0 ? (size_t)n : 0;
        if (at == in.size) break;
        wire_collect(w);
        settle();
    }
    free(in.data);
}

/* The server has said this; reasons count only where `wanted` has one. */
static inline void talk_expect(wire *w, const char *wanted, const char *name)
{
    char *out = talk_take(w, false);
    char *comma = strchr(wanted, ',') ? NULL : strchr(out, ',');
    if (comma) *comma = '\0';
    cr_assert(!strcmp(*out ? out + 1 : out, wanted), "%s: %.300s, not %.300s", name, out, wanted);
    free(out);
}

static inline void talk_rows(fixture *f, const char *path, const talk_row *rows, size_t count,
                             size_t piece)
{
    char request[400];
    snprintf(request, sizeof request, ASK("%s") "\r\n", path);
    for (const talk_row *row = rows; row < rows + count; row++) {
        wire w;
        talk_open(&w, f, request);
        talk_send(&w, row->in, piece);
        talk_expect(&w, row->out, row->name);
        cr_assert(w.is_closed == row->is_closed, "%s: it is %s", row->name,
                  w.is_closed ? "closed" : "open");
        wire_close(&w);
        settle();
    }
}

/* ---- handlers that echo, in each way ---- */

/* What they accept with. */
static const zk_ws_options *echo_options;

static inline int echo_loop_with(zk_request *req, zk_response *res, const zk_ws_options *options)
{
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_accept(req, res, options, &ws);
    while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0)
        rc = zk_ws_send(ws, m.type, m.data, m.size);
    return rc;
}

static inline int echo_loop(zk_request *req, zk_response *res)
{
    return echo_loop_with(req, res, echo_options);
}

static inline int echo_on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)context;
    return zk_ws_send(ws, m->type, m->data, m->size);
}

static inline int echo_parked(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {.on_message = echo_on_message};
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, echo_options, &ws);
    return rc < 0 ? rc : zk_ws_park(ws, &handlers, NULL);
}

static inline int echo_pieces_with(zk_request *req, zk_response *res, const zk_ws_options *options)
{
    zk_ws *ws;
    zk_ws_type type;
    char buf[1000];
    int rc = zk_ws_accept(req, res, options, &ws);
    while (rc >= 0 && (rc = zk_ws_recv_begin(ws, &type)) > 0) {
        ssize_t n = 0;
        rc = zk_ws_send_begin(ws, type);
        while (rc >= 0 && (n = zk_ws_read(ws, buf, sizeof buf)) > 0)
            rc = zk_ws_write(ws, buf, (size_t)n);
        if (rc >= 0) rc = n < 0 ? (int)n : zk_ws_send_end(ws);
    }
    return rc;
}

static inline int echo_pieces(zk_request *req, zk_response *res)
{
    return echo_pieces_with(req, res, echo_options);
}

static const zk_route echo_routes[] = {
    {"GET", "/loop", echo_loop, NULL},
    {"GET", "/parked", echo_parked, NULL},
    {"GET", "/pieces", echo_pieces, NULL},
    {0},
};

#endif
