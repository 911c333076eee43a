/*
 * Interrupt numbers and who handles them. A number is a GSI (a pin of an IO-APIC) or an MSI; its
 * source (ioapic.c, msi.c) masks, unmasks and routes it.
 *
 * A level line is masked when it fires and its EOI is sent at once; irq_done() unmasks it when
 * the owner has dealt with the device. Edges and MSIs just get their EOI. One that fires while
 * masked (some MSIs cannot be masked) is remembered and fires again when unmasked.
 *
 * Handlers run without the irq's lock, for they take locks of lower rank; `running` counts them so
 * that irq_unbind() can wait.
 */
#include "acpi/acpi.h"
#include "console/console.h"
#include "irq/internal.h"

struct irq {
    struct spinlock lock;            /* RANK_IRQ */
    const struct irq_source *source; /* [o] NULL: does not exist */
    irq_handler handler;             /* [a] NULL: not bound */
    void *data;                      /* [o] set while not bound */
    unsigned running;                /* [a] */
    unsigned cpu;                    /* [o] */
    uint8_t vector;                  /* [o] */
    bool masked, pending;            /* [o] */
};

static struct irq irqs[MAX_IRQS];
unsigned irq_gsi_count __ro_after_init;

void irq_init(void)
{
    for (unsigned i = 0; i < MAX_IRQS; i++)
        spin_init(&irqs[i].lock, RANK_IRQ);
    pic_disable();
    ioapic_init();
    vector_init_cpu(this_cpu());
    log_info("interrupts: %u lines of %u IO-APICs", irq_gsi_count, acpi_info.ioapics);
}

/* --- numbers --- */

static struct irq *irq_at(unsigned irq)
{
    return irq < MAX_IRQS && READ_ONCE(irqs[irq].source) ? &irqs[irq] : NULL;
}

void irq_set_source(unsigned irq, const struct irq_source *source)
{
    ASSERT(!irqs[irq].handler);
    WRITE_ONCE(irqs[irq].source, source);
}

int irq_free_number(void)
{
    for (unsigned i = irq_gsi_count; i < MAX_IRQS; i++)
        if (!irqs[i].source)
            return (int)i;
    return -XEN_ENOSPC;
}

bool irq_is_bound(unsigned irq)
{
    return __atomic_load_n(&irqs[irq].handler, __ATOMIC_ACQUIRE);
}

/* --- routing; the irq's lock is held --- */

/* Without interrupt remapping only 8-bit APIC numbers can be named. */
static bool can_target(unsigned cpu)
{
    return cpu < MAX_CPUS && bit_test(cpus_online.bits, cpu) && cpus[cpu]->apic_id < 255;
}

/* A vector on @cpu, or on any other that has one; negative errno. */
static int choose_vector(unsigned irq, unsigned cpu, unsigned *chosen)
{
    if (can_target(cpu)) {
        int v = vector_alloc(cpu, irq, 0);
        *chosen = cpu;
        if (v >= 0)
            return v;
    }
    for_each_cpu(cpu, &cpus_online) {
        int v = can_target(cpu) ? vector_alloc(cpu, irq, 0) : -XEN_ENOSPC;
        *chosen = cpu;
        if (v >= 0)
            return v;
    }
    return -XEN_ENOSPC;
}

static void mask(unsigned irq, struct irq *i)
{
    i->masked = true;
    i->source->mask(irq);
}

static void unmask(unsigned irq, struct irq *i)
{
    i->masked = false;
    i->source->unmask(irq);
    if (i->pending) {
        i->pending = false;
        lapic_send_ipi(cpus[i->cpu]->apic_id, i->vector);
    }
}

static void route(unsigned irq, struct irq *i)
{
    i->source->route(irq, cpus[i->cpu]->apic_id, i->vector);
}

/* --- the API --- */

int irq_bind(unsigned irq, irq_handler handler, void *data, unsigned cpu)
{
    struct irq *i = irq_at(irq);
    int rc = 0;
    if (!i)
        return -XEN_EINVAL;
    spin_lock(&i->lock);
    if (!i->source)
        rc = -XEN_EINVAL;
    else if (i->handler)
        rc = -XEN_EBUSY;
    else
        rc = choose_vector(irq, cpu, &i->cpu);
    if (rc >= 0) {
        i->vector = (uint8_t)rc;
        i->data = data;
        i->pending = false;
        mask(irq, i);
        route(irq, i);
        __atomic_store_n(&i->handler, handler, __ATOMIC_RELEASE);
        rc = 0;
    }
    spin_unlock(&i->lock);
    return rc;
}

void irq_unbind(unsigned irq)
{
    struct irq *i = irq_at(irq);
    if (!i)
        return;
    spin_lock(&i->lock);
    bool bound = i->handler;
    if (bound) {
        mask(irq, i);
        __atomic_store_n(&i->handler, NULL, __ATOMIC_SEQ_CST);
        vector_free(i->cpu, i->vector);
    }
    spin_unlock(&i->lock);
    while (bound && __atomic_load_n(&i->running, __ATOMIC_SEQ_CST)) {
        spin_poll();
        cpu_pause();
    }
}

void irq_mask(unsigned irq)
{
    struct irq *i = irq_at(irq);
    if (!i)
        return;
    spin_lock(&i->lock);
    if (i->handler)
        mask(irq, i);
    spin_unlock(&i->lock);
}

void irq_unmask(unsigned irq)
{
    struct irq *i = irq_at(irq);
    if (!i)
        return;
    spin_lock(&i->lock);
    if (i->handler && i->masked)
        unmask(irq, i);
    spin_unlock(&i->lock);
}

void irq_done(unsigned irq)
{
    if (irq_is_level(irq))
        irq_unmask(irq);
}

bool irq_is_level(unsigned irq)
{
    struct irq *i = irq_at(irq);
    return i && i->source->is_level(irq);
}

bool irq_needs_eoi(unsigned irq)
{
    return irq_is_level(irq);
}

void irq_set_affinity(unsigned irq, unsigned cpu)
{
    struct irq *i = irq_at(irq);
    if (!i)
        return;
    spin_lock(&i->lock);
    if (i->handler && i->cpu != cpu && can_target(cpu)) {
        /* The same number if it can be: then an MSI that cannot be masked is right at any moment
         * while its address changes. */
        int v = vector_alloc(cpu, irq, i->vector);
        if (v >= 0) {
            i->source->mask(irq);
            vector_free(i->cpu, i->vector); /* one under way still finds us: vector.c */
            i->cpu = cpu;
            i->vector = (uint8_t)v;
            route(irq, i);
            if (!i->masked)
                i->source->unmask(irq);
        }
    }
    spin_unlock(&i->lock);
}

void irq_reroute(unsigned irq)
{
    struct irq *i = irq_at(irq);
    if (!i)
        return;
    spin_lock(&i->lock);
    if (i->handler) {
        i->source->mask(irq);
        route(irq, i);
        if (!i->masked)
            i->source->unmask(irq);
    }
    spin_unlock(&i->lock);
}

void irq_dispatch(unsigned irq)
{
    struct irq *i = &irqs[irq];
    __atomic_fetch_add(&i->running, 1, __ATOMIC_SEQ_CST); /* before looking: irq_unbind() */
    irq_handler handler = __atomic_load_n(&i->handler, __ATOMIC_SEQ_CST);
    if (handler) {
        spin_lock(&i->lock);
        if (!i->handler) {
            handler = NULL;
        } else if (i->masked) {
            i->pending = !i->source->is_level(irq); /* a level line comes again by itself */
            handler = NULL;
        } else if (i->source->is_level(irq)) {
            mask(irq, i);
        }
        spin_unlock(&i->lock);
    }
    lapic_eoi();
    if (handler)
        handler(irq, i->data);
    __atomic_fetch_sub(&i->running, 1, __ATOMIC_RELEASE);
}
