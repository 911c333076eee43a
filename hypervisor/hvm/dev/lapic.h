/*
 * A local APIC as guests find it (APM vol. 2 chapter 16; Intel SDM vol. 3 chapter 11): xAPIC
 * registers in a page, x2APIC registers as MSRs. Pure: time, timers and other CPUs are reached by
 * struct lapic_ops, so it runs on a host under a test.
 *
 * Its own vCPU alone calls these functions, but for lapic_raise(), lapic_targets() and
 * lapic_timer_fired(), which anybody may: the IRR is atomic.
 */
#ifndef HVM_DEV_LAPIC_H
#define HVM_DEV_LAPIC_H

#include "hvm/dev/device.h"

#include <xen/hvm/save.h>

#define LAPIC_PAGE        0xfee00000UL
#define LAPIC_BASE_BSP    (1UL << 8)
#define LAPIC_BASE_X2APIC (1UL << 10)
#define LAPIC_BASE_ENABLE (1UL << 11)

/* Register numbers: offset in the page / 16, and MSR 0x800 + number. */
enum {
    LAPIC_ID = 0x02,
    LAPIC_VERSION = 0x03,
    LAPIC_TPR = 0x08,
    LAPIC_PPR = 0x0a,
    LAPIC_EOI = 0x0b,
    LAPIC_LDR = 0x0d,
    LAPIC_DFR = 0x0e,
    LAPIC_SVR = 0x0f,
    LAPIC_ISR = 0x10,
    LAPIC_TMR = 0x18,
    LAPIC_IRR = 0x20,
    LAPIC_ESR = 0x28,
    LAPIC_ICR = 0x30,
    LAPIC_ICR_HIGH = 0x31,
    LAPIC_LVT_TIMER = 0x32,
    LAPIC_LVT_THERMAL = 0x33,
    LAPIC_LVT_PERF = 0x34,
    LAPIC_LVT_LINT0 = 0x35,
    LAPIC_LVT_LINT1 = 0x36,
    LAPIC_LVT_ERROR = 0x37,
    LAPIC_TIMER_INITIAL = 0x38,
    LAPIC_TIMER_CURRENT = 0x39,
    LAPIC_TIMER_DIVIDE = 0x3e,
    LAPIC_SELF_IPI = 0x3f,
};
#define LAPIC_LVTS    6
#define LAPIC_TICK_NS 10 /* one count at divisor 1: a bus of 100 MHz */

/* Delivery modes of the ICR. */
enum {
    LAPIC_FIXED = 0,
    LAPIC_LOWEST = 1,
    LAPIC_NMI = 4,
    LAPIC_INIT = 5,
    LAPIC_STARTUP = 6,
    LAPIC_EXTINT = 7
};

struct lapic_ipi {
    uint8_t vector, mode;
    bool level; /* its end is to be told: lapic_ops.eoi */
    bool level_deassert;
    bool logical, x2apic; /* how @dest is meant */
    uint32_t dest;
    uint8_t shorthand; /* 0 none, 1 self, 2 all, 3 all but self */
};

struct lapic;
struct lapic_ops {
    uint64_t (*now)(void);                             /* ns */
    void (*set_timer)(struct lapic *l, uint64_t when); /* ~0: none */
    void (*send)(struct lapic *l, const struct lapic_ipi *ipi);
    uint64_t (*deadline_to_ns)(uint64_t tsc);
    void (*eoi)(struct lapic *l, uint8_t vector); /* of a level-triggered interrupt */
};

struct lapic {
    const struct lapic_ops *ops;
    uint32_t id;   /* full; the xAPIC shows its low 8 bits */
    uint64_t base; /* the MSR */
    uint32_t tpr, ldr, dfr, svr, esr, esr_found, icr_high, icr_low;
    uint32_t lvt[LAPIC_LVTS];
    uint32_t divide, initial;
    uint64_t started;  /* ns when the count began */
    uint64_t deadline; /* the MSR; 0 = off */
    uint32_t irr[8];   /* [a] */
    uint32_t isr[8];
    uint32_t tmr[8];    /* [a] level-triggered */
    bool wired;         /* [I] its LINT0 is the 8259s' output, let through after a reset */
    uint32_t owed_most; /* of the periodic timer's missed interrupts so many are made up for */
    uint32_t owed;
};

void lapic_reset(struct lapic *l, const struct lapic_ops *ops, uint32_t id, bool boot_cpu,
                 bool wired);
void lapic_init_signal(struct lapic *l); /* INIT: as reset, but id and base stay */
static inline bool lapic_x2apic(const struct lapic *l)
{
    return l->base & LAPIC_BASE_X2APIC;
}
static inline bool lapic_on(const struct lapic *l)
{
    return (l->base & LAPIC_BASE_ENABLE) && (READ_ONCE(l->svr) & (1u << 8));
}

/* The page: 32-bit accesses at @reg * 16. Reserved registers read 0. */
uint32_t lapic_read(struct lapic *l, unsigned reg);
void lapic_write(struct lapic *l, unsigned reg, uint32_t value);
/* MSRs 0x800 to 0x8ff, 0x1b and 0x6e0; -XEN_EPERM: #GP. */
int __must_check lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value);
int __must_check lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value);

bool lapic_raise(struct lapic *l, uint8_t vector); /* false: it is off or no such vector */
enum line_result lapic_trigger(struct lapic *l, uint8_t vector, bool level);
bool lapic_extint(const struct lapic *l);       /* LINT0 passes the 8259s' interrupt on */
uint32_t lapic_priority(const struct lapic *l); /* of what it does: the lowest gets the next */
/* LINT0 rises: as its entry says. An NMI is the caller's: true. */
bool lapic_lint0(struct lapic *l);
bool lapic_targets(const struct lapic *l, const struct lapic_ipi *ipi);
void lapic_timer_fired(struct lapic *l);
/* The vector to be taken next: in IRR, above what is in service; -1. */
int lapic_next(const struct lapic *l);
/* By the task priority; -1 is held back, too. */
static inline bool lapic_holds_back(const struct lapic *l, int vector)
{
    return vector >> 4 <= (int)(l->tpr >> 4);
}
int lapic_pending(const struct lapic *l);           /* not held back, too: can be taken now */
void lapic_accept(struct lapic *l, uint8_t vector); /* the CPU takes it */

/* --- records: the two of the ABI --- */
void lapic_save_base(const struct lapic *l, struct hvm_hw_lapic *base);
void lapic_save_regs(struct lapic *l, struct hvm_hw_lapic_regs *regs);
int __must_check lapic_check(const struct lapic *l, const struct hvm_hw_lapic *base);
int __must_check lapic_check_regs(const struct hvm_hw_lapic_regs *regs);
void lapic_load(struct lapic *l, const struct hvm_hw_lapic *base);
void lapic_load_regs(struct lapic *l, const struct hvm_hw_lapic_regs *regs); /* starts its timer */

#endif
