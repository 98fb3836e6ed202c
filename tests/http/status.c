/*
 * Status codes: their names, and what errors become.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "http/exchange.h"

ZK_TEST(status, has_its_registered_name)
{
    static const struct row {
        int status;
        const char *name;
    } rows[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {431, "Request Header Fields Too Large"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
        {0, "Unknown"},
        {299, "Unknown"},
        {999, "Unknown"},
        {-1, "Unknown"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *name = zk_status_text(rows[i].status);
        cr_assert_str_eq(name, rows[i].name, "%d: %s", rows[i].status, name);
    }
}

/* What is the client's fault must not look like the server's. */
ZK_TEST(status, of_an_error_says_whose_fault_it_is)
{
    static const struct row {
        int error, status;
    } rows[] = {
        {ZK_E_HTTP_SYNTAX, 400},
        {ZK_E_HTTP_PATH, 400},
        {ZK_E_HTTP_TIMEOUT, 408},
        {ZK_E_SLOW, 408},
        {ZK_E_HTTP_BODY_TOO_LARGE, 413},
        {ZK_E_HTTP_URI_TOO_LONG, 414},
        {ZK_E_HTTP_HEADER_TOO_LARGE, 431},
        {ZK_E_HTTP_METHOD, 501},
        {ZK_E_HTTP_CODING, 501},
        {ZK_E_HTTP_VERSION, 505},
        {-ENOMEM, 503},
        {-EIO, 500},
        {-ECANCELED, 500},
        {ZK_E_HTTP_STATE, 500},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = zk__status_of_error(rows[i].error);
        cr_assert_eq(status, rows[i].status, "%s: %d", zk_errname(rows[i].error), status);
    }
}
