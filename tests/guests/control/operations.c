/*
 * The operations that no `xl create` makes: the rest of a vCPU's state in and out, what platform_op
 * tells, and every operation of the public headers that is refused, each with its errno. A row of
 * docs/support.md that says "refused" and names this test has its line in the tables below.
 */
#include "control.h"
#include <xen/argo.h>
#include <xen/hvm/dm_op.h>
#include <xen/hypfs.h>
#include <xen/kexec.h>
#include <xen/memory.h>
#include <xen/platform.h>
#include <xen/pmu.h>
#include <xen/xenoprof.h>

static uint16_t d;

static void clear(void)
{
    memset(&dc, 0, sizeof(dc));
}

#define CS_MASK 0xe033

static void ext_context(void)
{
    section("32-bit system calls of a vCPU");
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_get_ext_vcpucontext, d), 0);
    CHECK(dc.u.ext_vcpucontext.size >= 34 && dc.u.ext_vcpucontext.size <= 128);
    CHECK_EQ(dc.u.ext_vcpucontext.syscall32_callback_eip, 0);
    dc.u.ext_vcpucontext.syscall32_callback_eip = 0xffffffff80001230UL;
    dc.u.ext_vcpucontext.syscall32_callback_cs = CS_MASK;
    dc.u.ext_vcpucontext.syscall32_disables_events = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_set_ext_vcpucontext, d), 0);
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_get_ext_vcpucontext, d), 0);
    CHECK_EQ(dc.u.ext_vcpucontext.syscall32_callback_eip, 0xffffffff80001230UL);
    CHECK_EQ(dc.u.ext_vcpucontext.syscall32_disables_events, 1);

    dc.u.ext_vcpucontext.syscall32_callback_eip = 0x8000000000000000UL; /* not canonical */
    CHECK_EQ(domctl(XEN_DOMCTL_set_ext_vcpucontext, d), -XEN_EINVAL);
    dc.u.ext_vcpucontext.syscall32_callback_eip = 0;
    dc.u.ext_vcpucontext.size = 3;
    CHECK_EQ(domctl(XEN_DOMCTL_set_ext_vcpucontext, d), -XEN_EINVAL);
    clear();
    dc.u.ext_vcpucontext.vcpu = 99;
    CHECK_EQ(domctl(XEN_DOMCTL_get_ext_vcpucontext, d), -XEN_ESRCH);
    CHECK_REFUSED(domctl(XEN_DOMCTL_get_ext_vcpucontext, 12345));
}

static uint8_t image[16384] __attribute__((aligned(64)));

static long xstate(uint32_t cmd, uint32_t vcpu, uint64_t mask, uint64_t size, void *buffer)
{
    clear();
    dc.u.vcpuextstate.vcpu = vcpu;
    dc.u.vcpuextstate.xfeature_mask = mask;
    dc.u.vcpuextstate.size = size;
    dc.u.vcpuextstate.buffer.p = buffer;
    return domctl(cmd, d);
}

/* The image: XCR0, XCR0 ever used, FXSAVE's 512 bytes, XSTATE_BV. */
#define IMAGE_XMM0      (16 + 160)
#define IMAGE_XSTATE_BV (16 + 512)
#define IMAGE_XCOMP_BV  (16 + 520)
#define SIZE_X87_SSE    (16 + 576)

static void extended_state(void)
{
    uint64_t size, mask;

    section("FPU state of a vCPU");
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, 0, 0, NULL), 0);
    size = dc.u.vcpuextstate.size;
    mask = dc.u.vcpuextstate.xfeature_mask;
    if (!size) { /* a CPU without XSAVE: the context has it all */
        CHECK_REFUSED(xstate(XEN_DOMCTL_setvcpuextstate, 0, 3, sizeof(image), image));
        return;
    }
    CHECK(size > 16 + 576 && size <= sizeof(image));
    CHECK_EQ(mask & 3, 3);
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, size, image), 0);
    uint64_t xcr0;

    memcpy(&xcr0, image, 8);
    CHECK_EQ(xcr0 & ~mask, 0);

    /* A register in, a register out. */
    uint64_t words[2] = {3, 3};

    memset(image, 0, sizeof(image));
    memcpy(image, words, 16);
    image[16] = 0x7f; /* FCW as after FNINIT */
    image[17] = 3;
    image[16 + 24] = 0x80; /* MXCSR as after reset */
    image[16 + 25] = 0x1f;
    image[IMAGE_XMM0] = 0xab;
    image[IMAGE_XSTATE_BV] = 3;
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, SIZE_X87_SSE, image), 0);
    memset(image, 0, sizeof(image));
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, size, image), 0);
    CHECK_EQ(image[IMAGE_XMM0], 0xab);
    CHECK_EQ(image[0], 3);

    image[IMAGE_XCOMP_BV + 7] = 0x80; /* the compacted form */
    CHECK_REFUSED(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, SIZE_X87_SSE, image));
    image[IMAGE_XCOMP_BV + 7] = 0;
    image[0] = 2; /* XCR0 without x87 */
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, SIZE_X87_SSE, image), -XEN_EINVAL);
    image[0] = 3;
    image[7] = 0x40; /* XCR0 with what no CPU has */
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, SIZE_X87_SSE, image), -XEN_EINVAL);
    image[7] = 0;
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, 8, image), -XEN_EINVAL);
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, ~0UL, image), -XEN_EINVAL);
    CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, 0, mask, size, (void *)BAD_HYPERVISOR),
             -XEN_EFAULT);
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, size, (void *)BAD_HYPERVISOR),
             -XEN_EFAULT);
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, 8, image), -XEN_EINVAL);
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, ~0UL, image), 0);
    CHECK_REFUSED(xstate(XEN_DOMCTL_getvcpuextstate, 99, mask, size, image));
    CHECK_REFUSED(xstate(XEN_DOMCTL_setvcpuextstate, 99, mask, size, image));
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, 0, mask, size, image), 0);
    CHECK_EQ(image[IMAGE_XMM0], 0xab); /* no refusal changed it */
}

static xen_domctl_vcpu_msr_t msrs[64];

static long registers(uint32_t cmd, uint32_t vcpu, uint32_t count, void *at)
{
    clear();
    dc.u.vcpu_msrs.vcpu = vcpu;
    dc.u.vcpu_msrs.msr_count = count;
    dc.u.vcpu_msrs.msrs.p = at;
    return domctl(cmd, d);
}

#define TSC_AUX 0xc0000103

static void saved_msrs(void)
{
    uint32_t most;

    section("MSRs of a vCPU");
    CHECK_EQ(registers(XEN_DOMCTL_get_vcpu_msrs, 0, 0, NULL), 0);
    most = dc.u.vcpu_msrs.msr_count;
    CHECK(most > 0 && most <= 64);
    CHECK_EQ(registers(XEN_DOMCTL_get_vcpu_msrs, 0, most, msrs), 0);
    CHECK(dc.u.vcpu_msrs.msr_count <= most);
    CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 0, 0, msrs), 0);
    memset(msrs, 0, sizeof(msrs));
    msrs[0].index = TSC_AUX;
    msrs[0].value = 0x4321;
    if (registers(XEN_DOMCTL_set_vcpu_msrs, 0, 1, msrs) == 0) { /* where there is RDTSCP */
        bool found = false;

        memset(msrs, 0, sizeof(msrs));
        CHECK_EQ(registers(XEN_DOMCTL_get_vcpu_msrs, 0, most, msrs), 0);
        for (uint32_t i = 0; i < dc.u.vcpu_msrs.msr_count; i++)
            found |= msrs[i].index == TSC_AUX && msrs[i].value == 0x4321;
        CHECK(found);
        CHECK_EQ(registers(XEN_DOMCTL_get_vcpu_msrs, 0, 0, msrs), -XEN_ENOBUFS);
        msrs[0].index = TSC_AUX;
        msrs[0].value = 1UL << 40;
        CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 0, 1, msrs), -XEN_EINVAL);
    }
    msrs[0].index = 0xc0000080; /* EFER is not theirs */
    CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 0, 1, msrs), -XEN_EINVAL);
    CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 0, ~0u, msrs), -XEN_EINVAL);
    CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 99, 0, msrs), -XEN_ESRCH);
    CHECK_EQ(registers(XEN_DOMCTL_set_vcpu_msrs, 0, 1, (void *)BAD_HYPERVISOR), -XEN_EFAULT);
}

static struct xen_platform_op po;

static long platform(uint32_t cmd)
{
    po.cmd = cmd;
    po.interface_version = XENPF_INTERFACE_VERSION;
    return HC(platform_op, &po);
}

static void cpus_by_platform(void)
{
    static uint64_t idle[64];
    uint8_t map = 0xff;

    section("platform_op");
    memset(&po, 0, sizeof(po));
    CHECK_EQ(platform(XENPF_get_cpu_version), 0);
    CHECK_EQ(po.u.pcpu_version.max_present, 1);
    CHECK(po.u.pcpu_version.vendor_id[0] >= 'A' && po.u.pcpu_version.family >= 5);
    po.u.pcpu_version.xen_cpuid = 4000;
    CHECK_EQ(platform(XENPF_get_cpu_version), 0);
    CHECK_EQ(po.u.pcpu_version.family, 0);

    if (!is_trilby()) /* stock leaves it out without frequency scaling by domain 0 */
        return;
    memset(&po, 0, sizeof(po));
    po.u.getidletime.cpumap_bitmap.p = &map;
    po.u.getidletime.cpumap_nr_cpus = 8;
    po.u.getidletime.idletime.p = idle;
    CHECK_EQ(platform(XENPF_getidletime), 0);
    CHECK_EQ(map, 3); /* two of the eight are there */
    CHECK(idle[0] + idle[1] > 0 && idle[2] == 0 && po.u.getidletime.now > 0);
    po.u.getidletime.idletime.p = (void *)BAD_HYPERVISOR;
    CHECK_EQ(platform(XENPF_getidletime), -XEN_EFAULT);
    po.u.getidletime.cpumap_bitmap.p = (void *)BAD_UNMAPPED;
    CHECK_EQ(platform(XENPF_getidletime), -XEN_EFAULT);
}

static void symbols(void)
{
    static char name[256];
    uint64_t last = 0;
    uint32_t n = 0;

    section("symbols");
    for (uint32_t at = 0;; n++) {
        memset(&po, 0, sizeof(po));
        po.u.symdata.symnum = at;
        po.u.symdata.namelen = sizeof(name);
        po.u.symdata.name.p = name;
        if (platform(XENPF_get_symbol) || po.u.symdata.symnum == at)
            break;
        if (po.u.symdata.address < last || !name[0])
            CHECK(!"sorted and named");
        last = po.u.symdata.address;
        at = po.u.symdata.symnum;
    }
    print("  %u symbols\n", n);
    CHECK(n > 100);
    memset(&po, 0, sizeof(po));
    po.u.symdata.symnum = ~0u;
    po.u.symdata.namelen = sizeof(name);
    po.u.symdata.name.p = name;
    CHECK(platform(XENPF_get_symbol) <= 0);
    memset(&po, 0, sizeof(po));
    po.u.symdata.namelen = ~0u; /* as much as it likes, to nowhere */
    po.u.symdata.name.p = (void *)BAD_HYPERVISOR;
    CHECK_EQ(platform(XENPF_get_symbol), -XEN_EFAULT);
}

/* --- refused --- */

struct refusal {
    uint32_t op;
    const char *name;
    int error;
};
#define NO(op, error)                                                                              \
    {                                                                                              \
        op, #op, -XEN_##error                                                                      \
    }

static const struct refusal no_domctl[] = {
    NO(XEN_DOMCTL_subscribe, ENOSYS),
    NO(XEN_DOMCTL_set_target, ENOSYS),
    NO(XEN_DOMCTL_real_mode_area, ENOSYS),
    NO(XEN_DOMCTL_soft_reset, ENOSYS),
    {23, "XEN_DOMCTL_soft_reset_cont", -XEN_ENOSYS}, /* not for tools: the header hides it */
    NO(XEN_DOMCTL_audit_p2m, ENOSYS),
    NO(XEN_DOMCTL_set_access_required, ENOSYS),
    NO(XEN_DOMCTL_set_broken_page_p2m, ENOSYS),
    NO(XEN_DOMCTL_cacheflush, ENOSYS),
    NO(XEN_DOMCTL_assign_device, ENOSYS),
    NO(XEN_DOMCTL_deassign_device, ENOSYS),
    NO(XEN_DOMCTL_test_assign_device, ENOSYS),
    NO(XEN_DOMCTL_get_device_group, ENOSYS),
    NO(XEN_DOMCTL_bind_pt_irq, ENOSYS),
    NO(XEN_DOMCTL_unbind_pt_irq, ENOSYS),
    NO(XEN_DOMCTL_memory_mapping, ENOSYS),
    NO(XEN_DOMCTL_ioport_mapping, ENOSYS),
    NO(XEN_DOMCTL_vm_event_op, ENOSYS),
    NO(XEN_DOMCTL_mem_sharing_op, ENOSYS),
    NO(XEN_DOMCTL_monitor_op, ENOSYS),
    NO(XEN_DOMCTL_vmtrace_op, ENOSYS),
    NO(XEN_DOMCTL_debug_op, ENOSYS),
    NO(XEN_DOMCTL_gdbsx_guestmemio, ENOSYS),
    NO(XEN_DOMCTL_gdbsx_pausevcpu, ENOSYS),
    NO(XEN_DOMCTL_gdbsx_unpausevcpu, ENOSYS),
    NO(XEN_DOMCTL_gdbsx_domstatus, ENOSYS),
    NO(XEN_DOMCTL_psr_cmt_op, ENOSYS),
    NO(XEN_DOMCTL_psr_alloc, ENOSYS),
    NO(XEN_DOMCTL_setvnumainfo, ENOSYS),
    NO(XEN_DOMCTL_vuart_op, ENOSYS),
    NO(XEN_DOMCTL_set_opt_feature, ENOSYS),
};

static const struct refusal no_sysctl[] = {
    NO(XEN_SYSCTL_tbuf_op, ENOSYS),         NO(XEN_SYSCTL_perfc_op, ENOSYS),
    NO(XEN_SYSCTL_lockprof_op, ENOSYS),     NO(XEN_SYSCTL_coverage_op, ENOSYS),
    NO(XEN_SYSCTL_get_pmstat, ENOSYS),      NO(XEN_SYSCTL_pm_op, ENOSYS),
    NO(XEN_SYSCTL_page_offline_op, ENOSYS), NO(XEN_SYSCTL_psr_cmt_op, ENOSYS),
    NO(XEN_SYSCTL_psr_alloc, ENOSYS),       NO(XEN_SYSCTL_livepatch_op, ENOSYS),
};

static const struct refusal no_platform[] = {
    NO(XENPF_add_memtype, ENOSYS),    NO(XENPF_del_memtype, ENOSYS),
    NO(XENPF_read_memtype, ENOSYS),   NO(XENPF_microcode_update, ENOSYS),
    NO(XENPF_platform_quirk, ENOSYS), NO(XENPF_efi_runtime_call, ENOSYS),
    NO(XENPF_change_freq, ENOSYS),    NO(XENPF_set_processor_pminfo, ENOSYS),
    NO(XENPF_core_parking, ENOSYS),   NO(XENPF_cpu_hotadd, ENOSYS),
    NO(XENPF_mem_hotadd, ENOSYS),     NO(XENPF_resource_op, ENOSYS),
};

static void check_refusal(const struct refusal *r, long got)
{
    if (got == r->error) {
        checks_passed++;
        return;
    }
    print("FAIL %s gave %ld instead of %d\n", r->name, got, r->error);
    checks_failed++;
}

#define FOR_EACH(r, table)                                                                         \
    for (const struct refusal *r = table; r < table + sizeof(table) / sizeof(*table); r++)

/* What Trilby does not do; stock Xen does some of it. */
static void refused(void)
{
    if (!is_trilby())
        return;
    section("operations that are refused");
    FOR_EACH(r, no_domctl)
    {
        clear();
        check_refusal(r, domctl(r->op, d));
        memset(&dc.u, 0xff, sizeof(dc.u));
        check_refusal(r, domctl(r->op, d));
    }
    FOR_EACH(r, no_sysctl)
    {
        memset(&sc, 0, sizeof(sc));
        check_refusal(r, sysctl(r->op));
        memset(&sc.u, 0xff, sizeof(sc.u));
        check_refusal(r, sysctl(r->op));
    }
    FOR_EACH(r, no_platform)
    {
        memset(&po, 0, sizeof(po));
        check_refusal(r, platform(r->op));
        memset(&po.u, 0xff, sizeof(po.u));
        check_refusal(r, platform(r->op));
    }
    for (unsigned op = 0; op < 2; op++) {
        memset(&sc, 0, sizeof(sc));
        sc.u.cpu_hotplug.op = op;
        CHECK_EQ(sysctl(XEN_SYSCTL_cpu_hotplug), -XEN_EOPNOTSUPP);
        sc.u.cpu_hotplug.cpu = ~0u; /* there is no such CPU */
        CHECK_EQ(sysctl(XEN_SYSCTL_cpu_hotplug), -XEN_EINVAL);
        memset(&po, 0, sizeof(po));
        CHECK_EQ(platform(op ? XENPF_cpu_online : XENPF_cpu_offline), -XEN_EOPNOTSUPP);
        po.u.cpu_ol.cpuid = ~0u;
        CHECK_EQ(platform(op ? XENPF_cpu_online : XENPF_cpu_offline), -XEN_EINVAL);
    }
    static const uint32_t fixed_pool[] = {XEN_SYSCTL_CPUPOOL_OP_CREATE,
                                          XEN_SYSCTL_CPUPOOL_OP_DESTROY,
                                          XEN_SYSCTL_CPUPOOL_OP_RMCPU, 99};

    for (unsigned i = 0; i < sizeof(fixed_pool) / sizeof(*fixed_pool); i++) {
        memset(&sc, 0, sizeof(sc));
        sc.u.cpupool_op.op = fixed_pool[i];
        CHECK_EQ(sysctl(XEN_SYSCTL_cpupool_op), -XEN_EOPNOTSUPP);
    }
    memset(&sc, 0, sizeof(sc));
    sc.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_ADDCPU;
    CHECK_EQ(sysctl(XEN_SYSCTL_cpupool_op), -XEN_ENODEV); /* no CPU is free */
    sc.u.cpupool_op.cpupool_id = 1;
    CHECK_EQ(sysctl(XEN_SYSCTL_cpupool_op), -XEN_ENOENT);
}

/* Hypercalls that are refused whole, whatever their operation. */
static void refused_hypercalls(void)
{
    static uint8_t nothing[256];
    static const struct {
        unsigned nr, ops;
    } whole[] = {
        {__HYPERVISOR_kexec_op, KEXEC_CMD_kexec_status + 1},
        {__HYPERVISOR_xenoprof_op, XENOPROF_last_op + 1},
        {__HYPERVISOR_xenpmu_op, XENPMU_flush + 1},
        {__HYPERVISOR_argo_op, XEN_ARGO_OP_notify + 1},
        {__HYPERVISOR_hypfs_op, XEN_HYPFS_OP_write_contents + 1},
        {__HYPERVISOR_xsm_op, 1},
        {__HYPERVISOR_nmi_op, 2},
        {__HYPERVISOR_tmem_op, 1},
    };

    if (!is_trilby())
        return;
    section("hypercalls that are refused");
    for (unsigned i = 0; i < sizeof(whole) / sizeof(*whole); i++)
        for (unsigned op = 0; op < whole[i].ops; op++)
            CHECK_EQ(HC_NR(whole[i].nr, op, nothing), -XEN_ENOSYS);
}

/* Maps of CPUs and nodes that claim more bits than there is memory for. */
static void long_maps(void)
{
    static uint8_t page[2 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
    uint8_t *hole = page + PAGE_SIZE;

    section("long maps");
    CHECK_EQ(va_map(hole, 0), 0);
    for (uint32_t bits = ~0u; bits > ~0u - 9; bits--) {
        clear();
        dc.u.nodeaffinity.nodemap.bitmap.p = hole - 64;
        dc.u.nodeaffinity.nodemap.nr_bits = bits;
        CHECK_EQ(domctl(XEN_DOMCTL_getnodeaffinity, d), -XEN_EFAULT);
    }
    memset(page, 0xff, PAGE_SIZE);
    clear();
    dc.u.nodeaffinity.nodemap.bitmap.p = page;
    dc.u.nodeaffinity.nodemap.nr_bits = (PAGE_SIZE - 1) * 8;
    CHECK_EQ(domctl(XEN_DOMCTL_getnodeaffinity, d), 0);
    CHECK_EQ(page[0], 1);
    CHECK_EQ(page[PAGE_SIZE - 2], 0);
    CHECK_EQ(page[PAGE_SIZE - 1], 0xff);
    CHECK_EQ(map_rw(hole), 0);
}

/* State calls on the caller itself would wait for themselves. */
static void not_ourselves(void)
{
    section("our own state");
    clear();
    CHECK_REFUSED(domctl(XEN_DOMCTL_set_ext_vcpucontext, 0));
    clear();
    dc.u.vcpuextstate.size = sizeof(image);
    dc.u.vcpuextstate.buffer.p = (void *)image;
    CHECK_REFUSED(domctl(XEN_DOMCTL_setvcpuextstate, DOMID_SELF));
    clear();
    dc.u.vcpu_msrs.msr_count = 1;
    dc.u.vcpu_msrs.msrs.p = msrs;
    CHECK_REFUSED(domctl(XEN_DOMCTL_set_vcpu_msrs, 0));
}

void rarities(void)
{
    uint64_t before = free_pages();

    CHECK_EQ(create_with(plain_config(), 0, &d), 0);
    clear();
    dc.u.max_vcpus.max = 2;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, d), 0);
    ext_context();
    extended_state();
    saved_msrs();
    cpus_by_platform();
    symbols();
    refused();
    refused_hypercalls();
    if (is_trilby()) /* stock wraps at 32 bits */
        long_maps();
    not_ourselves();
    CHECK_EQ(destroy(d), 0);
    check_free(before, __FILE__, __LINE__);
}
