/*
 * From the CPU's exit reasons (SDM vol. 3 appendix C) to what common code knows (hvm/ops.h), and
 * the few exits that are nobody's business but ours.
 */
#include "hvm/vmx/vmcs.h"

/* Exit qualification of EPT violations. */
#define EPT_WRITE         (1UL << 1)
#define EPT_FETCH         (1UL << 2)
#define EPT_NMI_UNBLOCKED (1UL << 12)

/* The IRET that would have let NMIs in has not happened. */
static void iret_undone(const struct vcpu *v, bool unblocked)
{
    if (unblocked && !(vmread(VMCS_VECTORING_EVENT) & EVENT_VALID))
        vmwrite(VMCS_GUEST_SHADOW, vmread(VMCS_GUEST_SHADOW) | SHADOW_NMI);
}

static void decode_exception(struct vcpu *v, struct hvm_exit *e)
{
    uint32_t info = vmread(VMCS_EXIT_EVENT);
    if (EVENT_TYPE(info) == HVM_NMI) { /* ours; held back until the handler's IRET */
        __asm__ volatile("int %0" ::"i"(X86_NMI));
        return;
    }
    iret_undone(v, info & EVENT_NMI_UNBLOCKED);
    e->vector = info;
    e->has_error = info & EVENT_HAS_ERROR;
    e->error = e->has_error ? vmread(VMCS_EXIT_ERROR_CODE) : 0;
    switch (e->vector) {
    case X86_MC:
        __asm__ volatile("int %0" ::"i"(X86_MC));
        return;
    case X86_DB:
        vmx_debug_exception(v, vmread(VMCS_QUALIFICATION));
        if (EVENT_TYPE(info) == EVENT_PRIVILEGED) /* of INT1: a trap, behind it */
            v->stack->regs.rip += vmread(VMCS_INSTRUCTION_LENGTH);
        break;
    default:
        break;
    }
    e->reason = HVM_EXIT_EXCEPTION;
}

static void decode_io(struct hvm_exit *e)
{
    uint64_t q = vmread(VMCS_QUALIFICATION);
    e->reason = HVM_EXIT_IO;
    e->size = (q & 7) + 1;
    e->in = q >> 3 & 1;
    e->string = q >> 4 & 1;
    e->port = q >> 16;
}

static void decode_ept_violation(const struct vcpu *v, struct hvm_exit *e)
{
    uint64_t q = vmread(VMCS_QUALIFICATION);
    iret_undone(v, q & EPT_NMI_UNBLOCKED);
    e->reason = HVM_EXIT_NESTED_FAULT;
    e->gpa = vmread(VMCS_GUEST_PHYSICAL);
    e->access = q & EPT_WRITE ? HVM_WRITE : q & EPT_FETCH ? HVM_FETCH : HVM_READ;
}

/* Exits at an instruction of which the CPU says how long it is. */
static enum hvm_exit_reason instruction(uint32_t reason)
{
    switch (reason) {
    case VMX_EXIT_CPUID:
        return HVM_EXIT_CPUID;
    case VMX_EXIT_HLT:
        return HVM_EXIT_HLT;
    case VMX_EXIT_INVD:
    case VMX_EXIT_WBINVD:
        return HVM_EXIT_INVD;
    case VMX_EXIT_RDPMC:
        return HVM_EXIT_RDPMC;
    case VMX_EXIT_VMCALL:
        return HVM_EXIT_HYPERCALL;
    case VMX_EXIT_IO:
        return HVM_EXIT_IO;
    case VMX_EXIT_RDMSR:
    case VMX_EXIT_WRMSR:
        return HVM_EXIT_MSR;
    case VMX_EXIT_XSETBV:
        return HVM_EXIT_XSETBV;
    case VMX_EXIT_GETSEC:
    case VMX_EXIT_VMX_FIRST ... VMX_EXIT_VMX_LAST:
    case VMX_EXIT_MWAIT:
    case VMX_EXIT_MONITOR:
    case VMX_EXIT_INVEPT:
    case VMX_EXIT_INVVPID:
    case VMX_EXIT_VMFUNC:
        return HVM_EXIT_UNDEFINED;
    default:
        return HVM_EXIT_UNKNOWN;
    }
}

void vmx_decode_exit(struct vcpu *v, uint32_t reason)
{
    struct vmx_vcpu *s = vmx_of(v);
    struct hvm_exit *e = &v->hvm->exit;
    *e = (struct hvm_exit){.code = reason, .reason = HVM_EXIT_NOTHING};
    switch (reason) {
    case VMX_EXIT_EXCEPTION:
        decode_exception(v, e);
        break;
    case VMX_EXIT_INTERRUPT:
        e->reason = HVM_EXIT_INTERRUPT;
        break;
    case VMX_EXIT_INIT:
        break;
    case VMX_EXIT_INTERRUPT_WINDOW: /* the next entry brings it in */
        break;
    case VMX_EXIT_NMI_WINDOW:
        vmx_set_cpu_control(s, CPU_NMI_WINDOW, false);
        v->hvm->nmi_masked = false;
        break;
    case VMX_EXIT_TRIPLE_FAULT:
        e->reason = HVM_EXIT_TRIPLE_FAULT;
        break;
    case VMX_EXIT_TASK_SWITCH:
        vmx_task_switch(v, vmread(VMCS_QUALIFICATION));
        break;
    case VMX_EXIT_CR:
        vmx_cr_access(v, vmread(VMCS_QUALIFICATION));
        break;
    case VMX_EXIT_DR:
        vmx_debug_load(v);
        break;
    case VMX_EXIT_EPT_VIOLATION:
        decode_ept_violation(v, e);
        break;
    default:
        e->reason = instruction(reason);
        if (e->reason != HVM_EXIT_UNKNOWN)
            e->next_rip = v->stack->regs.rip + vmread(VMCS_INSTRUCTION_LENGTH);
        if (e->reason == HVM_EXIT_IO)
            decode_io(e);
        e->write = reason == VMX_EXIT_WRMSR;
        break;
    }
}
