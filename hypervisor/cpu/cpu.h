/*
 * Processors: what each keeps for itself, descriptor tables, the way in and out, IPIs, TLB.
 *
 * Stacks. Every vCPU (the idle ones too) owns an 8 KiB hypervisor stack, aligned to its size and
 * with an unmapped guard page below it. At its top lies `struct stack_top`: the guest's registers
 * as the entry code saved them, and which CPU and vCPU this is. So a hypercall that must wait or
 * give way simply switches stacks (sched/): there are no continuations. NMI, double fault and
 * machine check have per-CPU stacks of the same shape.
 *
 * Interrupts are off in the hypervisor (lib/spinlock.h).
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "cpu/asm.h"
#include "cpu/entry.h"
#include "lib/bitmap.h"
#include "lib/compiler.h"
#include "lib/types.h"
#include "trace/trace.h"

#define MAX_CPUS 256

/* More selectors in every GDT we load (cpu/entry.h). The RPL 3 ones are ABI (FLAT_RING3_*). */
#define SEL_USER_CS32 0xe023
#define SEL_USER_DS   0xe02b
#define SEL_USER_CS64 0xe033
#define SEL_TSS       0xe040 /* 16 bytes */
#define SEL_LDT       0xe050 /* 16 bytes */

/* Exception vectors (APM vol. 2 section 8.2). */
enum {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19,
};
#define PF_PRESENT (1u << 0)
#define PF_WRITE   (1u << 1)
#define PF_USER    (1u << 2)
#define PF_RSVD    (1u << 3)
#define PF_FETCH   (1u << 4)

#define STACK_SIZE 8192UL

struct guest_access_ops;
struct vcpu;

struct tss64 { /* APM vol. 2 section 12.2.5 */
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t iomap; /* offset; beyond the limit: every port traps */
} __packed;

/* What one CPU keeps. Fields are [P] (this CPU only) unless marked. */
struct cpu {
    struct cpu *self;
    unsigned id;              /* [I] our number, 0 = boot CPU */
    uint32_t apic_id;         /* [I] */
    uint32_t acpi_id;         /* [I] */
    bool online;              /* [a] */
    struct vcpu *current;     /* whose stack this CPU is on */
    struct vcpu *idle;        /* [I] */
    struct vcpu *guest_state; /* whose descriptor tables, CR3 and FPU are loaded (lazy over idle) */
    bool need_resched;        /* [a] look at the run queue before leaving */
    unsigned in_nmi;

    uint64_t *entry_rsp; /* [I] where the SYSCALL stub finds the stack to switch to */
    struct tss64 *tss;   /* [I] */
    uint64_t *gdt;       /* [I] the reserved GDT page (selectors 0xe000-0xefff) of this CPU */
    mfn_t gdt_mfn;       /* [I] its frame, for each PV vCPU's window (pv/segment.c) */

    /* TLB (cpu/tlb.c): requests from others */
    uint64_t tlb_requested; /* [a] ticket of the last request made to this CPU */
    uint64_t tlb_done;      /* [a] ticket up to which this CPU has flushed */
    mfn_t loaded_cr3;       /* [a, read by others] frame in CR3 */

    /* preemption */
    unsigned locks_held; /* debug builds */
    uint8_t lock_ranks[16];

    void *sched;        /* struct sched_cpu (sched/) */
    void *timers;       /* struct timer_cpu (time/) */
    uint64_t quiescent; /* [a] counts passages through a state without borrowed pointers */
    uint64_t counters[TRACE_COUNT];
};

/* Top of every hypervisor stack. */
struct stack_top {
    struct cpu_user_regs regs; /* es..gs are saved only when a PV guest's context is read */
    const struct guest_access_ops *access; /* [I] how its memory is reached; NULL: in place */
    uint64_t pad;
    struct cpu *cpu;   /* rewritten whenever the stack's vCPU is put on a CPU */
    struct vcpu *vcpu; /* [I] whose stack; boot stack: the idle vCPU; IST stacks: NULL */
};

static inline struct stack_top *stack_top(void)
{
    uint64_t sp;
    __asm__("mov %%rsp, %0" : "=r"(sp));
    return (struct stack_top *)((sp | (STACK_SIZE - 1)) + 1 - sizeof(struct stack_top));
}

#ifdef HOST_TEST
struct cpu *this_cpu(void);
static inline struct vcpu *this_vcpu(void)
{
    return this_cpu()->current;
}
#else
static inline struct cpu *this_cpu(void)
{
    return stack_top()->cpu;
}
static inline struct vcpu *this_vcpu(void)
{
    return stack_top()->vcpu;
}
#endif

static inline void count(enum trace_counter c)
{
    this_cpu()->counters[c]++;
}

extern struct cpu boot_cpu;        /* CPU 0: what the boot stack's stack_top.cpu must point to */
extern struct cpu *cpus[MAX_CPUS]; /* NULL: no such CPU */
extern unsigned cpus_present;      /* numbers 0..cpus_present-1 are in use */

struct cpu_mask {
    uint64_t bits[MAX_CPUS / 64];
};
extern struct cpu_mask cpus_online;

#define for_each_cpu(i, mask)                                                                      \
    for ((i) = bitmap_next_set((mask)->bits, MAX_CPUS, 0); (i) < MAX_CPUS;                         \
         (i) = bitmap_next_set((mask)->bits, MAX_CPUS, (i) + 1))

/* Features found on this machine (cpu/features.c). */
struct cpu_features {
    bool nx, smep, smap, umip, fsgsbase, xsave, pge, pcid, x2apic, invtsc, page1gb, rdtscp, erms,
        pku;
    bool amd;
    unsigned family, model, phys_bits;
    unsigned smt_bits, package_bits; /* of an APIC id, from the lowest: thread; thread and core */
    uint64_t xcr0_mask;              /* bits the CPU supports, as we let guests use */
    unsigned xsave_size;             /* bytes for xcr0_mask; 512 without XSAVE */
};
extern struct cpu_features cpu_features;

void cpu_init_boot(void); /* features, GDT, IDT, TSS of CPU 0; CR0, CR4, EFER; PAT */
void cpu_init_late(void); /* after mm_init(): CPU 0 moves to stacks with guard pages */
void cpu_init_secondary(struct cpu *c);
/* The GDT of no vCPU in particular: base such that this CPU's reserved page is at 0xe000. */
void cpu_load_own_gdt(void);
void cpu_set_entry_stack(struct stack_top *top); /* TSS.rsp0 and the SYSCALL stub's stack */
/* Assembly: restores the registers of this stack's stack_top and returns to the guest. */
void guest_return(void) __noreturn;
/* Set by pv/: the guest's state made IRETQ (or a segment load) fault; regs are the guest's. */
extern void (*cpu_bad_return)(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code);
struct cpu *cpu_alloc(unsigned id, uint32_t apic_id, uint32_t acpi_id); /* NULL: no memory */

/* The IDT's vectors 32..255: one function each way (irq/vector.c sets it). */
void cpu_handle_irq(struct cpu_user_regs *regs, unsigned vector);
/* Exceptions: the PV room sets the handler for those that came from a guest (ring 3). */
extern void (*cpu_guest_exception)(struct cpu_user_regs *regs);

/* FPU (cpu/fpu.c): never lazy; loaded on every switch to a vCPU that is not the loaded one. */
void *fpu_alloc(void); /* zeroed initial state, cpu_features.xsave_size; NULL */
void fpu_free(void *area);
void fpu_save(void *area);
/* The 512 bytes of FXSAVE64 in and out of an area that is not loaded (vcpu_guest_context). What is
 * not valid there (reserved MXCSR bits) is dropped; other components become initial. */
void fpu_set_legacy(void *area, const void *fxsave);
void fpu_get_legacy(const void *area, void *fxsave);
#define XCR0_X87    (1UL << 0)
#define XCR0_SSE    (1UL << 1)
#define XCR0_AVX    (1UL << 2)
#define XCR0_AVX512 (7UL << 5)
/* The CPU's own rules for XCR0 (APM vol. 2 section 11.5.2), within what we save and restore. */
static inline bool fpu_xcr0_is_valid(uint64_t value)
{
    uint64_t wide = value & XCR0_AVX512;
    if (!(value & XCR0_X87) || (value & ~cpu_features.xcr0_mask))
        return false;
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        return false;
    return !wide || (wide == XCR0_AVX512 && (value & XCR0_AVX));
}
/* May @area, of which @n bytes came from elsewhere, be loaded? Only @components may be in it. */
bool fpu_state_is_valid(const void *area, size_t n, uint64_t components);
/* XCR0 of the running vCPU (an emulated XSETBV); the caller has checked it against xcr0_mask. */
void fpu_set_xcr0(uint64_t xcr0);
void fpu_restore(const void *area, uint64_t xcr0);
uint64_t fpu_get_xcr0(void); /* as it is now; 0 without XSAVE */

/* IPIs and TLB (cpu/ipi.c, cpu/tlb.c). All may be called with locks held. */
void ipi_send(unsigned cpu, uint8_t vector); /* through the hook that irq/lapic.c sets */
extern void (*ipi_hook)(uint32_t apic_id, uint8_t vector); /* vector X86_NMI: as an NMI */
void ipi_answer(void);                                     /* VECTOR_CALL */
void tlb_answer(void);                                     /* VECTOR_TLB */
/* Runs @fn on each CPU of @mask, in interrupt context or inside a wait loop: it takes no lock. */
void ipi_call(const struct cpu_mask *mask, void (*fn)(void *), void *arg, bool wait);
void ipi_stop_others(void); /* panic, reboot */
void spin_poll(void);       /* answers flush requests; part of every wait loop */

/* Flush everything (or one page) on the CPUs of @mask, this one included when it is in it. Returns
 * when all have done so. */
void tlb_flush_mask(const struct cpu_mask *mask);
void tlb_flush_page_mask(const struct cpu_mask *mask, uint64_t va);
void tlb_flush_local(void);

/*
 * The flush clock: it advances with flushes. A page released at stamp s by a domain may be reused
 * differently without a flush on a CPU that has flushed all since s.
 */
uint32_t tlb_stamp(void);
/* Around a write to CR3, which forgets everything (no global pages, no PCID). */
uint64_t tlb_switch_begins(void);
void tlb_switch_ended(uint64_t tick);
void tlb_filter(struct cpu_mask *mask, uint32_t stamp); /* drop those that flushed since */
/* Tick of this CPU's last full flush: whoever keeps tagged translations (hvm/) ends them too. */
uint64_t tlb_last_flush(void);

/* MSR_TSC_AUX of the running vCPU; written only when it changes (cpu/msr.c). */
void cpu_set_tsc_aux(uint32_t value);

/* Runs @fn(arg) after every CPU has passed through a quiescent state. Never waits. */
struct grace {
    struct grace *next;
    void (*fn)(struct grace *);
    uint64_t seen[MAX_CPUS / 8]; /* private to cpu/grace.c */
};
void grace_call(struct grace *g, void (*fn)(struct grace *));

/* Exception fixups: a faulting address in [text] continues at fixup (cpu/extable.S macros). */
uint64_t extable_find(uint64_t rip);

/* Symbols, linked into the image by the Makefile; "?" when unknown. */
const char *symbol_find(uint64_t addr, uint64_t *offset);
/* In the order of addresses; NULL: there is no such number. */
const char *symbol_by_number(uint32_t number, uint64_t *addr);
void stack_trace(const struct cpu_user_regs *regs);
void regs_dump(const struct cpu_user_regs *regs);

void machine_reboot(void) __noreturn;
void machine_halt(void) __noreturn;

#endif
