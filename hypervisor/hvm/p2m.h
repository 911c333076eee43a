/* What p2m.c shares with pod.c: entries of the nested page tables. p2m.lock is held. */
#ifndef HVM_P2M_H
#define HVM_P2M_H

#include "hvm/hvm.h"
#include "hvm/npt.h"

static inline unsigned p2m_order(unsigned level)
{
    return 9 * (level - 1);
}
static inline uint64_t *p2m_table(mfn_t m)
{
    return mfn_to_virt(m);
}

/* The entry that decides about @g, which names no table; its level. */
uint64_t *p2m_entry(const struct domain *d, gfn_t g, unsigned *level);
/*
 * The entry of @level for @g; larger ones on the way are split, tables made if @make. NULL: there
 * is none (*rc 0) or no memory.
 */
uint64_t *p2m_slot(struct domain *d, gfn_t g, unsigned level, bool make, int *rc);
/*
 * Takes the lock itself. Puts @leaf (with what it holds) at @level. 1: a table is in the way, use
 * smaller ones; or anything, when it is NPT_POD.
 */
int __must_check p2m_put_leaf(struct domain *d, gfn_t g, unsigned level, uint64_t leaf,
                              uint64_t *old);
unsigned p2m_best_level(gfn_t g, mfn_t m, uint64_t left);
bool p2m_gfns_ok(gfn_t g, uint64_t n);

#endif
