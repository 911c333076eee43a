/*
 * GNTTABOP_copy: bytes from one page to another without mapping either. Each side is a grant of
 * some domain to the caller, or a frame of the caller's own. Both sides are held (use.c, or a
 * reference and, for the destination, a WRITABLE use) while the bytes move through the direct map;
 * nothing is allocated and no lock is held meanwhile.
 */
#include "grant/internal.h"

#include "lib/string.h"

struct side {
    struct grant_use use; /* granter NULL: an own frame */
    mfn_t frame;
};

static int own_frame(struct side *s, const struct gnttab_copy_ptr *p, bool write)
{
    struct domain *self = current_domain();
    if (p->domid != DOMID_SELF && p->domid != self->id)
        return GNTST_permission_denied; /* frames of others only by grant */
    struct page *page = domain_get_page(self, gfn(p->u.gmfn));
    if (!page)
        return GNTST_bad_page;
    if (write && page_get_type_fast(page, PAGE_WRITABLE)) {
        page_put(page);
        return GNTST_bad_page;
    }
    s->frame = page_to_mfn(page);
    s->use.write = write;
    return GNTST_okay;
}

/* The domain is borrowed: copies do not give way between here and side_put(). */
static int side_get(struct side *s, const struct gnttab_copy_ptr *p, bool by_ref, bool write)
{
    *s = (struct side){0};
    if (!by_ref)
        return own_frame(s, p, write);
    struct domain *granter = domain_find_or_self(p->domid);
    if (!granter)
        return GNTST_bad_domain;
    struct grant_use use = {granter, p->u.ref, write};
    int status = grant_use(&use, current_domain()->id, &s->frame);
    if (!status)
        s->use = use;
    return status;
}

static void side_put(const struct side *s)
{
    struct page *page = mfn_to_page(s->frame);
    if (s->use.granter) {
        grant_unuse(&s->use);
        return;
    }
    if (s->use.write)
        page_put_and_type(page);
    else
        page_put(page);
}

static int copy_one(const struct gnttab_copy *op)
{
    struct side from, to;
    if (op->flags & ~(GNTCOPY_source_gref | GNTCOPY_dest_gref) ||
        op->source.offset + op->len > PAGE_SIZE || op->dest.offset + op->len > PAGE_SIZE)
        return GNTST_bad_copy_arg;
    int status = side_get(&from, &op->source, op->flags & GNTCOPY_source_gref, false);
    if (status)
        return status;
    status = side_get(&to, &op->dest, op->flags & GNTCOPY_dest_gref, true);
    if (!status) {
        /* May be one page twice, and overlap. */
        memmove((uint8_t *)mfn_to_virt(to.frame) + op->dest.offset,
                (uint8_t *)mfn_to_virt(from.frame) + op->source.offset, op->len);
        side_put(&to);
        count(TRACE_grant_copies);
    }
    side_put(&from);
    return status;
}

long grant_op_copy(guest_ptr_t arg, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct gnttab_copy op;
        guest_ptr_t element = guest_offset(arg, (uint64_t)i * sizeof(op));
        int rc = copy_from_guest(&op, element, sizeof(op));
        if (rc)
            return rc;
        op.status = copy_one(&op);
        rc = copy_to_guest(guest_offset(element, offsetof(struct gnttab_copy, status)), &op.status,
                           sizeof(op.status));
        if (rc)
            return rc;
        if (i % OPS_PER_SLICE == OPS_PER_SLICE - 1 && vcpu_wanted() && i + 1 < count)
            return i + 1;
    }
    return 0;
}
