/*
 * The machine as a hardware-virtualized domain 0 drives it (hwdom.h).
 *
 * Device memory is mapped, one to one, when it is first touched. Ports are all intercepted and done
 * for the guest, so that the address latch of PCI configuration is its own.
 *
 * A line of the machine is bound when the guest first unmasks its pin, with the trigger that the
 * guest chose. An edge that fires is an edge at the pin. A level that fires is masked at the
 * machine's IO-APIC, asserted at the pin, and unmasked when the guest has ended the interrupt: if
 * the device wants more, it fires again. The guest's own mask holds back what is at the pin only.
 *
 * Locks: `config` (RANK_HWDOM) for which lines are bound, since binding may wait for a handler;
 * `lock` (RANK_LINES) for the IO-APIC, which handlers take.
 */
#include "hvm/hwdom.h"

#include "console/console.h"
#include "hvm/dev/ioapic.h"
#include "hvm/hvm.h"
#include "irq/pci_port.h"
#include "lib/string.h"

struct hwdom {
    struct domain *domain; /* [I] */
    struct spinlock config, lock;
    unsigned pins;        /* [I] that lead to lines of the machine */
    uint64_t bound;       /* [config] a bit each */
    struct ioapic ioapic; /* [lock] */
};

/* --- memory and ports --- */

bool hwdom_map(struct domain *d, gfn_t g)
{
    mfn_t m = mfn(g.n);
    if (mfn_is_ram(m) || !domain_may_use(d, &d->iomem, m.n, m.n))
        return false;
    int rc = p2m_add_device(d, g, m);
    if (rc)
        log_guest(d->id, LOG_ERROR, "device memory at 0x%lx cannot be mapped: error %d",
                  m.n << PAGE_SHIFT, rc);
    return !rc;
}

bool hwdom_port(struct domain *d, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    if (pci_port_access(&d->hvm->pci_address, true, port, size, write, value))
        return true;
    if (!domain_may_use(d, &d->ioports, port, port + size - 1u))
        return false;
    if (write)
        port_out(port, size, *value);
    else
        *value = port_in(port, size);
    return true;
}

/* --- interrupt lines --- */

static struct hwdom *of(struct ioapic *io)
{
    return container_of(io, struct hwdom, ioapic);
}

static enum line_result send(struct ioapic *io, const struct lapic_ipi *message)
{
    return hvm_apic_send(of(io)->domain, message);
}

/* The device may ask again. */
static void done(struct ioapic *io, unsigned pin)
{
    (void)ioapic_set_line(io, pin, false);
    irq_done(pin);
}

static const struct ioapic_ops ops = {send, done};

/* Interrupt context. */
static void fire(unsigned irq, void *data)
{
    struct hwdom *hw = data;
    spin_lock(&hw->lock);
    (void)ioapic_set_line(&hw->ioapic, irq, true);
    if (!irq_needs_eoi(irq))
        (void)ioapic_set_line(&hw->ioapic, irq, false);
    spin_unlock(&hw->lock);
}

static void bind(struct hwdom *hw, unsigned pin, union vioapic_redir_entry entry)
{
    struct domain *d = hw->domain;
    int rc = irq_set_trigger(pin, entry.fields.trig_mode, entry.fields.polarity);
    if (!rc)
        rc = irq_bind(pin, fire, hw, d->vcpu[0]->sched.cpu);
    if (rc) {
        log_guest(d->id, LOG_WARNING, "interrupt line %u cannot be its own: error %d", pin, rc);
        return;
    }
    bit_set(&hw->bound, pin);
    irq_unmask(pin);
}

/* The guest may have written the entry of @pin. */
static void changed(struct hwdom *hw, unsigned pin)
{
    union vioapic_redir_entry entry = {.bits = READ_ONCE(hw->ioapic.regs.redirtbl[pin].bits)};
    if (entry.fields.mask || !domain_may_use(hw->domain, &hw->domain->irqs, pin, pin))
        return;
    spin_lock(&hw->config);
    if (!bit_test(&hw->bound, pin))
        bind(hw, pin, entry);
    spin_unlock(&hw->config);
}

bool hwdom_mem(struct domain *d, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    struct hwdom *hw = d->hvm->hw;
    if (gpa >> PAGE_SHIFT != IOAPIC_PAGE >> PAGE_SHIFT)
        return false;
    spin_lock(&hw->lock);
    if (write)
        ioapic_write(&hw->ioapic, gpa % PAGE_SIZE, (uint32_t)*value);
    else
        *value = ioapic_read(&hw->ioapic, gpa % PAGE_SIZE);
    spin_unlock(&hw->lock);
    for (unsigned pin = 0; write && pin < hw->pins; pin++)
        if (!bit_test(&hw->bound, pin))
            changed(hw, pin);
    return true;
}

void hwdom_eoi(struct domain *d, uint8_t vector)
{
    struct hwdom *hw = d->hvm->hw;
    spin_lock(&hw->lock);
    ioapic_eoi(&hw->ioapic, vector);
    spin_unlock(&hw->lock);
}

int hwdom_init(struct domain *d)
{
    struct hwdom *hw = zalloc(sizeof(*hw));
    if (!hw)
        return -XEN_ENOMEM;
    hw->domain = d;
    spin_init(&hw->config, RANK_HWDOM);
    spin_init(&hw->lock, RANK_LINES);
    hw->pins = min(irq_gsi_count, (unsigned)IOAPIC_PINS);
    ioapic_reset(&hw->ioapic, &ops);
    if (irq_gsi_count > IOAPIC_PINS)
        log_warn("domain 0 has %u of %u interrupt lines", IOAPIC_PINS, irq_gsi_count);
    d->hvm->hw = hw;
    return 0;
}
