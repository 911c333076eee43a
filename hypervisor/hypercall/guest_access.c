/*
 * The border to guest memory. Addresses are checked against the hypervisor's part of the address
 * space (mm/layout.h); everything else is the guest's own business and at worst faults, which the
 * assembly in guest_copy.S tells us.
 */
#include "domain/domain.h"
#include "hypercall/guest_access.h"
#include "mm/layout.h"
#include "lib/string.h"

bool guest_copy(void *dst, const void *src, size_t n);
bool guest_clear(void *dst, size_t n);
extern bool guest_smap;

void guest_access_init(bool smap)
{
    guest_smap = smap;
}

const struct guest_access_ops *guest_access_hvm __ro_after_init;

#define LOWER_HALF_END 0x0000800000000000UL

/* No byte of the range is the hypervisor's. Ranges that start low and would run into the
 * non-canonical hole or wrap are refused as well. */
static bool range_is_guests(uint64_t addr, size_t n)
{
    if (addr >= HV_VIRT_END)
        return addr + n >= addr;
    return addr < LOWER_HALF_END && n <= LOWER_HALF_END - addr;
}

int copy_from_guest(void *dst, guest_ptr_t src, size_t n)
{
    if (unlikely(current_domain()->is_hvm))
        return guest_access_hvm->from_guest(dst, src.addr, n);
    if (unlikely(!range_is_guests(src.addr, n)))
        return -XEN_EFAULT;
    return unlikely(guest_copy(dst, (const void *)src.addr, n)) ? -XEN_EFAULT : 0;
}

int copy_to_guest(guest_ptr_t dst, const void *src, size_t n)
{
    if (unlikely(current_domain()->is_hvm))
        return guest_access_hvm->to_guest(dst.addr, src, n);
    if (unlikely(!range_is_guests(dst.addr, n)))
        return -XEN_EFAULT;
    return unlikely(guest_copy((void *)dst.addr, src, n)) ? -XEN_EFAULT : 0;
}

int clear_guest(guest_ptr_t dst, size_t n)
{
    if (unlikely(current_domain()->is_hvm))
        return guest_access_hvm->clear(dst.addr, n);
    if (unlikely(!range_is_guests(dst.addr, n)))
        return -XEN_EFAULT;
    return unlikely(guest_clear((void *)dst.addr, n)) ? -XEN_EFAULT : 0;
}
