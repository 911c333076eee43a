/*
 * ACPI's timer and the event registers of PM1a (ACPI 6.4 section 4.8), as far as they are the
 * hypervisor's by the ABI's record: the timer, its and the buttons' status and enable bits, and the
 * SCI that they make. PM1a control and the general-purpose events are the device model's.
 */
#ifndef HVM_DEV_PMTIMER_H
#define HVM_DEV_PMTIMER_H

#include "lib/compiler.h"
#include "lib/types.h"

#include <xen/hvm/save.h>

#define PMTIMER_HZ    3579545u

#define PM1_TIMER     0x0001u
#define PM1_GLOBAL    0x0020u
#define PM1_POWER_BTN 0x0100u
#define PM1_SLEEP_BTN 0x0200u
#define PM1_RTC       0x0400u

struct pmtimer {
    uint32_t base;    /* what it showed at: */
    uint64_t start;   /* ns */
    uint64_t halves;  /* changes of its top bit that the status knows of */
    uint16_t sts, en; /* PM1a_STS, PM1a_EN */
};

void pmtimer_reset(struct pmtimer *t, uint64_t now);
uint32_t pmtimer_value(const struct pmtimer *t, uint64_t now);
/* Status (low half) and enable register. */
uint32_t pmtimer_events(const struct pmtimer *t);
void pmtimer_write(struct pmtimer *t, uint32_t value, uint32_t mask); /* @mask: bits written */
void pmtimer_button(struct pmtimer *t, uint16_t bit);
void pmtimer_advance(struct pmtimer *t, uint64_t now);
uint64_t pmtimer_next(const struct pmtimer *t); /* DEV_NEVER */
bool pmtimer_sci(const struct pmtimer *t);      /* the interrupt's level */

void pmtimer_save(const struct pmtimer *t, struct hvm_hw_pmtimer *out, uint64_t now);
int __must_check pmtimer_check(const struct hvm_hw_pmtimer *in);
void pmtimer_load(struct pmtimer *t, const struct hvm_hw_pmtimer *in, uint64_t now);

#endif
