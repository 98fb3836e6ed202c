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
    int size = *name ? snprintf(shard->common, sizeof shard->common, "Server: %s\r\nDate: ", name)
                     : snprintf(shard->common, sizeof shard->common, "Date: ");
    shard->date_at = (size_t)size;
    memcpy(shard->common + size + 29, "\r\n", 2);
    shard->common_size = (size_t)size + 31;
    shard->common_second = -1;
    zk__shard_common_renew(shard);
    zk__spare_init(&shard->spare_sessions, ZK__SESSIONS_KEPT, zk__session_free_one);
    shard->stage = zk_alloc(ZK__STAGE_BYTES); /* without one, responses are sent one by one */
}

void zk__shard_common_renew(zk__shard *shard)
{
    shard->common_checked = zk_now();
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    if (t.tv_sec == shard->common_second) return;
    shard->common_second = t.tv_sec;
    zk__date_put(shard->common + shard->date_at, t.tv_sec);
}
