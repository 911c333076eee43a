/*
 * The machine around a guest's CPUs, as a PC of the ABI has it (xen/arch-x86/hvm/save.h): interrupt
 * controllers, timers, clock, and the wires between devices and interrupt controllers. Which of
 * these a domain has follows the emulation flags of its creation; one with the local APIC alone
 * (PVH) has no platform, and every function here says "not mine" or does nothing for it.
 *
 * Any vCPU and any hypercall may call: everything is under the platform's lock (RANK_PLATFORM),
 * which these functions take themselves.
 */
#ifndef HVM_PLATFORM_H
#define HVM_PLATFORM_H

#include "domain/domain.h"

/* By d->emulation. -XEN_ENOMEM. */
int __must_check platform_init(struct domain *d);
void platform_fini(struct domain *d);

/* --- accesses of v, the current vCPU; false: not ours. Reads leave bits above @size zero. --- */
bool platform_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value);
bool platform_has_port(const struct domain *d, uint16_t port); /* any of it may be ours */
bool platform_has_mem(const struct domain *d, uint64_t gpa);   /* the page is ours */
bool platform_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value);

/* --- wires, by device models --- */
void platform_isa_line(struct domain *d, unsigned irq, bool level); /* 0 to 15; else ignored */
/* Device 0 to 31, INTA# (0) to INTD# (3); else ignored. */
void platform_pci_line(struct domain *d, unsigned device, unsigned intx, bool level);
/* Link 0 to 3 now leads to this ISA interrupt; 0: nowhere. -XEN_EINVAL. */
int __must_check platform_pci_link(struct domain *d, unsigned link, uint8_t isa_irq);
/* A message as a device would write it; needs a local APIC only. -XEN_EINVAL: it is none. */
int __must_check platform_msi(struct domain *d, uint64_t addr, uint32_t data);

/* --- interrupts into v (hvm/inject.c) --- */
/* Would the 8259s give v's CPU an interrupt if it asked? */
bool platform_extint(const struct vcpu *v);
/* That interrupt's vector, and its number for platform_accept(); -1: none any more. */
int platform_peek_extint(struct vcpu *v, unsigned *irq);
void platform_accept(struct vcpu *v, unsigned irq); /* the CPU took it: it is in service */
/* v is about to enter its guest, or came out: ticks that are owed, the line of its events. */
void platform_sync(struct vcpu *v);
void platform_eoi(struct domain *d, uint8_t vector); /* of a level-triggered interrupt */

/* --- parameters and buttons --- */
/*
 * Events of vCPU 0 by a line (HVM_PARAM_CALLBACK_IRQ of type GSI or INTx) for as long as they are
 * pending; 0: by none. -XEN_EINVAL: no such line, -XEN_EOPNOTSUPP: no lines.
 */
int __must_check platform_set_callback(struct domain *d, uint64_t value);
bool platform_has_callback(const struct domain *d);
/* ACPI's power or sleep button; -XEN_EINVAL: it has none. */
int __must_check platform_button(struct domain *d, bool sleep);
void platform_stop(struct domain *d); /* @d is dying: no more timers; idempotent */

#endif
