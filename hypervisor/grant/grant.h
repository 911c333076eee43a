/*
 * Grant tables, version 1 (xen/grant_table.h): a domain lends its pages; others map or copy them.
 * Locks: one per table (RANK_GRANT), two tables by spin_lock_pair(); map and copy never allocate.
 */
#ifndef GRANT_GRANT_H
#define GRANT_GRANT_H

#include "domain/domain.h"
#include <xen/grant_table.h>

void grant_init(void);

int __must_check grant_domain_init(struct domain *d, int max_frames, int max_maptrack);
/* Unmaps what @d has mapped of others; idempotent; preempts. */
void grant_domain_relinquish(struct domain *d);
void grant_domain_fini(struct domain *d);

/* Frame @i of @d's table for XENMEM_acquire_resource, grown when needed; -errno. */
int __must_check grant_table_frame(struct domain *d, unsigned i, mfn_t *frame);
unsigned grant_table_frames(struct domain *d); /* now in use */
unsigned grant_table_max_frames(struct domain *d);

/* Recounts the uses of all grants and logs a line with the number of errors: exact even while
 * guests run, but for uses without a mapping, which may be copies. No lock held. */
void grant_audit(void);

/* The page table that a batch was last in: batches are mostly about neighbours. Begins as {0}. */
struct grant_place {
    struct page *table; /* reference and type held; NULL */
    uint64_t region;    /* addresses that it serves */
};

/*
 * What the current domain's mapping of a granted frame needs from pv/ or hvm/ (arrow upwards, set
 * by pv_init() and hvm_init()). @addr: for PV a virtual address, or machine address of the entry
 * when @contains_pte; for others a guest-physical one.
 */
struct grant_map_ops {
    int (*map)(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags); /* GNTST_* */
    int (*unmap)(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags,
                 uint64_t replace_addr);
    void (*leave)(struct grant_place *at); /* at the end of a batch */
};
extern const struct grant_map_ops *grant_pv_ops, *grant_hvm_ops;

#endif
