#include "http/date.h"

#include <string.h>
#include <time.h>

static void put_2(char *out, int n)
{
    out[0] = (char)('0' + n / 10);
    out[1] = (char)('0' + n % 10);
}

/* In place; strftime would ask the locale. */
void zk__date_put(char out[ZK__DATE_BYTES], int64_t second)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)second;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900) {
        t = 0; /* it has four digits for the year */
        gmtime_r(&t, &tm);
    }
    memcpy(out, "Sun, 06 Nov 1994 08:49:37 GMT", ZK__DATE_BYTES);
    memcpy(out, days + 3 * tm.tm_wday, 3);
    put_2(out + 5, tm.tm_mday);
    memcpy(out + 8, months + 3 * tm.tm_mon, 3);
    put_2(out + 12, (tm.tm_year + 1900) / 100);
    put_2(out + 14, tm.tm_year % 100);
    put_2(out + 17, tm.tm_hour);
    put_2(out + 20, tm.tm_min);
    put_2(out + 23, tm.tm_sec);
}
