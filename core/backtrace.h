/*
 * Backtraces by frame pointers, which the library is built with. A caller that is built without
 * them is left out, or ends the walk; never does the walk leave the stack that it is on.
 */
#ifndef ZOKIO_CORE_BACKTRACE_H
#define ZOKIO_CORE_BACKTRACE_H

#include <stdbool.h>
#include <stddef.h>

enum { ZK__FRAMES_MAX = 32 };

/* A stack's lowest byte and the one behind its highest. */
typedef struct zk__stack_span {
    const char *low, *high;
} zk__stack_span;

/*
 * Collects the instructions of `pc`, and of those who called it from `frame` on. Async-signal-safe.
 * returns how many, at most ZK__FRAMES_MAX.
 */
int zk__frames_walk(void *pc, void *frame, zk__stack_span span, void **ret_frames);

/* Writes "function+0x12 (module+0x345)", as far as known, ended by a zero. */
void zk__frame_describe(void *pc, char *buf, size_t size);

/* Copies memory that may be gone. returns false if it is. */
bool zk__peek(void *to, const void *from, size_t bytes);
/* The same for a string, cut to `size - 1` characters; "?" if it is gone. */
void zk__peek_string(char *to, size_t size, const char *from);

#endif
