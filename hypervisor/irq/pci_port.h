/*
 * The ports 0xcf8 and 0xcfc of PCI configuration as a domain sees them (PCI Local Bus 3.0 section
 * 3.2.2.3.2): the address that it writes is latched for it alone, so that nobody's accesses come
 * between.
 */
#ifndef IRQ_PCI_PORT_H
#define IRQ_PCI_PORT_H

#include "irq/irq.h"

#define PCI_PORT_ADDRESS 0xcf8
#define PCI_PORT_DATA    0xcfc
#define PCI_PORT_ENABLE  (1u << 31)

/*
 * The register that an access to @port means, with this address latched; false: to none. Bits 24-27
 * of the address extend it as AMD's processors do.
 */
static inline bool pci_port_register(uint32_t address, uint16_t port, unsigned size, uint16_t *reg)
{
    if ((port & ~3) != PCI_PORT_DATA || (port & 3) + size > 4 || !(address & PCI_PORT_ENABLE))
        return false;
    *reg = (address & 0xfc) | (address >> 16 & 0xf00) | (port & 3);
    return true;
}

/*
 * An access to these ports, with @latch the domain's; false: to another. @reach: devices may be
 * reached; otherwise, and where none is meant, reads leave *value as it is.
 */
static inline bool pci_port_access(uint32_t *latch, bool reach, uint16_t port, unsigned size,
                                   bool write, uint32_t *value)
{
    uint32_t a = READ_ONCE(*latch);
    uint16_t reg;
    if (port == PCI_PORT_ADDRESS && size == 4) {
        if (write)
            WRITE_ONCE(*latch, *value);
        else
            *value = a;
        return true;
    }
    if ((port & ~3) != PCI_PORT_DATA)
        return false;
    if (!reach || !pci_port_register(a, port, size, &reg))
        return true;
    if (write)
        pci_write(0, a >> 16, a >> 8, reg, size, *value);
    else
        *value = pci_read(0, a >> 16, a >> 8, reg, size);
    return true;
}

#endif
