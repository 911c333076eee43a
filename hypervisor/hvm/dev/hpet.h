/*
 * A high-precision event timer (IA-PC HPET 1.0a) at 0xfed00000: a counter of 64 bits and three
 * timers, all of which can repeat; legacy replacement routing; no messages. Its clock is 62.5 MHz.
 */
#ifndef HVM_DEV_HPET_H
#define HVM_DEV_HPET_H

#include "lib/compiler.h"
#include "lib/types.h"

#include <xen/hvm/save.h>

#define HPET_PAGE    0xfed00000UL
#define HPET_TICK_NS 16
#define HPET_TIMERS  HPET_TIMER_NUM
#define HPET_PINS    0x00f00000u /* inputs of the IO-APIC that a timer can be routed to */

struct hpet_timer {
    uint64_t config, cmp, period;
    uint64_t due;    /* ticks since boot when it next matches; DEV_NEVER */
    uint32_t events; /* matches that hpet_advance() found */
};

struct hpet {
    uint64_t config, isr;
    uint64_t base;  /* the counter: this, */
    uint64_t start; /* and the ticks since boot less these while it runs */
    struct hpet_timer timer[HPET_TIMERS];
};

void hpet_reset(struct hpet *h);
/* 4 or 8 bytes, aligned: else reads give 0 and writes are ignored. */
uint64_t hpet_read(const struct hpet *h, unsigned offset, unsigned size, uint64_t now);
void hpet_write(struct hpet *h, unsigned offset, unsigned size, uint64_t value, uint64_t now);
/* Counts matches into timer[].events, which the caller takes; sets status of levels. */
void hpet_advance(struct hpet *h, uint64_t now);
uint64_t hpet_next(const struct hpet *h); /* ns; DEV_NEVER */

static inline bool hpet_legacy(const struct hpet *h)
{
    return (h->config & 3) == 3;
}
/* Where timer @n interrupts: an input of the IO-APIC, an ISA interrupt (legacy), or nowhere (-1).
 */
int hpet_route(const struct hpet *h, unsigned n, bool *isa);
bool hpet_is_level(const struct hpet *h, unsigned n);
bool hpet_level(const struct hpet *h, unsigned n); /* its line, when it is */

void hpet_save(const struct hpet *h, struct hvm_hw_hpet *out, uint64_t now);
int __must_check hpet_check(const struct hvm_hw_hpet *in);
void hpet_load(struct hpet *h, const struct hvm_hw_hpet *in, uint64_t now);

#endif
