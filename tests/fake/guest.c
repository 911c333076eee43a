/*
 * Guest memory for unit tests: the test's own. An access can be made to fault: the nth one from now
 * (fake_guest_fault_in = n), or any that touches page 0.
 */
#include "hypercall/guest_access.h"

#include <string.h>

unsigned fake_guest_fault_in; /* 0 = never */

static bool faults(guest_ptr_t p)
{
    if (p.addr < PAGE_SIZE)
        return true;
    return fake_guest_fault_in && --fake_guest_fault_in == 0;
}

int copy_from_guest(void *dst, guest_ptr_t src, size_t n)
{
    if (n && faults(src))
        return -XEN_EFAULT;
    memcpy(dst, (const void *)src.addr, n);
    return 0;
}

int copy_to_guest(guest_ptr_t dst, const void *src, size_t n)
{
    if (n && faults(dst))
        return -XEN_EFAULT;
    memcpy((void *)dst.addr, src, n);
    return 0;
}

int clear_guest(guest_ptr_t dst, size_t n)
{
    if (n && faults(dst))
        return -XEN_EFAULT;
    memset((void *)dst.addr, 0, n);
    return 0;
}
