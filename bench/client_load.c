/*
 * The library's client as a load, for bench/proxy.py: client-load URL TASKS SECONDS
 *
 * So many tasks, each fetching the URL again and again over connections of the pool. Prints
 *
 *     REQUESTS SECONDS ERRORS
 */
#include <stdio.h>
#include <stdlib.h>
#include <zokio/zokio.h>

#include <zokio/client.h>

struct load {
    const char *url;
    int tasks;
    zk_time seconds;
    zk_client *client;
    zk_time end;
    unsigned long long requests, errors;
};

static int fetch_on(void *arg)
{
    struct load *load = arg;
    while (zk_now() < load->end) {
        zk_fetch *f;
        zk_str body = {"", 0};
        int rc = zk_fetch_open(load->client, &(zk_fetch_options){.url = load->url}, &f);
        if (rc < 0) return rc;
        rc = zk_fetch_body(f, &body);
        if (rc < 0 || zk_fetch_status(f) != 200 || !body.size) load->errors++;
        load->requests++;
        zk_fetch_close(f);
    }
    return 0;
}

static int run(void *arg)
{
    struct load *load = arg;
    /* Reading whom the system trusts would be a part of the figure. */
    static const zk_tls_client blind = {.insecure_skip_verification = true};
    zk_client_options options = {
        .connections_max = 1024, .idle_connections_max = 1024, .tls = &blind};
    int rc = zk_client_new(&options, &load->client);
    if (rc < 0) return rc;
    zk_time begin = zk_now();
    load->end = begin + load->seconds;
    ZK_SCOPE(tasks) {
        for (int i = 0; i < load->tasks && !rc; i++)
            rc = zk_spawn(&tasks, fetch_on, (void *)load);
        if (!rc) rc = zk_scope_wait(&tasks);
    }
    printf("%llu %.3f %llu\n", load->requests, (double)(zk_now() - begin) / 1e9, load->errors);
    zk_client_free(load->client);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: client-load URL TASKS SECONDS\n");
        return 2;
    }
    struct load load = {.url = argv[1], .tasks = atoi(argv[2]), .seconds = ZK_SEC(atoi(argv[3]))};
    int rc = zk_run(NULL, run, &load);
    if (rc < 0) fprintf(stderr, "client-load: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
