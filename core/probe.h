/*
 * Probes for bpftrace, perf and SystemTap (USDT): a `nop` each until somebody attaches, and a note
 * in the library that says where it is and where its arguments are. Without <sys/sdt.h> at the
 * build there are none.
 *
 *   zokio:spawn  task, site     a task is spawned; site points to a zk_site, its name comes first;
 *                               task is 0 if it has no memory before it begins
 *   zokio:park   task, wait     a task is suspended (but for a yield); wait points to a zk__wait
 *   zokio:resume task, result   it goes on
 *   zokio:poll   worker, ready  a worker has polled; how many entries its queue now has
 *   zokio:accept listener, fd   a TCP connection was accepted; their descriptors
 */
#ifndef ZOKIO_CORE_PROBE_H
#define ZOKIO_CORE_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define ZK__PROBE(name, a, b) DTRACE_PROBE2(zokio, name, a, b)
#else
#define ZK__PROBE(name, a, b) ((void)0)
#endif

#endif
