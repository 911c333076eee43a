/* Between the files of acpi/: reading fields of tables, which are not aligned. */
#ifndef ACPI_INTERNAL_H
#define ACPI_INTERNAL_H

#include "acpi/acpi.h"
#include "lib/string.h"

#define ACPI_HEADER_SIZE 36

static inline uint16_t acpi_u16(const void *table, size_t at)
{
    uint16_t v;
    memcpy(&v, (const uint8_t *)table + at, sizeof(v));
    return v;
}

static inline uint32_t acpi_u32(const void *table, size_t at)
{
    uint32_t v;
    memcpy(&v, (const uint8_t *)table + at, sizeof(v));
    return v;
}

static inline uint64_t acpi_u64(const void *table, size_t at)
{
    uint64_t v;
    memcpy(&v, (const uint8_t *)table + at, sizeof(v));
    return v;
}

/* What each table says goes to acpi_info; @size bytes of @table are readable and its checksum is
 * right. */
void acpi_read_madt(const void *table, size_t size);
void acpi_read_fadt(const void *table, size_t size);
void acpi_read_hpet(const void *table, size_t size);
void acpi_read_mcfg(const void *table, size_t size);

#endif
