/*
 * The platform's own parts: platform.c has the devices, their timers and accesses, wires.c how
 * lines reach the interrupt controllers.
 *
 * Lines are numbered as the IO-APIC's inputs (GSIs). ISA interrupt n is input n, but for 0, which
 * is input 2; inputs below 16 are the 8259s' too. Each has several sources, wired together.
 */
#ifndef HVM_PLATFORM_INTERNAL_H
#define HVM_PLATFORM_INTERNAL_H

#include "hvm/dev/hpet.h"
#include "hvm/dev/ioapic.h"
#include "hvm/dev/pic.h"
#include "hvm/dev/pit.h"
#include "hvm/dev/pmtimer.h"
#include "hvm/dev/rtc.h"
#include "hvm/hvm.h"
#include "hvm/platform.h"

enum line_source {
    SOURCE_ISA,  /* device models */
    SOURCE_LINK, /* PCI lines by the router to ISA interrupts */
    SOURCE_PCI,  /* PCI lines at inputs of their own */
    SOURCE_CALLBACK,
    SOURCE_SCI,
    SOURCE_RTC,
    SOURCE_HPET, /* levels; edges are pulses, as the PIT's */
    SOURCES
};

#define PCI_DEVICES 32u
#define PCI_PINS    4u
#define PCI_LINKS   4u
#define ISA_IRQS    16u
#define SCI_IRQ     9u

/* Who may be owed ticks: the PIT, then the HPET's timers. (The RTC keeps its own count.) */
#define TICKERS (1 + HPET_TIMERS)

struct platform {
    struct domain *domain; /* [I] */
    struct spinlock lock;  /* RANK_PLATFORM: all but what is said */
    bool stopped;
    struct pic pic;
    struct ioapic ioapic;
    struct pit pit;
    struct rtc rtc;
    struct hpet hpet;
    struct pmtimer pm;
    struct timer pit_timer, rtc_timer, hpet_timer, pm_timer;

    uint64_t level[SOURCES]; /* by line */
    uint64_t pci_wires[2];   /* device * 4 + INTx, as device models drive them */
    uint8_t pci_count[32], link_count[PCI_LINKS]; /* wires that are up, and the callback's */
    uint8_t route[PCI_LINKS];

    uint64_t callback;   /* HVM_PARAM_CALLBACK_IRQ when it is a line; [a] 0: it is none */
    bool callback_level; /* [a] */
    bool extint;         /* [a] the 8259s' output */

    uint32_t owed[TICKERS];
    uint8_t owed_line[TICKERS];
    bool owed_any; /* [a] */
};

static inline struct platform *platform_of(const struct domain *d)
{
    return d->hvm->platform;
}
static inline unsigned isa_line(unsigned irq)
{
    return irq ? irq : 2;
}
static inline bool platform_has(const struct platform *p, uint32_t flag)
{
    return p->domain->emulation & flag;
}

/* --- platform.c --- */
void platform_unlock(struct platform *p); /* tells vCPU 0 of the 8259s' output */
/* Brings every device up to date and sets its timer. */
void platform_update_all(struct platform *p);

/* --- wires.c; the lock is held --- */
void wires_set(struct platform *p, enum line_source s, uint64_t levels);
static inline void wires_set_one(struct platform *p, enum line_source s, unsigned line, bool level)
{
    uint64_t bit = 1UL << line;
    wires_set(p, s, level ? p->level[s] | bit : p->level[s] & ~bit);
}
/* A short rise, for edges. */
enum line_result wires_pulse(struct platform *p, unsigned line);
void wires_pci(struct platform *p, unsigned device, unsigned intx, bool level);
void wires_reroute(struct platform *p); /* the router has changed */
void wires_recount(struct platform *p); /* pci_wires has changed as a whole */
void wires_callback(struct platform *p, bool level);
extern const struct ioapic_ops wires_ioapic_ops;

#endif
