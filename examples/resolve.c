/*
 * Finds the addresses of hosts, or connects to them.
 *
 *   resolve NAME...         prints each host's addresses
 *   resolve HOST:PORT...    connects, and prints the address that it reached
 */
#include <stdio.h>
#include <string.h>
#include <zokio/dns.h>
#include <zokio/zokio.h>

enum { ADDRESSES_MAX = 32 };

static int show(const char *name)
{
    zk_addr addresses[ADDRESSES_MAX];
    char text[ZK_ADDR_TEXT_BYTES];
    int count = zk_resolve(name, NULL, addresses, ADDRESSES_MAX);
    for (int i = 0; i < count; i++) {
        zk_addr_format(&addresses[i], text);
        *strrchr(text, ':') = '\0'; /* there is no port */
        printf("%s %s\n", name, text);
    }
    return count;
}

static int reach(const char *host)
{
    zk_stream *stream;
    zk_addr peer;
    char text[ZK_ADDR_TEXT_BYTES];
    int rc = zk_connect_host(host, NULL, &stream);
    if (rc < 0) return rc;
    rc = zk_stream_peer(stream, &peer);
    if (rc >= 0) {
        zk_addr_format(&peer, text);
        printf("%s reached at %s\n", host, text);
    }
    zk_stream_close(stream);
    return rc;
}

static int resolve_all(void *arg)
{
    int failed = 0;
    for (char **name = arg; *name; name++) {
        int rc = 0;
        const char *colon = strchr(*name, ':');
        bool has_port = colon && (*name[0] == '[' || !strchr(colon + 1, ':'));
        ZK_WITHIN(ZK_SEC(10))
            rc = has_port ? reach(*name) : show(*name);
        if (rc >= 0) continue;
        fprintf(stderr, "resolve: %s\n", zk_trail());
        failed = 1;
    }
    return failed;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: resolve NAME|HOST:PORT...\n");
        return 2;
    }
    return zk_run(&(zk_config){.workers = 1}, resolve_all, argv + 1) != 0;
}
