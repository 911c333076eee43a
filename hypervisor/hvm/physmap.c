/*
 * What is where in a guest's physical memory, as memory_op changes it (xen/memory.h): frames given
 * and taken back by domain/memory.c, and pages of ours, of the guest itself or of another domain
 * put at a frame number of the caller's choice.
 *
 * What was at that number before is taken out, and freed when it was ordinary memory of the guest.
 */
#include "grant/grant.h"
#include "hvm/hvm.h"
#include "hypercall/permission.h"

#include <xen/memory.h>

/* @page, a reference to which is the caller's no more, goes from @g; true: it was @d's memory. */
static bool release(struct domain *d, gfn_t g, struct page *page)
{
    bool own = p2m_remove_page(d, g, page) && READ_ONCE(page->owner) == d;
    p2m_flush(d);
    if (own && pod_keep(d, page))
        return true;
    own = own && page_take_back(page);
    page_put(page);
    return own;
}

bool hvm_physmap_give_up(struct domain *d, gfn_t g)
{
    int rc = pod_remove(d, g);
    if (rc)
        return rc > 0;
    struct page *page = domain_get_page(d, g);
    return page && release(d, g, page);
}

/* The page that was at @g goes; allocated memory with it. */
static int vacate(struct domain *d, gfn_t g)
{
    bool writable;
    int rc = pod_remove(d, g);
    struct page *page = rc ? NULL : p2m_get_page(d, g, &writable);
    if (page)
        (void)release(d, g, page);
    return min(rc, 0);
}

/* @page: a reference is held. */
static int place(struct domain *d, gfn_t g, struct page *page)
{
    int rc = vacate(d, g);
    return rc ? rc : p2m_add(d, g, page, 0);
}

static int place_frame(struct domain *d, gfn_t g, mfn_t m)
{
    struct page *page = mfn_to_page(m);
    if (!page_get(page, d))
        return -XEN_EINVAL;
    int rc = place(d, g, page);
    page_put(page);
    return rc;
}

int hvm_physmap_move(struct domain *d, gfn_t from, gfn_t to)
{
    bool writable;
    if (from.n == to.n)
        return 0;
    struct page *page = p2m_get_page(d, from, &writable);
    if (!page)
        return -XEN_EINVAL;
    int rc = READ_ONCE(page->owner) == d ? place(d, to, page) : -XEN_EPERM;
    if (!rc && p2m_remove_page(d, from, page))
        p2m_flush(d);
    if (!rc && !(READ_ONCE(page->refs) & PAGE_REF_STATIC))
        m2p_set(page_to_mfn(page), to.n);
    page_put(page);
    return rc;
}

/*
 * Another domain's page, which the caller may do anything to: a page table of a PV guest it may
 * read.
 */
static int add_foreign(struct domain *d, domid_t owner, unsigned op, gfn_t from, gfn_t g)
{
    struct domain *other = domain_find(owner);
    if (!other || other == d)
        return other ? -XEN_EINVAL : -XEN_ESRCH;
    int rc = permission_check(current_domain(), __HYPERVISOR_memory_op, op, other);
    if (rc)
        return rc;
    struct page *page = domain_get_page(other, from);
    if (!page)
        return -XEN_EINVAL;
    rc = vacate(d, g);
    if (!rc)
        rc = p2m_add_lent(d, g, page, true);
    if (rc == -XEN_EBUSY)
        rc = p2m_add_lent(d, g, page, false);
    page_put(page);
    return rc;
}

/* The first unknown space is the caller's mistake. */
static int add(struct domain *d, unsigned space, uint64_t index, gfn_t g)
{
    mfn_t m;
    int rc;
    switch (space) {
    case XENMAPSPACE_shared_info:
        rc = index ? -XEN_EINVAL : place_frame(d, g, d->shared_frame);
        if (!rc)
            guest_time_rewrite(d);
        return rc;
    case XENMAPSPACE_grant_table:
        if (index & XENMAPIDX_grant_table_status)
            return -XEN_EOPNOTSUPP; /* version 2 */
        rc = grant_table_frame(d, index, &m);
        return rc ? rc : place_frame(d, g, m);
    case XENMAPSPACE_gmfn:
        return hvm_physmap_move(d, gfn(index), g);
    default:
        return -XEN_EOPNOTSUPP;
    }
}

static int find(domid_t id, unsigned op, struct domain **out)
{
    struct domain *d = domain_find_or_self(id);
    if (!d)
        return -XEN_ESRCH;
    int rc = permission_check(current_domain(), __HYPERVISOR_memory_op, op, d);
    if (rc)
        return rc;
    if (!d->is_hvm)
        return -XEN_EINVAL;
    if (!domain_get(d))
        return -XEN_ESRCH;
    *out = d;
    return 0;
}

static long add_one(guest_ptr_t arg)
{
    struct xen_add_to_physmap a;
    struct domain *d;
    int rc = copy_from_guest(&a, arg, sizeof(a));
    if (!rc)
        rc = find(a.domid, XENMEM_add_to_physmap, &d);
    if (rc)
        return rc;
    if (a.space == XENMAPSPACE_gmfn_range) {
        for (unsigned i = 0; !rc && i < a.size; i++) {
            rc = hvm_physmap_move(d, gfn(a.idx + i), gfn(a.gpfn + i));
            preempt_point();
        }
    } else {
        rc = add(d, a.space, a.idx, gfn(a.gpfn));
    }
    domain_put(d);
    return rc;
}

static long add_batch(guest_ptr_t arg)
{
    struct xen_add_to_physmap_batch b;
    struct domain *d;
    int rc = copy_from_guest(&b, arg, sizeof(b));
    if (!rc)
        rc = find(b.domid, XENMEM_add_to_physmap_batch, &d);
    if (rc)
        return rc;
    for (unsigned i = 0; !rc && i < b.size; i++) {
        xen_ulong_t index;
        xen_pfn_t g;
        rc = copy_element_from_guest(&index, guest_handle(b.idxs), i);
        if (!rc)
            rc = copy_element_from_guest(&g, guest_handle(b.gpfns), i);
        if (rc)
            break;
        int result =
            b.space == XENMAPSPACE_gmfn_foreign
                ? add_foreign(d, b.u.foreign_domid, XENMEM_add_to_physmap_batch, gfn(index), gfn(g))
                : add(d, b.space, index, gfn(g));
        rc = copy_element_to_guest(guest_handle(b.errs), i, &result);
        preempt_point();
    }
    domain_put(d);
    return rc;
}

static long remove_one(guest_ptr_t arg)
{
    struct xen_remove_from_physmap r;
    struct domain *d;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (!rc)
        rc = find(r.domid, XENMEM_remove_from_physmap, &d);
    if (rc)
        return rc;
    rc = p2m_kind(d, gfn(r.gpfn)) == P2M_NONE ? -XEN_ENOENT : vacate(d, gfn(r.gpfn));
    domain_put(d);
    return rc;
}

long hvm_memory_op(uint64_t cmd, guest_ptr_t arg)
{
    switch (cmd) {
    case XENMEM_add_to_physmap:
        return add_one(arg);
    case XENMEM_add_to_physmap_batch:
        return add_batch(arg);
    case XENMEM_set_pod_target:
    case XENMEM_get_pod_target:
        return pod_target(cmd, arg);
    default:
        return remove_one(arg);
    }
}
