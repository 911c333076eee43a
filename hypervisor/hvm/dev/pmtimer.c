/* ACPI's timer and PM1a's events (dev/pmtimer.h): 32 bits; its status is set when bit 31 changes.
 */
#include "hvm/dev/pmtimer.h"

#include "hvm/dev/device.h"
#include "lib/string.h"

#define HALF   (1UL << 31)
#define EVENTS (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BTN | PM1_SLEEP_BTN | PM1_RTC)
#define STATUS (EVENTS | 0x8010u) /* and bus master, wake: written as ones, they are cleared */

static uint64_t count(const struct pmtimer *t, uint64_t now)
{
    return t->base + (now > t->start ? clock_ticks(now - t->start, PMTIMER_HZ) : 0);
}

uint32_t pmtimer_value(const struct pmtimer *t, uint64_t now)
{
    return count(t, now);
}

uint32_t pmtimer_events(const struct pmtimer *t)
{
    return t->sts | (uint32_t)t->en << 16;
}

void pmtimer_write(struct pmtimer *t, uint32_t value, uint32_t mask)
{
    uint16_t en_mask = mask >> 16;
    t->sts &= ~(value & mask & STATUS);
    t->en = ((t->en & ~en_mask) | (value >> 16 & en_mask)) & EVENTS;
}

void pmtimer_button(struct pmtimer *t, uint16_t bit)
{
    t->sts |= bit;
}

void pmtimer_advance(struct pmtimer *t, uint64_t now)
{
    uint64_t halves = count(t, now) / HALF;
    if (halves > t->halves) {
        t->sts |= PM1_TIMER;
        t->halves = halves;
    }
}

uint64_t pmtimer_next(const struct pmtimer *t)
{
    if (!(t->en & PM1_TIMER) || (t->sts & PM1_TIMER))
        return DEV_NEVER;
    return clock_add(t->start, clock_ns((t->halves + 1) * HALF - t->base, PMTIMER_HZ));
}

bool pmtimer_sci(const struct pmtimer *t)
{
    return t->sts & t->en & EVENTS;
}

void pmtimer_reset(struct pmtimer *t, uint64_t now)
{
    memset(t, 0, sizeof(*t));
    t->start = now;
}

/* --- records --- */

void pmtimer_save(const struct pmtimer *t, struct hvm_hw_pmtimer *r, uint64_t now)
{
    memset(r, 0, sizeof(*r));
    r->tmr_val = pmtimer_value(t, now);
    r->pm1a_sts = t->sts;
    r->pm1a_en = t->en;
}

int pmtimer_check(const struct hvm_hw_pmtimer *r)
{
    return r->pm1a_sts & ~STATUS || r->pm1a_en & ~EVENTS ? -XEN_EINVAL : 0;
}

void pmtimer_load(struct pmtimer *t, const struct hvm_hw_pmtimer *r, uint64_t now)
{
    pmtimer_reset(t, now);
    t->base = r->tmr_val;
    t->halves = t->base / HALF;
    t->sts = r->pm1a_sts;
    t->en = r->pm1a_en;
}
