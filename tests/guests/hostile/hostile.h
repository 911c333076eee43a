/*
 * The child as both sides see it: one L1 table maps, from VIRT_BASE on, these pages and behind
 * them, where the linker has put it, a copy of this image's text: the child runs C of the same
 * image (child.c) but has none of its variables.
 */
#ifndef HOSTILE_HOSTILE_H
#define HOSTILE_HOSTILE_H

#include "guest.h"

#define VCPUS 3
#define PLAY  24 /* pages that are data, tables and descriptors by turns */

enum { /* by pfn */
       NEST_PFN = 0,
       STACK_PFN = 1,
       SCRATCH_PFN = STACK_PFN + VCPUS,
       GRANT_PFN = SCRATCH_PFN + VCPUS, /* mapped: the grant table */
       TABLE_PFN = GRANT_PFN + 1,       /* level 4 first */
       PLAY_PFN = TABLE_PFN + 4,
       TEXT_PFN = PLAY_PFN + PLAY,
       MAX_PAGES = 128
};
#define VA(pfn) ((uint8_t *)VIRT_BASE + (pfn)*PAGE_SIZE)

struct nest { /* we map it too */
    uint64_t seed, calls, wild;
    uint32_t id, pages;
    volatile uint32_t port; /* of domain 0, for the child to bind */
    volatile uint64_t done[VCPUS];
    volatile uint64_t mfn[MAX_PAGES];
};

/* The snippets that run when something happens to the child (child.c). */
extern char hostile_start[], hostile_fault[], hostile_event[], hostile_failsafe[];

#endif
