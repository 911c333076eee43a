/* SOURCES: lib/range.c fake/alloc.c */
/* Range sets beside a bitmap model; the ends of the number line; no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "lib/range.h"

#define SPAN 64

static void compare(const struct range_set *s, const bool *model)
{
    for (unsigned i = 0; i + 1 < s->count; i++)
        assert_true(s->r[i].last + 1 < s->r[i + 1].first); /* sorted, apart */
    for (unsigned first = 0; first < SPAN; first++) {
        bool all = true, any = false;
        for (unsigned last = first; last < SPAN; last++) {
            all &= model[last];
            any |= model[last];
            assert_int_equal(range_contains(s, first, last), all);
            assert_int_equal(range_overlaps(s, first, last), any);
        }
    }
}

static void test_against_model(void **state)
{
    srand(3);
    struct range_set s = {0};
    bool model[SPAN] = {0};
    for (int step = 0; step < 1500; step++) {
        unsigned first = (unsigned)rand() % SPAN;
        unsigned last = first + (unsigned)rand() % 6;
        if (last >= SPAN)
            last = SPAN - 1;
        bool add = rand() % 2;
        assert_int_equal(add ? range_add(&s, first, last) : range_remove(&s, first, last), 0);
        for (unsigned i = first; i <= last; i++)
            model[i] = add;
        compare(&s, model);
    }
    range_free(&s);
    assert_int_equal(s.count, 0);
    assert_int_equal(fake_alloc_live, 0);
}

static void test_ends(void **state)
{
    struct range_set s = {0};
    assert_int_equal(range_add(&s, 5, 4), -XEN_EINVAL);
    assert_int_equal(range_remove(&s, 5, 4), -XEN_EINVAL);
    assert_false(range_contains(&s, 0, ~0UL));
    assert_int_equal(range_add(&s, 0, ~0UL), 0);
    assert_true(range_contains(&s, 0, ~0UL));
    assert_int_equal(range_remove(&s, ~0UL, ~0UL), 0);
    assert_int_equal(range_remove(&s, 0, 0), 0);
    assert_true(range_contains(&s, 1, ~0UL - 1));
    assert_false(range_overlaps(&s, 0, 0));
    assert_false(range_overlaps(&s, ~0UL, ~0UL));
    assert_int_equal(range_add(&s, ~0UL, ~0UL), 0);
    assert_int_equal(range_add(&s, 0, 0), 0);
    assert_int_equal(s.count, 1);
    assert_false(range_contains(&s, 9, 8));
    range_free(&s);
}

static void test_no_memory(void **state)
{
    struct range_set s = {0};
    fake_alloc_fail_in = 1;
    assert_int_equal(range_add(&s, 1, 2), -XEN_ENOMEM);
    assert_int_equal(s.count, 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(range_add(&s, i * 10, i * 10 + 4), 0);
    fake_alloc_fail_in = 1; /* full: both a new one and a cut in two must grow */
    assert_int_equal(range_add(&s, 1000, 1000), -XEN_ENOMEM);
    fake_alloc_fail_in = 1;
    assert_int_equal(range_remove(&s, 2, 2), -XEN_ENOMEM);
    fake_alloc_fail_in = 0;
    assert_int_equal(s.count, 8);
    assert_true(range_contains(&s, 0, 4));
    range_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
