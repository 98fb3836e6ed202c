/*
 * A pipeline over channels: numbers are made, squared by three tasks at a time, and summed. Each
 * stage closes its channel when it is done, which ends the next one. The channels are bounded, so
 * no stage runs far ahead of the slowest.
 */
#include <stdio.h>
#include <zokio/zokio.h>

enum { NUMBERS = 1000, SQUARERS = 3, AHEAD = 16 };

static zk_channel *numbers, *squares;

static int make_numbers(void *arg)
{
    (void)arg;
    int rc = 0;
    for (long n = 1; n <= NUMBERS && rc == 0; n++)
        rc = zk_channel_send(numbers, &n);
    zk_channel_close(numbers);
    return rc;
}

static int square(void *arg)
{
    (void)arg;
    long n;
    int rc;
    while ((rc = zk_channel_recv(numbers, &n)) == 0) {
        n *= n;
        rc = zk_channel_send(squares, &n);
        if (rc < 0) return rc;
    }
    return rc == ZK_E_CLOSED ? 0 : rc;
}

static int square_all(void *arg)
{
    (void)arg;
    int rc = zk_join({square, NULL}, {square, NULL}, {square, NULL});
    zk_channel_close(squares);
    return rc;
}

static int sum(void *arg)
{
    long n, *total = arg;
    int rc;
    while ((rc = zk_channel_recv(squares, &n)) == 0)
        *total += n;
    return rc == ZK_E_CLOSED ? 0 : rc;
}

static int run(void *arg)
{
    (void)arg;
    long total = 0;
    int rc = zk_channel_new(sizeof(long), AHEAD, &numbers);
    if (rc == 0) rc = zk_channel_new(sizeof(long), AHEAD, &squares);
    if (rc == 0) rc = zk_join({make_numbers, NULL}, {square_all, NULL}, {sum, &total});
    if (rc == 0) printf("the sum of the first %d squares is %ld\n", NUMBERS, total);
    zk_channel_free(numbers);
    zk_channel_free(squares);
    return rc;
}

int main(void)
{
    int rc = zk_run(NULL, run, NULL);
    if (rc < 0) fprintf(stderr, "pipeline: %s\n", zk_strerror(rc));
    return rc < 0;
}
