/*
 * The context switch, and all that sanitizers must be told about it. Nothing else in the library
 * knows how a stack is left and entered.
 *
 * A switch pushes the frame pointer and the place to go on at, stores the stack pointer, loads the
 * other one and leaves by an indirect jump (a `ret` would defeat the return predictor: 9 ns instead
 * of 1). All other registers are named as clobbered, so the compiler saves the few that are live.
 * The library is compiled without a red zone; else the 128 bytes below the stack pointer would have
 * to be skipped, and be a cache line more of each stack. Floating point control words belong to the
 * thread and are not switched.
 */
#ifndef ZOKIO_CORE_SWITCH_H
#define ZOKIO_CORE_SWITCH_H

#include "core/stack.h"

#if defined(__SANITIZE_ADDRESS__)
#define ZK__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZK__ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define ZK__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZK__TSAN 1
#endif
#endif

#if ZK__ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if ZK__TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)

#if ZK__NO_RED_ZONE
#define ZK__RED_ZONE "0"
#else
#define ZK__RED_ZONE "128"
#endif

static inline __attribute__((always_inline)) void zk__switch_sp(void **save, void *to)
{
    __asm__ volatile(".if " ZK__RED_ZONE "\n\t"
                     "leaq -" ZK__RED_ZONE "(%%rsp), %%rsp\n\t"
                     ".endif\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rbp\n\t"
                     "pushq %%rbx\n\t"
                     "pushq %%rax\n\t"
                     "movq %%rsp, (%0)\n\t"
                     "movq %1, %%rsp\n\t"
                     "popq %%rax\n\t"
                     "popq %%rbx\n\t"
                     "popq %%rbp\n\t"
                     "jmp *%%rax\n\t"
                     "1: endbr64\n\t"
                     ".if " ZK__RED_ZONE "\n\t"
                     "leaq " ZK__RED_ZONE "(%%rsp), %%rsp\n\t"
                     ".endif"
                     : "+D"(save), "+S"(to)
                     :
                     : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
}

/*
 * For a function that returns after tasks with other code have run, as at the two ends of a
 * channel: the processor expects its `ret` to lead to the last caller, which was another one, so it
 * is given an indirect jump too, by way of a thunk that one file defines. (A round trip over
 * channels: 67 ns, with it 50.) Where the others have the same code, as in a crowd that yields or
 * reads from connections, they have come from the same callers, and `ret` is right. Nor is it for
 * what returns at once, for it spoils the `ret` of the caller.
 */
#if defined(__has_attribute) && __has_attribute(function_return)
#define ZK__RETURNS_BY_JUMP __attribute__((function_return("thunk-extern")))
#define ZK__DEFINE_RETURN_BY_JUMP                                                                  \
    __asm__(".pushsection .text\n"                                                                 \
            ".weak __x86_return_thunk\n"                                                           \
            ".hidden __x86_return_thunk\n"                                                         \
            ".p2align 4\n"                                                                         \
            ".type __x86_return_thunk, @function\n"                                                \
            "__x86_return_thunk:\n\t"                                                              \
            ".cfi_startproc\n\t"                                                                   \
            "popq %rcx\n\t"                                                                        \
            ".cfi_def_cfa_offset 0\n\t"                                                            \
            ".cfi_register rip, rcx\n\t"                                                           \
            "notrack jmp *%rcx\n\t"                                                                \
            ".cfi_endproc\n"                                                                       \
            ".size __x86_return_thunk, .-__x86_return_thunk\n"                                     \
            ".popsection");
#endif

/* Lays out a stack so that the first switch to it calls `entry`, which must not return. */
static inline void *zk__switch_prepare(void *top, void (*entry)(void))
{
    void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = NULL; /* where entry would return to; ends backtraces */
    *--sp = NULL; /* rbp */
    *--sp = NULL; /* rbx */
    *--sp = (void *)entry;
    return sp;
}

/* Where a stack that was left at `sp` goes on: an instruction and its frame. */
static inline void zk__switch_saved(const void *sp, void **ret_pc, void **ret_frame)
{
    *ret_pc = ((void *const *)sp)[0];
    *ret_frame = ((void *const *)sp)[2];
}

#elif defined(__aarch64__)

static inline void zk__switch_saved(const void *sp, void **ret_pc, void **ret_frame)
{
    *ret_pc = ((void *const *)sp)[1];
    *ret_frame = ((void *const *)sp)[0];
}

static inline __attribute__((always_inline)) void zk__switch_sp(void **save, void *to)
{
    register void **x0 __asm__("x0") = save;
    register void *x1 __asm__("x1") = to;
    __asm__ volatile("adr x9, 1f\n\t"
                     "stp x29, x9, [sp, #-32]!\n\t"
                     "str x19, [sp, #16]\n\t"
                     "mov x10, sp\n\t"
                     "str x10, [x0]\n\t"
                     "mov sp, x1\n\t"
                     "ldr x19, [sp, #16]\n\t"
                     "ldp x29, x9, [sp], #32\n\t"
                     "br x9\n\t"
                     "1: hint #36" /* bti j */
                     : "+r"(x0), "+r"(x1)
                     :
                     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
                       "x14", "x15", "x16", "x17", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
                       "x27", "x28", "x30", "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5",
                       "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",
                       "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27",
                       "v28", "v29", "v30", "v31");
}

static inline void *zk__switch_prepare(void *top, void (*entry)(void))
{
    void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15) - 4;
    sp[0] = NULL; /* x29 */
    sp[1] = (void *)entry;
    sp[2] = NULL; /* x19 */
    sp[3] = NULL;
    return sp;
}

#else
#error "Zokio runs on x86-64 and AArch64"
#endif

#ifndef ZK__RETURNS_BY_JUMP
#define ZK__RETURNS_BY_JUMP
#define ZK__DEFINE_RETURN_BY_JUMP
#endif

/* To be called first thing on a stack that is entered for the first time. */
static inline void zk__switch_entered(void)
{
#if ZK__ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

/*
 * Leaves `from`, which is the stack this runs on, storing where it was left in *save_sp, and goes
 * on at `to_sp` on `to`. Returns when somebody switches back. for_good: nobody will.
 */
static inline __attribute__((always_inline)) void
zk__switch(zk__stack *from, void **save_sp, zk__stack *to, void *to_sp, bool for_good)
{
#if ZK__ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->asan_fake, to->base, to->size);
#endif
#if ZK__TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    (void)from, (void)to, (void)for_good;
    zk__switch_sp(save_sp, to_sp);
#if ZK__ASAN
    __sanitizer_finish_switch_fiber(from->asan_fake, NULL, NULL);
#endif
}

#endif
