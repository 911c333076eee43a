/* SOURCES: lib/bitmap.c */
/* Searching and counting beside a bit-by-bit model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/bitmap.h"

static unsigned model_next(const uint64_t *map, unsigned bits, unsigned from, bool want)
{
    for (; from < bits; from++)
        if (bit_test(map, from) == want)
            return from;
    return bits;
}

static void test_against_model(void **state)
{
    static const unsigned sizes[] = {1, 63, 64, 65, 128, 200, 256};
    srand(1);
    for (int round = 0; round < 300; round++) {
        unsigned bits = sizes[round % ARRAY_SIZE(sizes)], weight = 0;
        /* Exactly as long as promised, so that a look beyond it shows. */
        uint64_t *map = malloc(BITMAP_WORDS(bits) * sizeof(*map));
        memset(map, round & 1 ? 0xff : 0, BITMAP_WORDS(bits) * sizeof(*map));
        for (int i = 0; i < round % 40; i++) {
            unsigned bit = (unsigned)rand() % bits;
            if (round & 1)
                bit_clear(map, bit);
            else
                bit_set(map, bit);
        }
        for (unsigned i = 0; i < bits; i++)
            weight += bit_test(map, i);
        assert_int_equal(bitmap_weight(map, bits), weight);
        for (unsigned from = 0; from <= bits + 2; from++) {
            unsigned set = from < bits ? model_next(map, bits, from, true) : bits;
            unsigned clear = from < bits ? model_next(map, bits, from, false) : bits;
            assert_int_equal(bitmap_next_set(map, bits, from), set);
            assert_int_equal(bitmap_next_clear(map, bits, from), clear);
        }
        free(map);
    }
}

static void test_atomic(void **state)
{
    uint64_t map[2] = {0};
    assert_false(atomic_bit_set(map, 70));
    assert_true(atomic_bit_set(map, 70));
    assert_int_equal(map[1], 1UL << 6);
    assert_true(atomic_bit_clear(map, 70));
    assert_false(atomic_bit_clear(map, 70));
    assert_int_equal(map[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
