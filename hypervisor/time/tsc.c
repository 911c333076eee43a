/*
 * Time from the TSC: nanoseconds = base + ((tsc - base_tsc) << shift) * mul >> 32, the formula that
 * the ABI gives guests too (struct vcpu_time_info, xen/xen.h), so that host and guests agree to the
 * nanosecond. The scale is found once, against the platform clock; once a second the two are
 * compared, and a drift is logged.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "time/internal.h"

#define CALIBRATION_MS   50
#define DRIFT_WORTH_LINE 500 /* parts per million */

static struct tsc_scale scale __ro_after_init;
static uint64_t tsc_hz __ro_after_init;
static bool tsc_agrees = true;

uint64_t time_mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t low, high, quotient, rest;
    __asm__("mul %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b));
    if (high >= c) /* would overflow: as much as there is */
        return ~0UL;
    __asm__("div %4" : "=a"(quotient), "=d"(rest) : "a"(low), "d"(high), "r"(c));
    return quotient;
}

void tsc_scale_set(struct tsc_scale *s, uint64_t hz)
{
    /* Bring the frequency into (1, 2] GHz by shifting, so that mul uses all of its 32 bits. */
    s->shift = 0;
    while (hz > SECONDS(2)) {
        hz >>= 1;
        s->shift--;
    }
    while (hz <= SECONDS(1)) {
        hz <<= 1;
        s->shift++;
    }
    s->mul = (SECONDS(1) << 32) / hz;
}

uint64_t tsc_scale_delta(const struct tsc_scale *s, uint64_t ticks)
{
    ticks = s->shift < 0 ? ticks >> -s->shift : ticks << s->shift;
    return (unsigned __int128)ticks * s->mul >> 32;
}

ns_t time_from_tsc(uint64_t tsc)
{
    if (tsc < scale.base_tsc)
        return scale.base_ns;
    return scale.base_ns + tsc_scale_delta(&scale, tsc - scale.base_tsc);
}

ns_t time_now(void)
{
    return time_from_tsc(rdtsc());
}

uint64_t time_to_tsc(ns_t when)
{
    if (when <= scale.base_ns)
        return scale.base_tsc;
    /* Rounded up: a timer armed for the answer must not fire before @when. */
    return scale.base_tsc + time_mul_div(when - scale.base_ns, tsc_hz, SECONDS(1)) + 2;
}

const struct tsc_scale *time_scale(void)
{
    return &scale;
}

uint64_t time_tsc_khz(void)
{
    return tsc_hz / 1000;
}

bool time_tsc_stable(void)
{
    return tsc_agrees;
}

struct sample {
    uint64_t clock, tsc;
};

/* Both read as close together as one of a few tries allows. */
static struct sample read_both(void)
{
    struct sample best = {0};
    uint64_t shortest = ~0UL;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = rdtsc(), clock = platform_clock->read(), after = rdtsc();
        if (after - before < shortest) {
            shortest = after - before;
            best = (struct sample){clock, before + (after - before) / 2};
        }
    }
    return best;
}

void tsc_init(void)
{
    uint64_t wait = platform_clock->hz * CALIBRATION_MS / 1000, ticks;
    struct sample begin = read_both(), end;
    do {
        cpu_pause();
        end = read_both();
        ticks = (end.clock - begin.clock) & platform_clock->mask;
    } while (ticks < wait);
    tsc_hz = time_mul_div(end.tsc - begin.tsc, platform_clock->hz, ticks);
    if (tsc_hz < 1000000)
        panic("the time-stamp counter does not count: %lu Hz", tsc_hz);
    tsc_scale_set(&scale, tsc_hz);
    scale.base_tsc = begin.tsc;
    scale.base_ns = 0;
}

/* --- do they stay together? --- */

static struct timer drift_timer;
static struct sample last;

static void check_drift(void *data)
{
    struct sample now = read_both();
    uint64_t clock_ns = time_mul_div((now.clock - last.clock) & platform_clock->mask, SECONDS(1),
                                     platform_clock->hz);
    uint64_t tsc_ns = tsc_scale_delta(&scale, now.tsc - last.tsc);
    uint64_t apart = clock_ns > tsc_ns ? clock_ns - tsc_ns : tsc_ns - clock_ns;
    static unsigned lines;
    /* Only what the clock could measure: it must not have wrapped meanwhile. */
    uint64_t wrap_ns = time_mul_div(platform_clock->mask, SECONDS(1), platform_clock->hz);
    if (tsc_ns < wrap_ns && apart > tsc_ns / 1000000 * DRIFT_WORTH_LINE && lines < 3) {
        lines++;
        log_debug("time: in %lu us of TSC the %s counted %lu us", tsc_ns / 1000,
                  platform_clock->name, clock_ns / 1000);
    }
    last = now;
    timer_set(&drift_timer, time_now() + SECONDS(1));
}

void time_start_checks(void)
{
    timer_init(&drift_timer, check_drift, NULL, 0);
    last = read_both();
    timer_set(&drift_timer, time_now() + SECONDS(1));
}

/* --- do all CPUs agree? --- */

static uint64_t highest;
static unsigned warps;

/* Each CPU in turn must read more than any before it. Runs on all at once. */
static void compare(void *data)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t seen = __atomic_load_n(&highest, __ATOMIC_SEQ_CST), now = rdtsc();
        if (now < seen)
            __atomic_fetch_add(&warps, 1, __ATOMIC_RELAXED);
        else
            __atomic_compare_exchange_n(&highest, &seen, now, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED);
    }
}

void time_compare_cpus(void)
{
    ipi_call(&cpus_online, compare, NULL, true);
    tsc_agrees = warps == 0;
    if (!tsc_agrees)
        log_warn("time: the CPUs' time-stamp counters disagree (%u times in 1000): guests are told",
                 warps);
}

void time_init(void)
{
    platform_clock_select(boot_options.clocksource);
    tsc_init();
    wallclock_init();
    log_info("time: TSC at %lu kHz by the %s%s", time_tsc_khz(), platform_clock->name,
             cpu_features.invtsc ? ", invariant" : "");
}

void time_busy_wait(ns_t delay)
{
    ns_t until = time_now() + delay;
    while (time_now() < until)
        cpu_pause();
}
