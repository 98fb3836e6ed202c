#include <errno.h>
#include "core/poller.h"
static int uring_open(zk__poller *poller) { (void)poller; return -ENOSYS; }
const struct zk__poller_ops zk__poller_uring = {.name = "io_uring", .open = uring_open};
