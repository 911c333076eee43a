/* The parts of the events guest. */
#ifndef EVENTS_EVENTS_H
#define EVENTS_EVENTS_H

#include <stdint.h>

void fifo(void); /* fifo.c */

long alloc_unbound(uint16_t dom, uint16_t remote, uint32_t *port);
long bind_interdomain(uint16_t remote, uint32_t remote_port, uint32_t *port);
long bind_ipi(uint32_t vcpu, uint32_t *port);
long bind_virq(uint32_t virq, uint32_t vcpu, uint32_t *port);
long port_close(uint32_t port);
long port_send(uint32_t port);
long port_unmask(uint32_t port);
long port_bind_vcpu(uint32_t port, uint32_t vcpu);
long port_priority(uint32_t port, uint32_t priority);

#endif
