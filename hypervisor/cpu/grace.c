/*
 * Grace periods: what was taken out of a table is freed once nobody can still have found it there.
 * Borrowed pointers live only while a CPU is in the hypervisor with interrupts off, so every
 * interrupt proves that its CPU has none from before. grace_call() asks each CPU for one and runs
 * the function, in interrupt context, when the last has come.
 *
 * Lock: RANK_IPI for the list; functions run without it.
 */
#include "cpu/internal.h"
#include "irq/irq.h"
#include "lib/spinlock.h"

static struct spinlock lock = SPINLOCK_INIT(RANK_IPI);
static struct grace *waiting; /* looked at without the lock to see that there is nothing to do */

#define WORDS (MAX_CPUS / 64)
_Static_assert(WORDS <= ARRAY_SIZE(((struct grace *)0)->seen), "a bit for each CPU");

void grace_call(struct grace *g, void (*fn)(struct grace *))
{
    unsigned i;
    struct cpu_mask all;
    g->fn = fn;
    spin_lock(&lock);
    for (i = 0; i < WORDS; i++)
        g->seen[i] = all.bits[i] = READ_ONCE(cpus_online.bits[i]); /* those still to come */
    g->next = waiting;
    __atomic_store_n(&waiting, g, __ATOMIC_SEQ_CST);
    spin_unlock(&lock);
    for_each_cpu(i, &all)
        ipi_send(i, VECTOR_CALL);
}

void grace_quiescent(struct cpu *c)
{
    struct grace *ready = NULL, **link = &waiting;
    WRITE_ONCE(c->quiescent, c->quiescent + 1);
    if (likely(!__atomic_load_n(&waiting, __ATOMIC_SEQ_CST)))
        return;
    spin_lock(&lock);
    while (*link) {
        struct grace *g = *link;
        bit_clear(g->seen, c->id);
        if (bitmap_next_set(g->seen, MAX_CPUS, 0) < MAX_CPUS) {
            link = &g->next;
            continue;
        }
        *link = g->next;
        g->next = ready;
        ready = g;
    }
    spin_unlock(&lock);
    while (ready) {
        struct grace *g = ready;
        ready = g->next; /* g is gone after the call */
        g->fn(g);
    }
}
