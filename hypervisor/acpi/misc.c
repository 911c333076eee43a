/* FADT, HPET and MCFG (ACPI 6.5 section 5.2.9; IA-PC HPET 1.0a; PCI Firmware 3.3 section 4.1.2). */
#include "acpi/internal.h"

/* Generic address structure: space, bit width, bit offset, access size, 64-bit address. */
#define GAS_SIZE             12
#define GAS_ADDRESS          4
#define SPACE_MEMORY         0
#define SPACE_IO             1

#define FADT_SCI_INT         46
#define FADT_PM1A_EVENT      56
#define FADT_PM1A_CONTROL    64
#define FADT_PM1B_CONTROL    68
#define FADT_PM_TIMER        76
#define FADT_PM_TIMER_LENGTH 91
#define FADT_FLAGS           112
#define FADT_RESET_REGISTER  116
#define FADT_RESET_VALUE     128
#define FADT_X_PM1A_EVENT    148
#define FADT_X_PM1A_CONTROL  172
#define FADT_X_PM1B_CONTROL  184
#define FADT_X_PM_TIMER      208
#define FADT_SIZE_1          116 /* ACPI 1.0 */

#define FLAG_TIMER_32BIT     (1u << 8)
#define FLAG_RESET_SUPPORTED (1u << 10)

/* The port in the extended field when the table has one, else in the old field; 0: none. */
static uint16_t port_of(const void *fadt, size_t size, size_t extended, size_t old)
{
    if (size >= extended + GAS_SIZE && ((const uint8_t *)fadt)[extended] == SPACE_IO &&
        acpi_u64(fadt, extended + GAS_ADDRESS))
        return (uint16_t)acpi_u64(fadt, extended + GAS_ADDRESS);
    return (uint16_t)acpi_u32(fadt, old);
}

void acpi_read_fadt(const void *table, size_t size)
{
    const uint8_t *p = table;
    struct acpi_info *a = &acpi_info;
    if (size < FADT_SIZE_1)
        return;
    uint32_t flags = acpi_u32(p, FADT_FLAGS);
    a->sci_irq = acpi_u16(p, FADT_SCI_INT);
    a->pm1a_event_port = port_of(p, size, FADT_X_PM1A_EVENT, FADT_PM1A_EVENT);
    a->pm1a_control_port = port_of(p, size, FADT_X_PM1A_CONTROL, FADT_PM1A_CONTROL);
    a->pm1b_control_port = port_of(p, size, FADT_X_PM1B_CONTROL, FADT_PM1B_CONTROL);
    if (p[FADT_PM_TIMER_LENGTH] >= 4) {
        a->pm_timer_port = port_of(p, size, FADT_X_PM_TIMER, FADT_PM_TIMER);
        a->pm_timer_32bit = flags & FLAG_TIMER_32BIT;
    }
    if ((flags & FLAG_RESET_SUPPORTED) && size > FADT_RESET_VALUE) {
        a->reset.space = p[FADT_RESET_REGISTER];
        a->reset.address = acpi_u64(p, FADT_RESET_REGISTER + GAS_ADDRESS);
        a->reset.value = p[FADT_RESET_VALUE];
    }
}

#define HPET_ADDRESS 40 /* a generic address */

void acpi_read_hpet(const void *table, size_t size)
{
    const uint8_t *p = table;
    if (size >= HPET_ADDRESS + GAS_SIZE && p[HPET_ADDRESS] == SPACE_MEMORY)
        acpi_info.hpet = maddr(acpi_u64(p, HPET_ADDRESS + GAS_ADDRESS));
}

#define MCFG_ENTRIES    44
#define MCFG_ENTRY_SIZE 16

void acpi_read_mcfg(const void *table, size_t size)
{
    const uint8_t *p = table;
    for (size_t at = MCFG_ENTRIES; at + MCFG_ENTRY_SIZE <= size; at += MCFG_ENTRY_SIZE) {
        struct acpi_mcfg m = {
            .base = maddr(acpi_u64(p, at)),
            .segment = acpi_u16(p, at + 8),
            .bus_first = p[at + 10],
            .bus_last = p[at + 11],
        };
        if (!m.base.a || m.base.a % PAGE_SIZE || m.bus_last < m.bus_first)
            continue;
        if (acpi_info.mcfgs < ARRAY_SIZE(acpi_info.mcfg))
            acpi_info.mcfg[acpi_info.mcfgs++] = m;
    }
}
