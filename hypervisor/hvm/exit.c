/*
 * Why a guest stopped, and what is done about it: one handler for each reason.
 *
 * An instruction that we execute for the guest is skipped: by what the CPU says its end is, or by
 * reading it (insn.c).
 */
#include "console/console.h"
#include "event/event.h"
#include "hvm/hvm.h"
#include "hvm/hwdom.h"
#include "lib/string.h"

static void set_rip(struct vcpu *v, uint64_t rip)
{
    v->stack->regs.rip = hvm_long_mode(v) ? rip : (uint32_t)rip;
    v->stack->regs.rflags &= ~RFLAGS_RF;
    hvm_ops->clear_shadow(v);
    if (unlikely(v->stack->regs.rflags & RFLAGS_TF)) { /* single step, as the CPU reports it */
        hvm_ops->set_reg(v, HVM_DR6, hvm_ops->get_reg(v, HVM_DR6) | DR6_BS);
        hvm_inject(v, X86_DB, false, 0);
    }
}

void hvm_skip(struct vcpu *v, unsigned length)
{
    set_rip(v, v->stack->regs.rip + length);
}

/* The length of what stopped the guest; 0: it is not there any more, and nothing is to be done. */
static unsigned length(struct vcpu *v, bool two_byte, uint8_t opcode)
{
    uint64_t next = v->hvm->exit.next_rip;
    return next ? (uint32_t)(next - v->stack->regs.rip) : hvm_insn_length(v, two_byte, opcode);
}

static void nothing(struct vcpu *v)
{
}

/* The CPU has it pending; nobody of us holds anything here. */
static void interrupt(struct vcpu *v)
{
    __asm__ volatile("sti; nop; cli" ::: "memory");
}

static void do_cpuid(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    unsigned n = length(v, true, 0xa2);
    uint32_t out[4];
    if (!n)
        return;
    cpuid_guest(v->domain, r->eax, r->ecx, out);
    r->rax = out[0];
    r->rbx = out[1];
    r->rcx = out[2];
    r->rdx = out[3];
    hvm_skip(v, n);
}

static void hlt(struct vcpu *v)
{
    unsigned n = length(v, false, 0xf4);
    if (!n)
        return;
    hvm_skip(v, n);
    hvm_halt(v);
}

static void msr(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    bool write = v->hvm->exit.write;
    unsigned n = length(v, true, write ? 0x30 : 0x32);
    uint64_t value = (uint64_t)r->edx << 32 | r->eax;
    if (!n)
        return;
    int rc = write ? hvm_msr_write(v, r->ecx, value) : hvm_msr_read(v, r->ecx, &value);
    if (rc) {
        log_guest(v->domain->id, LOG_DEBUG, "v%u: no MSR 0x%x to %s at 0x%lx", v->id, r->ecx,
                  write ? "write" : "read", r->rip);
        hvm_inject_gp(v);
        return;
    }
    if (!write) {
        r->rax = (uint32_t)value;
        r->rdx = value >> 32;
    }
    hvm_skip(v, n);
}

static void xsetbv(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    uint64_t value = (uint64_t)r->edx << 32 | r->eax;
    unsigned n = length(v, true, 0x01);
    if (!n)
        return;
    if (hvm_ops->cpl(v) || r->ecx || !fpu_xcr0_is_valid(value)) {
        hvm_inject_gp(v);
        return;
    }
    v->xcr0 = value;
    fpu_set_xcr0(value);
    hvm_skip(v, n + (v->hvm->exit.next_rip ? 0 : 1));
}

/* Caches are coherent and the guest drives no device: nothing to write back. */
static void invd(struct vcpu *v)
{
    unsigned n = length(v, true, 0x08);
    if (!n)
        n = length(v, true, 0x09);
    if (n)
        hvm_skip(v, n);
}

static void io(struct vcpu *v)
{
    const struct hvm_exit *e = &v->hvm->exit;
    struct cpu_user_regs *r = &v->stack->regs;
    uint64_t next = e->next_rip, mask = e->size == 4 ? 0xffffffff : (1UL << 8 * e->size) - 1;
    uint32_t value = (uint32_t)(r->rax & mask);
    if (e->string) {
        hvm_string_io(v);
        return;
    }
    if (hvm_io_port(v, e->port, e->size, !e->in, &value))
        return;
    if (e->in && e->size == 4)
        r->rax = value;
    else if (e->in)
        r->rax = (r->rax & ~mask) | (value & mask);
    set_rip(v, next);
}

static void exception(struct vcpu *v)
{
    const struct hvm_exit *e = &v->hvm->exit;
    hvm_inject(v, e->vector, e->has_error, e->error);
}

static void rdpmc(struct vcpu *v)
{
    hvm_inject_gp(v);
}

/*
 * What is mapped by now, or no more in the guest's way, the guest just tries again. A write to ROM
 * is executed, and lost.
 */
static void nested_fault(struct vcpu *v)
{
    struct hvm_exit *e = &v->hvm->exit;
    gfn_t g = gfn(e->gpa >> PAGE_SHIFT);
    bool write = e->access & HVM_WRITE;
    switch (p2m_kind(v->domain, g)) {
    case P2M_NONE:
        break;
    case P2M_POD:
        pod_fault(v, g);
        return;
    case P2M_ROM:
        if (!write)
            return;
        break;
    case P2M_LENT_READ:
        if (write)
            hvm_inject_gp(v);
        return;
    default:
        return;
    }
    if (v->domain->hvm->hw && hwdom_map(v->domain, g))
        return;
    if (e->access == HVM_FETCH) {
        domain_kill(v->domain, "v%u: runs code at 0x%lx, where no memory is (rip 0x%lx)", v->id,
                    e->gpa, v->stack->regs.rip);
        return;
    }
    hvm_mmio(v);
}

static void triple_fault(struct vcpu *v)
{
    uint64_t code = v->domain->hvm->params[HVM_PARAM_TRIPLE_FAULT_REASON];
    log_guest(v->domain->id, LOG_ERROR,
              "v%u: triple fault, rip 0x%lx rsp 0x%lx cr2 0x%lx cr3 0x%lx", v->id,
              v->stack->regs.rip, v->stack->regs.rsp, hvm_ops->get_reg(v, HVM_CR2),
              hvm_ops->get_reg(v, HVM_CR3));
    domain_shutdown(v->domain, code);
}

static void invalid(struct vcpu *v)
{
    domain_kill(
        v->domain,
        "v%u: the CPU refuses its state (0x%lx): rip 0x%lx rflags 0x%lx cr0 0x%lx cr4 0x%lx efer "
        "0x%lx",
        v->id, v->hvm->exit.code, v->stack->regs.rip, v->stack->regs.rflags,
        hvm_ops->get_reg(v, HVM_CR0), hvm_ops->get_reg(v, HVM_CR4), hvm_ops->get_reg(v, HVM_EFER));
}

static void unknown(struct vcpu *v)
{
    domain_kill(v->domain, "v%u: stopped for an unknown reason 0x%lx", v->id, v->hvm->exit.code);
}

static void (*const handlers[HVM_EXITS])(struct vcpu *v) = {
    [HVM_EXIT_NOTHING] = nothing,
    [HVM_EXIT_INTERRUPT] = interrupt,
    [HVM_EXIT_CPUID] = do_cpuid,
    [HVM_EXIT_HLT] = hlt,
    [HVM_EXIT_HYPERCALL] = hvm_hypercall,
    [HVM_EXIT_MSR] = msr,
    [HVM_EXIT_IO] = io,
    [HVM_EXIT_XSETBV] = xsetbv,
    [HVM_EXIT_INVD] = invd,
    [HVM_EXIT_UNDEFINED] = hvm_inject_ud,
    [HVM_EXIT_EXCEPTION] = exception,
    [HVM_EXIT_RDPMC] = rdpmc,
    [HVM_EXIT_TPR] = hvm_write_tpr,
    [HVM_EXIT_NESTED_FAULT] = nested_fault,
    [HVM_EXIT_TRIPLE_FAULT] = triple_fault,
    [HVM_EXIT_INVALID] = invalid,
    [HVM_EXIT_UNKNOWN] = unknown,
};

void hvm_exit(struct vcpu *v)
{
    count(TRACE_hvm_exits);
    handlers[v->hvm->exit.reason](v);
}
