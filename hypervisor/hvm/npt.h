/*
 * Entries of nested page tables: those of long mode, all accesses counting as user mode's (APM
 * vol. 2 section 15.25.5). A and D are set from the start: nobody looks at them, and the CPU need
 * not write. Bits 9 to 11 are ours.
 */
#ifndef HVM_NPT_H
#define HVM_NPT_H

#include "lib/types.h"

#define NPT_P      (1UL << 0)
#define NPT_RW     (1UL << 1)
#define NPT_U      (1UL << 2)
#define NPT_PCD    (1UL << 4)
#define NPT_A      (1UL << 5)
#define NPT_D      (1UL << 6)
#define NPT_PS     (1UL << 7)
#define NPT_DEVICE (1UL << 9)  /* no RAM: holds no reference */
#define NPT_LENT   (1UL << 10) /* another domain's page; without NPT_RW it holds no WRITABLE use */
#define NPT_ADDR   0x000ffffffffff000UL

static inline mfn_t npt_mfn(uint64_t e)
{
    return (mfn_t){(e & NPT_ADDR) >> PAGE_SHIFT};
}
static inline uint64_t npt_table(mfn_t m)
{
    return m.n << PAGE_SHIFT | NPT_P | NPT_RW | NPT_U | NPT_A | NPT_D;
}
/* @flags: NPT_DEVICE, which is not cached, or 0. */
static inline uint64_t npt_leaf(mfn_t m, unsigned level, uint64_t flags)
{
    return npt_table(m) | (level > 1 ? NPT_PS : 0) | flags | (flags & NPT_DEVICE ? NPT_PCD : 0);
}

#endif
