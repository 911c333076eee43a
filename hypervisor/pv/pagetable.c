/*
 * What a guest may write into its page tables, and what each entry holds.
 *
 * A page used as a table of level n has type PAGE_Ln (mm/page_type.c) and is mapped writable
 * nowhere; all changes come through pt_write(). A present entry of a validated table holds
 *
 *   level 4..2: a reference and a type use of a table of exactly one level lower, of the same owner
 *   level 1:    a reference to the frame, and a WRITABLE use if the entry is writable; nothing for
 *               device memory
 *
 * so a cycle cannot exist, and no table can be mapped writable. Rules beyond that: no superpages;
 * PTE_U in every entry, as the guest's kernel runs in ring 3 as well; no PTE_G; the top-level slots
 * HV_SLOT_FIRST..LAST are ours and are filled when an L4 is validated.
 *
 * Entries change without a lock: what the new entry needs is taken, the entry is replaced by
 * compare-exchange (the CPU may set A and D in between), what the old one held is given up. The
 * table cannot be invalidated meanwhile: whoever changes an entry holds a type use of its page.
 *
 * Nothing here flushes TLBs. The guest asks for that when it matters to itself; what matters to
 * others is covered by the stamps of frames that change their use or owner.
 */
#include "console/console.h"
#include "grant/grant.h"
#include "pv/pagetable.h"

/* --- single entries --- */

static uint64_t reserved __ro_after_init; /* bits that no entry may have on this machine */

static int check_bits(uint64_t e, enum page_type level)
{
    return e & (reserved | (level > PAGE_L1 ? PTE_PS : 0)) ? -XEN_EINVAL : 0;
}

static uint64_t fix_bits(uint64_t e)
{
    return e & PTE_P ? (e | PTE_U) & ~PTE_G : e;
}

/* Frames that are no domain's RAM: whoever has the right may map them. */
static int check_device_frame(mfn_t m, struct domain *d, struct domain *pg_owner)
{
    /* "FD == DOMID_IO: at the priv level of the caller" (xen/xen.h) */
    struct domain *who = pg_owner == dom_io ? d : pg_owner;
    return domain_may_use(who, &who->iomem, m.n, m.n) ? 0 : -XEN_EPERM;
}

inline int pt_l1_get(uint64_t e, struct domain *d, struct domain *pg_owner)
{
    if (!(e & PTE_P))
        return 0;
    mfn_t m = pte_mfn(e);
    if (!mfn_is_ram(m))
        return check_device_frame(m, d, pg_owner);

    struct page *page = mfn_to_page(m);
    if (!page_get(page, pg_owner))
        return -XEN_EINVAL;
    if (!(e & PTE_RW))
        return 0;
    int rc = page_get_type(page, PAGE_WRITABLE);
    if (rc) {
        page_put(page);
        return rc;
    }
    if (pg_owner != d)
        page_type_mark_foreign(page);
    return 0;
}

inline void pt_l1_put(uint64_t e)
{
    if (!(e & PTE_P) || !mfn_is_ram(pte_mfn(e)))
        return;
    struct page *page = mfn_to_page(pte_mfn(e));
    if (e & PTE_RW)
        page_put_type(page);
    page_put(page);
}

static inline int entry_get(uint64_t e, enum page_type level, struct domain *d,
                            struct domain *pg_owner)
{
    if (level == PAGE_L1)
        return pt_l1_get(e, d, pg_owner);
    if (!(e & PTE_P))
        return 0;
    if (!mfn_is_ram(pte_mfn(e)))
        return -XEN_EINVAL;
    return page_get_and_type(mfn_to_page(pte_mfn(e)), d, level - 1);
}

static inline void entry_put(uint64_t e, enum page_type level)
{
    if (level == PAGE_L1)
        pt_l1_put(e);
    else if (e & PTE_P)
        page_put_and_type(mfn_to_page(pte_mfn(e)));
}

static bool is_our_slot(enum page_type level, unsigned index)
{
    return level == PAGE_L4 && index >= HV_SLOT_FIRST && index <= HV_SLOT_LAST;
}

/* --- whole tables: page_type_ops --- */

/* The first present entry from @i on, or none before @n. Most tables are nearly empty. */
static inline unsigned next_present(const uint64_t *table, unsigned i, unsigned n)
{
    while (i < n && !(table[i] & PTE_P)) {
        const uint64_t *e = &table[++i];
        for (; i % 8 == 0 && i < n; i += 8, e += 8)
            if ((e[0] | e[1] | e[2] | e[3] | e[4] | e[5] | e[6] | e[7]) & PTE_P)
                break;
    }
    return i;
}

static void put_entries(const uint64_t *table, enum page_type level, unsigned n)
{
    for (unsigned i = 0; (i = next_present(table, i, n)) < n; i++) {
        if (is_our_slot(level, i))
            continue;
        entry_put(table[i], level);
        if (level > PAGE_L1)
            preempt_point();
    }
}

/* Nobody else can write to the page or use it as a table while this runs. */
static int validate_table(struct page *page, enum page_type level)
{
    struct domain *d = page->owner;
    uint64_t *table = page_to_virt(page);
    for (unsigned i = 0; (i = next_present(table, i, PT_ENTRIES)) < PT_ENTRIES; i++) {
        uint64_t e = table[i];
        if (is_our_slot(level, i))
            continue;
        int rc = check_bits(e, level);
        if (!rc)
            rc = entry_get(e, level, d, d);
        if (rc) {
            log_guest(d->id, LOG_DEBUG, "frame 0x%lx is no L%d table: entry %u is 0x%lx (%d)",
                      page_to_mfn(page).n, level, i, e, rc);
            put_entries(table, level, i);
            return rc;
        }
        if (fix_bits(e) != e)
            WRITE_ONCE(table[i], fix_bits(e));
    }
    if (level == PAGE_L4)
        hostmap_fill_l4(table, d->pv->perdomain_l3);
    preempt_point();
    return 0;
}

static int validate(struct page *page, enum page_type type)
{
    return type == PAGE_SEGDESC ? pv_segdesc_validate(page) : validate_table(page, type);
}

static void invalidate(struct page *page, enum page_type type)
{
    if (type == PAGE_SEGDESC)
        return;
    if (type == PAGE_L4)
        pv_evict_l4(page_to_mfn(page));
    put_entries(page_to_virt(page), type, PT_ENTRIES);
    preempt_point();
}

static const struct cpu_mask *dirty_cpus(const struct domain *d)
{
    return &d->dirty_cpus;
}

static const struct page_type_ops ops = {
    .validate = validate,
    .invalidate = invalidate,
    .dirty_cpus = dirty_cpus,
};

/* --- one entry of a table in use --- */

/* The new entry needs nothing that the old one does not hold. */
static bool keeps_uses(uint64_t old, uint64_t new, enum page_type level)
{
    if (!(old & new &PTE_P) || pte_mfn(old).n != pte_mfn(new).n)
        return false;
    return level > PAGE_L1 || !(new & ~old &PTE_RW);
}

static bool entry_replace(uint64_t *p, uint64_t *old, uint64_t new, bool preserve_ad)
{
    if (preserve_ad)
        new |= *old &(PTE_A | PTE_D);
    return __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/*
 * entry_replace() of *old by an entry that keeps what it holds, but perhaps not its write use. That
 * is given up behind the replacement, when another vCPU may already have taken the new entry away
 * and with it the frame's last reference: so this has one of its own meanwhile.
 * 0; -XEN_EAGAIN: *old is now what is there; -XEN_EBUSY: the frame has too many references.
 */
static int entry_weaken(uint64_t *p, uint64_t *old, uint64_t new, enum page_type level,
                        bool preserve_ad)
{
    mfn_t m = pte_mfn(*old);
    struct page *page =
        level == PAGE_L1 && (*old & ~new &PTE_RW) && mfn_is_ram(m) ? mfn_to_page(m) : NULL;
    if (page && !page_get_any(page)) {
        uint64_t seen = *old;
        *old = READ_ONCE(*p);
        return *old == seen ? -XEN_EBUSY : -XEN_EAGAIN;
    }
    bool done = entry_replace(p, old, new, preserve_ad);
    if (page && done)
        page_put_type(page);
    if (page)
        page_put(page);
    return done ? 0 : -XEN_EAGAIN;
}

int pt_write(struct page *table, unsigned index, uint64_t new, struct domain *pg_owner,
             bool preserve_ad, const uint64_t *expected)
{
    enum page_type level = page_type(table);
    uint64_t *p = pt_entry(table, index);
    if (is_our_slot(level, index))
        return -XEN_EPERM;
    if (new &PTE_P) {
        int rc = check_bits(new, level);
        if (rc)
            return rc;
        new = fix_bits(new);
    }

    uint64_t old = READ_ONCE(*p);
    while (keeps_uses(old, new, level)) {
        if (expected && old != *expected)
            return -XEN_EAGAIN;
        int rc = entry_weaken(p, &old, new, level, preserve_ad);
        if (rc != -XEN_EAGAIN)
            return rc;
    }

    int rc = entry_get(new, level, table->owner, pg_owner);
    if (rc)
        return rc;
    do {
        if (expected && old != *expected) {
            entry_put(new, level);
            return -XEN_EAGAIN;
        }
    } while (!entry_replace(p, &old, new, preserve_ad));
    entry_put(old, level);
    return 0;
}

int pv_pt_write(struct page *table, unsigned index, uint64_t new, struct domain *pg_owner,
                bool preserve_ad)
{
    return pt_write(table, index, new, pg_owner, preserve_ad, NULL);
}

/* --- from a virtual address to its entry --- */

static bool is_guest_address(uint64_t va)
{
    uint64_t top = va >> 47;
    return (top == 0 || top == 0x1ffff) && (va < HV_VIRT_START || va >= HV_VIRT_END);
}

/*
 * In v's kernel address space; v is current. -XEN_EAGAIN: the table is being checked right now.
 *
 * Tables on the way may change or even be freed under us, by the guest's own other vCPUs. A frame
 * freed meanwhile cannot become somebody else's before this CPU has flushed its TLB, which it does
 * not do here; and whatever we read, the page we end at must be an L1 table of this domain in use.
 */
static inline int find_l1(struct vcpu *v, uint64_t va, struct page **table, unsigned *index)
{
    mfn_t m = v->pv->guest_l4;
    if (!is_guest_address(va) || mfn_equal(m, MFN_NONE))
        return -XEN_EINVAL;
#pragma GCC unroll 3
    for (unsigned level = PAGE_L4; level > PAGE_L1; level--) {
        unsigned i = (va >> (PAGE_SHIFT + 9 * (level - 1))) % PT_ENTRIES;
        uint64_t e = READ_ONCE(((const uint64_t *)mfn_to_virt(m))[i]);
        m = pte_mfn(e);
        if (!(e & PTE_P) || !mfn_is_ram(m))
            return -XEN_EINVAL;
    }
    struct page *page = mfn_to_page(m);
    if (!page_get(page, v->domain))
        return -XEN_EINVAL;
    int rc = page_get_type_fast(page, PAGE_L1);
    if (rc) {
        page_put(page);
        return rc == -XEN_EAGAIN ? rc : -XEN_EINVAL;
    }
    *table = page;
    *index = (va >> PAGE_SHIFT) % PT_ENTRIES;
    return 0;
}

int pv_pt_find_l1(struct vcpu *v, uint64_t va, struct page **table, unsigned *index)
{
    for (;;) {
        int rc = find_l1(v, va, table, index);
        if (rc != -XEN_EAGAIN)
            return rc;
        preempt_point();
    }
}

/* --- pins --- */

int pv_pin_table(struct domain *d, mfn_t table, enum page_type type)
{
    if (!mfn_is_ram(table) || type < PAGE_L1 || type > PAGE_L4)
        return -XEN_EINVAL;
    struct page *page = mfn_to_page(table);
    int rc = page_get_and_type(page, d, type);
    if (rc)
        return rc;
    if (!page_type_pin(page)) {
        page_put_and_type(page);
        return -XEN_EINVAL;
    }
    /* A dying domain's pages may have been gone through already: nobody would unpin this one. */
    if (READ_ONCE(d->dying) && page_type_unpin(page)) {
        page_put_and_type(page);
        return -XEN_EINVAL;
    }
    return 0;
}

void pv_pagetable_init(void)
{
    reserved = PTE_ADDR & ~((1UL << cpu_features.phys_bits) - 1);
    if (!cpu_features.nx)
        reserved |= PTE_NX;
    page_type_ops = &ops;
    grant_pv_ops = &pv_grant_ops;
}
