/*
 * A chat: each path is a room, and a page shows it.
 *
 *   chat [ADDR:PORT]      127.0.0.1:8080 if not given
 *
 * Sockets are parked, so who only listens costs a few hundred bytes. A hub passes what one says on
 * to all in the room, on whichever worker they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zokio/zokio.h>

static const char page[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<title>Chat</title>\n"
    "<style>\n"
    "body { font: 16px/1.5 system-ui, sans-serif; max-width: 36em; margin: 2em auto }\n"
    "ol { list-style: none; padding: 0; min-height: 8em }\n"
    "form { display: flex; gap: .5em }\n"
    "input[name=text] { flex: 1 }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<h1></h1>\n"
    "<ol></ol>\n"
    "<form><input name=\"who\" size=\"8\" value=\"someone\" aria-label=\"Your name\">\n"
    "<input name=\"text\" aria-label=\"What you say\" autofocus autocomplete=\"off\">\n"
    "<button>Say</button></form>\n"
    "<p id=\"state\">connecting</p>\n"
    "<script>\n"
    "document.querySelector('h1').textContent = decodeURIComponent(location.pathname);\n"
    "const form = document.querySelector('form');\n"
    "const state = document.getElementById('state');\n"
    "const socket = new WebSocket(location.href.replace(/^http/, 'ws'));\n"
    "socket.onopen = () => { state.textContent = 'connected'; };\n"
    "socket.onclose = (event) => { state.textContent = `closed: ${event.code}`; };\n"
    "socket.onmessage = (event) => {\n"
    "  const line = document.createElement('li');\n"
    "  line.textContent = event.data;\n"
    "  document.querySelector('ol').append(line);\n"
    "};\n"
    "form.onsubmit = (event) => {\n"
    "  event.preventDefault();\n"
    "  if (form.text.value) socket.send(`${form.who.value}: ${form.text.value}`);\n"
    "  form.text.value = '';\n"
    "};\n"
    "</script>\n"
    "</body>\n"
    "</html>\n";

/* What a socket needs to know when its request is over. */
typedef struct member {
    zk_hub *hub;
    char room[128];
} member;

static int on_message(zk_ws *ws, void *context, const zk_ws_message *message)
{
    const member *m = context;
    if (message->type != ZK_WS_TEXT) return zk_ws_close(ws, 1003, "text only");
    return zk_hub_publish(m->hub, m->room, ZK_WS_TEXT, message->data, message->size);
}

static void on_close(zk_ws *ws, void *context, int rc)
{
    (void)ws, (void)rc;
    free(context);
}

static int join(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {on_message, on_close};
    zk_str path = zk_request_path(req);
    zk_ws *ws;
    if (path.size >= sizeof((member *)0)->room) return zk_respond_status(res, 404);
    zk_ws_options options = {.message_bytes_max = 4096, .slow = ZK_WS_SLOW_CLOSE};
    int rc = zk_ws_accept(req, res, &options, &ws);
    if (rc < 0) return rc;
    member *m = calloc(1, sizeof *m);
    if (!m) return -1;
    m->hub = zk_request_context(req);
    memcpy(m->room, path.data, path.size);
    rc = zk_hub_subscribe(m->hub, ws, m->room);
    if (rc >= 0) rc = zk_ws_park(ws, &handlers, m);
    if (rc < 0) free(m);
    return rc;
}

static int room(zk_request *req, zk_response *res)
{
    /* A browser asks for the page, and its script for the socket. */
    bool is_socket = zk_request_header(req, "Sec-WebSocket-Version").data != NULL;
    return is_socket ? join(req, res) : zk_respond_html(res, 200, page);
}

static const zk_route routes[] = {
    {"GET", "/{room...}", room, NULL},
    {0},
};

static void on_listening(void *context, zk_serving *serving)
{
    (void)context;
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr = zk_serving_addr(serving);
    zk_addr_format(&addr, text);
    printf("chat: http://%s/\n", text);
    fflush(stdout);
}

static int serve(void *arg)
{
    zk_hub *hub;
    int rc = zk_hub_new(&hub);
    if (rc < 0) return rc;
    rc = zk_serve(&(zk_server){
        .listen = arg,
        .routes = routes,
        .context = hub,
        .on_listening = on_listening,
    });
    zk_hub_free(hub);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = zk_run(NULL, serve, argc > 1 ? argv[1] : NULL);
    if (rc < 0) fprintf(stderr, "chat: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
