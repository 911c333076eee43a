/* SOURCES: time/tsc.c fake/cpu.c */
/* TSC to nanoseconds and back, over the frequencies there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "time/internal.h"

static const uint64_t frequencies[] = {1000000,    49999999,   999999999,  1000000000,
                                       1000000001, 1193182000, 2000000000, 2000000001,
                                       2596124321, 3999999999, 4000000001, 6500000000};
#define BASE 123456789012UL

static void scale_is_right(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
        uint64_t hz = frequencies[i];
        tsc_set_frequency(hz, BASE);
        assert_int_equal(time_tsc_khz(), hz / 1000);
        assert_int_equal(time_from_tsc(BASE), 0);
        /* 30 days: the multiplier has 31 bits or more */
        uint64_t seconds = 30 * 86400;
        double got = (double)time_from_tsc(BASE + hz * seconds), want = seconds * 1e9;
        assert_true(got <= want + 4 && got > want * (1 - 1.0 / (1UL << 30)));
        assert_in_range(time_scale()->mul, 0x7fffff00, 0xffffffff);
    }
}

static void never_runs_backwards(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
        tsc_set_frequency(frequencies[i], BASE);
        ns_t last = 0;
        for (uint64_t t = 0; t < 100000; t++) {
            ns_t now = time_from_tsc(BASE + (1UL << 50) + t);
            assert_true(now >= last);
            last = now;
        }
        assert_int_equal(time_from_tsc(BASE - 1000), 0); /* another CPU's, a little behind */
    }
}

static void inverse_is_exact(void **state)
{
    srandom(2);
    for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
        tsc_set_frequency(frequencies[i], BASE);
        for (unsigned n = 0; n < 20000; n++) {
            ns_t when = ((uint64_t)random() << 25 ^ (uint64_t)random()) >> (n % 50);
            uint64_t tsc = time_to_tsc(when);
            if (!when)
                continue;
            assert_true(time_from_tsc(tsc) >= when);
            assert_true(time_from_tsc(tsc - 1) < when);
        }
        assert_int_equal(time_to_tsc(0), BASE);
        assert_true(time_to_tsc(NS_NEVER) > 1UL << 62);
        assert_true(time_to_tsc(SECONDS(86400) * 365 * 100) > BASE);
    }
}

/* The formula of the ABI, computed as a guest does it. */
static void guests_agree(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
        tsc_set_frequency(frequencies[i], BASE);
        const struct tsc_scale *s = time_scale();
        for (uint64_t t = 0; t < 1UL << 55; t = t * 3 + 7) {
            uint64_t d = s->shift < 0 ? t >> -s->shift : t << s->shift;
            uint64_t ns = s->base_ns + (uint64_t)((unsigned __int128)d * s->mul >> 32);
            assert_int_equal(ns, time_from_tsc(BASE + t));
            if (s->shift > 4 && t > 1UL << 40)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_is_right),
        cmocka_unit_test(never_runs_backwards),
        cmocka_unit_test(inverse_is_exact),
        cmocka_unit_test(guests_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
