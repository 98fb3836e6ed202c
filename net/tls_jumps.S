/*
 * The functions of OpenSSL under names of ours, as jumps to where they are: see tls_library.h.
 */
#include "net/tls_functions.h"

#if defined __x86_64__
#define JUMP(to) jmp *to(%rip)
#elif defined __aarch64__
#define JUMP(to) adrp x16, to; ldr x16, [x16, :lo12:to]; br x16
#else
#error "no jumps for this processor: use meson's option tls_linked"
#endif

#define ENTRY(name)                                                                                \
    .globl zk__openssl_##name;                                                                     \
    .hidden zk__openssl_##name;                                                                    \
    .type zk__openssl_##name, %function;                                                           \
    .balign 8;                                                                                     \
    zk__openssl_##name:                                                                            \
    .cfi_startproc;                                                                                \
    JUMP(.Lat_##name);                                                                             \
    .cfi_endproc;                                                                                  \
    .size zk__openssl_##name, . - zk__openssl_##name;

#define PLACE(name)                                                                                \
    .Lat_##name:                                                                                   \
    .zero 8;

    .text
ZK__OPENSSL_FUNCTIONS(ENTRY)

    .bss
    .balign 8
    .globl zk__openssl_functions
    .hidden zk__openssl_functions
    .type zk__openssl_functions, %object
zk__openssl_functions:
ZK__OPENSSL_FUNCTIONS(PLACE)
    .size zk__openssl_functions, . - zk__openssl_functions

    .section .note.GNU-stack, "", %progbits
