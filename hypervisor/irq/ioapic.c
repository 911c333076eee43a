/*
 * IO-APICs (Intel 82093AA data sheet; version 0x20 is the same for us): one redirection entry per
 * pin, pins numbered as GSIs from each one's base. Entries are kept in memory too, so masking is
 * one write.
 *
 * Remote IRR: a level entry waits for the EOI of the very vector it has sent. When the vector
 * changes meanwhile, that EOI never matches; writing the entry as an edge in between clears the
 * bit, and a line that is still asserted fires anew once unmasked.
 *
 * Lock: RANK_IOAPIC for index and data registers.
 */
#include "acpi/acpi.h"
#include "console/console.h"
#include "irq/internal.h"
#include "mm/mm.h"

#define INDEX          0 /* in 32-bit words */
#define DATA           4

#define REG_VERSION    1
#define REG_ENTRY(n)   (0x10 + 2 * (n))

#define RTE_ACTIVE_LOW (1u << 13)
#define RTE_LEVEL      (1u << 15)
#define RTE_MASKED     (1u << 16)
#define RTE_TARGET(id) ((uint32_t)(id) << 24) /* in the high half */

struct ioapic {
    volatile uint32_t *regs;
    unsigned gsi_base, pins;
};

struct pin {
    uint32_t low; /* [irq's lock] low half of the entry as last written */
    bool exists;  /* [I] */
};

static struct ioapic ioapics[ACPI_MAX_IOAPICS];
static unsigned ioapic_count;
static struct pin pins[MAX_IRQS];
static struct spinlock lock = SPINLOCK_INIT(RANK_IOAPIC);

#ifdef HOST_TEST /* the test is the device */
uint32_t ioapic_device_read(volatile uint32_t *regs, unsigned reg);
void ioapic_device_write(volatile uint32_t *regs, unsigned reg, uint32_t value);
static uint32_t reg_read(struct ioapic *a, unsigned reg)
{
    return ioapic_device_read(a->regs, reg);
}
static void reg_write(struct ioapic *a, unsigned reg, uint32_t value)
{
    ioapic_device_write(a->regs, reg, value);
}
#else
static uint32_t reg_read(struct ioapic *a, unsigned reg)
{
    a->regs[INDEX] = reg;
    return a->regs[DATA];
}

static void reg_write(struct ioapic *a, unsigned reg, uint32_t value)
{
    a->regs[INDEX] = reg;
    a->regs[DATA] = value;
}
#endif

static struct ioapic *find(unsigned gsi)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].pins)
            return &ioapics[i];
    return NULL;
}

static void write_low(unsigned gsi, uint32_t low)
{
    struct ioapic *a = find(gsi);
    spin_lock(&lock);
    reg_write(a, REG_ENTRY(gsi - a->gsi_base), low);
    spin_unlock(&lock);
}

static void pin_mask(unsigned gsi)
{
    pins[gsi].low |= RTE_MASKED;
    write_low(gsi, pins[gsi].low);
}

static void pin_unmask(unsigned gsi)
{
    pins[gsi].low &= ~RTE_MASKED;
    write_low(gsi, pins[gsi].low);
}

static void pin_route(unsigned gsi, uint32_t apic_id, uint8_t vector)
{
    struct ioapic *a = find(gsi);
    struct pin *p = &pins[gsi];
    unsigned reg = REG_ENTRY(gsi - a->gsi_base);
    p->low = (p->low & ~0xffu) | vector;
    spin_lock(&lock);
    reg_write(a, reg, (p->low & ~RTE_LEVEL) | RTE_MASKED);
    reg_write(a, reg + 1, RTE_TARGET(apic_id));
    reg_write(a, reg, p->low);
    spin_unlock(&lock);
}

static bool pin_is_level(unsigned gsi)
{
    return pins[gsi].low & RTE_LEVEL;
}

static const struct irq_source pin_source = {
    .mask = pin_mask,
    .unmask = pin_unmask,
    .route = pin_route,
    .is_level = pin_is_level,
};

static uint32_t trigger_bits(bool level, bool active_low)
{
    return (level ? RTE_LEVEL : 0) | (active_low ? RTE_ACTIVE_LOW : 0);
}

int irq_set_trigger(unsigned gsi, bool level, bool active_low)
{
    if (gsi >= irq_gsi_count || !pins[gsi].exists)
        return -XEN_EINVAL;
    uint32_t bits = trigger_bits(level, active_low);
    uint32_t now = pins[gsi].low & (RTE_LEVEL | RTE_ACTIVE_LOW);
    if (bits == now)
        return 0;
    if (irq_is_bound(gsi))
        return -XEN_EBUSY;
    pins[gsi].low = (pins[gsi].low & ~(RTE_LEVEL | RTE_ACTIVE_LOW)) | bits;
    write_low(gsi, pins[gsi].low);
    return 0;
}

/* ISA lines as the firmware says; all others are PCI's: level, active low. */
static uint32_t default_trigger(unsigned gsi)
{
    for (unsigned i = 0; i < ARRAY_SIZE(acpi_info.isa); i++)
        if (acpi_info.isa[i].gsi == gsi)
            return trigger_bits(acpi_info.isa[i].level, acpi_info.isa[i].active_low);
    return gsi < ARRAY_SIZE(acpi_info.isa) ? 0 : trigger_bits(true, true);
}

static void add(const struct acpi_ioapic *info)
{
    struct ioapic *a = &ioapics[ioapic_count];
    uint8_t *page = vmap_contiguous(maddr_to_mfn(info->address), 1, MAP_UC);
    if (!page)
        panic("IO-APIC %u cannot be mapped", info->id);
    a->regs = (volatile uint32_t *)(page + info->address.a % PAGE_SIZE);
    a->gsi_base = info->gsi_base;
    uint32_t version = reg_read(a, REG_VERSION);
    a->pins = (version >> 16 & 0xff) + 1;
    if (version == 0xffffffff || a->gsi_base + a->pins > MAX_IRQS / 2 || find(a->gsi_base)) {
        log_error("IO-APIC %u at %lx, GSI %u: not usable", info->id, info->address.a, a->gsi_base);
        return;
    }
    ioapic_count++;
    for (unsigned i = 0; i < a->pins; i++) {
        unsigned gsi = a->gsi_base + i;
        pins[gsi].exists = true;
        pins[gsi].low = RTE_MASKED | default_trigger(gsi);
        write_low(gsi, pins[gsi].low);
        irq_set_source(gsi, &pin_source);
    }
    irq_gsi_count = max(irq_gsi_count, a->gsi_base + a->pins);
}

void ioapic_init(void)
{
    irq_gsi_count = ARRAY_SIZE(acpi_info.isa);
    for (unsigned i = 0; i < acpi_info.ioapics; i++)
        add(&acpi_info.ioapic[i]);
}
