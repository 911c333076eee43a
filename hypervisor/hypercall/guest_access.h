/*
 * The border: the only functions that touch memory of the calling guest. The current guest's page
 * tables are in CR3; a fault in these functions ends them with -XEN_EFAULT. Guest memory changes
 * under us: copy once, then use the copy.
 */
#ifndef HYPERCALL_GUEST_ACCESS_H
#define HYPERCALL_GUEST_ACCESS_H

#include "lib/compiler.h"
#include "lib/types.h"

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

/* Once, before the first guest runs: whether SMAP must be lifted around each access. */
void guest_access_init(bool smap);

/* 0, or -XEN_EFAULT: not the guest's (hypervisor range, non-canonical) or not mapped. */
int __must_check copy_from_guest(void *dst, guest_ptr_t src, size_t n);
int __must_check copy_to_guest(guest_ptr_t dst, const void *src, size_t n);
int __must_check clear_guest(guest_ptr_t dst, size_t n);

/* Callers that are hardware-virtualized: their memory is not in our address space. Set by hvm/. */
struct guest_access_ops {
    int (*from_guest)(void *dst, uint64_t src, size_t n);
    int (*to_guest)(uint64_t dst, const void *src, size_t n);
    int (*clear)(uint64_t dst, size_t n);
};
extern const struct guest_access_ops *guest_access_hvm;

/* Arrays: element @i of size sizeof(*dst). */
#define copy_element_from_guest(dst, base, i)                                                      \
    copy_from_guest(dst, guest_offset(base, (uint64_t)(i) * sizeof(*(dst))), sizeof(*(dst)))
#define copy_element_to_guest(base, i, src)                                                        \
    copy_to_guest(guest_offset(base, (uint64_t)(i) * sizeof(*(src))), src, sizeof(*(src)))

#endif
