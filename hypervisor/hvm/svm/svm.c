/*
 * AMD's virtualization extension (APM vol. 2 chapter 15): found, switched on per CPU, entered.
 */
#include "console/console.h"
#include "hvm/npt.h"
#include "hvm/svm/vmcb.h"
#include "lib/string.h"

#define MSR_VM_CR      0xc0010114
#define MSR_HSAVE      0xc0010117
#define VM_CR_DISABLED (1UL << 4)
#define EFER_SVME      (1UL << 12)

/* Entries of nested tables: P RW U A D, and PCD. */
#define PTE_ALL      0x67UL
#define PTE_DIRTY    0x40UL
#define PTE_UNCACHED 0x10UL

#define IOPM_ORDER   2 /* 12 KiB */
#define MSRPM_ORDER  1 /* 8 KiB */

uint64_t *svm_iopm __ro_after_init, *svm_msrpm __ro_after_init;
static uint32_t asids __ro_after_init;

static struct {
    void *host; /* for VMLOAD behind an exit */
    void *save; /* VM_HSAVE_PA */
} cpu_state[MAX_CPUS];

bool svm_available(struct npt_format *npt)
{
    uint32_t r[4];
    uint64_t vm_cr;
    cpuid(0x80000000, 0, r);
    if (r[0] < 0x8000000a)
        return false;
    cpuid(0x80000001, 0, r);
    if (!(r[2] & (1u << 2)))
        return false;
    if (rdmsr_safe(MSR_VM_CR, &vm_cr) || (vm_cr & VM_CR_DISABLED)) {
        log_warn("SVM: switched off by the firmware");
        return false;
    }
    cpuid(0x8000000a, 0, r);
    if (!(r[3] & 1)) {
        log_warn("SVM: no nested paging, not used");
        return false;
    }
    asids = r[1];
    *npt = (struct npt_format){.table = PTE_ALL,
                               .leaf = PTE_ALL,
                               .device = PTE_ALL | PTE_UNCACHED,
                               .dirty = PTE_DIRTY,
                               .gib = cpu_features.page1gb};
    log_info("SVM: %u address space numbers%s", asids, r[3] & 8 ? ", next rip saved" : "");
    return asids >= 2;
}

/* Both bits of an MSR: reads and writes go to the CPU (APM vol. 2 section 15.11). */
static void pass_msr(uint32_t msr)
{
    uint64_t bit = msr >= 0xc0000000 ? 0x800 * 8 + (uint64_t)(msr - 0xc0000000) * 2 : msr * 2;
    bit_clear(svm_msrpm, bit);
    bit_clear(svm_msrpm, bit + 1);
}

static bool make_maps(void)
{
    struct page *io = page_alloc(IOPM_ORDER, 0), *msr = page_alloc(MSRPM_ORDER, 0);
    if (!io || !msr)
        return false;
    svm_iopm = page_to_virt(io);
    svm_msrpm = page_to_virt(msr);
    memset(svm_iopm, 0xff, PAGE_SIZE << IOPM_ORDER);
    memset(svm_msrpm, 0xff, PAGE_SIZE << MSRPM_ORDER);
    for (unsigned i = 0; i < HVM_OWN_MSRS; i++)
        pass_msr(hvm_own_msrs[i]);
    return true;
}

static int svm_init_cpu(void)
{
    unsigned cpu = this_cpu()->id;
    if (!svm_iopm && !make_maps())
        return -XEN_ENOMEM;
    void *host = xpage_alloc(), *save = xpage_alloc();
    if (!host || !save)
        return -XEN_ENOMEM;
    cpu_state[cpu].host = host;
    cpu_state[cpu].save = save;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_HSAVE, virt_to_maddr(save).a);
    /* Our task register and SYSCALL MSRs, the same ever after. */
    __asm__ volatile("vmsave %0" ::"a"(virt_to_maddr(host).a) : "memory");
    return 0;
}

/* --- entering --- */

static void choose_asid(struct svm_vcpu *s)
{
    uint32_t asid = hvm_tag_choose(&s->asid, asids);
    if (asid)
        s->vmcb->asid = asid;
    s->vmcb->tlb_control = asid == HVM_TAG_FIRST ? TLB_FLUSH_ALL : 0;
}

static void svm_watch_tpr(struct vcpu *v, bool on)
{
    svm_of(v)->vmcb->cr_write = on ? 1u << 8 : 0;
}

static void svm_enter(struct vcpu *v, const struct hvm_event *event, int irq, bool ignore_tpr,
                      bool *irq_taken)
{
    struct vmcb *c = svm_of(v)->vmcb;
    struct cpu_user_regs *regs = &v->stack->regs;
    choose_asid(svm_of(v));
    svm_set_event(c, event);
    c->int_ctl = (c->int_ctl & INT_TPR) | INT_MASKING;
    if (irq >= 0) {
        /* QEMU 7.2 aborts when it weighs the two itself: no lock in its helper_write_crN(). */
        svm_watch_tpr(v, true);
        c->int_ctl |= INT_IRQ | (uint64_t)irq << INT_VECTOR_SHIFT |
                      (uint64_t)(irq >> 4) << INT_PRIO_SHIFT | (ignore_tpr ? INT_IGNORE_TPR : 0);
    }
    c->rip = regs->rip;
    c->rsp = regs->rsp;
    c->rax = regs->rax;
    c->rflags = regs->rflags;
    svm_vmrun(regs, virt_to_maddr(c).a, virt_to_maddr(cpu_state[this_cpu()->id].host).a);
    regs->rip = c->rip;
    regs->rsp = c->rsp;
    regs->rax = c->rax;
    regs->rflags = c->rflags;
    *irq_taken = irq >= 0 && !(c->int_ctl & INT_IRQ);
    svm_take_back_event(v);
    svm_decode_exit(v);
}

static void svm_load(struct vcpu *v)
{
    if (svm_of(v)->vmcb->dr7 & 0xff)
        svm_debug_load(v);
}

static int svm_vcpu_init(struct vcpu *v)
{
    struct svm_vcpu *s = zalloc(sizeof(*s));
    if (!s)
        return -XEN_ENOMEM;
    s->vmcb = xpage_alloc();
    if (!s->vmcb) {
        zfree(s);
        return -XEN_ENOMEM;
    }
    v->hvm->backend = s;
    return svm_vmcb_init(v, s->vmcb);
}

static void svm_vcpu_fini(struct vcpu *v)
{
    struct svm_vcpu *s = v->hvm->backend;
    if (!s)
        return;
    xpage_free(s->vmcb);
    zfree(s);
    v->hvm->backend = NULL;
}

static unsigned svm_cpl(const struct vcpu *v)
{
    return svm_of(v)->vmcb->cpl;
}

static bool svm_long_mode(const struct vcpu *v)
{
    const struct vmcb *c = svm_of(v)->vmcb;
    return (c->efer & EFER_LMA) && (c->segment[HVM_CS].attributes & HVM_ATTR_L);
}

static bool svm_shadow(const struct vcpu *v)
{
    return svm_of(v)->vmcb->shadow & 1;
}

static void svm_clear_shadow(struct vcpu *v)
{
    svm_of(v)->vmcb->shadow = 0;
}

static void svm_watch_iret(struct vcpu *v)
{
    svm_of(v)->vmcb->intercept1 |= I1_IRET;
}

static uint8_t svm_get_tpr(const struct vcpu *v)
{
    return svm_of(v)->vmcb->int_ctl & 15;
}

static void svm_set_tpr(struct vcpu *v, uint8_t cr8)
{
    struct vmcb *c = svm_of(v)->vmcb;
    c->int_ctl = (c->int_ctl & ~INT_TPR) | (cr8 & 15);
}

const struct hvm_ops svm_ops = {
    .name = "SVM",
    .hypercall_insn = {0x0f, 0x01, 0xd9}, /* VMMCALL */
    .init_cpu = svm_init_cpu,
    .vcpu_init = svm_vcpu_init,
    .vcpu_fini = svm_vcpu_fini,
    .load = svm_load,
    .save = svm_debug_save,
    .enter = svm_enter,
    .get_segment = svm_get_segment,
    .set_segment = svm_set_segment,
    .get_reg = svm_get_reg,
    .set_reg = svm_set_reg,
    .cpl = svm_cpl,
    .long_mode = svm_long_mode,
    .shadow = svm_shadow,
    .clear_shadow = svm_clear_shadow,
    .watch_iret = svm_watch_iret,
    .watch_tpr = svm_watch_tpr,
    .get_tpr = svm_get_tpr,
    .set_tpr = svm_set_tpr,
};
