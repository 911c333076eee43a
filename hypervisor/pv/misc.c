/* Small hypercalls of PV guests: CR0.TS, and the assists of vm_assist (xen/xen.h). */
#include "hypercall/table.h"
#include "pv/internal.h"

long hc_fpu_taskswitch(uint64_t set)
{
    struct vcpu *v = current_vcpu();
    v->pv->ctrl_cr0_ts = set ? 1 : 0;
    pv_cr_load(v);
    return 0;
}

/*
 * Page tables are always writable in the assist's sense, CR3 is always wide and segments of 4 GiB
 * need nothing in 64-bit mode: those bits are only recorded. The table of frames is never shown to
 * user mode, which is what m2p_strict asks for. The run state flag is read by domain/.
 */
long hc_vm_assist(uint64_t cmd, uint64_t type)
{
    struct domain *d = current_domain();
    if (cmd != VMASST_CMD_enable && cmd != VMASST_CMD_disable)
        return -XEN_ENOSYS;
    switch (type) {
    case VMASST_TYPE_runstate_update_flag:
    case VMASST_TYPE_4gb_segments:
    case VMASST_TYPE_writable_pagetables:
    case VMASST_TYPE_pae_extended_cr3:
        if (cmd == VMASST_CMD_enable)
            __atomic_fetch_or(&d->vm_assist, 1u << type, __ATOMIC_RELAXED);
        else
            __atomic_fetch_and(&d->vm_assist, ~(1u << type), __ATOMIC_RELAXED);
        return 0;
    case VMASST_TYPE_m2p_strict: /* a bit that d->vm_assist has no room for, always on */
        return cmd == VMASST_CMD_enable ? 0 : -XEN_EINVAL;
    default:
        return -XEN_EINVAL;
    }
}
