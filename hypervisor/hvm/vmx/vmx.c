/*
 * Intel's virtualization extension (SDM vol. 3, chapters on VMX): switched on per CPU, loaded with
 * a vCPU, entered.
 *
 * A vCPU's VMCS is active on the CPU that has it loaded, and cleared, so that it is all in memory,
 * as soon as the CPU is left. So whoever looks at a quiet vCPU loads its VMCS for that moment
 * (vmx_open()), one at a time.
 */
#include "console/console.h"
#include "hvm/npt.h"
#include "hvm/vmx/vmcs.h"
#include "lib/string.h"

#define MSR_FEATURE_CONTROL 0x3a
#define FEATURE_LOCK        (1UL << 0)
#define FEATURE_VMX         (1UL << 2) /* outside SMX */
#define CR4_VMXE            (1UL << 13)
#define CPUID1_ECX_VMX      (1u << 5)

#define VPIDS               0x10000u
#define INVEPT_ALL          2UL

#define VIRTUAL_TPR         0x80 /* offset in the virtual-APIC page */

uint64_t *vmx_msr_bitmap __ro_after_init;

static struct {
    void *region;
    const struct vcpu *loaded;
    struct vmx_msrs msrs; /* the hypervisor's own */
} cpu_state[MAX_CPUS];

/* --- start of day --- */

/* Locked without the permission: VMXON would fault. */
static bool forbidden(uint64_t control)
{
    return (control & (FEATURE_LOCK | FEATURE_VMX)) == FEATURE_LOCK;
}

bool vmx_available(struct npt_format *npt)
{
    uint32_t r[4];
    uint64_t control;
    cpuid(1, 0, r);
    if (!(r[2] & CPUID1_ECX_VMX))
        return false;
    if (rdmsr_safe(MSR_FEATURE_CONTROL, &control) || forbidden(control)) {
        log_warn("VMX: switched off by the firmware");
        return false;
    }
    return vmx_detect(npt);
}

/* Reads and writes go to the CPU (SDM vol. 3, "MSR-bitmap address"). */
static void pass_msr(uint32_t msr)
{
    uint64_t bit = msr >= 0xc0000000 ? 8 * 1024 + (msr - 0xc0000000) : msr;
    bit_clear(vmx_msr_bitmap, bit);
    bit_clear(vmx_msr_bitmap, bit + 8 * 2048);
}

static bool make_bitmap(void)
{
    vmx_msr_bitmap = xpage_alloc();
    if (!vmx_msr_bitmap)
        return false;
    memset(vmx_msr_bitmap, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < HVM_OWN_MSRS; i++)
        pass_msr(hvm_own_msrs[i]);
    return true;
}

/* VMXON, VMPTRLD, VMCLEAR take the address of a word with the address. False: refused. */
#define VMX_ADDRESS(insn, page)                                                                    \
    ({                                                                                             \
        uint64_t addr_ = virt_to_maddr(page).a;                                                    \
        bool refused_;                                                                             \
        __asm__ volatile(insn " %1" : "=@ccbe"(refused_) : "m"(addr_) : "memory", "cc");           \
        !refused_;                                                                                 \
    })

static int vmx_init_cpu(void)
{
    unsigned cpu = this_cpu()->id;
    uint64_t control = rdmsr(MSR_FEATURE_CONTROL);
    if (forbidden(control))
        return -XEN_EIO;
    if (!vmx_msr_bitmap && !make_bitmap())
        return -XEN_ENOMEM;
    uint32_t *region = xpage_alloc();
    if (!region)
        return -XEN_ENOMEM;
    if (!(control & FEATURE_LOCK))
        wrmsr(MSR_FEATURE_CONTROL, control | FEATURE_LOCK | FEATURE_VMX);
    write_cr4(read_cr4() | CR4_VMXE);
    *region = vmx_controls.revision;
    cpu_state[cpu].region = region;
    vmx_msrs_read(&cpu_state[cpu].msrs);
    return VMX_ADDRESS("vmxon", region) ? 0 : -XEN_EIO;
}

/* --- whose VMCS is loaded --- */

static void load_vmcs(const struct vcpu *v)
{
    if (!VMX_ADDRESS("vmptrld", vmx_of(v)->vmcs))
        panic("VMPTRLD of a VMCS of ours is refused");
}

static void clear_vmcs(const struct vcpu *v)
{
    if (!VMX_ADDRESS("vmclear", vmx_of(v)->vmcs))
        panic("VMCLEAR of a VMCS of ours is refused");
}

bool vmx_open(const struct vcpu *v)
{
    struct vmx_vcpu *s = vmx_of(v);
    if (likely(s->loaded))
        return false;
    spin_lock(&s->lock);
    load_vmcs(v);
    return true;
}

void vmx_close(const struct vcpu *v, bool opened)
{
    const struct vcpu *ours = cpu_state[this_cpu()->id].loaded;
    if (likely(!opened))
        return;
    clear_vmcs(v);
    if (ours)
        load_vmcs(ours);
    spin_unlock(&vmx_of(v)->lock);
}

static void vmx_load(struct vcpu *v)
{
    struct vmx_vcpu *s = vmx_of(v);
    load_vmcs(v);
    cpu_state[this_cpu()->id].loaded = v;
    s->loaded = true;
    s->launched = false;
    vmx_vmcs_host();
    vmx_msrs_write(&s->msrs);
    if (vmread(VMCS_GUEST_DR7) & 0xff)
        vmx_debug_load(v);
}

static void vmx_save(struct vcpu *v)
{
    struct vmx_vcpu *s = vmx_of(v);
    unsigned cpu = this_cpu()->id;
    vmx_debug_save(v);
    vmx_msrs_read(&s->msrs);
    vmx_msrs_write(&cpu_state[cpu].msrs);
    cpu_load_own_gdt(); /* exits leave a limit of 64 KiB */
    clear_vmcs(v);
    cpu_state[cpu].loaded = NULL;
    s->loaded = false;
}

/* --- entering --- */

static void invept(void)
{
    const uint64_t descriptor[2] = {0, 0};
    __asm__ volatile("invept %0, %1" ::"m"(descriptor), "r"(INVEPT_ALL) : "memory", "cc");
}

/* A CPU without VPIDs forgets linear addresses at each entry by itself, but not nested ones. */
static void choose_vpid(struct vmx_vcpu *s)
{
    uint32_t vpid = hvm_tag_choose(&s->vpid, VPIDS);
    if (vpid && vmx_has_vpid())
        vmwrite(VMCS_VPID, vpid);
    if (vpid == HVM_TAG_FIRST)
        invept();
}

void vmx_set_cpu_control(struct vmx_vcpu *s, uint32_t control, bool on)
{
    uint32_t want = on ? s->cpu_controls | control : s->cpu_controls & ~control;
    if (want == s->cpu_controls)
        return;
    s->cpu_controls = want;
    vmwrite(VMCS_CPU_CONTROLS, want);
}

static void refused(struct vcpu *v, uint64_t code)
{
    v->hvm->exit = (struct hvm_exit){.reason = HVM_EXIT_INVALID, .code = code};
    v->hvm->event.valid = false;
}

static void vmx_enter(struct vcpu *v, const struct hvm_event *event, int irq,
                      bool ignore_tpr __unused, bool *irq_taken)
{
    struct vmx_vcpu *s = vmx_of(v);
    struct cpu_user_regs *regs = &v->stack->regs;
    choose_vpid(s);
    if (unlikely(s->pdptes_stale))
        vmx_load_pdptes(v);
    *irq_taken = vmx_set_event(v, event, irq);
    vmwrite(VMCS_GUEST_RIP, regs->rip);
    vmwrite(VMCS_GUEST_RSP, regs->rsp);
    vmwrite(VMCS_GUEST_RFLAGS, regs->rflags);
    if (read_cr2() != s->cr2)
        write_cr2(s->cr2);
    if (!vmx_run(regs, s->launched)) {
        refused(v, vmread(VMCS_INSTRUCTION_ERROR));
        return;
    }
    s->cr2 = read_cr2();
    uint32_t reason = vmread(VMCS_EXIT_REASON);
    if (unlikely(reason & ENTRY_FAILED)) {
        if ((reason & 0xffff) == VMX_EXIT_ENTRY_MACHINE_CHECK)
            __asm__ volatile("int %0" ::"i"(X86_MC));
        refused(v, reason);
        return;
    }
    s->launched = true;
    regs->rip = vmread(VMCS_GUEST_RIP);
    regs->rsp = vmread(VMCS_GUEST_RSP);
    regs->rflags = vmread(VMCS_GUEST_RFLAGS);
    vmx_take_back_event(v);
    vmx_decode_exit(v, reason);
}

/* --- vCPUs --- */

static int vmx_vcpu_init(struct vcpu *v)
{
    struct vmx_vcpu *s = zalloc(sizeof(*s));
    if (!s)
        return -XEN_ENOMEM;
    spin_init(&s->lock, RANK_VMCS);
    s->vmcs = xpage_alloc();
    s->virtual_apic = xpage_alloc();
    v->hvm->backend = s;
    if (!s->vmcs || !s->virtual_apic) {
        hvm_ops->vcpu_fini(v);
        return -XEN_ENOMEM;
    }
    *(uint32_t *)s->vmcs = vmx_controls.revision;
    clear_vmcs(v);
    bool opened = vmx_open(v);
    vmx_vmcs_init(v);
    vmx_close(v, opened);
    return 0;
}

static void vmx_vcpu_fini(struct vcpu *v)
{
    struct vmx_vcpu *s = v->hvm->backend;
    if (!s)
        return;
    if (s->vmcs)
        xpage_free(s->vmcs);
    if (s->virtual_apic)
        xpage_free(s->virtual_apic);
    zfree(s);
    v->hvm->backend = NULL;
}

static unsigned vmx_cpl(const struct vcpu *v)
{
    struct hvm_segment ss;
    vmx_get_segment(v, HVM_SS, &ss);
    return HVM_ATTR_DPL(ss.attributes);
}

static bool vmx_long_mode(const struct vcpu *v)
{
    struct hvm_segment cs;
    if (!(vmx_get_reg(v, HVM_EFER) & EFER_LMA))
        return false;
    vmx_get_segment(v, HVM_CS, &cs);
    return cs.attributes & HVM_ATTR_L;
}

static bool vmx_shadow(const struct vcpu *v)
{
    bool opened = vmx_open(v);
    bool on = vmread(VMCS_GUEST_SHADOW) & (SHADOW_STI | SHADOW_MOV_SS);
    vmx_close(v, opened);
    return on;
}

static void vmx_clear_shadow(struct vcpu *v)
{
    bool opened = vmx_open(v);
    uint32_t now = vmread(VMCS_GUEST_SHADOW);
    if (now & (SHADOW_STI | SHADOW_MOV_SS)) {
        vmwrite(VMCS_GUEST_SHADOW, now & ~(SHADOW_STI | SHADOW_MOV_SS));
        vmwrite(VMCS_GUEST_PENDING_DEBUG, 0); /* hvm_skip() sees to the single step */
    }
    vmx_close(v, opened);
}

static void vmx_watch_iret(struct vcpu *v)
{
    vmx_set_cpu_control(vmx_of(v), CPU_NMI_WINDOW, true);
}

static void vmx_watch_tpr(struct vcpu *v, bool on)
{
    vmx_set_cpu_control(vmx_of(v), CPU_CR8_LOAD_EXIT, on);
}

static uint8_t vmx_get_tpr(const struct vcpu *v)
{
    return ((const uint8_t *)vmx_of(v)->virtual_apic)[VIRTUAL_TPR] >> 4;
}

static void vmx_set_tpr(struct vcpu *v, uint8_t cr8)
{
    ((uint8_t *)vmx_of(v)->virtual_apic)[VIRTUAL_TPR] = cr8 << 4;
}

const struct hvm_ops vmx_ops = {
    .name = "VMX",
    .hypercall_insn = {0x0f, 0x01, 0xc1}, /* VMCALL */
    .init_cpu = vmx_init_cpu,
    .vcpu_init = vmx_vcpu_init,
    .vcpu_fini = vmx_vcpu_fini,
    .load = vmx_load,
    .save = vmx_save,
    .enter = vmx_enter,
    .get_segment = vmx_get_segment,
    .set_segment = vmx_set_segment,
    .get_reg = vmx_get_reg,
    .set_reg = vmx_set_reg,
    .cpl = vmx_cpl,
    .long_mode = vmx_long_mode,
    .shadow = vmx_shadow,
    .clear_shadow = vmx_clear_shadow,
    .watch_iret = vmx_watch_iret,
    .watch_tpr = vmx_watch_tpr,
    .get_tpr = vmx_get_tpr,
    .set_tpr = vmx_set_tpr,
};
