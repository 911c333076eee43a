/* SOURCES: hvm/dev/pic.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/pic.h"

static struct pic p;

static void program(uint16_t port, uint8_t base, uint8_t icw3, uint8_t icw4)
{
    pic_write(&p, port, 0x11);
    pic_write(&p, port + 1, base);
    pic_write(&p, port + 1, icw3);
    pic_write(&p, port + 1, icw4);
}

static int setup(void **state)
{
    pic_reset(&p);
    program(0x20, 0x20, 4, 1);
    program(0xa0, 0x28, 2, 1);
    return 0;
}

static void pulse(unsigned irq)
{
    pic_set_line(&p, irq, true);
    pic_set_line(&p, irq, false);
}

static uint8_t take(void)
{
    int irq = pic_pending(&p);
    assert_true(irq >= 0);
    uint8_t vector = pic_vector(&p, irq);
    pic_accept(&p, irq);
    return vector;
}

static void priorities(void **state)
{
    assert_int_equal(pic_pending(&p), -1);
    pulse(5);
    pulse(1);
    pulse(12);
    assert_int_equal(take(), 0x21);
    assert_int_equal(pic_pending(&p), -1); /* 1 holds back the others */
    pulse(0);
    assert_int_equal(take(), 0x20);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(pic_pending(&p), -1); /* 1 is still in service */
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(take(), 0x2c); /* by the cascade, before 5 */
    pic_write(&p, 0x20, 0x0b);
    assert_int_equal(pic_read(&p, 0x20), 4);
    pic_write(&p, 0xa0, 0x0b);
    assert_int_equal(pic_read(&p, 0xa0), 0x10);
    pulse(8); /* its own controller would, the first does not: not specially fully nested */
    assert_int_equal(pic_pending(&p), -1);
    pic_write(&p, 0xa0, 0x20);
    pic_write(&p, 0x20, 0x62); /* by number */
    assert_int_equal(take(), 0x28);
    pic_write(&p, 0xa0, 0x20);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(take(), 0x25);
}

static void fully_nested(void **state)
{
    program(0x20, 0x20, 4, 0x11);
    pulse(12);
    assert_int_equal(take(), 0x2c);
    pulse(8);
    assert_int_equal(take(), 0x28);
    pulse(3); /* lower than the cascade; which does not count as in service */
    assert_int_equal(take(), 0x23);
}

static void masks(void **state)
{
    pic_write(&p, 0x21, 0xfe);
    assert_int_equal(pic_read(&p, 0x21), 0xfe);
    assert_int_equal(pic_set_line(&p, 3, true), LINE_LOST);
    assert_int_equal(pic_pending(&p), -1);
    pic_write(&p, 0x21, 0); /* it was remembered */
    assert_int_equal(pic_pending(&p), 3);
    pic_write(&p, 0x21, 4);
    pulse(9);
    pulse(3);
    assert_int_equal(take(), 0x23); /* the cascade is masked */
}

static void special_mask(void **state)
{
    pulse(2);
    pulse(1);
    assert_int_equal(take(), 0x21);
    pic_write(&p, 0x20, 0x68);
    pic_write(&p, 0x21, 0x02); /* masking what is in service lets lower ones in */
    pulse(6);
    assert_int_equal(take(), 0x26);
    pic_write(&p, 0x20, 0x48);
    pulse(4);
    assert_int_equal(pic_pending(&p), -1);
}

static void rotation(void **state)
{
    pic_write(&p, 0x20, 0xc3); /* 3 is lowest, 4 is highest */
    pulse(3);
    pulse(5);
    assert_int_equal(take(), 0x25);
    pic_write(&p, 0x20, 0xa0); /* end, and 5 is lowest now */
    pulse(6);
    assert_int_equal(take(), 0x26);
    pic_write(&p, 0x20, 0xe6);
    assert_int_equal(take(), 0x23);
    program(0x20, 0x20, 4, 3); /* automatic end */
    pic_write(&p, 0x20, 0x80);
    pulse(0);
    assert_int_equal(take(), 0x20);
    pulse(0);
    pulse(1);
    assert_int_equal(take(), 0x21);
    assert_int_equal(take(), 0x20);
    pic_write(&p, 0x20, 0x0b);
    assert_int_equal(pic_read(&p, 0x20), 0);
}

static void levels(void **state)
{
    pic_write(&p, 0x4d0, 0xff);
    pic_write(&p, 0x4d1, 0xff);
    assert_int_equal(pic_read(&p, 0x4d0), 0xf8);
    assert_int_equal(pic_read(&p, 0x4d1), 0xde);
    assert_int_equal(pic_set_line(&p, 5, true), LINE_TAKEN);
    assert_int_equal(take(), 0x25);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(take(), 0x25); /* still up */
    pic_set_line(&p, 5, false);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(pic_pending(&p), -1);
    pic_set_line(&p, 10, true);
    pic_set_line(&p, 10, false);
    assert_int_equal(pic_pending(&p), -1);
}

static void edges(void **state)
{
    assert_int_equal(pic_set_line(&p, 0, true), LINE_TAKEN);
    assert_int_equal(pic_set_line(&p, 0, true), LINE_LOST); /* no edge */
    pic_set_line(&p, 0, false);
    assert_int_equal(pic_set_line(&p, 0, true), LINE_MERGED);
    assert_int_equal(take(), 0x20);
    assert_int_equal(pic_pending(&p), -1);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(pic_pending(&p), -1);
}

static void polling(void **state)
{
    pulse(3);
    pic_write(&p, 0x20, 0x0c);
    assert_int_equal(pic_read(&p, 0x20), 0x83);
    pic_write(&p, 0x20, 0x0c);
    assert_int_equal(pic_read(&p, 0x20), 0);
    pic_write(&p, 0x20, 0x0a);
    assert_int_equal(pic_read(&p, 0x20), 0);
}

static void records(void **state)
{
    struct pic other;
    struct hvm_hw_vpic bad;
    pulse(3);
    pulse(14);
    pic_write(&p, 0x4d0, 0x20);
    pic_reset(&other);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pic_check(&p.chip[i], i), 0);
        pic_load(&other, &p.chip[i], i);
    }
    assert_memory_equal(other.chip, p.chip, sizeof(p.chip));
    assert_true(pic_check(&p.chip[0], 1) < 0);
    assert_true(pic_check(&p.chip[0], 2) < 0);
    bad = p.chip[0];
    bad.elcr = 1;
    assert_true(pic_check(&bad, 0) < 0);
    bad = p.chip[0];
    bad.irq_base = 3;
    assert_true(pic_check(&bad, 0) < 0);
    bad = p.chip[0];
    bad.priority_add = 8;
    assert_true(pic_check(&bad, 0) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(priorities, setup), cmocka_unit_test_setup(fully_nested, setup),
        cmocka_unit_test_setup(masks, setup),      cmocka_unit_test_setup(special_mask, setup),
        cmocka_unit_test_setup(rotation, setup),   cmocka_unit_test_setup(levels, setup),
        cmocka_unit_test_setup(edges, setup),      cmocka_unit_test_setup(polling, setup),
        cmocka_unit_test_setup(records, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
