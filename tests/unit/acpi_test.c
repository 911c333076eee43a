/* SOURCES: acpi/table.c acpi/madt.c acpi/misc.c fake/cpu.c */
/* The firmware's tables: found, read, and not believed when corrupt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "acpi/acpi.h"
#include "mm/mm.h"

#define MEMORY (2u << 20) /* of fake machine memory */
static uint8_t *ram;
static void *maps[64]; /* what is mapped now; tables stay so */

void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags)
{
    assert_int_equal(flags, MAP_RO);
    if (first.n + n > MEMORY / PAGE_SIZE)
        return NULL;
    /* Exactly these pages, so that ASan sees who reads beyond them. */
    uint8_t *copy = aligned_alloc(PAGE_SIZE, n * PAGE_SIZE);
    memcpy(copy, ram + first.n * PAGE_SIZE, n * PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
        if (!maps[i])
            return maps[i] = copy;
    }
    fail_msg("too many mappings");
    return NULL;
}

void vunmap(void *va, unsigned n)
{
    unsigned i = 0;
    while (maps[i] != va)
        assert_true(++i < ARRAY_SIZE(maps));
    maps[i] = NULL;
    free(va);
}

static void put16(uint64_t at, uint16_t v)
{
    memcpy(ram + at, &v, 2);
}
static void put32(uint64_t at, uint32_t v)
{
    memcpy(ram + at, &v, 4);
}
static void put64(uint64_t at, uint64_t v)
{
    memcpy(ram + at, &v, 8);
}

static void seal(uint64_t at, size_t size, size_t checksum)
{
    uint8_t sum = 0;
    ram[at + checksum] = 0;
    for (size_t i = 0; i < size; i++)
        sum += ram[at + i];
    ram[at + checksum] = (uint8_t)-sum;
}

static void table(uint64_t at, const char *signature, uint32_t size)
{
    memcpy(ram + at, signature, 4);
    put32(at + 4, size);
    seal(at, size, 9);
}

static void rsdp(uint64_t at, uint64_t rsdt, uint64_t xsdt)
{
    memcpy(ram + at, "RSD PTR ", 8);
    ram[at + 15] = xsdt ? 2 : 0;
    put32(at + 16, (uint32_t)rsdt);
    put32(at + 20, 36);
    put64(at + 24, xsdt);
    seal(at, 20, 8);
    seal(at, 36, 32);
}

enum {
    RSDP = 0xf5a10,
    XSDT = 0x101000,
    RSDT = 0x101800,
    MADT = 0x102f80,
    FADT = 0x104000,
    HPET = 0x105000,
    MCFG = 0x106000
};

static uint64_t madt_end;

static void madt_begin(void)
{
    madt_end = MADT + 44;
    put32(MADT + 36, 0xfee00000);
}

static uint64_t madt_entry(uint8_t type, uint8_t size)
{
    uint64_t at = madt_end;
    memset(ram + at, 0, size);
    ram[at] = type;
    ram[at + 1] = size;
    madt_end += size;
    return at;
}

static void madt_seal(void)
{
    table(MADT, "APIC", (uint32_t)(madt_end - MADT));
}

static void madt_lapic(uint8_t acpi_id, uint8_t apic_id, uint32_t flags)
{
    uint64_t e = madt_entry(0, 8);
    ram[e + 2] = acpi_id;
    ram[e + 3] = apic_id;
    put32(e + 4, flags);
}

static void build_good(void)
{
    memset(ram, 0, MEMORY);
    madt_begin();
    madt_lapic(1, 0, 1);
    madt_lapic(2, 5, 0);
    madt_lapic(3, 0xff, 1); /* filler */
    uint64_t e = madt_entry(9, 16);
    put32(e + 4, 300);
    put32(e + 8, 1);
    put32(e + 12, 77);
    e = madt_entry(1, 12);
    ram[e + 2] = 4;
    put32(e + 4, 0xfec00000);
    put32(e + 8, 24);
    e = madt_entry(2, 10); /* IRQ 0 is GSI 2 */
    put32(e + 4, 2);
    e = madt_entry(2, 10); /* IRQ 9: level, low */
    ram[e + 3] = 9;
    put32(e + 4, 20);
    put16(e + 8, 0xf);
    e = madt_entry(2, 10); /* no such ISA line */
    ram[e + 3] = 16;
    madt_seal();

    put16(FADT + 46, 9);
    put32(FADT + 56, 0x600);
    put32(FADT + 64, 0x604);
    put32(FADT + 76, 0x608);
    ram[FADT + 91] = 4;
    put32(FADT + 112, 1u << 8 | 1u << 10);
    ram[FADT + 116] = 1;
    put64(FADT + 120, 0xcf9);
    ram[FADT + 128] = 6;
    ram[FADT + 172] = 1; /* extended PM1a control block */
    put64(FADT + 176, 0x704);
    table(FADT, "FACP", 244);

    put64(HPET + 44, 0xfed00000);
    table(HPET, "HPET", 56);

    put64(MCFG + 44, 0xb0000000);
    ram[MCFG + 55] = 255;
    put64(MCFG + 60, 0xb0000001); /* not a base */
    ram[MCFG + 71] = 255;
    table(MCFG, "MCFG", 44 + 32);

    static const uint32_t all[] = {MADT, FADT, HPET, MCFG};
    for (unsigned i = 0; i < 4; i++) {
        put64(XSDT + 36 + i * 8, all[i]);
        put32(RSDT + 36 + i * 4, all[i]);
    }
    table(XSDT, "XSDT", 36 + 32);
    table(RSDT, "RSDT", 36 + 16);
    rsdp(RSDP, RSDT, XSDT);
}

static void unmap_all(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
        free(maps[i]);
        maps[i] = NULL;
    }
}

static void run(uint64_t hint)
{
    unmap_all();
    memset(&acpi_info, 0, sizeof(acpi_info));
    acpi_info.reset.space = 0xff;
    acpi_init(maddr(hint));
}

static void check_good(void)
{
    assert_int_equal(acpi_info.cpus, 3);
    assert_true(acpi_info.cpu[0].enabled);
    assert_int_equal(acpi_info.cpu[1].apic_id, 5);
    assert_false(acpi_info.cpu[1].enabled);
    assert_int_equal(acpi_info.cpu[2].apic_id, 300);
    assert_int_equal(acpi_info.cpu[2].acpi_id, 77);
    assert_int_equal(acpi_info.ioapics, 1);
    assert_int_equal(acpi_info.ioapic[0].id, 4);
    assert_int_equal(acpi_info.ioapic[0].gsi_base, 24);
    assert_int_equal(acpi_info.isa[0].gsi, 2);
    assert_false(acpi_info.isa[0].level);
    assert_int_equal(acpi_info.isa[9].gsi, 20);
    assert_true(acpi_info.isa[9].level && acpi_info.isa[9].active_low);
    assert_int_equal(acpi_info.isa[15].gsi, 15);
    assert_int_equal(acpi_info.lapic_address.a, 0xfee00000);
    assert_int_equal(acpi_info.pm_timer_port, 0x608);
    assert_true(acpi_info.pm_timer_32bit);
    assert_int_equal(acpi_info.sci_irq, 9);
    assert_int_equal(acpi_info.pm1a_event_port, 0x600);
    assert_int_equal(acpi_info.pm1a_control_port, 0x704);
    assert_int_equal(acpi_info.reset.space, 1);
    assert_int_equal(acpi_info.reset.address, 0xcf9);
    assert_int_equal(acpi_info.reset.value, 6);
    assert_int_equal(acpi_info.hpet.a, 0xfed00000);
    assert_int_equal(acpi_info.mcfgs, 1);
    assert_int_equal(acpi_info.mcfg[0].bus_last, 255);
}

static int setup(void **state)
{
    ram = calloc(1, MEMORY);
    return ram ? 0 : -1;
}

static int teardown(void **state)
{
    unmap_all();
    free(ram);
    return 0;
}

static void finds_by_hint(void **state)
{
    build_good();
    run(RSDP);
    check_good();
    assert_int_equal(acpi_info.rsdp.a, RSDP);
}

static void finds_by_search(void **state)
{
    build_good();
    run(0);
    check_good();
    assert_int_equal(acpi_info.rsdp.a, RSDP);
}

static void finds_in_ebda(void **state)
{
    build_good();
    memset(ram + RSDP, 0, 36);
    put16(0x40e, 0x9fc0);
    rsdp(0x9fc00 + 1008 - 48, RSDT, XSDT);
    run(0);
    check_good();
}

static void hint_is_wrong(void **state)
{
    build_good();
    run(0x1234);
    check_good();
    run(1UL << 60);
    check_good();
}

static void old_rsdt(void **state)
{
    build_good();
    rsdp(RSDP, RSDT, 0);
    run(RSDP);
    check_good();
    rsdp(RSDP, RSDT, XSDT); /* the extended part does not add up: the old list */
    ram[RSDP + 33] ^= 1;
    put64(XSDT + 36, 0);
    run(RSDP);
    check_good();
}

static void nothing_there(void **state)
{
    memset(ram, 0, MEMORY);
    run(0);
    assert_int_equal(acpi_info.cpus, 0);
    assert_int_equal(acpi_info.isa[7].gsi, 7);
    assert_int_equal(acpi_info.rsdp.a, 0);
}

static void bad_checksum(void **state)
{
    size_t size;
    build_good();
    ram[MADT + 50] ^= 0x10;
    run(RSDP);
    assert_int_equal(acpi_info.cpus, 0);
    assert_int_equal(acpi_info.hpet.a, 0xfed00000);
    assert_null(acpi_find_table("APIC", &size));
    build_good();
    ram[XSDT + 40] ^= 0x10;
    run(RSDP);
    assert_int_equal(acpi_info.hpet.a, 0);
}

static void absurd_sizes(void **state)
{
    static const uint32_t sizes[] = {0, 8, 35, 0x200000, 0xffffffff};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        build_good();
        put32(MADT + 4, sizes[i]);
        run(RSDP);
        assert_int_equal(acpi_info.cpus, 0);
        assert_int_equal(acpi_info.mcfgs, 1);
    }
    build_good();
    put64(XSDT + 36, 0xfffffffffffffff0UL); /* a table at the end of all addresses */
    seal(XSDT, 68, 9);
    run(RSDP);
    assert_int_equal(acpi_info.cpus, 0);
    assert_int_equal(acpi_info.mcfgs, 1);
}

static void madt_entry_sizes(void **state)
{
    static const uint8_t bad[] = {0, 1, 200};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        build_good();
        madt_begin();
        madt_lapic(1, 0, 1);
        uint64_t e = madt_end;
        madt_lapic(9, 9, 1);
        madt_lapic(2, 2, 1);
        ram[e + 1] = bad[i];
        madt_seal();
        run(RSDP);
        assert_int_equal(acpi_info.cpus, 1); /* what came before counts */
    }
    /* Entries too short for their kind are passed over. */
    build_good();
    madt_begin();
    madt_entry(0, 6);
    madt_entry(1, 8);
    madt_entry(9, 8);
    madt_entry(2, 4);
    madt_lapic(2, 2, 1);
    madt_seal();
    run(RSDP);
    assert_int_equal(acpi_info.cpus, 1);
    assert_int_equal(acpi_info.ioapics, 0);
}

static void too_many(void **state)
{
    build_good();
    madt_begin();
    for (unsigned i = 0; i < 300; i++) {
        uint64_t e = madt_entry(9, 16);
        put32(e + 4, i);
        put32(e + 8, 1);
    }
    for (unsigned i = 0; i < 40; i++)
        madt_entry(1, 12);
    madt_lapic(0, 0, 1); /* known already */
    madt_seal();
    run(RSDP);
    assert_int_equal(acpi_info.cpus, ACPI_MAX_CPUS);
    assert_int_equal(acpi_info.ioapics, ACPI_MAX_IOAPICS);
}

static void short_fadt(void **state)
{
    build_good();
    table(FADT, "FACP", 116);
    run(RSDP);
    assert_int_equal(acpi_info.reset.space, 0xff);
    assert_int_equal(acpi_info.pm1a_control_port, 0x604);
    table(FADT, "FACP", 60);
    run(RSDP);
    assert_int_equal(acpi_info.pm_timer_port, 0);
}

/* Anything at all, with checksums that are right: under ASan. */
static void random_contents(void **state)
{
    srandom(1);
    for (unsigned i = 0; i < 3000; i++) {
        build_good();
        static const uint32_t at[] = {MADT, FADT, HPET, MCFG, XSDT};
        uint32_t t = at[random() % 5], size;
        memcpy(&size, ram + t + 4, 4);
        for (unsigned n = random() % 8 + 1; n; n--)
            ram[t + 36 + random() % (size - 36)] = (uint8_t)random();
        if (random() % 4 == 0)
            put32(t + 4, size = (uint32_t)random() % size + 36);
        seal(t, size, 9);
        run(RSDP);
        assert_true(acpi_info.cpus <= ACPI_MAX_CPUS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_hint),    cmocka_unit_test(finds_by_search),
        cmocka_unit_test(finds_in_ebda),    cmocka_unit_test(hint_is_wrong),
        cmocka_unit_test(old_rsdt),         cmocka_unit_test(nothing_there),
        cmocka_unit_test(bad_checksum),     cmocka_unit_test(absurd_sizes),
        cmocka_unit_test(madt_entry_sizes), cmocka_unit_test(too_many),
        cmocka_unit_test(short_fadt),       cmocka_unit_test(random_contents),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
