/*
 * The Date and Server fields, written once a second and worker (RFC 9110 sections 6.6.1 and 5.6.7).
 */
#include <string.h>
#include <time.h>

#include "http/date.h"
#include "http/h1_conn.h"

void zk__shard_init(zk__shard *shard)
{
    const char *name = shard->config->server_name;
    int size = snprintf(shard->plain, sizeof shard->plain,
                        "HTTP/1.1 200 OK\r\n%s%s%sDate: ", *name ? "Server: " : "", name,
                        *name ? "\r\n" : "");
    shard->date_at = (size_t)size;
    shard->common_size = shard->date_at + 31 - ZK__STATUS_OK_BYTES;
    memcpy(shard->plain + size + 29, "\r\nContent-Length: ", 2 + ZK__LENGTH_NAME_BYTES);
    shard->common_second = -1;
    zk__shard_common_renew(shard);
    zk__spare_init(&shard->spare_sessions, ZK__SESSIONS_KEPT, zk__session_free_one);
    shard->stage = zk_alloc(ZK__STAGE_BYTES); /* without one, responses are sent one by one */
}

void zk__shard_common_renew(zk__shard *shard)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    shard->common_due = zk_now() + ZK_SEC(1) - t.tv_nsec;
    if (t.tv_sec == shard->common_second) return;
    shard->common_second = t.tv_sec;
    zk__date_put(shard->plain + shard->date_at, t.tv_sec);
}
