/*
 * Every mode of the CPU, one after the other and back: instructions executed for the guest in 16-
 * and 32-bit code, without paging and with each kind, segments and their limits, faults in the
 * middle of strings; hypercalls of 32-bit code with their own layouts; and registers of vCPUs that
 * share a CPU.
 *
 * ARGS: dom0=pvh dom0_max_vcpus=5
 */
#include "hvm.h"
#include "modes.h"
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

const char test_name[] = "hvm-modes";

extern uint8_t task16[], task32[], body32[], limit32[], down32[], read_only32[], hole32[],
    unknown32[], call32[];
extern uint8_t low_start[], low_end[], low_body[], low_limit[], low_vm86[], low_task16[],
    low_fault_13[];
extern uint16_t tss16[];
extern uint32_t idt32[], idt32_entries[], pd_pse[];
extern uint64_t pd_pae[], pdpt_pae[];

#define RESULTS ((volatile uint32_t *)RESULT)
#define BUFFERS ((volatile uint8_t *)BUFFER)

static struct {
    uint32_t vector, error, cr2, eip, ecx, esi, edi;
} *const fault = (void *)FAULT;

static uint32_t low(const uint8_t *label)
{
    return (uint32_t)(label - low_start) + LOW_CODE;
}

uint32_t address(const void *p)
{
    return (uint32_t)(uint64_t)p;
}

static void tables(void)
{
    memcpy((void *)LOW_CODE, low_start, (size_t)(low_end - low_start));
    asm volatile("movl %0, 13 * 4" ::"r"(low(low_fault_13)) : "memory"); /* real mode's vector */
    for (unsigned i = 0; idt32_entries[i]; i += 2) {
        idt32[2 * idt32_entries[i]] = 24 << 16 | (idt32_entries[i + 1] & 0xffff);
        idt32[2 * idt32_entries[i] + 1] = (idt32_entries[i + 1] & 0xffff0000) | 0x8e00;
    }
    for (unsigned vector = 11; vector <= 15; vector += 4) { /* gates to the task of selector 80 */
        idt32[2 * vector] = 80 << 16;
        idt32[2 * vector + 1] = 0x8500;
    }
    for (unsigned i = 0; i < 1024; i++)
        pd_pse[i] = i == HOLE >> 22 ? 0 : i << 22 | 0x83;
    for (uint64_t i = 0; i < 2048; i++)
        pd_pae[i] = i == HOLE >> 21 ? 0 : i << 21 | 0x83;
    for (unsigned i = 0; i < 4; i++)
        pdpt_pae[i] = ((uint64_t)pd_pae + 4096 * i) | 1;
}

static void run(unsigned mode, uint32_t code)
{
    memset((void *)RESULT, 0xee, 256);
    memset((void *)BUFFER, 0, 256);
    mode_run(mode, code);
}

static void check_body(void)
{
    CHECK_EQ(RESULTS[0], 0x11223344);
    CHECK_EQ(RESULTS[1], 0x1122);
    CHECK_EQ(RESULTS[2], 0x33);
    CHECK_EQ(RESULTS[3], 0x11223344);
    CHECK_EQ(RESULTS[4], 0x11223344);
    CHECK_EQ(RESULTS[5], 0x112233cc);
    CHECK_EQ(RESULTS[6], 0x112233cc);
    CHECK_EQ(RESULTS[7], 0x80000055);
    CHECK_EQ(RESULTS[8], 0xeeeeee01);
    CHECK_EQ(*(volatile uint32_t *)BUFFER, 0xffffffff);
    CHECK_EQ(RESULTS[9], 0xffffffff);
    CHECK_EQ(RESULTS[10], 0x384);
    CHECK_EQ(BUFFERS[16], 0xff);
    CHECK_EQ(BUFFERS[20], 0xff);
    CHECK_EQ(BUFFERS[21], 0);
    CHECK_EQ(RESULTS[11], 0);
    CHECK_EQ(RESULTS[12], BUFFER + 21);
    CHECK_EQ(RESULTS[13], BUFFER + 3);
    CHECK_EQ(*(volatile uint32_t *)(BUFFER + 32), 0xffffffff);
    CHECK_EQ(*(volatile uint32_t *)(BUFFER + 36), 0);
    CHECK_EQ(RESULTS[14], 0x123456ff);
    CHECK_EQ(RESULTS[15], 0x566e6558);
}

static void check_fault(unsigned vector, unsigned error)
{
    CHECK_EQ(fault->vector, vector);
    CHECK_EQ(fault->error, error);
}

static void faults(unsigned mode)
{
    run(mode, address(limit32));
    check_fault(T_GP, 0);
    CHECK_EQ(fault->ecx, 0x10);
    CHECK_EQ(fault->esi, 0x1000);
    run(mode, address(down32));
    check_fault(T_GP, 0);
    CHECK_EQ(fault->ecx, 4);
    CHECK_EQ(fault->esi, 0x37f);
    run(mode, address(read_only32));
    check_fault(T_GP, 0);
    CHECK_EQ(fault->esi, 0x380);
    run(mode, address(unknown32));
    CHECK_EQ(fault->vector, T_UD);
}

static void hole(unsigned mode)
{
    run(mode, address(hole32));
    check_fault(T_PF, PF_W);
    CHECK_EQ(fault->cr2, HOLE);
    CHECK_EQ(fault->ecx, 2);
    CHECK_EQ(fault->esi, 0x388);
    CHECK_EQ(fault->edi, HOLE);
}

/* --- hypercalls --- */

uint32_t call(uint32_t nr, uint32_t a, const volatile void *b, uint32_t c)
{
    volatile uint32_t *at = (uint32_t *)CALL;
    at[0] = nr;
    at[1] = a;
    at[2] = address((const void *)b);
    at[3] = c;
    at[4] = 0;
    mode_run(MODE_PROTECTED, address(call32));
    return at[0];
}

static uint32_t frames[4];
static uint8_t e820[32 * 20];
static uint8_t spare[2 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static void memory_calls(void)
{
    uint32_t gfn = address(spare) >> PAGE_SHIFT;
    struct {
        uint16_t domid, size;
        uint32_t space, idx, gpfn;
    } add = {DOMID_SELF, 0, XENMAPSPACE_grant_table, 0, gfn};
    struct {
        uint32_t extents, count, order, flags;
        uint16_t domid;
    } reservation = {address(frames), 1, 0, 0, DOMID_SELF};
    struct {
        uint32_t entries, buffer;
    } map = {32, address(e820)};
    struct {
        uint16_t domid, pad;
        uint32_t gpfn;
    } remove = {DOMID_SELF, 0, gfn};
    uint16_t self = DOMID_SELF;

    frames[0] = gfn + 1;
    frames[1] = 0x12345678;
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &reservation, 0), 1);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_populate_physmap, &reservation, 0), 1);
    CHECK_EQ(frames[0], gfn + 1);
    CHECK_EQ(frames[1], 0x12345678);
    spare[PAGE_SIZE] = 0x5a;
    CHECK_EQ(spare[PAGE_SIZE], 0x5a);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add, 0), 0);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &remove, 0), 0);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_memory_map, &map, 0), 0);
    CHECK(map.entries > 0 && map.entries < 32);
    CHECK_EQ(*(uint64_t *)e820, 0);
    CHECK_EQ(map.buffer, address(e820));
    CHECK(call(__HYPERVISOR_memory_op, XENMEM_maximum_gpfn, &self, 0) > gfn);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_add_to_physmap, (void *)0xf0000000UL, 0),
             (uint32_t)-XEN_EFAULT);
    CHECK_EQ(call(__HYPERVISOR_memory_op, XENMEM_exchange, &add, 0), (uint32_t)-XEN_ENOSYS);
}

static void other_calls(void)
{
    char text[16] = "";
    struct {
        uint16_t domid, pad;
        uint32_t index;
        uint64_t value;
    } param = {DOMID_SELF, 0, HVM_PARAM_CALLBACK_IRQ, ~0UL};
    uint32_t virt_start = 0, ports[2] = {0};
    struct {
        uint32_t state, time[10], behind;
    } runstate = {.behind = 0x77};
    struct {
        uint32_t op, result, args[6];
    } calls[2] = {{.op = __HYPERVISOR_xen_version, .args = {XENVER_version, 0}},
                  {.op = __HYPERVISOR_domctl}};
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_send send;
    struct {
        uint32_t ports, count;
        uint64_t timeout;
    } __attribute__((packed)) poll = {address(ports), 1, 0};
    struct {
        uint16_t domid, pad;
        uint32_t frames;
        int16_t status;
        uint16_t pad2;
        uint32_t list;
    } setup = {DOMID_SELF, 0, 1, 77, 0, address(frames)};

    CHECK_EQ(call(__HYPERVISOR_xen_version, XENVER_version, NULL, 0), 4 << 16 | 17);
    CHECK_EQ(call(__HYPERVISOR_xen_version, XENVER_extraversion, text, 0), 0);
    CHECK(text[0]);
    CHECK_EQ(call(__HYPERVISOR_xen_version, XENVER_platform_parameters, &virt_start, 0), 0);
    CHECK_EQ(call(__HYPERVISOR_hvm_op, HVMOP_get_param, &param, 0), 0);
    CHECK_EQ(param.value, 0);
    CHECK_EQ(call(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi, 0), 0);
    send.port = ports[0] = ipi.port;
    CHECK_EQ(call(__HYPERVISOR_event_channel_op, EVTCHNOP_send, &send, 0), 0);
    CHECK_EQ(call(__HYPERVISOR_sched_op, SCHEDOP_poll, &poll, 0), 0);
    CHECK_EQ(call(__HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 0, address(&runstate)), 0);
    CHECK_EQ(runstate.state, 0);
    CHECK(runstate.time[0] || runstate.time[1]); /* since when */
    CHECK_EQ(runstate.behind, 0x77);
    CHECK_EQ(call(__HYPERVISOR_set_timer_op, 0, 0, 0), 0);
    frames[0] = 0;
    CHECK_EQ(call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup, 1), 0);
    CHECK(setup.status != 77);
    CHECK_EQ(call(__HYPERVISOR_multicall, address(calls), (void *)2UL, 0), 0);
    CHECK_EQ(calls[0].result, 4 << 16 | 17);
    CHECK_EQ(calls[1].result, (uint32_t)-XEN_ENOSYS);
    CHECK_EQ(call(__HYPERVISOR_domctl, 0, &param, 0), (uint32_t)-XEN_ENOSYS);
    CHECK_EQ(call(63, 0, 0, 0), (uint32_t)-XEN_ENOSYS);
}

/* --- what a CPU keeps of each of the vCPUs that share it --- */

#define CR4_PKE (1UL << 22)
#define SHARERS 4
#define ROUNDS  300

static volatile unsigned sharers_ready, sharers_done, sharers_wrong[SHARERS];
static bool has_keys, has_rdtscp;

static uint32_t rdpkru(void)
{
    uint32_t v, d;

    asm volatile("rdpkru" : "=a"(v), "=d"(d) : "c"(0));
    return v;
}

static unsigned wrong_registers(uint64_t id)
{
    uint32_t lo, hi, aux;
    uint64_t dr, xmm;
    unsigned wrong = 0;

    if (has_keys && rdpkru() != id << 4)
        wrong |= 1;
    if (has_rdtscp) {
        asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
        wrong |= aux != id + 100 ? 2 : 0;
    }
    asm volatile("mov %%db1, %0" : "=r"(dr));
    wrong |= dr != id << 12 ? 4 : 0;
    wrong |= rdmsr(0x175) != id + 200 ? 8 : 0;       /* SYSENTER_ESP */
    wrong |= rdmsr(0xc0000102) != id + 300 ? 16 : 0; /* KERNEL_GS_BASE */
    wrong |= rdmsr(0xc0000082) != id + 400 ? 32 : 0; /* LSTAR */
    asm volatile("movq %%xmm7, %0" : "=r"(xmm));
    wrong |= xmm != id + 500 ? 64 : 0;
    return wrong;
}

static void share(void *arg)
{
    uint64_t id = (uint64_t)arg, cr4, end = ns_now() + 10000000000UL;

    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    if (has_keys) {
        asm volatile("mov %0, %%cr4" ::"r"(cr4 | CR4_PKE));
        if (rdpkru()) /* nobody left anything */
            sharers_wrong[id - 1] |= 128;
        asm volatile("wrpkru" ::"a"((uint32_t)id << 4), "c"(0), "d"(0));
    }
    if (has_rdtscp)
        wrmsr(0xc0000103, id + 100);
    asm volatile("mov %0, %%db1" ::"r"(id << 12));
    wrmsr(0x175, id + 200);
    wrmsr(0xc0000102, id + 300);
    wrmsr(0xc0000082, id + 400);
    asm volatile("movq %0, %%xmm7" ::"r"(id + 500));
    __atomic_fetch_add(&sharers_ready, 1, __ATOMIC_SEQ_CST);
    while (sharers_ready < SHARERS && ns_now() < end)
        HC(sched_op, SCHEDOP_yield, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        sharers_wrong[id - 1] |= wrong_registers(id);
        HC(sched_op, SCHEDOP_yield, 0);
    }
    __atomic_fetch_add(&sharers_done, 1, __ATOMIC_SEQ_CST);
}

static void sharing(void)
{
    uint32_t r[4];
    uint64_t cr4, end = ns_now() + 20000000000UL;

    section("vCPUs on one CPU");
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    TRY("mov %0, %%cr4", ::"r"(cr4 | CR4_PKE)); /* whatever CPUID says */
    has_keys = !trapped();
    print("    protection keys: %u\n", has_keys);
    cpuid(0x80000001, 0, r);
    has_rdtscp = r[3] & 1 << 27;
    for (unsigned i = 1; i < SHARERS; i++)
        CHECK(ap_run(i, share, (void *)(i + 1UL)));
    share((void *)1UL);
    while (sharers_done < SHARERS && ns_now() < end)
        HC(sched_op, SCHEDOP_yield, 0);
    CHECK_EQ(sharers_done, SHARERS);
    for (unsigned i = 0; i < SHARERS; i++)
        CHECK_EQ(sharers_wrong[i], 0);
}

void test_main(void)
{
    static const char *const names[] = {"real mode", "protected mode", "32-bit paging", "PAE",
                                        "compatibility mode"};

    tables();
    asm volatile(
        "outb %0, $0x80" ::"a"((uint8_t)0xff)); /* what is read there: some machines keep it */
    *apic(0x320) = 0x10000;                     /* the timer counts for nobody */
    for (unsigned mode = MODE_REAL; mode <= MODE_COMPAT; mode++) {
        section(names[mode]);
        run(mode, mode == MODE_REAL ? low(low_body) : address(body32));
        check_body();
        if (mode != MODE_REAL && mode != MODE_COMPAT)
            faults(mode);
        if (mode == MODE_PSE || mode == MODE_PAE)
            hole(mode);
    }
    section("limits in real mode");
    run(MODE_REAL, low(low_limit));
    CHECK_EQ(fault->vector, T_GP);
    CHECK_EQ(fault->ecx, 0x10);
    CHECK_EQ(fault->esi, 0x1000);

    section("task switches");
    for (unsigned mode = MODE_PROTECTED; mode <= MODE_PAE; mode++) {
        run(mode, address(task32));
        CHECK_EQ(RESULTS[0], 0x5a);
        CHECK_EQ(RESULTS[1] & 0xffff, 72);
        CHECK_EQ(RESULTS[2], 0x1234);
        CHECK_EQ(RESULTS[3] & 0xffff, 80);
        CHECK_EQ(RESULTS[4], 0x566e6558);
        CHECK_EQ(RESULTS[5], 3);
        CHECK_EQ(RESULTS[6], 88);
        CHECK_EQ(RESULTS[7] & 0xffff, 72);
        tss16[7] = (uint16_t)low(low_task16);
        run(mode, address(task16));
        CHECK_EQ(RESULTS[0], 0x12345678); /* its own EBX again */
        CHECK_EQ(RESULTS[1] & 0xffff, 72);
        CHECK_EQ(RESULTS[2] & 0xffff, 0x1616);
        CHECK_EQ(RESULTS[3] & 0xffff, 96);
        CHECK_EQ(RESULTS[4] & 0xffff, 0x5a5a);
    }

    section("virtual-8086 mode");
    run(MODE_VM86, low(low_vm86));
    CHECK_EQ(fault->vector, T_GP); /* its HLT */
    CHECK_EQ(BUFFERS[20], 0xff);
    CHECK_EQ(RESULTS[12], BUFFER + 21);
    CHECK_EQ(RESULTS[14], 0x123456ff);
    CHECK_EQ(RESULTS[15], 0x566e6558);

    section("hypercalls of 32-bit code");
    memory_calls();
    other_calls();
    shared_layouts();
    sharing();
}
