/* SOURCES: hvm/dev/mtrr.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/mtrr.h"

#define WIDTH 40

static struct mtrr m;

static int put(uint32_t msr, uint64_t value)
{
    return mtrr_write(&m, msr, value, WIDTH);
}

static uint64_t get(uint32_t msr)
{
    uint64_t value = 0xdead;
    assert_int_equal(mtrr_read(&m, msr, &value), 0);
    return value;
}

static int setup(void **state)
{
    memset(&m, 0, sizeof(m));
    return 0;
}

/* Intel SDM vol. 3 tables 12-8 and 12-9: which numbers there are. */
static void numbers(void **state)
{
    static const uint32_t there[] = {0xfe,  0x200, 0x20f, 0x250, 0x258,
                                     0x259, 0x268, 0x26a, 0x26f, 0x2ff};
    static const uint32_t none[] = {0xfd,  0xff,  0x1ff, 0x210, 0x24f, 0x251, 0x257,
                                    0x25a, 0x267, 0x270, 0x277, 0x2fe, 0x300};
    uint64_t value;
    for (unsigned i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
        assert_true(mtrr_is(there[i]));
        get(there[i]);
    }
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_false(mtrr_is(none[i]));
        assert_int_equal(mtrr_read(&m, none[i], &value), -XEN_EPERM);
        assert_int_equal(put(none[i], 0), -XEN_EPERM);
    }
    assert_int_equal(get(0xfe), 0x508);
    assert_int_equal(put(0xfe, 0x508), -XEN_EPERM); /* read-only */
}

static void keeps(void **state)
{
    unsigned n = 0;
    for (uint32_t msr = 0x200; msr < 0x210; msr += 2) {
        assert_int_equal(put(msr, (uint64_t)++n << 20 | 6), 0);
        assert_int_equal(put(msr + 1, 0xfff0000800UL + ((uint64_t)n << 12)), 0);
    }
    assert_int_equal(put(0x250, 0x0606060606060606UL), 0);
    assert_int_equal(put(0x258, 0x0101010101010101UL), 0);
    assert_int_equal(put(0x259, 0x0404040404040404UL), 0);
    for (uint32_t msr = 0x268; msr < 0x270; msr++)
        assert_int_equal(put(msr, msr & 1 ? 0x0505050505050505UL : 0x0000000600000001UL), 0);
    assert_int_equal(put(0x2ff, 0xc06), 0);
    n = 0;
    for (uint32_t msr = 0x200; msr < 0x210; msr += 2) {
        assert_int_equal(get(msr), (uint64_t)++n << 20 | 6);
        assert_int_equal(get(msr + 1), 0xfff0000800UL + ((uint64_t)n << 12));
    }
    assert_int_equal(get(0x250), 0x0606060606060606UL);
    assert_int_equal(get(0x258), 0x0101010101010101UL);
    assert_int_equal(get(0x259), 0x0404040404040404UL);
    for (uint32_t msr = 0x268; msr < 0x270; msr++)
        assert_int_equal(get(msr), msr & 1 ? 0x0505050505050505UL : 0x0000000600000001UL);
    assert_int_equal(get(0x2ff), 0xc06);
}

static void bad_bits(void **state)
{
    static const uint8_t bad_types[] = {2, 3, 7, 8, 0x86, 0xff};
    for (unsigned i = 0; i < sizeof(bad_types); i++) {
        assert_int_equal(put(0x2ff, bad_types[i]), -XEN_EPERM);
        assert_int_equal(put(0x200, bad_types[i]), -XEN_EPERM);
        for (unsigned at = 0; at < 64; at += 8)
            assert_int_equal(put(0x26b, (uint64_t)bad_types[i] << at), -XEN_EPERM);
    }
    for (unsigned bit = 8; bit < 64; bit++) {
        bool def = bit == 10 || bit == 11, address = bit >= 12 && bit < WIDTH;
        assert_int_equal(put(0x2ff, 1UL << bit), def ? 0 : -XEN_EPERM);
        assert_int_equal(put(0x202, 1UL << bit), address ? 0 : -XEN_EPERM);
        assert_int_equal(put(0x203, 1UL << bit), address || bit == 11 ? 0 : -XEN_EPERM);
    }
    for (unsigned bit = 0; bit < 8; bit++)
        assert_int_equal(put(0x203, 1UL << bit), -XEN_EPERM);
    /* What was refused has changed nothing. */
    assert_int_equal(get(0x26b), 0);
    assert_int_equal(get(0x200), 0);
}

static void pat(void **state)
{
    assert_true(pat_ok(PAT_RESET));
    assert_true(pat_ok(0x0706050401000000UL));
    for (unsigned at = 0; at < 64; at += 8) {
        assert_false(pat_ok(2UL << at));
        assert_false(pat_ok(3UL << at));
        assert_false(pat_ok(8UL << at));
        assert_false(pat_ok(0x87UL << at));
    }
}

static void records(void **state)
{
    struct hvm_hw_mtrr r, bad;
    struct mtrr was;
    keeps(state);
    mtrr_save(&m, &r);
    assert_int_equal(r.msr_mtrr_cap, 0x508);
    r.msr_pat_cr = PAT_RESET;
    assert_int_equal(mtrr_check(&r, WIDTH), 0);
    was = m;
    memset(&m, 0x55, sizeof(m));
    mtrr_load(&m, &r);
    assert_memory_equal(&m, &was, sizeof(m));

#define BAD(field, value)                                                                          \
    bad = r;                                                                                       \
    bad.field = value;                                                                             \
    assert_int_equal(mtrr_check(&bad, WIDTH), -XEN_EINVAL)
    BAD(msr_pat_cr, 2);
    BAD(msr_mtrr_cap, 0x509);
    BAD(msr_mtrr_def_type, 0x1006);
    BAD(msr_mtrr_var[14], 1UL << WIDTH);
    BAD(msr_mtrr_var[15], 1);
    BAD(msr_mtrr_fixed[10], 7);
#undef BAD
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(numbers, setup),  cmocka_unit_test_setup(keeps, setup),
        cmocka_unit_test_setup(bad_bits, setup), cmocka_unit_test_setup(pat, setup),
        cmocka_unit_test_setup(records, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
