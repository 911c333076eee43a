/* FADT (ACPI 6.5 section 5.2.9), HPET (IA-PC HPET 1.0a section 3.2.4), MCFG (PCI Firmware 3.3). */
#include "acpi/internal.h"
#include "console/console.h"
#include "lib/string.h"

#define SPACE_MEMORY 0
#define SPACE_IO     1

/* Offsets in the FADT (table 5.9). */
#define FADT_SCI_INT       46
#define FADT_PM1A_EVENT    56
#define FADT_PM1A_CNT      64
#define FADT_PM1B_CNT      68
#define FADT_PM_TIMER      76
#define FADT_FLAGS         112
#define FADT_RESET_REG     116
#define FADT_RESET_VALUE   128
#define FADT_X_PM1A_CNT    172
#define FADT_X_PM_TIMER    208

#define FADT_TMR_VAL_EXT   (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)

/* A field that old, shorter tables may lack reads as zero. */
static uint64_t field(const uint8_t *table, size_t size, size_t at, size_t width)
{
    uint64_t v = 0;
    if (at + width <= size)
        memcpy(&v, table + at, width);
    return v;
}

/* A port given the old way, or else by a generic address in I/O space. */
static uint16_t port(const uint8_t *t, size_t size, size_t at, size_t extended)
{
    uint16_t p = field(t, size, at, 4);
    if (p)
        return p;
    return field(t, size, extended, 1) == SPACE_IO ? field(t, size, extended + 4, 8) : 0;
}

void acpi_read_fadt(void)
{
    size_t size;
    const uint8_t *t = acpi_find_table("FACP", &size);
    if (!t) {
        log_warn("acpi: no FADT: no power-off, no PM timer");
        return;
    }
    uint32_t flags = field(t, size, FADT_FLAGS, 4);
    acpi_info.sci_irq = field(t, size, FADT_SCI_INT, 2);
    acpi_info.pm1a_event_port = field(t, size, FADT_PM1A_EVENT, 4);
    acpi_info.pm1a_control_port = port(t, size, FADT_PM1A_CNT, FADT_X_PM1A_CNT);
    acpi_info.pm1b_control_port = field(t, size, FADT_PM1B_CNT, 4);
    acpi_info.pm_timer_port = port(t, size, FADT_PM_TIMER, FADT_X_PM_TIMER);
    acpi_info.pm_timer_32bit = flags & FADT_TMR_VAL_EXT;

    uint8_t space = field(t, size, FADT_RESET_REG, 1);
    if (flags & FADT_RESET_REG_SUP && (space == SPACE_IO || space == SPACE_MEMORY)) {
        acpi_info.reset.space = space;
        acpi_info.reset.address = field(t, size, FADT_RESET_REG + 4, 8);
        acpi_info.reset.value = field(t, size, FADT_RESET_VALUE, 1);
    }
}

#define HPET_ADDRESS (sizeof(struct acpi_header) + 4)

void acpi_read_hpet(void)
{
    size_t size;
    const uint8_t *t = acpi_find_table("HPET", &size);
    if (t && field(t, size, HPET_ADDRESS, 1) == SPACE_MEMORY)
        acpi_info.hpet = maddr(field(t, size, HPET_ADDRESS + 4, 8));
}

struct mcfg_entry {
    uint64_t base;
    uint16_t segment;
    uint8_t first, last;
    uint32_t reserved;
} __packed;

void acpi_read_mcfg(void)
{
    size_t size, at = sizeof(struct acpi_header) + 8;
    const uint8_t *t = acpi_find_table("MCFG", &size);
    for (; t && at + sizeof(struct mcfg_entry) <= size; at += sizeof(struct mcfg_entry)) {
        struct mcfg_entry e;
        memcpy(&e, t + at, sizeof(e));
        if (e.last < e.first || acpi_info.mcfgs == ARRAY_SIZE(acpi_info.mcfg)) {
            log_warn("acpi: MCFG window at 0x%lx is ignored", e.base);
            continue;
        }
        acpi_info.mcfg[acpi_info.mcfgs++] =
            (struct acpi_mcfg){maddr(e.base), e.segment, e.first, e.last};
    }
}
