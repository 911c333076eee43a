/*
 * The local APICs of a domain: time and timers from the hypervisor, interrupts from one to another.
 * APIC ids are twice the vCPU's number, as the tools write them in the guest's ACPI tables and as
 * CPUID says.
 */
#include "hvm/hvm.h"
#include "hvm/hwdom.h"
#include "hvm/platform.h"
#include "lib/string.h"

static struct hvm_vcpu *of(struct lapic *l)
{
    return container_of(l, struct hvm_vcpu, lapic);
}

static void set_timer(struct lapic *l, uint64_t when)
{
    struct hvm_vcpu *h = of(l);
    if (when == NS_NEVER) /* one that is firing just now may still raise its interrupt */
        timer_set(&h->lapic_timer, NS_NEVER);
    else
        vcpu_timer_set(h->vcpu, &h->lapic_timer, when);
}

/* How many missed interrupts of a periodic timer are made up for: HVM_PARAM_TIMER_MODE. */
uint32_t hvm_ticks_owed_most(const struct domain *d)
{
    switch (READ_ONCE(d->hvm->params[HVM_PARAM_TIMER_MODE])) {
    case HVMPTM_no_missed_ticks_pending:
        return 0;
    case HVMPTM_one_missed_tick_pending:
        return 1;
    default: /* guest time never waits for ticks, so that the two modes that keep them are one */
        return 1000;
    }
}

static void fired(void *data)
{
    struct hvm_vcpu *h = data;
    WRITE_ONCE(h->lapic.owed_most, hvm_ticks_owed_most(h->vcpu->domain));
    lapic_timer_fired(&h->lapic);
    hvm_kick(h->vcpu);
}

static enum line_result deliver(struct vcpu *to, const struct lapic_ipi *ipi)
{
    enum line_result r = LINE_TAKEN;
    switch (ipi->mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST:
        r = lapic_trigger(&to->hvm->lapic, ipi->vector, ipi->level);
        if (r != LINE_LOST)
            hvm_kick(to);
        return r;
    case LAPIC_NMI:
        hvm_signal(to, HVM_SIGNAL_NMI);
        return r;
    case LAPIC_INIT:
        if (!ipi->level_deassert)
            hvm_signal(to, HVM_SIGNAL_INIT);
        return r;
    case LAPIC_STARTUP:
        if (READ_ONCE(to->hvm->wait_sipi) || (READ_ONCE(to->hvm->signals) & HVM_SIGNAL_INIT)) {
            WRITE_ONCE(to->hvm->sipi_vector, ipi->vector);
            hvm_signal(to, HVM_SIGNAL_SIPI);
        }
        return r;
    default:
        return LINE_LOST;
    }
}

/* Of those that it is for: the one with the least to do, in turn among equals. */
static struct vcpu *lowest(struct domain *d, const struct lapic_ipi *ipi)
{
    struct vcpu *best = NULL;
    unsigned last = READ_ONCE(d->hvm->lowest_last);
    for (unsigned i = 1; i <= d->max_vcpus; i++) {
        struct vcpu *v = READ_ONCE(d->vcpu[(last + i) % d->max_vcpus]);
        if (v && lapic_on(&v->hvm->lapic) && lapic_targets(&v->hvm->lapic, ipi) &&
            (!best || lapic_priority(&v->hvm->lapic) < lapic_priority(&best->hvm->lapic)))
            best = v;
    }
    if (best)
        WRITE_ONCE(d->hvm->lowest_last, best->id);
    return best;
}

enum line_result hvm_apic_send(struct domain *d, const struct lapic_ipi *ipi)
{
    enum line_result all = LINE_LOST;
    struct vcpu *v;
    if (ipi->mode == LAPIC_LOWEST) {
        v = lowest(d, ipi);
        return v ? deliver(v, ipi) : LINE_LOST;
    }
    for_each_vcpu(d, v) {
        if (!lapic_targets(&v->hvm->lapic, ipi))
            continue;
        enum line_result r = deliver(v, ipi);
        all = max(all, r);
    }
    return all;
}

static void send(struct lapic *l, const struct lapic_ipi *ipi)
{
    struct vcpu *self = of(l)->vcpu, *v;
    if (!ipi->shorthand) {
        (void)hvm_apic_send(self->domain, ipi);
        return;
    }
    for_each_vcpu(self->domain, v)
        if (ipi->shorthand == 2 || (v == self) == (ipi->shorthand == 1))
            (void)deliver(v, ipi);
}

static void end_of_level(struct lapic *l, uint8_t vector)
{
    struct domain *d = of(l)->vcpu->domain;
    platform_eoi(d, vector);
    if (d->hvm->hw)
        hwdom_eoi(d, vector);
}

static const struct lapic_ops ops = {
    .now = time_now,
    .set_timer = set_timer,
    .send = send,
    .deadline_to_ns = time_from_tsc,
    .eoi = end_of_level,
};

void hvm_apic_init(struct vcpu *v)
{
    timer_init(&v->hvm->lapic_timer, fired, v->hvm, v->sched.cpu);
    bool wired = v->id == 0 && (v->domain->emulation & XEN_X86_EMU_PIC);
    lapic_reset(&v->hvm->lapic, &ops, v->id * 2, v->id == 0, wired);
}
