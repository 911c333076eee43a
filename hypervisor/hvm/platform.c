/*
 * The machine around a guest's CPUs (platform.h).
 */
#include "hvm/platform.h"

int platform_init(struct domain *d)
{
    return 0;
}

void platform_fini(struct domain *d)
{
}

bool platform_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    return false;
}

bool platform_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    return false;
}

void platform_isa_line(struct domain *d, unsigned irq, bool level)
{
}

void platform_pci_line(struct domain *d, unsigned device, unsigned intx, bool level)
{
}

int platform_pci_link(struct domain *d, unsigned link, uint8_t isa_irq)
{
    return -XEN_EOPNOTSUPP;
}

int platform_msi(struct domain *d, uint64_t addr, uint32_t data)
{
    return -XEN_EOPNOTSUPP;
}

bool platform_extint(const struct vcpu *v)
{
    return false;
}

int platform_take_extint(struct vcpu *v)
{
    return -1;
}
