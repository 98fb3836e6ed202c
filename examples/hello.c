/*
 * The smallest server: any path answers "Hello, World!".
 *
 *   hello [ADDR:PORT]
 */
#include <stdio.h>
#include <zokio/zokio.h>

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond(res, 200, "text/plain", "Hello, World!", 13);
}

static const zk_route routes[] = {{"GET", "/{path...}", hello, NULL}, {0}};

int main(int argc, char **argv)
{
    int rc = zk_serve(&(zk_server){.listen = argc > 1 ? argv[1] : NULL, .routes = routes});
    if (rc < 0) fprintf(stderr, "hello: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
