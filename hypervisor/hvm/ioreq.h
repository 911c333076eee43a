/*
 * I/O requests: accesses that device models in another domain answer (xen/hvm/ioreq.h,
 * xen/hvm/dm_op.h). A device model makes a server, says which ports, memory and PCI functions are
 * its own, and finds each vCPU's request in a page that it shares with us.
 *
 * Lock: RANK_IOREQ, per domain, for which servers there are and what they have. Pages stay until
 * the domain is freed.
 */
#ifndef HVM_IOREQ_H
#define HVM_IOREQ_H

#include "domain/domain.h"

#include <xen/hvm/dm_op.h>

struct ioreq_server;
struct ioreq_domain;

struct ioreq_access {
    uint8_t type; /* IOREQ_TYPE_* */
    bool write;
    uint8_t size; /* bytes */
    uint64_t addr, data;
    /* Of more than one element (0 is 1): */
    uint32_t count;
    bool pointer; /* the data are at guest physical address `data` and upwards */
    bool within;  /* ... which is the device model's, too, not RAM */
};

int __must_check ioreq_init(struct domain *d);
void ioreq_relinquish(struct domain *d);  /* no vCPU runs any more */
bool ioreq_shown(const struct domain *d); /* a device model still maps its pages */
void ioreq_fini(struct domain *d);

/*
 * Domains with a local APIC alone (PVH) have no device models: nothing of the above, and no server
 * has anything. By @v, the current vCPU, which may wait long, as still as at the guest's boundary.
 * False: no server has it, or the one that had it is gone. Reads: a->data, bits above its size
 * clear.
 */
bool ioreq_send(struct vcpu *v, struct ioreq_access *a);

/* Tells every device model to forget what memory it has mapped; by @v as above. */
void ioreq_invalidate(struct vcpu *v);

void ioreq_answered(struct vcpu *v); /* a device model has signalled: event_consumer */

/* dm_op: the servers of @d, whose device model is domain @owner; @d is borrowed. */
int __must_check ioreq_create(struct domain *d, domid_t owner, uint8_t buffered, ioservid_t *id);
int __must_check ioreq_destroy(struct domain *d, ioservid_t id);
int __must_check ioreq_info(struct domain *d, ioservid_t id, evtchn_port_t *buffered_port);
int __must_check ioreq_range(struct domain *d, const struct xen_dm_op_ioreq_server_range *r,
                             bool add);
int __must_check ioreq_enable(struct domain *d, ioservid_t id, bool on);
/* Frame @n of XENMEM_resource_ioreq_server; -XEN_ENOENT, -XEN_EINVAL. */
int __must_check ioreq_frame(struct domain *d, ioservid_t id, unsigned n, mfn_t *frame);

#endif
