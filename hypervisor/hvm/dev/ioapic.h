/*
 * The IO-APIC (82093AA) at 0xfec00000, with as many inputs as the ABI's record has: 16 for ISA, 32
 * for PCI. Where its messages go, and the 8259s for an input in ExtINT mode, are the caller's.
 */
#ifndef HVM_DEV_IOAPIC_H
#define HVM_DEV_IOAPIC_H

#include "hvm/dev/lapic.h"
#include "hvm/dev/pic.h"

#define IOAPIC_PAGE 0xfec00000UL
#define IOAPIC_PINS VIOAPIC_NUM_PINS

struct ioapic;
struct ioapic_ops {
    /* To the local APICs. */
    enum line_result (*send)(struct ioapic *io, const struct lapic_ipi *ipi);
    /* NULL, or: a level's interrupt has ended, and its source may say anew whether it wants one. */
    void (*done)(struct ioapic *io, unsigned pin);
};

struct ioapic {
    const struct ioapic_ops *ops;
    struct hvm_hw_vioapic regs; /* as they are saved */
    uint64_t lines;             /* the inputs as they are now */
};

void ioapic_reset(struct ioapic *io, const struct ioapic_ops *ops);
/* Registers at @offset in the page, by 32 bits; others read 0 and ignore writes. */
uint32_t ioapic_read(struct ioapic *io, unsigned offset);
void ioapic_write(struct ioapic *io, unsigned offset, uint32_t value);
enum line_result ioapic_set_line(struct ioapic *io, unsigned pin, bool level);
/* A local APIC ended a level-triggered interrupt of this vector. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
bool ioapic_extint(const struct ioapic *io); /* input 0 passes the 8259s' interrupt on */

int __must_check ioapic_check(const struct hvm_hw_vioapic *in);
void ioapic_load(struct ioapic *io, const struct hvm_hw_vioapic *in);

#endif
