/*
 * Several vCPUs: bringing them up and down, interrupts between them, and races on what they share:
 * the same entries, the same tables, pins and unpins, mappings withdrawn while another uses them.
 * The log of refusals would be long:
 * ARGS: guest_loglvl=none
 */
#include "guest.h"

const char test_name[] = "smp";

static unsigned cpus;

static void note(void *arg)
{
    *(volatile uint32_t *)arg = this_cpu()->id + 100;
}

static void refusals(void)
{
    struct vcpu_guest_context *c;

    section("vcpu_op refusals");
    CHECK_EQ(HC(vcpu_op, VCPUOP_up, 1, 0), -XEN_EINVAL); /* not initialised */
    CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, 1, 0), 0);
    CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, 0, 0), 1);
    if (cpus < MAX_CPUS) /* else there may be more than we use */
        CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, cpus, 0), -XEN_ENOENT);
    CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, 100000, 0), -XEN_ENOENT);
    CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, ~0u, 0), -XEN_ENOENT);
    CHECK_EQ(HC(vcpu_op, 99, 0, 0), -XEN_ENOSYS);
    CHECK_EQ(HC(vcpu_op, VCPUOP_initialise, 0, cpu_context(0)), -XEN_EEXIST);
    CHECK_EQ(HC(vcpu_op, VCPUOP_initialise, 1, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(vcpu_op, VCPUOP_initialise, 1, BAD_HYPERVISOR), -XEN_EFAULT);
    /* Contexts that no vCPU may have. */
    c = cpu_context(1);
    c->ctrlreg[3] = xen_pfn_to_cr3(mfn_of(page_alloc()));
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c)); /* a writable page as page table */
    c = cpu_context(1);
    c->ctrlreg[3] = xen_pfn_to_cr3(0xfffffffffUL);
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c));
    c = cpu_context(1);
    c->gdt_ents = 512;
    c->gdt_frames[0] = cr3_mfn();
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c));
    c = cpu_context(1);
    c->gdt_ents = 100000;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c));
    c = cpu_context(1);
    c->ldt_ents = 100000;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c));
    c = cpu_context(1);
    c->event_callback_eip = BAD_NONCANONICAL;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_initialise, 1, c));
    CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, 1, 0), 0);
}

static void bring_up(void)
{
    uint32_t seen[MAX_CPUS] = {0};

    section("up and down");
    for (unsigned i = 1; i < cpus; i++) {
        CHECK_EQ(cpu_run(i, note, &seen[i]), 0);
        cpu_wait(i);
        CHECK_EQ(seen[i], i + 100);
        CHECK_EQ(HC(vcpu_op, VCPUOP_is_up, i, 0), 0);
        CHECK_EQ(HC(vcpu_op, VCPUOP_initialise, i, cpu_context(i)), -XEN_EEXIST);
    }
    for (int round = 0; round < 20; round++) {
        for (unsigned i = 1; i < cpus; i++) {
            seen[i] = 0;
            if (cpu_run(i, note, &seen[i]))
                CHECK(!"up again");
        }
        for (unsigned i = 1; i < cpus; i++) {
            cpu_wait(i);
            if (seen[i] != i + 100)
                CHECK_EQ(seen[i], i + 100);
        }
    }
    checks_passed++;
}

/* --- interrupts between vCPUs --- */
static uint32_t ipi[MAX_CPUS];
static volatile bool stop;
static volatile uint64_t clock_seen;

static void listen(void *arg)
{
    (void)arg;
    events_on();
    while (!stop)
        cpu_relax();
    events_off();
}

static void sleep(void *arg)
{
    (void)arg;
    events_on();
    while (!stop)
        HC(sched_op, SCHEDOP_block, 0);
    events_off();
}

static void interrupts(void)
{
    section("interrupts between vCPUs");
    for (unsigned i = 1; i < cpus; i++) {
        struct evtchn_bind_ipi b = {.vcpu = i};

        CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_ipi, &b), 0);
        ipi[i] = b.port;
    }
    for (int blocked = 0; blocked < 2; blocked++) {
        stop = false;
        for (unsigned i = 1; i < cpus; i++) {
            event_count[ipi[i]] = 0;
            CHECK_EQ(cpu_run(i, blocked ? sleep : listen, NULL), 0);
        }
        for (unsigned n = 1; n <= 100; n++)
            for (unsigned i = 1; i < cpus; i++) {
                struct evtchn_send s = {.port = ipi[i]};

                HC(event_channel_op, EVTCHNOP_send, &s);
                if (!event_wait(ipi[i], n, 5000000000UL)) {
                    CHECK(!"an interrupt arrived");
                    n = 1000;
                }
            }
        CHECK(event_last_cpu >= 1);
        stop = true;
        for (unsigned i = 1; i < cpus; i++) {
            struct evtchn_send s = {.port = ipi[i]};

            HC(event_channel_op, EVTCHNOP_send, &s);
            cpu_wait(i);
        }
    }
}

/* --- races --- */
#define ROUNDS 3000
static uint64_t *shared_page, *tables[4];
static volatile unsigned bad;

static void rewrite(void *arg)
{
    uint64_t maddr = pt_entry_maddr(shared_page, 1), mfn = mfn_of(shared_page);

    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++)
        if (mmu_set(maddr, MAKE_PTE(mfn, (i + this_cpu()->id) & 1 ? PTE_KERN : PTE_RO)) > 0)
            bad++;
}

static void pin_race(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t mfn = mfn_of(tables[i & 3]);

        switch ((i >> 2) % 5) {
        case 0:
            mmuext(MMUEXT_PIN_L1_TABLE, mfn);
            break;
        case 1:
        case 3:
            mmuext(MMUEXT_UNPIN_TABLE, mfn);
            break;
        case 2:
            mmuext(MMUEXT_PIN_L2_TABLE, mfn);
            break;
        default:
            if (map_rw(tables[i & 3]) == 0)
                map_ro(tables[i & 3]);
        }
    }
}

static void flip(void *arg)
{
    uint64_t rw = MAKE_PTE(mfn_of(shared_page), PTE_KERN);

    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        HC(update_va_mapping, shared_page, 0, UVMF_INVLPG | UVMF_ALL);
        HC(update_va_mapping, shared_page, rw, UVMF_NONE);
    }
}

static void touch(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS * 4; i++)
        try_write(shared_page + (i & 511), i);
}

static void all(void (*fn)(void *), void (*first)(void *))
{
    for (unsigned i = 1; i < cpus; i++)
        CHECK_EQ(cpu_run(i, fn, NULL), 0);
    first(NULL);
    for (unsigned i = 1; i < cpus; i++)
        cpu_wait(i);
}

static void races(void)
{
    shared_page = page_alloc();
    section("one entry written by all");
    all(rewrite, rewrite);
    CHECK_EQ(bad, 0);
    CHECK_EQ(map_rw(shared_page), 0);
    CHECK(try_write(shared_page, 1));

    section("pins, unpins and writable mappings of the same pages");
    for (int i = 0; i < 4; i++) {
        tables[i] = page_alloc();
        CHECK_EQ(map_ro(tables[i]), 0);
    }
    all(pin_race, pin_race);
    for (int i = 0; i < 4; i++) {
        mmuext(MMUEXT_UNPIN_TABLE, mfn_of(tables[i]));
        CHECK_EQ(map_rw(tables[i]), 0);
        CHECK_EQ(map_ro(tables[i]), 0);
        CHECK_EQ(mmuext(MMUEXT_PIN_L2_TABLE, mfn_of(tables[i])), 0);
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(tables[i])), 0);
        CHECK_EQ(map_rw(tables[i]), 0);
    }

    section("a mapping withdrawn while it is used");
    all(touch, flip);
    CHECK(try_write(shared_page, 1));

    section("remote flushes");
    /* After a flush of all, no other vCPU writes through the old mapping. */
    struct cpu *other = cpu_get(1);

    for (int i = 0; i < 50; i++) {
        CHECK_EQ(cpu_run(1, touch, NULL), 0);
        while (!other->running)
            cpu_relax();
        HC(update_va_mapping, shared_page, MAKE_PTE(mfn_of(shared_page), PTE_RO),
           UVMF_INVLPG | UVMF_ALL);
        uint64_t before[512];

        memcpy(before, shared_page, sizeof(before));
        for (int j = 0; j < 200; j++)
            if (memcmp(before, shared_page, sizeof(before))) {
                CHECK(!"a stale mapping was written through");
                j = 200;
            }
        cpu_wait(1);
        map_rw(shared_page);
    }
    checks_passed++;
}

/* --- a frame that left us, written through another vCPU's stale translation --- */
static volatile uint64_t *victim;

static void hammer(void *arg)
{
    (void)arg;
    while (!stop)
        try_write((void *)(uintptr_t)victim, 0x2222);
}

static void made_a_table(void)
{
    unsigned spoiled = 0;

    section("a page made a page table while another vCPU still has it in its TLB");
    for (int round = 0; round < 40; round++) {
        uint64_t *page = page_alloc(), frame = mfn_of(page);

        victim = page;
        stop = false;
        CHECK_EQ(cpu_run(1, hammer, NULL), 0);
        while (!*victim)
            cpu_relax();
        CHECK_EQ(HC(update_va_mapping, page, 0, UVMF_NONE), 0); /* no flush asked */
        CHECK_EQ(mmuext(MMUEXT_PIN_L1_TABLE, frame), 0);
        CHECK_EQ(mmu_set(frame << PAGE_SHIFT, 0), 0);
        volatile uint64_t *w = window_map(frame, PTE_RO);

        for (int i = 0; i < 20000; i++)
            if (w[0]) {
                spoiled++;
                break;
            }
        stop = true;
        cpu_wait(1);
        window_unmap((void *)(uintptr_t)w);
        CHECK_EQ(mmuext(MMUEXT_UNPIN_TABLE, frame), 0);
        CHECK_EQ(map_rw(page), 0);
        page_free(page);
    }
    CHECK_EQ(spoiled, 0);
}

static long reserve(unsigned cmd, xen_pfn_t *frame)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    r.extent_start.p = frame;
    return HC(memory_op, cmd, &r);
}

static void released(void)
{
    unsigned again = 0, spoiled = 0;

    section("a page given back while another vCPU still has it in its TLB");
    for (int round = 0; round < 40; round++) {
        uint64_t *page = page_alloc();
        xen_pfn_t frame = mfn_of(page), old = frame;

        victim = page;
        stop = false;
        CHECK_EQ(cpu_run(1, hammer, NULL), 0);
        while (!*victim)
            cpu_relax();
        CHECK_EQ(HC(update_va_mapping, page, 0, UVMF_NONE), 0); /* no flush asked */
        CHECK_EQ(reserve(XENMEM_decrease_reservation, &frame), 1);
        frame = pfn_of(page);
        CHECK_EQ(reserve(XENMEM_populate_physmap, &frame), 1);
        again += frame == old;
        volatile uint64_t *w = window_map(frame, PTE_KERN);

        w[0] = 0x1111;
        for (int i = 0; i < 2000; i++)
            if (w[0] != 0x1111) {
                spoiled++;
                break;
            }
        stop = true;
        cpu_wait(1);
        window_unmap((void *)(uintptr_t)w);
        set_p2m(pfn_of(page), frame);
        CHECK_EQ(map_rw(page), 0);
        page_free(page);
    }
    print("  the same frame came back %u times of 40\n", again);
    CHECK_EQ(spoiled, 0);
}

/* With the stable flag all vCPUs' clocks are one; without it each runs for itself. */
static void clocks(void *arg)
{
    uint64_t last = 0, slack = ~0UL / 2;

    if (vcpu_info(0)->time.flags & XEN_PVCLOCK_TSC_STABLE_BIT)
        slack = 1000;

    (void)arg;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t seen = clock_seen, now = time_now();

        if (now + slack < seen || now < last)
            bad++;
        last = now;
        if (now > clock_seen)
            clock_seen = now;
    }
}

void test_main(void)
{
    event_init();
    cpus = cpu_count();
    print("%u vCPUs\n", cpus);
    CHECK(cpus >= 2);
    if (cpus < 2)
        return;
    refusals();
    bring_up();
    interrupts();
    races();
    made_a_table();
    released();
    section("clocks of all vCPUs");
    bad = 0;
    all(clocks, clocks);
    CHECK_EQ(bad, 0);
}
