/* SOURCES: hvm/dev/rtc.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/rtc.h"

static struct rtc r;
static uint64_t now;
#define SECOND 1000000000UL
/* 2024-02-28 23:59:58 UTC, a Wednesday. */
#define WALL 1709164798L

static uint8_t get(unsigned reg)
{
    rtc_select(&r, reg);
    return rtc_read(&r, now);
}
static void put(unsigned reg, unsigned value)
{
    rtc_select(&r, reg);
    rtc_write(&r, value, now);
}

static int setup(void **state)
{
    now = 1000;
    rtc_reset(&r, WALL * (int64_t)SECOND - 1000, 0, now);
    r.owed_most = 100;
    put(10, 0x20); /* no periodic flag */
    return 0;
}

static void check_time(unsigned year, unsigned month, unsigned day, unsigned weekday, unsigned hour,
                       unsigned minute, unsigned second)
{
    assert_int_equal(get(9), year);
    assert_int_equal(get(8), month);
    assert_int_equal(get(7), day);
    assert_int_equal(get(6), weekday);
    assert_int_equal(get(4), hour);
    assert_int_equal(get(2), minute);
    assert_int_equal(get(0), second);
}

static void calendar(void **state)
{
    check_time(0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x58);
    now += 2 * SECOND;
    check_time(0x24, 0x02, 0x29, 5, 0, 0, 0); /* a leap year */
    now += 86400 * SECOND;
    check_time(0x24, 0x03, 0x01, 6, 0, 0, 0);
    put(11, 0x06); /* binary */
    assert_int_equal(get(9), 24);
    put(11, 0x00); /* 12 hours */
    assert_int_equal(get(4), 0x12);
    now += 13 * 3600 * SECOND;
    assert_int_equal(get(4), 0x81);
    assert_int_equal(get(13), 0x80);
}

static void setting(void **state)
{
    put(11, 0x82);
    now += 10 * SECOND;
    assert_int_equal(get(0), 0x58); /* stands */
    put(9, 0x99);
    put(8, 0x12);
    put(7, 0x31);
    put(4, 0x23);
    put(2, 0x59);
    put(0, 0x59);
    put(11, 0x02);
    check_time(0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59);
    now += SECOND;
    check_time(0x00, 0x01, 0x01, 7, 0, 0, 0);
    put(2, 0x30); /* while it runs */
    check_time(0x00, 0x01, 0x01, 7, 0, 0x30, 0);
}

static void update(void **state)
{
    assert_int_equal(get(10) & 0x80, 0);
    now += SECOND - 1000 - 200000;
    assert_int_equal(get(10) & 0x80, 0x80);
    assert_int_equal(get(12), 0);
    put(11, 0x12);
    uint64_t next = rtc_next(&r, now);
    assert_in_range(next - now, 1, 300000);
    now = next;
    rtc_advance(&r, now);
    assert_true(rtc_line(&r));
    assert_int_equal(get(12), 0x90);
    assert_false(rtc_line(&r));
    assert_int_equal(rtc_next(&r, now) - now, SECOND);
    put(11, 0x92); /* setting it takes the update's interrupt away */
    assert_int_equal(get(11), 0x82);
    assert_true(rtc_next(&r, now) == ~0UL);
}

static void alarm_at(unsigned h, unsigned m, unsigned s, uint64_t seconds)
{
    setup(NULL);
    put(5, h);
    put(3, m);
    put(1, s);
    put(11, 0x22);
    uint64_t next = rtc_next(&r, now);
    if (!seconds) {
        assert_true(next == ~0UL);
        return;
    }
    assert_int_equal(next - now, seconds * SECOND);
    now = next - 1;
    rtc_advance(&r, now);
    assert_false(rtc_line(&r));
    now = next;
    rtc_advance(&r, now);
    assert_true(rtc_line(&r));
    assert_int_equal(get(12) & 0xa0, 0xa0);
}

static void alarms(void **state)
{
    alarm_at(0x23, 0x59, 0x59, 1);
    alarm_at(0x23, 0x59, 0x58, 86400);
    alarm_at(0x00, 0x00, 0x00, 2);
    alarm_at(0xff, 0xff, 0xff, 1);
    alarm_at(0xff, 0x00, 0x10, 12);
    alarm_at(0xff, 0xff, 0x57, 59);
    alarm_at(0x01, 0xff, 0xff, 3602);
    alarm_at(0x01, 0x30, 0xff, 5402);
    alarm_at(0x23, 0xff, 0x00, 2 + 23 * 3600);
    alarm_at(0x25, 0, 0, 0); /* never */
    setup(NULL);
    put(5, 0x00);
    put(3, 0x10);
    put(1, 0x00);
    now += 3600 * SECOND; /* nobody asked for an interrupt, but the flag is there */
    assert_int_equal(get(12), 0x30);
}

static void periodic(void **state)
{
    put(10, 0x26); /* 1024 Hz */
    put(11, 0x42);
    uint64_t first = rtc_next(&r, now);
    assert_in_range(first - now, 1, 976563);
    now = first;
    rtc_advance(&r, now);
    assert_true(rtc_line(&r));
    uint64_t next = rtc_next(&r, now);
    assert_in_range(next - now, 976000, 977000);
    now += 10 * (next - now) + 5; /* ten of them while the first waits: owed */
    unsigned n = 0;
    while (rtc_line(&r) || !n) {
        assert_int_equal(get(12) & 0x40, 0x40);
        n++;
    }
    assert_int_equal(n, 11);
    now += 3600 * SECOND;
    for (n = 0, rtc_advance(&r, now); rtc_line(&r); n++)
        (void)get(12);
    assert_int_equal(n, 101); /* no more than was allowed */
    r.owed_most = 0;
    now += SECOND;
    for (n = 0, rtc_advance(&r, now); rtc_line(&r); n++)
        (void)get(12);
    assert_int_equal(n, 1);
    put(10, 0x70); /* the divider is in reset */
    assert_true(rtc_next(&r, now) == ~0UL);
    put(10, 0x20); /* no rate */
    assert_true(rtc_next(&r, now) == ~0UL);
    for (unsigned rate = 1; rate < 16; rate++) {
        put(10, 0x20 | rate);
        rtc_advance(&r, now);
        uint64_t a = rtc_next(&r, now);
        rtc_advance(&r, a);
        uint64_t period = (rtc_next(&r, a) - a + 15000) / 30518; /* in 32768ths */
        assert_int_equal(period, rate == 1 ? 128 : rate == 2 ? 256 : 1u << (rate - 1));
        now = a;
    }
}

static void beyond(void **state)
{
    rtc_select(&r, 14);
    assert_false(rtc_ours(&r));
    rtc_select(&r, 0x8d); /* NMI is masked by that bit, elsewhere */
    assert_true(rtc_ours(&r));
    for (unsigned reg = 0; reg < 256; reg++)
        for (unsigned v = 0; v < 256; v += 3) {
            put(reg, v);
            (void)get(reg);
            assert_true(rtc_next(&r, now) > now);
        }
}

static void records(void **state)
{
    struct hvm_hw_rtc rec, bad;
    put(11, 0x42);
    put(0, 0x01);
    rtc_select(&r, 4);
    rtc_save(&r, &rec, now);
    assert_int_equal(rec.cmos_index, 4);
    assert_int_equal(rec.rtc_offset, -57);
    assert_int_equal(rtc_check(&rec), 0);
    struct rtc other;
    rtc_reset(&other, r.wall, 0, now);
    rtc_load(&other, &rec, now);
    assert_int_equal(rtc_read(&other, now), 0x23);
    bad = rec;
    bad.cmos_data[10] |= 0x80;
    assert_true(rtc_check(&bad) < 0);
    bad = rec;
    bad.rtc_offset = 1L << 62;
    assert_true(rtc_check(&bad) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(calendar, setup), cmocka_unit_test_setup(setting, setup),
        cmocka_unit_test_setup(update, setup),   cmocka_unit_test_setup(alarms, setup),
        cmocka_unit_test_setup(periodic, setup), cmocka_unit_test_setup(beyond, setup),
        cmocka_unit_test_setup(records, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
