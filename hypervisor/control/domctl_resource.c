/* domctls on what a domain may use: memory, device memory, ports, interrupts; its hypercall page.
 */
#include "console/console.h"
#include "control/internal.h"
#include "hvm/hvm.h"
#include "pv/pv.h"

int domctl_max_mem(struct domain *d, struct xen_domctl *op)
{
    uint64_t pages = op->u.max_mem.max_memkb >> (PAGE_SHIFT - 10);
    spin_lock(&d->page_lock);
    /* Below what it has now is allowed: it only cannot grow. */
    d->max_pages = pages;
    spin_unlock(&d->page_lock);
    return 0;
}

static uint64_t page_info_word(struct domain *d, uint64_t frame)
{
    if (d->is_hvm && p2m_kind(d, gfn(frame)) == P2M_POD)
        return XEN_DOMCTL_PFINFO_NOTAB;
    struct page *page = domain_get_page(d, gfn(frame));
    if (!page)
        return XEN_DOMCTL_PFINFO_XTAB;
    static const uint32_t words[] = {
        [PAGE_NONE] = XEN_DOMCTL_PFINFO_NOTAB,     [PAGE_L1] = XEN_DOMCTL_PFINFO_L1TAB,
        [PAGE_L2] = XEN_DOMCTL_PFINFO_L2TAB,       [PAGE_L3] = XEN_DOMCTL_PFINFO_L3TAB,
        [PAGE_L4] = XEN_DOMCTL_PFINFO_L4TAB,       [PAGE_SEGDESC] = XEN_DOMCTL_PFINFO_NOTAB,
        [PAGE_WRITABLE] = XEN_DOMCTL_PFINFO_NOTAB,
    };
    uint64_t type = READ_ONCE(page->type), word = 0;
    if (type & PAGE_TYPE_COUNT)
        word = words[page_type(page)];
    if (type & PAGE_TYPE_PINNED)
        word |= XEN_DOMCTL_PFINFO_LPINTAB;
    page_put(page);
    return word;
}

int domctl_getpageframeinfo3(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_getpageframeinfo3 *info = &op->u.getpageframeinfo3;
    if (info->num > 1024)
        return -XEN_E2BIG;
    for (uint64_t i = 0; i < info->num; i++) {
        xen_pfn_t frame;
        int rc = copy_element_from_guest(&frame, guest_handle(info->array), i);
        if (rc)
            return rc;
        frame = page_info_word(d, frame);
        rc = copy_element_to_guest(guest_handle(info->array), i, &frame);
        if (rc)
            return rc;
    }
    return 0;
}

int domctl_hypercall_init(struct domain *d, struct xen_domctl *op)
{
    struct page *page = domain_get_page(d, gfn(op->u.hypercall_init.gmfn));
    if (!page)
        return -XEN_EACCES;
    int rc = page_get_type(page, PAGE_WRITABLE);
    if (!rc) {
        if (d->is_hvm)
            hvm_write_hypercall_page(page_to_virt(page));
        else
            pv_write_hypercall_page(page_to_virt(page));
        page_put_type(page);
    }
    page_put(page);
    return rc;
}

/* Only what the caller may use itself can it give away. */
static int change_range(struct domain *d, struct range_set *own, struct range_set *theirs,
                        uint64_t first, uint64_t count, bool allow)
{
    if (count == 0 || first + count - 1 < first)
        return -XEN_EINVAL;
    if (allow && !domain_may_use(current_domain(), own, first, first + count - 1))
        return -XEN_EPERM;
    spin_lock(&d->lock);
    int rc = allow ? range_add(theirs, first, first + count - 1)
                   : range_remove(theirs, first, first + count - 1);
    spin_unlock(&d->lock);
    return rc;
}

int domctl_irq_permission(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_irq_permission *p = &op->u.irq_permission;
    return change_range(d, &current_domain()->irqs, &d->irqs, p->pirq, 1, p->allow_access);
}

int domctl_iomem_permission(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_iomem_permission *p = &op->u.iomem_permission;
    return change_range(d, &current_domain()->iomem, &d->iomem, p->first_mfn, p->nr_mfns,
                        p->allow_access);
}

int domctl_ioport_permission(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_ioport_permission *p = &op->u.ioport_permission;
    if (p->first_port > 0xffff || p->nr_ports > 0x10000 - p->first_port)
        return -XEN_EINVAL;
    return change_range(d, &current_domain()->ioports, &d->ioports, p->first_port, p->nr_ports,
                        p->allow_access);
}
