/*
 * From the CPU's exit codes (APM vol. 2 appendix C) to what common code knows (hvm/ops.h), and the
 * few exits that are nobody's business but ours.
 */
#include "hvm/svm/vmcb.h"

static void decode_io(struct hvm_exit *e, const struct vmcb *c)
{
    e->reason = HVM_EXIT_IO;
    e->in = c->exit_info1 & 1;
    e->string = c->exit_info1 >> 2 & 1;
    e->size = c->exit_info1 >> 4 & 7;
    e->port = c->exit_info1 >> 16;
    e->next_rip = c->exit_info2;
}

static void decode_nested_fault(struct hvm_exit *e, const struct vmcb *c)
{
    e->reason = HVM_EXIT_NESTED_FAULT;
    e->gpa = c->exit_info2;
    e->access = c->exit_info1 & PF_WRITE   ? HVM_WRITE
                : c->exit_info1 & PF_FETCH ? HVM_FETCH
                                           : HVM_READ;
}

void svm_decode_exit(struct vcpu *v)
{
    struct vmcb *c = svm_of(v)->vmcb;
    struct hvm_exit *e = &v->hvm->exit;
    e->code = c->exit_code;
    e->reason = HVM_EXIT_NOTHING;
    e->next_rip = e->gpa = 0; /* other fields are set with the reason that they belong to */
    switch (c->exit_code) {
    case EXIT_INTR:
    case EXIT_INIT:
        e->reason = HVM_EXIT_INTERRUPT;
        break;
    case EXIT_NMI: /* taken behind STGI */
    case EXIT_SMI:
        break;
    case EXIT_DB:
        *e = (struct hvm_exit){.reason = HVM_EXIT_EXCEPTION, .vector = X86_DB};
        break;
    case EXIT_AC:
        *e = (struct hvm_exit){.reason = HVM_EXIT_EXCEPTION,
                               .vector = X86_AC,
                               .has_error = true,
                               .error = c->exit_info1};
        break;
    case EXIT_MC:
        __asm__ volatile("int %0" ::"i"(X86_MC));
        break;
    case EXIT_DR_READ ... EXIT_DR_LAST:
        svm_debug_load(v);
        break;
    case EXIT_CR8_WRITE:
        e->reason = HVM_EXIT_TPR;
        break;
    case EXIT_IRET:
        c->intercept1 &= ~I1_IRET;
        v->hvm->nmi_masked = false;
        break;
    case EXIT_CPUID:
        e->reason = HVM_EXIT_CPUID;
        break;
    case EXIT_INVD:
    case EXIT_WBINVD:
        e->reason = HVM_EXIT_INVD;
        break;
    case EXIT_HLT:
        e->reason = HVM_EXIT_HLT;
        break;
    case EXIT_RDPMC:
        e->reason = HVM_EXIT_RDPMC;
        break;
    case EXIT_IO:
        decode_io(e, c);
        break;
    case EXIT_MSR:
        e->reason = HVM_EXIT_MSR;
        e->write = c->exit_info1 & 1;
        break;
    case EXIT_VMMCALL:
        e->reason = HVM_EXIT_HYPERCALL;
        break;
    case EXIT_XSETBV:
        e->reason = HVM_EXIT_XSETBV;
        break;
    case EXIT_RSM:
    case EXIT_INVLPGA:
    case EXIT_VMRUN:
    case EXIT_VMMCALL + 1 ... EXIT_SKINIT:
    case EXIT_MONITOR ... EXIT_MWAIT_ARMED:
        e->reason = HVM_EXIT_UNDEFINED;
        break;
    case EXIT_FERR:
    case EXIT_SHUTDOWN:
        e->reason = HVM_EXIT_TRIPLE_FAULT;
        break;
    case EXIT_NPF:
        decode_nested_fault(e, c);
        break;
    case EXIT_INVALID:
        e->reason = HVM_EXIT_INVALID;
        break;
    default:
        e->reason = HVM_EXIT_UNKNOWN;
        break;
    }
}
