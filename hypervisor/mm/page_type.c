/*
 * How a frame is used: the isolation argument of para-virtualized guests. It has no other duties.
 *
 * A frame has one type at a time and counts its uses as that type. Uses of different types exclude
 * each other. So a frame that is used as a page table or descriptor table is mapped writable
 * nowhere, and what was checked when it got the type stays true until the last use ends.
 *
 * The word's states, by count:
 *
 *   0                  no use; the type names what it was last (its TLB traces may be about)
 *   1, not VALIDATED   one CPU alone owns the word: it changes the type, or checks contents, or
 *                      undoes what they held
 *   n, VALIDATED       n uses
 *
 * All moves are by compare-exchange; the owner of state "1, not VALIDATED" leaves it by a plain
 * store. Everybody else waits then: for types with contents by giving way, as checking them may
 * take long (it has preemption points); for WRITABLE by spinning, as its owner only flushes TLBs.
 * Waiting cannot deadlock: whoever waits for a page of level n is checking one of a higher level.
 *
 * Between two different types the TLBs forget the old one: every CPU that may have run the owner
 * (or anybody, when a foreign domain had it mapped) and has not flushed since the last use ended.
 * The stamp is taken when the word is owned alone, after every use that it covers.
 */
#include "console/console.h"
#include "domain/domain.h"
#include "mm/internal.h"
#include "sched/sched.h"

const struct page_type_ops *page_type_ops;

enum outcome {
    TAKEN,   /* one more use */
    CLAIMED, /* the word is ours alone, as the first use of the type */
    WAIT,    /* somebody else has it alone */
    BUSY,    /* it has another type */
};

static uint64_t word_of(enum page_type type)
{
    return (uint64_t)type << PAGE_TYPE_SHIFT;
}

static enum page_type type_of(uint64_t word)
{
    return (word & PAGE_TYPE_MASK) >> PAGE_TYPE_SHIFT;
}

static bool has_contents(enum page_type type)
{
    return type != PAGE_WRITABLE;
}

static bool word_move(struct page *page, uint64_t *from, uint64_t to)
{
    return __atomic_compare_exchange_n(&page->type, from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static void word_store(struct page *page, uint64_t word)
{
    __atomic_store_n(&page->type, word, __ATOMIC_RELEASE);
}

/* One step. @claim: may become the first use of a type whose contents must be checked. */
static inline enum outcome take(struct page *page, enum page_type type, bool claim, uint64_t *old)
{
    uint64_t t = READ_ONCE(page->type), to;
    enum outcome result;
    do {
        *old = t;
        uint64_t n = t & PAGE_TYPE_COUNT;
        if (n == 0) {
            if (!claim)
                return BUSY;
            bool no_trace = type_of(t) == type || type_of(t) == PAGE_NONE;
            result = no_trace && !has_contents(type) ? TAKEN : CLAIMED;
            to = word_of(type) | 1;
            if (result == TAKEN)
                to |= PAGE_TYPE_VALIDATED | (t & PAGE_TYPE_FOREIGN);
        } else {
            if (type_of(t) != type || n == PAGE_TYPE_COUNT)
                return BUSY;
            if (!(t & PAGE_TYPE_VALIDATED))
                return WAIT;
            result = TAKEN;
            to = t + 1;
        }
    } while (!word_move(page, &t, to));
    return result;
}

/* The traces of the former use leave the TLBs. */
static void flush_former_use(const struct page *page, uint64_t old)
{
    struct cpu_mask mask = cpus_online;
    if (!(old & PAGE_TYPE_FOREIGN)) {
        const struct cpu_mask *dirty = page_type_ops->dirty_cpus(page->owner);
        if (!dirty)
            return;
        for (unsigned i = 0; i < ARRAY_SIZE(mask.bits); i++)
            mask.bits[i] &= READ_ONCE(dirty->bits[i]);
    }
    tlb_filter(&mask, READ_ONCE(page->tlb_stamp));
    if (bitmap_next_set(mask.bits, MAX_CPUS, 0) < MAX_CPUS)
        tlb_flush_mask(&mask);
}

/* The word is ours alone: make the frame what it is to be. */
static int establish(struct page *page, enum page_type type, uint64_t old)
{
    if (type_of(old) != PAGE_NONE && type_of(old) != type)
        flush_former_use(page, old);
    if (has_contents(type)) {
        int rc = page_type_ops->validate(page, type);
        if (rc) {
            word_store(page, 0); /* nothing ever used it as this type: no trace */
            return rc;
        }
    }
    word_store(page, word_of(type) | PAGE_TYPE_VALIDATED | 1);
    return 0;
}

static bool type_is_sane(enum page_type type)
{
    return type >= PAGE_L1 && type <= PAGE_WRITABLE;
}

inline int page_get_type(struct page *page, enum page_type type)
{
    uint64_t old;
    if (!type_is_sane(type))
        return -XEN_EINVAL;
    for (;;) {
        switch (take(page, type, true, &old)) {
        case TAKEN:
            return 0;
        case CLAIMED:
            return establish(page, type, old);
        case BUSY:
            return -XEN_EBUSY;
        case WAIT:
            break;
        }
        if (has_contents(type)) {
            preempt_point();
        } else {
            spin_poll();
            cpu_pause();
        }
    }
}

inline int page_get_type_fast(struct page *page, enum page_type type)
{
    uint64_t old;
    if (type == PAGE_WRITABLE)
        return page_get_type(page, type); /* never gives way for this type */
    if (!type_is_sane(type))
        return -XEN_EINVAL;
    switch (take(page, type, false, &old)) {
    case TAKEN:
        return 0;
    case WAIT:
        return -XEN_EAGAIN;
    default:
        return -XEN_EBUSY;
    }
}

inline void page_put_type(struct page *page)
{
    uint64_t t = READ_ONCE(page->type);
    for (;;) {
        uint64_t n = t & PAGE_TYPE_COUNT;
        if (n == 0 || !(t & PAGE_TYPE_VALIDATED) || (n == 1 && (t & PAGE_TYPE_PINNED)))
            panic("frame 0x%lx: a use is given up that is not there (type 0x%lx)",
                  page_to_mfn(page).n, t);
        if (n > 1) {
            if (word_move(page, &t, t - 1))
                return;
        } else if (word_move(page, &t, t & ~PAGE_TYPE_VALIDATED)) {
            break;
        }
    }
    /* That was the last: the word is ours alone. */
    enum page_type type = type_of(t);
    if (has_contents(type))
        page_type_ops->invalidate(page, type);
    WRITE_ONCE(page->tlb_stamp, page_stamp());
    word_store(page, word_of(type) | (t & PAGE_TYPE_FOREIGN));
}

inline int page_get_and_type(struct page *page, const struct domain *d, enum page_type type)
{
    if (!page_get(page, d))
        return -XEN_EINVAL;
    int rc = page_get_type(page, type);
    if (rc)
        page_put(page);
    return rc;
}

inline void page_put_and_type(struct page *page)
{
    page_put_type(page);
    page_put(page);
}

bool page_type_pin(struct page *page)
{
    return !(__atomic_fetch_or(&page->type, PAGE_TYPE_PINNED, __ATOMIC_ACQ_REL) & PAGE_TYPE_PINNED);
}

bool page_type_unpin(struct page *page)
{
    if (!(READ_ONCE(page->type) & PAGE_TYPE_PINNED))
        return false;
    return __atomic_fetch_and(&page->type, ~PAGE_TYPE_PINNED, __ATOMIC_ACQ_REL) & PAGE_TYPE_PINNED;
}

void page_type_mark_foreign(struct page *page)
{
    if (!(READ_ONCE(page->type) & PAGE_TYPE_FOREIGN))
        __atomic_fetch_or(&page->type, PAGE_TYPE_FOREIGN, __ATOMIC_RELAXED);
}
