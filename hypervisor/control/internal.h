/* Shared by the files of control/: how tools' bitmaps are read and written, the domctl families. */
#ifndef CONTROL_INTERNAL_H
#define CONTROL_INTERNAL_H

#include "domain/domain.h"
#include "hypercall/guest_access.h"
#include "hypercall/permission.h"

#include <xen/domctl.h>
#include <xen/sysctl.h>

/*
 * A domctl's handler. @d: the target, a reference held; NULL for createdomain. @op: our copy,
 * copied back to the caller when the handler returns 0 and the row in domctl.c says so.
 */
typedef int (*domctl_handler)(struct domain *d, struct xen_domctl *op);

/* CPU maps of the tools (struct xenctl_bitmap): too long ones are cut, short ones zero-extended. */
int __must_check bitmap_from_tools(struct cpu_mask *mask, const struct xenctl_bitmap *b);
int __must_check bitmap_to_tools(const struct xenctl_bitmap *b, const uint64_t *bits,
                                 unsigned nr_bits);

void domain_fill_info(struct domain *d, struct xen_domctl_getdomaininfo *info);
uint64_t vcpu_run_time(const struct vcpu *v); /* ns it has run */

/* A sysctl's handler; @op, our copy, goes back to the caller when it returns 0 or -XEN_ENOBUFS. */
typedef int (*sysctl_handler)(struct xen_sysctl *op);

/* sysctl_machine.c */
int sysctl_physinfo(struct xen_sysctl *op);
int sysctl_getcpuinfo(struct xen_sysctl *op);
int sysctl_availheap(struct xen_sysctl *op);
int sysctl_cputopoinfo(struct xen_sysctl *op);
int sysctl_numainfo(struct xen_sysctl *op);
int sysctl_pcitopoinfo(struct xen_sysctl *op);

/* domctl_domain.c */
int domctl_createdomain(struct domain *d, struct xen_domctl *op);
int domctl_destroydomain(struct domain *d, struct xen_domctl *op);
int domctl_pausedomain(struct domain *d, struct xen_domctl *op);
int domctl_unpausedomain(struct domain *d, struct xen_domctl *op);
int domctl_resumedomain(struct domain *d, struct xen_domctl *op);
int domctl_getdomaininfo(struct domain *d, struct xen_domctl *op);
int domctl_setdomainhandle(struct domain *d, struct xen_domctl *op);
int domctl_setdebugging(struct domain *d, struct xen_domctl *op);
int domctl_settimeoffset(struct domain *d, struct xen_domctl *op);
int domctl_gettscinfo(struct domain *d, struct xen_domctl *op);
int domctl_settscinfo(struct domain *d, struct xen_domctl *op);
int domctl_set_address_size(struct domain *d, struct xen_domctl *op);
int domctl_get_address_size(struct domain *d, struct xen_domctl *op);
int domctl_set_virq_handler(struct domain *d, struct xen_domctl *op);
int domctl_get_cpu_policy(struct domain *d, struct xen_domctl *op);
int domctl_set_cpu_policy(struct domain *d, struct xen_domctl *op);

/* domctl_vcpu.c */
struct vcpu *domctl_vcpu(struct domain *d, uint32_t id); /* NULL: it has none of that number */
int domctl_max_vcpus(struct domain *d, struct xen_domctl *op);
int domctl_setvcpucontext(struct domain *d, struct xen_domctl *op);
int domctl_getvcpucontext(struct domain *d, struct xen_domctl *op);
int domctl_getvcpuinfo(struct domain *d, struct xen_domctl *op);
int domctl_setvcpuaffinity(struct domain *d, struct xen_domctl *op);
int domctl_getvcpuaffinity(struct domain *d, struct xen_domctl *op);
int domctl_setnodeaffinity(struct domain *d, struct xen_domctl *op);
int domctl_getnodeaffinity(struct domain *d, struct xen_domctl *op);
int domctl_sendtrigger(struct domain *d, struct xen_domctl *op);
int domctl_scheduler_op(struct domain *d, struct xen_domctl *op);

/* domctl_hvm.c */
int domctl_gethvmcontext(struct domain *d, struct xen_domctl *op);
int domctl_sethvmcontext(struct domain *d, struct xen_domctl *op);
int domctl_gethvmcontext_partial(struct domain *d, struct xen_domctl *op);
int domctl_set_paging_mempool_size(struct domain *d, struct xen_domctl *op);
int domctl_get_paging_mempool_size(struct domain *d, struct xen_domctl *op);
int domctl_shadow_op(struct domain *d, struct xen_domctl *op);

/* domctl_state.c */
int domctl_get_ext_vcpucontext(struct domain *d, struct xen_domctl *op);
int domctl_set_ext_vcpucontext(struct domain *d, struct xen_domctl *op);
int domctl_getvcpuextstate(struct domain *d, struct xen_domctl *op);
int domctl_setvcpuextstate(struct domain *d, struct xen_domctl *op);
int domctl_get_vcpu_msrs(struct domain *d, struct xen_domctl *op);
int domctl_set_vcpu_msrs(struct domain *d, struct xen_domctl *op);

/* domctl_resource.c */
int domctl_max_mem(struct domain *d, struct xen_domctl *op);
int domctl_getpageframeinfo3(struct domain *d, struct xen_domctl *op);
int domctl_hypercall_init(struct domain *d, struct xen_domctl *op);
int domctl_irq_permission(struct domain *d, struct xen_domctl *op);
int domctl_iomem_permission(struct domain *d, struct xen_domctl *op);
int domctl_ioport_permission(struct domain *d, struct xen_domctl *op);

#endif
