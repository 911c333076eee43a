/*
 * Lines between devices and interrupt controllers. PCI's interrupt lines have an input of the
 * IO-APIC each four of them, and by the router of the ISA bridge an ISA interrupt for each of four
 * links: as the ABI's firmware describes them in its ACPI tables, and xen/arch-x86/hvm/save.h does.
 */
#include "hvm/platform_internal.h"

static uint64_t all_sources(const struct platform *p)
{
    uint64_t all = 0;
    for (unsigned s = 0; s < SOURCES; s++)
        all |= p->level[s];
    return all;
}

static enum line_result drive(struct platform *p, unsigned line, bool level)
{
    enum line_result by_pic = LINE_LOST, by_ioapic = LINE_LOST;
    if (line < ISA_IRQS && line != 0 && platform_has(p, XEN_X86_EMU_PIC))
        by_pic = pic_set_line(&p->pic, line == 2 ? 0 : line, level);
    if (platform_has(p, XEN_X86_EMU_IOAPIC))
        by_ioapic = ioapic_set_line(&p->ioapic, line, level);
    return max(by_pic, by_ioapic);
}

void wires_set(struct platform *p, enum line_source s, uint64_t levels)
{
    uint64_t before = all_sources(p);
    p->level[s] = levels;
    uint64_t after = all_sources(p);
    for (uint64_t changed = before ^ after; changed; changed &= changed - 1) {
        unsigned line = __builtin_ctzl(changed);
        (void)drive(p, line, after >> line & 1);
    }
}

enum line_result wires_pulse(struct platform *p, unsigned line)
{
    if (all_sources(p) >> line & 1)
        return LINE_MERGED; /* somebody else holds it up: no edge */
    enum line_result r = drive(p, line, true);
    (void)drive(p, line, false);
    return r;
}

/* --- PCI --- */

static unsigned pci_line(unsigned device, unsigned intx)
{
    return 16 + ((device * 4 + (device >> 3) + intx) & 31);
}

static void count_pci(struct platform *p, unsigned device, unsigned intx, int change)
{
    p->pci_count[pci_line(device, intx) - 16] += change;
    p->link_count[(device + intx) % PCI_LINKS] += change;
}

void wires_reroute(struct platform *p)
{
    uint64_t links = 0, lines = 0;
    for (unsigned l = 0; l < PCI_LINKS; l++)
        if (p->link_count[l] && p->route[l])
            links |= 1UL << isa_line(p->route[l]);
    for (unsigned i = 0; i < ARRAY_SIZE(p->pci_count); i++)
        if (p->pci_count[i])
            lines |= 1UL << (16 + i);
    wires_set(p, SOURCE_LINK, links);
    wires_set(p, SOURCE_PCI, lines);
}

void wires_pci(struct platform *p, unsigned device, unsigned intx, bool level)
{
    unsigned wire = device * 4 + intx;
    uint64_t bit = 1UL << wire % 64;
    if (!!(p->pci_wires[wire / 64] & bit) == level)
        return;
    p->pci_wires[wire / 64] ^= bit;
    count_pci(p, device, intx, level ? 1 : -1);
    wires_reroute(p);
}

void wires_recount(struct platform *p)
{
    bool callback = p->callback_level;
    wires_callback(p, false);
    for (unsigned i = 0; i < ARRAY_SIZE(p->pci_count); i++)
        p->pci_count[i] = 0;
    for (unsigned l = 0; l < PCI_LINKS; l++)
        p->link_count[l] = 0;
    for (unsigned wire = 0; wire < PCI_DEVICES * PCI_PINS; wire++)
        if (p->pci_wires[wire / 64] >> wire % 64 & 1)
            count_pci(p, wire / 4, wire % 4, 1);
    wires_reroute(p);
    wires_callback(p, callback);
}

/* --- events of vCPU 0 --- */

void wires_callback(struct platform *p, bool level)
{
    if (level == p->callback_level)
        return;
    WRITE_ONCE(p->callback_level, level);
    if (p->callback >> 56 == HVM_PARAM_CALLBACK_TYPE_PCI_INTX) {
        count_pci(p, p->callback >> 11 & 31, p->callback & 3, level ? 1 : -1);
        wires_reroute(p);
    } else {
        wires_set_one(p, SOURCE_CALLBACK, p->callback, level);
    }
}

int platform_set_callback(struct domain *d, uint64_t value)
{
    struct platform *p = platform_of(d);
    uint64_t type = value >> 56, where = value & ~HVM_PARAM_CALLBACK_IRQ_TYPE_MASK;
    if (!value && !p)
        return 0;
    if (!p)
        return -XEN_EOPNOTSUPP;
    if (type == HVM_PARAM_CALLBACK_TYPE_GSI ? where >= IOAPIC_PINS
                                            : type != HVM_PARAM_CALLBACK_TYPE_PCI_INTX)
        return -XEN_EINVAL;
    /* One bus; a function has its device's lines. */
    if (type == HVM_PARAM_CALLBACK_TYPE_PCI_INTX && (where >> 16 || where & 0xfc))
        return -XEN_EINVAL;
    spin_lock(&p->lock);
    wires_callback(p, false);
    WRITE_ONCE(p->callback, value);
    platform_unlock(p);
    return 0;
}

/* --- messages --- */

static enum line_result to_local_apics(struct ioapic *io, const struct lapic_ipi *ipi)
{
    return hvm_apic_send(container_of(io, struct platform, ioapic)->domain, ipi);
}

const struct ioapic_ops wires_ioapic_ops = {.send = to_local_apics};

/*
 * Intel SDM vol. 3 section 11.11: address and data of a message. QEMU hands over where in the 1 MiB
 * of messages it is (its xen_apic_mem_write()), others the whole address (xen/hvm/dm_op.h).
 */
int platform_msi(struct domain *d, uint64_t addr, uint32_t data)
{
    struct lapic_ipi ipi = {
        .vector = data,
        .mode = data >> 8 & 7,
        .logical = addr >> 2 & 1,
        .dest = addr >> 12 & 0xff,
    };
    if (addr >> 20 && addr >> 20 != 0xfee)
        return -XEN_EINVAL;
    if (ipi.mode != LAPIC_FIXED && ipi.mode != LAPIC_LOWEST && ipi.mode != LAPIC_NMI &&
        ipi.mode != LAPIC_INIT)
        return -XEN_EINVAL;
    bool fixed = ipi.mode == LAPIC_FIXED || ipi.mode == LAPIC_LOWEST;
    if (fixed && ipi.vector < 16)
        return -XEN_EINVAL;
    (void)hvm_apic_send(d, &ipi); /* nobody there: as on a bus */
    return 0;
}
