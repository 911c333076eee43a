/*
 * domctls on the part of a vCPU's state that struct vcpu_guest_context has no room for: callbacks
 * of 32-bit system calls, the extended FPU state, MSRs. Tools save and load a guest by them.
 *
 * For PV domains alone: domctl_hvm.c has the others' state. A vCPU is paused while its state is
 * read or changed, and the caller's own cannot be.
 */
#include "control/internal.h"
#include "lib/string.h"
#include "pv/pv.h"

int domctl_get_ext_vcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_ext_vcpucontext *e = &op->u.ext_vcpucontext;
    const struct vcpu *v = domctl_vcpu(d, e->vcpu);
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    /* No guest has a SYSENTER callback, and no machine check bank of its own. */
    *e = (struct xen_domctl_ext_vcpucontext){
        .vcpu = e->vcpu,
        .size = sizeof(*e),
        .syscall32_callback_eip = v->pv->syscall32_callback,
        .syscall32_disables_events = v->pv->syscall32_disables_events,
    };
    return 0;
}

int domctl_set_ext_vcpucontext(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_ext_vcpucontext *e = &op->u.ext_vcpucontext;
    struct vcpu *v = domctl_vcpu(d, e->vcpu);
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    /* Contexts of older tools end before the machine check fields. */
    if (e->size < offsetof(struct xen_domctl_ext_vcpucontext, mcg_cap) || e->size > sizeof(*e))
        return -XEN_EINVAL;
    if (!is_guest_addr(e->syscall32_callback_eip) || e->sysenter_callback_eip)
        return -XEN_EINVAL;
    vcpu_pause(v);
    v->pv->syscall32_callback = e->syscall32_callback_eip;
    v->pv->syscall32_disables_events = e->syscall32_disables_events;
    vcpu_unpause(v);
    return 0;
}

/*
 * The image that goes out and comes in: XCR0 as it is, XCR0 as it ever was, and the XSAVE area in
 * the standard form.
 */
struct xstate_header {
    uint64_t xcr0, xcr0_ever;
};

static uint64_t xstate_size(void)
{
    return cpu_features.xsave ? sizeof(struct xstate_header) + cpu_features.xsave_size : 0;
}

int domctl_getvcpuextstate(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = domctl_vcpu(d, e->vcpu);
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    if (!e->size && !e->buffer.p) { /* how much would it be? */
        e->size = xstate_size();
        e->xfeature_mask = cpu_features.xsave ? cpu_features.xcr0_mask : 0;
        return 0;
    }
    if (!cpu_features.xsave || e->size < xstate_size())
        return -XEN_EINVAL;

    void *area = fpu_alloc();
    if (!area)
        return -XEN_ENOMEM;
    vcpu_pause(v);
    /* All components are saved whatever XCR0 is now, so that each may hold something. */
    struct xstate_header header = {v->xcr0, cpu_features.xcr0_mask};
    memcpy(area, v->fpu, cpu_features.xsave_size);
    vcpu_unpause(v);
    int rc = copy_to_guest(guest_handle(e->buffer), &header, sizeof(header));
    if (!rc)
        rc = copy_to_guest(guest_offset(guest_handle(e->buffer), sizeof(header)), area,
                           cpu_features.xsave_size);
    e->size = xstate_size();
    e->xfeature_mask = cpu_features.xcr0_mask;
    fpu_free(area);
    return rc;
}

int domctl_setvcpuextstate(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = domctl_vcpu(d, e->vcpu);
    struct xstate_header header;
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    if (!cpu_features.xsave || e->size <= sizeof(header) || e->size > xstate_size())
        return -XEN_EINVAL;
    int rc = copy_from_guest(&header, guest_handle(e->buffer), sizeof(header));
    if (rc)
        return rc;
    if (!fpu_xcr0_is_valid(header.xcr0) || !fpu_xcr0_is_valid(header.xcr0_ever) ||
        (header.xcr0 & ~header.xcr0_ever))
        return -XEN_EINVAL;

    void *area = fpu_alloc();
    if (!area)
        return -XEN_ENOMEM;
    rc = copy_from_guest(area, guest_offset(guest_handle(e->buffer), sizeof(header)),
                         e->size - sizeof(header));
    if (!rc && !fpu_state_is_valid(area, e->size - sizeof(header), header.xcr0_ever))
        rc = -XEN_EINVAL;
    if (!rc) {
        vcpu_pause(v);
        memcpy(v->fpu, area, cpu_features.xsave_size);
        v->xcr0 = header.xcr0;
        vcpu_unpause(v);
    }
    fpu_free(area);
    return rc;
}

/* Of the MSRs that a PV guest may change only one is not in its other state. */
#define SAVED_MSRS 1

int domctl_get_vcpu_msrs(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = domctl_vcpu(d, m->vcpu);
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    if (!m->msrs.p) { /* how many could there be? */
        m->msr_count = SAVED_MSRS;
        return 0;
    }
    vcpu_pause(v);
    struct xen_domctl_vcpu_msr entry = {.index = MSR_TSC_AUX, .value = v->pv->tsc_aux};
    vcpu_unpause(v);
    /* Those that hold 0 are left out, as they do after creation. */
    uint32_t n = cpu_features.rdtscp && entry.value ? SAVED_MSRS : 0;
    if (n > m->msr_count)
        return -XEN_ENOBUFS;
    m->msr_count = n;
    return n ? copy_element_to_guest(guest_handle(m->msrs), 0, &entry) : 0;
}

/* On return msr_count says which one was not taken. */
int domctl_set_vcpu_msrs(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = domctl_vcpu(d, m->vcpu);
    uint32_t i, count = m->msr_count;
    int rc = 0;
    if (!v)
        return -XEN_ESRCH;
    if (d->is_hvm)
        return -XEN_EOPNOTSUPP;
    if (count > SAVED_MSRS)
        return -XEN_EINVAL;
    for (i = 0; i < count && !rc; i++) {
        struct xen_domctl_vcpu_msr entry;
        m->msr_count = i;
        rc = copy_element_from_guest(&entry, guest_handle(m->msrs), i);
        if (rc)
            break;
        if (entry.reserved || entry.index != MSR_TSC_AUX || !cpu_features.rdtscp ||
            entry.value >> 32)
            return -XEN_EINVAL;
        vcpu_pause(v);
        v->pv->tsc_aux = entry.value;
        vcpu_unpause(v);
    }
    if (!rc)
        m->msr_count = count;
    return rc;
}
