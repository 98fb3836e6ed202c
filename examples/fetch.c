/*
 * Fetches URLs, all at once, and writes what came: fetch URL...
 *
 * With one URL the body goes to standard output as it arrives; with several each gets a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <zokio/zokio.h>

#include <zokio/client.h>

struct job {
    const char *url;
    bool is_only;
};

static int show(zk_fetch *page)
{
    char part[64 * 1024];
    ssize_t n;
    while ((n = zk_fetch_read(page, part, sizeof part)) > 0)
        fwrite(part, 1, (size_t)n, stdout);
    return (int)n;
}

static int measure(zk_fetch *page, const char *url)
{
    char part[64 * 1024];
    long long total = 0;
    ssize_t n;
    while ((n = zk_fetch_read(page, part, sizeof part)) > 0)
        total += n;
    if (n < 0) return (int)n;
    printf("%d  %lld bytes  %s\n", zk_fetch_status(page), total, url);
    return 0;
}

static int fetch(void *arg)
{
    const struct job *job = arg;
    zk_fetch *page;
    int rc = zk_get(job->url, &page);
    if (!rc) {
        rc = job->is_only ? show(page) : measure(page, job->url);
        zk_fetch_close(page);
    }
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", job->url, *zk_trail() ? zk_trail() : zk_strerror(rc));
    }
    return job->is_only ? rc : 0; /* of several, one that fails does not end the others */
}

static int fetch_all(void *arg)
{
    char **urls = arg;
    bool is_only = urls[0] && !urls[1];
    int rc = 0;
    ZK_WITHIN(ZK_SEC(60)) {
        ZK_SCOPE(fetches) {
            for (; *urls && !rc; urls++)
                rc = zk_spawn(&fetches, fetch, (&(struct job){*urls, is_only}));
            if (!rc) rc = zk_scope_wait(&fetches);
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: fetch URL...\n");
        return 2;
    }
    return zk_run(NULL, fetch_all, argv + 1) < 0;
}
