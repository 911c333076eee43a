/*
 * PCI configuration space: memory-mapped where the MCFG table covers the bus (a bus is mapped when
 * it is first touched), else by the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0 section 3.2.2.3).
 * Reads of what is not there give all ones. Lock: RANK_PCI for the ports and the windows.
 */
#include "acpi/acpi.h"
#include "irq/irq.h"
#include "mm/mm.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define CONFIG_ENABLE  (1u << 31)
#define PORT_SPACE     256  /* bytes of a function that ports reach */
#define SPACE          4096 /* and MCFG */
#define BUS_SIZE       (256 * SPACE)

static struct spinlock lock = SPINLOCK_INIT(RANK_PCI);
static uint8_t *windows[ARRAY_SIZE(acpi_info.mcfg)][256]; /* by bus; set once */
static bool unmappable[ARRAY_SIZE(acpi_info.mcfg)];

/* Lock held: vmap's is of higher rank. */
static uint8_t *window(unsigned m, uint8_t bus)
{
    const struct acpi_mcfg *info = &acpi_info.mcfg[m];
    uint8_t *w = windows[m][bus];
    if (w || unmappable[m])
        return w;
    /* The table's base is that of bus 0 of the segment, even when it begins at another. */
    maddr_t at = maddr(info->base.a + (uint64_t)bus * BUS_SIZE);
    w = vmap_contiguous(maddr_to_mfn(at), BUS_SIZE / PAGE_SIZE, MAP_UC);
    if (!w)
        unmappable[m] = true; /* the ports remain */
    windows[m][bus] = w;
    return w;
}

static volatile uint8_t *memory_register(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg)
{
    for (unsigned m = 0; m < acpi_info.mcfgs; m++) {
        const struct acpi_mcfg *info = &acpi_info.mcfg[m];
        if (info->segment != segment || bus < info->bus_first || bus > info->bus_last)
            continue;
        uint8_t *w = window(m, bus);
        return w ? w + devfn * SPACE + reg : NULL;
    }
    return NULL;
}

static bool valid(uint16_t reg, unsigned size)
{
    return (size == 1 || size == 2 || size == 4) && reg % size == 0 && reg < SPACE;
}

static bool select_port(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg)
{
    if (segment || reg >= PORT_SPACE)
        return false;
    outl(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)bus << 16 | (uint32_t)devfn << 8 | (reg & ~3u));
    return true;
}

uint32_t pci_read(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size)
{
    uint32_t value = size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff;
    if (!valid(reg, size))
        return value;
    spin_lock(&lock);
    volatile uint8_t *m = memory_register(segment, bus, devfn, reg);
    if (m) {
        value = size == 1 ? *m : size == 2 ? *(volatile uint16_t *)m : *(volatile uint32_t *)m;
    } else if (select_port(segment, bus, devfn, reg)) {
        uint16_t port = (uint16_t)(CONFIG_DATA + reg % 4);
        value = port_in(port, size);
    }
    spin_unlock(&lock);
    return value;
}

void pci_write(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size,
               uint32_t value)
{
    if (!valid(reg, size))
        return;
    spin_lock(&lock);
    volatile uint8_t *m = memory_register(segment, bus, devfn, reg);
    if (m && size == 1) {
        *m = (uint8_t)value;
    } else if (m && size == 2) {
        *(volatile uint16_t *)m = (uint16_t)value;
    } else if (m) {
        *(volatile uint32_t *)m = value;
    } else if (select_port(segment, bus, devfn, reg)) {
        uint16_t port = (uint16_t)(CONFIG_DATA + reg % 4);
        port_out(port, size, value);
    }
    spin_unlock(&lock);
}
