/*
 * The border: the only functions that touch memory of the calling guest. The current guest's page
 * tables are in CR3; a fault in these functions ends them with -XEN_EFAULT. Guest memory changes
 * under us: copy once, then use the copy.
 */
#ifndef HYPERCALL_GUEST_ACCESS_H
#define HYPERCALL_GUEST_ACCESS_H

#include "cpu/cpu.h"
#include "cpu/entry.h"
#include "lib/compiler.h"
#include "lib/types.h"
#include "mm/layout.h"

typedef struct {
    uint64_t addr; /* never dereferenced outside guest_access.c */
} guest_ptr_t;

static inline guest_ptr_t guest_ptr(uint64_t addr)
{
    return (guest_ptr_t){addr};
}
/* From an ABI handle (XEN_GUEST_HANDLE and _64). */
#define guest_handle(h) ((guest_ptr_t){(uint64_t)(h).p})

static inline guest_ptr_t guest_offset(guest_ptr_t p, uint64_t bytes)
{
    return (guest_ptr_t){p.addr + bytes};
}
static inline bool guest_is_null(guest_ptr_t p)
{
    return p.addr == 0;
}

/* How to reach memory that is not in our address space: stack_top()->access of such a vCPU. */
struct guest_access_ops {
    int (*from_guest)(void *dst, uint64_t src, size_t n);
    int (*to_guest)(uint64_t dst, const void *src, size_t n);
    int (*clear)(uint64_t dst, size_t n);
};

/* 0, or -XEN_EFAULT: not the guest's (hypervisor range, non-canonical) or not mapped. */
int __must_check clear_guest(guest_ptr_t dst, size_t n);

/* Most arguments and frames are a few words: these are moved in place. */
#define GUEST_WORDS_MOST 11

#ifdef HOST_TEST
int __must_check copy_from_guest(void *dst, guest_ptr_t src, size_t n);
int __must_check copy_to_guest(guest_ptr_t dst, const void *src, size_t n);
static inline int guest_load(void *dst, guest_ptr_t src, size_t n)
{
    return copy_from_guest(dst, src, n);
}
static inline int guest_store(guest_ptr_t dst, const void *src, size_t n)
{
    return copy_to_guest(dst, src, n);
}
#else
int __must_check guest_copy_in(void *dst, guest_ptr_t src, size_t n);
int __must_check guest_copy_out(guest_ptr_t dst, const void *src, size_t n);

/* No byte of the range is the hypervisor's. Ranges that start low and would run into the
 * non-canonical hole or wrap are refused as well. */
static inline bool guest_range_ok(guest_ptr_t p, size_t n)
{
    const uint64_t lower_half_end = 0x0000800000000000UL;
    if (p.addr >= HV_VIRT_END)
        return p.addr + n >= p.addr;
    return p.addr < lower_half_end && n <= lower_half_end - p.addr;
}

static inline bool guest_is_words(size_t n)
{
    return n && n % sizeof(uint32_t) == 0 && n <= GUEST_WORDS_MOST * sizeof(uint64_t);
}

/* One word of @type between here and there; a fault continues at the label `fault`. */
#define GUEST_LOAD(type, dst, src)                                                                 \
    do {                                                                                           \
        type guest_word;                                                                           \
        __asm__ goto volatile("1: mov %[from], %[to]\n" EXTABLE("1b", "%l[fault]")                 \
                              : [to] "=r"(guest_word)                                              \
                              : [from] "m"(*(const type *)(src))                                   \
                              :                                                                    \
                              : fault);                                                            \
        __builtin_memcpy((dst), &guest_word, sizeof(guest_word));                                  \
    } while (0)
#define GUEST_STORE(type, dst, src)                                                                \
    do {                                                                                           \
        type guest_word;                                                                           \
        __builtin_memcpy(&guest_word, (src), sizeof(guest_word));                                  \
        __asm__ goto volatile("1: mov %[from], %[to]\n" EXTABLE("1b", "%l[fault]")                 \
                              : [to] "=m"(*(type *)(dst))                                          \
                              : [from] "r"(guest_word)                                             \
                              :                                                                    \
                              : fault);                                                            \
    } while (0)

/* For callers that know their guest to be a PV one; @n is a constant, of guest_is_words(). */
static __always_inline int guest_load(void *dst, guest_ptr_t src, size_t n)
{
    size_t at = 0;
    if (unlikely(!guest_range_ok(src, n)))
        return -XEN_EFAULT;
    smap_open();
#pragma GCC unroll 11
    for (; at + sizeof(uint64_t) <= n; at += sizeof(uint64_t))
        GUEST_LOAD(uint64_t, (uint8_t *)dst + at, src.addr + at);
    if (at < n)
        GUEST_LOAD(uint32_t, (uint8_t *)dst + at, src.addr + at);
    smap_close();
    return 0;
fault:
    smap_close();
    return -XEN_EFAULT;
}

static __always_inline int guest_store(guest_ptr_t dst, const void *src, size_t n)
{
    size_t at = 0;
    if (unlikely(!guest_range_ok(dst, n)))
        return -XEN_EFAULT;
    smap_open();
#pragma GCC unroll 11
    for (; at + sizeof(uint64_t) <= n; at += sizeof(uint64_t))
        GUEST_STORE(uint64_t, dst.addr + at, (const uint8_t *)src + at);
    if (at < n)
        GUEST_STORE(uint32_t, dst.addr + at, (const uint8_t *)src + at);
    smap_close();
    return 0;
fault:
    smap_close();
    return -XEN_EFAULT;
}

static __always_inline int __must_check copy_from_guest(void *dst, guest_ptr_t src, size_t n)
{
    if (!__builtin_constant_p(n) || !guest_is_words(n) || unlikely(stack_top()->access))
        return guest_copy_in(dst, src, n);
    return guest_load(dst, src, n);
}

static __always_inline int __must_check copy_to_guest(guest_ptr_t dst, const void *src, size_t n)
{
    if (!__builtin_constant_p(n) || !guest_is_words(n) || unlikely(stack_top()->access))
        return guest_copy_out(dst, src, n);
    return guest_store(dst, src, n);
}
#endif

/* Arrays: element @i of size sizeof(*dst). */
#define copy_element_from_guest(dst, base, i)                                                      \
    copy_from_guest(dst, guest_offset(base, (uint64_t)(i) * sizeof(*(dst))), sizeof(*(dst)))
#define copy_element_to_guest(base, i, src)                                                        \
    copy_to_guest(guest_offset(base, (uint64_t)(i) * sizeof(*(src))), src, sizeof(*(src)))

#endif
