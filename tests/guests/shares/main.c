/*
 * Shares on the machine as in the simulation: small domains that compute, in the mixes of
 * tests/sim/mixes.h, and what each has run after a while; then this domain wakes every millisecond
 * beside them. Time is counted in instructions, so a busy host changes nothing.
 * QEMU: -smp 1 -icount shift=5,sleep=off
 */
#include "../../sim/mixes.h"
#include "guest.h"
#include <xen/domctl.h>

const char test_name[] = "shares";

#define MS        1000000UL
#define TOLERANCE 200 /* of 10,000 */
#define WAKES     300

/* Pages of a child, by pfn: 0 its code, 1-4 page tables from level 4 down. */
#define CHILD_PAGES 5
#define CHILD_BASE  0xffffffff80000000UL
#define L4_PFN      1

static struct xen_domctl dc;

static long domctl(uint32_t cmd, uint16_t domain)
{
    dc.cmd = cmd;
    dc.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    dc.domain = domain;
    return HC(domctl, &dc);
}

static void sleep_until(uint64_t when)
{
    struct sched_poll p = {.nr_ports = 0, .timeout = when};

    HC(sched_op, SCHEDOP_poll, &p);
}

static void *map_foreign(uint16_t id, xen_pfn_t mfn)
{
    void *at = page_alloc();

    CHECK_EQ(HC(update_va_mapping_otherdomain, at, MAKE_PTE(mfn, PTE_KERN), UVMF_INVLPG, id), 0);
    return at;
}

static void unmap_foreign(void *at)
{
    CHECK_EQ(map_rw(at), 0);
    page_free(at);
}

static void set_context(uint16_t id, xen_pfn_t l4)
{
    static struct vcpu_guest_context ctx;

    memset(&ctx, 0, sizeof(ctx));
    ctx.flags = VGCF_IN_KERNEL | VGCF_online;
    ctx.user_regs.rip = CHILD_BASE;
    ctx.user_regs.rsp = CHILD_BASE + PAGE_SIZE;
    ctx.user_regs.cs = FLAT_KERNEL_CS;
    ctx.user_regs.ss = FLAT_KERNEL_SS;
    ctx.user_regs.rflags = 0x200;
    ctx.kernel_ss = FLAT_KERNEL_SS;
    ctx.kernel_sp = ctx.user_regs.rsp;
    ctx.ctrlreg[3] = xen_pfn_to_cr3(l4);
    memset(&dc, 0, sizeof(dc));
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_EQ(domctl(XEN_DOMCTL_setvcpucontext, id), 0);
}

/* A domain of one vCPU that jumps to itself, paused; 0 when that failed. */
static uint16_t build(void)
{
    xen_pfn_t mfn[CHILD_PAGES];
    struct xen_memory_reservation r = {.nr_extents = CHILD_PAGES};

    memset(&dc, 0, sizeof(dc));
    dc.u.createdomain = (struct xen_domctl_createdomain){
        .handle = {1},
        .max_vcpus = 1,
        .max_evtchn_port = 1023,
        .max_grant_frames = 4,
        .max_maptrack_frames = 4,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
    };
    CHECK_EQ(domctl(XEN_DOMCTL_createdomain, 0), 0);
    uint16_t id = dc.domain;

    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 4 * (CHILD_PAGES + 16);
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, id), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, id), 0);
    for (unsigned i = 0; i < CHILD_PAGES; i++)
        mfn[i] = i;
    r.domid = id;
    r.extent_start.p = mfn;
    if (HC(memory_op, XENMEM_populate_physmap, &r) != CHILD_PAGES) {
        CHECK(!"the child has its pages");
        return 0;
    }
    uint8_t *code = map_foreign(id, mfn[0]);

    memset(code, 0x90, 120);           /* 1: nops; many, as emulation is slow from jump to jump */
    memcpy(code + 120, "\xeb\x86", 2); /* jmp 1b */
    unmap_foreign(code);
    for (unsigned level = 4; level >= 1; level--) {
        uint64_t *table = map_foreign(id, mfn[L4_PFN + 4 - level]);

        if (level > 1)
            table[(CHILD_BASE >> (12 + 9 * (level - 1))) & 511] =
                MAKE_PTE(mfn[L4_PFN + 5 - level], PTE_TABLE);
        else
            table[0] = MAKE_PTE(mfn[0], PTE_KERN);
        unmap_foreign(table);
    }
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = mfn[L4_PFN]};

    CHECK_EQ(HC(mmuext_op, &pin, 1, 0, id), 0);
    set_context(id, mfn[L4_PFN]);
    return id;
}

static void set_up(uint16_t id, const struct mix_domain *m)
{
    uint8_t mask = (uint8_t)m->cpus;

    memset(&dc, 0, sizeof(dc));
    dc.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    dc.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_putinfo;
    dc.u.scheduler_op.u.credit2.weight = (uint16_t)m->weight;
    dc.u.scheduler_op.u.credit2.cap = (uint16_t)m->cap;
    CHECK_EQ(domctl(XEN_DOMCTL_scheduler_op, id), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    dc.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    dc.u.vcpuaffinity.cpumap_hard.bitmap.p = &mask;
    CHECK_EQ(domctl(XEN_DOMCTL_setvcpuaffinity, id), 0);
}

static uint64_t cpu_time(uint16_t id)
{
    memset(&dc, 0, sizeof(dc));
    CHECK_EQ(domctl(XEN_DOMCTL_getdomaininfo, id), 0);
    return dc.u.getdomaininfo.cpu_time;
}

static void check_share(const struct mix_domain *m, uint64_t ran, uint64_t wall)
{
    uint64_t share = ran * 10000 / wall;

    print("  weight %u, cap %u: %lu of 10000, should be %u\n", m->weight, m->cap, share, m->share);
    CHECK(share + TOLERANCE >= m->share && share <= m->share + TOLERANCE);
}

static void run_mix(const uint16_t *id, const struct mix *m)
{
    uint64_t before[MIX_DOMAINS], ran[MIX_DOMAINS], began, wall;

    section(m->name);
    for (unsigned i = 0; i < MIX_DOMAINS && m->domain[i].weight; i++) {
        set_up(id[i], &m->domain[i]);
        CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, id[i]), 0);
    }
    sleep_until(time_now() + 200 * MS);
    began = time_now();
    for (unsigned i = 0; i < MIX_DOMAINS && m->domain[i].weight; i++)
        before[i] = cpu_time(id[i]);
    sleep_until(began + 1500 * MS);
    wall = time_now() - began;
    for (unsigned i = 0; i < MIX_DOMAINS && m->domain[i].weight; i++)
        ran[i] = cpu_time(id[i]) - before[i];
    for (unsigned i = 0; i < MIX_DOMAINS && m->domain[i].weight; i++) {
        check_share(&m->domain[i], ran[i], wall);
        CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, id[i]), 0);
    }
}

/* The CPU wanted by four; this domain wakes many times. */
static void wakes(const uint16_t *id)
{
    static const struct mix_domain hog[MIX_DOMAINS] = {
        {256, 0, 1, 0}, {256, 0, 1, 0}, {256, 0, 1, 0}, {256, 0, 1, 0}};
    uint64_t late = 0, worst = 0, sum = 0;

    section("waking among those that compute");
    for (unsigned i = 0; i < MIX_DOMAINS; i++) {
        set_up(id[i], &hog[i]);
        CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, id[i]), 0);
    }
    sleep_until(time_now() + 100 * MS);
    for (unsigned i = 0; i < WAKES; i++) {
        uint64_t due = time_now() + MS;

        sleep_until(due);
        uint64_t latency = time_now() - due;

        sum += latency;
        late += latency > MS;
        worst = latency > worst ? latency : worst;
    }
    print("  mean %lu us, %lu of %u above 1 ms, worst %lu us\n", sum / WAKES / 1000, late, WAKES,
          worst / 1000);
    CHECK(late <= WAKES / 100);
    CHECK(worst < 12 * MS); /* a slice */
    for (unsigned i = 0; i < MIX_DOMAINS; i++)
        CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, id[i]), 0);
}

void test_main(void)
{
    uint16_t id[MIX_DOMAINS];

    event_init();
    for (unsigned i = 0; i < MIX_DOMAINS; i++) {
        id[i] = build();
        if (!id[i])
            return;
    }
    for (unsigned i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++)
        if (mixes[i].cpus == 1)
            run_mix(id, &mixes[i]);
    wakes(id);
    for (unsigned i = 0; i < MIX_DOMAINS; i++)
        CHECK_EQ(domctl(XEN_DOMCTL_destroydomain, id[i]), 0);
}
