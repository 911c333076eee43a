/* SOURCES: boot/e820.c lib/bitmap.c fake/cpu.c */
/* Memory maps made sane, beside a page-by-page model; and the awkward ones one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/internal.h"

struct bootinfo bootinfo;

static struct bootinfo b;
static struct raw_map raw;

static void start(void)
{
    memset(&raw, 0, sizeof(raw));
    memset(&b, 0, sizeof(b));
}

static void check_order(void)
{
    for (unsigned i = 0; i < b.ranges; i++) {
        const struct e820_range *r = &b.map[i];
        assert_true(r->size > 0 && r->base + r->size > r->base);
        if (r->type == E820_RAM)
            assert_int_equal((r->base | r->size) & (PAGE_SIZE - 1), 0);
        if (i)
            assert_true(b.map[i - 1].base + b.map[i - 1].size <= r->base);
    }
}

static void expect(unsigned i, uint64_t base, uint64_t size, uint32_t type)
{
    assert_true(i < b.ranges);
    assert_int_equal(b.map[i].base, base);
    assert_int_equal(b.map[i].size, size);
    assert_int_equal(b.map[i].type, type);
}

static void test_plain(void **state)
{
    start();
    raw_map_add(&raw, 1UL << 32, 1UL << 32, E820_RAM); /* unsorted; above 4 GiB */
    raw_map_add(&raw, 0, 0x9fc00, E820_RAM);
    raw_map_add(&raw, 0x9fc00, 0x400, E820_RESERVED);
    raw_map_add(&raw, 0x100000, 0x100000, E820_RAM);
    raw_map_add(&raw, 0x200000, 0x100000, E820_RAM); /* touches: joined */
    raw_map_add(&raw, 0x5000, 0, E820_RESERVED);     /* empty */
    e820_sanitise(&b, &raw);
    check_order();
    assert_int_equal(b.ranges, 4);
    expect(0, 0, 0x9f000, E820_RAM);
    expect(1, 0x9fc00, 0x400, E820_RESERVED);
    expect(2, 0x100000, 0x200000, E820_RAM);
    expect(3, 1UL << 32, 1UL << 32, E820_RAM);
}

static void test_overlap(void **state)
{
    start();
    raw_map_add(&raw, 0x100000, 0x100000, E820_RAM);
    raw_map_add(&raw, 0x180800, 0x100, E820_NVS); /* inside one page of it */
    raw_map_add(&raw, 0x1f0000, 0x20000, E820_RESERVED);
    raw_map_add(&raw, 0x1ff000, 0x1000, E820_ACPI); /* loses to reserved */
    raw_map_add(&raw, 0x100000, 0x1000, 77);        /* unknown: reserved */
    e820_sanitise(&b, &raw);
    check_order();
    expect(0, 0x100000, 0x1000, E820_RESERVED);
    expect(1, 0x101000, 0x7f000, E820_RAM);
    expect(2, 0x180800, 0x100, E820_NVS);
    expect(3, 0x181000, 0x6f000, E820_RAM);
    expect(4, 0x1f0000, 0x20000, E820_RESERVED);
    assert_int_equal(b.ranges, 5);
}

static void test_wrapping(void **state)
{
    start();
    raw_map_add(&raw, 0x100000, 0x100000, E820_RAM);
    raw_map_add(&raw, 0x300000, ~0UL - 0x1000, E820_RAM);      /* not believed */
    raw_map_add(&raw, 1UL << 51, ~0UL, E820_RESERVED);         /* to the end */
    raw_map_add(&raw, ~0UL - 0xfff, 0x1000, E820_RAM);         /* beyond all addresses */
    raw_map_add(&raw, (1UL << 52) - 0x1000, 0x1000, E820_RAM); /* covered */
    e820_sanitise(&b, &raw);
    check_order();
    assert_int_equal(b.ranges, 2);
    expect(0, 0x100000, 0x100000, E820_RAM);
    expect(1, 1UL << 51, 1UL << 51, E820_RESERVED);

    start();
    e820_sanitise(&b, &raw);
    assert_int_equal(b.ranges, 0);
}

static void test_model(void **state)
{
    enum { PAGES = 64 };
    srand(9);
    for (int round = 0; round < 500; round++) {
        uint32_t type[PAGES] = {0};
        static const unsigned strength[] = {0, 1, 3, 2, 4, 5};
        start();
        for (int i = 0; i < 12; i++) {
            unsigned first = (unsigned)rand() % PAGES, n = (unsigned)rand() % 20;
            uint32_t t = 1 + (uint32_t)rand() % 5;
            raw_map_add(&raw, first * PAGE_SIZE, n * PAGE_SIZE, t);
            for (unsigned p = first; p < first + n && p < PAGES; p++)
                if (strength[t] > strength[type[p]])
                    type[p] = t;
        }
        e820_sanitise(&b, &raw);
        check_order();
        for (unsigned p = 0; p < PAGES; p++) {
            uint32_t found = 0;
            for (unsigned i = 0; i < b.ranges; i++)
                if (b.map[i].base <= p * PAGE_SIZE && p * PAGE_SIZE < b.map[i].base + b.map[i].size)
                    found = b.map[i].type;
            assert_int_equal(found, type[p]);
        }
    }
}

static void test_too_many(void **state)
{
    start();
    raw_map_add(&raw, 0, 1UL << 40, E820_RAM);
    for (unsigned i = 0; i < BOOT_MAX_RANGES + 10; i++)
        raw_map_add(&raw, i * 0x10000UL, 0x1000, E820_RESERVED);
    assert_int_equal(raw.count, BOOT_MAX_RANGES);
    e820_sanitise(&b, &raw);
    assert_int_equal(b.ranges, BOOT_MAX_RANGES);
    check_order();
}

static void test_limit(void **state)
{
    start();
    raw_map_add(&raw, 0, 0xa0000, E820_RAM);
    raw_map_add(&raw, 0x100000, 0x700000, E820_RAM);
    raw_map_add(&raw, 0x800000, 0x1000, E820_ACPI);
    raw_map_add(&raw, 1UL << 32, 1UL << 30, E820_RAM);
    e820_sanitise(&b, &raw);
    e820_limit(&b, 0x400800); /* rounded down */
    check_order();
    assert_int_equal(b.ranges, 5);
    expect(0, 0, 0xa0000, E820_RAM);
    expect(1, 0x100000, 0x300000, E820_RAM);
    expect(2, 0x400000, 0x400000, E820_RESERVED);
    expect(3, 0x800000, 0x1000, E820_ACPI);
    expect(4, 1UL << 32, 1UL << 30, E820_RESERVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_wrapping), cmocka_unit_test(test_model),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
