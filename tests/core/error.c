/*
 * The names and texts of error codes.
 */
#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

ZK_TEST(error, codes_have_their_name_and_text)
{
    static const struct {
        int rc;
        const char *name, *text;
    } rows[] = {{-ECONNRESET, "ECONNRESET", "Connection reset by peer"},
                {-EPERM, "EPERM", "Operation not permitted"},
                {-ECANCELED, "ECANCELED", "Operation canceled"},
                {0, "?", "success"},
                {1, "?", "success"},
                {INT_MAX, "?", "success"},
                {-4095, "?", "unknown error"},
                {-4099 - 50, "?", "unknown error"},
                {INT_MIN, "?", "unknown error"},
#define ROW(name, number, text) {number, #name, text},
                ZK_ERRORS(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_str_eq(zk_errname(rows[i].rc), rows[i].name, "row %zu: %s", i,
                         zk_errname(rows[i].rc));
        cr_assert_str_eq(zk_strerror(rows[i].rc), rows[i].text, "row %zu: %s", i,
                         zk_strerror(rows[i].rc));
    }
}

ZK_TEST(error, own_codes_are_all_different_and_below_the_systems)
{
    static const int codes[] = {
#define CODE(name, number, text) name,
        ZK_ERRORS(CODE)
#undef CODE
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        cr_assert_lt(codes[i], -4095, "%s", zk_errname(codes[i]));
        for (size_t k = 0; k < i; k++)
            cr_assert_neq(codes[i], codes[k], "%s", zk_errname(codes[i]));
    }
}

ZK_TEST(error, every_code_of_the_system_has_a_text)
{
    for (int code = 1; code < 4096; code++) {
        const char *text = zk_strerror(-code), *name = zk_errname(-code);
        cr_assert(text && *text && name && *name, "code %d", code);
        cr_assert(strcmp(name, "?") == 0 || *name == 'E', "code %d: %s", code, name);
    }
}
