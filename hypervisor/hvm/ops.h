/*
 * What common code asks of the CPU's virtualization extension, in verbs of the guest. hvm/svm/
 * and hvm/vmx/ fill this table; common code never names the vendor. The backend's own state of a
 * vCPU hangs on v->hvm->backend.
 *
 * General registers, rip, rsp and rflags of a vCPU that is not inside enter() are in
 * v->stack->regs; everything else is with the backend and reached by the accessors below, for the
 * current vCPU or one that is quiet.
 */
#ifndef HVM_OPS_H
#define HVM_OPS_H

#include "domain/domain.h"

enum hvm_seg {
    HVM_ES,
    HVM_CS,
    HVM_SS,
    HVM_DS,
    HVM_FS,
    HVM_GS,
    HVM_GDTR,
    HVM_LDTR,
    HVM_IDTR,
    HVM_TR,
    HVM_SEGS
};

/* Attributes: bits 0-3 type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G (descriptor bits 40-47,
 * 52-55). */
#define HVM_ATTR_DPL(a) ((a) >> 5 & 3)
#define HVM_ATTR_P      (1u << 7)
#define HVM_ATTR_L      (1u << 9)
#define HVM_ATTR_DB     (1u << 10)

struct hvm_segment {
    uint16_t selector;
    uint16_t attributes;
    uint32_t limit;
    uint64_t base;
};

/* Registers that change seldom, by name. */
enum hvm_reg {
    HVM_CR0,
    HVM_CR2,
    HVM_CR3,
    HVM_CR4,
    HVM_EFER,
    HVM_DR6,
    HVM_DR7,
    HVM_PAT,
    HVM_STAR,
    HVM_LSTAR,
    HVM_CSTAR,
    HVM_SFMASK,
    HVM_KERNEL_GS_BASE,
    HVM_SYSENTER_CS,
    HVM_SYSENTER_ESP,
    HVM_SYSENTER_EIP,
    HVM_REGS
};

/* An exception, NMI or interrupt on its way into the guest. */
enum hvm_event_type { HVM_INTERRUPT = 0, HVM_NMI = 2, HVM_EXCEPTION = 3 };
struct hvm_event {
    bool valid;
    uint8_t type; /* enum hvm_event_type */
    uint8_t vector;
    bool has_error;
    uint32_t error;
};

/* Why the guest stopped. */
enum hvm_exit_reason {
    HVM_EXIT_NOTHING, /* dealt with */
    HVM_EXIT_INTERRUPT,
    HVM_EXIT_CPUID,
    HVM_EXIT_HLT,
    HVM_EXIT_HYPERCALL,
    HVM_EXIT_MSR,
    HVM_EXIT_IO,
    HVM_EXIT_XSETBV,
    HVM_EXIT_INVD, /* INVD, WBINVD */
    HVM_EXIT_UNDEFINED,
    HVM_EXIT_EXCEPTION, /* the guest's own, to be given back to it */
    HVM_EXIT_RDPMC,
    HVM_EXIT_TPR,
    HVM_EXIT_NESTED_FAULT,
    HVM_EXIT_TRIPLE_FAULT,
    HVM_EXIT_INVALID, /* the CPU refuses the guest's state */
    HVM_EXIT_UNKNOWN,
    HVM_EXITS
};

#define HVM_READ  1u
#define HVM_WRITE 2u
#define HVM_FETCH 4u
#define HVM_USER  8u

struct hvm_exit {
    enum hvm_exit_reason reason;
    uint64_t code;     /* the vendor's number, for the log */
    uint64_t next_rip; /* behind the instruction, when the CPU says so; 0 */
    /* NESTED_FAULT */
    uint64_t gpa;
    unsigned access; /* HVM_READ, HVM_WRITE, HVM_FETCH */
    /* IO */
    uint16_t port;
    uint8_t size; /* bytes */
    bool in, string;
    /* MSR */
    bool write;
    /* EXCEPTION */
    uint8_t vector;
    bool has_error;
    uint32_t error;
};

struct hvm_ops {
    const char *name;
    uint8_t hypercall_insn[3]; /* what calls us */
    int (*init_cpu)(void);     /* this CPU may run guests from now on; negative errno */
    int (*vcpu_init)(struct vcpu *v);
    void (*vcpu_fini)(struct vcpu *v);
    /* This CPU's guest state becomes v's, or is saved into it; FPU and XCR0 are the caller's. */
    void (*load)(struct vcpu *v);
    void (*save)(struct vcpu *v);
    /*
     * Runs the current vCPU until it exits; interrupts are off before and after. @event is injected
     * if valid; @irq (a vector, or -1) is taken by the guest as soon as it may, @ignore_tpr:
     * whatever its task priority. Afterwards v->hvm->exit says why, v->hvm->event holds an event
     * whose delivery was interrupted, *irq_taken whether the guest took @irq.
     */
    void (*enter)(struct vcpu *v, const struct hvm_event *event, int irq, bool ignore_tpr,
                  bool *irq_taken);
    void (*get_segment)(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out);
    void (*set_segment)(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in);
    uint64_t (*get_reg)(const struct vcpu *v, enum hvm_reg r);
    void (*set_reg)(struct vcpu *v, enum hvm_reg r, uint64_t value);
    unsigned (*cpl)(const struct vcpu *v);
    bool (*long_mode)(const struct vcpu *v); /* 64-bit code runs */
    bool (*shadow)(const struct vcpu *v);    /* STI or MOV SS holds interrupts back for one more */
    void (*clear_shadow)(struct vcpu *v);    /* an instruction was executed for the guest */
    /* The next end of an NMI handler (IRET) is noticed: nmi_masked is cleared by then. */
    void (*watch_iret)(struct vcpu *v);
    void (*watch_tpr)(struct vcpu *v, bool on); /* HVM_EXIT_TPR when the guest writes CR8 */
    uint8_t (*get_tpr)(const struct vcpu *v);   /* CR8 */
    void (*set_tpr)(struct vcpu *v, uint8_t cr8);
};

/* MSRs that guests read and write without an exit; msr.c */
#define HVM_OWN_MSRS 10
extern const uint32_t hvm_own_msrs[HVM_OWN_MSRS];

extern const struct hvm_ops *hvm_ops; /* NULL: this machine has none */
extern const struct hvm_ops svm_ops, vmx_ops;
/* May log why not; *npt is what nested tables look like then. */
struct npt_format;
bool svm_available(struct npt_format *npt);
bool vmx_available(struct npt_format *npt);

#endif
