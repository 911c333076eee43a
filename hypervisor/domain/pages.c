/*
 * The pages of a dying domain are given up: each one's pin and allocation. What others still refer
 * to stays on d->page_list_done until they let go.
 */
#include "domain/domain.h"

#define PAGES_PER_CALL 8192

/*
 * The next page to deal with, referenced; NULL when none can be had. A page without reference to
 * give is skipped: either its last one just went and it will be off the list in a moment, or it has
 * as many as can be counted, from tables that are dealt with first then.
 */
static struct page *next_page(struct domain *d)
{
    struct page *page = NULL;
    spin_lock(&d->page_lock);
    for (uint32_t frame = d->page_list; frame && !page; frame = mfn_to_page(mfn(frame))->next)
        if (page_get(mfn_to_page(mfn(frame)), d))
            page = mfn_to_page(mfn(frame));
    spin_unlock(&d->page_lock);
    return page;
}

/* How many pages were given up; 0: there is none to be had. */
static unsigned give_up_some(struct domain *d)
{
    unsigned n = page_list_release(d);
    struct page *page = n ? NULL : next_page(d);
    if (!page)
        return n;
    page_list_mark_done(d, page);
    if (page_type_unpin(page))
        page_put_and_type(page);
    if (page_drop_allocation(page))
        page_put(page);
    page_put(page);
    return 1;
}

/*
 * What nobody refers to goes by rows. Each other page is taken from the head of d->page_list and
 * put on the other one, so the work can stop anywhere and goes on where it was.
 */
int domain_relinquish_pages(struct domain *d)
{
    int rc = buddy_claim(d, 0);
    if (rc)
        return rc;
    for (unsigned n = 0, now; n < PAGES_PER_CALL && (now = give_up_some(d)); n += now)
        if (now > 1 || n % 64 == 63)
            preempt_point();
    return READ_ONCE(d->page_list) ? -XEN_EAGAIN : 0;
}
