/*
 * Granted frames in a hardware-virtualized guest's memory (struct grant_map_ops): at a guest frame
 * of its choice, where nothing of its own may be, so that no memory is lost by a map.
 *
 * The nested entry holds its own reference and, when writable, its own WRITABLE use; the grant's
 * handle holds another (grant/). So it does not matter how such an entry ends: by unmap, replaced,
 * or with the domain. The caller flushes TLBs after an unmap.
 */
#include "grant/grant.h"
#include "hvm/hvm.h"

static int grant_map(struct grant_place *at __unused, uint64_t addr, mfn_t frame, unsigned flags)
{
    struct domain *d = current_domain();
    gfn_t g = gfn(addr >> PAGE_SHIFT);
    if (flags & (GNTMAP_contains_pte | GNTMAP_application_map) || !mfn_is_ram(frame))
        return GNTST_general_error;
    enum p2m_kind there = p2m_kind(d, g);
    if (there != P2M_NONE && there != P2M_DEVICE)
        return GNTST_bad_virt_addr;
    int rc = p2m_add_lent(d, g, mfn_to_page(frame), !(flags & GNTMAP_readonly));
    return rc == 0 ? GNTST_okay : rc == -XEN_EINVAL ? GNTST_bad_virt_addr : GNTST_general_error;
}

static int grant_unmap(struct grant_place *at __unused, uint64_t addr, mfn_t frame,
                       unsigned flags __unused, uint64_t replace_addr)
{
    if (replace_addr) /* moves a page-table entry: nothing that guests of this kind have */
        return GNTST_general_error;
    return p2m_remove_lent(current_domain(), gfn(addr >> PAGE_SHIFT), mfn_to_page(frame))
               ? GNTST_okay
               : GNTST_general_error;
}

static void leave(struct grant_place *at __unused)
{
}

const struct grant_map_ops hvm_grant_ops = {
    .map = grant_map,
    .unmap = grant_unmap,
    .leave = leave,
};
