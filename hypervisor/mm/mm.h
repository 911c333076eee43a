/*
 * Memory: who owns each page frame, how it is used, and where free ones come from.
 *
 * A page's life: buddy -> page_assign -> typed by mappings (PV) or entered in a p2m (HVM) ->
 * references from mappings and grants come and go -> the allocation reference is dropped ->
 * last reference gone -> TLB stamp taken -> buddy, which clears it before it gives it out again.
 *
 * Types (the isolation argument of PV guests, mm/page_type.c): a frame has one type at a time and
 * counts its uses as that type. It changes type only at count zero, after a TLB flush of every CPU
 * that may still hold the old use. Page tables of level n hold only references to frames of the
 * right type, so no guest can ever write a page table or a descriptor table directly.
 *
 * Locks: reference and type words are atomic; struct domain's page list is under RANK_PAGE_LIST;
 * the allocator under RANK_BUDDY.
 */
#ifndef MM_MM_H
#define MM_MM_H

#include "lib/compiler.h"
#include "lib/spinlock.h"
#include "lib/types.h"
#include "mm/layout.h"

struct domain;

enum page_type {
    PAGE_NONE = 0, /* no typed use */
    PAGE_L1,
    PAGE_L2,
    PAGE_L3,
    PAGE_L4,
    PAGE_SEGDESC,  /* part of a GDT or LDT */
    PAGE_WRITABLE, /* mapped writable somewhere */
};

/*
 * type word: bits 0-31 count, 32-34 enum page_type, then flags.
 * refs word: bits 0-28 count, then flags.
 */
#define PAGE_TYPE_COUNT     0x00000000ffffffffUL
#define PAGE_TYPE_SHIFT     32
#define PAGE_TYPE_MASK      (7UL << PAGE_TYPE_SHIFT)
#define PAGE_TYPE_VALIDATED (1UL << 35) /* contents checked; entries hold references */
#define PAGE_TYPE_PINNED    (1UL << 36) /* one type count and one ref are held by a guest's pin */
#define PAGE_TYPE_FOREIGN                                                                          \
    (1UL << 37) /* a domain other than the owner has mapped it writable                            \
                   since it got its type: that TLB may remember too */
#define PAGE_REF_COUNT     0x1fffffffu
#define PAGE_REF_ALLOCATED (1u << 31) /* the allocation reference: in its owner's reservation */
#define PAGE_REF_STATIC                                                                            \
    (1u << 30) /* hypervisor's own page shown to a domain (shared_info,                            \
                  grant frames): never freed through the guest */

struct page {
    uint32_t refs;        /* [a] 0 = free */
    uint32_t tlb_stamp;   /* [a] tlb_stamp() when its last typed use or reference ended; 0 = never
                             seen by a guest since it was allocated */
    uint64_t type;        /* [a] */
    struct domain *owner; /* [a] NULL = the hypervisor or nobody */
    union {               /* frame numbers; 0 = end. Free: buddy list. Owned: owner's list */
        struct {
            uint32_t next, prev;
        };
        uint64_t links;
    };
};
_Static_assert(sizeof(struct page) == 32, "one struct page per frame: keep it small");

#ifdef HOST_TEST
extern struct page *frame_table;
extern uint8_t *fake_ram;
extern uint64_t *fake_m2p;
#define DIRECT_BASE ((uint64_t)fake_ram)
#define FRAMES_BASE ((uint64_t)frame_table)
#define M2P_TABLE   fake_m2p
#else
#define DIRECT_BASE DIRECT_VIRT
#define FRAMES_BASE FRAMES_VIRT
#define M2P_TABLE   ((uint64_t *)m2p_writable)
extern uint64_t *m2p_writable; /* the hypervisor's own writable view of the table at M2P_VIRT */
#endif

extern uint64_t max_mfn; /* [I] first frame number above all RAM */

static inline struct page *mfn_to_page(mfn_t m)
{
    return (struct page *)FRAMES_BASE + m.n;
}
static inline mfn_t page_to_mfn(const struct page *p)
{
    return (mfn_t){(uint64_t)(p - (const struct page *)FRAMES_BASE)};
}
static inline void *maddr_to_virt(maddr_t a)
{
    return (void *)(DIRECT_BASE + a.a);
}
static inline void *mfn_to_virt(mfn_t m)
{
    return (void *)(DIRECT_BASE + (m.n << PAGE_SHIFT));
}
/* Direct-map addresses only. */
static inline maddr_t virt_to_maddr(const void *v)
{
    return (maddr_t){(uint64_t)v - DIRECT_BASE};
}
static inline mfn_t virt_to_mfn(const void *v)
{
    return maddr_to_mfn(virt_to_maddr(v));
}
static inline void *page_to_virt(const struct page *p)
{
    return mfn_to_virt(page_to_mfn(p));
}
static inline struct page *virt_to_page(const void *v)
{
    return mfn_to_page(virt_to_mfn(v));
}

/*
 * True when @m is RAM with a struct page: not a hole, not device memory. The first 1 MiB counts as
 * device memory: it is the firmware's and is never allocated.
 */
#ifdef HOST_TEST
bool mfn_is_ram(mfn_t m);
#else
struct ram_range {
    uint64_t first, frames;
};
extern struct ram_range ram_largest; /* [I] the one that most questions are about */
bool mfn_is_ram_elsewhere(mfn_t m);
static inline bool mfn_is_ram(mfn_t m)
{
    return likely(m.n - ram_largest.first < ram_largest.frames) || mfn_is_ram_elsewhere(m);
}
#endif

/* --- start of day (mm/bootmem.c, mm/hostmap.c) --- */
void mm_init(void);      /* from bootinfo: direct map, frame table, M2P, allocator; loads our CR3 */
void mm_init_late(void); /* after boot: ro_after_init sealed, identity map gone */
void mm_drop_init(void); /* the init part leaves the image's mapping; its frames are free already */
extern uint64_t *host_l4; /* [I] our own top-level table (direct-map pointer) */
extern mfn_t host_l4_mfn;
/* Copies the shared hypervisor slots (and @perdomain_l3, may be MFN_NONE) into a guest's L4. */
void hostmap_fill_l4(uint64_t *l4, mfn_t perdomain_l3);

/* --- mappings of our own (mm/hostmap.c) --- */
#define MAP_RW 0u
#define MAP_RO 1u
#define MAP_UC 2u
#define MAP_RX 4u
/*
 * Virtual range for @n frames, an unmapped guard page below and above; aligned to the power of two
 * not below @n pages, at most 16. NULL: no memory.
 */
void *vmap_frames(const mfn_t *frames, unsigned n, unsigned flags);
void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags); /* device registers: MAP_UC */
void vunmap(void *va, unsigned n); /* flushes every CPU; does not free the frames */

/* The smallest order of a block that has @bytes; page_alloc() refuses what is too large. */
static inline unsigned page_order(uint64_t bytes)
{
    return bytes <= PAGE_SIZE ? 0 : 64 - __builtin_clzl((bytes - 1) >> PAGE_SHIFT);
}

/* --- allocator (mm/buddy.c): orders 0 (4 KiB) to 18 (1 GiB) --- */
#define BUDDY_MAX_ORDER 18
#define ALLOC_ZERO      1u /* contents are zero */
#define ALLOC_BELOW_4G  2u
#define ALLOC_PREEMPT   4u /* may preempt_point() while clearing: for large orders, no lock held */
/*
 * For the hypervisor itself: the first page's refs 1, owner NULL, contents undefined unless
 * ALLOC_ZERO. CPUs whose TLBs may remember a former owner's use have been flushed.
 */
struct page *page_alloc(unsigned order, unsigned flags);
void page_free(struct page *page, unsigned order);
/*
 * For page_assign() to @d: NULL, too, when what would remain is promised to others. @width: address
 * bits the frames must lie below (0 = no limit). *claimed: so many frames are of @d's claim, which
 * has them no longer; buddy_claim_return() when they are freed instead. @claimed NULL: none.
 */
struct page *page_alloc_for(struct domain *d, unsigned order, unsigned flags, unsigned width,
                            uint64_t *claimed);
/* CPUs that may remember what the @n frames were before, as their stamps say, forget it. */
void page_flush_former_uses(const struct page *page, uint64_t n);
/* The 2^order frames from @m on, all of them free; NULL when they are not. */
struct page *page_alloc_at(mfn_t m, unsigned order, unsigned flags);
/*
 * A step of clearing what is free, of at most a page: for a CPU that has nothing else to do, with
 * no lock held. False: nothing to do now.
 */
bool buddy_scrub(void);
uint64_t buddy_free_pages(void);  /* frames, claims not deducted */
uint64_t buddy_total_pages(void); /* frames of RAM */
uint64_t buddy_outstanding_claims(void);
/* Frames that were kept from the allocator, unused: their struct pages are zero, they are not. */
void buddy_add_range(mfn_t first, uint64_t frames);
/*
 * Claims: @pages in total promised to @d, those it has already included (d->claimed, under the
 * allocator's lock, is what is still owed; 0 ends the claim). -XEN_ENOMEM when there are not that
 * many, -XEN_EINVAL when it has more.
 */
int __must_check buddy_claim(struct domain *d, uint64_t pages);
void buddy_claim_return(struct domain *d, uint64_t claimed);

void *xpage_alloc(void); /* one zeroed frame, as a direct-map pointer; NULL */
void xpage_free(void *va);

/* --- small objects (mm/slab.c): zeroed; NULL when there is no memory; up to 1 MiB --- */
void *zalloc(size_t size);
void *zalloc_array(size_t n, size_t size); /* NULL on overflow too */
void zfree(void *p);

/* --- ownership (mm/page.c) --- */
/*
 * Gives 2^order just-allocated frames to @d: refs = 1 | ALLOCATED, on its list, counted.
 * -XEN_E2BIG beyond d->max_pages, -XEN_EINVAL when dying. The caller frees on error.
 */
int __must_check page_assign(struct domain *d, struct page *page, unsigned order);
/*
 * The same for frames that take the place of as many others of @d, whose allocation the caller has
 * dropped and whose last reference it gives up next: no limit is asked. -XEN_EINVAL when dying.
 */
int __must_check page_assign_exchanged(struct domain *d, struct page *page, unsigned order);
/*
 * The hypervisor's page (order 0) shown to @d: owner set, STATIC, not counted as its memory. It
 * keeps one WRITABLE use, so it never becomes a page table although we write to it.
 */
void page_share(struct domain *d, struct page *page);
/* Ends that: the owner is cleared; false (nothing done) while the guest still maps it. */
bool page_unshare(struct domain *d, struct page *page);
/* The guest, or whoever else could see such a page, maps it no more. */
static inline bool page_only_ours(const struct page *page)
{
    return READ_ONCE(page->refs) == (PAGE_REF_STATIC | 1);
}
/*
 * With the last reference to @d: the page goes back to the allocator. Its owner has waited until
 * page_only_ours(); should it not be, it is lost rather than given away while somebody can write.
 */
void page_unshare_free(struct domain *d, struct page *page);

/* One more reference when @page is RAM owned by @d and alive; false otherwise. */
bool __must_check page_get(struct page *page, const struct domain *d);
bool __must_check page_get_any(struct page *page); /* owner whoever; not NULL */
void page_put(struct page *page);                  /* the last one frees it */
/*
 * Takes the allocation reference out of its owner's hands: true once, and the caller then owes a
 * page_put() for it; false when that was done before.
 */
bool page_drop_allocation(struct page *page);
/* The same with that page_put(), and the frame has no number in its owner's memory any more. */
bool page_take_back(struct page *page);
/*
 * Takes away the allocation's reference and the caller's, when there are no others: nobody can take
 * one from then on. Then page_thaw() gives the allocation back, page_thaw_writable() a reference
 * and its one WRITABLE use besides, or page_release_frozen() the page. No preempt_point() in
 * between.
 */
bool __must_check page_freeze(struct page *page);
void page_thaw(struct page *page);
void page_thaw_writable(struct page *page);
void page_release_frozen(struct page *page);

/*
 * Pages that are kept ready for @d: counted as its own, frozen, on no list; their links are the
 * keeper's. Made so from new ones (errors as page_assign()), or from a frozen one that @d used; its
 * stamp then tells since when it is not used any more. Back they are listed, and still frozen.
 */
int __must_check page_assign_pooled(struct domain *d, struct page *page, unsigned order);
void page_pool(struct page *page);
void page_unpool(struct page *page);

/*
 * Some pages of a dying domain, from the head of d->page_list on, that nobody else refers to, are
 * free from here on. How many they were; 0: somebody refers to the first one, or there is none. The
 * caller has a reference to @d.
 */
unsigned page_list_release(struct domain *d);
/* A dying domain's page that has been dealt with: to d->page_list_done. A reference is held. */
void page_list_mark_done(struct domain *d, struct page *page);

/* --- types (mm/page_type.c) --- */
/*
 * One more use of @page as @type. The caller holds a reference. Validates the contents when the
 * type is new (ops below) and may take long: it has preemption points, hold no lock.
 * -XEN_EBUSY: it has another type in use; -XEN_EINVAL and others: the contents are not valid.
 */
int __must_check page_get_type(struct page *page, enum page_type type);
/*
 * Never validates nor blocks: only WRITABLE, or a type already in use. For use under locks.
 * -XEN_EBUSY; -XEN_EAGAIN: the contents are being checked right now by another CPU.
 */
int __must_check page_get_type_fast(struct page *page, enum page_type type);
void page_put_type(struct page *page); /* may take long when it was the last: preemption points */
/* Reference and type at once, and both back. */
int __must_check page_get_and_type(struct page *page, const struct domain *d, enum page_type type);
void page_put_and_type(struct page *page);

/* A guest's pin: the caller has just taken the reference and type that the pin keeps. False: it
 * was pinned already, the caller gives them back. Unpinning hands them to the caller: true once. */
bool __must_check page_type_pin(struct page *page);
bool __must_check page_type_unpin(struct page *page);
/* The caller holds a WRITABLE use for a mapping in a domain that is not the owner. */
void page_type_mark_foreign(struct page *page);

static inline enum page_type page_type(const struct page *p)
{
    return (READ_ONCE(p->type) & PAGE_TYPE_MASK) >> PAGE_TYPE_SHIFT;
}

/* What pv/ provides to types that have contents; both run with preemption points, no locks. */
struct page_type_ops {
    int (*validate)(struct page *page, enum page_type type);    /* 0, or errno with nothing held */
    void (*invalidate)(struct page *page, enum page_type type); /* drops what entries hold */
    /* CPUs whose TLBs may hold uses of @d's pages; NULL mask = none */
    const struct cpu_mask *(*dirty_cpus)(const struct domain *d);
};
extern const struct page_type_ops *page_type_ops;

/* --- M2P --- */
#define M2P_INVALID (~0UL)
static inline void m2p_set(mfn_t m, uint64_t pfn)
{
    M2P_TABLE[m.n] = pfn;
}
static inline uint64_t m2p_get(mfn_t m)
{
    return M2P_TABLE[m.n];
}

#endif
