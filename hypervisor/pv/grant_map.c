/*
 * Granted frames in a PV guest's page tables (struct grant_map_ops).
 *
 * An entry that maps a granted frame holds its own reference and, when writable, its own WRITABLE
 * use, as any L1 entry does; the grant's handle holds another (grant/). So it does not matter how
 * such an entry ends: by unmap, overwritten, or with its table; and unmap finds out by looking
 * whether it is still there.
 *
 * Called without locks, as finding the entry may give way. The caller flushes TLBs.
 */
#include "grant/grant.h"
#include "pv/pagetable.h"

/* The table at machine address @addr, by which the guest names one of its entries. */
static int get_table(uint64_t addr, struct page **table)
{
    mfn_t m = maddr_to_mfn(maddr(addr));
    if (addr % sizeof(uint64_t) || !mfn_is_ram(m))
        return GNTST_general_error;
    struct page *page = mfn_to_page(m);
    if (!page_get(page, current_domain()))
        return GNTST_general_error;
    int rc;
    while ((rc = page_get_type_fast(page, PAGE_L1)) == -XEN_EAGAIN)
        preempt_point();
    if (rc) {
        page_put(page);
        return GNTST_general_error;
    }
    *table = page;
    return GNTST_okay;
}

static void leave(struct grant_place *at)
{
    if (at->table)
        page_put_and_type(at->table);
    at->table = NULL;
}

static __noinline int find_table(struct grant_place *at, uint64_t addr, bool is_entry,
                                 uint64_t region)
{
    unsigned index;
    leave(at);
    at->region = region;
    int rc = is_entry                                                  ? get_table(addr, &at->table)
             : pv_pt_find_l1(current_vcpu(), addr, &at->table, &index) ? GNTST_bad_virt_addr
                                                                       : GNTST_okay;
    if (rc != GNTST_okay)
        at->table = NULL;
    return rc;
}

/*
 * The L1 entry that the guest means, in at->table, which may be what it was before: a guest that
 * changes its upper tables meanwhile still only changes entries of a table of its own. GNTST_*.
 */
static inline int find_entry(struct grant_place *at, uint64_t addr, bool is_entry, uint64_t **entry)
{
    uint64_t region = is_entry ? addr >> PAGE_SHIFT : ~(addr >> (PAGE_SHIFT + 9));
    unsigned index = is_entry ? addr % PAGE_SIZE / sizeof(uint64_t) : addr >> PAGE_SHIFT;
    if (!at->table || at->region != region || (is_entry && addr % sizeof(uint64_t))) {
        int rc = find_table(at, addr, is_entry, region);
        if (rc != GNTST_okay)
            return rc;
    }
    *entry = pt_entry(at->table, index % PT_ENTRIES);
    return GNTST_okay;
}

/* Puts @new, whose uses are held, in the place of whatever is there. */
static void replace_entry(uint64_t *entry, uint64_t new)
{
    pt_l1_put(__atomic_exchange_n(entry, new, __ATOMIC_ACQ_REL));
}

static int grant_map(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags)
{
    struct page *page = mfn_to_page(frame);
    uint64_t *p;
    bool writable = !(flags & GNTMAP_readonly);
    if (!mfn_is_ram(frame) || !page_get_any(page))
        return GNTST_general_error;
    if (writable && page_get_type_fast(page, PAGE_WRITABLE)) {
        page_put(page);
        return GNTST_general_error;
    }
    if (writable && page->owner != current_domain())
        page_type_mark_foreign(page);

    /* Bits that the guest wants in the entry's available ones (GNTMAP_guest_avail_mask). */
    uint64_t avail = (uint64_t)(flags >> _GNTMAP_guest_avail0) << 9 & PTE_AVAIL;
    uint64_t entry =
        mfn_to_maddr(frame).a | PTE_P | PTE_U | PTE_A | PTE_D | avail | (writable ? PTE_RW : 0);
    int rc = find_entry(at, addr, flags & GNTMAP_contains_pte, &p);
    if (rc != GNTST_okay) {
        pt_l1_put(entry);
        return rc;
    }
    replace_entry(p, entry);
    return GNTST_okay;
}

/*
 * What goes where the grant was, whose entry is @from: nothing, or the mapping that is now at
 * @addr, moved from there. Not the same entry: the grant would stay mapped without its handle.
 */
static int take_replacement(uint64_t addr, bool is_entry, const uint64_t *from, uint64_t *entry)
{
    struct grant_place at = {0};
    uint64_t *p;
    *entry = 0;
    if (!addr)
        return GNTST_okay;
    int rc = find_entry(&at, addr, is_entry, &p);
    if (rc != GNTST_okay)
        return rc;
    if (p == from)
        rc = GNTST_bad_virt_addr;
    else
        *entry = __atomic_exchange_n(p, 0, __ATOMIC_ACQ_REL);
    leave(&at);
    return rc;
}

static bool maps(uint64_t entry, mfn_t frame)
{
    return (entry & PTE_P) && mfn_equal(pte_mfn(entry), frame);
}

/*
 * Only the mapping itself may go: another vCPU may be moving it to where no handle would be left
 * for it. The CPU may set A and D meanwhile.
 */
static int swap_mapping(uint64_t *p, mfn_t frame, uint64_t entry)
{
    uint64_t old = READ_ONCE(*p);
    while (maps(old, frame))
        if (__atomic_compare_exchange_n(p, &old, entry, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            pt_l1_put(old);
            return GNTST_okay;
        }
    return GNTST_general_error;
}

static int grant_unmap(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags,
                       uint64_t replace_addr)
{
    bool is_entry = flags & GNTMAP_contains_pte;
    uint64_t *p, entry = 0;
    int rc = find_entry(at, addr, is_entry, &p);
    if (rc != GNTST_okay)
        return rc;

    rc = GNTST_general_error;
    if (maps(READ_ONCE(*p), frame))
        rc = take_replacement(replace_addr, is_entry, p, &entry);
    if (rc == GNTST_okay) {
        rc = swap_mapping(p, frame, entry);
        if (rc != GNTST_okay)
            pt_l1_put(entry); /* two vCPUs at one entry: who is late loses its mapping */
    }
    return rc;
}

const struct grant_map_ops pv_grant_ops = {
    .map = grant_map,
    .unmap = grant_unmap,
    .leave = leave,
};
