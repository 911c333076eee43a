/* SOURCES: time/timer.c lib/rbtree.c lib/spinlock.c fake/cpu.c fake/alloc.c */
/* Timers: order, re-setting from callbacks, stopping, moving, other CPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "irq/irq.h"
#include "time/internal.h"

static ns_t now;
static uint64_t deadline[4]; /* as each local APIC is set; 0 = off */
static unsigned programmed;

ns_t time_now(void)
{
    return now;
}
uint64_t time_to_tsc(ns_t when)
{
    return when;
}
void lapic_timer_set(uint64_t tsc)
{
    deadline[fake_cpu_number] = tsc;
    programmed++;
}

static unsigned fired[64], order;
static ns_t fired_at[64];
static struct timer t[64];

static void on_fire(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    assert_int_equal(t[i].cpu, fake_cpu_number);
    assert_false(t[i].active);
    fired_at[i] = now;
    fired[i] = ++order;
}

static int setup(void **state)
{
    fake_cpus_online(2);
    for (fake_cpu_number = 0; fake_cpu_number < 2; fake_cpu_number++) {
        free(fake_cpu[fake_cpu_number].timers);
        timer_init_cpu();
        deadline[fake_cpu_number] = 0;
    }
    fake_cpu_number = 0;
    now = 1000;
    order = fake_ipis = 0;
    for (unsigned i = 0; i < 64; i++) {
        fired[i] = 0;
        timer_init(&t[i], on_fire, (void *)(uintptr_t)i, 0);
    }
    return 0;
}

/* Time passes on this CPU; its local APIC fires when it was told to. */
static void pass(ns_t until)
{
    while (deadline[fake_cpu_number] && deadline[fake_cpu_number] <= until) {
        now = max(now, deadline[fake_cpu_number]);
        deadline[fake_cpu_number] = 0;
        timer_interrupt();
    }
    now = until;
}

static void fires_in_order(void **state)
{
    static const ns_t at[] = {5000, 3000, 9000, 3000, 1500, 20000};
    for (unsigned i = 0; i < 6; i++)
        timer_set(&t[i], at[i]);
    assert_int_equal(deadline[0], 1500);
    pass(10000);
    assert_int_equal(fired[4], 1);
    assert_true(fired[1] >= 2 && fired[1] <= 3 && fired[3] >= 2 && fired[3] <= 3);
    assert_int_equal(fired[0], 4);
    assert_int_equal(fired[2], 5);
    assert_int_equal(fired[5], 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(fired_at[i], at[i]);
    pass(20000);
    assert_int_equal(fired[5], 6);
    assert_int_equal(deadline[0], 0);
}

static void past_fires_at_once(void **state)
{
    timer_set(&t[0], 10);
    assert_int_equal(deadline[0], 10);
    pass(now);
    assert_int_equal(fired[0], 1);
    timer_set(&t[1], 0); /* not "off" */
    assert_int_equal(deadline[0], 1);
}

static void moves_when_set_again(void **state)
{
    timer_set(&t[0], 5000);
    timer_set(&t[1], 6000);
    timer_set(&t[0], 7000);
    pass(6500);
    assert_int_equal(fired[0], 0);
    assert_int_equal(fired[1], 1);
    timer_set(&t[0], NS_NEVER);
    assert_false(t[0].active);
    pass(100000);
    assert_int_equal(fired[0], 0);
}

static void stops(void **state)
{
    struct timer zero = {0};
    timer_stop(&zero);
    timer_set(&t[0], 5000);
    timer_set(&t[1], 5001);
    timer_stop(&t[0]);
    timer_stop(&t[0]);
    pass(6000);
    assert_int_equal(fired[0], 0);
    assert_int_equal(fired[1], 1);
}

static unsigned left;
static void periodic(void *data)
{
    if (--left)
        timer_set(data, now + 10);
    timer_stop(&t[9]); /* another one that is due now */
}

static void callbacks_set_and_stop(void **state)
{
    struct timer p;
    timer_init(&p, periodic, &p, 0);
    left = 5;
    timer_set(&p, 2000);
    timer_set(&t[9], 2000 + 1);
    t[9].expires = 2001;
    now = 3000; /* both are due */
    timer_interrupt();
    assert_int_equal(fired[9], 0);
    assert_int_equal(left, 4);
    pass(4000);
    assert_int_equal(left, 0);
    assert_false(p.active);
}

static void programs_only_the_first(void **state)
{
    timer_set(&t[0], 5000);
    unsigned before = programmed;
    timer_set(&t[1], 6000);
    timer_set(&t[2], 7000);
    timer_stop(&t[2]);
    assert_int_equal(programmed, before);
    timer_set(&t[3], 4000);
    assert_int_equal(programmed, before + 1);
}

static void early_interrupt_is_harmless(void **state)
{
    timer_set(&t[0], 5000);
    now = 4999;
    deadline[0] = 0; /* spent */
    timer_interrupt();
    assert_int_equal(fired[0], 0);
    assert_int_equal(deadline[0], 5000);
}

static void other_cpu(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        t[i].cpu = 1;
    timer_set(&t[0], 5000);
    assert_int_equal(fake_ipis, 1);
    assert_int_equal(fake_ipi_cpu, 1);
    assert_int_equal(fake_ipi_vector, VECTOR_TIMER);
    timer_set(&t[1], 6000); /* not the first: nobody is disturbed */
    assert_int_equal(fake_ipis, 1);
    assert_int_equal(deadline[1], 0);
    fake_cpu_number = 1;
    timer_interrupt();
    assert_int_equal(deadline[1], 5000);
    pass(5500);
    assert_int_equal(fired[0], 1);
    fake_cpu_number = 0;
    timer_stop(&t[1]);
    fake_cpu_number = 1;
    pass(9000);
    assert_int_equal(fired[1], 0);
}

static void migrates(void **state)
{
    timer_set(&t[0], 5000);
    timer_migrate(&t[0], 1);
    assert_int_equal(t[0].cpu, 1);
    assert_int_equal(fake_ipis, 1);
    pass(6000);
    assert_int_equal(fired[0], 0);
    fake_cpu_number = 1;
    timer_interrupt();
    pass(6000);
    assert_int_equal(fired[0], 1);
    timer_migrate(&t[0], 0);
    assert_false(t[0].active);
    assert_int_equal(t[0].cpu, 0);
}

/* Against a plain model. */
static void random_operations(void **state)
{
    ns_t want[64];
    srandom(3);
    for (unsigned i = 0; i < 64; i++)
        want[i] = NS_NEVER;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)random() % 64;
        switch (random() % 4) {
        case 0:
        case 1:
            want[i] = now + (uint64_t)random() % 2000;
            timer_set(&t[i], want[i]);
            break;
        case 2:
            want[i] = NS_NEVER;
            timer_stop(&t[i]);
            break;
        default:
            for (unsigned n = 0; n < 64; n++)
                fired[n] = 0;
            pass(now + (uint64_t)random() % 500);
            for (unsigned n = 0; n < 64; n++) {
                bool due = want[n] <= now;
                assert_int_equal(fired[n] != 0, due);
                if (due)
                    want[n] = NS_NEVER;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fires_in_order, setup),
        cmocka_unit_test_setup(past_fires_at_once, setup),
        cmocka_unit_test_setup(moves_when_set_again, setup),
        cmocka_unit_test_setup(stops, setup),
        cmocka_unit_test_setup(callbacks_set_and_stop, setup),
        cmocka_unit_test_setup(programs_only_the_first, setup),
        cmocka_unit_test_setup(early_interrupt_is_harmless, setup),
        cmocka_unit_test_setup(other_cpu, setup),
        cmocka_unit_test_setup(migrates, setup),
        cmocka_unit_test_setup(random_operations, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
