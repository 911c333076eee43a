/*
 * A hardware-virtualized domain that drives the machine: domain 0 (dom0=pvh). It finds device
 * memory at its machine addresses, ports by their numbers, PCI configuration, and the machine's
 * interrupt lines at the pins of an IO-APIC of its own.
 */
#ifndef HVM_HWDOM_H
#define HVM_HWDOM_H

#include "domain/domain.h"

int __must_check hwdom_init(struct domain *d); /* before it runs; -XEN_ENOMEM */
/* Device memory at @g: it is there from now on. False: not a device's, or not @d's. */
bool hwdom_map(struct domain *d, gfn_t g);
/* @size 1, 2, 4. False: the port is not @d's; *value is untouched. */
bool hwdom_port(struct domain *d, uint16_t port, unsigned size, bool write, uint32_t *value);
/* Registers of its IO-APIC; false: none is there. */
bool hwdom_mem(struct domain *d, uint64_t gpa, unsigned size, bool write, uint64_t *value);
void hwdom_eoi(struct domain *d, uint8_t vector);

#endif
