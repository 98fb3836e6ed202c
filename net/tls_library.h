/*
 * OpenSSL, as the files of TLS include it.
 *
 * It is loaded when a zk_tls is first made: a program that serves and asks for plain HTTP only does
 * not spend the memory and the time that it takes. For that its functions have names of ours here,
 * of jumps (tls_jumps.S) to where zk__tls_library_load has found them; code calls them as always.
 * Meson's option tls_linked leaves all of this out.
 */
#ifndef ZOKIO_NET_TLS_LIBRARY_H
#define ZOKIO_NET_TLS_LIBRARY_H

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#if ZK__TLS_LINKED

static inline int zk__tls_library_load(void) { return 0; }

#else

#include "net/tls_functions.h"

#define RENAME(name) extern __typeof__(name) name __asm__("zk__openssl_" #name);
ZK__OPENSSL_FUNCTIONS(RENAME)
#undef RENAME

/* Before any other function of OpenSSL. May be called again, by any thread. returns 0; -ELIBACC: it
 * is not there, or another one (the trail says what is missing). */
int zk__tls_library_load(void);
/* The same from this file of the dynamic linker's. */
int zk__tls_library_load_from(const char *file);

#endif

#endif
