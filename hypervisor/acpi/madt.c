/* MADT: processors, IO-APICs, where ISA interrupts arrive (ACPI 6.5 section 5.2.12). */
#include "acpi/internal.h"
#include "console/console.h"

#define MADT_LAPIC_ADDRESS 36
#define MADT_ENTRIES       44

enum {
    ENTRY_LAPIC = 0,
    ENTRY_IOAPIC = 1,
    ENTRY_OVERRIDE = 2,
    ENTRY_LAPIC_ADDRESS = 5,
    ENTRY_X2APIC = 9,
};

#define LAPIC_ENABLED    1u
#define LAPIC_BROADCAST  0xffu /* firmware fills unused entries with it */
#define X2APIC_BROADCAST 0xffffffffu

/* Interrupt flags (MPS INTI): 0 = as the bus has it, which for ISA is active high, edge. */
#define INTI_POLARITY(f) ((f)&3)
#define INTI_TRIGGER(f)  ((f) >> 2 & 3)
#define INTI_ACTIVE_LOW  3
#define INTI_LEVEL       3

static void add_cpu(uint32_t acpi_id, uint32_t apic_id, uint32_t flags)
{
    for (unsigned i = 0; i < acpi_info.cpus; i++)
        if (acpi_info.cpu[i].apic_id == apic_id)
            return; /* listed as LAPIC and as x2APIC */
    if (acpi_info.cpus == ACPI_MAX_CPUS) {
        log_warn("ACPI: more than %u CPUs; the others are not used", ACPI_MAX_CPUS);
        return;
    }
    acpi_info.cpu[acpi_info.cpus++] = (struct acpi_cpu){
        .acpi_id = acpi_id,
        .apic_id = apic_id,
        .enabled = flags & LAPIC_ENABLED,
    };
}

static void add_ioapic(const uint8_t *e)
{
    if (acpi_info.ioapics == ACPI_MAX_IOAPICS) {
        log_warn("ACPI: more than %u IO-APICs; the others are not used", ACPI_MAX_IOAPICS);
        return;
    }
    acpi_info.ioapic[acpi_info.ioapics++] = (struct acpi_ioapic){
        .id = e[2],
        .address = maddr(acpi_u32(e, 4)),
        .gsi_base = acpi_u32(e, 8),
    };
}

static void add_override(const uint8_t *e)
{
    uint8_t bus = e[2], source = e[3];
    uint16_t flags = acpi_u16(e, 8);
    if (bus != 0 || source >= ARRAY_SIZE(acpi_info.isa))
        return;
    acpi_info.isa[source] = (struct acpi_override){
        .gsi = acpi_u32(e, 4),
        .active_low = INTI_POLARITY(flags) == INTI_ACTIVE_LOW,
        .level = INTI_TRIGGER(flags) == INTI_LEVEL,
    };
}

static void read_entry(const uint8_t *e, uint8_t size)
{
    switch (e[0]) {
    case ENTRY_LAPIC:
        if (size >= 8 && e[3] != LAPIC_BROADCAST)
            add_cpu(e[2], e[3], acpi_u32(e, 4));
        break;
    case ENTRY_IOAPIC:
        if (size >= 12)
            add_ioapic(e);
        break;
    case ENTRY_OVERRIDE:
        if (size >= 10)
            add_override(e);
        break;
    case ENTRY_LAPIC_ADDRESS:
        if (size >= 12)
            acpi_info.lapic_address = maddr(acpi_u64(e, 4));
        break;
    case ENTRY_X2APIC:
        if (size >= 16 && acpi_u32(e, 4) != X2APIC_BROADCAST)
            add_cpu(acpi_u32(e, 12), acpi_u32(e, 4), acpi_u32(e, 8));
        break;
    default:
        break;
    }
}

void acpi_read_madt(const void *table, size_t size)
{
    const uint8_t *p = table;
    if (size < MADT_ENTRIES)
        return;
    acpi_info.lapic_address = maddr(acpi_u32(p, MADT_LAPIC_ADDRESS));
    for (size_t at = MADT_ENTRIES; at + 2 <= size;) {
        uint8_t length = p[at + 1];
        if (length < 2 || length > size - at) {
            log_warn("ACPI: MADT entry at %zu has length %u; the rest is ignored", at, length);
            return;
        }
        read_entry(p + at, length);
        at += length;
    }
}
