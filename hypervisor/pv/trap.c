/*
 * What comes out of a PV guest: exceptions of ring 3 (cpu/ calls pv_guest_exception() with the
 * guest's registers saved) and SYSCALL. Most exceptions are the guest's own business and are
 * bounced to its trap table; a few are about what ring 3 could not do by itself:
 *
 *   #PF  a write to a page-table page mapped read-only (pv/readonly_fault.c)
 *   #GP  a privileged instruction of the kernel (pv/privileged.c), a software interrupt, whose
 * gates in our IDT ring 3 may not use, or a selector into an LDT page not taken yet #UD  the forced
 * emulation prefix in front of CPUID (XEN_EMULATE_PREFIX, xen/arch-x86/xen.h) #NM  CR0.TS as the
 * guest set it by fpu_taskswitch #DB  DR6 has to be the vCPU's
 */
#include "hypercall/table.h"
#include "lib/string.h"
#include "pv/internal.h"

uint64_t pv_walk(mfn_t l4, uint64_t va, uint64_t *access)
{
    mfn_t table = l4;
    uint64_t entry = 0, all = PTE_RW | PTE_U, any = 0;
    if (mfn_equal(l4, MFN_NONE))
        return 0;
    for (unsigned level = 4; level > 0; level--) {
        if (!mfn_is_ram(table))
            return 0;
        const uint64_t *t = mfn_to_virt(table);
        entry = READ_ONCE(t[va >> (PAGE_SHIFT + 9 * (level - 1)) & 511]);
        if (!(entry & PTE_P) || (level > 1 && (entry & PTE_PS)))
            return 0;
        all &= entry;
        any |= entry & PTE_NX;
        table = pte_mfn(entry);
    }
    if (access)
        *access = all | any;
    return entry;
}

/*
 * The kernel faulted on a page that is there: do its tables by now allow what it did? Another vCPU
 * may have granted the right without a flush, which a CPU would never have made a fault of.
 */
static bool is_spurious(const struct vcpu *v, uint64_t va, uint32_t error)
{
    uint64_t access;
    if (is_hypervisor_addr(va) || !pv_walk(v->pv->guest_l4, va, &access) || !(access & PTE_U))
        return false;
    if ((error & PF_WRITE) && !(access & PTE_RW))
        return false;
    return !((error & PF_FETCH) && (access & PTE_NX));
}

/*
 * Ring 3 reaches memory with the supervisor's rights only for descriptors, which are ours. QEMU's
 * TCG (7.2) also does so for the stack of its IRET and far RET, where SMAP then forbids the guest's
 * own pages. SMAP is lifted on this CPU until another vCPU comes (pv_cr_load()), and the
 * instruction runs again.
 */
static bool is_emulator_smap_fault(uint64_t va, uint32_t error)
{
    uint64_t cr4 = read_cr4();
    if (!(error & PF_PRESENT) || !(cr4 & CR4_SMAP) || is_hypervisor_addr(va))
        return false;
    write_cr4(cr4 & ~CR4_SMAP);
    return true;
}

static void page_fault(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t va = read_cr2();
    uint32_t error = regs->error_code;

    count(TRACE_page_faults);
    if (unlikely(!(error & PF_USER))) {
        if (is_emulator_smap_fault(va, error))
            return;
        error |= PF_USER;
    }
    if (v->pv->kernel_mode && (error & (PF_PRESENT | PF_RSVD)) == PF_PRESENT) {
        if ((error & PF_WRITE) && !is_hypervisor_addr(va) && pv_emulate_pt_write(regs, va)) {
            count(TRACE_pt_write_emulated);
            return;
        }
        if (is_spurious(v, va, error))
            return;
    }
    pv_inject_page_fault(v, error, va);
}

/*
 * The length of the `int n` at @rip and its vector; 0 when there is none. The vector in the error
 * code is not relied on: QEMU 7.2 gives n * 16 + 2 where the CPU gives n * 8 + 2.
 */
static unsigned decode_int(uint64_t rip, uint8_t *vector)
{
    for (unsigned i = 0; i < 14; i++) {
        uint8_t op;
        if (copy_from_guest(&op, guest_ptr(rip + i), 1))
            return 0;
        switch (op) {
        case 0xcd:
            return copy_from_guest(vector, guest_ptr(rip + i + 1), 1) ? 0 : i + 2;
        case 0x26: /* prefixes, which mean nothing here */
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x40 ... 0x4f:
        case 0x64:
        case 0x65:
        case 0x66:
        case 0x67:
        case 0xf2:
        case 0xf3:
            break;
        default:
            return 0;
        }
    }
    return 0;
}

/* Software interrupts: whose trap table row allows it (TI_GET_DPL) is entered behind the int. */
static void software_interrupt(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint8_t n = regs->error_code >> 3;
    unsigned length = decode_int(regs->rip, &n);
    const struct pv_trap *t = &v->pv->traps[n];
    unsigned dpl = t->flags & 3;

    if (length && t->address && dpl >= (v->pv->kernel_mode ? 1 : 3)) {
        regs->rip += length;
        pv_inject_interrupt(v, n);
    } else {
        pv_inject(v, X86_GP, n * 8 + 2);
    }
}

#define ERROR_TABLE 6u /* bits of a selector error code that name the table; 2: the IDT */

static void general_protection(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint32_t error = regs->error_code;
    if (error == 0) {
        if (!pv_emulate_privileged(regs))
            pv_inject(v, X86_GP, 0);
    } else if ((error & ERROR_TABLE) == 2) {
        software_interrupt(v, regs);
    } else if (!pv_ldt_map_selector(v, error)) {
        pv_inject(v, X86_GP, error);
    }
}

static const uint8_t forced_cpuid[] = {0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2};

static void invalid_opcode(struct vcpu *v, struct cpu_user_regs *regs)
{
    /* Seven bytes as two words that overlap. */
    const unsigned last = sizeof(forced_cpuid) - sizeof(uint32_t);
    uint32_t head, tail;
    if (guest_load(&head, guest_ptr(regs->rip), sizeof(head)) ||
        guest_load(&tail, guest_ptr(regs->rip + last), sizeof(tail)) ||
        memcmp(&head, forced_cpuid, sizeof(head)) ||
        memcmp(&tail, forced_cpuid + last, sizeof(tail))) {
        pv_inject(v, X86_UD, 0);
        return;
    }
    uint32_t out[4];
    cpuid_guest(v->domain, regs->eax, regs->ecx, out);
    regs->rax = out[0];
    regs->rbx = out[1];
    regs->rcx = out[2];
    regs->rdx = out[3];
    regs->rip += sizeof(forced_cpuid);
}

static void no_device(struct vcpu *v)
{
    pv_inject(v, X86_NM, 0);
    if (v->pv->ctrl_cr0_ts) { /* cleared with the trap, as fpu_taskswitch(0) would */
        v->pv->ctrl_cr0_ts = 0;
        pv_cr_load(v);
    }
}

static void debug(struct vcpu *v)
{
    uint64_t dr6;
    __asm__ volatile("mov %%db6, %0" : "=r"(dr6));
    __asm__ volatile("mov %0, %%db6" ::"r"(DR6_DEFAULT));
    v->pv->debugreg[6] |= dr6 & 0xe00f; /* what happened; the rest is fixed */
    pv_inject(v, X86_DB, 0);
}

void pv_guest_exception(struct cpu_user_regs *regs)
{
    struct vcpu *v = current_vcpu();
    switch (regs->entry_vector) {
    case X86_PF:
        page_fault(v, regs);
        break;
    case X86_GP:
        general_protection(v, regs);
        break;
    case X86_UD:
        invalid_opcode(v, regs);
        break;
    case X86_NM:
        no_device(v);
        break;
    case X86_DB:
        debug(v);
        break;
    default:
        pv_inject(v, regs->entry_vector, regs->error_code);
        break;
    }
}

/* SYSCALL: the kernel's is a hypercall, user mode's goes to the kernel. */
void pv_syscall(struct stack_top *top)
{
    bool compat = top->regs.cs != SEL_USER_CS64;
    if (likely(top->vcpu->pv->kernel_mode && !compat))
        hypercall_pv_regs(&top->regs);
    else
        pv_bounce_syscall(top->vcpu, compat);
    vcpu_leave_now(top);
}
