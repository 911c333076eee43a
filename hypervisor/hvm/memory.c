/*
 * The memory of hardware-virtualized guests as we read and write it: by guest-physical address, and
 * by the current vCPU's linear address, which is also how hypercall arguments are reached
 * (hypercall/guest_access.c comes here for such callers).
 *
 * Each page is held by a reference while it is touched, through the direct map; so nothing here can
 * fault, and a page that leaves the guest meanwhile is not somebody else's yet.
 */
#include "hvm/hvm.h"
#include "lib/string.h"

/* @to: into the guest. */
static int copy_page(struct domain *d, uint64_t gpa, void *buf, size_t n, bool to)
{
    bool writable;
    struct page *page = p2m_get_page(d, gfn(gpa >> PAGE_SHIFT), &writable);
    if (!page)
        return -XEN_EFAULT;
    uint8_t *p = (uint8_t *)page_to_virt(page) + gpa % PAGE_SIZE;
    int rc = to && !writable ? -XEN_EFAULT : 0;
    if (!rc && to && buf)
        memcpy(p, buf, n);
    else if (!rc && to)
        memset(p, 0, n);
    else if (!rc)
        memcpy(buf, p, n);
    if (!rc && to)
        p2m_set_dirty(d, gfn(gpa >> PAGE_SHIFT));
    page_put(page);
    return rc;
}

static size_t in_this_page(uint64_t addr, size_t n)
{
    return min(n, (size_t)(PAGE_SIZE - addr % PAGE_SIZE));
}

static int copy_gpa(struct domain *d, uint64_t gpa, void *buf, size_t n, bool to)
{
    while (n) {
        size_t part = in_this_page(gpa, n);
        int rc = copy_page(d, gpa, buf, part, to);
        if (rc)
            return rc;
        gpa += part;
        buf = (uint8_t *)buf + part;
        n -= part;
    }
    return 0;
}

int hvm_copy_from_gpa(struct domain *d, void *dst, uint64_t gpa, size_t n)
{
    return copy_gpa(d, gpa, dst, n, false);
}

int hvm_copy_to_gpa(struct domain *d, uint64_t gpa, const void *src, size_t n)
{
    return copy_gpa(d, gpa, (void *)src, n, true);
}

/* @buf NULL: zeros are written. */
int hvm_copy_linear(struct vcpu *v, uint64_t addr, void *buf, size_t n, unsigned access,
                    struct hvm_fault *fault)
{
    while (n) {
        size_t part = in_this_page(addr, n);
        uint64_t gpa;
        fault->addr = addr;
        if (!hvm_walk(v, addr, access, &gpa, &fault->error) ||
            copy_page(v->domain, gpa, buf, part, access & HVM_WRITE))
            return -XEN_EFAULT;
        addr += part;
        buf = buf ? (uint8_t *)buf + part : NULL;
        n -= part;
    }
    return 0;
}

/* --- hypercall arguments: the kernel's right, whatever mode its pages are for --- */

static int copy(uint64_t addr, void *buf, size_t n, unsigned access)
{
    struct vcpu *v = current_vcpu();
    struct hvm_fault ignored;
    if (unlikely(v->hvm->compat) && addr >> 32)
        return hvm_compat_access(v, addr, buf, n, access);
    return hvm_copy_linear(v, addr, buf, n, access, &ignored);
}

static int from_guest(void *dst, uint64_t src, size_t n)
{
    return copy(src, dst, n, HVM_READ);
}

static int to_guest(uint64_t dst, const void *src, size_t n)
{
    return copy(dst, (void *)src, n, HVM_WRITE);
}

static int clear(uint64_t dst, size_t n)
{
    return copy(dst, NULL, n, HVM_WRITE);
}

const struct guest_access_ops hvm_guest_access = {from_guest, to_guest, clear};
