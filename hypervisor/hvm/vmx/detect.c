/*
 * What this CPU's VMX can do (SDM vol. 3 appendix A), and whether that is enough: EPT with the
 * usual page sizes, unrestricted guests (real mode runs like any other), virtual NMIs, a task
 * priority of the guest's own. Every CPU with unrestricted guests has the rest. What is missing is
 * named in the log.
 */
#include "console/console.h"
#include "hvm/npt.h"
#include "hvm/vmx/vmcs.h"

#define MSR_VMX_BASIC      0x480
#define MSR_VMX_CR4_FIXED0 0x488
#define MSR_VMX_CR4_FIXED1 0x489
#define MSR_VMX_CPU2       0x48b
#define MSR_VMX_EPT_VPID   0x48c
#define MSR_VMX_TRUE_PIN   0x48d
#define MSR_VMX_TRUE_CPU   0x48e
#define MSR_VMX_TRUE_EXIT  0x48f
#define MSR_VMX_TRUE_ENTRY 0x490

#define BASIC_REVISION     0x7fffffffUL
#define BASIC_TRUE         (1UL << 55) /* the TRUE MSRs exist */
#define BASIC_TYPE(b)      ((b) >> 50 & 15)
#define TYPE_WRITE_BACK    6UL

#define EPT_WALK_4         (1UL << 6)
#define EPT_WRITE_BACK     (1UL << 14)
#define EPT_2M             (1UL << 16)
#define EPT_1G             (1UL << 17)
#define EPT_AD             (1UL << 21)
#define EPT_INVEPT         (1UL << 20)
#define EPT_INVEPT_ALL     (1UL << 26)

/* Entries of EPT (SDM vol. 3, "EPT translation mechanism"). */
#define EPT_RWX     7UL
#define EPT_A       (1UL << 8) /* where the CPU has EPT_AD, as is EPT_D */
#define EPT_D       (1UL << 9)
#define EPT_TYPE(t) ((t) << 3)

struct vmx_controls vmx_controls __ro_after_init;

/*
 * A word of controls: @need must be there, @wish is used where it is, @never must not be forced on
 * us. The MSR's low half has the bits that are always one, its high half those that may be.
 */
static __init bool choose(const char *name, uint32_t msr, uint32_t need, uint32_t wish,
                          uint32_t never, uint32_t *out)
{
    uint64_t allowed = rdmsr(msr);
    uint32_t ones = (uint32_t)allowed, may = allowed >> 32;
    *out = ones | need | (wish & may);
    if ((need & ~may) || (never & ones)) {
        log_warn("VMX: not used, as %s controls lack 0x%x and force 0x%x", name, need & ~may,
                 never & ones);
        return false;
    }
    return true;
}

static __init bool choose_all(struct vmx_controls *c)
{
    return choose("pin-based", MSR_VMX_TRUE_PIN,
                  PIN_INTERRUPT_EXIT | PIN_NMI_EXIT | PIN_VIRTUAL_NMI, 0, 0, &c->pin) &&
           choose("processor-based", MSR_VMX_TRUE_CPU,
                  CPU_HLT_EXIT | CPU_MWAIT_EXIT | CPU_RDPMC_EXIT | CPU_TPR_SHADOW | CPU_DR_EXIT |
                      CPU_IO_EXIT | CPU_MSR_BITMAP | CPU_MONITOR_EXIT | CPU_CONTROLS2,
                  0, CPU_CR3_LOAD_EXIT | CPU_CR3_STORE_EXIT | CPU_CR8_LOAD_EXIT, &c->cpu) &&
           choose("secondary", MSR_VMX_CPU2,
                  CPU2_EPT | CPU2_UNRESTRICTED | (cpu_features.rdtscp ? CPU2_RDTSCP : 0),
                  CPU2_VPID | CPU2_WBINVD_EXIT, 0, &c->cpu2) &&
           choose("exit", MSR_VMX_TRUE_EXIT,
                  EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER,
                  0, EXIT_ACK, &c->exit) &&
           choose("entry", MSR_VMX_TRUE_ENTRY, ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
                  0, ENTRY_LONG_MODE, &c->entry);
}

bool __init vmx_detect(struct npt_format *npt)
{
    const uint64_t need_ept = EPT_WALK_4 | EPT_WRITE_BACK | EPT_2M | EPT_INVEPT | EPT_INVEPT_ALL;
    struct vmx_controls *c = &vmx_controls;
    uint64_t basic = rdmsr(MSR_VMX_BASIC);
    c->revision = basic & BASIC_REVISION;
    c->cr4_fixed = rdmsr(MSR_VMX_CR4_FIXED0);
    c->cr4_possible = rdmsr(MSR_VMX_CR4_FIXED1);
    if (!(basic & BASIC_TRUE) || BASIC_TYPE(basic) != TYPE_WRITE_BACK) {
        log_warn("VMX: not used, as this CPU's is too old (basic 0x%lx)", basic);
        return false;
    }
    if (!choose_all(c))
        return false;
    uint64_t ept = rdmsr(MSR_VMX_EPT_VPID);
    if (need_ept & ~ept) {
        log_warn("VMX: not used, as EPT lacks 0x%lx", need_ept & ~ept);
        return false;
    }
    uint64_t marks = ept & EPT_AD ? EPT_A | EPT_D : 0;
    *npt = (struct npt_format){.table = EPT_RWX | (marks & EPT_A),
                               .leaf = EPT_RWX | EPT_TYPE(TYPE_WRITE_BACK) | marks,
                               .device = EPT_RWX | marks,
                               .dirty = marks & EPT_D,
                               .gib = ept & EPT_1G};
    log_info("VMX: EPT%s%s, unrestricted guests", npt->gib ? " with 1 GiB pages" : "",
             vmx_has_vpid() ? ", VPID" : "");
    return true;
}

bool vmx_has_vpid(void)
{
    return vmx_controls.cpu2 & CPU2_VPID;
}
