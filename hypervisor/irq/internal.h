/* Between the files of irq/. */
#ifndef IRQ_INTERNAL_H
#define IRQ_INTERNAL_H

#include "irq/irq.h"

#define VECTOR_DEVICE_FIRST 0x30
#define VECTOR_DEVICE_LAST  0xdf

/* What a kind of interrupt source can do; called with the irq's lock held. */
struct irq_source {
    void (*mask)(unsigned irq);
    void (*unmask)(unsigned irq);
    /* Sends it to that vector of that CPU from now on. It is masked. */
    void (*route)(unsigned irq, uint32_t apic_id, uint8_t vector);
    bool (*is_level)(unsigned irq);
};

/* Makes @irq exist (with @source) or not (NULL; it is not bound). */
void irq_set_source(unsigned irq, const struct irq_source *source);
/* A number above the GSIs that does not exist; -XEN_ENOSPC. msi.c serialises. */
int irq_free_number(void);
bool irq_is_bound(unsigned irq);
void irq_reroute(unsigned irq);  /* writes route and mask to the hardware again, when bound */
void irq_dispatch(unsigned irq); /* vector.c: it fired on this CPU; no EOI has been sent */

/* Vectors (vector.c), per CPU. */
void vector_init_cpu(struct cpu *c);
/* A vector of @cpu for @irq, @wish when that one is free (0: any); -XEN_ENOSPC. */
int vector_alloc(unsigned cpu, unsigned irq, unsigned wish);
void vector_free(unsigned cpu, unsigned vector);

void ioapic_init(void);
void pic_disable(void);
void lapic_report_error(void); /* VECTOR_ERROR */

#endif
