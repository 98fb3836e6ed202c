/*
 * What error codes are called and what they mean. Needs no state, no locale and no memory.
 */
#define _GNU_SOURCE
#include <string.h>

#include <zokio/error.h>

/* All codes above are the system's, negated. */
enum { OWN_CODES_FROM = -4096 };

static const struct own_error {
    int code;
    const char *name, *text;
} own_errors[] = {
#define OWN_ERROR(name, number, text) {number, #name, text},
    ZK_ERRORS(OWN_ERROR)
#undef OWN_ERROR
};

static const struct own_error *own_error_find(int rc)
{
    for (size_t i = 0; i < sizeof own_errors / sizeof own_errors[0]; i++) {
        if (own_errors[i].code == rc) return &own_errors[i];
    }
    return NULL;
}

const char *zk_strerror(int rc)
{
    if (rc >= 0) return "success";
    const char *text;
    if (rc > OWN_CODES_FROM) {
        text = strerrordesc_np(-rc);
    } else {
        const struct own_error *error = own_error_find(rc);
        text = error ? error->text : NULL;
    }
    return text ? text : "unknown error";
}

const char *zk_errname(int rc)
{
    if (rc >= 0) return "?";
    const char *name;
    if (rc > OWN_CODES_FROM) {
        name = strerrorname_np(-rc);
    } else {
        const struct own_error *error = own_error_find(rc);
        name = error ? error->name : NULL;
    }
    return name ? name : "?";
}
