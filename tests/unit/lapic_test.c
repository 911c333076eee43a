/* SOURCES: hvm/dev/lapic.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/lapic.h"

static uint64_t now, timer;
static struct lapic_ipi sent;
static unsigned sends;
static struct lapic l;

static uint64_t get_now(void)
{
    return now;
}
static void set_timer(struct lapic *which, uint64_t when)
{
    assert_ptr_equal(which, &l);
    timer = when;
}
static void send(struct lapic *which, const struct lapic_ipi *ipi)
{
    sent = *ipi;
    sends++;
}
static uint64_t deadline(uint64_t tsc)
{
    return tsc / 3;
}
static unsigned ended, ends;
static void eoi(struct lapic *which, uint8_t vector)
{
    ended = vector;
    ends++;
}
static const struct lapic_ops ops = {get_now, set_timer, send, deadline, eoi};

static int setup(void **state)
{
    memset(&l, 0, sizeof(l));
    now = 1000000;
    timer = ~0UL;
    sends = ends = 0;
    lapic_reset(&l, &ops, 6, false, false);
    lapic_write(&l, LAPIC_SVR, 0x1ff);
    return 0;
}

static void priorities(void **state)
{
    assert_true(lapic_raise(&l, 0x41));
    assert_true(lapic_raise(&l, 0x52));
    assert_int_equal(lapic_pending(&l), 0x52);
    lapic_accept(&l, 0x52);
    assert_int_equal(lapic_pending(&l), -1); /* a lower class */
    assert_int_equal(lapic_read(&l, LAPIC_PPR), 0x50);
    lapic_raise(&l, 0x5f);
    assert_int_equal(lapic_pending(&l), -1); /* the same class */
    lapic_raise(&l, 0x61);
    assert_int_equal(lapic_pending(&l), 0x61);
    lapic_accept(&l, 0x61);
    lapic_write(&l, LAPIC_EOI, 0);
    lapic_write(&l, LAPIC_EOI, 0);
    assert_int_equal(lapic_pending(&l), 0x5f);
    lapic_write(&l, LAPIC_TPR, 0x50);
    assert_int_equal(lapic_pending(&l), -1);
    assert_int_equal(lapic_next(&l), 0x5f);
    assert_false(lapic_raise(&l, 15));
    lapic_write(&l, LAPIC_ESR, 0);
    assert_int_equal(lapic_read(&l, LAPIC_ESR), 1 << 6);
}

static void off(void **state)
{
    lapic_write(&l, LAPIC_LVT_LINT0, 0x31);
    lapic_write(&l, LAPIC_SVR, 0xff);
    assert_false(lapic_raise(&l, 0x41));
    assert_int_equal(lapic_read(&l, LAPIC_LVT_LINT0), 0x10031);
    lapic_write(&l, LAPIC_LVT_LINT0, 0x31); /* stays masked */
    assert_int_equal(lapic_read(&l, LAPIC_LVT_LINT0), 0x10031);
}

static void oneshot(void **state)
{
    lapic_write(&l, LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
    lapic_write(&l, LAPIC_LVT_TIMER, 0x40);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 1000);
    assert_int_equal(timer, now + 10000);
    now += 4000;
    assert_int_equal(lapic_read(&l, LAPIC_TIMER_CURRENT), 600);
    lapic_write(&l, LAPIC_TIMER_DIVIDE, 0); /* by 2: the rest takes twice as long */
    assert_int_equal(lapic_read(&l, LAPIC_TIMER_CURRENT), 600);
    assert_int_equal(timer, now + 12000);
    now += 12000;
    lapic_timer_fired(&l);
    assert_int_equal(lapic_pending(&l), 0x40);
    assert_int_equal(lapic_read(&l, LAPIC_TIMER_CURRENT), 0);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 0);
    assert_true(timer == ~0UL);
}

static void periodic(void **state)
{
    lapic_write(&l, LAPIC_TIMER_DIVIDE, 0xb);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x20040);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 100000); /* 1 ms */
    uint64_t start = now;
    assert_int_equal(timer, start + 1000000);
    now = start + 3500000; /* late: the missed ones are lost, the phase is kept */
    lapic_timer_fired(&l);
    assert_int_equal(timer, start + 4000000);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 1); /* nobody gets one each 10 ns */
    assert_true(timer >= now + 100000);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x40); /* another mode stops it */
    assert_true(timer == ~0UL);
}

static void tsc_deadline(void **state)
{
    uint64_t v;
    assert_int_equal(lapic_msr_write(&l, 0x6e0, 9000), 0); /* not in that mode: ignored */
    assert_int_equal(lapic_msr_read(&l, 0x6e0, &v), 0);
    assert_int_equal(v, 0);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x40040);
    assert_int_equal(lapic_msr_write(&l, 0x6e0, 9000), 0);
    assert_int_equal(timer, 3000);
    lapic_timer_fired(&l);
    assert_int_equal(lapic_pending(&l), 0x40);
    assert_int_equal(lapic_msr_read(&l, 0x6e0, &v), 0);
    assert_int_equal(v, 0);
}

static void modes(void **state)
{
    uint64_t v, base = LAPIC_PAGE | LAPIC_BASE_ENABLE;
    assert_int_equal(lapic_msr_read(&l, 0x1b, &v), 0);
    assert_int_equal(v, base);
    assert_true(lapic_msr_read(&l, 0x802, &v) < 0);
    assert_true(lapic_msr_write(&l, 0x1b, LAPIC_PAGE | LAPIC_BASE_X2APIC) < 0);
    assert_true(lapic_msr_write(&l, 0x1b, base + 0x1000) < 0);
    assert_int_equal(lapic_msr_write(&l, 0x1b, base | LAPIC_BASE_X2APIC), 0);
    assert_int_equal(lapic_msr_read(&l, 0x802, &v), 0);
    assert_int_equal(v, 6);
    assert_int_equal(lapic_msr_read(&l, 0x80d, &v), 0);
    assert_int_equal(v, 1 << 6);
    assert_true(lapic_msr_write(&l, 0x1b, base) < 0);
    assert_int_equal(lapic_msr_write(&l, 0x1b, LAPIC_PAGE), 0);
    assert_int_equal(lapic_msr_write(&l, 0x1b, base), 0);
    assert_false(lapic_on(&l)); /* it has been reset */
}

static void targets(void **state)
{
    struct lapic_ipi i = {.dest = 6};
    assert_true(lapic_targets(&l, &i));
    i.dest = 7;
    assert_false(lapic_targets(&l, &i));
    i.dest = 0xff;
    assert_true(lapic_targets(&l, &i));
    lapic_write(&l, LAPIC_LDR, 0x24000000);
    i = (struct lapic_ipi){.logical = true, .dest = 0x04};
    assert_true(lapic_targets(&l, &i)); /* flat */
    i.dest = 0x03;
    assert_false(lapic_targets(&l, &i));
    lapic_write(&l, LAPIC_DFR, 0); /* cluster */
    i.dest = 0x26;
    assert_true(lapic_targets(&l, &i));
    i.dest = 0x16;
    assert_false(lapic_targets(&l, &i));
}

static void sending(void **state)
{
    lapic_write(&l, LAPIC_ICR_HIGH, 0x03000000);
    lapic_write(&l, LAPIC_ICR, 0x4041);
    assert_int_equal(sends, 1);
    assert_int_equal(sent.vector, 0x41);
    assert_int_equal(sent.dest, 3);
    lapic_write(&l, LAPIC_ICR, 0x4005); /* no such vector */
    assert_int_equal(sends, 1);
    lapic_write(&l, LAPIC_ESR, 0);
    assert_int_equal(lapic_read(&l, LAPIC_ESR), 1 << 5);
    lapic_write(&l, LAPIC_ICR, 0x8500);
    assert_true(sent.level_deassert && sent.mode == LAPIC_INIT);
    for (unsigned r = 0; r < 0x100; r++) { /* whatever is written anywhere does no harm */
        lapic_write(&l, r, 0xffffffff);
        (void)lapic_read(&l, r);
    }
}

static void level_triggered(void **state)
{
    assert_int_equal(lapic_trigger(&l, 0x41, true), LINE_TAKEN);
    assert_int_equal(lapic_trigger(&l, 0x41, true), LINE_MERGED);
    assert_int_equal(lapic_read(&l, LAPIC_TMR + 2), 2);
    lapic_accept(&l, 0x41);
    lapic_write(&l, LAPIC_EOI, 0);
    assert_int_equal(ends, 1);
    assert_int_equal(ended, 0x41);
    lapic_trigger(&l, 0x41, false); /* the same vector by an edge: nobody is told */
    lapic_accept(&l, 0x41);
    lapic_write(&l, LAPIC_EOI, 0);
    assert_int_equal(ends, 1);
    lapic_write(&l, LAPIC_EOI, 0); /* nothing in service */
    assert_int_equal(ends, 1);
}

static void missed(void **state)
{
    l.owed_most = 5;
    lapic_write(&l, LAPIC_TIMER_DIVIDE, 0xb);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x20040);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 100000); /* 1 ms */
    now += 3500000;
    lapic_timer_fired(&l); /* three of them */
    unsigned n = 0;
    while (lapic_pending(&l) == 0x40 && n < 10) {
        lapic_accept(&l, 0x40);
        lapic_write(&l, LAPIC_EOI, 0);
        n++;
    }
    assert_int_equal(n, 3);
    now += 100000000;
    lapic_timer_fired(&l);
    assert_int_equal(l.owed, 5);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x40); /* stopped: nothing is owed any more */
    assert_int_equal(l.owed, 0);
}

static void lint0(void **state)
{
    assert_false(lapic_extint(&l));
    lapic_write(&l, LAPIC_LVT_LINT0, 0x700);
    assert_true(lapic_extint(&l));
    assert_false(lapic_lint0(&l));
    assert_int_equal(lapic_pending(&l), -1);
    lapic_write(&l, LAPIC_LVT_LINT0, 0x55);
    assert_false(lapic_lint0(&l));
    assert_int_equal(lapic_pending(&l), 0x55);
    lapic_write(&l, LAPIC_LVT_LINT0, 0x400);
    assert_true(lapic_lint0(&l));
    lapic_reset(&l, &ops, 0, true, true); /* wired: let through from the start */
    assert_true(lapic_extint(&l));
    assert_int_equal(lapic_msr_write(&l, 0x1b, LAPIC_PAGE), 0);
    assert_true(lapic_extint(&l)); /* without a local APIC it is the CPU's */
}

static void records(void **state)
{
    struct hvm_hw_lapic base, bad_base;
    struct hvm_hw_lapic_regs regs, bad;
    lapic_write(&l, LAPIC_TIMER_DIVIDE, 0xb);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x20040);
    lapic_write(&l, LAPIC_TIMER_INITIAL, 100000);
    lapic_write(&l, LAPIC_TPR, 0x30);
    lapic_trigger(&l, 0x51, true);
    lapic_trigger(&l, 0x62, false);
    lapic_accept(&l, 0x62);
    now += 400000;
    lapic_save_base(&l, &base);
    lapic_save_regs(&l, &regs);
    assert_int_equal(lapic_check(&l, &base), 0);
    assert_int_equal(lapic_check_regs(&regs), 0);
    lapic_reset(&l, &ops, 6, false, false);
    now += 50000000; /* time stood between */
    lapic_load(&l, &base);
    lapic_load_regs(&l, &regs);
    assert_int_equal(timer, now + 600000);
    assert_int_equal(lapic_read(&l, LAPIC_PPR), 0x60);
    lapic_write(&l, LAPIC_EOI, 0);
    assert_int_equal(lapic_pending(&l), 0x51);
    assert_int_equal(lapic_read(&l, LAPIC_TMR + 2), 1 << 17);

    bad_base = base;
    bad_base.apic_base_msr += 0x1000;
    assert_true(lapic_check(&l, &bad_base) < 0);
    bad_base = base;
    bad_base.apic_base_msr ^= LAPIC_BASE_BSP;
    assert_true(lapic_check(&l, &bad_base) < 0);
    bad_base.apic_base_msr = LAPIC_PAGE | LAPIC_BASE_X2APIC;
    assert_true(lapic_check(&l, &bad_base) < 0);
    bad = regs;
    bad.data[LAPIC_IRR * 16] = 1; /* vector 0 */
    assert_true(lapic_check_regs(&bad) < 0);
    bad = regs;
    bad.data[LAPIC_TPR * 16 + 1] = 1;
    assert_true(lapic_check_regs(&bad) < 0);
    bad = regs;
    bad.data[LAPIC_LVT_ERROR * 16 + 3] = 1;
    assert_true(lapic_check_regs(&bad) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(priorities, setup),   cmocka_unit_test_setup(off, setup),
        cmocka_unit_test_setup(oneshot, setup),      cmocka_unit_test_setup(periodic, setup),
        cmocka_unit_test_setup(tsc_deadline, setup), cmocka_unit_test_setup(modes, setup),
        cmocka_unit_test_setup(targets, setup),      cmocka_unit_test_setup(level_triggered, setup),
        cmocka_unit_test_setup(missed, setup),       cmocka_unit_test_setup(lint0, setup),
        cmocka_unit_test_setup(records, setup),      cmocka_unit_test_setup(sending, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
