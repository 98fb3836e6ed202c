/*
 * Files as responses: which are found, what is said about them, conditions and ranges.
 */
#include "tests/core/folder.h"
#include "tests/http/fixture.h"

#include <zokio/files.h>

#define MODIFIED "Sun, 06 Nov 1994 08:49:37 GMT"
#define SAID "Last-Modified: " MODIFIED "\r\nAccept-Ranges: bytes\r\n"
#define FILE_TEXT "0123456789"

static zk_files_options options;

static int file(zk_request *req, zk_response *res)
{
    return zk_respond_file(res, folder, zk_request_param(req, "path"), &options);
}

static int file_by_default(zk_request *req, zk_response *res)
{
    return zk_respond_file(res, folder, zk_request_param(req, "path"), NULL);
}

/* Without a route's help. */
static int file_raw(zk_request *req, zk_response *res)
{
    return zk_respond_file(res, folder, zk_request_header(req, "X-Path"), NULL);
}

static const zk_route routes[] = {
    {"GET", "/f/{path...}", file_by_default, NULL},
    {"GET", "/o/{path...}", file, NULL},
    {"GET", "/raw", file_raw, NULL},
    {0},
};

static void file_make(const char *name, const char *text)
{
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct timespec times[2] = {{.tv_sec = 784111777}, {.tv_sec = 784111777}};
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    cr_assert_eq(futimens(fd, times), 0);
    close(fd);
}

static void files_make(void)
{
    folder_make();
    cr_assert_eq(mkdir(in_folder("dir"), 0755), 0);
    cr_assert_eq(mkdir(in_folder("bare"), 0755), 0);
    cr_assert_eq(mkfifo(in_folder("fifo"), 0644), 0);
    cr_assert_eq(symlink("a.txt", in_folder("link")), 0);
    cr_assert_eq(symlink("loop", in_folder("loop")), 0);
    file_make("a.txt", FILE_TEXT);
    file_make("empty", "");
    file_make(".hidden", "h");
    file_make("dir/index.html", "<p>");
    file_make("a b.CSS", "c");
}

/* The last answer's, with its quotes. */
static char tag[128];

/* What a request is answered, without the fields that all answers have, and without its ETag. */
static const char *ask(server *s, const char *what, const char *fields)
{
    static char text[4096];
    size_t size = 0;
    zk_stream *c = tcp_open(s);
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n", what,
             fields);
    cr_assert_ok(zk_stream_write(c, text, strlen(text)));
    for (ssize_t n; (n = zk_stream_read(c, text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)n;
    zk_stream_close(c);
    text[size] = '\0';
    common_fields_strip(text, &size);
    char *closing = strstr(text, "Connection: close\r\n");
    if (closing) memmove(closing, closing + 19, strlen(closing + 19) + 1);
    char *at = strstr(text, "ETag: ");
    if (!at) return text;
    char *end = strstr(at, "\r\n");
    snprintf(tag, sizeof tag, "%.*s", (int)(end - at - 6), at + 6);
    memmove(at, end + 2, strlen(end + 2) + 1);
    return text;
}

typedef struct row {
    const char *name, *what, *fields, *out;
} row;

static void rows_run(server *s, const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *out = ask(s, rows[i].what, rows[i].fields);
        cr_expect_str_eq(out, rows[i].out, "%s:\n%s", rows[i].name, out);
    }
}

#define FILES_TEST(name, rows)                                                                     \
    ZK_ASYNC_TEST(files, name)                                                                     \
    {                                                                                              \
        files_make();                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            server s;                                                                              \
            server_start(&s, &scope, &(zk_server){.routes = routes});                              \
            rows_run(&s, rows, ROWS(rows));                                                        \
            server_stop(&s);                                                                       \
        }                                                                                          \
    }

#define WHOLE(length, type, text)                                                                  \
    "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\nContent-Type: " type "\r\n" SAID "\r\n" text
#define TXT "text/plain; charset=utf-8"
#define STATUS_PAGE(length, status, fields)                                                        \
    "HTTP/1.1 " status "\r\nContent-Length: " length "\r\nContent-Type: " TXT "\r\n" fields        \
    "\r\n" status "\n"
#define NOT_FOUND STATUS_PAGE("14", "404 Not Found", "")

static const row found_rows[] = {
    {"a file", "GET /f/a.txt", "", WHOLE("10", TXT, FILE_TEXT)},
    {"its head", "HEAD /f/a.txt", "", WHOLE("10", TXT, "")},
    {"an empty one", "GET /f/empty", "", WHOLE("0", "application/octet-stream", "")},
    {"a link", "GET /f/link", "", WHOLE("10", "application/octet-stream", FILE_TEXT)},
    {"coded name", "GET /f/a%20b.CSS", "", WHOLE("1", "text/css; charset=utf-8", "c")},
    {"an index", "GET /f/dir/", "", WHOLE("3", "text/html; charset=utf-8", "<p>")},
    {"a directory", "GET /f/dir?x=1", "",
     STATUS_PAGE("22", "301 Moved Permanently", "Location: /f/dir/?x=1\r\n")},
    {"no index", "GET /f/bare/", "", NOT_FOUND},
    {"not there", "GET /f/b.txt", "", NOT_FOUND},
    {"below a file", "GET /f/a.txt/b", "", NOT_FOUND},
    {"a FIFO", "GET /f/fifo", "", NOT_FOUND},
    {"links in a circle", "GET /f/loop", "", NOT_FOUND},
    {"hidden", "GET /f/.hidden", "", NOT_FOUND},
    {"hidden above", "GET /raw", "X-Path: dir/.x/../../.hidden\r\n", NOT_FOUND},
    {"above", "GET /raw", "X-Path: ../../../../etc/passwd\r\n", NOT_FOUND},
    {"above, in the middle", "GET /raw", "X-Path: dir/../a.txt\r\n", NOT_FOUND},
    {"above, at the end", "GET /raw", "X-Path: dir/..\r\n", NOT_FOUND},
    {"coded dots", "GET /f/%2e%2e/%2e%2e/etc/passwd", "", STATUS_PAGE("16", "400 Bad Request", "")},
    {"absolute", "GET /raw", "X-Path: /etc/passwd\r\n", NOT_FOUND},
};

FILES_TEST(what_is_there_is_found_and_what_is_not_to_be_seen_is_not, found_rows)

#define NOT_MODIFIED "HTTP/1.1 304 Not Modified\r\n" SAID "\r\n"

static const row condition_rows[] = {
    {"of that date", "GET /f/a.txt", "If-Modified-Since: " MODIFIED "\r\n", NOT_MODIFIED},
    {"of another", "GET /f/a.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
     WHOLE("10", TXT, FILE_TEXT)},
    {"of none", "GET /f/a.txt", "If-Modified-Since: yesterday\r\n", WHOLE("10", TXT, FILE_TEXT)},
    {"any tag", "GET /f/a.txt", "If-None-Match: *\r\n", NOT_MODIFIED},
    {"other tags", "GET /f/a.txt", "If-None-Match: \"a\", W/\"b\"\r\n",
     WHOLE("10", TXT, FILE_TEXT)},
    {"tags come before dates", "GET /f/a.txt",
     "If-None-Match: \"a\"\r\nIf-Modified-Since: " MODIFIED "\r\n", WHOLE("10", TXT, FILE_TEXT)},
    {"no tags", "GET /f/a.txt", "If-None-Match: a, \"\r\n", WHOLE("10", TXT, FILE_TEXT)},
};

FILES_TEST(conditions_are_honoured, condition_rows)

#define PART(length, range, text)                                                                  \
    "HTTP/1.1 206 Partial Content\r\nContent-Length: " length "\r\nContent-Type: " TXT "\r\n" SAID \
    "Content-Range: bytes " range "\r\n\r\n" text
#define NO_PART STATUS_PAGE("26", "416 Range Not Satisfiable", SAID "Content-Range: bytes */10\r\n")
#define ALL WHOLE("10", TXT, FILE_TEXT)

static const row range_rows[] = {
    {"the first", "GET /f/a.txt", "Range: bytes=0-0\r\n", PART("1", "0-0/10", "0")},
    {"in the middle", "GET /f/a.txt", "Range: bytes=2-5\r\n", PART("4", "2-5/10", "2345")},
    {"to the end", "GET /f/a.txt", "Range: bytes=7-\r\n", PART("3", "7-9/10", "789")},
    {"beyond the end", "GET /f/a.txt", "Range: bytes=7-99\r\n", PART("3", "7-9/10", "789")},
    {"the last", "GET /f/a.txt", "Range: Bytes=-3\r\n", PART("3", "7-9/10", "789")},
    {"more than all", "GET /f/a.txt", "Range: bytes=-99\r\n", PART("10", "0-9/10", FILE_TEXT)},
    {"far beyond", "GET /f/a.txt", "Range: bytes=1-99999999999999999999999\r\n",
     PART("9", "1-9/10", "123456789")},
    {"a part's head", "HEAD /f/a.txt", "Range: bytes=2-5\r\n", PART("4", "2-5/10", "")},
    {"behind the end", "GET /f/a.txt", "Range: bytes=10-\r\n", NO_PART},
    {"far behind", "GET /f/a.txt", "Range: bytes=99999999999999999999999-\r\n", NO_PART},
    {"the last none", "GET /f/a.txt", "Range: bytes=-0\r\n", NO_PART},
    {"backwards", "GET /f/a.txt", "Range: bytes=5-2\r\n", ALL},
    {"several", "GET /f/a.txt", "Range: bytes=0-1,3-4\r\n", ALL},
    {"other units", "GET /f/a.txt", "Range: lines=0-1\r\n", ALL},
    {"nothing", "GET /f/a.txt", "Range: bytes=\r\n", ALL},
    {"a dash", "GET /f/a.txt", "Range: bytes=-\r\n", ALL},
    {"no dash", "GET /f/a.txt", "Range: bytes=3\r\n", ALL},
    {"signs", "GET /f/a.txt", "Range: bytes=+1-2\r\n", ALL},
    {"if of that date", "GET /f/a.txt", "Range: bytes=0-0\r\nIf-Range: " MODIFIED "\r\n",
     PART("1", "0-0/10", "0")},
    {"if of another", "GET /f/a.txt", "Range: bytes=0-0\r\nIf-Range: \"a\"\r\n", ALL},
};

FILES_TEST(a_range_of_bytes_is_sent_alone, range_rows)

static void tags_check(server *s)
{
    char field[256];
    cr_assert_str_eq(ask(s, "GET /f/a.txt", ""), ALL);
    snprintf(field, sizeof field, "If-None-Match: \"x\" , W/%s\r\n", tag);
    cr_assert_str_eq(ask(s, "GET /f/a.txt", field), NOT_MODIFIED);
    snprintf(field, sizeof field, "Range: bytes=0-0\r\nIf-Range: %s\r\n", tag);
    cr_assert_str_eq(ask(s, "GET /f/a.txt", field), PART("1", "0-0/10", "0"));
    file_make("a.txt", "abcdefghijk"); /* of the same date */
    snprintf(field, sizeof field, "If-None-Match: %s\r\n", tag);
    cr_assert_str_eq(ask(s, "GET /f/a.txt", field), WHOLE("11", TXT, "abcdefghijk"));
}

ZK_ASYNC_TEST(files, a_tag_is_good_until_the_file_changes)
{
    files_make();
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        tags_check(&s);
        server_stop(&s);
    }
}

ZK_ASYNC_TEST(files, options_say_what_is_not_as_usual)
{
    files_make();
    options = (zk_files_options){.index = "../a.txt",
                                 .cache_control = "no-cache",
                                 .content_type = "x/y",
                                 .shows_hidden = true};
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        const char *wanted = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: x/y\r\n" SAID
                             "Cache-Control: no-cache\r\n\r\nh";
        cr_assert_str_eq(ask(&s, "GET /o/.hidden", ""), wanted);
        cr_assert(strstr(ask(&s, "GET /o/bare/", ""), "\r\n\r\n" FILE_TEXT)); /* it is ours */
        server_stop(&s);
    }
}

/* Nothing is left open, whatever becomes of the request. */
ZK_ASYNC_TEST(files, large_ones_are_sent_and_broken_off)
{
    enum { BYTES = 8 * 1024 * 1024 };
    files_make();
    int fd = open(in_folder("large"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    cr_assert(fd >= 0 && ftruncate(fd, BYTES) == 0);
    close(fd);
    ZK_SCOPE(scope) {
        server s;
        static char buf[65536];
        static const char request[] =
            "GET /f/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        server_start(&s, &scope, &(zk_server){.routes = routes});
        int before = open_count();
        for (int is_whole = 0; is_whole < 2; is_whole++) {
            size_t size = 0;
            zk_stream *c = tcp_open(&s);
            cr_assert_ok(zk_stream_write(c, request, sizeof request - 1));
            for (ssize_t n; (n = zk_stream_read(c, buf, sizeof buf)) > 0 && (is_whole || !size);)
                size += (size_t)n;
            zk_stream_close(c);
            cr_assert(!is_whole || size > BYTES, "%zu", size);
        }
        server_stop(&s);
        cr_assert_leq(open_count(), before);
    }
}
