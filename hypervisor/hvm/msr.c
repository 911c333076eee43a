/*
 * MSRs of hardware-virtualized guests (APM vol. 2 appendix A). Those that the CPU keeps for the
 * guest never come here. What is not in this list does not exist: #GP.
 */
#include "hvm/hvm.h"

#define MSR_TSC            0x10
#define MSR_MICROCODE      0x8b
#define MSR_MCG_CAP        0x179
#define MSR_MCG_STATUS     0x17a
#define MSR_MISC_ENABLE    0x1a0 /* Intel's */
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_X2APIC_FIRST   0x800
#define MSR_X2APIC_LAST    0x8ff
#define MSR_HYPERCALL_PAGE 0x40000000
#define MSR_SYSCFG         0xc0010010
#define MSR_HWCR           0xc0010015
#define MSR_PATCH_LOADER   0xc0010020
#define MSR_INT_PENDING    0xc0010055 /* no C1E */

/* No performance counters, nor BTS, nor PEBS (SDM vol. 4, table 2-2). */
#define MISC_PERF        (1UL << 7)
#define MISC_NO_BTS_PEBS (3UL << 11)

#define EFER_GUEST       (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

const uint32_t hvm_own_msrs[HVM_OWN_MSRS] = {
    MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR,    MSR_LSTAR,
    MSR_CSTAR,       MSR_SFMASK,       MSR_FS_BASE,      MSR_GS_BASE, MSR_KERNEL_GS_BASE};

static int read_misc_enable(uint64_t *value)
{
    int rc = rdmsr_safe(MSR_MISC_ENABLE, value);
    *value = (*value & ~MISC_PERF) | MISC_NO_BTS_PEBS;
    return rc;
}

int hvm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    *value = 0;
    switch (msr) {
    case MSR_EFER:
        *value = hvm_ops->get_reg(v, HVM_EFER);
        return 0;
    case MSR_PAT:
        *value = hvm_ops->get_reg(v, HVM_PAT);
        return 0;
    case MSR_TSC:
        *value = rdtsc();
        return 0;
    case MSR_TSC_AUX:
        *value = v->hvm->tsc_aux;
        return cpu_features.rdtscp ? 0 : -XEN_EPERM;
    case MSR_APIC_BASE:
    case MSR_TSC_DEADLINE:
    case MSR_X2APIC_FIRST ... MSR_X2APIC_LAST:
        return lapic_msr_read(&v->hvm->lapic, msr, value);
    case MSR_MICROCODE:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_SYSCFG:
    case MSR_HWCR:
    case MSR_INT_PENDING:
        return 0;
    case MSR_MISC_ENABLE:
        return read_misc_enable(value);
    default: /* #GP unless it is one of these */
        return mtrr_read(&v->hvm->mtrr, msr, value);
    }
}

/* LMA is the CPU's; LME does not change under paging (APM vol. 2 section 3.1.7). */
static int write_efer(struct vcpu *v, uint64_t value)
{
    uint64_t now = hvm_ops->get_reg(v, HVM_EFER);
    if (value & ~EFER_GUEST)
        return -XEN_EPERM;
    if (((value ^ now) & EFER_LME) && (hvm_ops->get_reg(v, HVM_CR0) & CR0_PG))
        return -XEN_EPERM;
    if ((value & EFER_NXE) && !cpu_features.nx)
        return -XEN_EPERM;
    hvm_ops->set_reg(v, HVM_EFER, (value & ~EFER_LMA) | (now & EFER_LMA));
    return 0;
}

unsigned hvm_phys_bits(const struct domain *d)
{
    uint32_t out[4];
    cpuid_guest(d, 0x80000008, 0, out);
    unsigned bits = out[0] & 0xff;
    return bits >= 32 && bits <= 52 ? bits : 36; /* what CPUs have that do not say */
}

static int write_hypercall_page(struct vcpu *v, uint64_t value)
{
    bool writable;
    if (value % PAGE_SIZE) /* there is one such page, number 0 */
        return -XEN_EPERM;
    struct page *page = p2m_get_page(v->domain, gfn(value >> PAGE_SHIFT), &writable);
    if (!page)
        return -XEN_EPERM;
    if (writable) {
        hvm_write_hypercall_page(page_to_virt(page));
        hvm_latch_width(v);
    }
    page_put(page);
    return writable ? 0 : -XEN_EPERM;
}

int hvm_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t now;
    switch (msr) {
    case MSR_EFER:
        return write_efer(v, value);
    case MSR_PAT:
        if (!pat_ok(value))
            return -XEN_EPERM;
        hvm_ops->set_reg(v, HVM_PAT, value);
        return 0;
    case MSR_TSC_AUX:
        if (!cpu_features.rdtscp || value >> 32)
            return -XEN_EPERM;
        v->hvm->tsc_aux = value;
        cpu_set_tsc_aux(value);
        return 0;
    case MSR_APIC_BASE:
    case MSR_TSC_DEADLINE:
    case MSR_X2APIC_FIRST ... MSR_X2APIC_LAST:
        return lapic_msr_write(&v->hvm->lapic, msr, value);
    case MSR_HYPERCALL_PAGE:
        return write_hypercall_page(v, value);
    case MSR_MISC_ENABLE:
        return read_misc_enable(&now) || now != value ? -XEN_EPERM : 0;
    case MSR_MICROCODE: /* cleared before it is read */
    case MSR_MCG_STATUS:
        return value ? -XEN_EPERM : 0;
    default: /* #GP unless it is one of these */
        return mtrr_is(msr) ? mtrr_write(&v->hvm->mtrr, msr, value, hvm_phys_bits(v->domain))
                            : -XEN_EPERM;
    }
}
