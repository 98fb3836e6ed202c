/*
 * Files as responses: those below a directory, as browsers and caches want them.
 *
 *     static int files(zk_request *req, zk_response *res)
 *     {
 *         return zk_respond_file(res, "/srv/www", zk_request_param(req, "path"), NULL);
 *     }
 *
 *     {"GET", "/files/{path...}", files},
 */
#ifndef ZOKIO_FILES_H
#define ZOKIO_FILES_H

#include <zokio/http.h>

ZK_BEGIN

/** How zk_respond_file answers. Zero-initialised is a sane choice. */
typedef struct zk_files_options {
    const char *index;         /* the file that stands for its directory; NULL: "index.html" */
    const char *cache_control; /* the field of that name, "max-age=3600"; NULL: none */
    const char *content_type;  /* NULL: by the name's ending */
    bool shows_hidden;         /* names that begin with a dot, else found by nobody */
} zk_files_options;

/**
 * Answers a GET or HEAD with the file below `root` that `path` names. Symbolic links are followed;
 * a path with ".." is not found. A directory is answered with its index, behind a redirect to the
 * path with a slash at its end.
 *
 * The response has Last-Modified and an ETag, honours If-None-Match and If-Modified-Since (304) as
 * RFC 9110 section 13 has them, and a Range of bytes (206, 416; several ranges at once are answered
 * with the whole) with If-Range. What is not there, or no regular file, gets 404; what may not be
 * read 403.
 *
 * Suspends always. The file is read piece by piece as the client takes it; should it shrink
 * meanwhile the connection is broken off.
 *
 * @param path     slashes between names, decoded: what {path...} of a route has matched
 * @param options  NULL for the defaults
 * @return as zk_respond and zk_response_write; system errors of opening and reading it, which get a
 *   500: -EMFILE, -EIO, ...
 */
ZK_API int zk_respond_file(zk_response *res, const char *root, zk_str path,
                           const zk_files_options *options);

ZK_END
#endif
