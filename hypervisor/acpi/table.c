/*
 * Finding the firmware's tables: RSDP (from the loader, or by its signature in low memory), the
 * list it leads to (XSDT, or RSDT of old), and each table by signature (ACPI 6.5 section 5.2).
 *
 * Nothing read is believed: lengths are bounded, checksums verified, and a table that fails is as
 * good as absent. Tables lie in RAM or in reserved memory that the direct map leaves out, so each
 * is mapped when it is first asked for, and stays mapped.
 */
#include "acpi/internal.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "mm/mm.h"

#define MAX_TABLES     64
#define MAX_TABLE_SIZE (1u << 20)

#define LOW_MEMORY     0x100000
#define EBDA_POINTER   0x40e /* real-mode segment of the extended BIOS data area */
#define BIOS_START     0xe0000
#define RSDP_SIZE_1    20
#define RSDP_SIZE_2    36

struct acpi_info acpi_info = {.reset.space = 0xff};

static struct {
    char signature[4];
    maddr_t at;
    uint32_t size;
    const void *mapped; /* NULL until asked for, or when it turned out to be bad */
    bool bad;
} tables[MAX_TABLES];
static unsigned table_count;

static unsigned pages_of(maddr_t at, size_t size)
{
    return (unsigned)((at.a % PAGE_SIZE + size + PAGE_SIZE - 1) / PAGE_SIZE);
}

/* NULL also for addresses that the CPU does not have: firmware's pointers are not trusted. */
static const void *map(maddr_t at, size_t size)
{
    if (at.a + size < at.a || (at.a + size - 1) >> cpu_features.phys_bits)
        return NULL;
    uint8_t *va = vmap_contiguous(maddr_to_mfn(at), pages_of(at, size), MAP_RO);
    return va ? va + at.a % PAGE_SIZE : NULL;
}

static void unmap(const void *va, maddr_t at, size_t size)
{
    if (va)
        vunmap((uint8_t *)va - at.a % PAGE_SIZE, pages_of(at, size));
}

/* --- RSDP --- */

static bool is_rsdp(const uint8_t *p)
{
    return !memcmp(p, "RSD PTR ", 8) && !acpi_sum(p, RSDP_SIZE_1);
}

static uint64_t scan(const uint8_t *low, uint64_t from, uint64_t to)
{
    for (; from + RSDP_SIZE_2 <= to; from += 16)
        if (is_rsdp(low + from))
            return from;
    return 0;
}

static maddr_t search_rsdp(void)
{
    const uint8_t *low = map(maddr(0), LOW_MEMORY);
    if (!low)
        return maddr(0);
    uint64_t found = 0, ebda = (uint64_t)acpi_u16(low, EBDA_POINTER) << 4;
    if (ebda >= 0x400 && ebda <= LOW_MEMORY - 1024)
        found = scan(low, ebda, ebda + 1024);
    if (!found)
        found = scan(low, BIOS_START, LOW_MEMORY);
    unmap(low, maddr(0), LOW_MEMORY);
    return maddr(found);
}

/* The list of tables that a valid RSDP names; 0 when it is not valid. */
static maddr_t read_rsdp(maddr_t at, bool *wide)
{
    maddr_t list = maddr(0);
    const uint8_t *p = map(at, RSDP_SIZE_2);
    if (p && is_rsdp(p)) {
        *wide = p[15] >= 2 && !acpi_sum(p, RSDP_SIZE_2) && acpi_u64(p, 24);
        list = maddr(*wide ? acpi_u64(p, 24) : acpi_u32(p, 16));
    }
    unmap(p, at, RSDP_SIZE_2);
    return list;
}

/* --- tables --- */

/* The whole table, checked; NULL. */
static const void *map_table(maddr_t at, uint32_t size)
{
    if (size < ACPI_HEADER_SIZE || size > MAX_TABLE_SIZE)
        return NULL;
    const void *t = map(at, size);
    if (t && acpi_sum(t, size)) {
        unmap(t, at, size);
        return NULL;
    }
    return t;
}

static bool read_header(maddr_t at, char signature[4], uint32_t *size)
{
    const void *h = map(at, ACPI_HEADER_SIZE);
    if (!h)
        return false;
    memcpy(signature, h, 4);
    *size = acpi_u32(h, 4);
    unmap(h, at, ACPI_HEADER_SIZE);
    return true;
}

static void remember(maddr_t at)
{
    if (!at.a || table_count == MAX_TABLES)
        return;
    tables[table_count].at = at;
    tables[table_count].mapped = NULL;
    tables[table_count].bad = false;
    if (read_header(at, tables[table_count].signature, &tables[table_count].size))
        table_count++;
}

static void read_list(maddr_t at, bool wide)
{
    char signature[4];
    uint32_t size, entry = wide ? 8 : 4;
    const void *list = NULL;
    if (read_header(at, signature, &size) && !memcmp(signature, wide ? "XSDT" : "RSDT", 4))
        list = map_table(at, size);
    if (!list) {
        log_error("ACPI: the list of tables at %lx is not valid", at.a);
        return;
    }
    for (uint32_t i = ACPI_HEADER_SIZE; i + entry <= size; i += entry)
        remember(maddr(wide ? acpi_u64(list, i) : acpi_u32(list, i)));
    unmap(list, at, size);
}

const void *acpi_find_table(const char signature[4], size_t *size)
{
    for (unsigned i = 0; i < table_count; i++) {
        if (tables[i].bad || memcmp(tables[i].signature, signature, 4))
            continue;
        if (!tables[i].mapped)
            tables[i].mapped = map_table(tables[i].at, tables[i].size);
        if (tables[i].mapped) {
            *size = tables[i].size;
            return tables[i].mapped;
        }
        tables[i].bad = true;
        log_error("ACPI: table %.4s at %lx is not valid", signature, tables[i].at.a);
    }
    return NULL;
}

bool acpi_table_at(unsigned i, char signature[4], maddr_t *at)
{
    if (i >= table_count)
        return false;
    memcpy(signature, tables[i].signature, 4);
    *at = tables[i].at;
    return true;
}

void acpi_init(maddr_t rsdp_hint)
{
    static const struct {
        char signature[5];
        void (*read)(const void *table, size_t size);
    } readers[] = {
        {"APIC", acpi_read_madt},
        {"FACP", acpi_read_fadt},
        {"HPET", acpi_read_hpet},
        {"MCFG", acpi_read_mcfg},
    };
    bool wide = false;
    maddr_t rsdp = rsdp_hint, list = maddr(0);

    /* ISA lines where no override says otherwise (ACPI 6.5 section 5.2.12.5). */
    for (unsigned i = 0; i < ARRAY_SIZE(acpi_info.isa); i++)
        acpi_info.isa[i] = (struct acpi_override){.gsi = i};
    table_count = 0;
    if (rsdp.a)
        list = read_rsdp(rsdp, &wide);
    if (!list.a) {
        rsdp = search_rsdp();
        list = rsdp.a ? read_rsdp(rsdp, &wide) : maddr(0);
    }
    if (!list.a) {
        log_error("ACPI: no tables; one CPU, no IO-APIC");
        return;
    }
    acpi_info.rsdp = rsdp;
    read_list(list, wide);
    for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
        size_t size;
        const void *t = acpi_find_table(readers[i].signature, &size);
        if (t)
            readers[i].read(t, size);
        else
            log_warn("ACPI: no table %s", readers[i].signature);
    }
    log_info("ACPI: %u tables, %u CPUs, %u IO-APICs", table_count, acpi_info.cpus,
             acpi_info.ioapics);
}
