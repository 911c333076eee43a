/*
 * The machine's interrupts as domain 0 gets them: GSIs mapped and bound to ports, a real device's
 * interrupts arriving (the clock chip's, 1024 a second), end of interrupt by call and by page,
 * PCI devices announced, their message interrupts mapped; and what is refused.
 * NOT: bochs (whose chipset has no MCFG)
 */
#include "guest.h"
#include <xen/physdev.h>
#include <xen/platform.h>

const char test_name[] = "physdev";

#define RTC_GSI 8

static long op(unsigned cmd, void *arg)
{
    return HC(physdev_op, cmd, arg);
}

static uint8_t cmos(uint8_t reg)
{
    uint8_t v;

    asm volatile("outb %1, $0x70; inb $0x71, %0" : "=a"(v) : "0"(reg));
    return v;
}

static void set_cmos(uint8_t reg, uint8_t v)
{
    asm volatile("outb %0, $0x70" ::"a"(reg));
    asm volatile("outb %0, $0x71" ::"a"(v));
}

static long map_gsi(int gsi, int *pirq)
{
    struct physdev_map_pirq m = {
        .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = gsi, .pirq = *pirq};
    long ret = op(PHYSDEVOP_map_pirq, &m);

    *pirq = m.pirq;
    return ret;
}

static long bind_pirq(uint32_t pirq, uint32_t *port)
{
    struct evtchn_bind_pirq b = {.pirq = pirq};
    long ret = HC(event_channel_op, EVTCHNOP_bind_pirq, &b);

    *port = b.port;
    return ret;
}

static void registers(void)
{
    struct physdev_apic a = {.apic_physbase = 0xfec00000, .reg = 1};

    long ret = op(PHYSDEVOP_apic_read, &a);

    section("the IO-APIC");
    if (is_trilby() && ret == -XEN_ENOSYS) /* docs/support.md; kernels then make do */
        return;
    CHECK_EQ(ret, 0);
    print("  version register %x\n", a.value);
    CHECK((a.value >> 16 & 0xff) >= 23);
    a.apic_physbase = 0x12345000;
    CHECK_EQ(op(PHYSDEVOP_apic_read, &a), -XEN_EINVAL);
    a.apic_physbase = 0xfee00000;
    CHECK_EQ(op(PHYSDEVOP_apic_write, &a), -XEN_EINVAL);
    CHECK_EQ(op(PHYSDEVOP_apic_read, (void *)BAD_UNMAPPED), -XEN_EFAULT);
}

static volatile bool by_call;
static volatile unsigned ticks;
static uint32_t rtc_port;

static bool upcall(struct regs *r)
{
    (void)r;
    unsigned before = event_count[rtc_port];

    event_upcall();
    if (event_count[rtc_port] != before) {
        struct physdev_eoi e = {.irq = RTC_GSI};

        ticks++;
        cmos(0x0c); /* reading it lets the chip raise the next one */
        if (by_call)
            op(PHYSDEVOP_eoi, &e);
    }
    return true;
}

static void clock_chip(void)
{
    struct physdev_setup_gsi g = {.gsi = RTC_GSI, .triggering = 0, .polarity = 0};
    struct physdev_irq_status_query q = {.irq = RTC_GSI};
    struct physdev_unmap_pirq u = {.domid = DOMID_SELF, .pirq = RTC_GSI};
    struct evtchn_status s = {.dom = DOMID_SELF};
    int pirq = RTC_GSI;
    uint32_t again;
    uint8_t b;

    section("a device's interrupts");
    CHECK_IN(op(PHYSDEVOP_setup_gsi, &g), 0, -XEN_EEXIST);
    CHECK_EQ(map_gsi(RTC_GSI, &pirq), 0);
    CHECK_EQ(pirq, RTC_GSI);
    CHECK_EQ(op(PHYSDEVOP_irq_status_query, &q), 0);
    by_call = q.flags & XENIRQSTAT_needs_eoi;
    print("  status flags %x\n", q.flags);
    CHECK_EQ(bind_pirq(RTC_GSI, &rtc_port), 0);
    CHECK_REFUSED(bind_pirq(RTC_GSI, &again)); /* once per domain */
    s.port = rtc_port;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_status, &s), 0);
    CHECK_EQ(s.status, EVTCHNSTAT_pirq);
    CHECK_EQ(s.u.pirq, RTC_GSI);
    trap_set_hook(ENTRY_EVENT, upcall);
    events_on();
    b = cmos(0x0b);
    set_cmos(0x0a, 0x26);     /* 1024 Hz */
    set_cmos(0x0b, b | 0x40); /* periodic interrupts */
    cmos(0x0c);
    time_spin(500000000);
    set_cmos(0x0b, b & ~0x40);
    print("  %u interrupts in half a second\n", ticks);
    CHECK(ticks >= 50 && ticks <= 600);
    unsigned seen = ticks;

    time_spin(50000000);
    CHECK(ticks <= seen + 1);
    /* Masked in between: kept pending, none lost for good. */
    event_mask(rtc_port, true);
    set_cmos(0x0b, b | 0x40);
    cmos(0x0c);
    time_spin(20000000);
    CHECK(event_pending(rtc_port));
    struct evtchn_unmask um = {.port = rtc_port};

    seen = ticks;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_unmask, &um), 0);
    time_spin(50000000);
    CHECK(ticks > seen);
    set_cmos(0x0b, b & ~0x40);
    cmos(0x0c);
    /* Bound ones cannot be unmapped silently; closed ones can, and mapped again. */
    struct evtchn_close c = {.port = rtc_port};

    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &c), 0);
    CHECK_EQ(op(PHYSDEVOP_unmap_pirq, &u), 0);
    CHECK_REFUSED(bind_pirq(RTC_GSI, &again));
    /* Stock takes the right to the interrupt away with the mapping. */
    if (map_gsi(RTC_GSI, &pirq) == 0) {
        CHECK_EQ(bind_pirq(RTC_GSI, &again), 0);
        c.port = again;
        CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &c), 0);
        /* A port outlives its interrupt; the audit at the end has nothing against it. */
        CHECK_EQ(bind_pirq(RTC_GSI, &again), 0);
        CHECK_EQ(op(PHYSDEVOP_unmap_pirq, &u), 0);
        /* Its end is not the end of another that the interrupt has by then. */
        if (map_gsi(RTC_GSI, &pirq) == 0) {
            CHECK_EQ(bind_pirq(RTC_GSI, &rtc_port), 0);
            c.port = again;
            CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &c), 0);
            CHECK_EQ(op(PHYSDEVOP_eoi, &(struct physdev_eoi){.irq = RTC_GSI}), 0);
            CHECK_EQ(op(PHYSDEVOP_unmap_pirq, &u), 0);
        }
    }
    events_off();
}

static void eoi_page(void)
{
    uint64_t *page = page_alloc();
    struct physdev_pirq_eoi_gmfn g = {.gmfn = mfn_of(page)}, bad = {.gmfn = 0xfffffffffUL};

    section("the page of pirqs that need an end of interrupt");
    CHECK_EQ(op(PHYSDEVOP_pirq_eoi_gmfn_v2, &bad), -XEN_EINVAL);
    bad.gmfn = cr3_mfn();
    CHECK_REFUSED(op(PHYSDEVOP_pirq_eoi_gmfn_v2, &bad)); /* it would write a page table */
    CHECK_EQ(op(PHYSDEVOP_pirq_eoi_gmfn_v2, &g), 0);
    CHECK_EQ(op(PHYSDEVOP_pirq_eoi_gmfn_v2, &g), -XEN_EBUSY);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page)));
}

static void messages(void)
{
    struct physdev_pci_device_add add = {.seg = 0, .bus = 0, .devfn = 0};
    struct physdev_map_pirq m = {
        .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_MSI_SEG, .index = -1, .pirq = -1};
    struct physdev_get_free_pirq f = {.type = MAP_PIRQ_TYPE_MSI};
    struct physdev_pci_mmcfg_reserved mm = {
        .address = 0xb0000000, .segment = 0, .start_bus = 0, .end_bus = 255, .flags = 1};

    section("PCI devices and messages");
    CHECK_EQ(op(PHYSDEVOP_pci_device_add, &add), 0);
    CHECK_IN(op(PHYSDEVOP_pci_mmcfg_reserved, &mm), 0, -XEN_ENODEV); /* as the tables say */
    CHECK_EQ(op(PHYSDEVOP_get_free_pirq, &f), 0);
    CHECK(f.pirq >= 16);
    /* The AHCI controller at 00:1f.2 has MSI. */
    add.devfn = 0x1f << 3 | 2;
    CHECK_EQ(op(PHYSDEVOP_pci_device_add, &add), 0);
    m.bus = 0;
    m.devfn = add.devfn;
    CHECK_EQ(op(PHYSDEVOP_map_pirq, &m), 0);
    print("  AHCI's message is pirq %d\n", m.pirq);
    if (m.pirq > 0) {
        struct physdev_unmap_pirq u = {.domid = DOMID_SELF, .pirq = m.pirq};
        uint32_t port;

        CHECK_EQ(bind_pirq((uint32_t)m.pirq, &port), 0);
        struct evtchn_close c = {.port = port};

        CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &c), 0);
        CHECK_EQ(op(PHYSDEVOP_unmap_pirq, &u), 0);
        CHECK_REFUSED(op(PHYSDEVOP_unmap_pirq, &u));
    }
    m.pirq = -1;
    m.devfn = 0x0a << 3; /* nothing there */
    CHECK_REFUSED(op(PHYSDEVOP_map_pirq, &m));
}

static void refusals(void)
{
    static uint8_t buffer[256];
    struct physdev_irq_status_query q = {.irq = 0xffffffff};
    struct physdev_eoi e = {.irq = 0xffffffff};
    struct physdev_setup_gsi g = {.gsi = 100000};
    struct physdev_map_pirq m = {.domid = 1234, .type = MAP_PIRQ_TYPE_GSI, .index = 5, .pirq = 5};
    struct physdev_unmap_pirq u = {.domid = DOMID_SELF, .pirq = 100000};

    section("refusals");
    CHECK_EQ(op(PHYSDEVOP_irq_status_query, &q), -XEN_EINVAL);
    CHECK_EQ(op(PHYSDEVOP_eoi, &e), -XEN_EINVAL);
    CHECK_EQ(op(PHYSDEVOP_setup_gsi, &g), -XEN_EINVAL);
    g.gsi = -1;
    CHECK_EQ(op(PHYSDEVOP_setup_gsi, &g), -XEN_EINVAL);
    CHECK_EQ(op(PHYSDEVOP_map_pirq, &m), -XEN_ESRCH);
    m.domid = DOMID_SELF;
    m.index = 100000;
    CHECK_EQ(op(PHYSDEVOP_map_pirq, &m), -XEN_EINVAL);
    m.index = -5;
    m.pirq = -5;
    CHECK_REFUSED(op(PHYSDEVOP_map_pirq, &m));
    m.type = 99;
    CHECK_REFUSED(op(PHYSDEVOP_map_pirq, &m));
    CHECK_REFUSED(op(PHYSDEVOP_unmap_pirq, &u));
    u.pirq = -1;
    CHECK_REFUSED(op(PHYSDEVOP_unmap_pirq, &u));
    u.domid = 1234;
    CHECK_EQ(op(PHYSDEVOP_unmap_pirq, &u), -XEN_ESRCH);
    CHECK_EQ(op(99, buffer), -XEN_ENOSYS);
    for (unsigned cmd = 5; cmd < 32; cmd++)
        if (cmd != PHYSDEVOP_alloc_irq_vector && cmd != PHYSDEVOP_free_irq_vector && cmd != 22)
            CHECK_REFUSED(op(cmd, (void *)BAD_HYPERVISOR));

    section("platform operations");
    struct xen_platform_op p = {.cmd = XENPF_get_cpuinfo,
                                .interface_version = XENPF_INTERFACE_VERSION};

    CHECK_EQ(HC(platform_op, &p), 0);
    CHECK_EQ(p.u.pcpu_info.max_present, 1);
    CHECK_EQ(p.u.pcpu_info.flags & XEN_PCPU_FLAGS_ONLINE, XEN_PCPU_FLAGS_ONLINE);
    p.u.pcpu_info.xen_cpuid = 99999;
    CHECK_EQ(HC(platform_op, &p), 0);
    CHECK_EQ(p.u.pcpu_info.flags, XEN_PCPU_FLAGS_INVALID);
    p.cmd = 9999;
    CHECK_EQ(HC(platform_op, &p), -XEN_ENOSYS);
    p.interface_version = 0;
    CHECK_EQ(HC(platform_op, &p), -XEN_EACCES);
    CHECK_EQ(HC(platform_op, BAD_UNMAPPED), -XEN_EFAULT);
}

void test_main(void)
{
    struct physdev_set_iopl iopl = {.iopl = 1};

    event_init();
    HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0);
    CHECK_EQ(op(PHYSDEVOP_set_iopl, &iopl), 0);
    registers();
    clock_chip();
    eoi_page();
    messages();
    refusals();
}
