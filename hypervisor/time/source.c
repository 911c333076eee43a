/*
 * Platform clocks, best first: HPET (IA-PC HPET 1.0a), ACPI PM timer (ACPI 6.5 section 4.8.3.3),
 * PIT channel 2 (Intel 8254). They calibrate the TSC and check it afterwards; time itself is read
 * from the TSC.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/asm.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "time/internal.h"

const struct platform_clock *platform_clock __ro_after_init;

/* --- HPET --- */

#define HPET_PERIOD  0x04 /* femtoseconds per tick */
#define HPET_CONFIG  0x10
#define HPET_COUNTER 0xf0
#define HPET_ENABLE  1u
#define FEMTO        1000000000000000UL

static volatile uint8_t *hpet __ro_after_init;

static uint32_t hpet_reg(unsigned reg)
{
    return *(volatile uint32_t *)(hpet + reg);
}

static bool hpet_init(void);

static uint64_t hpet_read(void)
{
    return hpet_reg(HPET_COUNTER);
}

/* The low half of the counter is enough: at 100 MHz it wraps after 42 s. */
static struct platform_clock hpet_clock __ro_after_init = {
    .name = "hpet", .init = hpet_init, .read = hpet_read, .mask = UINT32_MAX};

static bool hpet_init(void)
{
    if (!acpi_info.hpet.a)
        return false;
    uint8_t *page = vmap_contiguous(maddr_to_mfn(acpi_info.hpet), 1, MAP_UC);
    if (!page)
        return false;
    hpet = page + (acpi_info.hpet.a & (PAGE_SIZE - 1));
    uint32_t period = hpet_reg(HPET_PERIOD);
    if (period == 0 || period > 100000000) /* above 100 ns: not a valid HPET (section 2.3.4) */
        return false;
    hpet_clock.hz = FEMTO / period;
    *(volatile uint32_t *)(hpet + HPET_CONFIG) = hpet_reg(HPET_CONFIG) | HPET_ENABLE;
    return true;
}

/* --- ACPI PM timer --- */

static bool pm_init(void);

static uint64_t pm_read(void)
{
    return inl(acpi_info.pm_timer_port);
}

static struct platform_clock pm_clock __ro_after_init = {
    .name = "acpi", .init = pm_init, .read = pm_read, .hz = 3579545, .mask = 0xffffff};

static bool pm_init(void)
{
    if (acpi_info.pm_timer_32bit)
        pm_clock.mask = UINT32_MAX;
    return acpi_info.pm_timer_port != 0;
}

/* --- PIT channel 2, gated by port 0x61 --- */

static bool pit_init(void)
{
    outb(0x61, (inb(0x61) & ~2u) | 1); /* gate on, speaker off */
    outb(0x43, 0xb0);                  /* channel 2, both bytes, mode 0 */
    outb(0x42, 0xff);
    outb(0x42, 0xff);
    return true;
}

static uint64_t pit_read(void)
{
    outb(0x43, 0x80); /* latch channel 2 */
    unsigned low = inb(0x42);
    return 0xffff - (low | inb(0x42) << 8); /* it counts down */
}

static struct platform_clock pit_clock __ro_after_init = {
    .name = "pit", .init = pit_init, .read = pit_read, .hz = 1193182, .mask = 0xffff};

static struct platform_clock *const clocks[] = {&hpet_clock, &pm_clock, &pit_clock};

void platform_clock_select(const char *wanted)
{
    for (unsigned i = 0; *wanted && i < ARRAY_SIZE(clocks); i++) {
        if (strcmp(clocks[i]->name, wanted))
            continue;
        if (clocks[i]->init()) {
            platform_clock = clocks[i];
            return;
        }
        log_warn("clocksource=%s: this machine has none", wanted);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(clocks); i++) {
        if (clocks[i]->init()) {
            platform_clock = clocks[i];
            return;
        }
    }
}

const char *time_source_name(void)
{
    return platform_clock ? platform_clock->name : "none";
}
