/*
 * HTTP's form of dates (RFC 9110 section 5.6.7).
 */
#ifndef ZOKIO_HTTP_DATE_H
#define ZOKIO_HTTP_DATE_H

#include <stdint.h>

enum { ZK__DATE_BYTES = 29 };

/* "Sun, 06 Nov 1994 08:49:37 GMT"; no NUL behind it. */
void zk__date_put(char out[ZK__DATE_BYTES], int64_t second);

#endif
