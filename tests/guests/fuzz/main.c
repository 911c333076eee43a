/*
 * A seeded fuzzer of hypercalls: a fixed number of calls with arguments that are mostly plausible,
 * so that they get far before they fail. Everything it may spoil is its own: a set of pages that
 * are data, tables and descriptor pages by turns, ports, grants, timers, a second vCPU's state.
 * Afterwards all is put back by the ABI, which proves that nothing was left held.
 *
 * "seed=N" and "calls=N" on the guest's command line replay a run (GUEST_ARGS of tests/guests/run).
 * ARGS: guest_loglvl=none
 */
#include "guest.h"
#include <xen/grant_table.h>

const char test_name[] = "fuzz";

/* "trace=N" prints each call from the Nth on: with a run cut short by "calls", the guilty one. */
static bool tracing;

static long traced(const char *call, unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    if (tracing && nr == __HYPERVISOR_mmuext_op)
        print("  mmuext_op(cmd %u, 0x%lx, 0x%lx)", ((struct mmuext_op *)a)->cmd,
              ((struct mmuext_op *)a)->arg1.mfn, ((struct mmuext_op *)a)->arg2.src_mfn);
    else if (tracing)
        print("  %s: %u(0x%lx, 0x%lx, 0x%lx, 0x%lx)", call, nr, a, b, c, d);
    long ret = hypercall_raw(nr, a, b, c, d, 0, 0);

    if (tracing)
        print(" = %ld\n", ret);
    return ret;
}
#define TRACED(call, nr, a, b, c, d, ...) traced(call, nr, HC_U(a), HC_U(b), HC_U(c), HC_U(d))
#undef HC
#define HC(name, ...) TRACED(#name, __HYPERVISOR_##name, __VA_ARGS__, 0, 0, 0, 0)
#define mmuext2(cmd_, x, y)                                                                        \
    ({                                                                                             \
        struct mmuext_op op_ = {.cmd = (cmd_), .arg1.mfn = (x), .arg2.src_mfn = (y)};              \
        HC(mmuext_op, &op_, 1, 0, DOMID_SELF);                                                     \
    })

#define PAGES 24
static uint8_t *page[PAGES];
static uint64_t mfns[PAGES + 4];
static uint64_t state;
static uint8_t scratch[PAGE_SIZE] __attribute__((aligned(4096)));

static uint64_t next(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t pick(uint64_t n)
{
    return next() % n;
}

static uint64_t a_mfn(void)
{
    static const uint64_t odd[] = {0, 0x200, 0xb8, 0xfee00, 0xfffffffffUL, ~0UL >> 12, ~0UL};

    return pick(8) ? mfns[pick(PAGES)] : odd[pick(7)];
}

static uint64_t a_pte(void)
{
    static const uint64_t flags[] = {
        0,        PTE_P,          PTE_RO,         PTE_KERN, PTE_TABLE, PTE_KERN,
        PTE_RO,   PTE_RO | PTE_G, PTE_P | PTE_PS, 0x200,    PTE_RO,    PTE_KERN | PTE_NX,
        PTE_TABLE};

    if (!pick(16))
        return next();
    return MAKE_PTE(a_mfn(), flags[pick(13)]) | (pick(16) ? 0 : 1UL << pick(64));
}

static uint64_t a_pointer(void)
{
    static const uint64_t odd[] = {0, BAD_UNMAPPED, BAD_HYPERVISOR, BAD_NONCANONICAL, ~0UL, 8};

    return pick(6) ? (uint64_t)scratch + pick(32) * 8 : odd[pick(6)];
}

static uint64_t a_number(void)
{
    switch (pick(5)) {
    case 0:
        return pick(4);
    case 1:
        return pick(64);
    case 2:
        return 1UL << pick(64);
    case 3:
        return (1UL << pick(64)) - 1;
    default:
        return a_mfn();
    }
}

static void fill(size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        ((uint64_t *)scratch)[i] = a_number();
}

static void tables(void)
{
    struct mmu_update u[4];
    unsigned n = (unsigned)pick(5);
    unsigned p = (unsigned)pick(PAGES);

    switch (pick(8)) {
    case 0:
    case 1:
        for (unsigned i = 0; i < 4; i++) {
            u[i].ptr = a_mfn() << PAGE_SHIFT | pick(512) * 8 | pick(4);
            u[i].val = a_pte();
        }
        HC(mmu_update, u, n, pick(2) ? (uint64_t)scratch : 0, DOMID_SELF);
        break;
    case 2:
        HC(update_va_mapping, page[p], MAKE_PTE(mfns[p], pick(2) ? PTE_KERN : PTE_RO), pick(8));
        break;
    case 3:
        HC(update_va_mapping, page[p], a_pte(), pick(8));
        break;
    case 4:
        /* A direct write, when it is mapped so. */
        try_write(page[p] + pick(512) * 8, a_pte());
        break;
    default: {
        static const unsigned cmds[] = {
            MMUEXT_PIN_L1_TABLE,     MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE,
            MMUEXT_PIN_L4_TABLE,     MMUEXT_UNPIN_TABLE,  MMUEXT_UNPIN_TABLE,
            MMUEXT_NEW_USER_BASEPTR, MMUEXT_CLEAR_PAGE,   MMUEXT_COPY_PAGE,
            MMUEXT_TLB_FLUSH_ALL,    MMUEXT_INVLPG_ALL,   MMUEXT_TLB_FLUSH_LOCAL,
            MMUEXT_SET_LDT,          MMUEXT_MARK_SUPER};
        unsigned cmd = cmds[pick(14)];

        if (cmd == MMUEXT_SET_LDT)
            mmuext2(cmd, (uint64_t)page[p], pick(600));
        else
            mmuext2(cmd, a_mfn(), a_mfn());
    }
    }
}

static void events(void)
{
    static const unsigned cmds[] = {
        EVTCHNOP_bind_interdomain, EVTCHNOP_bind_virq,     EVTCHNOP_close,    EVTCHNOP_send,
        EVTCHNOP_status,           EVTCHNOP_alloc_unbound, EVTCHNOP_bind_ipi, EVTCHNOP_bind_vcpu,
        EVTCHNOP_unmask,           EVTCHNOP_set_priority};
    uint32_t *w = (void *)scratch;

    for (int i = 0; i < 6; i++)
        w[i] = pick(8) ? (uint32_t)pick(40) : (uint32_t)a_number();
    if (pick(2))
        *(domid_t *)scratch = DOMID_SELF;
    if (pick(2))
        ((domid_t *)scratch)[1] = DOMID_SELF;
    HC(event_channel_op, cmds[pick(10)], pick(16) ? (uint64_t)scratch : a_pointer());
}

static void grants(void)
{
    static volatile struct grant_entry_v1 *table;
    static xen_pfn_t frame;

    if (!table) {
        struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};

        s.frame_list.p = &frame;
        HC(grant_table_op, GNTTABOP_setup_table, &s, 1);
        table = window_map(frame, PTE_KERN);
        if (!table)
            return;
    }
    unsigned ref = 8 + (unsigned)pick(32);

    if (pick(3) == 0) {
        table[ref].frame = (uint32_t)a_mfn();
        table[ref].domid = (domid_t)(pick(8) ? 0 : pick(0x8000));
        table[ref].flags = (uint16_t)(pick(4) ? GTF_permit_access | pick(2) << 2 : next());
        return;
    }
    if (pick(2)) {
        struct gnttab_copy c = {.len = (uint16_t)pick(4200), .flags = (uint16_t)pick(5)};

        c.source.u.gmfn = c.flags & 1 ? ref : a_mfn();
        c.dest.u.gmfn = c.flags & 2 ? 8 + pick(32) : a_mfn();
        c.source.domid = c.flags & 1 ? 0 : DOMID_SELF;
        c.dest.domid = c.flags & 2 ? 0 : DOMID_SELF;
        c.source.offset = (uint16_t)pick(4200);
        c.dest.offset = (uint16_t)pick(4200);
        HC(grant_table_op, GNTTABOP_copy, &c, 1);
        return;
    }
    struct gnttab_map_grant_ref m = {.host_addr = (uint64_t)page[pick(PAGES)],
                                     .flags = (uint32_t)pick(32),
                                     .ref = ref,
                                     .dom = 0};

    if (m.flags & GNTMAP_contains_pte)
        m.host_addr = a_mfn() << PAGE_SHIFT | pick(512) * 8;
    HC(grant_table_op, GNTTABOP_map_grant_ref, &m, 1);
    struct gnttab_unmap_grant_ref u = {.host_addr = pick(8) ? m.host_addr : a_number(),
                                       .dev_bus_addr = m.flags & 1 ? m.dev_bus_addr : 0,
                                       .handle = pick(8) ? m.handle : (uint32_t)pick(64)};

    if (tracing)
        print("  map flags 0x%x ref %u (flags 0x%x frame 0x%x) at 0x%lx: status %d handle %u; unmap"
              " 0x%lx dev 0x%lx handle %u\n",
              m.flags, m.ref, table[ref].flags, table[ref].frame, m.host_addr, m.status, m.handle,
              u.host_addr, u.dev_bus_addr, u.handle);
    /* Always given back in the end, so that the pages are free of it. */
    if (m.status == 0) {
        HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1);
        /* Each half by itself: a call that names one which is gone does nothing. */
        u.handle = m.handle;
        u.host_addr = m.flags & GNTMAP_host_map ? m.host_addr : 0;
        u.dev_bus_addr = 0;
        HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1);
        u.host_addr = 0;
        u.dev_bus_addr = m.flags & GNTMAP_device_map ? m.dev_bus_addr : 0;
        HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1);
    }
}

static void others(void)
{
    fill(256);
    switch (pick(10)) {
    case 0:
        HC(update_descriptor, a_mfn() << PAGE_SHIFT | pick(512) * 8, next());
        break;
    case 1: {
        unsigned long frames[16] = {a_mfn(), a_mfn()};

        HC(set_gdt, frames, pick(1200));
        HC(set_gdt, frames, 0);
        break;
    }
    case 2:
        HC(set_segment_base, pick(5), a_number());
        break;
    case 3:
        HC(vm_assist, pick(3), pick(2) ? VMASST_TYPE_writable_pagetables : a_number());
        break;
    case 4:
        HC(set_timer_op, pick(2) ? time_now() + pick(1000000) : a_number());
        break;
    case 5:
        HC(xen_version, pick(12), a_pointer());
        break;
    case 6: { /* of our own figures and nothing that gives memory away */
        static const unsigned cmds[] = {2, 3, 4, 5, 7, 9, 10, 12, 14, 15, 17, 23, 26, 27, 28};

        HC(memory_op, cmds[pick(15)], a_pointer());
        break;
    }
    case 7:
        HC(set_debugreg, pick(8), a_number());
        HC(set_debugreg, 7, 0);
        break;
    case 8: {
        static const unsigned cmds[] = {0, 1, 3, 4, 7, 8, 9, 11, 12};

        HC(vcpu_op, cmds[pick(9)], pick(4), a_pointer());
        HC(vcpu_op, VCPUOP_down, 1, 0);
        break;
    }
    default: {
        struct multicall_entry m[4] = {{0}};

        for (int i = 0; i < 4; i++) {
            m[i].op = pick(2) ? __HYPERVISOR_xen_version : __HYPERVISOR_update_va_mapping;
            m[i].args[0] =
                m[i].op == __HYPERVISOR_xen_version ? pick(12) : (uint64_t)page[pick(PAGES)];
            m[i].args[1] = m[i].op == __HYPERVISOR_xen_version ? a_pointer() : a_pte();
        }
        HC(multicall, m, pick(5));
    }
    }
}

/* Everything back: unmapped everywhere, unpinned, writable again, and usable as anything. */
static void restore(void)
{
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    section("everything put back");
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_reset, &reset), 0);
    CHECK_EQ(HC(set_gdt, NULL, 0), 0);
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK_EQ(mmuext(MMUEXT_NEW_USER_BASEPTR, 0), 0);
    HC(set_timer_op, 0);
    for (unsigned i = 0; i < PAGES; i++)
        if (HC(update_va_mapping, page[i], 0, UVMF_INVLPG | UVMF_ALL))
            CHECK(!"a page was unmapped");
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < PAGES; i++)
            mmuext(MMUEXT_UNPIN_TABLE, mfns[i]);
    for (unsigned i = 0; i < PAGES; i++) {
        CHECK_EQ(HC(update_va_mapping, page[i], MAKE_PTE(mfns[i], PTE_KERN), UVMF_INVLPG), 0);
        CHECK(try_write(page[i], 0));
        memset(page[i], 0, PAGE_SIZE);
        CHECK_EQ(map_ro(page[i]), 0);
        CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE + i % 4, mfns[i]), 0);
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfns[i]), 0);
    }
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &(struct xen_memory_domain){DOMID_SELF}),
             start_info->nr_pages);
}

void test_main(void)
{
    uint64_t seed = argument("seed=", 1), calls = argument("calls=", 200000);
    uint64_t trace = argument("trace=", ~0UL);

    print("seed=%lu calls=%lu\n", seed, calls);
    state = seed;
    events_off();
    for (unsigned i = 0; i < PAGES; i++) {
        page[i] = page_alloc();
        mfns[i] = mfn_of(page[i]);
    }
    section("calls");
    for (uint64_t i = 0; i < calls; i++) {
        tracing = i >= trace;
        if (tracing)
            print(" %lu:", i);
        else if (i % (calls / 8 ? calls / 8 : 1) == 0)
            print("  %lu\n", i);
        switch (pick(8)) {
        case 0:
            events();
            break;
        case 1:
            grants();
            break;
        case 2:
            others();
            break;
        default:
            tables();
        }
    }
    tracing = false;
    CHECK_EQ(HC(xen_version, XENVER_version, 0), 4 << 16 | 17);
    restore();
}
