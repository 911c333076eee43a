/*
 * Page tables of hostile guests: after each random operation everything that the tables hold is
 * recounted from their contents and compared with every page's counts. Cycles, wrong levels, tables
 * in themselves, shared tables and foreign frames all come about by chance; the usual refusals have
 * tests of their own.
 */
/* SOURCES: pv/pagetable.c pv/mmu_update.c pv/relinquish.c domain/pages.c pv/grant_map.c */
/* SOURCES: hypercall/permission.c mm/page.c mm/page_type.c */
/* SOURCES: lib/bitmap.c lib/range.c lib/spinlock.c */
/* SOURCES: fake/alloc.c fake/cpu.c fake/domain.c fake/guest.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "grant/grant.h"
#include "hypercall/table.h"
#include "mm/internal.h"
#include "pv/pagetable.h"

/* --- what pv/ needs of other rooms --- */

const struct grant_map_ops *grant_pv_ops;

/* As a batch of one. */
static int grant_map_alone(uint64_t addr, mfn_t frame, unsigned flags)
{
    struct grant_place at = {0};
    int rc = grant_pv_ops->map(&at, addr, frame, flags);
    grant_pv_ops->leave(&at);
    return rc;
}
static int grant_unmap_alone(uint64_t addr, mfn_t frame, unsigned flags, uint64_t replace)
{
    struct grant_place at = {0};
    int rc = grant_pv_ops->unmap(&at, addr, frame, flags, replace);
    grant_pv_ops->leave(&at);
    return rc;
}
static struct domain io = {.id = DOMID_IO}, xen = {.id = DOMID_XEN};
static unsigned local_flushes, all_flushes, vcpu_flushes, evicted;

void hostmap_fill_l4(uint64_t *l4, mfn_t perdomain_l3)
{
    for (unsigned i = HV_SLOT_FIRST; i <= HV_SLOT_LAST; i++)
        l4[i] = 0xdead000000000000 | i;
}
void pv_evict_l4(mfn_t l4)
{
    evicted++;
}
void pv_evict_domain(struct domain *d)
{
}
static void drop(mfn_t *l4)
{
    mfn_t old = *l4;
    *l4 = MFN_NONE;
    if (!mfn_equal(old, MFN_NONE))
        page_put_and_type(mfn_to_page(old));
}
void pv_drop_l4(struct vcpu *v)
{
    drop(&v->pv->guest_l4);
}
void pv_flush_local(const struct tlb_request *r)
{
    local_flushes++;
}
void pv_flush_all(struct domain *d, const struct tlb_request *r)
{
    all_flushes++;
}
int pv_flush_vcpus(guest_ptr_t bitmap, const struct tlb_request *r)
{
    vcpu_flushes++;
    return 0;
}
int pv_segdesc_validate(struct page *page)
{
    return 0;
}
int buddy_claim(struct domain *d, uint64_t pages)
{
    return 0;
}

/* --- two domains --- */

enum { PAGES = 24 };
static struct domain *d0, *d1;
static struct page *pool[2][PAGES]; /* d0's and d1's */
static struct pv_domain pvd[2];
static struct pv_vcpu pvv[2];

static int setup(void **state)
{
    fake_ram_reset();
    dom_io = &io;
    dom_xen = &xen;
    spin_init(&io.lock, RANK_DOMAIN);
    d0 = fake_domain_new(0, 1, true);
    d1 = fake_domain_new(1, 1, false);
    struct domain *d[] = {d0, d1};
    for (unsigned i = 0; i < 2; i++) {
        pvd[i].perdomain_l3 = MFN_NONE;
        d[i]->pv = &pvd[i];
        pvv[i] = (struct pv_vcpu){.guest_l4 = MFN_NONE, .user_l4 = MFN_NONE, .kernel_mode = true};
        d[i]->vcpu[0]->pv = &pvv[i];
        for (unsigned j = 0; j < PAGES; j++)
            pool[i][j] = fake_domain_page(d[i]);
    }
    pv_pagetable_init();
    fake_current(d0->vcpu[0]);
    srand(42);
    return 0;
}

/* Whatever they built: death gives it all back. */
static int teardown(void **state)
{
    int rc;
    d0->dying = d1->dying = true;
    while ((rc = pv_relinquish_memory(d1)) == -XEN_EAGAIN)
        ;
    assert_int_equal(rc, 0);
    assert_int_equal(pv_relinquish_memory(d1), 0);
    assert_int_equal(pv_relinquish_memory(d0), 0);
    assert_int_equal(d0->tot_pages, 0);
    assert_int_equal(d1->tot_pages, 0);
    assert_int_equal(fake_ram_free(), FAKE_FRAMES - 1);
    range_free(&d0->iomem);
    range_free(&d1->iomem);
    fake_domain_free(d0);
    fake_domain_free(d1);
    return 0;
}

static uint64_t pte(const struct page *p, uint64_t flags)
{
    return mfn_to_maddr(page_to_mfn(p)).a | flags;
}
#define RO (PTE_P | PTE_U)
#define RW (PTE_P | PTE_U | PTE_RW)

static uint64_t at(const struct page *table, unsigned index)
{
    return mfn_to_maddr(page_to_mfn(table)).a + index * 8;
}

static uint64_t entry(struct page *table, unsigned index)
{
    return *pt_entry(table, index);
}

static int update_as(uint64_t ptr, uint64_t val, uint32_t foreign)
{
    struct mmu_update u = {ptr, val};
    uint32_t done = 77;
    int rc = hc_mmu_update((uint64_t)&u, 1, (uint64_t)&done, foreign);
    assert_int_equal(done, rc ? 0 : 1);
    return rc;
}
static int update(struct page *table, unsigned index, uint64_t val)
{
    return update_as(at(table, index), val, DOMID_SELF);
}

/* --- the plain model: everything recounted --- */

static struct {
    uint32_t refs, uses;
    bool rw, table;
} tally[FAKE_FRAMES];

static void tally_domain(struct page **p, const struct pv_vcpu *v)
{
    for (unsigned i = 0; i < PAGES; i++) {
        struct page *page = p[i];
        uint64_t self = page_to_mfn(page).n;
        enum page_type level = page_type(page);
        tally[self].refs += !!(page->refs & PAGE_REF_ALLOCATED);
        if (page->type & PAGE_TYPE_PINNED) {
            tally[self].refs++;
            tally[self].uses++;
            tally[self].table = true;
        }
        if (mfn_equal(v->guest_l4, mfn(self))) {
            tally[self].refs++;
            tally[self].uses++;
            tally[self].table = true;
        }
        if (!(page->type & PAGE_TYPE_COUNT) || level < PAGE_L1 || level > PAGE_L4)
            continue;
        assert_true(page->type & PAGE_TYPE_VALIDATED);
        for (unsigned j = 0; j < PT_ENTRIES; j++) {
            uint64_t e = entry(page, j);
            if (level == PAGE_L4 && j >= HV_SLOT_FIRST && j <= HV_SLOT_LAST) {
                assert_int_equal(e, 0xdead000000000000 | j);
                continue;
            }
            if (!(e & PTE_P))
                continue;
            assert_int_equal(e & (PTE_U | PTE_G), PTE_U);
            uint64_t m = pte_mfn(e).n;
            if (level == PAGE_L1) {
                if (!mfn_is_ram(mfn(m)))
                    continue;
                tally[m].refs++;
                tally[m].uses += !!(e & PTE_RW);
                tally[m].rw |= !!(e & PTE_RW);
            } else {
                tally[m].refs++;
                tally[m].uses++;
                tally[m].table = true;
                assert_false(e & PTE_PS);
                assert_int_equal(page_type(mfn_to_page(mfn(m))), level - 1);
                assert_ptr_equal(mfn_to_page(mfn(m))->owner, page->owner);
            }
        }
    }
}

static void check_counts(void)
{
    memset(tally, 0, sizeof(tally));
    tally_domain(pool[0], &pvv[0]);
    tally_domain(pool[1], &pvv[1]);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned j = 0; j < PAGES; j++) {
            const struct page *p = pool[i][j];
            uint64_t m = page_to_mfn(p).n;
            assert_int_equal(p->refs & PAGE_REF_COUNT, tally[m].refs);
            assert_int_equal(p->type & PAGE_TYPE_COUNT, tally[m].uses);
            assert_false(tally[m].rw && tally[m].table); /* the whole point */
        }
}

/* --- single rules --- */

/* d0's pool[0][3..0] as an L4 to L1 that maps pool[0][4], through entry 0 of each. */
static void build(unsigned set)
{
    struct page **p = pool[set];
    *pt_entry(p[0], 0) = pte(p[4], PTE_P | PTE_RW | PTE_G);
    *pt_entry(p[1], 0) = pte(p[0], RW);
    *pt_entry(p[2], 0) = pte(p[1], RW);
    *pt_entry(p[3], 0) = pte(p[2], RW);
}

static void pin_tree(void **state)
{
    build(0);
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][3]), PAGE_L4), 0);
    check_counts();
    assert_int_equal(page_type(pool[0][0]), PAGE_L1);
    assert_int_equal(page_type(pool[0][4]), PAGE_WRITABLE);
    assert_int_equal(entry(pool[0][0], 0), pte(pool[0][4], RW)); /* user added, global gone */
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][3]), PAGE_L4), -XEN_EINVAL); /* again */
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][3]), PAGE_L3), -XEN_EBUSY);
    assert_int_equal(pv_pin_table(d1, page_to_mfn(pool[0][0]), PAGE_L1), -XEN_EINVAL); /* not its */
    assert_int_equal(pv_pin_table(d0, mfn(0), PAGE_L1), -XEN_EINVAL);
    assert_int_equal(pv_pin_table(d0, mfn(~0UL), PAGE_L1), -XEN_EINVAL);
    check_counts();
    d0->dying = true;
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][2]), PAGE_L3), -XEN_EINVAL);
    d0->dying = false;
    check_counts();
}

/* One bad entry at each level and each position refuses the whole and leaves nothing behind. */
static void bad_entries(void **state)
{
    struct page *l1 = pool[0][0], *other = pool[1][0];
    const uint64_t bad_l1[] = {
        pte(l1, RW),             /* itself, writable */
        pte(other, RO),          /* another's */
        RO | 0x000fffff00000000, /* beyond RAM, no right to it */
        RO | 0x0008000000000000, /* beyond the bus: reserved */
        RO | (uint64_t)FAKE_FRAMES << PAGE_SHIFT,
        RO, /* frame 0 */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad_l1); i++)
        for (unsigned index = 0; index < PT_ENTRIES; index += 511) {
            memset(page_to_virt(l1), 0, PAGE_SIZE);
            *pt_entry(l1, 7) = pte(pool[0][5], RW);
            *pt_entry(l1, index) = bad_l1[i];
            assert_true(pv_pin_table(d0, page_to_mfn(l1), PAGE_L1) < 0);
            check_counts();
        }
    memset(page_to_virt(l1), 0, PAGE_SIZE);
    *pt_entry(l1, 0) = pte(l1, RO); /* read-only it may map itself */
    assert_int_equal(pv_pin_table(d0, page_to_mfn(l1), PAGE_L1), 0);
    check_counts();

    struct page *l2 = pool[0][1];
    const uint64_t bad_l2[] = {
        pte(l2, RW), /* linear */
        pte(pool[0][5], RW | PTE_PS),
        pte(other, RW), /* another's table */
        RW | 0x000fffff00000000,
        RW,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad_l2); i++) {
        memset(page_to_virt(l2), 0, PAGE_SIZE);
        *pt_entry(l2, 3) = pte(l1, RW);
        *pt_entry(l2, 4) = bad_l2[i];
        assert_true(pv_pin_table(d0, page_to_mfn(l2), PAGE_L2) < 0);
        check_counts();
        *pt_entry(l2, 4) = 0;
        assert_int_equal(pv_pin_table(d0, page_to_mfn(l2), PAGE_L2), 0);
        assert_true(update(l2, 4, bad_l2[i]) < 0);
        check_counts();
        assert_true(page_type_unpin(l2));
        page_put_and_type(l2);
        check_counts();
    }
}

static void our_slots(void **state)
{
    struct page *l4 = pool[0][3];
    build(0);
    *pt_entry(l4, HV_SLOT_FIRST) = pte(pool[0][2], RW); /* not looked at, replaced */
    assert_int_equal(pv_pin_table(d0, page_to_mfn(l4), PAGE_L4), 0);
    for (unsigned i = HV_SLOT_FIRST; i <= HV_SLOT_LAST; i++) {
        assert_int_equal(update(l4, i, pte(pool[0][2], RW)), -XEN_EPERM);
        assert_int_equal(update(l4, i, 0), -XEN_EPERM);
    }
    assert_int_equal(update(l4, HV_SLOT_FIRST - 1, pte(pool[0][2], RW)), 0);
    assert_int_equal(update(l4, HV_SLOT_LAST + 1, pte(pool[0][2], RW)), 0);
    check_counts();
}

static void l1_updates(void **state)
{
    struct page *l1 = pool[0][0], *a = pool[0][4], *b = pool[0][5];
    assert_int_equal(pv_pin_table(d0, page_to_mfn(l1), PAGE_L1), 0);
    assert_int_equal(update(l1, 0, pte(a, RW)), 0);
    assert_int_equal(update(l1, 1, pte(a, RO)), 0);
    check_counts();
    assert_int_equal(update(l1, 0, pte(a, RO)), 0); /* the right is given up */
    assert_int_equal(a->type & PAGE_TYPE_COUNT, 0);
    check_counts();
    assert_int_equal(update(l1, 0, pte(a, RW)), 0);
    check_counts();
    assert_int_equal(update(l1, 0, pte(b, RW)), 0);
    check_counts();
    assert_int_equal(update(l1, 0, 0x1234567800000000), 0); /* not present: anything */
    assert_int_equal(entry(l1, 0), 0x1234567800000000);
    check_counts();
    /* A and D stay when asked for. */
    assert_int_equal(update(l1, 0, pte(b, RW | PTE_A | PTE_D)), 0);
    assert_int_equal(update_as(at(l1, 0) | MMU_PT_UPDATE_PRESERVE_AD, pte(b, RW), DOMID_SELF), 0);
    assert_int_equal(entry(l1, 0), pte(b, RW | PTE_A | PTE_D));
    assert_int_equal(update_as(at(l1, 0) | MMU_PT_UPDATE_NO_TRANSLATE, pte(b, RW), DOMID_SELF), 0);
    assert_int_equal(entry(l1, 0), pte(b, RW));
    /* Available bits and cache attributes are the guest's. */
    uint64_t soft = PTE_AVAIL | PTE_PAT | PTE_PWT | PTE_PCD | PTE_NX | 1UL << 58;
    assert_int_equal(update(l1, 0, pte(b, RW | soft)), 0);
    assert_int_equal(entry(l1, 0), pte(b, RW | soft));
    /* A page table does not become writable, a writable page no table. */
    assert_int_equal(update(l1, 2, pte(l1, RW)), -XEN_EBUSY);
    assert_int_equal(pv_pin_table(d0, page_to_mfn(b), PAGE_L1), -XEN_EBUSY);
    check_counts();
}

/* Frames that are no tables are written plainly. */
static void plain_pages(void **state)
{
    struct page *p = pool[0][6];
    assert_int_equal(update(p, 511, 0x123456789), 0);
    assert_int_equal(entry(p, 511), 0x123456789);
    assert_int_equal(p->type & PAGE_TYPE_COUNT, 0);
    assert_int_equal(update_as(at(p, 0) + 4, 1, DOMID_SELF), -XEN_EINVAL);
    assert_int_equal(update_as(~0UL << 12, 1, DOMID_SELF), -XEN_EINVAL);
    assert_int_equal(update(pool[1][6], 0, 1), -XEN_EINVAL);
    assert_int_equal(page_get_type(p, PAGE_SEGDESC), 0);
    assert_int_equal(update(p, 0, 1), -XEN_EBUSY);
    page_put_type(p);
    check_counts();
}

static void m2p(void **state)
{
    uint64_t a = at(pool[0][6], 0), foreign = at(pool[1][6], 0);
    assert_int_equal(update_as(a | MMU_MACHPHYS_UPDATE, 99, DOMID_SELF), 0);
    assert_int_equal(m2p_get(maddr_to_mfn(maddr(a))), 99);
    assert_int_equal(update_as(foreign | MMU_MACHPHYS_UPDATE, 98, DOMID_SELF), -XEN_EINVAL);
    assert_int_equal(update_as(foreign | MMU_MACHPHYS_UPDATE, 98, 1), 0);
    assert_int_equal(m2p_get(maddr_to_mfn(maddr(foreign))), 98);
    fake_current(d1->vcpu[0]);
    assert_int_equal(update_as(a | MMU_MACHPHYS_UPDATE, 1, DOMID_SELF), -XEN_EINVAL);
    assert_int_equal(update_as(a | MMU_MACHPHYS_UPDATE, 1, 0), -XEN_EPERM);
    assert_int_equal(m2p_get(maddr_to_mfn(maddr(a))), 99);
    check_counts();
}

static void foreign_frames(void **state)
{
    struct page *l1 = pool[0][0], *theirs = pool[1][4];
    assert_int_equal(pv_pin_table(d0, page_to_mfn(l1), PAGE_L1), 0);
    assert_int_equal(update(l1, 0, pte(theirs, RW)), -XEN_EINVAL);
    assert_int_equal(update_as(at(l1, 0), pte(theirs, RW), 1), 0);
    assert_true(theirs->type & PAGE_TYPE_FOREIGN);
    check_counts();
    assert_int_equal(pv_pin_table(d1, page_to_mfn(theirs), PAGE_L1), -XEN_EBUSY);
    assert_int_equal(update(l1, 0, pte(theirs, RO)), 0); /* less of the same is always allowed */
    check_counts();
    assert_int_equal(update(l1, 0, pte(theirs, RW)), -XEN_EINVAL);       /* more is not */
    assert_int_equal(update_as(at(l1, 1), pte(l1, RO), 1), -XEN_EINVAL); /* not d1's */
    assert_int_equal(update_as(at(l1, 1), pte(theirs, RO), 5), -XEN_ESRCH);
    assert_int_equal(update_as(at(l1, 1), pte(theirs, RO), DOMID_XEN), -XEN_EINVAL);
    /* Page tables of d1, changed by d0: its own frames are not d1's. */
    uint32_t pfd = 2u << 16;
    assert_int_equal(pv_pin_table(d1, page_to_mfn(pool[1][0]), PAGE_L1), 0);
    assert_int_equal(update_as(at(pool[1][0], 0), pte(theirs, RO), pfd | 1), 0);
    assert_int_equal(update_as(at(pool[1][0], 0), pte(theirs, RO), pfd | 0x3f), -XEN_ESRCH);
    check_counts();
    fake_current(d1->vcpu[0]);
    assert_int_equal(update_as(at(pool[1][0], 1), pte(l1, RO), 0), -XEN_EPERM);
    assert_int_equal(update_as(at(l1, 1), pte(theirs, RO), 1u << 16 | DOMID_SELF), -XEN_EPERM);
    assert_int_equal(update_as(at(pool[1][0], 1), pte(theirs, RO), DOMID_XEN), -XEN_EPERM);
    assert_int_equal(update_as(at(pool[1][0], 1), pte(theirs, RO), 1), 0); /* itself by number */
    check_counts();
}

static void device_frames(void **state)
{
    uint64_t first = 0x100000, inside = RW | PTE_PCD | first << PAGE_SHIFT;
    struct page *l1 = pool[1][0];
    fake_current(d1->vcpu[0]);
    assert_int_equal(pv_pin_table(d1, page_to_mfn(l1), PAGE_L1), 0);
    assert_int_equal(update(l1, 0, inside), -XEN_EPERM);
    assert_int_equal(range_add(&d1->iomem, 0, first), 0); /* RAM too: that does not count */
    assert_int_equal(update(l1, 0, inside), 0);
    assert_int_equal(update(l1, 1, inside + PAGE_SIZE), -XEN_EPERM);
    assert_int_equal(update_as(at(l1, 1), inside, DOMID_IO), 0);
    assert_int_equal(update_as(at(l1, 2), pte(pool[1][4], RO), DOMID_IO), -XEN_EINVAL);
    assert_int_equal(update(l1, 2, pte(pool[0][4], RO)), -XEN_EINVAL);
    /* "the caller assumes the privilege of the FD" (xen/xen.h) */
    fake_current(d0->vcpu[0]);
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][0]), PAGE_L1), 0);
    assert_int_equal(update(pool[0][0], 0, inside), -XEN_EPERM);
    assert_int_equal(update_as(at(pool[0][0], 0), inside, 1), 0);
    check_counts();
}

/* A batch stops at the first refusal and says where. */
static void batches(void **state)
{
    struct page *l1 = pool[0][0];
    struct mmu_update u[200];
    uint32_t done;
    assert_int_equal(pv_pin_table(d0, page_to_mfn(l1), PAGE_L1), 0);
    for (unsigned i = 0; i < 200; i++)
        u[i] = (struct mmu_update){at(l1, i), pte(pool[0][4 + i % 4], RW)};
    assert_int_equal(hc_mmu_update((uint64_t)u, 200, (uint64_t)&done, DOMID_SELF), 0);
    assert_int_equal(done, 200);
    check_counts();
    u[150].val = pte(l1, RW);
    assert_int_equal(hc_mmu_update((uint64_t)u, 200, (uint64_t)&done, DOMID_SELF), -XEN_EBUSY);
    assert_int_equal(done, 150);
    assert_int_equal(hc_mmu_update((uint64_t)u, 150, 0, DOMID_SELF), 0);
    assert_int_equal(hc_mmu_update(0, 3, (uint64_t)&done, DOMID_SELF), -XEN_EFAULT);
    assert_int_equal(done, 0);
    assert_int_equal(hc_mmu_update(0, 0, (uint64_t)&done, DOMID_SELF), 0);
    assert_int_equal(hc_mmu_update((uint64_t)u, 150, 8, DOMID_SELF), -XEN_EFAULT);
    check_counts();
}

static void by_address(void **state)
{
    uint64_t va = 5UL << PAGE_SHIFT;
    build(0);
    assert_int_equal(pv_pin_table(d0, page_to_mfn(pool[0][3]), PAGE_L4), 0);
    assert_int_equal(hc_update_va_mapping(va, 0, UVMF_NONE), -XEN_EINVAL); /* no base yet */
    pvv[0].guest_l4 = page_to_mfn(pool[0][3]);
    assert_int_equal(page_get_and_type(pool[0][3], d0, PAGE_L4), 0);
    check_counts();
    local_flushes = all_flushes = vcpu_flushes = 0;
    assert_int_equal(hc_update_va_mapping(va, pte(pool[0][7], RW), UVMF_INVLPG), 0);
    assert_int_equal(entry(pool[0][0], 5), pte(pool[0][7], RW));
    assert_int_equal(local_flushes, 1);
    assert_int_equal(hc_update_va_mapping(va, 0, UVMF_TLB_FLUSH | UVMF_ALL), 0);
    assert_int_equal(all_flushes, 1);
    assert_int_equal(hc_update_va_mapping(va, 0, UVMF_TLB_FLUSH | 0x10000), 0);
    assert_int_equal(vcpu_flushes, 1);
    assert_int_equal(hc_update_va_mapping(va, 0, UVMF_NONE | UVMF_ALL), 0);
    assert_int_equal(hc_update_va_mapping(va, 0, UVMF_FLUSHTYPE_MASK), -XEN_EINVAL);
    assert_int_equal(local_flushes + all_flushes + vcpu_flushes, 3);
    const uint64_t nowhere[] = {1UL << 21,   1UL << 30, 1UL << 39,  HV_VIRT_START, HV_VIRT_END - 1,
                                HV_VIRT_END, 1UL << 47, ~0UL << 46, ~0UL};
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++)
        assert_int_equal(hc_update_va_mapping(nowhere[i], 0, UVMF_NONE), -XEN_EINVAL);
    assert_int_equal(hc_update_va_mapping(va, pte(pool[0][0], RW), UVMF_INVLPG), -XEN_EBUSY);
    assert_int_equal(local_flushes, 1);
    assert_int_equal(hc_update_va_mapping_otherdomain(va, pte(pool[1][7], RW), 0, 1), 0);
    assert_int_equal(hc_update_va_mapping_otherdomain(va, pte(pool[1][7], RW), 0, 6), -XEN_ESRCH);
    assert_true(d1->refs == 2); /* one for its pages: the call's is given back */
    check_counts();
}

static void grants(void **state)
{
    uint64_t va = 9UL << PAGE_SHIFT;
    struct page *l1 = pool[0][0], *theirs = pool[1][4];
    mfn_t frame = page_to_mfn(theirs);
    build(0);
    pvv[0].guest_l4 = page_to_mfn(pool[0][3]);
    assert_int_equal(page_get_and_type(pool[0][3], d0, PAGE_L4), 0);
    assert_int_equal(grant_map_alone(va, frame, GNTMAP_host_map), GNTST_okay);
    assert_int_equal(entry(l1, 9) & ~(PTE_A | PTE_D), pte(theirs, RW));
    check_counts();
    assert_int_equal(grant_map_alone(at(l1, 10), frame,
                                     GNTMAP_host_map | GNTMAP_contains_pte | GNTMAP_readonly |
                                         1u << _GNTMAP_guest_avail0),
                     GNTST_okay);
    assert_int_equal(entry(l1, 10) & ~(PTE_A | PTE_D), pte(theirs, RO | 1 << 9));
    check_counts();
    assert_int_equal(grant_unmap_alone(va, page_to_mfn(pool[1][5]), GNTMAP_host_map, 0),
                     GNTST_general_error);
    assert_int_equal(grant_unmap_alone(va, frame, GNTMAP_host_map, 0), GNTST_okay);
    assert_int_equal(entry(l1, 9), 0);
    assert_int_equal(grant_unmap_alone(va, frame, GNTMAP_host_map, 0), GNTST_general_error);
    check_counts();
    /* Replaced by what is mapped elsewhere, which moves. */
    assert_int_equal(
        grant_unmap_alone(at(l1, 10), frame, GNTMAP_host_map | GNTMAP_contains_pte, at(l1, 0)),
        GNTST_okay);
    assert_int_equal(entry(l1, 10), pte(pool[0][4], RW));
    assert_int_equal(entry(l1, 0), 0);
    check_counts();
    /* Overwritten by the guest: nothing is lost. */
    assert_int_equal(grant_map_alone(va, frame, GNTMAP_host_map), GNTST_okay);
    assert_int_equal(update(l1, 9, pte(pool[0][5], RW)), 0);
    assert_int_equal(grant_unmap_alone(va, frame, GNTMAP_host_map, 0), GNTST_general_error);
    check_counts();
    /* Nonsense. */
    assert_int_equal(grant_map_alone(1UL << 40, frame, GNTMAP_host_map), GNTST_bad_virt_addr);
    assert_int_equal(grant_map_alone(at(l1, 0) + 3, frame, GNTMAP_contains_pte),
                     GNTST_general_error);
    assert_int_equal(grant_map_alone(at(pool[0][8], 0), frame, GNTMAP_contains_pte),
                     GNTST_general_error);
    assert_int_equal(grant_map_alone(at(pool[1][0], 0), frame, GNTMAP_contains_pte),
                     GNTST_general_error);
    assert_int_equal(grant_map_alone(va, mfn(0xfffffff), 0), GNTST_general_error);
    assert_int_equal(grant_map_alone(va, page_to_mfn(l1), 0), GNTST_general_error);
    check_counts();
}

/* --- at random --- */

/* Mostly each page is used as one level, so that trees come about; now and then as anything. */
static const unsigned role_first[] = {[PAGE_L1] = 0, [PAGE_L2] = 6, [PAGE_L3] = 10, [PAGE_L4] = 12};
#define FIRST_PLAIN 14

static unsigned role_of(unsigned i)
{
    unsigned level = PAGE_L4;
    if (i >= FIRST_PLAIN)
        return PAGE_NONE;
    while (i < role_first[level])
        level--;
    return level;
}

static unsigned any_page_number(void)
{
    return rand() % PAGES;
}

static struct page *any_page(unsigned who)
{
    return pool[who][any_page_number()];
}

/* What page @i of a pool should point to by its role, or anything. */
static struct page *target_of(unsigned i, unsigned who)
{
    unsigned level = role_of(i);
    if (level == PAGE_NONE || rand() % 6 == 0)
        return any_page(who);
    if (level == PAGE_L1)
        return pool[who][FIRST_PLAIN + rand() % (PAGES - FIRST_PLAIN)];
    unsigned first = role_first[level - 1];
    return pool[who][first + rand() % (role_first[level] - first)];
}

static uint64_t random_entry(unsigned i, unsigned who)
{
    static const unsigned flags[] = {RW, RW,    RW,          RO,         RO,
                                     0,  PTE_P, RW | PTE_PS, RW | PTE_G, RO | PTE_A | PTE_D};
    unsigned whose = rand() % 16 ? who : 1 - who;
    uint64_t e = pte(target_of(i, whose), flags[rand() % ARRAY_SIZE(flags)]);
    if (rand() % 40 == 0)
        e ^= 1UL << rand() % 64;
    return rand() % 8 ? e : 0;
}

static unsigned random_index(void)
{
    static const unsigned some[] = {0, 1, 2, 255, 256, 271, 272, 511};
    return some[rand() % ARRAY_SIZE(some)];
}

static void random_step(void)
{
    unsigned who = rand() % 2, i = any_page_number();
    struct domain *d = who ? d1 : d0;
    struct page *p = pool[who][i];
    fake_current(d->vcpu[0]);
    switch (rand() % 12) {
    case 0: {
        unsigned level = role_of(i), any = PAGE_L1 + rand() % 4;
        (void)!pv_pin_table(d, page_to_mfn(p), level && rand() % 8 ? level : any);
        break;
    }
    case 1:
        if (rand() % 4 == 0 && page_type_unpin(p))
            page_put_and_type(p);
        break;
    case 2: /* a foreign frame, by domain 0 */
        fake_current(d0->vcpu[0]);
        update_as(at(pool[0][i], random_index()), random_entry(i, 1), 1);
        break;
    case 3: /* a foreign table */
        fake_current(d0->vcpu[0]);
        update_as(at(pool[1][i], random_index()), random_entry(i, 1), 2u << 16 | (rand() % 2));
        break;
    case 4:
        if (rand() % 8 == 0) {
            mfn_t l4 = page_to_mfn(p);
            if (!page_get_and_type(p, d, PAGE_L4)) {
                drop(&pvv[who].guest_l4);
                pvv[who].guest_l4 = l4;
            }
        }
        break;
    case 5:
        (void)!grant_map_alone(at(p, random_index()), page_to_mfn(any_page(1 - who)),
                               GNTMAP_contains_pte | (rand() % 2 ? GNTMAP_readonly : 0));
        break;
    case 6:
        (void)!grant_unmap_alone(at(p, random_index()), page_to_mfn(any_page(1 - who)),
                                 GNTMAP_contains_pte,
                                 rand() % 2 ? 0 : at(any_page(who), random_index()));
        break;
    default:
        update(p, random_index(), random_entry(i, who));
    }
}

static void at_random(void **state)
{
    unsigned seen[PAGE_WRITABLE + 1] = {0};
    for (unsigned step = 0; step < 60000; step++) {
        random_step();
        check_counts();
        for (unsigned i = 0; i < PAGES; i++)
            if (pool[0][i]->type & PAGE_TYPE_COUNT)
                seen[page_type(pool[0][i])]++;
    }
    for (unsigned t = PAGE_L1; t <= PAGE_L4; t++)
        assert_true(seen[t] > 5000); /* or the test tests nothing */
    assert_true(seen[PAGE_WRITABLE] > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pin_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(our_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(l1_updates, setup, teardown),
        cmocka_unit_test_setup_teardown(plain_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(m2p, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(device_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(batches, setup, teardown),
        cmocka_unit_test_setup_teardown(by_address, setup, teardown),
        cmocka_unit_test_setup_teardown(grants, setup, teardown),
        cmocka_unit_test_setup_teardown(at_random, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
