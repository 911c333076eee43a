/*
 * The HPET (dev/hpet.h). Everything is kept in ticks since boot: the counter is a difference, and
 * each timer knows at which tick its comparator next matches. What changes the counter, a
 * comparator or its mode computes that anew.
 */
#include "hvm/dev/hpet.h"

#include "hvm/dev/device.h"
#include "lib/string.h"

#define CAPABILITY                                                                                 \
    (HPET_TICK_NS * 1000000UL << 32 | 0x8086UL << 16 | 1UL << 15 | 1UL << 13 |                     \
     (HPET_TIMERS - 1) << 8 | 1)

#define CONFIG_ENABLE    1u
#define CONFIG_LEGACY    2u

#define TIMER_LEVEL      (1u << 1)
#define TIMER_ENABLE     (1u << 2)
#define TIMER_PERIODIC   (1u << 3)
#define TIMER_CAN_REPEAT (1u << 4)
#define TIMER_64BIT      (1u << 5)
#define TIMER_SET_VAL    (1u << 6)
#define TIMER_32         (1u << 8)
#define TIMER_ROUTE(c)   ((c) >> 9 & 31)
#define TIMER_WRITABLE                                                                             \
    (TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_SET_VAL | TIMER_32 | 0x3e00u)
#define TIMER_FIXED    ((uint64_t)HPET_PINS << 32 | TIMER_CAN_REPEAT | TIMER_64BIT)

#define REG_CAPABILITY 0x000
#define REG_CONFIG     0x010
#define REG_ISR        0x020
#define REG_COUNTER    0x0f0
#define REG_TIMERS     0x100 /* 0x20 each: configuration, comparator */

#define LEAST          (DEV_PERIOD_LEAST / HPET_TICK_NS)

static uint64_t ticks(uint64_t now)
{
    return now / HPET_TICK_NS;
}

static bool running(const struct hpet *h)
{
    return h->config & CONFIG_ENABLE;
}

static uint64_t counter(const struct hpet *h, uint64_t now)
{
    return running(h) ? h->base + ticks(now) - h->start : h->base;
}

static uint64_t mask(const struct hpet_timer *t)
{
    return t->config & TIMER_32 ? 0xffffffff : ~0UL;
}

static bool repeats(const struct hpet_timer *t)
{
    return (t->config & TIMER_PERIODIC) && (t->period & mask(t));
}

/*
 * When the comparator matches from now on. A repeating one that the counter has passed matches
 * again when the counter has gone round, as any other.
 */
static void plan(struct hpet *h, struct hpet_timer *t, uint64_t now)
{
    t->due = running(h) ? clock_add(ticks(now), (t->cmp - counter(h, now)) & mask(t)) : DEV_NEVER;
}

static void plan_all(struct hpet *h, uint64_t now)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        plan(h, &h->timer[n], now);
}

static void match(struct hpet *h, unsigned n, uint64_t now)
{
    struct hpet_timer *t = &h->timer[n];
    uint64_t late = ticks(now) - t->due, period = t->period & mask(t), times = 1;
    if (repeats(t)) { /* of shorter periods as many at once as make LEAST */
        uint64_t step = period < LEAST ? (LEAST + period - 1) / period * period : period;
        times = late / step + 1;
        t->cmp = (t->cmp + times * step) & mask(t);
        t->due = clock_add(t->due, times * step);
    } else {
        uint64_t turn = mask(t); /* less one: of 64 bits nobody sees it again */
        t->due = turn == ~0UL ? DEV_NEVER : t->due + (late / (turn + 1) + 1) * (turn + 1);
    }
    if (!(t->config & TIMER_ENABLE))
        return;
    if (t->config & TIMER_LEVEL)
        h->isr |= 1u << n;
    t->events = min(t->events + times, 0xffffUL);
}

void hpet_advance(struct hpet *h, uint64_t now)
{
    for (unsigned n = 0; running(h) && n < HPET_TIMERS; n++)
        if (h->timer[n].due <= ticks(now))
            match(h, n, now);
}

/* What nobody would hear of needs no timer. */
uint64_t hpet_next(const struct hpet *h)
{
    uint64_t next = DEV_NEVER;
    for (unsigned n = 0; running(h) && n < HPET_TIMERS; n++) {
        const struct hpet_timer *t = &h->timer[n];
        bool isa;
        if (!(t->config & TIMER_ENABLE) || t->due == DEV_NEVER || hpet_route(h, n, &isa) < 0)
            continue;
        uint64_t ns = t->due > DEV_NEVER / HPET_TICK_NS ? DEV_NEVER : t->due * HPET_TICK_NS;
        next = ns < next ? ns : next;
    }
    return next;
}

int hpet_route(const struct hpet *h, unsigned n, bool *isa)
{
    unsigned pin = TIMER_ROUTE(h->timer[n].config);
    *isa = hpet_legacy(h) && n < 2;
    if (*isa)
        return n ? 8 : 0;
    return HPET_PINS >> pin & 1 ? (int)pin : -1;
}

bool hpet_is_level(const struct hpet *h, unsigned n)
{
    return h->timer[n].config & TIMER_LEVEL;
}

bool hpet_level(const struct hpet *h, unsigned n)
{
    return (h->timer[n].config & TIMER_ENABLE) && (h->isr >> n & 1);
}

/* --- registers --- */

uint64_t hpet_read(const struct hpet *h, unsigned offset, unsigned size, uint64_t now)
{
    unsigned reg = offset & ~7u, n = (reg - REG_TIMERS) / 0x20;
    uint64_t value = 0;
    if ((size != 4 && size != 8) || offset & (size - 1))
        return 0;
    if (reg == REG_CAPABILITY)
        value = CAPABILITY;
    else if (reg == REG_CONFIG)
        value = h->config;
    else if (reg == REG_ISR)
        value = h->isr;
    else if (reg == REG_COUNTER)
        value = counter(h, now);
    else if (reg >= REG_TIMERS && n < HPET_TIMERS && !(reg & 0x10))
        value = reg & 8 ? h->timer[n].cmp : h->timer[n].config | TIMER_FIXED;
    return size == 8 ? value : (uint32_t)(value >> 8 * (offset & 4));
}

static void write_config(struct hpet *h, uint64_t value, uint64_t now)
{
    uint64_t count = counter(h, now);
    bool was = running(h);
    h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (was != running(h)) {
        h->base = count;
        h->start = ticks(now);
        plan_all(h, now);
    }
}

static void write_timer_config(struct hpet *h, struct hpet_timer *t, uint64_t value, uint64_t now)
{
    uint64_t changed = t->config ^ value;
    t->config = value & TIMER_WRITABLE;
    t->cmp &= mask(t);
    if (!(t->config & TIMER_LEVEL))
        h->isr &= ~(1UL << (t - h->timer));
    if (changed & (TIMER_32 | TIMER_PERIODIC))
        plan(h, t, now);
}

/* The period is what was last written; the comparator too, but in a repeating timer only if asked.
 */
static void write_comparator(struct hpet *h, struct hpet_timer *t, uint64_t value, uint64_t keep,
                             uint64_t now)
{
    t->period = ((t->period & keep) | value) & mask(t);
    if (!(t->config & TIMER_PERIODIC) || (t->config & TIMER_SET_VAL)) {
        t->cmp = ((t->cmp & keep) | value) & mask(t);
        t->config &= ~TIMER_SET_VAL;
        plan(h, t, now);
    }
}

void hpet_write(struct hpet *h, unsigned offset, unsigned size, uint64_t value, uint64_t now)
{
    unsigned reg = offset & ~7u, n = (reg - REG_TIMERS) / 0x20;
    uint64_t keep = 0; /* bits that are not written */
    if ((size != 4 && size != 8) || offset & (size - 1))
        return;
    if (size == 4) {
        keep = offset & 4 ? 0xffffffffUL : 0xffffffff00000000UL;
        value = (uint64_t)(uint32_t)value << 8 * (offset & 4);
    }
    hpet_advance(h, now);
    if (reg == REG_CONFIG) {
        write_config(h, (h->config & keep) | value, now);
    } else if (reg == REG_ISR) {
        h->isr &= ~value;
    } else if (reg == REG_COUNTER) {
        h->base = (counter(h, now) & keep) | value;
        h->start = ticks(now);
        plan_all(h, now);
    } else if (reg >= REG_TIMERS && n < HPET_TIMERS && !(reg & 0x10)) {
        struct hpet_timer *t = &h->timer[n];
        if (reg & 8)
            write_comparator(h, t, value, keep, now);
        else
            write_timer_config(h, t, (t->config & keep) | value, now);
    }
}

void hpet_reset(struct hpet *h)
{
    memset(h, 0, sizeof(*h));
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timer[n].cmp = ~0UL;
        h->timer[n].due = DEV_NEVER;
    }
}

/* --- records --- */

void hpet_save(const struct hpet *h, struct hvm_hw_hpet *r, uint64_t now)
{
    memset(r, 0, sizeof(*r));
    r->capability = CAPABILITY;
    r->config = h->config;
    r->isr = h->isr;
    r->mc64 = counter(h, now);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        r->timers[n].config = h->timer[n].config | TIMER_FIXED;
        r->timers[n].cmp = h->timer[n].cmp;
        r->period[n] = h->timer[n].period;
    }
}

int hpet_check(const struct hvm_hw_hpet *r)
{
    if (r->capability != CAPABILITY || r->config & ~(uint64_t)(CONFIG_ENABLE | CONFIG_LEGACY) ||
        r->isr >> HPET_TIMERS)
        return -XEN_EINVAL;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        uint64_t c = r->timers[n].config, m = c & TIMER_32 ? 0xffffffff : ~0UL;
        if ((c & ~(uint64_t)TIMER_WRITABLE) != TIMER_FIXED || r->timers[n].cmp & ~m ||
            r->period[n] & ~m)
            return -XEN_EINVAL;
    }
    return 0;
}

void hpet_load(struct hpet *h, const struct hvm_hw_hpet *r, uint64_t now)
{
    hpet_reset(h);
    h->config = r->config;
    h->isr = r->isr;
    h->base = r->mc64;
    h->start = ticks(now);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timer[n].config = r->timers[n].config & TIMER_WRITABLE;
        h->timer[n].cmp = r->timers[n].cmp;
        h->timer[n].period = r->period[n];
    }
    plan_all(h, now);
}
