/*
 * memory_op: how much memory we have, giving some back, getting some, exchanging it; the host's
 * and our own memory maps; what is refused.
 */
#include "guest.h"
#include "memory.h"

static xen_pfn_t list[512], list2[512];

static struct xen_memory_reservation extents(void *p, unsigned long n, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = DOMID_SELF};

    r.extent_start.p = p;
    return r;
}

static long reservation(unsigned cmd)
{
    struct xen_memory_domain d = {.domid = DOMID_SELF};

    return HC(memory_op, cmd, &d);
}

static void figures(void)
{
    static struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) e820[128];
    struct xen_memory_map map = {.nr_entries = 128};
    struct xen_machphys_mapping m2p = {0};
    struct xen_memory_domain d = {.domid = 1234};
    long n;

    section("figures");
    CHECK_EQ(reservation(XENMEM_current_reservation), start_info->nr_pages);
    CHECK(reservation(XENMEM_maximum_reservation) >= (long)start_info->nr_pages);
    n = reservation(XENMEM_maximum_gpfn);
    print("  maximum gpfn %lx, maximum ram page %lx\n", n,
          HC(memory_op, XENMEM_maximum_ram_page, 0));
    CHECK(n >= 0);
    CHECK(HC(memory_op, XENMEM_maximum_ram_page, 0) > (long)mfn_of(list));
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &d), -XEN_ESRCH);
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(memory_op, XENMEM_machphys_mapping, &m2p), 0);
    CHECK_EQ(m2p.v_start, MACH2PHYS_VIRT_START);
    CHECK(m2p.v_end > m2p.v_start && m2p.v_end <= MACH2PHYS_VIRT_END);
    print("  m2p 0x%lx-0x%lx, max mfn 0x%lx\n", m2p.v_start, m2p.v_end, m2p.max_mfn);
    CHECK(m2p.max_mfn + 1 >= (uint64_t)HC(memory_op, XENMEM_maximum_ram_page, 0));
    struct xen_machphys_mfn_list ml = {.max_extents = 512};

    ml.extent_start.p = list;
    n = HC(memory_op, XENMEM_machphys_mfn_list, &ml);
    if (!is_trilby() || n != -XEN_ENOSYS) { /* Trilby: comes with save (docs/support.md) */
        CHECK_EQ(n, 0);
        CHECK(ml.nr_extents >= 1 && list[0] != 0);
        ml.max_extents = 0;
        CHECK_EQ(HC(memory_op, XENMEM_machphys_mfn_list, &ml), 0);
        CHECK_EQ(ml.nr_extents, 0);
    }

    map.buffer.p = e820;
    CHECK_EQ(HC(memory_op, XENMEM_machine_memory_map, &map), 0);
    CHECK(map.nr_entries >= 2 && map.nr_entries <= 128);
    n = map.nr_entries;
    for (long i = 0, ram = 0; i < n; i++) {
        ram += e820[i].type == 1;
        if (i == n - 1)
            CHECK(ram >= 1);
    }
    map.buffer.p = NULL; /* how many are there? */
    map.nr_entries = 0;
    CHECK_EQ(HC(memory_op, XENMEM_machine_memory_map, &map), 0);
    CHECK_EQ(map.nr_entries, n);
    map.buffer.p = e820;
    map.nr_entries = 1;
    CHECK_EQ(HC(memory_op, XENMEM_machine_memory_map, &map), -XEN_EINVAL); /* too few */
    map.nr_entries = 128;
    map.buffer.p = (void *)BAD_HYPERVISOR;
    CHECK_EQ(HC(memory_op, XENMEM_machine_memory_map, &map), -XEN_EFAULT);
}

static void balloon(void)
{
    long before = reservation(XENMEM_current_reservation);
    struct xen_memory_reservation r;
    uint64_t pfn[64], dirty = 0x5a5a5a5a5a5a5a5a;
    uint64_t *w;

    section("decrease_reservation and populate_physmap");
    for (unsigned i = 0; i < 64; i++) {
        pfn[i] = spare_pfn();
        list[i] = pfn_to_mfn(pfn[i]);
    }
    w = window_map(list[0], PTE_KERN);
    CHECK(w != NULL);
    for (unsigned i = 0; i < 512; i++)
        w[i] = dirty;
    window_unmap(w);
    r = extents(list, 64, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 64);
    CHECK_EQ(reservation(XENMEM_current_reservation), before - 64);
    CHECK(window_map(list[0], PTE_KERN) == NULL); /* no longer ours */
    CHECK(window_map(list[63], PTE_RO) == NULL);
    /* Again: nothing is given back twice. */
    r = extents(list, 64, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 0);
    CHECK_EQ(reservation(XENMEM_current_reservation), before - 64);
    for (unsigned i = 0; i < 64; i++)
        list[i] = pfn[i];
    r = extents(list, 64, 0);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), 64);
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
    for (unsigned i = 0; i < 64; i++) {
        set_p2m(pfn[i], list[i]);
        if (mfn_to_pfn(list[i]) != pfn[i])
            CHECK_EQ(mfn_to_pfn(list[i]), pfn[i]);
        w = window_map(list[i], PTE_KERN);
        if (!w) {
            CHECK(w != NULL);
            continue;
        }
        for (unsigned j = 0; j < 512; j++)
            if (w[j] == dirty) {
                CHECK(!"a page came back with what its last owner wrote");
                break;
            }
        window_unmap(w);
    }
    /* More than the maximum: as many as fit, then no more. */
    long room = reservation(XENMEM_maximum_reservation) - before;

    if (room >= 0 && room < 512) {
        for (unsigned i = 0; i < 512; i++)
            list[i] = 0x100000 + i;
        r = extents(list, 512, 0);
        CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), room);
        r = extents(list, (unsigned long)room, 0);
        CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), room);
        CHECK_EQ(reservation(XENMEM_current_reservation), before);
    }

    section("a page given back while it is mapped, or is a table");
    uint64_t *page = page_alloc(), mfn = mfn_of(page), *table = table_alloc();

    page[0] = 77;
    list[0] = mfn;
    r = extents(list, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 1);
    CHECK_EQ(page[0], 77); /* the mapping keeps it */
    CHECK_EQ(va_map(page, 0), 0);
    CHECK_REFUSED(va_map(page, MAKE_PTE(mfn, PTE_KERN)));
    list[0] = pfn_of(page);
    r = extents(list, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), 1);
    set_p2m(pfn_of(page), list[0]);
    CHECK_EQ(map_rw(page), 0);
    CHECK_IN(page[0], 0, is_trilby() ? 0 : 77); /* stock may give our own back as it was */
    page_free(page);
    CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table)), 0);
    list[0] = mfn_of(table);
    r = extents(list, 1, 0);
    print("  a pinned table given back: %ld\n", HC(memory_op, XENMEM_decrease_reservation, &r));
    CHECK_IN(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(table)), 0, -XEN_EINVAL);
}

static void large_extents(void)
{
    long before = reservation(XENMEM_current_reservation), n;
    uint64_t base = 0;
    struct xen_memory_reservation r;

    section("extents of 2 MiB");
    /* The last aligned 512 spare pages: not one extent of frames, so given back singly. */
    while (!base || base % 512)
        base = spare_pfn();
    for (unsigned i = 0; i < 512; i++)
        list[i] = pfn_to_mfn(base - 512 + i);
    for (unsigned i = 0; i < 512; i++)
        spare_pfn();
    r = extents(list, 512, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 512);
    list[0] = base - 512;
    r = extents(list, 1, 9);
    n = HC(memory_op, XENMEM_populate_physmap, &r);
    CHECK_EQ(n, 1);
    if (n == 1) {
        CHECK_EQ(list[0] % 512, 0);
        for (unsigned i = 0; i < 512; i++)
            if (mfn_to_pfn(list[0] + i) != base - 512 + i) {
                CHECK_EQ(mfn_to_pfn(list[0] + i), base - 512 + i);
                break;
            }
        CHECK_EQ(reservation(XENMEM_current_reservation), before);
        r = extents(list, 1, 9);
        CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 1);
    }
    CHECK_EQ(reservation(XENMEM_current_reservation), before - 512);
    for (unsigned i = 0; i < 512; i++)
        list[i] = base - 512 + i;
    r = extents(list, 512, 0);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), 512);
    for (unsigned i = 0; i < 512; i++)
        set_p2m(base - 512 + i, list[i]);
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
}

static void exchanges(void)
{
    struct xen_memory_exchange x = {.nr_exchanged = 0};
    uint64_t pfn = spare_pfn(), old = pfn_to_mfn(pfn), base;
    long before = reservation(XENMEM_current_reservation);

    section("exchange");
    list[0] = old;
    list2[0] = pfn;
    x.in = extents(list, 1, 0);
    x.out = extents(list2, 1, 0);
    x.out.mem_flags = XENMEMF_address_bits(32);
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), 0);
    CHECK_EQ(x.nr_exchanged, 1);
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
    CHECK_EQ(mfn_to_pfn(list2[0]), pfn);
    CHECK(list2[0] >> 20 == 0);
    CHECK(list2[0] == old || window_map(old, PTE_RO) == NULL);
    set_p2m(pfn, list2[0]);
    /* 512 single frames for one aligned extent, as a driver's contiguous buffer. */
    do
        base = spare_pfn();
    while (base % 512);
    for (unsigned i = 0; i < 512; i++) {
        uint64_t p = base - 1 - i;

        spare_pfn();
        list[i] = pfn_to_mfn(p);
    }
    list2[0] = base - 512;
    x.nr_exchanged = 0;
    x.in = extents(list, 512, 0);
    x.out = extents(list2, 1, 9);
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), 0);
    CHECK_EQ(x.nr_exchanged, 512);
    CHECK_EQ(list2[0] % 512, 0);
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
    for (unsigned i = 0; i < 512; i++)
        set_p2m(base - 512 + i, list2[0] + i);
    CHECK_EQ(mfn_to_pfn(list2[0] + 511), base - 1);

    section("exchange refusals");
    x.in = extents(list, 1, 0);
    x.out = extents(list2, 2, 0);
    x.nr_exchanged = 0;
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), -XEN_EINVAL);
    x.out = extents(list2, 1, 0);
    x.nr_exchanged = 2;
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), -XEN_EINVAL);
    x.nr_exchanged = 0;
    x.in.domid = 1234;
    CHECK_REFUSED(HC(memory_op, XENMEM_exchange, &x));
    x.out.domid = 1234;
    CHECK_REFUSED(HC(memory_op, XENMEM_exchange, &x));
    x.in = extents((void *)BAD_HYPERVISOR, 1, 0);
    x.out = extents(list2, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), -XEN_EFAULT);
    x.in = extents(list, 1, 0);
    x.out = extents((void *)BAD_HYPERVISOR, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_exchange, &x), -XEN_EFAULT);
    x.in = extents(list, 1, 60);
    x.out = extents(list2, 1, 60);
    CHECK_REFUSED(HC(memory_op, XENMEM_exchange, &x));
    x.in = extents(list, ~0UL, 0);
    x.out = extents(list2, ~0UL, 0);
    CHECK_REFUSED(HC(memory_op, XENMEM_exchange, &x));
    list[0] = 0x200; /* the hypervisor's frame */
    list2[0] = pfn;
    x.in = extents(list, 1, 0);
    x.out = extents(list2, 1, 0);
    x.nr_exchanged = 0;
    CHECK_REFUSED(HC(memory_op, XENMEM_exchange, &x));
    CHECK_EQ(x.nr_exchanged, 0);
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
}

static void refusals(void)
{
    struct xen_memory_reservation r;
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info};
    long before = reservation(XENMEM_current_reservation);

    section("memory_op refusals");
    list[0] = 0x200;
    r = extents(list, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 0);
    list[0] = ~0UL;
    r = extents(list, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 0);
    list[0] = start_info->shared_info >> PAGE_SHIFT;
    r = extents(list, 1, 0);
    CHECK_IN(HC(memory_op, XENMEM_decrease_reservation, &r), 0, 1); /* stock says 1 */
    shared()->arch.nmi_reason = 0;
    CHECK_EQ(HC(memory_op, XENMEM_maximum_ram_page, 0) > 0, 1); /* and both live on */
    /* None done of so many: 0, not an errno, is the ABI's answer. */
    r = extents((void *)BAD_UNMAPPED, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 0);
    r = extents((void *)BAD_HYPERVISOR, 1, 0);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), 0);
    r = extents(list, ~0UL, 0);
    CHECK_IN(HC(memory_op, XENMEM_decrease_reservation, &r), 0, -XEN_EINVAL);
    r = extents(list, 1, 63);
    CHECK(HC(memory_op, XENMEM_populate_physmap, &r) <= 0);
    r = extents(list, 1, 30);
    CHECK(HC(memory_op, XENMEM_decrease_reservation, &r) <= 0);
    r = extents(list, 1, 0);
    r.domid = 1234;
    CHECK_IN(HC(memory_op, XENMEM_decrease_reservation, &r), 0, -XEN_ESRCH);
    CHECK_IN(HC(memory_op, XENMEM_decrease_reservation, BAD_UNMAPPED), 0, -XEN_EFAULT);
    CHECK_IN(HC(memory_op, XENMEM_populate_physmap, BAD_NONCANONICAL), 0, -XEN_EFAULT);
    CHECK_EQ(HC(memory_op, XENMEM_exchange, BAD_HYPERVISOR), -XEN_EFAULT);
    CHECK_REFUSED(HC(memory_op, XENMEM_add_to_physmap, &add));
    CHECK_EQ(HC(memory_op, 63, &r), -XEN_ENOSYS);
    CHECK_REFUSED(HC(memory_op, 8, &r)); /* removed from the ABI */
    CHECK_EQ(reservation(XENMEM_current_reservation), before);
    r = extents(NULL, 1, 1);
    CHECK_EQ(HC(memory_op, XENMEM_claim_pages, &r), -XEN_EINVAL); /* order must be 0 */
}

void reservations(void)
{
    figures();
    balloon();
    large_extents();
    exchanges();
    refusals();
}
