/* The interrupt room for tests on the host: 24 GSIs, MSIs above, fired by hand. Symbols are weak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "fake/irq.h"

#define WEAK __attribute__((weak))

WEAK unsigned irq_gsi_count = 24;
WEAK struct fake_irq fake_irq[MAX_IRQS];
WEAK unsigned fake_msi_freed;

WEAK void fake_irq_reset(void)
{
    memset(fake_irq, 0, sizeof(fake_irq));
    fake_msi_freed = 0;
}

WEAK void fake_irq_fire(unsigned irq)
{
    struct fake_irq *q = &fake_irq[irq];
    assert_non_null(q->handler);
    assert_false(q->masked);
    q->masked = q->level;
    q->handler(irq, q->data);
}

WEAK int irq_bind(unsigned irq, irq_handler handler, void *data, unsigned cpu)
{
    struct fake_irq *q = &fake_irq[irq];
    if (q->handler)
        return -XEN_EBUSY;
    q->handler = handler;
    q->data = data;
    q->cpu = cpu;
    q->masked = true;
    return 0;
}

WEAK void irq_unbind(unsigned irq)
{
    assert_non_null(fake_irq[irq].handler);
    fake_irq[irq].handler = NULL;
    fake_irq[irq].masked = true;
}

WEAK void irq_mask(unsigned irq)
{
    fake_irq[irq].masked = true;
}

WEAK void irq_unmask(unsigned irq)
{
    fake_irq[irq].masked = false;
}

WEAK void irq_done(unsigned irq)
{
    assert_true(fake_irq[irq].masked);
    fake_irq[irq].masked = false;
    fake_irq[irq].done++;
}

WEAK bool irq_is_level(unsigned irq)
{
    return fake_irq[irq].level;
}

WEAK bool irq_needs_eoi(unsigned irq)
{
    return fake_irq[irq].level;
}

WEAK void irq_set_affinity(unsigned irq, unsigned cpu)
{
    fake_irq[irq].cpu = cpu;
}

WEAK void msi_free(unsigned irq)
{
    assert_null(fake_irq[irq].handler);
    fake_msi_freed = irq;
}
