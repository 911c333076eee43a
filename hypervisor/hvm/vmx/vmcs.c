/*
 * A vCPU's VMCS: what stops the guest, the hypervisor's state to come back to, and the guest's
 * registers by name.
 *
 * Little stops the guest: I/O, most MSRs, CPUID, HLT, real interrupts. CR0 and CR4 are its own but
 * for a few bits (cr.c), page faults and CR3 wholly. What the VMCS does not switch is in struct
 * vmx_vcpu: CR2, DR6, the MSRs of SYSCALL and SWAPGS.
 */
#include "hvm/npt.h"
#include "hvm/vmx/vmcs.h"

/*
 * NE must be set as long as VMX is on. NW and CD would reach the caches, and neither entry nor exit
 * switches them (SDM vol. 3, "Loading guest control registers"): the guest's are a word in memory.
 */
#define CR0_OWNED      (CR0_NE | CR0_NW | CR0_CD)

#define EPT_POINTER    0x1eUL /* write-back, four levels */
#define EPT_POINTER_AD 0x40UL /* the CPU keeps A and D */

void vmx_vmcs_init(const struct vcpu *v)
{
    const struct vmx_controls *c = &vmx_controls;
    struct vmx_vcpu *s = vmx_of(v);
    s->cpu_controls = c->cpu;
    s->entry_controls = c->entry;
    vmwrite(VMCS_PIN_CONTROLS, c->pin);
    vmwrite(VMCS_CPU_CONTROLS, c->cpu);
    vmwrite(VMCS_CPU_CONTROLS2, c->cpu2);
    vmwrite(VMCS_EXIT_CONTROLS, c->exit);
    vmwrite(VMCS_ENTRY_CONTROLS, c->entry);
    /* #DB and #AC can be made to follow themselves without end: each must let us look around. */
    vmwrite(VMCS_EXCEPTIONS, 1u << X86_MC | 1u << X86_DB | 1u << X86_AC);
    vmwrite(VMCS_PF_ERROR_MASK, 0);
    vmwrite(VMCS_PF_ERROR_MATCH, 0);
    vmwrite(VMCS_CR3_TARGETS, 0);
    vmwrite(VMCS_EXIT_MSR_STORES, 0);
    vmwrite(VMCS_EXIT_MSR_LOADS, 0);
    vmwrite(VMCS_ENTRY_MSR_LOADS, 0);
    vmwrite(VMCS_ENTRY_EVENT, 0);
    vmwrite(VMCS_TPR_THRESHOLD, 0);
    vmwrite(VMCS_TSC_OFFSET, 0);
    vmwrite(VMCS_MSR_BITMAP, virt_to_maddr(vmx_msr_bitmap).a);
    vmwrite(VMCS_VIRTUAL_APIC, virt_to_maddr(s->virtual_apic).a);
    vmwrite(VMCS_EPT_POINTER, mfn_to_maddr(v->domain->hvm->p2m.root).a | EPT_POINTER |
                                  (npt_format.dirty ? EPT_POINTER_AD : 0));
    if (vmx_has_vpid())
        vmwrite(VMCS_VPID, 1);
    vmwrite(VMCS_CR0_MASK, CR0_OWNED);
    vmwrite(VMCS_CR4_MASK, vmx_cr4_owned());
    vmwrite(VMCS_LINK_POINTER, ~0UL);
    vmwrite(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite(VMCS_GUEST_SHADOW, 0);
    vmwrite(VMCS_GUEST_ACTIVITY, 0);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
}

void vmx_vmcs_host(void)
{
    const struct cpu *c = this_cpu();
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed gdtr, idtr;
    cpu_load_own_gdt();
    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    __asm__ volatile("sidt %0" : "=m"(idtr));
    vmwrite(VMCS_HOST_CR0, read_cr0());
    vmwrite(VMCS_HOST_CR3, read_cr3());
    vmwrite(VMCS_HOST_CR4, read_cr4());
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_HOST_PAT, rdmsr(MSR_PAT));
    vmwrite(VMCS_HOST_CS, HV_CS);
    vmwrite(VMCS_HOST_SS, HV_DS);
    vmwrite(VMCS_HOST_DS, 0);
    vmwrite(VMCS_HOST_ES, 0);
    vmwrite(VMCS_HOST_FS, 0);
    vmwrite(VMCS_HOST_GS, 0);
    vmwrite(VMCS_HOST_TR, SEL_TSS);
    vmwrite(VMCS_HOST_FS_BASE, 0);
    vmwrite(VMCS_HOST_GS_BASE, 0);
    vmwrite(VMCS_HOST_TR_BASE, (uint64_t)c->tss);
    vmwrite(VMCS_HOST_GDTR_BASE, gdtr.base);
    vmwrite(VMCS_HOST_IDTR_BASE, idtr.base);
    vmwrite(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
    vmwrite(VMCS_HOST_RIP, (uint64_t)vmx_landing);
}

/* --- MSRs --- */

void vmx_msrs_read(struct vmx_msrs *m)
{
    m->star = rdmsr(MSR_STAR);
    m->lstar = rdmsr(MSR_LSTAR);
    m->cstar = rdmsr(MSR_CSTAR);
    m->sfmask = rdmsr(MSR_SFMASK);
    m->kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
}

void vmx_msrs_write(const struct vmx_msrs *m)
{
    wrmsr(MSR_STAR, m->star);
    wrmsr(MSR_LSTAR, m->lstar);
    wrmsr(MSR_CSTAR, m->cstar);
    wrmsr(MSR_SFMASK, m->sfmask);
    wrmsr(MSR_KERNEL_GS_BASE, m->kernel_gs_base);
}

/* Where it is kept, which MSR it is, and the part of a value that the CPU takes. */
static uint64_t *msr_of(const struct vcpu *v, enum hvm_reg r, uint32_t *msr)
{
    struct vmx_msrs *m = &vmx_of(v)->msrs;
    switch (r) {
    case HVM_STAR:
        *msr = MSR_STAR;
        return &m->star;
    case HVM_LSTAR:
        *msr = MSR_LSTAR;
        return &m->lstar;
    case HVM_CSTAR:
        *msr = MSR_CSTAR;
        return &m->cstar;
    case HVM_SFMASK:
        *msr = MSR_SFMASK;
        return &m->sfmask;
    case HVM_KERNEL_GS_BASE:
        *msr = MSR_KERNEL_GS_BASE;
        return &m->kernel_gs_base;
    default:
        return NULL;
    }
}

static uint64_t acceptable(enum hvm_reg r, uint64_t value)
{
    if (r == HVM_STAR)
        return value;
    return r == HVM_SFMASK ? (uint32_t)value : (uint64_t)((int64_t)(value << 16) >> 16);
}

/* --- registers by name --- */

static uint64_t masked(enum vmcs_field field, enum vmcs_field shadow, uint64_t owned)
{
    return (vmread(field) & ~owned) | (vmread(shadow) & owned);
}

static const uint16_t plain_fields[HVM_REGS] = {
    [HVM_CR3] = VMCS_GUEST_CR3,
    [HVM_EFER] = VMCS_GUEST_EFER,
    [HVM_DR7] = VMCS_GUEST_DR7,
    [HVM_PAT] = VMCS_GUEST_PAT,
    [HVM_SYSENTER_CS] = VMCS_GUEST_SYSENTER_CS,
    [HVM_SYSENTER_ESP] = VMCS_GUEST_SYSENTER_ESP,
    [HVM_SYSENTER_EIP] = VMCS_GUEST_SYSENTER_EIP,
};

uint64_t vmx_get_reg(const struct vcpu *v, enum hvm_reg r)
{
    struct vmx_vcpu *s = vmx_of(v);
    uint64_t value;
    uint32_t msr;
    if (r == HVM_CR2)
        return s->cr2;
    if (r == HVM_DR6) {
        if (s->dr_loaded)
            s->dr6 = read_dr6();
        return s->dr6;
    }
    const uint64_t *kept = msr_of(v, r, &msr);
    if (kept)
        return s->loaded ? rdmsr(msr) : *kept;
    bool opened = vmx_open(v);
    if (r == HVM_CR0)
        value = masked(VMCS_GUEST_CR0, VMCS_CR0_SHADOW, CR0_OWNED);
    else if (r == HVM_CR4)
        value = masked(VMCS_GUEST_CR4, VMCS_CR4_SHADOW, vmx_cr4_owned());
    else
        value = vmread(plain_fields[r]);
    vmx_close(v, opened);
    return value;
}

/* EFER.LMA is said twice (SDM vol. 3, "Checks on guest control registers"). */
static void set_long_mode(struct vmx_vcpu *s, bool on)
{
    s->entry_controls =
        on ? s->entry_controls | ENTRY_LONG_MODE : s->entry_controls & ~ENTRY_LONG_MODE;
    vmwrite(VMCS_ENTRY_CONTROLS, s->entry_controls);
}

static void set_field(struct vmx_vcpu *s, enum hvm_reg r, uint64_t value)
{
    switch (r) {
    case HVM_CR0:
        vmwrite(VMCS_GUEST_CR0, (value & ~CR0_OWNED) | CR0_NE);
        vmwrite(VMCS_CR0_SHADOW, value);
        break;
    case HVM_CR4:
        vmwrite(VMCS_GUEST_CR4, value | vmx_controls.cr4_fixed | (read_cr4() & CR4_MCE));
        vmwrite(VMCS_CR4_SHADOW, value);
        break;
    case HVM_EFER:
        set_long_mode(s, value & EFER_LMA);
        /* fall through */
    default:
        vmwrite(plain_fields[r], value);
    }
    if (!s->loaded) /* by others; what the vCPU does itself sees to that */
        s->pdptes_stale = true;
}

void vmx_set_reg(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    struct vmx_vcpu *s = vmx_of(v);
    uint32_t msr;
    uint64_t *kept = msr_of(v, r, &msr);
    if (r == HVM_CR2) {
        s->cr2 = value;
    } else if (r == HVM_DR6) {
        s->dr6 = value;
        if (s->dr_loaded)
            write_dr6(value);
    } else if (kept) {
        *kept = acceptable(r, value);
        if (s->loaded)
            wrmsr(msr, *kept);
    } else {
        bool opened = vmx_open(v);
        set_field(s, r, value);
        vmx_close(v, opened);
    }
}

/* --- segments --- */

/* Their order in the VMCS: fields of one kind are 2 apart. */
static const uint8_t place[HVM_SEGS] = {
    [HVM_ES] = 0,  [HVM_CS] = 2,    [HVM_SS] = 4,  [HVM_DS] = 6,    [HVM_FS] = 8,
    [HVM_GS] = 10, [HVM_LDTR] = 12, [HVM_TR] = 14, [HVM_GDTR] = 16, [HVM_IDTR] = 18,
};

static bool is_table(enum hvm_seg s)
{
    return s == HVM_GDTR || s == HVM_IDTR;
}

/* The VMCS has bits 8 to 11 of an attribute word where bits 12 to 15 are in it, and a bit more. */
void vmx_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    bool opened = vmx_open(v);
    unsigned at = place[s];
    *out = (struct hvm_segment){.base = vmread(VMCS_GUEST_BASE + at),
                                .limit = vmread(VMCS_GUEST_LIMIT + at)};
    if (!is_table(s)) {
        uint32_t a = vmread(VMCS_GUEST_ATTRIBUTES + at);
        out->selector = vmread(VMCS_GUEST_SELECTOR + at);
        out->attributes = (a & 0xff) | (a >> 4 & 0xf00);
        if (a & ATTRIBUTES_UNUSABLE)
            out->attributes &= ~HVM_ATTR_P;
    }
    vmx_close(v, opened);
}

void vmx_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
    bool opened = vmx_open(v);
    unsigned at = place[s];
    vmwrite(VMCS_GUEST_BASE + at, in->base);
    vmwrite(VMCS_GUEST_LIMIT + at, in->limit);
    if (!is_table(s)) {
        uint32_t a = (in->attributes & 0xff) | (in->attributes & 0xf00u) << 4;
        vmwrite(VMCS_GUEST_SELECTOR + at, in->selector);
        vmwrite(VMCS_GUEST_ATTRIBUTES + at,
                in->attributes & HVM_ATTR_P ? a : a | ATTRIBUTES_UNUSABLE);
    }
    vmx_close(v, opened);
}
