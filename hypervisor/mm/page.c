/*
 * Who owns a frame and how many refer to it.
 *
 * The refs word counts references; at zero a frame is free (or on its way there) and nobody can
 * take one. An owned frame has one reference for its allocation, marked by PAGE_REF_ALLOCATED until
 * that is given up. The owner is set before the first reference exists and cleared after the last
 * is gone, so whoever holds a reference may rely on it, and on the domain: a domain has a
 * reference as long as it owns a frame.
 *
 * Owned frames are on their owner's list, d->page_list, or d->page_list_done once pv_relinquish
 * has dealt with them; both, and the totals, are under d->page_lock. Frames that the hypervisor
 * shows to a domain (PAGE_REF_STATIC) are on no list.
 */
#include "console/console.h"
#include "domain/domain.h"
#include "mm/internal.h"

uint32_t page_stamp(void)
{
    uint32_t s = tlb_stamp();
    return s ? s : 1; /* later than the truth is harmless */
}

/*
 * Somebody who saw a former owner in this frame may hold a reference for a few instructions before
 * it looks again and gives it back (page_get()): wait for that.
 */
void page_refs_end(struct page *page)
{
    uint32_t one = 1;
    while (!__atomic_compare_exchange_n(&page->refs, &one, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
        if (!(one & PAGE_REF_COUNT) || (one & ~PAGE_REF_COUNT))
            panic("frame 0x%lx is not the hypervisor's: refs 0x%x", page_to_mfn(page).n, one);
        one = 1;
        cpu_pause();
    }
}

/* --- the owner's list; d->page_lock held --- */

/* Of several, those between the two are linked already. */
static void list_push(uint32_t *head, struct page *first, struct page *last)
{
    first->prev = 0;
    last->next = *head;
    if (*head)
        mfn_to_page(mfn(*head))->prev = page_to_mfn(last).n;
    *head = page_to_mfn(first).n;
}

static void list_remove(struct domain *d, struct page *page)
{
    uint32_t frame = page_to_mfn(page).n;
    if (page->prev)
        mfn_to_page(mfn(page->prev))->next = page->next;
    else if (d->page_list == frame)
        d->page_list = page->next;
    else
        d->page_list_done = page->next;
    if (page->next)
        mfn_to_page(mfn(page->next))->prev = page->prev;
    page->links = 0;
}

void page_list_mark_done(struct domain *d, struct page *page)
{
    spin_lock(&d->page_lock);
    list_remove(d, page);
    list_push(&d->page_list_done, page, page);
    spin_unlock(&d->page_lock);
}

/* --- beginning and end of ownership --- */

/* May @d have @n frames more? d->page_lock held. */
static int admit(struct domain *d, uint64_t n, bool limited)
{
    if (d->dying)
        return -XEN_EINVAL;
    if (limited && d->tot_pages + n > d->max_pages)
        return -XEN_E2BIG;
    if (d->tot_pages == 0 && !domain_get(d))
        return -XEN_EINVAL; /* on its way out: its claim ends with it */
    d->tot_pages += n;
    return 0;
}

static __always_inline void own(struct domain *d, struct page *page, uint64_t n, bool pooled)
{
    struct page *last = page + n - 1;
    uint32_t frame = page_to_mfn(page).n;
    page_refs_end(page); /* the others of the block have none */
    for (struct page *p = page;; p++, frame++) {
        p->owner = d;
        p->type = 0;
        if (!pooled)
            __atomic_store_n(&p->refs, PAGE_REF_ALLOCATED | 1, __ATOMIC_RELEASE);
        if (p == last)
            break;
        if (!pooled) {
            p->next = frame + 1;
            p[1].prev = frame;
        }
    }
    if (!pooled)
        list_push(&d->page_list, page, last);
}

static __always_inline int assign(struct domain *d, struct page *page, unsigned order, bool limited,
                                  bool pooled)
{
    spin_lock(&d->page_lock);
    int rc = admit(d, 1UL << order, limited);
    if (!rc)
        own(d, page, 1UL << order, pooled);
    spin_unlock(&d->page_lock);
    return rc;
}

int page_assign(struct domain *d, struct page *page, unsigned order)
{
    return assign(d, page, order, true, false);
}

int page_assign_exchanged(struct domain *d, struct page *page, unsigned order)
{
    return assign(d, page, order, false, false);
}

int page_assign_pooled(struct domain *d, struct page *page, unsigned order)
{
    return assign(d, page, order, true, true);
}

void page_pool(struct page *page)
{
    struct domain *d = page->owner;
    page->tlb_stamp = page_stamp();
    page->type = 0;
    m2p_set(page_to_mfn(page), M2P_INVALID);
    spin_lock(&d->page_lock);
    list_remove(d, page);
    spin_unlock(&d->page_lock);
}

void page_unpool(struct page *page)
{
    struct domain *d = page->owner;
    spin_lock(&d->page_lock);
    list_push(&d->page_list, page, page);
    spin_unlock(&d->page_lock);
}

void page_share(struct domain *d, struct page *page)
{
    page_refs_end(page);
    page->owner = d;
    page->type = (uint64_t)PAGE_WRITABLE << PAGE_TYPE_SHIFT | PAGE_TYPE_VALIDATED | 1;
    __atomic_store_n(&page->refs, PAGE_REF_STATIC | 1, __ATOMIC_RELEASE);
}

bool page_unshare(struct domain *d, struct page *page)
{
    uint32_t expected = PAGE_REF_STATIC | 1;
    if (page->owner != d)
        return false;
    if (!__atomic_compare_exchange_n(&page->refs, &expected, 0, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return false;
    page->tlb_stamp = page_stamp();
    page->owner = NULL;
    page->type = 0;
    __atomic_store_n(&page->refs, 1, __ATOMIC_RELEASE);
    return true;
}

void page_unshare_free(struct domain *d, struct page *page)
{
    if (page_unshare(d, page)) {
        page_free(page, 0);
        return;
    }
    log_warn("d%u: frame 0x%lx, which it was shown, is still mapped; it is lost", d->id,
             page_to_mfn(page).n);
    WRITE_ONCE(page->owner, dom_xen);
}

/* The last reference is gone: nobody uses the frame since then. */
static inline void end_use(struct page *page, uint32_t stamp)
{
    if (!page->owner || page->refs || (page->type & PAGE_TYPE_COUNT))
        panic("frame 0x%lx lost its last reference while in use: refs 0x%x type 0x%lx",
              page_to_mfn(page).n, page->refs, page->type);
    page->tlb_stamp = stamp;
    m2p_set(page_to_mfn(page), M2P_INVALID);
}

static void page_release(struct page *page)
{
    struct domain *d = page->owner;
    end_use(page, page_stamp());

    spin_lock(&d->page_lock);
    list_remove(d, page);
    bool last = --d->tot_pages == 0;
    spin_unlock(&d->page_lock);

    page->owner = NULL;
    buddy_return(page);
    if (last)
        domain_put(d);
}

#define RELEASE_AT_ONCE 64

/*
 * Frames at the head of the list that nobody refers to leave it, as long as they are a row, in
 * either order: where the first of them is goes to *first. Nobody can take a reference any more.
 */
static unsigned take_row(struct domain *d, uint32_t *first)
{
    unsigned n = 0;
    uint32_t frame = d->page_list;
    while (frame && n < RELEASE_AT_ONCE) {
        struct page *page = mfn_to_page(mfn(frame));
        uint32_t only = PAGE_REF_ALLOCATED | 1;
        if (n && frame != *first + n && frame + 1 != *first)
            break;
        if (!__atomic_compare_exchange_n(&page->refs, &only, 0, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            break;
        *first = n ? min(*first, frame) : frame;
        frame = page->next;
        n++;
    }
    d->page_list = frame;
    if (frame)
        mfn_to_page(mfn(frame))->prev = 0;
    return n;
}

unsigned page_list_release(struct domain *d)
{
    uint32_t first;
    spin_lock(&d->page_lock);
    unsigned n = take_row(d, &first);
    d->tot_pages -= n;
    bool last = n && d->tot_pages == 0;
    spin_unlock(&d->page_lock);
    if (!n)
        return 0;

    struct page *row = mfn_to_page(mfn(first));
    uint32_t stamp = page_stamp();
    for (unsigned i = 0; i < n; i++) {
        end_use(&row[i], stamp);
        row[i].links = 0;
        row[i].owner = NULL;
    }
    buddy_return_row(row, n);
    if (last)
        domain_put(d);
    return n;
}

/* --- references --- */

/* One more, unless there are none or too many. */
static inline bool ref_add(struct page *page)
{
    uint32_t r = READ_ONCE(page->refs);
    do {
        uint32_t n = r & PAGE_REF_COUNT;
        if (unlikely(n == 0 || n == PAGE_REF_COUNT))
            return false;
    } while (!__atomic_compare_exchange_n(&page->refs, &r, r + 1, false, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    return true;
}

/*
 * Undoes ref_add() on a frame that turned out to be another's by then. It may have been freed and
 * given out anew between our look at the owner and the count, so this may even be the last one.
 */
static void ref_undo(struct page *page)
{
    page_put(page);
}

inline bool page_get(struct page *page, const struct domain *d)
{
    if (unlikely(READ_ONCE(page->owner) != d) || unlikely(!ref_add(page)))
        return false;
    if (likely(READ_ONCE(page->owner) == d))
        return true;
    ref_undo(page);
    return false;
}

inline bool page_get_any(struct page *page)
{
    if (!READ_ONCE(page->owner) || !ref_add(page))
        return false;
    if (likely(READ_ONCE(page->owner) != NULL))
        return true;
    ref_undo(page);
    return false;
}

inline void page_put(struct page *page)
{
    uint32_t old = __atomic_fetch_sub(&page->refs, 1, __ATOMIC_ACQ_REL);
    if (unlikely((old & PAGE_REF_COUNT) <= 1))
        page_release(page);
}

bool page_drop_allocation(struct page *page)
{
    uint32_t old = __atomic_fetch_and(&page->refs, ~PAGE_REF_ALLOCATED, __ATOMIC_ACQ_REL);
    return old & PAGE_REF_ALLOCATED;
}

bool page_take_back(struct page *page)
{
    if (!page_drop_allocation(page))
        return false;
    m2p_set(page_to_mfn(page), M2P_INVALID);
    page_put(page);
    return true;
}

bool page_freeze(struct page *page)
{
    uint32_t only = PAGE_REF_ALLOCATED | 2;
    return __atomic_compare_exchange_n(&page->refs, &only, 0, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

void page_thaw(struct page *page)
{
    __atomic_store_n(&page->refs, PAGE_REF_ALLOCATED | 1, __ATOMIC_RELEASE);
}

void page_thaw_writable(struct page *page)
{
    page->type = (page->type & PAGE_TYPE_FOREIGN) | (uint64_t)PAGE_WRITABLE << PAGE_TYPE_SHIFT |
                 PAGE_TYPE_VALIDATED | 1;
    __atomic_store_n(&page->refs, PAGE_REF_ALLOCATED | 2, __ATOMIC_RELEASE);
}

void page_release_frozen(struct page *page)
{
    page_release(page);
}
