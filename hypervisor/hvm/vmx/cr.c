/*
 * Writes to control registers that stop the guest, since they change a bit that is not its own:
 * done in full for it, with the checks of MOV to CR0 and CR4 (SDM vol. 2, MOV; vol. 3, "Control
 * registers").
 *
 * With PAE paging the CPU keeps the four entries of the top table itself; where we change the mode
 * or CR3, we load them.
 */
#include "emulate/emulate.h"
#include "hvm/vmx/vmcs.h"

#define CR0_DEFINED 0xe005003fUL

/* What guests may change; the rest CPUID does not offer. MCE is theirs, too, but stays set. */
#define CR4_GUEST                                                                                  \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR |   \
     CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE)

#define PDPTE_P         1UL
#define PDPTE_RESERVED  0x1e6UL
#define PAE_CR3         0xffffffe0UL
#define TYPE_TSS16_BUSY 3u

uint64_t vmx_cr4_owned(void)
{
    return ~CR4_GUEST;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* Those that the CPU would refuse are left as they are. */
static bool load_pdptes(struct vcpu *v)
{
    uint64_t e[4], high = ~((1UL << cpu_features.phys_bits) - 1);
    uint64_t at = hvm_ops->get_reg(v, HVM_CR3) & PAE_CR3;
    if (hvm_copy_from_gpa(v->domain, e, at, sizeof(e)))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if ((e[i] & PDPTE_P) && (e[i] & (PDPTE_RESERVED | high)))
            return false;
    for (unsigned i = 0; i < 4; i++)
        vmwrite(VMCS_GUEST_PDPTE + 2 * i, e[i]);
    vmx_of(v)->pdptes_stale = false;
    return true;
}

/* What stands in no memory or is not valid maps nothing. */
void vmx_load_pdptes(struct vcpu *v)
{
    vmx_of(v)->pdptes_stale = false;
    if (!pae_paging(hvm_ops->get_reg(v, HVM_CR0), hvm_ops->get_reg(v, HVM_CR4),
                    hvm_ops->get_reg(v, HVM_EFER)) ||
        load_pdptes(v))
        return;
    for (unsigned i = 0; i < 4; i++)
        vmwrite(VMCS_GUEST_PDPTE + 2 * i, 0);
}

/* A new VPID: what the guest's TLB knew is gone. */
void vmx_forget_tlb(struct vcpu *v)
{
    vmx_of(v)->vpid = (struct hvm_tag){};
}

/* Into long mode: not from 64-bit code segments, without PAE, or with a TSS of 16 bits. */
static bool may_enter_long_mode(const struct vcpu *v, uint64_t cr4)
{
    struct hvm_segment cs, tr;
    hvm_ops->get_segment(v, HVM_CS, &cs);
    hvm_ops->get_segment(v, HVM_TR, &tr);
    return !(cs.attributes & HVM_ATTR_L) && (cr4 & CR4_PAE) &&
           (tr.attributes & 15) != TYPE_TSS16_BUSY;
}

static bool set_cr0(struct vcpu *v, uint64_t value)
{
    uint64_t old = hvm_ops->get_reg(v, HVM_CR0), cr4 = hvm_ops->get_reg(v, HVM_CR4);
    uint64_t efer = hvm_ops->get_reg(v, HVM_EFER), new_efer = efer & ~EFER_LMA;
    bool paging = value & CR0_PG, was_paging = old & CR0_PG;
    if (value >> 32 || (paging && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        return false;
    if (!paging && was_paging && hvm_long_mode(v))
        return false;
    if (paging && (efer & EFER_LME))
        new_efer |= EFER_LMA;
    if (paging && !was_paging && (new_efer & EFER_LMA) && !may_enter_long_mode(v, cr4))
        return false;
    bool reload = (old ^ value) & (CR0_PG | CR0_CD | CR0_NW);
    if (reload && pae_paging(value, cr4, new_efer) && !load_pdptes(v))
        return false;
    hvm_ops->set_reg(v, HVM_CR0, (value & CR0_DEFINED) | CR0_ET);
    if (new_efer != efer)
        hvm_ops->set_reg(v, HVM_EFER, new_efer);
    if (paging != was_paging)
        vmx_forget_tlb(v);
    return true;
}

static bool set_cr4(struct vcpu *v, uint64_t value)
{
    const uint64_t translation = CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP;
    uint64_t old = hvm_ops->get_reg(v, HVM_CR4), efer = hvm_ops->get_reg(v, HVM_EFER);
    if (value & ~((CR4_GUEST | CR4_MCE) & vmx_controls.cr4_possible))
        return false;
    if ((efer & EFER_LMA) && !(value & CR4_PAE))
        return false;
    bool changed = (old ^ value) & translation;
    if (changed && pae_paging(hvm_ops->get_reg(v, HVM_CR0), value, efer) && !load_pdptes(v))
        return false;
    hvm_ops->set_reg(v, HVM_CR4, value);
    if (changed)
        vmx_forget_tlb(v);
    return true;
}

/* Qualification: SDM vol. 3, "Exit qualification for control-register accesses". */
void vmx_cr_access(struct vcpu *v, uint64_t qualification)
{
    unsigned cr = qualification & 15, kind = qualification >> 4 & 3;
    unsigned length = vmread(VMCS_INSTRUCTION_LENGTH);
    uint64_t value = *reg_slot(&v->stack->regs, qualification >> 8 & 15);
    struct hvm_exit *e = &v->hvm->exit;
    if (kind != 0 || (cr != 0 && cr != 4 && cr != 8)) {
        e->reason = HVM_EXIT_UNKNOWN;
        return;
    }
    if (cr == 8) {
        e->reason = HVM_EXIT_TPR;
        return;
    }
    e->reason = HVM_EXIT_NOTHING;
    if (!hvm_long_mode(v))
        value = (uint32_t)value;
    if (cr == 0 ? set_cr0(v, value) : set_cr4(v, value))
        hvm_skip(v, length);
    else
        hvm_inject_gp(v);
}
