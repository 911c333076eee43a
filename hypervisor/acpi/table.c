/*
 * Finding ACPI tables (ACPI 6.5 section 5.2): RSDP, then XSDT or RSDT, then each table by its
 * signature. Firmware is not trusted to be right: lengths are bounded and checksums must be zero;
 * a table that fails is as good as absent.
 */
#include "acpi/acpi.h"
#include "acpi/internal.h"
#include "console/console.h"
#include "lib/string.h"
#include "mm/mm.h"

#define MAX_TABLES     64
#define MAX_TABLE_SIZE (1u << 20)

struct acpi_info acpi_info __ro_after_init;

static struct {
    char signature[4];
    maddr_t at;
    size_t size;
    const void *mapped; /* NULL until asked for */
} tables[MAX_TABLES] __ro_after_init;
static unsigned table_count __ro_after_init;

bool acpi_checksum_ok(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t sum = 0;
    while (size--)
        sum += *p++;
    return sum == 0;
}

/* Tables may lie in memory that the direct map leaves out; mappings made here are kept. */
const void *acpi_map(maddr_t at, size_t size)
{
#ifdef HOST_TEST
    return maddr_to_virt(at);
#else
    uint64_t offset = at.a & (PAGE_SIZE - 1);
    uint64_t frames = (offset + size + PAGE_SIZE - 1) >> PAGE_SHIFT;
    const char *va = vmap_contiguous(maddr_to_mfn(at), frames, MAP_RO);
    return va ? va + offset : NULL;
#endif
}

static const struct acpi_rsdp *check_rsdp(const void *p)
{
    const struct acpi_rsdp *r = p;
    if (memcmp(r->signature, "RSD PTR ", 8) || !acpi_checksum_ok(r, ACPI_RSDP_V1_SIZE))
        return NULL;
    if (r->revision >= 2 && !acpi_checksum_ok(r, sizeof(*r)))
        return NULL;
    return r;
}

static const struct acpi_rsdp *scan(uint64_t from, uint64_t size, maddr_t *at)
{
    const char *area = acpi_map(maddr(from), size);
    for (uint64_t i = 0; area && i + sizeof(struct acpi_rsdp) <= size; i += 16) {
        const struct acpi_rsdp *r = check_rsdp(area + i);
        if (r) {
            *at = maddr(from + i);
            return r;
        }
    }
    return NULL;
}

/* Where the loader said, else the first KiB of the EBDA, else the BIOS area (section 5.2.5.1). */
static const struct acpi_rsdp *find_rsdp(maddr_t hint, maddr_t *at)
{
    if (hint.a) {
        const void *p = acpi_map(hint, sizeof(struct acpi_rsdp));
        *at = hint;
        if (p && check_rsdp(p))
            return p;
        log_warn("acpi: no RSDP at 0x%lx where the boot loader says; searching", hint.a);
    }
    const uint16_t *ebda_segment = acpi_map(maddr(0x40e), sizeof(uint16_t));
    uint64_t ebda = ebda_segment ? (uint64_t)*ebda_segment << 4 : 0;
    const struct acpi_rsdp *r = NULL;
    if (ebda >= 0x80000 && ebda < 0xa0000)
        r = scan(ebda, 1024, at);
    return r ? r : scan(0xe0000, 0x20000, at);
}

static void add_table(maddr_t at)
{
    const struct acpi_header *h = at.a ? acpi_map(at, sizeof(*h)) : NULL;
    if (!h || table_count == MAX_TABLES)
        return;
    if (h->length < sizeof(*h) || h->length > MAX_TABLE_SIZE) {
        log_warn("acpi: table at 0x%lx claims %u bytes: ignored", at.a, h->length);
        return;
    }
    memcpy(tables[table_count].signature, h->signature, 4);
    tables[table_count].at = at;
    tables[table_count].size = h->length;
    tables[table_count++].mapped = NULL;
}

/* @width: bytes of each pointer, 8 in an XSDT and 4 in an RSDT. */
static bool add_root(maddr_t at, unsigned width)
{
    const struct acpi_header *h = at.a ? acpi_map(at, sizeof(*h)) : NULL;
    if (!h || h->length < sizeof(*h) || h->length > MAX_TABLE_SIZE)
        return false;
    h = acpi_map(at, h->length);
    if (!h || !acpi_checksum_ok(h, h->length))
        return false;
    for (size_t i = sizeof(*h); i + width <= h->length; i += width) {
        uint64_t pointer = 0;
        memcpy(&pointer, (const char *)h + i, width);
        add_table(maddr(pointer));
    }
    return true;
}

const void *acpi_find_table(const char signature[4], size_t *size)
{
    for (unsigned i = 0; i < table_count; i++) {
        if (memcmp(tables[i].signature, signature, 4))
            continue;
        const void *t =
            tables[i].mapped ? tables[i].mapped : acpi_map(tables[i].at, tables[i].size);
        if (!t || !acpi_checksum_ok(t, tables[i].size)) {
            log_warn("acpi: %.4s at 0x%lx has a wrong checksum: ignored", signature,
                     tables[i].at.a);
            return NULL;
        }
        tables[i].mapped = t;
        *size = tables[i].size;
        return t;
    }
    return NULL;
}

void acpi_init(maddr_t hint)
{
    maddr_t at = maddr(0);
    table_count = 0;
    acpi_defaults();
    const struct acpi_rsdp *r = find_rsdp(hint, &at);
    if (!r) {
        log_warn("acpi: no RSDP found: one CPU, no IO-APIC");
        return;
    }
    acpi_info.rsdp = at;
    bool found = r->revision >= 2 && add_root(maddr(r->xsdt), 8);
    if (!found && !add_root(maddr(r->rsdt), 4)) {
        log_warn("acpi: neither XSDT nor RSDT is usable");
        return;
    }
    acpi_read_madt();
    acpi_read_fadt();
    acpi_read_hpet();
    acpi_read_mcfg();
    log_info("acpi: %u CPUs, %u IO-APICs, HPET %s, PM timer %s, %u MCFG windows", acpi_info.cpus,
             acpi_info.ioapics, acpi_info.hpet.a ? "yes" : "no",
             acpi_info.pm_timer_port ? "yes" : "no", acpi_info.mcfgs);
}
