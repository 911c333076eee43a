/* SOURCES: hvm/dev/ioapic.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hvm/dev/ioapic.h"

static struct ioapic io;
static struct lapic_ipi sent;
static unsigned sends;
static enum line_result answer;

static enum line_result send(struct ioapic *which, const struct lapic_ipi *ipi)
{
    sent = *ipi;
    sends++;
    return answer;
}
static unsigned dones, done_pin;

static void done(struct ioapic *which, unsigned pin)
{
    assert_ptr_equal(which, &io);
    dones++;
    done_pin = pin;
}
static const struct ioapic_ops ops = {send, done};

static int setup(void **state)
{
    ioapic_reset(&io, &ops);
    sends = dones = 0;
    answer = LINE_TAKEN;
    return 0;
}

static void write_reg(unsigned index, uint32_t value)
{
    ioapic_write(&io, 0, index);
    ioapic_write(&io, 0x10, value);
}

static uint32_t read_reg(unsigned index)
{
    ioapic_write(&io, 0, index);
    return ioapic_read(&io, 0x10);
}

static void edge(void **state)
{
    assert_int_equal(ioapic_set_line(&io, 4, true), LINE_LOST); /* masked */
    ioapic_set_line(&io, 4, false);
    write_reg(0x19, 0x12000000);
    write_reg(0x18, 0x41 | 1 << 11);
    assert_int_equal(sends, 0); /* that edge is gone */
    assert_int_equal(ioapic_set_line(&io, 4, true), LINE_TAKEN);
    assert_int_equal(sends, 1);
    assert_int_equal(sent.vector, 0x41);
    assert_int_equal(sent.dest, 0x12);
    assert_true(sent.logical && !sent.level);
    assert_int_equal(ioapic_set_line(&io, 4, true), LINE_LOST);
    ioapic_set_line(&io, 4, false);
    answer = LINE_MERGED;
    assert_int_equal(ioapic_set_line(&io, 4, true), LINE_MERGED);
    assert_int_equal(read_reg(0x18), 0x841);
}

static void level(void **state)
{
    write_reg(0x3c, 0x8051);
    ioapic_set_line(&io, 22, true);
    assert_int_equal(sends, 1);
    assert_true(sent.level);
    assert_int_equal(read_reg(0x3c), 0xc051);
    ioapic_set_line(&io, 22, false);
    ioapic_set_line(&io, 22, true);
    assert_int_equal(sends, 1); /* waits for its end */
    ioapic_eoi(&io, 0x52);      /* another's */
    assert_int_equal(sends, 1);
    assert_int_equal(dones, 0);
    ioapic_eoi(&io, 0x51);
    assert_int_equal(sends, 2);
    assert_int_equal(dones, 1);
    assert_int_equal(done_pin, 22);
    ioapic_set_line(&io, 22, false);
    ioapic_eoi(&io, 0x51);
    assert_int_equal(sends, 2);
    assert_int_equal(read_reg(0x3c), 0x8051);

    ioapic_set_line(&io, 22, true);
    write_reg(0x3c, 0x18051); /* masked while it waits */
    ioapic_eoi(&io, 0x51);
    assert_int_equal(sends, 3);
    write_reg(0x3c, 0x8051); /* and is there again */
    assert_int_equal(sends, 4);
    dones = 0;
    write_reg(0x3c, 0x10051); /* edge: forgets */
    assert_int_equal(dones, 1);
    assert_int_equal(read_reg(0x3c), 0x10051);
    answer = LINE_LOST; /* nobody takes it: it does not wait for an end */
    write_reg(0x3c, 0x8051);
    assert_int_equal(read_reg(0x3c), 0x8051);
}

static void registers(void **state)
{
    assert_int_equal(read_reg(1), 0x2f0011);
    write_reg(1, 0);
    assert_int_equal(read_reg(1), 0x2f0011);
    write_reg(0, 0xffffffff);
    assert_int_equal(read_reg(0), 0x0f000000);
    write_reg(0x6e, 0xffffffff);
    write_reg(0x6f, 0xffffffff);
    assert_int_equal(read_reg(0x6e), 0x1afff);
    assert_int_equal(read_reg(0x6f), 0xff000000);
    for (unsigned r = 0; r < 256; r++)
        if (r < 0x10 || r > 0x6f)
            write_reg(r, 0xffffffff);
    assert_int_equal(read_reg(0x70), 0);
    assert_int_equal(ioapic_read(&io, 0x40), 0);
    assert_false(ioapic_extint(&io));
    write_reg(0x10, 0x700);
    assert_true(ioapic_extint(&io));
    ioapic_set_line(&io, 0, true);
    assert_int_equal(sends, 0);
}

static void records(void **state)
{
    struct hvm_hw_vioapic r = io.regs;
    assert_int_equal(ioapic_check(&r), 0);
    r.redirtbl[47].bits = 0x8051 | 1 << 14 | 1 << 12;
    assert_int_equal(ioapic_check(&r), 0);
    ioapic_load(&io, &r);
    assert_int_equal(read_reg(0x6e), 0xc051);
    r.redirtbl[47].bits = 0x51 | 1 << 14; /* an edge waits for no end */
    assert_true(ioapic_check(&r) < 0);
    r = io.regs;
    r.redirtbl[3].bits |= 1UL << 40;
    assert_true(ioapic_check(&r) < 0);
    r = io.regs;
    r.base_address += 0x1000;
    assert_true(ioapic_check(&r) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(edge, setup),
        cmocka_unit_test_setup(level, setup),
        cmocka_unit_test_setup(registers, setup),
        cmocka_unit_test_setup(records, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
