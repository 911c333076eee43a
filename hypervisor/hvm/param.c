/*
 * hvm_op (xen/hvm/hvm_op.h): parameters of a domain (xen/hvm/params.h), which the tools and the
 * guest leave for each other and a few of which mean something to us.
 */
#include "console/console.h"
#include "hvm/hvm.h"
#include "hvm/platform.h"
#include "hypercall/permission.h"
#include "hypercall/table.h"

#include <xen/hvm/hvm_op.h>

#define BIT(n) (1UL << (n))

/* What a guest, mostly its firmware, may read and write itself. The tools have all that we keep. */
static const uint64_t guest_reads = BIT(HVM_PARAM_CALLBACK_IRQ) | BIT(HVM_PARAM_STORE_PFN) |
                                    BIT(HVM_PARAM_STORE_EVTCHN) | BIT(HVM_PARAM_CONSOLE_PFN) |
                                    BIT(HVM_PARAM_CONSOLE_EVTCHN) | BIT(HVM_PARAM_PAE_ENABLED) |
                                    BIT(HVM_PARAM_ALTP2M) | BIT(HVM_PARAM_ACPI_IOPORTS_LOCATION) |
                                    BIT(HVM_PARAM_VM_GENERATION_ID_ADDR);
static const uint64_t guest_writes =
    BIT(HVM_PARAM_CALLBACK_IRQ) | BIT(HVM_PARAM_ACPI_IOPORTS_LOCATION) |
    BIT(HVM_PARAM_VM_GENERATION_ID_ADDR) | BIT(HVM_PARAM_VM86_TSS_SIZED);
static const uint64_t kept =
    BIT(HVM_PARAM_CALLBACK_IRQ) | BIT(HVM_PARAM_STORE_PFN) | BIT(HVM_PARAM_STORE_EVTCHN) |
    BIT(HVM_PARAM_PAE_ENABLED) | BIT(HVM_PARAM_TIMER_MODE) | BIT(HVM_PARAM_HPET_ENABLED) |
    BIT(HVM_PARAM_IDENT_PT) | BIT(HVM_PARAM_VM86_TSS) | BIT(HVM_PARAM_VPT_ALIGN) |
    BIT(HVM_PARAM_CONSOLE_PFN) | BIT(HVM_PARAM_CONSOLE_EVTCHN) |
    BIT(HVM_PARAM_ACPI_IOPORTS_LOCATION) | BIT(HVM_PARAM_NESTEDHVM) |
    BIT(HVM_PARAM_PAGING_RING_PFN) | BIT(HVM_PARAM_MONITOR_RING_PFN) |
    BIT(HVM_PARAM_SHARING_RING_PFN) | BIT(HVM_PARAM_TRIPLE_FAULT_REASON) |
    BIT(HVM_PARAM_IOREQ_SERVER_PFN) | BIT(HVM_PARAM_NR_IOREQ_SERVER_PAGES) |
    BIT(HVM_PARAM_VM_GENERATION_ID_ADDR) | BIT(HVM_PARAM_ALTP2M) | BIT(HVM_PARAM_X87_FIP_WIDTH) |
    BIT(HVM_PARAM_IOREQ_PFN) | BIT(HVM_PARAM_BUFIOREQ_PFN) | BIT(HVM_PARAM_ACPI_S_STATE) |
    BIT(HVM_PARAM_VM86_TSS_SIZED) | BIT(HVM_PARAM_MCA_CAP) | BIT(HVM_PARAM_VIRIDIAN);
_Static_assert(HVM_NR_PARAMS <= 64, "a bit each");

static bool in(uint64_t set, uint32_t index)
{
    return index < HVM_NR_PARAMS && (set >> index & 1);
}

int hvm_param_get(struct domain *d, uint32_t index, uint64_t *value)
{
    if (index >= HVM_NR_PARAMS)
        return -XEN_EINVAL;
    if (!in(current_domain() == d && !d->privileged ? guest_reads : kept, index))
        return -XEN_EPERM;
    *value = READ_ONCE(d->hvm->params[index]);
    return 0;
}

/* By a vector, or by an interrupt line where there are some. */
static int set_callback(struct domain *d, uint64_t value)
{
    uint8_t vector = value;
    bool by_vector = value >> 56 == HVM_PARAM_CALLBACK_TYPE_VECTOR;
    if (by_vector && vector < 16)
        return -XEN_EINVAL;
    int rc = platform_set_callback(d, by_vector ? 0 : value);
    if (!rc)
        WRITE_ONCE(d->hvm->callback_vector, by_vector ? vector : 0);
    return rc;
}

static int check(const struct domain *d, uint32_t index, uint64_t value)
{
    switch (index) {
    case HVM_PARAM_NESTEDHVM:
    case HVM_PARAM_ALTP2M:
    case HVM_PARAM_VIRIDIAN:
        return value ? -XEN_EOPNOTSUPP : 0;
    case HVM_PARAM_TIMER_MODE:
        return value > HVMPTM_one_missed_tick_pending ? -XEN_EINVAL : 0;
    case HVM_PARAM_ACPI_IOPORTS_LOCATION:
        return value > 1 ? -XEN_EINVAL : 0;
    case HVM_PARAM_TRIPLE_FAULT_REASON:
        return value > SHUTDOWN_MAX ? -XEN_EINVAL : 0;
    case HVM_PARAM_MCA_CAP:
    case HVM_PARAM_X87_FIP_WIDTH:
        return -XEN_EOPNOTSUPP;
    default:
        return 0;
    }
}

int hvm_param_set(struct domain *d, uint32_t index, uint64_t value, bool by_tools)
{
    struct vcpu *v;
    if (index >= HVM_NR_PARAMS)
        return -XEN_EINVAL;
    if (!in(by_tools ? kept : guest_writes, index)) {
        log_guest(d->id, LOG_DEBUG, "HVM parameter %u is not its to set", index);
        return -XEN_EPERM;
    }
    int rc = check(d, index, value);
    if (!rc && index == HVM_PARAM_CALLBACK_IRQ)
        rc = set_callback(d, value);
    if (rc)
        return rc;
    WRITE_ONCE(d->hvm->params[index], value);
    if (index == HVM_PARAM_CALLBACK_IRQ)
        for_each_vcpu(d, v)
            hvm_kick(v); /* what is pending already */
    return 0;
}

static long param(uint64_t op, guest_ptr_t arg)
{
    struct xen_hvm_param p;
    struct domain *caller = current_domain();
    int rc = copy_from_guest(&p, arg, sizeof(p));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(p.domid);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(caller, __HYPERVISOR_hvm_op, op, d);
    if (rc)
        return rc;
    if (!d->is_hvm)
        return -XEN_EINVAL;
    if (op == HVMOP_set_param) {
        rc = hvm_param_set(d, p.index, p.value, caller->privileged);
        if (!rc && p.index == HVM_PARAM_CALLBACK_IRQ && d == caller)
            hvm_latch_width(current_vcpu());
        return rc;
    }
    rc = hvm_param_get(d, p.index, &p.value);
    return rc ? rc : copy_to_guest(arg, &p, sizeof(p));
}

static long set_upcall_vector(guest_ptr_t arg)
{
    struct xen_hvm_evtchn_upcall_vector u;
    struct domain *d = current_domain();
    int rc = copy_from_guest(&u, arg, sizeof(u));
    if (rc)
        return rc;
    if (!d->is_hvm || u.vector < 16)
        return -XEN_EINVAL;
    if (u.vcpu >= d->max_vcpus || !READ_ONCE(d->vcpu[u.vcpu]))
        return -XEN_ENOENT;
    WRITE_ONCE(d->vcpu[u.vcpu]->hvm->upcall_vector, u.vector);
    hvm_kick(d->vcpu[u.vcpu]);
    return 0;
}

long hc_hvm_op(uint64_t op, uint64_t arg)
{
    switch (op) {
    case HVMOP_set_param:
    case HVMOP_get_param:
        return param(op, guest_ptr(arg));
    case HVMOP_set_evtchn_upcall_vector:
        return set_upcall_vector(guest_ptr(arg));
    case HVMOP_flush_tlbs:
        if (!current_domain()->is_hvm || arg)
            return -XEN_EINVAL;
        p2m_flush(current_domain());
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}
