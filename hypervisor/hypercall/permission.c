/*
 * Who may do what to whom: one table, consulted before any lock or side effect.
 *
 * Domain 0 is privileged over every domain. Any other domain may act only on itself, and only by
 * the operations that the table gives it. Hypercalls that are domain 0's as a whole (domctl,
 * sysctl, platform_op) carry HC_DOM0 in hypercall/table.h and reach this table for their targets.
 */
#include "domain/domain.h"
#include "hypercall/permission.h"
#include "hypercall/table.h"

#include <xen/domctl.h>
#include <xen/memory.h>
#include <xen/physdev.h>

enum rule {
    RULE_ANYONE,     /* on itself; the privileged domain on any target */
    RULE_PRIVILEGED, /* the privileged domain, on any target including none */
    RULE_NOT_SELF,   /* the privileged domain, on a domain other than its own */
};

#define ANY_OP (~0u)

static const struct {
    uint16_t nr;
    uint32_t op;
    enum rule rule;
} rules[] = {
    {__HYPERVISOR_memory_op, XENMEM_maximum_ram_page, RULE_ANYONE},
    {__HYPERVISOR_memory_op, XENMEM_machphys_mapping, RULE_ANYONE},
    {__HYPERVISOR_memory_op, XENMEM_memory_map, RULE_ANYONE},
    {__HYPERVISOR_memory_op, XENMEM_machine_memory_map, RULE_PRIVILEGED},
    {__HYPERVISOR_memory_op, XENMEM_set_memory_map, RULE_PRIVILEGED},
    {__HYPERVISOR_memory_op, XENMEM_claim_pages, RULE_PRIVILEGED},
    {__HYPERVISOR_memory_op, XENMEM_set_pod_target, RULE_PRIVILEGED},
    {__HYPERVISOR_memory_op, XENMEM_get_pod_target, RULE_PRIVILEGED},
    {__HYPERVISOR_memory_op, XENMEM_acquire_resource, RULE_NOT_SELF},
    {__HYPERVISOR_memory_op, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_mmu_update, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_mmuext_op, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_event_channel_op, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_grant_table_op, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_sched_op, ANY_OP, RULE_ANYONE},
    /* A domain that pauses, destroys or reprograms itself by domctl would wait for itself. */
    {__HYPERVISOR_domctl, XEN_DOMCTL_pausedomain, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_unpausedomain, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_destroydomain, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_resumedomain, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_setvcpucontext, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_getvcpucontext, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_set_ext_vcpucontext, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_setvcpuextstate, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_getvcpuextstate, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_set_vcpu_msrs, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_get_vcpu_msrs, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_max_vcpus, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_hypercall_init, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_set_cpu_policy, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_gethvmcontext, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_sethvmcontext, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, XEN_DOMCTL_gethvmcontext_partial, RULE_NOT_SELF},
    {__HYPERVISOR_domctl, ANY_OP, RULE_PRIVILEGED},
    {__HYPERVISOR_sysctl, ANY_OP, RULE_PRIVILEGED},
    {__HYPERVISOR_platform_op, ANY_OP, RULE_PRIVILEGED},
    {__HYPERVISOR_hvm_op, ANY_OP, RULE_ANYONE},
    {__HYPERVISOR_dm_op, ANY_OP, RULE_NOT_SELF},
    {__HYPERVISOR_physdev_op, ANY_OP, RULE_ANYONE},
};

int permission_check(const struct domain *caller, unsigned nr, unsigned op,
                     const struct domain *target)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
        if (rules[i].nr != nr || (rules[i].op != op && rules[i].op != ANY_OP))
            continue;
        switch (rules[i].rule) {
        case RULE_ANYONE:
            return caller->privileged || !target || target == caller ? 0 : -XEN_EPERM;
        case RULE_PRIVILEGED:
            return caller->privileged ? 0 : -XEN_EPERM;
        case RULE_NOT_SELF:
            if (!caller->privileged)
                return -XEN_EPERM;
            return target == caller ? -XEN_EINVAL : 0;
        }
    }
    return -XEN_EPERM;
}
