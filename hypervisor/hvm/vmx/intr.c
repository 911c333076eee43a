/*
 * What goes into the guest at an entry (SDM vol. 3, "Event injection"), and the debug registers,
 * which are loaded when the guest uses them.
 *
 * One event goes in at an entry, and an interrupt only if the guest can take it at once; otherwise
 * the guest stops as soon as it can.
 */
#include "hvm/vmx/vmcs.h"

#define DR6_TRAPS 0xfUL

/* Whether a guest that single-steps held back by STI or MOV SS still owes the trap is checked. */
static void keep_step(struct vcpu *v)
{
    uint64_t now = vmread(VMCS_GUEST_PENDING_DEBUG), want = now & ~PENDING_DEBUG_STEP;
    if (v->stack->regs.rflags & RFLAGS_TF)
        want |= PENDING_DEBUG_STEP;
    if (want != now)
        vmwrite(VMCS_GUEST_PENDING_DEBUG, want);
}

bool vmx_set_event(struct vcpu *v, const struct hvm_event *e, int irq)
{
    uint32_t shadow = vmread(VMCS_GUEST_SHADOW), kept = shadow, event = 0;
    bool held = shadow & (SHADOW_STI | SHADOW_MOV_SS), taken = false;
    if (held)
        keep_step(v);
    /* The CPU blocks NMIs itself behind one that goes in. */
    if (!v->hvm->nmi_masked || (e->valid && e->type == HVM_NMI))
        kept &= ~SHADOW_NMI;
    if (kept != shadow)
        vmwrite(VMCS_GUEST_SHADOW, kept);
    if (e->valid) {
        event = EVENT_VALID | e->vector | (uint32_t)e->type << 8;
        if (e->has_error) {
            event |= EVENT_HAS_ERROR;
            vmwrite(VMCS_ENTRY_ERROR_CODE, e->error);
        }
    } else if (irq >= 0 && !held && (v->stack->regs.rflags & RFLAGS_IF)) {
        event = EVENT_VALID | (uint32_t)irq;
        taken = true;
    }
    if (event)
        vmwrite(VMCS_ENTRY_EVENT, event);
    vmx_set_cpu_control(vmx_of(v), CPU_INTERRUPT_WINDOW, irq >= 0 && !taken);
    return taken;
}

/*
 * An exit in the middle of a delivery: it is to be delivered again. Software interrupts and the
 * exceptions of INT1, INT3 and INTO come again by themselves, for rip is still at the instruction.
 */
void vmx_take_back_event(struct vcpu *v)
{
    uint32_t info = vmread(VMCS_VECTORING_EVENT);
    uint8_t type = EVENT_TYPE(info);
    struct hvm_event *e = &v->hvm->event;
    e->valid = false;
    if (!(info & EVENT_VALID) || type >= EVENT_SOFTWARE)
        return;
    e->valid = true;
    e->type = type;
    e->vector = info;
    e->has_error = info & EVENT_HAS_ERROR;
    e->error = e->has_error ? vmread(VMCS_VECTORING_ERROR_CODE) : 0;
}

/* --- debug registers --- */

void vmx_debug_load(struct vcpu *v)
{
    struct vmx_vcpu *s = vmx_of(v);
    if (s->dr_loaded)
        return;
    s->dr_loaded = true;
    vmx_set_cpu_control(s, CPU_DR_EXIT, false);
    write_breakpoints(v->hvm->dr);
    write_dr6(s->dr6);
}

void vmx_debug_save(struct vcpu *v)
{
    struct vmx_vcpu *s = vmx_of(v);
    if (!s->dr_loaded)
        return;
    read_breakpoints(v->hvm->dr);
    s->dr6 = read_dr6();
    write_dr6(DR6_DEFAULT);
    s->dr_loaded = false;
    vmx_set_cpu_control(s, CPU_DR_EXIT, true);
}

/* #DB that stopped the guest: the CPU says why, and leaves DR6 and DR7 to us. */
void vmx_debug_exception(struct vcpu *v, uint64_t why)
{
    const uint64_t reasons = DR6_TRAPS | DR6_BD | DR6_BS;
    uint64_t dr6 = hvm_ops->get_reg(v, HVM_DR6) & ~DR6_TRAPS;
    uint64_t dr7 = hvm_ops->get_reg(v, HVM_DR7);
    hvm_ops->set_reg(v, HVM_DR6, dr6 | (why & reasons));
    if (dr7 & DR7_GD)
        hvm_ops->set_reg(v, HVM_DR7, dr7 & ~DR7_GD);
}
