/*
 * All of Zokio. A program that uses a part of it may include that part's headers instead.
 */
#ifndef ZOKIO_ZOKIO_H
#define ZOKIO_ZOKIO_H

#include <zokio/addr.h>
#include <zokio/alloc.h>
#include <zokio/base.h>
#include <zokio/call.h>
#include <zokio/channel.h>
#include <zokio/client.h>
#include <zokio/cookies.h>
#include <zokio/dns.h>
#include <zokio/dump.h>
#include <zokio/error.h>
#include <zokio/file.h>
#include <zokio/files.h>
#include <zokio/http.h>
#include <zokio/hub.h>
#include <zokio/iter.h>
#include <zokio/metrics.h>
#include <zokio/process.h>
#include <zokio/proxy.h>
#include <zokio/proxy_config.h>
#include <zokio/rate_limit.h>
#include <zokio/select.h>
#include <zokio/server.h>
#include <zokio/signal.h>
#include <zokio/sim.h>
#include <zokio/stream.h>
#include <zokio/sync.h>
#include <zokio/task.h>
#include <zokio/tcp.h>
#include <zokio/tls.h>
#include <zokio/udp.h>
#include <zokio/unix.h>
#include <zokio/url.h>
#include <zokio/ws.h>

#endif
