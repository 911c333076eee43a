/*
 * Operations of hardware-virtualized guests (docs/benchmarks.md, group 1), run as a PVH domain 0 on
 * whatever hypervisor is to be measured; otherwise as bench/ops.
 */
#include "../counter/mark.h"
#include "hvm.h"

const char test_name[] = "ops-pvh";

static void hypercalls(unsigned n)
{
    while (n--)
        HC(xen_version, XENVER_version, 0);
}

static void cpuids(unsigned n)
{
    uint32_t r[4];
    while (n--)
        cpuid(1, 0, r);
}

static void msr_reads(unsigned n)
{
    while (n--)
        rdmsr(0x1b); /* APIC_BASE */
}

static void msr_writes(unsigned n)
{
    uint64_t base = rdmsr(0x1b);
    while (n--)
        wrmsr(0x1b, base);
}

static void apic_reads(unsigned n)
{
    while (n--)
        (void)*apic(0x20);
}

static void apic_writes(unsigned n)
{
    while (n--)
        *apic(0x80) = 0; /* TPR */
}

static bool tick(struct regs *r __attribute__((unused)))
{
    *apic(0xb0) = 0;
    return true;
}

/* One-shot, halted until it comes. */
static void timer_sleeps(unsigned n)
{
    while (n--) {
        *apic(0x380) = 20000;
        wait_irq();
    }
}

static void timer_setup(void)
{
    apic_on();
    trap_set_hook(VECTOR_TIMER, tick);
    *apic(0x3e0) = 0xb;          /* divide by 1 */
    *apic(0x320) = VECTOR_TIMER; /* one-shot */
    /* What the hypervisor does while idle, it has done then. */
    for (unsigned i = 0; i < 10; i++) {
        *apic(0x380) = 500000000;
        wait_irq();
    }
}

static const struct op {
    const char *name;
    void (*setup)(void);
    void (*run)(unsigned n);
    unsigned count;
} ops[] = {
    {"pvh_hypercall", NULL, hypercalls, 5000},
    {"pvh_cpuid", NULL, cpuids, 5000},
    {"pvh_msr_read", NULL, msr_reads, 5000},
    {"pvh_msr_write", NULL, msr_writes, 5000},
    {"pvh_apic_read", apic_on, apic_reads, 5000},
    {"pvh_apic_write", NULL, apic_writes, 5000},
    {"pvh_timer_sleep", timer_setup, timer_sleeps, 500},
};

void test_main(void)
{
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (ops[i].setup)
            ops[i].setup();
        ops[i].run(ops[i].count / 4 + 1);
        print("op %s %u\n", ops[i].name, ops[i].count);
        MARK(MARK_BEGIN);
        ops[i].run(ops[i].count);
        MARK(MARK_END);
    }
}
