/*
 * A vCPU's whole state as the ABI's struct vcpu_guest_context (xen/arch-x86/xen.h): to start a vCPU
 * (VCPUOP_initialise, domain 0), to build or restore a domain (XEN_DOMCTL_setvcpucontext) and to
 * look at one. The vCPU is quiet: off its CPU, at the guest boundary, its switch_out() done.
 *
 * Setting is all or nothing: first everything is checked, then the references that can be refused
 * are taken, and only then the old state is replaced.
 */
#include "lib/string.h"
#include "pv/internal.h"

/* What must be taken before the vCPU is touched. */
struct held {
    mfn_t l4, user_l4;
    mfn_t gdt[16];
    unsigned gdt_pages;
};

#define VGCF_KNOWN                                                                                 \
    (VGCF_i387_valid | VGCF_in_kernel | VGCF_failsafe_disables_events |                            \
     VGCF_syscall_disables_events | VGCF_online)

static bool callback_ok(uint64_t address)
{
    return !address || is_guest_addr(address);
}

static int check(const struct vcpu_guest_context *c)
{
    struct pv_trap ignored;
    if ((c->flags & ~(unsigned long)VGCF_KNOWN) || !is_guest_addr(c->user_regs.rip))
        return -XEN_EINVAL;
    if (!callback_ok(c->event_callback_eip) || !callback_ok(c->failsafe_callback_eip) ||
        !callback_ok(c->syscall_callback_eip))
        return -XEN_EINVAL;
    for (unsigned i = 0; i < 256; i++)
        if (c->trap_ctxt[i].address && pv_trap_set(&ignored, &c->trap_ctxt[i]))
            return -XEN_EINVAL;
    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY || pv_ldt_check(c->ldt_base, c->ldt_ents))
        return -XEN_EINVAL;
    if (!is_canonical(c->fs_base) || !is_canonical(c->gs_base_kernel) ||
        !is_canonical(c->gs_base_user))
        return -XEN_EINVAL;
    if (!(c->flags & VGCF_in_kernel) && !c->ctrlreg[1])
        return -XEN_EINVAL; /* user mode needs its page tables */
    return pv_debugregs_check(c->debugreg);
}

static int get_l4(struct domain *d, uint64_t cr3, mfn_t *out)
{
    mfn_t m = mfn(xen_cr3_to_pfn(cr3));
    if (cr3 % PAGE_SIZE || !mfn_is_ram(m))
        return -XEN_EINVAL;
    int rc = page_get_and_type(mfn_to_page(m), d, PAGE_L4);
    if (!rc)
        *out = m;
    return rc;
}

static void put_l4(mfn_t m)
{
    if (!mfn_equal(m, MFN_NONE))
        page_put_and_type(mfn_to_page(m));
}

static int take(struct domain *d, const struct vcpu_guest_context *c, struct held *h)
{
    h->l4 = h->user_l4 = MFN_NONE;
    h->gdt_pages = pv_descriptor_pages(c->gdt_ents);

    int rc = get_l4(d, c->ctrlreg[3], &h->l4);
    if (rc)
        return rc;
    if (c->ctrlreg[1]) {
        /* Bit 0 marks it as valid in contexts from the tools (libxc). */
        rc = get_l4(d, c->ctrlreg[1] & ~1UL, &h->user_l4);
        if (rc)
            goto put_kernel;
    }
    rc = pv_descriptor_frames_get(d, c->gdt_frames, h->gdt_pages, h->gdt);
    if (rc)
        goto put_user;
    return 0;

put_user:
    put_l4(h->user_l4);
put_kernel:
    put_l4(h->l4);
    return rc;
}

static void set_registers(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct cpu_user_regs *r = &v->stack->regs;
    struct pv_vcpu *pv = v->pv;
    *r = c->user_regs;
    r->error_code = r->entry_vector = 0; /* not VECTOR_SYSCALL: all of it is to be restored */
    r->saved_upcall_mask = 0;
    r->cs |= 3;
    r->ss |= 3;
    r->rflags = rflags_for_guest(c->user_regs.rflags);
    pv->iopl = c->user_regs.rflags >> 12 & 3;
    pv->ds = c->user_regs.ds;
    pv->es = c->user_regs.es;
    pv->fs = c->user_regs.fs;
    pv->gs = c->user_regs.gs;
    pv->fs_base = c->fs_base;
    pv->gs_base_kernel = c->gs_base_kernel;
    pv->gs_base_user = c->gs_base_user;
    pv->kernel_mode = c->flags & VGCF_in_kernel;
}

/* Without registers of its own a vCPU starts with those of FNINIT and reset. */
static void set_fpu(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct {
        uint16_t fcw;
        uint8_t between[22];
        uint32_t mxcsr;
        uint8_t rest[484];
    } initial = {.fcw = 0x37f, .mxcsr = 0x1f80}; /* FXSAVE (APM vol. 2 section 11.4.4) */
    _Static_assert(sizeof(initial) == sizeof(c->fpu_ctxt), "an FXSAVE image");
    fpu_set_legacy(v->fpu, c->flags & VGCF_i387_valid ? (const void *)&c->fpu_ctxt : &initial);
}

static void set_pv(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct pv_vcpu *pv = v->pv;
    for (unsigned i = 0; i < 256; i++) {
        pv->traps[i] = (struct pv_trap){0};
        if (c->trap_ctxt[i].address)
            (void)!pv_trap_set(&pv->traps[i], &c->trap_ctxt[i]); /* checked before */
    }
    pv->kernel_ss = c->kernel_ss | 3;
    pv->kernel_sp = c->kernel_sp;
    pv->event_callback = c->event_callback_eip;
    pv->failsafe_callback = c->failsafe_callback_eip;
    pv->syscall_callback = c->syscall_callback_eip;
    pv->failsafe_disables_events = c->flags & VGCF_failsafe_disables_events;
    pv->syscall_disables_events = c->flags & VGCF_syscall_disables_events;
    pv->ctrl_cr0_ts = c->ctrlreg[0] & CR0_TS;
    if (c->ctrlreg[4])
        pv->ctrl_cr4 = pv_cr4_for_guest(c->ctrlreg[4]);
    for (unsigned i = 0; i < 8; i++)
        if (i != 4 && i != 5)
            (void)!pv_debugreg_set(v, i, c->debugreg[i]); /* checked before */
    pv->failsafe_pending = pv->nmi_pending = pv->in_nmi = false;
}

int pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct held h;
    int rc = check(c);
    if (rc)
        return rc;
    rc = take(v->domain, c, &h);
    if (rc)
        return rc;

    set_registers(v, c);
    set_fpu(v, c);
    set_pv(v, c);
    pv_gdt_install(v, h.gdt, c->gdt_ents);
    mfn_t old = v->pv->guest_l4, old_user = v->pv->user_l4;
    v->pv->guest_l4 = h.l4;
    v->pv->user_l4 = h.user_l4;
    (void)!pv_set_ldt(v, c->ldt_base, c->ldt_ents); /* checked before; its pages as they are */
    v->domain->vm_assist |= c->vm_assist & PV_VM_ASSIST;
    put_l4(old);
    put_l4(old_user);
    return 0;
}

void pv_get_context(struct vcpu *v, struct vcpu_guest_context *c)
{
    const struct pv_vcpu *pv = v->pv;
    memset(c, 0, sizeof(*c));
    fpu_get_legacy(v->fpu, &c->fpu_ctxt);
    c->flags = VGCF_i387_valid | (pv->kernel_mode ? VGCF_in_kernel : 0) |
               (pv->failsafe_disables_events ? VGCF_failsafe_disables_events : 0) |
               (pv->syscall_disables_events ? VGCF_syscall_disables_events : 0) |
               (READ_ONCE(v->sched.blockers) & SCHED_DOWN ? 0 : VGCF_online);

    bool masked = READ_ONCE(v->info->evtchn_upcall_mask);
    c->user_regs = v->stack->regs;
    c->user_regs.error_code = c->user_regs.entry_vector = 0;
    c->user_regs.saved_upcall_mask = masked;
    c->user_regs.rflags &= ~(RFLAGS_IF | RFLAGS_IOPL);
    c->user_regs.rflags |= (masked ? 0 : RFLAGS_IF) | (uint64_t)pv->iopl << 12;
    if (pv->kernel_mode)
        c->user_regs.cs &= ~3;
    c->user_regs.ds = pv->ds;
    c->user_regs.es = pv->es;
    c->user_regs.fs = pv->fs;
    c->user_regs.gs = pv->gs;

    for (unsigned i = 0; i < 256; i++)
        c->trap_ctxt[i] =
            (struct trap_info){i, pv->traps[i].flags, pv->traps[i].cs, pv->traps[i].address};
    c->ldt_base = pv->ldt_base;
    c->ldt_ents = pv->ldt_entries;
    c->gdt_ents = pv->gdt_entries;
    for (unsigned i = 0; i < pv_descriptor_pages(pv->gdt_entries); i++)
        c->gdt_frames[i] = pv->gdt_frames[i].n;
    c->kernel_ss = pv->kernel_ss;
    c->kernel_sp = pv->kernel_sp;
    c->ctrlreg[0] = CR0_GUEST | (pv->ctrl_cr0_ts ? CR0_TS : 0);
    if (!mfn_equal(pv->user_l4, MFN_NONE))
        c->ctrlreg[1] = xen_pfn_to_cr3(pv->user_l4.n);
    if (!mfn_equal(pv->guest_l4, MFN_NONE))
        c->ctrlreg[3] = xen_pfn_to_cr3(pv->guest_l4.n);
    c->ctrlreg[4] = pv->ctrl_cr4;
    for (unsigned i = 0; i < 8; i++)
        c->debugreg[i] = pv->debugreg[i];
    c->event_callback_eip = pv->event_callback;
    c->failsafe_callback_eip = pv->failsafe_callback;
    c->syscall_callback_eip = pv->syscall_callback;
    c->vm_assist = v->domain->vm_assist;
    c->fs_base = pv->fs_base;
    c->gs_base_kernel = pv->gs_base_kernel;
    c->gs_base_user = pv->gs_base_user;
}
