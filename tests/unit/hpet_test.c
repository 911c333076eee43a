/* SOURCES: hvm/dev/hpet.c hvm/dev/pmtimer.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/device.h"
#include "hvm/dev/hpet.h"
#include "hvm/dev/pmtimer.h"

static struct hpet h;
static uint64_t now;
#define MS   1000000UL
#define T(n) (0x100 + 0x20 * (n))

static int setup(void **state)
{
    now = 16000;
    hpet_reset(&h);
    return 0;
}

static void put(unsigned offset, uint64_t value)
{
    hpet_write(&h, offset, 8, value, now);
}
static uint64_t get(unsigned offset)
{
    return hpet_read(&h, offset, 8, now);
}
static unsigned events(unsigned n)
{
    hpet_advance(&h, now);
    unsigned e = h.timer[n].events;
    h.timer[n].events = 0;
    return e;
}

static void counting(void **state)
{
    assert_int_equal(get(0), 16000000UL << 32 | 0x8086a201);
    put(0xf0, 100);
    now += MS;
    assert_int_equal(get(0xf0), 100);
    put(0x10, 1);
    now += MS;
    assert_int_equal(get(0xf0), 100 + 62500);
    hpet_write(&h, 0xf4, 4, 7, now); /* its upper half */
    assert_int_equal(get(0xf0), (7UL << 32) + 100 + 62500);
    assert_int_equal(hpet_read(&h, 0xf4, 4, now), 7);
    put(0x10, 0);
    now += MS;
    assert_int_equal(hpet_read(&h, 0xf0, 4, now), 100 + 62500);
    assert_int_equal(hpet_read(&h, 0xf2, 4, now), 0);
    assert_int_equal(hpet_read(&h, 0xf0, 1, now), 0);
}

static void once(void **state)
{
    bool isa;
    put(0x10, 1);
    put(T(1), 21 << 9 | 1 << 2);
    put(T(1) + 8, 62500);
    assert_int_equal(hpet_next(&h), 16000 + MS);
    assert_int_equal(hpet_route(&h, 1, &isa), 21);
    assert_false(isa);
    now = 16000 + MS - 1;
    assert_int_equal(events(1), 0);
    now++;
    assert_int_equal(events(1), 1);
    assert_int_equal(events(1), 0);
    assert_true(hpet_next(&h) == DEV_NEVER);
    put(T(1) + 8, 5); /* passed: in 64 bits it does not come again */
    assert_true(hpet_next(&h) == DEV_NEVER);
    put(T(1), 21 << 9 | 1 << 8 | 1 << 2); /* in 32 it does */
    assert_int_equal((hpet_next(&h) - now) / 16, (1UL << 32) - 62500 + 5);
    put(T(1), 3 << 9 | 1 << 2); /* nothing is there */
    assert_int_equal(hpet_route(&h, 1, &isa), -1);
    put(T(1), 21 << 9);
    assert_true(hpet_next(&h) == DEV_NEVER); /* disabled */
}

static void repeating(void **state)
{
    put(0x10, 1);
    put(T(0), 20 << 9 | 1 << 6 | 1 << 3 | 1 << 2);
    put(T(0) + 8, 62500);
    put(T(0) + 8, 125000); /* each 2 ms from 1 ms on */
    assert_int_equal(get(T(0) + 8), 62500);
    now = 16000 + MS;
    assert_int_equal(events(0), 1);
    assert_int_equal(hpet_next(&h), now + 2 * MS);
    now += 7 * MS;
    assert_int_equal(events(0), 3);
    assert_int_equal(get(T(0) + 8), 62500 + 4 * 125000);
    put(T(0) + 8, 1); /* nobody gets that many */
    uint64_t start = now, sum = 0;
    while (now < start + 10 * MS) {
        uint64_t next = hpet_next(&h);
        assert_true(next > now);
        now = next;
        sum += events(0);
    }
    assert_in_range(sum, 50, 101);
    put(T(0) + 8, 0);
    assert_true(hpet_next(&h) > now);
}

/* However often somebody looks, and whatever the period, it is heard 10000 times a second. */
static void too_often(void **state)
{
    static const uint64_t periods[] = {1, 7, 6249, 6250};
    for (unsigned i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
        unsigned heard = 0;
        hpet_reset(&h);
        put(0x10, 1);
        put(T(0), 20 << 9 | 1 << 6 | 1 << 3 | 1 << 2);
        put(T(0) + 8, get(0xf0) + 1);
        put(T(0) + 8, periods[i]);
        for (unsigned us = 0; us < 100000; us++, now += 1000)
            heard += events(0);
        assert_in_range(heard, 500, 1001);
        assert_true(hpet_next(&h) > now && hpet_next(&h) <= now + 2 * DEV_PERIOD_LEAST);
    }
}

static void levels(void **state)
{
    put(0x10, 1);
    put(T(2), 22 << 9 | 1 << 2 | 1 << 1);
    put(T(2) + 8, 62500);
    assert_false(hpet_level(&h, 2));
    now += MS;
    hpet_advance(&h, now);
    assert_true(hpet_level(&h, 2));
    assert_int_equal(get(0x20), 4);
    put(0x20, 3);
    assert_true(hpet_level(&h, 2));
    put(0x20, 4);
    assert_false(hpet_level(&h, 2));
}

static void legacy(void **state)
{
    bool isa;
    put(0x10, 2);
    assert_false(hpet_legacy(&h)); /* only while it runs */
    put(0x10, 3);
    assert_true(hpet_legacy(&h));
    assert_int_equal(hpet_route(&h, 0, &isa), 0);
    assert_true(isa);
    assert_int_equal(hpet_route(&h, 1, &isa), 8);
    put(T(2), 23 << 9);
    assert_int_equal(hpet_route(&h, 2, &isa), 23);
    assert_false(isa);
}

static void records(void **state)
{
    struct hvm_hw_hpet r, bad;
    put(0x10, 1);
    put(T(0), 20 << 9 | 1 << 6 | 1 << 3 | 1 << 2);
    put(T(0) + 8, 62500);
    put(T(0) + 8, 125000);
    now += 100000;
    hpet_save(&h, &r, now);
    assert_int_equal(r.mc64, 6250);
    assert_int_equal(hpet_check(&r), 0);
    struct hpet other;
    hpet_load(&other, &r, now + 5 * MS); /* time stood between */
    assert_int_equal(hpet_next(&other), hpet_next(&h) + 5 * MS);
    bad = r;
    bad.capability++;
    assert_true(hpet_check(&bad) < 0);
    bad = r;
    bad.timers[1].config |= 1 << 15;
    assert_true(hpet_check(&bad) < 0);
    bad = r;
    bad.isr = 8;
    assert_true(hpet_check(&bad) < 0);
    bad = r;
    bad.timers[2].config |= 1 << 8; /* 32 bits, but the comparator has more */
    assert_true(hpet_check(&bad) < 0);
}

/* --- ACPI's timer --- */

static void acpi(void **state)
{
    struct pmtimer t;
    struct hvm_hw_pmtimer r;
    now = 0;
    pmtimer_reset(&t, now);
    assert_int_equal(pmtimer_value(&t, 1000 * MS), 3579545);
    assert_true(pmtimer_next(&t) == DEV_NEVER);
    pmtimer_write(&t, 0xffff0000, 0xffff0000);
    assert_int_equal(pmtimer_events(&t), 0x07210000);
    uint64_t next = pmtimer_next(&t);
    assert_int_equal(pmtimer_value(&t, next), 1u << 31);
    assert_int_equal(pmtimer_value(&t, next - 1), (1u << 31) - 1);
    pmtimer_advance(&t, next - 1);
    assert_false(pmtimer_sci(&t));
    pmtimer_advance(&t, next);
    assert_true(pmtimer_sci(&t));
    assert_true(pmtimer_next(&t) == DEV_NEVER); /* until that is seen */
    pmtimer_write(&t, 1, 0xff);
    assert_false(pmtimer_sci(&t));
    assert_true(pmtimer_next(&t) > next);
    pmtimer_button(&t, PM1_POWER_BTN);
    assert_true(pmtimer_sci(&t));
    pmtimer_write(&t, 0, 0x00ff0000); /* the other byte of the enable register */
    assert_true(pmtimer_sci(&t));
    pmtimer_write(&t, 0, 0xff000000);
    assert_false(pmtimer_sci(&t));
    pmtimer_save(&t, &r, next);
    assert_int_equal(r.pm1a_sts, PM1_POWER_BTN);
    assert_int_equal(r.tmr_val, 1u << 31);
    assert_int_equal(pmtimer_check(&r), 0);
    pmtimer_load(&t, &r, next + 5);
    assert_int_equal(pmtimer_value(&t, next + 5), 1u << 31);
    pmtimer_advance(&t, next + 5);
    assert_int_equal(pmtimer_events(&t), PM1_POWER_BTN); /* no change of the bit */
    r.pm1a_en = 2;
    assert_true(pmtimer_check(&r) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(counting, setup),  cmocka_unit_test_setup(once, setup),
        cmocka_unit_test_setup(repeating, setup), cmocka_unit_test_setup(too_often, setup),
        cmocka_unit_test_setup(levels, setup),
        cmocka_unit_test_setup(legacy, setup),    cmocka_unit_test_setup(records, setup),
        cmocka_unit_test_setup(acpi, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
