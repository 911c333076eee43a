/*
 * The border to guest memory, for more bytes than are worth copying in place. Addresses are checked
 * against the hypervisor's part of the address space (mm/layout.h); everything else is the guest's
 * own business and at worst faults, which the assembly in guest_copy.S tells us.
 */
#include "hypercall/guest_access.h"

bool guest_copy(void *dst, const void *src, size_t n);
bool guest_clear(void *dst, size_t n);

int guest_copy_in(void *dst, guest_ptr_t src, size_t n)
{
    const struct guest_access_ops *ops = stack_top()->access;
    if (unlikely(ops))
        return ops->from_guest(dst, src.addr, n);
    if (unlikely(!guest_range_ok(src, n)))
        return -XEN_EFAULT;
    return unlikely(guest_copy(dst, (const void *)src.addr, n)) ? -XEN_EFAULT : 0;
}

int guest_copy_out(guest_ptr_t dst, const void *src, size_t n)
{
    const struct guest_access_ops *ops = stack_top()->access;
    if (unlikely(ops))
        return ops->to_guest(dst.addr, src, n);
    if (unlikely(!guest_range_ok(dst, n)))
        return -XEN_EFAULT;
    return unlikely(guest_copy((void *)dst.addr, src, n)) ? -XEN_EFAULT : 0;
}

int clear_guest(guest_ptr_t dst, size_t n)
{
    const struct guest_access_ops *ops = stack_top()->access;
    if (unlikely(ops))
        return ops->clear(dst.addr, n);
    if (unlikely(!guest_range_ok(dst, n)))
        return -XEN_EFAULT;
    return unlikely(guest_clear((void *)dst.addr, n)) ? -XEN_EFAULT : 0;
}
