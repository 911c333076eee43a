/*
 * The virtual machine control structure: its fields (SDM vol. 3 appendix B), controls (chapter on
 * VMCS, "VM-execution control fields" and the following), exit reasons (appendix C). "SDM" is
 * Intel's manual throughout hvm/vmx/; chapters are named, as their numbers change.
 */
#ifndef HVM_VMX_VMCS_H
#define HVM_VMX_VMCS_H

#include "hvm/hvm.h"
#include "hvm/tag.h"

enum vmcs_field {
    VMCS_VPID = 0x0000,
    VMCS_GUEST_SELECTOR = 0x0800, /* and by steps of 2 in the order of enum vmcs_seg */
    VMCS_HOST_ES = 0x0c00,
    VMCS_HOST_CS = 0x0c02,
    VMCS_HOST_SS = 0x0c04,
    VMCS_HOST_DS = 0x0c06,
    VMCS_HOST_FS = 0x0c08,
    VMCS_HOST_GS = 0x0c0a,
    VMCS_HOST_TR = 0x0c0c,
    VMCS_MSR_BITMAP = 0x2004,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC = 0x2012,
    VMCS_EPT_POINTER = 0x201a,
    VMCS_GUEST_PHYSICAL = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_DEBUGCTL = 0x2802,
    VMCS_GUEST_PAT = 0x2804,
    VMCS_GUEST_EFER = 0x2806,
    VMCS_GUEST_PDPTE = 0x280a, /* four */
    VMCS_HOST_PAT = 0x2c00,
    VMCS_HOST_EFER = 0x2c02,
    VMCS_PIN_CONTROLS = 0x4000,
    VMCS_CPU_CONTROLS = 0x4002,
    VMCS_EXCEPTIONS = 0x4004,
    VMCS_PF_ERROR_MASK = 0x4006,
    VMCS_PF_ERROR_MATCH = 0x4008,
    VMCS_CR3_TARGETS = 0x400a,
    VMCS_EXIT_CONTROLS = 0x400c,
    VMCS_EXIT_MSR_STORES = 0x400e,
    VMCS_EXIT_MSR_LOADS = 0x4010,
    VMCS_ENTRY_CONTROLS = 0x4012,
    VMCS_ENTRY_MSR_LOADS = 0x4014,
    VMCS_ENTRY_EVENT = 0x4016,
    VMCS_ENTRY_ERROR_CODE = 0x4018,
    VMCS_TPR_THRESHOLD = 0x401c,
    VMCS_CPU_CONTROLS2 = 0x401e,
    VMCS_INSTRUCTION_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_EVENT = 0x4404,
    VMCS_EXIT_ERROR_CODE = 0x4406,
    VMCS_VECTORING_EVENT = 0x4408,
    VMCS_VECTORING_ERROR_CODE = 0x440a,
    VMCS_INSTRUCTION_LENGTH = 0x440c,
    VMCS_GUEST_LIMIT = 0x4800,      /* as the selectors, GDTR and IDTR too */
    VMCS_GUEST_ATTRIBUTES = 0x4814, /* as the selectors */
    VMCS_GUEST_SHADOW = 0x4824,
    VMCS_GUEST_ACTIVITY = 0x4826,
    VMCS_GUEST_SYSENTER_CS = 0x482a,
    VMCS_HOST_SYSENTER_CS = 0x4c00,
    VMCS_CR0_MASK = 0x6000,
    VMCS_CR4_MASK = 0x6002,
    VMCS_CR0_SHADOW = 0x6004,
    VMCS_CR4_SHADOW = 0x6006,
    VMCS_QUALIFICATION = 0x6400,
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_BASE = 0x6806, /* as the limits */
    VMCS_GUEST_DR7 = 0x681a,
    VMCS_GUEST_RSP = 0x681c,
    VMCS_GUEST_RIP = 0x681e,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG = 0x6822,
    VMCS_GUEST_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_SYSENTER_EIP = 0x6826,
    VMCS_HOST_CR0 = 0x6c00,
    VMCS_HOST_CR3 = 0x6c02,
    VMCS_HOST_CR4 = 0x6c04,
    VMCS_HOST_FS_BASE = 0x6c06,
    VMCS_HOST_GS_BASE = 0x6c08,
    VMCS_HOST_TR_BASE = 0x6c0a,
    VMCS_HOST_GDTR_BASE = 0x6c0c,
    VMCS_HOST_IDTR_BASE = 0x6c0e,
    VMCS_HOST_SYSENTER_ESP = 0x6c10,
    VMCS_HOST_SYSENTER_EIP = 0x6c12,
    VMCS_HOST_RSP = 0x6c14, /* entry.S has this number, too */
    VMCS_HOST_RIP = 0x6c16,
};

/* pin-based */
#define PIN_INTERRUPT_EXIT (1u << 0)
#define PIN_NMI_EXIT       (1u << 3)
#define PIN_VIRTUAL_NMI    (1u << 5)
/* processor-based */
#define CPU_INTERRUPT_WINDOW (1u << 2)
#define CPU_HLT_EXIT         (1u << 7)
#define CPU_MWAIT_EXIT       (1u << 10)
#define CPU_RDPMC_EXIT       (1u << 11)
#define CPU_CR3_LOAD_EXIT    (1u << 15)
#define CPU_CR3_STORE_EXIT   (1u << 16)
#define CPU_CR8_LOAD_EXIT    (1u << 19)
#define CPU_TPR_SHADOW       (1u << 21)
#define CPU_NMI_WINDOW       (1u << 22)
#define CPU_DR_EXIT          (1u << 23)
#define CPU_IO_EXIT          (1u << 24)
#define CPU_MSR_BITMAP       (1u << 28)
#define CPU_MONITOR_EXIT     (1u << 29)
#define CPU_CONTROLS2        (1u << 31)
/* secondary */
#define CPU2_EPT          (1u << 1)
#define CPU2_RDTSCP       (1u << 3)
#define CPU2_VPID         (1u << 5)
#define CPU2_WBINVD_EXIT  (1u << 6)
#define CPU2_UNRESTRICTED (1u << 7)
/* at exits */
#define EXIT_SAVE_DEBUG (1u << 2)
#define EXIT_HOST_64    (1u << 9)
#define EXIT_ACK        (1u << 15) /* takes the interrupt off the local APIC: we do that */
#define EXIT_LOAD_PAT   (1u << 19)
#define EXIT_SAVE_EFER  (1u << 20)
#define EXIT_LOAD_EFER  (1u << 21)
/* at entries */
#define ENTRY_LOAD_DEBUG (1u << 2)
#define ENTRY_LONG_MODE  (1u << 9)
#define ENTRY_LOAD_PAT   (1u << 14)
#define ENTRY_LOAD_EFER  (1u << 15)

/* Interruptibility state. */
#define SHADOW_STI    (1u << 0)
#define SHADOW_MOV_SS (1u << 1)
#define SHADOW_NMI    (1u << 3) /* virtual NMIs: until IRET */

/* Events: at an entry, of an exit, interrupted by an exit. Types 0, 2, 3 are enum hvm_event_type's.
 */
#define EVENT_TYPE(e)       ((e) >> 8 & 7)
#define EVENT_SOFTWARE      4u /* INT n */
#define EVENT_PRIVILEGED    5u /* INT1 */
#define EVENT_SOFTWARE_TRAP 6u /* INT3, INTO */
#define EVENT_HAS_ERROR     (1u << 11)
#define EVENT_NMI_UNBLOCKED (1u << 12) /* by the IRET that was stopped */
#define EVENT_VALID         (1u << 31)

#define PENDING_DEBUG_STEP  (1UL << 14)

#define ATTRIBUTES_UNUSABLE (1u << 16)

#define ENTRY_FAILED        (1u << 31) /* of the exit reason */

enum vmx_exit {
    VMX_EXIT_EXCEPTION = 0, /* or NMI */
    VMX_EXIT_INTERRUPT = 1,
    VMX_EXIT_TRIPLE_FAULT = 2,
    VMX_EXIT_INIT = 3,
    VMX_EXIT_INTERRUPT_WINDOW = 7,
    VMX_EXIT_NMI_WINDOW = 8,
    VMX_EXIT_TASK_SWITCH = 9,
    VMX_EXIT_CPUID = 10,
    VMX_EXIT_GETSEC = 11,
    VMX_EXIT_HLT = 12,
    VMX_EXIT_INVD = 13,
    VMX_EXIT_RDPMC = 15,
    VMX_EXIT_VMCALL = 18,
    VMX_EXIT_VMX_FIRST = 19, /* VMCLEAR */
    VMX_EXIT_VMX_LAST = 27,  /* VMXON */
    VMX_EXIT_CR = 28,
    VMX_EXIT_DR = 29,
    VMX_EXIT_IO = 30,
    VMX_EXIT_RDMSR = 31,
    VMX_EXIT_WRMSR = 32,
    VMX_EXIT_MWAIT = 36,
    VMX_EXIT_MONITOR = 39,
    VMX_EXIT_ENTRY_MACHINE_CHECK = 41,
    VMX_EXIT_EPT_VIOLATION = 48,
    VMX_EXIT_INVEPT = 50,
    VMX_EXIT_INVVPID = 53,
    VMX_EXIT_WBINVD = 54,
    VMX_EXIT_XSETBV = 55,
    VMX_EXIT_VMFUNC = 59,
};

static inline uint64_t vmread(enum vmcs_field field)
{
    uint64_t value;
    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)field) : "cc");
    return value;
}

static inline void vmwrite(enum vmcs_field field, uint64_t value)
{
    __asm__ volatile("vmwrite %1, %0" ::"r"((uint64_t)field), "r"(value) : "cc");
}

/* --- what the files of vmx/ share --- */

struct vmx_msrs { /* what the VMCS does not switch; in the CPU while the vCPU is loaded */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
};

struct vmx_vcpu {
    struct spinlock lock; /* RANK_VMCS: the VMCS of a quiet vCPU, which anybody may look at */
    void *vmcs, *virtual_apic;
    bool loaded;   /* [P] its VMCS is this CPU's */
    bool launched; /* [P] since it was loaded */
    bool pdptes_stale;
    bool dr_loaded; /* [P] DR0 to DR3 and DR6 are in the CPU, accesses do not exit */
    uint32_t cpu_controls, entry_controls; /* as they are in the VMCS */
    struct hvm_tag vpid;
    uint64_t cr2, dr6;
    struct vmx_msrs msrs;
};

static inline struct vmx_vcpu *vmx_of(const struct vcpu *v)
{
    return v->hvm->backend;
}

/* What the CPU can do and we use. */
extern struct vmx_controls {
    uint32_t revision; /* of the VMCS */
    uint32_t pin, cpu, cpu2, exit, entry;
    uint64_t cr4_fixed;    /* bits that are set in CR4 as long as VMX is on */
    uint64_t cr4_possible; /* bits that may be */
} vmx_controls;
extern uint64_t *vmx_msr_bitmap;

/* vmx.c: the VMCS of @v, which is current or quiet, is this CPU's until vmx_close(). */
bool vmx_open(const struct vcpu *v);
void vmx_close(const struct vcpu *v, bool opened);
void vmx_set_cpu_control(struct vmx_vcpu *s, uint32_t control, bool on); /* of the loaded one */

/* detect.c */
bool vmx_detect(struct npt_format *npt);
bool vmx_has_vpid(void);

/* vmcs.c */
void vmx_vmcs_init(const struct vcpu *v); /* all but the host's state and registers by name */
void vmx_vmcs_host(void);                 /* this CPU's */
void vmx_msrs_read(struct vmx_msrs *m);
void vmx_msrs_write(const struct vmx_msrs *m);
void vmx_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out);
void vmx_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in);
uint64_t vmx_get_reg(const struct vcpu *v, enum hvm_reg r);
void vmx_set_reg(struct vcpu *v, enum hvm_reg r, uint64_t value);

/* cr.c */
uint64_t vmx_cr4_owned(void); /* the bits of CR4 that the guest's writes do not reach */
void vmx_cr_access(struct vcpu *v, uint64_t qualification);
void vmx_load_pdptes(struct vcpu *v);

void vmx_forget_tlb(struct vcpu *v); /* whatever the guest has translated */

/* task.c */
void vmx_task_switch(struct vcpu *v, uint64_t qualification);

/* exit.c: fills v->hvm->exit; deals with what is the vendor's own. */
void vmx_decode_exit(struct vcpu *v, uint32_t reason);

/* intr.c */
bool vmx_set_event(struct vcpu *v, const struct hvm_event *e, int irq); /* whether @irq goes in */
void vmx_take_back_event(struct vcpu *v);
void vmx_debug_load(struct vcpu *v);
void vmx_debug_save(struct vcpu *v);
void vmx_debug_exception(struct vcpu *v, uint64_t why);

/* entry.S: runs the guest of this CPU's VMCS once, registers in *regs. False: it did not get in. */
bool vmx_run(struct cpu_user_regs *regs, bool launched);
extern const uint8_t vmx_landing[]; /* where it comes back */

#endif
