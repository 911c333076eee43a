/*
 * The machine around a guest's CPUs (platform.h): its devices, their timers, and the guest's
 * accesses to them. Each device is pure (hvm/dev/); what is done here is always the same: lock,
 * bring the device up to the time, do the access, drive its lines, set its timer, unlock.
 *
 * Ticks: an interrupt of a repeating timer that finds an earlier one not yet taken is owed, as many
 * as HVM_PARAM_TIMER_MODE says, and given when the guest has taken that (platform_sync()).
 */
#include "event/event.h"
#include "hvm/platform_internal.h"
#include "lib/string.h"

#include <xen/hvm/ioreq.h>

#define TICKER_PIT 0

/* --- the 8259s' output --- */

void platform_unlock(struct platform *p)
{
    bool out = pic_pending(&p->pic) >= 0, was = p->extint;
    struct vcpu *v = READ_ONCE(p->domain->vcpu[0]);
    WRITE_ONCE(p->extint, out);
    spin_unlock(&p->lock);
    if (!v || !out || was)
        return;
    if (lapic_lint0(&v->hvm->lapic))
        hvm_signal(v, HVM_SIGNAL_NMI);
    hvm_kick(v);
}

bool platform_extint(const struct vcpu *v)
{
    const struct platform *p = platform_of(v->domain);
    if (v->id || !p || !READ_ONCE(p->extint))
        return false;
    return lapic_extint(&v->hvm->lapic) || (lapic_on(&v->hvm->lapic) && ioapic_extint(&p->ioapic));
}

int platform_peek_extint(struct vcpu *v, unsigned *irq)
{
    struct platform *p = platform_of(v->domain);
    spin_lock(&p->lock);
    int n = pic_pending(&p->pic), vector = n < 0 ? n : pic_vector(&p->pic, n);
    platform_unlock(p);
    *irq = n < 0 ? 0 : n;
    return vector;
}

void platform_accept(struct vcpu *v, unsigned irq)
{
    struct platform *p = platform_of(v->domain);
    spin_lock(&p->lock);
    pic_accept(&p->pic, irq);
    platform_unlock(p);
}

void platform_eoi(struct domain *d, uint8_t vector)
{
    struct platform *p = platform_of(d);
    if (!p)
        return;
    spin_lock(&p->lock);
    ioapic_eoi(&p->ioapic, vector);
    platform_unlock(p);
}

/* --- ticks --- */

static void note_owed(struct platform *p)
{
    bool any = false;
    for (unsigned i = 0; i < TICKERS; i++)
        any |= p->owed[i] != 0;
    WRITE_ONCE(p->owed_any, any);
}

static void tick(struct platform *p, unsigned ticker, unsigned line, uint64_t times)
{
    enum line_result r = wires_pulse(p, line);
    uint64_t owed = p->owed[ticker] + times - (r == LINE_TAKEN);
    p->owed[ticker] = r == LINE_LOST ? 0 : min(owed, (uint64_t)hvm_ticks_owed_most(p->domain));
    p->owed_line[ticker] = line;
    note_owed(p);
}

static void pay(struct platform *p)
{
    for (unsigned i = 0; i < TICKERS; i++) {
        enum line_result r = p->owed[i] ? wires_pulse(p, p->owed_line[i]) : LINE_MERGED;
        if (r == LINE_TAKEN)
            p->owed[i]--;
        else if (r == LINE_LOST)
            p->owed[i] = 0;
    }
    note_owed(p);
}

void platform_sync(struct vcpu *v)
{
    struct platform *p = platform_of(v->domain);
    bool by_line = v->id == 0 && READ_ONCE(p->callback);
    bool level = by_line && event_pending(v);
    if (!READ_ONCE(p->owed_any) && (!by_line || level == READ_ONCE(p->callback_level)))
        return;
    spin_lock(&p->lock);
    pay(p);
    if (by_line && p->callback)
        wires_callback(p, level);
    platform_unlock(p);
}

bool platform_has_callback(const struct domain *d)
{
    const struct platform *p = platform_of(d);
    return p && READ_ONCE(p->callback);
}

/* --- devices brought up to date; the lock is held --- */

/* They follow whichever vCPU touches them. */
static void set_timer(struct platform *p, struct timer *t, uint64_t when)
{
    struct vcpu *v = current_vcpu();
    if (p->stopped)
        return;
    if (when == NS_NEVER)
        timer_set(t, NS_NEVER);
    else
        vcpu_timer_set(v->domain == p->domain ? v : p->domain->vcpu[0], t, when);
}

static void update_pit(struct platform *p, uint64_t now)
{
    uint64_t n = pit_advance(&p->pit, now);
    if (n && !hpet_legacy(&p->hpet))
        tick(p, TICKER_PIT, isa_line(0), n);
    set_timer(p, &p->pit_timer, pit_next(&p->pit));
}

static void set_wall(struct platform *p)
{
    uint64_t seconds;
    uint32_t ns;
    wallclock_get(&seconds, &ns);
    p->rtc.wall = (int64_t)(seconds + READ_ONCE(p->domain->time_offset)) * (int64_t)SECONDS(1) + ns;
    p->rtc.owed_most = hvm_ticks_owed_most(p->domain);
}

static void update_rtc(struct platform *p, uint64_t now)
{
    rtc_advance(&p->rtc, now);
    wires_set_one(p, SOURCE_RTC, isa_line(8), rtc_line(&p->rtc) && !hpet_legacy(&p->hpet));
    set_timer(p, &p->rtc_timer, rtc_next(&p->rtc, now));
}

static void update_hpet(struct platform *p, uint64_t now)
{
    uint64_t levels = 0;
    hpet_advance(&p->hpet, now);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        bool isa;
        int at = hpet_route(&p->hpet, n, &isa);
        uint32_t events = p->hpet.timer[n].events;
        p->hpet.timer[n].events = 0;
        if (at < 0)
            continue;
        unsigned line = isa ? isa_line(at) : (unsigned)at;
        if (hpet_is_level(&p->hpet, n))
            levels |= (uint64_t)hpet_level(&p->hpet, n) << line;
        else if (events)
            tick(p, 1 + n, line, events);
    }
    wires_set(p, SOURCE_HPET, levels);
    set_timer(p, &p->hpet_timer, hpet_next(&p->hpet));
}

static void update_pm(struct platform *p, uint64_t now)
{
    pmtimer_advance(&p->pm, now);
    wires_set_one(p, SOURCE_SCI, isa_line(SCI_IRQ), pmtimer_sci(&p->pm));
    set_timer(p, &p->pm_timer, pmtimer_next(&p->pm));
}

void platform_update_all(struct platform *p)
{
    uint64_t now = time_now();
    set_wall(p);
    update_pit(p, now);
    update_rtc(p, now);
    update_hpet(p, now);
    update_pm(p, now);
}

#define FIRED(device, before)                                                                      \
    static void fired_##device(void *data)                                                         \
    {                                                                                              \
        struct platform *p = data;                                                                 \
        spin_lock(&p->lock);                                                                       \
        before;                                                                                    \
        update_##device(p, time_now());                                                            \
        platform_unlock(p);                                                                        \
    }
FIRED(pit, (void)0)
FIRED(rtc, set_wall(p))
FIRED(hpet, (void)0)
FIRED(pm, (void)0)

/* --- ports, byte by byte as the bus of these devices; the lock is held --- */

static uint16_t pm_base(const struct platform *p)
{
    bool old = !READ_ONCE(p->domain->hvm->params[HVM_PARAM_ACPI_IOPORTS_LOCATION]);
    return old ? ACPI_PM1A_EVT_BLK_ADDRESS_V0 : ACPI_PM1A_EVT_BLK_ADDRESS_V1;
}

static void pm_byte(struct platform *p, unsigned at, bool write, uint8_t *value)
{
    uint64_t now = time_now();
    unsigned shift = 8 * (at & 3);
    pmtimer_advance(&p->pm, now);
    if (at >= 8 && !write)
        *value = pmtimer_value(&p->pm, now) >> shift;
    else if (at < 4 && write)
        pmtimer_write(&p->pm, (uint32_t)*value << shift, 0xffu << shift);
    else if (at < 4)
        *value = pmtimer_events(&p->pm) >> shift;
    if (write)
        update_pm(p, now);
}

static bool rtc_byte(struct platform *p, uint16_t port, bool write, uint8_t *value)
{
    uint64_t now = time_now();
    if (port == 0x70) {
        if (write)
            rtc_select(&p->rtc, *value);
        else
            *value = 0xff; /* it cannot be read */
        return rtc_ours(&p->rtc);
    }
    if (!rtc_ours(&p->rtc))
        return false;
    set_wall(p);
    if (write) {
        rtc_write(&p->rtc, *value, now);
    } else {
        *value = rtc_read(&p->rtc, now);
        if ((p->rtc.index & 0x7f) == 12) /* register C: its line fell, if only for a moment */
            wires_set_one(p, SOURCE_RTC, isa_line(8), false);
    }
    update_rtc(p, now);
    return true;
}

/* The XEN_X86_EMU_* of the device that has it; 0: none of ours. */
static uint32_t device_of(const struct platform *p, uint16_t port)
{
    uint16_t pm = pm_base(p);
    uint32_t device = 0;
    if (pic_port(port))
        device = XEN_X86_EMU_PIC;
    else if (pit_port(port))
        device = XEN_X86_EMU_PIT;
    else if ((port & ~1u) == 0x70)
        device = XEN_X86_EMU_RTC;
    else if (port >= pm && port < pm + 12 && (port < pm + 4 || port >= pm + 8))
        device = XEN_X86_EMU_PM;
    return platform_has(p, device) ? device : 0;
}

bool platform_has_port(const struct domain *d, uint16_t port)
{
    const struct platform *p = platform_of(d);
    return p && device_of(p, port);
}

static bool port_byte(struct platform *p, uint16_t port, bool write, uint8_t *value)
{
    uint64_t now = time_now();
    switch (device_of(p, port)) {
    case XEN_X86_EMU_PIC:
        if (write)
            pic_write(&p->pic, port, *value);
        else
            *value = pic_read(&p->pic, port);
        return true;
    case XEN_X86_EMU_PIT:
        if (write)
            pit_write(&p->pit, port, *value, now);
        else
            *value = pit_read(&p->pit, port, now);
        if (write)
            update_pit(p, now);
        return true;
    case XEN_X86_EMU_RTC:
        return rtc_byte(p, port, write, value);
    case XEN_X86_EMU_PM:
        pm_byte(p, port - pm_base(p), write, value);
        return true;
    default:
        return false;
    }
}

/* The timer is read as one number, which byte by byte would not be. */
static bool pm_timer_read(struct platform *p, uint16_t port, unsigned size, bool write,
                          uint32_t *value)
{
    if (!platform_has(p, XEN_X86_EMU_PM) || write || port != pm_base(p) + 8 || size != 4)
        return false;
    *value = pmtimer_value(&p->pm, time_now());
    return true;
}

bool platform_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    struct platform *p = platform_of(v->domain);
    if (!p || !device_of(p, port)) /* whose the first byte is, the access is */
        return false;
    spin_lock(&p->lock);
    bool ours = pm_timer_read(p, port, size, write, value);
    uint32_t all = 0;
    for (unsigned i = 0; !ours && i < size; i++) {
        uint8_t byte = write ? *value >> 8 * i : 0xff;
        if (!port_byte(p, port + i, write, &byte)) {
            if (!i)
                break; /* an index of the RTC that is the device model's */
            byte = 0xff;
        }
        all |= (uint32_t)byte << 8 * i;
        if (i + 1 == size) {
            ours = true;
            if (!write)
                *value = all;
        }
    }
    platform_unlock(p);
    return ours;
}

/* --- memory --- */

bool platform_has_mem(const struct domain *d, uint64_t gpa)
{
    const struct platform *p = platform_of(d);
    if (!p)
        return false;
    switch (gpa & ~0xfffUL) {
    case IOAPIC_PAGE:
        return platform_has(p, XEN_X86_EMU_IOAPIC);
    case HPET_PAGE:
        return platform_has(p, XEN_X86_EMU_HPET) &&
               READ_ONCE(d->hvm->params[HVM_PARAM_HPET_ENABLED]);
    default:
        return false;
    }
}

bool platform_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    struct platform *p = platform_of(v->domain);
    unsigned offset = gpa & 0xfff;
    bool ioapic = (gpa & ~0xfffUL) == IOAPIC_PAGE;
    if (!platform_has_mem(v->domain, gpa))
        return false;
    spin_lock(&p->lock);
    if (ioapic && write) {
        if (size == 4 || offset == 0)
            ioapic_write(&p->ioapic, offset, *value);
    } else if (ioapic) {
        *value = ioapic_read(&p->ioapic, offset);
        if (size < 4)
            *value &= (1u << 8 * size) - 1;
    } else {
        uint64_t now = time_now();
        if (write)
            hpet_write(&p->hpet, offset, size, *value, now);
        else
            *value = hpet_read(&p->hpet, offset, size, now);
        if (write) {
            update_hpet(p, now);
            update_rtc(p, now); /* legacy routing takes its line */
        }
    }
    platform_unlock(p);
    return true;
}

/* --- wires and buttons --- */

void platform_isa_line(struct domain *d, unsigned irq, bool level)
{
    struct platform *p = platform_of(d);
    if (!p || irq >= ISA_IRQS || irq == 2) /* 2 is the cascade */
        return;
    spin_lock(&p->lock);
    wires_set_one(p, SOURCE_ISA, isa_line(irq), level);
    platform_unlock(p);
}

void platform_pci_line(struct domain *d, unsigned device, unsigned intx, bool level)
{
    struct platform *p = platform_of(d);
    if (!p || device >= PCI_DEVICES || intx >= PCI_PINS)
        return;
    spin_lock(&p->lock);
    wires_pci(p, device, intx, level);
    platform_unlock(p);
}

int platform_pci_link(struct domain *d, unsigned link, uint8_t isa_irq)
{
    struct platform *p = platform_of(d);
    if (!p || link >= PCI_LINKS || isa_irq >= ISA_IRQS)
        return -XEN_EINVAL;
    spin_lock(&p->lock);
    p->route[link] = isa_irq;
    wires_reroute(p);
    platform_unlock(p);
    return 0;
}

int platform_button(struct domain *d, bool sleep)
{
    struct platform *p = platform_of(d);
    if (!p || !platform_has(p, XEN_X86_EMU_PM))
        return -XEN_EINVAL;
    spin_lock(&p->lock);
    pmtimer_button(&p->pm, sleep ? PM1_SLEEP_BTN : PM1_POWER_BTN);
    update_pm(p, time_now());
    platform_unlock(p);
    return 0;
}

/* --- life --- */

int platform_init(struct domain *d)
{
    if (!(d->emulation & ~XEN_X86_EMU_LAPIC))
        return 0;
    struct platform *p = zalloc(sizeof(*p));
    if (!p)
        return -XEN_ENOMEM;
    uint64_t now = time_now();
    unsigned cpu = this_cpu()->id;
    p->domain = d;
    d->hvm->platform = p;
    d->hvm->params[HVM_PARAM_HPET_ENABLED] = 1;
    spin_init(&p->lock, RANK_PLATFORM);
    pic_reset(&p->pic);
    ioapic_reset(&p->ioapic, &wires_ioapic_ops);
    pit_reset(&p->pit, now);
    hpet_reset(&p->hpet);
    pmtimer_reset(&p->pm, now);
    set_wall(p);
    rtc_reset(&p->rtc, p->rtc.wall, 0, now);
    timer_init(&p->pit_timer, fired_pit, p, cpu);
    timer_init(&p->rtc_timer, fired_rtc, p, cpu);
    timer_init(&p->hpet_timer, fired_hpet, p, cpu);
    timer_init(&p->pm_timer, fired_pm, p, cpu);
    return 0;
}

void platform_stop(struct domain *d)
{
    struct platform *p = platform_of(d);
    if (!p)
        return;
    spin_lock(&p->lock);
    p->stopped = true;
    platform_unlock(p);
    timer_stop(&p->pit_timer);
    timer_stop(&p->rtc_timer);
    timer_stop(&p->hpet_timer);
    timer_stop(&p->pm_timer);
}

void platform_fini(struct domain *d)
{
    platform_stop(d);
    zfree(d->hvm->platform);
    d->hvm->platform = NULL;
}
