/*
 * The allocator of page frames: blocks of 2^order frames, order 0 (4 KiB) to 18 (1 GiB).
 *
 * Free blocks hang on lists by zone and order. A zone is all frames whose numbers have the same
 * highest bit, so "below 2^n bytes" is a set of zones, and memory with few address bits is given
 * out last. Block boundaries never cross zones, as a block is aligned to its size.
 *
 * Nothing happens to contents when memory is freed, so freeing is always short. Each free frame
 * remembers whether its contents are known to be zero (FREE_DIRTY) and since when no guest uses it
 * (tlb_stamp). CPUs that idle clear free frames where they are (buddy_scrub()); allocation clears
 * what is left. Either flushes the TLBs of CPUs that have not flushed since, and only then clears:
 * before the flush a stale TLB entry could still write to the frame.
 *
 * Free frames have refs 0; the first one of a block has FREE_HEAD and the order in its type word,
 * the others neither. Lists are threaded through next and prev.
 *
 * Claims are promises (XENMEM_claim_pages): page_alloc_for() refuses a domain what would leave less
 * than is promised to others, and uses up the domain's own claim in the same step, so no frame is
 * missing for a promise even while it is on its way. The hypervisor's own needs go first.
 *
 * Lock: one, RANK_BUDDY; flushing happens outside it, and so does clearing for an allocation.
 */
#include "console/console.h"
#include "cpu/cpu.h"
#include "domain/domain.h"
#include "lib/string.h"
#include "mm/internal.h"
#include "sched/sched.h"

#define ZONES 32 /* frame numbers have 32 bits */

static struct spinlock lock = SPINLOCK_INIT(RANK_BUDDY);
static uint32_t heads[ZONES][BUDDY_MAX_ORDER + 1]; /* first frame of the list; 0 = none */
static uint32_t orders_free[ZONES];                /* bit per order: its list is not empty */
static uint32_t zones_free;                        /* bit per zone: it has any block */
static uint64_t free_pages;
static uint64_t claims; /* sum of d->claimed */

#define SCRUB_LOOKS 64  /* frames that one step looks at */
#define SCRUB_FLUSH 256 /* frames that must have come back before a CPU is disturbed for them */
/* What was freed and not yet looked at is from here on, and below there. */
static uint64_t scrub_from = ~0UL, scrub_to;
static uint64_t freed; /* frames since the last flush for scrubbing */
static bool scrubbing; /* [a] a CPU is at it */

static unsigned zone_of(uint64_t frame)
{
    return 63 - __builtin_clzl(frame);
}

static void list_push(uint64_t frame, unsigned order)
{
    unsigned z = zone_of(frame);
    struct page *page = mfn_to_page(mfn(frame));
    page->prev = 0;
    page->next = heads[z][order];
    if (page->next)
        mfn_to_page(mfn(page->next))->prev = frame;
    heads[z][order] = frame;
    orders_free[z] |= 1u << order;
    zones_free |= 1u << z;
    page->type = (page->type & FREE_DIRTY) | FREE_HEAD | order;
}

static void list_remove(uint64_t frame, unsigned order)
{
    unsigned z = zone_of(frame);
    struct page *page = mfn_to_page(mfn(frame));
    if (page->prev)
        mfn_to_page(mfn(page->prev))->next = page->next;
    else
        heads[z][order] = page->next;
    if (page->next)
        mfn_to_page(mfn(page->next))->prev = page->prev;
    page->links = 0;
    page->type &= FREE_DIRTY;
    if (!heads[z][order]) {
        orders_free[z] &= ~(1u << order);
        if (!orders_free[z])
            zones_free &= ~(1u << z);
    }
}

static bool block_is_free(uint64_t frame, unsigned order)
{
    /* Below this order the buddy's struct page is in the same 2 MiB of the array as ours. */
    if (frame >= max_mfn || (order >= FRAMES_CHUNK_ORDER && !mfn_is_ram(mfn(frame))))
        return false;
    const struct page *page = mfn_to_page(mfn(frame));
    return (page->type & FREE_HEAD) && (page->type & FREE_ORDER_MASK) == order;
}

/* Lock held; every frame of the block has refs 0 and at most FREE_DIRTY in its type word. */
static void free_block(uint64_t frame, unsigned order)
{
    free_pages += 1UL << order;
    freed += 1UL << order;
    scrub_from = min(scrub_from, frame);
    scrub_to = max(scrub_to, frame + (1UL << order));
    while (order < BUDDY_MAX_ORDER) {
        uint64_t buddy = frame ^ (1UL << order);
        if (!block_is_free(buddy, order))
            break;
        list_remove(buddy, order);
        frame &= ~(1UL << order);
        order++;
    }
    list_push(frame, order);
}

/* Lock held. By the largest blocks that there are in it. */
static void free_range(uint64_t frame, uint64_t end)
{
    while (frame < end) {
        unsigned order = min((unsigned)__builtin_ctzl(frame), (unsigned)BUDDY_MAX_ORDER);
        while (frame + (1UL << order) > end)
            order--;
        free_block(frame, order);
        frame += 1UL << order;
    }
}

/* Lock held. 0 = none. */
static uint64_t take_block(unsigned order, uint32_t allowed)
{
    for (uint32_t zones = zones_free & allowed; zones;) {
        unsigned z = 31 - __builtin_clz(zones);
        uint32_t fit = orders_free[z] >> order;
        if (!fit) {
            zones &= ~(1u << z);
            continue;
        }
        unsigned found = order + __builtin_ctz(fit);
        uint64_t frame = heads[z][found];
        list_remove(frame, found);
        while (found > order) {
            found--;
            list_push(frame + (1UL << found), found);
        }
        free_pages -= 1UL << order;
        return frame;
    }
    return 0;
}

/* Lock held. The order, @order or more, of the free block around @frame; above all orders: none. */
static unsigned block_around(uint64_t frame, unsigned order)
{
    while (order <= BUDDY_MAX_ORDER && !block_is_free(frame & ~((1UL << order) - 1), order))
        order++;
    return order;
}

/* Lock held. The block of that order at @frame leaves the free one that has it inside, if any. */
static bool take_block_at(uint64_t frame, unsigned order)
{
    unsigned o = block_around(frame, order);
    if (o > BUDDY_MAX_ORDER)
        return false;
    uint64_t head = frame & ~((1UL << o) - 1);
    list_remove(head, o);
    while (o > order) { /* the halves without it stay free */
        o--;
        uint64_t half = 1UL << o;
        list_push(head + (frame & half ? 0 : half), o);
        head += frame & half;
    }
    free_pages -= 1UL << order;
    return true;
}

/* CPUs that may still hold translations of a former owner, as of that stamp; false: none. */
static inline bool former_users(uint32_t stamp, struct cpu_mask *mask)
{
    *mask = cpus_online;
    tlb_filter(mask, stamp);
    return bitmap_next_set(mask->bits, MAX_CPUS, 0) < MAX_CPUS;
}

void page_flush_former_uses(const struct page *page, uint64_t n)
{
    uint32_t latest = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t s = page[i].tlb_stamp;
        if (s && (!latest || (int32_t)(s - latest) > 0))
            latest = s;
    }
    struct cpu_mask mask;
    if (latest && former_users(latest, &mask))
        tlb_flush_mask(&mask);
}

static void make_ready(struct page *page, unsigned order, unsigned flags)
{
    struct page *p = page, *end = page + (1UL << order);
    uint64_t to_clear = flags & ALLOC_ZERO ? FREE_DIRTY : 0;
    page_flush_former_uses(page, end - page);
    while (p < end) {
        for (struct page *stop = min(p + 512, end); p < stop; p++) {
            if (unlikely(p->type & to_clear)) {
                page_clear(page_to_virt(p));
                count(TRACE_pages_scrubbed);
            }
            p->type = 0;
            p->tlb_stamp = 0;
            p->owner = NULL;
            p->links = 0;
        }
        if (p < end && (flags & ALLOC_PREEMPT))
            preempt_point();
    }
    __atomic_store_n(&page->refs, 1, __ATOMIC_RELEASE);
}

/* Lock held. May @d have @n frames, and how many of them are its claim's? */
static bool claims_allow(const struct domain *d, uint64_t n, uint64_t *claimed)
{
    if (likely(!claims))
        return true;
    uint64_t own = claimed ? min(d->claimed, n) : 0;
    if (claimed)
        *claimed = own;
    return free_pages >= n && free_pages - n >= claims - own;
}

/* @d NULL: for the hypervisor. */
struct page *page_alloc_for(struct domain *d, unsigned order, unsigned flags, unsigned width,
                            uint64_t *claimed)
{
    if (order > BUDDY_MAX_ORDER || alloc_must_fail())
        return NULL;
    if (flags & ALLOC_BELOW_4G)
        width = width ? min(width, 32u) : 32;
    uint32_t allowed = ~0u;
    if (width && width < PAGE_SHIFT + ZONES) {
        if (width <= PAGE_SHIFT)
            return NULL;
        allowed = (1u << (width - PAGE_SHIFT)) - 1;
    }
    uint64_t frame = 0;
    if (claimed)
        *claimed = 0;
    spin_lock(&lock);
    if (!d || claims_allow(d, 1UL << order, claimed))
        frame = take_block(order, allowed);
    if (frame && claimed && unlikely(*claimed)) {
        d->claimed -= *claimed;
        claims -= *claimed;
    }
    spin_unlock(&lock);
    if (!frame)
        return NULL;
    struct page *page = mfn_to_page(mfn(frame));
    make_ready(page, order, flags);
    return page;
}

struct page *page_alloc(unsigned order, unsigned flags)
{
    return page_alloc_for(NULL, order, flags, 0, NULL);
}

struct page *page_alloc_at(mfn_t m, unsigned order, unsigned flags)
{
    if (!m.n || m.n & ((1UL << order) - 1) || m.n + (1UL << order) > max_mfn)
        return NULL;
    spin_lock(&lock);
    bool taken = mfn_is_ram(m) && take_block_at(m.n, order);
    spin_unlock(&lock);
    if (!taken)
        return NULL;
    struct page *page = mfn_to_page(m);
    make_ready(page, order, flags);
    return page;
}

void page_free(struct page *page, unsigned order)
{
    uint64_t frame = page_to_mfn(page).n;
    if (frame & ((1UL << order) - 1))
        panic("page_free: frame 0x%lx is not aligned to order %u", frame, order);
    page_refs_end(page);
    for (uint64_t i = 0; i < 1UL << order; i++)
        page[i].type = FREE_DIRTY;
    spin_lock(&lock);
    free_block(frame, order);
    spin_unlock(&lock);
}

void buddy_return(struct page *page)
{
    page->type = FREE_DIRTY;
    spin_lock(&lock);
    free_block(page_to_mfn(page).n, 0);
    spin_unlock(&lock);
}

void buddy_return_row(struct page *page, uint64_t n)
{
    uint64_t frame = page_to_mfn(page).n, end = frame + n;
    for (uint64_t i = 0; i < n; i++)
        page[i].type = FREE_DIRTY;
    spin_lock(&lock);
    free_range(frame, end);
    spin_unlock(&lock);
}

/* Lock held. Looks at some frames; the one that is to be cleared, or NULL. */
static struct page *next_dirty(void)
{
    for (unsigned n = 0; n < SCRUB_LOOKS && scrub_from < scrub_to; n++, scrub_from++) {
        struct page *page = mfn_to_page(mfn(scrub_from));
        /* One that is dirty but in no block is on its way to somebody. */
        if (mfn_is_ram(mfn(scrub_from)) && (page->type & FREE_DIRTY) &&
            block_around(scrub_from, 0) <= BUDDY_MAX_ORDER)
            return page;
    }
    if (scrub_from >= scrub_to) {
        scrub_from = ~0UL;
        scrub_to = 0;
    }
    return NULL;
}

/*
 * A frame is cleared with the lock held, so that it need not be taken out of its block: who waits
 * meanwhile waits no longer than if he had to clear it himself.
 */
bool buddy_scrub(void)
{
    bool flush = false, wait = false;
    struct cpu_mask mask;
    if (READ_ONCE(scrub_from) >= READ_ONCE(scrub_to) ||
        __atomic_exchange_n(&scrubbing, true, __ATOMIC_ACQUIRE))
        return false;
    spin_lock(&lock);
    struct page *page = next_dirty();
    if (page && page->tlb_stamp && former_users(page->tlb_stamp, &mask)) {
        flush = freed >= SCRUB_FLUSH;
        wait = !flush;
        freed = flush ? 0 : freed;
    } else if (page) {
        page_clear(page_to_virt(page));
        page->type &= ~FREE_DIRTY;
        page->tlb_stamp = 0;
        count(TRACE_pages_scrubbed_idle);
    }
    spin_unlock(&lock);
    if (flush)
        tlb_flush_mask(&mask);
    __atomic_store_n(&scrubbing, false, __ATOMIC_RELEASE);
    return !wait;
}

void buddy_add_range(mfn_t first, uint64_t frames)
{
    uint64_t frame = first.n, end = first.n + frames;
    frame = max(frame, (uint64_t)LOW_FRAMES);
    /* Frames that are RAM only in part are none. */
    while (frame < end && !mfn_is_ram(mfn(frame)))
        frame++;
    while (frame < end && !mfn_is_ram(mfn(end - 1)))
        end--;
    struct page *page = mfn_to_page(mfn(frame)), *page_end = mfn_to_page(mfn(end));
    if (frame >= end)
        return;
    do
        page->type = FREE_DIRTY;
    while (++page < page_end);
    spin_lock(&lock);
    free_range(frame, end);
    spin_unlock(&lock);
}

void *xpage_alloc(void)
{
    struct page *page = page_alloc(0, ALLOC_ZERO);
    return page ? page_to_virt(page) : NULL;
}

void xpage_free(void *va)
{
    if (va)
        page_free(virt_to_page(va), 0);
}

uint64_t buddy_free_pages(void)
{
    return READ_ONCE(free_pages);
}

uint64_t buddy_total_pages(void)
{
    return ram_total;
}

uint64_t buddy_outstanding_claims(void)
{
    return READ_ONCE(claims);
}

int buddy_claim(struct domain *d, uint64_t pages)
{
    int rc = 0;
    spin_lock(&d->page_lock);
    uint64_t owed = 0;
    if (pages) {
        if (pages <= d->tot_pages || pages > d->max_pages || d->claimed || d->dying) {
            spin_unlock(&d->page_lock);
            return -XEN_EINVAL;
        }
        owed = pages - d->tot_pages;
    }
    spin_lock(&lock);
    uint64_t others = claims - d->claimed;
    if (owed && (owed > free_pages || others > free_pages - owed)) {
        rc = -XEN_ENOMEM;
    } else {
        claims = others + owed;
        d->claimed = owed;
    }
    spin_unlock(&lock);
    spin_unlock(&d->page_lock);
    return rc;
}

void buddy_claim_return(struct domain *d, uint64_t claimed)
{
    spin_lock(&lock);
    if (!d->dying) { /* else its claim has ended, or is about to */
        d->claimed += claimed;
        claims += claimed;
    }
    spin_unlock(&lock);
}
