/*
 * The local APIC of each CPU: x2APIC by MSRs where the CPU has it, else xAPIC in one uncached page
 * (Intel SDM vol. 3 chapter 11; APM vol. 2 chapter 16). Physical destinations only.
 *
 * The timer runs one-shot: by TSC deadline when the CPU can, else counting down from a number that
 * lapic_timer_calibrate() knows to convert. A deadline beyond its range fires early, and whoever
 * set it (time/timer.c) sets it again.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "irq/internal.h"
#include "mm/mm.h"
#include "time/time.h"

/* Register offsets in the page; the x2APIC MSR is 0x800 + offset / 16. */
#define REG_ID            0x020
#define REG_VERSION       0x030
#define REG_TPR           0x080
#define REG_EOI           0x0b0
#define REG_SPURIOUS      0x0f0
#define REG_ISR           0x100
#define REG_ESR           0x280
#define REG_LVT_CMCI      0x2f0
#define REG_ICR           0x300
#define REG_ICR_HIGH      0x310
#define REG_LVT_TIMER     0x320
#define REG_LVT_THERMAL   0x330
#define REG_LVT_PERF      0x340
#define REG_LVT_LINT0     0x350
#define REG_LVT_LINT1     0x360
#define REG_LVT_ERROR     0x370
#define REG_TIMER_INITIAL 0x380
#define REG_TIMER_CURRENT 0x390
#define REG_TIMER_DIVIDE  0x3e0

#define SPURIOUS_ENABLE   (1u << 8)
#define LVT_MASKED        (1u << 16)
#define LVT_DEADLINE      (2u << 17)
#define DIVIDE_BY_1       0xbu
#define DELIVERY_NMI      (4u << 8)
#define DELIVERY_INIT     (5u << 8)
#define DELIVERY_STARTUP  (6u << 8)
#define ICR_BUSY          (1u << 12)
#define ICR_ASSERT        (1u << 14)

#define APIC_BASE_X2APIC  (1UL << 10)
#define APIC_BASE_ENABLE  (1UL << 11)
#define APIC_BASE_ADDRESS 0x000ffffffffff000UL
#define MSR_X2APIC        0x800
#define MSR_TSC_DEADLINE  0x6e0

static bool x2apic __ro_after_init;
static bool deadline_mode __ro_after_init;
static volatile uint32_t *page __ro_after_init; /* NULL in x2APIC mode */
static uint64_t ticks_per_tsc __ro_after_init;  /* 32.32 */

static uint32_t reg_read(unsigned reg)
{
    if (x2apic)
        return (uint32_t)rdmsr(MSR_X2APIC + reg / 16);
    return page[reg / 4];
}

static void reg_write(unsigned reg, uint32_t value)
{
    if (x2apic)
        wrmsr(MSR_X2APIC + reg / 16, value);
    else
        page[reg / 4] = value;
}

bool lapic_is_x2apic(void)
{
    return x2apic;
}

uint32_t lapic_id(void)
{
    uint32_t id = reg_read(REG_ID);
    return x2apic ? id : id >> 24;
}

void lapic_eoi(void)
{
    reg_write(REG_EOI, 0);
}

/* --- interprocessor interrupts --- */

static void icr_write(uint32_t apic_id, uint32_t command)
{
    if (x2apic) {
        /* What was stored before must be visible to whom we interrupt; WRMSR to these registers
         * does not wait for it (Intel SDM vol. 3 section 11.12.3). */
        __asm__ volatile("mfence; lfence" ::: "memory");
        wrmsr(MSR_X2APIC + REG_ICR / 16, (uint64_t)apic_id << 32 | command);
        return;
    }
    while (reg_read(REG_ICR) & ICR_BUSY)
        cpu_pause();
    reg_write(REG_ICR_HIGH, apic_id << 24);
    reg_write(REG_ICR, command);
}

void lapic_send_ipi(uint32_t apic_id, uint8_t vector)
{
    icr_write(apic_id, ICR_ASSERT | (vector == X86_NMI ? DELIVERY_NMI : vector));
}

void lapic_send_init(uint32_t apic_id)
{
    icr_write(apic_id, ICR_ASSERT | DELIVERY_INIT);
}

void lapic_send_startup(uint32_t apic_id, uint8_t startup_page)
{
    icr_write(apic_id, ICR_ASSERT | DELIVERY_STARTUP | startup_page);
}

/* --- set-up --- */

static void choose_mode(void)
{
    uint32_t r[4];
    uint64_t base = rdmsr(MSR_APIC_BASE);
    bool already = base & APIC_BASE_X2APIC; /* by firmware; there is no simple way back */
    x2apic = cpu_features.x2apic && (already || !boot_options.no_x2apic);
    cpuid(1, 0, r);
    deadline_mode = r[2] >> 24 & 1;
    if (!x2apic) {
        page = vmap_contiguous(maddr_to_mfn(maddr(base & APIC_BASE_ADDRESS)), 1, MAP_UC);
        if (!page)
            panic("the local APIC cannot be mapped");
    }
    ipi_hook = lapic_send_ipi;
    log_info("local APIC: %s%s", x2apic ? "x2APIC" : "xAPIC",
             deadline_mode ? ", timer by TSC deadline" : "");
}

static void enable(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    wrmsr(MSR_APIC_BASE, base); /* x2APIC mode only from enabled xAPIC mode */
    if (x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
}

/* Whatever firmware left in service would hold back everything of its priority and below. */
static void clear_in_service(void)
{
    for (unsigned tries = 0; tries < 256; tries++) {
        uint32_t any = 0;
        for (unsigned i = 0; i < 8; i++)
            any |= reg_read(REG_ISR + i * 16);
        if (!any)
            return;
        lapic_eoi();
    }
}

static void set_local_vectors(bool first)
{
    unsigned last = reg_read(REG_VERSION) >> 16 & 0xff;
    reg_write(REG_LVT_ERROR, LVT_MASKED | VECTOR_ERROR);
    reg_write(REG_LVT_LINT0, LVT_MASKED); /* the 8259s' line */
    reg_write(REG_LVT_LINT1, DELIVERY_NMI | (first ? 0 : LVT_MASKED));
    if (last >= 4)
        reg_write(REG_LVT_PERF, LVT_MASKED);
    if (last >= 5)
        reg_write(REG_LVT_THERMAL, LVT_MASKED);
    if (last >= 6)
        reg_write(REG_LVT_CMCI, LVT_MASKED);
    reg_write(REG_ESR, 0);
    reg_write(REG_ESR, 0);
    reg_write(REG_LVT_ERROR, VECTOR_ERROR);
}

static void set_timer(void)
{
    reg_write(REG_TIMER_DIVIDE, DIVIDE_BY_1);
    reg_write(REG_LVT_TIMER, VECTOR_TIMER | (deadline_mode ? LVT_DEADLINE : 0));
    __asm__ volatile("mfence" ::: "memory"); /* before the first deadline is written */
    lapic_timer_set(0);
}

void lapic_init(void)
{
    struct cpu *c = this_cpu();
    if (c->id == 0)
        choose_mode();
    enable();
    vector_init_cpu(c);
    reg_write(REG_TPR, 0);
    reg_write(REG_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    clear_in_service();
    set_local_vectors(c->id == 0);
    set_timer();
    if (c->id == 0)
        c->apic_id = lapic_id();
    else if (c->apic_id != lapic_id())
        panic("CPU %u calls itself APIC %u, not %u", c->id, lapic_id(), c->apic_id);
}

void lapic_report_error(void)
{
    static ns_t next;
    reg_write(REG_ESR, 0);
    uint32_t error = reg_read(REG_ESR);
    if (time_now() < next)
        return;
    next = time_now() + SECONDS(1);
    log_warn("CPU %u: local APIC error %02x", this_cpu()->id, error);
}

/* --- timer --- */

void lapic_timer_set(uint64_t tsc_deadline)
{
    if (deadline_mode) {
        wrmsr(MSR_TSC_DEADLINE, tsc_deadline);
        return;
    }
    uint64_t count = 0, now = rdtsc();
    if (tsc_deadline) {
        uint64_t delta = tsc_deadline > now ? tsc_deadline - now : 0;
        /* rounded up: a timer that fires early only has to be set again */
        __uint128_t ticks = (__uint128_t)delta * ticks_per_tsc >> 32;
        count = ticks < 0xffffffffU ? (uint64_t)ticks + 1 : 0xffffffffU;
    }
    reg_write(REG_TIMER_INITIAL, (uint32_t)count);
}

static uint64_t timer_count(void)
{
    return reg_read(REG_TIMER_CURRENT);
}

void lapic_timer_calibrate(void)
{
    if (deadline_mode)
        return;
    reg_write(REG_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    reg_write(REG_TIMER_INITIAL, 0xffffffff);
    struct time_sample start = time_sample(timer_count);
    time_busy_wait(MILLISECONDS(1)); /* 10^-4 is enough: early is set again, late by that little */
    struct time_sample end = time_sample(timer_count);
    uint32_t ticks = start.clock - end.clock; /* it counts down */
    uint64_t tsc = end.tsc - start.tsc;
    if (!ticks || !tsc)
        panic("the local APIC's timer does not count");
    ticks_per_tsc = ((uint64_t)ticks << 32) / tsc;
    log_info("local APIC timer: %lu kHz", (uint64_t)ticks * time_tsc_khz() / tsc);
    set_timer();
    lapic_send_ipi(lapic_id(), VECTOR_TIMER); /* timers that were set before now */
}
