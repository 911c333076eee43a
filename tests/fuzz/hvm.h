/*
 * A hardware-virtualized domain with a whole PC and two vCPUs for fuzz targets, and the rooms
 * around its devices: time that stands still until a target moves it.
 */
#ifndef FUZZ_HVM_H
#define FUZZ_HVM_H

#include "fuzz.h"

#include "event/event.h"
#include "fake/cpu.h"
#include "hvm/hwdom.h"
#include "hvm/platform_internal.h"
#include "hvm/records.h"

enum { VCPUS = 2, TIMERS = 4 + VCPUS };

static uint64_t now;
static struct timer *timers[TIMERS];
static unsigned timers_used;
static struct domain *d;
static struct cpu cpu0 = {.self = &cpu0};

/* --- the rooms around --- */

struct cpu *this_cpu(void)
{
    return &cpu0;
}

ns_t time_now(void)
{
    return now;
}

ns_t time_from_tsc(uint64_t tsc)
{
    return tsc / 3;
}

void wallclock_get(uint64_t *seconds, uint32_t *nanoseconds)
{
    *seconds = 1700000000;
    *nanoseconds = 123456789;
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    *t = (struct timer){.fn = fn, .data = data, .cpu = cpu};
    CHECK(timers_used < TIMERS);
    timers[timers_used++] = t;
}

void timer_set(struct timer *t, ns_t when)
{
    t->active = when != NS_NEVER;
    t->expires = when;
}

void timer_stop(struct timer *t)
{
    t->active = false;
}

void vcpu_timer_set(struct vcpu *v, struct timer *t, ns_t when)
{
    CHECK(v);
    timer_set(t, when);
}

void hvm_kick(struct vcpu *v)
{
    CHECK(v);
}

void hvm_signal(struct vcpu *v, uint32_t signal)
{
    v->hvm->signals |= signal;
}

void hwdom_eoi(struct domain *dom, uint8_t vector)
{
    CHECK(!"this domain drives no machine");
}

void *zalloc(size_t n)
{
    return calloc(1, n);
}

void zfree(void *p)
{
    free(p);
}

/* --- the domain --- */

static void make(void)
{
    static struct shared_info shared;
    memset(&shared, 0, sizeof(shared));
    now = 1000 * DEV_SECOND;
    timers_used = 0;
    d = calloc(1, sizeof(*d));
    d->is_hvm = true;
    d->max_vcpus = VCPUS;
    d->emulation = HVM_EMULATION_PC;
    d->hvm = calloc(1, sizeof(*d->hvm));
    spin_init(&d->lock, RANK_DOMAIN);
    CHECK(!platform_init(d));
    for (unsigned i = 0; i < VCPUS; i++) {
        struct vcpu *v = calloc(1, sizeof(*v));
        v->id = i;
        v->domain = d;
        v->info = &shared.vcpu_info[i];
        v->hvm = calloc(1, sizeof(*v->hvm));
        v->hvm->vcpu = v;
        d->vcpu[i] = v;
        hvm_apic_init(v);
        lapic_write(&v->hvm->lapic, LAPIC_SVR, 0x1ff);
    }
}

static void unmake(void)
{
    platform_fini(d);
    for (unsigned i = 0; i < VCPUS; i++) {
        free(d->vcpu[i]->hvm);
        free(d->vcpu[i]);
    }
    free(d->hvm);
    free(d);
}

#endif
