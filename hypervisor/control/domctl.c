/*
 * domctl (xen/domctl.h, interface version 0x15): what tools do to one domain. This file decodes,
 * checks the version and the right, finds the target and holds a reference to it; the work is in
 * domctl_domain.c, domctl_vcpu.c and domctl_resource.c, one function per ABI name.
 */
#include "control/internal.h"
#include "hypercall/table.h"
#include "lib/string.h"

#define COPY_BACK true

static const struct {
    uint32_t cmd;
    bool copy_back;
    domctl_handler handler;
} domctls[] = {
    {XEN_DOMCTL_createdomain, COPY_BACK, domctl_createdomain},
    {XEN_DOMCTL_destroydomain, false, domctl_destroydomain},
    {XEN_DOMCTL_pausedomain, false, domctl_pausedomain},
    {XEN_DOMCTL_unpausedomain, false, domctl_unpausedomain},
    {XEN_DOMCTL_resumedomain, false, domctl_resumedomain},
    {XEN_DOMCTL_getdomaininfo, COPY_BACK, domctl_getdomaininfo},
    {XEN_DOMCTL_setdomainhandle, false, domctl_setdomainhandle},
    {XEN_DOMCTL_setdebugging, false, domctl_setdebugging},
    {XEN_DOMCTL_settimeoffset, false, domctl_settimeoffset},
    {XEN_DOMCTL_gettscinfo, COPY_BACK, domctl_gettscinfo},
    {XEN_DOMCTL_settscinfo, false, domctl_settscinfo},
    {XEN_DOMCTL_set_address_size, false, domctl_set_address_size},
    {XEN_DOMCTL_get_address_size, COPY_BACK, domctl_get_address_size},
    {XEN_DOMCTL_set_virq_handler, false, domctl_set_virq_handler},
    {XEN_DOMCTL_get_cpu_policy, COPY_BACK, domctl_get_cpu_policy},
    {XEN_DOMCTL_set_cpu_policy, COPY_BACK, domctl_set_cpu_policy},
    {XEN_DOMCTL_max_vcpus, false, domctl_max_vcpus},
    {XEN_DOMCTL_setvcpucontext, false, domctl_setvcpucontext},
    {XEN_DOMCTL_getvcpucontext, false, domctl_getvcpucontext},
    {XEN_DOMCTL_getvcpuinfo, COPY_BACK, domctl_getvcpuinfo},
    {XEN_DOMCTL_setvcpuaffinity, COPY_BACK, domctl_setvcpuaffinity},
    {XEN_DOMCTL_getvcpuaffinity, COPY_BACK, domctl_getvcpuaffinity},
    {XEN_DOMCTL_setnodeaffinity, false, domctl_setnodeaffinity},
    {XEN_DOMCTL_getnodeaffinity, false, domctl_getnodeaffinity},
    {XEN_DOMCTL_set_ext_vcpucontext, false, domctl_set_ext_vcpucontext},
    {XEN_DOMCTL_get_ext_vcpucontext, COPY_BACK, domctl_get_ext_vcpucontext},
    {XEN_DOMCTL_setvcpuextstate, false, domctl_setvcpuextstate},
    {XEN_DOMCTL_getvcpuextstate, COPY_BACK, domctl_getvcpuextstate},
    {XEN_DOMCTL_set_vcpu_msrs, COPY_BACK, domctl_set_vcpu_msrs},
    {XEN_DOMCTL_get_vcpu_msrs, COPY_BACK, domctl_get_vcpu_msrs},
    {XEN_DOMCTL_sendtrigger, false, domctl_sendtrigger},
    {XEN_DOMCTL_scheduler_op, COPY_BACK, domctl_scheduler_op},
    {XEN_DOMCTL_gethvmcontext, COPY_BACK, domctl_gethvmcontext},
    {XEN_DOMCTL_sethvmcontext, false, domctl_sethvmcontext},
    {XEN_DOMCTL_gethvmcontext_partial, COPY_BACK, domctl_gethvmcontext_partial},
    {XEN_DOMCTL_set_paging_mempool_size, false, domctl_set_paging_mempool_size},
    {XEN_DOMCTL_get_paging_mempool_size, COPY_BACK, domctl_get_paging_mempool_size},
    {XEN_DOMCTL_shadow_op, COPY_BACK, domctl_shadow_op},
    {XEN_DOMCTL_max_mem, false, domctl_max_mem},
    {XEN_DOMCTL_getpageframeinfo3, false, domctl_getpageframeinfo3},
    {XEN_DOMCTL_hypercall_init, false, domctl_hypercall_init},
    {XEN_DOMCTL_irq_permission, false, domctl_irq_permission},
    {XEN_DOMCTL_iomem_permission, false, domctl_iomem_permission},
    {XEN_DOMCTL_ioport_permission, false, domctl_ioport_permission},
};

int bitmap_from_tools(struct cpu_mask *mask, const struct xenctl_bitmap *b)
{
    memset(mask, 0, sizeof(*mask));
    unsigned bits = min(b->nr_bits, (uint32_t)MAX_CPUS);
    int rc = copy_from_guest(mask, guest_handle(b->bitmap), (bits + 7) / 8);
    if (rc)
        return rc;
    for (unsigned i = bits; i < MAX_CPUS; i++) /* the last byte's surplus */
        bit_clear(mask->bits, i);
    return 0;
}

/* What a map has beyond our CPUs may be long, so it is cleared a page at a time. */
int bitmap_to_tools(const struct xenctl_bitmap *b, const uint64_t *bits, unsigned nr_bits)
{
    uint64_t size = ((uint64_t)b->nr_bits + 7) / 8, done = min(size, ((uint64_t)nr_bits + 7) / 8);
    int rc = copy_to_guest(guest_handle(b->bitmap), bits, done);
    while (!rc && done < size) {
        uint64_t n = min(size - done, (uint64_t)PAGE_SIZE);
        rc = clear_guest(guest_offset(guest_handle(b->bitmap), done), n);
        done += n;
        preempt_point();
    }
    return rc;
}

/* A referenced target, NULL for "none named"; false: there is no such domain. */
static bool find_target(const struct xen_domctl *op, struct domain **out)
{
    *out = NULL;
    if (op->cmd == XEN_DOMCTL_createdomain)
        return true;
    /* The tools walk the list by it: the first domain from this number on (xenctrl.h,
     * xc_domain_getinfo); xenconsoled finds guests in no other way. */
    if (op->cmd == XEN_DOMCTL_getdomaininfo && op->domain < DOMID_FIRST_RESERVED) {
        *out = domain_next(op->domain);
        return *out != NULL;
    }
    struct domain *d = domain_find_or_self(op->domain);
    if (!d || !domain_get(d))
        return false;
    *out = d;
    return true;
}

static int run(domctl_handler handler, uint64_t arg, struct xen_domctl *op, bool copy_back)
{
    struct domain *d;
    if (!find_target(op, &d))
        return -XEN_ESRCH;
    int rc = permission_check(current_domain(), __HYPERVISOR_domctl, op->cmd, d);
    if (!rc)
        rc = handler(d, op);
    /* These two name the leaf and the MSR that they refused. */
    bool tells = op->cmd == XEN_DOMCTL_set_cpu_policy || op->cmd == XEN_DOMCTL_set_vcpu_msrs;
    if (copy_back && (!rc || tells) && copy_to_guest(guest_ptr(arg), op, sizeof(*op)))
        rc = -XEN_EFAULT;
    if (d)
        domain_put(d);
    return rc;
}

long hc_domctl(uint64_t arg)
{
    struct xen_domctl op;
    int rc = copy_from_guest(&op, guest_ptr(arg), sizeof(op));
    if (rc)
        return rc;
    if (op.interface_version != XEN_DOMCTL_INTERFACE_VERSION)
        return -XEN_EACCES;
    for (unsigned i = 0; i < ARRAY_SIZE(domctls); i++)
        if (domctls[i].cmd == op.cmd)
            return run(domctls[i].handler, arg, &op, domctls[i].copy_back);
    return -XEN_ENOSYS;
}
