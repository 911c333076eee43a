/*
 * A vCPU's control block: what stops the guest, and its registers by name.
 *
 * Little stops it, as each exit is dear: privileged instructions that have to do with the machine
 * (I/O, most MSRs, CPUID, HLT), the SVM instructions, real interrupts. Control registers, page
 * faults, RDTSC, INVLPG and the rest are the guest's own, on nested tables.
 */
#include "hvm/svm/vmcb.h"

#define EFER_SVME (1UL << 12)

int svm_vmcb_init(struct vcpu *v, struct vmcb *vmcb)
{
    vmcb->intercept1 = I1_INTR | I1_NMI | I1_SMI | I1_INIT | I1_RDPMC | I1_CPUID | I1_RSM |
                       I1_INVD | I1_HLT | I1_INVLPGA | I1_IO | I1_MSR | I1_FERR | I1_SHUTDOWN;
    vmcb->intercept2 = I2_VMRUN | I2_VMMCALL | I2_VMLOAD | I2_VMSAVE | I2_STGI | I2_CLGI |
                       I2_SKINIT | I2_WBINVD | I2_MONITOR | I2_MWAIT | I2_MWAIT_ARMED | I2_XSETBV;
    /* #DB and #AC can be made to follow themselves without end: each must let us look around. */
    vmcb->exceptions = 1u << X86_MC | 1u << X86_DB | 1u << X86_AC;
    vmcb->dr_read = vmcb->dr_write = 0xffff;
    vmcb->iopm = virt_to_maddr(svm_iopm).a;
    vmcb->msrpm = virt_to_maddr(svm_msrpm).a;
    vmcb->int_ctl = INT_MASKING;
    vmcb->np_enable = 1;
    vmcb->nested_cr3 = mfn_to_maddr(v->domain->hvm->p2m.root).a;
    vmcb->efer = EFER_SVME;
    return 0;
}

/* They are there in this order. */
static struct hvm_segment *segment(const struct vcpu *v, enum hvm_seg s)
{
    return &svm_of(v)->vmcb->segment[s];
}

void svm_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    *out = *segment(v, s);
}

void svm_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
    *segment(v, s) = *in;
    if (s == HVM_SS) /* VMRUN takes the privilege level from here */
        svm_of(v)->vmcb->cpl = HVM_ATTR_DPL(in->attributes);
}

static uint64_t *reg(const struct vcpu *v, enum hvm_reg r)
{
    static const uint16_t at[HVM_REGS] = {
        [HVM_CR0] = offsetof(struct vmcb, cr0),
        [HVM_CR2] = offsetof(struct vmcb, cr2),
        [HVM_CR3] = offsetof(struct vmcb, cr3),
        [HVM_CR4] = offsetof(struct vmcb, cr4),
        [HVM_EFER] = offsetof(struct vmcb, efer),
        [HVM_DR6] = offsetof(struct vmcb, dr6),
        [HVM_DR7] = offsetof(struct vmcb, dr7),
        [HVM_PAT] = offsetof(struct vmcb, pat),
        [HVM_STAR] = offsetof(struct vmcb, star),
        [HVM_LSTAR] = offsetof(struct vmcb, lstar),
        [HVM_CSTAR] = offsetof(struct vmcb, cstar),
        [HVM_SFMASK] = offsetof(struct vmcb, sfmask),
        [HVM_KERNEL_GS_BASE] = offsetof(struct vmcb, kernel_gs_base),
        [HVM_SYSENTER_CS] = offsetof(struct vmcb, sysenter_cs),
        [HVM_SYSENTER_ESP] = offsetof(struct vmcb, sysenter_esp),
        [HVM_SYSENTER_EIP] = offsetof(struct vmcb, sysenter_eip),
    };
    return (uint64_t *)((uint8_t *)svm_of(v)->vmcb + at[r]);
}

uint64_t svm_get_reg(const struct vcpu *v, enum hvm_reg r)
{
    uint64_t value = *reg(v, r);
    return r == HVM_EFER ? value & ~EFER_SVME : value;
}

void svm_set_reg(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    *reg(v, r) = r == HVM_EFER ? value | EFER_SVME : value;
}
