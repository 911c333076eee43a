/*
 * What a PV domain and its vCPUs have beside what all guests have: creation, giving back, and the
 * switch of the CPU's guest state from one vCPU to another (struct guest_ops, domain/domain.h).
 *
 * While a vCPU's state is on a CPU, the CPU has its descriptor tables, CR3, segment registers,
 * debug registers, CR0.TS, CR4.TSD and FPU; struct pv_vcpu then holds stale copies of the segment
 * registers, and v->fpu a stale FPU. switch_out() brings all of it up to date.
 */
#include "console/console.h"
#include "lib/string.h"
#include "pv/internal.h"

static int pv_domain_init(struct domain *d)
{
    d->pv = zalloc(sizeof(*d->pv));
    if (!d->pv)
        return -XEN_ENOMEM;
    int rc = pv_perdomain_init(d);
    if (rc) {
        zfree(d->pv);
        d->pv = NULL;
    }
    return rc;
}

static void pv_domain_fini(struct domain *d)
{
    if (!d->pv)
        return;
    pv_perdomain_fini(d);
    zfree(d->pv);
    d->pv = NULL;
}

static int pv_domain_relinquish(struct domain *d)
{
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct vcpu *v = d->vcpu[i];
        if (!v || !v->pv)
            continue;
        pv_destroy_gdt(v);
        (void)!pv_set_ldt(v, 0, 0); /* none: nothing to refuse */
        pv_drop_l4(v);
    }
    return pv_relinquish_memory(d);
}

static int pv_vcpu_init(struct vcpu *v)
{
    struct pv_vcpu *pv = zalloc(sizeof(*pv));
    if (!pv)
        return -XEN_ENOMEM;
    v->pv = pv;
    int rc = pv_perdomain_vcpu(v);
    if (rc)
        goto undo;
    if (!v->fpu) {
        v->fpu = fpu_alloc();
        rc = -XEN_ENOMEM;
        if (!v->fpu)
            goto undo;
    }
    v->xcr0 = cpu_features.xsave ? 1 : 0; /* x87, as after reset */
    pv->kernel_mode = true;
    pv->guest_l4 = pv->user_l4 = MFN_NONE;
    pv->ctrl_cr4 = pv_cr4_for_guest(~0UL) & ~(CR4_TSD | CR4_DE | CR4_VME);
    pv->debugreg[6] = DR6_DEFAULT;
    pv->debugreg[7] = DR7_DEFAULT;
    pv->iopl = v->domain->pv->iopl_default;
    return 0;

undo:
    zfree(pv);
    v->pv = NULL;
    return rc;
}

static void pv_vcpu_fini(struct vcpu *v)
{
    if (v->fpu)
        fpu_free(v->fpu);
    v->fpu = NULL;
    zfree(v->pv);
    v->pv = NULL;
}

/* The bits of @wanted that a guest of this machine may believe to be set. */
uint64_t pv_cr4_for_guest(uint64_t wanted)
{
    uint64_t mask = CR4_GUEST_MASK;
    if (!cpu_features.fsgsbase)
        mask &= ~CR4_FSGSBASE;
    if (!cpu_features.xsave)
        mask &= ~CR4_OSXSAVE;
    if (!cpu_features.pge)
        mask &= ~CR4_PGE;
    return (wanted & mask) | CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
}

void pv_cr_load(struct vcpu *v)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    uint64_t ts = v->pv->ctrl_cr0_ts ? CR0_TS : 0;
    uint64_t wanted = (cr4 & ~CR4_TSD) | (v->pv->ctrl_cr4 & CR4_TSD);
    if (cpu_features.smap)
        wanted |= CR4_SMAP; /* see is_emulator_smap_fault() */
    if ((cr0 & CR0_TS) != ts)
        write_cr0(cr0 ^ CR0_TS);
    if (cr4 != wanted)
        write_cr4(wanted);
}

static void pv_switch_out(struct vcpu *v)
{
    pv_segregs_save(v);
    pv_debugregs_unload(v);
    fpu_save(v->fpu);
    /* The window that GDTR points into goes away with CR3, and an NMI may come in between. */
    cpu_load_own_gdt();
}

static void pv_switch_in(struct vcpu *v)
{
    pv_segments_window(v);
    pv_load_cr3(v);
    pv_segments_load(v);
    pv_segregs_load(v);
    fpu_restore(v->fpu, v->xcr0);
    pv_cr_load(v);
    cpu_set_tsc_aux(v->pv->tsc_aux);
    pv_debugregs_load(v);
    cpu_set_entry_stack(v->stack);
}

static bool pv_upcall_enabled(const struct vcpu *v)
{
    return !READ_ONCE(v->info->evtchn_upcall_mask);
}

static void pv_send_nmi(struct vcpu *v)
{
    WRITE_ONCE(v->pv->nmi_pending, true);
    vcpu_add_work(v, VCPU_WORK_DELIVER);
    sched_unblock(&v->sched, SCHED_BLOCKED | SCHED_POLLING);
    if (v != current_vcpu())
        sched_poke(&v->sched);
}

static const struct guest_ops pv_guest_ops = {
    .domain_init = pv_domain_init,
    .domain_fini = pv_domain_fini,
    .domain_relinquish = pv_domain_relinquish,
    .vcpu_init = pv_vcpu_init,
    .vcpu_fini = pv_vcpu_fini,
    .run = vcpu_leave,
    .switch_out = pv_switch_out,
    .switch_in = pv_switch_in,
    .deliver = pv_deliver_upcall,
    .upcall_enabled = pv_upcall_enabled,
    .send_nmi = pv_send_nmi,
};

void pv_init(void)
{
    pv_ops_table = &pv_guest_ops;
    cpu_guest_exception = pv_guest_exception;
    cpu_bad_return = pv_bad_return;
    pv_segment_init();
    pv_syscall_entry_init();
    pv_pagetable_init();
    pv_audit_init();
}
