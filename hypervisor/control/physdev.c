/*
 * physdev_op (xen/physdev.h): physical interrupts and devices as domain 0's drivers ask for them.
 * Each operation copies its own structure in and, where it answers, out again. Ordinary domains
 * may only set their I/O privilege level and acknowledge interrupts that were given to them.
 */
#include "acpi/acpi.h"
#include "hypercall/permission.h"
#include "event/event.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"
#include "irq/irq.h"
#include "pv/pv.h"

#include <xen/physdev.h>

#define PHYSDEV_IN(type, name)                                                                     \
    type name;                                                                                     \
    int rc = copy_from_guest(&name, arg, sizeof(name));                                            \
    if (rc)                                                                                        \
    return rc

static int eoi(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_eoi, e);
    return pirq_eoi(current_domain(), e.irq);
}

static int eoi_map(guest_ptr_t arg, bool auto_unmask)
{
    PHYSDEV_IN(struct physdev_pirq_eoi_gmfn, g);
    return pirq_set_eoi_map(current_domain(), gfn(g.gmfn), auto_unmask);
}

static int irq_status_query(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_irq_status_query, q);
    rc = pirq_status(current_domain(), q.irq, &q.flags);
    return rc ? rc : copy_to_guest(arg, &q, sizeof(q));
}

static int set_iopl(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_set_iopl, s);
    if (current_domain()->is_hvm)
        return -XEN_ENOSYS;
    if (s.iopl > 3)
        return -XEN_EINVAL;
    current_vcpu()->pv->iopl = s.iopl;
    return 0;
}

static int set_iobitmap(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_set_iobitmap, s);
    if (current_domain()->is_hvm)
        return -XEN_ENOSYS;
    return pv_set_iobitmap(current_vcpu(), guest_handle(s.bitmap).addr, s.nr_ports);
}

static int map_msi(struct domain *d, struct physdev_map_pirq *m, uint16_t segment)
{
    struct msi_request request = {
        .segment = segment,
        .bus = m->bus,
        .devfn = m->devfn,
        .entry = m->entry_nr,
        .table_base = m->table_base,
    };
    int irq = msi_alloc(&request);
    if (irq < 0)
        return irq;
    int rc = pirq_map(d, &m->pirq, irq, true);
    if (rc)
        msi_free(irq);
    return rc;
}

static int map_pirq(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_map_pirq, m);
    struct domain *d = domain_find_or_self(m.domid);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(current_domain(), __HYPERVISOR_physdev_op, PHYSDEVOP_map_pirq, d);
    if (rc)
        return rc;

    switch (m.type) {
    case MAP_PIRQ_TYPE_GSI:
        if (m.index < 0 || (unsigned)m.index >= irq_gsi_count)
            return -XEN_EINVAL;
        if (!domain_may_use(d, &d->irqs, m.index, m.index))
            return -XEN_EPERM;
        rc = pirq_map(d, &m.pirq, m.index, false);
        break;
    case MAP_PIRQ_TYPE_MSI:
    case MAP_PIRQ_TYPE_MSI_SEG:
        if (!current_domain()->privileged)
            return -XEN_EPERM;
        rc = map_msi(d, &m, m.type == MAP_PIRQ_TYPE_MSI_SEG ? (unsigned)m.bus >> 16 : 0);
        break;
    default: /* several messages of plain MSI: drivers fall back to one */
        return -XEN_EOPNOTSUPP;
    }
    return rc ? rc : copy_to_guest(arg, &m, sizeof(m));
}

static int unmap_pirq(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_unmap_pirq, u);
    struct domain *d = domain_find_or_self(u.domid);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(current_domain(), __HYPERVISOR_physdev_op, PHYSDEVOP_unmap_pirq, d);
    return rc ? rc : pirq_unmap(d, u.pirq);
}

static int setup_gsi(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_setup_gsi, s);
    if (s.gsi < 0 || (unsigned)s.gsi >= irq_gsi_count)
        return -XEN_EINVAL;
    return irq_set_trigger(s.gsi, s.triggering, s.polarity);
}

/*
 * Linux still asks for a line's vector before it binds the line. Vectors are chosen when a line is
 * bound and are nobody else's business: the answer is the line's own number.
 */
static int alloc_irq_vector(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_irq, i);
    struct domain *d = current_domain();
    if (i.irq >= irq_gsi_count || !domain_may_use(d, &d->irqs, i.irq, i.irq))
        return -XEN_EINVAL;
    i.vector = i.irq;
    return copy_to_guest(arg, &i, sizeof(i));
}

static int get_free_pirq(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_get_free_pirq, f);
    int pirq = pirq_free_number(current_domain());
    if (pirq < 0)
        return pirq;
    f.pirq = pirq;
    return copy_to_guest(arg, &f, sizeof(f));
}

/* The window that domain 0 found reserved must be one that we use ourselves. */
static int mmcfg_reserved(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_pci_mmcfg_reserved, r);
    for (unsigned i = 0; i < acpi_info.mcfgs; i++)
        if (acpi_info.mcfg[i].base.a == r.address && acpi_info.mcfg[i].segment == r.segment)
            return 0;
    return -XEN_ENODEV;
}

/* We keep no list of devices; what can be answered is whether there is one. */
static int pci_device_present(uint16_t segment, uint8_t bus, uint8_t devfn)
{
    return pci_read(segment, bus, devfn, 0, 2) == 0xffff ? -XEN_ENODEV : 0;
}

static int pci_device_add(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_pci_device_add, a);
    return pci_device_present(a.seg, a.bus, a.devfn);
}

static int pci_device_remove(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_pci_device, p);
    return 0; /* nothing was recorded at add, so nothing is left to forget */
}

static int restore_msi(guest_ptr_t arg)
{
    PHYSDEV_IN(struct physdev_pci_device, p);
    return msi_restore(p.seg, p.bus, p.devfn);
}

long hc_physdev_op(uint64_t cmd, uint64_t argument)
{
    guest_ptr_t arg = guest_ptr(argument);
    switch (cmd) {
    case PHYSDEVOP_eoi:
        return eoi(arg);
    case PHYSDEVOP_pirq_eoi_gmfn_v1:
        return eoi_map(arg, true);
    case PHYSDEVOP_pirq_eoi_gmfn_v2:
        return eoi_map(arg, false);
    case PHYSDEVOP_irq_status_query:
        return irq_status_query(arg);
    case PHYSDEVOP_set_iopl:
        return set_iopl(arg);
    case PHYSDEVOP_set_iobitmap:
        return set_iobitmap(arg);
    case PHYSDEVOP_map_pirq:
        return map_pirq(arg);
    case PHYSDEVOP_unmap_pirq:
        return unmap_pirq(arg);
    case PHYSDEVOP_get_free_pirq:
        return get_free_pirq(arg);
    }
    /* The rest touches the machine. */
    if (!current_domain()->privileged)
        return -XEN_EPERM;
    switch (cmd) {
    case PHYSDEVOP_alloc_irq_vector:
        return alloc_irq_vector(arg);
    case PHYSDEVOP_setup_gsi:
        return setup_gsi(arg);
    case PHYSDEVOP_pci_mmcfg_reserved:
        return mmcfg_reserved(arg);
    case PHYSDEVOP_pci_device_add:
        return pci_device_add(arg);
    case PHYSDEVOP_pci_device_remove:
        return pci_device_remove(arg);
    case PHYSDEVOP_restore_msi_ext:
        return restore_msi(arg);
    default:
        return -XEN_ENOSYS;
    }
}
