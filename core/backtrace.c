/*
 * Backtraces: see backtrace.h.
 *
 * Both on x86-64 and on AArch64 a frame pointer points to the caller's, and the return address lies
 * behind it. Frames are read word by word from the task's own stack, within its bounds and upwards
 * only, so a register that holds something else ends the walk.
 */
#include "core/backtrace.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Divides every system's page size: what begins and ends between two multiples is on one page. */
enum { PEEK_BYTES = 4096 };

__attribute__((no_sanitize("address", "thread"))) int
zk__frames_walk(void *pc, void *frame, zk__stack_span span, void **ret_frames)
{
    int count = 0;
    ret_frames[count++] = pc;
    uintptr_t low = (uintptr_t)span.low, high = (uintptr_t)span.high;
    while (count < ZK__FRAMES_MAX) {
        uintptr_t at = (uintptr_t)frame;
        if (at % sizeof(void *) || at < low || at > high || high - at < 2 * sizeof(void *)) break;
        void *const *words = frame;
        if (!words[1]) break;
        ret_frames[count++] = words[1];
        low = at + 1;
        frame = words[0];
    }
    return count;
}

void zk__frame_describe(void *pc, char *buf, size_t size)
{
    Dl_info info;
    /* One back: a call may be a function's last instruction. */
    if (!dladdr((char *)pc - 1, &info) || !info.dli_fname) {
        snprintf(buf, size, "%p", pc);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    const char *module = slash ? slash + 1 : info.dli_fname;
    size_t offset = (size_t)((char *)pc - (char *)info.dli_fbase);
    if (!info.dli_sname) {
        snprintf(buf, size, "%s+0x%zx", module, offset);
        return;
    }
    snprintf(buf, size, "%s+0x%zx (%s+0x%zx)", info.dli_sname,
             (size_t)((char *)pc - (char *)info.dli_saddr), module, offset);
}

bool zk__peek(void *to, const void *from, size_t bytes)
{
    struct iovec local = {.iov_base = to, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)from, .iov_len = bytes};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}

void zk__peek_string(char *to, size_t size, const char *from)
{
    /* Up to the end of its page, as behind that there may be nothing; then from there on. */
    size_t got = 0;
    bool is_there = size < 2;
    while (got + 1 < size) {
        size_t bytes = PEEK_BYTES - (uintptr_t)(from + got) % PEEK_BYTES;
        if (bytes > size - 1 - got) bytes = size - 1 - got;
        if (!zk__peek(to + got, from + got, bytes)) break;
        is_there = true;
        size_t length = strnlen(to + got, bytes);
        got += length;
        if (length < bytes) break;
    }
    to[got] = '\0';
    if (!is_there) snprintf(to, size, "?");
}
