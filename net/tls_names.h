/*
 * Which certificate is for which name.
 */
#ifndef ZOKIO_NET_TLS_NAMES_H
#define ZOKIO_NET_TLS_NAMES_H

#include <zokio/base.h>

enum { ZK__TLS_NAME_MAX = 255 };

typedef struct zk__tls_name {
    char *text; /* lower case; of a wildcard what follows the '*', so ".example.org" */
    uint32_t size;
    int index; /* of the certificate */
} zk__tls_name;

/* Zero-initialised is empty. */
typedef struct zk__tls_names {
    zk__tls_name *all; /* sorted once zk__tls_names_sort has been called */
    size_t count, capacity;
} zk__tls_names;

/* Adds a name or a wildcard; one that cannot match anything is left out. returns 0, -ENOMEM. */
int zk__tls_names_add(zk__tls_names *names, const char *text, size_t size, int index);
void zk__tls_names_sort(zk__tls_names *names);
/* The certificate for a host: that of the name itself, else that of a wildcard. returns its index,
 * the lowest if there are several; -1 if there is none. */
int zk__tls_names_find(const zk__tls_names *names, const char *host, size_t size);
void zk__tls_names_done(zk__tls_names *names);

#endif
