/*
 * Loading OpenSSL: see tls_library.h.
 */
#include "net/tls_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include <zokio/error.h>

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define NAME(name) #name,

/* In the order of names: tls_jumps.S. */
extern void *zk__openssl_functions[];

static const char *const names[] = {ZK__OPENSSL_FUNCTIONS(NAME)};
enum { COUNT = sizeof names / sizeof *names };

int zk__tls_library_load_from(const char *file)
{
    void *found[COUNT];
    /* libcrypto comes with it. What fits is never closed: OpenSSL wants to be told of the exit. */
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) return zk_fail(-ELIBACC, "loading OpenSSL: %s", dlerror());
    for (int i = 0; i < COUNT; i++) {
        found[i] = dlsym(library, names[i]);
        if (found[i]) continue;
        dlclose(library);
        return zk_fail(-ELIBACC, "loading OpenSSL: %s has no %s", file, names[i]);
    }
    for (int i = 0; i < COUNT; i++)
        zk__openssl_functions[i] = found[i];
    return 0;
}

int zk__tls_library_load(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool is_loaded;
    int rc = 0;
    pthread_mutex_lock(&lock);
    if (!is_loaded) {
        /* The version that the headers are of. */
        rc = zk__tls_library_load_from("libssl.so." TEXT(OPENSSL_SHLIB_VERSION));
        is_loaded = !rc;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}
