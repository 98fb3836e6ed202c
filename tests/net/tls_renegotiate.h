/*
 * A peer that asks for another handshake.
 */
#ifndef ZOKIO_TESTS_TLS_RENEGOTIATE_H
#define ZOKIO_TESTS_TLS_RENEGOTIATE_H

#include "tests/async.h"

#include "net/tls.h"

/* Has the engine of a side ask for another handshake, against what we allow ourselves. */
static inline void renegotiate(zk_stream *stream)
{
    zk__tls_stream *s = (zk__tls_stream *)(void *)stream;
    SSL_clear_options(s->ssl, SSL_OP_NO_RENEGOTIATION);
    zk__tls_begin(s);
    cr_assert(SSL_renegotiate(s->ssl) > 0);
    (void)SSL_do_handshake(s->ssl);
    ERR_clear_error();
    zk__tls_end(s);
}

#endif
