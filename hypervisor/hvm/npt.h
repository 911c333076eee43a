/*
 * Entries of nested page tables: AMD's are those of long mode, all accesses counting as user mode's
 * (APM vol. 2 section 15.25.5), Intel's those of EPT (SDM vol. 3, "EPT translation mechanism").
 * They agree on where the address is, on bit 0 without which there is nothing, bit 1 without which
 * nothing is written, and bit 7 of large leaves; other bits are the backend's (npt_format). Bits 52
 * to 54, which both ignore, are ours. Entries are made with A and D set, so that no CPU has to;
 * only p2m_take_dirty() clears D, of leaves.
 */
#ifndef HVM_NPT_H
#define HVM_NPT_H

#include "lib/types.h"

#define NPT_P      (1UL << 0)
#define NPT_RW     (1UL << 1)
#define NPT_PS     (1UL << 7)
#define NPT_DEVICE (1UL << 52) /* no RAM: holds no reference */
#define NPT_LENT   (1UL << 53) /* another domain's page; without NPT_RW it holds no WRITABLE use */
#define NPT_POD    (1UL << 54) /* alone: nothing there before it is touched (pod.c) */
#define NPT_ADDR   0x000ffffffffff000UL

extern struct npt_format {
    uint64_t table, leaf, device; /* of entries with all rights: to a table, RAM, device memory */
    uint64_t dirty;               /* D, which a CPU sets with a write; 0: no CPU does that */
    bool gib;                     /* leaves of 1 GiB */
} npt_format;

static inline mfn_t npt_mfn(uint64_t e)
{
    return (mfn_t){(e & NPT_ADDR) >> PAGE_SHIFT};
}
static inline uint64_t npt_table(mfn_t m)
{
    return m.n << PAGE_SHIFT | npt_format.table;
}
/* @flags: NPT_DEVICE, which is not cached, or 0. */
static inline uint64_t npt_leaf(mfn_t m, unsigned level, uint64_t flags)
{
    uint64_t kind = flags & NPT_DEVICE ? npt_format.device : npt_format.leaf;
    return m.n << PAGE_SHIFT | kind | (level > 1 ? NPT_PS : 0) | flags;
}

#endif
