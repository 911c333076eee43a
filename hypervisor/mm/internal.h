/* Shared by the files of mm/: free frames, start of day. */
#ifndef MM_INTERNAL_H
#define MM_INTERNAL_H

#include "mm/mm.h"

/* The type word of a free frame; page_type() of it is PAGE_NONE. */
#define FREE_HEAD       (1UL << 63) /* first frame of a free block, its order in the low bits */
#define FREE_DIRTY      (1UL << 62) /* contents are not known to be zero */
#define FREE_ORDER_MASK 0xffUL
/* The type word of a frame that mm/slab.c holds. */
#define SLAB_PAGE  (1UL << 61)
#define SLAB_LARGE (1UL << 60) /* one object, the block's order in the low bits */

/* Frames whose struct pages one 2 MiB page holds. */
#define FRAMES_CHUNK_ORDER 16
#define FRAMES_PER_CHUNK   (1UL << FRAMES_CHUNK_ORDER)
/* Frames whose M2P entries one 2 MiB page holds. */
#define M2P_PER_CHUNK (1UL << 18)

#define LOW_FRAMES    256 /* the first 1 MiB: never given to anybody */

/* A frame whose last reference is gone (refs 0, tlb_stamp set), back to the free lists; @n such. */
void buddy_return(struct page *page);
void buddy_return_row(struct page *page, uint64_t n);

/* A frame that the hypervisor has for itself (refs 1): refs become 0, nobody can take one more. */
void page_refs_end(struct page *page);

/* When the use ended: a stamp that is never 0 (mm.h). */
uint32_t page_stamp(void);

/* --- inject.c: must the allocation at hand fail, because a test wants it so? --- */
#if defined(DEBUG) && !defined(HOST_TEST)
bool alloc_must_fail(void);
void alloc_inject_init(void);
#else
static inline bool alloc_must_fail(void)
{
    return false;
}
static inline void alloc_inject_init(void)
{
}
#endif

/* --- bootmem.c: memory before the buddy allocator exists --- */
#ifdef HOST_TEST
struct ram_range {
    uint64_t first, frames;
};
#endif
extern unsigned ram_ranges;
extern struct ram_range ram_range[]; /* frames of RAM, sorted, merged, from LOW_FRAMES on */
extern uint64_t ram_total;           /* frames in them */

void bootmem_init(void);
/* @frames frames aligned to @align frames, the highest that end at or below frame @limit. Contents
 * undefined. Panics when there are none. */
mfn_t bootmem_alloc(uint64_t frames, uint64_t align, uint64_t limit);
/* Gives all that is left to the buddy allocator. */
void bootmem_hand_over(void);

#endif
