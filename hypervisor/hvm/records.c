/* Save records of the platform's devices (records.h). */
#include "hvm/records.h"

#include "hvm/platform_internal.h"
#include "lib/string.h"

#define ISA_WIRES 0xffffUL

union body {
    struct hvm_hw_vpic pic;
    struct hvm_hw_vioapic ioapic;
    struct hvm_hw_pci_irqs pci;
    struct hvm_hw_isa_irqs isa;
    struct hvm_hw_pci_link link;
    struct hvm_hw_pit pit;
    struct hvm_hw_rtc rtc;
    struct hvm_hw_hpet hpet;
    struct hvm_hw_pmtimer pm;
};

/* device: XEN_X86_EMU_*; 0: the platform itself. */
static const struct {
    uint16_t type;
    uint8_t instances;
    uint32_t size, device;
} records[] = {
    {HVM_SAVE_CODE(PIC), 2, sizeof(struct hvm_hw_vpic), XEN_X86_EMU_PIC},
    {HVM_SAVE_CODE(IOAPIC), 1, sizeof(struct hvm_hw_vioapic), XEN_X86_EMU_IOAPIC},
    {HVM_SAVE_CODE(PCI_IRQ), 1, sizeof(struct hvm_hw_pci_irqs), 0},
    {HVM_SAVE_CODE(ISA_IRQ), 1, sizeof(struct hvm_hw_isa_irqs), 0},
    {HVM_SAVE_CODE(PCI_LINK), 1, sizeof(struct hvm_hw_pci_link), 0},
    {HVM_SAVE_CODE(PIT), 1, sizeof(struct hvm_hw_pit), XEN_X86_EMU_PIT},
    {HVM_SAVE_CODE(RTC), 1, sizeof(struct hvm_hw_rtc), XEN_X86_EMU_RTC},
    {HVM_SAVE_CODE(HPET), 1, sizeof(struct hvm_hw_hpet), XEN_X86_EMU_HPET},
    {HVM_SAVE_CODE(PMTIMER), 1, sizeof(struct hvm_hw_pmtimer), XEN_X86_EMU_PM},
};

static int index_of(uint16_t type)
{
    for (unsigned i = 0; i < ARRAY_SIZE(records); i++)
        if (records[i].type == type)
            return i;
    return -1;
}

bool platform_record(uint16_t type, uint32_t *size, unsigned *instances)
{
    int i = index_of(type);
    if (i < 0)
        return false;
    *size = records[i].size;
    *instances = records[i].instances;
    return true;
}

static int find(const struct domain *d, uint16_t type, unsigned instance)
{
    int i = index_of(type);
    const struct platform *p = platform_of(d);
    if (i < 0 || !p || (records[i].device && !platform_has(p, records[i].device)))
        return -XEN_ENODEV;
    return instance < records[i].instances ? i : -XEN_EINVAL;
}

/* Interrupt n of the ISA bus is at a line of its own number, but for 0. */
static uint64_t isa_wires(uint64_t lines)
{
    return (lines & ~5UL & ISA_WIRES) | (lines >> 2 & 1);
}

static uint64_t isa_lines(uint64_t wires)
{
    return (wires & ~5UL) | (wires & 1) << 2;
}

int platform_record_get(struct domain *d, uint16_t type, unsigned instance, void *body)
{
    struct platform *p = platform_of(d);
    union body *b = body;
    int i = find(d, type, instance);
    if (i < 0)
        return i;
    memset(b, 0, records[i].size);
    spin_lock(&p->lock);
    platform_update_all(p);
    uint64_t now = time_now();
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        b->pic = p->pic.chip[instance];
        break;
    case HVM_SAVE_CODE(IOAPIC):
        b->ioapic = p->ioapic.regs;
        break;
    case HVM_SAVE_CODE(PCI_IRQ):
        memcpy(b->pci.pad, p->pci_wires, sizeof(b->pci.pad));
        break;
    case HVM_SAVE_CODE(ISA_IRQ):
        b->isa.pad[0] = isa_wires(p->level[SOURCE_ISA]);
        break;
    case HVM_SAVE_CODE(PCI_LINK):
        memcpy(b->link.route, p->route, sizeof(b->link.route));
        break;
    case HVM_SAVE_CODE(PIT):
        pit_save(&p->pit, &b->pit);
        break;
    case HVM_SAVE_CODE(RTC):
        rtc_save(&p->rtc, &b->rtc, now);
        break;
    case HVM_SAVE_CODE(HPET):
        hpet_save(&p->hpet, &b->hpet, now);
        break;
    case HVM_SAVE_CODE(PMTIMER):
        pmtimer_save(&p->pm, &b->pm, now);
        break;
    }
    platform_unlock(p);
    return 0;
}

static int check_link(const struct hvm_hw_pci_link *l)
{
    for (unsigned i = 0; i < PCI_LINKS; i++)
        if (l->route[i] >= ISA_IRQS)
            return -XEN_EINVAL;
    return 0;
}

int platform_record_check(const struct domain *d, uint16_t type, unsigned instance,
                          const void *body)
{
    union body b;
    int i = find(d, type, instance);
    if (i < 0)
        return i;
    memcpy(&b, body, records[i].size);
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        return pic_check(&b.pic, instance);
    case HVM_SAVE_CODE(IOAPIC):
        return ioapic_check(&b.ioapic);
    case HVM_SAVE_CODE(ISA_IRQ):
        return b.isa.pad[0] & ~ISA_WIRES || b.isa.pad[0] & 4 ? -XEN_EINVAL : 0;
    case HVM_SAVE_CODE(PCI_LINK):
        return check_link(&b.link);
    case HVM_SAVE_CODE(PIT):
        return pit_check(&b.pit);
    case HVM_SAVE_CODE(RTC):
        return rtc_check(&b.rtc);
    case HVM_SAVE_CODE(HPET):
        return hpet_check(&b.hpet);
    case HVM_SAVE_CODE(PMTIMER):
        return pmtimer_check(&b.pm);
    default: /* PCI_IRQ: a bit is a wire */
        return 0;
    }
}

void platform_record_load(struct domain *d, uint16_t type, unsigned instance, const void *body)
{
    struct platform *p = platform_of(d);
    union body b;
    int i = find(d, type, instance);
    if (i < 0)
        return;
    memcpy(&b, body, records[i].size);
    spin_lock(&p->lock);
    uint64_t now = time_now();
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        pic_load(&p->pic, &b.pic, instance);
        break;
    case HVM_SAVE_CODE(IOAPIC):
        ioapic_load(&p->ioapic, &b.ioapic);
        break;
    case HVM_SAVE_CODE(PCI_IRQ):
        memcpy(p->pci_wires, b.pci.pad, sizeof(p->pci_wires));
        wires_recount(p);
        break;
    case HVM_SAVE_CODE(ISA_IRQ):
        wires_set(p, SOURCE_ISA, isa_lines(b.isa.pad[0]));
        break;
    case HVM_SAVE_CODE(PCI_LINK):
        memcpy(p->route, b.link.route, sizeof(p->route));
        wires_reroute(p);
        break;
    case HVM_SAVE_CODE(PIT):
        pit_load(&p->pit, &b.pit, now);
        break;
    case HVM_SAVE_CODE(RTC):
        rtc_load(&p->rtc, &b.rtc, now);
        break;
    case HVM_SAVE_CODE(HPET):
        hpet_load(&p->hpet, &b.hpet, now);
        break;
    case HVM_SAVE_CODE(PMTIMER):
        pmtimer_load(&p->pm, &b.pm, now);
        break;
    }
    platform_update_all(p);
    platform_unlock(p);
}
