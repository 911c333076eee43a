/*
 * What one vCPU does while another is in the middle of something else: frames exchanged while they
 * are being mapped, mappings of grants moved while they are being unmapped, ports closed while they
 * are signalled. The log of refusals would be long:
 * ARGS: guest_loglvl=none
 */
#include "guest.h"
#include <xen/grant_table.h>

const char test_name[] = "races";

static volatile bool stop;

static void spawn(unsigned id, void (*fn)(void *))
{
    stop = false;
    CHECK_EQ(cpu_run(id, fn, NULL), 0);
    while (!cpu_get(id)->running)
        cpu_relax();
}

static void reap(unsigned id)
{
    stop = true;
    cpu_wait(id);
}

/* --- a frame exchanged while another vCPU maps it --- */
#define SLOTS 32
static uint8_t *slot[SLOTS];
static volatile uint64_t wanted; /* the frame that is being exchanged */
static volatile unsigned kept;   /* mappings of frames that were exchanged under them */

static uint64_t reservation(void)
{
    domid_t self = DOMID_SELF;

    return (uint64_t)HC(memory_op, XENMEM_current_reservation, &self);
}

static long exchange(xen_pfn_t *in, xen_pfn_t *out)
{
    struct xen_memory_exchange e = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF},
        .out = {.nr_extents = 1, .domid = DOMID_SELF},
    };

    e.in.extent_start.p = in;
    e.out.extent_start.p = out;
    return HC(memory_op, XENMEM_exchange, &e);
}

static void map_wanted(void *arg)
{
    (void)arg;
    while (!stop && kept < SLOTS) {
        uint64_t mfn = wanted;

        if (va_map(slot[kept], MAKE_PTE(mfn, PTE_RO)))
            continue;
        for (int i = 0; i < 200 && wanted == mfn; i++)
            cpu_relax();
        if (wanted != mfn)
            kept++;
        else
            va_map(slot[kept], 0);
    }
}

static void exchanges(void)
{
    uint64_t pfn = spare_pfn(), most = reservation(), end = time_now() + 20000000000;
    unsigned done = 0;

    section("a frame exchanged while another vCPU maps it");
    for (unsigned i = 0; i < SLOTS; i++) {
        slot[i] = page_alloc();
        CHECK_EQ(va_map(slot[i], 0), 0);
    }
    wanted = pfn_to_mfn(pfn);
    spawn(1, map_wanted);
    /* The other one may have been stopped while it has the frame: then none succeeds for a while.
     */
    for (unsigned i = 0; i < 4000 || (!done && time_now() < end); i++) {
        xen_pfn_t in = wanted, out = pfn;

        if (exchange(&in, &out))
            continue;
        done++;
        wanted = out;
    }
    reap(1);
    print("  %u exchanged, %u kept mapped\n", done, kept);
    CHECK(done > 0);
    set_p2m(pfn, wanted);
    CHECK_EQ(reservation(), most); /* no more than it may have */
    for (unsigned i = 0; i < SLOTS; i++)
        CHECK_EQ(map_rw(slot[i]), 0);
    CHECK_EQ(reservation(), most);
}

/* --- a page's last mapping goes while another vCPU takes its write permission --- */
static uint8_t *last;
static volatile uint64_t last_frame; /* 0: not there */
static volatile unsigned write_protected;

/* Now and then between the other's mapping and unmapping, with a growing delay after the first. */
static void write_protect(void *arg)
{
    (void)arg;
    for (unsigned delay = 0; !stop; delay = (delay + 1) % 64) {
        uint64_t mfn = last_frame;

        if (!mfn)
            continue;
        for (unsigned i = 0; i < delay; i++)
            cpu_relax();
        if (!va_map(last, MAKE_PTE(mfn, PTE_RO)))
            write_protected++;
        while (last_frame == mfn && !stop)
            cpu_relax();
    }
}

static void last_mappings(void)
{
    uint64_t pfn = spare_pfn(), most = reservation();
    xen_pfn_t mfn = pfn_to_mfn(pfn), out;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    section("a page's last mapping goes while another vCPU takes its write permission");
    last = page_alloc();
    CHECK_EQ(va_map(last, 0), 0);
    spawn(1, write_protect);
    for (unsigned i = 0; i < 200; i++) {
        r.extent_start.p = &mfn;
        if (va_map(last, MAKE_PTE(mfn, PTE_KERN)) ||
            HC(memory_op, XENMEM_decrease_reservation, &r) != 1)
            break;
        last_frame = mfn; /* the entry alone keeps the frame */
        for (unsigned n = 0; n < i % 64; n++)
            cpu_relax();
        va_map(last, 0);
        last_frame = 0;
        va_map(last, 0);
        out = pfn;
        r.extent_start.p = &out;
        if (HC(memory_op, XENMEM_populate_physmap, &r) != 1)
            break;
        mfn = out;
    }
    reap(1);
    va_map(last, 0);
    print("  write permission taken %u times\n", write_protected);
    CHECK(write_protected > 0);
    CHECK_EQ(reservation(), most);
    set_p2m(pfn, mfn);
    CHECK_EQ(map_rw(last), 0);
}

/* --- grants --- */
static volatile struct grant_entry_v1 *table;
static uint64_t *granted, *at[2];

static struct gnttab_map_grant_ref map_grant(void *where, unsigned ref)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (uint64_t)where, .flags = GNTMAP_host_map, .ref = ref, .status = 99};

    HC(grant_table_op, GNTTABOP_map_grant_ref, &m, 1);
    return m;
}

static int unmap_grant(void *where, uint32_t handle)
{
    struct gnttab_unmap_grant_ref u = {
        .host_addr = (uint64_t)where, .handle = handle, .status = 99};

    HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1);
    return u.status;
}

static int replace_grant(void *where, void *by, uint32_t handle)
{
    struct gnttab_unmap_and_replace r = {
        .host_addr = (uint64_t)where, .new_addr = (uint64_t)by, .handle = handle, .status = 99};

    HC(grant_table_op, GNTTABOP_unmap_and_replace, &r, 1);
    return r.status;
}

static void grants_setup(void)
{
    static xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};

    s.frame_list.p = &frame;
    CHECK_EQ(HC(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    table = window_map(frame, PTE_KERN);
    granted = page_alloc();
    for (int i = 0; i < 2; i++) {
        at[i] = page_alloc();
        CHECK_EQ(va_map(at[i], 0), 0);
    }
    table[8].frame = (uint32_t)mfn_of(granted);
    table[8].domid = 0;
    table[8].flags = GTF_permit_access;
}

/* Of the two places, how many map the granted frame? */
static unsigned mapped(void)
{
    unsigned n = 0;

    for (int i = 0; i < 2; i++)
        n += (pte_get(at[i]) & PTE_P) && (pte_get(at[i]) & PTE_ADDR) >> 12 == mfn_of(granted);
    return n;
}

static void replaced_by_itself(void)
{
    struct gnttab_map_grant_ref m;

    section("a mapping replaced by itself");
    m = map_grant(at[0], 8);
    CHECK_EQ(m.status, GNTST_okay);
    int status = replace_grant(at[0], at[0], m.handle);

    print("  status %d, %u mappings, flags 0x%x\n", status, mapped(), table[8].flags);
    CHECK(!mapped() || (table[8].flags & GTF_writing)); /* whoever lent it can still tell */
    if (status)
        CHECK_EQ(unmap_grant(at[0], m.handle), GNTST_okay);
    CHECK_EQ(mapped(), 0);
    CHECK_EQ(table[8].flags, GTF_permit_access);
    va_map(at[0], 0);
}

/*
 * One handle's mapping is at 0, another's at 1. While 0 is unmapped, 1 is replaced by what is at 0.
 * Whichever comes first, no more may stay mapped than handles are left.
 */
static volatile uint32_t handle_one;
static volatile unsigned go;

static void move(void *arg)
{
    unsigned seen = 0;

    (void)arg;
    while (!stop) {
        if (go == seen)
            continue;
        seen = go;
        replace_grant(at[1], at[0], handle_one);
        go = ++seen;
    }
}

static void moved(void)
{
    uint64_t end = time_now() + 20000000000; /* taking turns is slow on a busy machine */
    unsigned wrong = 0;

    section("a mapping moved while it is unmapped");
    go = 0;
    spawn(1, move);
    for (unsigned round = 0; round < 3000 && !wrong && time_now() < end; round++) {
        struct gnttab_map_grant_ref a = map_grant(at[0], 8), b = map_grant(at[1], 8);
        unsigned turn = go + 1;

        if (a.status || b.status) {
            CHECK_EQ(a.status, GNTST_okay);
            CHECK_EQ(b.status, GNTST_okay);
            break;
        }
        handle_one = b.handle;
        go = turn;
        for (volatile unsigned i = 0; i < round % 300; i++)
            ;
        unmap_grant(at[0], a.handle);
        while (go == turn)
            cpu_relax();
        wrong += mapped() && !(table[8].flags & GTF_reading);
        for (int i = 0; i < 2; i++) {
            unmap_grant(at[i], a.handle);
            unmap_grant(at[i], b.handle);
        }
        wrong += (table[8].flags & GTF_reading) != 0; /* a handle without its mapping */
        va_map(at[0], 0);
        va_map(at[1], 0);
    }
    reap(1);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(table[8].flags, GTF_permit_access);
    table[8].flags = 0;
}

/*
 * A granted page that another vCPU writes while it is unmapped: once that has returned, no CPU's
 * TLB knows the place any more.
 */
static volatile uint64_t hits, misses;

static void beat(void *arg)
{
    (void)arg;
    while (!stop)
        misses += !try_write(at[0], ++hits);
}

static void unmapped_in_use(void)
{
    unsigned wrong = 0, deaf = 0;

    section("a mapping that another vCPU uses while it is unmapped");
    table[8].flags = GTF_permit_access;
    spawn(1, beat);
    for (unsigned round = 0; round < 30 && !deaf; round++) {
        struct gnttab_map_grant_ref m = map_grant(at[0], 8);
        uint64_t old = *(volatile uint64_t *)granted, seen;

        CHECK_EQ(m.status, GNTST_okay);
        while (*(volatile uint64_t *)granted < old + 100)
            cpu_relax();
        CHECK_EQ(unmap_grant(at[0], m.handle), GNTST_okay);
        *(volatile uint64_t *)granted = 0;
        seen = misses;
        time_spin(100000);
        wrong += *(volatile uint64_t *)granted != 0;
        for (unsigned i = 0; misses == seen && i < 1000; i++)
            time_spin(100000);
        deaf += misses == seen;
    }
    reap(1);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(deaf, 0);
    va_map(at[0], 0);
    table[8].flags = 0;
}

/* --- ports --- */
static volatile uint32_t port;

static void send_all(void *arg)
{
    (void)arg;
    while (!stop) {
        struct evtchn_send s = {.port = port};

        HC(event_channel_op, EVTCHNOP_send, &s);
        s.port++;
        HC(event_channel_op, EVTCHNOP_send, &s);
    }
}

static void ports(void)
{
    unsigned bad = 0;

    section("ports closed while they are signalled");
    port = 1;
    spawn(1, send_all);
    for (unsigned i = 0; i < 3000; i++) {
        struct evtchn_alloc_unbound au = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
        struct evtchn_bind_interdomain bi = {.remote_dom = DOMID_SELF};
        struct evtchn_status st = {.dom = DOMID_SELF};

        bad += HC(event_channel_op, EVTCHNOP_alloc_unbound, &au) != 0;
        bi.remote_port = au.port;
        bad += HC(event_channel_op, EVTCHNOP_bind_interdomain, &bi) != 0;
        port = au.port;
        bad += HC(event_channel_op, EVTCHNOP_close,
                  &(struct evtchn_close){i & 1 ? au.port : bi.local_port}) != 0;
        st.port = i & 1 ? bi.local_port : au.port;
        bad += HC(event_channel_op, EVTCHNOP_status, &st) != 0;
        bad += st.status != EVTCHNSTAT_unbound;
        bad += HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){st.port}) != 0;
    }
    reap(1);
    CHECK_EQ(bad, 0);
}

void test_main(void)
{
    event_init();
    CHECK(cpu_count() >= 2);
    if (cpu_count() < 2)
        return;
    exchanges();
    last_mappings();
    grants_setup();
    replaced_by_itself();
    moved();
    unmapped_in_use();
    ports();
}
