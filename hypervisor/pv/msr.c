/*
 * MSRs as PV guests find them (numbers: APM vol. 2 appendix A, SDM vol. 4). Segment bases and
 * TSC_AUX are the guest's own; a few others can be read, and written only with what they hold
 * already or without effect, because kernels do so while starting. Everything else does not exist:
 * #GP. Domain 0 also reads what describes the machine's memory types.
 */
#include "lib/string.h"
#include "pv/internal.h"

#define MSR_TSC            0x10
#define MSR_MICROCODE_REV  0x8b
#define MSR_PLATFORM_INFO  0xce
#define MSR_MTRR_CAP       0xfe
#define MSR_MCG_CAP        0x179
#define MSR_MCG_STATUS     0x17a
#define MSR_MISC_ENABLE    0x1a0
#define MSR_MTRR_FIRST     0x200 /* variable ranges and, up to 0x26f, fixed ones */
#define MSR_MTRR_LAST      0x26f
#define MSR_MTRR_DEFAULT   0x2ff
#define MSR_HYPERCALL_PAGE 0x40000000 /* CPUID leaf 0x40000002 */
#define MSR_K8_SYSCFG      0xc0010010
#define MSR_K8_HWCR        0xc0010015
#define MSR_K8_TOP_MEM1    0xc001001a
#define MSR_K8_TOP_MEM2    0xc001001d

#define APIC_BASE_X2APIC   (1UL << 10)
/* MISC_ENABLE: no performance counters, nor BTS, nor PEBS. */
#define MISC_PERF        (1UL << 7)
#define MISC_NO_BTS_PEBS (3UL << 11)

#define EFER_GUEST       (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

static int read_machine(const struct vcpu *v, uint32_t msr, uint64_t *value)
{
    if (!v->domain->privileged)
        return -XEN_EPERM;
    switch (msr) {
    case MSR_MTRR_CAP:
    case MSR_MTRR_FIRST ... MSR_MTRR_LAST:
    case MSR_MTRR_DEFAULT:
    case MSR_K8_SYSCFG:
    case MSR_K8_HWCR:
    case MSR_K8_TOP_MEM1:
    case MSR_K8_TOP_MEM2:
        return rdmsr_safe(msr, value);
    default:
        return -XEN_EPERM;
    }
}

int pv_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    int rc = 0;
    switch (msr) {
    case MSR_FS_BASE:
        *value = pv_read_fs_base();
        return 0;
    case MSR_GS_BASE:
        *value = pv_read_gs_base();
        return 0;
    case MSR_KERNEL_GS_BASE:
        *value = pv_read_gs_shadow();
        return 0;
    case MSR_TSC_AUX:
        *value = v->pv->tsc_aux;
        return cpu_features.rdtscp ? 0 : -XEN_EPERM;
    case MSR_TSC:
        *value = rdtsc();
        return 0;
    case MSR_EFER:
        *value = rdmsr(MSR_EFER) & EFER_GUEST;
        return 0;
    case MSR_APIC_BASE:
        *value = rdmsr(MSR_APIC_BASE) & ~APIC_BASE_X2APIC;
        return 0;
    case MSR_PAT:
        *value = rdmsr(MSR_PAT);
        return 0;
    case MSR_MICROCODE_REV:
        return rdmsr_safe(msr, value);
    case MSR_MISC_ENABLE:
        rc = rdmsr_safe(msr, value);
        *value = (*value & ~MISC_PERF) | MISC_NO_BTS_PEBS;
        return rc;
    case MSR_PLATFORM_INFO:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_SYSENTER_CS:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
    case MSR_STAR:
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_SFMASK:
        *value = 0;
        return 0;
    default:
        return read_machine(v, msr, value);
    }
}

static int write_base(uint32_t msr, uint64_t value)
{
    if (!is_canonical(value))
        return -XEN_EINVAL;
    if (msr == MSR_FS_BASE)
        pv_write_fs_base(value);
    else if (msr == MSR_GS_BASE)
        pv_write_gs_base(value);
    else
        pv_write_gs_shadow(value);
    return 0;
}

/* Bits 12 and up name a frame of the domain; it becomes a hypercall page. */
static int write_hypercall_page(struct vcpu *v, uint64_t value)
{
    mfn_t m = maddr_to_mfn(maddr(value));
    if (value % PAGE_SIZE || !mfn_is_ram(m))
        return -XEN_EINVAL;
    struct page *page = mfn_to_page(m);
    int rc = page_get_and_type(page, v->domain, PAGE_WRITABLE);
    if (rc)
        return rc;
    pv_write_hypercall_page(page_to_virt(page));
    page_put_and_type(page);
    return 0;
}

int pv_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t now;
    switch (msr) {
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
        return write_base(msr, value);
    case MSR_TSC_AUX:
        if (!cpu_features.rdtscp || value >> 32)
            return -XEN_EPERM;
        v->pv->tsc_aux = value;
        cpu_set_tsc_aux(value);
        return 0;
    case MSR_HYPERCALL_PAGE:
        return write_hypercall_page(v, value);
    case MSR_MICROCODE_REV: /* cleared before it is read */
    case MSR_SYSENTER_CS:   /* system calls are set up by hypercalls */
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
    case MSR_STAR:
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_SFMASK:
        return 0;
    case MSR_EFER:
    case MSR_APIC_BASE:
    case MSR_PAT:
    case MSR_MISC_ENABLE:
        return pv_msr_read(v, msr, &now) || now != value ? -XEN_EPERM : 0;
    default:
        return -XEN_EPERM;
    }
}
