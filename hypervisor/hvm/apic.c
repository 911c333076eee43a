/*
 * The local APICs of a domain: time and timers from the hypervisor, interrupts from one to another.
 * APIC ids are twice the vCPU's number, as the tools write them in the guest's ACPI tables and as
 * CPUID says.
 */
#include "hvm/hvm.h"
#include "lib/string.h"

static struct hvm_vcpu *of(struct lapic *l)
{
    return container_of(l, struct hvm_vcpu, lapic);
}

static void set_timer(struct lapic *l, uint64_t when)
{
    struct hvm_vcpu *h = of(l);
    unsigned here = this_cpu()->id;
    if (when == NS_NEVER) {
        /* One that is firing just now may still raise its interrupt: as on a real APIC. */
        timer_set(&h->lapic_timer, NS_NEVER);
        return;
    }
    if (h->vcpu == current_vcpu() && h->lapic_timer.cpu != here)
        timer_migrate(&h->lapic_timer, here);
    timer_set(&h->lapic_timer, min(when, time_now() + SECONDS(86400UL * 365)));
}

static void fired(void *data)
{
    struct hvm_vcpu *h = data;
    lapic_timer_fired(&h->lapic);
    hvm_kick(h->vcpu);
}

static void deliver(struct vcpu *to, const struct lapic_ipi *ipi)
{
    switch (ipi->mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST:
        if (lapic_raise(&to->hvm->lapic, ipi->vector))
            hvm_kick(to);
        break;
    case LAPIC_NMI:
        hvm_signal(to, HVM_SIGNAL_NMI);
        break;
    case LAPIC_INIT:
        if (!ipi->level_deassert)
            hvm_signal(to, HVM_SIGNAL_INIT);
        break;
    case LAPIC_STARTUP:
        if (READ_ONCE(to->hvm->wait_sipi) || (READ_ONCE(to->hvm->signals) & HVM_SIGNAL_INIT)) {
            WRITE_ONCE(to->hvm->sipi_vector, ipi->vector);
            hvm_signal(to, HVM_SIGNAL_SIPI);
        }
        break;
    }
}

static void send(struct lapic *l, const struct lapic_ipi *ipi)
{
    struct vcpu *self = of(l)->vcpu, *v;
    for_each_vcpu(self->domain, v) {
        bool hit;
        switch (ipi->shorthand) {
        case 0:
            hit = lapic_targets(&v->hvm->lapic, ipi);
            break;
        case 1:
            hit = v == self;
            break;
        case 2:
            hit = true;
            break;
        default:
            hit = v != self;
            break;
        }
        if (!hit)
            continue;
        deliver(v, ipi);
        if (ipi->mode == LAPIC_LOWEST)
            return; /* one of them, and none is lower than the first */
    }
}

static const struct lapic_ops ops = {
    .now = time_now,
    .set_timer = set_timer,
    .send = send,
    .deadline_to_ns = time_from_tsc,
};

void hvm_apic_init(struct vcpu *v)
{
    timer_init(&v->hvm->lapic_timer, fired, v->hvm, v->sched.cpu);
    lapic_reset(&v->hvm->lapic, &ops, v->id * 2, v->id == 0);
}
