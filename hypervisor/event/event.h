/*
 * Event channels (xen/event_channel.h): ports, bindings, 2-level and FIFO delivery, virtual
 * interrupts, and physical interrupts delivered as events.
 * Locks: d->event->lock RANK_EVENT (bindings); sends to a bound port take no lock but the
 * FIFO queue's (RANK_EVENT_QUEUE); pirqs RANK_PIRQ.
 */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include "domain/domain.h"
#include <xen/event_channel.h>

int __must_check event_domain_init(struct domain *d, unsigned max_port);
/* Closes every port; idempotent; may preempt_point(): hold no lock, @d is counted. */
void event_domain_relinquish(struct domain *d);
void event_domain_fini(struct domain *d);
int __must_check event_vcpu_init(struct vcpu *v);
void event_vcpu_fini(struct vcpu *v);

void event_send_virq(struct vcpu *v, unsigned virq);
/* A virq that one domain's one vCPU takes: VIRQ_CONSOLE, DOM_EXC, ... to dom0 or its binder. */
void event_send_global_virq(unsigned virq);
int __must_check event_set_global_virq_handler(struct domain *d, unsigned virq);

/* For dom0/ and control/: an unbound port of @d that @remote may bind. */
int __must_check event_alloc_unbound(struct domain *d, domid_t remote, evtchn_port_t *port);
int __must_check event_close(struct domain *d, evtchn_port_t port);
int __must_check event_send(struct domain *d, evtchn_port_t port); /* as EVTCHNOP_send by @d */
/*
 * A port of @d that @remote may bind and that the hypervisor itself holds: what is sent to it goes
 * to event_consumer() with @vcpu, and @d can neither use nor close it.
 */
int __must_check event_alloc_ours(struct domain *d, unsigned vcpu, domid_t remote,
                                  evtchn_port_t *port);
void event_free_ours(struct domain *d, evtchn_port_t port);
void event_send_ours(struct domain *d, evtchn_port_t port);
extern void (*event_consumer)(struct vcpu *v); /* set by hvm/ */
bool event_port_pending(struct domain *d, evtchn_port_t port);
bool event_port_valid(struct domain *d, evtchn_port_t port);
/*
 * SCHEDOP_poll by the current vCPU: 1 when one of the ports is pending already, 0, or -XEN_EINVAL.
 * Ask after sched_block(SCHED_POLLING) and poll_port are set: then no event is missed.
 */
int __must_check event_any_pending(struct domain *d, const evtchn_port_t *ports, unsigned n);

/* Checks the books of all ports and logs a line with the number of errors. No lock held. */
void event_audit(void);

/* --- physical interrupts (event/pirq.c) --- */
int __must_check pirq_domain_init(struct domain *d);
void pirq_domain_relinquish(struct domain *d);
void pirq_domain_fini(struct domain *d);
/* Maps GSI or allocated MSI @irq as @pirq (or any free one when *pirq < 0). */
int __must_check pirq_map(struct domain *d, int *pirq, unsigned irq, bool is_msi);
/* Frees the MSI if it was one; a port bound to it stays, silent. So does relinquish. */
int __must_check pirq_unmap(struct domain *d, int pirq);
int pirq_free_number(struct domain *d); /* not reserved; negative errno when none */
int __must_check pirq_eoi(struct domain *d, unsigned pirq);
int __must_check pirq_status(struct domain *d, unsigned pirq, uint32_t *flags); /* XENIRQSTAT_* */
int __must_check pirq_set_eoi_map(struct domain *d, gfn_t g, bool auto_unmask);

#endif
