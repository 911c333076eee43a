/*
 * Ordinary domains that attack (child.c): seeded random hypercalls from three vCPUs at once on the
 * same pages, while domain 0 looks on, pauses them, lends them pages and takes them back, and opens
 * and closes ports. Then the audit recounts their references, they are destroyed, and every page is
 * there again.
 *
 * "seed=N", "calls=N" (of each vCPU) and "children=N" on the command line (GUEST_ARGS of
 * tests/guests/run) replay a run; what the vCPUs do is the same each time, not how they interleave.
 * ARGS: guest_loglvl=error
 */
#include "hostile.h"
#include "tools.h"
#include <xen/grant_table.h>

const char test_name[] = "hostile";

#define LENT 8 /* pages, by references from 8 on */

static struct nest *nest;
static uint16_t child;
static volatile struct grant_entry_v1 *table;
static uint8_t *lent[LENT];
extern char image_start[], extable_end[];

static void *map_foreign(uint64_t mfn)
{
    void *at = page_alloc();

    CHECK_EQ(HC(update_va_mapping_otherdomain, at, MAKE_PTE(mfn, PTE_KERN), UVMF_INVLPG, child), 0);
    return at;
}

static void unmap_foreign(void *at)
{
    CHECK_EQ(map_rw(at), 0);
    page_free(at);
}

/* --- building --- */
static xen_pfn_t mfns[MAX_PAGES];
static unsigned pages;

static void create(void)
{
    struct xen_memory_reservation r = {.nr_extents = pages};

    memset(&dc, 0, sizeof(dc));
    dc.u.createdomain = (struct xen_domctl_createdomain){
        .handle = {1},
        .max_vcpus = VCPUS,
        .max_evtchn_port = 1023,
        .max_grant_frames = 4,
        .max_maptrack_frames = 4,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
    };
    child = 0;
    CHECK_EQ(domctl(XEN_DOMCTL_createdomain, child), 0);
    child = dc.domain;
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 4 * (pages + 8);
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, child), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = VCPUS;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, child), 0);
    for (unsigned i = 0; i < pages; i++)
        mfns[i] = i;
    r.domid = child;
    r.extent_start.p = mfns;
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &r), pages);
}

static void fill(void)
{
    unsigned text = (unsigned)pfn_of(image_start);
    uint64_t *p;

    for (unsigned i = TEXT_PFN; i < pages; i++) {
        p = map_foreign(mfns[i]);
        memcpy(p, image_start + (i - TEXT_PFN) * PAGE_SIZE, PAGE_SIZE);
        unmap_foreign(p);
    }
    for (unsigned level = 4; level >= 1; level--) {
        p = map_foreign(mfns[TABLE_PFN + 4 - level]);
        if (level > 1)
            p[(VIRT_BASE >> (12 + 9 * (level - 1))) & 511] =
                MAKE_PTE(mfns[TABLE_PFN + 5 - level], PTE_TABLE);
        else
            for (unsigned i = 0; i < pages; i++)
                p[i < TEXT_PFN ? i : text + i - TEXT_PFN] =
                    MAKE_PTE(mfns[i], i >= TABLE_PFN && i < PLAY_PFN ? PTE_RO : PTE_KERN);
        unmap_foreign(p);
    }
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = mfns[TABLE_PFN]};

    CHECK_EQ(HC(mmuext_op, &pin, 1, 0, child), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.hypercall_init.gmfn =
        mfns[TEXT_PFN + (unsigned)((uint64_t)(hypercall_page - image_start) / PAGE_SIZE)];
    CHECK_EQ(domctl(XEN_DOMCTL_hypercall_init, child), 0);
}

static void contexts(void)
{
    static struct vcpu_guest_context ctx;

    for (unsigned i = 0; i < VCPUS; i++) {
        memset(&ctx, 0, sizeof(ctx));
        ctx.flags = VGCF_IN_KERNEL | VGCF_online;
        ctx.user_regs.rip = (uint64_t)hostile_start;
        ctx.user_regs.rsp = (uint64_t)VA(STACK_PFN + i + 1);
        ctx.user_regs.rdi = i;
        ctx.user_regs.cs = FLAT_KERNEL_CS;
        ctx.user_regs.ss = FLAT_KERNEL_SS;
        ctx.kernel_ss = FLAT_KERNEL_SS;
        ctx.kernel_sp = ctx.user_regs.rsp;
        ctx.ctrlreg[3] = xen_pfn_to_cr3(mfns[TABLE_PFN]);
        memset(&dc, 0, sizeof(dc));
        dc.u.vcpucontext.vcpu = i;
        dc.u.vcpucontext.ctxt.p = &ctx;
        CHECK_EQ(domctl(XEN_DOMCTL_setvcpucontext, child), 0);
    }
}

static void build(uint64_t seed, uint64_t calls, bool wild)
{
    create();
    fill();
    nest = map_foreign(mfns[NEST_PFN]);
    memset(nest, 0, PAGE_SIZE);
    nest->seed = seed;
    nest->calls = calls;
    nest->wild = wild;
    nest->id = child;
    nest->pages = pages;
    for (unsigned i = 0; i < pages; i++)
        nest->mfn[i] = mfns[i];
    contexts();
}

/* --- what domain 0 does meanwhile --- */
static void lend(bool on)
{
    for (unsigned i = 0; i < LENT; i++) {
        table[8 + i].frame = (uint32_t)mfn_of(lent[i]);
        table[8 + i].domid = child;
        if (on)
            __atomic_fetch_or(&table[8 + i].flags, GTF_permit_access | (i & 1 ? GTF_readonly : 0),
                              __ATOMIC_SEQ_CST);
        else
            __atomic_fetch_and(&table[8 + i].flags, GTF_reading | GTF_writing, __ATOMIC_SEQ_CST);
    }
}

static void look(unsigned round)
{
    static struct vcpu_guest_context ctx;
    void *at = page_alloc();

    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, child), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.vcpucontext.vcpu = round % VCPUS;
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_EQ(domctl(XEN_DOMCTL_getvcpucontext, child), 0);
    HC(update_va_mapping_otherdomain, at, MAKE_PTE(mfns[round % pages], PTE_RO), UVMF_INVLPG,
       child);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, child), 0);
    nap(1000000);
    unmap_foreign(at);
}

static void a_port(void)
{
    struct evtchn_alloc_unbound au = {.dom = DOMID_SELF, .remote_dom = child};

    CHECK_EQ(HC(event_channel_op, EVTCHNOP_alloc_unbound, &au), 0);
    nest->port = au.port;
    nap(1000000);
    HC(event_channel_op, EVTCHNOP_send, &(struct evtchn_send){au.port});
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){au.port}), 0);
}

static uint64_t progress(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < VCPUS; i++)
        sum += nest->done[i];
    return sum;
}

/*
 * Until the child has come to its end, has died, or does nothing any more. A tame one has no reason
 * to stop, so on a busy machine it is waited for a long time.
 */
static void watch(uint64_t calls)
{
    uint64_t last = 0;
    unsigned idle = 0;

    for (unsigned round = 0; idle < (nest->wild ? 100 : 3000); round++) {
        lend(round & 1);
        a_port();
        look(round);
        nap(10000000);
        if (progress() == VCPUS * calls)
            break;
        memset(&dc, 0, sizeof(dc));
        CHECK_EQ(domctl(XEN_DOMCTL_getdomaininfo, child), 0);
        if (dc.u.getdomaininfo.flags & XEN_DOMINF_shutdown)
            break;
        idle = progress() == last ? idle + 1 : 0;
        last = progress();
    }
    lend(false);
}

/* Why a child that should have come to its end did not. */
static void explain(void)
{
    static struct vcpu_guest_context ctx;

    memset(&dc, 0, sizeof(dc));
    domctl(XEN_DOMCTL_getdomaininfo, child);
    print("  domain flags %x\n", dc.u.getdomaininfo.flags);
    for (unsigned i = 0; i < VCPUS; i++) {
        memset(&dc, 0, sizeof(dc));
        dc.u.getvcpuinfo.vcpu = i;
        domctl(XEN_DOMCTL_getvcpuinfo, child);
        print("  vCPU %u: online %u blocked %u running %u on CPU %u, %lu ns,", i,
              dc.u.getvcpuinfo.online, dc.u.getvcpuinfo.blocked, dc.u.getvcpuinfo.running,
              dc.u.getvcpuinfo.cpu, dc.u.getvcpuinfo.cpu_time);
        memset(&dc, 0, sizeof(dc));
        dc.u.vcpucontext.vcpu = i;
        dc.u.vcpucontext.ctxt.p = &ctx;
        domctl(XEN_DOMCTL_getvcpucontext, child);
        print(" rip %lx rsp %lx rax %lx rdi %lx rsi %lx rdx %lx\n", ctx.user_regs.rip,
              ctx.user_regs.rsp, ctx.user_regs.rax, ctx.user_regs.rdi, ctx.user_regs.rsi,
              ctx.user_regs.rdx);
    }
}

static void audit(void)
{
    memset(&sc, 0, sizeof(sc));
    sc.u.debug_keys.keys.p = "M";
    sc.u.debug_keys.nr_keys = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, child), 0);
    if (is_trilby())
        CHECK_EQ(sysctl(XEN_SYSCTL_debug_keys), 0);
}

static bool is_zero(const uint8_t *page)
{
    unsigned i = 0;

    while (i < PAGE_SIZE && !page[i])
        i++;
    return i == PAGE_SIZE;
}

static void bury(uint64_t want)
{
    uint64_t got = 0, slack = is_trilby() ? 0 : 128;

    unmap_foreign(nest);
    memset(&dc, 0, sizeof(dc));
    CHECK_EQ(domctl(XEN_DOMCTL_destroydomain, child), 0);
    for (unsigned i = 0; i < 300; i++) {
        got = free_pages();
        if (got + slack >= want && got <= want + slack)
            break;
        nap(10000000);
    }
    if (want)
        CHECK_EQ(got, want);
    for (unsigned i = 0; i < LENT; i++) {
        CHECK_EQ(table[8 + i].flags, 0);
        if (i & 1)
            CHECK(is_zero(lent[i])); /* it could only be read */
        memset(lent[i], 0, PAGE_SIZE);
        CHECK_EQ(map_ro(lent[i]), 0); /* nobody else maps it: it may be a table */
        CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(lent[i])), 0);
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(lent[i])), 0);
        CHECK_EQ(map_rw(lent[i]), 0);
    }
}

static void set_up(void)
{
    static xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};

    s.frame_list.p = &frame;
    CHECK_EQ(HC(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    table = window_map(frame, PTE_KERN);
    for (unsigned i = 0; i < LENT; i++)
        lent[i] = page_alloc();
    pages = TEXT_PFN + (unsigned)((extable_end - image_start + PAGE_SIZE - 1) / PAGE_SIZE);
    CHECK(pages <= MAX_PAGES);
}

void test_main(void)
{
    uint64_t seed = argument("seed=", 1), calls = argument("calls=", 4000), before = 0;
    uint64_t children = argument("children=", 8);

    set_up();
    for (uint64_t i = 0; i < children; i++, seed++) {
        bool wild = seed & 1;

        print("%s child, seed=%lu calls=%lu\n", wild ? "wild" : "tame", seed, calls);
        if (i == 1) { /* what was allocated once for all is there */
            nap(500000000);
            before = free_pages();
        }
        build(seed, calls, wild);
        memset(&dc, 0, sizeof(dc));
        CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, child), 0);
        watch(calls);
        print("  %lu %lu %lu done\n", nest->done[0], nest->done[1], nest->done[2]);
        if (!wild) {
            CHECK_EQ(progress(), VCPUS * calls);
            if (progress() != VCPUS * calls)
                explain();
        }
        audit();
        bury(before);
    }
}
