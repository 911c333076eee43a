/*
 * multicall: results of each entry, hypercalls that continue in the middle, entries that fail or
 * do not exist, nesting refused, hostile lists.
 */
#include "guest.h"

const char test_name[] = "multicall";

static struct multicall_entry list[2048];

static void set(unsigned i, unsigned long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    list[i] = (struct multicall_entry){.op = nr, .result = 0x77, .args = {a, b, c, d}};
}

static void plain(void)
{
    uint64_t *page = page_alloc(), *page2 = page_alloc();
    struct xen_feature_info f = {.submap_idx = 0};

    section("results");
    set(0, __HYPERVISOR_xen_version, XENVER_version, 0, 0, 0);
    set(1, __HYPERVISOR_xen_version, XENVER_get_features, (uint64_t)&f, 0, 0);
    set(2, __HYPERVISOR_update_va_mapping, (uint64_t)page, MAKE_PTE(mfn_of(page), PTE_RO),
        UVMF_INVLPG, 0);
    set(3, __HYPERVISOR_sched_op, 99, 0, 0, 0);
    set(4, __HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0, 0);
    set(5, 63, 1, 2, 3, 4);
    set(6, 100000, 1, 2, 3, 4);
    set(7, ~0UL, 1, 2, 3, 4);
    CHECK_EQ(HC(multicall, list, 8), 0);
    CHECK_EQ(list[0].result, 4 << 16 | 17);
    CHECK_EQ(list[1].result, 0);
    CHECK(f.submap != 0);
    CHECK_EQ(list[2].result, 0);
    CHECK(!try_write(page, 1));
    CHECK_EQ(list[3].result, -XEN_ENOSYS);
    CHECK_EQ(list[4].result, 0);
    CHECK_EQ(list[5].result, -XEN_ENOSYS);
    CHECK_EQ(list[6].result, -XEN_ENOSYS);
    CHECK_EQ(list[7].result, -XEN_ENOSYS);
    CHECK_EQ(map_rw(page), 0);
    CHECK_EQ(HC(multicall, list, 0), 0);
    CHECK_EQ(HC(multicall, BAD_UNMAPPED, 0), 0);
    /* A failing entry does not stop those behind it. */
    set(0, __HYPERVISOR_update_va_mapping, (uint64_t)page, MAKE_PTE(0x200, PTE_KERN), 0, 0);
    set(1, __HYPERVISOR_update_va_mapping, (uint64_t)page2, MAKE_PTE(mfn_of(page2), PTE_RO),
        UVMF_INVLPG, 0);
    CHECK_EQ(HC(multicall, list, 2), 0);
    CHECK_REFUSED(list[0].result);
    CHECK_EQ(list[1].result, 0);
    CHECK(!try_write(page2, 1));
    CHECK_EQ(map_rw(page2), 0);
    page_free(page);
    page_free(page2);
}

static void long_ones(void)
{
    static struct mmu_update updates[512];
    uint64_t *page = page_alloc();
    unsigned done[4] = {0}, good = 0;

    section("long lists and continued entries");
    for (unsigned i = 0; i < 2048; i++)
        set(i, __HYPERVISOR_xen_version, XENVER_version, 0, 0, 0);
    CHECK_EQ(HC(multicall, list, 2048), 0);
    for (unsigned i = 0; i < 2048; i++)
        good += list[i].result == (4 << 16 | 17);
    CHECK_EQ(good, 2048);
    for (unsigned i = 0; i < 512; i++) {
        updates[i].ptr = pt_entry_maddr(page, 1);
        updates[i].val = MAKE_PTE(mfn_of(page), i & 1 ? PTE_KERN : PTE_RO);
    }
    for (int round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 4; i++)
            set(i, __HYPERVISOR_mmu_update, (uint64_t)updates, 512, (uint64_t)&done[i], DOMID_SELF);
        if (HC(multicall, list, 4) || list[0].result || list[3].result || done[2] != 512) {
            CHECK_EQ(list[0].result, 0);
            CHECK_EQ(list[3].result, 0);
            CHECK_EQ(done[2], 512);
            break;
        }
    }
    checks_passed++;
    page_free(page);
}

static void nesting(void)
{
    static struct multicall_entry inner;

    section("nesting and hostile lists");
    inner = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .result = 0x77};
    set(0, __HYPERVISOR_multicall, (uint64_t)&inner, 1, 0, 0);
    set(1, __HYPERVISOR_xen_version, XENVER_version, 0, 0, 0);
    CHECK_IN(HC(multicall, list, 2), 0, -XEN_EINVAL);
    CHECK_EQ(list[0].result, -XEN_EINVAL);
    CHECK_EQ(inner.result, 0x77);
    /* The number has 64 bits: what is none of ours must not become one by losing the upper half.
     * This one would call itself for ever. */
    set(0, 1UL << 32 | __HYPERVISOR_multicall, (uint64_t)list, 1, 0, 0);
    CHECK_EQ(HC(multicall, list, 1), 0);
    CHECK_EQ(list[0].result, -XEN_ENOSYS);
    set(0, 1UL << 32 | __HYPERVISOR_iret, 0, 0, 0, 0);
    CHECK_EQ(HC(multicall, list, 1), 0);
    CHECK_EQ(list[0].result, -XEN_ENOSYS);
    CHECK_EQ(HC(multicall, BAD_UNMAPPED, 1), -XEN_EFAULT);
    CHECK_EQ(HC(multicall, BAD_HYPERVISOR, 1), -XEN_EFAULT);
    CHECK_EQ(HC(multicall, BAD_NONCANONICAL, 1), -XEN_EFAULT);
    CHECK_EQ(HC(multicall, HYPERVISOR_VIRT_START - 32, 1), -XEN_EFAULT);
    /* A list that runs off the end of what is mapped: what stands before is done. */
    uint64_t *page = page_alloc();
    struct multicall_entry *last = (void *)((char *)page + PAGE_SIZE - sizeof(*last));
    uint64_t *hole = page_alloc();

    if ((char *)hole == (char *)page + PAGE_SIZE) {
        *last = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .result = 0x77};
        CHECK_EQ(va_map(hole, 0), 0);
        CHECK_EQ(HC(multicall, last, 2), -XEN_EFAULT);
        CHECK_EQ(last->result, 4 << 16 | 17);
        CHECK_EQ(HC(multicall, last, 0xffffffff), -XEN_EFAULT);
        CHECK_EQ(map_rw(hole), 0);
    }
    page_free(hole);
    /* The list itself is read-only: the result cannot be stored. */
    memset(page, 0, PAGE_SIZE);
    *(struct multicall_entry *)page =
        (struct multicall_entry){.op = __HYPERVISOR_xen_version, .result = 0x77};
    CHECK_EQ(map_ro(page), 0);
    CHECK_EQ(HC(multicall, page, 1), -XEN_EFAULT);
    CHECK_EQ(map_rw(page), 0);
    page_free(page);
}

void test_main(void)
{
    plain();
    long_ones();
    nesting();
}
