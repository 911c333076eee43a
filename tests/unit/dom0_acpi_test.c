/* SOURCES: dom0/acpi.c lib/string.c */
/* A PVH domain 0's tables: sums, what is listed, its CPUs, no MSIs, and what does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "acpi/acpi.h"
#include "dom0/internal.h"

#define AT 0x9c000UL

struct acpi_info acpi_info;
static uint8_t fadt[276];
static size_t fadt_size;
static uint8_t *buf;
static const char *const listed[] = {"FACP", "APIC", "HPET", "MCFG", "DMAR", "IVRS", "WAET"};

bool acpi_table_at(unsigned i, char signature[4], maddr_t *at)
{
    if (i >= sizeof(listed) / sizeof(listed[0]))
        return false;
    memcpy(signature, listed[i], 4);
    *at = maddr(0x7ff00000 + i * 0x1000);
    return true;
}

const void *acpi_find_table(const char signature[4], size_t *size)
{
    if (memcmp(signature, "FACP", 4) || !fadt_size)
        return NULL;
    *size = fadt_size;
    return fadt;
}

static size_t build(size_t size, unsigned vcpus)
{
    free(buf);
    buf = malloc(size ? size : 1); /* ASan sees a byte too many */
    memset(buf, 0xee, size);
    return dom0_acpi_build(buf, size, AT, vcpus);
}

static uint64_t word(uint64_t at, unsigned n)
{
    uint64_t v = 0;
    memcpy(&v, buf + (at - AT), n);
    return v;
}

static void assert_sum(uint64_t at, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += buf[at - AT + i];
    assert_int_equal(sum, 0);
}

static uint64_t xsdt_entry(unsigned i)
{
    return word(word(AT + 24, 8) + 36 + 8 * i, 8);
}

static int setup(void **state)
{
    memset(&acpi_info, 0, sizeof(acpi_info));
    for (unsigned i = 0; i < 16; i++)
        acpi_info.isa[i].gsi = i;
    acpi_info.isa[0].gsi = 2;
    acpi_info.isa[9] = (struct acpi_override){9, true, true};
    memset(fadt, 0, sizeof(fadt));
    memcpy(fadt, "FACP", 4);
    fadt_size = 244;
    fadt[8] = 3;
    fadt[109] = 2;
    return 0;
}

static void list(void **state)
{
    assert_true(build(8192, 2) > 0);
    assert_memory_equal(buf, "RSD PTR ", 8);
    assert_sum(AT, 20);
    assert_sum(AT, 36);
    uint64_t xsdt = word(AT + 24, 8);
    assert_memory_equal(buf + (xsdt - AT), "XSDT", 4);
    assert_sum(xsdt, word(xsdt + 4, 4));
    assert_int_equal(word(xsdt + 4, 4), 36 + 4 * 8); /* ours, MCFG, WAET */
    assert_int_equal(xsdt_entry(2), 0x7ff03000);
    assert_int_equal(xsdt_entry(3), 0x7ff06000);
}

static void no_msi(void **state)
{
    build(8192, 1);
    uint64_t f = xsdt_entry(0);
    assert_memory_equal(buf + (f - AT), "FACP", 4);
    assert_int_equal(word(f + 4, 4), 244);
    assert_int_equal(word(f + 109, 1), 2 | 8);
    assert_sum(f, 244);
    fadt_size = 116; /* ACPI 1.0: it grows */
    fadt[8] = 1;
    build(8192, 1);
    f = xsdt_entry(0);
    assert_int_equal(word(f + 4, 4), 244);
    assert_int_equal(word(f + 8, 1), 3);
    assert_int_equal(word(f + 116, 8), 0);
    assert_sum(f, 244);
}

static void processors(void **state)
{
    assert_true(build(8192, 130) > 0);
    uint64_t m = xsdt_entry(1), at = m + 44;
    assert_memory_equal(buf + (m - AT), "APIC", 4);
    assert_sum(m, word(m + 4, 4));
    assert_int_equal(word(m + 36, 4), 0xfee00000);
    assert_int_equal(word(m + 40, 4), 0); /* no 8259s */
    for (unsigned i = 0; i < 130; i++, at += word(at + 1, 1)) {
        bool wide = 2 * i >= 255; /* as APIC number 255 is everybody's */
        assert_int_equal(word(at, 1), wide ? 9 : 0);
        assert_int_equal(wide ? word(at + 4, 4) : word(at + 3, 1), 2 * i);
        assert_int_equal(word(at + (wide ? 8 : 4), 4), 1);
    }
    assert_int_equal(word(at, 1), 1); /* one IO-APIC */
    assert_int_equal(word(at + 4, 4), 0xfec00000);
    at += 12;
    assert_int_equal(word(at, 2), 2 | 10 << 8); /* overrides where the machine has them */
    assert_int_equal(word(at + 3, 1), 0);
    assert_int_equal(word(at + 4, 4), 2);
    at += 10;
    assert_int_equal(word(at + 3, 1), 9);
    assert_int_equal(word(at + 8, 2), 15);
    assert_int_equal(at + 10, m + word(m + 4, 4));
}

static void too_small(void **state)
{
    size_t need = build(8192, 4);
    for (size_t size = 0; size + 16 < need; size++)
        assert_int_equal(build(size, 4), 0);
    assert_int_equal(build(need, 4), need);
    fadt_size = 0;
    assert_int_equal(build(8192, 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(list, setup),
        cmocka_unit_test_setup(no_msi, setup),
        cmocka_unit_test_setup(processors, setup),
        cmocka_unit_test_setup(too_small, setup),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(buf);
    return failed;
}
