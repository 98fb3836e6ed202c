/*
 * A tour of tasks: async and await, scopes, errors, deadlines, cleanup, blocking calls.
 *
 * Tasks may run on several threads, so each leaves its result where who waits for it finds it,
 * and only the main task prints.
 */
#include <stdio.h>
#include <zokio/zokio.h>

/* Any C function of this shape is an async function. This one waits, others run meanwhile. */
static int answer_after(void *arg)
{
    int ms = *(int *)arg;
    int rc = zk_sleep(ZK_MS(ms));
    return rc < 0 ? rc : ms;
}

static int async_await(void)
{
    int ms[2] = {30, 20};
    zk_future first, second; /* in this frame: nothing is allocated */
    zk_async(&first, answer_after, &ms[0]);
    zk_async(&second, answer_after, &ms[1]);
    int sum = zk_await(&first) + zk_await(&second);
    printf("two tasks slept side by side and gave %d\n", sum);
    return 0;
}

typedef struct job {
    int number;
    int *result;
} job;

static int square(void *arg)
{
    job *j = arg; /* the task's own copy */
    *j->result = j->number * j->number;
    return 0;
}

static int many(void)
{
    int squares[5] = {0}, rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 5 && rc >= 0; i++) {
            job j = {i, &squares[i]};
            rc = zk_spawn(&s, square, &j); /* copies j */
        }
    } /* left only when all of them are done */
    printf("squares:");
    for (int i = 0; i < 5; i++)
        printf(" %d", squares[i]);
    printf("\n");
    return rc;
}

static int patient(void *arg)
{
    job *j = arg;
    *j->result = zk_sleep(ZK_SEC(60));
    return *j->result;
}

static int failing(void *arg)
{
    job *j = arg;
    (void)zk_sleep(ZK_MS(10));
    *j->result = zk_fail(ZK_E_CLOSED, "job %d", j->number);
    return *j->result;
}

static int first_error(void)
{
    int results[3] = {0}, rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < 3 && rc >= 0; i++) {
            job j = {i, &results[i]};
            rc = i == 1 ? zk_spawn(&s, failing, &j) : zk_spawn(&s, patient, &j);
        }
        if (rc >= 0) rc = zk_scope_wait(&s);
    }
    zk_fail(rc, "the batch"); /* what led to an error is read from the outside in */
    printf("the scope says: %s\n", zk_trail());
    for (int i = 0; i < 3; i++)
        printf("  job %d: %s\n", i, zk_errname(results[i]));
    return 0;
}

static int deadlines(void)
{
    int hour = 60 * 60 * 1000;
    printf("one call under a deadline: %s\n",
           zk_errname(zk_timeout(ZK_MS(20), answer_after, &hour)));
    ZK_WITHIN(ZK_MS(20)) {
        printf("the first call in the block: %s\n", zk_errname(zk_sleep(ZK_SEC(60))));
        printf("the next one, at once: %s\n", zk_errname(zk_sleep(ZK_SEC(60))));
        ZK_SHIELD
            printf("cleanup, shielded: %d\n", zk_sleep(ZK_MS(1)));
    }
    printf("after the block: %d\n", zk_sleep(ZK_MS(1)));
    return 0;
}

/* May block its thread: it runs beside the workers. */
static int add_up(void *arg)
{
    int sum = 0;
    for (int i = 1; i <= *(int *)arg; i++)
        sum += i;
    return sum;
}

static int tour(void *arg)
{
    (void)arg;
    int rc = async_await();
    if (rc >= 0) rc = many();
    if (rc >= 0) rc = first_error();
    if (rc >= 0) rc = deadlines();
    if (rc < 0) return rc;
    printf("a blocking call gave %d\n", zk_blocking(add_up, &(int){100}));
    return 0;
}

int main(void)
{
    int rc = zk_run(NULL, tour, NULL);
    if (rc < 0) fprintf(stderr, "tasks: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    return rc < 0;
}
