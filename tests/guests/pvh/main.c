/*
 * A PVH guest's first steps: what it is told at the start, CPUID, the hypercall page, hypercalls
 * and their bad input, events by the callback vector, halting and being woken.
 *
 * ARGS: dom0=pvh
 */
#include "hvm.h"
#include <xen/arch-x86/cpuid.h>
#include <xen/grant_table.h>

const char test_name[] = "pvh";

static void start_of_day(void)
{
    struct hvm_memmap_table_entry *map = (void *)hvm_info->memmap_paddr;
    bool image_in_ram = false;

    section("start info");
    CHECK_EQ(hvm_info->magic, XEN_HVM_START_MAGIC_VALUE);
    CHECK_EQ(hvm_info->version, 1);
    CHECK(hvm_info->flags & SIF_INITDOMAIN);
    CHECK(has_argument("probe"));
    for (unsigned i = 0; i < hvm_info->memmap_entries; i++)
        image_in_ram |= map[i].type == XEN_HVM_MEMMAP_TYPE_RAM && map[i].addr <= 0x400000 &&
                        map[i].addr + map[i].size > 0x500000;
    CHECK(image_in_ram);
}

static void identity(void)
{
    uint32_t r[4];
    struct xen_feature_info f = {.submap_idx = 0};

    section("CPUID");
    cpuid(0x40000000, 0, r);
    CHECK_EQ(r[1], XEN_CPUID_SIGNATURE_EBX);
    cpuid(0x40000001, 0, r);
    CHECK_EQ(r[0], 4 << 16 | 17);
    cpuid(1, 0, r);
    CHECK(r[2] >> 31);
    CHECK_EQ(r[1] >> 24, 0);
    cpuid(0x80000001, 0, r);
    CHECK(!(r[2] & 4)); /* no SVM inside */
    CHECK_EQ(HC(xen_version, XENVER_version, 0), 4 << 16 | 17);
    CHECK_EQ(HC(xen_version, XENVER_get_features, &f), 0);
    CHECK(f.submap & 1u << XENFEAT_hvm_callback_vector);
    CHECK(f.submap & 1u << XENFEAT_auto_translated_physmap);
    CHECK(f.submap & 1u << XENFEAT_dom0);
}

static void bad_input(void)
{
    struct xen_feature_info f = {.submap_idx = 0};
    uint64_t v = 0;

    section("refused");
    CHECK_EQ(HC(xen_version, XENVER_get_features, 0x123456789000UL), -XEN_EFAULT); /* no entry */
    CHECK_EQ(HC(xen_version, XENVER_get_features, BAD_NONCANONICAL), -XEN_EFAULT);
    CHECK_EQ(HC(xen_version, XENVER_get_features, 0xf0000000UL), -XEN_EFAULT); /* no memory */
    CHECK_EQ(HC(xen_version, XENVER_get_features, BAD_HYPERVISOR), -XEN_EFAULT);
    CHECK_EQ(HC(update_va_mapping, 0, 0, 0), -XEN_ENOSYS); /* PV's */
    struct mmuext_op flush = {.cmd = MMUEXT_TLB_FLUSH_LOCAL}, pin = {.cmd = MMUEXT_PIN_L4_TABLE};
    CHECK_EQ(HC(mmuext_op, &flush, 1, 0, DOMID_SELF), -XEN_EOPNOTSUPP);
    pin.arg1.mfn = (uint64_t)pml4 >> 12; /* its own number, as memory is one to one */
    CHECK_EQ(HC(mmuext_op, &pin, 1, 0, DOMID_SELF), -XEN_EOPNOTSUPP);
    CHECK_EQ(HC(iret), -XEN_ENOSYS);
    CHECK_EQ(HC_NR(99), -XEN_ENOSYS);
    CHECK_EQ(hvm_param(HVMOP_get_param, 9999, &v), -XEN_EINVAL);
    v = (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 3;
    CHECK_EQ(hvm_param(HVMOP_set_param, HVM_PARAM_CALLBACK_IRQ, &v), -XEN_EINVAL);
    /* A read-only page cannot be written for us either. */
    uint64_t *e = &pd[(uint64_t)&f >> 21], was = *e;
    uint32_t *unwritable = (uint32_t *)0x3800000UL;
    e = &pd[(uint64_t)unwritable >> 21];
    was = *e;
    *unwritable = 0;
    *e = was & ~2UL;
    asm volatile("invlpg (%0)" ::"r"(unwritable) : "memory");
    CHECK_EQ(HC(xen_version, XENVER_get_features, unwritable), -XEN_EFAULT);
    *e = was;
    asm volatile("invlpg (%0)" ::"r"(unwritable) : "memory");
    CHECK_EQ(HC(xen_version, XENVER_get_features, unwritable), 0);
}

static void physmap(void)
{
    static uint8_t page[PAGE_SIZE] __attribute__((aligned(4096)));
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = (uint64_t)page >> 12};
    xen_pfn_t frame = (uint64_t)page >> 12;
    domid_t self = DOMID_SELF;
    struct xen_memory_reservation give = {
        .domid = DOMID_SELF, .nr_extents = 1, .extent_start.p = &frame};

    section("physmap");
    /* Firmware may have cleared the page: who takes it next finds the time in it. */
    struct shared_info *info = shared();
    struct xen_add_to_physmap again = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = (uint64_t)info >> 12};
    memset(&info->vcpu_info[0].time, 0, sizeof(info->vcpu_info[0].time));
    info->wc_sec = 0;
    CHECK_EQ(HC(memory_op, XENMEM_add_to_physmap, &again), 0);
    CHECK(info->vcpu_info[0].time.tsc_to_system_mul);
    CHECK_EQ(info->vcpu_info[0].time.version & 1, 0);
    CHECK(info->wc_sec);

    long before = HC(memory_op, XENMEM_current_reservation, &self);
    page[0] = 42;
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &give), 1);
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &self), before - 1);
    CHECK_EQ(*(volatile uint8_t *)page, 0xff); /* nobody answers */
    *(volatile uint8_t *)page = 1;
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &give), 0);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &give), 1);
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &self), before);
    CHECK_EQ(*(volatile uint8_t *)page, 0);
    *(volatile uint8_t *)page = 7;
    CHECK_EQ(*(volatile uint8_t *)page, 7);

    struct xen_add_to_physmap grant = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .gpfn = (uint64_t)page >> 12};
    CHECK_EQ(HC(memory_op, XENMEM_add_to_physmap, &grant), 0);
    CHECK_EQ(*(volatile uint8_t *)page, 0);
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &self), before - 1);
    CHECK_EQ(HC(memory_op, XENMEM_remove_from_physmap, &r), 0);
    CHECK_EQ(HC(memory_op, XENMEM_remove_from_physmap, &r), -XEN_ENOENT);
    grant.idx = 1 << 20;
    CHECK_REFUSED(HC(memory_op, XENMEM_add_to_physmap, &grant));
    grant.space = 77;
    CHECK_REFUSED(HC(memory_op, XENMEM_add_to_physmap, &grant));
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &give), 1);
    CHECK(HC(memory_op, XENMEM_maximum_gpfn, &self) >= (long)frame);
}

/* Domain 0 lends to itself; what is mapped where, a guest of this kind says by frame number. */
static struct gnttab_map_grant_ref map(void *at, uint32_t flags)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (uint64_t)at, .flags = flags, .ref = 8, .dom = 0, .status = 99};
    CHECK_EQ(HC(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    return m;
}

static int unmap(void *at, uint32_t handle)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = (uint64_t)at, .handle = handle, .status = 99};
    CHECK_EQ(HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    return u.status;
}

static void grants(void)
{
    static volatile uint8_t table_page[PAGE_SIZE] __attribute__((aligned(4096)));
    static volatile uint8_t lent[PAGE_SIZE] __attribute__((aligned(4096)));
    static volatile uint8_t window[PAGE_SIZE] __attribute__((aligned(4096)));
    volatile struct grant_entry_v1 *table = (volatile void *)table_page;
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .gpfn = (uint64_t)table_page >> 12};
    xen_pfn_t frame = (uint64_t)window >> 12;
    struct xen_memory_reservation hole = {
        .domid = DOMID_SELF, .nr_extents = 1, .extent_start.p = &frame};

    section("grants");
    CHECK_EQ(HC(memory_op, XENMEM_add_to_physmap, &add), 0);
    lent[0] = 42;
    table[8].frame = (uint64_t)lent >> 12;
    table[8].domid = 0;
    table[8].flags = GTF_permit_access;

    CHECK_EQ(map((void *)window, GNTMAP_host_map).status,
             GNTST_bad_virt_addr); /* memory is there */
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &hole), 1);
    struct gnttab_map_grant_ref m = map((void *)window, GNTMAP_host_map);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(window[0], 42);
    window[1] = 43;
    CHECK_EQ(lent[1], 43);
    CHECK_EQ(table[8].flags, GTF_permit_access | GTF_reading | GTF_writing);
    CHECK_EQ(map((void *)window, GNTMAP_host_map).status, GNTST_bad_virt_addr);
    /* We do not write to what is lent for the guest: a page table it could be by then. */
    CHECK_EQ(HC(xen_version, XENVER_get_features, window + 64), -XEN_EFAULT);
    CHECK(unmap((void *)lent, m.handle) != GNTST_okay);
    CHECK_EQ(unmap((void *)window, m.handle), GNTST_okay);
    CHECK_EQ(unmap((void *)window, m.handle), GNTST_bad_handle);
    CHECK_EQ(window[0], 0xff);
    CHECK_EQ(table[8].flags, GTF_permit_access);

    m = map((void *)window, GNTMAP_host_map | GNTMAP_readonly);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(window[1], 43);
    CHECK(!try_write((void *)(window + 8), 1));
    CHECK_TRAP(T_GP, 0);
    CHECK_EQ(lent[1], 43);
    /* What is taken out behind the handle's back is not unmapped, and nothing is lost. */
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = frame};
    CHECK_EQ(HC(memory_op, XENMEM_remove_from_physmap, &r), 0);
    CHECK(unmap((void *)window, m.handle) != GNTST_okay);

    CHECK_EQ(map((void *)window, GNTMAP_host_map | GNTMAP_contains_pte).status,
             GNTST_general_error);
    CHECK_EQ(map((void *)0xfffffffffffff000UL, GNTMAP_host_map).status, GNTST_bad_virt_addr);
    CHECK_EQ(HC(memory_op, XENMEM_populate_physmap, &hole), 1);
    CHECK_EQ(window[1], 0);
}

static void events(void)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_send send;

    section("events");
    CHECK_EQ(callback_on(), 0);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi), 0);
    send.port = ipi.port;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK_EQ(event_count[ipi.port], 0); /* interrupts are off */
    irqs_on();
    for (unsigned i = 0; i < 1000 && !event_count[ipi.port]; i++)
        cpu_relax();
    CHECK_EQ(event_count[ipi.port], 1);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    for (unsigned i = 0; i < 1000 && event_count[ipi.port] < 2; i++)
        cpu_relax();
    irqs_off();
    CHECK_EQ(event_count[ipi.port], 2);
}

static void timer(void)
{
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER, .vcpu = 0};

    section("halt and timer");
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_virq, &virq), 0);
    for (unsigned i = 1; i <= 5; i++) {
        uint64_t start = ns_now();
        CHECK_EQ(HC(set_timer_op, start + 5000000), 0);
        while (event_count[virq.port] < i)
            wait_irq();
        CHECK(ns_now() - start >= 5000000);
    }
    struct sched_poll poll = {.nr_ports = 0, .timeout = ns_now() + 5000000};
    CHECK_EQ(HC(sched_op, SCHEDOP_poll, &poll), 0);
    CHECK(ns_now() >= poll.timeout);
    HC(set_timer_op, ns_now() + 2000000);
    CHECK_EQ(HC(sched_op, SCHEDOP_block, 0), 0);
}

void test_main(void)
{
    start_of_day();
    identity();
    bad_input();
    physmap();
    grants();
    events();
    timer();
}
