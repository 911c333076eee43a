/*
 * Who answers what a guest does to ports and to memory that is not there: its local APIC, the
 * platform's own devices (platform.h), the machine itself for who drives it (hwdom.h), device
 * models (ioreq.h), or nobody: then reads find all ones and writes are lost, as on a bus.
 *
 * PCI configuration by ports 0xcf8 and 0xcfc is turned into requests for the function, so that each
 * can be in a device model of its own (PCI Local Bus 3.0 section 3.2.2.3.2). Port 0xe9 takes the
 * guest's firmware's words, which go into the log.
 */
#include "console/console.h"
#include "hvm/hvm.h"
#include "hvm/hwdom.h"
#include "hvm/ioreq.h"
#include "hvm/platform.h"
#include "irq/pci_port.h"

#include <xen/hvm/ioreq.h>

#define DEBUG_PORT 0xe9

static void debug_char(struct domain *d, char c)
{
    struct hvm_domain *h = d->hvm;
    char line[sizeof(h->debug_line)];
    bool whole = false;
    spin_lock(&d->lock);
    if (c >= ' ' && c <= '~')
        h->debug_line[h->debug_used++] = c;
    if (c == '\n' || h->debug_used == sizeof(h->debug_line) - 1) {
        for (unsigned i = 0; i < h->debug_used; i++)
            line[i] = h->debug_line[i];
        line[h->debug_used] = '\0';
        whole = h->debug_used > 0;
        h->debug_used = 0;
    }
    spin_unlock(&d->lock);
    if (whole)
        log_guest(d->id, LOG_INFO, "%s", line);
}

/* The function that the address register names, as xen/hvm/ioreq.h writes it; and the register. */
static bool pci_request(const struct domain *d, uint16_t port, unsigned size,
                        struct ioreq_access *a)
{
    uint32_t address = READ_ONCE(d->hvm->pci_address);
    uint16_t reg;
    if (!pci_port_register(address, port, size, &reg))
        return false;
    a->type = IOREQ_TYPE_PCI_CONFIG;
    a->addr = (uint64_t)(address >> 8 & 0xffff) << 32 | (reg & 0xff);
    return true;
}

/* Ours alone; the address register is told to device models, too. */
static bool own_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    struct domain *d = v->domain;
    if (port == PCI_PORT_ADDRESS && size == 4 && write)
        WRITE_ONCE(d->hvm->pci_address, *value);
    if (port == DEBUG_PORT && size == 1) {
        if (write)
            debug_char(d, (char)*value);
        else
            *value = DEBUG_PORT;
        return true;
    }
    return platform_port(v, port, size, write, value);
}

int hvm_io_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    uint32_t mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
    struct ioreq_access a = {.type = IOREQ_TYPE_PIO,
                             .write = write,
                             .size = size,
                             .addr = port,
                             .data = write ? *value & mask : 0};
    struct ioreq_access pci = a;
    if (own_port(v, port, size, write, value))
        return 0;
    if (v->domain->hvm->hw && hwdom_port(v->domain, port, size, write, value))
        return 0;
    if (pci_request(v->domain, port, size, &pci) && ioreq_send(v, &pci))
        *value = pci.data;
    else if (ioreq_send(v, &a))
        *value = a.data;
    else if (!write)
        *value = mask;
    return 0;
}

/* Is it for nobody but a device model, for each element the same? */
static bool model_port(const struct domain *d, uint16_t port)
{
    bool pci = (port & ~7u) == PCI_PORT_ADDRESS;
    return !pci && port != DEBUG_PORT && !d->hvm->hw && !platform_has_port(d, port);
}

static bool is_ram(const struct domain *d, uint64_t gpa)
{
    enum p2m_kind there = p2m_kind(d, gfn(gpa >> PAGE_SHIFT));
    return there == P2M_RAM || there == P2M_POD;
}

bool hvm_io_port_block(struct vcpu *v, uint16_t port, unsigned size, bool write, uint64_t gpa,
                       unsigned count)
{
    struct ioreq_access a = {.type = IOREQ_TYPE_PIO,
                             .write = write,
                             .size = size,
                             .addr = port,
                             .data = gpa,
                             .count = count,
                             .pointer = true};
    return is_ram(v->domain, gpa) && model_port(v->domain, port) && ioreq_send(v, &a);
}

/* Registers of 32 bits, 16 bytes apart; narrow and wide reads find what is there of them. */
static void apic(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    unsigned reg = gpa >> 4 & 0xff;
    if (!write) {
        uint64_t all = lapic_read(&v->hvm->lapic, reg);
        *value = gpa % 16 < 4 ? all >> 8 * (gpa % 4) : 0;
    } else if (gpa % 16 == 0 && size == 4) {
        lapic_write(&v->hvm->lapic, reg, (uint32_t)*value);
    }
}

/* Is it not RAM, and none of ours? */
static bool model_mem(const struct vcpu *v, uint64_t gpa)
{
    const struct domain *d = v->domain;
    return p2m_kind(d, gfn(gpa >> PAGE_SHIFT)) == P2M_NONE && !hvm_apic_page(v, gpa) &&
           !platform_has_mem(d, gpa) && !d->hvm->hw;
}

/* What a device model does with a block has a device's memory at `addr`. */
bool hvm_io_mem_block(struct vcpu *v, const struct hvm_block *b)
{
    bool from_model = !b->fill && model_mem(v, b->from), to_model = model_mem(v, b->to);
    struct ioreq_access a = {.type = IOREQ_TYPE_COPY,
                             .write = !from_model,
                             .size = b->size,
                             .addr = from_model ? b->from : b->to,
                             .data = b->fill      ? b->value
                                     : from_model ? b->to
                                                  : b->from,
                             .count = b->count,
                             .pointer = !b->fill,
                             .within = from_model && to_model};
    if (!from_model && !to_model)
        return false;
    if (a.pointer && !a.within && !is_ram(v->domain, a.data))
        return false;
    return ioreq_send(v, &a);
}

int hvm_io_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    uint64_t mask = size == 8 ? ~0UL : (1UL << 8 * size) - 1;
    struct ioreq_access a = {.type = IOREQ_TYPE_COPY,
                             .write = write,
                             .size = size,
                             .addr = gpa,
                             .data = write ? *value & mask : 0};
    if (hvm_apic_page(v, gpa)) {
        apic(v, gpa, size, write, value);
        return 0;
    }
    if (platform_mem(v, gpa, size, write, value))
        return 0;
    if (v->domain->hvm->hw && hwdom_mem(v->domain, gpa, size, write, value))
        return 0;
    if (ioreq_send(v, &a))
        *value = a.data;
    else if (!write)
        *value = mask;
    return 0;
}
