/*
 * Interrupts: vectors, local APIC, IO-APICs, MSI; lines (GSIs) and MSIs as numbered irqs with one
 * handler each. Lines that belong to a domain are handled by event/pirq.c through irq_bind().
 *
 * An irq number below `irq_gsi_count` is that GSI; MSIs get numbers above. Lock: RANK_IRQ per irq,
 * RANK_IOAPIC and RANK_PCI below it.
 */
#ifndef IRQ_IRQ_H
#define IRQ_IRQ_H

#include "cpu/cpu.h"
#include "lib/compiler.h"
#include "lib/spinlock.h"
#include "lib/types.h"

#define MAX_IRQS 1024

/* Vectors we keep for ourselves; device interrupts get 0x30..0xdf by priority. */
#define VECTOR_SPURIOUS 0xff
#define VECTOR_TIMER    0xf0
#define VECTOR_TLB      0xf1
#define VECTOR_CALL     0xf2
#define VECTOR_RESCHED  0xf3
#define VECTOR_ERROR    0xfe

typedef void (*irq_handler)(unsigned irq, void *data);

extern unsigned irq_gsi_count; /* [I] */

void irq_init(void);   /* PICs masked, IO-APICs found and masked, vectors installed */
void lapic_init(void); /* this CPU's */
bool lapic_is_x2apic(void);
uint32_t lapic_id(void);
void lapic_eoi(void);
void lapic_send_ipi(uint32_t apic_id, uint8_t vector);
void lapic_send_init(uint32_t apic_id);
void lapic_send_startup(uint32_t apic_id, uint8_t page);
void lapic_timer_set(uint64_t tsc_deadline); /* 0 = off; fires VECTOR_TIMER */
void lapic_timer_calibrate(void);            /* against time/source.c */

/*
 * Takes line or MSI @irq for @handler. -XEN_EBUSY when taken, -XEN_ENOSPC without a free vector,
 * -XEN_EINVAL when there is no such irq. Starts masked.
 */
int __must_check irq_bind(unsigned irq, irq_handler handler, void *data, unsigned cpu);
void irq_unbind(unsigned irq); /* masks, waits for a running handler, frees the vector */
void irq_mask(unsigned irq);
void irq_unmask(unsigned irq);
/* Level-triggered lines are masked when they fire; the owner unmasks by this when it is done. */
void irq_done(unsigned irq);
bool irq_is_level(unsigned irq);
bool irq_needs_eoi(unsigned irq); /* irq_done() must be called after each firing */
/* -XEN_EBUSY once bound with another setting. Trigger and polarity of a GSI (PHYSDEVOP_setup_gsi).
 */
int __must_check irq_set_trigger(unsigned gsi, bool level, bool active_low);
void irq_set_affinity(unsigned irq, unsigned cpu);

/*
 * MSI and MSI-X of PCI functions; we write the capability or table entry ourselves.
 * Returns a fresh irq number or a negative errno. @entry: MSI-X table index; @table: machine
 * address of the MSI-X table's BAR as the caller says, 0 for MSI. @count > 1: multi-message MSI.
 */
struct msi_request {
    uint16_t segment;
    uint8_t bus, devfn;
    uint16_t entry;
    uint64_t table_base; /* 0 = plain MSI */
};
int __must_check msi_alloc(const struct msi_request *req);
void msi_free(unsigned irq);
int __must_check msi_restore(uint16_t segment, uint8_t bus, uint8_t devfn); /* after a reset */

/* PCI configuration space: MCFG where it covers, ports 0xcf8/0xcfc otherwise. size 1, 2, 4. */
uint32_t pci_read(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size);
void pci_write(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size,
               uint32_t value);

#endif
