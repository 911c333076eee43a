/*
 * Interrupts between CPUs: one call of a function at a time, and the stop for a panic.
 *
 * Interrupts are off in the hypervisor, so a CPU that waits for another one answers, in the wait
 * loop (spin_poll()), what it is asked itself: flushes and calls. Hence a called function takes no
 * lock. Lock: RANK_IPI, held by the caller whose call is in flight.
 */
#include "console/console.h"
#include "cpu/internal.h"
#include "irq/irq.h"
#include "lib/spinlock.h"

void (*ipi_hook)(uint32_t apic_id, uint8_t vector) __ro_after_init;
bool ipi_stopping;

static struct spinlock call_lock = SPINLOCK_INIT(RANK_IPI);
static struct {
    void (*fn)(void *);
    void *arg;
    struct cpu_mask todo; /* [a] who has not run it yet; empty: the slot is free */
} call;

void ipi_send(unsigned cpu, uint8_t vector)
{
    if (!ipi_hook)
        return;
    if (vector != X86_NMI)
        count(TRACE_ipis);
    ipi_hook(cpus[cpu]->apic_id, vector);
}

void spin_poll(void)
{
    tlb_answer();
    ipi_answer();
}

void ipi_answer(void)
{
    unsigned self = this_cpu()->id;
    if (!bit_test(call.todo.bits, self))
        return;
    call.fn(call.arg);
    atomic_bit_clear(call.todo.bits, self);
}

static void wait_for_call(void)
{
    while (bitmap_next_set(call.todo.bits, MAX_CPUS, 0) < MAX_CPUS) {
        spin_poll();
        cpu_pause();
    }
}

void ipi_call(const struct cpu_mask *mask, void (*fn)(void *), void *arg, bool wait)
{
    unsigned self = this_cpu()->id, i;
    struct cpu_mask others;
    for (i = 0; i < ARRAY_SIZE(others.bits); i++)
        others.bits[i] = mask->bits[i] & READ_ONCE(cpus_online.bits[i]);
    bit_clear(others.bits, self);
    if (bit_test(mask->bits, self))
        fn(arg);

    spin_lock(&call_lock);
    wait_for_call();
    call.fn = fn;
    call.arg = arg;
    for (i = 0; i < ARRAY_SIZE(others.bits); i++)
        __atomic_store_n(&call.todo.bits[i], others.bits[i], __ATOMIC_RELEASE);
    for_each_cpu(i, &others)
        ipi_send(i, VECTOR_CALL);
    if (wait)
        wait_for_call();
    spin_unlock(&call_lock);
}

void ipi_stop_others(void)
{
    struct cpu_mask others = cpus_online;
    unsigned self = this_cpu()->id, i;
    __atomic_store_n(&ipi_stopping, true, __ATOMIC_SEQ_CST);
    bit_clear(others.bits, self);
    for_each_cpu(i, &others) {
        ipi_send(i, X86_NMI);
        atomic_bit_clear(cpus_online.bits, i); /* nobody waits for it any more */
    }
}
