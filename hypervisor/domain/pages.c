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

/*
 * Each page is taken from the head of d->page_list and put on the other one, so the work can stop
 * anywhere and goes on where it was.
 */
int domain_relinquish_pages(struct domain *d)
{
    struct page *page;
    int rc = buddy_claim(d, 0);
    if (rc)
        return rc;
    for (unsigned n = 0; n < PAGES_PER_CALL && (page = next_page(d)) != NULL; n++) {
        page_list_mark_done(d, page);
        if (page_type_unpin(page))
            page_put_and_type(page);
        if (page_drop_allocation(page))
            page_put(page);
        page_put(page);
        if (n % 64 == 63)
            preempt_point();
    }
    return READ_ONCE(d->page_list) ? -XEN_EAGAIN : 0;
}
