/*
 * Where things stand in domain 0's first address space ("Start-of-day memory layout", xen/xen.h),
 * and the page tables that make it so. Pure arithmetic and stores; tested on the host.
 *
 *   v_start   kernel image        (pfn 0 is mapped at the kernel's VIRT_BASE)
 *             initrd              unless the kernel takes it by frame number
 *             p2m list            unless the kernel names an address for it (INIT_P2M)
 *             start_info, page tables, boot stack, at least 512 KiB to spare
 *   v_end     at a multiple of 4 MiB
 *   then, unmapped: p2m list (mapped at INIT_P2M), initrd
 */
#include "dom0/internal.h"
#include "pv/pv.h"

#define L1_SPAN (PAGE_SIZE * 512)
#define L2_SPAN (L1_SPAN * 512)
#define L3_SPAN (L2_SPAN * 512)
#define SPARE   0x80000UL
#define ALIGN   0x400000UL

/* Tables of one level, each covering @span bytes, that [from, to) touches. */
static uint64_t tables(uint64_t from, uint64_t to, uint64_t span)
{
    return (to - 1) / span - from / span + 1;
}

static uint64_t tables_for(uint64_t from, uint64_t to)
{
    return to > from
               ? tables(from, to, L1_SPAN) + tables(from, to, L2_SPAN) + tables(from, to, L3_SPAN)
               : 0;
}

static bool is_upper_half(uint64_t va)
{
    return va >= 0xffff800000000000UL;
}

const char *dom0_layout_plan(struct dom0_layout *l, const struct dom0_image *img, uint64_t pages,
                             uint64_t initrd_bytes)
{
    uint64_t p2m_bytes = ROUND_UP(pages * sizeof(uint64_t), PAGE_SIZE);
    initrd_bytes = ROUND_UP(initrd_bytes, PAGE_SIZE);
    l->v_start = img->virt_base;
    l->p2m_frames = p2m_bytes / PAGE_SIZE;
    l->initrd_frames = initrd_bytes / PAGE_SIZE;

    uint64_t at = ROUND_UP(img->end, PAGE_SIZE);
    l->initrd = at;
    if (!img->initrd_unmapped)
        at += initrd_bytes;
    l->p2m = img->init_p2m ? img->init_p2m : at;
    if (!img->init_p2m)
        at += p2m_bytes;
    l->start_info = at;
    at += PAGE_SIZE;
    l->page_tables = at;

    uint64_t far_p2m = img->init_p2m ? tables_for(l->p2m, l->p2m + p2m_bytes) : 0;
    /* The tables map themselves, so their number and the end depend on each other. */
    for (l->pt_frames = 4;; l->pt_frames++) {
        l->stack = l->page_tables + l->pt_frames * PAGE_SIZE;
        l->v_end = ROUND_UP(l->stack + PAGE_SIZE + SPARE, ALIGN);
        if (l->v_end <= l->v_start)
            return "it leaves no room for the initial mapping below the top of the address space";
        if (1 + tables_for(l->v_start, l->v_end) + far_p2m <= l->pt_frames)
            break;
    }
    l->mapped_frames = (l->v_end - l->v_start) / PAGE_SIZE;

    uint64_t pfn = l->mapped_frames;
    l->p2m_pfn = img->init_p2m ? pfn : (l->p2m - l->v_start) / PAGE_SIZE;
    if (img->init_p2m)
        pfn += l->p2m_frames;
    l->initrd_pfn = img->initrd_unmapped ? pfn : (l->initrd - l->v_start) / PAGE_SIZE;
    if (img->initrd_unmapped)
        pfn += l->initrd_frames;
    l->needed_frames = pfn;

    if (is_upper_half(l->v_start) && l->v_start < HV_VIRT_END)
        return "it wants to live where the hypervisor is";
    return pfn <= pages ? NULL : "domain 0 would have too little memory for it and its initrd";
}

struct builder {
    const struct dom0_layout *l;
    const mfn_t *frames;
    uint64_t next_pfn, end_pfn; /* page-table frames not used yet */
};

static uint64_t *table_at(const struct builder *b, uint64_t pfn)
{
    return mfn_to_virt(b->frames[pfn]);
}

/* The table below entry @index of @table, made when it is not there yet. */
static uint64_t *descend(struct builder *b, uint64_t *table, unsigned index)
{
    if (!(table[index] & PTE_P)) {
        mfn_t fresh = b->frames[b->next_pfn++];
        table[index] = mfn_to_maddr(fresh).a | PTE_P | PTE_RW | PTE_U | PTE_A | PTE_D;
    }
    return mfn_to_virt(pte_mfn(table[index]));
}

static void map_range(struct builder *b, uint64_t *l4, uint64_t va, uint64_t pfn, uint64_t count)
{
    uint64_t pt_first = (b->l->page_tables - b->l->v_start) / PAGE_SIZE;
    for (uint64_t i = 0; i < count; i++, va += PAGE_SIZE, pfn++) {
        uint64_t *l3 = descend(b, l4, va >> 39 & 511);
        uint64_t *l2 = descend(b, l3, va >> 30 & 511);
        uint64_t *l1 = descend(b, l2, va >> 21 & 511);
        bool is_table = pfn >= pt_first && pfn < pt_first + b->l->pt_frames;
        l1[va >> 12 & 511] = mfn_to_maddr(b->frames[pfn]).a | PTE_P | PTE_U | PTE_A | PTE_D |
                             (is_table ? 0 : PTE_RW);
    }
}

uint64_t dom0_pagetables_build(const struct dom0_layout *l, const struct dom0_image *img,
                               const mfn_t *frames)
{
    uint64_t first = (l->page_tables - l->v_start) / PAGE_SIZE;
    struct builder b = {l, frames, first + 1, first + l->pt_frames};
    uint64_t *l4 = table_at(&b, first);
    map_range(&b, l4, l->v_start, 0, l->mapped_frames);
    if (img->init_p2m)
        map_range(&b, l4, l->p2m, l->p2m_pfn, l->p2m_frames);
    return first;
}
