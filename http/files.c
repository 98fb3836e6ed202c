/*
 * Files as responses: what the request may see, what it has already (conditions), which part it
 * wants (ranges), and then the bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <zokio/file.h>
#include <zokio/files.h>

#include "http/date.h"
#include "http/exchange.h"
#include "http/h1.h"

/* Less is not worth a system call of its own. */
enum { KERNEL_BYTES_MIN = 64 * 1024 };
enum { PIECE_BYTES = 64 * 1024, PATH_BYTES_MAX = 4096, TAG_BYTES = 64 };

/* The file of a request. */
typedef struct found {
    zk_file *file;
    struct stat stat;
    char path[PATH_BYTES_MAX];
    size_t path_size;
    char tag[TAG_BYTES], modified[ZK__DATE_BYTES];
} found;

/* Of its bytes, those that are sent. */
typedef struct range {
    int64_t first, size;
    bool is_part;
} range;

/* ---- which file ---- */

/* Whether each name of the path may be asked for. */
static bool is_allowed(zk_str path, const zk_files_options *options)
{
    if (memchr(path.data, '\0', path.size)) return false;
    for (size_t i = 0; i <= path.size;) {
        const char *name = path.data + i;
        const char *slash = i < path.size ? memchr(name, '/', path.size - i) : NULL;
        size_t size = slash ? (size_t)(slash - name) : path.size - i;
        bool is_up = size == 2 && name[0] == '.' && name[1] == '.';
        bool is_hidden = size > 0 && name[0] == '.';
        if (is_up || (is_hidden && !options->shows_hidden)) return false;
        i += size + 1;
    }
    return true;
}

/* returns a status for what cannot be opened; 0 for what is not the request's fault. */
static int status_of_open(int rc)
{
    switch (rc) {
    case -ENOENT:
    case -ENOTDIR:
    case -ELOOP:
    case -ENAMETOOLONG:
    case -ENXIO: /* a socket */ return 404;
    case -EACCES:
    case -EPERM: return 403;
    default: return 0;
    }
}

static int found_open(found *f)
{
    /* Not to wait for who else opens a FIFO. */
    int rc = zk_file_open(f->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &f->file);
    return rc < 0 ? rc : zk_file_stat(f->file, &f->stat);
}

static int found_close(found *f, int rc)
{
    if (f->file) (void)zk_file_close(f->file); /* it was only read */
    f->file = NULL;
    return rc;
}

static bool path_add(found *f, const char *data, size_t size)
{
    if (size >= sizeof f->path - f->path_size) return false;
    memcpy(f->path + f->path_size, data, size);
    f->path_size += size;
    f->path[f->path_size] = '\0';
    return true;
}

/* Opens the file, or a directory's index. returns 0; a status to answer with; an error. */
static int find(found *f, const char *root, zk_str path, const zk_files_options *options)
{
    bool is_short =
        path_add(f, root, strlen(root)) && path_add(f, "/", 1) && path_add(f, path.data, path.size);
    if (!is_short || !is_allowed(path, options)) return 404;
    int rc = found_open(f);
    if (!rc && S_ISDIR(f->stat.st_mode)) {
        if (path.size && path.data[path.size - 1] != '/') return 301;
        found_close(f, 0);
        const char *index = options->index ? options->index : "index.html";
        if (!path_add(f, index, strlen(index))) return 404;
        rc = found_open(f);
    }
    if (rc < 0) {
        int status = status_of_open(rc);
        return status ? status : rc;
    }
    return S_ISREG(f->stat.st_mode) ? 0 : 404;
}

/* ---- what is said about it ---- */

static const char *type_of(zk_str path)
{
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"json", "application/json"},
        {"map", "application/json"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"xml", "application/xml"},
        {"svg", "image/svg+xml"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"avif", "image/avif"},
        {"ico", "image/x-icon"},
        {"woff", "font/woff"},
        {"woff2", "font/woff2"},
        {"ttf", "font/ttf"},
        {"wasm", "application/wasm"},
        {"pdf", "application/pdf"},
        {"zip", "application/zip"},
        {"gz", "application/gzip"},
        {"mp3", "audio/mpeg"},
        {"ogg", "audio/ogg"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
    };
    const char *dot = memrchr(path.data, '.', path.size);
    if (!dot) return "application/octet-stream";
    zk_str ending = {dot + 1, (size_t)(path.data + path.size - dot - 1)};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (zk__name_equal(ending, types[i][0], strlen(types[i][0]))) return types[i][1];
    }
    return "application/octet-stream";
}

/* Changes with every change that the file system can tell. */
static void describe(found *f)
{
    const struct timespec *t = &f->stat.st_mtim;
    snprintf(f->tag, sizeof f->tag, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
             (uint64_t)f->stat.st_ino, (uint64_t)f->stat.st_size,
             (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec);
    zk__date_put(f->modified, t->tv_sec);
}

static bool is_modified_at(const found *f, zk_str date)
{
    return date.size == ZK__DATE_BYTES && !memcmp(date.data, f->modified, ZK__DATE_BYTES);
}

/* Whether a list of entity tags has this one, by the weak comparison (RFC 9110 section 8.8.3.2). */
static bool list_has(zk_str list, zk_str tag)
{
    for (size_t i = 0; i < list.size;) {
        char c = list.data[i];
        if (c == ' ' || c == '\t' || c == ',') {
            i++;
            continue;
        }
        if (c == '*') return true;
        if (c == 'W' && list.size - i > 2 && list.data[i + 1] == '/') i += 2;
        if (list.data[i] != '"') return false;
        const char *end = memchr(list.data + i + 1, '"', list.size - i - 1);
        if (!end) return false;
        size_t size = (size_t)(end - (list.data + i)) + 1;
        if (size == tag.size && !memcmp(list.data + i, tag.data, size)) return true;
        i += size;
    }
    return false;
}

/* Whether the client has it already. A date is compared as it was given out. */
static bool is_had(const zk_request *req, const found *f)
{
    zk_str tags = zk_request_header(req, "If-None-Match");
    if (tags.data) return list_has(tags, (zk_str){f->tag, strlen(f->tag)});
    return is_modified_at(f, zk_request_header(req, "If-Modified-Since"));
}

/* ---- ranges ---- */

/* Digits up to something else. returns -1 without any, INT64_MAX for what is too large. */
static int64_t number(zk_str text, size_t *at)
{
    size_t begin = *at;
    int64_t n = 0;
    for (; *at < text.size && text.data[*at] >= '0' && text.data[*at] <= '9'; ++*at) {
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, text.data[*at] - '0', &n))
            n = INT64_MAX / 16; /* larger than any file, and stays so */
    }
    return *at == begin ? -1 : n;
}

/* The part that is asked for (RFC 9110 section 14). returns false if none of it is there. */
static bool range_of(const zk_request *req, const found *f, range *ret)
{
    int64_t size = f->stat.st_size;
    *ret = (range){.size = size};
    zk_str text = zk_request_header(req, "Range"), on = zk_request_header(req, "If-Range");
    size_t at = 6;
    if (text.size < at || !zk__name_equal((zk_str){text.data, at}, "bytes=", at)) return true;
    bool is_tag = on.size == strlen(f->tag) && !memcmp(on.data, f->tag, on.size);
    if (on.data && !is_tag && !is_modified_at(f, on)) return true;
    int64_t from = number(text, &at);
    if (at >= text.size || text.data[at++] != '-') return true;
    int64_t to = number(text, &at);
    bool is_one = at == text.size && (from >= 0 || to >= 0) && (from < 0 || to < 0 || from <= to);
    if (!is_one) return true;                                     /* several, or no such thing */
    int64_t first = from >= 0 ? from : to < size ? size - to : 0; /* "-500": the last 500 */
    int64_t last = from >= 0 && to >= 0 && to < size ? to : size - 1;
    if (first > last) return false;
    *ret = (range){.first = first, .size = last - first + 1, .is_part = true};
    return true;
}

/* ---- the response ---- */

static int redirect(zk_response *res)
{
    zk_str target = zk_request_target(res->req);
    /* "//a" would be another host's. */
    for (; target.size > 1 && target.data[0] == '/' && target.data[1] == '/'; target.size--)
        target.data++;
    const char *query = memchr(target.data, '?', target.size);
    size_t path_size = query ? (size_t)(query - target.data) : target.size;
    size_t size = target.size + 1;
    char *to = zk_arena_alloc(&res->req->arena, size);
    if (!to) return -ENOMEM;
    memcpy(to, target.data, path_size);
    to[path_size] = '/';
    memcpy(to + path_size + 1, target.data + path_size, target.size - path_size);
    int rc = zk_response_header_n(res, "Location", (zk_str){to, size});
    return rc < 0 ? rc : zk_respond_status(res, 301);
}

static int fields_add(zk_response *res, const found *f, const zk_files_options *options)
{
    int rc = zk_response_header(res, "ETag", f->tag);
    if (!rc) rc = zk_response_header_n(res, "Last-Modified", (zk_str){f->modified, ZK__DATE_BYTES});
    if (!rc) rc = zk_response_header(res, "Accept-Ranges", "bytes");
    if (!rc && options->cache_control) {
        rc = zk_response_header(res, "Cache-Control", options->cache_control);
    }
    return rc;
}

static int content_range_add(zk_response *res, const found *f, const range *r)
{
    char text[80];
    int64_t size = f->stat.st_size;
    if (r->is_part) {
        snprintf(text, sizeof text, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, r->first,
                 r->first + r->size - 1, size);
    } else {
        snprintf(text, sizeof text, "bytes */%" PRId64, size);
    }
    return zk_response_header(res, "Content-Range", text);
}

/* What the kernel sends without its passing through here. returns how many bytes are done. */
static int64_t bytes_send_by_kernel(zk_response *res, found *f, const range *r)
{
    int64_t done = 0;
    while (r->size >= KERNEL_BYTES_MIN && done < r->size) {
        ssize_t n =
            zk__response_send_file(res, f->file, r->first + done, (uint64_t)(r->size - done));
        if (n < 0) return n == -EOPNOTSUPP ? done : n;
        done += n;
    }
    return done;
}

static int bytes_send(zk_response *res, found *f, const range *r)
{
    int64_t done = bytes_send_by_kernel(res, f, r);
    if (done < 0 || done == r->size) return done < 0 ? (int)done : 0;
    char *piece = zk_alloc(PIECE_BYTES);
    if (!piece) return -ENOMEM;
    int rc = 0;
    for (int64_t at = r->first + done, end = r->first + r->size; at < end && !rc;) {
        size_t want = end - at < PIECE_BYTES ? (size_t)(end - at) : PIECE_BYTES;
        ssize_t n = zk_file_read_at(f->file, piece, want, at);
        if (n <= 0) {
            rc = n < 0 ? (int)n : ZK_E_HTTP_LENGTH; /* it has become shorter */
            break;
        }
        rc = zk_response_write(res, piece, (size_t)n);
        at += n;
    }
    zk_free(piece);
    return rc;
}

static int respond(zk_response *res, found *f, const zk_files_options *options)
{
    range r;
    int rc = fields_add(res, f, options);
    if (rc < 0) return rc;
    if (is_had(res->req, f)) return zk_respond(res, 304, NULL, NULL, 0);
    if (!range_of(res->req, f, &r)) {
        rc = content_range_add(res, f, &r);
        return rc < 0 ? rc : zk_respond_status(res, 416);
    }
    if (r.is_part) rc = content_range_add(res, f, &r);
    const char *type =
        options->content_type ? options->content_type : type_of((zk_str){f->path, f->path_size});
    if (!rc) rc = zk_response_begin(res, r.is_part ? 206 : 200, type, r.size);
    if (rc < 0 || res->is_bodiless) return rc;
    return bytes_send(res, f, &r);
}

int zk_respond_file(zk_response *res, const char *root, zk_str path,
                    const zk_files_options *options)
{
    static const zk_files_options defaults;
    if (!options) options = &defaults;
    found *f = zk_alloc(sizeof *f);
    if (!f) return -ENOMEM;
    f->file = NULL;
    f->path_size = 0;
    int rc = find(f, root, path, options);
    if (rc == 301) {
        rc = redirect(res);
    } else if (rc > 0) {
        rc = zk_respond_status(res, rc);
    } else if (!rc) {
        describe(f);
        rc = respond(res, f, options);
    }
    rc = found_close(f, rc);
    zk_free(f);
    return rc;
}
