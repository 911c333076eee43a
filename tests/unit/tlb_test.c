/* SOURCES: cpu/tlb.c lib/bitmap.c fake/cpu.c */
/* TLB flushes: tickets between CPUs, stamps; four threads as CPUs for the races. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "irq/irq.h"

void hardware_flush(void);
void hardware_flush_page(uint64_t va);

static __thread unsigned self;
static unsigned full[4], paged[4], sent;
static uint64_t last_page;
static bool threads;             /* CPUs answer by themselves */
static uint64_t memory, seen[4]; /* what each CPU's TLB holds of `memory` */

struct cpu *this_cpu(void)
{
    return &fake_cpu[self];
}

void hardware_flush(void)
{
    full[self]++;
    __atomic_store_n(&seen[self], __atomic_load_n(&memory, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
}

void hardware_flush_page(uint64_t va)
{
    paged[self]++;
    last_page = va;
    __atomic_store_n(&seen[self], __atomic_load_n(&memory, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
}

static bool pending[4];

void ipi_send(unsigned cpu, uint8_t vector)
{
    assert_int_equal(vector, VECTOR_TLB);
    __atomic_fetch_add(&sent, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&pending[cpu], true, __ATOMIC_SEQ_CST);
}

static void as(unsigned cpu, void (*fn)(void))
{
    unsigned was = self;
    self = cpu;
    fn();
    self = was;
}

/* Without threads: a wait loop lets the interrupts arrive that were sent. */
void spin_poll(void)
{
    if (threads) {
        tlb_answer();
        sched_yield();
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (pending[i]) {
            pending[i] = false;
            as(i, tlb_answer);
        }
    }
}

static int setup(void **state)
{
    fake_cpus_online(4);
    self = 0;
    sent = 0;
    for (unsigned i = 0; i < 4; i++)
        full[i] = paged[i] = pending[i] = 0;
    return 0;
}

static const struct cpu_mask all = {{15}};

static void reaches_the_mask(void **state)
{
    struct cpu_mask some = {{2 | 8}};
    tlb_flush_mask(&some);
    assert_int_equal(full[0] + full[2], 0);
    assert_int_equal(full[1], 1);
    assert_int_equal(full[3], 1);
    assert_int_equal(sent, 2);
    tlb_flush_mask(&all);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(full[i], 1 + (i & 1));
    fake_cpus_online(2); /* the others are not asked */
    tlb_flush_mask(&all);
    assert_int_equal(full[2], 1);
}

static void one_page(void **state)
{
    struct cpu_mask some = {{1 | 4}};
    tlb_flush_page_mask(&some, 0x7f0012345678);
    assert_int_equal(paged[0], 1);
    assert_int_equal(paged[2], 1);
    assert_int_equal(full[2], 0);
    assert_int_equal(last_page, 0x7f0012345000);
    tlb_flush_page_mask(&some, 0);
    assert_int_equal(paged[2], 2);
    tlb_flush_mask(&(struct cpu_mask){{4}});
    assert_int_equal(full[2], 1);
}

static void asked_twice(void **state)
{
    /* CPU 1 is slow: requests pile up and are served by one flush. */
    struct cpu *c = &fake_cpu[1];
    uint64_t before = c->tlb_requested;
    __atomic_fetch_add(&c->tlb_requested, 1, __ATOMIC_SEQ_CST); /* some CPU's, its interrupt lost */
    pending[1] = true;
    tlb_flush_page_mask(&(struct cpu_mask){{2}}, 0x5000);
    assert_int_equal(sent, 0); /* one is on its way already */
    assert_int_equal(c->tlb_done, before + 2);
    assert_int_equal(paged[1], 1);
}

static void stamps(void **state)
{
    struct cpu_mask m = all;
    tlb_flush_mask(&all);
    uint32_t s = tlb_stamp();
    tlb_filter(&m, s); /* nobody has flushed since */
    assert_int_equal(m.bits[0], 15);
    tlb_flush_mask(&(struct cpu_mask){{1 | 4}});
    tlb_filter(&m, s);
    assert_int_equal(m.bits[0], 2 | 8);
    tlb_flush_page_mask(&all, 0x1000); /* a page is not everything */
    tlb_filter(&m, s);
    assert_int_equal(m.bits[0], 2 | 8);
    m = all;
    tlb_filter(&m, tlb_stamp());
    assert_int_equal(m.bits[0], 15);
    m = all;
    tlb_filter(&m, s - 1000); /* before the clock began, or long ago: nothing is known */
    assert_true(m.bits[0] == 15);
    as(1, tlb_flush_local);
    m = all;
    tlb_filter(&m, s);
    assert_int_equal(m.bits[0], 8);
}

static void new_cr3(void)
{
    tlb_switch_ended(tlb_switch_begins());
}

/* Switching address spaces forgets all, too; the clock moves only when a stamp asks for it. */
static void switches(void **state)
{
    struct cpu_mask m = all;
    tlb_flush_mask(&all);
    uint32_t s = tlb_stamp();
    as(1, new_cr3);
    tlb_filter(&m, s);
    assert_int_equal(m.bits[0], 15 & ~2);
    uint32_t later = tlb_stamp();
    assert_true(later != s);
    for (unsigned i = 0; i < 100; i++)
        as(i % 4, new_cr3);
    assert_int_equal(tlb_stamp(), later + 1); /* once for all of them */
    m = all;
    tlb_filter(&m, later);
    assert_int_equal(m.bits[0], 0);
    m = all;
    tlb_filter(&m, tlb_stamp());
    assert_int_equal(m.bits[0], 15);
}

/* Each thread is a CPU that changes memory and flushes all: afterwards no TLB may hold less. */
#define ROUNDS 3000
static unsigned finished, stale;

static void *cpu_thread(void *arg)
{
    self = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t mine = __atomic_add_fetch(&memory, 1, __ATOMIC_SEQ_CST);
        if (i % 3)
            tlb_flush_mask(&all);
        else
            tlb_flush_page_mask(&all, (i + self) << 12);
        for (unsigned c = 0; c < 4; c++)
            if (__atomic_load_n(&seen[c], __ATOMIC_SEQ_CST) < mine)
                __atomic_fetch_add(&stale, 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < 4)
        spin_poll();
    return NULL;
}

static void races(void **state)
{
    pthread_t t[4];
    threads = true;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, cpu_thread, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    threads = false;
    assert_int_equal(stale, 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(fake_cpu[i].tlb_done, fake_cpu[i].tlb_requested);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reaches_the_mask, setup),
        cmocka_unit_test_setup(one_page, setup),
        cmocka_unit_test_setup(asked_twice, setup),
        cmocka_unit_test_setup(stamps, setup),
        cmocka_unit_test_setup(switches, setup),
        cmocka_unit_test_setup(races, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
