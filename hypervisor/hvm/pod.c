/*
 * Memory that is populated on demand: a guest that may grow is given frame numbers for its largest
 * size and memory for its first one, and its balloon driver then hands back what it may not use
 * yet. Until a number is touched, by the guest, by us for it, by whoever maps or is granted it, its
 * entry in the nested tables says NPT_POD and no frame is behind it.
 *
 * Pages for first touches are kept ready in a pool: the domain's own, counted with its memory, but
 * frozen, so that nobody refers to one (mm.h). They come with the target that the tools set, and
 * from what the guest gives back while it has more such numbers than the pool has pages; once all
 * numbers have theirs, the pool only shrinks with them. So the tools' balance holds: populated and
 * pool together are the target, or what the balloon has yet to give back more.
 *
 * When the pool is empty, pages of the guest that are all zero and that nobody else holds are put
 * back into it: many systems clear all memory before they look at it. The search goes in slices,
 * round and round through the guest; after a whole round without one the guest is ended.
 *
 * A page that was used comes with its stamp (mm.h): before it is used again every CPU has flushed,
 * so no TLB, and nobody who looked it up without lock, has it for what it was; then it is cleared.
 *
 * Lock: p2m.lock, for the pool and its numbers, too.
 */
#include "console/console.h"
#include "hvm/p2m.h"
#include "hypercall/permission.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/memory.h>

#define LARGE          9  /* order of the blocks in the second list */
#define SLICE          64 /* entries looked at while the lock is held, */
#define BATCH          16 /* and pages of these that one flush takes back */
#define SLICES_AT_ONCE 8  /* where giving way is not possible */

static struct p2m *p2m_of(const struct domain *d)
{
    return &d->hvm->p2m;
}

/* --- the pool: lock held --- */

static void push(struct pod *pod, struct page *page, unsigned order)
{
    uint32_t *head = order ? &pod->large : &pod->small;
    page->next = *head;
    *head = page_to_mfn(page).n;
    pod->count += 1UL << order;
}

static struct page *pop(struct pod *pod, unsigned order)
{
    uint32_t *head = order ? &pod->large : &pod->small;
    struct page *page = mfn_to_page(mfn(*head));
    if (!*head)
        return NULL;
    *head = page->next;
    page->links = 0;
    pod->count -= 1UL << order;
    return page;
}

/* One page, if it must be of a block that then is none any more. */
static struct page *pop_one(struct pod *pod)
{
    struct page *page = pop(pod, 0);
    if (page)
        return page;
    page = pop(pod, LARGE);
    for (unsigned i = 1; page && i < 1u << LARGE; i++)
        push(pod, page + i, 0);
    return page;
}

static void release(struct page *page, unsigned order)
{
    for (uint64_t i = 0; i < 1UL << order; i++) {
        page_unpool(page + i);
        page_release_frozen(page + i);
    }
}

/* A frozen page that the guest had. */
static void keep(struct pod *pod, struct page *page)
{
    page_pool(page);
    push(pod, page, 0);
}

/* A block, or a page if there is none; so many are then *@added. Lock not held. */
static int grow(struct domain *d, unsigned order, unsigned flags, uint64_t *added)
{
    struct p2m *p = p2m_of(d);
    uint64_t claimed;
    struct page *page = page_alloc_for(d, order, ALLOC_ZERO | flags, 0, &claimed);
    if (!page)
        return order ? grow(d, 0, flags, added) : -XEN_ENOMEM;
    int rc = page_assign_pooled(d, page, order);
    if (rc) {
        buddy_claim_return(d, claimed);
        page_free(page, order);
        return rc;
    }
    spin_lock(&p->lock);
    bool dying = READ_ONCE(d->dying);
    if (dying)
        release(page, order);
    else
        push(&p->pod, page, order);
    *added += dying ? 0 : 1UL << order;
    spin_unlock(&p->lock);
    return dying ? -XEN_EINVAL : 0;
}

bool pod_keep(struct domain *d, struct page *page)
{
    struct p2m *p = p2m_of(d);
    struct pod *pod = &p->pod;
    uint64_t added = 0;
    bool wanted, kept;
    if (!READ_ONCE(pod->entries))
        return false;
    spin_lock(&p->lock);
    wanted = pod->entries > pod->count && (READ_ONCE(page->refs) & PAGE_REF_ALLOCATED) &&
             !READ_ONCE(d->dying);
    kept = wanted && page_freeze(page);
    if (kept)
        keep(pod, page);
    spin_unlock(&p->lock);
    if (wanted && !kept) /* somebody still looks at it: another in its place, if there is one */
        (void)grow(d, 0, 0, &added);
    return kept;
}

/* --- entries --- */

/*
 * The entry of 4 KiB for @g, of a larger one. A guest is not to fail because the machine has no
 * page for its tables: while more than @least are left, the pool gives one up. Lock held.
 */
static uint64_t *small_slot(struct domain *d, gfn_t g, uint64_t least, int *rc)
{
    struct pod *pod = &p2m_of(d)->pod;
    uint64_t *e = p2m_slot(d, g, 1, false, rc);
    for (unsigned tries = 4; *rc && tries && pod->count > least; tries--) {
        release(pop_one(pod), 0);
        e = p2m_slot(d, g, 1, false, rc);
    }
    return e;
}

void pod_entry_gone(struct domain *d)
{
    struct pod *pod = &p2m_of(d)->pod;
    WRITE_ONCE(pod->entries, pod->entries - 1);
    if (pod->count > pod->entries)
        release(pop_one(pod), 0);
}

int pod_remove(struct domain *d, gfn_t g)
{
    struct p2m *p = p2m_of(d);
    int rc;
    if (!READ_ONCE(p->pod.entries) || p2m_kind(d, g) != P2M_POD)
        return 0;
    spin_lock(&p->lock);
    uint64_t *e = small_slot(d, g, 0, &rc);
    bool was = e && *e == NPT_POD;
    if (was) {
        WRITE_ONCE(*e, 0);
        pod_entry_gone(d);
    }
    spin_unlock(&p->lock);
    return rc ? rc : was;
}

/* What pod_add() has made of [g, g + n) is unmade. */
static void unmake(struct domain *d, gfn_t g, uint64_t n)
{
    struct p2m *p = p2m_of(d);
    for (uint64_t done = 0; done < n; preempt_point()) {
        unsigned level;
        spin_lock(&p->lock);
        uint64_t *e = p2m_entry(d, gfn(g.n + done), &level);
        uint64_t frames = 1UL << p2m_order(level);
        if (*e == NPT_POD) {
            WRITE_ONCE(*e, 0);
            p->pod.entries -= frames;
        }
        done += frames;
        spin_unlock(&p->lock);
    }
}

int pod_add(struct domain *d, gfn_t g, unsigned order)
{
    uint64_t n = 1UL << order, done = 0, old;
    int rc = p2m_gfns_ok(g, n) ? 0 : -XEN_EINVAL;
    while (!rc && done < n) {
        gfn_t at = gfn(g.n + done);
        unsigned level = p2m_best_level(at, mfn(0), n - done);
        while ((rc = p2m_put_leaf(d, at, level, NPT_POD, &old)) > 0 && level > 1)
            level--;
        if (!rc)
            done += 1UL << p2m_order(level);
        preempt_point();
    }
    if (rc)
        unmake(d, g, done);
    return rc > 0 ? -XEN_EINVAL : rc; /* something is there */
}

/* --- populating --- */

/* A page of the pool becomes what is at @g. */
static void make_ready(struct page *page, gfn_t g)
{
    if (page->tlb_stamp) {
        page_flush_former_uses(page, 1);
        page_clear(page_to_virt(page));
        page->tlb_stamp = 0;
    }
    m2p_set(page_to_mfn(page), g.n);
    page_unpool(page);
    page_thaw_writable(page);
}

/* 0: there is something at @g by now; -XEN_ENOENT: the pool is empty; -XEN_ENOMEM, -XEN_EINVAL */
static int populate_locked(struct domain *d, gfn_t g)
{
    struct pod *pod = &p2m_of(d)->pod;
    unsigned level;
    int rc;
    if (*p2m_entry(d, g, &level) != NPT_POD)
        return 0;
    if (READ_ONCE(d->dying))
        return -XEN_EINVAL;
    if (!pod->count)
        return -XEN_ENOENT;
    uint64_t *e = level > 1 && pod->large ? p2m_slot(d, g, 2, false, &rc) : NULL;
    unsigned order = e ? LARGE : 0;
    if (!e)
        e = small_slot(d, g, 1, &rc);
    if (!e)
        return rc;
    gfn_t first = gfn(g.n & ~((1UL << order) - 1));
    struct page *page = order ? pop(pod, order) : pop_one(pod);
    for (uint64_t i = 0; i < 1UL << order; i++)
        make_ready(page + i, gfn(first.n + i));
    WRITE_ONCE(pod->entries, pod->entries - (1UL << order));
    __atomic_store_n(e, npt_leaf(page_to_mfn(page), order ? 2 : 1, 0), __ATOMIC_RELEASE);
    return 0;
}

static int populate(struct domain *d, gfn_t g)
{
    struct p2m *p = p2m_of(d);
    spin_lock(&p->lock);
    int rc = populate_locked(d, g);
    spin_unlock(&p->lock);
    return rc;
}

/* --- zero pages --- */

static bool is_zero(const struct page *page)
{
    const volatile uint64_t *word = page_to_virt(page);
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*word); i++)
        if (word[i])
            return false;
    return true;
}

/* Those of @n frames that are still zero when the guest cannot reach them. Lock held. */
static void take_back(struct domain *d, const gfn_t *g, unsigned n)
{
    struct pod *pod = &p2m_of(d)->pod;
    uint64_t *e[BATCH], old[BATCH];
    int rc;
    for (unsigned i = 0; i < n; i++) {
        e[i] = p2m_slot(d, g[i], 1, false, &rc);
        if (e[i])
            old[i] = __atomic_exchange_n(e[i], NPT_POD, __ATOMIC_ACQ_REL);
    }
    if (n)
        p2m_flush(d);
    for (unsigned i = 0; i < n; i++) {
        if (!e[i])
            continue;
        struct page *page = mfn_to_page(npt_mfn(old[i]));
        bool ours = page_freeze(page);
        if (ours && is_zero(page)) {
            keep(pod, page);
            WRITE_ONCE(pod->entries, pod->entries + 1);
            continue;
        }
        if (ours)
            page_thaw_writable(page);
        __atomic_store_n(e[i], old[i], __ATOMIC_RELEASE);
    }
}

/* Is what @e has at @g the guest's own, held by nobody else, and zero? */
static bool candidate(uint64_t e, unsigned level, gfn_t g)
{
    if (!(e & NPT_P) || !(e & NPT_RW) || (e & (NPT_DEVICE | NPT_LENT)))
        return false;
    const struct page *page =
        mfn_to_page(mfn(npt_mfn(e).n + (g.n & ((1UL << p2m_order(level)) - 1))));
    return READ_ONCE(page->refs) == (PAGE_REF_ALLOCATED | 2) && is_zero(page);
}

/* One slice; *passed: how many frames it and those before went over without taking one back. */
static void sweep(struct domain *d, uint64_t *passed)
{
    struct p2m *p = p2m_of(d);
    gfn_t found[BATCH];
    unsigned n = 0, level;
    spin_lock(&p->lock);
    for (unsigned i = 0; i < SLICE && n < BATCH; i++) {
        gfn_t g = gfn(p->pod.sweep);
        uint64_t e = *p2m_entry(d, g, &level), size = 1UL << p2m_order(level);
        if (candidate(e, level, g))
            found[n++] = g;
        uint64_t step = e & NPT_P ? 1 : size - (g.n & (size - 1));
        p->pod.sweep = g.n + step > p->max_gfn ? 0 : g.n + step;
        *passed += step;
    }
    take_back(d, found, n);
    if (p->pod.count)
        *passed = 0;
    spin_unlock(&p->lock);
}

/* --- who touches --- */

static void no_page(struct domain *d, gfn_t g, int rc)
{
    static const char why[] =
        "frame 0x%lx cannot be populated (error %d): %lu are not yet, none of "
        "its pages is free for it or zero";
    if (d == current_domain())
        domain_kill(d, why, g.n, rc, READ_ONCE(p2m_of(d)->pod.entries));
    else if (!READ_ONCE(d->dying))
        log_guest(d->id, LOG_WARNING, why, g.n, rc, READ_ONCE(p2m_of(d)->pod.entries));
}

bool pod_populate(struct domain *d, gfn_t g)
{
    uint64_t passed = 0;
    int rc = populate(d, g);
    for (unsigned i = 0; rc == -XEN_ENOENT && i < SLICES_AT_ONCE; i++) {
        sweep(d, &passed);
        rc = populate(d, g);
    }
    if (rc)
        no_page(d, g, rc);
    return !rc;
}

void pod_fault(struct vcpu *v, gfn_t g)
{
    struct domain *d = v->domain;
    uint64_t passed = 0;
    int rc;
    while ((rc = populate(d, g)) == -XEN_ENOENT && passed <= READ_ONCE(p2m_of(d)->max_gfn)) {
        sweep(d, &passed);
        if (vcpu_wanted())
            return; /* it will be back */
    }
    if (rc)
        no_page(d, g, rc);
}

/* --- the target --- */

/*
 * How many pages the pool is to have; lock held. What a guest that runs counts on stays until it
 * gives numbers back: it may touch them before its balloon driver hears of a lower target. Before
 * anything is populated there may be no entries yet, either: the tools set the first target before
 * they make them.
 */
static uint64_t pool_for(const struct domain *d, uint64_t target)
{
    const struct pod *pod = &p2m_of(d)->pod;
    const struct vcpu *first = READ_ONCE(d->vcpu[0]);
    uint64_t populated = READ_ONCE(d->tot_pages) - pod->count;
    uint64_t room = target > populated ? target - populated : 0;
    if (populated)
        room = min(room, pod->entries);
    if (first && READ_ONCE(first->initialised))
        room = max(room, min(pod->count, pod->entries));
    return room;
}

/* When it cannot be reached, what was added for it goes again. */
static long set_target(struct domain *d, uint64_t target, guest_ptr_t arg)
{
    struct p2m *p = p2m_of(d);
    struct pod *pod = &p->pod;
    int rc = 0;
    for (;;) {
        spin_lock(&p->lock);
        uint64_t have = pod->count;
        uint64_t want = rc ? have - min(have, pod->added) : pool_for(d, target);
        unsigned order = max(have, want) - min(have, want) >= 1UL << LARGE ? LARGE : 0;
        if (have > want) {
            order = pod->large ? order : 0;
            release(order ? pop(pod, order) : pop_one(pod), order);
            pod->added -= min(pod->added, 1UL << order);
        } else if (have == want) {
            pod->added = 0;
        }
        spin_unlock(&p->lock);
        if (have == want)
            return rc;
        if (have < want)
            rc = grow(d, order, ALLOC_PREEMPT, &pod->added);
        if (vcpu_wanted() && !rc)
            return hypercall_again(__HYPERVISOR_memory_op, XENMEM_set_pod_target, arg.addr, 0, 0);
    }
}

long pod_target(uint64_t op, guest_ptr_t arg)
{
    struct xen_pod_target t;
    int rc = copy_from_guest(&t, arg, sizeof(t));
    if (rc)
        return rc;
    struct domain *d = domain_find(t.domid);
    if (!d || !domain_get(d))
        return -XEN_ESRCH;
    const struct pod *pod = d->is_hvm ? &p2m_of(d)->pod : NULL;
    long ret = !pod                          ? -XEN_EINVAL
               : op == XENMEM_set_pod_target ? set_target(d, t.target_pages, arg)
                                             : 0;
    if (!ret) {
        t.tot_pages = READ_ONCE(d->tot_pages);
        t.pod_cache_pages = READ_ONCE(pod->count);
        t.pod_entries = READ_ONCE(pod->entries);
        ret = copy_to_guest(arg, &t, sizeof(t));
    }
    domain_put(d);
    return ret;
}

/* --- the end, and the audit --- */

void pod_relinquish(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    struct page *page;
    do {
        spin_lock(&p->lock);
        WRITE_ONCE(p->pod.entries, 0);
        page = pop_one(&p->pod);
        if (page)
            release(page, 0);
        spin_unlock(&p->lock);
        preempt_point();
    } while (page);
}

static uint64_t count_entries(mfn_t table, unsigned level)
{
    const uint64_t *t = p2m_table(table);
    uint64_t n = 0;
    for (unsigned i = 0; i < 512; i++)
        if (t[i] == NPT_POD)
            n += 1UL << p2m_order(level);
        else if (level > 1 && (t[i] & NPT_P) && !(t[i] & NPT_PS))
            n += count_entries(npt_mfn(t[i]), level - 1);
    return n;
}

static uint64_t count_pages(const struct domain *d, uint32_t head, unsigned order)
{
    uint64_t n = 0;
    for (const struct page *page; head; head = page->next) {
        page = mfn_to_page(mfn(head));
        for (uint64_t i = 0; i < 1UL << order; i++)
            n += page[i].owner == d && !page[i].refs;
    }
    return n;
}

void pod_audit(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    const struct pod *pod = &p->pod;
    spin_lock(&p->lock);
    uint64_t entries = READ_ONCE(d->dying) ? pod->entries : count_entries(p->root, 4);
    uint64_t pages = count_pages(d, pod->small, 0) + count_pages(d, pod->large, LARGE);
    if (entries != pod->entries || pages != pod->count)
        log_error("d%u: %lu frames to be populated, %lu counted; %lu pages for them, %lu counted",
                  d->id, pod->entries, entries, pod->count, pages);
    else if (entries || pages)
        log_info("d%u: %lu frames to be populated, %lu pages for them", d->id, entries, pages);
    spin_unlock(&p->lock);
}
