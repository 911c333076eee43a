/* Shared by the files of pv/ that deal with page tables. */
#ifndef PV_PAGETABLE_H
#define PV_PAGETABLE_H

#include "hypercall/guest_access.h"
#include "pv/pv.h"

struct grant_map_ops;
extern const struct grant_map_ops pv_grant_ops; /* grant_map.c */

#define PT_ENTRIES 512

static inline uint64_t *pt_entry(struct page *table, unsigned index)
{
    return (uint64_t *)page_to_virt(table) + index;
}

/*
 * pv_pt_write(), and with @expected only if the entry equals it at that moment, otherwise
 * -XEN_EAGAIN. @table: reference and page-table type held. @pg_owner: counted or current.
 */
int __must_check pt_write(struct page *table, unsigned index, uint64_t new, struct domain *pg_owner,
                          bool preserve_ad, const uint64_t *expected);

/* What one L1 entry holds: taken for a new one, given up for an old one; both take any entry. */
int __must_check pt_l1_get(uint64_t entry, struct domain *d, struct domain *pg_owner);
void pt_l1_put(uint64_t entry);

/* --- address_space.c --- */
/* CPUs on which @l4 is loaded though no vCPU is using it leave it. */
void pv_evict_l4(mfn_t l4);
/* Every CPU leaves @d's address spaces; none of its vCPUs runs or will. */
void pv_evict_domain(struct domain *d);

struct tlb_request {
    bool page; /* one page, at va; otherwise all */
    uint64_t va;
};
void pv_flush_local(const struct tlb_request *r);
void pv_flush_all(struct domain *d, const struct tlb_request *r);
/* @bitmap: of vCPUs of the current domain, in guest memory. */
int __must_check pv_flush_vcpus(guest_ptr_t bitmap, const struct tlb_request *r);

/* --- mmu_update.c --- */
/* What mmu_update and mmuext_op take. @size: of an element. */
struct pv_batch_args {
    uint64_t list, count, pdone, foreign;
    size_t size;
};
/* In the count of a call that goes on with one which stopped: *pdone has what that has done. */
#define PV_BATCH_REST (1u << 31)
/*
 * Tells the guest how many were @done, and ends with @rc, or, if that is 0 and not all were, makes
 * the guest call again for the others.
 */
long pv_batch_end(unsigned nr, const struct pv_batch_args *a, uint32_t done, int rc);

/*
 * The domain that a hypercall names beside the caller: permission checked, counted (but for the
 * caller itself and pseudo-domains). -XEN_ESRCH, -XEN_EPERM.
 */
int __must_check pv_foreign_get(unsigned hypercall, domid_t id, struct domain **out);
void pv_foreign_put(struct domain *d);

#endif
