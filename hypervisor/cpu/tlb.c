/*
 * TLB flushes across CPUs, and the flush clock.
 *
 * A request is a ticket: the requester says which page (or that everything) is meant in the
 * target's `wanted` word, raises the target's tlb_requested and sends VECTOR_TLB; the target reads
 * tlb_requested, takes the word, flushes and stores what it had read in tlb_done. A flush that
 * begins after the word was taken covers it, so requests that meet are served by one flush. While
 * earlier tickets are outstanding the interrupt is on its way and no second one is sent: either the
 * target sees the new ticket after storing tlb_done, or the requester sees that store.
 *
 * Flush clock: a full flush takes the next tick before it begins. A page that goes out of use at
 * stamp s cannot be in the TLB of a CPU whose last full flush has a tick above s. Ticks have 64
 * bits, stamps in struct page the low 32: a stamp is taken for the latest tick that ends so, which
 * can only make it younger than it is.
 *
 * A new CR3 is a full flush, too, and comes with each switch between guests' address spaces; the
 * clock need not advance for it unless a stamp was taken since its last tick. So CPUs that only
 * switch do not write to a shared line.
 *
 * Nothing here takes a lock.
 */
#include "cpu/internal.h"
#include "irq/irq.h"

#define WANT_NOTHING 0UL
#define WANT_ALL     1UL
#define WANT_PAGE    2UL /* and its address, which may be 0 */

static uint64_t wanted[MAX_CPUS];  /* [a] */
static uint64_t flushed[MAX_CPUS]; /* [a] tick of the CPU's last full flush */
static uint64_t flush_clock;       /* [a] the last tick given out */
static uint64_t stamped;           /* [a] the tick for which a stamp was last given out */

#ifdef HOST_TEST
void hardware_flush(void);
void hardware_flush_page(uint64_t va);
#else
static void hardware_flush(void)
{
    write_cr3(read_cr3());
}
static void hardware_flush_page(uint64_t va)
{
    invlpg(va);
}
#endif

uint64_t tlb_switch_begins(void)
{
    uint64_t now = __atomic_load_n(&flush_clock, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&stamped, __ATOMIC_RELAXED) == now)
        now = __atomic_add_fetch(&flush_clock, 1, __ATOMIC_SEQ_CST);
    return now;
}

void tlb_switch_ended(uint64_t tick)
{
    __atomic_store_n(&flushed[this_cpu()->id], tick, __ATOMIC_RELEASE);
}

void tlb_flush_local(void)
{
    uint64_t tick = __atomic_add_fetch(&flush_clock, 1, __ATOMIC_SEQ_CST);
    hardware_flush();
    count(TRACE_tlb_flushes);
    __atomic_store_n(&flushed[this_cpu()->id], tick, __ATOMIC_RELEASE);
}

uint32_t tlb_stamp(void)
{
    uint64_t now = __atomic_load_n(&flush_clock, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&stamped, __ATOMIC_RELAXED) != now)
        __atomic_store_n(&stamped, now, __ATOMIC_RELAXED);
    return (uint32_t)now;
}

uint64_t tlb_last_flush(void)
{
    return flushed[this_cpu()->id];
}

void tlb_filter(struct cpu_mask *mask, uint32_t stamp)
{
    uint64_t now = __atomic_load_n(&flush_clock, __ATOMIC_SEQ_CST);
    uint32_t age = (uint32_t)now - stamp;
    unsigned i;
    if (age > now) /* such a tick never was: nothing is known */
        return;
    for_each_cpu(i, mask)
        if (__atomic_load_n(&flushed[i], __ATOMIC_ACQUIRE) > now - age)
            bit_clear(mask->bits, i);
}

void tlb_answer(void)
{
    struct cpu *c = this_cpu();
    uint64_t ticket;
    while ((ticket = __atomic_load_n(&c->tlb_requested, __ATOMIC_SEQ_CST)) != c->tlb_done) {
        uint64_t what = __atomic_exchange_n(&wanted[c->id], WANT_NOTHING, __ATOMIC_SEQ_CST);
        if (what == WANT_ALL)
            tlb_flush_local();
        else if (what != WANT_NOTHING)
            hardware_flush_page(what & PAGE_MASK);
        __atomic_store_n(&c->tlb_done, ticket, __ATOMIC_SEQ_CST);
    }
}

static void request(struct cpu *target, uint64_t what)
{
    uint64_t none = WANT_NOTHING;
    if (what == WANT_ALL || (!__atomic_compare_exchange_n(&wanted[target->id], &none, what, false,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
                             none != what))
        __atomic_store_n(&wanted[target->id], WANT_ALL, __ATOMIC_SEQ_CST);
    uint64_t before = __atomic_fetch_add(&target->tlb_requested, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&target->tlb_done, __ATOMIC_SEQ_CST) == before)
        ipi_send(target->id, VECTOR_TLB);
}

static __noinline void request_all(const struct cpu_mask *mask, uint64_t what)
{
    unsigned i;
    for_each_cpu(i, mask)
        request(cpus[i], what);
}

/* Waits for all that was requested of @cpu so far, which includes what we did. */
static void wait_answered(unsigned cpu)
{
    struct cpu *c = cpus[cpu];
    uint64_t ticket = __atomic_load_n(&c->tlb_requested, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&c->tlb_done, __ATOMIC_ACQUIRE) < ticket) {
        if (!bit_test(cpus_online.bits, cpu)) /* stopped for a panic */
            return;
        spin_poll();
        cpu_pause();
    }
}

static __noinline void wait_all(const struct cpu_mask *mask)
{
    unsigned i;
    count(TRACE_tlb_shootdowns);
    for_each_cpu(i, mask)
        wait_answered(i);
}

static void flush(const struct cpu_mask *mask, uint64_t what)
{
    unsigned self = this_cpu()->id;
    uint64_t any = 0;
    struct cpu_mask others __uninitialized;
#pragma GCC unroll 4
    for (unsigned i = 0; i < ARRAY_SIZE(others.bits); i++)
        others.bits[i] = READ_ONCE(mask->bits[i]) & READ_ONCE(cpus_online.bits[i]);
    bool here = bit_test(others.bits, self);
    bit_clear(others.bits, self);
#pragma GCC unroll 4
    for (unsigned i = 0; i < ARRAY_SIZE(others.bits); i++)
        any |= others.bits[i];

    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the entries' new contents are out */
    if (unlikely(any))
        request_all(&others, what);
    if (here && what == WANT_ALL)
        tlb_flush_local();
    else if (here)
        hardware_flush_page(what & PAGE_MASK);
    if (unlikely(any))
        wait_all(&others);
}

void tlb_flush_mask(const struct cpu_mask *mask)
{
    flush(mask, WANT_ALL);
}

void tlb_flush_page_mask(const struct cpu_mask *mask, uint64_t va)
{
    flush(mask, (va & PAGE_MASK) | WANT_PAGE);
}
