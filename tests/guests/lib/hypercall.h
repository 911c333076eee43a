/*
 * Hypercalls as the ABI has them: call hypercall_page + 32 * number, arguments in rdi, rsi, rdx,
 * r10, r8, r9, result in rax (xen/arch-x86/xen-x86_64.h). Untyped on purpose: tests pass nonsense.
 */
#ifndef GUESTS_HYPERCALL_H
#define GUESTS_HYPERCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>

extern char hypercall_page[];

static inline long hypercall_raw(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                                 uint64_t e, uint64_t f)
{
    long ret;
    register uint64_t r10 asm("r10") = d;
    register uint64_t r8 asm("r8") = e;
    register uint64_t r9 asm("r9") = f;

    asm volatile("call *%[page]"
                 : "=a"(ret), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
                 : [page] "0"(hypercall_page + nr * 32)
                 : "memory", "rcx", "r11", "cc");
    return ret;
}

#define HC_U(x)               ((uint64_t)(x))
#define HC0(n)                hypercall_raw(n, 0, 0, 0, 0, 0, 0)
#define HC1(n, a)             hypercall_raw(n, HC_U(a), 0, 0, 0, 0, 0)
#define HC2(n, a, b)          hypercall_raw(n, HC_U(a), HC_U(b), 0, 0, 0, 0)
#define HC3(n, a, b, c)       hypercall_raw(n, HC_U(a), HC_U(b), HC_U(c), 0, 0, 0)
#define HC4(n, a, b, c, d)    hypercall_raw(n, HC_U(a), HC_U(b), HC_U(c), HC_U(d), 0, 0)
#define HC5(n, a, b, c, d, e) hypercall_raw(n, HC_U(a), HC_U(b), HC_U(c), HC_U(d), HC_U(e), 0)
#define HC6(n, a, b, c, d, e, f)                                                                   \
    hypercall_raw(n, HC_U(a), HC_U(b), HC_U(c), HC_U(d), HC_U(e), HC_U(f))

/* HC(memory_op, XENMEM_..., &arg): by the ABI's name; HC_NR(nr, ...) by number. */
#define HC_PICK(_0, _1, _2, _3, _4, _5, _6, pick, ...) pick
#define HC_NR(...)                                     HC_PICK(__VA_ARGS__, HC6, HC5, HC4, HC3, HC2, HC1, HC0)(__VA_ARGS__)
#define HC(name, ...)                                  HC_NR(__HYPERVISOR_##name __VA_OPT__(, ) __VA_ARGS__)

#endif
