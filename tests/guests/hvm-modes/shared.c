/*
 * What guest and hypervisor share, in the layouts of 32- and 64-bit code: events, time, the wall
 * clock, run states; and what makes the one become the other.
 */
#include "hvm.h"
#include "modes.h"
#include <xen/foreign/x86_32.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

#define MSR_OF_LEAF 0x40000002
#define AWAY        4 /* a vCPU that never runs */
#define PORTS32     1024u

struct runstate32 {
    uint32_t state;
    uint64_t entry, time[4];
} __attribute__((packed));

extern uint8_t wrmsr32[], event32[];

#define RESULTS ((volatile uint32_t *)RESULT)

static volatile struct shared_info_x86_32 *thin(void)
{
    return (void *)shared();
}

static uint32_t write_msr(uint32_t value)
{
    volatile uint32_t *at = (uint32_t *)CALL;
    uint32_t r[4];

    cpuid(MSR_OF_LEAF, 0, r);
    at[0] = r[1];
    at[1] = value;
    mode_run(MODE_PROTECTED, address(wrmsr32));
    return at[0];
}

static uint32_t set_callback(uint64_t value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ, .value = value};

    return call(__HYPERVISOR_hvm_op, HVMOP_set_param, &p, 0);
}

static uint32_t vcpu_op(uint32_t op, unsigned id, uint32_t arg)
{
    return call(__HYPERVISOR_vcpu_op, op, (void *)(uint64_t)id, arg);
}

static evtchn_port_t bind_ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi b = {.vcpu = vcpu};
    long rc = HC(event_channel_op, EVTCHNOP_bind_ipi, &b);

    return rc ? 0 : b.port;
}

static void do_send(evtchn_port_t port)
{
    struct evtchn_send s = {.port = port};

    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &s), 0);
}

static bool wall_clock_at(volatile uint32_t *version, volatile uint32_t *sec, uint32_t like)
{
    return *version && !(*version & 1) && *sec >= like && *sec <= like + 5;
}

/* Ports up to the last that the layout has; the highest is returned. */
static unsigned bind_all(evtchn_port_t first)
{
    evtchn_port_t port, last = first;

    while (last < PORTS32 + 5 && (port = bind_ipi(0)) != 0)
        last = port;
    return last;
}

static void close_all(evtchn_port_t first, evtchn_port_t last)
{
    for (evtchn_port_t port = first; port <= last; port++) {
        struct evtchn_close c = {.port = port};
        (void)HC(event_channel_op, EVTCHNOP_close, &c);
    }
}

static void events(void)
{
    volatile struct vcpu_info_x86_32 *info = &thin()->vcpu_info[0];
    evtchn_port_t first = bind_ipi(0), last = bind_all(first);
    struct evtchn_unmask unmask = {.port = PORTS32 - 1};
    struct evtchn_send send = {.port = 100};

    CHECK_EQ(last, PORTS32 - 1);
    do_send(100);
    CHECK_EQ(info->evtchn_upcall_pending, 1);
    CHECK_EQ(info->evtchn_pending_sel, 1 << 100 / 32);
    CHECK_EQ(shared()->vcpu_info[0].evtchn_pending_sel, 0);
    CHECK_EQ(thin()->evtchn_pending[100 / 32], 1 << 100 % 32);
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    thin()->evtchn_pending[100 / 32] = 0;

    thin()->evtchn_mask[31] = 1u << 31;
    do_send(PORTS32 - 1);
    CHECK_EQ(thin()->evtchn_pending[31], 1u << 31);
    CHECK_EQ(info->evtchn_pending_sel, 0);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_unmask, &unmask), 0);
    CHECK_EQ(thin()->evtchn_mask[31], 0);
    CHECK_EQ(info->evtchn_pending_sel, 1u << 31);
    CHECK_EQ(info->evtchn_upcall_pending, 1);
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    thin()->evtchn_pending[31] = 0;

    /* To 32-bit code, by the vector that it has named. */
    volatile uint32_t *at = (uint32_t *)CALL;
    at[0] = __HYPERVISOR_event_channel_op;
    at[1] = EVTCHNOP_send;
    at[2] = address(&send);
    RESULTS[2] = address((const void *)info);
    mode_run(MODE_PROTECTED, address(event32));
    CHECK_EQ(at[0], 0);
    CHECK_EQ(RESULTS[0], 1);
    CHECK_EQ(RESULTS[1], 1 << 100 / 32);
    thin()->evtchn_pending[100 / 32] = 0;
    close_all(first, last);
}

static void areas(void)
{
    static union {
        struct runstate32 r;
        uint8_t bytes[64];
    } area;
    static struct vcpu_time_info time;
    uint32_t at = address(&area), bad = 0xf0000000, none = 0;
    struct sched_poll poll = {.timeout = ns_now() + 20000000};
    uint64_t before = ns_now(), sum = 0;

    memset(&area, 0x77, sizeof(area));
    CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 0, address(&at)), 0);
    CHECK_EQ(area.r.state, RUNSTATE_running);
    CHECK(area.r.entry && area.r.entry <= before + 1000000000);
    CHECK_EQ(area.bytes[sizeof(area.r)], 0x77);
    for (unsigned i = 0; i < 4; i++)
        sum += area.r.time[i];
    CHECK(sum && sum <= before + 1000000000);
    CHECK_EQ(HC(sched_op, SCHEDOP_poll, &poll), 0);
    CHECK(area.r.entry > before); /* it has slept */
    CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 0, address(&bad)),
             (uint32_t)-XEN_EFAULT);
    CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 0, 0xf0000000), (uint32_t)-XEN_EFAULT);
    CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 9, address(&at)), (uint32_t)-XEN_ENOENT);
    CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 0, address(&none)), 0);

    at = address(&time);
    CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, address(&at)), 0);
    CHECK_EQ(time.version, shared()->vcpu_info[0].time.version);
    CHECK_EQ(time.tsc_to_system_mul, shared()->vcpu_info[0].time.tsc_to_system_mul);
    CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, address(&none)), 0);
}

static uint8_t info_page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static uint32_t register_info(uint32_t offset)
{
    struct vcpu_register_vcpu_info r = {.mfn = address(info_page) >> PAGE_SHIFT, .offset = offset};

    return vcpu_op(VCPUOP_register_vcpu_info, AWAY, address(&r));
}

/* Of a vCPU that is down: at any place that 32-bit code aligns to. */
static void registered(void)
{
    volatile struct vcpu_info_x86_32 *info = (void *)(info_page + 68);
    evtchn_port_t port = bind_ipi(AWAY);

    CHECK_EQ(register_info(66), (uint32_t)-XEN_EINVAL);
    CHECK_EQ(register_info(PAGE_SIZE - 60), (uint32_t)-XEN_EINVAL);
    CHECK_EQ(register_info(68), 0);
    CHECK_EQ(info->evtchn_pending_sel, ~0u);
    CHECK_EQ(info->evtchn_upcall_pending, 1);
    CHECK_EQ(info->time.tsc_to_system_mul, shared()->vcpu_info[0].time.tsc_to_system_mul);
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    do_send(port);
    CHECK_EQ(info->evtchn_pending_sel, 1u << port / 32);
    CHECK_EQ(info->evtchn_upcall_pending, 1);
    CHECK_EQ(info->arch.cr2, 0);
    thin()->evtchn_pending[port / 32] = 0;
    close_all(port, port);
}

/* What has not been looked at is there in the other layout; what meant something else is not. */
static void back(uint32_t seconds)
{
    volatile struct vcpu_info *info = &shared()->vcpu_info[0];
    volatile struct vcpu_info *away = (void *)(info_page + 68);
    evtchn_port_t port = bind_ipi(0);

    do_send(port);
    for (unsigned i = 0; i < 32; i++)
        thin()->evtchn_mask[i] = i == port / 32 ? 0 : ~0u;
    CHECK_EQ(callback_on(), 0);
    CHECK_EQ(info->evtchn_upcall_pending, 1);
    CHECK_EQ(info->evtchn_pending_sel, ~0UL);
    CHECK_EQ(away->evtchn_upcall_pending, 1);
    CHECK_EQ(away->evtchn_pending_sel, ~0UL);
    CHECK_EQ(shared()->evtchn_pending[port / 64], 1UL << port % 64);
    for (unsigned i = PORTS32 / 64; i < 64; i++)
        CHECK_EQ(shared()->evtchn_pending[i], 0);
    CHECK(wall_clock_at(&shared()->wc_version, &shared()->wc_sec, seconds));
    shared()->evtchn_pending[port / 64] = 0;
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;

    /* Nothing new, nothing said. */
    CHECK_EQ(set_callback(0), 0);
    CHECK_EQ(callback_on(), 0);
    CHECK_EQ(info->evtchn_upcall_pending, 0);
    CHECK_EQ(info->evtchn_pending_sel, 0);
    unsigned count = event_count[port];
    do_send(port);
    irqs_on();
    for (unsigned i = 0; i < 1000 && event_count[port] == count; i++)
        cpu_relax();
    irqs_off();
    CHECK_EQ(event_count[port], count + 1);
    close_all(port, port);
}

void shared_layouts(void)
{
    uint64_t vector = (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56, ns = ns_now();
    uint32_t seconds = shared()->wc_sec;

    section("the layout of 32-bit code");
    memset((void *)(uint64_t)shared()->evtchn_pending, 0, sizeof(shared()->evtchn_pending));
    shared()->vcpu_info[0].evtchn_upcall_pending = 0;
    shared()->vcpu_info[0].evtchn_pending_sel = 0;
    memset((void *)(uint64_t)&thin()->wc_version, 0, 40);
    CHECK(write_msr(address(hypercall_page) + 1) != 0); /* #GP */
    CHECK_EQ(set_callback(vector | 7), (uint32_t)-XEN_EINVAL);
    CHECK_EQ(thin()->wc_version, 0); /* as it was */
    CHECK_EQ(write_msr(address(hypercall_page)), 0);
    CHECK(wall_clock_at(&thin()->wc_version, &thin()->wc_sec, seconds));
    CHECK_EQ(thin()->arch.wc_sec_hi, shared()->wc_sec_hi);
    CHECK(ns_now() > ns);
    CHECK_EQ(thin()->vcpu_info[0].time.tsc_to_system_mul,
             shared()->vcpu_info[0].time.tsc_to_system_mul);
    CHECK_EQ(set_callback(vector | VECTOR32), 0);
    events();
    areas();
    registered();
    section("back to that of 64-bit code");
    back(seconds);
}
