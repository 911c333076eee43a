/*
 * Memory populated on demand, of a hardware-virtualized domain as tools make it: frame numbers
 * without pages, a target that brings pages for some, touches from all sides, what is given back,
 * pages that are zero and taken back, a guest that wants more than there is.
 */
#include "control.h"
#include <xen/grant_table.h>
#include <xen/hvm/dm_op.h>
#include <xen/memory.h>
#include <xen/sched.h>

#define LARGE      512
#define MAX_FRAMES 4096
#define FIRST      16   /* of those that the code below touches */
#define FRAMES     2048 /* that its domain has, in large extents */

static struct xen_pod_target pod;

static long target(uint16_t d, uint64_t pages)
{
    pod = (struct xen_pod_target){.domid = d, .target_pages = pages};
    return HC(memory_op, XENMEM_set_pod_target, &pod);
}

long pod_make(uint16_t d, xen_pfn_t gfn, unsigned n, unsigned order)
{
    static xen_pfn_t list[16];
    struct xen_memory_reservation r = {.domid = d,
                                       .nr_extents = n,
                                       .extent_order = order,
                                       .mem_flags = XENMEMF_populate_on_demand};

    for (unsigned i = 0; i < n && i < 16; i++)
        list[i] = gfn + ((xen_pfn_t)i << order);
    r.extent_start.p = list;
    return HC(memory_op, XENMEM_populate_physmap, &r);
}

static long give_back(uint16_t d, xen_pfn_t gfn, unsigned order)
{
    struct xen_memory_reservation r = {.domid = d, .nr_extents = 1, .extent_order = order};

    r.extent_start.p = &gfn;
    return HC(memory_op, XENMEM_decrease_reservation, &r);
}

/* What its memory, its pool and its numbers without pages are. */
static void figures(uint16_t d, uint64_t tot, uint64_t pool, uint64_t entries, int line)
{
    struct xen_domctl_getdomaininfo info = {0};

    pod = (struct xen_pod_target){.domid = d};
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &pod), 0);
    CHECK(domain_info(d, &info));
    check_equal((long)pod.tot_pages, (long)tot, "memory", __FILE__, line);
    check_equal((long)info.tot_pages, (long)tot, "memory by getdomaininfo", __FILE__, line);
    check_equal((long)pod.pod_cache_pages, (long)pool, "pool", __FILE__, line);
    check_equal((long)pod.pod_entries, (long)entries, "entries", __FILE__, line);
    CHECK_EQ(info.paged_pages | info.outstanding_pages, 0);
}
#define FIGURES(d, tot, pool, entries) figures(d, tot, pool, entries, __LINE__)

uint16_t pod_build(uint64_t pages)
{
    struct xen_domctl_createdomain c = plain_config();
    uint16_t d = 0;

    c.max_vcpus = 1;
    c.flags |= XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    c.arch.emulation_flags = XEN_X86_EMU_LAPIC;
    CHECK_EQ(create_with(c, 0, &d), 0);
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.max_mem.max_memkb = MAX_FRAMES * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    dc.u.max_vcpus.max = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, d), 0);
    if (pages)
        CHECK_EQ(target(d, pages), 0);
    return d;
}

/* Code at @p that reads, or increments, a word of each frame up to @end; behind it. */
static uint8_t *each_frame(uint8_t *p, bool write, uint32_t end)
{
    static const uint8_t add[] = {0x81, 0xc7, 0x00, 0x10, 0x00, 0x00}; /* add $0x1000, %edi */

    end <<= PAGE_SHIFT;
    *p++ = write ? 0xff : 0x03; /* incl (%edi), or add (%edi), %eax */
    *p++ = 0x07;
    memcpy(p, add, sizeof(add));
    memcpy(p + 6, "\x81\xff", 2); /* cmp $end, %edi */
    memcpy(p + 8, &end, 4);
    memcpy(p + 12, "\x72\xf0", 2); /* jb back */
    return p + 14;
}

/* Increments from FIRST up to @written, reads up to @end; then halts, or does it again. */
static void start(uint16_t d, uint32_t written, uint32_t end, bool again)
{
    const uint32_t from = FIRST << PAGE_SHIFT, result = HVM_RESULT_AT;
    uint8_t *at = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT), *p = at;

    CHECK(at);
    if (!at)
        return;
    memcpy(p, "\x31\xc0\xbf", 3); /* xor %eax, %eax; mov $from, %edi */
    memcpy(p + 3, &from, 4);
    p += 7;
    if (written)
        p = each_frame(p, true, written);
    if (end > written)
        p = each_frame(p, false, end);
    if (again) {
        p[0] = 0xeb; /* jmp */
        p[1] = (uint8_t)(at - p - 2);
    } else {
        *p++ = 0xa3; /* mov %eax, result; cli; hlt */
        memcpy(p, &result, 4);
        memcpy(p + 4, "\xfa\xf4", 2);
    }
    unmap_gfn(at);
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
}

static void refused(void)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .mem_flags = XENMEMF_populate_on_demand};
    xen_pfn_t at = 0;
    uint64_t before = free_pages();
    uint16_t d = pod_build(0), pv;

    section("populate on demand refused");
    CHECK_EQ(pod_make(d, 0, 1, 5), -XEN_EINVAL);
    CHECK_EQ(pod_make(DOMID_SELF, 0, 1, 0), -XEN_EOPNOTSUPP);
    CHECK_EQ(pod_make(4000, 0, 1, 0), -XEN_ESRCH);
    CHECK_EQ(pod_make(d, 1UL << 40, 1, 0), 0);
    r.domid = d;
    r.extent_start.p = &at;
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), -XEN_EOPNOTSUPP);
    CHECK_EQ(HC(memory_op, XENMEM_increase_reservation, &r), -XEN_EOPNOTSUPP);
    CHECK_EQ(create_with(plain_config(), 0, &pv), 0);
    CHECK_EQ(pod_make(pv, 0, 1, 0), -XEN_EOPNOTSUPP);
    CHECK_EQ(target(pv, 10), -XEN_EINVAL);
    CHECK_EQ(destroy(pv), 0);
    CHECK_EQ(target(4000, 10), -XEN_ESRCH);
    CHECK_EQ(HC(memory_op, XENMEM_set_pod_target, BAD_NONCANONICAL), -XEN_EFAULT);
    CHECK_EQ(HC(memory_op, XENMEM_get_sharing_freed_pages, 0), 0);
    CHECK_EQ(HC(memory_op, XENMEM_get_sharing_shared_pages, 0), 0);
    /* Where something is: nothing is made, not even in part. */
    at = 5;
    CHECK_EQ(populate(d, &at, 1, 0), 1);
    CHECK_EQ(pod_make(d, 0, 1, 9), 0);
    FIGURES(d, 1, 0, 0);
    CHECK_EQ(pod_make(d, LARGE, 1, 9), 1);
    CHECK_EQ(pod_make(d, LARGE, 1, 9), 0);
    CHECK_EQ(pod_make(d, LARGE + 3, 1, 0), 0);
    FIGURES(d, 1, 0, LARGE);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

static void targets(void)
{
    uint64_t before = free_pages();
    uint16_t d = pod_build(600);

    section("its targets");
    FIGURES(d, 600, 600, 0); /* before there are any numbers */
    CHECK(free_pages() <= before - 600);
    CHECK_EQ(pod_make(d, 0, 2, 9), 2);
    CHECK_EQ(pod_make(d, 1 << 18, 1, 18), 1);
    CHECK_EQ(pod_make(d, 2 * LARGE, 3, 0), 3);
    FIGURES(d, 600, 600, 2 * LARGE + (1 << 18) + 3);
    CHECK_EQ(target(d, 1700), 0);
    CHECK_EQ(pod.pod_cache_pages, 1700);
    CHECK_EQ(target(d, MAX_FRAMES + 1), -XEN_E2BIG);
    FIGURES(d, 1700, 1700, 2 * LARGE + (1 << 18) + 3);
    CHECK_EQ(target(d, 100), 0);
    FIGURES(d, 100, 100, 2 * LARGE + (1 << 18) + 3);
    CHECK_EQ(target(d, 0), 0);
    CHECK_EQ(target(d, 50), 0);
    CHECK_EQ(give_back(d, 1 << 18, 18), 1);
    FIGURES(d, 50, 50, 2 * LARGE + 3);
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(give_back(d, i * LARGE, 9), 1);
    FIGURES(d, 3, 3, 3); /* no more pages than numbers */
    CHECK_EQ(give_back(d, 0, 0), 0);
    CHECK_EQ(give_back(d, 2 * LARGE, 0), 1);
    FIGURES(d, 2, 2, 2);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

static bool all_zero(const uint64_t *at)
{
    uint64_t any = 0;

    for (unsigned i = 0; at && i < PAGE_SIZE / 8; i++)
        any |= at[i];
    return at && !any;
}

/* Mapped by us, granted to us, put there by somebody else's call. */
static void touches(bool first)
{
    static uint8_t granted[PAGE_SIZE] __attribute__((aligned(4096)));
    uint64_t before = free_pages();
    uint16_t d = pod_build(LARGE + 10);
    uint64_t *at;

    section("its first touches");
    CHECK_EQ(pod_make(d, 0, 4, 9), 4);
    at = map_gfn(d, 7); /* there is a large page for it */
    CHECK(all_zero(at));
    FIGURES(d, LARGE + 10, 10, 3 * LARGE);
    at[0] = 1;
    unmap_gfn(at);
    CHECK(all_zero(at = map_gfn(d, LARGE + 8))); /* and none for this */
    FIGURES(d, LARGE + 10, 9, 3 * LARGE - 1);
    at[0] = at[511] = ~0UL;
    CHECK_EQ(give_back(d, LARGE + 8, 0), 1); /* we still map it: another comes in its place */
    FIGURES(d, LARGE + 11, 10, 3 * LARGE - 1);
    unmap_gfn(at);
    FIGURES(d, LARGE + 10, 10, 3 * LARGE - 1);
    CHECK(!map_gfn(d, LARGE + 8));
    CHECK(all_zero(at = map_gfn(d, LARGE + 9)));
    at[0] = at[511] = ~0UL;
    unmap_gfn(at);
    CHECK_EQ(give_back(d, LARGE + 9, 0), 1); /* kept ready, */
    FIGURES(d, LARGE + 10, 10, 3 * LARGE - 2);
    for (unsigned i = 10; i < 20; i++) {
        CHECK(all_zero(at = map_gfn(d, LARGE + i))); /* and clear */
        at[100] = i;
        unmap_gfn(at);
    }
    FIGURES(d, LARGE + 10, 0, 3 * LARGE - 12);
    /* Now pages of the large one are taken, but not the one that has something, or is held. */
    uint64_t *held = map_gfn(d, 2);
    CHECK(all_zero(at = map_gfn(d, LARGE + 21)));
    at[0] = 21;
    unmap_gfn(at);
    CHECK(held);
    held[0] = 2;
    unmap_gfn(held);
    CHECK((at = map_gfn(d, 7)) && at[0] == 1);
    unmap_gfn(at);
    CHECK((at = map_gfn(d, 2)) && at[0] == 2);
    unmap_gfn(at);
    CHECK_EQ(target(d, 0), 0); /* all that is not in use goes */
    CHECK_EQ(pod.pod_cache_pages, 0);
    CHECK_EQ(pod.tot_pages, 4 * LARGE - 2 - pod.pod_entries);

    /* Granted to us. */
    xen_pfn_t frame = 0;
    struct xen_mem_acquire_resource r = {
        .domid = d, .type = XENMEM_resource_grant_table, .nr_frames = 1};
    r.frame_list.p = &frame;
    CHECK_EQ(HC(memory_op, XENMEM_acquire_resource, &r), 0);
    struct mmu_update u = {.ptr = pt_entry_maddr(granted, 1) | MMU_PT_UPDATE_NO_TRANSLATE,
                           .val = MAKE_PTE(frame, PTE_KERN)};
    CHECK_EQ(HC(mmu_update, &u, 1, 0, d), 0);
    asm volatile("invlpg (%0)" ::"r"(granted) : "memory");
    volatile struct grant_entry_v1 *e = (void *)granted;
    e[9].frame = 3 * LARGE + 1;
    e[9].domid = 0;
    e[9].flags = GTF_permit_access;
    CHECK_EQ(map_rw(granted), 0);
    void *window = page_alloc();
    CHECK_EQ(va_map(window, 0), 0);
    CHECK_EQ(target(d, LARGE + 20), 0);
    struct gnttab_map_grant_ref m = {
        .host_addr = (uint64_t)window, .flags = GNTMAP_host_map, .ref = 9, .dom = d};
    CHECK_EQ(HC(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(all_zero(window));
    struct gnttab_unmap_grant_ref un = {.host_addr = (uint64_t)window, .handle = m.handle};
    CHECK_EQ(HC(grant_table_op, GNTTABOP_unmap_grant_ref, &un, 1), 0);
    CHECK_EQ(map_rw(window), 0);
    page_free(window);
    CHECK_EQ(destroy(d), 0);
    if (first) /* our own table of mappings may have grown */
        nap(100000000);
    else
        check_free(before, __FILE__, __LINE__);
}

/* A guest that runs. */
static void zero_pages(void)
{
    uint64_t before = free_pages();
    uint16_t d = pod_build(64);

    section("more touched than there is, all zero");
    CHECK_EQ(pod_make(d, 0, FRAMES / LARGE, 9), FRAMES / LARGE);
    start(d, 0, FRAMES, false);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_poweroff);
    uint32_t *at = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);
    CHECK(at && at[0] == 0);
    unmap_gfn(at);
    pod.domid = d;
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &pod), 0);
    CHECK_EQ(pod.tot_pages, 64);
    CHECK_EQ(pod.tot_pages - pod.pod_cache_pages + pod.pod_entries, FRAMES);
    /* It has run: a lower target waits for what it gives back. */
    uint64_t pool = pod.pod_cache_pages;
    CHECK_EQ(target(d, 1), 0);
    CHECK_EQ(pod.pod_cache_pages, pool);
    CHECK_EQ(target(d, 80), 0);
    CHECK_EQ(pod.pod_cache_pages, pool + 16);
    for (unsigned i = 0; i < FRAMES - 32; i++)
        CHECK_EQ(give_back(d, FRAMES - 1 - i, 0), 1);
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &pod), 0);
    CHECK_EQ(pod.tot_pages, 32); /* all that it still has numbers for has its page */
    CHECK_EQ(pod.pod_cache_pages, pod.pod_entries);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

static void too_much(void)
{
    uint64_t before = free_pages();
    uint16_t d = pod_build(64);

    section("more used than there is");
    CHECK_EQ(pod_make(d, 0, FRAMES / LARGE, 9), FRAMES / LARGE);
    start(d, FRAMES, FRAMES, false);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_crash);
    FIGURES(d, 64, 0, FRAMES - 64);
    CHECK(!map_gfn(d, FRAMES - 1)); /* refused to us, too */
    FIGURES(d, 64, 0, FRAMES - 64);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);

    section("as much as there is");
    d = pod_build(FRAMES);
    CHECK_EQ(pod_make(d, 0, FRAMES / LARGE, 9), FRAMES / LARGE);
    start(d, FRAMES, FRAMES, false);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_poweroff);
    FIGURES(d, FRAMES, 0, 0);
    CHECK_EQ(target(d, FRAMES + 100), 0); /* there is nothing to keep pages ready for */
    FIGURES(d, FRAMES, 0, 0);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

/*
 * All at once: it counts in some frames and reads all others round and round, so that pages are
 * taken back all the time; we look at these, change its target and give back its last ones.
 */
static void churn(void)
{
    const unsigned counters = 16, end = 256;
    uint64_t before = free_pages(), stop = time_now() + 1500000000;
    uint16_t d = pod_build(100);
    unsigned given = 0, looked = 0, not_zero = 0, refusals = 0;
    uint32_t count[16] = {0};

    section("all of that at once");
    CHECK_EQ(pod_make(d, 0, FRAMES / LARGE, 9), FRAMES / LARGE);
    start(d, FIRST + counters, end, true);
    for (unsigned i = 0; time_now() < stop; i++) {
        uint64_t *at = map_gfn(d, FIRST + counters + i * 37 % (end - FIRST - counters));

        looked += at != NULL;
        not_zero += at && !all_zero(at);
        if (at)
            unmap_gfn(at);
        if (i % 8 == 0)
            refusals += target(d, 90 + i % 30) != 0;
        if (i % 8 == 4 && given < 200)
            refusals += give_back(d, FRAMES - 1 - given++, 0) != 1;
    }
    CHECK_EQ(not_zero, 0);
    CHECK_EQ(refusals, 0);
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, d), 0);
    for (unsigned i = 0; i < counters; i++) {
        uint32_t *at = map_gfn(d, FIRST + i);

        count[i] = at ? at[0] : 0;
        if (at)
            unmap_gfn(at);
        /* None is lost: each is what the first is, or one behind. */
        CHECK(count[i] == count[0] || count[i] + 1 == count[0]);
    }
    print("  %u rounds, %u looks\n", count[0], looked);
    CHECK(count[0] > 0 && looked > 10);
    pod.domid = d;
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &pod), 0);
    CHECK_EQ(pod.tot_pages - pod.pod_cache_pages + pod.pod_entries, FRAMES - given);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

void pod_memory(void)
{
    if (!is_trilby()) /* which pages are taken and kept when is not in the ABI */
        return;
    refused();
    targets();
    touches(true);
    touches(false);
    zero_pages();
    too_much();
    churn();
}
