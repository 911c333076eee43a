/*
 * The virtual machine control block (APM vol. 2 appendix B) and what goes with it: exit codes
 * (appendix C), event injection (section 15.20).
 */
#ifndef HVM_SVM_VMCB_H
#define HVM_SVM_VMCB_H

#include "hvm/hvm.h"
#include "hvm/tag.h"

struct vmcb {
    /* control area */
    uint16_t cr_read, cr_write, dr_read, dr_write;
    uint32_t exceptions;
    uint32_t intercept1, intercept2, intercept3;
    uint8_t reserved0[0x03c - 0x018];
    uint16_t pause_threshold, pause_count;
    uint64_t iopm, msrpm; /* machine addresses */
    uint64_t tsc_offset;
    uint32_t asid;
    uint32_t tlb_control; /* low byte */
    uint64_t int_ctl;
    uint64_t shadow; /* bit 0 */
    uint64_t exit_code, exit_info1, exit_info2, exit_int_info;
    uint64_t np_enable; /* bit 0 */
    uint8_t reserved1[0x0a8 - 0x098];
    uint64_t event;
    uint64_t nested_cr3;
    uint64_t lbr_control;
    uint32_t clean;
    uint32_t reserved2;
    uint64_t next_rip;
    uint8_t fetched, insn[15];
    uint8_t reserved3[0x400 - 0x0e0];
    /* state save area */
    struct hvm_segment segment[HVM_SEGS]; /* as enum hvm_seg has them */
    uint8_t reserved4[0x4cb - 0x4a0];
    uint8_t cpl;
    uint32_t reserved5;
    uint64_t efer;
    uint8_t reserved6[0x548 - 0x4d8];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
    uint8_t reserved7[0x5d8 - 0x580];
    uint64_t rsp;
    uint8_t reserved8[0x5f8 - 0x5e0];
    uint64_t rax;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t cr2;
    uint8_t reserved9[0x668 - 0x648];
    uint64_t pat;
    uint8_t reserved10[0x1000 - 0x670];
};
_Static_assert(offsetof(struct vmcb, iopm) == 0x040, "APM vol. 2 table B-1");
_Static_assert(offsetof(struct vmcb, exit_code) == 0x070, "APM vol. 2 table B-1");
_Static_assert(offsetof(struct vmcb, event) == 0x0a8, "APM vol. 2 table B-1");
_Static_assert(offsetof(struct vmcb, next_rip) == 0x0c8, "APM vol. 2 table B-1");
_Static_assert(offsetof(struct vmcb, segment) == 0x400, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, cpl) == 0x4cb, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, cr4) == 0x548, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, rip) == 0x578, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, rsp) == 0x5d8, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, cr2) == 0x640, "APM vol. 2 table B-2");
_Static_assert(offsetof(struct vmcb, pat) == 0x668, "APM vol. 2 table B-2");
_Static_assert(sizeof(struct vmcb) == 4096, "one page");

/* intercept1 */
#define I1_INTR     (1u << 0)
#define I1_NMI      (1u << 1)
#define I1_SMI      (1u << 2)
#define I1_INIT     (1u << 3)
#define I1_RDPMC    (1u << 15)
#define I1_CPUID    (1u << 18)
#define I1_RSM      (1u << 19)
#define I1_IRET     (1u << 20)
#define I1_INVD     (1u << 22)
#define I1_HLT      (1u << 24)
#define I1_INVLPGA  (1u << 26)
#define I1_IO       (1u << 27)
#define I1_MSR      (1u << 28)
#define I1_FERR     (1u << 30)
#define I1_SHUTDOWN (1u << 31)
/* intercept2 */
#define I2_VMRUN         (1u << 0)
#define I2_VMMCALL       (1u << 1)
#define I2_VMLOAD        (1u << 2)
#define I2_VMSAVE        (1u << 3)
#define I2_STGI          (1u << 4)
#define I2_CLGI          (1u << 5)
#define I2_SKINIT        (1u << 6)
#define I2_WBINVD        (1u << 9)
#define I2_MONITOR       (1u << 10)
#define I2_MWAIT         (1u << 11)
#define I2_MWAIT_ARMED   (1u << 12)
#define I2_XSETBV        (1u << 13)

#define INT_TPR          0xffUL
#define INT_IRQ          (1UL << 8)
#define INT_PRIO_SHIFT   16
#define INT_PRIO         (15UL << INT_PRIO_SHIFT)
#define INT_IGNORE_TPR   (1UL << 20)
#define INT_MASKING      (1UL << 24) /* RFLAGS.IF of the host holds for real interrupts */
#define INT_VECTOR_SHIFT 32

#define EVENT_HAS_ERROR  (1UL << 11)
#define EVENT_VALID      (1UL << 31)

#define TLB_FLUSH_ALL    1u

enum svm_exit {
    EXIT_CR8_WRITE = 0x18,
    EXIT_DR_READ = 0x20,
    EXIT_DR_LAST = 0x3f,
    EXIT_DB = 0x41,
    EXIT_AC = 0x51,
    EXIT_MC = 0x52,
    EXIT_INTR = 0x60,
    EXIT_NMI = 0x61,
    EXIT_SMI = 0x62,
    EXIT_INIT = 0x63,
    EXIT_RDPMC = 0x6f,
    EXIT_CPUID = 0x72,
    EXIT_RSM = 0x73,
    EXIT_IRET = 0x74,
    EXIT_INVD = 0x76,
    EXIT_HLT = 0x78,
    EXIT_INVLPGA = 0x7a,
    EXIT_IO = 0x7b,
    EXIT_MSR = 0x7c,
    EXIT_FERR = 0x7e,
    EXIT_SHUTDOWN = 0x7f,
    EXIT_VMRUN = 0x80,
    EXIT_VMMCALL = 0x81,
    EXIT_SKINIT = 0x86,
    EXIT_WBINVD = 0x89,
    EXIT_MONITOR = 0x8a,
    EXIT_MWAIT_ARMED = 0x8c,
    EXIT_XSETBV = 0x8d,
    EXIT_NPF = 0x400,
};
#define EXIT_INVALID (~0UL)

/* --- what the files of svm/ share --- */

struct svm_vcpu {
    struct vmcb *vmcb;
    struct hvm_tag asid;
    bool dr_loaded; /* the guest's DR0 to DR3 are in the CPU, accesses not intercepted */
};

static inline struct svm_vcpu *svm_of(const struct vcpu *v)
{
    return v->hvm->backend;
}

extern uint64_t *svm_iopm, *svm_msrpm; /* every port; every MSR but those in the VMCB */

/* vmcb.c */
int __must_check svm_vmcb_init(struct vcpu *v, struct vmcb *vmcb);
void svm_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out);
void svm_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in);
uint64_t svm_get_reg(const struct vcpu *v, enum hvm_reg r);
void svm_set_reg(struct vcpu *v, enum hvm_reg r, uint64_t value);
/* exit.c: fills v->hvm->exit and event; deals with what is the vendor's own. */
void svm_decode_exit(struct vcpu *v);
/* intr.c */
void svm_set_event(struct vmcb *vmcb, const struct hvm_event *e);
void svm_take_back_event(struct vcpu *v);
void svm_debug_load(struct vcpu *v);
void svm_debug_save(struct vcpu *v);

/* entry.S: runs the guest in @vmcb once, registers in *regs; @host: for VMLOAD afterwards. */
void svm_vmrun(struct cpu_user_regs *regs, uint64_t vmcb, uint64_t host);

#endif
