/*
 * The platform's devices as save records (xen/arch-x86/hvm/save.h): interrupt controllers, timers,
 * clock, wires. Each is checked alone, and taken as a whole or not at all.
 */
#ifndef HVM_RECORDS_H
#define HVM_RECORDS_H

#include "domain/domain.h"

/* Whether @type is one of these; *size: of its body, *instances: how many there are of it. */
bool platform_record(uint16_t type, uint32_t *size, unsigned *instances);
/* @d is paused. -XEN_ENODEV: it has no such device. */
int __must_check platform_record_get(struct domain *d, uint16_t type, unsigned instance,
                                     void *body);
/* Before a load, without one: -XEN_ENODEV, -XEN_EINVAL. */
int __must_check platform_record_check(const struct domain *d, uint16_t type, unsigned instance,
                                       const void *body);
/*
 * What platform_record_check() found right. Wires, and devices that drive some, first: an edge that
 * they make is undone by the record of the interrupt controller.
 */
void platform_record_load(struct domain *d, uint16_t type, unsigned instance, const void *body);

#endif
