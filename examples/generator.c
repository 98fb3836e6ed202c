/*
 * A generator: prime numbers for as long as somebody asks for more. The producer is a loop that
 * emits; what takes its items filters, maps and groups them.
 */
#include <stdio.h>
#include <zokio/zokio.h>

static int count_up(zk_emitter *out, void *arg)
{
    for (long n = *(const long *)arg;; n++) {
        int rc = zk_emit(out, &n); /* waits until it is asked for */
        if (rc < 0) return rc;     /* the iterator has been closed */
    }
}

static int is_prime(const void *item, void *arg)
{
    (void)arg;
    long n = *(const long *)item;
    for (long d = 2; d * d <= n; d++) {
        if (n % d == 0) return 0;
    }
    return n > 1;
}

static int square(const void *item, void *ret_item, void *arg)
{
    (void)arg;
    long n = *(const long *)item;
    *(long *)ret_item = n * n;
    return 0;
}

static int run(void *arg)
{
    (void)arg;
    long first = 1;
    zk_iter *it;
    int rc = zk_iter_generate(sizeof(long), count_up, &first, &it);
    if (rc < 0) return rc;
    rc = zk_iter_filter(&it, is_prime, NULL);
    if (rc == 0) rc = zk_iter_map(&it, sizeof(long), square, NULL);
    if (rc == 0) rc = zk_iter_take(&it, 10);
    if (rc == 0) rc = zk_iter_chunk(&it, 4, 0);
    zk_chunk chunk;
    while (rc == 0 && (rc = zk_iter_next(it, &chunk)) > 0) {
        const long *squares = chunk.items;
        for (size_t i = 0; i < chunk.count; i++)
            printf("%ld%s", squares[i], i + 1 < chunk.count ? " " : "\n");
        rc = 0;
    }
    zk_iter_close(it); /* ends the producer, which would go on for ever */
    return rc;
}

int main(void)
{
    int rc = zk_run(NULL, run, NULL);
    if (rc < 0) fprintf(stderr, "generator: %s\n", zk_strerror(rc));
    return rc < 0;
}
