/* Page tables: single entries, batches, whole trees, address spaces. */
#include "ops.h"

#define TABLES 64 /* level 1 tables of the tree that is pinned */
#define PAGES  512

static uint8_t area[PAGES][PAGE_SIZE] __attribute__((aligned(4096)));
static uint64_t entry[PAGES], value[PAGES]; /* machine addresses of their entries, and contents */
static struct mmu_update batch[PAGES];

static void area_setup(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        entry[i] = pt_entry_maddr(area[i], 1) | MMU_NORMAL_PT_UPDATE;
        value[i] = pte_get(area[i]);
    }
}

/* @size entries out and in again by one hypercall each. */
static void updates(unsigned n, unsigned size)
{
    for (unsigned call = 0; call < n; call++) {
        for (unsigned i = 0; i < size; i++)
            batch[i] = (struct mmu_update){entry[i], call & 1 ? value[i] : 0};
        MUST(HC(mmu_update, batch, size, 0, DOMID_SELF));
    }
    for (unsigned i = 0; i < size; i++)
        batch[i] = (struct mmu_update){entry[i], value[i]};
    MUST(HC(mmu_update, batch, size, 0, DOMID_SELF));
}

static void update_1(unsigned n)
{
    updates(n, 1);
}

static void update_32(unsigned n)
{
    updates(n, 32);
}

static void update_512(unsigned n)
{
    updates(n, PAGES);
}

static void va_mapping(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        MUST(HC(update_va_mapping, area[0], i & 1 ? value[0] : 0, UVMF_INVLPG));
    MUST(HC(update_va_mapping, area[0], value[0], UVMF_INVLPG));
}

/* As Linux clears and sets entries outside its batches: the writes trap. */
static void trapped_writes(unsigned n)
{
    uint64_t *e = pt_entry(area[0], 1);
    for (unsigned i = 0; i < n; i++) {
        uint64_t none = 0;
        __asm__ volatile("xchgq %1, %0" : "+m"(*e), "+r"(none));
        __asm__ volatile("movq %1, %0" : "=m"(*e) : "r"(value[0]));
    }
}

/* --- pinning a tree of tables --- */

static uint64_t *tree;

/* Tables are read-only mapped while they are tables; so they are filled first. */
static void tree_setup(void)
{
    uint64_t *l3 = page_alloc(), *l2 = page_alloc();
    uint64_t data = mfn_of(area[0]);
    tree = page_alloc();
    for (unsigned t = 0; t < TABLES; t++) {
        uint64_t *l1 = page_alloc();
        for (unsigned i = 0; i < 512; i++)
            l1[i] = MAKE_PTE(data, PTE_RO);
        l2[t] = MAKE_PTE(mfn_of(l1), PTE_TABLE);
        MUST(map_ro(l1));
    }
    l3[0] = MAKE_PTE(mfn_of(l2), PTE_TABLE);
    tree[0] = MAKE_PTE(mfn_of(l3), PTE_TABLE);
    tree[511] = *pt_entry((void *)VIRT_BASE, 4);
    MUST(map_ro(l2));
    MUST(map_ro(l3));
    MUST(map_ro(tree));
}

static void pin(unsigned n)
{
    while (n--) {
        MUST(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(tree)));
        MUST(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(tree)));
    }
}

static void switch_setup(void)
{
    MUST(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(tree)));
}

static void switches(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        MUST(mmuext(MMUEXT_NEW_BASEPTR, i & 1 ? cr3_mfn() : mfn_of(tree)));
    MUST(mmuext(MMUEXT_NEW_BASEPTR, cr3_mfn()));
}

/* --- memory itself --- */

static void balloon(unsigned n)
{
    static xen_pfn_t frames[32];
    static uint64_t pfn[32];
    struct xen_memory_reservation r = {.domid = DOMID_SELF, .nr_extents = 32};
    for (unsigned i = 0; i < 32; i++)
        if (!pfn[i])
            pfn[i] = spare_pfn();
    r.extent_start.p = frames;
    while (n--) {
        for (unsigned i = 0; i < 32; i++)
            frames[i] = pfn_to_mfn(pfn[i]);
        if (HC(memory_op, XENMEM_decrease_reservation, &r) != 32)
            failed("decrease_reservation", 0);
        for (unsigned i = 0; i < 32; i++)
            frames[i] = pfn[i];
        if (HC(memory_op, XENMEM_populate_physmap, &r) != 32)
            failed("populate_physmap", 0);
        for (unsigned i = 0; i < 32; i++)
            set_p2m(pfn[i], frames[i]);
    }
}

const struct op memory_ops[] = {
    {"mmu_update_1", area_setup, update_1, 4000, 1},
    {"mmu_update_32", NULL, update_32, 400, 32},
    {"mmu_update_512", NULL, update_512, 40, 512},
    {"update_va_mapping", NULL, va_mapping, 4000, 1},
    {"pt_write_trapped", NULL, trapped_writes, 2000, 2},
    {"pin_unpin_tree", tree_setup, pin, 10, TABLES * 512},
    {"new_baseptr", switch_setup, switches, 4000, 1},
    {"balloon_page", NULL, balloon, 20, 64},
    {0},
};
