/*
 * The platform clock: HPET, ACPI PM timer or PIT, by clocksource= or the best there is. It gives
 * the TSC's frequency while booting and is asked now and then afterwards whether the TSC still
 * keeps up; system time itself is the TSC (tsc.c). Used by CPU 0 only.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "time/internal.h"

struct source {
    const char *option, *name;
    bool (*init)(struct source *s); /* fills hz and mask; false: not on this machine */
    uint64_t (*read)(void);
    uint64_t hz, mask;
};

/* --- HPET (IA-PC HPET 1.0a section 2.3) --- */

#define HPET_CAPABILITIES 0x00
#define HPET_CONFIG       0x10
#define HPET_COUNTER      0xf0
#define HPET_ENABLE       1UL
#define HPET_PERIOD_MAX   100000000 /* femtoseconds */
#define FEMTOSECONDS      1000000000000000UL

static volatile uint8_t *hpet;

static uint64_t hpet_read(void)
{
    return *(volatile uint32_t *)(hpet + HPET_COUNTER);
}

static bool hpet_init(struct source *s)
{
    if (!acpi_info.hpet.a)
        return false;
    uint8_t *page = vmap_contiguous(maddr_to_mfn(acpi_info.hpet), 1, MAP_UC);
    if (!page)
        return false;
    hpet = page + acpi_info.hpet.a % PAGE_SIZE;
    uint32_t period = *(volatile uint32_t *)(hpet + HPET_CAPABILITIES + 4);
    if (!period || period > HPET_PERIOD_MAX)
        return false;
    volatile uint32_t *config = (volatile uint32_t *)(hpet + HPET_CONFIG);
    *config |= HPET_ENABLE;
    s->hz = FEMTOSECONDS / period;
    s->mask = 0xffffffff; /* of a 64-bit counter the low half will do, and is one read */
    return true;
}

/* --- ACPI PM timer (ACPI 6.5 section 4.8.3.3) --- */

#define PM_TIMER_HZ 3579545

static uint64_t pm_read(void)
{
    return inl(acpi_info.pm_timer_port);
}

static bool pm_init(struct source *s)
{
    s->hz = PM_TIMER_HZ;
    s->mask = acpi_info.pm_timer_32bit ? 0xffffffff : 0xffffff;
    return acpi_info.pm_timer_port != 0;
}

/* --- PIT channel 2 (Intel 8254): counts down, gate by port 0x61, no output --- */

#define PIT_HZ        1193182
#define PIT_COMMAND   0x43
#define PIT_CHANNEL_2 0x42
#define PIT_GATE      0x61

static uint64_t pit_read(void)
{
    outb(PIT_COMMAND, 0x80); /* latch channel 2 */
    uint8_t low = inb(PIT_CHANNEL_2);
    return 0xffffu - (low | (unsigned)inb(PIT_CHANNEL_2) << 8);
}

static bool pit_init(struct source *s)
{
    outb(PIT_GATE, (inb(PIT_GATE) & ~2u) | 1u);
    outb(PIT_COMMAND, 0xb4); /* channel 2, both bytes, mode 2 */
    outb(PIT_CHANNEL_2, 0);
    outb(PIT_CHANNEL_2, 0); /* 65536 */
    s->hz = PIT_HZ;
    s->mask = 0xffff;
    return true;
}

/* --- choice --- */

static struct source sources[] = {
    {"hpet", "HPET", hpet_init, hpet_read, 0, 0},
    {"acpi", "ACPI PM timer", pm_init, pm_read, 0, 0},
    {"pit", "PIT", pit_init, pit_read, 0, 0},
};
static struct source *source;

/* Present and counting: a clock that stands still would stop the boot. */
static bool usable(struct source *s)
{
    if (!s->init(s))
        return false;
    uint64_t first = s->read();
    for (unsigned i = 0; i < 100000; i++)
        if (s->read() != first)
            return true;
    log_warn("%s does not count", s->name);
    return false;
}

void source_init(void)
{
    const char *wanted = boot_options.clocksource;
    for (unsigned i = 0; i < ARRAY_SIZE(sources) && !source; i++)
        if (*wanted && !strcmp(sources[i].option, wanted) && usable(&sources[i]))
            source = &sources[i];
    if (*wanted && !source && strcmp(wanted, "tsc"))
        log_warn("clocksource=%s: not on this machine", wanted);
    for (unsigned i = 0; i < ARRAY_SIZE(sources) && !source; i++)
        if (usable(&sources[i]))
            source = &sources[i];
    if (!source)
        panic("no platform clock: neither HPET nor ACPI PM timer nor PIT");
}

const char *time_source_name(void)
{
    return source->name;
}

/* --- use --- */

struct time_sample time_sample(uint64_t (*read)(void))
{
    struct time_sample best = {.gap = ~0UL};
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = rdtsc();
        uint64_t clock = read();
        uint64_t gap = rdtsc() - before;
        if (gap < best.gap)
            best = (struct time_sample){clock, before + gap / 2, gap};
    }
    return best;
}

#define CALIBRATION_PER_SECOND 20    /* 50 ms at most */
#define CALIBRATION_PARTS      50000 /* known to one in so many, 20 ppm */

/*
 * Long enough that what the samples are unsure of, half a gap each and a tick of the clock
 * together, is little beside it: some ms with a clock that is read quickly.
 */
uint64_t source_calibrate_tsc(void)
{
    struct time_sample start = time_sample(source->read), now = start;
    uint64_t elapsed = 0, most = source->hz / CALIBRATION_PER_SECOND;
    uint64_t last = start.clock, unsure;
    do { /* in steps, since a PIT wraps after 55 ms */
        now = time_sample(source->read);
        elapsed += (now.clock - last) & source->mask;
        last = now.clock;
        unsure = (start.gap + now.gap) / 2;
        if (elapsed)
            unsure += (now.tsc - start.tsc) / elapsed;
    } while (elapsed < most && (!elapsed || now.tsc - start.tsc < unsure * CALIBRATION_PARTS));
    return divide_128(0, (now.tsc - start.tsc) * source->hz, elapsed);
}

bool source_elapsed(ns_t *elapsed)
{
    static uint64_t last;
    uint64_t now = source->read();
    uint64_t ticks = (now - last) & source->mask;
    last = now;
    *elapsed = divide_128(0, ticks * 1000000000, source->hz);
    return source->mask / source->hz >= 3; /* seconds until it wraps */
}
