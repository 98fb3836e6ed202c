/*
 * The Date and Server fields, written once a second and worker (RFC 9110 sections 6.6.1 and 5.6.7).
 */
#include <string.h>
#include <time.h>

#include "http/h1_conn.h"

static void put_2(char *out, int n)
{
    out[0] = (char)('0' + n / 10);
    out[1] = (char)('0' + n % 10);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" in place; strftime would ask the locale. */
static void put_date(char out[29], int64_t second)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)second;
    struct tm tm;
    gmtime_r(&t, &tm);
    memcpy(out, "Sun, 06 Nov 1994 08:49:37 GMT", 29);
    memcpy(out, days + 3 * tm.tm_wday, 3);
    put_2(out + 5, tm.tm_mday);
    memcpy(out + 8, months + 3 * tm.tm_mon, 3);
    put_2(out + 12, (tm.tm_year + 1900) / 100);
    put_2(out + 14, tm.tm_year % 100);
    put_2(out + 17, tm.tm_hour);
    put_2(out + 20, tm.tm_min);
    put_2(out + 23, tm.tm_sec);
}

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
    put_date(shard->common + shard->date_at, t.tv_sec);
}
