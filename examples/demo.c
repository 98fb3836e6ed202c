/*
 * A tour of the server: plain answers, JSON, streaming both ways, parameters, waiting.
 *
 *   demo [ADDR:PORT] [--ktls] [--tls CERT KEY] [--files DIR]   127.0.0.1:8080 if not given
 *
 * Plain it serves HTTP/1.1 and, to clients that know, HTTP/2; with TLS both, as the client wants.
 * --ktls has the kernel encrypt, if it can.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zokio/zokio.h>

#ifndef DEMO_FILES
#define DEMO_FILES "examples/files"
#endif

static const char page[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<title>Zokio</title>\n"
    "<style>\n"
    "body { font: 16px/1.5 system-ui, sans-serif; max-width: 42em; margin: 3em auto; padding: 0 "
    "1em }\n"
    "code, pre { background: #f3f3f3; padding: .1em .3em; border-radius: 3px }\n"
    "pre { padding: .8em; min-height: 1.5em; overflow: auto }\n"
    "li { margin: .3em 0 }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<h1>Zokio</h1>\n"
    "<p>This page comes from <code>examples/demo.c</code>. Choose what to fetch:</p>\n"
    "<ul>\n"
    "<li><a href=\"/plaintext\">/plaintext</a>: the shortest answer</li>\n"
    "<li><a href=\"/json\">/json</a>: a JSON document</li>\n"
    "<li><a href=\"/bytes/100\">/bytes/100</a>: as many bytes as asked for, streamed</li>\n"
    "<li><a href=\"/sleep/1000\">/sleep/1000</a>: answers after so many milliseconds</li>\n"
    "<li><a href=\"/files/\">/files/</a>: the files of a directory, with ranges and "
    "conditions</li>\n"
    "<li><button>POST /echo</button>: streams the body back</li>\n"
    "<li><button id=\"events\">/events</button>: an event a second</li>\n"
    "<li><button id=\"ws\">/ws</button>: a WebSocket that echoes</li>\n"
    "<li>HTTP/1.1 and HTTP/2, here over <code id=\"via\"></code></li>\n"
    "</ul>\n"
    "<pre id=\"out\"></pre>\n"
    "<script>\n"
    "const out = document.getElementById('out');\n"
    "async function show(url, options) {\n"
    "  const start = performance.now();\n"
    "  const response = await fetch(url, options);\n"
    "  const text = await response.text();\n"
    "  const ms = (performance.now() - start).toFixed(1);\n"
    "  out.textContent = `${response.status} in ${ms} ms\\n${text}`;\n"
    "}\n"
    "for (const a of document.querySelectorAll('a')) {\n"
    "  a.onclick = (event) => { event.preventDefault(); show(a.getAttribute('href')); };\n"
    "}\n"
    "document.getElementById('via').textContent =\n"
    "  performance.getEntriesByType('navigation')[0].nextHopProtocol + ' ' + location.protocol;\n"
    "document.querySelector('button').onclick =\n"
    "  () => show('/echo', { method: 'POST', body: 'What goes in comes out.' });\n"
    "let source;\n"
    "document.getElementById('events').onclick = () => {\n"
    "  if (source) source.close();\n"
    "  source = new EventSource('/events');\n"
    "  source.onmessage = (event) => { out.textContent = event.data; };\n"
    "};\n"
    "let socket;\n"
    "document.getElementById('ws').onclick = () => {\n"
    "  const say = () => socket.send(`It is ${new Date().toLocaleTimeString()} here.`);\n"
    "  if (socket && socket.readyState === WebSocket.OPEN) return say();\n"
    "  socket = new WebSocket(location.href.replace(/^http/, 'ws') + 'ws');\n"
    "  socket.onopen = say;\n"
    "  socket.onmessage = (event) => { out.textContent += event.data + '\\n'; };\n"
    "  socket.onclose = (event) => { out.textContent += `closed: ${event.code}\\n`; };\n"
    "};\n"
    "</script>\n"
    "</body>\n"
    "</html>\n";

static int index_page(zk_request *req, zk_response *res)
{
    (void)req;
    /* The page has all that it needs within it, and belongs into no frame. */
    int rc = zk_response_header(res, "Content-Security-Policy",
                                "default-src 'self'; style-src 'unsafe-inline'; "
                                "script-src 'unsafe-inline'; frame-ancestors 'none'");
    if (rc >= 0) rc = zk_response_header(res, "X-Content-Type-Options", "nosniff");
    return rc < 0 ? rc : zk_respond_html(res, 200, page);
}

static int plaintext(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, "text/plain", "Hello, World!", 13);
}

static int json(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_json(res, 200, "{\"message\":\"Hello, World!\"}");
}

/* Sends back what comes in, as it comes in. Writing waits for the client: that is all the flow
 * control there is. */
static int echo(zk_request *req, zk_response *res)
{
    char buf[16 * 1024];
    zk_str type = zk_request_header(req, "Content-Type");
    int rc = 0;
    if (type.data) rc = zk_response_header_n(res, "Content-Type", type);
    if (rc < 0) return rc;
    ssize_t n = zk_body_read(req, buf, sizeof buf);
    if (n < 0) return (int)n;
    rc = zk_response_begin(res, 200, "application/octet-stream", zk_body_length(req));
    while (rc >= 0 && n > 0) {
        rc = zk_response_write(res, buf, (size_t)n);
        if (rc < 0) break;
        n = zk_body_read(req, buf, sizeof buf);
        if (n < 0) rc = (int)n;
    }
    return rc;
}

static int bytes(zk_request *req, zk_response *res)
{
    static char filler[16 * 1024];
    uint64_t left;
    if (zk_request_param_u64(req, "n", &left) < 0 || left > INT64_MAX) {
        return zk_respond_text(res, 400, "/bytes/{n} wants a whole number\n");
    }
    memset(filler, 'z', sizeof filler);
    int rc = zk_response_begin(res, 200, "application/octet-stream", (int64_t)left);
    while (rc >= 0 && left > 0) {
        size_t part = left < sizeof filler ? (size_t)left : sizeof filler;
        rc = zk_response_write(res, filler, part);
        left -= part;
    }
    return rc;
}

static int sleep_ms(zk_request *req, zk_response *res)
{
    uint64_t ms;
    if (zk_request_param_u64(req, "ms", &ms) < 0 || ms > 86400000) {
        return zk_respond_text(res, 400, "/sleep/{ms} wants milliseconds, at most a day's\n");
    }
    int rc = zk_sleep(ZK_MS(ms));
    if (rc < 0) return rc;
    char text[64];
    snprintf(text, sizeof text, "slept %" PRIu64 " ms\n", ms);
    return zk_respond_text(res, 200, text);
}

/* An event a second (Server-Sent Events, as the HTML standard has them), until the client goes. */
static int events(zk_request *req, zk_response *res)
{
    char text[64];
    int rc = zk_response_header(res, "Cache-Control", "no-store");
    if (rc >= 0) rc = zk_response_begin(res, 200, "text/event-stream", ZK_LENGTH_UNKNOWN);
    for (int i = 1; rc >= 0 && !zk_request_is_draining(req); i++) {
        int size = snprintf(text, sizeof text, "id: %d\ndata: event %d\n\n", i, i);
        rc = zk_response_write(res, text, (size_t)size);
        if (rc >= 0) rc = zk_response_flush(res);
        if (rc >= 0) rc = zk_sleep(ZK_SEC(1));
    }
    return rc;
}

static const char *files_root = DEMO_FILES;

static int files(zk_request *req, zk_response *res)
{
    return zk_respond_file(res, files_root, zk_request_param(req, "path"), NULL);
}

/* Sends back each message. */
static int ws_echo(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    /* For those who ask for it. */
    zk_ws_options options = {.deflate = &(zk_ws_deflate){.level = 1}};
    int rc = zk_ws_accept(req, res, &options, &ws);
    while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0)
        rc = zk_ws_send(ws, m.type, m.data, m.size);
    return rc;
}

/* The same parked: between messages the socket has no stack. */
static int ws_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)context;
    return zk_ws_send(ws, m->type, m->data, m->size);
}

static int ws_parked(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {.on_message = ws_message};
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    return rc < 0 ? rc : zk_ws_park(ws, &handlers, NULL);
}

static const zk_route routes[] = {
    {"GET", "/", index_page, NULL},
    {"GET", "/plaintext", plaintext, NULL},
    {"GET", "/json", json, NULL},
    {"POST", "/echo", echo, NULL},
    {"GET", "/bytes/{n}", bytes, NULL},
    {"GET", "/sleep/{ms}", sleep_ms, NULL},
    {"GET", "/events", events, NULL},
    {"GET", "/ws", ws_echo, NULL},
    {"GET", "/files/{path...}", files, NULL},
    {"GET", "/ws/parked", ws_parked, NULL},
    {0},
};

static void on_listening(void *context, zk_serving *serving)
{
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr = zk_serving_addr(serving);
    zk_addr_format(&addr, text);
    printf("demo: %s://%s/ (%d workers, %s)\n", *(bool *)context ? "https" : "http", text,
           zk_worker_count(), zk_poller_name());
    fflush(stdout);
}

int main(int argc, char **argv)
{
    zk_tls_certificate certificates[2] = {{0}};
    const char *listen = NULL;
    bool is_secure = false, wants_kernel = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tls") && argc - i >= 3) {
            certificates[0] = (zk_tls_certificate){.cert_file = argv[i + 1], argv[i + 2], NULL};
            is_secure = true;
            i += 2;
        } else if (!strcmp(argv[i], "--ktls")) {
            wants_kernel = true;
        } else if (!strcmp(argv[i], "--files") && argc - i >= 2) {
            files_root = argv[++i];
        } else if (argv[i][0] != '-' && !listen) {
            listen = argv[i];
        } else {
            fprintf(stderr, "usage: demo [ADDR:PORT] [--ktls] [--tls CERT KEY] [--files DIR]\n");
            return 2;
        }
    }
    zk_tls_server tls = {.certificates = certificates, .ktls = wants_kernel};
    int rc = zk_serve(&(zk_server){
        .listen = listen,
        .routes = routes,
        .context = &is_secure,
        .on_listening = on_listening,
        .tls = is_secure ? &tls : NULL,
    });
    if (rc < 0) fprintf(stderr, "demo: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
