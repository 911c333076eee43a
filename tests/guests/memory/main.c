/*
 * Page tables by the ABI's calls: mmu_update, update_va_mapping, pin and unpin of each level, new
 * base pointers, flushes, page clearing and copying. refuse.c asks for what must be refused,
 * write.c writes tables directly, reserve.c changes how much memory we have.
 */
#include "guest.h"
#include "memory.h"

const char test_name[] = "memory";

#define AREA 0x0000400000000000UL /* slot 128, ours to build */

uint64_t *table_alloc(void)
{
    uint64_t *t = page_alloc();

    CHECK_EQ(map_ro(t), 0);
    return t;
}

void table_free(uint64_t *table)
{
    CHECK_EQ(map_rw(table), 0);
    page_free(table);
}

long table_set(uint64_t *table, unsigned index, uint64_t value)
{
    return mmu_set((mfn_of(table) << PAGE_SHIFT) + index * 8, value);
}

long table_link(uint64_t *parent, unsigned index, uint64_t *table)
{
    return table_set(parent, index, MAKE_PTE(mfn_of(table), PTE_TABLE));
}

static void updates(void)
{
    static struct mmu_update batch[1024];
    uint64_t *a = page_alloc(), *b = page_alloc(), old;
    struct mmu_update u[4];
    unsigned done = 99;

    section("mmu_update");
    a[0] = 1;
    b[0] = 2;
    /* Two entries in one call, and back. */
    for (int i = 0; i < 2; i++) {
        u[0].ptr = pt_entry_maddr(a, 1);
        u[0].val = MAKE_PTE(mfn_of(i ? a : b), PTE_KERN);
        u[1].ptr = pt_entry_maddr(b, 1);
        u[1].val = MAKE_PTE(mfn_of(i ? b : a), PTE_KERN);
        CHECK_EQ(HC(mmu_update, u, 2, &done, DOMID_SELF), 0);
        CHECK_EQ(done, 2);
        CHECK_EQ(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
        CHECK_EQ(a[0], i ? 1 : 2);
        CHECK_EQ(b[0], i ? 2 : 1);
    }
    CHECK_EQ(HC(mmu_update, u, 0, 0, DOMID_SELF), 0);
    /* What stands before a bad one is done and counted; what follows it is not. */
    old = pte_get(b);
    u[0].ptr = pt_entry_maddr(a, 1);
    u[0].val = MAKE_PTE(mfn_of(a), PTE_RO);
    u[1].ptr = pt_entry_maddr(b, 1);
    u[1].val = MAKE_PTE(0xfffffffffUL, PTE_RO);
    u[2].ptr = pt_entry_maddr(b, 1);
    u[2].val = 0;
    CHECK_REFUSED(HC(mmu_update, u, 3, &done, DOMID_SELF));
    CHECK_EQ(done, 1);
    CHECK_EQ(pte_get(a) & PTE_RW, 0);
    CHECK_EQ(pte_get(b), old);
    CHECK_EQ(map_rw(a), 0);
    /* Accessed and dirty survive PRESERVE_AD, and only that. */
    u[0].ptr = pt_entry_maddr(a, 1) | MMU_NORMAL_PT_UPDATE;
    u[0].val = MAKE_PTE(mfn_of(a), PTE_P | PTE_RW | PTE_U);
    CHECK_EQ(HC(mmu_update, u, 1, 0, DOMID_SELF), 0);
    CHECK_EQ(pte_get(a) & (PTE_A | PTE_D), 0);
    CHECK_EQ(mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)a), 0);
    a[1] = 1;
    CHECK_EQ(pte_get(a) & (PTE_A | PTE_D), PTE_A | PTE_D);
    u[0].ptr = pt_entry_maddr(a, 1) | MMU_PT_UPDATE_PRESERVE_AD;
    CHECK_EQ(HC(mmu_update, u, 1, 0, DOMID_SELF), 0);
    CHECK_EQ(pte_get(a) & (PTE_A | PTE_D), PTE_A | PTE_D);
    u[0].ptr = pt_entry_maddr(a, 1) | MMU_PT_UPDATE_NO_TRANSLATE;
    u[0].val = MAKE_PTE(mfn_of(a), PTE_KERN);
    CHECK_EQ(HC(mmu_update, u, 1, 0, DOMID_SELF), 0);
    /* A batch long enough to be continued. */
    for (unsigned i = 0; i < 1024; i++) {
        batch[i].ptr = pt_entry_maddr(a, 1);
        batch[i].val = MAKE_PTE(mfn_of(a), i & 1 ? PTE_KERN : PTE_RO);
    }
    for (int i = 0; i < 20; i++) {
        done = 0;
        if (HC(mmu_update, batch, 1024, &done, DOMID_SELF) || done != 1024) {
            CHECK_EQ(done, 1024);
            break;
        }
    }
    CHECK_EQ(done, 1024);

    section("machine-to-physical updates");
    old = mfn_to_pfn(mfn_of(a));
    u[0].ptr = mfn_of(a) << PAGE_SHIFT | MMU_MACHPHYS_UPDATE;
    u[0].val = 0x12345;
    CHECK_EQ(HC(mmu_update, u, 1, 0, DOMID_SELF), 0);
    CHECK_EQ(mfn_to_pfn(mfn_of(a)), 0x12345);
    u[0].val = old;
    CHECK_EQ(HC(mmu_update, u, 1, 0, DOMID_SELF), 0);
    CHECK_EQ(mfn_to_pfn(mfn_of(a)), old);
    page_free(a);
    page_free(b);
}

static void va_mappings(void)
{
    uint64_t *a = page_alloc(), mask = 1;
    uint64_t rw = MAKE_PTE(mfn_of(a), PTE_KERN), ro = MAKE_PTE(mfn_of(a), PTE_RO);

    section("update_va_mapping");
    CHECK_EQ(HC(update_va_mapping, a, ro, UVMF_INVLPG), 0);
    CHECK(!try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, rw, UVMF_TLB_FLUSH), 0);
    CHECK(try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, ro, UVMF_INVLPG | UVMF_ALL), 0);
    CHECK(!try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, rw, UVMF_TLB_FLUSH | UVMF_ALL), 0);
    CHECK(try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, ro, (uint64_t)&mask | UVMF_INVLPG), 0);
    CHECK(!try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, rw, (uint64_t)&mask | UVMF_TLB_FLUSH), 0);
    CHECK(try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping_otherdomain, a, ro, UVMF_INVLPG, DOMID_SELF), 0);
    CHECK(!try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, a, rw, UVMF_NONE), 0);
    CHECK(try_write(a, 1));
    CHECK_EQ(HC(update_va_mapping, (char *)a + 8, ro, UVMF_INVLPG), 0); /* any byte of the page */
    CHECK(!try_write(a, 1));
    CHECK_EQ(map_rw(a), 0);
    page_free(a);
}

/* l[1..4]: a table of each level, linked, with one page mapped at its first entry. */
static void chain(uint64_t **l, uint64_t *page)
{
    for (int i = 1; i <= 4; i++)
        l[i] = page_alloc();
    l[1][0] = MAKE_PTE(mfn_of(page), PTE_KERN);
    for (int i = 2; i <= 4; i++)
        l[i][0] = MAKE_PTE(mfn_of(l[i - 1]), PTE_TABLE);
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(map_ro(l[i]), 0);
}

static void pins(void)
{
    uint64_t *l[5], *page = page_alloc();

    section("pin and unpin of each level");
    chain(l, page);
    for (int i = 1; i <= 4; i++) {
        CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE + i - 1, mfn_of(l[i])), 0);
        /* While it is a table it cannot be written, nor what it leads to. */
        CHECK_REFUSED(map_rw(l[i]));
        CHECK_REFUSED(map_rw(l[1]));
        /* Pinned twice, or as something else: no. */
        CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + i - 1, mfn_of(l[i])));
        CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + i % 4, mfn_of(l[i])));
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l[i])), 0);
        CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l[i])));
        /* And writable again once nothing holds it. */
        CHECK_EQ(map_rw(l[i]), 0);
        CHECK_EQ(map_ro(l[i]), 0);
    }
    /* All four pinned at once, let go from the bottom: upper ones keep the lower. */
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE + i - 1, mfn_of(l[i])), 0);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l[i])), 0);
        CHECK_REFUSED(map_rw(l[i]));
    }
    CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l[4])), 0);
    for (int i = 1; i <= 4; i++) {
        l[i] = memset(l[i], 0, map_rw(l[i]) ? 0 : PAGE_SIZE);
        page_free(l[i]);
    }
    CHECK(try_write(page, 1));
    page_free(page);
}

static void base_pointers(void)
{
    uint64_t *l4 = page_alloc(), *mine = (uint64_t *)start_info->pt_base, v, cr3;
    uint64_t *page = page_alloc(), *l[5];

    section("new base pointer");
    chain(l, page);
    page[0] = 0xabcdef;
    l4[511] = mine[511];
    l4[AREA >> 39] = MAKE_PTE(mfn_of(l[3]), PTE_TABLE);
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4))); /* still mapped writable */
    CHECK_EQ(map_ro(l4), 0);
    CHECK_EQ(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4)), 0);
    asm volatile("mov %%cr3, %0" : "=r"(cr3));
    CHECK_EQ(cr3 >> PAGE_SHIFT, mfn_of(l4));
    CHECK(try_read((void *)AREA, &v));
    CHECK_EQ(v, 0xabcdef);
    CHECK(try_write((void *)AREA, 7));
    CHECK_EQ(page[0], 7);
    CHECK_REFUSED(map_rw(l4));
    CHECK_EQ(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(mine)), 0);
    CHECK(!try_read((void *)AREA, &v));
    CHECK_EQ(map_rw(l4), 0);
    /* mov to cr3 is the same. */
    CHECK_EQ(map_ro(l4), 0);
    TRY("mov %0, %%cr3", ::"r"(mfn_of(l4) << PAGE_SHIFT));
    CHECK_EQ(trapped(), 0);
    CHECK(try_read((void *)AREA, &v));
    TRY("mov %0, %%cr3", ::"r"(mfn_of(mine) << PAGE_SHIFT));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(map_rw(l4), 0);
    /* Refused ones leave us where we are. */
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(page)));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, 0xffffffffffUL));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l[1])));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, 0));
    asm volatile("mov %%cr3, %0" : "=r"(cr3));
    CHECK_EQ(cr3 >> PAGE_SHIFT, mfn_of(mine));
    CHECK_EQ(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(l[4])), 0);
    CHECK_REFUSED(map_rw(l[4]));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(page)));
    CHECK_EQ(mmuext(MMUEXT_NEW_USER_BASEPTR, 0), 0); /* none */
    for (int i = 4; i >= 1; i--) {
        CHECK_EQ(map_rw(l[i]), 0);
        page_free(l[i]);
    }
    page_free(page);
    page_free(l4);
}

static void live_tables(void)
{
    uint64_t *l[4], *page = page_alloc(), v;

    section("building and changing a live address space");
    for (int i = 1; i <= 3; i++)
        l[i] = table_alloc();
    CHECK_EQ(table_link(l[2], 0, l[1]), 0); /* no table yet: a plain write, checked later */
    CHECK_EQ(l[2][0], MAKE_PTE(mfn_of(l[1]), PTE_TABLE));
    CHECK_EQ(table_set(l[2], 0, 0), 0);
    CHECK_EQ(table_link((uint64_t *)start_info->pt_base, AREA >> 39, l[3]), 0);
    CHECK_EQ(table_link(l[3], 0, l[2]), 0);
    CHECK_EQ(table_link(l[2], 0, l[1]), 0);
    CHECK(!try_read((void *)AREA, &v));
    page[0] = 42;
    CHECK_EQ(table_set(l[1], 0, MAKE_PTE(mfn_of(page), PTE_KERN)), 0);
    CHECK(try_read((void *)AREA, &v));
    CHECK_EQ(v, 42);
    CHECK_EQ(HC(update_va_mapping, AREA + PAGE_SIZE, MAKE_PTE(mfn_of(page), PTE_RO), 0), 0);
    CHECK(try_read((void *)(AREA + PAGE_SIZE), &v));
    CHECK(!try_write((void *)(AREA + PAGE_SIZE), v));
    /* One level 1 table at two places of a level 2 table. */
    CHECK_EQ(table_link(l[2], 5, l[1]), 0);
    CHECK(try_read((void *)(AREA + 5 * 0x200000), &v));
    CHECK_EQ(table_set(l[2], 5, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_TLB_FLUSH_ALL, 0), 0);
    CHECK(!try_read((void *)(AREA + 5 * 0x200000), &v));
    /* A page that a table maps writable cannot become a table. */
    CHECK_EQ(map_ro(page), 0);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page)));
    CHECK_EQ(table_set(l[1], 0, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page)), 0); /* 42 is not a present entry */
    CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page)), 0);
    CHECK_EQ(table_set(l[1], 1, 0), 0);
    CHECK_EQ(table_set((uint64_t *)start_info->pt_base, AREA >> 39, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_TLB_FLUSH_ALL, 0), 0);
    CHECK(!try_read((void *)AREA, &v));
    for (int i = 1; i <= 3; i++)
        table_free(l[i]);
    CHECK_EQ(map_rw(page), 0);
    page_free(page);
}

static void flushes(void)
{
    uint64_t *page = page_alloc(), *other = page_alloc(), mask = ~0UL;

    section("mmuext_op flushes, clear and copy");
    CHECK_EQ(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_TLB_FLUSH_ALL, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_INVLPG_LOCAL, (uint64_t)page), 0);
    CHECK_EQ(mmuext(MMUEXT_INVLPG_ALL, (uint64_t)page), 0);
    CHECK_EQ(mmuext2(MMUEXT_TLB_FLUSH_MULTI, 0, (uint64_t)&mask), 0);
    CHECK_EQ(mmuext2(MMUEXT_INVLPG_MULTI, (uint64_t)page, (uint64_t)&mask), 0);
    CHECK_IN(mmuext2(MMUEXT_TLB_FLUSH_MULTI, 0, BAD_UNMAPPED), -XEN_EINVAL, -XEN_EFAULT);
    CHECK_IN(mmuext2(MMUEXT_INVLPG_MULTI, (uint64_t)page, BAD_HYPERVISOR), -XEN_EINVAL,
             -XEN_EFAULT);
    /* Hostile addresses to flush do no harm. */
    CHECK_EQ(mmuext(MMUEXT_INVLPG_LOCAL, BAD_HYPERVISOR), 0);
    CHECK_EQ(mmuext(MMUEXT_INVLPG_ALL, BAD_NONCANONICAL), 0);
    CHECK_EQ(mmuext(MMUEXT_FLUSH_CACHE, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0), 0);
    page[3] = 5;
    other[3] = 6;
    CHECK_EQ(mmuext2(MMUEXT_COPY_PAGE, mfn_of(page), mfn_of(other)), 0);
    CHECK_EQ(page[3], 6);
    CHECK_EQ(mmuext(MMUEXT_CLEAR_PAGE, mfn_of(page)), 0);
    CHECK_EQ(page[3], 0);
    CHECK_EQ(other[3], 6);
    CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, cr3_mfn()));
    CHECK_REFUSED(mmuext2(MMUEXT_COPY_PAGE, cr3_mfn(), mfn_of(page)));
    CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, ~0UL >> 12));
    CHECK_REFUSED(mmuext2(MMUEXT_COPY_PAGE, mfn_of(page), ~0UL >> 12));
    page_free(page);
    page_free(other);
}

void test_main(void)
{
    updates();
    va_mappings();
    pins();
    base_pointers();
    live_tables();
    flushes();
    table_refusals();
    writable_tables();
    reservations();
}
