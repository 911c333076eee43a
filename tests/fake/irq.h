/* Interrupt lines that tests fire by hand. */
#ifndef FAKE_IRQ_H
#define FAKE_IRQ_H

#include "irq/irq.h"

struct fake_irq {
    irq_handler handler; /* NULL: not bound */
    void *data;
    unsigned cpu;
    bool level, masked;
    unsigned done; /* irq_done() calls */
};
extern struct fake_irq fake_irq[MAX_IRQS];
extern unsigned fake_msi_freed; /* the last irq given to msi_free() */

void fake_irq_reset(void);
void fake_irq_fire(unsigned irq); /* as the CPU would; fails the test when it is masked */

#endif
