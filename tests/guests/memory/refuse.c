/*
 * What the page-table calls must refuse, leaving everything as it was: entries that would make a
 * table writable, frames that are not ours, levels mixed up, large pages, the hypervisor's slots,
 * bad pointers and counts.
 */
#include "guest.h"
#include "memory.h"

#define L4 ((uint64_t *)start_info->pt_base)

/* A frame of the hypervisor's: what the m2p's own level 1 or 2 entry maps cannot be seen, but the
 * machine frame of its multiboot load is never ours. */
#define XEN_FRAME 0x200UL

static void level1(void)
{
    uint64_t *a = page_alloc(), old = pte_get(a), *l1 = table_alloc(), v;

    section("refused level 1 entries");
    CHECK_REFUSED(va_map(a, MAKE_PTE(cr3_mfn(), PTE_KERN)));
    CHECK_EQ(va_map(a, MAKE_PTE(cr3_mfn(), PTE_RO)), 0); /* reading one's tables is fine */
    CHECK_EQ(((volatile uint64_t *)a)[511], L4[511]);
    CHECK_EQ(va_map(a, old), 0);
    CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(l1)), 0);
    CHECK_REFUSED(va_map(a, MAKE_PTE(mfn_of(l1), PTE_KERN)));
    CHECK_REFUSED(table_set(l1, 0, MAKE_PTE(mfn_of(l1), PTE_KERN)));
    CHECK_EQ(table_set(l1, 0, MAKE_PTE(mfn_of(l1), PTE_RO)), 0);
    CHECK_EQ(table_set(l1, 0, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l1)), 0);
    /* Not ours, not memory, not anything. */
    CHECK_REFUSED(va_map(a, MAKE_PTE(XEN_FRAME, PTE_KERN)));
    CHECK_REFUSED(va_map(a, MAKE_PTE(XEN_FRAME, PTE_RO)));
    CHECK_REFUSED(va_map(a, MAKE_PTE(0xfee00, PTE_KERN))); /* the local APIC */
    CHECK_REFUSED(va_map(a, MAKE_PTE(0xfffffffffUL, PTE_KERN)));
    CHECK_EQ(pte_get(a), old);
    /* The IO-APIC: refused, or mapped read-only whatever was asked. */
    if (va_map(a, MAKE_PTE(0xfec00, PTE_KERN)) == 0)
        CHECK_EQ(pte_get(a) & PTE_RW, 0);
    CHECK_EQ(va_map(a, old), 0);
    /* Not present: any bits are the guest's own. */
    CHECK_EQ(va_map(a, 0xfedcba9876543210UL & ~PTE_P), 0);
    CHECK_EQ(pte_get(a), 0xfedcba9876543210UL & ~PTE_P);
    CHECK(!try_read(a, &v));
    CHECK_EQ(va_map(a, old), 0);
    /* The guest's own bits of a present entry survive. */
    CHECK_EQ(va_map(a, (old & ~PTE_G) | 0x200), 0);
    CHECK_EQ(pte_get(a) & 0x200, 0x200);
    CHECK_EQ(va_map(a, old), 0);
    /* Device memory: domain 0 may map what no one else owns. */
    CHECK_EQ(va_map(a, MAKE_PTE(0xb8, PTE_KERN | PTE_PCD | PTE_PWT)), 0);
    CHECK(try_read(a, &v));
    CHECK_EQ(va_map(a, old), 0);
    table_free(l1);
    page_free(a);
}

static void upper_levels(void)
{
    uint64_t *l1 = table_alloc(), *l2 = table_alloc(), *l3 = table_alloc(), *page = page_alloc();

    section("refused upper entries");
    CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(l1)), 0);
    CHECK_EQ(mmuext(MMUEXT_PIN_L2_TABLE, mfn_of(l2)), 0);
    CHECK_EQ(mmuext(MMUEXT_PIN_L3_TABLE, mfn_of(l3)), 0);
    CHECK_REFUSED(table_link(l2, 0, l2)); /* itself, one level too high */
    CHECK_REFUSED(table_link(l2, 0, l3));
    CHECK_REFUSED(table_link(l3, 0, l1));
    CHECK_REFUSED(table_link(l3, 0, l3));
    CHECK_REFUSED(table_link(L4, 100, l1));
    CHECK_REFUSED(table_link(L4, 100, l2));
    CHECK_REFUSED(table_link(l2, 0, page)); /* mapped writable */
    CHECK_REFUSED(table_set(l2, 0, MAKE_PTE(XEN_FRAME, PTE_TABLE)));
    CHECK_REFUSED(table_set(l2, 0, MAKE_PTE(0xfffffffffUL, PTE_TABLE)));
    CHECK_REFUSED(table_set(l2, 0, MAKE_PTE(0xb8, PTE_TABLE))); /* device memory as a table */
    CHECK_REFUSED(table_set(l2, 0, MAKE_PTE(mfn_of(page) & ~511UL, PTE_KERN | PTE_PS)));
    CHECK_REFUSED(table_set(l3, 0, MAKE_PTE(0, PTE_KERN | PTE_PS)));
    CHECK_REFUSED(table_set(L4, 100, MAKE_PTE(mfn_of(l3), PTE_TABLE | PTE_PS)));
    CHECK_EQ(l2[0], 0);
    CHECK_EQ(l3[0], 0);
    CHECK_EQ(L4[100], 0);

    section("the hypervisor's slots");
    for (unsigned i = 256; i < 272; i++)
        if (table_link(L4, i, l3) >= 0 || table_set(L4, i, 0) >= 0)
            CHECK(!"a slot of the hypervisor's was written");
    CHECK_REFUSED(HC(update_va_mapping, HYPERVISOR_VIRT_START, 0, 0));
    CHECK_REFUSED(HC(update_va_mapping, BAD_HYPERVISOR, pte_get(page), 0));
    CHECK_REFUSED(HC(update_va_mapping, HYPERVISOR_VIRT_END - PAGE_SIZE, 0, 0));
    CHECK_REFUSED(HC(update_va_mapping, BAD_UNMAPPED, pte_get(page), 0)); /* no table there */
    CHECK_REFUSED(HC(update_va_mapping, BAD_NONCANONICAL, pte_get(page), 0));
    /* Slots next to them are ours. */
    CHECK_EQ(table_link(L4, 272, l3), 0);
    CHECK_EQ(table_set(L4, 272, 0), 0);
    CHECK_EQ(table_link(L4, 255, l3), 0);
    CHECK_EQ(table_set(L4, 255, 0), 0);
    /* The slots as a new level 4 table has them are ignored: they are filled in for us. */
    uint64_t *l4 = page_alloc();

    l4[511] = L4[511];
    for (unsigned i = 256; i < 272; i++)
        l4[i] = MAKE_PTE(mfn_of(l3), PTE_TABLE);
    CHECK_EQ(map_ro(l4), 0);
    if (!mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4))) {
        for (unsigned i = 256; i < 272; i++)
            CHECK((l4[i] & PTE_ADDR) >> PAGE_SHIFT != mfn_of(l3));
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4)), 0);
    }
    table_free(l4);
    for (uint64_t **l = (uint64_t *[]){l1, l2, l3, NULL}; *l; l++) {
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(*l)), 0);
        table_free(*l);
    }
    page_free(page);
}

static void self_reference(void)
{
    uint64_t *l4 = page_alloc();

    /*
     * A level 4 table that leads to itself: stock Xen may allow it read-only; Trilby has no linear
     * page tables and refuses. Never writable.
     */
    section("self-referencing tables");
    l4[1] = MAKE_PTE(mfn_of(l4), PTE_P | PTE_RW | PTE_U);
    CHECK_EQ(map_ro(l4), 0);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4)));
    CHECK_EQ(map_rw(l4), 0);
    l4[1] = MAKE_PTE(mfn_of(l4), PTE_P | PTE_U);
    CHECK_EQ(map_ro(l4), 0);
    if (mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4)) == 0) {
        CHECK(!is_trilby());
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4)), 0);
    }
    CHECK_EQ(map_rw(l4), 0);
    page_free(l4);
}

static void wrong_contents(void)
{
    uint64_t *t = page_alloc(), *other = page_alloc();

    section("pins of tables with bad contents");
    for (int level = 1; level <= 4; level++) {
        static const uint64_t bad[] = {
            MAKE_PTE(XEN_FRAME, PTE_TABLE),
            MAKE_PTE(0xfffffffffUL, PTE_TABLE),
            MAKE_PTE(0xfee00, PTE_TABLE),
        };

        for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
            memset(t, 0, PAGE_SIZE);
            t[200] = bad[i];
            t[3] = level == 1 ? MAKE_PTE(mfn_of(other), PTE_KERN) : 0;
            CHECK_EQ(map_ro(t), 0);
            CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + level - 1, mfn_of(t)));
            CHECK_EQ(map_rw(t), 0); /* and all that was taken is given back */
        }
    }
    /* A level 1 table that maps itself writable. */
    memset(t, 0, PAGE_SIZE);
    t[0] = MAKE_PTE(mfn_of(t), PTE_KERN);
    CHECK_EQ(map_ro(t), 0);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(t)));
    CHECK_EQ(map_rw(t), 0);
    memset(t, 0, PAGE_SIZE);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(t))); /* mapped writable by us */
    page_free(t);
    page_free(other);
}

static void arguments(void)
{
    struct mmu_update u = {.ptr = pt_entry_maddr(L4, 1), .val = pte_get(L4)};
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    uint64_t *page = page_alloc();
    unsigned done = 77;

    section("arguments of mmu_update and mmuext_op");
    CHECK_EQ(HC(mmu_update, BAD_UNMAPPED, 1, 0, DOMID_SELF), -XEN_EFAULT);
    CHECK_EQ(HC(mmu_update, BAD_HYPERVISOR, 1, 0, DOMID_SELF), -XEN_EFAULT);
    CHECK_EQ(HC(mmu_update, BAD_NONCANONICAL, 1, 0, DOMID_SELF), -XEN_EFAULT);
    CHECK_REFUSED(HC(mmu_update, -64L, 0x7fffffff, 0, DOMID_SELF));
    CHECK_EQ(HC(mmu_update, &u, 1, 0, 1234), -XEN_ESRCH);
    CHECK_EQ(HC(mmu_update, &u, 1, 0, DOMID_SELF | 1235u << 16), -XEN_ESRCH);
    CHECK_IN(HC(mmu_update, &u, 1, BAD_HYPERVISOR, DOMID_SELF), 0, -XEN_EFAULT); /* it is done */
    u.ptr = ~0UL & ~7UL;
    CHECK_REFUSED(HC(mmu_update, &u, 1, 0, DOMID_SELF));
    u.ptr = XEN_FRAME << PAGE_SHIFT;
    CHECK_REFUSED(HC(mmu_update, &u, 1, 0, DOMID_SELF));
    u.ptr = 0xfee00000;
    CHECK_REFUSED(HC(mmu_update, &u, 1, 0, DOMID_SELF));
    u.ptr = XEN_FRAME << PAGE_SHIFT | MMU_MACHPHYS_UPDATE;
    CHECK_REFUSED(HC(mmu_update, &u, 1, 0, DOMID_SELF));
    u.ptr = (~0UL & ~7UL) | MMU_MACHPHYS_UPDATE;
    CHECK_REFUSED(HC(mmu_update, &u, 1, 0, DOMID_SELF));
    CHECK_EQ(HC(mmuext_op, BAD_UNMAPPED, 1, 0, DOMID_SELF), -XEN_EFAULT);
    CHECK_EQ(HC(mmuext_op, BAD_HYPERVISOR, 1, 0, DOMID_SELF), -XEN_EFAULT);
    CHECK_EQ(HC(mmuext_op, &op, 1, 0, 1234), -XEN_ESRCH);
    CHECK_EQ(HC(mmuext_op, &op, 1, &done, DOMID_SELF), 0);
    CHECK_EQ(done, 1);
    CHECK_EQ(HC(mmuext_op, &op, 0, &done, DOMID_SELF), 0);
    op.cmd = 99;
    CHECK_EQ(HC(mmuext_op, &op, 1, &done, DOMID_SELF), -XEN_ENOSYS);
    CHECK_EQ(done, 0);
    op.cmd = 14;
    CHECK_EQ(HC(mmuext_op, &op, 1, 0, DOMID_SELF), -XEN_ENOSYS);
    CHECK_REFUSED(mmuext(MMUEXT_MARK_SUPER, mfn_of(page)));
    CHECK_REFUSED(mmuext(MMUEXT_UNMARK_SUPER, mfn_of(page)));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, ~0UL));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L4_TABLE, 0xfffffffffUL));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, XEN_FRAME));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L2_TABLE, 0xfee00));
    CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, ~0UL));
    CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, XEN_FRAME));
    CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page)));
    /* The shared info page is ours to map, not to make a table of, nor to pin. */
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, start_info->shared_info >> PAGE_SHIFT));
    page_free(page);
}

void table_refusals(void)
{
    level1();
    upper_levels();
    self_reference();
    wrong_contents();
    arguments();
}
