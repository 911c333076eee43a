/*
 * Taking and giving back grants: where a guest's shared entry turns into a reference on a page.
 *
 * The entry's flags and domid are one 32-bit word that its guest changes at the same time; it is
 * read once, judged, and marked in use by a compare-exchange of that word (xen/grant_table.h,
 * "Invalidating an unused GTF_permit_access entry" is the guest's half). The frame is read after
 * that, once; from then on the active entry says which frame it is, whatever the guest writes. The
 * marks are cleared last, when nothing of the page is held any more.
 *
 * Lock: the granter's table (RANK_GRANT).
 */
#include "grant/internal.h"

#define ENTRY_TRIES 8 /* a guest that keeps changing the word meanwhile is its own loser */

static inline struct grant_entry_v1 *shared_at(const struct grant_table *t, uint32_t ref)
{
    return &t->shared[ref / REFS_PER_FRAME][ref % REFS_PER_FRAME];
}

/* Does entry word @w let @grantee do that? */
static int judge(uint32_t w, domid_t grantee, bool write)
{
    uint16_t flags = (uint16_t)w;
    if ((flags & GTF_type_mask) != GTF_permit_access || (flags & GTF_sub_page) ||
        (domid_t)(w >> 16) != grantee)
        return GNTST_bad_gntref;
    return write && (flags & GTF_readonly) ? GNTST_permission_denied : GNTST_okay;
}

static int entry_mark(struct grant_entry_v1 *e, domid_t grantee, bool write)
{
    uint32_t marks = GTF_reading | (write ? GTF_writing : 0);
    uint32_t *word = (uint32_t *)e; /* flags and domid */
    uint32_t old = READ_ONCE(*word);
    for (unsigned i = 0; i < ENTRY_TRIES; i++) {
        int status = judge(old, grantee, write);
        if (status || (old & marks) == marks)
            return status;
        if (__atomic_compare_exchange_n(word, &old, old | marks, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return GNTST_okay;
    }
    return GNTST_general_error;
}

/* Clears the marks that the remaining uses do not justify. */
static void entry_unmark(struct grant_entry_v1 *e, const struct active *a)
{
    uint16_t marks = a->writers ? 0 : GTF_writing;
    if (!a->readers && !a->writers)
        marks |= GTF_reading;
    if (marks)
        __atomic_fetch_and(&e->flags, (uint16_t)~marks, __ATOMIC_SEQ_CST);
}

/* Reference for the first use, type for the first writer. */
static int page_hold(struct grant_table *t, struct active *a, const struct grant_entry_v1 *e,
                     bool write)
{
    struct page *page;
    bool first = !a->readers && !a->writers;
    if (first) {
        page = domain_get_page(t->owner, gfn(READ_ONCE(e->frame)));
        if (!page)
            return GNTST_bad_page;
        a->frame = (uint32_t)page_to_mfn(page).n;
    } else {
        page = mfn_to_page(mfn(a->frame));
    }
    if (write && !a->writers && page_get_type_fast(page, PAGE_WRITABLE)) {
        if (first)
            page_put(page);
        return GNTST_bad_page;
    }
    return GNTST_okay;
}

/* What page_hold() took; the counts do not include this use (any more). */
static void page_give_up(const struct active *a, struct page *page, bool write)
{
    if (write && !a->writers)
        page_put_type(page); /* WRITABLE has no contents to invalidate: it does not wait */
    if (!a->readers && !a->writers)
        page_put(page);
}

static int use_locked(struct grant_table *t, uint32_t ref, domid_t grantee, bool write,
                      mfn_t *frame)
{
    if (t->closed)
        return GNTST_bad_domain;
    if (ref >= t->frames * REFS_PER_FRAME)
        return GNTST_bad_gntref;
    struct active *a = active_at(t, ref);
    struct grant_entry_v1 *e = shared_at(t, ref);
    if ((a->readers || a->writers) && a->grantee != grantee)
        return GNTST_bad_gntref; /* granted anew while the former grantee still has it */
    if (a->readers == UINT16_MAX || a->writers == UINT16_MAX)
        return GNTST_no_space;

    int status = entry_mark(e, grantee, write);
    if (status)
        return status;
    status = page_hold(t, a, e, write);
    if (!status && t->uses == 0 && !domain_get(t->owner)) {
        page_give_up(a, mfn_to_page(mfn(a->frame)), write);
        status = GNTST_bad_domain;
    }
    if (status) {
        entry_unmark(e, a);
        return status;
    }
    t->uses++;
    a->grantee = grantee;
    if (write)
        a->writers++;
    else
        a->readers++;
    *frame = mfn(a->frame);
    return GNTST_okay;
}

int grant_use(const struct grant_use *use, domid_t grantee, mfn_t *frame)
{
    struct grant_table *t = use->granter->grant;
    spin_lock(&t->lock);
    int status = use_locked(t, use->ref, grantee, use->write, frame);
    spin_unlock(&t->lock);
    return status;
}

void grant_unuse(const struct grant_use *use)
{
    struct grant_table *t = use->granter->grant;
    spin_lock(&t->lock);
    struct active *a = active_at(t, use->ref);
    struct page *page = mfn_to_page(mfn(a->frame));
    if (use->write)
        a->writers--;
    else
        a->readers--;
    page_give_up(a, page, use->write);
    entry_unmark(shared_at(t, use->ref), a);
    bool last = --t->uses == 0;
    spin_unlock(&t->lock);
    if (last)
        domain_put(use->granter);
}

mfn_t grant_used_frame(const struct grant_use *use)
{
    return mfn(active_at(use->granter->grant, use->ref)->frame);
}
