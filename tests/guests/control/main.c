/*
 * The control interface as domain 0 (xen/domctl.h, xen/sysctl.h): a domain from creation to death,
 * its limits and figures, every page given back; then domains that run (child.c) and what they may
 * not do; what is refused.
 */
#include "control.h"

const char test_name[] = "control";

/*
 * Pages come back when the last one who could use them has passed by: some milliseconds. Stock's
 * heap keeps some for itself, a different number each time: there only most of them must be back.
 */
void check_free(uint64_t want, const char *file, int line)
{
    uint64_t got = 0, slack = is_trilby() ? 0 : 128;

    for (int i = 0; i < 200; i++) {
        got = free_pages();
        if (got + slack >= want && got <= want + slack) {
            checks_passed++;
            return;
        }
        nap(10000000);
    }
    check_equal((long)got, (long)want, "free pages, to the page", file, line);
}

bool domain_info(uint16_t d, struct xen_domctl_getdomaininfo *info)
{
    memset(&dc, 0, sizeof(dc));
    if (domctl(XEN_DOMCTL_getdomaininfo, d) || dc.domain != d)
        return false;
    *info = dc.u.getdomaininfo;
    return true;
}

long create_with(struct xen_domctl_createdomain c, uint16_t wanted, uint16_t *id)
{
    long ret;

    memset(&dc, 0, sizeof(dc));
    dc.u.createdomain = c;
    ret = domctl(XEN_DOMCTL_createdomain, wanted);
    *id = dc.domain;
    return ret;
}

struct xen_domctl_createdomain plain_config(void)
{
    return (struct xen_domctl_createdomain){
        .handle = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
        .max_vcpus = 2,
        .max_evtchn_port = 1023,
        .max_grant_frames = 4,
        .max_maptrack_frames = 4,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
    };
}

long destroy(uint16_t d)
{
    memset(&dc, 0, sizeof(dc));
    return domctl(XEN_DOMCTL_destroydomain, d);
}

long populate(uint16_t d, xen_pfn_t *list, unsigned long n, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = d};

    r.extent_start.p = list;
    return HC(memory_op, XENMEM_populate_physmap, &r);
}

static void life(void)
{
    static xen_pfn_t list[256];
    struct xen_domctl_getdomaininfo info;
    struct xen_memory_reservation r;
    uint64_t before = free_pages();
    uint16_t d;

    section("a domain from creation to death");
    CHECK(before > 1000);
    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    print("  domain %u\n", d);
    CHECK(d > 0 && d < DOMID_FIRST_RESERVED);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.domain, d);
    CHECK_EQ(info.flags & XEN_DOMINF_paused, XEN_DOMINF_paused);
    CHECK_EQ(info.flags & (XEN_DOMINF_dying | XEN_DOMINF_hvm_guest | XEN_DOMINF_shutdown), 0);
    CHECK_EQ(info.tot_pages, 0);
    CHECK_EQ(info.nr_online_vcpus, 0);
    CHECK_EQ(info.handle[15], 16);
    CHECK_EQ(info.ssidref, 0);
    CHECK_EQ(info.cpupool, 0);

    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 1024;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = 2;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, d), 0);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.max_pages, 256);
    CHECK_EQ(info.max_vcpu_id, 1);
    CHECK_EQ(info.nr_online_vcpus, 0); /* none is up yet */
    for (unsigned i = 0; i < 256; i++)
        list[i] = i;
    CHECK_EQ(populate(d, list, 200, 0), 200);
    CHECK_EQ(mfn_to_pfn(list[7]), 7);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.tot_pages, 200);
    for (unsigned i = 200; i < 256; i++)
        list[i] = i;
    xen_pfn_t first = list[0];

    CHECK_EQ(populate(d, list + 200, 56, 0), 56);
    xen_pfn_t more = 300;

    CHECK_EQ(populate(d, &more, 1, 0), 0); /* the maximum is reached */
    CHECK(free_pages() <= before - 256);
    r = (struct xen_memory_reservation){.nr_extents = 1, .domid = d};
    r.extent_start.p = &first;
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), 1);
    struct xen_memory_domain md = {.domid = d};

    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &md), 255);
    CHECK_EQ(HC(memory_op, XENMEM_maximum_reservation, &md), 256);

    /* Pause counts; unpausing what is not paused is refused. */
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, d), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(domain_info(d, &info));
    CHECK_EQ(destroy(d), 0);
    CHECK(!domain_info(d, &info) || info.flags & XEN_DOMINF_dying);
    check_free(before, __FILE__, __LINE__);
    CHECK(!domain_info(d, &info));
    CHECK_REFUSED(destroy(d));
}

static void foreign(void)
{
    uint64_t before = free_pages();
    uint64_t *at = page_alloc(), own = pte_get(at), v;
    struct xen_domctl_getdomaininfo info;
    xen_pfn_t list[2] = {0, 1};
    uint16_t d;

    section("its memory, mapped by us");
    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 64;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    CHECK_EQ(populate(d, list, 2, 0), 2);
    CHECK_REFUSED(va_map(at, MAKE_PTE(list[0], PTE_KERN))); /* not ours */
    CHECK_EQ(HC(update_va_mapping_otherdomain, at, MAKE_PTE(list[0], PTE_KERN), UVMF_INVLPG, d), 0);
    CHECK_EQ(at[0] | at[511], 0); /* new memory is zero */
    CHECK(try_write(at, 0x1234));
    CHECK_REFUSED(HC(update_va_mapping_otherdomain, at, own, UVMF_INVLPG, d)); /* ours, not its */
    /* What it gives back stays with us while we map it, and it stays a domain while we do. */
    CHECK_EQ(destroy(d), 0);
    nap(100000000);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.flags & XEN_DOMINF_dying, XEN_DOMINF_dying);
    CHECK(info.tot_pages <= 2);
    CHECK(try_read(at, &v));
    CHECK_EQ(v, 0x1234);
    CHECK_REFUSED(
        HC(update_va_mapping_otherdomain, at, MAKE_PTE(list[1], PTE_KERN), UVMF_INVLPG, d));
    CHECK_EQ(va_map(at, own), 0);
    page_free(at);
    check_free(before, __FILE__, __LINE__);
    CHECK(!domain_info(d, &info));
}

/* A domain with vCPUs and a page. */
static long create_full(uint16_t *id)
{
    xen_pfn_t page = 0;
    long rc = create_with(plain_config(), 0, id);
    if (rc)
        return rc;
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 64;
    domctl(XEN_DOMCTL_max_mem, *id);
    dc.u.max_vcpus.max = 2;
    domctl(XEN_DOMCTL_max_vcpus, *id);
    populate(*id, &page, 1, 0);
    return 0;
}

/* Once nothing waits for a grace period any more. */
static uint64_t settled_pages(void)
{
    uint64_t last = 0, now;

    for (unsigned same = 0; same < 30; last = now) {
        nap(50000000);
        now = free_pages();
        same = now == last ? same + 1 : 0;
    }
    return last;
}

static void many(void)
{
    uint64_t before;
    uint16_t ids[16];
    static struct xen_domctl_getdomaininfo list[32];
    unsigned n = 0;

    section("many at once, and the list of all");
    /* Twice: caches may keep what the first round made them grow to. */
    for (unsigned i = 0; i < 16; i++)
        create_full(&ids[i]);
    for (unsigned i = 0; i < 16; i++)
        destroy(ids[i]);
    before = settled_pages();
    for (unsigned i = 0; i < 16; i++)
        n += create_with(plain_config(), 0, &ids[i]) == 0;
    CHECK_EQ(n, 16);
    memset(&sc, 0, sizeof(sc));
    sc.u.getdomaininfolist.max_domains = 32;
    sc.u.getdomaininfolist.buffer.p = list;
    CHECK_EQ(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
    CHECK_EQ(sc.u.getdomaininfolist.num_domains, 17);
    CHECK_EQ(list[0].domain, 0);
    CHECK_EQ(list[0].tot_pages, start_info->nr_pages);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(list[i + 1].domain, ids[i]);
    sc.u.getdomaininfolist.first_domain = ids[8];
    sc.u.getdomaininfolist.max_domains = 2;
    CHECK_EQ(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
    CHECK_EQ(sc.u.getdomaininfolist.num_domains, 2);
    CHECK_EQ(list[0].domain, ids[8]);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(destroy(ids[i]), 0);
    check_free(before, __FILE__, __LINE__);
    /*
     * And over and over: nothing is lost on the way, once caches have what they keep. How much that
     * is depends on how many dead ones wait for their grace period at once.
     */
    for (unsigned round = 0; round < 8; round++) {
        before = settled_pages();
        for (unsigned i = 0; i < 30 && !create_full(&ids[0]); i++)
            destroy(ids[0]);
        if (settled_pages() == before)
            break;
    }
    check_free(before, __FILE__, __LINE__);
}

static void refusals(void)
{
    struct xen_domctl_createdomain c;
    uint64_t before = free_pages();
    uint16_t d, e;

    section("domctl refusals");
    CHECK_EQ(create_with(plain_config(), 77, &d), 0); /* a number of our choice */
    CHECK_EQ(d, 77);
    CHECK_EQ(create_with(plain_config(), 77, &e), -XEN_EEXIST);
    CHECK_EQ(destroy(77), 0);
    check_free(before, __FILE__, __LINE__);
#define REFUSED_WITH(field, value)                                                                 \
    do {                                                                                           \
        c = plain_config();                                                                        \
        c.field = (value);                                                                         \
        long made = create_with(c, 0, &e);                                                         \
        check_refused(made, #field " = " #value, __FILE__, __LINE__);                              \
        if (!made)                                                                                 \
            destroy(e);                                                                            \
    } while (0)
    REFUSED_WITH(max_vcpus, 0);
    REFUSED_WITH(max_vcpus, 1u << 30);
    REFUSED_WITH(flags, 1u << 31);
    REFUSED_WITH(flags, XEN_DOMCTL_CDF_hap); /* of PV guests, no */
    REFUSED_WITH(iommu_opts, 1u << 31);
    REFUSED_WITH(arch.emulation_flags, XEN_X86_EMU_LAPIC); /* nor this */
    REFUSED_WITH(arch.emulation_flags, ~0u);
    REFUSED_WITH(arch.misc_flags, ~0u);
    REFUSED_WITH(cpupool_id, 12345);
    REFUSED_WITH(grant_opts, 0xff);
    REFUSED_WITH(max_grant_frames, 0x7fffffff);
    check_free(before, __FILE__, __LINE__);
    CHECK_EQ(destroy(1234), -XEN_ESRCH);
    CHECK_REFUSED(destroy(0)); /* ourselves */
    CHECK_REFUSED(destroy(DOMID_SELF));
    CHECK_REFUSED(destroy(DOMID_XEN));
    CHECK_REFUSED(destroy(DOMID_IO));
    CHECK_REFUSED(destroy(DOMID_IDLE));
    CHECK_REFUSED(domctl(XEN_DOMCTL_pausedomain, 0));
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, 1234), -XEN_ESRCH);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, 1234), -XEN_ESRCH);
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, 1234), -XEN_ESRCH);
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, 1234), -XEN_ESRCH);
    CHECK_EQ(domctl(9999, 0), -XEN_ENOSYS);
    dc.cmd = XEN_DOMCTL_getdomaininfo;
    dc.interface_version = XEN_DOMCTL_INTERFACE_VERSION - 1;
    CHECK_EQ(HC(domctl, &dc), -XEN_EACCES);
    dc.interface_version = 0;
    CHECK_EQ(HC(domctl, &dc), -XEN_EACCES);
    CHECK_EQ(HC(domctl, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(domctl, BAD_HYPERVISOR), -XEN_EFAULT);

    section("max_vcpus and contexts");
    static struct vcpu_guest_context ctx;

    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = 3;
    CHECK_REFUSED(domctl(XEN_DOMCTL_max_vcpus, d)); /* more than at creation */
    dc.u.max_vcpus.max = 0;
    CHECK_REFUSED(domctl(XEN_DOMCTL_max_vcpus, d));
    dc.u.vcpucontext.vcpu = 0;
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_REFUSED(domctl(XEN_DOMCTL_setvcpucontext, d)); /* there is no vCPU yet */
    dc.u.max_vcpus.max = 2;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, d), 0);
    dc.u.vcpucontext.vcpu = 2;
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_REFUSED(domctl(XEN_DOMCTL_setvcpucontext, d));
    dc.u.vcpucontext.vcpu = 0;
    dc.u.vcpucontext.ctxt.p = (void *)BAD_HYPERVISOR;
    CHECK_REFUSED(domctl(XEN_DOMCTL_setvcpucontext, d));
    dc.u.vcpucontext.vcpu = 0;
    dc.u.vcpucontext.ctxt.p = &ctx;
    ctx.ctrlreg[3] = xen_pfn_to_cr3(cr3_mfn()); /* our page table */
    CHECK_REFUSED(domctl(XEN_DOMCTL_setvcpucontext, d));
    CHECK_REFUSED(domctl(XEN_DOMCTL_getvcpucontext, d)); /* never set */
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

static long rate(unsigned cmd, uint32_t us)
{
    memset(&sc, 0, sizeof(sc));
    sc.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    sc.u.scheduler_op.cmd = cmd;
    sc.u.scheduler_op.u.sched_credit2.ratelimit_us = us;
    return sysctl(XEN_SYSCTL_scheduler_op);
}

static void rate_limit(void)
{
    section("rate limit");
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_putinfo, 2000), 0);
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_getinfo, 0), 0);
    CHECK_EQ(sc.u.scheduler_op.u.sched_credit2.ratelimit_us, 2000);
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_putinfo, XEN_SYSCTL_SCHED_RATELIMIT_MIN - 1), -XEN_EINVAL);
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_putinfo, XEN_SYSCTL_SCHED_RATELIMIT_MAX + 1), -XEN_EINVAL);
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_getinfo, 0), 0);
    CHECK_EQ(sc.u.scheduler_op.u.sched_credit2.ratelimit_us, 2000);
    CHECK_EQ(rate(XEN_SYSCTL_SCHEDOP_putinfo, 0), 0);
    CHECK_REFUSED(rate(77, 0));
}

/* Function 0 of device 0 is the host bridge; bus 0xee has nothing. */
static void pci_topology(void)
{
    static struct physdev_pci_device devs[2] = {{0}, {.bus = 0xee}};
    static uint32_t nodes[2];
    section("nodes of PCI devices");
    memset(&sc, 0, sizeof(sc));
    sc.u.pcitopoinfo.num_devs = 2;
    sc.u.pcitopoinfo.devs.p = devs;
    sc.u.pcitopoinfo.nodes.p = nodes;
    CHECK_EQ(sysctl(XEN_SYSCTL_pcitopoinfo), 0);
    CHECK_EQ(sc.u.pcitopoinfo.num_devs, 2);
    if (is_trilby()) /* stock knows only devices that domain 0 has reported */
        CHECK_EQ(nodes[0], 0);
    CHECK_EQ(nodes[1], XEN_INVALID_DEV);
    sc.u.pcitopoinfo.nodes.p = (void *)BAD_HYPERVISOR;
    CHECK_EQ(sysctl(XEN_SYSCTL_pcitopoinfo), -XEN_EFAULT);
    sc.u.pcitopoinfo.nodes.p = NULL;
    CHECK_REFUSED(sysctl(XEN_SYSCTL_pcitopoinfo));
}

static void system_calls(void)
{
    static char text[256];
    static xen_sysctl_cpuinfo_t cpus[16];
    static xen_sysctl_cputopo_t topo[16];

    section("sysctl");
    memset(&sc, 0, sizeof(sc));
    CHECK_EQ(sysctl(XEN_SYSCTL_physinfo), 0);
    print("  %u CPUs, %lu pages, %lu free, capabilities 0x%x\n", sc.u.physinfo.nr_cpus,
          sc.u.physinfo.total_pages, sc.u.physinfo.free_pages, sc.u.physinfo.capabilities);
    CHECK_EQ(sc.u.physinfo.nr_cpus, 2);
    CHECK(sc.u.physinfo.capabilities & XEN_SYSCTL_PHYSCAP_pv);
    CHECK(sc.u.physinfo.capabilities & XEN_SYSCTL_PHYSCAP_gnttab_v1);
    CHECK(sc.u.physinfo.total_pages > 100000 && sc.u.physinfo.total_pages <= 131072);
    CHECK(sc.u.physinfo.free_pages < sc.u.physinfo.total_pages);
    CHECK(sc.u.physinfo.cpu_khz > 1000);
    CHECK_EQ(sc.u.physinfo.nr_nodes, 1);
    CHECK_EQ(sysctl(XEN_SYSCTL_sched_id), 0);
    print("  scheduler %u\n", sc.u.sched_id.sched_id);
    sc.u.availheap.min_bitwidth = sc.u.availheap.max_bitwidth = 0;
    sc.u.availheap.node = -1;
    CHECK_EQ(sysctl(XEN_SYSCTL_availheap), 0);
    CHECK(sc.u.availheap.avail_bytes >= 4096 * 1000);
    memset(&sc, 0, sizeof(sc));
    sc.u.readconsole.buffer.p = text;
    sc.u.readconsole.count = sizeof(text);
    CHECK_EQ(sysctl(XEN_SYSCTL_readconsole), 0);
    CHECK(sc.u.readconsole.count > 0 && sc.u.readconsole.count <= sizeof(text));
    memset(&sc, 0, sizeof(sc));
    sc.u.getcpuinfo.max_cpus = 16;
    sc.u.getcpuinfo.info.p = cpus;
    CHECK_EQ(sysctl(XEN_SYSCTL_getcpuinfo), 0);
    CHECK_EQ(sc.u.getcpuinfo.nr_cpus, 2);
    CHECK(cpus[0].idletime + cpus[1].idletime > 0);
    memset(&sc, 0, sizeof(sc));
    sc.u.cputopoinfo.num_cpus = 16;
    sc.u.cputopoinfo.cputopo.p = topo;
    CHECK_EQ(sysctl(XEN_SYSCTL_cputopoinfo), 0);
    CHECK_EQ(sc.u.cputopoinfo.num_cpus, 2);
    CHECK_EQ(topo[1].node, 0);

    rate_limit();
    pci_topology();

    section("sysctl refusals");
    CHECK_EQ(sysctl(9999), -XEN_ENOSYS);
    sc.cmd = XEN_SYSCTL_physinfo;
    sc.interface_version = 1;
    CHECK_EQ(HC(sysctl, &sc), -XEN_EACCES);
    CHECK_EQ(HC(sysctl, BAD_UNMAPPED), -XEN_EFAULT);
    memset(&sc, 0, sizeof(sc));
    sc.u.readconsole.buffer.p = (void *)BAD_HYPERVISOR;
    sc.u.readconsole.count = 100;
    CHECK_EQ(sysctl(XEN_SYSCTL_readconsole), -XEN_EFAULT);
    memset(&sc, 0, sizeof(sc));
    sc.u.getdomaininfolist.max_domains = 0xffffffff;
    sc.u.getdomaininfolist.buffer.p = (void *)BAD_HYPERVISOR;
    CHECK_EQ(sysctl(XEN_SYSCTL_getdomaininfolist), -XEN_EFAULT);
}

static void claims(void)
{
    struct xen_memory_reservation r = {.nr_extents = 100};
    struct xen_domctl_getdomaininfo info;
    uint64_t before = free_pages();
    uint16_t d;

    section("claims");
    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 4096;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    r.domid = d;
    CHECK_EQ(HC(memory_op, XENMEM_claim_pages, &r), 0);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.outstanding_pages, 100);
    xen_pfn_t list[2] = {0, 1};

    CHECK_EQ(populate(d, list, 2, 0), 2);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.outstanding_pages, 98);
    CHECK_REFUSED(HC(memory_op, XENMEM_claim_pages, &r)); /* one at a time */
    r.nr_extents = 0;
    CHECK_EQ(HC(memory_op, XENMEM_claim_pages, &r), 0);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.outstanding_pages, 0);
    r.nr_extents = free_pages() + 1000;
    CHECK_REFUSED(HC(memory_op, XENMEM_claim_pages, &r));
    r.nr_extents = ~0UL;
    CHECK_REFUSED(HC(memory_op, XENMEM_claim_pages, &r));
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

/* A domain that takes all that is not promised, and then asks for more, again and again. */
static volatile bool enough;
static volatile uint32_t refused;
static uint16_t greedy;

static void take_the_rest(void *arg)
{
    (void)arg;
    while (!enough) {
        xen_pfn_t frame = 0;

        if (populate(greedy, &frame, 1, 9) == 0)
            refused++;
    }
}

/* What is promised to one is there for it while another is being refused. */
static void claim_beside_another(void)
{
    static xen_pfn_t list[64];
    struct xen_memory_reservation r = {0};
    uint64_t before = free_pages(), pages = 8192;
    uint16_t d;

    section("a claim is kept while another domain asks for too much");
    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    CHECK_EQ(create_with(plain_config(), 0, &greedy), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = free_pages() * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, greedy), 0);
    r.domid = d;
    r.nr_extents = free_pages() - 700; /* for the other: one extent of order 9, and less than two */
    CHECK_EQ(HC(memory_op, XENMEM_claim_pages, &r), 0);
    enough = false;
    refused = 0;
    CHECK_EQ(cpu_run(1, take_the_rest, NULL), 0);
    CHECK(wait_change(&refused, 0)); /* the other asks for too much from here on */
    for (uint64_t done = 0; done < pages; done += 64) {
        for (unsigned i = 0; i < 64; i++)
            list[i] = done + i;
        long rc = populate(d, list, 64, 0);

        CHECK_EQ(rc, 64);
        if (rc != 64)
            break;
    }
    enough = true;
    cpu_wait(1);
    CHECK_EQ(destroy(d), 0);
    CHECK_EQ(destroy(greedy), 0);
    check_free(before, __FILE__, __LINE__);
}

static long exchange_one(xen_pfn_t *from, xen_pfn_t *to)
{
    struct xen_memory_exchange x = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF, .extent_start = {from}},
        .out = {.nr_extents = 1, .domid = DOMID_SELF, .extent_start = {to}},
    };
    return HC(memory_op, XENMEM_exchange, &x);
}

/* Frames for frames: neither a ceiling below what the domain has nor others' claims may cost it
 * any. */
static void exchange_at_limits(void)
{
    struct xen_domctl_getdomaininfo own, after;
    struct xen_memory_reservation r = {0};
    uint64_t pfn = spare_pfn(), before = free_pages();
    xen_pfn_t from = pfn_to_mfn(pfn), to = pfn;
    uint16_t d;

    section("exchange at the limits");
    CHECK(domain_info(0, &own));
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = (own.tot_pages - 256) * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, 0), 0);
    CHECK_EQ(exchange_one(&from, &to), 0);
    set_p2m(pfn, to);
    CHECK_EQ(mfn_to_pfn(to), pfn);
    CHECK(domain_info(0, &after));
    CHECK_EQ(after.tot_pages, own.tot_pages);
    CHECK_EQ(after.max_pages, own.tot_pages - 256);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = own.max_pages == ~0UL >> 1 ? ~0UL >> 1 : own.max_pages * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, 0), 0);

    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = free_pages() * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    r.domid = d;
    r.nr_extents = free_pages();
    CHECK_EQ(HC(memory_op, XENMEM_claim_pages, &r), 0);
    from = to;
    to = pfn;
    CHECK_EQ(exchange_one(&from, &to), -XEN_ENOMEM);
    CHECK(domain_info(0, &after));
    CHECK_EQ(after.tot_pages, own.tot_pages);
    void *still = window_map(from, PTE_RO);
    CHECK(still != NULL);
    if (still)
        window_unmap(still);
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

/* A port of a domain that has no vCPU yet. Stock Xen 4.17.7 panics here; only domain 0 can ask. */
static void early_event(void)
{
    struct evtchn_alloc_unbound au = {.remote_dom = 0};
    struct evtchn_bind_interdomain bi = {.local_port = 0};
    uint64_t before = free_pages();
    uint16_t d;

    if (!is_trilby())
        return;
    section("an event for a domain without vCPUs");
    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    au.dom = bi.remote_dom = d;
    if (HC(event_channel_op, EVTCHNOP_alloc_unbound, &au) == 0) {
        bi.remote_port = au.port;
        HC(event_channel_op, EVTCHNOP_bind_interdomain, &bi);
        HC(event_channel_op, EVTCHNOP_send, &(struct evtchn_send){bi.local_port});
        HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){bi.local_port});
    }
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}

void test_main(void)
{
    /* Stock scrubs and settles in the background for a while after boot. */
    nap(500000000);
    life();
    foreign();
    many();
    refusals();
    system_calls();
    claims();
    claim_beside_another();
    exchange_at_limits();
    early_event();
    domctls();
    hardware();
    pod_memory();
    states();
    device_model();
    records();
    rarities();
    children();
    failures();
}
