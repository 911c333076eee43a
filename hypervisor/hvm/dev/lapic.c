/*
 * The local APIC: registers, priorities, timer (dev/lapic.h).
 *
 * An interrupt waits in the IRR, is in service in the ISR from lapic_accept() to the EOI, and holds
 * back those of its own and lower priority classes (the vector's upper four bits) meanwhile. The
 * end of a level-triggered one (TMR) is told to the IO-APIC.
 *
 * The timer counts by computing: started, period and the time now say what the counter would show.
 * Interrupts of a periodic timer that came while one waited are owed, and follow the EOI.
 */
#include "hvm/dev/lapic.h"

#define SVR_ENABLED     (1u << 8)
#define VERSION         (0x14u | (LAPIC_LVTS - 1) << 16)
#define LVT_MASKED      (1u << 16)
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_REGISTER        (1u << 7)

#define MSR_BASE            0x1b
#define MSR_X2APIC_FIRST    0x800
#define MSR_X2APIC_LAST     0x8ff
#define MSR_TSC_DEADLINE    0x6e0

#define NEVER               (~0UL)
#define PERIOD_LEAST        200000UL /* ns: a shorter one would be nothing but interrupts */

static int highest(const uint32_t words[8])
{
#pragma GCC unroll 4
    for (int i = 6; i >= 0; i -= 2) { /* two at a time, as they are aligned */
        uint64_t w = READ_ONCE(*(const uint64_t *)&words[i]);
        if (w)
            return i * 32 + 63 - __builtin_clzl(w);
    }
    return -1;
}

static uint32_t ppr(const struct lapic *l)
{
    int in_service = highest(l->isr);
    uint32_t class = in_service < 0 ? 0 : in_service & 0xf0;
    return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

int lapic_next(const struct lapic *l)
{
    int v = highest(l->irr);
    return v >= 0 && lapic_on(l) && v >> 4 > highest(l->isr) >> 4 ? v : -1;
}

int lapic_pending(const struct lapic *l)
{
    int v = lapic_next(l);
    return lapic_holds_back(l, v) ? -1 : v;
}

void lapic_accept(struct lapic *l, uint8_t vector)
{
    __atomic_fetch_and(&l->irr[vector / 32], ~(1u << vector % 32), __ATOMIC_SEQ_CST);
    l->isr[vector / 32] |= 1u << vector % 32;
}

static void error(struct lapic *l, uint32_t bit)
{
    uint32_t before = __atomic_fetch_or(&l->esr_found, bit, __ATOMIC_SEQ_CST);
    uint32_t lvt = l->lvt[LAPIC_LVT_ERROR - LAPIC_LVT_TIMER];
    if (!(before & bit) && !(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        lapic_raise(l, lvt & 0xff);
}

enum line_result lapic_trigger(struct lapic *l, uint8_t vector, bool level)
{
    uint32_t bit = 1u << vector % 32;
    if (!lapic_on(l))
        return LINE_LOST;
    if (vector < 16) {
        __atomic_fetch_or(&l->esr_found, ESR_RECEIVE_ILLEGAL, __ATOMIC_SEQ_CST);
        return LINE_LOST;
    }
    if (level)
        __atomic_fetch_or(&l->tmr[vector / 32], bit, __ATOMIC_SEQ_CST);
    else if (READ_ONCE(l->tmr[vector / 32]) & bit)
        __atomic_fetch_and(&l->tmr[vector / 32], ~bit, __ATOMIC_SEQ_CST);
    uint32_t before = __atomic_fetch_or(&l->irr[vector / 32], bit, __ATOMIC_SEQ_CST);
    return before & bit ? LINE_MERGED : LINE_TAKEN;
}

bool lapic_raise(struct lapic *l, uint8_t vector)
{
    return lapic_trigger(l, vector, false) != LINE_LOST;
}

uint32_t lapic_priority(const struct lapic *l)
{
    return ppr(l);
}

static uint32_t lint0(const struct lapic *l)
{
    return READ_ONCE(l->lvt[LAPIC_LVT_LINT0 - LAPIC_LVT_TIMER]);
}

/* Without a local APIC the line is the CPU's own INTR. */
bool lapic_extint(const struct lapic *l)
{
    return !(l->base & LAPIC_BASE_ENABLE) ||
           (!(lint0(l) & LVT_MASKED) && (lint0(l) >> 8 & 7) == LAPIC_EXTINT);
}

bool lapic_lint0(struct lapic *l)
{
    uint32_t lvt = lint0(l), mode = lvt >> 8 & 7;
    if (!(l->base & LAPIC_BASE_ENABLE) || lvt & LVT_MASKED)
        return false;
    if (mode == LAPIC_FIXED)
        (void)lapic_trigger(l, lvt, false);
    return mode == LAPIC_NMI;
}

/* --- timer --- */

static uint32_t divisor(const struct lapic *l)
{
    uint32_t code = (l->divide & 3) | (l->divide >> 1 & 4);
    return code == 7 ? 1 : 2u << code;
}

static uint64_t period(const struct lapic *l)
{
    return (uint64_t)l->initial * divisor(l) * LAPIC_TICK_NS;
}

static uint32_t timer_lvt(const struct lapic *l)
{
    return l->lvt[0];
}

static void timer_start(struct lapic *l)
{
    uint64_t when = NEVER, p = period(l);
    if (TIMER_MODE(timer_lvt(l)) == TIMER_DEADLINE) {
        when = l->deadline ? l->ops->deadline_to_ns(l->deadline) : NEVER;
    } else if (p) {
        bool again = TIMER_MODE(timer_lvt(l)) == TIMER_PERIODIC;
        when = l->started + (again && p < PERIOD_LEAST ? PERIOD_LEAST : p);
    }
    l->ops->set_timer(l, when);
}

void lapic_timer_fired(struct lapic *l)
{
    uint32_t lvt = READ_ONCE(l->lvt[0]);
    bool merged = !(lvt & LVT_MASKED) && lapic_trigger(l, lvt, false) == LINE_MERGED;
    switch (TIMER_MODE(lvt)) {
    case TIMER_PERIODIC: {
        uint64_t p = period(l), now = l->ops->now();
        if (!p)
            break;
        p = p < PERIOD_LEAST ? PERIOD_LEAST : p;
        uint64_t n = now > l->started ? (now - l->started) / p : 0, owed = READ_ONCE(l->owed);
        owed += (n ? n - 1 : 0) + merged;
        WRITE_ONCE(l->owed, lvt & LVT_MASKED ? 0 : min(owed, (uint64_t)l->owed_most));
        WRITE_ONCE(l->started, l->started + n * p);
        l->ops->set_timer(l, l->started + p);
        break;
    }
    case TIMER_DEADLINE:
        WRITE_ONCE(l->deadline, 0);
        break;
    }
}

static uint32_t timer_current(const struct lapic *l)
{
    uint64_t p = period(l), gone = l->ops->now() - l->started;
    if (!p || TIMER_MODE(timer_lvt(l)) == TIMER_DEADLINE)
        return 0;
    if (TIMER_MODE(timer_lvt(l)) == TIMER_PERIODIC)
        gone %= p;
    else if (gone >= p)
        return 0;
    return (p - gone) / (divisor(l) * LAPIC_TICK_NS);
}

/* --- interprocessor interrupts --- */

static void send(struct lapic *l, uint32_t low, uint32_t dest)
{
    struct lapic_ipi ipi = {
        .vector = low,
        .mode = low >> 8 & 7,
        .logical = low >> 11 & 1,
        .level_deassert = !(low >> 14 & 1) && (low >> 15 & 1),
        .shorthand = low >> 18 & 3,
        .x2apic = lapic_x2apic(l),
        .dest = lapic_x2apic(l) ? dest : dest >> 24,
    };
    if ((ipi.mode == LAPIC_FIXED || ipi.mode == LAPIC_LOWEST) && ipi.vector < 16) {
        error(l, ESR_SEND_ILLEGAL);
        return;
    }
    l->ops->send(l, &ipi);
}

bool lapic_targets(const struct lapic *l, const struct lapic_ipi *ipi)
{
    uint32_t d = ipi->dest;
    if (!(l->base & LAPIC_BASE_ENABLE))
        return false;
    if (d == (ipi->x2apic ? 0xffffffffu : 0xffu))
        return true;
    if (!ipi->logical)
        return d == (lapic_x2apic(l) ? l->id : l->id & 0xff);
    if (lapic_x2apic(l)) {
        uint32_t ldr = l->id >> 4 << 16 | 1u << (l->id & 15);
        return (ldr & 0xffff0000) == (d & 0xffff0000) && (ldr & d & 0xffff);
    }
    uint32_t ldr = l->ldr >> 24;
    if (l->dfr >> 28 == 0xf) /* flat */
        return ldr & d;
    return (ldr & 0xf0) == (d & 0xf0) && (ldr & d & 0xf);
}

/* --- registers --- */

static void reset_registers(struct lapic *l)
{
    l->tpr = l->ldr = l->esr = l->esr_found = l->icr_high = l->icr_low = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] = LVT_MASKED;
    for (unsigned i = 0; i < 8; i++)
        l->isr[i] = l->irr[i] = l->tmr[i] = 0;
    if (l->wired)
        l->lvt[LAPIC_LVT_LINT0 - LAPIC_LVT_TIMER] = LAPIC_EXTINT << 8;
    l->divide = l->initial = l->owed = 0;
    l->deadline = 0;
}

void lapic_reset(struct lapic *l, const struct lapic_ops *ops, uint32_t id, bool boot_cpu,
                 bool wired)
{
    l->ops = ops;
    l->wired = wired;
    l->id = id;
    l->base = LAPIC_PAGE | LAPIC_BASE_ENABLE | (boot_cpu ? LAPIC_BASE_BSP : 0);
    reset_registers(l);
}

void lapic_init_signal(struct lapic *l)
{
    reset_registers(l);
    l->ops->set_timer(l, NEVER);
}

uint32_t lapic_read(struct lapic *l, unsigned reg)
{
    switch (reg) {
    case LAPIC_ID:
        return lapic_x2apic(l) ? l->id : l->id << 24;
    case LAPIC_VERSION:
        return VERSION;
    case LAPIC_TPR:
        return l->tpr;
    case LAPIC_PPR:
        return ppr(l);
    case LAPIC_LDR:
        return lapic_x2apic(l) ? l->id >> 4 << 16 | 1u << (l->id & 15) : l->ldr;
    case LAPIC_DFR:
        return l->dfr;
    case LAPIC_SVR:
        return l->svr;
    case LAPIC_ISR ... LAPIC_ISR + 7:
        return l->isr[reg - LAPIC_ISR];
    case LAPIC_TMR ... LAPIC_TMR + 7:
        return READ_ONCE(l->tmr[reg - LAPIC_TMR]);
    case LAPIC_IRR ... LAPIC_IRR + 7:
        return READ_ONCE(l->irr[reg - LAPIC_IRR]);
    case LAPIC_ESR:
        return l->esr;
    case LAPIC_ICR:
        return l->icr_low;
    case LAPIC_ICR_HIGH:
        return l->icr_high;
    case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR:
        return l->lvt[reg - LAPIC_LVT_TIMER];
    case LAPIC_TIMER_INITIAL:
        return TIMER_MODE(timer_lvt(l)) == TIMER_DEADLINE ? 0 : l->initial;
    case LAPIC_TIMER_CURRENT:
        return timer_current(l);
    case LAPIC_TIMER_DIVIDE:
        return l->divide;
    default:
        return 0;
    }
}

/* Writable bits of the local vector table, in its order. */
static const uint32_t lvt_masks[LAPIC_LVTS] = {0x700ff, 0x107ff, 0x107ff,
                                               0x1a7ff, 0x1a7ff, 0x100ff};

static void write_lvt(struct lapic *l, unsigned i, uint32_t value)
{
    uint32_t before = l->lvt[i];
    value &= lvt_masks[i] | LVT_MASKED;
    if (!(l->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    WRITE_ONCE(l->lvt[i], value);
    if (i == 0 && TIMER_MODE(before) != TIMER_MODE(value)) {
        l->initial = 0;
        l->deadline = 0;
        WRITE_ONCE(l->owed, 0);
        l->ops->set_timer(l, NEVER);
    }
}

static void write_svr(struct lapic *l, uint32_t value)
{
    WRITE_ONCE(l->svr, value & 0x3ff);
    for (unsigned i = 0; !(value & SVR_ENABLED) && i < LAPIC_LVTS; i++)
        l->lvt[i] |= LVT_MASKED;
}

/* One that was missed follows. The count may change under us: then by one more or less. */
static void pay(struct lapic *l)
{
    if (lapic_trigger(l, timer_lvt(l), false) == LINE_TAKEN)
        WRITE_ONCE(l->owed, READ_ONCE(l->owed) - 1);
}

static void eoi(struct lapic *l)
{
    int v = highest(l->isr);
    if (v < 0)
        return;
    l->isr[v / 32] &= ~(1u << v % 32);
    if (READ_ONCE(l->tmr[v / 32]) >> v % 32 & 1)
        l->ops->eoi(l, v);
    else if (READ_ONCE(l->owed) && (uint8_t)timer_lvt(l) == v)
        pay(l);
}

void lapic_write(struct lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case LAPIC_TPR:
        l->tpr = value & 0xff;
        break;
    case LAPIC_EOI:
        eoi(l);
        break;
    case LAPIC_LDR:
        l->ldr = value & 0xff000000;
        break;
    case LAPIC_DFR:
        l->dfr = value | 0x0fffffff;
        break;
    case LAPIC_SVR:
        write_svr(l, value);
        break;
    case LAPIC_ESR: /* shows what was found since the last write */
        l->esr = __atomic_exchange_n(&l->esr_found, 0, __ATOMIC_SEQ_CST);
        break;
    case LAPIC_ICR:
        l->icr_low = value & 0xccfff; /* never busy */
        send(l, value, l->icr_high);
        break;
    case LAPIC_ICR_HIGH:
        l->icr_high = value & 0xff000000;
        break;
    case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR:
        write_lvt(l, reg - LAPIC_LVT_TIMER, value);
        break;
    case LAPIC_TIMER_INITIAL:
        if (TIMER_MODE(timer_lvt(l)) == TIMER_DEADLINE)
            break;
        WRITE_ONCE(l->initial, value);
        WRITE_ONCE(l->owed, 0);
        WRITE_ONCE(l->started, l->ops->now());
        timer_start(l);
        break;
    case LAPIC_TIMER_DIVIDE: {
        uint64_t now = l->ops->now();
        uint32_t left = timer_current(l);
        l->divide = value & 0xb;
        if (left) { /* what is left counts on at the new speed */
            uint64_t gone = (uint64_t)(l->initial - left) * divisor(l) * LAPIC_TICK_NS;
            WRITE_ONCE(l->started, now - min(gone, now));
            timer_start(l);
        }
        break;
    }
    default:
        error(l, ESR_REGISTER);
        break;
    }
}

/* --- MSRs --- */

/* Registers that x2APIC mode has, by what may be done with them (SDM vol. 3 table 11-6). */
static bool x2apic_readable(unsigned reg)
{
    switch (reg) {
    case LAPIC_ID:
    case LAPIC_VERSION:
    case LAPIC_TPR:
    case LAPIC_PPR:
    case LAPIC_LDR:
    case LAPIC_SVR:
    case LAPIC_ISR ... LAPIC_IRR + 7:
    case LAPIC_ESR:
    case LAPIC_ICR:
    case LAPIC_LVT_TIMER ... LAPIC_TIMER_CURRENT:
    case LAPIC_TIMER_DIVIDE:
        return true;
    default:
        return false;
    }
}

int lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
    unsigned reg = msr - MSR_X2APIC_FIRST;
    if (msr == MSR_BASE) {
        *value = l->base;
        return 0;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = l->deadline;
        return 0;
    }
    if (!lapic_x2apic(l) || !x2apic_readable(reg))
        return -XEN_EPERM;
    *value = lapic_read(l, reg);
    if (reg == LAPIC_ICR)
        *value |= (uint64_t)l->icr_high << 32;
    return 0;
}

/* Off, xAPIC, x2APIC: not from off to x2APIC, nor back to xAPIC but by way of off. */
static int write_base(struct lapic *l, uint64_t value)
{
    const uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    uint64_t from = l->base & mode, to = value & mode;
    if ((value ^ l->base) & ~(mode | LAPIC_BASE_BSP))
        return -XEN_EPERM; /* the page stays where it is */
    if (to == LAPIC_BASE_X2APIC || (from == mode && to == LAPIC_BASE_ENABLE) ||
        (!from && to == mode))
        return -XEN_EPERM;
    if (from != to && !to)
        lapic_init_signal(l);
    WRITE_ONCE(l->base, (value & ~LAPIC_BASE_BSP) | (l->base & LAPIC_BASE_BSP));
    return 0;
}

static int write_x2apic(struct lapic *l, unsigned reg, uint64_t value)
{
    switch (reg) {
    case LAPIC_ICR:
        l->icr_low = value & 0xccfff;
        l->icr_high = value >> 32;
        send(l, value, value >> 32);
        return 0;
    case LAPIC_SELF_IPI:
        if (value >> 8)
            return -XEN_EPERM;
        send(l, value | 1u << 18, 0);
        return 0;
    case LAPIC_EOI:
    case LAPIC_ESR:
        if (value)
            return -XEN_EPERM;
        break;
    case LAPIC_TPR:
        if (value >> 8)
            return -XEN_EPERM;
        break;
    case LAPIC_SVR:
    case LAPIC_LVT_TIMER ... LAPIC_TIMER_INITIAL:
    case LAPIC_TIMER_DIVIDE:
        if (value >> 32)
            return -XEN_EPERM;
        break;
    default:
        return -XEN_EPERM;
    }
    lapic_write(l, reg, value);
    return 0;
}

int lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
    if (msr == MSR_BASE)
        return write_base(l, value);
    if (msr == MSR_TSC_DEADLINE) {
        if (TIMER_MODE(timer_lvt(l)) == TIMER_DEADLINE) {
            WRITE_ONCE(l->deadline, value);
            timer_start(l);
        }
        return 0;
    }
    if (!lapic_x2apic(l) || msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
        return -XEN_EPERM;
    return write_x2apic(l, msr - MSR_X2APIC_FIRST, value);
}

/* --- records --- */

#define DISABLED_BITS                                                                              \
    3u /* of hvm_hw_lapic.disabled: by the MSR, by SVR; both are read from there */

static void put(struct hvm_hw_lapic_regs *r, unsigned reg, uint32_t value)
{
    __builtin_memcpy(r->data + reg * 16, &value, sizeof(value));
}

static uint32_t get(const struct hvm_hw_lapic_regs *r, unsigned reg)
{
    uint32_t value;
    __builtin_memcpy(&value, r->data + reg * 16, sizeof(value));
    return value;
}

void lapic_save_base(const struct lapic *l, struct hvm_hw_lapic *base)
{
    *base = (struct hvm_hw_lapic){
        .apic_base_msr = l->base,
        .disabled = (l->base & LAPIC_BASE_ENABLE ? 0 : 1) | (l->svr & SVR_ENABLED ? 0 : 2),
        .timer_divisor = divisor(l),
        .tdt_msr = l->deadline,
    };
}

void lapic_save_regs(struct lapic *l, struct hvm_hw_lapic_regs *regs)
{
    __builtin_memset(regs, 0, sizeof(*regs));
    for (unsigned reg = LAPIC_ID; reg <= LAPIC_TIMER_DIVIDE; reg++)
        put(regs, reg, lapic_read(l, reg));
    put(regs, LAPIC_ICR_HIGH, l->icr_high);
}

int lapic_check(const struct lapic *l, const struct hvm_hw_lapic *b)
{
    const uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    if ((b->apic_base_msr ^ l->base) & ~mode || (b->apic_base_msr & mode) == LAPIC_BASE_X2APIC)
        return -XEN_EINVAL; /* another page, another boot CPU, or no such mode */
    return b->disabled & ~DISABLED_BITS ? -XEN_EINVAL : 0;
}

int lapic_check_regs(const struct hvm_hw_lapic_regs *r)
{
    if (get(r, LAPIC_TPR) >> 8 || get(r, LAPIC_SVR) & ~0x3ffu || get(r, LAPIC_TIMER_DIVIDE) & ~0xbu)
        return -XEN_EINVAL;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        if (get(r, LAPIC_LVT_TIMER + i) & ~(lvt_masks[i] | LVT_MASKED))
            return -XEN_EINVAL;
    /* There are no vectors below 16. */
    return (get(r, LAPIC_ISR) | get(r, LAPIC_IRR) | get(r, LAPIC_TMR)) & 0xffff ? -XEN_EINVAL : 0;
}

void lapic_load(struct lapic *l, const struct hvm_hw_lapic *b)
{
    WRITE_ONCE(l->base, b->apic_base_msr);
    l->deadline = b->tdt_msr;
}

void lapic_load_regs(struct lapic *l, const struct hvm_hw_lapic_regs *r)
{
    l->tpr = get(r, LAPIC_TPR);
    l->ldr = get(r, LAPIC_LDR) & 0xff000000;
    l->dfr = get(r, LAPIC_DFR) | 0x0fffffff;
    WRITE_ONCE(l->svr, get(r, LAPIC_SVR));
    l->esr = get(r, LAPIC_ESR);
    l->icr_low = get(r, LAPIC_ICR) & 0xccfff;
    l->icr_high = get(r, LAPIC_ICR_HIGH);
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        WRITE_ONCE(l->lvt[i], get(r, LAPIC_LVT_TIMER + i));
    for (unsigned i = 0; i < 8; i++) {
        l->isr[i] = get(r, LAPIC_ISR + i);
        WRITE_ONCE(l->irr[i], get(r, LAPIC_IRR + i));
        WRITE_ONCE(l->tmr[i], get(r, LAPIC_TMR + i));
    }
    l->divide = get(r, LAPIC_TIMER_DIVIDE);
    l->initial = get(r, LAPIC_TIMER_INITIAL);
    uint32_t left = min(get(r, LAPIC_TIMER_CURRENT), l->initial);
    uint64_t now = l->ops->now();
    uint64_t gone = (uint64_t)(l->initial - left) * divisor(l) * LAPIC_TICK_NS;
    WRITE_ONCE(l->started, now - min(gone, now));
    WRITE_ONCE(l->owed, 0);
    bool over = TIMER_MODE(timer_lvt(l)) == TIMER_ONESHOT && !left;
    if (over)
        l->ops->set_timer(l, NEVER);
    else
        timer_start(l);
}
