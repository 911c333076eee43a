/*
 * The domctls that `xl create` makes on a domain that does not run yet, each with its answer and
 * its refusals: time, addresses, affinity, scheduling, rights, page information, CPU policy.
 */
#include "control.h"

static uint16_t d;
static xen_pfn_t frame;

static long call(uint32_t cmd)
{
    return domctl(cmd, d);
}

static void clear(void)
{
    memset(&dc, 0, sizeof(dc));
}

static void time_and_names(void)
{
    struct xen_domctl_getdomaininfo info;

    section("time, address size, handle");
    clear();
    CHECK_EQ(call(XEN_DOMCTL_gettscinfo), 0);
    CHECK(dc.u.tsc_info.gtsc_khz > 1000);
    clear();
    CHECK_EQ(call(XEN_DOMCTL_settscinfo), 0);
    clear();
    dc.u.settimeoffset.time_offset_seconds = 3600;
    CHECK_EQ(call(XEN_DOMCTL_settimeoffset), 0);
    clear();
    CHECK_EQ(call(XEN_DOMCTL_get_address_size), 0);
    CHECK_EQ(dc.u.address_size.size, 64);
    clear();
    dc.u.address_size.size = 64;
    CHECK_EQ(call(XEN_DOMCTL_set_address_size), 0);
    clear();
    dc.u.address_size.size = 48;
    CHECK(call(XEN_DOMCTL_set_address_size) < 0);
    clear();
    memset(dc.u.setdomainhandle.handle, 0x5a, sizeof(dc.u.setdomainhandle.handle));
    CHECK_EQ(call(XEN_DOMCTL_setdomainhandle), 0);
    CHECK(domain_info(d, &info));
    CHECK_EQ(info.handle[0], 0x5a);
    CHECK_EQ(info.handle[15], 0x5a);
}

/* The hard affinity of a vCPU, as a map of 8 CPUs. */
static long affinity(uint32_t cmd, uint32_t vcpu, uint8_t *map)
{
    clear();
    dc.u.vcpuaffinity.vcpu = vcpu;
    dc.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    dc.u.vcpuaffinity.cpumap_hard.bitmap.p = map;
    dc.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    return call(cmd);
}

static void places(void)
{
    uint8_t map = 0, wanted = 1;

    section("affinity and scheduling");
    CHECK_EQ(affinity(XEN_DOMCTL_setvcpuaffinity, 0, &wanted), 0);
    CHECK_EQ(affinity(XEN_DOMCTL_getvcpuaffinity, 0, &map), 0);
    CHECK_EQ(map, 1);
    wanted = 0; /* no CPU at all */
    CHECK(affinity(XEN_DOMCTL_setvcpuaffinity, 0, &wanted) < 0);
    CHECK_EQ(affinity(XEN_DOMCTL_setvcpuaffinity, 99, &wanted), -XEN_EINVAL);
    CHECK_EQ(affinity(XEN_DOMCTL_getvcpuaffinity, 99, &map), -XEN_EINVAL);

    clear();
    dc.u.nodeaffinity.nodemap.bitmap.p = &map;
    dc.u.nodeaffinity.nodemap.nr_bits = 8;
    CHECK_EQ(call(XEN_DOMCTL_getnodeaffinity), 0);
    CHECK(map & 1);
    map = 1;
    CHECK_EQ(call(XEN_DOMCTL_setnodeaffinity), 0);

    clear();
    dc.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    dc.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_putinfo;
    dc.u.scheduler_op.u.credit2.weight = 512;
    dc.u.scheduler_op.u.credit2.cap = 40;
    CHECK_EQ(call(XEN_DOMCTL_scheduler_op), 0);
    clear();
    dc.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    dc.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_getinfo;
    CHECK_EQ(call(XEN_DOMCTL_scheduler_op), 0);
    CHECK_EQ(dc.u.scheduler_op.u.credit2.weight, 512);
    CHECK_EQ(dc.u.scheduler_op.u.credit2.cap, 40);
    dc.u.scheduler_op.sched_id = XEN_SCHEDULER_RTDS;
    CHECK_EQ(call(XEN_DOMCTL_scheduler_op), -XEN_EINVAL);
    dc.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT;
    CHECK_EQ(call(XEN_DOMCTL_scheduler_op), -XEN_EINVAL);

    section("triggers");
    clear();
    dc.u.sendtrigger.trigger = XEN_DOMCTL_SENDTRIGGER_NMI;
    CHECK_EQ(call(XEN_DOMCTL_sendtrigger), 0);
    dc.u.sendtrigger.vcpu = 99;
    CHECK_REFUSED(call(XEN_DOMCTL_sendtrigger));
    dc.u.sendtrigger.vcpu = 0;
    dc.u.sendtrigger.trigger = XEN_DOMCTL_SENDTRIGGER_POWER;
    CHECK_EQ(call(XEN_DOMCTL_sendtrigger), -XEN_EINVAL);
    dc.u.sendtrigger.trigger = 1234;
    CHECK_EQ(call(XEN_DOMCTL_sendtrigger), -XEN_ENOSYS);

    clear();
    CHECK_EQ(call(XEN_DOMCTL_getvcpuinfo), 0);
    CHECK_EQ(dc.u.getvcpuinfo.online, 0);
    CHECK_EQ(dc.u.getvcpuinfo.cpu_time, 0);
}

static void rights(void)
{
    section("rights to the machine");
    for (unsigned allow = 2; allow-- > 0;) {
        clear();
        dc.u.ioport_permission.first_port = 0x2f8;
        dc.u.ioport_permission.nr_ports = 8;
        dc.u.ioport_permission.allow_access = allow;
        CHECK_EQ(call(XEN_DOMCTL_ioport_permission), 0);
        clear();
        dc.u.iomem_permission.first_mfn = 0xa0;
        dc.u.iomem_permission.nr_mfns = 16;
        dc.u.iomem_permission.allow_access = allow;
        CHECK_EQ(call(XEN_DOMCTL_iomem_permission), 0);
    }
    for (unsigned allow = 2; allow-- > 0;) {
        clear();
        dc.u.irq_permission.pirq = 17;
        dc.u.irq_permission.allow_access = allow;
        CHECK_IN(call(XEN_DOMCTL_irq_permission), 0, is_trilby() ? 0 : -XEN_EPERM);
    }
    clear();
    dc.u.ioport_permission.first_port = 0xffff;
    dc.u.ioport_permission.nr_ports = 2;
    dc.u.ioport_permission.allow_access = 1;
    CHECK(call(XEN_DOMCTL_ioport_permission) < 0);
}

static void pages(void)
{
    xen_pfn_t list[2] = {frame, ~0UL >> 20};

    section("page information");
    clear();
    dc.u.getpageframeinfo3.num = 2;
    dc.u.getpageframeinfo3.array.p = list;
    CHECK_EQ(call(XEN_DOMCTL_getpageframeinfo3), 0);
    CHECK_EQ(list[0] & XEN_DOMCTL_PFINFO_LTAB_MASK, XEN_DOMCTL_PFINFO_NOTAB);
    CHECK_EQ(list[1] & XEN_DOMCTL_PFINFO_LTAB_MASK, XEN_DOMCTL_PFINFO_XTAB);
    clear();
    dc.u.getpageframeinfo3.num = 1UL << 40;
    dc.u.getpageframeinfo3.array.p = list;
    CHECK(call(XEN_DOMCTL_getpageframeinfo3) < 0);
}

static xen_cpuid_leaf_t leaves[256];

/* The domain's policy into leaves; how many there are is in dc. */
static long get_policy(void)
{
    static xen_msr_entry_t msrs[16];

    clear();
    dc.u.cpu_policy.nr_leaves = 256;
    dc.u.cpu_policy.leaves.p = leaves;
    dc.u.cpu_policy.nr_msrs = 16;
    dc.u.cpu_policy.msrs.p = msrs;
    return call(XEN_DOMCTL_get_cpu_policy);
}

static void policies(void)
{
    section("CPU policy");
    CHECK_EQ(get_policy(), 0);
    CHECK(dc.u.cpu_policy.nr_leaves > 4);
    CHECK_EQ(leaves[0].leaf, 0);
    uint32_t n = dc.u.cpu_policy.nr_leaves;

    for (uint32_t i = 0; i < n; i++)
        if (leaves[i].leaf == 1)
            leaves[i].c &= ~(1u << 20); /* without SSE4.2 */
    clear();
    dc.u.cpu_policy.nr_leaves = n;
    dc.u.cpu_policy.leaves.p = leaves;
    CHECK_EQ(call(XEN_DOMCTL_set_cpu_policy), 0);
    memset(leaves, 0xff, sizeof(leaves));
    CHECK_EQ(get_policy(), 0);
    for (uint32_t i = 0; i < dc.u.cpu_policy.nr_leaves; i++)
        if (leaves[i].leaf == 1)
            CHECK_EQ(leaves[i].c & 1u << 20, 0);
}

static void refused(void)
{
    section("refused");
    clear();
    CHECK(call(XEN_DOMCTL_resumedomain) <= 0); /* it has not shut down: nothing to undo */
    clear();
    dc.u.set_virq_handler.virq = 1000;
    CHECK(call(XEN_DOMCTL_set_virq_handler) < 0);
    clear();
    dc.u.setdebugging.enable = 0;
    CHECK_EQ(call(XEN_DOMCTL_setdebugging), 0);
    clear();
    CHECK_EQ(call(9999), -XEN_ENOSYS);
}

void domctls(void)
{
    uint64_t before = free_pages();

    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    clear();
    dc.u.max_vcpus.max = 2;
    CHECK_EQ(call(XEN_DOMCTL_max_vcpus), 0);
    clear();
    dc.u.max_mem.max_memkb = 64;
    CHECK_EQ(call(XEN_DOMCTL_max_mem), 0);
    frame = 0;
    CHECK_EQ(populate(d, &frame, 1, 0), 1);

    time_and_names();
    places();
    rights();
    pages();
    policies();
    refused();
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}
