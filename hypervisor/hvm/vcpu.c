/*
 * vCPUs of hardware-virtualized guests: creation, the loop that each runs on its own stack, the
 * switch of a CPU from one to another, and how they start.
 *
 * What others do to a vCPU (INIT, SIPI, NMI) they leave in hvm->signals and kick it; it is done by
 * the vCPU itself before it next enters, so nobody waits for anybody. After INIT it is down
 * (SCHED_DOWN) until a SIPI.
 */
#include "console/console.h"
#include "event/event.h"
#include "hvm/hvm.h"
#include "lib/string.h"
#include "pv/pv.h"

/* --- start values --- */

static void set_segment(struct vcpu *v, enum hvm_seg s, uint16_t selector, uint64_t base,
                        uint32_t limit, uint16_t attributes)
{
    const struct hvm_segment seg = {selector, attributes, limit, base};
    hvm_ops->set_segment(v, s, &seg);
}

#define ATTR_DATA16 0x093 /* present, writable, accessed */
#define ATTR_CODE16 0x09b
#define ATTR_FLAT32 0xc93 /* and 32 bits, 4 KiB units */
#define ATTR_CODE32 0xc9b
#define ATTR_TSS    0x08b /* busy, 32 bits */
#define ATTR_LDT    0x082

static void reset_common(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    memset(r, 0, sizeof(*r));
    r->rflags = 2;
    for (enum hvm_reg i = 0; i < HVM_REGS; i++)
        if (i != HVM_PAT) /* it and the MTRRs outlive INIT (APM vol. 2 section 14.1.3) */
            hvm_ops->set_reg(v, i, 0);
    hvm_ops->set_reg(v, HVM_DR6, DR6_DEFAULT);
    hvm_ops->set_reg(v, HVM_DR7, DR7_DEFAULT);
    memset(v->hvm->dr, 0, sizeof(v->hvm->dr));
    v->hvm->event.valid = false;
    v->hvm->nmi_masked = false;
    v->hvm->unhandled_rip = ~0UL;
    hvm_ops->clear_shadow(v);
    hvm_ops->set_tpr(v, 0);
    set_segment(v, HVM_GDTR, 0, 0, 0xffff, 0);
    set_segment(v, HVM_IDTR, 0, 0, 0xffff, 0);
    set_segment(v, HVM_LDTR, 0, 0, 0xffff, ATTR_LDT);
    set_segment(v, HVM_TR, 0, 0, 0xffff, ATTR_TSS);
}

/* APM vol. 2 section 14.1.3. */
void hvm_vcpu_reset(struct vcpu *v)
{
    reset_common(v);
    v->stack->regs.rip = 0xfff0;
    for (enum hvm_seg s = HVM_ES; s <= HVM_GS; s++)
        set_segment(v, s, 0, 0, 0xffff, ATTR_DATA16);
    set_segment(v, HVM_CS, 0xf000, 0xffff0000, 0xffff, ATTR_CODE16);
    hvm_ops->set_reg(v, HVM_CR0, CR0_ET | 1UL << 29 | 1UL << 30); /* NW, CD */
}

/* xen/arch-x86/hvm/start_info.h, and docs/misc/pvh of the ABI as kernels rely on it. */
void hvm_vcpu_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info)
{
    reset_common(v);
    v->stack->regs.rip = entry;
    v->stack->regs.rbx = start_info;
    for (enum hvm_seg s = HVM_ES; s <= HVM_GS; s++)
        set_segment(v, s, 0, 0, 0xffffffff, ATTR_FLAT32);
    set_segment(v, HVM_CS, 0, 0, 0xffffffff, ATTR_CODE32);
    set_segment(v, HVM_TR, 0, 0, 0x67, ATTR_TSS);
    hvm_ops->set_reg(v, HVM_CR0, CR0_PE | CR0_ET);
    v->hvm->mtrr.def = MTRR_E | MTRR_TYPE_BACK; /* as the tools give it to PVH guests */
    v->hvm->wait_sipi = false;
    v->initialised = true;
}

/* --- creation --- */

int hvm_vcpu_init(struct vcpu *v)
{
    struct hvm_vcpu *h = zalloc(sizeof(*h));
    int rc = -XEN_ENOMEM;
    if (!h)
        return rc;
    v->hvm = h;
    h->vcpu = v;
    v->stack->access = &hvm_guest_access;
    h->wait_sipi = true;
    v->fpu = fpu_alloc();
    if (!v->fpu)
        goto undo;
    v->xcr0 = cpu_features.xsave ? 1 : 0;
    rc = hvm_ops->vcpu_init(v);
    if (rc)
        goto undo;
    hvm_apic_init(v);
    hvm_vcpu_reset(v);
    hvm_ops->set_reg(v, HVM_PAT, PAT_RESET);
    return 0;

undo:
    fpu_free(v->fpu);
    v->fpu = NULL;
    zfree(h);
    v->hvm = NULL;
    return rc;
}

void hvm_vcpu_fini(struct vcpu *v)
{
    if (!v->hvm)
        return;
    timer_stop(&v->hvm->lapic_timer);
    hvm_ops->vcpu_fini(v);
    fpu_free(v->fpu);
    v->fpu = NULL;
    zfree(v->hvm);
    v->hvm = NULL;
}

/* --- on and off a CPU --- */

/*
 * The rights of protection keys. CPUID does not offer them, but a guest's CR4 is its own, so each
 * has its PKRU. We have no use for the keys: they are on only while the register is reached.
 */
static uint32_t exchange_pkru(uint32_t value)
{
    uint32_t old = 0, zero;
    uint64_t cr4 = read_cr4();
    if (!cpu_features.pku)
        return 0;
    write_cr4(cr4 | CR4_PKE);
    __asm__ volatile("rdpkru" : "=a"(old), "=d"(zero) : "c"(0));
    if (old != value)
        __asm__ volatile("wrpkru" ::"a"(value), "c"(0), "d"(0));
    write_cr4(cr4);
    return old;
}

void hvm_switch_out(struct vcpu *v)
{
    hvm_ops->save(v);
    v->hvm->pkru = exchange_pkru(0);
    if (cpu_features.xsave) /* QEMU 7.2 does not stop the guest at XSETBV */
        v->xcr0 = (fpu_get_xcr0() & cpu_features.xcr0_mask) | 1;
    fpu_save(v->fpu);
}

void hvm_switch_in(struct vcpu *v)
{
    unsigned cpu = this_cpu()->id;
    pv_unload_cr3();
    if (read_cr0() & CR0_TS) /* a PV guest's choice; we reach this one's registers */
        __asm__ volatile("clts" ::: "memory");
    if (!bit_test(v->domain->dirty_cpus.bits, cpu))
        atomic_bit_set(v->domain->dirty_cpus.bits, cpu);
    fpu_restore(v->fpu, v->xcr0);
    cpu_set_tsc_aux(v->hvm->tsc_aux);
    if (v->hvm->pkru) /* it is 0 otherwise */
        (void)exchange_pkru(v->hvm->pkru);
    hvm_ops->load(v);
}

/* --- waking and halting --- */

void hvm_kick(struct vcpu *v)
{
    const uint32_t asleep = SCHED_BLOCKED | SCHED_POLLING;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as vcpu_kick() */
    if (READ_ONCE(v->sched.blockers) & asleep)
        sched_unblock(&v->sched, asleep);
    else if (v != current_vcpu())
        sched_poke(&v->sched);
}

void hvm_signal(struct vcpu *v, uint32_t signal)
{
    __atomic_fetch_or(&v->hvm->signals, signal, __ATOMIC_SEQ_CST);
    if (signal & HVM_SIGNAL_SIPI)
        sched_unblock(&v->sched, SCHED_DOWN);
    hvm_kick(v);
}

/* With interrupts off nothing but an NMI, an INIT or its own kernel's other vCPUs end it. */
void hvm_halt(struct vcpu *v)
{
    if (v->hvm->event.valid) /* single-stepped */
        return;
    if (!(v->stack->regs.rflags & RFLAGS_IF) && !(READ_ONCE(v->hvm->signals) & HVM_SIGNAL_NMI)) {
        vcpu_down(v);
        return;
    }
    sched_block(&v->sched, SCHED_BLOCKED);
    if (hvm_wakes(v))
        sched_unblock(&v->sched, SCHED_BLOCKED);
}

/* --- INIT and SIPI --- */

static void take_init(struct vcpu *v)
{
    lapic_init_signal(&v->hvm->lapic);
    hvm_vcpu_reset(v);
    v->hvm->wait_sipi = true;
}

static void take_sipi(struct vcpu *v)
{
    uint8_t page = READ_ONCE(v->hvm->sipi_vector);
    struct hvm_segment cs;
    hvm_ops->get_segment(v, HVM_CS, &cs);
    cs.selector = page << 8;
    cs.base = (uint64_t)page << PAGE_SHIFT;
    hvm_ops->set_segment(v, HVM_CS, &cs);
    v->stack->regs.rip = 0;
    v->hvm->wait_sipi = false;
    v->initialised = true;
}

/* True when the vCPU is to go on. */
static bool take_signals(struct vcpu *v)
{
    const uint32_t mine = HVM_SIGNAL_INIT | HVM_SIGNAL_SIPI;
    uint32_t s = __atomic_fetch_and(&v->hvm->signals, ~mine, __ATOMIC_SEQ_CST);
    if (s & HVM_SIGNAL_INIT)
        take_init(v);
    if ((s & HVM_SIGNAL_SIPI) && v->hvm->wait_sipi)
        take_sipi(v);
    if (!v->hvm->wait_sipi)
        return true;
    sched_block(&v->sched, SCHED_DOWN);
    if (READ_ONCE(v->hvm->signals) & HVM_SIGNAL_SIPI)
        sched_unblock(&v->sched, SCHED_DOWN);
    return false;
}

/*
 * A vCPU's whole life. What the guest may have pending is looked at with interrupts off after
 * vcpu_leave(): whatever comes later makes the CPU stop the guest at once.
 */
void hvm_run(void)
{
    struct vcpu *v = current_vcpu();
    for (;;) {
        vcpu_leave();
        if (unlikely(v->hvm->wait_sipi || (READ_ONCE(v->hvm->signals) & HVM_SIGNAL_INIT)) &&
            !take_signals(v))
            continue;
        hvm_enter(v);
        hvm_exit(v);
    }
}
