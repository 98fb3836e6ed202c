/*
 * An echo server on libwebsockets, for bench/ws.py: ws_lws PORT. One thread, no extensions; whole
 * messages are queued and sent when the socket is writable, as the library's examples do.
 */
#include <stdlib.h>
#include <string.h>

#include <libwebsockets.h>

typedef struct message message;
struct message {
    message *next;
    size_t size;
    int is_binary;
    unsigned char bytes[]; /* LWS_PRE, and then the message */
};

typedef struct session {
    message *first, *last;
    message *coming; /* what has come of a message that is not whole */
} session;

static int receive(struct lws *wsi, session *s, const void *data, size_t size)
{
    size_t had = s->coming ? s->coming->size : 0;
    size_t left = lws_remaining_packet_payload(wsi);
    message *m = realloc(s->coming, sizeof *m + LWS_PRE + had + size + left);
    if (!m) return -1;
    memcpy(m->bytes + LWS_PRE + had, data, size);
    m->size = had + size;
    m->is_binary = lws_frame_is_binary(wsi);
    m->next = NULL;
    s->coming = m;
    if (left || !lws_is_final_fragment(wsi)) return 0;
    if (s->last) {
        s->last->next = m;
    } else {
        s->first = m;
    }
    s->last = m;
    s->coming = NULL;
    lws_callback_on_writable(wsi);
    return 0;
}

static int send_next(struct lws *wsi, session *s)
{
    message *m = s->first;
    if (!m) return 0;
    int rc = lws_write(wsi, m->bytes + LWS_PRE, m->size,
                       m->is_binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
    s->first = m->next;
    if (!s->first) s->last = NULL;
    free(m);
    if (rc < 0) return -1;
    if (s->first) lws_callback_on_writable(wsi);
    return 0;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    session *s = user;
    switch (reason) {
    case LWS_CALLBACK_RECEIVE: return receive(wsi, s, in, size);
    case LWS_CALLBACK_SERVER_WRITEABLE: return send_next(wsi, s);
    case LWS_CALLBACK_CLOSED:
        free(s->coming);
        for (message *m = s->first, *next; m; m = next) {
            next = m->next;
            free(m);
        }
        return 0;
    default: return 0;
    }
}

int main(int argc, char **argv)
{
    const struct lws_protocols protocols[] = {
        {"echo", on_event, sizeof(session), 128 * 1024, 0, NULL, 0},
        {0},
    };
    struct lws_context_creation_info info = {
        .port = argc > 1 ? atoi(argv[1]) : 0,
        .iface = "127.0.0.1",
        .protocols = protocols,
        .pt_serv_buf_size = 128 * 1024,
    };
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context) return 1;
    while (lws_service(context, 0) >= 0)
        continue;
    lws_context_destroy(context);
    return 0;
}
