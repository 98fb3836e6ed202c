/*
 * The same thing from several mirrors at once: the first that has it wins, the others are
 * cancelled; a mirror that fails is no loss; and all of it has a deadline.
 */
#include <errno.h>
#include <stdio.h>
#include <zokio/zokio.h>

typedef struct mirror {
    const char *name;
    int delay_ms;
    int error; /* what it fails with; 0 */
    const char *end;
} mirror;

/* Stands for a download. */
static int fetch(void *arg)
{
    mirror *m = arg;
    int rc = zk_sleep(ZK_MS(m->delay_ms));
    if (rc == 0 && m->error) rc = zk_fail(m->error, "fetching from %s", m->name);
    m->end = rc == 0 ? "has it" : rc == -ECANCELED ? "cancelled" : "failed";
    return rc;
}

static void report(const char *title, mirror *mirrors, int rc)
{
    printf("%s: ", title);
    if (rc >= 0) {
        printf("%s", mirrors[rc].name);
    } else {
        printf("%s", zk_errname(rc));
    }
    for (int i = 0; i < 3; i++)
        printf("%s%s %s", i ? ", " : " (", mirrors[i].name, mirrors[i].end);
    printf(")\n");
}

static int run(void *arg)
{
    (void)arg;
    int rc = 0;
    mirror a[] = {{"one", 500, 0, ""}, {"two", 20, 0, ""}, {"three", 1, -EIO, ""}};
    ZK_WITHIN(ZK_SEC(2)) {
        rc = zk_any({fetch, &a[0]}, {fetch, &a[1]}, {fetch, &a[2]});
    }
    report("in time", a, rc);

    mirror b[] = {{"one", 60000, 0, ""}, {"two", 60000, 0, ""}, {"three", 1, -EIO, ""}};
    ZK_WITHIN(ZK_MS(30)) {
        rc = zk_any({fetch, &b[0]}, {fetch, &b[1]}, {fetch, &b[2]});
    }
    report("too late", b, rc);
    return 0;
}

int main(void) { return zk_run(NULL, run, NULL) < 0; }
