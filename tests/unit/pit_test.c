/* SOURCES: hvm/dev/pit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/pit.h"

static struct pit p;
static uint64_t now;
#define MS 1000000UL

static int setup(void **state)
{
    now = 12345678;
    pit_reset(&p, now);
    return 0;
}

static void program(unsigned channel, unsigned mode, unsigned count)
{
    pit_write(&p, 0x43, channel << 6 | 0x30 | mode << 1, now);
    pit_write(&p, 0x40 + channel, count & 0xff, now);
    pit_write(&p, 0x40 + channel, count >> 8, now);
}

static unsigned read_latched(unsigned channel)
{
    pit_write(&p, 0x43, channel << 6, now);
    unsigned low = pit_read(&p, 0x40 + channel, now);
    now += 3 * MS;
    return low | (unsigned)pit_read(&p, 0x40 + channel, now) << 8;
}

static void rate(void **state)
{
    uint64_t start = now;
    assert_true(pit_next(&p) == ~0UL); /* nothing is loaded */
    program(0, 2, 11932);              /* 10 ms and a bit */
    uint64_t next = pit_next(&p);
    assert_in_range(next - start, 10 * MS, 10 * MS + 1000);
    now = next - 1;
    assert_int_equal(pit_advance(&p, now), 0);
    now = next;
    assert_int_equal(pit_advance(&p, now), 1);
    assert_int_equal(pit_advance(&p, now), 0);
    now = start + 55 * MS;
    assert_int_equal(pit_advance(&p, now), 4);
    assert_in_range(pit_next(&p) - start, 60 * MS, 60 * MS + 2000);
    now = start + 65 * MS; /* half way */
    assert_in_range(read_latched(0), 5900, 6100);
    pit_write(&p, 0x43, 0x34, now); /* a new mode without a count stops it */
    assert_true(pit_next(&p) == ~0UL);
}

static void square(void **state)
{
    program(0, 3, 11932);
    now += 2 * MS + 500000;
    assert_in_range(read_latched(0), 5900, 6100); /* by two: a quarter is half of the count */
    pit_write(&p, 0x43, 0xe2, now);               /* 5.5 ms: OUT is low */
    assert_int_equal(pit_read(&p, 0x40, now), 0x36);
    now += 5 * MS;
    pit_write(&p, 0x43, 0xe2, now);
    assert_int_equal(pit_read(&p, 0x40, now), 0xb6);
}

static void once(void **state)
{
    program(0, 0, 1193);
    uint64_t next = pit_next(&p);
    assert_in_range(next - now, 990000, 1001000);
    now = next + 5000 * MS;
    assert_int_equal(pit_advance(&p, now), 1);
    assert_int_equal(pit_advance(&p, now), 0);
    assert_true(pit_next(&p) == ~0UL);
}

static void fast(void **state)
{
    uint64_t start = now, sum = 0;
    program(0, 2, 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(pit_next(&p) > now);
        now = pit_next(&p);
        sum += pit_advance(&p, now);
    }
    assert_int_equal(sum, 100);
    assert_true(now - start >= 99 * 100000UL);
}

static void speaker(void **state)
{
    pit_write(&p, 0x61, 1, now);
    program(2, 0, 11932);
    assert_int_equal(pit_read(&p, 0x61, now) & 0x2f, 1);
    now += 4 * MS;
    pit_write(&p, 0x61, 0, now); /* gate off: it stands */
    now += 100 * MS;
    assert_int_equal(pit_read(&p, 0x61, now) & 0x2f, 0);
    pit_write(&p, 0x61, 3, now);
    now += 5 * MS;
    assert_int_equal(pit_read(&p, 0x61, now) & 0x2f, 3);
    now += 2 * MS;
    assert_int_equal(pit_read(&p, 0x61, now) & 0x2f, 0x23);
    pit_write(&p, 0x61, 0, now);
    program(2, 1, 1193); /* waits for its trigger, the gate */
    now += 5 * MS;
    assert_int_equal(pit_read(&p, 0x61, now) & 0x20, 0x20);
    pit_write(&p, 0x61, 1, now);
    assert_int_equal(pit_read(&p, 0x61, now) & 0x20, 0);
    now += 2 * MS;
    assert_int_equal(pit_read(&p, 0x61, now) & 0x20, 0x20);
    assert_true((pit_read(&p, 0x61, now) ^ pit_read(&p, 0x61, now + 15085)) & 0x10);
}

static void decimal(void **state)
{
    pit_write(&p, 0x43, 0x31, now);
    pit_write(&p, 0x40, 0x00, now);
    pit_write(&p, 0x40, 0x12, now); /* 1200 */
    assert_int_equal(p.channel[0].count, 1200);
    now += 167 * 1000; /* 199 ticks */
    assert_int_equal(read_latched(0), 0x1001);
}

static void bytes(void **state)
{
    pit_write(&p, 0x43, 0x94, now); /* channel 2, low byte only */
    pit_write(&p, 0x42, 0x80, now);
    assert_int_equal(p.channel[2].count, 0x80);
    pit_write(&p, 0x43, 0xa4, now); /* high byte only */
    pit_write(&p, 0x42, 0x80, now);
    assert_int_equal(p.channel[2].count, 0x8000);
    assert_int_equal(pit_read(&p, 0x42, now), 0x80);
    program(0, 2, 0); /* 0 is the most */
    assert_int_equal(p.channel[0].count, 65536);
    assert_int_equal(pit_read(&p, 0x43, now), 0xff);
}

/* Digits that there are not: whatever it counts from, it is no more than the most. */
static void no_digits(void **state)
{
    struct hvm_hw_pit r;
    pit_write(&p, 0x43, 0x35, now);
    pit_write(&p, 0x40, 0xff, now);
    pit_write(&p, 0x40, 0xff, now);
    pit_save(&p, &r);
    assert_in_range(r.channels[0].count, 1, 10000);
    assert_int_equal(pit_check(&r), 0);
}

static void records(void **state)
{
    struct hvm_hw_pit r, bad;
    program(0, 2, 1193);
    pit_write(&p, 0x43, 0xc2, now); /* latched, status too */
    pit_save(&p, &r);
    assert_int_equal(pit_check(&r), 0);
    struct pit other;
    pit_load(&other, &r, now);
    assert_int_equal(pit_read(&other, 0x40, now), pit_read(&p, 0x40, now));
    assert_true(pit_next(&other) == pit_next(&p));
    bad = r;
    bad.channels[1].mode = 6;
    assert_true(pit_check(&bad) < 0);
    bad = r;
    bad.channels[2].count = 65537;
    assert_true(pit_check(&bad) < 0);
    bad = r;
    bad.channels[0].rw_mode = 0;
    assert_true(pit_check(&bad) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(rate, setup),      cmocka_unit_test_setup(square, setup),
        cmocka_unit_test_setup(once, setup),      cmocka_unit_test_setup(fast, setup),
        cmocka_unit_test_setup(speaker, setup),   cmocka_unit_test_setup(decimal, setup),
        cmocka_unit_test_setup(bytes, setup),     cmocka_unit_test_setup(records, setup),
        cmocka_unit_test_setup(no_digits, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
