/* Layouts of the tables that acpi/ reads (ACPI 6.5 chapter 5), and the readers. */
#ifndef ACPI_INTERNAL_H
#define ACPI_INTERNAL_H

#include "acpi/acpi.h"
#include "lib/compiler.h"
#include "lib/types.h"

#define ACPI_RSDP_V1_SIZE 20

struct acpi_rsdp { /* section 5.2.5.3 */
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __packed;
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.5 table 5.3");

struct acpi_header { /* section 5.2.6 */
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision, creator, creator_revision;
} __packed;
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5 table 5.4");

struct acpi_address { /* generic address structure, section 5.2.3.2 */
    uint8_t space, width, offset, access;
    uint64_t address;
} __packed;
_Static_assert(sizeof(struct acpi_address) == 12, "ACPI 6.5 table 5.1");

bool acpi_checksum_ok(const void *data, size_t size);
const void *acpi_map(maddr_t at, size_t size);

void acpi_defaults(void); /* what holds without tables */
void acpi_read_madt(void);
void acpi_read_fadt(void);
void acpi_read_hpet(void);
void acpi_read_mcfg(void);

#endif
