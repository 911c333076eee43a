/* The firmware's static tables (ACPI 6.5 chapter 5). Read once while booting; nothing locked. */
#ifndef ACPI_ACPI_H
#define ACPI_ACPI_H

#include "lib/compiler.h"
#include "lib/types.h"

#define ACPI_MAX_CPUS    256
#define ACPI_MAX_IOAPICS 16

struct acpi_cpu {
    uint32_t acpi_id, apic_id;
    bool enabled;
};

struct acpi_ioapic {
    uint8_t id;
    uint32_t gsi_base;
    maddr_t address;
};

struct acpi_override { /* MADT interrupt source override: an ISA line appears elsewhere */
    uint32_t gsi;
    bool active_low, level;
};

struct acpi_mcfg {
    maddr_t base;
    uint16_t segment;
    uint8_t bus_first, bus_last;
};

struct acpi_info {
    maddr_t rsdp;
    maddr_t lapic_address;
    unsigned cpus, ioapics, mcfgs;
    struct acpi_cpu cpu[ACPI_MAX_CPUS];
    struct acpi_ioapic ioapic[ACPI_MAX_IOAPICS];
    struct acpi_override isa[16]; /* identity, edge, high where not overridden */
    struct acpi_mcfg mcfg[4];
    maddr_t hpet;           /* 0 = none */
    uint16_t pm_timer_port; /* 0 = none */
    bool pm_timer_32bit;
    uint16_t pm1a_event_port, pm1a_control_port, pm1b_control_port;
    uint16_t sci_irq;
    struct {                  /* FADT reset register; valid when space != 0xff */
        uint8_t space, value; /* 1 = I/O port, 0 = memory */
        uint64_t address;
    } reset;
};

extern struct acpi_info acpi_info;

/* Finds and reads the tables; missing ones leave their fields zero and are logged. */
void acpi_init(maddr_t rsdp_hint);

/* The table with that signature, mapped; NULL when absent or its checksum is wrong. */
const void *acpi_find_table(const char signature[4], size_t *size);

/* A table whose bytes sum to 0 is whole (section 5.2.6). */
static inline uint8_t acpi_sum(const void *table, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)table)[i];
    return sum;
}

/* The @i-th table of the firmware's list, whether valid or not; false: there are no more. */
bool acpi_table_at(unsigned i, char signature[4], maddr_t *at);

#endif
