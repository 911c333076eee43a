/*
 * Our memory as a PV guest sees it: a bootstrap region mapped 1:1 from VIRT_BASE, its page tables
 * readable there, the p2m list of start_info and the hypervisor's m2p to translate.
 * Three sources of pages: a pool within the image (mapped), the pages above the bootstrap region
 * (not mapped), and windows (addresses of the image lent to any frame).
 */
#include "guest.h"

#define POOL_PAGES 512
#define WINDOWS    16

static uint8_t pool[POOL_PAGES][PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t windows[WINDOWS][PAGE_SIZE] __attribute__((aligned(4096)));
static bool window_used[WINDOWS];
static void *free_pages[POOL_PAGES];
static unsigned pool_used, free_count, spare_used;

void *page_alloc(void)
{
    void *p;

    if (free_count)
        p = free_pages[--free_count];
    else if (pool_used < POOL_PAGES)
        p = pool[pool_used++];
    else {
        print("FAIL out of pages\n");
        checks_failed++;
        test_finish();
    }
    memset(p, 0, PAGE_SIZE);
    return p;
}

void page_free(void *p)
{
    free_pages[free_count++] = p;
}

uint64_t spare_pfn(void)
{
    return start_info->nr_pages - 1 - spare_used++;
}

uint64_t pfn_of(const void *va)
{
    return ((uint64_t)va - VIRT_BASE) >> PAGE_SHIFT;
}

uint64_t pfn_to_mfn(uint64_t pfn)
{
    return ((uint64_t *)start_info->mfn_list)[pfn];
}

void set_p2m(uint64_t pfn, uint64_t mfn)
{
    ((uint64_t *)start_info->mfn_list)[pfn] = mfn;
}

uint64_t mfn_of(const void *va)
{
    return pfn_to_mfn(pfn_of(va));
}

uint64_t mfn_to_pfn(uint64_t mfn)
{
    return machine_to_phys_mapping[mfn];
}

void *pfn_to_virt(uint64_t pfn)
{
    return (void *)(VIRT_BASE + (pfn << PAGE_SHIFT));
}

uint64_t cr3_mfn(void)
{
    return mfn_of((void *)start_info->pt_base);
}

uint64_t *pt_entry(const void *va, unsigned level)
{
    uint64_t *table = (uint64_t *)start_info->pt_base;

    for (unsigned l = 4;; l--) {
        uint64_t *e = &table[((uint64_t)va >> (12 + 9 * (l - 1))) & 511];

        if (l == level)
            return e;
        if (!(*e & PTE_P))
            return NULL;
        table = pfn_to_virt(mfn_to_pfn((*e & PTE_ADDR) >> PAGE_SHIFT));
    }
}

uint64_t pt_entry_maddr(const void *va, unsigned level)
{
    uint64_t *e = pt_entry(va, level);

    return (mfn_of(e) << PAGE_SHIFT) | ((uint64_t)e & (PAGE_SIZE - 1));
}

uint64_t pte_get(const void *va)
{
    return *pt_entry(va, 1);
}

long mmu_set(uint64_t maddr, uint64_t value)
{
    struct mmu_update u = {.ptr = maddr, .val = value};

    return HC(mmu_update, &u, 1, 0, DOMID_SELF);
}

long va_map(const void *va, uint64_t pte)
{
    return HC(update_va_mapping, va, pte, UVMF_INVLPG | UVMF_ALL);
}

long map_ro(const void *va)
{
    return va_map(va, MAKE_PTE(mfn_of(va), PTE_RO));
}

long map_rw(const void *va)
{
    return va_map(va, MAKE_PTE(mfn_of(va), PTE_KERN));
}

long mmuext2(unsigned cmd, uint64_t arg1, uint64_t arg2)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = arg1, .arg2.src_mfn = arg2};

    return HC(mmuext_op, &op, 1, 0, DOMID_SELF);
}

long mmuext(unsigned cmd, uint64_t mfn_or_address)
{
    return mmuext2(cmd, mfn_or_address, 0);
}

long map_at(uint64_t va, uint64_t pte)
{
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *e = pt_entry((void *)va, level);
        void *table;
        long ret;

        if (*e & PTE_P)
            continue;
        table = page_alloc();
        ret = map_ro(table);
        if (!ret)
            ret = mmu_set(pt_entry_maddr((void *)va, level), MAKE_PTE(mfn_of(table), PTE_TABLE));
        if (ret)
            return ret;
    }
    return va_map((void *)va, pte);
}

void *window_map(uint64_t mfn, uint64_t flags)
{
    for (unsigned i = 0; i < WINDOWS; i++)
        if (!window_used[i]) {
            if (va_map(windows[i], MAKE_PTE(mfn, flags)))
                return NULL;
            window_used[i] = true;
            return windows[i];
        }
    return NULL;
}

void window_unmap(void *window)
{
    window_used[((uint64_t)window - (uint64_t)windows) / PAGE_SIZE] = false;
    map_rw(window);
}
