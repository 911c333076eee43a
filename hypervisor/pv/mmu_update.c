/*
 * mmu_update and update_va_mapping (xen/xen.h): a guest changes entries of its page tables, or of
 * the machine-to-physical table.
 *
 * A batch keeps the table it last wrote to (reference and type use), as guests mostly write runs of
 * one table. The first request that fails ends the batch; *pdone says how many were done.
 */
#include "hypercall/permission.h"
#include "console/console.h"
#include "hypercall/table.h"
#include "pv/pagetable.h"

#define BATCH           32 /* requests copied from the guest at once */
#define FLUSH_TYPE_MASK UVMF_FLUSHTYPE_MASK

int pv_foreign_get(unsigned hypercall, domid_t id, struct domain **out)
{
    struct domain *caller = current_domain(), *d;
    if (id == DOMID_SELF || id == caller->id || id == DOMID_IO) {
        *out = id == DOMID_IO ? dom_io : caller;
        return 0;
    }
    if (!caller->privileged)
        return -XEN_EPERM;
    d = id == DOMID_XEN ? dom_xen : domain_find(id);
    if (!d)
        return -XEN_ESRCH;
    int rc = permission_check(caller, hypercall, 0, d);
    if (rc)
        return rc;
    if (d != dom_xen && !domain_get(d))
        return -XEN_ESRCH;
    *out = d;
    return 0;
}

void pv_foreign_put(struct domain *d)
{
    if (d != current_domain() && d != dom_io && d != dom_xen)
        domain_put(d);
}

struct batch {
    struct domain *pt_owner, *pg_owner; /* by pv_foreign_get() */
    struct page *table;                 /* reference and type held; NULL */
};

static void drop_table(struct batch *b)
{
    if (b->table)
        page_put_and_type(b->table);
    b->table = NULL;
}

/* The frame as what it is: a page table in use, or a plain page that gets a WRITABLE use. */
static int take_table(struct batch *b, mfn_t m)
{
    if (b->table && mfn_equal(page_to_mfn(b->table), m))
        return 0;
    drop_table(b);
    if (!mfn_is_ram(m))
        return -XEN_EINVAL;
    struct page *page = mfn_to_page(m);
    if (!page_get(page, b->pt_owner))
        return -XEN_EINVAL;

    int rc;
    do {
        enum page_type type = page_type(page);
        rc = -XEN_EBUSY;
        if (type >= PAGE_L1 && type <= PAGE_L4)
            rc = page_get_type_fast(page, type);
        if (rc == -XEN_EBUSY)
            rc = page_get_type_fast(page, PAGE_WRITABLE);
        if (rc == -XEN_EAGAIN)
            preempt_point();
    } while (rc == -XEN_EAGAIN);
    if (rc) {
        page_put(page);
        return rc;
    }
    b->table = page;
    return 0;
}

/*
 * A frame of a translated domain is named by its guest frame number: the entry gets the frame that
 * is there now, which the reference that the entry takes keeps in place of the number.
 */
static int translate(uint64_t *e, struct domain *pg_owner)
{
    if (!(*e & PTE_P))
        return 0;
    struct page *page = domain_get_page(pg_owner, gfn(pte_mfn(*e).n));
    if (!page)
        return -XEN_EINVAL;
    *e = (*e & ~PTE_ADDR) | mfn_to_maddr(page_to_mfn(page)).a;
    page_put(page);
    return 0;
}

static int update_entry(struct batch *b, uint64_t at, uint64_t value, bool preserve_ad)
{
    if (at % sizeof(uint64_t))
        return -XEN_EINVAL;
    int rc = take_table(b, maddr_to_mfn(maddr(at)));
    if (rc)
        return rc;
    unsigned index = at % PAGE_SIZE / sizeof(uint64_t);
    if (page_type(b->table) != PAGE_WRITABLE)
        return pt_write(b->table, index, value, b->pg_owner, preserve_ad, NULL);
    uint64_t *p = pt_entry(b->table, index);
    if (preserve_ad)
        value |= READ_ONCE(*p) & (PTE_A | PTE_D);
    WRITE_ONCE(*p, value);
    return 0;
}

static int update_m2p(struct batch *b, uint64_t at, uint64_t pfn)
{
    mfn_t m = maddr_to_mfn(maddr(at));
    if (!mfn_is_ram(m) || !page_get(mfn_to_page(m), b->pg_owner))
        return -XEN_EINVAL;
    m2p_set(m, pfn);
    page_put(mfn_to_page(m));
    return 0;
}

static int update_one(struct batch *b, const struct mmu_update *u)
{
    uint64_t at = u->ptr & ~3UL, value = u->val;
    unsigned kind = u->ptr & 3;
    if (kind == MMU_MACHPHYS_UPDATE)
        return update_m2p(b, at, value);
    /* Not translated: a machine frame, as XENMEM_acquire_resource gives. */
    if (unlikely(b->pg_owner->is_hvm) && kind != MMU_PT_UPDATE_NO_TRANSLATE) {
        int rc = translate(&value, b->pg_owner);
        if (rc)
            return rc;
    }
    return update_entry(b, at, value, kind == MMU_PT_UPDATE_PRESERVE_AD);
}

static int run_batch(struct batch *b, guest_ptr_t requests, uint32_t count, uint32_t *done)
{
    struct mmu_update u[BATCH] __uninitialized;
    while (*done < count) {
        uint32_t n = min(count - *done, (uint32_t)BATCH);
        int rc =
            n == 1 ? copy_element_from_guest(u, requests, *done) /* in place */
                   : copy_from_guest(u, guest_offset(requests, *done * sizeof(*u)), n * sizeof(*u));
        if (rc)
            return rc;
        for (uint32_t i = 0; i < n; i++, ++*done) {
            rc = update_one(b, &u[i]);
            if (unlikely(rc)) {
                log_guest(current_domain()->id, LOG_DEBUG, "mmu_update 0x%lx = 0x%lx refused (%d)",
                          u[i].ptr, u[i].val, rc);
                return rc;
            }
        }
        this_cpu()->counters[TRACE_mmu_updates] += n;
        if (*done % (2 * BATCH) == 0 && vcpu_wanted())
            return 0;
    }
    return 0;
}

/* Low 16 bits: whose frames; high 16 bits: whose page tables, plus one; 0 = the caller's. */
static int batch_open(struct batch *b, uint32_t foreign)
{
    int rc = pv_foreign_get(__HYPERVISOR_mmu_update, foreign & 0xffff, &b->pg_owner);
    if (rc)
        return rc;
    b->pt_owner = current_domain();
    if (foreign >> 16)
        rc = pv_foreign_get(__HYPERVISOR_mmu_update, (foreign >> 16) - 1, &b->pt_owner);
    if (rc)
        pv_foreign_put(b->pg_owner);
    return rc;
}

static void batch_close(struct batch *b)
{
    drop_table(b);
    pv_foreign_put(b->pt_owner);
    pv_foreign_put(b->pg_owner);
}

long pv_batch_end(unsigned nr, const struct pv_batch_args *a, uint32_t done, int rc)
{
    uint32_t count = (uint32_t)a->count & ~PV_BATCH_REST, before = 0;
    if ((a->count & PV_BATCH_REST) && a->pdone &&
        copy_from_guest(&before, guest_ptr(a->pdone), sizeof(before)) && !rc)
        rc = -XEN_EFAULT;
    before += done;
    if (a->pdone && copy_to_guest(guest_ptr(a->pdone), &before, sizeof(before)) && !rc)
        rc = -XEN_EFAULT;
    if (likely(rc || done == count))
        return rc;
    return hypercall_again(nr, a->list + (uint64_t)done * a->size, (count - done) | PV_BATCH_REST,
                           a->pdone, a->foreign);
}

long hc_mmu_update(uint64_t requests, uint64_t count, uint64_t pdone, uint64_t foreign)
{
    const struct pv_batch_args args = {requests, count, pdone, foreign, sizeof(struct mmu_update)};
    struct batch b = {0};
    uint32_t done = 0;
    int rc = batch_open(&b, foreign);
    if (!rc) {
        rc = run_batch(&b, guest_ptr(requests), (uint32_t)count & ~PV_BATCH_REST, &done);
        batch_close(&b);
    }
    return pv_batch_end(__HYPERVISOR_mmu_update, &args, done, rc);
}

/* --- by virtual address --- */

static int flush_as_asked(uint64_t va, uint64_t flags)
{
    uint64_t who = flags & ~(uint64_t)FLUSH_TYPE_MASK;
    struct tlb_request r = {.va = va};
    switch (flags & FLUSH_TYPE_MASK) {
    case UVMF_NONE:
        return 0;
    case UVMF_TLB_FLUSH:
        break;
    case UVMF_INVLPG:
        r.page = true;
        break;
    default:
        return -XEN_EINVAL;
    }
    if (who == UVMF_LOCAL) {
        pv_flush_local(&r);
        return 0;
    }
    if (who == UVMF_ALL) {
        pv_flush_all(current_domain(), &r);
        return 0;
    }
    return pv_flush_vcpus(guest_ptr(who), &r);
}

static int update_va(uint64_t va, uint64_t value, uint64_t flags, struct domain *pg_owner)
{
    struct page *table;
    unsigned index;
    int rc = pv_pt_find_l1(current_vcpu(), va, &table, &index);
    if (rc)
        return rc;
    if (unlikely(pg_owner->is_hvm))
        rc = translate(&value, pg_owner);
    if (!rc)
        rc = pt_write(table, index, value, pg_owner, false, NULL);
    page_put_and_type(table);
    return rc ? rc : flush_as_asked(va, flags);
}

long hc_update_va_mapping(uint64_t va, uint64_t value, uint64_t flags)
{
    return update_va(va, value, flags, current_domain());
}

long hc_update_va_mapping_otherdomain(uint64_t va, uint64_t value, uint64_t flags, uint64_t domid)
{
    struct domain *pg_owner;
    int rc = pv_foreign_get(__HYPERVISOR_mmu_update, domid, &pg_owner);
    if (rc)
        return rc;
    rc = update_va(va, value, flags, pg_owner);
    pv_foreign_put(pg_owner);
    return rc;
}
