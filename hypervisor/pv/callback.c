/*
 * Entering the guest's kernel at one of its handlers: the stack frame of the PV ABI is written to
 * guest memory and the registers of the vCPU are pointed at the handler.
 *
 *   from the stack pointer up: rcx, r11, [error code | ds, es, fs, gs], rip, cs, rflags, rsp, ss
 *
 * cs has RPL 0 when it was the kernel that was interrupted, and the former event mask in bits
 * 32-39; IF in rflags is the inverse of that mask. The frame goes onto the current stack, or from
 * user mode onto the one named by stack_switch after the mode has been switched. The handler undoes
 * it all by the iret hypercall (struct iret_context, xen/arch-x86/xen-x86_64.h).
 *
 * Everything here concerns the current vCPU and its own fields [P]; no locks. A guest without a
 * handler, or with a kernel stack that cannot be written, is killed.
 */
#include "event/event.h"
#include "hypercall/table.h"
#include "lib/string.h"
#include "pv/internal.h"

#include <xen/callback.h>

static void __noinline bad_kernel_stack(struct vcpu *v, uint64_t sp)
{
    domain_kill(v->domain, "vCPU %u: kernel stack at 0x%lx cannot be written (trap at 0x%lx)",
                v->id, sp, v->stack->regs.rip);
}

/* @extra: words between r11 and rip; their number is known where this is inlined. */
static __always_inline void bounce(struct vcpu *v, uint64_t handler, bool mask_events,
                                   const uint64_t *extra, unsigned extras)
{
    struct cpu_user_regs *r = &v->stack->regs;
    uint64_t frame[GUEST_WORDS_MOST] __uninitialized, sp = r->rsp, cs = r->cs & ~3u;
    unsigned n = 0;

    if (!v->pv->kernel_mode) {
        sp = v->pv->kernel_sp;
        cs = r->cs;
        pv_switch_mode(v, true);
    }
    frame[n++] = r->rcx;
    frame[n++] = r->r11;
    for (unsigned i = 0; i < extras; i++)
        frame[n++] = extra[i];
    frame[n++] = r->rip;
    frame[n++] = cs;
    frame[n++] = r->rflags | RFLAGS_IF;
    frame[n++] = r->rsp;
    frame[n++] = r->ss;
    if (READ_ONCE(v->info->evtchn_upcall_mask)) {
        frame[n - 4] |= 1UL << 32;
        frame[n - 3] &= ~RFLAGS_IF;
    }

    sp = ROUND_DOWN(sp, 16) - n * sizeof(frame[0]);
    if (unlikely(guest_store(guest_ptr(sp), frame, (7 + extras) * sizeof(frame[0])))) {
        bad_kernel_stack(v, sp);
        return;
    }
    if (mask_events)
        pv_set_event_mask(v, true);
    r->rip = handler;
    r->rsp = sp;
    r->cs = FLAT_KERNEL_CS;
    r->ss = FLAT_KERNEL_SS;
    r->rflags &= ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM | RFLAGS_AC);
}

/* Exceptions that push an error code (APM vol. 2 section 8.2). */
static bool has_error_code(unsigned vector)
{
    return vector < 32 && (1u << vector & (1u << X86_DF | 1u << X86_TS | 1u << X86_NP |
                                           1u << X86_SS | 1u << X86_GP | 1u << X86_PF |
                                           1u << X86_AC | 1u << 21 | 1u << 29 | 1u << 30));
}

void pv_inject(struct vcpu *v, unsigned vector, uint32_t error_code)
{
    const struct pv_trap *t = &v->pv->traps[vector];
    uint64_t error = error_code;
    if (unlikely(!t->address)) {
        domain_kill(v->domain, "vCPU %u: no handler for exception %u, error 0x%x, at 0x%lx", v->id,
                    vector, error_code, v->stack->regs.rip);
        return;
    }
    if (has_error_code(vector))
        bounce(v, t->address, t->flags & 4, &error, 1);
    else
        bounce(v, t->address, t->flags & 4, NULL, 0);
}

void pv_inject_interrupt(struct vcpu *v, unsigned vector)
{
    const struct pv_trap *t = &v->pv->traps[vector];
    bounce(v, t->address, t->flags & 4, NULL, 0);
}

/* The guest's kernel believes that it is not in ring 3, so its own faults are not a user's. */
void pv_inject_page_fault(struct vcpu *v, uint32_t error_code, uint64_t cr2)
{
    if (v->pv->kernel_mode)
        error_code &= ~PF_USER;
    if (likely(pv_has_info(v)))
        v->info->arch.cr2 = cr2;
    pv_inject(v, X86_PF, error_code);
}

void __noinline pv_bounce_syscall(struct vcpu *v, bool compat)
{
    struct pv_vcpu *pv = v->pv;
    uint64_t handler = compat ? pv->syscall32_callback : pv->syscall_callback;
    count(TRACE_syscalls_bounced);
    if (unlikely(!handler || pv->kernel_mode)) { /* the kernel's own SYSCALL is a hypercall */
        v->stack->regs.rip -= 2;
        pv_inject(v, X86_UD, 0);
        return;
    }
    bounce(v, handler, compat ? pv->syscall32_disables_events : pv->syscall_disables_events, NULL,
           0);
}

static void bounce_failsafe(struct vcpu *v, const uint16_t segs[4])
{
    struct pv_vcpu *pv = v->pv;
    uint64_t extra[4] = {segs[0], segs[1], segs[2], segs[3]};
    if (!pv->failsafe_callback) {
        domain_kill(v->domain,
                    "vCPU %u: cannot return to 0x%04x:0x%lx (ss 0x%04x, ds 0x%04x, es 0x%04x, "
                    "fs 0x%04x, gs 0x%04x), and no failsafe callback",
                    v->id, v->stack->regs.cs, v->stack->regs.rip, v->stack->regs.ss, segs[0],
                    segs[1], segs[2], segs[3]);
        return;
    }
    bounce(v, pv->failsafe_callback, pv->failsafe_disables_events, extra, 4);
}

/* IRETQ refused the state that the guest asked for: selectors or a non-canonical rip. */
void pv_bad_return(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code)
{
    uint16_t segs[4];
    if (pv_ldt_map_selector(current_vcpu(), error_code))
        return; /* and try again */
    pv_segregs_read(segs);
    bounce_failsafe(current_vcpu(), segs);
}

static void bounce_nmi(struct vcpu *v)
{
    struct pv_vcpu *pv = v->pv;
    uint64_t handler = pv->nmi_callback ? pv->nmi_callback : pv->traps[X86_NMI].address;
    pv->nmi_pending = false;
    if (!handler)
        return; /* as a CPU whose handler does nothing */
    pv->in_nmi = true;
    bounce(v, handler, true, NULL, 0);
}

void pv_deliver_upcall(struct vcpu *v)
{
    struct pv_vcpu *pv = v->pv;
    if (unlikely(pv->failsafe_pending)) {
        pv->failsafe_pending = false;
        bounce_failsafe(v, pv->failsafe_segs);
    }
    if (unlikely(READ_ONCE(pv->nmi_pending)) && !pv->in_nmi)
        bounce_nmi(v);
    if (event_pending(v) && pv->event_callback)
        bounce(v, pv->event_callback, true, NULL, 0);
}

static void __noinline bad_iret(struct vcpu *v, const char *why)
{
    domain_kill(v->domain, "vCPU %u: iret with stack pointer 0x%lx: %s", v->id, v->stack->regs.rsp,
                why);
}

/*
 * Back from a handler, or into user mode for the first time. A code selector with RPL 3 means user
 * mode. With VGCF_in_syscall rcx and r11 become what SYSRET leaves in them.
 */
long hc_iret(void)
{
    struct vcpu *v = current_vcpu();
    struct cpu_user_regs *r = &v->stack->regs;
    struct iret_context c __uninitialized;

    if (unlikely(guest_load(&c, guest_ptr(r->rsp), sizeof(c)))) {
        bad_iret(v, "its frame cannot be read");
        return 0;
    }
    r->rip = c.rip;
    r->rflags = rflags_for_guest(c.rflags);
    r->rsp = c.rsp;
    if (c.flags & VGCF_in_syscall) {
        r->cs = FLAT_USER_CS64;
        r->ss = FLAT_USER_SS64;
        r->rcx = r->rip;
        r->r11 = r->rflags;
    } else {
        r->cs = c.cs | 3;
        r->ss = c.ss | 3;
        r->rcx = c.rcx;
        r->r11 = c.r11;
        r->entry_vector = 0; /* not for SYSRET (cpu/entry.h) */
    }
    v->pv->in_nmi = false;
    pv_set_event_mask(v, !(c.rflags & RFLAGS_IF));
    if ((c.cs & 3) == 3) {
        if (unlikely(mfn_equal(v->pv->user_l4, MFN_NONE)))
            bad_iret(v, "to user mode without user page tables");
        else
            pv_switch_mode(v, false);
    }
    return c.rax;
}

/* --- what the guest registers --- */

int pv_trap_set(struct pv_trap *to, const struct trap_info *from)
{
    if (!is_guest_addr(from->address))
        return -XEN_EINVAL;
    *to = (struct pv_trap){from->address, from->cs | 3, from->flags & 7};
    return 0;
}

/* More rows than vectors make no sense but are harmless; endless ones are not. */
#define MAX_TRAP_ROWS 512

long hc_set_trap_table(uint64_t list)
{
    struct pv_vcpu *pv = current_vcpu()->pv;
    if (!list) {
        memset(pv->traps, 0, sizeof(pv->traps));
        return 0;
    }
    for (unsigned i = 0; i < MAX_TRAP_ROWS; i++) {
        struct trap_info t;
        int rc = copy_element_from_guest(&t, guest_ptr(list), i);
        if (rc || !t.address)
            return rc;
        rc = pv_trap_set(&pv->traps[t.vector], &t);
        if (rc)
            return rc;
    }
    return -XEN_E2BIG;
}

long hc_stack_switch(uint64_t ss, uint64_t sp)
{
    struct pv_vcpu *pv = current_vcpu()->pv;
    pv->kernel_ss = ss | 3;
    pv->kernel_sp = sp;
    return 0;
}

long hc_set_callbacks(uint64_t event, uint64_t failsafe, uint64_t syscall)
{
    struct pv_vcpu *pv = current_vcpu()->pv;
    if (!is_guest_addr(event) || !is_guest_addr(failsafe) || !is_guest_addr(syscall))
        return -XEN_EINVAL;
    pv->event_callback = event;
    pv->failsafe_callback = failsafe;
    pv->syscall_callback = syscall;
    pv->failsafe_disables_events = false;
    pv->syscall_disables_events = false;
    return 0;
}

static long callback_register(guest_ptr_t arg)
{
    struct pv_vcpu *pv = current_vcpu()->pv;
    struct callback_register c;
    int rc = copy_from_guest(&c, arg, sizeof(c));
    if (rc)
        return rc;
    bool mask = c.flags & CALLBACKF_mask_events;
    if (!is_guest_addr(c.address))
        return -XEN_EINVAL;

    switch (c.type) {
    case CALLBACKTYPE_event:
        pv->event_callback = c.address;
        return 0;
    case CALLBACKTYPE_failsafe:
        pv->failsafe_callback = c.address;
        pv->failsafe_disables_events = mask;
        return 0;
    case CALLBACKTYPE_syscall:
        pv->syscall_callback = c.address;
        pv->syscall_disables_events = mask;
        return 0;
    case CALLBACKTYPE_syscall32:
        pv->syscall32_callback = c.address;
        pv->syscall32_disables_events = mask;
        return 0;
    case CALLBACKTYPE_nmi:
        pv->nmi_callback = c.address;
        return 0;
    default: /* SYSENTER among them: see syscall_entry.c */
        return -XEN_ENOSYS;
    }
}

static long callback_unregister(guest_ptr_t arg)
{
    struct callback_unregister c;
    int rc = copy_from_guest(&c, arg, sizeof(c));
    if (rc)
        return rc;
    switch (c.type) {
    case CALLBACKTYPE_nmi:
        current_vcpu()->pv->nmi_callback = 0;
        return 0;
    case CALLBACKTYPE_event:
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_syscall32:
        return -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

long hc_callback_op(uint64_t cmd, uint64_t arg)
{
    switch (cmd) {
    case CALLBACKOP_register:
        return callback_register(guest_ptr(arg));
    case CALLBACKOP_unregister:
        return callback_unregister(guest_ptr(arg));
    default:
        return -XEN_ENOSYS;
    }
}
