/*
 * A server without sockets, for a client of the same worker: its connections are in-memory pairs.
 */
#ifndef ZOKIO_HTTP_CLIENT_LOCAL_H
#define ZOKIO_HTTP_CLIENT_LOCAL_H

#include <zokio/server.h>

typedef struct zk__local zk__local;

/* returns 0; ZK_E_CONFIG, ZK_E_HTTP_ROUTE, -ENOMEM. */
int zk__local_new(const zk_server *server, zk__local **ret_local);
/* A connection to it. returns 0, -ENOMEM. */
int zk__local_dial(zk__local *local, zk_stream **ret_stream);
/* Ends what its handlers are doing and waits for that; NULL is allowed. Suspends sometimes. */
void zk__local_free(zk__local *local);

#endif
