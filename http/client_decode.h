/*
 * Content codings (RFC 9110 section 8.4.1): making the bytes of a body out of what was sent.
 */
#ifndef ZOKIO_HTTP_CLIENT_DECODE_H
#define ZOKIO_HTTP_CLIENT_DECODE_H

#include <sys/types.h>
#include <zokio/base.h>

typedef struct zk__decoder zk__decoder;

/* What may be asked for: "gzip, br"; NULL: the library is built without any coding. */
const char *zk__decoder_codings(void);

/*
 * A decoder for that Content-Encoding. returns 0; 1: there is nothing to decode, or it is not one
 * of ours; -ENOMEM.
 */
int zk__decoder_new(zk_str coding, zk__decoder **ret_decoder);
/* NULL is allowed. */
void zk__decoder_free(zk__decoder *decoder);

/*
 * Decodes some bytes; what was not used is to be given again, with more behind it. `is_last`: no
 * more will come.
 * returns bytes written (> 0); 0: more input is needed; with is_last: the end, of a body that is
 *         whole; ZK_E_HTTP_CODING: not what the coding says, or cut off; -ENOMEM.
 */
ssize_t zk__decoder_run(zk__decoder *decoder, zk_str *in, bool is_last, void *out, size_t size);

#endif
