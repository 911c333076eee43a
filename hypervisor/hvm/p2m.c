/*
 * Which machine frame is behind each frame of a hardware-virtualized guest: the nested page tables
 * themselves, four levels in the format of the CPU's vendor (hvm/npt.h), are the only record.
 *
 * A leaf that maps RAM holds, for each of its 4 KiB frames, one reference and one WRITABLE use, so
 * a frame stays the guest's as long as it can reach it and is no PV domain's page table meanwhile.
 * Leaves are of 4 KiB, 2 MiB or 1 GiB; a large one is split when a part of it changes, never put
 * together again. What is populated on demand has an entry of its own kind (pod.c).
 *
 * Changes are under p2m.lock. Looking up takes no lock: tables are not freed before the domain is,
 * and a frame that was found counts only once a reference to it is taken, or while this CPU's TLB
 * might as well know it (p2m_borrow()). A removed leaf may still be in TLBs: p2m_flush() ends that
 * for the guest's own sake; for whoever gets the frame next the stamps of mm/ do (a full flush of a
 * CPU also ends what its guests' TLBs know, ops.h).
 */
#include "console/console.h"
#include "hvm/p2m.h"
#include "lib/string.h"

struct npt_format npt_format __ro_after_init;

static struct p2m *p2m_of(const struct domain *d)
{
    return &d->hvm->p2m;
}

static unsigned index_at(gfn_t g, unsigned level)
{
    return g.n >> 9 * (level - 1) & 511;
}

static uint64_t *table_alloc(struct domain *d)
{
    uint64_t *t = xpage_alloc();
    if (t) {
        p2m_of(d)->tables++;
        __atomic_fetch_add(&d->overhead_pages, 1, __ATOMIC_RELAXED);
    }
    return t;
}

/* CPUs may have cached parts of it. */
static void table_free(mfn_t m)
{
    struct page *page = mfn_to_page(m);
    uint32_t stamp = tlb_stamp();
    page->tlb_stamp = stamp ? stamp : 1;
    page_free(page, 0);
}

int p2m_init(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    spin_init(&p->lock, RANK_P2M);
    p->root = MFN_NONE;
    uint64_t *t = table_alloc(d);
    if (!t)
        return -XEN_ENOMEM;
    p->root = virt_to_mfn(t);
    return 0;
}

static void tables_free(mfn_t table, unsigned level)
{
    const uint64_t *t = p2m_table(table);
    for (unsigned i = 0; level > 1 && i < 512; i++)
        if ((t[i] & NPT_P) && !(t[i] & NPT_PS))
            tables_free(npt_mfn(t[i]), level - 1);
    table_free(table);
}

void p2m_fini(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    if (!mfn_equal(p->root, MFN_NONE))
        tables_free(p->root, 4);
    p->root = MFN_NONE;
}

/* --- references of a leaf --- */

static void frames_put(struct page *page, uint64_t n)
{
    while (n--)
        page_put_and_type(page + n);
}

static int frames_get(struct domain *d, struct page *page, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        int rc = page_get_and_type(page + i, d, PAGE_WRITABLE);
        if (rc) {
            frames_put(page, i);
            return rc;
        }
    }
    return 0;
}

static void leaf_put(uint64_t e, unsigned level)
{
    if (!(e & NPT_P) || (e & NPT_DEVICE))
        return;
    if ((e & NPT_LENT) && !(e & NPT_RW))
        page_put(mfn_to_page(npt_mfn(e)));
    else
        frames_put(mfn_to_page(npt_mfn(e)), 1UL << p2m_order(level));
}

/* --- changing --- */

/* A leaf becomes a table of smaller ones that say the same. Lock held. */
static int split(struct domain *d, uint64_t *e, unsigned level)
{
    uint64_t *t = table_alloc(d);
    if (!t)
        return -XEN_ENOMEM;
    uint64_t small = *e, step = small & NPT_P ? PAGE_SIZE << p2m_order(level - 1) : 0;
    if (level == 2)
        small &= ~NPT_PS;
    for (unsigned i = 0; i < 512; i++)
        t[i] = small + i * step;
    __atomic_store_n(e, npt_table(virt_to_mfn(t)), __ATOMIC_RELEASE);
    return 0;
}

uint64_t *p2m_slot(struct domain *d, gfn_t g, unsigned level, bool make, int *rc)
{
    uint64_t *t = p2m_table(p2m_of(d)->root);
    *rc = 0;
    for (unsigned l = 4;; l--) {
        uint64_t *e = &t[index_at(g, l)];
        if (l == level)
            return e;
        if (*e & (NPT_PS | NPT_POD)) {
            *rc = split(d, e, l);
            if (*rc)
                return NULL;
        } else if (!(*e & NPT_P)) {
            uint64_t *new = make ? table_alloc(d) : NULL;
            if (!new) {
                *rc = make ? -XEN_ENOMEM : 0;
                return NULL;
            }
            __atomic_store_n(e, npt_table(virt_to_mfn(new)), __ATOMIC_RELEASE);
        }
        t = p2m_table(npt_mfn(*e));
    }
}

int p2m_put_leaf(struct domain *d, gfn_t g, unsigned level, uint64_t leaf, uint64_t *old)
{
    struct p2m *p = p2m_of(d);
    int rc;
    *old = 0;
    spin_lock(&p->lock);
    uint64_t *e = p2m_slot(d, g, level, true, &rc);
    if (e && READ_ONCE(d->dying))
        rc = -XEN_EINVAL; /* its references are being given back: no new ones */
    else if (e && *e && (level > 1 || leaf == NPT_POD))
        rc = 1;
    else if (e)
        *old = __atomic_exchange_n(e, leaf, __ATOMIC_ACQ_REL);
    if (!rc && leaf == NPT_POD)
        p->pod.entries += 1UL << p2m_order(level);
    else if (*old == NPT_POD)
        pod_entry_gone(d);
    uint64_t last = g.n + (1UL << p2m_order(level)) - 1;
    if (!rc && last > p->max_gfn)
        WRITE_ONCE(p->max_gfn, last);
    spin_unlock(&p->lock);
    return rc;
}

unsigned p2m_best_level(gfn_t g, mfn_t m, uint64_t left)
{
    for (unsigned level = npt_format.gib ? 3 : 2; level > 1; level--) {
        uint64_t n = 1UL << p2m_order(level);
        if (n <= left && !((g.n | m.n) & (n - 1)))
            return level;
    }
    return 1;
}

bool p2m_gfns_ok(gfn_t g, uint64_t n)
{
    return g.n + n > g.n && g.n + n <= 1UL << (min(cpu_features.phys_bits, 48u) - PAGE_SHIFT);
}

/* One leaf at @g, as large as it may be; how many frames that were, or an error. */
static int64_t add_some(struct domain *d, gfn_t g, struct page *page, uint64_t left, bool *stale)
{
    for (unsigned level = p2m_best_level(g, page_to_mfn(page), left);; level--) {
        uint64_t n = 1UL << p2m_order(level), old;
        int rc = frames_get(d, page, n);
        if (rc)
            return rc;
        rc = p2m_put_leaf(d, g, level, npt_leaf(page_to_mfn(page), level, 0), &old);
        if (rc)
            frames_put(page, n);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            *stale |= old & NPT_P;
            leaf_put(old, level);
            return n;
        }
    }
}

int p2m_add(struct domain *d, gfn_t g, struct page *page, unsigned order)
{
    uint64_t n = 1UL << order, done = 0;
    bool stale = false;
    int rc = p2m_gfns_ok(g, n) ? 0 : -XEN_EINVAL;
    while (!rc && done < n) {
        int64_t some = add_some(d, gfn(g.n + done), page + done, n - done, &stale);
        if (some < 0)
            rc = some;
        else
            done += some;
    }
    if (stale)
        p2m_flush(d);
    return rc;
}

int p2m_add_device(struct domain *d, gfn_t g, mfn_t m)
{
    uint64_t old;
    if (!p2m_gfns_ok(g, 1))
        return -XEN_EINVAL;
    int rc = p2m_put_leaf(d, g, 1, npt_leaf(m, 1, NPT_DEVICE), &old);
    if (!rc && (old & NPT_P)) {
        leaf_put(old, 1);
        p2m_flush(d);
    }
    return rc;
}

int p2m_add_lent(struct domain *d, gfn_t g, struct page *page, bool writable)
{
    uint64_t old, leaf = npt_leaf(page_to_mfn(page), 1, NPT_LENT);
    if (!p2m_gfns_ok(g, 1) || !page_get_any(page))
        return -XEN_EINVAL;
    if (!writable)
        leaf &= ~NPT_RW;
    else if (page_get_type_fast(page, PAGE_WRITABLE)) {
        page_put(page);
        return -XEN_EBUSY;
    }
    if (writable)
        page_type_mark_foreign(page);
    int rc = p2m_put_leaf(d, g, 1, leaf, &old);
    if (rc) {
        leaf_put(leaf, 1);
    } else if (old & NPT_P) {
        leaf_put(old, 1);
        p2m_flush(d);
    }
    return rc;
}

/* What is at @g goes if it has @bits and is @page. */
static bool take_out(struct domain *d, gfn_t g, const struct page *page, uint64_t bits)
{
    struct p2m *p = p2m_of(d);
    uint64_t old = 0;
    int rc;
    if (p2m_kind(d, g) == P2M_NONE)
        return false;
    spin_lock(&p->lock);
    uint64_t *e = p2m_slot(d, g, 1, false, &rc);
    if (e && (*e & bits) == bits && npt_mfn(*e).n == page_to_mfn(page).n)
        old = __atomic_exchange_n(e, 0, __ATOMIC_ACQ_REL);
    spin_unlock(&p->lock);
    leaf_put(old, 1);
    return old & NPT_P;
}

bool p2m_remove_page(struct domain *d, gfn_t g, const struct page *page)
{
    bool was = take_out(d, g, page, 0);
    if (was && d == current_domain())
        current_vcpu()->hvm->gave_frames = true;
    return was;
}

bool p2m_remove_lent(struct domain *d, gfn_t g, const struct page *page)
{
    return take_out(d, g, page, NPT_LENT);
}

void p2m_flush(struct domain *d)
{
    struct cpu_mask mask;
    for (unsigned i = 0; i < ARRAY_SIZE(mask.bits); i++)
        mask.bits[i] = READ_ONCE(d->dirty_cpus.bits[i]);
    if (bitmap_next_set(mask.bits, MAX_CPUS, 0) < MAX_CPUS)
        tlb_flush_mask(&mask);
}

/* --- looking up --- */

uint64_t *p2m_entry(const struct domain *d, gfn_t g, unsigned *level)
{
    uint64_t *t = p2m_table(p2m_of(d)->root);
    for (*level = 4;; --*level) {
        uint64_t *e = &t[index_at(g, *level)];
        if (*level == 1 || !(*e & NPT_P) || (*e & NPT_PS))
            return e;
        t = p2m_table(npt_mfn(*e));
    }
}

/* The leaf for @g with the frame of @g itself in it; without NPT_P: none, or NPT_POD. */
static uint64_t lookup(const struct domain *d, gfn_t g)
{
    const uint64_t *t = p2m_table(p2m_of(d)->root);
    if (g.n >> 4 * 9)
        return 0;
#pragma GCC unroll 3
    for (unsigned level = 4; level > 1; level--) {
        uint64_t e = __atomic_load_n(&t[index_at(g, level)], __ATOMIC_ACQUIRE);
        if (!(e & NPT_P))
            return e;
        if (e & NPT_PS)
            return e + ((g.n & ((1UL << p2m_order(level)) - 1)) << PAGE_SHIFT);
        t = p2m_table(npt_mfn(e));
    }
    return __atomic_load_n(&t[index_at(g, 1)], __ATOMIC_ACQUIRE);
}

enum p2m_kind p2m_kind(const struct domain *d, gfn_t g)
{
    uint64_t e = lookup(d, g);
    if (!(e & NPT_P))
        return e ? P2M_POD : P2M_NONE;
    if (e & NPT_DEVICE)
        return P2M_DEVICE;
    bool writable = e & NPT_RW;
    if (e & NPT_LENT)
        return writable ? P2M_LENT : P2M_LENT_READ;
    return writable ? P2M_RAM : P2M_ROM;
}

int p2m_set_writable(struct domain *d, gfn_t g, bool writable)
{
    int rc;
    enum p2m_kind there = p2m_kind(d, g);
    if (there == P2M_NONE)
        return -XEN_ENOENT;
    if (there == P2M_POD && !pod_populate(d, g))
        return -XEN_ENOMEM;
    spin_lock(&p2m_of(d)->lock);
    uint64_t *e = p2m_slot(d, g, 1, false, &rc);
    if (!e || (*e & (NPT_LENT | NPT_DEVICE)) || !(*e & NPT_P))
        rc = rc ? rc : -XEN_EINVAL;
    else if (writable) /* in one step each: a CPU may set D meanwhile */
        __atomic_fetch_or(e, NPT_RW, __ATOMIC_RELEASE);
    else
        __atomic_fetch_and(e, ~NPT_RW, __ATOMIC_RELEASE);
    spin_unlock(&p2m_of(d)->lock);
    return rc;
}

/*
 * A write that a CPU does by what its TLB knows after we looked and before the caller has flushed
 * leaves no trace, but then the caller has not yet told anybody to look at the page.
 */
int p2m_take_dirty(struct domain *d, gfn_t g)
{
    struct p2m *p = p2m_of(d);
    uint64_t old = 0;
    int rc;
    if (!npt_format.dirty)
        return 1;
    WRITE_ONCE(p->tracked, true);
    if (!(lookup(d, g) & npt_format.dirty))
        return 0;
    spin_lock(&p->lock);
    uint64_t *e = p2m_slot(d, g, 1, false, &rc);
    if (e)
        old = __atomic_fetch_and(e, ~npt_format.dirty, __ATOMIC_ACQ_REL);
    spin_unlock(&p->lock);
    return rc ? rc : !!(old & npt_format.dirty);
}

/* A large leaf that is mapped has D: who clears it splits the leaf. */
void p2m_set_dirty(struct domain *d, gfn_t g)
{
    struct p2m *p = p2m_of(d);
    int rc;
    if (!READ_ONCE(p->tracked) || (lookup(d, g) & npt_format.dirty))
        return;
    spin_lock(&p->lock);
    uint64_t *e = p2m_slot(d, g, 1, false, &rc);
    if (e && (*e & NPT_P))
        __atomic_fetch_or(e, npt_format.dirty, __ATOMIC_RELEASE);
    spin_unlock(&p->lock);
}

static __always_inline struct page *leaf_get(uint64_t e, bool *writable)
{
    if (!(e & NPT_P) || (e & NPT_DEVICE))
        return NULL;
    /* A lent page may become its owner's page table as soon as its WRITABLE use ends. */
    *writable = (e & NPT_RW) && !(e & NPT_LENT);
    struct page *page = mfn_to_page(npt_mfn(e));
    return page_get_any(page) ? page : NULL;
}

/* @e is none, or to be populated; or its page was taken back (pod.c) or given up meanwhile. */
static __noinline struct page *get_changed(struct domain *d, gfn_t g, uint64_t e, bool *writable)
{
    struct page *page;
    do {
        uint64_t before = e;
        if (e == NPT_POD && !pod_populate(d, g))
            return NULL;
        e = lookup(d, g);
        if (e != NPT_POD && npt_mfn(e).n == npt_mfn(before).n)
            return NULL;
        page = leaf_get(e, writable);
    } while (!page);
    return page;
}

struct page *p2m_get_page(struct domain *d, gfn_t g, bool *writable)
{
    uint64_t e = lookup(d, g);
    struct page *page = leaf_get(e, writable);
    return likely(page) ? page : get_changed(d, g, e, writable);
}

void *p2m_borrow(const struct domain *d, uint64_t gpa, bool write)
{
    uint64_t e = lookup(d, gfn(gpa >> PAGE_SHIFT));
    if (!(e & NPT_P) || (e & NPT_DEVICE) || (write && (e & (NPT_RW | NPT_LENT)) != NPT_RW))
        return NULL;
    return (uint8_t *)mfn_to_virt(npt_mfn(e)) + gpa % PAGE_SIZE;
}

/* --- the end --- */

#define LEAVES_PER_CALL 4096

/* Gives up leaves below @table until @budget is used up. Nobody else changes it: d is dying. */
static void drop_leaves(mfn_t table, unsigned level, unsigned *budget)
{
    uint64_t *t = p2m_table(table);
    for (unsigned i = 0; i < 512 && *budget; i++) {
        if (!(t[i] & NPT_P))
            continue;
        if (level > 1 && !(t[i] & NPT_PS)) {
            drop_leaves(npt_mfn(t[i]), level - 1, budget);
            continue;
        }
        leaf_put(__atomic_exchange_n(&t[i], 0, __ATOMIC_ACQ_REL), level);
        --*budget;
        if (level > 1 || *budget % 256 == 0)
            preempt_point();
    }
}

int p2m_relinquish(struct domain *d)
{
    unsigned budget = LEAVES_PER_CALL;
    struct p2m *p = p2m_of(d);
    /* Whoever was changing it when the domain began to die has finished. */
    spin_lock(&p->lock);
    spin_unlock(&p->lock);
    drop_leaves(p->root, 4, &budget);
    return budget ? 0 : -XEN_EAGAIN;
}
