/*
 * What nghttp2 calls when a connection of HTTP/2 sends: see h2_send.c.
 */
#ifndef ZOKIO_HTTP_H2_SEND_H
#define ZOKIO_HTTP_H2_SEND_H

#include <nghttp2/nghttp2.h>

#include "http/h2.h"

int zk__h2_on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *context);
int zk__h2_on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *context);
int zk__h2_on_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t size, nghttp2_data_source *source, void *context);

/* The client's settings have come. returns 0, -ENOMEM. */
int zk__h2_settings_taken(zk__h2 *h2, const nghttp2_settings *settings);
/* Has all whole responses leave that nghttp2 takes for empty ones. returns 0, -ENOMEM. */
int zk__h2_whole_flush(zk__h2 *h2);
/* The stream is over: a whole response that has not left will not. */
void zk__h2_whole_drop(zk__h2_stream *s);
/* Frees what sending has taken. */
void zk__h2_send_done(zk__h2 *h2);

#endif
