/*
 * MADT (ACPI 6.5 section 5.2.12): CPUs, IO-APICs, and where ISA lines really arrive. Entries are
 * variable-length records; one that does not fit its table ends the reading.
 */
#include "acpi/internal.h"
#include "console/console.h"
#include "lib/string.h"

enum {
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_ADDRESS = 5,
    MADT_X2APIC = 9,
};

#define CPU_ENABLED        (1u << 0)
#define CPU_ONLINE_CAPABLE (1u << 1)

/* MPS INTI flags (table 5.22). */
#define POLARITY(f)   ((f)&3)
#define POLARITY_LOW  3
#define TRIGGER(f)    ((f) >> 2 & 3)
#define TRIGGER_LEVEL 3

struct madt_lapic {
    uint8_t type, length, acpi_id, apic_id;
    uint32_t flags;
} __packed;

struct madt_x2apic {
    uint8_t type, length;
    uint16_t reserved;
    uint32_t apic_id, flags, acpi_id;
} __packed;

struct madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
} __packed;

struct madt_override {
    uint8_t type, length, bus, source;
    uint32_t gsi;
    uint16_t flags;
} __packed;

struct madt_lapic_address {
    uint8_t type, length;
    uint16_t reserved;
    uint64_t address;
} __packed;

void acpi_defaults(void)
{
    memset(&acpi_info, 0, sizeof(acpi_info));
    acpi_info.lapic_address = maddr(0xfee00000);
    acpi_info.reset.space = 0xff;
    acpi_info.sci_irq = 9;
    for (unsigned i = 0; i < ARRAY_SIZE(acpi_info.isa); i++)
        acpi_info.isa[i].gsi = i;
}

static void add_cpu(uint32_t acpi_id, uint32_t apic_id, uint32_t flags)
{
    if (!(flags & (CPU_ENABLED | CPU_ONLINE_CAPABLE)))
        return; /* an empty socket */
    if (acpi_info.cpus == ACPI_MAX_CPUS) {
        log_warn("acpi: more than %u CPUs: APIC id %u and on are ignored", ACPI_MAX_CPUS, apic_id);
        return;
    }
    acpi_info.cpu[acpi_info.cpus++] = (struct acpi_cpu){acpi_id, apic_id, flags & CPU_ENABLED};
}

static void add_ioapic(const struct madt_ioapic *e)
{
    if (acpi_info.ioapics == ACPI_MAX_IOAPICS) {
        log_warn("acpi: more than %u IO-APICs: id %u is ignored", ACPI_MAX_IOAPICS, e->id);
        return;
    }
    acpi_info.ioapic[acpi_info.ioapics++] =
        (struct acpi_ioapic){e->id, e->gsi_base, maddr(e->address)};
}

static void add_override(const struct madt_override *e)
{
    if (e->bus != 0 || e->source >= ARRAY_SIZE(acpi_info.isa))
        return;
    /* "Conforms to the bus" means edge, high for ISA. */
    acpi_info.isa[e->source] = (struct acpi_override){
        .gsi = e->gsi,
        .active_low = POLARITY(e->flags) == POLARITY_LOW,
        .level = TRIGGER(e->flags) == TRIGGER_LEVEL,
    };
}

static void read_entry(const uint8_t *p, size_t length)
{
    if (p[0] == MADT_LAPIC && length >= sizeof(struct madt_lapic)) {
        const struct madt_lapic *e = (const void *)p;
        add_cpu(e->acpi_id, e->apic_id, e->flags);
    } else if (p[0] == MADT_X2APIC && length >= sizeof(struct madt_x2apic)) {
        const struct madt_x2apic *e = (const void *)p;
        add_cpu(e->acpi_id, e->apic_id, e->flags);
    } else if (p[0] == MADT_IOAPIC && length >= sizeof(struct madt_ioapic)) {
        add_ioapic((const void *)p);
    } else if (p[0] == MADT_OVERRIDE && length >= sizeof(struct madt_override)) {
        add_override((const void *)p);
    } else if (p[0] == MADT_LAPIC_ADDRESS && length >= sizeof(struct madt_lapic_address)) {
        acpi_info.lapic_address = maddr(((const struct madt_lapic_address *)p)->address);
    }
}

void acpi_read_madt(void)
{
    size_t size, at = sizeof(struct acpi_header) + 8;
    const uint8_t *madt = acpi_find_table("APIC", &size);
    if (!madt || size < at) {
        log_warn("acpi: no MADT: one CPU, no IO-APIC");
        return;
    }
    uint32_t lapic;
    memcpy(&lapic, madt + sizeof(struct acpi_header), sizeof(lapic));
    acpi_info.lapic_address = maddr(lapic);
    while (at + 2 <= size) {
        size_t length = madt[at + 1];
        if (length < 2 || at + length > size) {
            log_warn("acpi: MADT entry at %lu claims %lu bytes: the rest is ignored", at, length);
            return;
        }
        read_entry(madt + at, length);
        at += length;
    }
}
