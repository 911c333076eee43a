/* A hypercall whose number does not fit the page: by the instruction itself. */
#ifndef BADCALLS_CALLS_H
#define BADCALLS_CALLS_H

#include <stdint.h>

static inline long hypercall_by_number(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
    long ret;

    asm volatile("syscall"
                 : "=a"(ret), "+D"(a), "+S"(b), "+d"(c)
                 : "0"(nr)
                 : "rcx", "r11", "r8", "r9", "r10", "memory");
    return ret;
}

#endif
