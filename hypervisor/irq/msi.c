/*
 * Message-signalled interrupts of PCI functions (PCI Local Bus 3.0 section 6.8): MSI, one message
 * per function, and entries of MSI-X tables. The domain that owns the device asks for one by
 * function and entry; address and data are ours alone. The enable bits stay with the domain, which
 * sets them through its own PCI code; address and data are written when the irq is bound.
 *
 * The MSI-X table is where the function's own registers say; the address that the caller gives
 * must agree.
 *
 * Locks: `lock` (RANK_IRQ) for giving numbers out; a message's registers under its irq's lock.
 */
#include "console/console.h"
#include "irq/internal.h"
#include "mm/mm.h"

#define PCI_COMMAND      0x04
#define PCI_STATUS       0x06
#define PCI_HEADER_TYPE  0x0e
#define PCI_BAR0         0x10
#define PCI_CAPABILITIES 0x34
#define COMMAND_MEMORY   (1u << 1)
#define STATUS_CAPS      (1u << 4)
#define CAP_MSI          0x05
#define CAP_MSIX         0x11
#define CAPS_MAX         48 /* as many as fit in 192 bytes */

#define MSI_CONTROL      2
#define MSI_ENABLE       (1u << 0)
#define MSI_COUNT        (7u << 4) /* messages enabled, log2 */
#define MSI_64BIT        (1u << 7)
#define MSI_MASKABLE     (1u << 8)
#define MSI_ADDRESS      4
#define MSIX_CONTROL     2
#define MSIX_SIZE        0x7ff /* entries - 1 */
#define MSIX_ENABLE      (1u << 15)
#define MSIX_TABLE       4
#define MSIX_ENTRY_SIZE  16
#define MSIX_MASKED      1u

/* What the local APIC takes for a message (Intel SDM vol. 3 section 11.11): physical, fixed. */
#define MESSAGE_ADDRESS(apic_id) (0xfee00000u | (uint32_t)(apic_id) << 12)

struct msi {
    bool used;
    uint16_t segment;
    uint8_t bus, devfn;
    uint8_t cap; /* offset of the capability */
    bool is_x;
    bool wide, maskable;          /* MSI */
    uint16_t entry;               /* MSI-X */
    volatile uint32_t *registers; /* MSI-X: the entry; mapped with its page */
};

static struct msi messages[MAX_IRQS]; /* by irq number */
static struct spinlock lock = SPINLOCK_INIT(RANK_IRQ);

static uint32_t get(const struct msi *m, unsigned reg, unsigned size)
{
    return pci_read(m->segment, m->bus, m->devfn, (uint16_t)reg, size);
}

static void put(const struct msi *m, unsigned reg, unsigned size, uint32_t value)
{
    pci_write(m->segment, m->bus, m->devfn, (uint16_t)reg, size, value);
}

/* --- the source operations --- */

static unsigned msi_mask_register(const struct msi *m)
{
    return m->cap + (m->wide ? 16u : 12u);
}

static void set_masked(unsigned irq, bool masked)
{
    const struct msi *m = &messages[irq];
    if (m->is_x) {
        m->registers[3] = masked ? MSIX_MASKED : 0;
        (void)m->registers[3]; /* the write has arrived when the read returns */
    } else if (m->maskable) {
        put(m, msi_mask_register(m), 4, masked ? 1 : 0);
    }
}

static void msi_mask(unsigned irq)
{
    set_masked(irq, true);
}

static void msi_unmask(unsigned irq)
{
    set_masked(irq, false);
}

static void msi_route(unsigned irq, uint32_t apic_id, uint8_t vector)
{
    const struct msi *m = &messages[irq];
    if (m->is_x) {
        m->registers[0] = MESSAGE_ADDRESS(apic_id);
        m->registers[1] = 0;
        m->registers[2] = vector;
        return;
    }
    put(m, m->cap + MSI_ADDRESS, 4, MESSAGE_ADDRESS(apic_id));
    if (m->wide)
        put(m, m->cap + 8u, 4, 0);
    put(m, m->cap + (m->wide ? 12u : 8u), 2, vector);
}

static bool msi_is_level(unsigned irq __unused)
{
    return false;
}

static const struct irq_source msi_source = {
    .mask = msi_mask,
    .unmask = msi_unmask,
    .route = msi_route,
    .is_level = msi_is_level,
};

/* --- finding the registers --- */

static uint8_t find_capability(const struct msi *m, uint8_t id)
{
    if (get(m, 0, 2) == 0xffff || !(get(m, PCI_STATUS, 2) & STATUS_CAPS))
        return 0;
    uint8_t at = get(m, PCI_CAPABILITIES, 1) & 0xfc;
    for (unsigned n = 0; at >= 0x40 && n < CAPS_MAX; n++) {
        if (get(m, at, 1) == id)
            return at;
        at = get(m, at + 1u, 1) & 0xfc;
    }
    return 0;
}

/* Address in memory BAR @bir; 0 when it is none. */
static uint64_t bar_address(const struct msi *m, unsigned bir)
{
    unsigned bars = (get(m, PCI_HEADER_TYPE, 1) & 0x7f) == 0 ? 6 : 2;
    if (bir >= bars)
        return 0;
    uint32_t low = get(m, PCI_BAR0 + bir * 4, 4);
    if (low & 1)
        return 0;
    uint64_t address = low & ~15u;
    if ((low >> 1 & 3) == 2) /* 64 bits wide */
        address |= bir + 1 < bars ? (uint64_t)get(m, PCI_BAR0 + bir * 4 + 4, 4) << 32 : 0;
    return address;
}

static int prepare_msi(struct msi *m)
{
    m->cap = find_capability(m, CAP_MSI);
    if (!m->cap)
        return -XEN_ENODEV;
    uint32_t control = get(m, m->cap + MSI_CONTROL, 2);
    m->wide = control & MSI_64BIT;
    m->maskable = control & MSI_MASKABLE;
    put(m, m->cap + MSI_CONTROL, 2, control & ~(MSI_ENABLE | MSI_COUNT));
    return 0;
}

static int prepare_msix(struct msi *m, uint64_t table_base)
{
    m->cap = find_capability(m, CAP_MSIX);
    if (!m->cap)
        return -XEN_ENODEV;
    if (m->entry > (get(m, m->cap + MSIX_CONTROL, 2) & MSIX_SIZE))
        return -XEN_EINVAL;
    uint32_t table = get(m, m->cap + MSIX_TABLE, 4);
    uint64_t bar = bar_address(m, table & 7);
    if (!bar || bar != table_base || !(get(m, PCI_COMMAND, 2) & COMMAND_MEMORY))
        return -XEN_EINVAL;
    maddr_t at = maddr(bar + (table & ~7u) + (uint64_t)m->entry * MSIX_ENTRY_SIZE);
    if (at.a >> cpu_features.phys_bits || mfn_is_ram(maddr_to_mfn(at)))
        return -XEN_EINVAL;
    uint8_t *page = vmap_contiguous(maddr_to_mfn(at), 1, MAP_UC);
    if (!page)
        return -XEN_ENOMEM;
    m->registers = (volatile uint32_t *)(page + at.a % PAGE_SIZE);
    m->registers[3] = MSIX_MASKED;
    return 0;
}

/* --- the API --- */

static bool same_function(const struct msi *m, uint16_t segment, uint8_t bus, uint8_t devfn)
{
    return m->used && m->segment == segment && m->bus == bus && m->devfn == devfn;
}

static bool taken(const struct msi_request *r)
{
    for (unsigned i = irq_gsi_count; i < MAX_IRQS; i++) {
        const struct msi *m = &messages[i];
        if (same_function(m, r->segment, r->bus, r->devfn) &&
            (!m->is_x || !r->table_base || m->entry == r->entry))
            return true;
    }
    return false;
}

int msi_alloc(const struct msi_request *r)
{
    struct msi m = {
        .used = true,
        .segment = r->segment,
        .bus = r->bus,
        .devfn = r->devfn,
        .is_x = r->table_base != 0,
        .entry = r->entry,
    };
    spin_lock(&lock);
    int rc = taken(r) ? -XEN_EBUSY : m.is_x ? prepare_msix(&m, r->table_base) : prepare_msi(&m);
    if (rc == 0)
        rc = irq_free_number();
    if (rc >= 0) {
        messages[rc] = m;
        irq_set_source((unsigned)rc, &msi_source);
    } else if (m.registers) {
        vunmap((void *)((uint64_t)m.registers & PAGE_MASK), 1);
    }
    spin_unlock(&lock);
    return rc;
}

void msi_free(unsigned irq)
{
    if (irq < irq_gsi_count || irq >= MAX_IRQS || !messages[irq].used)
        return;
    irq_unbind(irq);
    spin_lock(&lock);
    struct msi *m = &messages[irq];
    if (m->used) {
        set_masked(irq, true);
        irq_set_source(irq, NULL);
        if (m->registers)
            vunmap((void *)((uint64_t)m->registers & PAGE_MASK), 1);
        *m = (struct msi){.used = false};
    }
    spin_unlock(&lock);
}

int msi_restore(uint16_t segment, uint8_t bus, uint8_t devfn)
{
    int rc = -XEN_ESRCH;
    for (unsigned i = irq_gsi_count; i < MAX_IRQS; i++) {
        const struct msi *m = &messages[i];
        if (!same_function(m, segment, bus, devfn))
            continue;
        unsigned control = m->cap + MSIX_CONTROL; /* MSI has it in the same place */
        irq_reroute(i);
        put(m, control, 2, get(m, control, 2) | (m->is_x ? MSIX_ENABLE : MSI_ENABLE));
        rc = 0;
    }
    return rc;
}
