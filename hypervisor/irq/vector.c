/*
 * Interrupt vectors: what each one means on each CPU.
 *
 * Device vectors are given out per CPU, round and round, so that a freed one rests a while. Its
 * irq number stays in the table until then: an interrupt that was under way when its source moved
 * to another CPU still finds its handler.
 *
 * The tables are changed under a lock (RANK_IRQ is held by callers, hence RANK_IOAPIC) and read
 * without.
 */
#include "console/console.h"
#include "irq/internal.h"
#include "mm/mm.h"
#include "time/time.h"

#define NO_IRQ           0xffff
#define VECTOR_PIC_FIRST 0x20 /* where irq.c has put the masked 8259s */
#define VECTOR_PIC_LAST  0x2f

struct vector_table {
    uint16_t irq[256];
    uint64_t used[256 / 64];
    unsigned next;
};

static struct vector_table *tables[MAX_CPUS]; /* [I] once the CPU is up */
static struct spinlock lock = SPINLOCK_INIT(RANK_IOAPIC);

void vector_init_cpu(struct cpu *c)
{
    if (tables[c->id])
        return;
    struct vector_table *t = zalloc(sizeof(*t));
    if (!t)
        panic("no memory for the vectors of CPU %u", c->id);
    for (unsigned i = 0; i < ARRAY_SIZE(t->irq); i++)
        t->irq[i] = NO_IRQ;
    t->next = VECTOR_DEVICE_FIRST;
    tables[c->id] = t;
}

int vector_alloc(unsigned cpu, unsigned irq, unsigned wish)
{
    struct vector_table *t = cpu < MAX_CPUS ? tables[cpu] : NULL;
    if (!t)
        return -XEN_ENOSPC;
    spin_lock(&lock);
    unsigned v = wish;
    if (!wish || bit_test(t->used, wish))
        v = bitmap_next_clear(t->used, VECTOR_DEVICE_LAST + 1, t->next);
    if (v > VECTOR_DEVICE_LAST)
        v = bitmap_next_clear(t->used, VECTOR_DEVICE_LAST + 1, VECTOR_DEVICE_FIRST);
    if (v <= VECTOR_DEVICE_LAST) {
        bit_set(t->used, v);
        WRITE_ONCE(t->irq[v], (uint16_t)irq);
        t->next = v == VECTOR_DEVICE_LAST ? VECTOR_DEVICE_FIRST : v + 1;
    }
    spin_unlock(&lock);
    return v <= VECTOR_DEVICE_LAST ? (int)v : -XEN_ENOSPC;
}

void vector_free(unsigned cpu, unsigned vector)
{
    spin_lock(&lock);
    bit_clear(tables[cpu]->used, vector);
    spin_unlock(&lock);
}

static void device(unsigned vector)
{
    unsigned irq = READ_ONCE(tables[this_cpu()->id]->irq[vector]);
    count(TRACE_irqs);
    if (irq != NO_IRQ) {
        irq_dispatch(irq);
        return;
    }
    lapic_eoi();
    log_debug("CPU %u: interrupt on vector %02x, which is nobody's", this_cpu()->id, vector);
}

void cpu_handle_irq(struct cpu_user_regs *regs, unsigned vector)
{
    switch (vector) {
    case VECTOR_TIMER:
        count(TRACE_timer_irqs);
        lapic_eoi();
        timer_interrupt();
        break;
    case VECTOR_TLB:
        lapic_eoi();
        tlb_answer();
        break;
    case VECTOR_CALL:
        lapic_eoi();
        ipi_answer();
        break;
    case VECTOR_RESCHED: /* need_resched or an event is looked at on the way out */
        lapic_eoi();
        break;
    case VECTOR_ERROR:
        lapic_eoi();
        lapic_report_error();
        break;
    case VECTOR_SPURIOUS: /* has no bit in service: no EOI (Intel SDM vol. 3 section 11.9) */
        break;
    default:
        if (vector >= VECTOR_DEVICE_FIRST && vector <= VECTOR_DEVICE_LAST)
            device(vector);
        else if (vector < VECTOR_PIC_FIRST || vector > VECTOR_PIC_LAST)
            lapic_eoi(); /* else: a spurious one of an 8259, which does not wait for any EOI */
        break;
    }
}
