/* SOURCES: acpi/table.c acpi/madt.c acpi/misc.c fake/cpu.c */
/*
 * The firmware's tables. The input is what stands from 1 MiB on; a good RSDP leads there, and each
 * table that the XSDT names gets a right checksum, for the reader believes nothing else.
 */
#include "fuzz.h"

#include "acpi/acpi.h"
#include "mm/mm.h"

#define MEMORY    (2u << 20)
#define TABLES_AT 0x100000u
static uint8_t *ram;
uint8_t *fake_ram;
struct page *frame_table;
uint64_t *fake_m2p;

void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags)
{
    if (first.n > MEMORY / PAGE_SIZE || n > MEMORY / PAGE_SIZE - first.n)
        return NULL;
    uint8_t *copy = aligned_alloc(PAGE_SIZE, n * PAGE_SIZE);
    memcpy(copy, ram + first.n * PAGE_SIZE, n * PAGE_SIZE);
    return copy;
}

void vunmap(void *va, unsigned n)
{
    free(va);
}

static void seal(uint64_t at, uint32_t n, unsigned checksum)
{
    uint8_t sum = 0;
    if (at >= MEMORY || n > MEMORY - at || n <= checksum)
        return;
    ram[at + checksum] = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += ram[at + i];
    ram[at + checksum] = (uint8_t)-sum;
}

static void seal_tables(void)
{
    uint32_t n, size;
    memcpy(&n, ram + TABLES_AT + 4, 4);
    for (uint32_t i = 36; i + 8 <= n && i < 36 + 8 * 16 && TABLES_AT + i + 8 <= MEMORY; i += 8) {
        uint64_t at;
        memcpy(&at, ram + TABLES_AT + i, 8);
        if (at < MEMORY - 8) {
            memcpy(&size, ram + at + 4, 4);
            seal(at, size, 9);
        }
    }
    seal(TABLES_AT, n, 9);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    ram = calloc(1, MEMORY);
    fake_ram = ram;
    memcpy(ram + TABLES_AT, data, size);
    memcpy(ram + TABLES_AT, "XSDT", 4);
    seal_tables();
    uint64_t xsdt = TABLES_AT;
    memcpy(ram + 0xf0000, "RSD PTR ", 8);
    ram[0xf0000 + 15] = 2;
    ram[0xf0000 + 20] = 36;
    memcpy(ram + 0xf0000 + 24, &xsdt, 8);
    seal(0xf0000, 20, 8);
    seal(0xf0000, 36, 32);
    memset(&acpi_info, 0, sizeof(acpi_info));
    acpi_init(maddr(0xf0000));
    CHECK(acpi_info.cpus <= ACPI_MAX_CPUS && acpi_info.ioapics <= ACPI_MAX_IOAPICS);
    CHECK(acpi_info.mcfgs <= 4);
    free(ram);
    return 0;
}
